/*
 * dashboard_map.c
 *		Makes and grows a map of dashboards.
 */
#include "postgres.h"

#include "common/presize.h"
#include "metrics/dashboard_map.h"

/*
 * dashboard_map_init makes an empty map with room for numbers of dashboards and
 * users up to those given; higher ones make it grow.
 */
void
dashboard_map_init(DashboardMap *map, MemoryContext context, int32 dashboards, int32 users)
{
	memset(map, 0, sizeof(DashboardMap));
	map->context = context;
	map->entries = dashie_presize(context, NULL, &map->size, dashboards, sizeof(DashboardEntry));
	map->of_user = dashie_presize(context, NULL, &map->users_size, users, sizeof(DashboardsOfUser));
}

static IdEntries
crowded_entries(const DashboardMap *map)
{
	IdEntries entries = {map->entries, sizeof(DashboardEntry)};

	return entries;
}

int32
dashboard_map_find_crowded(const DashboardMap *map, const pg_uuid_t *id, int32 user_number)
{
	int32 number = id_index_get(&map->crowded, id, crowded_entries(map));

	while (number != 0 && map->entries[number].user_number != user_number)
		number = map->entries[number].next;
	return number;
}

/*
 * dashboard_map_add makes a number known that the dashboard did not have with
 * this user.
 */
void
dashboard_map_add(DashboardMap *map, int32 number, const pg_uuid_t *id, int32 user_number)
{
	DashboardEntry *dashboard;
	DashboardsOfUser *of_user;

	map->entries =
		dashie_presize(map->context, map->entries, &map->size, number, sizeof(DashboardEntry));
	map->of_user = dashie_presize(map->context, map->of_user, &map->users_size, user_number,
								  sizeof(DashboardsOfUser));
	of_user = &map->of_user[user_number];
	dashboard = &map->entries[number];
	dashboard->id = *id;
	dashboard->user_number = user_number;
	dashboard->first = number;
	if (++of_user->n <= CROWD)
	{
		dashboard->next = of_user->first;
		of_user->first = number;
		return;
	}
	if (map->crowded.slots == NULL)
		id_index_init(&map->crowded, map->context, 0);
	dashboard->next = id_index_get(&map->crowded, id, crowded_entries(map));
	id_index_put(&map->crowded, id, crowded_entries(map), number);
}
