/*
 * event_rollup.c
 *		Brings the pages of events up to date: dashie.refresh_event_rollups(),
 *		the job rollup_events, and when a partition is done with.
 *
 * A run is one of the metrics (metrics/engine.c), as the owner of
 * dashie.event_page: it holds SHARE UPDATE EXCLUSIVE on dashie.day_page, which
 * keeps all runs apart, because each of them gives numbers to users.  What it
 * sees is one snapshot.
 *
 * The job works day by day, the latest first, and commits after some seconds
 * of them.  Nothing is remembered of where it stopped: the pages say which days
 * are done.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "events/events.h"
#include "metrics/verify.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_refresh_event_rollups);

#define STEP_TARGET (2 * USECS_PER_SEC)

/* A first run looks back this far at most, however old the oldest event. */
#define MAX_HISTORY_DAYS 3660

typedef struct EventRun
{
	Metrics *metrics;
	EventSource *source;
	MemoryContext day_context;
} EventRun;

/* Opens a run: its lock, its snapshot, the events; and takes up the marks. */
static void
run_begin(EventRun *run, DashieGuard *guard)
{
	Oid rel = dashie_enabled_oid_required("widget_analytics");
	Metrics *metrics = metrics_open(guard, event_pages_oid(), false);

	run->metrics = metrics;

	/* retention empties nothing while runs are kept out: there is no more to lock */
	run->source = event_source_open(rel, DT_NOBEGIN, DT_NOEND);
	run->day_context =
		AllocSetContextCreate(metrics->context, "dashie day of events", ALLOCSET_DEFAULT_SIZES);
	absorb_ranges(metrics, MARK_EVENTS);
	numbers_load(metrics);
	users_recount(metrics);
	CommandCounterIncrement();
}

static void
run_end(EventRun *run)
{
	event_source_close(run->source);
	metrics_close(run->metrics);
}

static bool
is_needed(const Metrics *metrics, const EventPage *page, bool force)
{
	if (page->day < metrics->first_open_event_day && !force)
		return false;
	return force || !page->stored || page->dirty || (!page->final && page->day < metrics->today);
}

static void
compute_day(EventRun *run, DateADT day)
{
	MemoryContext old = MemoryContextSwitchTo(run->day_context);
	EventPage *page;

	CHECK_FOR_INTERRUPTS();
	page = event_pages_load(run->metrics, day, day, EVENT_ENTRIES);
	event_collect(run->metrics, run->source, page);
	event_page_store(run->metrics, page);
	MemoryContextSwitchTo(old);
	MemoryContextReset(run->day_context);
}

/*
 * first_day is the first day that is to be counted: that of the earliest event
 * or page (its rows may have been removed as a correction), but none that
 * retention has touched.  False if there is nothing to count.
 */
static bool
first_day(Metrics *metrics, Oid rel, DateADT *day)
{
	TimestampTz event = events_first(rel, metrics->snapshot);
	Oid type = DATEOID;
	Datum value = DateADTGetDatum(metrics->first_open_event_day);
	bool no_page;
	DateADT page;

	dashie_query_begin();
	metrics_query(metrics, "SELECT min(day) FROM dashie.event_page WHERE day >= $1", 1, &type,
				  &value);
	dashie_query_types(1, &type);
	page = DatumGetDateADT(dashie_field(0, 1, &no_page));
	dashie_query_end();
	if (no_page && event == DT_NOEND)
		return false;
	*day = event == DT_NOEND ? page : dashie_day_of(event, metrics->zone);
	if (!no_page)
		*day = Min(*day, page);
	*day = Max(*day, metrics->first_open_event_day);
	*day = Max(*day, metrics->today - MAX_HISTORY_DAYS);
	return true;
}

/* SQL: dashie.refresh_event_rollups("from" date, "to" date, force bool) returns integer */
Datum
dashie_refresh_event_rollups(PG_FUNCTION_ARGS)
{
	DateADT from = dashie_day_argument("from", DASHIE_ARG(0));
	DateADT to = dashie_day_argument("to", DASHIE_ARG(1));
	EventRun run;
	DashieGuard guard;
	EventPage *heads;
	bool force;
	int32 count = 0;

	dashie_reject_null(fcinfo, 2, "force");
	force = PG_GETARG_BOOL(2);
	if (from > to)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"from\" (%s) is later than \"to\" (%s)", dashie_day_text(from),
							   dashie_day_text(to))));
	dashie_enter(&guard);
	run_begin(&run, &guard);
	metrics_reject_future(run.metrics, "to", to);
	if (from < run.metrics->first_open_event_day && !force)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("retention has removed events of %s", dashie_day_text(from)),
				 errdetail("Days before %s would be computed from less than they were.",
						   dashie_day_text(run.metrics->first_open_event_day)),
				 errhint("Refresh from %s on; or pass force => true to count only what is left.",
						 dashie_day_text(run.metrics->first_open_event_day))));
	heads = event_pages_load(run.metrics, from, to, EVENT_HEADS);
	for (DateADT day = from; day <= to; day++)
		if (is_needed(run.metrics, &heads[day - from], force))
		{
			compute_day(&run, day);
			count++;
		}
	run_end(&run);
	dashie_leave(&guard);
	PG_RETURN_INT32(count);
}

/*
 * dashie_events_step is one step of the job: days up to yesterday that are
 * missing or changed, the latest first.  A day that changes after its turn is
 * left to the next run.  After them come, where they are wanted, the steps that
 * verify those days.
 */
bool
dashie_events_step(JobStep *step)
{
	DashieGuard guard = *step->guard;
	int64 *below = &step->numbers[0]; /* days from here on have had their turn, once begun */
	bool begun = step->number > 0;
	TimestampTz started = GetCurrentTimestamp();
	bool more = false;
	EventRun run;
	DateADT from;

	if (verify_night_begun(step))
		return event_verify_night(step);
	run_begin(&run, &guard);
	if (first_day(run.metrics, dashie_enabled_oid_required("widget_analytics"), &from))
	{
		Metrics *metrics = run.metrics;
		DateADT to = metrics->today - 1;
		EventPage *heads = from <= to ? event_pages_load(metrics, from, to, EVENT_HEADS) : NULL;
		bool *written = MemoryContextAllocZero(metrics->context, Max(to - from + 1, 0));
		int waiting = 0;
		int done = 0;

		for (DateADT day = to; day >= from; day--)
		{
			if (!is_needed(metrics, &heads[day - from], false))
				continue;
			waiting++;
			if (begun && day >= *below)
				continue;
			if (done > 0 && GetCurrentTimestamp() - started >= STEP_TARGET)
			{
				more = true;
				continue;
			}
			compute_day(&run, day);
			written[day - from] = true;
			*below = day;
			begun = true;
			done++;
		}
		if (from <= to)
		{
			step->progress.unit = "days";
			step->progress.detail =
				psprintf("%s to %s", dashie_day_text(from), dashie_day_text(to));
			step->progress.total = to - from + 1;
			step->progress.done = step->progress.total - waiting + done;
			step->progress.advanced = done;
		}
		step->rows += done;
		more = verify_night_plan(step, from, to, written, more);
	}
	run_end(&run);
	return more;
}

/* The first day from "from" on that a mark touches; without one, a day to come. */
static DateADT
first_marked(Metrics *metrics, DateADT from)
{
	Oid type = TIMESTAMPTZOID;
	Datum value = TimestampTzGetDatum(dashie_day_start(from, metrics->zone));
	bool none;

	dashie_query_begin();
	dashie_query("SELECT min(greatest(m.\"from\", $1)) FROM dashie.changed_events AS m"
				 " WHERE m.upto >= $1",
				 1, &type, &value, NULL);
	dashie_query_types(1, &type);
	value = dashie_field(0, 1, &none);
	dashie_query_end();
	return none ? DASHIE_MAX_DAY : dashie_day_of(DatumGetTimestampTz(value), metrics->zone);
}

TimestampTz
dashie_events_complete_now(void)
{
	Oid rel = dashie_enabled_oid("widget_analytics");
	Metrics metrics = {0};
	TimestampTz complete;
	DateADT from;

	if (!OidIsValid(rel) || !OidIsValid(dashie_relation_oid("dashie", "event_page")) ||
		!OidIsValid(dashie_relation_oid("dashie", dashie_mark_table(MARK_EVENTS))))
		return DT_NOEND;
	metrics.readonly = true;
	metrics.snapshot = RegisterSnapshot(GetLatestSnapshot());
	metrics.zone = dashie_timezone();
	metrics_load_retention_floor(&metrics);
	metrics.today = dashie_today(metrics.zone);
	complete = dashie_day_start(metrics.today, metrics.zone);
	if (first_day(&metrics, rel, &from) && from < metrics.today)
	{
		EventPage *heads = event_pages_load(&metrics, from, metrics.today - 1, EVENT_HEADS);
		DateADT day = from;

		while (day < metrics.today && heads[day - from].stored && !heads[day - from].dirty &&
			   heads[day - from].final)
			day++;
		complete =
			Min(complete, dashie_day_start(Min(day, first_marked(&metrics, from)), metrics.zone));
	}
	UnregisterSnapshot(metrics.snapshot);
	return complete;
}

TimestampTz
dashie_events_complete_before(void)
{
	Oid rel = dashie_relation_oid("dashie", "day_page");

	/* no run may turn marks into dirty pages until the caller has committed */
	if (OidIsValid(rel))
		LockRelationOid(rel, ShareUpdateExclusiveLock);
	/* what this transaction changed itself is not marked before it commits */
	dashie_marks_flush();
	return dashie_events_complete_now();
}

char *
events_unrepeatable(Metrics *metrics)
{
	MemoryContext context =
		AllocSetContextCreate(metrics->context, "dashie page check", ALLOCSET_DEFAULT_SIZES);
	static const Oid types[] = {DATEOID, DATEOID};
	Datum today = DateADTGetDatum(metrics->today + 1);
	DateADT first;
	DateADT last;
	bool none;
	char *reason = NULL;

	if (!OidIsValid(dashie_relation_oid("dashie", "event_page")))
		return NULL;
	dashie_query_begin();
	/* no day after today is final, whatever the table says */
	dashie_query("SELECT min(day), max(day) FROM dashie.event_page WHERE final AND day <= $1", 1,
				 types, &today, NULL);
	dashie_query_types(lengthof(types), types);
	first = DatumGetDateADT(dashie_field(0, 1, &none));
	last = none ? first : DatumGetDateADT(dashie_field(0, 2, NULL));
	dashie_query_end();
	if (none)
		return NULL;
	if (first < metrics->first_open_event_day)
		return psprintf("Retention has removed events of %s.", dashie_day_text(first));

	numbers_load(metrics);
	for (DateADT day = first; day <= last && reason == NULL; day++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		EventPage *page = event_pages_load(metrics, day, day, EVENT_ENTRIES);
		bool departed = false;

		for (int i = 0; i < page->nwidgets && !departed; i++)
		{
			const EventWidget *widget = &page->widgets[i];

			departed = !roaring_bitmap_is_subset(widget->users, numbers_there(metrics));
			for (int j = 0; j < widget->nentries && !departed; j++)
				departed =
					widget->entries[j].user != 0 && numbers_gone(metrics, widget->entries[j].user);
		}
		MemoryContextSwitchTo(metrics->context);
		if (departed)
			reason = psprintf("A user who had events on %s is gone.", dashie_day_text(day));
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
	return reason;
}

/* They are in no page that was computed in between; which days those are, only the rows tell. */
void
events_restored(Metrics *metrics)
{
	Oid type = DATEOID;
	Datum value = DateADTGetDatum(metrics->first_open_event_day);

	if (!OidIsValid(dashie_relation_oid("dashie", "event_page")))
		return;
	dashie_query_begin();
	dashie_query("UPDATE dashie.event_page SET dirty = true WHERE day >= $1 AND NOT dirty", 1,
				 &type, &value, NULL);
	dashie_query_end();
}
