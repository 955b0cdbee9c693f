/*
 * bulk.c
 *		Many rows into one of our own tables, through the table access method.
 *
 * An INSERT ... SELECT FROM unnest() writes each row twice, into a tuplestore
 * and into the table; this writes pages of rows, as COPY does.  Run as the
 * owner of the table, who may have added indexes to it: they are kept.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "common/bulk.h"
#include "common/compat.h"
#include "common/relation.h"

/* Some pages of rows.  Each takes a slot, which a call makes and the resource owner remembers. */
#define ROWS_AT_ONCE 128

/* attnums[i] is where column i of the rows goes; false if that is not all there is to it. */
static bool
is_plain(Relation rel, const char *const *columns, const DashieArrays *rows, AttrNumber *attnums)
{
	TupleDesc desc = RelationGetDescr(rel);

	if (rel->trigdesc != NULL || rel->rd_rules != NULL || desc->natts != rows->ncolumns ||
		(desc->constr != NULL &&
		 (desc->constr->num_check > 0 || desc->constr->has_generated_stored)))
		return false;
	for (int i = 0; i < rows->ncolumns; i++)
	{
		attnums[i] = get_attnum(RelationGetRelid(rel), columns[i]);
		if (attnums[i] == InvalidAttrNumber ||
			TupleDescAttr(desc, attnums[i] - 1)->atttypid != rows->types[i])
			return false;
	}
	return true;
}

/*
 * Whether the entries of the indexes are made without evaluating anything: what an
 * expression calls may be refused while parallel workers run.
 */
static bool
indexes_are_plain(Relation rel)
{
	bool plain = true;
	ListCell *lc;

	foreach (lc, RelationGetIndexList(rel))
	{
		Relation index = index_open(lfirst_oid(lc), AccessShareLock);
		List *predicate = RelationGetIndexPredicate(index);

		plain &= RelationGetIndexExpressions(index) == NIL &&
				 (predicate == NIL || IsA(linitial(predicate), Var));
		index_close(index, NoLock);
	}
	return plain;
}

bool
dashie_bulk_may_insert(Oid relid, const char *const *columns, const DashieArrays *rows)
{
	Relation rel = dashie_relation_open(relid, RowExclusiveLock, ACL_INSERT, false);
	AttrNumber attnums[DASHIE_MAX_ARRAYS];
	bool plain = is_plain(rel, columns, rows, attnums) && indexes_are_plain(rel);

	table_close(rel, NoLock);
	return plain;
}

/* NULL for a column that does not allow it. */
static void
reject_null(Relation rel, AttrNumber attnum)
{
	Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(rel), attnum - 1);

	if (attribute->attnotnull)
		ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
						errmsg("null value in column \"%s\" of relation \"%s\" violates not-null "
							   "constraint",
							   NameStr(attribute->attname), RelationGetRelationName(rel)),
						errtablecol(rel, attnum)));
}

bool
dashie_bulk_insert(Oid relid, const char *const *columns, const DashieArrays *rows)
{
	Relation rel = dashie_relation_open(relid, RowExclusiveLock, ACL_INSERT, false);
	AttrNumber attnums[DASHIE_MAX_ARRAYS];
	MemoryContext context;
	MemoryContext old;
	EState *estate;
	ResultRelInfo *target;
	BulkInsertState state;
	CommandId command = GetCurrentCommandId(true);
	TupleTableSlot *slots[ROWS_AT_ONCE];
	int nslots = Min(rows->nrows, ROWS_AT_ONCE);

	if (!is_plain(rel, columns, rows, attnums))
	{
		table_close(rel, NoLock);
		return false;
	}
	context =
		AllocSetContextCreate(CurrentMemoryContext, "dashie bulk insert", ALLOCSET_DEFAULT_SIZES);
	estate = CreateExecutorState();
	target = makeNode(ResultRelInfo);
	target->ri_RangeTableIndex = 0; /* no range table */
	target->ri_RelationDesc = rel;
	ExecOpenIndices(target, false);
	state = GetBulkInsertState();
	for (int i = 0; i < nslots; i++)
		slots[i] = table_slot_create(rel, NULL);

	for (int first = 0; first < rows->nrows; first += ROWS_AT_ONCE)
	{
		int n = Min(rows->nrows - first, ROWS_AT_ONCE);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < n; i++)
		{
			ExecClearTuple(slots[i]);
			for (int j = 0; j < rows->ncolumns; j++)
			{
				slots[i]->tts_values[attnums[j] - 1] = rows->values[j][first + i];
				slots[i]->tts_isnull[attnums[j] - 1] = rows->nulls[j][first + i];
				if (rows->nulls[j][first + i])
					reject_null(rel, attnums[j]);
			}
			ExecStoreVirtualTuple(slots[i]);
		}
		old = MemoryContextSwitchTo(context);
		table_multi_insert(rel, slots, n, command, 0, state);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
		for (int i = 0; target->ri_NumIndices > 0 && i < n; i++)
		{
			ResetPerTupleExprContext(estate);
			list_free(dashie_insert_index_tuples(target, slots[i], estate));
		}
	}

	table_finish_bulk_insert(rel, 0);
	FreeBulkInsertState(state);
	for (int i = 0; i < nslots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	ExecCloseIndices(target);
	FreeExecutorState(estate);
	MemoryContextDelete(context);
	table_close(rel, NoLock);
	return true;
}
