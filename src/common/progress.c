/*
 * progress.c
 *		The table behind the view dashie.progress.
 *
 * A row is written in the transaction of the work that it tells of, so that
 * it says what is committed and no more.  It names the process by pid, start,
 * and server: a row that says "running" of a process that is not there any
 * more is shown as "died", and needs no cleaning up.  Work that goes on in a
 * later run goes on in the same row.
 *
 * Rows stay as long as the history of jobs does.  The only lock is ROW
 * EXCLUSIVE on the table, for the caller's transaction.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "common/day.h"
#include "common/progress.h"
#include "common/query.h"
#include "common/setting.h"

static void
trim_finished(void)
{
	Oid types[3] = {TIMESTAMPTZOID, INT4OID, INT8OID};
	Datum values[3];

	values[0] = TimestampTzGetDatum(dashie_now());
	values[1] = Int32GetDatum((int32) dashie_setting_int("job_history_days"));
	values[2] = Int64GetDatum(dashie_setting_int("job_history_rows"));
	dashie_query("DELETE FROM dashie.progress_entry"
				 " WHERE updated_at < $1 - pg_catalog.make_interval(hours => 24 * $2)"
				 " OR id <= (SELECT max(id) FROM dashie.progress_entry) - $3",
				 3, types, values, NULL);
}

/* dashie_progress_open begins a row; its id. */
int64
dashie_progress_open(const char *what, const char *detail)
{
	Oid types[6] = {TEXTOID, TEXTOID, TIMESTAMPTZOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum values[6];
	char nulls[6] = {' ', ' ', ' ', ' ', ' ', ' '};
	int64 id;

	dashie_query_begin();
	trim_finished();
	values[0] = CStringGetTextDatum(what);
	if (detail != NULL)
		values[1] = CStringGetTextDatum(detail);
	else
		nulls[1] = 'n';
	values[2] = TimestampTzGetDatum(dashie_now());
	values[3] = Int32GetDatum(MyProcPid);
	values[4] = TimestampTzGetDatum(MyStartTimestamp);
	values[5] = TimestampTzGetDatum(PgStartTime);
	dashie_query("INSERT INTO dashie.progress_entry (what, detail, state, started_at, updated_at,"
				 " pid, process_start, server_start)"
				 " VALUES ($1, $2, 'running', $3, $3, $4, $5, $6) RETURNING id",
				 6, types, values, nulls);
	id = DatumGetInt64(dashie_field(0, 1, NULL));
	dashie_query_end();
	return id;
}

/*
 * dashie_progress_resume goes on in the row of work that its last run left
 * unfinished.  The caller knows that nobody else is at it.
 */
int64
dashie_progress_resume(const char *what)
{
	Oid types[5] = {TEXTOID, TIMESTAMPTZOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum values[5];
	int64 id = 0;

	dashie_query_begin();
	values[0] = CStringGetTextDatum(what);
	values[1] = TimestampTzGetDatum(dashie_now());
	values[2] = Int32GetDatum(MyProcPid);
	values[3] = TimestampTzGetDatum(MyStartTimestamp);
	values[4] = TimestampTzGetDatum(PgStartTime);
	if (dashie_query("UPDATE dashie.progress_entry SET state = 'running', updated_at = $2,"
					 " finished_at = NULL, message = NULL, pid = $3, process_start = $4,"
					 " server_start = $5"
					 " WHERE id = (SELECT max(id) FROM dashie.progress_entry WHERE what = $1)"
					 " AND state IN ('running', 'partial', 'blocked') RETURNING id",
					 5, types, values, NULL) > 0)
		id = DatumGetInt64(dashie_field(0, 1, NULL));
	dashie_query_end();
	return id;
}

void
dashie_progress_tell(int64 id, const Progress *progress)
{
	Oid types[8] = {INT8OID, TEXTOID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID};
	Datum values[8];
	char nulls[8] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};

	dashie_query_begin();
	values[0] = Int64GetDatum(id);
	values[1] = CStringGetTextDatum(progress->unit);
	if (progress->detail != NULL)
		values[2] = CStringGetTextDatum(progress->detail);
	else
		nulls[2] = 'n';
	values[3] = Int64GetDatum(progress->done);
	values[4] = Int64GetDatum(progress->total);
	values[5] = Int64GetDatum(progress->advanced);
	values[6] = Int64GetDatum(progress->worked);
	values[7] = TimestampTzGetDatum(dashie_now());
	dashie_query("UPDATE dashie.progress_entry SET unit = $2, detail = coalesce($3, detail),"
				 " done = $4, total = $5, advanced = advanced + $6,"
				 " worked_microseconds = worked_microseconds + $7, updated_at = $8 WHERE id = $1",
				 8, types, values, nulls);
	dashie_query_end();
}

/* dashie_progress_close says how the work ended, or that its next run goes on. */
void
dashie_progress_close(int64 id, const char *state, const char *message)
{
	Oid types[4] = {INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum values[4];
	char nulls[4] = {' ', ' ', ' ', ' '};

	dashie_query_begin();
	values[0] = Int64GetDatum(id);
	values[1] = CStringGetTextDatum(state);
	if (message != NULL)
		values[2] = CStringGetTextDatum(message);
	else
		nulls[2] = 'n';
	values[3] = TimestampTzGetDatum(dashie_now());
	dashie_query("UPDATE dashie.progress_entry SET state = $2, message = $3, updated_at = $4,"
				 " finished_at = CASE WHEN $2 NOT IN ('partial', 'blocked') THEN $4 END"
				 " WHERE id = $1",
				 4, types, values, nulls);
	dashie_query_end();
}
