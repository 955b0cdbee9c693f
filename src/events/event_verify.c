/*
 * event_verify.c
 *		dashie.verify_events(): is each day's page of events what plain SQL says,
 *		and unchanged?
 *
 * A question: nothing is written; the partitions are locked for reading, so that
 * retention empties none that is about to be read, and pages, marks and rows are
 * read with one snapshot.  Of each day it looks at
 *
 *		the digest	of the page's bytes; nothing else is read from bytes that fail it
 *		the sums	of the widgets and of the day, which follow from the entries
 *		the rows	while they exist, by plain SQL (event_plain.c)
 *
 * What changed since the page was computed is no failure: the day has a mark,
 * and the next run of the job settles it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "events/events.h"
#include "metrics/question.h"
#include "metrics/verify.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_verify_events);

typedef struct EventVerification
{
	Metrics *metrics;
	Oid pages;
	Oid events;			 /* InvalidOid where not enabled */
	EventSource *source; /* NULL where not enabled */
	DateADT from;
	EventPage *heads;
	bool *marked;
	DateADT first_page; /* of those there are */
	DateADT last_page;
} EventVerification;

/* Bytes of a page and their digest. */
static bool
check_digest(const EventVerification *all, Proof *proof, DateADT day)
{
	static const Oid columns[] = {BYTEAOID, BYTEAOID, BYTEAOID, BYTEAOID};
	Oid type = DATEOID;
	Datum value = DateADTGetDatum(day);
	bytea *parts[EVENT_PAGE_COLUMNS + 1];
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext spi;

	dashie_query_begin();
	if (metrics_query(all->metrics,
					  "SELECT totals, widgets, entries, digest FROM dashie.event_page"
					  " WHERE day = $1",
					  1, &type, &value) != 1)
		elog(ERROR, "page of events of %s has vanished", dashie_day_text(day));
	dashie_query_types(lengthof(columns), columns);
	spi = MemoryContextSwitchTo(caller);
	proof_bytes(parts, lengthof(parts));
	MemoryContextSwitchTo(spi);
	dashie_query_end();
	return proof_digest(proof, day, parts, EVENT_PAGE_COLUMNS, parts[EVENT_PAGE_COLUMNS]);
}

/* The sums of a widget follow from its entries. */
static bool
is_sum_of_entries(const EventWidget *widget)
{
	EventSums sums = {0};

	for (int i = 0; i < widget->nentries; i++)
		event_sums_add(&sums, &widget->entries[i].sums);
	return memcmp(&sums, &widget->sums, sizeof(sums)) == 0;
}

/* Says whether two sets differ, and adds by how much. */
static bool
compare_sets(Proof *proof, const char *name, const UserSet *page, const UserSet *bytes)
{
	int64 differ = (int64) roaring_bitmap_xor_cardinality(page, bytes);

	if (differ == 0)
		return false;
	proof_difference(proof, name,
					 "\"page\": " INT64_FORMAT ", \"bytes\": " INT64_FORMAT
					 ", \"differ\": " INT64_FORMAT,
					 (int64) roaring_bitmap_get_cardinality(page),
					 (int64) roaring_bitmap_get_cardinality(bytes), differ);
	return true;
}

/* The numbers that follow from the entries. */
static void
check_sums(Proof *proof, const EventPage *page)
{
	EventTotals totals;
	int64 widgets = 0;
	bool differs = false;

	event_totals_of(page, &totals);
	for (int i = 0; i < page->nwidgets; i++)
	{
		user_set_require_max(page->widgets[i].users, proof->metrics->max_user);
		widgets += is_sum_of_entries(&page->widgets[i]) ? 0 : 1;
	}
	differs |= proof_compare(proof, "widgets_unlike_their_entries", widgets, "bytes", 0);
	differs |= proof_compare(proof, "totals.events", event_sums_events(&page->totals.sums), "bytes",
							 event_sums_events(&totals.sums));
	differs |= proof_compare(proof, "totals.seconds", event_sums_seconds(&page->totals.sums),
							 "bytes", event_sums_seconds(&totals.sums));
	if (!differs && memcmp(&page->totals.sums, &totals.sums, sizeof(EventSums)) != 0)
	{
		proof_difference(proof, "totals.by_event_type", "\"differ\": true");
		differs = true;
	}
	differs |= compare_sets(proof, "totals.users", page->totals.users, totals.users);
	for (int i = 0; i < EVENT_COUNTS; i++)
		differs |= compare_sets(
			proof,
			psprintf("totals.users_of_%s", i < EVENT_TYPES ? dashie_event_types[i] : "other"),
			page->totals.typed[i], totals.typed[i]);
	if (differs)
	{
		proof->failed = true;
		proof_reason(proof, "the page's numbers do not follow from its entries");
	}
}

/* A day without a page. */
static void
judge_missing(const EventVerification *all, DateADT day, Verdict *verdict)
{
	const Metrics *metrics = all->metrics;

	verdict->method = "missing";
	verdict->no_verdict = true;
	if (day > all->first_page && day < all->last_page && day < metrics->first_open_event_day)
	{
		verdict->no_verdict = false;
		verdict->reason = "the page is gone, those of days before and after it are there";
	}
	else if (day >= metrics->today)
		verdict->reason = "the day is not over";
	else if (day < metrics->first_open_event_day)
		verdict->reason = "retention closed the day before it was counted";
	else
		verdict->reason = "not counted yet";
}

/* Why the rows of a day cannot be compared; NULL if they can. */
static const char *
rows_missing(const EventVerification *all, const Proof *proof, DateADT day)
{
	if (day < all->metrics->first_open_event_day)
		return "retention removed events of the day; its page is unchanged";
	if (all->source == NULL)
		return "widget_analytics is not enabled; the page is unchanged";
	if (event_source_complete_from(all->source, proof->end) > proof->start)
		return "the day has no partition any more; its page is unchanged";
	return NULL;
}

static void
judge(void *verification, DateADT day, Verdict *verdict)
{
	const EventVerification *all = verification;
	Metrics *metrics = all->metrics;
	const EventPage *head = &all->heads[day - all->from];
	const char *missing;
	Proof proof = {0};

	memset(verdict, 0, sizeof(*verdict));
	if (!head->stored)
	{
		judge_missing(all, day, verdict);
		return;
	}
	proof.metrics = metrics;
	proof.owner_rel = all->pages;
	proof.start = dashie_day_start(day, metrics->zone);
	proof.end = dashie_day_start(day + 1, metrics->zone);
	initStringInfo(&proof.json);
	initStringInfo(&proof.reason);
	missing = rows_missing(all, &proof, day);
	verdict->method = missing == NULL ? "rows" : "digest";
	proof.changed = missing == NULL && (head->dirty || all->marked[day - all->from] ||
										(!head->final && day < metrics->today));
	if (check_digest(all, &proof, day))
	{
		EventPage *page = event_pages_load(metrics, day, day, EVENT_ALL);

		check_sums(&proof, page);
		if (missing == NULL && !proof.changed)
			event_proof_by_rows(&proof, page, all->events);
	}

	proof_verdict(&proof, "changed since, not yet counted", missing, verdict);
}

/* A Judge of days whose pages may be damaged. */
static void
judge_safely(void *verification, DateADT day, Verdict *verdict)
{
	const EventVerification *all = verification;

	verdict_of(judge, verification, day,
			   day >= all->metrics->first_open_event_day ? "rows" : "digest", verdict);
}

/* Opens a verification of [from, to], inside "guard", as the owner of the pages. */
static EventVerification *
verification_open(DashieGuard *guard, DateADT from, DateADT to)
{
	Oid pages = event_pages_oid();
	Oid events = dashie_enabled_oid("widget_analytics");
	pg_tz *zone = dashie_timezone();
	EventSource *source = NULL;
	EventVerification *all;
	Metrics *metrics;
	MemoryContext old;

	if (OidIsValid(events))
		source =
			event_source_open(events, dashie_day_start(from, zone), dashie_day_start(to + 1, zone));
	metrics = question_open(guard, pages, "to", to);
	event_load_floor(metrics);
	old = MemoryContextSwitchTo(metrics->context);
	all = palloc0(sizeof(EventVerification));
	all->metrics = metrics;
	all->pages = pages;
	all->events = events;
	all->source = source;
	all->from = from;
	numbers_load(metrics);
	all->heads = event_pages_load(metrics, from, to, EVENT_HEADS);
	all->marked = palloc0(to - from + 1);
	metrics_marked(metrics, MARK_EVENTS, from, to, all->marked);
	verify_page_days(metrics, "event_page", &all->first_page, &all->last_page);
	MemoryContextSwitchTo(old);
	return all;
}

static void
verification_close(EventVerification *all)
{
	if (all->source != NULL)
		event_source_close(all->source);
	metrics_close(all->metrics);
}

bool
event_verify_night(JobStep *step)
{
	DashieGuard guard = *step->guard;
	EventVerification *all;
	MemoryContext context;
	DateADT from;
	DateADT to;

	verify_night_next(step, &from, &to);
	all = verification_open(&guard, from, to);
	context = AllocSetContextCreate(all->metrics->context, "dashie proofs of days",
									ALLOCSET_DEFAULT_SIZES);
	verify_night_each(step, to, context, judge_safely, all);
	verification_close(all);
	return verify_night_end(step, "dashie.verify_events");
}

/* SQL: dashie.verify_events("from" date, "to" date) */
Datum
dashie_verify_events(PG_FUNCTION_ARGS)
{
	DateADT from;
	DateADT to;
	DashieRows rows;
	DashieGuard guard;
	EventVerification *all;
	MemoryContext context;

	question_range(fcinfo, &from, &to);
	dashie_rows_begin(fcinfo, &rows);
	dashie_enter(&guard);
	all = verification_open(&guard, from, to);
	context = AllocSetContextCreate(all->metrics->context, "dashie proof of a day",
									ALLOCSET_DEFAULT_SIZES);
	for (DateADT day = from; day <= to; day++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Verdict verdict;

		CHECK_FOR_INTERRUPTS();
		judge_safely(all, day, &verdict);
		verdict_put(&rows, day, &verdict);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	verification_close(all);
	dashie_leave(&guard);
	return (Datum) 0;
}
