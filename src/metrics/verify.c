/*
 * verify.c
 *		dashie.verify(): is each day's page what plain SQL says, and unchanged?
 *
 * A question: nothing is written, no lock is taken, and pages, marks, rows and
 * daily_metrics are read with one snapshot.  Of each day it looks at
 *
 *		the digest	of the page's bytes; nothing else is read from bytes that fail it
 *		the head	the page's numbers, which follow from its bytes
 *		the rows	while they exist, by plain SQL (plain.c)
 *		the row		of daily_metrics, against the head and plain SQL over users
 *
 * What changed since the page was computed is no failure: the day has a mark,
 * or a user does, and the next refresh settles it.  Bytes that no page can hold
 * are an error of the reader, which is caught day by day.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "metrics/question.h"
#include "metrics/verify.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_verify);

/* Columns of daily_metrics, and the same from the head of the page as plain SQL. */
static const struct
{
	const char *name;
	const char *expected;
} daily_columns[] = {
	{"returning_users", "p.returning_users"},
	{"active_dashboards", "p.active_dashboards"},
	{"total_sessions", "p.sessions"},
	{"avg_session_minutes",
	 "round(p.ended_microseconds / nullif(p.ended_sessions * 60000000::numeric, 0), 2)"},
};

static const char *const user_columns[USER_COUNTS] = {
	[SIGNUPS] = "new_signups",
	[CONVERSIONS] = "trial_to_paid_conversions",
};

typedef struct DailyRow
{
	bool found;
	bool older;									/* written before its page was computed */
	char *differences[lengthof(daily_columns)]; /* members of a JSON object, NULL where equal */
	int64 count[USER_COUNTS];
	bool no_count[USER_COUNTS];
} DailyRow;

struct Verification
{
	Metrics *metrics;
	DateADT from;
	int ndays;
	Oid daily;	   /* InvalidOid where not enabled */
	Oid owner_rel; /* the table as whose owner the run acts */
	DayPage *heads;
	bool *marked;
	DailyRow *rows;
	UserCounts *users;
	DateADT first_page; /* of those there are */
	DateADT last_page;
};

/* Reads the page's bytes and compares them with their digest. */
static bool
check_digest(Proof *proof)
{
	static const Oid columns[] = {BYTEAOID, BYTEAOID, BYTEAOID, BYTEAOID, BYTEAOID, BYTEAOID};
	Oid type = DATEOID;
	Datum day = DateADTGetDatum(proof->page->day);
	bytea *parts[PAGE_PARTS + 1];
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext spi;

	dashie_query_begin();
	if (metrics_query(proof->metrics,
					  "SELECT active, entries, dashboards, heartbeats, countries, digest"
					  " FROM dashie.day_page WHERE day = $1",
					  1, &type, &day) != 1)
		elog(ERROR, "page of %s has vanished", dashie_day_text(proof->page->day));
	dashie_query_types(lengthof(columns), columns);
	spi = MemoryContextSwitchTo(caller);
	proof_bytes(parts, lengthof(parts));
	MemoryContextSwitchTo(spi);
	dashie_query_end();
	return proof_digest(proof, proof->page->day, parts, PAGE_PARTS, parts[PAGE_PARTS]);
}

/* A user of the set whose row changed since the last refresh. */
static bool
has_changed_user(Metrics *metrics, const int32 *members, int64 count)
{
	for (int64 i = 0; i < count; i++)
	{
		UserEntry *user = numbers_by_number(metrics, members[i]);

		if (user != NULL && (user->is_new || user->changed))
			return true;
	}
	return false;
}

/* Distinct dashboards of the page's two sets, which name each by its user. */
static int64
count_dashboards(Metrics *metrics, const DayPage *page)
{
	UserSet *named = user_set_adopt(roaring_bitmap_or(page->dashboards, page->heartbeats));
	UserSet *distinct = user_set_create();
	int64 count;
	int32 *members = user_set_members(named, metrics->max_dashboard, &count);

	numbers_settle_dashboards(metrics);
	for (int64 i = 0; i < count; i++)
	{
		const DashboardEntry *dashboard = numbers_dashboard_by_number(metrics, members[i]);

		roaring_bitmap_add(distinct, dashboard != NULL ? dashboard->first : members[i]);
	}
	return (int64) roaring_bitmap_get_cardinality(distinct);
}

/* The numbers that follow from the bytes. */
static void
check_head(Proof *proof)
{
	Metrics *metrics = proof->metrics;
	DayPage *page = proof->page;
	int64 sessions = 0;
	int64 ended = 0;
	int64 duration = 0;
	int32 returning;
	bool differs = false;

	for (int i = 0; i < page->nentries; i++)
	{
		sessions += page->entries[i].sessions;
		ended += page->entries[i].ended;
		duration += page->entries[i].duration;
	}
	differs |= proof_compare(proof, "head.sessions", page->sessions, "bytes", sessions);
	differs |= proof_compare(proof, "head.ended_sessions", page->ended, "bytes", ended);
	differs |= proof_compare(proof, "head.ended_microseconds", page->duration, "bytes", duration);
	differs |= proof_compare(proof, "head.active_dashboards", page->ndashboards, "bytes",
							 count_dashboards(metrics, page));
	returning = page_count_returning(metrics, page->active, proof->start);
	if (returning != page->returning)
	{
		int64 count;
		int32 *members = user_set_members(page->active, metrics->max_user, &count);

		/* who signed up when, and as what, may have changed since */
		if (has_changed_user(metrics, members, count))
			proof->pending = true;
		else
			differs |=
				proof_compare(proof, "head.returning_users", page->returning, "bytes", returning);
	}
	if (differs)
	{
		proof->failed = true;
		proof_reason(proof, "the page's numbers do not follow from its bytes");
	}
}

/* A column that daily_metrics takes from the users. */
static void
check_count(Proof *proof, const DailyRow *row, const UserCounts *users, int column, bool has_source)
{
	bool isnull = row->no_count[column];
	int64 count = row->count[column];

	if (isnull ? !has_source : has_source && count == users->plain[column])
		return;
	/* the row is as of the last look at the users, or older */
	if (has_source && (row->older || (!isnull && count == users->stored[column])))
	{
		proof->pending = true;
		return;
	}
	proof->failed = true;
	proof_difference(proof, psprintf("daily_metrics.%s", user_columns[column]),
					 "\"daily_metrics\": %s, \"rows\": %s",
					 isnull ? "null" : psprintf(INT64_FORMAT, count),
					 has_source ? psprintf(INT64_FORMAT, users->plain[column]) : "null");
}

/* The row of daily_metrics. */
static void
check_daily(Verification *all, Proof *proof)
{
	Metrics *metrics = all->metrics;
	int i = proof->page->day - all->from;
	DailyRow *row = &all->rows[i];
	bool failed_before = proof->failed;

	if (!OidIsValid(all->daily))
		return;
	if (!row->found)
	{
		/* the job writes no row of today, and those of other days at its next run */
		if (proof->page->day < metrics->today)
		{
			proof_difference(proof, "daily_metrics", "\"daily_metrics\": null");
			proof_reason(proof, "daily_metrics has no row of the day");
			if (row->older || proof->changed)
				proof->pending = true;
			else
				proof->failed = true;
		}
		return;
	}
	proof->failed = false;
	for (int j = 0; j < lengthof(daily_columns); j++)
	{
		if (row->differences[j] == NULL)
			continue;
		proof_difference(proof, psprintf("daily_metrics.%s", daily_columns[j].name), "%s",
						 row->differences[j]);
		if (row->older)
			proof->pending = true;
		else
			proof->failed = true;
	}
	check_count(proof, row, &all->users[i], SIGNUPS, metrics->has_signups);
	check_count(proof, row, &all->users[i], CONVERSIONS, OidIsValid(metrics->stripe_rel));
	if (proof->failed)
		proof_reason(proof, "daily_metrics is not what the page and the users say");
	proof->failed |= failed_before;
}

/* A day without a page, or with one that was never computed. */
static void
judge_missing(Verification *all, DateADT day, Verdict *verdict)
{
	Metrics *metrics = all->metrics;
	bool inside = day > all->first_page && day < all->last_page;

	verdict->method = "missing";
	verdict->no_verdict = true;
	if (inside && (day < metrics->first_open_day || all->rows[day - all->from].found))
	{
		verdict->no_verdict = false;
		verdict->ok = false;
		verdict->reason = "the page is gone, those of days before and after it are there";
	}
	else if (day >= metrics->today)
		verdict->reason = "the day is not over";
	else if (day < metrics->first_open_day)
		verdict->reason = "retention closed the day before it was computed";
	else
		verdict->reason = "not computed yet";
}

static void
judge(void *verification, DateADT day, Verdict *verdict)
{
	Verification *all = verification;
	Metrics *metrics = all->metrics;
	DayPage *head = &all->heads[day - all->from];
	bool open = day >= metrics->first_open_day && OidIsValid(metrics->sessions_rel);
	const char *unchanged = NULL;
	Proof proof = {0};

	memset(verdict, 0, sizeof(*verdict));
	if (!head->stored || (!head->has_sessions && !head->has_dashboards))
	{
		judge_missing(all, day, verdict);
		return;
	}
	verdict->method = open ? "rows" : "digest";
	proof.changed = open && (head->dirty || all->marked[day - all->from] ||
							 (!head->final && day < metrics->today) || !head->has_sessions);
	proof.metrics = metrics;
	proof.owner_rel = all->owner_rel;
	proof.page = head;
	proof.start = dashie_day_start(day, metrics->zone);
	proof.end = dashie_day_start(day + 1, metrics->zone);
	initStringInfo(&proof.json);
	initStringInfo(&proof.reason);
	if (check_digest(&proof))
	{
		proof.page = pages_load(metrics, day, day, true);
		check_head(&proof);
		if (open && !proof.changed)
			proof_by_rows(&proof);
	}
	check_daily(all, &proof);

	if (!open)
		unchanged = day < metrics->first_open_day
						? "retention removed rows of the day; its page is unchanged"
						: "user_sessions is not enabled; the page is unchanged";
	proof_verdict(&proof, "changed since, not yet computed", unchanged, verdict);
}

void
verification_judge(void *verification, DateADT day, Verdict *verdict)
{
	Verification *all = verification;

	verdict_of(judge, all, day, day >= all->metrics->first_open_day ? "rows" : "digest", verdict);
}

/* Compares each row of daily_metrics with the head of its page, in SQL. */
static void
load_daily(Verification *all)
{
	StringInfoData sql;
	Oid types[] = {DATEOID, DATEOID};
	Datum values[] = {DateADTGetDatum(all->from), DateADTGetDatum(all->from + all->ndays - 1)};
	static const Oid columns[] = {DATEOID, BOOLOID, BOOLOID, INT4OID, INT4OID};
	MemoryContext caller = CurrentMemoryContext;
	uint64 nrows;

	all->rows = palloc0(all->ndays * sizeof(DailyRow));
	if (!OidIsValid(all->daily))
		return;
	table_close(dashie_relation_open(all->daily, AccessShareLock, ACL_SELECT, false), NoLock);
	initStringInfo(&sql);
	appendStringInfo(
		&sql,
		"SELECT coalesce(p.day, m.date), m.date IS NOT NULL,"
		" coalesce(coalesce(m.created_at, (SELECT max(created_at) FROM %s))"
		" < p.computed_at, m.date IS NULL), m.new_signups, m.trial_to_paid_conversions",
		dashie_relation_name(all->daily));
	for (int i = 0; i < lengthof(daily_columns); i++)
		appendStringInfo(
			&sql,
			", CASE WHEN m.%s IS DISTINCT FROM %s THEN"
			" format('\"daily_metrics\": %%s, \"page\": %%s', coalesce(m.%s::text, 'null'),"
			" coalesce((%s)::text, 'null')) END",
			daily_columns[i].name, daily_columns[i].expected, daily_columns[i].name,
			daily_columns[i].expected);
	appendStringInfo(&sql,
					 " FROM (SELECT * FROM dashie.day_page WHERE day BETWEEN $1 AND $2) AS p"
					 " FULL JOIN (SELECT * FROM %s WHERE date BETWEEN $1 AND $2) AS m"
					 " ON m.date = p.day",
					 dashie_relation_name(all->daily));

	dashie_query_begin();
	nrows = metrics_query(all->metrics, sql.data, 2, types, values);
	for (int i = 0; i < lengthof(columns); i++)
		if (SPI_gettypeid(SPI_tuptable->tupdesc, i + 1) != columns[i])
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("the columns of daily_metrics or its pages have other types")));
	for (uint64 row = 0; row < nrows; row++)
	{
		DailyRow *daily = &all->rows[DatumGetDateADT(dashie_field(row, 1, NULL)) - all->from];
		MemoryContext spi;

		daily->found = DatumGetBool(dashie_field(row, 2, NULL));
		daily->older = DatumGetBool(dashie_field(row, 3, NULL));
		for (int i = 0; i < USER_COUNTS; i++)
			daily->count[i] = DatumGetInt32(dashie_field(row, 4 + i, &daily->no_count[i]));
		spi = MemoryContextSwitchTo(caller);
		for (int i = 0; i < lengthof(daily_columns); i++)
			daily->differences[i] = dashie_field_text(row, lengthof(columns) + 1 + i);
		MemoryContextSwitchTo(spi);
	}
	dashie_query_end();
}

/* Days of which a heartbeat is not in a page yet. */
static void
mark_heartbeats(Verification *all)
{
	Metrics *metrics = all->metrics;
	Oid relid = dashie_relation_oid("dashie", "heartbeat_seen");
	DashieColumn column = {"at", TIMESTAMPTZOID, true, 0};
	Relation rel;
	DashieScan *scan;

	if (!OidIsValid(relid))
		return;
	rel = dashie_relation_open(relid, AccessShareLock, ACL_SELECT, false);
	dashie_relation_columns(rel, &column, 1);
	scan = dashie_scan_begin(rel, metrics->snapshot);
	while (dashie_scan_next(scan))
	{
		bool isnull;
		Datum at = dashie_scan_get(scan, &column, &isnull);
		int64 day =
			isnull ? -1 : (int64) dashie_day_of(DatumGetTimestampTz(at), metrics->zone) - all->from;

		if (day >= 0 && day < all->ndays)
			all->marked[day] = true;
	}
	dashie_scan_end(scan);
	table_close(rel, NoLock);
}

/* Whose rights a verification needs: those that a refresh has. */
static Oid
verification_owner(Oid daily)
{
	return OidIsValid(daily) ? daily : metrics_table("day_page");
}

Verification *
verification_begin(Metrics *metrics, Oid daily, DateADT from, DateADT to)
{
	MemoryContext old = MemoryContextSwitchTo(metrics->context);
	Verification *all = palloc0(sizeof(Verification));

	all->metrics = metrics;
	all->from = from;
	all->ndays = to - from + 1;
	all->daily = daily;
	all->owner_rel = verification_owner(daily);
	numbers_load(metrics);
	numbers_load_dashboards(metrics);
	all->heads = pages_load(metrics, from, to, false);
	all->marked = palloc0(all->ndays);
	metrics_marked(metrics, MARK_SESSIONS, from, to, all->marked);
	mark_heartbeats(all);
	verify_page_days(metrics, "day_page", &all->first_page, &all->last_page);
	load_daily(all);
	all->users = plain_user_counts(metrics, all->owner_rel, from, to);
	MemoryContextSwitchTo(old);
	return all;
}

Datum
dashie_verify(PG_FUNCTION_ARGS)
{
	DateADT from;
	DateADT to;
	DashieRows rows;
	DashieGuard guard;
	Oid daily;
	Metrics *metrics;
	Verification *all;
	MemoryContext context;

	question_range(fcinfo, &from, &to);
	dashie_rows_begin(fcinfo, &rows);
	dashie_enter(&guard);
	daily = dashie_enabled_oid("daily_metrics");
	metrics = question_open(&guard, verification_owner(daily), "to", to);
	all = verification_begin(metrics, daily, from, to);
	context =
		AllocSetContextCreate(metrics->context, "dashie proof of a day", ALLOCSET_DEFAULT_SIZES);
	for (DateADT day = from; day <= to; day++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Verdict verdict;

		CHECK_FOR_INTERRUPTS();
		verification_judge(all, day, &verdict);
		verdict_put(&rows, day, &verdict);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	metrics_close(metrics);
	dashie_leave(&guard);
	return (Datum) 0;
}
