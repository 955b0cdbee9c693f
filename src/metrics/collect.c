/*
 * collect.c
 *		Reads the sessions of a stretch of days into pages, in one pass.
 *
 * Two ways lead to the rows.  A short stretch of a long history is found
 * through indexes (collect_range.c).  A stretch that is a good part of what
 * there is is read with the whole table, in the order of its blocks, by several
 * processes if it is large (collect_parallel.c).
 *
 * A pass holds what it reads in at most maintenance_work_mem, and one day in
 * any case: days that do not fit are left to a later pass.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/blocks.h"
#include "common/relation.h"
#include "metrics/collect.h"

/*
 * Reading a row through an index costs several times what it costs in the
 * order of the table: from this share of the time that the table covers on,
 * the table is read.
 */
#define TABLE_SHARE 4

/* Days in between that need not be computed, but are not worth another pass. */
#define MAX_GAP_DAYS 7

/* A guess for a table that was never analyzed. */
#define ROWS_PER_BLOCK 40

/* What each row names must be known before the first is taken. */
static void
load_numbers(Metrics *metrics)
{
	numbers_load(metrics);
	numbers_load_dashboards(metrics);
}

/*
 * Reads the whole table, in parallel where that pays; with_pages if the workers
 * are wanted for the pages of new days as well.  Users that were not looked at
 * yet are while the workers begin.
 */
static void
read_table(Collector *collector, bool with_pages)
{
	Metrics *metrics = collector->metrics;
	SessionReader *reader = &collector->reader;
	int nworkers = parallel_workers_for(RelationGetNumberOfBlocks(reader->rel));
	bool with_numbers;

	session_reader_whole(reader);
	if (nworkers == 0)
	{
		load_numbers(metrics);
		collector_add_all(collector, dashie_scan_begin(reader->rel, metrics->snapshot));
		return;
	}
	with_pages = with_pages && page_may_insert(metrics);
	with_numbers = with_pages && numbers_may_insert();
	/* no transaction gets its id later on */
	if (with_pages)
		(void) GetCurrentTransactionId();
	collect_parallel_begin(collector, nworkers, NULL);
	load_numbers(metrics);
	collector->insert_numbers = with_numbers && !numbers_have_changed(metrics);
	if (!collect_parallel_read(collector) || !with_pages)
		collect_parallel_end(collector);
}

/* When the first session of the table began; without an index on it, long ago. */
static TimestampTz
first_start(Collector *collector)
{
	const DashieColumn *started = &collector->reader.columns[COLUMN_STARTED];
	TimestampTz first = collector->metrics->now;
	DashieScan *scan;

	scan = dashie_scan_begin_range(collector->reader.rel, collector->metrics->snapshot, started,
								   DT_NOBEGIN, first);
	if (dashie_scan_next(scan))
	{
		bool isnull;
		Datum value = dashie_scan_get(scan, started, &isnull);

		if (!isnull)
			first = DatumGetTimestampTz(value);
	}
	dashie_scan_end(scan);
	return Max(first, dashie_day_start(DASHIE_MIN_DAY, collector->metrics->zone));
}

/*
 * plan_pass decides how many of the days are read at once, and whether with
 * the whole table.
 */
static int
plan_pass(Collector *collector, int ndays, const bool *wanted, bool *whole_table)
{
	Relation rel = collector->reader.rel;
	int last = 0;
	int gap = 0;
	double covered;
	double rows;
	double fitting;

	for (int i = 0; i < ndays && gap <= MAX_GAP_DAYS; i++)
	{
		gap = wanted[i] ? 0 : gap + 1;
		if (wanted[i])
			last = i;
	}
	ndays = last + 1;
	*whole_table = true;
	if (!OidIsValid(dashie_find_index(rel, collector->reader.columns[COLUMN_STARTED].attnum, NULL)))
		return ndays;
	*whole_table = false;
	if (ndays <= 2)
		return ndays;

	covered = Max((double) (collector->metrics->now - first_start(collector)) / USECS_PER_DAY, 1);
	rows = rel->rd_rel->reltuples;
	if (rows <= 0)
		rows = (double) RelationGetNumberOfBlocks(rel) * ROWS_PER_BLOCK;
	fitting = collector->limit / (sizeof(SessionRow) + sizeof(uint32)) * covered / Max(rows, 1);
	if (fitting < ndays)
		ndays = Max((int) fitting, 1);
	*whole_table = ndays >= covered / TABLE_SHARE;
	return ndays;
}

/* The last heartbeat of each dashboard, where it lies in a wanted day. */
static void
collect_heartbeats(Collector *collector)
{
	Metrics *metrics = collector->metrics;
	DashieColumn columns[] = {
		{"id", UUIDOID, true, 0},
		{metrics->own_dashboards ? "user_id" : "auth_user_id", UUIDOID, true, 0},
		{"last_heartbeat_at", TIMESTAMPTZOID, true, 0},
	};
	Relation rel =
		dashie_relation_open(metrics->dashboards_rel, AccessShareLock, ACL_SELECT, false);
	DashieScan *scan;

	dashie_relation_columns(rel, columns, lengthof(columns));
	scan = dashie_scan_begin(rel, metrics->snapshot);
	while (dashie_scan_next(scan))
	{
		bool isnull;
		Datum value = dashie_scan_get(scan, &columns[2], &isnull);
		int day;
		UserEntry *user;
		const pg_uuid_t *id;

		if (isnull)
			continue;
		day = dashie_day_search(collector->stretch.starts, collector->stretch.ndays,
								DatumGetTimestampTz(value));
		if (day < 0 || day >= collector->stretch.ndays || !collector->wanted[day])
			continue;
		value = dashie_scan_get(scan, &columns[1], &isnull);
		user = isnull ? NULL : numbers_user(metrics, DatumGetUUIDP(value));
		if (user == NULL)
			continue;
		id = dashie_scan_uuid(scan, &columns[0]);
		if (id != NULL)
			roaring_bitmap_add(collector->days[day].heartbeats,
							   numbers_dashboard(metrics, id, user->number));
	}
	dashie_scan_end(scan);
	table_close(rel, NoLock);
}

/*
 * The page as it is stored, with its contents; a day without a row has an empty
 * one.  A head may have come with them.
 */
static DayPage *
stored_page(Metrics *metrics, const DayPage *head)
{
	DayPage *page;

	if (head->stored && head->active == NULL)
		return pages_load(metrics, head->day, head->day, true);
	page = palloc(sizeof(DayPage));
	*page = *head;
	if (page->active == NULL)
	{
		page->active = user_set_create();
		page->dashboards = user_set_create();
		page->heartbeats = user_set_create();
	}
	return page;
}

/* The leader's DayMaker.candidate. */
static void
tell_country(void *arg, uint32 user, CountryCode country, TimestampTz at)
{
	countries_candidate(numbers_by_number(arg, (int32) user), country, at, &lowest_session_id);
}

/*
 * begin_collector plans a pass over as many of the days as are read at once, of
 * which the first one is wanted.
 */
static Collector *
begin_collector(Metrics *metrics, DateADT first_day, int ndays, const bool *wanted,
				bool *whole_table)
{
	MemoryContext context =
		AllocSetContextCreate(metrics->context, "dashie collector", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Collector *collector = palloc0(sizeof(Collector));
	TimestampTz *starts;

	Assert(wanted[0]);
	collector->context = context;
	collector->metrics = metrics;
	collector->first_day = first_day;
	collector->limit = (Size) maintenance_work_mem * 1024;
	ndays = Min(ndays, MAX_STRETCH_DAYS);
	*whole_table = false;
	if (OidIsValid(metrics->sessions_rel))
	{
		session_reader_open(&collector->reader, metrics->sessions_rel);
		ndays = plan_pass(collector, ndays, wanted, whole_table);
	}

	starts = palloc((ndays + 1) * sizeof(TimestampTz));
	for (int i = 0; i <= ndays; i++)
		starts[i] = dashie_day_start(first_day + i, metrics->zone);
	collector->stretch.ndays = ndays;
	collector->stretch.starts = starts;
	collector->wanted = palloc(ndays * sizeof(bool));
	memcpy(collector->wanted, wanted, ndays * sizeof(bool));
	collector->days = palloc0(ndays * sizeof(DayRows));
	MemoryContextSwitchTo(old);
	return collector;
}

static void
end_collector(Collector *collector)
{
	if (collector->maker.slot != NULL)
		ExecDropSingleTupleTableSlot(collector->maker.slot);
	if (collector->reader.rel != NULL)
		table_close(collector->reader.rel, NoLock);
	MemoryContextDelete(collector->context);
}

/* Whether a worker could be worth it at all. */
static bool
may_pay(Oid sessions)
{
	Relation rel = dashie_relation_open(sessions, AccessShareLock, ACL_SELECT, false);
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);

	table_close(rel, NoLock);
	return parallel_workers_for(blocks) > 0;
}

/* The first of the last wanted days that are one pass; ndays where none is wanted. */
static int
last_pass(int ndays, const bool *wanted)
{
	int first = ndays;
	int gap = 0;

	for (int i = ndays - 1; i >= 0 && (first == ndays || gap <= MAX_GAP_DAYS); i--)
	{
		gap = wanted[i] ? 0 : gap + 1;
		if (wanted[i])
			first = i;
	}
	return first;
}

/*
 * collect_ahead lets a worker begin to read the last of the wanted days, for which
 * collect_stretch() will be asked, where they are a part of the table that is
 * worth it.  The caller looks at the users meanwhile, and then calls
 * collect_ahead_read(): nothing may be written in between.  One worker, since the
 * caller is busy too.
 */
void
collect_ahead(Metrics *metrics, DateADT first_day, int ndays, const bool *wanted)
{
	int first = last_pass(ndays, wanted);
	DashieBlocks *blocks = NULL;
	Collector *collector;
	MemoryContext old;
	bool whole_table;

	if (!OidIsValid(metrics->sessions_rel) || first == ndays || !may_pay(metrics->sessions_rel))
		return;
	collector =
		begin_collector(metrics, first_day + first, ndays - first, wanted + first, &whole_table);
	old = MemoryContextSwitchTo(collector->context);
	if (!whole_table)
		blocks = collect_range_blocks(collector);
	if (blocks != NULL && parallel_workers_for(dashie_blocks_count(blocks)) > 0)
	{
		session_reader_whole(&collector->reader);
		collect_parallel_begin(collector, 1, blocks);
		metrics->ahead = collector;
	}
	MemoryContextSwitchTo(old);
	if (metrics->ahead == NULL)
		end_collector(collector);
}

/*
 * collect_ahead_read takes what has been read ahead, once the users are known.
 */
void
collect_ahead_read(Metrics *metrics)
{
	MemoryContext old;

	if (metrics->ahead == NULL)
		return;
	load_numbers(metrics);
	old = MemoryContextSwitchTo(metrics->ahead->context);
	(void) collect_parallel_read(metrics->ahead);
	collect_parallel_end(metrics->ahead);
	MemoryContextSwitchTo(old);
}

/* collect_ahead_end forgets what nobody asked for. */
void
collect_ahead_end(Metrics *metrics)
{
	if (metrics->ahead != NULL)
		end_collector(metrics->ahead);
	metrics->ahead = NULL;
}

/* The days that were read ahead, if they are those that begin here. */
static Collector *
take_ahead(Metrics *metrics, DateADT first_day, int ndays, const bool *wanted)
{
	Collector *collector = metrics->ahead;

	if (collector == NULL || collector->first_day != first_day || collector->stretch.ndays > ndays)
		return NULL;
	metrics->ahead = NULL;
	/* days are added to those that were known to be needed, and none is struck out */
	for (int i = 0; i < collector->stretch.ndays; i++)
		Assert(wanted[i] || !collector->wanted[i]);
	return collector;
}

/* What is about to be read in another way need not be kept. */
static void
forget_ahead(Metrics *metrics, const Collector *instead)
{
	const Collector *ahead = metrics->ahead;

	if (ahead != NULL && ahead->first_day < instead->first_day + instead->stretch.ndays &&
		instead->first_day < ahead->first_day + ahead->stretch.ndays)
		collect_ahead_end(metrics);
}

/*
 * collect_stretch computes the wanted ones of the days whose heads are given,
 * of which the first is one, and hands each page to "done", in a context that
 * is reset after it.  wanted[] is cleared for the days that it computed; those
 * that it had no room for are left.  Returns how many days it computed.
 *
 * With "insert" other processes may help: pages that have no row yet are then
 * handed to it instead, as collect_new_pages() says.
 */
int
collect_stretch(Metrics *metrics, const DayPage *heads, int ndays, bool *wanted, PageDone done,
				PageDone insert, void *arg)
{
	Collector *collector;
	MemoryContext old = CurrentMemoryContext;
	MemoryContext day_context;
	CountryDoubts doubts;
	int count = 0;

	numbers_prepare(metrics);
	collector = take_ahead(metrics, heads[0].day, ndays, wanted);
	if (collector != NULL)
		MemoryContextSwitchTo(collector->context);
	else
	{
		bool whole_table;

		collector = begin_collector(metrics, heads[0].day, ndays, wanted, &whole_table);
		forget_ahead(metrics, collector);
		MemoryContextSwitchTo(collector->context);
		if (whole_table)
			read_table(collector, insert != NULL);
		else
		{
			load_numbers(metrics);
			if (collector->reader.rel != NULL)
				collect_range(collector);
		}
	}
	ndays = collector->stretch.ndays;
	if (collector->reader.rel != NULL)
	{
		collector->maker.reader = &collector->reader;
		collector->maker.slot = table_slot_create(collector->reader.rel, NULL);
		collector->maker.snapshot = metrics->snapshot;
		collector->maker.deleted = metrics->deleted;
		collector->maker.candidate = tell_country;
		collector->maker.arg = metrics;
	}
	for (int i = 0; i < ndays; i++)
		if (collector->wanted[i])
			collector->days[i].heartbeats = user_set_create();
	if (OidIsValid(metrics->dashboards_rel))
		collect_heartbeats(collector);

	countries_begin(metrics, &doubts, collector->stretch.starts, ndays, collector->wanted);
	if (collector->parallel != NULL)
	{
		count = collect_new_pages(collector, heads, wanted, insert, arg);
		collect_parallel_end(collector);
	}
	day_context =
		AllocSetContextCreate(collector->context, "dashie collected day", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < ndays; i++)
	{
		DayPage *page;

		if (!collector->wanted[i] || !wanted[i])
			continue;
		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(day_context);
		page = stored_page(metrics, &heads[i]);
		collect_page(collector, page, i);
		done(metrics, page, arg);
		MemoryContextReset(day_context);
		collector_release(collector, i);
		wanted[i] = false;
		count++;
	}
	countries_finish(metrics, &doubts);

	MemoryContextSwitchTo(old);
	end_collector(collector);
	return count;
}

typedef struct PageCopies
{
	MemoryContext context;
	DayPage *pages;
} PageCopies;

static void
copy_page(Metrics *metrics, DayPage *page, void *arg)
{
	PageCopies *copies = arg;
	MemoryContext old = MemoryContextSwitchTo(copies->context);
	DayPage *copy = &copies->pages[page->day - copies->pages[0].day];
	Size size = Max(page->nentries, 1) * sizeof(PageEntry);

	*copy = *page;
	copy->active = user_set_adopt(roaring_bitmap_copy(page->active));
	copy->dashboards = user_set_adopt(roaring_bitmap_copy(page->dashboards));
	copy->heartbeats = user_set_adopt(roaring_bitmap_copy(page->heartbeats));
	copy->entries = palloc_extended(size, MCXT_ALLOC_HUGE);
	memcpy(copy->entries, page->entries, page->nentries * sizeof(PageEntry));
	MemoryContextSwitchTo(old);
}

/*
 * collect_days computes the wanted ones of a stretch of pages in place.
 * Nothing is written.
 */
void
collect_days(Metrics *metrics, DayPage *pages, int npages, const bool *wanted)
{
	PageCopies copies = {CurrentMemoryContext, pages};
	DayPage *heads = palloc(npages * sizeof(DayPage));
	bool *left = palloc(npages * sizeof(bool));

	memcpy(heads, pages, npages * sizeof(DayPage));
	memcpy(left, wanted, npages * sizeof(bool));
	for (int i = 0; i < npages; i++)
		while (left[i])
			(void) collect_stretch(metrics, heads + i, npages - i, left + i, copy_page, NULL,
								   &copies);
	pfree(left);
	pfree(heads);
}
