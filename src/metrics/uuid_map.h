/*
 * uuid_map.h
 *		A map from uuid to a positive integer: 24 bytes an entry, no pointers.
 */
#ifndef DASHIE_UUID_MAP_H
#define DASHIE_UUID_MAP_H

#include "postgres.h"

#include "utils/uuid.h"

typedef struct UuidSlot
{
	pg_uuid_t id;
	uint32 status;
	int32 value;
} UuidSlot;

/* Both halves are mixed: ids of version 7 share their first bytes. */
static inline uint32
uuid_map_hash_id(const pg_uuid_t *id)
{
	uint64 half[2];

	memcpy(half, id->data, UUID_LEN);
	half[0] = (half[0] ^ (half[0] >> 32)) * UINT64CONST(0x9E3779B97F4A7C15);
	half[1] = (half[1] ^ (half[1] >> 29) ^ half[0]) * UINT64CONST(0xBF58476D1CE4E5B9);
	return (uint32) (half[1] >> 32);
}

static inline bool
uuid_map_same(const pg_uuid_t *a, const pg_uuid_t *b)
{
	return memcmp(a->data, b->data, UUID_LEN) == 0;
}

#define SH_PREFIX uuid_map
#define SH_ELEMENT_TYPE UuidSlot
#define SH_KEY_TYPE pg_uuid_t
#define SH_KEY id
#define SH_HASH_KEY(tb, key) uuid_map_hash_id(&(key))
#define SH_EQUAL(tb, a, b) uuid_map_same(&(a), &(b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* The value of an id; 0 if it is not there. */
static inline int32
uuid_map_get(uuid_map_hash *map, const pg_uuid_t *id)
{
	UuidSlot *slot = uuid_map_lookup(map, *id);

	return slot != NULL ? slot->value : 0;
}

static inline void
uuid_map_prefetch(uuid_map_hash *map, const pg_uuid_t *id)
{
	__builtin_prefetch(&map->data[uuid_map_hash_id(id) & map->sizemask]);
}

#endif /* DASHIE_UUID_MAP_H */
