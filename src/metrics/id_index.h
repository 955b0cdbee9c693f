/*
 * id_index.h
 *		From a uuid to the number of an entry that begins with it.
 *
 * The entries are an array that the caller keeps, indexed by number from 1 on;
 * the index holds eight bytes for a number and looks into the array for the id.
 * So it is a third of what a hash table with the ids in it is, and a look-up
 * goes where the caller goes next.  Numbers are looked up by the hundred
 * thousand, in batches: id_index_prefetch() for all of a batch, then
 * id_index_prefetch_entry(), then id_index_get().
 *
 * The ids come from applications, who get them from browsers: they are hashed
 * with a seed that nobody knows.
 */
#ifndef DASHIE_ID_INDEX_H
#define DASHIE_ID_INDEX_H

#include "postgres.h"

#include "utils/uuid.h"

typedef struct IndexedId
{
	uint32 hash;
	int32 number; /* 0: free */
} IndexedId;

typedef struct IdIndex
{
	IndexedId *slots;
	void *chunk; /* of memory that they lie in */
	uint32 mask;
	uint32 used;
	uint64 seed;
	MemoryContext context;
} IdIndex;

/* The array that an index leads to. */
typedef struct IdEntries
{
	const void *first; /* of number 0, which is nobody's */
	Size size;		   /* of one */
} IdEntries;

extern void id_index_init(IdIndex *index, MemoryContext context, uint32 expected);
extern void id_index_free(IdIndex *index);
/* Leads to the number from now on, whatever the id led to; the entry has the id. */
extern void id_index_put(IdIndex *index, const pg_uuid_t *id, IdEntries entries, int32 number);

/* Both halves are mixed: ids of version 7 share their first bytes. */
static inline uint32
id_index_hash(const IdIndex *index, const pg_uuid_t *id)
{
	uint64 half[2];

	memcpy(half, id->data, UUID_LEN);
	half[0] = (half[0] ^ (half[0] >> 32) ^ index->seed) * UINT64CONST(0x9E3779B97F4A7C15);
	half[1] =
		(half[1] ^ (half[1] >> 29) ^ half[0] ^ (half[0] >> 32)) * UINT64CONST(0xBF58476D1CE4E5B9);
	return (uint32) (half[1] >> 32);
}

static inline const pg_uuid_t *
id_entry(IdEntries entries, int32 number)
{
	return (const pg_uuid_t *) ((const char *) entries.first + (Size) number * entries.size);
}

/* The slot of an id; a free one where it is not there. */
static inline IndexedId *
id_index_slot(const IdIndex *index, const pg_uuid_t *id, uint32 hash, IdEntries entries)
{
	for (uint32 at = hash & index->mask;; at = (at + 1) & index->mask)
	{
		IndexedId *slot = &index->slots[at];

		if (slot->number == 0 || (slot->hash == hash && memcmp(id_entry(entries, slot->number), id,
															   sizeof(pg_uuid_t)) == 0))
			return slot;
	}
}

/* The number of an id; 0 if it is not there. */
static inline int32
id_index_get(const IdIndex *index, const pg_uuid_t *id, IdEntries entries)
{
	return id_index_slot(index, id, id_index_hash(index, id), entries)->number;
}

/* Where the search for an id begins. */
static inline const IndexedId *
id_index_place(const IdIndex *index, const pg_uuid_t *id)
{
	return &index->slots[id_index_hash(index, id) & index->mask];
}

/* The entry that the id most likely leads to; that of number 0 where there is none. */
static inline const pg_uuid_t *
id_index_likely(const IdIndex *index, const pg_uuid_t *id, IdEntries entries)
{
	uint32 hash = id_index_hash(index, id);
	uint32 at = hash & index->mask;

	while (index->slots[at].number != 0 && index->slots[at].hash != hash)
		at = (at + 1) & index->mask;
	return id_entry(entries, index->slots[at].number);
}

/*
 * Macros: of a function that does nothing but prefetch, gcc finds that it does
 * nothing, and leaves its calls out.
 */
#define id_index_prefetch(index, id) __builtin_prefetch(id_index_place(index, id))
#define id_index_prefetch_entry(index, id, entries) \
	__builtin_prefetch(id_index_likely(index, id, entries))

#endif /* DASHIE_ID_INDEX_H */
