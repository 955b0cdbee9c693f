/*
 * bounds.c
 *		Which ranges of time have no partition.
 *
 * Pure: ranges in, ranges out.  Existing ranges are sorted and do not overlap,
 * as the catalog guarantees; they may be of any length, begin at any instant
 * and be unbounded.  DT_NOBEGIN and DT_NOEND stand for MINVALUE and MAXVALUE
 * and order as numbers do.
 */
#include "postgres.h"

#include "common/day.h"
#include "partition/partition.h"

typedef struct RangeList
{
	PartitionRange *items;
	int count;
	int room;
} RangeList;

/*
 * add_days cuts a gap at every midnight.  Its first and last piece are as
 * short as the gap makes them: after a change of the time zone the first new
 * partition begins where the last old one ends.
 */
static void
add_days(RangeList *list, TimestampTz from, TimestampTz upto, pg_tz *zone)
{
	for (DateADT day = dashie_day_of(from, zone); from < upto; day++)
	{
		TimestampTz end = Min(dashie_day_start(day + 1, zone), upto);

		if (end <= from)
			continue; /* a day that the zone skipped */
		if (list->count == list->room)
		{
			list->room = list->room == 0 ? 64 : list->room * 2;
			list->items = list->items == NULL
							  ? palloc(list->room * sizeof(PartitionRange))
							  : repalloc(list->items, list->room * sizeof(PartitionRange));
		}
		list->items[list->count].lower = from;
		list->items[list->count].upper = end;
		list->items[list->count].day = day;
		list->count++;
		from = end;
	}
}

/*
 * dashie_bounds_missing finds the parts of [from, upto) that no existing range
 * covers, a day or less each, in order of time.  Returns how many.
 */
int
dashie_bounds_missing(const PartitionRange *existing, int nexisting, TimestampTz from,
					  TimestampTz upto, pg_tz *zone, PartitionRange **missing)
{
	RangeList list = {NULL, 0, 0};

	for (int i = 0; i < nexisting && from < upto; i++)
	{
		if (existing[i].upper <= from)
			continue;
		if (existing[i].lower > from)
			add_days(&list, from, Min(existing[i].lower, upto), zone);
		from = existing[i].upper;
	}
	if (from < upto)
		add_days(&list, from, upto, zone);
	*missing = list.items;
	return list.count;
}

/*
 * dashie_bounds_covered_until tells up to which instant every instant from
 * "at" on has a range; "at" itself where already it has none.
 */
TimestampTz
dashie_bounds_covered_until(const PartitionRange *existing, int nexisting, TimestampTz at)
{
	for (int i = 0; i < nexisting; i++)
	{
		if (existing[i].upper <= at)
			continue;
		if (existing[i].lower > at)
			break;
		at = existing[i].upper;
	}
	return at;
}

int
dashie_bounds_compare(const void *a, const void *b)
{
	TimestampTz left = ((const PartitionRange *) a)->lower;
	TimestampTz right = ((const PartitionRange *) b)->lower;

	return (left > right) - (left < right);
}
