/*
 * plain.c
 *		The numbers of a day by plain SQL, for dashie.verify().
 *
 * The statements here say what a page must hold in the words of its definition
 * and share nothing with collect.c: no marks, no pages, no day arithmetic but
 * the two instants that a day lies between.  Each reads one table of the
 * application, as that table's owner, with the snapshot that the page was read
 * with: planning a statement may run code that the owner of its table made.
 * What counts of each user (there or not, anonymous, signed up when) is as the
 * run's own look at auth.users saw it.
 *
 * A page keeps what users did who have left since, and their rows are gone
 * with them.  So both sides are counted over the users who are still there.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "common/query.h"
#include "common/relation.h"
#include "metrics/verify.h"

/* Sessions that started in the day, by user and country; the last column: of the latest that has one. */
#define SESSIONS_SQL                                                                       \
	"SELECT s.user_id, s.country, count(*), count(s.ended_at),"                            \
	" coalesce(sum(s.microseconds), 0)::bigint, bool_or(s.place = 1) IS TRUE"              \
	" FROM (SELECT t.*,"                                                                   \
	"  (extract(epoch FROM t.ended_at - t.started_at) * 1000000)::bigint AS microseconds," \
	"  CASE WHEN t.country IS NOT NULL THEN row_number() OVER (PARTITION BY t.user_id,"    \
	"   t.country IS NULL ORDER BY t.started_at DESC, t.id DESC NULLS LAST) END AS place"  \
	"  FROM (SELECT id, user_id, started_at, ended_at,"                                    \
	"   CASE WHEN country_code COLLATE \"C\" ~ '^[A-Z]{2}$' AND country_code <> 'XX'"      \
	"   THEN country_code END AS country"                                                  \
	"   FROM %s WHERE started_at >= $1 AND started_at < $2) AS t) AS s GROUP BY 1, 2"

/*
 * Users and dashboards of the sessions that overlap the day.  One that started
 * more than 24 hours before the day lasts longer than that: said so that the
 * index on long sessions helps.
 */
#define OVERLAPS_SQL                                                                        \
	"SELECT user_id, dashboard_id FROM %s"                                                  \
	" WHERE started_at >= $1 - interval '24 hours' AND started_at < $2"                     \
	" AND coalesce(ended_at, last_activity_at, started_at) >= $1"                           \
	" UNION SELECT user_id, dashboard_id FROM %s"                                           \
	" WHERE started_at < $1 - interval '24 hours'"                                          \
	" AND coalesce(ended_at, last_activity_at, started_at) - started_at > interval '1 day'" \
	" AND coalesce(ended_at, last_activity_at, started_at) >= $1"

/* Begins a query of one table as its owner; query_end() goes back. */
static void
query_begin(Metrics *metrics, Oid relid)
{
	dashie_become_owner_of(metrics->guard, relid);
	table_close(dashie_relation_open(relid, AccessShareLock, ACL_SELECT, false), NoLock);
	dashie_query_begin();
}

static void
query_end(Metrics *metrics, Oid owner_rel)
{
	dashie_query_end();
	dashie_become_owner_of(metrics->guard, owner_rel);
}

static uint64
query_day(Proof *proof, const char *sql)
{
	Oid types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum values[] = {TimestampTzGetDatum(proof->start), TimestampTzGetDatum(proof->end)};

	return metrics_query(proof->metrics, sql, 2, types, values);
}

static UserEntry *
user_field(Metrics *metrics, uint64 row, int column)
{
	bool isnull;
	Datum value = dashie_field(row, column, &isnull);

	return isnull ? NULL : numbers_user(metrics, DatumGetUUIDP(value));
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

/* Sessions of users that nobody knows are one user, number 0. */
static int
merge_unknown(PageEntry *entries, int nentries)
{
	int n = 0;

	qsort(entries, nentries, sizeof(PageEntry), compare_entries);
	for (int i = 0; i < nentries; i++)
	{
		if (n > 0 && compare_entries(&entries[n - 1], &entries[i]) == 0)
		{
			entries[n - 1].sessions += entries[i].sessions;
			entries[n - 1].ended += entries[i].ended;
			entries[n - 1].duration += entries[i].duration;
		}
		else
			entries[n++] = entries[i];
	}
	return n;
}

static PageEntry *
read_entries(Proof *proof, int *nentries)
{
	static const Oid types[] = {UUIDOID, TEXTOID, INT8OID, INT8OID, INT8OID, BOOLOID};
	MemoryContext caller = CurrentMemoryContext;
	PageEntry *entries;
	uint64 nrows;

	query_begin(proof->metrics, proof->metrics->sessions_rel);
	nrows = query_day(proof,
					  psprintf(SESSIONS_SQL, dashie_relation_name(proof->metrics->sessions_rel)));
	dashie_query_types(lengthof(types), types);
	entries = MemoryContextAllocHuge(caller, Max(nrows, 1) * sizeof(PageEntry));
	for (uint64 row = 0; row < nrows; row++)
	{
		PageEntry *entry = &entries[row];
		UserEntry *user = user_field(proof->metrics, row, 1);
		bool isnull;
		Datum country = dashie_field(row, 2, &isnull);

		entry->user = user != NULL ? user->number : 0;
		entry->country = country_code(country, isnull);
		entry->sessions = DatumGetInt64(dashie_field(row, 3, NULL));
		entry->ended = DatumGetInt64(dashie_field(row, 4, NULL));
		entry->duration = DatumGetInt64(dashie_field(row, 5, NULL));
		entry->latest = DatumGetBool(dashie_field(row, 6, NULL));
	}
	query_end(proof->metrics, proof->owner_rel);
	*nentries = merge_unknown(entries, (int) nrows);
	return entries;
}

static bool
same_entry(const PageEntry *page, const PageEntry *rows)
{
	return page->sessions == rows->sessions && page->ended == rows->ended &&
		   page->duration == rows->duration && (page->user == 0 || page->latest == rows->latest);
}

typedef struct Totals
{
	int64 entries;
	int64 sessions;
	int64 ended;
	int64 duration;
} Totals;

static void
add_entry(Totals *totals, const PageEntry *entry)
{
	totals->entries++;
	totals->sessions += entry->sessions;
	totals->ended += entry->ended;
	totals->duration += entry->duration;
}

/* The entries by user and country of sessions that started in the day. */
static void
compare_sessions(Proof *proof)
{
	DayPage *page = proof->page;
	int nrows;
	PageEntry *rows = read_entries(proof, &nrows);
	Totals in_page = {0};
	Totals in_rows = {0};
	int64 differ = 0;
	int row = 0;
	int32 departed = 0;

	for (int i = 0; i < page->nentries; i++)
	{
		PageEntry *entry = &page->entries[i];

		if (entry->user != 0 && numbers_gone(proof->metrics, entry->user))
		{
			if (entry->user != departed)
				proof->departed++;
			departed = entry->user;
			continue;
		}
		add_entry(&in_page, entry);
		while (row < nrows && compare_entries(&rows[row], entry) < 0)
		{
			row++;
			differ++;
		}
		if (row < nrows && compare_entries(&rows[row], entry) == 0)
			differ += same_entry(entry, &rows[row++]) ? 0 : 1;
		else
			differ++;
	}
	differ += nrows - row;
	for (int i = 0; i < nrows; i++)
		add_entry(&in_rows, &rows[i]);

	proof->failed |= proof_compare(proof, "sessions", in_page.sessions, "rows", in_rows.sessions);
	proof->failed |= proof_compare(proof, "ended_sessions", in_page.ended, "rows", in_rows.ended);
	proof->failed |=
		proof_compare(proof, "ended_microseconds", in_page.duration, "rows", in_rows.duration);
	proof_differing(proof, "sessions_by_user", in_page.entries, in_rows.entries, differ);
}

static int64
cardinality(const UserSet *set)
{
	return (int64) roaring_bitmap_get_cardinality(set);
}

/* A user, and the dashboard of one of their sessions or heartbeats. */
typedef struct Pair
{
	UserEntry *user;
	bool has_dashboard;
	pg_uuid_t dashboard;
} Pair;

/* Reads pairs of user and dashboard, of users that are known, and ends the query. */
static Pair *
read_pairs(Proof *proof, MemoryContext caller, uint64 nrows, int64 *npairs)
{
	static const Oid types[] = {UUIDOID, UUIDOID};
	Pair *pairs = MemoryContextAllocHuge(caller, Max(nrows, 1) * sizeof(Pair));
	int64 n = 0;

	dashie_query_types(lengthof(types), types);
	for (uint64 row = 0; row < nrows; row++)
	{
		Pair *pair = &pairs[n];
		bool isnull;
		Datum dashboard = dashie_field(row, 2, &isnull);

		pair->user = user_field(proof->metrics, row, 1);
		pair->has_dashboard = !isnull;
		if (!isnull)
			pair->dashboard = *DatumGetUUIDP(dashboard);
		if (pair->user != NULL)
			n++;
	}
	query_end(proof->metrics, proof->owner_rel);
	*npairs = n;
	return pairs;
}

static bool
returns(const Proof *proof, const UserEntry *user)
{
	return !user->anonymous && user->has_signup && user->signed_up_at < proof->start;
}

/* The set of users with a session that overlaps the day. */
static void
compare_users(Proof *proof, const Pair *pairs, int64 npairs)
{
	Metrics *metrics = proof->metrics;
	UserSet *active = user_set_create();
	UserSet *returning = user_set_create();
	UserSet *page_active = user_set_create();
	UserSet *page_returning = user_set_create();
	int64 count;
	int32 *members = user_set_members(proof->page->active, metrics->max_user, &count);

	for (int64 i = 0; i < npairs; i++)
	{
		UserEntry *user = pairs[i].user;

		if (!user_is_there(user))
			continue;
		roaring_bitmap_add(active, user->number);
		if (returns(proof, user))
			roaring_bitmap_add(returning, user->number);
	}
	for (int64 i = 0; i < count; i++)
	{
		UserEntry *user = numbers_by_number(metrics, members[i]);

		if (user == NULL || !user_is_there(user))
			continue;
		roaring_bitmap_add(page_active, members[i]);
		if (returns(proof, user))
			roaring_bitmap_add(page_returning, members[i]);
	}
	proof->departed = Max(proof->departed, count - cardinality(page_active));
	proof_differing(proof, "active_users", cardinality(page_active), cardinality(active),
					proof_count_differing(proof, page_active, active));
	proof_differing(proof, "returning_users", cardinality(page_returning), cardinality(returning),
					proof_count_differing(proof, page_returning, returning));
}

/* The set of dashboards with a session that overlaps the day, each by its user. */
static void
compare_dashboards(Proof *proof, const Pair *pairs, int64 npairs)
{
	Metrics *metrics = proof->metrics;
	UserSet *dashboards = user_set_create();
	UserSet *page_dashboards = user_set_create();
	int64 count;
	int32 *members;

	for (int64 i = 0; i < npairs; i++)
		if (pairs[i].has_dashboard)
			roaring_bitmap_add(
				dashboards, numbers_dashboard(metrics, &pairs[i].dashboard, pairs[i].user->number));
	members = user_set_members(proof->page->dashboards, metrics->max_dashboard, &count);
	for (int64 i = 0; i < count; i++)
	{
		const DashboardEntry *dashboard = numbers_dashboard_by_number(metrics, members[i]);

		if (dashboard != NULL && !numbers_gone(metrics, dashboard->user_number))
			roaring_bitmap_add(page_dashboards, members[i]);
	}
	proof_differing(proof, "dashboards", cardinality(page_dashboards), cardinality(dashboards),
					(int64) roaring_bitmap_xor_cardinality(page_dashboards, dashboards));
}

static void
compare_overlaps(Proof *proof)
{
	Metrics *metrics = proof->metrics;
	MemoryContext caller = CurrentMemoryContext;
	char *sessions = dashie_relation_name(metrics->sessions_rel);
	Pair *pairs;
	int64 npairs;

	query_begin(metrics, metrics->sessions_rel);
	pairs = read_pairs(proof, caller, query_day(proof, psprintf(OVERLAPS_SQL, sessions, sessions)),
					   &npairs);
	compare_users(proof, pairs, npairs);
	compare_dashboards(proof, pairs, npairs);
}

/*
 * A row of dashboards shows the last heartbeat only; those that are in the day
 * must be in the page, which knows more.
 */
static void
compare_heartbeats(Proof *proof)
{
	Metrics *metrics = proof->metrics;
	MemoryContext caller = CurrentMemoryContext;
	int64 missing = 0;
	Pair *pairs;
	int64 npairs;

	query_begin(metrics, metrics->dashboards_rel);
	pairs = read_pairs(
		proof, caller,
		query_day(proof, psprintf("SELECT user_id, id FROM %s"
								  " WHERE last_heartbeat_at >= $1 AND last_heartbeat_at < $2"
								  " AND id IS NOT NULL",
								  dashie_relation_name(metrics->dashboards_rel))),
		&npairs);
	for (int64 i = 0; i < npairs; i++)
		if (!roaring_bitmap_contains(
				proof->page->heartbeats,
				numbers_dashboard(metrics, &pairs[i].dashboard, pairs[i].user->number)))
			missing++;
	proof_differing(proof, "heartbeats", cardinality(proof->page->heartbeats), npairs, missing);
}

void
proof_by_rows(Proof *proof)
{
	bool failed_before = proof->failed;

	proof->failed = false;
	compare_sessions(proof);
	compare_overlaps(proof);
	if (proof->metrics->own_dashboards)
		compare_heartbeats(proof);
	if (proof->failed)
		proof_reason(proof, "the page differs from plain SQL over the rows");
	proof->failed |= failed_before;
}

/* The days of a range, to count what happened on each. */
typedef struct Days
{
	TimestampTz *starts; /* and the end of the last */
	int n;
	UserCounts *counts;
} Days;

/* The counts of the day that an instant lies in; NULL outside of the range. */
static UserCounts *
day_counts(const Days *days, TimestampTz at)
{
	int low = 0;
	int high = days->n + 1;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (days->starts[middle] > at)
			high = middle;
		else
			low = middle + 1;
	}
	return low >= 1 && low <= days->n ? &days->counts[low - 1] : NULL;
}

/* Who signed up and is there: one count a day. */
static void
count_signups(Metrics *metrics, Oid owner_rel, Days *days)
{
	DashieColumn columns[] = {
		{"is_anonymous", BOOLOID, false, 0},
		{"deleted_at", TIMESTAMPTZOID, false, 0},
	};
	Oid users = dashie_relation_oid("auth", "users");
	Oid types[] = {TIMESTAMPTZARRAYOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	static const Oid result[] = {INT4OID, INT8OID};
	Datum *starts = palloc((days->n + 1) * sizeof(Datum));
	Datum values[3];
	Relation rel;
	uint64 nrows;

	for (int i = 0; i <= days->n; i++)
		starts[i] = TimestampTzGetDatum(days->starts[i]);
	values[0] = PointerGetDatum(
		construct_array(starts, days->n + 1, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[1] = starts[0];
	values[2] = starts[days->n];

	/* elsewhere it belongs to a role that nobody may act as, but then we are no superuser */
	if (superuser())
		dashie_become_owner_of(metrics->guard, users);
	rel = dashie_relation_open(users, AccessShareLock, ACL_SELECT, false);
	dashie_relation_columns(rel, columns, lengthof(columns));
	table_close(rel, NoLock);
	dashie_query_begin();
	nrows = metrics_query(
		metrics,
		psprintf("SELECT width_bucket(created_at, $1), count(*) FROM auth.users"
				 " WHERE created_at >= $2 AND created_at < $3 AND %s AND %s GROUP BY 1",
				 columns[0].attnum != InvalidAttrNumber ? "is_anonymous IS NOT TRUE" : "true",
				 columns[1].attnum != InvalidAttrNumber ? "deleted_at IS NULL" : "true"),
		3, types, values);
	dashie_query_types(lengthof(result), result);
	for (uint64 row = 0; row < nrows; row++)
		days->counts[DatumGetInt32(dashie_field(row, 1, NULL)) - 1].plain[SIGNUPS] =
			DatumGetInt64(dashie_field(row, 2, NULL));
	query_end(metrics, owner_rel);
}

/* Conversions of users who are there, by Stripe's events of the time that they are kept for. */
static void
count_conversions(Metrics *metrics, Oid owner_rel, Days *days, TimestampTz kept_from)
{
	static const Oid result[] = {UUIDOID, TIMESTAMPTZOID};
	uint64 nrows;

	query_begin(metrics, metrics->stripe_rel);
	nrows = metrics_query(
		metrics,
		psprintf("SELECT e.user_id, min(e.at) FROM (SELECT user_id,"
				 " CASE WHEN event_data ->> 'created' ~ '^[0-9]{1,11}$'"
				 " THEN to_timestamp((event_data ->> 'created')::bigint) ELSE created_at END AS at"
				 " FROM %s WHERE old_tier = 'trial' AND new_tier IN ('basic', 'pro')"
				 " AND processing_status = 'processed') AS e"
				 " WHERE e.user_id IS NOT NULL GROUP BY e.user_id HAVING min(e.at) IS NOT NULL",
				 dashie_relation_name(metrics->stripe_rel)),
		0, NULL, NULL);
	dashie_query_types(lengthof(result), result);
	for (uint64 row = 0; row < nrows; row++)
	{
		UserEntry *user = user_field(metrics, row, 1);
		TimestampTz at = DatumGetTimestampTz(dashie_field(row, 2, NULL));
		UserCounts *counts = day_counts(days, at);

		if (counts == NULL || at < kept_from || user == NULL || !user_is_there(user) ||
			user->anonymous || (user->converted && user->converted_at < kept_from))
			continue;
		counts->plain[CONVERSIONS]++;
	}
	query_end(metrics, owner_rel);
}

/* What those left behind who are not there, and the conversions that no event tells of any more. */
static void
count_kept(Metrics *metrics, Days *days, TimestampTz kept_from)
{
	for (int32 number = 0; number < metrics->by_number_size; number++)
	{
		UserEntry *user = numbers_by_number(metrics, number);
		UserCounts *counts;

		if (user == NULL || user->anonymous)
			continue;
		if (!user_is_there(user) && user->signup_counts && user->has_signup &&
			(counts = day_counts(days, user->signed_up_at)) != NULL)
			counts->plain[SIGNUPS]++;
		if (user->converted && (!user_is_there(user) || user->converted_at < kept_from) &&
			(counts = day_counts(days, user->converted_at)) != NULL)
			counts->plain[CONVERSIONS]++;
	}
}

/* The same as the last refresh knew it. */
static void
count_stored(Metrics *metrics, Days *days)
{
	static const Oid result[] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Oid types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum values[] = {TimestampTzGetDatum(days->starts[0]),
					  TimestampTzGetDatum(days->starts[days->n])};
	uint64 nrows;

	dashie_query_begin();
	nrows = metrics_query(metrics,
						  "SELECT CASE WHEN signup_counts THEN signed_up_at END, converted_at"
						  " FROM dashie.user_number WHERE NOT anonymous"
						  " AND (signed_up_at >= $1 AND signed_up_at < $2"
						  " OR converted_at >= $1 AND converted_at < $2)",
						  2, types, values);
	dashie_query_types(lengthof(result), result);
	for (uint64 row = 0; row < nrows; row++)
	{
		for (int column = 0; column < USER_COUNTS; column++)
		{
			bool isnull;
			Datum at = dashie_field(row, column + 1, &isnull);
			UserCounts *counts = isnull ? NULL : day_counts(days, DatumGetTimestampTz(at));

			if (counts != NULL)
				counts->stored[column]++;
		}
	}
	dashie_query_end();
}

/*
 * plain_user_counts counts sign-ups and conversions of each day of the range.
 * Conversions from before the seven years that Stripe's events are kept for
 * are known by user_number alone.
 */
UserCounts *
plain_user_counts(Metrics *metrics, Oid owner_rel, DateADT from, DateADT to)
{
	static const Interval kept = {.time = 0, .day = 0, .month = 7 * MONTHS_PER_YEAR};
	TimestampTz kept_from = dashie_subtract_interval(metrics->now, &kept, metrics->zone);
	Days days;

	days.n = to - from + 1;
	days.counts = palloc0(days.n * sizeof(UserCounts));
	days.starts = palloc((days.n + 1) * sizeof(TimestampTz));
	for (int i = 0; i <= days.n; i++)
		days.starts[i] = dashie_day_start(from + i, metrics->zone);
	if (metrics->has_signups)
		count_signups(metrics, owner_rel, &days);
	if (OidIsValid(metrics->stripe_rel))
		count_conversions(metrics, owner_rel, &days, kept_from);
	count_kept(metrics, &days, kept_from);
	count_stored(metrics, &days);
	return days.counts;
}
