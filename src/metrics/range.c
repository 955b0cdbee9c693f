/*
 * range.c
 *		Sets of ranges of time.  Pure: needs no database.
 *
 * Ranges less than 22 hours apart are one range: no day of any time zone is
 * shorter than 23 hours, so joining them reaches no day that the two do not
 * touch.  A set has few ranges however much is added to it, and no time zone
 * is needed.
 */
#include "postgres.h"

#include "common/int.h"
#include "utils/memutils.h"

#include "metrics/range.h"

#define JOIN_GAP (22 * USECS_PER_HOUR)

/* Instants far enough apart, without overflow at the infinities. */
static bool
apart(TimestampTz earlier, TimestampTz later)
{
	int64 gap;

	return earlier < later && (pg_sub_s64_overflow(later, earlier, &gap) || gap >= JOIN_GAP);
}

/* The first range that does not end far before the instant. */
static int
first_near(const RangeSet *set, TimestampTz at)
{
	int low = 0;
	int high = set->n;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (apart(set->ranges[middle].upto, at))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* range_set_add adds all time between two instants, in either order. */
void
range_set_add(RangeSet *set, TimestampTz from, TimestampTz upto)
{
	int first;
	int next; /* the one after the last that joins */

	if (upto < from)
	{
		TimestampTz swap = from;

		from = upto;
		upto = swap;
	}

	/* rows that are written together mostly lie together */
	if (set->n > 0 && set->ranges[set->last].from <= from && upto <= set->ranges[set->last].upto)
		return;

	first = first_near(set, from);
	for (next = first; next < set->n && !apart(upto, set->ranges[next].from); next++)
	{
		from = Min(from, set->ranges[next].from);
		upto = Max(upto, set->ranges[next].upto);
	}

	if (next == first && set->n == set->size)
	{
		int size = Max(8, set->size * 2);

		set->ranges = set->ranges == NULL ? MemoryContextAlloc(set->context, size * sizeof(Range))
										  : repalloc_huge(set->ranges, (Size) size * sizeof(Range));
		set->size = size;
	}
	memmove(set->ranges + first + 1, set->ranges + next, (set->n - next) * sizeof(Range));
	set->n += first + 1 - next;
	set->ranges[first].from = from;
	set->ranges[first].upto = upto;
	set->last = first;
}
