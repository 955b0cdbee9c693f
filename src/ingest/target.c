/*
 * target.c
 *		The partitions that a batch goes to.
 *
 * Rows go in with one multi-insert a partition, and the index entries with
 * them, as COPY does it.  That passes by what SQL would run for each row, so
 * it is done only where nothing is to be run: no trigger but those of the
 * foreign keys (parents.c does their work) and the one that marks the days of
 * events as changed (done here), no rule, no forced row level
 * security, no column that we do not know and that wants a value.  Otherwise
 * the rows go the ordinary way, with one INSERT.
 *
 * Partitions are never made here: DDL inside an inserting transaction
 * deadlocks.  Events without one are rejected to be sent again, and the
 * caller asks the worker for it.
 *
 * Locks: ROW EXCLUSIVE on the table, then on the partitions used.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/arrays.h"
#include "common/compat.h"
#include "common/query.h"
#include "common/relation.h"
#include "events/events.h"
#include "ingest/ingest.h"
#include "metrics/marks.h"

/* Rows written at once: each needs a slot, and some blocks are enough. */
#define FLUSH_ROWS 128
/* Rows whose index entries are made at once: more of them have like keys. */
#define INDEX_ROWS (8 * FLUSH_ROWS)

enum
{
	COLUMN_ID,
	COLUMN_USER,
	COLUMN_DASHBOARD,
	COLUMN_SESSION,
	COLUMN_WIDGET,
	COLUMN_TYPE,
	COLUMN_DATA,
	COLUMN_DURATION,
	COLUMN_TIME,
	EVENT_COLUMNS
};

static const struct
{
	const char *name;
	Oid type;
} event_columns[EVENT_COLUMNS] = {
	{"id", UUIDOID},		  {"user_id", UUIDOID},			 {"dashboard_id", UUIDOID},
	{"session_id", UUIDOID},  {"widget_type", TEXTOID},		 {"event_type", TEXTOID},
	{"event_data", JSONBOID}, {"duration_seconds", INT4OID}, {"timestamp", TIMESTAMPTZOID},
};

/* A partition, opened when the first event needs it. */
typedef struct EventLeaf
{
	Relation rel; /* NULL: not opened */
	bool plain;	  /* rows may be put in directly */
	DashieColumn columns[EVENT_COLUMNS];
	ResultRelInfo *result;
	bool index_rows; /* index by index */
	WrittenRows written;
	TupleTableSlot **slots;
	int nslots;
} EventLeaf;

struct EventTarget
{
	Relation rel;
	PartitionKey key;
	PartitionDesc partitions;
	EventLeaf *leaves; /* as in "partitions" */
	bool plain;
	bool incomplete;
	EState *estate;
};

/* Triggers that a direct insert would pass by: not the one whose work is done here. */
static bool
has_own_triggers(Relation rel)
{
	TriggerDesc *triggers = rel->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		if (!triggers->triggers[i].tgisinternal &&
			TRIGGER_FOR_INSERT(triggers->triggers[i].tgtype) &&
			triggers->triggers[i].tgenabled != TRIGGER_DISABLED &&
			!dashie_is_events_trigger(triggers->triggers[i].tgfoid))
			return true;
	return false;
}

/* Whether a column that we do not fill wants a value. */
static bool
has_other_columns(Relation rel, const DashieColumn *columns)
{
	TupleDesc desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		bool ours = attribute->attisdropped;

		for (int j = 0; j < EVENT_COLUMNS && !ours; j++)
			ours = columns[j].attnum == attribute->attnum;
		if (!ours &&
			(attribute->atthasdef || attribute->attidentity != '\0' || attribute->attnotnull))
			return true;
		if (ours && attribute->attgenerated != '\0')
			return true;
	}
	return false;
}

/*
 * target_open looks at widget_analytics, as its owner.  "parents_locked": the
 * foreign keys need no check of their own.
 */
EventTarget *
target_open(Relation widget_analytics, bool parents_locked)
{
	EventTarget *target = palloc0(sizeof(EventTarget));

	target->rel = widget_analytics;
	target->key = RelationGetPartitionKey(widget_analytics);
	target->partitions = RelationGetPartitionDesc(widget_analytics, true);
	target->leaves = palloc0(Max(target->partitions->nparts, 1) * sizeof(EventLeaf));
	target->plain = parents_locked && !has_own_triggers(widget_analytics) &&
					widget_analytics->rd_rules == NULL &&
					!widget_analytics->rd_rel->relforcerowsecurity;
	target->estate = CreateExecutorState();
	return target;
}

bool
target_incomplete(const EventTarget *target)
{
	return target->incomplete;
}

void
target_close(EventTarget *target)
{
	for (int i = 0; i < target->partitions->nparts; i++)
	{
		EventLeaf *leaf = &target->leaves[i];

		if (leaf->rel == NULL)
			continue;
		for (int j = 0; j < leaf->nslots; j++)
			ExecDropSingleTupleTableSlot(leaf->slots[j]);
		if (leaf->result != NULL)
			ExecCloseIndices(leaf->result);
		table_close(leaf->rel, NoLock);
	}
	FreeExecutorState(target->estate);
	pfree(target->leaves);
	pfree(target);
}

static EventLeaf *
open_leaf(EventTarget *target, int number)
{
	EventLeaf *leaf = &target->leaves[number];

	if (leaf->rel != NULL)
		return leaf;
	leaf->rel = table_open(target->partitions->oids[number], RowExclusiveLock);
	for (int i = 0; i < EVENT_COLUMNS; i++)
	{
		leaf->columns[i].name = event_columns[i].name;
		leaf->columns[i].type = event_columns[i].type;
		leaf->columns[i].required = true;
	}
	dashie_relation_columns(leaf->rel, leaf->columns, EVENT_COLUMNS);
	leaf->plain = target->plain && leaf->rel->rd_rel->relkind == RELKIND_RELATION &&
				  leaf->rel->rd_rules == NULL && !has_own_triggers(leaf->rel) &&
				  !has_other_columns(leaf->rel, leaf->columns) &&
				  list_length(RelationGetFKeyList(leaf->rel)) ==
					  list_length(RelationGetFKeyList(target->rel));
	return leaf;
}

/* The partition of an instant, or -1. */
static int
leaf_of(EventTarget *target, TimestampTz at)
{
	PartitionBoundInfo bounds = target->partitions->boundinfo;
	Datum value = TimestampTzGetDatum(at);
	bool equal;
	int offset;
	int leaf;

	if (target->partitions->nparts == 0)
		return -1;
	offset = partition_range_datum_bsearch(target->key->partsupfunc, target->key->partcollation,
										   bounds, 1, &value, &equal);
	leaf = bounds->indexes[offset + 1];
	return leaf >= 0 ? leaf : bounds->default_index;
}

static void
fill_row(const EventLeaf *leaf, const EventBatch *batch, const WidgetEvent *event,
		 TupleTableSlot *slot)
{
	const DashieColumn *columns = leaf->columns;
	Datum *values = slot->tts_values;
	bool *nulls = slot->tts_isnull;

#define PUT(column, present, value) \
	(values[columns[column].attnum - 1] = (value), nulls[columns[column].attnum - 1] = !(present))

	ExecClearTuple(slot);
	memset(nulls, true, slot->tts_tupleDescriptor->natts);
	PUT(COLUMN_ID, true, UUIDPGetDatum(&event->id));
	PUT(COLUMN_USER, true, UUIDPGetDatum(&batch->user));
	PUT(COLUMN_DASHBOARD, event->has_dashboard, UUIDPGetDatum(&event->dashboard));
	PUT(COLUMN_SESSION, batch->has_session, UUIDPGetDatum(&batch->session));
	PUT(COLUMN_WIDGET, true, event->widget_type);
	PUT(COLUMN_TYPE, true, event->event_type);
	PUT(COLUMN_DATA, event->event_data != 0, event->event_data);
	PUT(COLUMN_DURATION, event->has_duration, Int32GetDatum(event->duration));
	PUT(COLUMN_TIME, true, TimestampTzGetDatum(event->at));
#undef PUT
	ExecStoreVirtualTuple(slot);
}

static void
index_written(EventTarget *target, EventLeaf *leaf)
{
	if (leaf->written.nrows > 0)
		index_rows(leaf->result, target->estate, &leaf->written);
	leaf->written.nrows = 0;
}

/* The values of a row, for its index entries: once it is written, the slot has others. */
static void
remember_row(EventLeaf *leaf, int number)
{
	WrittenRows *written = &leaf->written;
	int natts = written->desc->natts;
	int place = (written->nrows + number) * natts;

	memcpy(&written->values[place], leaf->slots[number]->tts_values, natts * sizeof(Datum));
	memcpy(&written->nulls[place], leaf->slots[number]->tts_isnull, natts * sizeof(bool));
}

/* Writes rows that stand in the partition's slots, and their index entries. */
static void
flush_rows(EventTarget *target, EventLeaf *leaf, int nrows)
{
	MemoryContext old;

	if (nrows == 0)
		return;
	/* the access method leaks what it builds the rows with */
	old = MemoryContextSwitchTo(GetPerTupleMemoryContext(target->estate));
	table_multi_insert(leaf->rel, leaf->slots, nrows, GetCurrentCommandId(true), 0, NULL);
	MemoryContextSwitchTo(old);
	ResetPerTupleExprContext(target->estate);

	for (int i = 0; i < nrows; i++)
	{
		if (leaf->index_rows)
			leaf->written.places[leaf->written.nrows++] = leaf->slots[i]->tts_tid;
		else if (leaf->result->ri_NumIndices > 0)
			list_free(dashie_insert_index_tuples(leaf->result, leaf->slots[i], target->estate));
		ExecClearTuple(leaf->slots[i]);
		ResetPerTupleExprContext(target->estate);
	}
	if (leaf->written.nrows == INDEX_ROWS)
		index_written(target, leaf);
}

static void
insert_directly(EventTarget *target, EventLeaf *leaf, EventBatch *batch, int number)
{
	int nrows = 0;

	if (leaf->result == NULL)
	{
		leaf->result = makeNode(ResultRelInfo);
		InitResultRelInfo(leaf->result, leaf->rel, 0, NULL, 0);
		ExecOpenIndices(leaf->result, false);
		leaf->index_rows = index_rows_possible(leaf->result);
		leaf->slots = palloc(FLUSH_ROWS * sizeof(TupleTableSlot *));
		leaf->written.desc = RelationGetDescr(leaf->rel);
		leaf->written.values = palloc(INDEX_ROWS * leaf->written.desc->natts * sizeof(Datum));
		leaf->written.nulls = palloc(INDEX_ROWS * leaf->written.desc->natts * sizeof(bool));
		leaf->written.places = palloc(INDEX_ROWS * sizeof(ItemPointerData));
	}
	for (int i = 0; i < batch->nevents; i++)
	{
		WidgetEvent *event = &batch->events[i];

		if (event->dropped || event->leaf != number)
			continue;
		if (nrows == leaf->nslots)
			leaf->slots[leaf->nslots++] = table_slot_create(leaf->rel, NULL);
		fill_row(leaf, batch, event, leaf->slots[nrows]);
		if (leaf->index_rows)
			remember_row(leaf, nrows);
		dashie_marks_collect(MARK_EVENTS, event->at, event->at);
		if (leaf->rel->rd_att->constr != NULL)
		{
			ExecConstraints(leaf->result, leaf->slots[nrows], target->estate);
			ResetPerTupleExprContext(target->estate);
		}
		if (++nrows == FLUSH_ROWS)
		{
			flush_rows(target, leaf, nrows);
			nrows = 0;
		}
		batch->inserted++;
	}
	flush_rows(target, leaf, nrows);
	index_written(target, leaf);
}

/* One INSERT, of the events whose partitions do not take them directly. */
static void
insert_with_sql(EventTarget *target, EventBatch *batch, int count)
{
	Oid types[EVENT_COLUMNS];
	DashieArrays rows;

	for (int i = 0; i < EVENT_COLUMNS; i++)
		types[i] = event_columns[i].type;
	dashie_arrays_init(&rows, types, EVENT_COLUMNS, count);
	for (int i = 0; i < batch->nevents; i++)
	{
		WidgetEvent *event = &batch->events[i];
		int row = rows.nrows;

		if (event->dropped || target->leaves[event->leaf].plain)
			continue;
		rows.values[COLUMN_ID][row] = UUIDPGetDatum(&event->id);
		rows.values[COLUMN_USER][row] = UUIDPGetDatum(&batch->user);
		rows.values[COLUMN_DASHBOARD][row] = UUIDPGetDatum(&event->dashboard);
		rows.nulls[COLUMN_DASHBOARD][row] = !event->has_dashboard;
		rows.values[COLUMN_SESSION][row] = UUIDPGetDatum(&batch->session);
		rows.nulls[COLUMN_SESSION][row] = !batch->has_session;
		rows.values[COLUMN_WIDGET][row] = event->widget_type;
		rows.values[COLUMN_TYPE][row] = event->event_type;
		rows.values[COLUMN_DATA][row] = event->event_data;
		rows.nulls[COLUMN_DATA][row] = event->event_data == 0;
		rows.values[COLUMN_DURATION][row] = Int32GetDatum(event->duration);
		rows.nulls[COLUMN_DURATION][row] = !event->has_duration;
		rows.values[COLUMN_TIME][row] = TimestampTzGetDatum(event->at);
		rows.nrows++;
	}
	dashie_arrays_finish(&rows);

	/* policies that the owner forces upon themselves are theirs to satisfy */
	(void) set_config_option("row_security", "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	dashie_query_begin();
	batch->inserted += (int64) dashie_query(
		psprintf("INSERT INTO %s (id, user_id, dashboard_id, session_id, widget_type, event_type,"
				 " event_data, duration_seconds, \"timestamp\")"
				 " SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9)",
				 dashie_relation_name(RelationGetRelid(target->rel))),
		EVENT_COLUMNS, rows.parameter_types, rows.parameters, NULL);
	dashie_query_end();
}

/* Stored before this call, or by it. */
static bool
is_duplicate(const WidgetEvent *event)
{
	if (event->stored)
		return true;
	for (const WidgetEvent *before = event->before; before != NULL; before = before->before)
		if (!before->dropped)
			return true;
	return false;
}

/*
 * target_store stores the events of a batch that are not stored yet, after
 * duplicates_find() has looked for them.  Events without a partition are
 * rejected.
 */
void
target_store(EventTarget *target, EventBatch *batch)
{
	int nparts = target->partitions->nparts;
	int *counts = palloc0(Max(nparts, 1) * sizeof(int));
	int ordinary = 0;

	for (int i = 0; i < batch->nevents; i++)
	{
		WidgetEvent *event = &batch->events[i];

		if (is_duplicate(event))
		{
			event->dropped = true;
			batch->duplicates++;
			continue;
		}
		event->leaf = leaf_of(target, event->at);
		if (event->leaf < 0)
		{
			event->dropped = true;
			target->incomplete = true;
			events_reject(batch, event->index, true, "there is no partition for its time yet");
			continue;
		}
		counts[event->leaf]++;
	}
	for (int number = 0; number < nparts; number++)
	{
		EventLeaf *leaf;

		if (counts[number] == 0)
			continue;
		leaf = open_leaf(target, number);
		if (leaf->plain)
			insert_directly(target, leaf, batch, number);
		else
			ordinary += counts[number];
	}
	if (ordinary > 0)
		insert_with_sql(target, batch, ordinary);
	CommandCounterIncrement();
	pfree(counts);
}
