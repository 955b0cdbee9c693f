/*
 * collect_range.c
 *		The sessions of a short stretch of a long history, found through indexes.
 *
 * A session overlaps the stretch if it
 *		starts in it,
 *		or starts earlier and ends in its first day,
 *		or starts earlier and is longer than a day.
 * user_sessions has an index for each.  Where the rows lie together, as they do
 * if they came in that order, the indexes only say in which blocks, and those
 * are read.  Where they lie apart, or without the index on the end, the rows are
 * visited one by one: those that start in the stretch or a day before it, and
 * the long ones.
 *
 * Indexes are known by what they hold and not by their names, and are not
 * trusted to be there: without the one on the start the table is read.
 */
#include "postgres.h"

#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "common/blocks.h"
#include "common/relation.h"
#include "metrics/collect.h"

#define SHORT_SESSION USECS_PER_DAY

/* So many rows are visited in the time in which a block is read. */
#define VISITS_PER_BLOCK 4

/* Of the indexes on the end and on long sessions, as PostgreSQL prints them. */
#define END_EXPRESSION "COALESCE(ended_at, last_activity_at, started_at)"
#define LONG_PREDICATE "((" END_EXPRESSION " - started_at) > '1 day'::interval)"

/*
 * prints_as compares an expression of an index as it is stored: nothing of it
 * is evaluated.
 */
static bool
prints_as(Relation index, AttrNumber attribute, const char *printed)
{
	Oid table = index->rd_index->indrelid;
	List *context = deparse_context_for(get_rel_name(table), table);
	HeapTuple tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(RelationGetRelid(index)));
	Datum stored;
	Node *node;
	bool isnull;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for index %u", RelationGetRelid(index));
	stored = SysCacheGetAttr(INDEXRELID, tuple, attribute, &isnull);
	node = isnull ? NULL : stringToNode(TextDatumGetCString(stored));
	ReleaseSysCache(tuple);
	if (node != NULL && IsA(node, List))
		node = linitial((List *) node);
	return node != NULL && strcmp(deparse_expression(node, context, false, false), printed) == 0;
}

static bool
holds_ends(Relation index)
{
	return prints_as(index, Anum_pg_index_indexprs, END_EXPRESSION);
}

static bool
holds_long_sessions(Relation index)
{
	return prints_as(index, Anum_pg_index_indpred, LONG_PREDICATE);
}

static Oid
find_long_index(const Collector *collector)
{
	return dashie_find_index(collector->reader.rel,
							 collector->reader.columns[COLUMN_STARTED].attnum, holds_long_sessions);
}

/* Takes all rows of a scan, and ends it. */
void
collector_add_all(Collector *collector, DashieScan *scan)
{
	while (dashie_scan_next(scan))
		collector_add_current(collector, scan);
	collector_flush(collector);
	dashie_scan_end(scan);
}

/*
 * collect_range_blocks finds the blocks that hold the sessions of the stretch;
 * NULL where reading them does not pay, or an index that it needs is not there.
 */
DashieBlocks *
collect_range_blocks(Collector *collector)
{
	const Stretch *stretch = &collector->stretch;
	Relation rel = collector->reader.rel;
	TimestampTz from = stretch->starts[0];
	Oid start_index =
		dashie_find_index(rel, collector->reader.columns[COLUMN_STARTED].attnum, NULL);
	Oid end_index = dashie_find_expression_index(rel, TIMESTAMPTZOID, holds_ends);
	Oid long_index = find_long_index(collector);
	DashieBlocks *blocks;
	uint64 nrows;

	if (!OidIsValid(start_index) || !OidIsValid(end_index) || !OidIsValid(long_index) ||
		!dashie_blocks_readable(rel))
		return NULL;
	blocks = dashie_blocks_create(rel, collector->metrics->snapshot);
	nrows = dashie_blocks_add(blocks, start_index, from, stretch->starts[stretch->ndays]);
	dashie_blocks_add(blocks, end_index, from, from + SHORT_SESSION);
	dashie_blocks_add(blocks, long_index, DT_NOBEGIN, from);
	if (dashie_blocks_count(blocks) * VISITS_PER_BLOCK <= nrows)
		return blocks;
	dashie_blocks_free(blocks);
	return NULL;
}

/*
 * collect_range reads the sessions that overlap the stretch.
 */
void
collect_range(Collector *collector)
{
	Relation rel = collector->reader.rel;
	const DashieColumn *started = &collector->reader.columns[COLUMN_STARTED];
	const Stretch *stretch = &collector->stretch;
	Snapshot snapshot = collector->metrics->snapshot;
	TimestampTz near = stretch->starts[0] - SHORT_SESSION;
	DashieBlocks *blocks = collect_range_blocks(collector);
	Oid long_index;

	if (blocks != NULL)
	{
		session_reader_whole(&collector->reader);
		collector_add_all(collector, dashie_scan_begin_blocks(blocks));
		dashie_blocks_free(blocks);
		return;
	}
	long_index = find_long_index(collector);
	collector_add_all(collector, dashie_scan_begin_range(rel, snapshot, started, near,
														 stretch->starts[stretch->ndays]));
	if (OidIsValid(long_index))
		collector_add_all(collector,
						  dashie_scan_begin_index(rel, snapshot, long_index, DT_NOBEGIN, near));
	else
		collector_add_all(collector,
						  dashie_scan_begin_range(rel, snapshot, started, DT_NOBEGIN, near));
}
