/*
 * collect.h
 *		What the files that read sessions into pages share:
 *		collect.c			one pass: who reads, when, how much memory it may take
 *		collect_session.c	what a session's row says, and where it goes
 *		collect_range.c		the rows of a short stretch, found through indexes
 *		collect_parallel.c	either of these by parallel workers
 *		collect_day.c		a day's rows become entries and sets
 *		collect_page.c		these, and what was stored of the day, become its page
 *		collect_tasks.c		the pages of new days divided among the same workers
 */
#ifndef DASHIE_COLLECT_H
#define DASHIE_COLLECT_H

#include "postgres.h"

#include "access/parallel.h"
#include "metrics/engine.h"
#include "storage/itemptr.h"
#include "storage/shm_mq.h"

/* A pass looks at this many days at most. */
#define MAX_STRETCH_DAYS 4096

/* The days of a pass: day i is [starts[i], starts[i + 1]). */
typedef struct Stretch
{
	int ndays;
	const TimestampTz *starts;
	int hint; /* the day of the row before: rows of a day lie together */
} Stretch;

enum
{
	COLUMN_ID,
	COLUMN_USER,
	COLUMN_DASHBOARD,
	COLUMN_STARTED,
	COLUMN_ENDED,
	COLUMN_LAST_ACTIVITY,
	COLUMN_COUNTRY,
	SESSION_COLUMNS
};

typedef struct SessionReader
{
	Relation rel;
	DashieColumn columns[SESSION_COLUMNS];
	AttrNumber last_attnum; /* of those that every row is asked for; 0: read as needed */
} SessionReader;

/* What a session's row says. */
typedef struct Session
{
	int first; /* day of its start: -1 before the stretch */
	int last;  /* last day that it covers: may be before first */
	bool has_user;
	bool has_dashboard;
	CountryCode country;
	ItemPointerData tid;
	pg_uuid_t user;
	pg_uuid_t dashboard;
	TimestampTz started;
	int64 duration; /* NOT_ENDED without an end */
} Session;

/*
 * Sessions are looked up in batches: their users lie anywhere in tables of
 * megabytes, which are asked for ahead of their use.
 */
#define SESSION_BATCH 64

#define NOT_ENDED PG_INT64_MIN

/*
 * What is kept of a session in the day that it started in.  "start" holds the
 * microseconds since the day began, the country and the offset of its row in
 * the block, from high to low: the order of the start is that of sessions.
 */
typedef struct SessionRow
{
	uint64 start;
	int64 duration;
	uint32 user; /* 0: of nobody we know */
	BlockNumber block;
} SessionRow;

#define ROW_OFFSET_BITS 16
#define ROW_COUNTRY_BITS 10
#define ROW_START_BITS 38
#define ROW_AT(row) ((row)->start >> (ROW_OFFSET_BITS + ROW_COUNTRY_BITS))

typedef struct NumberList
{
	uint32 *numbers;
	uint32 n;
	uint32 size;
} NumberList;

/* What a pass has read of one day. */
typedef struct DayRows
{
	SessionRow *rows; /* sessions that started in it */
	uint32 nrows;
	uint32 size;
	NumberList users;	   /* of sessions that started earlier and last into it */
	NumberList dashboards; /* of all sessions that overlap it */
	UserSet *heartbeats;
} DayRows;

/*
 * What is asked for beside the rows when they become entries.  "candidate" is
 * told of each user's latest session of the day that has a country.
 */
typedef struct DayMaker
{
	const SessionReader *reader;
	Snapshot snapshot;
	TupleTableSlot *slot;	/* of a row that is asked for its id */
	const UserSet *deleted; /* users who are marked as deleted; NULL for none */
	void (*candidate)(void *arg, uint32 user, CountryCode country, TimestampTz at);
	void *arg;
} DayMaker;

/* A worker that has read its share of the table and waits for days. */
typedef struct PageWorker
{
	shm_mq_handle *tasks;
	shm_mq_handle *results;
	int day; /* that it is at; -1: none */
} PageWorker;

typedef struct Inbox Inbox;

struct Collector
{
	Metrics *metrics;
	MemoryContext context;
	DateADT first_day; /* of the stretch */
	Stretch stretch;
	bool *wanted; /* those of the stretch: days are struck out when memory is short */
	DayRows *days;
	SessionReader reader;
	Size used; /* bytes of all rows and lists */
	Size limit;
	DayMaker maker;

	/* from collect_parallel_begin() to collect_parallel_end() */
	ParallelContext *parallel;
	Inbox *inboxes;
	int ninboxes;
	PageWorker *page_workers;
	int npage_workers;
	bool insert_numbers; /* meanwhile, those that are new */

	/* what is the same for all pages of the pass; made when first asked for */
	UserSet *dashboards_there;
	NumberList *signups; /* [day + 1]: who signed up in it; [0]: before the stretch */
	int signups_until;	 /* those before are in the set, and no others */
	UserSet *signed_up;

	int nbatch;
	Session batch[SESSION_BATCH];
};

/* collect_session.c */
extern void session_reader_open(SessionReader *reader, Oid relid);
extern void session_reader_whole(SessionReader *reader);
extern bool
session_read(const SessionReader *reader, Stretch *stretch, DashieScan *scan, Session *session);
extern void session_row(const Session *session, const Stretch *stretch, SessionRow *row);
extern CountryCode session_row_country(const SessionRow *row);
extern void number_list_add(Collector *collector, NumberList *list, uint32 number);
extern void
collector_add(Collector *collector, int first, int last, const SessionRow *row, uint32 dashboard);
extern void collector_release(Collector *collector, int day);
extern void collector_add_current(Collector *collector, DashieScan *scan);
extern void collector_flush(Collector *collector); /* after the last row */

/* collect_range.c */
extern void collector_add_all(Collector *collector, DashieScan *scan);
extern DashieBlocks *collect_range_blocks(Collector *collector);
extern void collect_range(Collector *collector);

/* collect_parallel.c */
extern int parallel_workers_for(uint64 blocks);
extern void collect_parallel_begin(Collector *collector, int nworkers, const DashieBlocks *blocks);
extern bool collect_parallel_read(Collector *collector);
extern void collect_parallel_end(Collector *collector);

/* collect_day.c */
extern int day_entries(DayMaker *maker, TimestampTz starts_at, DayRows *day, PageEntry *entries,
					   UserSet **active);
extern UserSet *day_set(const NumberList *list);
extern void page_sum(DayPage *page);

/* collect_page.c */
extern UserSet *signed_up_before(Collector *collector, int day);
extern void collect_page_head(Collector *collector, DayPage *page, int day);
extern void collect_page(Collector *collector, DayPage *page, int day);

/* collect_tasks.c */
extern void page_worker_serve(const SessionReader *reader, const TimestampTz *starts,
							  shm_mq_handle *tasks, shm_mq_handle *results);
extern int collect_new_pages(Collector *collector, const DayPage *heads, bool *wanted,
							 PageDone insert, void *arg);

#endif /* DASHIE_COLLECT_H */
