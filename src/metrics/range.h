/*
 * range.h
 *		Sets of ranges of time.
 */
#ifndef DASHIE_RANGE_H
#define DASHIE_RANGE_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* From an instant up to another one, both included. */
typedef struct Range
{
	TimestampTz from;
	TimestampTz upto;
} Range;

/* All zero is the empty set, once a context is given. */
typedef struct RangeSet
{
	MemoryContext context;
	Range *ranges; /* sorted */
	int n;
	int size;
	int last; /* the one that was added to last */
} RangeSet;

extern void range_set_add(RangeSet *set, TimestampTz from, TimestampTz upto);

#endif /* DASHIE_RANGE_H */
