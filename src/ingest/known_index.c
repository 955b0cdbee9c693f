/*
 * known_index.c
 *		Which index tells of the ids of a partition, as far as this backend knows.
 *
 * An event with an id is looked for in each partition.  To open the partition, only
 * to learn which of its indexes to look into, costs more than the look itself; so
 * the answer is kept until PostgreSQL says that the partition has changed, which it
 * does too when an index comes, goes or changes places with another.  Who has locked
 * the index has heard of all changes that were made before, and asks once more then.
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
static uint64 changes = 0; /* heard of so far */

static KnownIndex *
place_of(Oid partition)
{
	return &known[murmurhash32(partition) % PLACES];
}

static void
forget(Datum arg, Oid relid)
{
	KnownIndex *place = place_of(relid);

	changes++;
	if (!OidIsValid(relid))
		memset(known, 0, sizeof(known));
	else if (place->partition == relid)
		place->partition = InvalidOid;
}

/* known_index returns the index of a partition that was looked into before, or InvalidOid. */
Oid
known_index(Oid partition)
{
	const KnownIndex *place = place_of(partition);

	return place->partition == partition ? place->index : InvalidOid;
}

/* How many changes of relations this backend has heard of, for know_index(). */
uint64
known_index_changes(void)
{
	static bool registered = false;

	if (!registered)
		CacheRegisterRelcacheCallback(forget, 0);
	registered = true;
	return changes;
}

/*
 * know_index notes the index of a partition, unless something has changed since
 * "before", when the caller had locked the partition and not yet asked for its indexes.
 */
void
know_index(Oid partition, Oid index, uint64 before)
{
	if (changes == before)
		*place_of(partition) = (KnownIndex){partition, index};
}
