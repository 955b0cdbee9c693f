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
#define ENTRY_ALIGNMENT sizeof(UserEntry)
#define PREFETCH_AHEAD 16

StaticAssertDecl(sizeof(UserEntry) == 64, "a user takes more than a cache line");

/* Makes an array have a place for the number; what is added is zero. */
static void
make_place(Metrics *metrics, void **array, int32 *size, Size element, int32 number)
{
	Size new_size = Max((Size) number + 1, (Size) *size * 2);

	if (number < *size)
		return;
	*array = *array == NULL ? MemoryContextAllocHuge(metrics->context, new_size * element)
							: repalloc_huge(*array, new_size * element);
	memset((char *) *array + *size * element, 0, (new_size - *size) * element);
	*size = (int32) new_size;
}

static void *
take_entry(Metrics *metrics, NumberSlab *slab, Size size)
{
	void *entry;

	if (slab->left == 0)
	{
		slab->next =
			MemoryContextAllocZero(metrics->context, SLAB_ENTRIES * size + ENTRY_ALIGNMENT);
		slab->next = (char *) TYPEALIGN(ENTRY_ALIGNMENT, slab->next);
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
	make_place(metrics, (void **) &metrics->by_number, &metrics->by_number_size,
			   sizeof(UserEntry *), highest);
}

UserEntry *
numbers_new_user(Metrics *metrics)
{
	return take_entry(metrics, &metrics->user_slab, sizeof(UserEntry));
}

void
numbers_index_user(Metrics *metrics, UserEntry *user)
{
	numbers_presize(metrics, user->number);
	metrics->by_number[user->number] = user;
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

/* Makes a number known that a dashboard has with one of its users. */
void
numbers_add_dashboard(Metrics *metrics, const pg_uuid_t *id, int32 number, int32 user_number)
{
	bool found;
	UuidSlot *slot = uuid_map_insert(metrics->dashboards, *id, &found);
	DashboardEntry *dashboard;

	make_place(metrics, (void **) &metrics->dashboard_by_number, &metrics->dashboard_by_number_size,
			   sizeof(DashboardEntry), number);
	dashboard = &metrics->dashboard_by_number[number];
	dashboard->user_number = user_number;
	if (!found)
	{
		slot->value = dashboard->first = number;
		dashboard->next = 0;
	}
	else
	{
		DashboardEntry *first = &metrics->dashboard_by_number[slot->value];

		dashboard->first = slot->value;
		dashboard->next = first->next;
		first->next = number;
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
	int32 number = uuid_map_get(metrics->users, id);
	UserEntry *user = number > 0 ? metrics->by_number[number] : NULL;

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
		if (metrics->by_number[number] != NULL && user_is_there(metrics->by_number[number]))
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
	int32 nth = number - metrics->first_new_dashboard;

	metrics->max_dashboard = Max(metrics->max_dashboard, number);
	make_place(metrics, (void **) &metrics->new_dashboards, &metrics->new_dashboards_size,
			   sizeof(pg_uuid_t), nth);
	metrics->new_dashboards[nth] = *id;
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
	number = uuid_map_get(metrics->dashboards, id);
	while (number != 0 && metrics->dashboard_by_number[number].user_number != user_number)
		number = metrics->dashboard_by_number[number].next;
	return number != 0 ? number : new_dashboard(metrics, id, user_number);
}
