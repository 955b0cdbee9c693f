/*
 * collect.c
 *		Reads the sessions of a stretch of days into pages, in one pass.
 *
 * A session belongs to the sets of all days that it overlaps and to the
 * entries of the day it started in.  Sessions of up to a day that overlap the
 * stretch start at most a day before it: one range of the index on started_at.
 * The few longer ones come from a partial index.  Neither index is trusted to
 * be there: without one the table is read.
 *
 * The rule of a page that is computed again: the entries of users who are
 * still there are replaced by what the rows say; those of users who are not
 * are kept, if the page was final, that is, if the day was over before they
 * left.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "common/int.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "common/relation.h"
#include "metrics/engine.h"

#define SHORT_SESSION USECS_PER_DAY

/* Of the index on long sessions, as PostgreSQL prints it. */
#define LONG_PREDICATE \
	"((COALESCE(ended_at, last_activity_at, started_at) - started_at) > '1 day'::interval)"

/* What is counted for one (day, user, country). */
typedef struct Tally
{
	uint64 key; /* day index, user number, country, from high to low */
	uint32 status;
	int64 sessions;
	int64 ended;
	int64 duration;
	TimestampTz latest_at;
	pg_uuid_t latest_session;
} Tally;

#define TALLY_KEY(day, user, country) \
	((uint64) (day) << 48 | (uint64) (uint32) (user) << 16 | (country))
#define TALLY_DAY(key) ((int) ((key) >> 48))
#define TALLY_USER(key) ((int32) ((key) >> 16))
#define TALLY_COUNTRY(key) ((CountryCode) (key))

#define SH_PREFIX tallies
#define SH_ELEMENT_TYPE Tally
#define SH_KEY_TYPE uint64
#define SH_KEY key
#define SH_HASH_KEY(tb, key) \
	hash_combine(murmurhash32((uint32) ((key) >> 32)), murmurhash32((uint32) (key)))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct Collector
{
	Metrics *metrics;
	int ndays;
	const bool *wanted;
	TimestampTz *starts; /* of each day, and the end of the last */
	UserSet **active;
	UserSet **dashboards;
	UserSet **heartbeats;
	struct tallies_hash *tallies;
} Collector;

/* Index of the day that an instant lies in: -1 before the stretch, ndays after it. */
static int
day_index(const Collector *collector, TimestampTz at)
{
	int low = 0;
	int high = collector->ndays + 1;

	/* the first day that starts after "at", less one */
	while (low < high)
	{
		int middle = (low + high) / 2;

		if (collector->starts[middle] > at)
			high = middle;
		else
			low = middle + 1;
	}
	return low - 1;
}

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

static void
count_session(Collector *collector, int day, int32 user, CountryCode country, bool ended,
			  int64 duration, TimestampTz started, const pg_uuid_t *id)
{
	bool found;
	Tally *tally = tallies_insert(collector->tallies, TALLY_KEY(day, user, country), &found);

	if (!found)
	{
		tally->sessions = tally->ended = tally->duration = 0;
		tally->latest_at = DT_NOBEGIN;
		memset(&tally->latest_session, 0, UUID_LEN);
	}
	tally->sessions++;
	if (ended)
	{
		tally->ended++;
		if (pg_add_s64_overflow(tally->duration, duration, &tally->duration))
			ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
							errmsg("sum of session durations is out of range")));
	}
	if (started > tally->latest_at ||
		(started == tally->latest_at && memcmp(id, &tally->latest_session, UUID_LEN) > 0))
	{
		tally->latest_at = started;
		tally->latest_session = *id;
	}
}

static void
collect_session(Collector *collector, DashieScan *scan, const DashieColumn *columns)
{
	Metrics *metrics = collector->metrics;
	UserEntry *user = NULL;
	TimestampTz started;
	TimestampTz ended_at = 0;
	TimestampTz covered;
	bool has_ended;
	bool isnull;
	Datum value;
	int first;
	int last;

	value = dashie_scan_get(scan, &columns[COLUMN_STARTED], &isnull);
	if (isnull)
		return;
	started = covered = DatumGetTimestampTz(value);
	value = dashie_scan_get(scan, &columns[COLUMN_ENDED], &isnull);
	has_ended = !isnull;
	if (has_ended)
		covered = ended_at = DatumGetTimestampTz(value);
	else
	{
		value = dashie_scan_get(scan, &columns[COLUMN_LAST_ACTIVITY], &isnull);
		if (!isnull)
			covered = DatumGetTimestampTz(value);
	}

	first = day_index(collector, started);
	last = Min(day_index(collector, covered), collector->ndays - 1);
	if (last < 0 && first < 0)
		return;

	value = dashie_scan_get(scan, &columns[COLUMN_USER], &isnull);
	if (!isnull)
		user = numbers_user(metrics, DatumGetUUIDP(value));

	if (first >= 0 && first < collector->ndays && collector->wanted[first])
	{
		int64 duration = 0;
		CountryCode country;

		if (has_ended && pg_sub_s64_overflow(ended_at, started, &duration))
			ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
							errmsg("session duration is out of range")));
		value = dashie_scan_get(scan, &columns[COLUMN_COUNTRY], &isnull);
		country = country_code(value, isnull);
		count_session(collector, first, user != NULL ? user->number : 0, country, has_ended,
					  duration, started, session_id(scan, &columns[COLUMN_ID]));
	}

	if (user == NULL)
		return;
	value = dashie_scan_get(scan, &columns[COLUMN_DASHBOARD], &isnull);
	for (int i = Max(first, 0); i <= last; i++)
	{
		if (!collector->wanted[i])
			continue;
		if (!user->deleted)
			roaring_bitmap_add(collector->active[i], user->number);
		if (!isnull)
			roaring_bitmap_add(collector->dashboards[i],
							   numbers_dashboard(metrics, DatumGetUUIDP(value), user->number));
	}
}

/*
 * holds_long_sessions knows the index on long sessions by what it holds and
 * not by its name.  Its predicate is looked at as it is stored: nothing of it
 * is evaluated.
 */
static bool
holds_long_sessions(Relation index)
{
	Oid table = index->rd_index->indrelid;
	List *context = deparse_context_for(get_rel_name(table), table);
	HeapTuple tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(RelationGetRelid(index)));
	bool isnull;
	Node *predicate;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for index %u", RelationGetRelid(index));
	predicate = stringToNode(
		TextDatumGetCString(SysCacheGetAttr(INDEXRELID, tuple, Anum_pg_index_indpred, &isnull)));
	ReleaseSysCache(tuple);
	return strcmp(deparse_expression(predicate, context, false, false), LONG_PREDICATE) == 0;
}

static void
collect_sessions(Collector *collector)
{
	Metrics *metrics = collector->metrics;
	DashieColumn columns[SESSION_COLUMNS] = {
		[COLUMN_ID] = {"id", UUIDOID, true, 0},
		[COLUMN_USER] = {"user_id", UUIDOID, true, 0},
		[COLUMN_DASHBOARD] = {"dashboard_id", UUIDOID, true, 0},
		[COLUMN_STARTED] = {"started_at", TIMESTAMPTZOID, true, 0},
		[COLUMN_ENDED] = {"ended_at", TIMESTAMPTZOID, true, 0},
		[COLUMN_LAST_ACTIVITY] = {"last_activity_at", TIMESTAMPTZOID, true, 0},
		[COLUMN_COUNTRY] = {"country_code", TEXTOID, true, 0},
	};
	TimestampTz near = collector->starts[0] - SHORT_SESSION;
	Relation rel;
	DashieScan *scan;
	Oid long_index;

	rel = dashie_relation_open(metrics->sessions_rel, AccessShareLock, ACL_SELECT, false);
	dashie_relation_columns(rel, columns, SESSION_COLUMNS);

	scan = dashie_scan_begin_range(rel, metrics->snapshot, &columns[COLUMN_STARTED], near,
								   collector->starts[collector->ndays]);
	while (dashie_scan_next(scan))
		collect_session(collector, scan, columns);
	dashie_scan_end(scan);

	long_index = dashie_find_index(rel, columns[COLUMN_STARTED].attnum, holds_long_sessions);
	if (OidIsValid(long_index))
		scan = dashie_scan_begin_index(rel, metrics->snapshot, long_index, DT_NOBEGIN, near);
	else
		scan = dashie_scan_begin_range(rel, metrics->snapshot, &columns[COLUMN_STARTED], DT_NOBEGIN,
									   near);
	while (dashie_scan_next(scan))
		collect_session(collector, scan, columns);
	dashie_scan_end(scan);
	table_close(rel, NoLock);
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
		day = day_index(collector, DatumGetTimestampTz(value));
		if (day < 0 || day >= collector->ndays || !collector->wanted[day])
			continue;
		value = dashie_scan_get(scan, &columns[1], &isnull);
		user = isnull ? NULL : numbers_user(metrics, DatumGetUUIDP(value));
		if (user == NULL)
			continue;
		id = dashie_scan_uuid(scan, &columns[0]);
		if (id != NULL)
			roaring_bitmap_add(collector->heartbeats[day],
							   numbers_dashboard(metrics, id, user->number));
	}
	dashie_scan_end(scan);
	table_close(rel, NoLock);
}

static int
compare_tallies(const void *a, const void *b)
{
	uint64 left = (*(Tally *const *) a)->key;
	uint64 right = (*(Tally *const *) b)->key;

	return left < right ? -1 : left > right;
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

/*
 * fill_entries makes a day's entries of its tallies, sorted by user and
 * country, and tells the country of each user's latest session.
 */
static void
fill_entries(Collector *collector, PageEntry *entries, Tally **tallies, int ntallies)
{
	int next;

	for (int i = 0; i < ntallies; i = next)
	{
		int32 number = TALLY_USER(tallies[i]->key);
		int latest = -1;

		for (next = i; next < ntallies && TALLY_USER(tallies[next]->key) == number; next++)
		{
			Tally *tally = tallies[next];

			entries[next].user = number;
			entries[next].country = TALLY_COUNTRY(tally->key);
			entries[next].latest = false;
			entries[next].sessions = tally->sessions;
			entries[next].ended = tally->ended;
			entries[next].duration = tally->duration;
			if (entries[next].country == NO_COUNTRY)
				continue;
			if (latest < 0 || tally->latest_at > tallies[latest]->latest_at ||
				(tally->latest_at == tallies[latest]->latest_at &&
				 memcmp(&tally->latest_session, &tallies[latest]->latest_session, UUID_LEN) > 0))
				latest = next;
		}
		if (latest >= 0)
		{
			UserEntry *user = numbers_by_number(collector->metrics, number);

			entries[latest].latest = true;
			if (user != NULL)
				countries_candidate(user, entries[latest].country, tallies[latest]->latest_at,
									&tallies[latest]->latest_session);
		}
	}
}

/* Adds to "into" the members of "from" that stay although their user is not there. */
static void
keep_users(Metrics *metrics, UserSet *into, UserSet *from)
{
	int64 count;
	int32 *members = user_set_members(from, metrics->max_user, &count);

	for (int64 i = 0; i < count; i++)
	{
		UserEntry *user = numbers_by_number(metrics, members[i]);

		if (user == NULL || !user_is_there(user))
			roaring_bitmap_add(into, members[i]);
	}
}

/* The same for dashboards, of users who are gone or of those who are there. */
static void
keep_dashboards(Metrics *metrics, UserSet *into, UserSet *from, bool of_gone)
{
	int64 count;
	int32 *members = user_set_members(from, metrics->max_dashboard, &count);

	for (int64 i = 0; i < count; i++)
	{
		DashboardEntry *dashboard = numbers_dashboard_by_number(metrics, members[i]);

		if ((dashboard == NULL || numbers_gone(metrics, dashboard->user_number)) == of_gone)
			roaring_bitmap_add(into, members[i]);
	}
}

static int32
count_returning(Metrics *metrics, UserSet *active, TimestampTz before)
{
	int64 nmembers;
	int32 *members = user_set_members(active, metrics->max_user, &nmembers);
	int32 count = 0;

	for (int64 i = 0; i < nmembers; i++)
	{
		UserEntry *user = numbers_by_number(metrics, members[i]);

		if (user != NULL && !user->anonymous && user->has_signup && user->signed_up_at < before)
			count++;
	}
	return count;
}

/* Distinct dashboards of two sets that name them by user. */
static int32
count_dashboards(Metrics *metrics, UserSet *sessions, UserSet *heartbeats)
{
	int64 count;
	int32 *members;
	UserSet *all = user_set_create();
	UserSet *distinct = user_set_create();

	roaring_bitmap_or_inplace(all, sessions);
	roaring_bitmap_or_inplace(all, heartbeats);
	members = user_set_members(all, metrics->max_dashboard, &count);
	for (int64 i = 0; i < count; i++)
	{
		DashboardEntry *dashboard = numbers_dashboard_by_number(metrics, members[i]);

		roaring_bitmap_add(distinct, dashboard != NULL ? dashboard->first->number : members[i]);
	}
	return (int32) roaring_bitmap_get_cardinality(distinct);
}

static void
finish_page(Collector *collector, DayPage *page, int day, Tally **tallies, int ntallies)
{
	Metrics *metrics = collector->metrics;
	bool keep = page->stored && page->final;
	PageEntry *entries =
		palloc_extended(Max(ntallies + page->nentries, 1) * sizeof(PageEntry), MCXT_ALLOC_HUGE);
	int nentries = ntallies;

	fill_entries(collector, entries, tallies, ntallies);
	for (int i = 0; keep && i < page->nentries; i++)
		if (page->entries[i].user != 0 && numbers_gone(metrics, page->entries[i].user))
			entries[nentries++] = page->entries[i];
	qsort(entries, nentries, sizeof(PageEntry), compare_entries);

	if (keep)
	{
		keep_users(metrics, collector->active[day], page->active);
		keep_dashboards(metrics, collector->dashboards[day], page->dashboards, true);
		keep_dashboards(metrics, collector->heartbeats[day], page->heartbeats, true);
	}

	/* a dashboard's row shows its last heartbeat only: earlier ones are known by the page alone */
	keep_dashboards(metrics, collector->heartbeats[day], page->heartbeats, false);

	page->entries = entries;
	page->nentries = nentries;
	page->active = collector->active[day];
	page->dashboards = collector->dashboards[day];
	page->heartbeats = collector->heartbeats[day];
	page->final = collector->starts[day + 1] <= metrics->now;
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
	page->returning = count_returning(metrics, page->active, collector->starts[day]);
	page->ndashboards = count_dashboards(metrics, page->dashboards, page->heartbeats);
}

/*
 * collect_days computes the wanted ones of a stretch of pages, which hold
 * what was stored before.  Nothing is written.
 */
void
collect_days(Metrics *metrics, DayPage *pages, int npages, const bool *wanted)
{
	Collector collector = {0};
	tallies_iterator iterator;
	Tally *tally;
	Tally **sorted;
	int nsorted = 0;
	int from = 0;

	collector.metrics = metrics;
	collector.ndays = npages;
	collector.wanted = wanted;
	collector.starts = palloc((npages + 1) * sizeof(TimestampTz));
	collector.active = palloc(npages * sizeof(UserSet *));
	collector.dashboards = palloc(npages * sizeof(UserSet *));
	collector.heartbeats = palloc(npages * sizeof(UserSet *));
	for (int i = 0; i <= npages; i++)
		collector.starts[i] = dashie_day_start(pages[0].day + i, metrics->zone);
	for (int i = 0; i < npages; i++)
	{
		collector.active[i] = user_set_create();
		collector.dashboards[i] = user_set_create();
		collector.heartbeats[i] = user_set_create();
		if (wanted[i])
			countries_begin(metrics, collector.starts[i], collector.starts[i + 1]);
	}
	collector.tallies = tallies_create(CurrentMemoryContext, 4096, NULL);

	if (OidIsValid(metrics->sessions_rel))
		collect_sessions(&collector);
	if (OidIsValid(metrics->dashboards_rel))
		collect_heartbeats(&collector);

	sorted = palloc_extended(Max(collector.tallies->members, 1) * sizeof(Tally *), MCXT_ALLOC_HUGE);
	tallies_start_iterate(collector.tallies, &iterator);
	while ((tally = tallies_iterate(collector.tallies, &iterator)) != NULL)
		sorted[nsorted++] = tally;
	qsort(sorted, nsorted, sizeof(Tally *), compare_tallies);

	for (int i = 0; i < npages; i++)
	{
		int to = from;

		while (to < nsorted && TALLY_DAY(sorted[to]->key) == i)
			to++;
		if (wanted[i])
			finish_page(&collector, &pages[i], i, sorted + from, to - from);
		from = to;
	}
	countries_finish(metrics);
}
