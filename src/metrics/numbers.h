/*
 * numbers.h
 *		What the files of the numbers share: number.c, number_load.c and
 *		number_store.c.
 */
#ifndef DASHIE_NUMBERS_H
#define DASHIE_NUMBERS_H

#include "postgres.h"

#include "metrics/engine.h"
#include "metrics/uuid_map.h"

/* number.c */
extern void numbers_presize(Metrics *metrics, int32 highest);
extern UserEntry *numbers_new_user(Metrics *metrics);			   /* zeroed, not yet to be found */
extern void numbers_index_user(Metrics *metrics, UserEntry *user); /* by its number */
extern void numbers_map_user(Metrics *metrics, UserEntry *user);   /* by its id */
extern void numbers_map_users(Metrics *metrics);
extern void
numbers_add_dashboard(Metrics *metrics, const pg_uuid_t *id, int32 number, int32 user_number);
extern int32 numbers_take_next(int32 *next, const char *what);

/*
 * Prefetching, in three steps that each need what the one before asked for:
 * uuid_map_prefetch() of the map, and then the array of pointers and the entry.
 */
static inline void
numbers_prefetch_user_slot(Metrics *metrics, const pg_uuid_t *id)
{
	__builtin_prefetch(metrics->by_number + uuid_map_get(metrics->users, id));
}

static inline void
numbers_prefetch_user(Metrics *metrics, const pg_uuid_t *id)
{
	int32 number = uuid_map_get(metrics->users, id);

	if (number > 0)
		__builtin_prefetch(metrics->by_number[number]);
}

static inline void
numbers_prefetch_dashboard(Metrics *metrics, const pg_uuid_t *id)
{
	__builtin_prefetch(metrics->dashboard_by_number + uuid_map_get(metrics->dashboards, id));
}

#endif /* DASHIE_NUMBERS_H */
