/*
 * id_index.c
 *		Makes and grows an index of ids.
 *
 * A table of linear probing that is at most half full.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "common/huge_pages.h"
#include "metrics/id_index.h"

#define MIN_SLOTS 1024

static void
make_slots(IdIndex *index, uint64 size)
{
	if (size > (uint64) PG_UINT32_MAX + 1)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("too many ids for an index of them")));
	index->slots = dashie_huge_alloc(index->context, size * sizeof(IndexedId), &index->chunk);
	memset(index->slots, 0, size * sizeof(IndexedId));
	index->mask = (uint32) (size - 1);
}

/*
 * id_index_init makes an index for so many ids; more make it grow.
 */
void
id_index_init(IdIndex *index, MemoryContext context, uint32 expected)
{
	index->context = context;
	index->used = 0;
	if (!pg_strong_random(&index->seed, sizeof(index->seed)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a random seed")));
	make_slots(index, pg_nextpower2_64(Max((uint64) expected * 2, MIN_SLOTS)));
}

void
id_index_free(IdIndex *index)
{
	pfree(index->chunk);
	index->slots = NULL;
}

static void
grow(IdIndex *index)
{
	IndexedId *old = index->slots;
	void *chunk = index->chunk;
	uint64 size = (uint64) index->mask + 1;

	make_slots(index, size * 2);
	for (uint64 i = 0; i < size; i++)
	{
		uint32 at = old[i].hash & index->mask;

		if (old[i].number == 0)
			continue;
		while (index->slots[at].number != 0)
			at = (at + 1) & index->mask;
		index->slots[at] = old[i];
	}
	pfree(chunk);
}

void
id_index_put(IdIndex *index, const pg_uuid_t *id, IdEntries entries, int32 number)
{
	uint32 hash = id_index_hash(index, id);
	IndexedId *slot = id_index_slot(index, id, hash, entries);

	if (slot->number == 0 && ++index->used > index->mask / 2)
	{
		grow(index);
		slot = id_index_slot(index, id, hash, entries);
	}
	slot->hash = hash;
	slot->number = number;
}
