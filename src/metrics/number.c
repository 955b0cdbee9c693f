/*
 * number.c
 *		Users and dashboards under small numbers: one pass over all users.
 *
 * A refresh, and nobody else, gives numbers; it holds the lock on
 * dashie.day_page, so that numbers need no sequence.  The counters are a row of
 * dashie.metrics_state and go with the tables through dump and restore: a
 * number is never given twice.
 *
 * A user who is gone keeps the number without the id.  What they did in days
 * that were over when they were last seen stays counted; what they did in a
 * day that was not over goes with them, as plain SQL at the end of that day
 * would have it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "storage/lockdefs.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "access/table.h"
#include "common/arrays.h"
#include "common/query.h"
#include "common/relation.h"
#include "metrics/engine.h"

/* How far numbers may lie above the rows that have them: an array of 80 MB. */
#define SPARSE_NUMBERS 10000000

typedef struct UuidSlot
{
	pg_uuid_t id;
	uint32 status;
	void *entry;
} UuidSlot;

#define SH_PREFIX uuidmap
#define SH_ELEMENT_TYPE UuidSlot
#define SH_KEY_TYPE pg_uuid_t
#define SH_KEY id
#define SH_HASH_KEY(tb, key) hash_bytes((const unsigned char *) (key).data, UUID_LEN)
#define SH_EQUAL(tb, a, b) (memcmp((a).data, (b).data, UUID_LEN) == 0)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static void *
map_get(struct uuidmap_hash *map, const pg_uuid_t *id)
{
	UuidSlot *slot = uuidmap_lookup(map, *id);

	return slot != NULL ? slot->entry : NULL;
}

static void
map_put(struct uuidmap_hash *map, const pg_uuid_t *id, void *entry)
{
	bool found;

	uuidmap_insert(map, *id, &found)->entry = entry;
}

/* The slot of a number in an array of pointers that grows as needed. */
static void **
slot_of_number(void ***array, int32 *size, int32 number)
{
	if (number >= *size)
	{
		Size new_size = Max((Size) number + 1, (Size) *size * 2);

		*array = *array == NULL
					 ? MemoryContextAllocHuge(CurrentMemoryContext, new_size * sizeof(void *))
					 : repalloc_huge(*array, new_size * sizeof(void *));
		memset(*array + *size, 0, (new_size - *size) * sizeof(void *));
		*size = (int32) new_size;
	}
	return &(*array)[number];
}

static void
index_user(Metrics *metrics, UserEntry *user)
{
	*slot_of_number((void ***) &metrics->by_number, &metrics->by_number_size, user->number) = user;
}

static void
index_dashboard(Metrics *metrics, DashboardEntry *dashboard)
{
	DashboardEntry *first = map_get(metrics->dashboards, &dashboard->id);

	if (first == NULL)
		map_put(metrics->dashboards, &dashboard->id, dashboard);
	else
	{
		dashboard->next = first->next;
		first->next = dashboard;
	}
	dashboard->first = first == NULL ? dashboard : first;
	*slot_of_number((void ***) &metrics->dashboard_by_number, &metrics->dashboard_by_number_size,
					dashboard->number) = dashboard;
}

static int32
take_next(int32 *next, const char *what)
{
	if (*next == PG_INT32_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("all numbers for %s are used up", what)));
	return (*next)++;
}

bool
user_is_there(const UserEntry *user)
{
	return !user->departed && !user->deleted;
}

UserEntry *
numbers_user(Metrics *metrics, const pg_uuid_t *id)
{
	return map_get(metrics->users, id);
}

UserEntry *
numbers_by_number(Metrics *metrics, int32 number)
{
	return number < metrics->by_number_size ? metrics->by_number[number] : NULL;
}

bool
numbers_gone(Metrics *metrics, int32 number)
{
	UserEntry *user = numbers_by_number(metrics, number);

	return user == NULL || user->departed;
}

DashboardEntry *
numbers_dashboard_by_number(Metrics *metrics, int32 number)
{
	return number < metrics->dashboard_by_number_size ? metrics->dashboard_by_number[number] : NULL;
}

int32
numbers_dashboard(Metrics *metrics, const pg_uuid_t *id, int32 user_number)
{
	DashboardEntry *dashboard = map_get(metrics->dashboards, id);

	while (dashboard != NULL && dashboard->user_number != user_number)
		dashboard = dashboard->next;
	if (dashboard == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(metrics->context);

		dashboard = palloc0(sizeof(DashboardEntry));
		dashboard->id = *id;
		dashboard->number = take_next(&metrics->next_dashboard, "dashboards");
		metrics->max_dashboard = Max(metrics->max_dashboard, dashboard->number);
		dashboard->user_number = user_number;
		dashboard->is_new = true;
		index_dashboard(metrics, dashboard);
		MemoryContextSwitchTo(old);
	}
	return dashboard->number;
}

/*
 * next_number is the number to be given next: the stored counter, or one above
 * the highest that is there.  Users and dashboards are arrays indexed by
 * number.  We give numbers one by one and take no row away, so one that is far
 * above the number of rows was not given by us, and gets no array of its size.
 */
static int32
next_number(int counter, int highest, int rows, const char *what, int32 *max)
{
	int32 next = DatumGetInt32(dashie_field(0, counter, NULL));
	bool none;
	Datum value = dashie_field(0, highest, &none);
	int64 count = DatumGetInt64(dashie_field(0, rows, NULL));
	int64 limit = Min(SPARSE_NUMBERS + 8 * count, PG_INT32_MAX - 1);

	if (next < 1 || next > limit || (!none && DatumGetInt32(value) > limit))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("invalid numbers of %s", what),
						errdetail("Next is %d, and the highest of " INT64_FORMAT " rows is %d.",
								  next, count, none ? 0 : DatumGetInt32(value))));
	*max = (int32) limit;
	return none ? next : Max(next, DatumGetInt32(value) + 1);
}

static void
load_state(Metrics *metrics)
{
	static const Oid types[] = {INT4OID, INT4OID, TIMESTAMPTZOID, INT4OID,
								INT4OID, INT8OID, INT8OID};
	bool isnull;
	Datum value;

	dashie_query_begin();
	if (dashie_query("SELECT s.next_user, s.next_dashboard, s.last_pass,"
					 " (SELECT max(number) FROM dashie.user_number),"
					 " (SELECT max(number) FROM dashie.dashboard_number),"
					 " (SELECT count(*) FROM dashie.user_number),"
					 " (SELECT count(*) FROM dashie.dashboard_number)"
					 " FROM dashie.metrics_state AS s",
					 0, NULL, NULL, NULL) != 1)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"dashie.metrics_state\" has lost its row"),
						errhint("Run SELECT dashie.enable('daily_metrics').")));
	dashie_query_types(lengthof(types), types);
	metrics->next_user = next_number(1, 4, 6, "users", &metrics->max_user);
	metrics->next_dashboard = next_number(2, 5, 7, "dashboards", &metrics->max_dashboard);
	value = dashie_field(0, 3, &isnull);
	metrics->has_last_pass = !isnull;
	if (!isnull)
		metrics->last_pass = DatumGetTimestampTz(value);
	dashie_query_end();
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
		{"country", TEXTOID, true, 0},
		{"country_at", TIMESTAMPTZOID, true, 0},
		{"country_session", UUIDOID, true, 0},
		{"converted_at", TIMESTAMPTZOID, true, 0},
	};
	Relation rel =
		dashie_relation_open(metrics_table("user_number"), AccessShareLock, ACL_SELECT, false);
	DashieScan *scan;

	dashie_relation_columns(rel, columns, lengthof(columns));
	scan = dashie_scan_begin(rel, metrics->snapshot);
	while (dashie_scan_next(scan))
	{
		UserEntry *user = palloc0(sizeof(UserEntry));
		bool isnull;
		Datum value;

		user->number = DatumGetInt32(dashie_scan_get(scan, &columns[0], &isnull));
		if (user->number <= 0 || user->number > metrics->max_user)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
							errmsg("invalid number %d in dashie.user_number", user->number)));
		value = dashie_scan_get(scan, &columns[1], &isnull);
		user->departed = isnull;
		if (!isnull)
		{
			user->id = *DatumGetUUIDP(value);
			map_put(metrics->users, &user->id, user);
		}
		value = dashie_scan_get(scan, &columns[2], &isnull);
		user->has_signup = !isnull;
		user->signed_up_at = isnull ? 0 : DatumGetTimestampTz(value);
		user->signup_counts = DatumGetBool(dashie_scan_get(scan, &columns[3], &isnull));
		user->anonymous = DatumGetBool(dashie_scan_get(scan, &columns[4], &isnull));
		user->deleted = DatumGetBool(dashie_scan_get(scan, &columns[5], &isnull));
		value = dashie_scan_get(scan, &columns[6], &isnull);
		user->country = country_code(value, isnull);
		value = dashie_scan_get(scan, &columns[7], &isnull);
		if (isnull)
			user->country = NO_COUNTRY;
		else
			user->country_at = DatumGetTimestampTz(value);
		value = dashie_scan_get(scan, &columns[8], &isnull);
		if (!isnull)
			user->country_session = *DatumGetUUIDP(value);
		value = dashie_scan_get(scan, &columns[9], &isnull);
		user->converted = !isnull;
		user->converted_at = isnull ? 0 : DatumGetTimestampTz(value);
		index_user(metrics, user);
	}
	dashie_scan_end(scan);
	table_close(rel, NoLock);
}

static void
load_dashboard_numbers(Metrics *metrics)
{
	DashieColumn columns[] = {
		{"number", INT4OID, true, 0},
		{"dashboard_id", UUIDOID, true, 0},
		{"user_number", INT4OID, true, 0},
	};
	Relation rel =
		dashie_relation_open(metrics_table("dashboard_number"), AccessShareLock, ACL_SELECT, false);
	DashieScan *scan;

	dashie_relation_columns(rel, columns, lengthof(columns));
	scan = dashie_scan_begin(rel, metrics->snapshot);
	while (dashie_scan_next(scan))
	{
		DashboardEntry *dashboard = palloc0(sizeof(DashboardEntry));
		const pg_uuid_t *id;
		bool isnull;

		dashboard->number = DatumGetInt32(dashie_scan_get(scan, &columns[0], &isnull));
		id = dashie_scan_uuid(scan, &columns[1]);
		dashboard->user_number = DatumGetInt32(dashie_scan_get(scan, &columns[2], &isnull));
		if (id == NULL)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
							errmsg("number %d in dashie.dashboard_number has no dashboard",
								   dashboard->number)));
		dashboard->id = *id;
		if (dashboard->number <= 0 || dashboard->number > metrics->max_dashboard ||
			dashboard->user_number <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("invalid number %d in dashie.dashboard_number", dashboard->number)));
		index_dashboard(metrics, dashboard);
	}
	dashie_scan_end(scan);
	table_close(rel, NoLock);
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
	DashieScan *scan;

	dashie_relation_columns(rel, columns, lengthof(columns));
	metrics->has_signups = columns[1].attnum != InvalidAttrNumber;
	scan = dashie_scan_begin(rel, metrics->snapshot);
	while (dashie_scan_next(scan))
	{
		bool isnull;
		pg_uuid_t *id = DatumGetUUIDP(dashie_scan_get(scan, &columns[0], &isnull));
		UserEntry *user;
		Datum value;
		bool has_signup;
		TimestampTz signed_up_at;
		bool anonymous;
		bool deleted;

		if (isnull)
			continue;
		value = dashie_scan_get(scan, &columns[1], &isnull);
		has_signup = !isnull;
		signed_up_at = isnull ? 0 : DatumGetTimestampTz(value);
		value = dashie_scan_get(scan, &columns[2], &isnull);
		anonymous = !isnull && DatumGetBool(value);
		(void) dashie_scan_get(scan, &columns[3], &isnull);
		deleted = !isnull;

		user = numbers_user(metrics, id);
		if (user == NULL)
		{
			user = palloc0(sizeof(UserEntry));
			user->id = *id;
			user->number = take_next(&metrics->next_user, "users");
			metrics->max_user = Max(metrics->max_user, user->number);
			user->is_new = true;
			map_put(metrics->users, &user->id, user);
			index_user(metrics, user);
		}
		user->seen = true;

		if (deleted)
		{
			/* what they were when last seen stays, as for a user whose row is gone */
			if (!user->deleted)
			{
				leave_behind(metrics, user);
				user->deleted = true;
				if (user->is_new)
				{
					user->has_signup = has_signup;
					user->signed_up_at = signed_up_at;
					user->anonymous = anonymous;
				}
			}
		}
		else if (user->deleted || user->has_signup != has_signup ||
				 user->signed_up_at != signed_up_at || user->anonymous != anonymous ||
				 user->signup_counts == anonymous)
		{
			user->deleted = false;
			user->has_signup = has_signup;
			user->signed_up_at = signed_up_at;
			user->anonymous = anonymous;
			user->signup_counts = !anonymous;
			user->changed = true;
		}
	}
	dashie_scan_end(scan);
	table_close(rel, NoLock);

	for (int32 number = 0; number < metrics->by_number_size; number++)
	{
		UserEntry *user = metrics->by_number[number];

		if (user == NULL || user->departed || user->seen)
			continue;
		if (!user->deleted)
			leave_behind(metrics, user);
		user->departed = true;
		user->changed = true;
		uuidmap_delete(metrics->users, user->id);
	}
}

/*
 * numbers_load reads what is known of users and dashboards and looks at every
 * user once.  Changes stay in memory until numbers_store().
 */
void
numbers_load(Metrics *metrics)
{
	MemoryContext old;

	if (metrics->users_loaded)
		return;
	old = MemoryContextSwitchTo(metrics->context);
	metrics->users = uuidmap_create(metrics->context, 1024, NULL);
	metrics->dashboards = uuidmap_create(metrics->context, 256, NULL);
	load_state(metrics);
	load_user_numbers(metrics);
	load_dashboard_numbers(metrics);
	look_at_users(metrics);
	conversions_load(metrics);
	metrics->users_loaded = true;
	MemoryContextSwitchTo(old);
}

static void
write_rows(const char *sql, DashieArrays *rows)
{
	if (rows->nrows == 0)
		return;
	dashie_arrays_finish(rows);
	dashie_query_begin();
	dashie_query(sql, rows->ncolumns, rows->parameter_types, rows->parameters, NULL);
	dashie_query_end();
}

static void
store_users(Metrics *metrics, bool is_new, int count)
{
	static const Oid types[] = {INT4OID, UUIDOID, TIMESTAMPTZOID, BOOLOID, BOOLOID,
								BOOLOID, TEXTOID, TIMESTAMPTZOID, UUIDOID, TIMESTAMPTZOID};
	DashieArrays rows;

	dashie_arrays_init(&rows, types, lengthof(types), count);
	for (int32 number = 0; number < metrics->by_number_size; number++)
	{
		UserEntry *user = metrics->by_number[number];
		int row = rows.nrows;
		bool has_country;

		if (user == NULL || user->is_new != is_new || !(user->is_new || user->changed))
			continue;
		has_country = user->country != NO_COUNTRY;
		rows.values[0][row] = Int32GetDatum(user->number);
		rows.values[1][row] = UUIDPGetDatum(&user->id);
		rows.nulls[1][row] = user->departed;
		rows.values[2][row] = TimestampTzGetDatum(user->signed_up_at);
		rows.nulls[2][row] = !user->has_signup;
		rows.values[3][row] = BoolGetDatum(user->signup_counts);
		rows.values[4][row] = BoolGetDatum(user->anonymous);
		rows.values[5][row] = BoolGetDatum(user->deleted);
		if (has_country)
		{
			char code[3] = {(char) (user->country >> 8), (char) (user->country & 0xFF), '\0'};

			rows.values[6][row] = CStringGetTextDatum(code);
		}
		rows.nulls[6][row] = rows.nulls[7][row] = rows.nulls[8][row] = !has_country;
		rows.values[7][row] = TimestampTzGetDatum(user->country_at);
		rows.values[8][row] = UUIDPGetDatum(&user->country_session);
		rows.values[9][row] = TimestampTzGetDatum(user->converted_at);
		rows.nulls[9][row] = !user->converted;
		rows.nrows++;
	}
	Assert(rows.nrows == count);
	write_rows(is_new
				   ? "INSERT INTO dashie.user_number (number, user_id, signed_up_at, signup_counts,"
					 " anonymous, deleted, country, country_at, country_session, converted_at)"
					 " SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
				   : "UPDATE dashie.user_number AS u SET user_id = n.user_id,"
					 " signed_up_at = n.signed_up_at, signup_counts = n.signup_counts,"
					 " anonymous = n.anonymous, deleted = n.deleted, country = n.country,"
					 " country_at = n.country_at, country_session = n.country_session,"
					 " converted_at = n.converted_at"
					 " FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) AS n (number, user_id,"
					 " signed_up_at, signup_counts, anonymous, deleted, country, country_at,"
					 " country_session, converted_at)"
					 " WHERE u.number = n.number",
			   &rows);
}

static void
store_dashboards(Metrics *metrics, int count)
{
	static const Oid types[] = {INT4OID, UUIDOID, INT4OID};
	DashieArrays rows;

	dashie_arrays_init(&rows, types, lengthof(types), count);
	for (int32 number = 0; number < metrics->dashboard_by_number_size; number++)
	{
		DashboardEntry *dashboard = metrics->dashboard_by_number[number];
		int row = rows.nrows;

		if (dashboard == NULL || !dashboard->is_new)
			continue;
		rows.values[0][row] = Int32GetDatum(dashboard->number);
		rows.values[1][row] = UUIDPGetDatum(&dashboard->id);
		rows.values[2][row] = Int32GetDatum(dashboard->user_number);
		rows.nrows++;
	}
	write_rows("INSERT INTO dashie.dashboard_number (number, dashboard_id, user_number)"
			   " SELECT * FROM unnest($1, $2, $3)",
			   &rows);
}

/*
 * numbers_store writes what this run learned of users and dashboards.
 */
void
numbers_store(Metrics *metrics)
{
	MemoryContext context =
		AllocSetContextCreate(metrics->context, "dashie numbers", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	int new_users = 0;
	int changed_users = 0;
	int new_dashboards = 0;
	Oid types[] = {INT4OID, INT4OID, TIMESTAMPTZOID};
	Datum values[3];

	for (int32 number = 0; number < metrics->by_number_size; number++)
	{
		UserEntry *user = metrics->by_number[number];

		if (user != NULL && user->is_new)
			new_users++;
		else if (user != NULL && user->changed)
			changed_users++;
	}
	for (int32 number = 0; number < metrics->dashboard_by_number_size; number++)
		if (metrics->dashboard_by_number[number] != NULL &&
			metrics->dashboard_by_number[number]->is_new)
			new_dashboards++;

	store_users(metrics, false, changed_users);
	store_users(metrics, true, new_users);
	store_dashboards(metrics, new_dashboards);

	values[0] = Int32GetDatum(metrics->next_user);
	values[1] = Int32GetDatum(metrics->next_dashboard);
	values[2] = TimestampTzGetDatum(metrics->now);
	dashie_query_begin();
	dashie_query(
		"UPDATE dashie.metrics_state SET next_user = $1, next_dashboard = $2, last_pass = $3"
		" WHERE only_row",
		3, types, values, NULL);
	dashie_query_end();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
