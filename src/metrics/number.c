/*
 * number.c
 *		Users under small numbers, in memory.
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

#include "common/huge_pages.h"
#include "metrics/engine.h"
#include "metrics/numbers.h"

#define ENTRY_ALIGNMENT sizeof(UserEntry)
#define PREFETCH_AHEAD 64

StaticAssertDecl(sizeof(UserEntry) == 64, "a user takes more than a cache line");

/*
 * numbers_presize makes room for users up to a number.  Entries move.
 */
void
numbers_presize(Metrics *metrics, int32 highest)
{
	Size old_size = metrics->by_number_size;
	Size size = Max((Size) highest + 1, old_size + old_size / 2);
	void *memory;
	void *chunk;
	UserEntry *users;

	if (highest < metrics->by_number_size)
		return;
	size = Min(size, PG_INT32_MAX);
	memory =
		dashie_huge_alloc(metrics->context, size * sizeof(UserEntry) + ENTRY_ALIGNMENT, &chunk);
	users = (UserEntry *) TYPEALIGN(ENTRY_ALIGNMENT, memory);
	memset(users + old_size, 0, (size - old_size) * sizeof(UserEntry));
	if (old_size > 0)
	{
		memcpy(users, metrics->by_number, old_size * sizeof(UserEntry));
		pfree(metrics->by_number_memory);
	}
	metrics->by_number_memory = chunk;
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

	if (metrics->there != NULL)
		return metrics->there;
	old = MemoryContextSwitchTo(metrics->context);
	metrics->there = user_set_create();
	if (metrics->next_user > 1)
		roaring_bitmap_add_range_closed(metrics->there, 1, metrics->next_user - 1);
	roaring_bitmap_andnot_inplace(metrics->there, metrics->gone);
	if (metrics->deleted != NULL)
		roaring_bitmap_andnot_inplace(metrics->there, metrics->deleted);
	MemoryContextSwitchTo(old);
	return metrics->there;
}
