/*
 * event_question.c
 *		A question about a stretch of days of events: the page of each.
 *
 * Nothing is written.  Days whose page is up to date are answered from it, also
 * when their partition is gone; the others are computed from the rows in
 * memory.  Pages and rows are read with one snapshot, which is taken when the
 * partitions are locked for reading (event_source.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "common/query.h"
#include "common/relation.h"
#include "events/events.h"
#include "metrics/question.h"
#include "roadmap/roadmap.h"

/* Days that one query reads, where it does not read their entries. */
#define BATCH_DAYS 16

Oid
event_pages_oid(void)
{
	Oid relid = dashie_relation_oid("dashie", "event_page");

	if (!OidIsValid(relid))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"dashie.event_page\" does not exist"),
						errhint("Run SELECT dashie.enable('widget_analytics').")));
	return relid;
}

/*
 * event_load_floor looks up what retention has removed as it is now, whatever an older
 * snapshot shows: rows that are emptied away are in no snapshot.
 */
void
event_load_floor(Metrics *metrics)
{
	Snapshot snapshot = metrics->snapshot;

	if (!IsolationUsesXactSnapshot())
		return;
	metrics->snapshot = RegisterSnapshot(GetLatestSnapshot());
	metrics_load_retention_floor(metrics);
	UnregisterSnapshot(metrics->snapshot);
	metrics->snapshot = snapshot;
}

/* The day of the first page: before it there was nothing to be counted.  Without any, nobody knows. */
static DateADT
first_page(Metrics *metrics)
{
	Oid type = DATEOID;
	bool none;
	DateADT day;

	dashie_query_begin();
	metrics_query(metrics, "SELECT min(day) FROM dashie.event_page", 0, NULL, NULL);
	dashie_query_types(1, &type);
	day = DatumGetDateADT(dashie_field(0, 1, &none));
	dashie_query_end();
	return none ? DASHIE_MIN_DAY : day;
}

/* Tells which days are to be computed, and which can be known at all. */
static void
plan_days(EventQuestion *question)
{
	Metrics *metrics = question->metrics;
	EventPage *heads = event_pages_load(metrics, question->from, question->to, EVENT_HEADS);
	DateADT first = DASHIE_MAX_DAY; /* not asked yet */
	int ndays = question->to - question->from + 1;
	int lost = 0;

	metrics_marked(metrics, MARK_EVENTS, question->from, question->to, question->compute);
	for (int i = 0; i < ndays; i++)
	{
		const EventPage *page = &heads[i];

		/* a day that is not over keeps nobody, also who left without a mark */
		if (!page->stored || page->dirty || !page->final)
			question->compute[i] = true;
		if (page->day < metrics->first_open_event_day || question->source == NULL)
			question->compute[i] = false;
		question->known[i] = page->stored || question->compute[i];
		if (question->known[i])
			continue;
		if (first == DASHIE_MAX_DAY)
			first = first_page(metrics);
		question->known[i] = page->day < first && question->source != NULL;
		lost += question->known[i] ? 0 : 1;
	}
	pfree(heads);
	if (lost > 0)
		ereport(NOTICE, (errmsg("nothing is known of %d of the %d days", lost, ndays),
						 errdetail("Their events were removed before they were counted, or "
								   "\"widget_analytics\" was not enabled.")));
}

/*
 * event_question_begin opens a question, as the owner of the pages; "guard" is
 * entered.
 */
EventQuestion *
event_question_begin(DashieGuard *guard, DateADT from, DateADT to, const char *argument)
{
	EventQuestion *question = palloc0(sizeof(EventQuestion));
	Oid pages = event_pages_oid();
	Oid rel = dashie_enabled_oid("widget_analytics");
	pg_tz *zone = dashie_timezone();
	Metrics *metrics;
	MemoryContext old;
	int ndays = to - from + 1;

	if (OidIsValid(rel))
		question->source =
			event_source_open(rel, dashie_day_start(from, zone), dashie_day_start(to + 1, zone));
	question->metrics = metrics = question_open(guard, pages, argument, to);
	event_load_floor(metrics);
	old = MemoryContextSwitchTo(metrics->context);
	question->from = from;
	question->to = to;
	question->compute = palloc0(ndays);
	question->known = palloc0(ndays);
	plan_days(question);
	if (memchr(question->compute, true, ndays) != NULL)
		numbers_load(metrics);
	else
		numbers_bounds(metrics);
	question->anonymous = metrics_anonymous(metrics);
	MemoryContextSwitchTo(old);
	return question;
}

void
event_question_end(EventQuestion *question)
{
	if (question->source != NULL)
		event_source_close(question->source);
	metrics_close(question->metrics);
}

/* One day that is answered from its rows. */
static void
visit_computed(EventQuestion *question, DateADT day, EventPageVisitor visit, void *arg)
{
	EventPage *page = event_pages_load(question->metrics, day, day, EVENT_ENTRIES);

	event_collect(question->metrics, question->source, page);
	visit(arg, day, page);
}

/* No set of a page names a user that was never given a number. */
static void
require_known_users(const EventPage *page, int32 max_user)
{
	for (int i = 0; i < page->nwidgets; i++)
		user_set_require_max(page->widgets[i].users, max_user);
	if (page->totals.users != NULL)
		user_set_require_max(page->totals.users, max_user);
	for (int i = 0; i < EVENT_COUNTS; i++)
		if (page->totals.typed[i] != NULL)
			user_set_require_max(page->totals.typed[i], max_user);
}

/* Up to ndays days that are not; returns how many it took. */
static int
visit_stored(EventQuestion *question, DateADT from, int ndays, EventPageParts parts,
			 EventPageVisitor visit, void *arg)
{
	const bool *compute = question->compute + (from - question->from);
	const bool *known = question->known + (from - question->from);
	EventPage *pages;
	int n = 0;

	while (n < Min(parts >= EVENT_ENTRIES ? 1 : BATCH_DAYS, ndays) && !compute[n])
		n++;
	pages = event_pages_load(question->metrics, from, from + n - 1, parts);
	for (int i = 0; i < n; i++)
	{
		require_known_users(&pages[i], question->metrics->max_user);
		visit(arg, from + i, known[i] ? &pages[i] : NULL);
	}
	return n;
}

/* event_question_each_day visits the days in their order, in a context that is reset after some. */
void
event_question_each_day(EventQuestion *question, EventPageParts parts, EventPageVisitor visit,
						void *arg)
{
	int ndays = question->to - question->from + 1;
	MemoryContext chunk = AllocSetContextCreate(question->metrics->context, "dashie days of events",
												ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(chunk);
	int n;

	for (int i = 0; i < ndays; i += n)
	{
		CHECK_FOR_INTERRUPTS();
		n = 1;
		if (question->compute[i])
			visit_computed(question, question->from + i, visit, arg);
		else
			n = visit_stored(question, question->from + i, ndays - i, parts, visit, arg);
		MemoryContextReset(chunk);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(chunk);
}
