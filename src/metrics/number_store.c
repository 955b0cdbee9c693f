/*
 * number_store.c
 *		Writes what a run learned of users and dashboards.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "common/arrays.h"
#include "common/bulk.h"
#include "common/query.h"
#include "metrics/engine.h"
#include "metrics/numbers.h"

/* What is inserted at once: while workers wait for it, it must not take long. */
#define USERS_AT_ONCE 8192

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

static const char *const user_columns[] = {"number",	"user_id", "signed_up_at", "signup_counts",
										   "anonymous", "deleted", "converted_at"};
static const Oid user_types[] = {INT4OID, UUIDOID, TIMESTAMPTZOID, BOOLOID,
								 BOOLOID, BOOLOID, TIMESTAMPTZOID};

/*
 * take_users makes rows of up to "limit" users from a number on who are to be
 * inserted, or of those who are to be updated.  Returns the number to go on with.
 */
static int32
take_users(Metrics *metrics, bool is_new, int32 number, int limit, DashieArrays *rows)
{
	dashie_arrays_init(rows, user_types, lengthof(user_types), limit);
	for (; number < metrics->by_number_size && rows->nrows < limit; number++)
	{
		UserEntry *user = numbers_by_number(metrics, number);
		int row = rows->nrows;

		if (user == NULL || user->is_new != is_new || !(user->is_new || user->changed))
			continue;
		rows->values[0][row] = Int32GetDatum(user->number);
		rows->values[1][row] = UUIDPGetDatum(&user->id);
		rows->nulls[1][row] = user->departed;
		rows->values[2][row] = TimestampTzGetDatum(user->signed_up_at);
		rows->nulls[2][row] = !user->has_signup;
		rows->values[3][row] = BoolGetDatum(user->signup_counts);
		rows->values[4][row] = BoolGetDatum(user->anonymous);
		rows->values[5][row] = BoolGetDatum(user->deleted);
		rows->values[6][row] = TimestampTzGetDatum(user->converted_at);
		rows->nulls[6][row] = !user->converted;
		rows->nrows++;
	}
	return number;
}

static int
count_changed(const Metrics *metrics)
{
	int count = 0;

	for (int32 number = 0; number < metrics->by_number_size; number++)
	{
		const UserEntry *user = numbers_by_number(metrics, number);

		if (user != NULL && user->changed && !user->is_new)
			count++;
	}
	return count;
}

static void
update_users(Metrics *metrics)
{
	DashieArrays rows;

	take_users(metrics, false, 0, count_changed(metrics), &rows);
	write_rows("UPDATE dashie.user_number AS u SET user_id = n.user_id,"
			   " signed_up_at = n.signed_up_at, signup_counts = n.signup_counts,"
			   " anonymous = n.anonymous, deleted = n.deleted,"
			   " converted_at = n.converted_at"
			   " FROM unnest($1, $2, $3, $4, $5, $6, $7) AS n (number, user_id,"
			   " signed_up_at, signup_counts, anonymous, deleted, converted_at)"
			   " WHERE u.number = n.number",
			   &rows);
}

/*
 * Inserts some thousands of the users that this run has given numbers; false once
 * there are no more.  All are known when users were loaded, and what is known of them.
 */
static bool
insert_users(Metrics *metrics)
{
	MemoryContext context;
	MemoryContext old;
	DashieArrays rows;

	if (metrics->inserted_below >= metrics->by_number_size)
		return false;
	context =
		AllocSetContextCreate(CurrentMemoryContext, "dashie new users", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	metrics->inserted_below =
		take_users(metrics, true, metrics->inserted_below, USERS_AT_ONCE, &rows);
	if (rows.nrows > 0 && !dashie_bulk_insert(metrics_table("user_number"), user_columns, &rows))
		write_rows("INSERT INTO dashie.user_number (number, user_id, signed_up_at, signup_counts,"
				   " anonymous, deleted, converted_at)"
				   " SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7)",
				   &rows);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return true;
}

/*
 * numbers_may_insert says whether numbers_insert() may be used: not where the
 * tables' owner has added what that would pass by.
 */
bool
numbers_may_insert(void)
{
	DashieArrays rows;

	dashie_arrays_init(&rows, user_types, lengthof(user_types), 1);
	return dashboards_may_insert() &&
		   dashie_bulk_may_insert(metrics_table("user_number"), user_columns, &rows);
}

/*
 * numbers_have_changed says whether rows of users are to be updated: those who
 * have left must give way before new ones are inserted.
 */
bool
numbers_have_changed(const Metrics *metrics)
{
	return count_changed(metrics) > 0;
}

/*
 * numbers_insert writes a part of what numbers_store() would, without a command of
 * its own: it may be used while parallel workers run, in a transaction that has
 * its id, once all dashboards of a stretch have numbers.  False if nothing was left.
 */
bool
numbers_insert(Metrics *metrics)
{
	return insert_users(metrics) || dashboards_insert(metrics);
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
	Oid types[] = {INT4OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum values[4];

	update_users(metrics);
	while (insert_users(metrics))
		;
	dashboards_store(metrics);
	countries_store(metrics);

	values[0] = Int32GetDatum(metrics->next_user);
	values[1] = Int32GetDatum(metrics->next_dashboard);
	values[2] = TimestampTzGetDatum(metrics->now);
	values[3] = TimestampTzGetDatum(metrics->geographic_at);
	dashie_query_begin();
	dashie_query("UPDATE dashie.metrics_state SET next_user = $1, next_dashboard = $2,"
				 " last_pass = $3, geographic_at = nullif($4, '-infinity') WHERE only_row",
				 4, types, values, NULL);
	dashie_query_end();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
