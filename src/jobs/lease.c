/*
 * lease.c
 *		Who runs a job now, and what became of its runs.
 *
 * dashie.job_state has one row a job.  Its lease names the process that runs
 * the job; the holder commits the lease before it works and renews it in the
 * transaction of each step.  It is alive while that process lives under this
 * postmaster and has renewed it within an hour, so that a lease survives
 * neither its process, nor a restart, nor a failover, and needs no cleaning
 * up.  A session's advisory lock would outlive errors, and leak through a
 * pooler.
 *
 * The row is locked while the lease is taken.  Who finds it locked does not
 * wait: somebody else is about to run the job.
 *
 * All functions run inside dashie_enter().  Leases and back-off use the real
 * time, schedules and history dashie_now().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/day.h"
#include "common/query.h"
#include "common/setting.h"
#include "jobs/jobs.h"

#define LEASE_TIME USECS_PER_HOUR
#define FIRST_RETRY USECS_PER_MINUTE
#define LAST_RETRY USECS_PER_HOUR

static TimestampTz
field_time(int column)
{
	bool isnull;
	Datum value = dashie_field(0, column, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(value);
}

/*
 * dashie_job_state reads a job's row.  With lock, state->found is false when
 * another transaction has it locked.
 */
void
dashie_job_state(const Job *job, bool lock, JobState *state)
{
	static const char *const columns =
		"SELECT last_started, last_finished, last_status, failures, retry_at, more, lease_pid,"
		" lease_boot, lease_expires FROM dashie.job_state WHERE name = $1";
	Oid types[1] = {TEXTOID};
	Datum values[1];
	char *sql = psprintf("%s%s", columns, lock ? " FOR UPDATE SKIP LOCKED" : "");

	memset(state, 0, sizeof(*state));
	dashie_query_begin();
	values[0] = CStringGetTextDatum(job->name);
	if (dashie_query(sql, 1, types, values, NULL) > 0)
	{
		bool isnull;
		Datum pid;

		state->found = true;
		state->last_started = field_time(1);
		state->last_finished = field_time(2);
		state->last_status = dashie_field_text(0, 3);
		state->failures = DatumGetInt32(dashie_field(0, 4, NULL));
		state->retry_at = field_time(5);
		state->more = DatumGetBool(dashie_field(0, 6, NULL));
		pid = dashie_field(0, 7, &isnull);
		state->lease_pid = isnull ? 0 : DatumGetInt32(pid);
		state->lease_boot = field_time(8);
		state->lease_expires = field_time(9);
	}
	dashie_query_end();
}

bool
dashie_lease_alive(const JobState *state)
{
	if (state->lease_pid == 0 || state->lease_boot != PgStartTime ||
		state->lease_expires <= GetCurrentTimestamp())
		return false;
	/* a run of this very session may have been broken off by an error */
	if (state->lease_pid == MyProcPid)
		return dashie_running;
	return BackendPidGetProc(state->lease_pid) != NULL;
}

/* dashie_retry_wait is how long to wait after the n-th failure in a row, microseconds. */
int64
dashie_retry_wait(int failures)
{
	return Min(FIRST_RETRY << Min(Max(failures - 1, 0), 10), LAST_RETRY);
}

/* When to try again after the n-th failure in a row. */
static TimestampTz
retry_time(int failures)
{
	int64 wait = dashie_retry_wait(failures);

	/* up to a tenth more, so that databases that failed together do not retry together */
	wait += (int64) (dashie_random_fraction() * (wait / 10));
	return GetCurrentTimestamp() + wait;
}

static void
set_state(const Job *job, const char *assignments, TimestampTz at)
{
	Oid types[4] = {TEXTOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum values[4];

	dashie_query_begin();
	values[0] = CStringGetTextDatum(job->name);
	values[1] = Int32GetDatum(MyProcPid);
	values[2] = TimestampTzGetDatum(PgStartTime);
	values[3] = TimestampTzGetDatum(at);
	dashie_query(psprintf("UPDATE dashie.job_state SET %s WHERE name = $1", assignments), 4, types,
				 values, NULL);
	dashie_query_end();
}

void
dashie_job_ask(const char *name)
{
	Oid types[1] = {TEXTOID};
	Datum values[1];

	dashie_query_begin();
	values[0] = CStringGetTextDatum(name);
	dashie_query("UPDATE dashie.job_state SET more = true WHERE name IN (SELECT name"
				 " FROM dashie.job_state WHERE name = $1 AND NOT more FOR UPDATE SKIP LOCKED)",
				 1, types, values, NULL);
	dashie_query_end();
}

/* A run that its process did not live to finish: closes its row. */
static void
close_dead_run(const Job *job)
{
	Oid types[2] = {TEXTOID, TIMESTAMPTZOID};
	Datum values[2];

	dashie_query_begin();
	values[0] = CStringGetTextDatum(job->name);
	values[1] = TimestampTzGetDatum(dashie_now());
	dashie_query("UPDATE dashie.job_run SET status = 'failed', finished_at = $2,"
				 " error_message = 'runner died before the job was done'"
				 " WHERE name = $1 AND status = 'running'",
				 2, types, values, NULL);
	dashie_query_end();
}

static bool
is_due(const Job *job, const JobState *state)
{
	JobConfig config;
	TimestampTz next;

	dashie_job_config(job, &config);
	return config.enabled && dashie_job_next(&config, state, &next) && next <= dashie_now();
}

/*
 * dashie_lease_take takes the lease and opens the run; run->id stays 0 when
 * another process has it, or with only_if_due when the job is not due any
 * more, because the other driver was faster.
 */
void
dashie_lease_take(JobRun *run, bool only_if_due)
{
	const Job *job = run->job;
	JobState state;
	Oid types[3] = {TEXTOID, TIMESTAMPTZOID, TEXTOID};
	Datum values[3];

	run->id = 0;
	run->holder = 0;

	dashie_job_state(job, false, &state);
	if (!state.found)
	{
		dashie_query_begin();
		values[0] = CStringGetTextDatum(job->name);
		dashie_query("INSERT INTO dashie.job_state (name) VALUES ($1) ON CONFLICT DO NOTHING", 1,
					 types, values, NULL);
		dashie_query_end();
	}

	else if (only_if_due && !is_due(job, &state))
		return; /* most calls end here, and have written nothing */

	dashie_job_state(job, true, &state);
	if (!state.found)
		return;
	if (dashie_lease_alive(&state))
	{
		run->holder = state.lease_pid;
		return;
	}
	if (only_if_due && !is_due(job, &state))
		return;

	if (state.lease_pid != 0)
	{
		close_dead_run(job);
		state.failures++;

		/*
		 * The first time the job goes on at once.  A job that takes its
		 * process down again and again must not take the server with it.
		 */
		if (only_if_due && state.failures > 1)
		{
			set_state(job,
					  "failures = failures + 1, retry_at = $4, last_status = 'failed',"
					  " lease_pid = NULL, lease_boot = NULL, lease_expires = NULL",
					  retry_time(state.failures - 1));
			return;
		}
		set_state(job, "failures = failures + 1", 0);
	}

	run->failures = state.failures;
	run->previous = state.last_started;
	run->started = GetCurrentTimestamp();
	set_state(job, "lease_pid = $2, lease_boot = $3, lease_expires = $4",
			  run->started + LEASE_TIME);

	dashie_query_begin();
	values[0] = CStringGetTextDatum(job->name);
	values[1] = TimestampTzGetDatum(dashie_now());
	values[2] = CStringGetTextDatum(run->driver);
	dashie_query("UPDATE dashie.job_state SET last_started = $2, last_status = 'running'"
				 " WHERE name = $1",
				 2, types, values, NULL);
	dashie_query("INSERT INTO dashie.job_run (name, started_at, status, driver)"
				 " VALUES ($1, $2, 'running', $3) RETURNING id",
				 3, types, values, NULL);
	run->id = DatumGetInt64(dashie_field(0, 1, NULL));
	dashie_query_end();
}

/*
 * stall_values fills in dashie.job_run's longest_stall_ms, to the microsecond, and
 * blocked_by.
 */
static void
stall_values(const JobRun *run, Datum *values, char *nulls)
{
	values[0] = Float8GetDatum(run->stall / 1000.0);
	if (run->blocked_by != NULL)
		values[1] = CStringGetTextDatum(run->blocked_by);
	else
		nulls[1] = 'n';
}

/*
 * dashie_lease_renew records what a step did.  It fails when the lease is
 * another's by now, which undoes the step.
 */
void
dashie_lease_renew(JobRun *run)
{
	Oid types[4] = {TEXTOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum values[4];
	Oid run_types[5] = {INT8OID, INT4OID, INT8OID, FLOAT8OID, TEXTOID};
	Datum run_values[5];
	char run_nulls[5] = {' ', ' ', ' ', ' ', ' '};
	uint64 renewed;

	dashie_query_begin();
	values[0] = CStringGetTextDatum(run->job->name);
	values[1] = Int32GetDatum(MyProcPid);
	values[2] = TimestampTzGetDatum(PgStartTime);
	values[3] = TimestampTzGetDatum(GetCurrentTimestamp() + LEASE_TIME);
	renewed = dashie_query("UPDATE dashie.job_state SET lease_expires = $4"
						   " WHERE name = $1 AND lease_pid = $2 AND lease_boot = $3",
						   4, types, values, NULL);
	run_values[0] = Int64GetDatum(run->id);
	run_values[1] = Int32GetDatum(run->steps);
	run_values[2] = Int64GetDatum(run->rows);
	stall_values(run, run_values + 3, run_nulls + 3);
	dashie_query("UPDATE dashie.job_run SET steps = $2, rows = $3, longest_stall_ms = $4,"
				 " blocked_by = $5 WHERE id = $1",
				 5, run_types, run_values, run_nulls);
	dashie_query_end();

	if (renewed == 0)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
						errmsg("job \"%s\" was taken over by another process", run->job->name)));
}

/*
 * History is capped by age, failures three times as long, and by number, the
 * oldest successes going first.
 */
static void
trim_history(void)
{
	Oid types[2] = {TIMESTAMPTZOID, INT4OID};
	Datum values[2];
	Oid row_types[1] = {INT8OID};
	Datum row_values[1];

	dashie_query_begin();
	values[0] = TimestampTzGetDatum(dashie_now());
	values[1] = Int32GetDatum((int32) dashie_setting_int("job_history_days"));
	dashie_query("DELETE FROM dashie.job_run WHERE status <> 'running' AND started_at < $1"
				 " - pg_catalog.make_interval(hours => 24 * $2"
				 " * CASE WHEN status IN ('failed', 'blocked') THEN 3 ELSE 1 END)",
				 2, types, values, NULL);
	row_values[0] = Int64GetDatum(dashie_setting_int("job_history_rows"));
	dashie_query("DELETE FROM dashie.job_run WHERE id IN ("
				 "SELECT id FROM dashie.job_run WHERE status <> 'running'"
				 " ORDER BY status IN ('failed', 'blocked'), id"
				 " LIMIT greatest((SELECT count(*) FROM dashie.job_run) - $1, 0))",
				 1, row_types, row_values, NULL);
	dashie_query_end();
}

/* dashie_lease_release closes the run and gives the lease back. */
void
dashie_lease_release(JobRun *run)
{
	bool failed = run->error != NULL;
	bool wait = failed || run->blocker != NULL;
	int failures = wait ? run->failures + 1 : 0;
	Oid run_types[9] = {INT8OID, TEXTOID, TIMESTAMPTZOID, INT4OID, INT8OID,
						TEXTOID, TEXTOID, FLOAT8OID,	  TEXTOID};
	Datum run_values[9];
	char run_nulls[9] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};
	Oid types[8] = {TEXTOID,		TIMESTAMPTZOID, TEXTOID, INT4OID,
					TIMESTAMPTZOID, BOOLOID,		INT4OID, TIMESTAMPTZOID};
	Datum values[8];
	char nulls[8] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};

	dashie_query_begin();
	run_values[0] = Int64GetDatum(run->id);
	run_values[1] = CStringGetTextDatum(run->status);
	run_values[2] = TimestampTzGetDatum(dashie_now());
	run_values[3] = Int32GetDatum(run->steps);
	run_values[4] = Int64GetDatum(run->rows);
	run_nulls[5] = run_nulls[6] = 'n';
	if (failed)
	{
		const char *message = run->error->message ? run->error->message : "unknown error";

		run_values[5] = CStringGetTextDatum(message);
		run_values[6] = CStringGetTextDatum(unpack_sql_state(run->error->sqlerrcode));
		run_nulls[5] = run_nulls[6] = ' ';
	}
	else if (run->blocker != NULL)
	{
		run_values[5] = CStringGetTextDatum(run->blocker);
		run_nulls[5] = ' ';
	}
	stall_values(run, run_values + 7, run_nulls + 7);
	dashie_query("UPDATE dashie.job_run SET status = $2, finished_at = $3, steps = $4, rows = $5,"
				 " error_message = $6, sqlstate = $7, longest_stall_ms = $8, blocked_by = $9"
				 " WHERE id = $1",
				 9, run_types, run_values, run_nulls);

	values[0] = CStringGetTextDatum(run->job->name);
	values[1] = run_values[2];
	values[2] = run_values[1];
	values[3] = Int32GetDatum(failures);
	values[4] = TimestampTzGetDatum(wait ? retry_time(failures) : 0);
	nulls[4] = wait ? ' ' : 'n';
	values[5] = BoolGetDatum(run->more);
	values[6] = Int32GetDatum(MyProcPid);
	values[7] = TimestampTzGetDatum(PgStartTime);
	dashie_query("UPDATE dashie.job_state SET last_finished = $2, last_status = $3, failures = $4,"
				 " retry_at = $5, more = $6, lease_pid = NULL, lease_boot = NULL,"
				 " lease_expires = NULL WHERE name = $1 AND lease_pid = $7 AND lease_boot = $8",
				 8, types, values, nulls);
	dashie_query_end();

	trim_history();
}
