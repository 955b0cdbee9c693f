/*
 * presize.h
 *		Arrays that are indexed by numbers, and grow with them.
 */
#ifndef DASHIE_PRESIZE_H
#define DASHIE_PRESIZE_H

#include "postgres.h"

/*
 * Returns the array, moved if need be, with a place for "highest"; what it
 * gains is zeroed.  NULL is an array of size 0.  The caller has the size, which
 * never passes that of an int32, and reads nothing through the old pointer.
 */
extern void *
dashie_presize(MemoryContext context, void *array, int32 *size, int32 highest, Size element);

#endif /* DASHIE_PRESIZE_H */
