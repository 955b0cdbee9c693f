/*
 * marks.c
 *		Which time a transaction changed: the marks that tell a refresh which
 *		days to compute again.
 *
 * The protocol.  A transaction T that changes sessions, a refresh R:
 *
 * 1. A row trigger on user_sessions collects, in memory, the range of time
 *    [start, covered end] of each row that a statement adds, changes (old and
 *    new; if only the end moved, what lies between the two ends) or removes;
 *    TRUNCATE collects all time.  Few ranges remain of many rows (range.c).
 * 2. Before T commits, it leaves a mark in dashie.changed_range for each range,
 *    widened to whole days; or, if an open mark covers the range already, it
 *    relies on that one and writes nothing (mark_rows.c).  A mark is open when
 *    the transaction that wrote it has committed and nobody has deleted it,
 *    not even a transaction that is still in progress.  T holds
 *    RowExclusiveLock on the table from before it looks until it has ended.
 * 3. R deletes the marks that its snapshot sees (absorb.c).  From then on they
 *    are open for nobody.  Whoever relied on one of them before that still
 *    holds its lock, or has ended.  R waits for the holders: they are
 *    committing.  Then it takes the snapshot with which it reads the rows, sets
 *    "dirty" on every page that the marks touch, and computes those.  If
 *    somebody does not end in time, as when a standby does not confirm the
 *    commit, R writes the marks again.  Refreshes exclude each other by a lock
 *    on dashie.day_page.
 *
 * So for every snapshot: a T that it sees is counted in the page of its day as
 * this snapshot sees it, or a mark that it sees covers T.  T's own mark is
 * visible exactly when T's rows are.  One that T relied on was committed before
 * T; where it is deleted, T had ended before R read the rows, or R put another
 * one in its place.  The order of the log is the order of these events, so it
 * holds after a crash and on a standby too.
 *
 * So the table holds about one row for each day that changed since the last
 * refresh, however many transactions changed it: more only where several
 * started on a day at the same time.  It has no index; nobody waits for
 * anybody but R for those who commit.
 *
 * What is prepared for two-phase commit, and what a refresh inside T reads, is
 * always marked by T itself: T may stay prepared for long, and a snapshot that
 * sees T's rows by themselves need not see another's mark.  R does not wait for
 * prepared transactions.
 *
 * The abort of a subtransaction leaves its ranges in place: that marks too
 * much, never too little.  The abort of the transaction drops all.
 *
 * Events of widgets have the same protocol with tables of their own,
 * dashie.changed_events and dashie.event_page; who collects them is in
 * events/event_marks.c.
 *
 * Heartbeats follow the same way into dashie.heartbeat_seen: the first one of
 * each day of a dashboard, since the dashboard's row keeps only the last.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "common/day.h"
#include "metrics/marks.h"
#include "metrics/metrics.h"

PG_FUNCTION_INFO_V1(dashie_sessions_changed);
PG_FUNCTION_INFO_V1(dashie_heartbeat_changed);

#define SLOT (15 * USECS_PER_MINUTE)

/* What the current transaction has collected; in TopTransactionContext. */
static RangeSet collected[MARK_KINDS] = {0};
static Heartbeat *heartbeats = NULL;
static int nheartbeats = 0;
static int heartbeats_size = 0;
static pg_tz *heartbeat_zone = NULL;

/* Columns of user_sessions that the metrics read. */
static const char *const session_columns[] = {
	"started_at", "ended_at", "last_activity_at", "user_id", "dashboard_id", "country_code", "id"};
#define SESSION_COLUMNS lengthof(session_columns)
#define COLUMN_STARTED 0
#define COLUMN_ENDED 1
#define COLUMN_LAST_ACTIVITY 2

typedef struct SessionColumns
{
	int attnum[SESSION_COLUMNS]; /* 0 where missing, or of no use */
} SessionColumns;

void
dashie_marks_collect(MarkKind kind, TimestampTz from, TimestampTz upto)
{
	collected[kind].context = TopTransactionContext;
	range_set_add(&collected[kind], from, upto);
}

static void
collect_range(TimestampTz from, TimestampTz upto)
{
	dashie_marks_collect(MARK_SESSIONS, from, upto);
}

/* The time that a session covers; false for a row without a start. */
static bool
row_span(const SessionColumns *columns, HeapTuple row, TupleDesc desc, Range *span)
{
	bool isnull;
	Datum value;

	value = heap_getattr(row, columns->attnum[COLUMN_STARTED], desc, &isnull);
	if (isnull)
		return false;
	span->from = span->upto = DatumGetTimestampTz(value);
	for (int i = COLUMN_ENDED; i <= COLUMN_LAST_ACTIVITY; i++)
	{
		if (columns->attnum[i] == 0)
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

/* Whether an update changed a column; a column that the table lacks, 0, never changes. */
bool
dashie_mark_changed(HeapTuple old, HeapTuple new, AttrNumber attnum, TupleDesc desc)
{
	bool old_null;
	bool new_null;
	Datum old_value;
	Datum new_value;
	Form_pg_attribute attr;

	if (attnum == 0)
		return false;
	attr = TupleDescAttr(desc, attnum - 1);
	old_value = heap_getattr(old, attnum, desc, &old_null);
	new_value = heap_getattr(new, attnum, desc, &new_null);
	return old_null != new_null ||
		   (!old_null && !datum_image_eq(old_value, new_value, attr->attbyval, attr->attlen));
}

/* The columns that an update changed, a bit each. */
static int
changed_columns(const SessionColumns *columns, HeapTuple old, HeapTuple new, TupleDesc desc)
{
	int changed = 0;

	for (int i = 0; i < SESSION_COLUMNS; i++)
		if (dashie_mark_changed(old, new, columns->attnum[i], desc))
			changed |= 1 << i;
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

TriggerData *
dashie_trigger_data(FunctionCallInfo fcinfo, const char *function)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function \"%s\" must be called as an AFTER trigger", function)));
	return data;
}

/* Whether a column is where it was in the statement before. */
static bool
is_column(TupleDesc desc, int attnum, int column)
{
	return attnum > 0 && attnum <= desc->natts && !TupleDescAttr(desc, attnum - 1)->attisdropped &&
		   strcmp(NameStr(TupleDescAttr(desc, attnum - 1)->attname), session_columns[column]) == 0;
}

/*
 * find_columns finds where the columns are.  For a statement of one row a
 * search by name costs more than all the rest here, so it looks first where
 * they were last time.
 */
static void
find_columns(SessionColumns *columns, Relation rel)
{
	static SessionColumns last_time = {0};
	TupleDesc desc = RelationGetDescr(rel);

	for (int i = 0; i < SESSION_COLUMNS; i++)
	{
		int attnum = last_time.attnum[i];

		if (!is_column(desc, attnum, i))
			attnum = SPI_fnumber(desc, session_columns[i]);
		if (attnum < 0 || (attnum > 0 && i <= COLUMN_LAST_ACTIVITY &&
						   TupleDescAttr(desc, attnum - 1)->atttypid != TIMESTAMPTZOID))
			attnum = 0;
		columns->attnum[i] = attnum;
	}
	if (columns->attnum[COLUMN_STARTED] == 0)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"%s\" has no column \"started_at\" of type timestamptz",
							   RelationGetRelationName(rel))));
	last_time = *columns;
}

Datum
dashie_sessions_changed(PG_FUNCTION_ARGS)
{
	TriggerData *data = dashie_trigger_data(fcinfo, "dashie.sessions_changed");
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

	/* found once a statement */
	if (columns == NULL)
	{
		columns = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(SessionColumns));
		find_columns(columns, data->tg_relation);
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
	TriggerData *data = dashie_trigger_data(fcinfo, "dashie.heartbeat_changed");
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

static void
write_marks(bool may_rely)
{
	for (int kind = 0; kind < MARK_KINDS; kind++)
		if (collected[kind].n > 0)
			mark_rows_write(kind, &collected[kind], may_rely);
	if (nheartbeats > 0)
		mark_rows_write_heartbeats(heartbeats, nheartbeats);
}

static void
marks_at_xact_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			write_marks(true);
			break;
		case XACT_EVENT_PRE_PREPARE:
			write_marks(false);
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			memset(collected, 0, sizeof(collected));
			heartbeats = NULL;
			heartbeat_zone = NULL;
			nheartbeats = heartbeats_size = 0;
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
	int nranges = 0;

	for (int kind = 0; kind < MARK_KINDS; kind++)
		nranges += collected[kind].n;
	if (nranges == 0 && nheartbeats == 0)
		return;
	write_marks(false);
	if (GetCurrentTransactionNestLevel() == 1)
	{
		for (int kind = 0; kind < MARK_KINDS; kind++)
			collected[kind].n = 0;
		nheartbeats = 0;
	}
	CommandCounterIncrement();
}

void
dashie_marks_init(void)
{
	RegisterXactCallback(marks_at_xact_event, NULL);
}
