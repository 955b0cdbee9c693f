/*
 * marks.c
 *		Which time a transaction changed: the marks that tell a refresh which
 *		days to compute again.
 *
 * The protocol:
 *
 * 1. A row trigger on user_sessions collects, in memory, the range of time
 *    [start, covered end] of each row that a statement adds, changes (old and
 *    new; if only the end moved, what lies between the two ends) or removes;
 *    TRUNCATE collects all time.  Ranges less than 22 hours apart are one
 *    range: no day of any time zone is shorter than 23 hours, so joining them
 *    reaches no day that the two do not touch, and a transaction has few
 *    ranges however many rows it writes.  No time zone is needed.
 * 2. Before the transaction commits or is prepared, each range is inserted
 *    into dashie.changed_range: in the same transaction, so that a mark is
 *    visible exactly when its rows are.  The table is insert-only and has no
 *    index: inserters never wait for each other.
 * 3. A refresh takes one snapshot, sets "dirty" on every page that a visible
 *    mark touches, deletes the marks that it saw, and reads the rows with that
 *    same snapshot.  What commits later brings a mark that the next refresh
 *    sees.  Refreshes exclude each other by a lock on dashie.day_page.
 *
 * The abort of a subtransaction leaves its ranges in place: that marks too
 * much, never too little.  The abort of the transaction drops all.
 *
 * Heartbeats follow the same way into dashie.heartbeat_seen: the first one of
 * each day of a dashboard, since the dashboard's row keeps only the last.
 *
 * Rows are written with the table access method and not with SQL: whoever
 * causes the change (a cascade from Auth, an API role) has no rights on our
 * tables, and no code that the tables' owner may have attached must run with
 * the rights of whoever commits.  Where the table is missing no metrics are
 * enabled, and nothing is to be remembered; enable() makes it with a mark
 * over all time.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "common/day.h"
#include "common/relation.h"
#include "metrics/marks.h"
#include "metrics/metrics.h"

PG_FUNCTION_INFO_V1(dashie_sessions_changed);
PG_FUNCTION_INFO_V1(dashie_heartbeat_changed);

#define JOIN_GAP (22 * USECS_PER_HOUR)
#define SLOT (15 * USECS_PER_MINUTE)

typedef struct Range
{
	TimestampTz from;
	TimestampTz upto;
} Range;

typedef struct Heartbeat
{
	pg_uuid_t dashboard;
	pg_uuid_t user;
	TimestampTz at;
} Heartbeat;

/* What the current transaction has collected; in TopTransactionContext. */
static Range *ranges = NULL; /* sorted, more than JOIN_GAP apart */
static int nranges = 0;
static int ranges_size = 0;
static Heartbeat *heartbeats = NULL;
static int nheartbeats = 0;
static int heartbeats_size = 0;
static pg_tz *heartbeat_zone = NULL;

/* Columns of user_sessions that the metrics read. */
static const char *const session_columns[] = {
	"started_at", "ended_at", "last_activity_at", "user_id", "dashboard_id", "country_code", "id"};
#define SESSION_COLUMNS lengthof(session_columns)
#define COLUMN_ENDED 1
#define COLUMN_LAST_ACTIVITY 2

typedef struct SessionColumns
{
	int attnum[SESSION_COLUMNS];
} SessionColumns;

/* Instants far enough apart, without overflow at the infinities. */
static bool
apart(TimestampTz earlier, TimestampTz later)
{
	int64 gap;

	return earlier < later && (pg_sub_s64_overflow(later, earlier, &gap) || gap >= JOIN_GAP);
}

static void
collect_range(TimestampTz from, TimestampTz upto)
{
	int first = 0; /* first range that does not end far before */
	int last;	   /* the one after the last that joins */

	if (upto < from)
	{
		TimestampTz swap = from;

		from = upto;
		upto = swap;
	}

	/* nearly always the row falls into the range that the last one did */
	while (first < nranges && apart(ranges[first].upto, from))
		first++;
	last = first;
	while (last < nranges && !apart(upto, ranges[last].from))
	{
		from = Min(from, ranges[last].from);
		upto = Max(upto, ranges[last].upto);
		last++;
	}

	if (last == first)
	{
		if (nranges == ranges_size)
		{
			MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

			ranges_size = Max(8, ranges_size * 2);
			ranges = ranges == NULL ? palloc(ranges_size * sizeof(Range))
									: repalloc(ranges, ranges_size * sizeof(Range));
			MemoryContextSwitchTo(old);
		}
		memmove(ranges + first + 1, ranges + first, (nranges - first) * sizeof(Range));
		nranges++;
	}
	else
	{
		memmove(ranges + first + 1, ranges + last, (nranges - last) * sizeof(Range));
		nranges -= last - first - 1;
	}
	ranges[first].from = from;
	ranges[first].upto = upto;
}

/* The time that a session covers; false for a row without a start. */
static bool
row_span(const SessionColumns *columns, HeapTuple row, TupleDesc desc, Range *span)
{
	bool isnull;
	Datum value;

	value = heap_getattr(row, columns->attnum[0], desc, &isnull);
	if (isnull)
		return false;
	span->from = span->upto = DatumGetTimestampTz(value);
	for (int i = COLUMN_ENDED; i <= COLUMN_LAST_ACTIVITY; i++)
	{
		if (columns->attnum[i] <= 0)
			continue;
		value = heap_getattr(row, columns->attnum[i], desc, &isnull);
		if (!isnull)
		{
			span->upto = DatumGetTimestampTz(value);
			break;
		}
	}
	return true;
}

static void
collect_row(const SessionColumns *columns, HeapTuple row, TupleDesc desc)
{
	Range span;

	if (row_span(columns, row, desc, &span))
		collect_range(span.from, span.upto);
}

/* The columns that an update changed, a bit each. */
static int
changed_columns(const SessionColumns *columns, HeapTuple old, HeapTuple new, TupleDesc desc)
{
	int changed = 0;

	for (int i = 0; i < SESSION_COLUMNS; i++)
	{
		bool old_null;
		bool new_null;
		Datum old_value;
		Datum new_value;
		Form_pg_attribute attr;

		if (columns->attnum[i] <= 0)
			continue;
		attr = TupleDescAttr(desc, columns->attnum[i] - 1);
		old_value = heap_getattr(old, columns->attnum[i], desc, &old_null);
		new_value = heap_getattr(new, columns->attnum[i], desc, &new_null);
		if (old_null != new_null ||
			(!old_null && !datum_image_eq(old_value, new_value, attr->attbyval, attr->attlen)))
			changed |= 1 << i;
	}
	return changed;
}

/*
 * collect_update collects what an update changed.  A touch moves nothing but
 * the end of a session: the days before the earlier end stay as they were, but
 * for the day of the start, which counts ended sessions.  A TV that runs for
 * months would otherwise mark all its days every minute, and retention would
 * wait for them for ever.
 */
static void
collect_update(const SessionColumns *columns, HeapTuple old, HeapTuple new, TupleDesc desc)
{
	int changed = changed_columns(columns, old, new, desc);
	Range before;
	Range after;

	if (changed == 0)
		return;
	if ((changed & ~(1 << COLUMN_ENDED | 1 << COLUMN_LAST_ACTIVITY)) != 0 ||
		!row_span(columns, old, desc, &before) || !row_span(columns, new, desc, &after))
	{
		collect_row(columns, old, desc);
		collect_row(columns, new, desc);
		return;
	}
	if (before.upto != after.upto)
		collect_range(before.upto, after.upto);
	if (changed & 1 << COLUMN_ENDED)
		collect_range(after.from, after.from);
}

static TriggerData *
trigger_data(FunctionCallInfo fcinfo, const char *function)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function \"%s\" must be called as an AFTER trigger", function)));
	return data;
}

Datum
dashie_sessions_changed(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo, "dashie.sessions_changed");
	SessionColumns *columns = fcinfo->flinfo->fn_extra;
	TupleDesc desc = RelationGetDescr(data->tg_relation);

	if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
	{
		collect_range(DT_NOBEGIN, DT_NOEND);
		return PointerGetDatum(NULL);
	}
	if (!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"dashie.sessions_changed\" must be called for each row")));

	if (columns == NULL)
	{
		columns = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(SessionColumns));
		for (int i = 0; i < SESSION_COLUMNS; i++)
			columns->attnum[i] = SPI_fnumber(desc, session_columns[i]);
		for (int i = 0; i < 3; i++)
			if (columns->attnum[i] > 0 && SPI_gettypeid(desc, columns->attnum[i]) != TIMESTAMPTZOID)
				columns->attnum[i] = 0;
		if (columns->attnum[0] <= 0)
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("table \"%s\" has no column \"started_at\" of type timestamptz",
								   RelationGetRelationName(data->tg_relation))));
		fcinfo->flinfo->fn_extra = columns;
	}

	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		collect_update(columns, data->tg_trigtuple, data->tg_newtuple, desc);
	else
		collect_row(columns, data->tg_trigtuple, desc);
	return PointerGetDatum(NULL);
}

/*
 * new_day says whether two heartbeats of a dashboard lie in different days.
 * Inside one quarter of an hour of UTC they cannot: configure('timezone')
 * admits no zone whose days begin elsewhere.
 */
static bool
new_day(TimestampTz before, TimestampTz now)
{
	if (before / SLOT == now / SLOT && (before < 0) == (now < 0))
		return false;
	if (heartbeat_zone == NULL)
		heartbeat_zone = dashie_timezone();
	return dashie_day_of(before, heartbeat_zone) != dashie_day_of(now, heartbeat_zone);
}

static Datum
required_field(HeapTuple row, TupleDesc desc, const char *name, Oid type, bool *isnull)
{
	int attnum = SPI_fnumber(desc, name);

	if (attnum <= 0 || SPI_gettypeid(desc, attnum) != type)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"dashboards\" has no column \"%s\" of type %s", name,
							   format_type_be(type))));
	return heap_getattr(row, attnum, desc, isnull);
}

Datum
dashie_heartbeat_changed(PG_FUNCTION_ARGS)
{
	TriggerData *data = trigger_data(fcinfo, "dashie.heartbeat_changed");
	TupleDesc desc = RelationGetDescr(data->tg_relation);
	bool update = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
	HeapTuple row = update ? data->tg_newtuple : data->tg_trigtuple;
	Heartbeat *heartbeat;
	TimestampTz at;
	bool isnull;
	Datum value;

	if (!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"dashie.heartbeat_changed\" must be called for each row")));

	value = required_field(row, desc, "last_heartbeat_at", TIMESTAMPTZOID, &isnull);
	if (isnull)
		return PointerGetDatum(NULL);
	at = DatumGetTimestampTz(value);
	if (TIMESTAMP_NOT_FINITE(at))
		return PointerGetDatum(NULL);
	if (update)
	{
		value =
			required_field(data->tg_trigtuple, desc, "last_heartbeat_at", TIMESTAMPTZOID, &isnull);
		if (!isnull && !new_day(DatumGetTimestampTz(value), at))
			return PointerGetDatum(NULL);
	}

	if (nheartbeats == heartbeats_size)
	{
		MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

		heartbeats_size = Max(8, heartbeats_size * 2);
		heartbeats = heartbeats == NULL
						 ? palloc(heartbeats_size * sizeof(Heartbeat))
						 : repalloc_huge(heartbeats, heartbeats_size * sizeof(Heartbeat));
		MemoryContextSwitchTo(old);
	}
	heartbeat = &heartbeats[nheartbeats];
	value = required_field(row, desc, "id", UUIDOID, &isnull);
	if (isnull)
		return PointerGetDatum(NULL);
	heartbeat->dashboard = *DatumGetUUIDP(value);
	value = required_field(row, desc, "user_id", UUIDOID, &isnull);
	if (isnull)
		return PointerGetDatum(NULL);
	heartbeat->user = *DatumGetUUIDP(value);
	heartbeat->at = at;
	nheartbeats++;
	return PointerGetDatum(NULL);
}

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
insert_row(Relation rel, TupleTableSlot *slot, Datum *values, int natts)
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

static void
write_marks(void)
{
	static const Oid range_types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	static const Oid heartbeat_types[] = {UUIDOID, UUIDOID, TIMESTAMPTZOID};
	Relation rel;
	TupleTableSlot *slot;

	if (nranges > 0 && (rel = open_marks("changed_range", range_types, 2)) != NULL)
	{
		slot = table_slot_create(rel, NULL);
		for (int i = 0; i < nranges; i++)
		{
			Datum values[2] = {TimestampTzGetDatum(ranges[i].from),
							   TimestampTzGetDatum(ranges[i].upto)};

			insert_row(rel, slot, values, 2);
		}
		ExecDropSingleTupleTableSlot(slot);
		table_close(rel, NoLock);
	}
	if (nheartbeats > 0 && (rel = open_marks("heartbeat_seen", heartbeat_types, 3)) != NULL)
	{
		slot = table_slot_create(rel, NULL);
		for (int i = 0; i < nheartbeats; i++)
		{
			Datum values[3] = {UUIDPGetDatum(&heartbeats[i].dashboard),
							   UUIDPGetDatum(&heartbeats[i].user),
							   TimestampTzGetDatum(heartbeats[i].at)};

			insert_row(rel, slot, values, 3);
		}
		ExecDropSingleTupleTableSlot(slot);
		table_close(rel, NoLock);
	}
}

static void
marks_at_xact_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			if (nranges > 0 || nheartbeats > 0)
				write_marks();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			ranges = NULL;
			heartbeats = NULL;
			heartbeat_zone = NULL;
			nranges = ranges_size = nheartbeats = heartbeats_size = 0;
			break;
		default:
			break;
	}
}

/*
 * dashie_marks_flush writes what was collected so far; what follows is written
 * at the end.  In a subtransaction, which may yet abort and take the written
 * marks along, they are written again at the end.
 */
void
dashie_marks_flush(void)
{
	if (nranges == 0 && nheartbeats == 0)
		return;
	write_marks();
	if (GetCurrentTransactionNestLevel() == 1)
		nranges = nheartbeats = 0;
	CommandCounterIncrement();
}

void
dashie_marks_init(void)
{
	RegisterXactCallback(marks_at_xact_event, NULL);
}
