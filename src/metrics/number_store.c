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

/* Inserts the rows in bulk; with SQL where the table's owner has added what that would pass by. */
static void
insert_rows(const char *table, const char *const *columns, DashieArrays *rows, const char *sql)
{
	if (rows->nrows > 0 && !dashie_bulk_insert(metrics_table(table), columns, rows))
		write_rows(sql, rows);
}

static void
store_users(Metrics *metrics, bool is_new, int count)
{
	static const Oid types[] = {INT4OID, UUIDOID, TIMESTAMPTZOID, BOOLOID,
								BOOLOID, BOOLOID, TIMESTAMPTZOID};
	static const char *const columns[] = {"number",	   "user_id", "signed_up_at", "signup_counts",
										  "anonymous", "deleted", "converted_at"};
	DashieArrays rows;

	dashie_arrays_init(&rows, types, lengthof(types), count);
	for (int32 number = 0; number < metrics->by_number_size; number++)
	{
		UserEntry *user = numbers_by_number(metrics, number);
		int row = rows.nrows;

		if (user == NULL || user->is_new != is_new || !(user->is_new || user->changed))
			continue;
		rows.values[0][row] = Int32GetDatum(user->number);
		rows.values[1][row] = UUIDPGetDatum(&user->id);
		rows.nulls[1][row] = user->departed;
		rows.values[2][row] = TimestampTzGetDatum(user->signed_up_at);
		rows.nulls[2][row] = !user->has_signup;
		rows.values[3][row] = BoolGetDatum(user->signup_counts);
		rows.values[4][row] = BoolGetDatum(user->anonymous);
		rows.values[5][row] = BoolGetDatum(user->deleted);
		rows.values[6][row] = TimestampTzGetDatum(user->converted_at);
		rows.nulls[6][row] = !user->converted;
		rows.nrows++;
	}
	Assert(rows.nrows == count);
	if (is_new)
		insert_rows("user_number", columns, &rows,
					"INSERT INTO dashie.user_number (number, user_id, signed_up_at, signup_counts,"
					" anonymous, deleted, converted_at)"
					" SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7)");
	else
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
	Oid types[] = {INT4OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum values[4];

	for (int32 number = 0; number < metrics->by_number_size; number++)
	{
		UserEntry *user = numbers_by_number(metrics, number);

		if (user != NULL && user->is_new)
			new_users++;
		else if (user != NULL && user->changed)
			changed_users++;
	}
	store_users(metrics, false, changed_users);
	store_users(metrics, true, new_users);
	numbers_store_dashboards(metrics);
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
