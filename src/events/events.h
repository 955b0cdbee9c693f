/*
 * events.h
 *		Widget events counted by day: what other slices call, and what the files
 *		of this one share.
 *
 *		event_marks.c		which days a transaction changed
 *		event_page.c		the page of a day in memory, as bytes, in its table
 *		event_source.c		reads the events of a stretch of time
 *		event_collect.c		the events of a day become its page
 *		event_rollup.c		a run that brings pages up to date; the job
 *		event_question.c	a question about a stretch of days
 *		event_counts.c		dashie.widget_popularity(), dashie.event_counts()
 *		event_compare.c		dashie.widget_compare()
 *		event_funnel.c		dashie.widget_funnel()
 *		event_plain.c		a day's page beside plain SQL over its rows
 *		event_verify.c		dashie.verify_events()
 *
 * Users are numbered, marks absorbed and runs kept apart as in the metrics of
 * sessions (metrics/engine.h): a run here is a run there.
 */
#ifndef DASHIE_EVENTS_H
#define DASHIE_EVENTS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "ingest/ingest.h"
#include "metrics/engine.h"
#include "partition/partition.h"

/*
 * Every event before the returned instant lies in days whose pages are final
 * and which no visible mark touches; DT_NOEND where nobody counts events.
 * Called as the owner of widget_analytics, before its partitions are locked
 * and again after.  Keeps runs out until the end of the transaction.
 */
extern TimestampTz dashie_events_complete_before(void);

/* The same as things are now, for a plan: it keeps nobody out, and nothing so. */
extern TimestampTz dashie_events_complete_now(void);

/* A trigger of widget_analytics that passes by nothing that track() does itself. */
extern bool dashie_is_events_trigger(Oid function);

/* Why a finished day could not be computed again from its events; NULL if each could. */
extern char *events_unrepeatable(Metrics *metrics);

/* Users who were marked as deleted are there again: the days of their events are computed again. */
extern void events_restored(Metrics *metrics);

/* ---------- inside the slice ---------- */

/* The last counts events of types that the roadmap does not know. */
#define EVENT_COUNTS (EVENT_TYPES + 1)

typedef struct EventSums
{
	int64 counts[EVENT_COUNTS];
	int64 seconds[EVENT_COUNTS];
} EventSums;

typedef struct EventEntry
{
	int32 user; /* 0: nobody we know */
	EventSums sums;
} EventEntry;

/* What was done with one widget. */
typedef struct EventWidget
{
	char *name; /* UTF-8, whatever the server's encoding; not terminated */
	int length;
	EventSums sums;		 /* of all entries */
	UserSet *users;		 /* those who count as users */
	EventEntry *entries; /* ascending by user; NULL where they were not asked for */
	int nentries;
} EventWidget;

/* All widgets together. */
typedef struct EventTotals
{
	EventSums sums;
	UserSet *users;				  /* those who count as users of a widget */
	UserSet *typed[EVENT_COUNTS]; /* of them, those with an event of the type */
} EventTotals;

typedef struct EventPage
{
	DateADT day;
	bool stored; /* has a row */
	bool dirty;
	bool final;
	EventTotals totals;
	EventWidget *widgets; /* ascending by the bytes of their names */
	int nwidgets;
} EventPage;

/* What is read of a page. */
typedef enum EventPageParts
{
	EVENT_HEADS,
	EVENT_TOTALS,
	EVENT_WIDGETS, /* without the totals */
	EVENT_ENTRIES, /* the widgets with their entries, without the totals */
	EVENT_ALL
} EventPageParts;

/* The bytes that the digest is over: totals, widgets, entries. */
#define EVENT_PAGE_COLUMNS 3

/* event_page.c */
extern EventPage *
event_pages_load(Metrics *metrics, DateADT from, DateADT to, EventPageParts parts);
extern void event_page_store(Metrics *metrics, EventPage *page);
extern void event_totals_of(const EventPage *page, EventTotals *totals); /* of its entries */
extern int event_names_compare(const char *a, int alength, const char *b, int blength);
extern char *event_name(const char *text, int length, int *name_length); /* of the server's text */
extern Datum event_name_text(const char *name, int length);
extern void event_sums_add(EventSums *sums, const EventSums *other);
extern int64 event_sums_events(const EventSums *sums);
extern int64 event_sums_seconds(const EventSums *sums);
extern void event_seconds_add(int64 *seconds, int64 more);

/* event_source.c */
typedef struct EventSource EventSource;

typedef struct EventRow
{
	const pg_uuid_t *user; /* NULL for NULL */
	TimestampTz at;
	const char *widget; /* of the server's encoding */
	int widget_length;
	const char *type;
	int type_length;
	int32 seconds; /* 0 for NULL */
} EventRow;

typedef void (*EventRowVisitor)(void *arg, const EventRow *row);

/*
 * Locks widget_analytics and its partitions of [from, upto) for reading: what
 * is seen with a snapshot that is taken after that is there to be read.
 */
extern EventSource *event_source_open(Oid parent, TimestampTz from, TimestampTz upto);
extern void event_source_close(EventSource *source);
extern TimestampTz events_first(Oid parent, Snapshot snapshot);
/* From which instant on every event up to "upto" has a partition that is there. */
extern TimestampTz event_source_complete_from(const EventSource *source, TimestampTz upto);
/* As a user who may read widget_analytics. */
extern void event_source_read(EventSource *source, Snapshot snapshot, TimestampTz from,
							  TimestampTz upto, EventRowVisitor visit, void *arg);
extern int event_type_of(const EventRow *row); /* index into EventSums.counts */

/* event_collect.c: "page" is as it is stored, with its entries */
extern void event_collect(Metrics *metrics, EventSource *source, EventPage *page);

/* event_question.c */
typedef struct EventQuestion
{
	Metrics *metrics;
	EventSource *source; /* NULL where widget_analytics is not enabled */
	DateADT from;
	DateADT to;
	bool *compute; /* [day - from]: to be read from the rows */
	bool *known;   /* [day - from] */
	UserSet *anonymous;
} EventQuestion;

/* A day's page, which is the visitor's only until it returns; NULL: nothing is known of the day. */
typedef void (*EventPageVisitor)(void *arg, DateADT day, const EventPage *page);

/* "argument" names "to" in errors. */
extern EventQuestion *
event_question_begin(DashieGuard *guard, DateADT from, DateADT to, const char *argument);
extern void event_question_each_day(EventQuestion *question, EventPageParts parts,
									EventPageVisitor visit, void *arg);
extern void event_load_floor(Metrics *metrics); /* after the partitions were locked */
extern void event_question_end(EventQuestion *question);
extern Oid event_pages_oid(void); /* 55000 if widget_analytics was never enabled */

/* event_plain.c: compares a page that has its entries with plain SQL over the rows of its day */
struct Proof;
extern void event_proof_by_rows(struct Proof *proof, const EventPage *page, Oid events);

/* event_verify.c: a step of the job that verifies days which it wrote; true if another is to come */
extern bool event_verify_night(JobStep *step);

#endif /* DASHIE_EVENTS_H */
