/*
 * dashboard_map.h
 *		Dashboards by user, in memory.
 *
 * A dashboard has a number for each of its users.  Who asks for it knows the
 * user, who nearly always has one or two: so each user leads to a short chain,
 * and no dashboard needs a place in a hash table.  Of a user who has more than
 * CROWD the others are found through an index of their ids.
 *
 * Users are named by small numbers, whose meaning is the caller's.
 */
#ifndef DASHIE_DASHBOARD_MAP_H
#define DASHIE_DASHBOARD_MAP_H

#include "postgres.h"

#include "metrics/id_index.h"
#include "utils/uuid.h"

/* So many dashboards of a user are looked through one by one. */
#define CROWD 8

/* A dashboard with one of its users. */
typedef struct DashboardEntry
{
	pg_uuid_t id;
	int32 user_number; /* 0: there is no such number */
	int32 first;	   /* of the numbers of this dashboard, where the caller keeps that */
	int32 next;		   /* of the user's chain, or of the index's; 0 after the last */
} DashboardEntry;

typedef struct DashboardsOfUser
{
	int32 first;
	int32 n;
} DashboardsOfUser;

typedef struct DashboardMap
{
	DashboardEntry *entries; /* by number */
	int32 size;
	DashboardsOfUser *of_user; /* by the user's number */
	int32 users_size;
	IdIndex crowded; /* an id -> the first of its entries that are in no chain */
	MemoryContext context;
} DashboardMap;

extern void
dashboard_map_init(DashboardMap *map, MemoryContext context, int32 dashboards, int32 users);
extern void
dashboard_map_add(DashboardMap *map, int32 number, const pg_uuid_t *id, int32 user_number);
extern int32
dashboard_map_find_crowded(const DashboardMap *map, const pg_uuid_t *id, int32 user_number);

/* The number of a dashboard with a user; 0 if it has none. */
static inline int32
dashboard_map_find(const DashboardMap *map, const pg_uuid_t *id, int32 user_number)
{
	const DashboardsOfUser *of_user;

	if (user_number >= map->users_size)
		return 0;
	of_user = &map->of_user[user_number];
	for (int32 number = of_user->first; number != 0; number = map->entries[number].next)
		if (memcmp(&map->entries[number].id, id, sizeof(pg_uuid_t)) == 0)
			return number;
	return of_user->n > CROWD ? dashboard_map_find_crowded(map, id, user_number) : 0;
}

/* NULL if there is no such number; good until the next dashboard is added. */
static inline const DashboardEntry *
dashboard_map_entry(const DashboardMap *map, int32 number)
{
	return number < map->size && map->entries[number].user_number != 0 ? &map->entries[number]
																	   : NULL;
}

/* A user's chain, which is empty for one that is not known. */
static inline const DashboardsOfUser *
dashboards_of_user(const DashboardMap *map, int32 user_number)
{
	return &map->of_user[(uint32) user_number < (uint32) map->users_size ? user_number : 0];
}

/* Many are looked for at once: prefetch of all their users first, then of the entries. */
#define dashboard_map_prefetch(map, user_number) \
	__builtin_prefetch(dashboards_of_user(map, user_number))
#define dashboard_map_prefetch_entry(map, user_number) \
	__builtin_prefetch(&(map)->entries[dashboards_of_user(map, user_number)->first])

#endif /* DASHIE_DASHBOARD_MAP_H */
