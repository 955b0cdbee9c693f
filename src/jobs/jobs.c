/*
 * jobs.c
 *		The jobs there are, what their owner changed, and when each is next due.
 *
 * The list and its defaults are compiled in; dashie.job_config holds only
 * what differs.  Its CHECK admits what set_job() could have written, so that a
 * restored or hand-made row is as good as a checked one.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "common/day.h"
#include "common/query.h"
#include "common/rows.h"
#include "jobs/jobs.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_set_job);
PG_FUNCTION_INFO_V1(dashie_job_config_valid);
PG_FUNCTION_INFO_V1(dashie_jobs_list);

/*
 * In the order in which a pass runs them: partitions first, because rows wait
 * for them, and payments, because people do; sessions end before their days
 * are counted; retention last.
 */
const Job dashie_jobs[DASHIE_JOBS] = {
	{"maintain_partitions", "*/15 * * * *", "widget_analytics", dashie_partition_step},
	{"stripe_process_pending", "* * * * *", "stripe_webhook_events", dashie_stripe_step},
	{"close_stale_sessions", "*/5 * * * *", "user_sessions", dashie_close_stale_step},
	{"refresh_daily_metrics", "10 0 * * *", "daily_metrics", dashie_daily_step},
	{"refresh_geographic_stats", "40 0 * * *", "geographic_stats", dashie_geographic_step},
	{"rollup_events", "50 0 * * *", "widget_analytics", dashie_events_step},
	{"seal_audit", "20 * * * *", "stripe_webhook_events", dashie_seal_step},
	{"apply_retention", "30 3 * * *", NULL, dashie_retention_step},
};

/* What set_job() takes as the schedule to return to the one compiled in. */
#define DEFAULT_SCHEDULE "default"

/* dashie_job_find returns the job of that name; an unknown one is 22023. */
const Job *
dashie_job_find(const char *name)
{
	for (int i = 0; i < DASHIE_JOBS; i++)
		if (strcmp(dashie_jobs[i].name, name) == 0)
			return &dashie_jobs[i];
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown job: \"%s\"", name),
					errhint("SELECT name FROM dashie.job lists them.")));
	pg_unreachable();
}

/*
 * dashie_job_applies tells whether there is something that the job works on: a
 * table that is enabled, also when somebody dropped it since; the run then
 * says so.  Inside dashie_enter().
 */
bool
dashie_job_applies(const Job *job)
{
	bool applies = false;

	if (job->table != NULL)
		return dashie_enabled_schema(job->table) != NULL;

	/* retention: any table that is not kept for ever */
	for (int i = 0; i < ROADMAP_TABLES && !applies; i++)
	{
		const RoadmapTable *table = &dashie_roadmap_tables[i];
		Oid types[1] = {TEXTOID};
		Datum values[1];

		if (dashie_enabled_schema(table->name) == NULL)
			continue;
		if (table->keep != NULL)
			return true;
		dashie_query_begin();
		values[0] = CStringGetTextDatum(table->name);
		applies = dashie_query("SELECT FROM dashie.retention_config WHERE table_name = $1", 1,
							   types, values, NULL) > 0;
		dashie_query_end();
	}
	return applies;
}

/* dashie_job_config reads a job's schedule.  Inside dashie_enter(). */
void
dashie_job_config(const Job *job, JobConfig *config)
{
	Oid types[1] = {TEXTOID};
	Datum values[1];

	config->schedule = pstrdup(job->schedule);
	config->enabled = true;

	dashie_query_begin();
	values[0] = CStringGetTextDatum(job->name);
	if (dashie_query("SELECT schedule, enabled FROM dashie.job_config WHERE name = $1", 1, types,
					 values, NULL) > 0)
	{
		char *schedule = dashie_field_text(0, 1);
		bool isnull;
		bool enabled = DatumGetBool(dashie_field(0, 2, &isnull));

		if (schedule != NULL)
			config->schedule = schedule;
		if (!isnull)
			config->enabled = enabled;
	}
	dashie_query_end();

	if (cron_parse(config->schedule, &config->cron) != NULL)
		elog(ERROR, "invalid schedule of job \"%s\": \"%s\"", job->name, config->schedule);
}

bool
dashie_job_enabled(const char *name)
{
	JobConfig config;

	dashie_job_config(dashie_job_find(name), &config);
	return config.enabled;
}

/*
 * dashie_job_next computes when a job is due, which may lie in the past; false
 * if never.  A run that was missed, however often, is due once.
 */
bool
dashie_job_next(const JobConfig *config, const JobState *state, TimestampTz *next)
{
	TimestampTz now = dashie_now();
	TimestampTz real = GetCurrentTimestamp();

	/* a clock that was wrong for a while must not stop a job for years */
	bool never_ran = state->last_started == 0 || state->last_started > now ||
					 TIMESTAMP_NOT_FINITE(state->last_started);
	bool wait = state->retry_at > real && state->retry_at <= real + 2 * USECS_PER_HOUR;
	bool interrupted = state->lease_pid != 0 && !dashie_lease_alive(state);

	if (wait)
		*next = state->retry_at;
	else if (never_ran || state->more || state->failures > 0 || interrupted)
		*next = now;
	else
		return cron_next(&config->cron, state->last_started, dashie_timezone(), next);
	return true;
}

Datum
dashie_job_config_valid(PG_FUNCTION_ARGS)
{
	CronSchedule cron;
	char *name;

	if (PG_ARGISNULL(0))
		PG_RETURN_BOOL(false);
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	for (int i = 0; i < DASHIE_JOBS; i++)
		if (strcmp(dashie_jobs[i].name, name) == 0)
			PG_RETURN_BOOL(PG_ARGISNULL(1) ||
						   cron_parse(text_to_cstring(PG_GETARG_TEXT_PP(1)), &cron) == NULL);
	PG_RETURN_BOOL(false);
}

Datum
dashie_set_job(PG_FUNCTION_ARGS)
{
	const Job *job;
	DashieGuard guard;
	char *schedule = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	bool to_default = schedule != NULL && pg_strcasecmp(schedule, DEFAULT_SCHEDULE) == 0;
	Oid types[4] = {TEXTOID, TEXTOID, BOOLOID, BOOLOID};
	Datum values[4];
	char nulls[4] = {' ', ' ', ' ', ' '};

	dashie_reject_null(fcinfo, 0, "name");
	job = dashie_job_find(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	if (schedule != NULL && !to_default)
	{
		CronSchedule cron;
		char *problem = cron_parse(schedule, &cron);

		if (problem != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid schedule of job \"%s\": \"%s\"", job->name, schedule),
					 errdetail_internal("%s", problem),
					 errhint("Fields: minute, hour, day of month, month, day of week; or @hourly, "
							 "@daily, @weekly, @monthly, @yearly; or 'default'.")));
	}

	dashie_enter(&guard);
	dashie_query_begin();
	values[0] = CStringGetTextDatum(job->name);
	if (schedule == NULL || to_default)
		nulls[1] = 'n';
	else
		values[1] = CStringGetTextDatum(schedule);
	if (PG_ARGISNULL(2))
		nulls[2] = 'n';
	else
		values[2] = BoolGetDatum(PG_GETARG_BOOL(2));
	values[3] = BoolGetDatum(to_default);
	dashie_query("INSERT INTO dashie.job_config AS c (name, schedule, enabled) VALUES ($1, $2, $3)"
				 " ON CONFLICT (name) DO UPDATE SET"
				 " schedule = CASE WHEN $4 THEN NULL ELSE coalesce($2, c.schedule) END,"
				 " enabled = coalesce($3, c.enabled)",
				 4, types, values, nulls);
	dashie_query("DELETE FROM dashie.job_config WHERE name = $1 AND schedule IS NULL"
				 " AND enabled IS NOT FALSE",
				 1, types, values, NULL);
	dashie_query_end();
	dashie_leave(&guard);
	PG_RETURN_VOID();
}

/* The rows of view dashie.job. */
Datum
dashie_jobs_list(PG_FUNCTION_ARGS)
{
	DashieRows rows;
	DashieGuard guard;

	dashie_rows_begin(fcinfo, &rows);
	dashie_enter(&guard);
	for (int i = 0; i < DASHIE_JOBS; i++)
	{
		const Job *job = &dashie_jobs[i];
		JobConfig config;
		JobState state;
		TimestampTz next;
		Datum values[11];
		bool nulls[11] = {false};
		bool applies = dashie_job_applies(job);
		bool running;

		dashie_job_config(job, &config);
		dashie_job_state(job, false, &state);
		running = dashie_lease_alive(&state);

		values[0] = CStringGetTextDatum(job->name);
		values[1] = CStringGetTextDatum(config.schedule);
		values[2] = BoolGetDatum(config.enabled);
		values[3] = BoolGetDatum(applies);
		values[4] = BoolGetDatum(running);
		values[5] = TimestampTzGetDatum(state.last_started);
		nulls[5] = state.last_started == 0;
		values[6] = TimestampTzGetDatum(state.last_finished);
		nulls[6] = state.last_finished == 0;
		if (state.last_status != NULL)
			values[7] = CStringGetTextDatum(state.last_status);
		else
			nulls[7] = true;
		if (config.enabled && applies && !running && dashie_job_next(&config, &state, &next))
			values[8] = TimestampTzGetDatum(next);
		else
			nulls[8] = true;
		values[9] = Int32GetDatum(state.failures);
		values[10] = BoolGetDatum(state.more);
		dashie_rows_put(&rows, values, nulls);
	}
	dashie_leave(&guard);
	return (Datum) 0;
}
