/*
 * number.c
 *		Users and dashboards under small numbers, in memory.
 *
 * A refresh, and nobody else, gives numbers; it holds the lock on
 * dashie.day_page, so that numbers need no sequence.  The counters are a row of
 * dashie.metrics_state and go with the tables through dump and restore: a
 * number is never given twice.
 *
 * Entries come from slabs and never move; a map leads from an id to the number
 * and an array from the number to the entry.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "metrics/engine.h"
#include "metrics/numbers.h"

#define SLAB_ENTRIES 1024
#define PREFETCH_AHEAD 16

/* The slot of a number in an array of pointers that grows as needed. */
static void **
slot_of_number(Metrics *metrics, void ***array, int32 *size, int32 number)
{
	if (number >= *size)
	{
		Size new_size = Max((Size) number + 1, (Size) *size * 2);

		*array = *array == NULL
					 ? MemoryContextAllocHuge(metrics->context, new_size * sizeof(void *))
					 : repalloc_huge(*array, new_size * sizeof(void *));
		memset(*array + *size, 0, (new_size - *size) * sizeof(void *));
		*size = (int32) new_size;
	}
	return &(*array)[number];
}

static void *
take_entry(Metrics *metrics, NumberSlab *slab, Size size)
{
	void *entry;

	if (slab->left == 0)
	{
		slab->next = MemoryContextAllocZero(metrics->context, SLAB_ENTRIES * size);
		slab->left = SLAB_ENTRIES;
	}
	entry = slab->next;
	slab->next += size;
	slab->left--;
	return entry;
}

/*
 * numbers_presize makes room for users whose highest number is known.
 */
void
numbers_presize(Metrics *metrics, int32 highest)
{
	if (highest > 0)
		(void) slot_of_number(metrics, (void ***) &metrics->by_number, &metrics->by_number_size,
							  highest);
}

UserEntry *
numbers_new_user(Metrics *metrics)
{
	return take_entry(metrics, &metrics->user_slab, sizeof(UserEntry));
}

void
numbers_index_user(Metrics *metrics, UserEntry *user)
{
	*slot_of_number(metrics, (void ***) &metrics->by_number, &metrics->by_number_size,
					user->number) = user;
}

/*
 * numbers_map_user makes a user who has not departed known by the id.
 */
void
numbers_map_user(Metrics *metrics, UserEntry *user)
{
	bool found;

	uuid_map_insert(metrics->users, user->id, &found)->value = user->number;
}

/*
 * numbers_map_users does so for all, after they were loaded: the places in the
 * map are anywhere, so each is asked for ahead.
 */
void
numbers_map_users(Metrics *metrics)
{
	for (int32 number = 0; number < metrics->by_number_size; number++)
	{
		UserEntry *user = metrics->by_number[number];

		if (number + PREFETCH_AHEAD < metrics->by_number_size &&
			metrics->by_number[number + PREFETCH_AHEAD] != NULL)
			uuid_map_prefetch(metrics->users, &metrics->by_number[number + PREFETCH_AHEAD]->id);
		if (user == NULL || user->departed)
			continue;
		if (uuid_map_get(metrics->users, &user->id) != 0)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
							errmsg("the user of number %d in dashie.user_number has another one",
								   number)));
		numbers_map_user(metrics, user);
	}
}

DashboardEntry *
numbers_new_dashboard(Metrics *metrics)
{
	return take_entry(metrics, &metrics->dashboard_slab, sizeof(DashboardEntry));
}

void
numbers_index_dashboard(Metrics *metrics, DashboardEntry *dashboard)
{
	*slot_of_number(metrics, (void ***) &metrics->dashboard_by_number,
					&metrics->dashboard_by_number_size, dashboard->number) = dashboard;
}

static void
map_dashboard(Metrics *metrics, DashboardEntry *dashboard)
{
	bool found;
	UuidSlot *slot = uuid_map_insert(metrics->dashboards, dashboard->id, &found);

	if (!found)
	{
		slot->value = dashboard->number;
		dashboard->first = dashboard;
	}
	else
	{
		DashboardEntry *first = metrics->dashboard_by_number[slot->value];

		dashboard->first = first;
		dashboard->next = first->next;
		first->next = dashboard;
		metrics->dashboards_shared = true;
	}
}

void
numbers_map_dashboards(Metrics *metrics)
{
	for (int32 number = 0; number < metrics->dashboard_by_number_size; number++)
	{
		int32 ahead = number + PREFETCH_AHEAD;

		if (ahead < metrics->dashboard_by_number_size &&
			metrics->dashboard_by_number[ahead] != NULL)
			uuid_map_prefetch(metrics->dashboards, &metrics->dashboard_by_number[ahead]->id);
		if (metrics->dashboard_by_number[number] != NULL)
			map_dashboard(metrics, metrics->dashboard_by_number[number]);
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
	int32 number = uuid_map_get(metrics->users, id);
	UserEntry *user = number > 0 ? metrics->by_number[number] : NULL;

	return user != NULL && !user->departed ? user : NULL;
}

DashboardEntry *
numbers_dashboard_by_number(Metrics *metrics, int32 number)
{
	numbers_load_dashboards(metrics);
	return number < metrics->dashboard_by_number_size ? metrics->dashboard_by_number[number] : NULL;
}

/*
 * numbers_dashboard returns the number of a dashboard with one of its users,
 * and gives one to a pair that is new.
 */
int32
numbers_dashboard(Metrics *metrics, const pg_uuid_t *id, int32 user_number)
{
	DashboardEntry *dashboard;
	int32 number;

	numbers_load_dashboards(metrics);
	number = uuid_map_get(metrics->dashboards, id);
	dashboard = number > 0 ? metrics->dashboard_by_number[number] : NULL;
	while (dashboard != NULL && dashboard->user_number != user_number)
		dashboard = dashboard->next;
	if (dashboard == NULL)
	{
		dashboard = numbers_new_dashboard(metrics);
		dashboard->id = *id;
		dashboard->number = numbers_take_next(&metrics->next_dashboard, "dashboards");
		metrics->max_dashboard = Max(metrics->max_dashboard, dashboard->number);
		dashboard->user_number = user_number;
		dashboard->is_new = true;
		numbers_index_dashboard(metrics, dashboard);
		map_dashboard(metrics, dashboard);
	}
	return dashboard->number;
}
