/*
 * number_load.c
 *		What is known of users and dashboards, and one look at every user.
 *
 * A user is an account and not its id: one that was deleted and made again
 * under the same id is another user.  A user who is gone keeps the number
 * without the id.  What they did in days that were over when they were last seen stays counted; what they did in a
 * day that was not over goes with them, as plain SQL at the end of that day
 * would have it.
 *
 * The tables are their owner's: a number is bounded by the size of the table
 * that it comes from before an array gets that size.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/bufmgr.h"
#include "storage/lockdefs.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/query.h"
#include "common/relation.h"
#include "metrics/engine.h"
#include "metrics/number_block.h"
#include "metrics/numbers.h"

/* How far numbers may lie above the rows that have them: arrays of 64 and 36 MB. */
#define SPARSE_NUMBERS 1000000

/* Room for so many users who signed up since the last run. */
#define NEW_USERS 10000

/* Rows whose places in a map are asked for before the first is looked up. */
#define BATCH 64

/* More rows than this fit into no block: none is shorter than 32 bytes. */
#define ROWS_PER_BLOCK (BLCKSZ / 32)

/*
 * limit_of_users is the highest number that dashie.user_number may hold.  Users
 * are an array indexed by number, and so are dashboards.  We give numbers one by
 * one and take no row away, so one that is far above the number of rows was not
 * given by us, and gets no array of its size.
 */
static int32
limit_of_users(void)
{
	Relation rel =
		dashie_relation_open(metrics_table("user_number"), AccessShareLock, ACL_SELECT, false);
	int64 rows = (int64) RelationGetNumberOfBlocks(rel) * ROWS_PER_BLOCK;

	table_close(rel, NoLock);
	return (int32) Min(SPARSE_NUMBERS + rows, PG_INT32_MAX - 1);
}

static int32
next_number(int column, const char *what, int32 limit)
{
	int32 next = DatumGetInt32(dashie_field(0, column, NULL));

	if (next < 1 || next > limit)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("invalid numbers of %s", what),
						errdetail("Next is %d.", next)));
	return next;
}

/*
 * numbers_bounds reads the counters alone: for a question that need not know
 * who the users are.
 */
void
numbers_bounds(Metrics *metrics)
{
	static const Oid types[] = {INT4OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID};
	int64 dashboards;
	bool isnull;
	Datum value;

	if (metrics->bounds_loaded)
		return;
	metrics->max_user = limit_of_users();
	dashie_query_begin();
	if (metrics_query(metrics,
					  "SELECT next_user, next_dashboard, last_pass, geographic_at,"
					  " (SELECT count(*) FROM dashie.dashboard_number)"
					  " FROM dashie.metrics_state",
					  0, NULL, NULL) != 1)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"dashie.metrics_state\" has lost its row"),
						errhint("Run SELECT dashie.enable('daily_metrics').")));
	dashie_query_types(lengthof(types), types);
	metrics->next_user = next_number(1, "users", metrics->max_user);
	dashboards = DatumGetInt64(dashie_field(0, 5, NULL)) * BLOCK_NUMBERS;
	metrics->max_dashboard = (int32) Min(SPARSE_NUMBERS + dashboards, PG_INT32_MAX - 1);
	metrics->next_dashboard = next_number(2, "dashboards", metrics->max_dashboard);
	value = dashie_field(0, 3, &isnull);
	metrics->has_last_pass = !isnull;
	if (!isnull)
		metrics->last_pass = DatumGetTimestampTz(value);
	value = dashie_field(0, 4, &isnull);
	metrics->geographic_at = isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
	dashie_query_end();
	metrics->bounds_loaded = true;
}

static void
require_number(int32 number, int32 max, const char *table)
{
	if (number <= 0 || number > max)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("invalid number %d in dashie.%s", number, table)));
}

static void
number_is_twice(int32 number, const char *table)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("number %d is twice in dashie.%s", number, table)));
}

static void
load_user_numbers(Metrics *metrics)
{
	DashieColumn columns[] = {
		{"number", INT4OID, true, 0},
		{"user_id", UUIDOID, true, 0},
		{"signed_up_at", TIMESTAMPTZOID, true, 0},
		{"signup_counts", BOOLOID, true, 0},
		{"anonymous", BOOLOID, true, 0},
		{"deleted", BOOLOID, true, 0},
		{"converted_at", TIMESTAMPTZOID, true, 0},
	};
	Relation rel =
		dashie_relation_open(metrics_table("user_number"), AccessShareLock, ACL_SELECT, false);
	DashieScan *scan;

	dashie_relation_columns(rel, columns, lengthof(columns));
	scan = dashie_scan_begin(rel, metrics->snapshot);
	dashie_scan_want(scan, columns, lengthof(columns));
	while (dashie_scan_next(scan))
	{
		UserEntry *user;
		bool isnull;
		Datum value = dashie_scan_get(scan, &columns[0], &isnull);
		int32 number = isnull ? 0 : DatumGetInt32(value);

		require_number(number, metrics->max_user, "user_number");
		if (numbers_by_number(metrics, number) != NULL)
			number_is_twice(number, "user_number");
		user = numbers_add_user(metrics, number);
		value = dashie_scan_get(scan, &columns[1], &isnull);
		user->departed = isnull;
		if (!isnull)
			user->id = *DatumGetUUIDP(value);
		value = dashie_scan_get(scan, &columns[2], &isnull);
		user->has_signup = !isnull;
		user->signed_up_at = isnull ? 0 : DatumGetTimestampTz(value);
		user->signup_counts = DatumGetBool(dashie_scan_get(scan, &columns[3], &isnull));
		user->anonymous = DatumGetBool(dashie_scan_get(scan, &columns[4], &isnull));
		user->deleted = DatumGetBool(dashie_scan_get(scan, &columns[5], &isnull));
		value = dashie_scan_get(scan, &columns[6], &isnull);
		user->converted = !isnull;
		user->converted_at = isnull ? 0 : DatumGetTimestampTz(value);
		metrics->next_user = Max(metrics->next_user, user->number + 1);
	}
	dashie_scan_end(scan);
	table_close(rel, NoLock);
	numbers_map_users(metrics);
}

/*
 * seen_after says whether the user was still there after the day of "at" had
 * ended, so that the day keeps them.
 */
static bool
seen_after(Metrics *metrics, TimestampTz at)
{
	return metrics->has_last_pass &&
		   metrics->last_pass >=
			   dashie_day_start(dashie_day_of(at, metrics->zone) + 1, metrics->zone);
}

static void
leave_behind(Metrics *metrics, UserEntry *user)
{
	if (user->signup_counts && !(user->has_signup && seen_after(metrics, user->signed_up_at)))
		user->signup_counts = false;
	if (user->converted && !seen_after(metrics, user->converted_at))
		user->converted = false;
	user->changed = true;
}

/* The row in auth.users is not theirs any more. */
static void
depart(Metrics *metrics, UserEntry *user)
{
	if (!user->deleted)
		leave_behind(metrics, user);
	user->departed = true;
	user->changed = true;
}

/* What a row of auth.users says. */
typedef struct SeenUser
{
	pg_uuid_t id;
	int32 number; /* 0: to be looked up */
	bool has_signup;
	bool anonymous;
	bool deleted;
	TimestampTz signed_up_at;
} SeenUser;

/*
 * is_another says whether the row under a known id is that of somebody who
 * signed up since its user was last looked at: that user left in between, and
 * the account was made again under the same id.
 */
static bool
is_another(Metrics *metrics, const UserEntry *user, const SeenUser *seen)
{
	return user->has_signup && seen->has_signup && seen->signed_up_at != user->signed_up_at &&
		   metrics->has_last_pass && seen->signed_up_at > metrics->last_pass &&
		   seen->signed_up_at <= metrics->now;
}

/* Returns the user's number. */
static int32
look_at_user(Metrics *metrics, const SeenUser *seen)
{
	UserEntry *user = seen->number != 0 ? numbers_by_number(metrics, seen->number)
										: numbers_user(metrics, &seen->id);

	if (user != NULL && is_another(metrics, user, seen))
	{
		depart(metrics, user);
		user = NULL;
	}
	if (user == NULL)
	{
		user = numbers_add_user(metrics, numbers_take_next(&metrics->next_user, "users"));
		metrics->max_user = Max(metrics->max_user, user->number);
		user->id = seen->id;
		user->is_new = true;
		numbers_map_user(metrics, user);
	}
	user->seen = true;

	if (seen->deleted)
	{
		/* what they were when last seen stays, as for a user whose row is gone */
		if (user->deleted)
			return user->number;
		leave_behind(metrics, user);
		user->deleted = true;
		if (user->is_new)
		{
			user->has_signup = seen->has_signup;
			user->signed_up_at = seen->signed_up_at;
			user->anonymous = seen->anonymous;
		}
	}
	else if (user->deleted || user->has_signup != seen->has_signup ||
			 user->signed_up_at != seen->signed_up_at || user->anonymous != seen->anonymous ||
			 user->signup_counts == seen->anonymous)
	{
		user->recount = !user->is_new;
		user->restored = user->deleted;
		user->deleted = false;
		user->has_signup = seen->has_signup;
		user->signed_up_at = seen->signed_up_at;
		user->anonymous = seen->anonymous;
		user->signup_counts = !seen->anonymous;
		user->changed = true;
	}
	return user->number;
}

/* After all were looked at: who was not seen has departed. */
static void
settle_users(Metrics *metrics)
{
	metrics->gone = user_set_create();
	for (int32 number = 1; number < metrics->next_user; number++)
	{
		UserEntry *user = numbers_by_number(metrics, number);

		if (user != NULL && !user->departed && !user->seen)
			depart(metrics, user);
		if (user == NULL || user->departed)
			roaring_bitmap_add(metrics->gone, number);
		else if (user->deleted)
		{
			if (metrics->deleted == NULL)
				metrics->deleted = user_set_create();
			roaring_bitmap_add(metrics->deleted, number);
		}
	}
}

/* Returns the number of the last one. */
static int32
look_at_batch(Metrics *metrics, const SeenUser *batch, int n)
{
	int32 number = 0;

	for (int i = 0; i < n; i++)
		if (batch[i].number == 0)
			id_index_prefetch_entry(&metrics->users, &batch[i].id, numbers_users(metrics));
	for (int i = 0; i < n; i++)
		number = look_at_user(metrics, &batch[i]);
	return number;
}

static void
look_at_users(Metrics *metrics)
{
	DashieColumn columns[] = {
		{"id", UUIDOID, true, 0},
		{"created_at", TIMESTAMPTZOID, false, 0},
		{"is_anonymous", BOOLOID, false, 0},
		{"deleted_at", TIMESTAMPTZOID, false, 0},
	};
	Relation rel = dashie_relation_open(dashie_relation_oid("auth", "users"), AccessShareLock,
										ACL_SELECT, false);
	SeenUser batch[BATCH];
	int n = 0;
	int32 before = 0; /* the number of the row before, or of one shortly before it */
	DashieScan *scan;

	dashie_relation_columns(rel, columns, lengthof(columns));
	metrics->has_signups = columns[1].attnum != InvalidAttrNumber;
	scan = dashie_scan_begin(rel, metrics->snapshot);
	dashie_scan_want(scan, columns, lengthof(columns));
	while (dashie_scan_next(scan))
	{
		SeenUser *seen = &batch[n];
		const pg_uuid_t *id = dashie_scan_uuid(scan, &columns[0]);
		bool isnull;
		Datum value;

		if (id == NULL)
			continue;
		seen->id = *id;
		seen->number = numbers_guess(metrics, before, id);
		if (seen->number != 0)
			before = seen->number;
		else
			id_index_prefetch(&metrics->users, &seen->id);
		value = dashie_scan_get(scan, &columns[1], &isnull);
		seen->has_signup = !isnull;
		seen->signed_up_at = isnull ? 0 : DatumGetTimestampTz(value);
		value = dashie_scan_get(scan, &columns[2], &isnull);
		seen->anonymous = !isnull && DatumGetBool(value);
		(void) dashie_scan_get(scan, &columns[3], &isnull);
		seen->deleted = !isnull;
		if (++n == BATCH)
		{
			before = look_at_batch(metrics, batch, n);
			n = 0;
		}
	}
	(void) look_at_batch(metrics, batch, n);
	dashie_scan_end(scan);
	table_close(rel, NoLock);

	settle_users(metrics);
}

/*
 * numbers_expected is about how many users there will be, for the size of what is
 * made for each: none is lost if there are more.
 */
int32
numbers_expected(Metrics *metrics)
{
	Relation rel = dashie_relation_open(dashie_relation_oid("auth", "users"), AccessShareLock,
										ACL_SELECT, false);
	double rows = Min(Max(rel->rd_rel->reltuples, 0),
					  (double) RelationGetNumberOfBlocks(rel) * ROWS_PER_BLOCK);

	table_close(rel, NoLock);
	return (int32) Min(Max(rows, metrics->next_user) + NEW_USERS, PG_INT32_MAX - 1);
}

static void
lock_table(Oid relid)
{
	table_close(dashie_relation_open(relid, AccessShareLock, ACL_SELECT, false), NoLock);
}

/*
 * numbers_prepare locks what numbers_load() reads and runs the queries whose results
 * it needs: what is left then can be done while parallel workers run.  auth.users
 * comes before what refers to it, user_sessions as well, as for who truncates them all.
 */
void
numbers_prepare(Metrics *metrics)
{
	MemoryContext old;

	if (metrics->prepared)
		return;
	old = MemoryContextSwitchTo(metrics->context);
	numbers_bounds(metrics);
	lock_table(metrics_table("user_number"));
	lock_table(metrics_table("user_country"));
	lock_table(dashie_relation_oid("auth", "users"));
	conversions_read(metrics);
	metrics->prepared = true;
	MemoryContextSwitchTo(old);
}

/*
 * numbers_load reads what is known of users and dashboards and looks at every
 * user once.  Changes stay in memory until numbers_store().
 */
void
numbers_load(Metrics *metrics)
{
	MemoryContext old;
	int32 expected;

	if (metrics->users_loaded)
		return;
	numbers_prepare(metrics);
	old = MemoryContextSwitchTo(metrics->context);
	expected = numbers_expected(metrics);
	id_index_init(&metrics->users, metrics->context, expected);
	numbers_presize(metrics, expected);
	load_user_numbers(metrics);
	metrics->inserted_below = metrics->next_user;
	countries_load(metrics);
	look_at_users(metrics);
	conversions_apply(metrics);
	metrics->users_loaded = true;
	MemoryContextSwitchTo(old);
}
