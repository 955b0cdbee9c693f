/*
 * dashboard_map.c
 *		Makes and grows a map of dashboards.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "metrics/dashboard_map.h"

#define MIN_SIZE 1024

/* Grows a zeroed array until it has a place for "highest". */
static void *
presize(DashboardMap *map, void *array, int32 *size, int32 highest, Size element)
{
	Size old_size = *size;
	Size new_size = Max((Size) highest + 1, Max(old_size + old_size / 2, MIN_SIZE));

	if (highest < *size)
		return array;
	new_size = Min(new_size, PG_INT32_MAX);
	array = array == NULL ? MemoryContextAllocHuge(map->context, new_size * element)
						  : repalloc_huge(array, new_size * element);
	memset((char *) array + old_size * element, 0, (new_size - old_size) * element);
	*size = (int32) new_size;
	return array;
}

/*
 * dashboard_map_init makes an empty map with room for numbers of dashboards and
 * users up to those given; higher ones make it grow.
 */
void
dashboard_map_init(DashboardMap *map, MemoryContext context, int32 dashboards, int32 users)
{
	memset(map, 0, sizeof(DashboardMap));
	map->context = context;
	map->entries = presize(map, NULL, &map->size, dashboards, sizeof(DashboardEntry));
	map->of_user = presize(map, NULL, &map->users_size, users, sizeof(DashboardsOfUser));
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

	map->entries = presize(map, map->entries, &map->size, number, sizeof(DashboardEntry));
	map->of_user =
		presize(map, map->of_user, &map->users_size, user_number, sizeof(DashboardsOfUser));
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
