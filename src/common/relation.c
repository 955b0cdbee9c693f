/*
 * relation.c
 *		Relations of the application: opened by OID, checked, read row by row.
 *
 * A scan goes through the table access method, so that nothing that the
 * relation's owner could have planted (views, rules, policies, operators,
 * index expressions) runs in it.  What SQL would have checked is checked in
 * dashie_relation_open(): the kind, the rights, row level security.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/syscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/blocks.h"
#include "common/compat.h"
#include "common/query.h"
#include "common/relation.h"

Oid
dashie_relation_oid(const char *schema, const char *name)
{
	Oid namespace = get_namespace_oid(schema, true);

	return OidIsValid(namespace) ? get_relname_relid(name, namespace) : InvalidOid;
}

Relation
dashie_relation_open(Oid relid, LOCKMODE lockmode, AclMode rights, bool partitioned_ok)
{
	Relation rel = OidIsValid(relid) ? try_relation_open(relid, lockmode) : NULL;
	AclResult acl;

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE), errmsg("the table does not exist any more")));
	if (rel->rd_rel->relkind != RELKIND_RELATION &&
		!(partitioned_ok && rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s\" is not a plain table", RelationGetRelationName(rel))));

	acl = pg_class_aclcheck(relid, GetUserId(), rights);
	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_TABLE, RelationGetRelationName(rel));
	if (check_enable_rls(relid, InvalidOid, false) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("row level security of \"%s\" would hide rows from role \"%s\"",
						RelationGetRelationName(rel), GetUserNameFromId(GetUserId(), false))));
	return rel;
}

/*
 * The column of that name, which is often where it was looked for last: "place"
 * is the index of a column to begin with, and becomes that of the one after it.
 */
static Form_pg_attribute
find_column(TupleDesc desc, const char *name, int *place)
{
	for (int i = 0; i < desc->natts; i++)
	{
		int index = (*place + i) % desc->natts;
		Form_pg_attribute attribute = TupleDescAttr(desc, index);

		if (!attribute->attisdropped && strcmp(NameStr(attribute->attname), name) == 0)
		{
			*place = index + 1;
			return attribute;
		}
	}
	return NULL;
}

void
dashie_relation_columns(Relation rel, DashieColumn *columns, int ncolumns)
{
	int place = 0;

	for (int i = 0; i < ncolumns; i++)
	{
		DashieColumn *column = &columns[i];
		Form_pg_attribute attribute = find_column(RelationGetDescr(rel), column->name, &place);

		column->attnum = InvalidAttrNumber;
		if (attribute != NULL && attribute->atttypid == column->type)
			column->attnum = attribute->attnum;
		else if (!column->required)
			continue;
		else if (attribute == NULL)
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("table \"%s\" has no column \"%s\"",
								   RelationGetRelationName(rel), column->name)));
		else
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("column \"%s\" of table \"%s\" has type %s, not %s", column->name,
							RelationGetRelationName(rel), format_type_be(attribute->atttypid),
							format_type_be(column->type))));
	}
}

bool
dashie_index_is_partial(Relation index)
{
	return !heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);
}

/*
 * ordered_by says whether scans in ascending order of the column, or of an
 * expression where attnum is 0, may use the index.
 */
static bool
ordered_by(Relation index, AttrNumber attnum, Oid type)
{
	Form_pg_index form = index->rd_index;

	/* one that was built over broken HOT chains serves no older snapshot */
	return index->rd_rel->relam == BTREE_AM_OID && form->indisvalid &&
		   (!form->indcheckxmin ||
			TransactionIdPrecedes(HeapTupleHeaderGetXmin(index->rd_indextuple->t_data),
								  TransactionXmin)) &&
		   form->indkey.values[0] == attnum && index->rd_opcintype[0] == type &&
		   index->rd_indoption[0] == 0;
}

/* Opens such an index, with ACCESS SHARE; NULL if there is none. */
static Relation
open_index(Relation rel, AttrNumber attnum, Oid type, bool partial, bool (*accept)(Relation index))
{
	List *indexes = RelationGetIndexList(rel);
	Relation result = NULL;
	ListCell *lc;

	foreach (lc, indexes)
	{
		Relation index = index_open(lfirst_oid(lc), AccessShareLock);

		if (ordered_by(index, attnum, type) && dashie_index_is_partial(index) == partial &&
			(accept == NULL || accept(index)))
		{
			result = index;
			break;
		}
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return result;
}

static Oid
find_index(Relation rel, AttrNumber attnum, Oid type, bool partial, bool (*accept)(Relation index))
{
	Relation index = open_index(rel, attnum, type, partial, accept);
	Oid result = index != NULL ? RelationGetRelid(index) : InvalidOid;

	if (index != NULL)
		index_close(index, NoLock);
	return result;
}

/*
 * dashie_find_index returns a btree index whose first column is the given one
 * in its default order, or InvalidOid: a complete index, or with "predicate"
 * a partial one of which that says yes.
 */
Oid
dashie_find_index(Relation rel, AttrNumber attnum, bool (*predicate)(Relation index))
{
	return find_index(rel, attnum, TupleDescAttr(RelationGetDescr(rel), attnum - 1)->atttypid,
					  predicate != NULL, predicate);
}

/*
 * dashie_index_open opens the first complete one, with ACCESS SHARE, which the
 * caller gives back with it; NULL if there is none.
 */
Relation
dashie_index_open(Relation rel, AttrNumber attnum)
{
	return open_index(rel, attnum, TupleDescAttr(RelationGetDescr(rel), attnum - 1)->atttypid,
					  false, NULL);
}

/*
 * dashie_find_expression_index is the same for a complete index on an
 * expression of that type, of which "expression" says yes.
 */
Oid
dashie_find_expression_index(Relation rel, Oid type, bool (*expression)(Relation index))
{
	return find_index(rel, InvalidAttrNumber, type, false, expression);
}

/*
 * dashie_index_holds tells whether a committed row, or one of this transaction,
 * has that text in a column; also true where no index can tell.
 */
bool
dashie_index_holds(Relation rel, AttrNumber attnum, const char *text)
{
	Oid indexid = dashie_find_index(rel, attnum, NULL);
	Relation index;
	Snapshot snapshot;
	IndexScanDesc scan;
	ScanKeyData key;
	TupleTableSlot *slot;
	bool found;

	if (!OidIsValid(indexid))
		return true;
	index = index_open(indexid, AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyEntryInitialize(&key, 0, 1, BTEqualStrategyNumber, InvalidOid, index->rd_indcollation[0],
						   F_TEXTEQ, CStringGetTextDatum(text));
	scan = dashie_index_beginscan(rel, index, snapshot, 1);
	index_rescan(scan, &key, 1, NULL, 0);
	slot = table_slot_create(rel, NULL);
	found = index_getnext_slot(scan, ForwardScanDirection, slot);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	index_close(index, NoLock);
	return found;
}

static DashieScan *
scan_alloc(Relation rel)
{
	DashieScan *scan = palloc0(sizeof(DashieScan));

	scan->rel = rel;
	scan->slot = table_slot_create(rel, NULL);
	return scan;
}

DashieScan *
dashie_scan_begin(Relation rel, Snapshot snapshot)
{
	DashieScan *scan = scan_alloc(rel);

	scan->heap = table_beginscan(rel, snapshot, 0, NULL);
	return scan;
}

/* dashie_scan_latest reads the rows that are committed now, whatever the transaction sees. */
DashieScan *
dashie_scan_latest(Relation rel)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	DashieScan *scan = dashie_scan_begin(rel, snapshot);

	scan->own_snapshot = snapshot;
	return scan;
}

DashieScan *
dashie_scan_begin_parallel(Relation rel, ParallelTableScanDesc shared)
{
	DashieScan *scan = scan_alloc(rel);

	scan->heap = table_beginscan_parallel(rel, shared);
	return scan;
}

static void
begin_index(DashieScan *scan, Snapshot snapshot, Oid indexid, TimestampTz from, TimestampTz upto)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(from));
	ScanKeyInit(&keys[1], 1, BTLessStrategyNumber, F_TIMESTAMPTZ_LT, TimestampTzGetDatum(upto));
	scan->index = index_open(indexid, AccessShareLock);
	scan->lookup = dashie_index_beginscan(scan->rel, scan->index, snapshot, 2);
	index_rescan(scan->lookup, keys, 2, NULL, 0);
}

/*
 * dashie_scan_begin_range reads the rows whose column lies in [from, upto):
 * through an index on it where there is one, else by reading the table.
 */
DashieScan *
dashie_scan_begin_range(Relation rel, Snapshot snapshot, const DashieColumn *column,
						TimestampTz from, TimestampTz upto)
{
	DashieScan *scan;
	Oid indexid = dashie_find_index(rel, column->attnum, NULL);

	if (!OidIsValid(indexid))
	{
		scan = dashie_scan_begin(rel, snapshot);
		scan->range_attnum = column->attnum;
		scan->from = from;
		scan->upto = upto;
		return scan;
	}
	scan = scan_alloc(rel);
	begin_index(scan, snapshot, indexid, from, upto);
	return scan;
}

/*
 * dashie_scan_begin_index is the same over a given index, whose first column
 * the caller knows to be a timestamptz.
 */
DashieScan *
dashie_scan_begin_index(Relation rel, Snapshot snapshot, Oid indexid, TimestampTz from,
						TimestampTz upto)
{
	DashieScan *scan = scan_alloc(rel);

	begin_index(scan, snapshot, indexid, from, upto);
	return scan;
}

/*
 * dashie_scan_begin_blocks reads the blocks, each stretch of neighbours in one go.
 */
DashieScan *
dashie_scan_begin_blocks(const DashieBlocks *blocks)
{
	DashieScan *scan = scan_alloc(blocks->rel);

	scan->blocks = blocks;
	return scan;
}

/* Goes on to the next neighbours; false if there are no more. */
static bool
next_blocks(DashieScan *scan)
{
	BlockNumber first;
	BlockNumber last;
	ItemPointerData from;
	ItemPointerData upto;

	while (!dashie_blocks_next(scan->blocks, scan->next_block, scan->end_block, &first, &last))
		if (!dashie_blocks_take(scan->blocks, &scan->next_block, &scan->end_block))
			return false;
	ItemPointerSet(&from, first, FirstOffsetNumber);
	ItemPointerSet(&upto, last, MaxOffsetNumber);
	if (scan->heap == NULL)
		scan->heap = table_beginscan_tidrange(scan->rel, scan->blocks->snapshot, &from, &upto);
	else
		table_rescan_tidrange(scan->heap, &from, &upto);
	scan->next_block = last + 1;
	return true;
}

static bool
next_of_blocks(DashieScan *scan)
{
	while (scan->heap == NULL ||
		   !table_scan_getnextslot_tidrange(scan->heap, ForwardScanDirection, scan->slot))
		if (!next_blocks(scan))
			return false;
	return true;
}

bool
dashie_scan_is_ordered(const DashieScan *scan)
{
	return scan->lookup != NULL;
}

/*
 * ask_ahead asks for the whole block when its first row comes up: a block that
 * is all visible was not looked at, and its rows would be waited for one by one.
 */
static inline void
ask_ahead(DashieScan *scan)
{
	Buffer buffer;
	const char *page;

	if (!TTS_IS_BUFFERTUPLE(scan->slot))
		return;
	buffer = ((BufferHeapTupleTableSlot *) scan->slot)->buffer;
	if (buffer == scan->asked)
		return;
	scan->asked = buffer;
	page = (const char *) BufferGetPage(buffer);
	for (const char *line = page; line < page + BLCKSZ; line += PG_CACHE_LINE_SIZE / 2)
		__builtin_prefetch(line);
}

void
dashie_scan_want(DashieScan *scan, const DashieColumn *columns, int ncolumns)
{
	for (int i = 0; i < ncolumns; i++)
		scan->wanted = Max(scan->wanted, columns[i].attnum);
}

static bool
next_row(DashieScan *scan)
{
	for (;;)
	{
		bool isnull;
		TimestampTz at;

		CHECK_FOR_INTERRUPTS();
		if (scan->lookup != NULL)
			return index_getnext_slot(scan->lookup, ForwardScanDirection, scan->slot);
		if (scan->blocks != NULL
				? !next_of_blocks(scan)
				: !table_scan_getnextslot(scan->heap, ForwardScanDirection, scan->slot))
			return false;
		ask_ahead(scan);
		if (scan->range_attnum == InvalidAttrNumber)
			return true;
		at = DatumGetTimestampTz(slot_getattr(scan->slot, scan->range_attnum, &isnull));
		if (!isnull && at >= scan->from && at < scan->upto)
			return true;
	}
}

bool
dashie_scan_next(DashieScan *scan)
{
	if (!next_row(scan))
		return false;
	if (scan->wanted > 0)
		slot_getsomeattrs(scan->slot, scan->wanted);
	return true;
}

ItemPointer
dashie_scan_tid(DashieScan *scan)
{
	return &scan->slot->tts_tid;
}

void
dashie_scan_end(DashieScan *scan)
{
	ExecDropSingleTupleTableSlot(scan->slot);
	if (scan->lookup != NULL)
	{
		index_endscan(scan->lookup);
		index_close(scan->index, NoLock);
	}
	else if (scan->heap != NULL)
		table_endscan(scan->heap);
	if (scan->own_snapshot != NULL)
		UnregisterSnapshot(scan->own_snapshot);
	pfree(scan);
}
