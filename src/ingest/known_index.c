/*
 * known_index.c
 *		Which index tells of the ids of a partition, as far as this backend knows.
 *
 * An event with an id is looked for in each partition.  To lock and open the
 * partition, only to learn which of its indexes to lock and open, costs more than
 * the look itself; so the answer is kept until PostgreSQL says that some relation has
 * changed.  Who has locked the index has heard of all changes that were made before,
 * and asks once more then.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/inval.h"

#include "ingest/ingest.h"

typedef struct KnownIndex
{
	Oid partition;
	Oid index;
} KnownIndex;

/* A power of two, well above the number of partitions within a usual retention. */
#define PLACES 1024

static KnownIndex known[PLACES];
static bool current = false; /* nothing has changed since they were put there */

static void
forget(Datum arg, Oid relid)
{
	current = false;
}

static KnownIndex *
place_of(Oid partition)
{
	return &known[murmurhash32(partition) % PLACES];
}

/* known_index returns the index of a partition that was looked into before, or InvalidOid. */
Oid
known_index(Oid partition)
{
	const KnownIndex *place = place_of(partition);

	return current && place->partition == partition ? place->index : InvalidOid;
}

/* know_index notes the index of a partition; the caller has locked both. */
void
know_index(Oid partition, Oid index)
{
	static bool registered = false;

	if (!registered)
		CacheRegisterRelcacheCallback(forget, 0);
	registered = true;
	if (!current)
		memset(known, 0, sizeof(known));
	current = true;
	*place_of(partition) = (KnownIndex){partition, index};
}
