/*
 * numbers.h
 *		What the files of the numbers share: number.c, number_load.c,
 *		number_store.c and number_dashboards.c.
 */
#ifndef DASHIE_NUMBERS_H
#define DASHIE_NUMBERS_H

#include "postgres.h"

#include "metrics/engine.h"

/* How far from where a user is expected they are looked for: others left in between. */
#define GUESSES 4

/* number.c */
extern void numbers_presize(Metrics *metrics, int32 highest);
extern UserEntry *numbers_add_user(Metrics *metrics, int32 number);
extern void numbers_map_user(Metrics *metrics, const UserEntry *user);
extern void numbers_map_users(Metrics *metrics);
extern int32 numbers_take_next(int32 *next, const char *what);

/* number_dashboards.c */
extern bool dashboards_may_insert(void);
extern bool dashboards_insert(Metrics *metrics);
extern void dashboards_store(Metrics *metrics);

/* What metrics->users leads to. */
static inline IdEntries
numbers_users(const Metrics *metrics)
{
	IdEntries entries = {metrics->by_number, sizeof(UserEntry)};

	return entries;
}

/*
 * numbers_guess looks for a user right after another one: the tables that have
 * a row a user often have them in the order in which they got their numbers.
 * Returns 0 if the user is not there.
 */
static inline int32
numbers_guess(const Metrics *metrics, int32 after, const pg_uuid_t *id)
{
	int32 last = Min(after + GUESSES, metrics->by_number_size - 1);

	for (int32 number = after + 1; number <= last; number++)
	{
		const UserEntry *user = &metrics->by_number[number];

		if (memcmp(&user->id, id, sizeof(pg_uuid_t)) == 0 && user->number != 0 && !user->departed)
			return number;
	}
	return 0;
}

#endif /* DASHIE_NUMBERS_H */
