/*
 * number_block.h
 *		Tables that hold a row for some thousands of numbers.
 *
 * dashie.user_country and dashie.dashboard_number hold so little of each number
 * that a row each would cost more than what it says: to read it at night, and
 * to write it.  A row says "first", its first number, which is a multiple of
 * BLOCK_NUMBERS, and has columns of BLOCK_NUMBERS values of the same size,
 * written only when they changed.
 *
 * The owner of such a table can write what they like into it: what does not
 * fit is an error (XX001).  "what" is the start of its message.
 */
#ifndef DASHIE_NUMBER_BLOCK_H
#define DASHIE_NUMBER_BLOCK_H

#include "postgres.h"

#define BLOCK_NUMBERS 8192

extern void number_block_invalid(const char *what, const char *problem);
/* Which block it is, by its "first". */
extern int32 number_block_index(NullableDatum first, int32 highest, const char *what);
/* A column of values of that size, detoasted in the current memory context. */
extern const unsigned char *
number_block_column(NullableDatum values, Size value_size, const char *what);
/* One of any length. */
extern bytea *number_block_list(NullableDatum values, const char *what);
extern bytea *number_block_bytes(const unsigned char *data, Size size);

/* Integers lie with the lowest byte first. */
static inline uint64
block_get(const unsigned char *p, int size)
{
	uint64 value = 0;

	for (int i = 0; i < size; i++)
		value |= (uint64) p[i] << (8 * i);
	return value;
}

static inline void
block_put(unsigned char *p, int size, uint64 value)
{
	for (int i = 0; i < size; i++)
		p[i] = (unsigned char) (value >> (8 * i));
}

#endif /* DASHIE_NUMBER_BLOCK_H */
