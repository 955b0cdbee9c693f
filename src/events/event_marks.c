/*
 * event_marks.c
 *		Which days of events a transaction changed.
 *
 * The trigger runs as whoever writes: a cascade from Auth, an API role, COPY.
 * It only collects; metrics/marks.c has the protocol, and writes the marks
 * before the commit.  track() writes past the executor and collects what it
 * stored itself (ingest/target.c).
 *
 * TRUNCATE of the table marks all time.  A partition that is emptied by
 * itself, dropped or detached marks nothing: that is how retention works, and
 * the days stay as they were counted.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "events/events.h"
#include "metrics/marks.h"

PG_FUNCTION_INFO_V1(dashie_events_changed);

#define TRIGGER_FUNCTION "events_changed"

/* Columns of widget_analytics that a page is made from. */
static const char *const read_columns[] = {"timestamp", "user_id", "widget_type", "event_type",
										   "duration_seconds"};
#define COLUMN_TIME 0

/* Where they are in one partition; partitions may differ. */
typedef struct EventColumns
{
	int attnum[lengthof(read_columns)]; /* 0 where missing */
} EventColumns;

bool
dashie_is_events_trigger(Oid function)
{
	char *name = get_func_name(function);
	char *schema = name != NULL && strcmp(name, TRIGGER_FUNCTION) == 0
					   ? get_namespace_name(get_func_namespace(function))
					   : NULL;

	return schema != NULL && strcmp(schema, "dashie") == 0;
}

static EventColumns *
find_columns(Relation rel, MemoryContext context)
{
	EventColumns *columns = MemoryContextAlloc(context, sizeof(EventColumns));
	TupleDesc desc = RelationGetDescr(rel);

	for (int i = 0; i < lengthof(read_columns); i++)
		columns->attnum[i] = Max(SPI_fnumber(desc, read_columns[i]), 0);
	if (columns->attnum[COLUMN_TIME] == 0 ||
		TupleDescAttr(desc, columns->attnum[COLUMN_TIME] - 1)->atttypid != TIMESTAMPTZOID)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"%s\" has no column \"timestamp\" of type timestamptz",
							   RelationGetRelationName(rel))));
	return columns;
}

static void
collect_row(const EventColumns *columns, HeapTuple row, TupleDesc desc)
{
	bool isnull;
	TimestampTz at =
		DatumGetTimestampTz(heap_getattr(row, columns->attnum[COLUMN_TIME], desc, &isnull));

	if (!isnull)
		dashie_marks_collect(MARK_EVENTS, at, at);
}

static bool
is_changed(const EventColumns *columns, HeapTuple old, HeapTuple new, TupleDesc desc)
{
	for (int i = 0; i < lengthof(read_columns); i++)
		if (dashie_mark_changed(old, new, columns->attnum[i], desc))
			return true;
	return false;
}

Datum
dashie_events_changed(PG_FUNCTION_ARGS)
{
	TriggerData *data = dashie_trigger_data(fcinfo, "dashie." TRIGGER_FUNCTION);
	TupleDesc desc = RelationGetDescr(data->tg_relation);
	EventColumns *columns = fcinfo->flinfo->fn_extra;

	if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
	{
		dashie_marks_collect(MARK_EVENTS, DT_NOBEGIN, DT_NOEND);
		return PointerGetDatum(NULL);
	}
	if (!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"dashie." TRIGGER_FUNCTION "\" must be called for each row")));

	/* found once a statement and partition */
	if (columns == NULL)
		fcinfo->flinfo->fn_extra = columns =
			find_columns(data->tg_relation, fcinfo->flinfo->fn_mcxt);

	if (!TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		collect_row(columns, data->tg_trigtuple, desc);
	else if (is_changed(columns, data->tg_trigtuple, data->tg_newtuple, desc))
	{
		collect_row(columns, data->tg_trigtuple, desc);
		collect_row(columns, data->tg_newtuple, desc);
	}
	return PointerGetDatum(NULL);
}
