/*
 * duplicates.c
 *		Which events are stored already?
 *
 * An event with an id of its own is stored once within the retention, however
 * late it comes again and whatever time it has then: it is looked for by its id in
 * every partition that has not expired, or, where the setting
 * duplicate_window_hours says so, in those of that many hours before its time
 * and before now.
 *
 * Locks: ACCESS SHARE on a partition and its index, given back as soon as it has
 * been looked into, before the next one is locked and before any is locked for
 * writing.  They keep the files in place while they are read, no more: what keeps
 * others from storing the same ids meanwhile are the locks of the users
 * (parents.c), and a partition that is emptied or dropped afterwards takes none of
 * the answers back, as no row that is written here depends on one that it
 * had.  So nobody who wants a partition for themselves waits for more than the look
 * at it.  Partitions that maintenance may be about to remove are not looked at.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/query.h"
#include "common/relation.h"
#include "common/setting.h"
#include "ingest/ingest.h"

/* The ids that are still looked for, ascending; of equal ones the one that was sent first. */
typedef struct Wanted
{
	IdSlot *ids;
	int nids;
	IdSlot *doubtful; /* room for those that a note does not rule out */
	int *found;		  /* places in "ids" */
	int leaves;		  /* that the last look into an index led to */
} Wanted;

static int
compare_slots(const void *a, const void *b)
{
	const IdSlot *left = a;
	const IdSlot *right = b;
	int order = id_key_compare(&left->key, &right->key);

	return order != 0 ? order : left->order - right->order;
}

/* The events of the batches that have ids of their own. */
static Wanted
collect_ids(EventBatch *const *batches, int nbatches)
{
	Wanted wanted = {0};
	int size = 0;

	for (int i = 0; i < nbatches; i++)
		size += batches[i]->nevents;
	wanted.ids = palloc_extended(Max(size, 1) * sizeof(IdSlot), MCXT_ALLOC_HUGE);
	for (int i = 0; i < nbatches; i++)
		for (int j = 0; j < batches[i]->nevents; j++)
		{
			WidgetEvent *event = &batches[i]->events[j];

			if (!event->own_id)
				continue;
			wanted.ids[wanted.nids].key = id_key(&event->id);
			wanted.ids[wanted.nids].hash = id_hash(event->id.data);
			wanted.ids[wanted.nids].order = wanted.nids;
			wanted.ids[wanted.nids].event = event;
			wanted.nids++;
		}
	qsort(wanted.ids, wanted.nids, sizeof(IdSlot), compare_slots);
	for (int i = 1; i < wanted.nids; i++)
		if (id_key_compare(&wanted.ids[i - 1].key, &wanted.ids[i].key) == 0)
			wanted.ids[i].event->before = wanted.ids[i - 1].event;
	wanted.doubtful = palloc_extended(Max(wanted.nids, 1) * sizeof(IdSlot), MCXT_ALLOC_HUGE);
	wanted.found = palloc(Max(wanted.nids, 1) * sizeof(int));
	return wanted;
}

/* The id at that place is stored, and need not be looked for any more. */
static void
settle(Wanted *wanted, int place)
{
	wanted->ids[place].event->stored = true;
}

static void
forget_settled(Wanted *wanted)
{
	int n = 0;

	for (int i = 0; i < wanted->nids; i++)
		if (!wanted->ids[i].event->stored)
			wanted->ids[n++] = wanted->ids[i];
	wanted->nids = n;
}

/* Of the ids with an entry in the index, those whose row is there for the snapshot. */
static void
settle_visible(Wanted *wanted, int nfound, Relation rel, Relation index, Snapshot snapshot)
{
	IndexScanDesc scan = dashie_index_beginscan(rel, index, snapshot, 1);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	for (int i = 0; i < nfound; i++)
	{
		ScanKeyData key;
		WidgetEvent *event = wanted->ids[wanted->found[i]].event;

		CHECK_FOR_INTERRUPTS();
		ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(&event->id));
		index_rescan(scan, &key, 1, NULL, 0);
		if (index_getnext_slot(scan, ForwardScanDirection, slot))
			settle(wanted, wanted->found[i]);
	}
	ExecDropSingleTupleTableSlot(slot);
	index_endscan(scan);
}

/*
 * A partition that is no plain table, or has no index that tells: it is asked in
 * SQL, as everybody would.
 */
static void
look_with_sql(Wanted *wanted, Oid relid)
{
	Oid type = UUIDARRAYOID;
	static const Oid result = UUIDOID;
	Datum *ids = palloc(wanted->nids * sizeof(Datum));
	Datum value;
	uint64 nrows;

	for (int i = 0; i < wanted->nids; i++)
		ids[i] = UUIDPGetDatum(&wanted->ids[i].event->id);
	value = PointerGetDatum(
		construct_array(ids, wanted->nids, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	dashie_query_begin();
	nrows = dashie_query(
		psprintf("SELECT DISTINCT id FROM %s WHERE id = ANY ($1)", dashie_relation_name(relid)), 1,
		&type, &value, NULL);
	dashie_query_types(1, &result);
	for (uint64 row = 0; row < nrows; row++)
	{
		bool isnull;
		IdKey key = id_key(DatumGetUUIDP(dashie_field(row, 1, &isnull)));

		for (int i = 0; i < wanted->nids; i++)
			if (id_key_compare(&wanted->ids[i].key, &key) == 0)
				settle(wanted, i);
	}
	dashie_query_end();
}

/*
 * none_in_known_index says whether the index of a partition is known and has none
 * of the ids.  Then the partition, which the caller has locked, need not be opened.
 */
static bool
none_in_known_index(Wanted *wanted, Oid partition)
{
	Oid indexid = known_index(partition);
	Relation index;
	bool none;

	if (!OidIsValid(indexid))
		return false;
	index = try_relation_open(indexid, AccessShareLock);
	if (index == NULL)
		return false;
	/* with the lock came the news of what has changed */
	none = known_index(partition) == indexid &&
		   ids_in_index(index, wanted->ids, wanted->nids, wanted->found, &wanted->leaves) == 0;
	relation_close(index, AccessShareLock);
	return none;
}

/* Looks for ids in a partition, which the caller has locked. */
static void
look_in_partition(Wanted *wanted, Oid relid, Snapshot snapshot)
{
	DashieColumn id = {"id", UUIDOID, true, 0};
	uint64 changes = known_index_changes();
	Relation rel;
	Relation index = NULL;

	wanted->leaves = 0;
	rel = none_in_known_index(wanted, relid) ? NULL : try_relation_open(relid, NoLock);
	if (rel == NULL)
		return;
	if (rel->rd_rel->relkind == RELKIND_RELATION)
	{
		dashie_relation_columns(rel, &id, 1);
		index = dashie_index_open(rel, id.attnum);
	}
	if (index != NULL && ids_index_possible(index))
	{
		int nfound;

		know_index(relid, RelationGetRelid(index), changes);
		nfound = ids_in_index(index, wanted->ids, wanted->nids, wanted->found, &wanted->leaves);
		if (nfound > 0)
			settle_visible(wanted, nfound, rel, index, snapshot);
	}
	else
		look_with_sql(wanted, relid);
	if (index != NULL)
		index_close(index, AccessShareLock);
	relation_close(rel, NoLock);
}

/* Whether a note tells which of the ids the partition has, which the caller has locked. */
static bool
note_holds(IdNote *note, Oid relid, int nids)
{
	DashieColumn id = {"id", UUIDOID, true, 0};
	Relation rel = try_relation_open(relid, NoLock);
	bool holds;

	if (rel == NULL)
		return false;
	if (rel->rd_rel->relkind == RELKIND_RELATION)
		dashie_relation_columns(rel, &id, 1);
	holds = id.attnum != 0 && id_note_holds(note, rel, id.attnum, nids);
	relation_close(rel, NoLock);
	return holds;
}

/* Settles the ids that a partition has. */
static void
look_in_leaf(Wanted *wanted, Oid relid, Snapshot snapshot)
{
	IdNote *note = id_note(relid);

	LockRelationOid(relid, AccessShareLock);
	if (note_holds(note, relid, wanted->nids))
	{
		Wanted rest = {.ids = wanted->doubtful, .found = wanted->found};

		rest.nids = id_note_doubtful(note, wanted->ids, wanted->nids, rest.ids);
		if (rest.nids > 0)
			look_in_partition(&rest, relid, snapshot);
	}
	else
	{
		look_in_partition(wanted, relid, snapshot);
		/* the look may have run others' code, which may have moved the note */
		id_note_looked(id_note(relid), wanted->nids, wanted->leaves);
	}
	UnlockRelationOid(relid, AccessShareLock);
	forget_settled(wanted);
}

/* Marks the partitions of [from, upto]. */
static void
mark_leaves(PartitionKey key, PartitionBoundInfo bounds, TimestampTz from, TimestampTz upto,
			bool *marked)
{
	Datum value = TimestampTzGetDatum(from);
	bool equal;
	int offset = partition_range_datum_bsearch(key->partsupfunc, key->partcollation, bounds, 1,
											   &value, &equal);

	for (;; offset++)
	{
		if (bounds->indexes[offset + 1] >= 0)
			marked[bounds->indexes[offset + 1]] = true;
		if (offset + 1 >= bounds->ndatums ||
			(bounds->kind[offset + 1][0] == PARTITION_RANGE_DATUM_VALUE &&
			 DatumGetTimestampTz(bounds->datums[offset + 1][0]) > upto))
			break;
	}
	if (bounds->default_index >= 0)
		marked[bounds->default_index] = true;
}

/* The partitions that are looked into. */
static bool *
choose_leaves(Relation widget_analytics, PartitionDesc partitions, const Wanted *wanted,
			  const EventClock *clock)
{
	PartitionKey key = RelationGetPartitionKey(widget_analytics);
	PartitionBoundInfo bounds = partitions->boundinfo;
	bool *chosen = palloc0(partitions->nparts * sizeof(bool));
	int64 hours = dashie_setting_int("duplicate_window_hours");
	TimestampTz window = hours * USECS_PER_HOUR;

	if (hours == 0)
	{
		mark_leaves(key, bounds, clock->oldest, DT_NOEND, chosen);
		return chosen;
	}
	mark_leaves(key, bounds, Max(clock->now - window, clock->oldest), clock->latest, chosen);
	for (int i = 0; i < wanted->nids; i++)
	{
		TimestampTz at = wanted->ids[i].event->at;

		if (at < clock->now)
			mark_leaves(key, bounds, Max(at - window, clock->oldest), at, chosen);
	}
	return chosen;
}

/*
 * duplicates_find tells of each event of the batches that has an id of its own
 * whether it is stored, and which of those that were sent before it in this call
 * has the same one.  As the owner of widget_analytics, which is locked, before
 * any partition is.
 */
void
duplicates_find(Relation widget_analytics, EventBatch *const *batches, int nbatches,
				const EventClock *clock)
{
	PartitionDesc partitions = RelationGetPartitionDesc(widget_analytics, true);
	Wanted wanted = collect_ids(batches, nbatches);
	Snapshot snapshot;
	bool *chosen;

	if (wanted.nids == 0 || partitions->nparts == 0)
		return;
	id_notes_begin(wanted.nids);
	chosen = choose_leaves(widget_analytics, partitions, &wanted, clock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	/* the latest first: what was sent again is mostly found there, and then no further */
	for (int leaf = partitions->nparts - 1; leaf >= 0 && wanted.nids > 0; leaf--)
		if (chosen[leaf])
			look_in_leaf(&wanted, partitions->oids[leaf], snapshot);
	UnregisterSnapshot(snapshot);
	pfree(chosen);
	pfree(wanted.ids);
	pfree(wanted.doubtful);
	pfree(wanted.found);
}
