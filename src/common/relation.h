/*
 * relation.h
 *		Relations of the application, opened by OID and checked; reading them
 *		row by row through the table access method.
 *
 * Reading this way runs no code of the relation's owner: no view, rule,
 * policy, operator or index expression.  The rights that SQL would check are
 * checked here instead.
 */
#ifndef DASHIE_RELATION_H
#define DASHIE_RELATION_H

#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "executor/tuptable.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/rel.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

/* A column that a reader wants: where it is, or 0 where the table has none. */
typedef struct DashieColumn
{
	const char *name;
	Oid type;		   /* 55000 when the table's column has another type */
	bool required;	   /* 55000 when missing; else attnum stays 0 */
	AttrNumber attnum; /* filled by dashie_relation_columns() */
} DashieColumn;

/* InvalidOid if schema or table is missing */
extern Oid dashie_relation_oid(const char *schema, const char *name);

/*
 * Opens and locks a plain table (relkind r; with partitioned_ok also p).
 * Missing: 42P01.  Not a plain table: 42809.  The current user must hold
 * "rights" on it, and row level security must not hide rows, else 42501.
 */
extern Relation
dashie_relation_open(Oid relid, LOCKMODE lockmode, AclMode rights, bool partitioned_ok);

/* Finds the columns; 55000 where a required one is missing or has another type. */
extern void dashie_relation_columns(Relation rel, DashieColumn *columns, int ncolumns);

/*
 * Whether an index has a predicate.  RelationGetIndexPredicate() would fold
 * its constants, and so run functions of its owner as the current user.
 */
extern bool dashie_index_is_partial(Relation index);
extern Oid dashie_find_index(Relation rel, AttrNumber attnum, bool (*predicate)(Relation index));
extern Relation dashie_index_open(Relation rel, AttrNumber attnum);
extern Oid dashie_find_expression_index(Relation rel, Oid type, bool (*expression)(Relation index));
extern bool dashie_index_holds(Relation rel, AttrNumber attnum, const char *text);

/* blocks.h */
typedef struct DashieBlocks DashieBlocks;

/*
 * One pass over a table: whole, some of its blocks, or a range of one
 * timestamptz column.  Its
 * fields but for the slot are private to relation.c.
 */
typedef struct DashieScan
{
	TupleTableSlot *slot; /* the current row */
	Relation rel;
	TableScanDesc heap;
	Snapshot own_snapshot; /* registered with the scan; NULL: the caller's */
	Relation index;
	IndexScanDesc lookup;

	/* the blocks that are read, and where the next one is to be looked for */
	const DashieBlocks *blocks;
	BlockNumber next_block;
	BlockNumber end_block;

	Buffer asked;	   /* the block that was last asked for ahead of its use */
	AttrNumber wanted; /* every row is taken apart up to this column; 0: as asked for */

	/* without a usable index the range is applied here */
	AttrNumber range_attnum;
	TimestampTz from;
	TimestampTz upto;
} DashieScan;

extern DashieScan *dashie_scan_begin(Relation rel, Snapshot snapshot);
extern DashieScan *dashie_scan_latest(Relation rel);
/* A share of the rows, of a scan that several processes divide between them. */
extern DashieScan *dashie_scan_begin_parallel(Relation rel, ParallelTableScanDesc shared);
extern DashieScan *
dashie_scan_begin_range(Relation rel, Snapshot snapshot, const DashieColumn *column,
						TimestampTz from, TimestampTz upto);
extern DashieScan *dashie_scan_begin_index(Relation rel, Snapshot snapshot, Oid indexid,
										   TimestampTz from, TimestampTz upto);
/* All visible rows of the blocks, also those that no range named; the blocks must outlast it. */
extern DashieScan *dashie_scan_begin_blocks(const DashieBlocks *blocks);
/* Rows come in ascending order of the range's column. */
extern bool dashie_scan_is_ordered(const DashieScan *scan);
/* For a caller that asks most rows for all of these columns: they are found in one go. */
extern void dashie_scan_want(DashieScan *scan, const DashieColumn *columns, int ncolumns);
extern bool dashie_scan_next(DashieScan *scan);

/* By reference into the current row; NULL for a column that the table lacks. */
static inline Datum
dashie_scan_get(DashieScan *scan, const DashieColumn *column, bool *isnull)
{
	if (column->attnum == InvalidAttrNumber)
	{
		*isnull = true;
		return (Datum) 0;
	}
	return slot_getattr(scan->slot, column->attnum, isnull);
}

static inline NullableDatum
dashie_scan_value(DashieScan *scan, const DashieColumn *column)
{
	NullableDatum value;

	value.value = dashie_scan_get(scan, column, &value.isnull);
	return value;
}

/* The same of a column of type uuid; NULL for a NULL, which no constraint need forbid. */
static inline const pg_uuid_t *
dashie_scan_uuid(DashieScan *scan, const DashieColumn *column)
{
	bool isnull;
	Datum value = dashie_scan_get(scan, column, &isnull);

	return isnull ? NULL : DatumGetUUIDP(value);
}

extern ItemPointer dashie_scan_tid(DashieScan *scan);
extern void dashie_scan_end(DashieScan *scan);

#endif /* DASHIE_RELATION_H */
