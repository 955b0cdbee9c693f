/*
 * collect_page.c
 *		The rows that were read of a day become its page.
 *
 * The rule of a page that is computed again: the entries of users who are
 * still there are replaced by what the rows say; those of users who are not
 * are kept, if the page was final, that is, if the day was over before they
 * left.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "common/int.h"
#include "utils/memutils.h"

#include "common/relation.h"
#include "metrics/collect.h"

#define RADIX_BITS 11
#define RADIX (1 << RADIX_BITS)

/* Sorts rows by user, those of a user in the order they came. */
static SessionRow *
sort_rows(SessionRow *rows, uint32 n)
{
	SessionRow *from = rows;
	SessionRow *to;
	uint32 highest = 0;

	if (n < 2)
		return rows;
	for (uint32 i = 0; i < n; i++)
		highest = Max(highest, rows[i].user);
	to = palloc_extended((Size) n * sizeof(SessionRow), MCXT_ALLOC_HUGE);
	for (int shift = 0; shift < 32 && highest >> shift != 0; shift += RADIX_BITS)
	{
		uint32 starts[RADIX] = {0};
		uint32 sum = 0;
		SessionRow *swap = from;

		for (uint32 i = 0; i < n; i++)
			starts[(from[i].user >> shift) & (RADIX - 1)]++;
		for (int i = 0; i < RADIX; i++)
		{
			uint32 count = starts[i];

			starts[i] = sum;
			sum += count;
		}
		for (uint32 i = 0; i < n; i++)
			to[starts[(from[i].user >> shift) & (RADIX - 1)]++] = from[i];
		from = to;
		to = swap;
	}
	return from;
}

/* The same for numbers alone. */
static uint32 *
sort_numbers(uint32 *numbers, uint32 n)
{
	uint32 *from = numbers;
	uint32 *to;
	uint32 highest = 0;

	if (n < 2)
		return numbers;
	for (uint32 i = 0; i < n; i++)
		highest = Max(highest, numbers[i]);
	to = palloc_extended((Size) n * sizeof(uint32), MCXT_ALLOC_HUGE);
	for (int shift = 0; shift < 32 && highest >> shift != 0; shift += RADIX_BITS)
	{
		uint32 starts[RADIX] = {0};
		uint32 sum = 0;
		uint32 *swap = from;

		for (uint32 i = 0; i < n; i++)
			starts[(from[i] >> shift) & (RADIX - 1)]++;
		for (int i = 0; i < RADIX; i++)
		{
			uint32 count = starts[i];

			starts[i] = sum;
			sum += count;
		}
		for (uint32 i = 0; i < n; i++)
			to[starts[(from[i] >> shift) & (RADIX - 1)]++] = from[i];
		from = to;
		to = swap;
	}
	return from;
}

/* A set of the numbers of a list, in any order and many times. */
static UserSet *
set_of_list(const NumberList *list)
{
	uint32 *numbers = sort_numbers(list->numbers, list->n);
	uint32 distinct = 0;

	for (uint32 i = 0; i < list->n; i++)
		if (distinct == 0 || numbers[distinct - 1] != numbers[i])
			numbers[distinct++] = numbers[i];
	return user_set_of_sorted(numbers, distinct);
}

/* The id of a session, which is asked for only if two began at the same instant. */
static pg_uuid_t
row_id(Collector *collector, const SessionRow *row)
{
	const DashieColumn *column = &collector->reader.columns[COLUMN_ID];
	Relation rel = collector->reader.rel;
	ItemPointerData tid;
	pg_uuid_t id = {{0}};
	bool isnull;
	Datum value;

	if (collector->slot == NULL)
		collector->slot = table_slot_create(rel, NULL);
	ItemPointerSet(&tid, row->block, row->start & PG_UINT16_MAX);
	if (!table_tuple_fetch_row_version(rel, &tid, collector->metrics->snapshot, collector->slot))
		elog(ERROR, "a session has vanished from \"%s\"", RelationGetRelationName(rel));
	value = slot_getattr(collector->slot, column->attnum, &isnull);
	if (!isnull)
		id = *DatumGetUUIDP(value);
	ExecClearTuple(collector->slot);
	return id;
}

static bool
later(Collector *collector, const SessionRow *row, const SessionRow *than)
{
	pg_uuid_t id;
	pg_uuid_t than_id;

	if (ROW_AT(row) != ROW_AT(than))
		return ROW_AT(row) > ROW_AT(than);
	if (session_row_country(row) == session_row_country(than))
		return false;
	id = row_id(collector, row);
	than_id = row_id(collector, than);
	return memcmp(&id, &than_id, UUID_LEN) > 0;
}

static void
add_to_entry(PageEntry *entry, const SessionRow *row)
{
	entry->sessions++;
	if (row->duration == NOT_ENDED)
		return;
	entry->ended++;
	if (pg_add_s64_overflow(entry->duration, row->duration, &entry->duration))
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("sum of session durations is out of range")));
}

static void
begin_entry(PageEntry *entry, const SessionRow *row)
{
	entry->user = (int32) row->user;
	entry->country = session_row_country(row);
	entry->latest = false;
	entry->sessions = entry->ended = entry->duration = 0;
	add_to_entry(entry, row);
}

/*
 * The rows that one user has in a day that begins at "starts_at": an entry for
 * each country, in the order of the countries.  The latest may tell the user's
 * country; which one of the same instant it was is settled here.
 */
static int
user_entries(Collector *collector, TimestampTz starts_at, const SessionRow *rows, int nrows,
			 PageEntry *entries)
{
	const SessionRow *latest = NULL;
	int nentries = 0;

	for (int i = 0; i < nrows; i++)
	{
		CountryCode country = session_row_country(&rows[i]);
		int at = nentries;

		/* a user is rarely in more than one country a day */
		while (at > 0 && entries[at - 1].country > country)
			at--;
		if (at > 0 && entries[at - 1].country == country)
			add_to_entry(&entries[at - 1], &rows[i]);
		else
		{
			memmove(entries + at + 1, entries + at, (nentries - at) * sizeof(PageEntry));
			begin_entry(&entries[at], &rows[i]);
			nentries++;
		}
		if (country != NO_COUNTRY && rows[i].user != 0 &&
			(latest == NULL || later(collector, &rows[i], latest)))
			latest = &rows[i];
	}
	if (latest == NULL)
		return nentries;
	for (int i = 0; i < nentries; i++)
		entries[i].latest = entries[i].country == session_row_country(latest);
	countries_candidate(numbers_by_number(collector->metrics, (int32) latest->user),
						session_row_country(latest), starts_at + (TimestampTz) ROW_AT(latest),
						&lowest_session_id);
	return nentries;
}

/*
 * make_entries makes a day's entries of its rows, sorted by user and country,
 * and the set of the users of the day, who count unless marked as deleted.
 */
static int
make_entries(Collector *collector, TimestampTz starts_at, DayRows *day, PageEntry *entries,
			 UserSet **active)
{
	SessionRow *rows = sort_rows(day->rows, day->nrows);
	uint32 *users = palloc_extended(Max(day->nrows, 1) * sizeof(uint32), MCXT_ALLOC_HUGE);
	int nusers = 0;
	int nentries = 0;
	uint32 next;

	for (uint32 i = 0; i < day->nrows; i = next)
	{
		uint32 number = rows[i].user;

		for (next = i + 1; next < day->nrows && rows[next].user == number;)
			next++;
		nentries += user_entries(collector, starts_at, rows + i, next - i, entries + nentries);
		if (number != 0)
			users[nusers++] = number;
	}
	*active = user_set_of_sorted(users, nusers);
	pfree(users);
	roaring_bitmap_or_inplace(*active, set_of_list(&day->users));
	if (collector->metrics->deleted != NULL)
		roaring_bitmap_andnot_inplace(*active, collector->metrics->deleted);
	return nentries;
}

static int
compare_entries(const void *a, const void *b)
{
	const PageEntry *left = a;
	const PageEntry *right = b;

	if (left->user != right->user)
		return left->user < right->user ? -1 : 1;
	return (int) left->country - (int) right->country;
}

/* Adds to "into" those of "from" that are not in "without". */
static void
keep_others(UserSet *into, const UserSet *from, const UserSet *without, int32 max)
{
	if (roaring_bitmap_is_empty(from))
		return;
	user_set_require_max(from, max);
	roaring_bitmap_or_inplace(into, user_set_adopt(roaring_bitmap_andnot(from, without)));
}

/* The dashboards of users who have not departed. */
static const UserSet *
dashboards_there(Collector *collector)
{
	Metrics *metrics = collector->metrics;
	MemoryContext old;
	int32 size = metrics->dashboards.size;
	uint32 *numbers;
	uint32 n = 0;

	if (collector->dashboards_there != NULL)
		return collector->dashboards_there;
	old = MemoryContextSwitchTo(collector->context);
	numbers = palloc_extended(Max(size, 1) * sizeof(uint32), MCXT_ALLOC_HUGE);
	for (int32 number = 0; number < size; number++)
	{
		int32 user = metrics->dashboards.entries[number].user_number;

		if (user != 0 && user < metrics->next_user && !roaring_bitmap_contains(metrics->gone, user))
			numbers[n++] = number;
	}
	collector->dashboards_there = user_set_of_sorted(numbers, n);
	pfree(numbers);
	MemoryContextSwitchTo(old);
	return collector->dashboards_there;
}

/*
 * signed_up_before is the set of the users, anonymous ones left out, who signed
 * up before the day began.  Days are asked for in their order.
 */
static UserSet *
signed_up_before(Collector *collector, int day)
{
	Metrics *metrics = collector->metrics;
	const Stretch *stretch = &collector->stretch;

	if (collector->signups == NULL)
	{
		collector->signups =
			MemoryContextAllocZero(collector->context, (stretch->ndays + 1) * sizeof(NumberList));
		for (int32 number = 0; number < metrics->by_number_size; number++)
		{
			UserEntry *user = numbers_by_number(metrics, number);

			if (user != NULL && !user->anonymous && user->has_signup &&
				user->signed_up_at < stretch->starts[stretch->ndays])
				number_list_add(
					collector,
					&collector->signups[dashie_day_search(stretch->starts, stretch->ndays,
														  user->signed_up_at) +
										1],
					number);
		}
	}
	for (; collector->signups_until <= day; collector->signups_until++)
	{
		NumberList *list = &collector->signups[collector->signups_until];

		if (collector->signed_up == NULL)
		{
			MemoryContext old = MemoryContextSwitchTo(collector->context);

			collector->signed_up = user_set_create();
			MemoryContextSwitchTo(old);
		}
		roaring_bitmap_add_many(collector->signed_up, list->n, list->numbers);
	}
	return collector->signed_up;
}

/*
 * Distinct dashboards of two sets that name them by user: a dashboard of
 * several users counts once.
 */
static int32
count_dashboards(Metrics *metrics, UserSet *sessions, UserSet *heartbeats)
{
	int64 count;
	int32 *members;
	UserSet *all = sessions;
	UserSet *distinct;

	if (!roaring_bitmap_is_empty(heartbeats))
		all = user_set_adopt(roaring_bitmap_or(sessions, heartbeats));
	numbers_settle_dashboards(metrics);
	if (!metrics->dashboards_shared)
		return (int32) roaring_bitmap_get_cardinality(all);
	members = user_set_members(all, metrics->max_dashboard, &count);
	distinct = user_set_create();
	for (int64 i = 0; i < count; i++)
	{
		const DashboardEntry *dashboard = numbers_dashboard_by_number(metrics, members[i]);

		roaring_bitmap_add(distinct, dashboard != NULL ? dashboard->first : members[i]);
	}
	pfree(members);
	return (int32) roaring_bitmap_get_cardinality(distinct);
}

/*
 * collect_page fills a page, which holds what was stored before, in the
 * current memory context.
 */
void
collect_page(Collector *collector, DayPage *page, int day)
{
	Metrics *metrics = collector->metrics;
	DayRows *rows = &collector->days[day];
	const TimestampTz *starts = collector->stretch.starts;
	bool keep = page->stored && page->final;
	PageEntry *entries = palloc_extended(
		((Size) rows->nrows + page->nentries + 1) * sizeof(PageEntry), MCXT_ALLOC_HUGE);
	UserSet *active;
	UserSet *dashboards;
	int nentries = make_entries(collector, starts[day], rows, entries, &active);
	int computed = nentries;

	for (int i = 0; keep && i < page->nentries; i++)
		if (page->entries[i].user != 0 && numbers_gone(metrics, page->entries[i].user))
			entries[nentries++] = page->entries[i];
	if (nentries > computed)
		qsort(entries, nentries, sizeof(PageEntry), compare_entries);

	dashboards = set_of_list(&rows->dashboards);
	if (keep)
	{
		keep_others(active, page->active, numbers_there(metrics), metrics->max_user);
		keep_others(dashboards, page->dashboards, dashboards_there(collector),
					metrics->max_dashboard);
	}

	user_set_require_max(page->heartbeats, metrics->max_dashboard);

	/* a dashboard's row shows its last heartbeat only: earlier ones are known by the page alone */
	if (keep)
		roaring_bitmap_or_inplace(rows->heartbeats, page->heartbeats);
	else if (!roaring_bitmap_is_empty(page->heartbeats))
		roaring_bitmap_or_inplace(
			rows->heartbeats,
			user_set_adopt(roaring_bitmap_and(page->heartbeats, dashboards_there(collector))));

	page->entries = entries;
	page->nentries = nentries;
	page->active = active;
	page->dashboards = dashboards;
	page->heartbeats = rows->heartbeats;
	page->final = starts[day + 1] <= metrics->now;
	page->has_sessions = OidIsValid(metrics->sessions_rel);
	page->has_dashboards = page->has_sessions || OidIsValid(metrics->dashboards_rel);
	page->sessions = page->ended = page->duration = 0;
	for (int i = 0; i < nentries; i++)
	{
		page->sessions += entries[i].sessions;
		page->ended += entries[i].ended;
		if (pg_add_s64_overflow(page->duration, entries[i].duration, &page->duration))
			ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
							errmsg("sum of session durations is out of range")));
	}
	page->returning =
		(int32) roaring_bitmap_and_cardinality(page->active, signed_up_before(collector, day));
	page->ndashboards = count_dashboards(metrics, page->dashboards, page->heartbeats);
}
