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
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

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

/*
 * Reads the whole table, in parallel where that pays; with_pages if the workers
 * are wanted for the pages of new days as well.
 */
static void
read_table(Collector *collector, bool with_pages)
{
	SessionReader *reader = &collector->reader;
	int nworkers = parallel_workers_for(reader->rel);

	session_reader_whole(reader);
	if (nworkers > 0)
	{
		collector->insert_numbers = with_pages && numbers_may_insert(collector->metrics);
		collect_in_parallel(collector, nworkers, with_pages && page_may_insert(collector->metrics));
	}
	else
		collector_add_all(collector, dashie_scan_begin(reader->rel, collector->metrics->snapshot));
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
	Collector collector = {0};
	MemoryContext old;
	MemoryContext day_context;
	TimestampTz *starts;
	CountryDoubts doubts;
	bool whole_table = false;
	int count = 0;

	Assert(wanted[0]);
	/* what a day needs must be there before processes share the work */
	numbers_load(metrics);
	numbers_load_dashboards(metrics);

	collector.context =
		AllocSetContextCreate(CurrentMemoryContext, "dashie collector", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(collector.context);
	day_context =
		AllocSetContextCreate(collector.context, "dashie collected day", ALLOCSET_DEFAULT_SIZES);
	collector.metrics = metrics;
	collector.limit = (Size) maintenance_work_mem * 1024;
	ndays = Min(ndays, MAX_STRETCH_DAYS);
	if (OidIsValid(metrics->sessions_rel))
	{
		session_reader_open(&collector.reader, metrics->sessions_rel);
		collector.maker.reader = &collector.reader;
		collector.maker.slot = table_slot_create(collector.reader.rel, NULL);
		collector.maker.snapshot = metrics->snapshot;
		collector.maker.deleted = metrics->deleted;
		collector.maker.candidate = tell_country;
		collector.maker.arg = metrics;
		ndays = plan_pass(&collector, ndays, wanted, &whole_table);
	}

	starts = palloc((ndays + 1) * sizeof(TimestampTz));
	for (int i = 0; i <= ndays; i++)
		starts[i] = dashie_day_start(heads[0].day + i, metrics->zone);
	collector.stretch.ndays = ndays;
	collector.stretch.starts = starts;
	collector.wanted = palloc(ndays * sizeof(bool));
	for (int i = 0; i < ndays; i++)
		collector.wanted[i] = wanted[i];
	collector.days = palloc0(ndays * sizeof(DayRows));

	if (collector.reader.rel != NULL)
	{
		if (whole_table)
			read_table(&collector, insert != NULL);
		else
			collect_range(&collector);
	}
	for (int i = 0; i < ndays; i++)
		if (collector.wanted[i])
			collector.days[i].heartbeats = user_set_create();
	if (OidIsValid(metrics->dashboards_rel))
		collect_heartbeats(&collector);

	countries_begin(metrics, &doubts, starts, ndays, collector.wanted);
	if (collector.parallel != NULL)
	{
		count = collect_new_pages(&collector, heads, wanted, insert, arg);
		collect_parallel_end(&collector);
	}
	for (int i = 0; i < ndays; i++)
	{
		DayPage *page;

		if (!collector.wanted[i] || !wanted[i])
			continue;
		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(day_context);
		page = stored_page(metrics, &heads[i]);
		collect_page(&collector, page, i);
		done(metrics, page, arg);
		MemoryContextReset(day_context);
		collector_release(&collector, i);
		wanted[i] = false;
		count++;
	}
	countries_finish(metrics, &doubts);

	MemoryContextSwitchTo(old);
	if (collector.reader.rel != NULL)
	{
		ExecDropSingleTupleTableSlot(collector.maker.slot);
		table_close(collector.reader.rel, NoLock);
	}
	MemoryContextDelete(collector.context);
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
