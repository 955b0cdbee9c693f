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
extern UserEntry *numbers_new_user(Metrics *metrics); /* zeroed, not yet to be found */
extern void numbers_index_user(Metrics *metrics, UserEntry *user);
extern DashboardEntry *numbers_new_dashboard(Metrics *metrics);
extern void numbers_index_dashboard(Metrics *metrics, DashboardEntry *dashboard);
extern int32 numbers_take_next(int32 *next, const char *what);

/*
 * Prefetching, in three steps that each need what the one before asked for:
 * the maps, the arrays of pointers, the entries.
 */
static inline void
numbers_prefetch_ids(Metrics *metrics, const pg_uuid_t *user, const pg_uuid_t *dashboard)
{
	uuid_map_prefetch(metrics->users, user);
	uuid_map_prefetch(metrics->dashboards, dashboard);
}

static inline void
numbers_prefetch_slots(Metrics *metrics, const pg_uuid_t *user, const pg_uuid_t *dashboard)
{
	__builtin_prefetch(metrics->by_number + uuid_map_get(metrics->users, user));
	__builtin_prefetch(metrics->dashboard_by_number + uuid_map_get(metrics->dashboards, dashboard));
}

static inline void
numbers_prefetch_entries(Metrics *metrics, const pg_uuid_t *user, const pg_uuid_t *dashboard)
{
	int32 number = uuid_map_get(metrics->users, user);

	if (number > 0)
	{
		const char *entry = (const char *) metrics->by_number[number];

		__builtin_prefetch(entry);
		__builtin_prefetch(entry + 64);
	}
	number = uuid_map_get(metrics->dashboards, dashboard);
	if (number > 0)
		__builtin_prefetch(metrics->dashboard_by_number[number]);
}

#endif /* DASHIE_NUMBERS_H */
