/*
 * mark_rows.c
 *		The rows that a transaction leaves behind for the refresh, or finds that
 *		another one has left already.  marks.c has the protocol.
 *
 * Runs as whoever commits: a cascade from Auth, an API role.  They have no
 * rights on our tables, and no code that the tables' owner may have attached
 * must run with theirs: so rows are read and written with the table access
 * method and not with SQL.  Takes RowExclusiveLock on the table until the end
 * of the transaction.  Where the table is missing no metrics are enabled, and
 * nothing is to be remembered; enable() makes it with a mark over all time.
 *
 * What a backend has seen of such a table it remembers, to find a mark without
 * a search.  The memory is no more than a hint where to look: the row
 * is read each time, and counts only if it is an open mark that covers the
 * range.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "common/day.h"
#include "common/relation.h"
#include "common/setting.h"
#include "metrics/marks.h"

/* A mark that was open when this backend looked. */
typedef struct Seen
{
	Range range;
	ItemPointerData tid;
} Seen;

/* What is known of a table of marks. */
typedef struct MarkTable
{
	const char *name;
	Oid relid;	/* that the rest is about; InvalidOid: none */
	Seen *seen; /* each beginning and ending later than the one before */
	int nseen;
	int size;
	int64 rows;	  /* at the last search */
	int64 misses; /* since then */
} MarkTable;

static MarkTable tables[MARK_KINDS] = {
	[MARK_SESSIONS] = {.name = "changed_range"},
	[MARK_EVENTS] = {.name = "changed_events"},
};

/*
 * A search reads the whole table.  It holds a few rows; should it hold many,
 * as while years of old sessions come in one by one, a search is made only once
 * in as many misses as keep its share of each at about this many rows.
 */
#define ROWS_PER_MISS 16

/* Beyond this a backend neither searches nor remembers. */
#define MAX_SEARCH_BLOCKS 64
#define MAX_SEEN 16384

/*
 * open_marks opens one of our tables for direct inserts; NULL if it is
 * missing.  The access method below maintains no index and fires no trigger,
 * so the table must have none.
 */
static Relation
open_marks(const char *name, const Oid *types, int natts)
{
	Oid relid = dashie_relation_oid("dashie", name);
	Relation rel;

	if (!OidIsValid(relid))
		return NULL;
	rel = table_open(relid, RowExclusiveLock);
	if (rel->rd_rel->relkind != RELKIND_RELATION || RelationGetIndexList(rel) != NIL ||
		RelationGetNumberOfAttributes(rel) != natts)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"dashie.%s\" is not as dashie made it", name),
				 errdetail("It must be a plain table with %d columns and without indexes.", natts),
				 errhint("Drop what was added to it.")));
	for (int i = 0; i < natts; i++)
	{
		Oid type = TupleDescAttr(RelationGetDescr(rel), i)->atttypid;

		if (type != types[i])
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("table \"dashie.%s\" is not as dashie made it", name)));
	}
	return rel;
}

static void
insert_row(Relation rel, TupleTableSlot *slot, const Datum *values, int natts)
{
	ExecClearTuple(slot);
	for (int i = 0; i < natts; i++)
	{
		slot->tts_values[i] = values[i];
		slot->tts_isnull[i] = false;
	}
	ExecStoreVirtualTuple(slot);
	simple_table_tuple_insert(rel, slot);
}

static bool
is_bounded(const Range *range)
{
	return !TIMESTAMP_NOT_FINITE(range->from) && !TIMESTAMP_NOT_FINITE(range->upto);
}

/*
 * slot_mark reads the mark that a slot holds.  One without bounds, which says
 * that everything may have changed, is none to rely on: as long as somebody
 * does not end, everything would be computed again each night.
 */
static bool
slot_mark(TupleTableSlot *slot, Range *mark)
{
	bool isnull[2];

	mark->from = DatumGetTimestampTz(slot_getattr(slot, 1, &isnull[0]));
	mark->upto = DatumGetTimestampTz(slot_getattr(slot, 2, &isnull[1]));
	return !isnull[0] && !isnull[1] && is_bounded(mark);
}

/* Whether what was just read with a dirty snapshot is committed and not being deleted. */
static bool
is_settled(const SnapshotData *dirty)
{
	return !TransactionIdIsValid(dirty->xmin) && !TransactionIdIsValid(dirty->xmax);
}

/* The number of remembered marks that begin at or before an instant. */
static int
seen_until(const MarkTable *table, TimestampTz at)
{
	int low = 0;
	int high = table->nseen;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (table->seen[middle].range.from <= at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* remember keeps a mark, unless others cover it. */
static void
remember(MarkTable *table, const Range *mark, const ItemPointerData *tid)
{
	int first = seen_until(table, mark->from);
	int next = first;
	Seen *seen = table->seen;

	if (first > 0 && seen[first - 1].range.upto >= mark->upto)
		return;
	if (first > 0 && seen[first - 1].range.from == mark->from)
		first--;
	while (next < table->nseen && seen[next].range.upto <= mark->upto)
		next++;

	if (next == first && table->nseen == table->size)
	{
		int size = Max(16, table->size * 2);

		if (size > MAX_SEEN)
			return;
		seen = seen == NULL ? MemoryContextAlloc(TopMemoryContext, size * sizeof(Seen))
							: repalloc(seen, size * sizeof(Seen));
		table->seen = seen;
		table->size = size;
	}
	memmove(seen + first + 1, seen + next, (table->nseen - next) * sizeof(Seen));
	table->nseen += first + 1 - next;
	seen[first].range = *mark;
	seen[first].tid = *tid;
}

/* search remembers the open marks of the table instead of what was remembered. */
static void
search(MarkTable *table, Relation rel, BlockNumber nblocks)
{
	SnapshotData dirty;
	TableScanDesc scan;
	TupleTableSlot *slot;

	table->relid = RelationGetRelid(rel);
	table->nseen = 0;
	table->misses = 0;
	table->rows = (int64) nblocks * MaxHeapTuplesPerPage;
	if (nblocks > MAX_SEARCH_BLOCKS)
		return;

	table->rows = 0;
	InitDirtySnapshot(dirty);
	slot = table_slot_create(rel, NULL);
	scan = table_beginscan(rel, &dirty, 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Range mark;

		table->rows++;
		if (is_settled(&dirty) && slot_mark(slot, &mark))
			remember(table, &mark, &slot->tts_tid);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
}

typedef enum Cover
{
	COVER_OPEN,	   /* open marks cover the range */
	COVER_MISSING, /* none that is remembered does */
	COVER_STALE	   /* one did, and is not open any more */
} Cover;

/* look_at_seen looks for open marks over a range where they were seen. */
static Cover
look_at_seen(const MarkTable *table, Relation rel, TupleTableSlot *slot, BlockNumber nblocks,
			 const Range *range)
{
	const Seen *seen = table->seen;
	TimestampTz at = range->from;

	if (table->relid != RelationGetRelid(rel))
		return COVER_MISSING;
	for (;;)
	{
		int n = seen_until(table, at);
		SnapshotData dirty;
		Range mark;
		bool is_open;

		if (n == 0 || seen[n - 1].range.upto < at)
			return COVER_MISSING;

		/* VACUUM may have given the block back; no slot fetches beyond the end */
		if (ItemPointerGetBlockNumber(&seen[n - 1].tid) >= nblocks)
			return COVER_STALE;
		InitDirtySnapshot(dirty);
		is_open =
			table_tuple_fetch_row_version(rel, unconstify(ItemPointerData *, &seen[n - 1].tid),
										  &dirty, slot) &&
			is_settled(&dirty) && slot_mark(slot, &mark) && mark.from <= at && mark.upto >= at;
		ExecClearTuple(slot);
		if (!is_open)
			return COVER_STALE;
		if (mark.upto >= range->upto)
			return COVER_OPEN;
		at = mark.upto + 1;
	}
}

static bool
is_covered(MarkTable *table, Relation rel, TupleTableSlot *slot, const Range *range)
{
	BlockNumber nblocks;
	Cover cover;

	if (!is_bounded(range))
		return false;
	nblocks = RelationGetNumberOfBlocks(rel);
	cover = look_at_seen(table, rel, slot, nblocks, range);
	if (cover == COVER_MISSING && table->relid == RelationGetRelid(rel) &&
		++table->misses * ROWS_PER_MISS < table->rows)
		return false;
	if (cover != COVER_OPEN)
	{
		search(table, rel, nblocks);
		cover = look_at_seen(table, rel, slot, nblocks, range);
	}
	return cover == COVER_OPEN;
}

/*
 * widen makes a range end with its days, so that those who change more of them
 * find it covered.  It marks no other day.  Without a usable time zone, which
 * is not for a commit to complain of, the range stays as it is.
 */
static void
widen(Range *range, pg_tz *zone)
{
	if (zone == NULL || !is_bounded(range))
		return;
	range->from = Min(range->from, dashie_day_start(dashie_day_of(range->from, zone), zone));
	range->upto =
		Max(range->upto, dashie_day_start(dashie_day_of(range->upto, zone) + 1, zone) - 1);
}

const char *
dashie_mark_table(MarkKind kind)
{
	return tables[kind].name;
}

/*
 * mark_rows_write leaves a mark for each range; with "may_rely", unless open
 * marks cover it.
 */
void
mark_rows_write(MarkKind kind, const RangeSet *changed, bool may_rely)
{
	static const Oid types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	MarkTable *table = &tables[kind];
	Relation rel = open_marks(table->name, types, lengthof(types));
	TupleTableSlot *slot;
	TupleTableSlot *new_slot = NULL;
	pg_tz *zone = NULL;

	if (rel == NULL)
		return;

	/* whether another access method can be asked like this is unknown */
	if (rel->rd_rel->relam != HEAP_TABLE_AM_OID)
		may_rely = false;
	slot = table_slot_create(rel, NULL);
	for (int i = 0; i < changed->n; i++)
	{
		Range range = changed->ranges[i];
		Datum values[2];

		if (may_rely && is_covered(table, rel, slot, &range))
			continue;
		if (new_slot == NULL)
		{
			new_slot = table_slot_create(rel, NULL);
			zone = dashie_timezone_named(dashie_setting_text("timezone"));
		}
		widen(&range, zone);
		values[0] = TimestampTzGetDatum(range.from);
		values[1] = TimestampTzGetDatum(range.upto);
		insert_row(rel, new_slot, values, 2);
		if (may_rely && table->relid == RelationGetRelid(rel) && is_bounded(&range))
			remember(table, &range, &new_slot->tts_tid);
	}
	if (new_slot != NULL)
		ExecDropSingleTupleTableSlot(new_slot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
}

void
mark_rows_write_heartbeats(const Heartbeat *heartbeats, int n)
{
	static const Oid types[] = {UUIDOID, UUIDOID, TIMESTAMPTZOID};
	Relation rel = open_marks("heartbeat_seen", types, lengthof(types));
	TupleTableSlot *slot;

	if (rel == NULL)
		return;
	slot = table_slot_create(rel, NULL);
	for (int i = 0; i < n; i++)
	{
		Datum values[3] = {UUIDPGetDatum(&heartbeats[i].dashboard),
						   UUIDPGetDatum(&heartbeats[i].user),
						   TimestampTzGetDatum(heartbeats[i].at)};

		insert_row(rel, slot, values, 3);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
}
