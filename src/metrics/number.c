/*
 * number.c
 *		Users and dashboards under small numbers, in memory.
 *
 * A refresh, and nobody else, gives numbers; it holds the lock on
 * dashie.day_page, so that numbers need no sequence.  The counters are a row of
 * dashie.metrics_state and go with the tables through dump and restore: a
 * number is never given twice.
 *
 * The entries are arrays by number; an index leads from an id to the number.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "metrics/engine.h"
#include "metrics/numbers.h"

#define ENTRY_ALIGNMENT sizeof(UserEntry)
#define PREFETCH_AHEAD 16

StaticAssertDecl(sizeof(UserEntry) == 64, "a user takes more than a cache line");

/*
 * numbers_presize makes room for users up to a number.  Entries move.
 */
void
numbers_presize(Metrics *metrics, int32 highest)
{
	Size old_size = metrics->by_number_size;
	Size size = Max((Size) highest + 1, old_size + old_size / 2);
	char *memory;
	UserEntry *users;

	if (highest < metrics->by_number_size)
		return;
	size = Min(size, PG_INT32_MAX);
	memory = MemoryContextAllocHuge(metrics->context, size * sizeof(UserEntry) + ENTRY_ALIGNMENT);
	users = (UserEntry *) TYPEALIGN(ENTRY_ALIGNMENT, memory);
	memset(users + old_size, 0, (size - old_size) * sizeof(UserEntry));
	if (old_size > 0)
	{
		memcpy(users, metrics->by_number, old_size * sizeof(UserEntry));
		pfree(metrics->by_number_memory);
	}
	metrics->by_number_memory = memory;
	metrics->by_number = users;
	metrics->by_number_size = (int32) size;
}

/*
 * numbers_add_user makes a zeroed entry, not yet to be found by its id.
 */
UserEntry *
numbers_add_user(Metrics *metrics, int32 number)
{
	numbers_presize(metrics, number);
	metrics->by_number[number].number = number;
	return &metrics->by_number[number];
}

/*
 * numbers_map_user makes a user who has not departed known by the id.
 */
void
numbers_map_user(Metrics *metrics, const UserEntry *user)
{
	id_index_put(&metrics->users, &user->id, numbers_users(metrics), user->number);
}

/*
 * numbers_map_users does so for all, after they were loaded: their places in the
 * index are anywhere, so each is asked for ahead.
 */
void
numbers_map_users(Metrics *metrics)
{
	for (int32 number = 0; number < metrics->by_number_size; number++)
	{
		const UserEntry *user = numbers_by_number(metrics, number);

		if (number + PREFETCH_AHEAD < metrics->by_number_size)
			id_index_prefetch(&metrics->users, &metrics->by_number[number + PREFETCH_AHEAD].id);
		if (user == NULL || user->departed)
			continue;
		if (id_index_get(&metrics->users, &user->id, numbers_users(metrics)) != 0)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
							errmsg("the user of number %d in dashie.user_number has another one",
								   number)));
		numbers_map_user(metrics, user);
	}
}

static void
presize_dashboards(Metrics *metrics, int32 highest)
{
	int32 old_size = metrics->dashboard_by_number_size;
	Size size = Max((Size) highest + 1, (Size) old_size + old_size / 2);

	if (highest < old_size)
		return;
	size = Min(size, PG_INT32_MAX);
	metrics->dashboard_by_number =
		old_size == 0 ? MemoryContextAllocHuge(metrics->context, size * sizeof(DashboardEntry))
					  : repalloc_huge(metrics->dashboard_by_number, size * sizeof(DashboardEntry));
	memset(metrics->dashboard_by_number + old_size, 0, (size - old_size) * sizeof(DashboardEntry));
	metrics->dashboard_by_number_size = (int32) size;
}

/* Makes a number known that a dashboard has with one of its users. */
void
numbers_add_dashboard(Metrics *metrics, const pg_uuid_t *id, int32 number, int32 user_number)
{
	DashboardEntry *dashboard;
	int32 first;

	presize_dashboards(metrics, number);
	first = id_index_get(&metrics->dashboards, id, numbers_dashboards(metrics));
	dashboard = &metrics->dashboard_by_number[number];
	dashboard->id = *id;
	dashboard->user_number = user_number;
	if (first == 0)
	{
		dashboard->first = number;
		dashboard->next = 0;
		id_index_put(&metrics->dashboards, id, numbers_dashboards(metrics), number);
	}
	else
	{
		DashboardEntry *known = &metrics->dashboard_by_number[first];

		dashboard->first = first;
		dashboard->next = known->next;
		known->next = number;
		metrics->dashboards_shared = true;
	}
}

int32
numbers_take_next(int32 *next, const char *what)
{
	if (*next == PG_INT32_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("all numbers for %s are used up", what)));
	return (*next)++;
}

UserEntry *
numbers_user(Metrics *metrics, const pg_uuid_t *id)
{
	int32 number = id_index_get(&metrics->users, id, numbers_users(metrics));
	UserEntry *user = number > 0 ? &metrics->by_number[number] : NULL;

	return user != NULL && !user->departed ? user : NULL;
}

/* numbers_there is the set of the users who are there, for the whole run. */
const UserSet *
numbers_there(Metrics *metrics)
{
	MemoryContext old;
	uint32 *numbers;
	uint32 n = 0;

	if (metrics->there != NULL)
		return metrics->there;
	old = MemoryContextSwitchTo(metrics->context);
	numbers = palloc_extended(Max(metrics->by_number_size, 1) * sizeof(uint32), MCXT_ALLOC_HUGE);
	for (int32 number = 0; number < metrics->by_number_size; number++)
		if (metrics->by_number[number].number != 0 && user_is_there(&metrics->by_number[number]))
			numbers[n++] = number;
	metrics->there = user_set_of_sorted(numbers, n);
	pfree(numbers);
	MemoryContextSwitchTo(old);
	return metrics->there;
}

/* NULL if unknown; good until the next dashboard is asked for. */
const DashboardEntry *
numbers_dashboard_by_number(Metrics *metrics, int32 number)
{
	numbers_load_dashboards(metrics);
	return number < metrics->dashboard_by_number_size &&
				   metrics->dashboard_by_number[number].user_number != 0
			   ? &metrics->dashboard_by_number[number]
			   : NULL;
}

static int32
new_dashboard(Metrics *metrics, const pg_uuid_t *id, int32 user_number)
{
	int32 number = numbers_take_next(&metrics->next_dashboard, "dashboards");

	metrics->max_dashboard = Max(metrics->max_dashboard, number);
	numbers_add_dashboard(metrics, id, number, user_number);
	return number;
}

/*
 * numbers_dashboard returns the number of a dashboard with one of its users,
 * and gives one to a pair that is new.
 */
int32
numbers_dashboard(Metrics *metrics, const pg_uuid_t *id, int32 user_number)
{
	int32 number;

	numbers_load_dashboards(metrics);
	number = id_index_get(&metrics->dashboards, id, numbers_dashboards(metrics));
	while (number != 0 && metrics->dashboard_by_number[number].user_number != user_number)
		number = metrics->dashboard_by_number[number].next;
	return number != 0 ? number : new_dashboard(metrics, id, user_number);
}
