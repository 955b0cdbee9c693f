/*
 * set_merge.h
 *		Two sets as bytes into one, and what two sets have in common.
 *
 * The sets must be as the writer writes them (set_format.h).  If one of them
 * turns out to be damaged, "problem" says so and the result means nothing.
 */
#ifndef DASHIE_SET_MERGE_H
#define DASHIE_SET_MERGE_H

#include "postgres.h"

typedef enum SetMergeKind
{
	SET_UNION,
	SET_INTERSECTION,
	SET_DIFFERENCE
} SetMergeKind;

typedef struct SetBytes
{
	const unsigned char *data;
	size_t size;
} SetBytes;

extern bytea *set_merge(SetMergeKind kind, SetBytes a, SetBytes b, const char **problem);
extern bool set_is_subset(SetBytes part, SetBytes whole, const char **problem);
extern bool set_overlaps(SetBytes a, SetBytes b, const char **problem);

/* Values of two sorted arrays, two bytes each; returns how many there are. */
extern uint32 set_merge_values(SetMergeKind kind, const unsigned char *a, uint32 na,
							   const unsigned char *b, uint32 nb, unsigned char *result);

#endif /* DASHIE_SET_MERGE_H */
