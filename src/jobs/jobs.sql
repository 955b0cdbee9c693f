CREATE FUNCTION dashie.job_config_valid(name text, schedule text) RETURNS boolean
LANGUAGE c IMMUTABLE PARALLEL SAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_job_config_valid';
COMMENT ON FUNCTION dashie.job_config_valid(text, text) IS
'Whether dashie.set_job() could have stored this: the check of table dashie.job_config.';
REVOKE ALL ON FUNCTION dashie.job_config_valid(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.job_config_valid(text, text) TO @extowner@;

CREATE TABLE dashie.job_config (
	name text PRIMARY KEY,
	schedule text,
	enabled boolean,
	CONSTRAINT job_config_valid CHECK (dashie.job_config_valid(name, schedule))
);
COMMENT ON TABLE dashie.job_config IS
'Jobs that differ from their defaults; NULL: as compiled in. Written by dashie.set_job(), shown by dashie.job.';
REVOKE ALL ON TABLE dashie.job_config FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE dashie.job_config TO @extowner@;
SELECT pg_catalog.pg_extension_config_dump('dashie.job_config', '');

-- Not dumped: what ran on one server says nothing about another.
CREATE TABLE dashie.job_state (
	name text PRIMARY KEY,
	last_started timestamptz,
	last_finished timestamptz,
	last_status text,
	failures integer NOT NULL DEFAULT 0,
	retry_at timestamptz,
	more boolean NOT NULL DEFAULT false,
	lease_pid integer,
	lease_boot timestamptz,
	lease_expires timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE dashie.job_state IS
'What the scheduler remembers of each job: its last run, failures in a row, and who runs it now (lease_*).';
REVOKE ALL ON TABLE dashie.job_state FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE dashie.job_state TO @extowner@;
INSERT INTO dashie.job_state (name) VALUES
	('maintain_partitions'), ('stripe_process_pending'), ('close_stale_sessions'), ('refresh_daily_metrics'),
	('refresh_geographic_stats'), ('rollup_events'), ('seal_audit'), ('apply_retention');

CREATE TABLE dashie.job_run (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name text NOT NULL,
	started_at timestamptz NOT NULL,
	finished_at timestamptz,
	status text NOT NULL,
	steps integer NOT NULL DEFAULT 0,
	rows bigint NOT NULL DEFAULT 0,
	error_message text,
	sqlstate text,
	driver text NOT NULL,
	longest_stall_ms double precision NOT NULL DEFAULT 0,
	blocked_by text
);
COMMENT ON TABLE dashie.job_run IS
'History of jobs, capped by the settings job_history_days and job_history_rows.';
COMMENT ON COLUMN dashie.job_run.status IS
'running, succeeded, partial (the time budget was used up; the next call goes on), blocked (a lock was not to be had; error_message says who holds it), failed';
COMMENT ON COLUMN dashie.job_run.steps IS 'short transactions that the run took';
COMMENT ON COLUMN dashie.job_run.rows IS 'rows added, changed or removed';
COMMENT ON COLUMN dashie.job_run.driver IS 'worker, pg_cron, or call: by hand';
COMMENT ON COLUMN dashie.job_run.longest_stall_ms IS
'milliseconds, the longest time for which the run can have kept another session waiting: from asking for a lock that readers or writers queue behind until it was given back; 0: it asked for none';
COMMENT ON COLUMN dashie.job_run.blocked_by IS
'who was last in the way of a lock, also if the run went on afterwards: process, lock, and query where the runner may see it';
REVOKE ALL ON TABLE dashie.job_run FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE dashie.job_run TO @extowner@;

CREATE FUNCTION dashie.jobs_list(
	OUT name text, OUT schedule text, OUT enabled boolean, OUT applicable boolean,
	OUT running boolean, OUT last_run timestamptz, OUT last_finished timestamptz,
	OUT last_status text, OUT next_run timestamptz, OUT failures integer, OUT more boolean)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER ROWS 5 AS 'MODULE_PATHNAME', 'dashie_jobs_list';
COMMENT ON FUNCTION dashie.jobs_list() IS
'The rows of view dashie.job.';
REVOKE ALL ON FUNCTION dashie.jobs_list() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.jobs_list() TO @extowner@;

CREATE VIEW dashie.job AS
SELECT j.name, j.schedule, j.enabled, j.applicable, j.running, j.last_run, j.last_finished,
	j.last_status, j.next_run, j.failures, j.more
FROM dashie.jobs_list() AS j;
COMMENT ON VIEW dashie.job IS
'Every job: its cron schedule in the configured time zone, whether it is enabled and has a table to work on, its last run, and the next; next_run in the past means due now.';
REVOKE ALL ON TABLE dashie.job FROM PUBLIC;
GRANT SELECT ON TABLE dashie.job TO @extowner@;

CREATE FUNCTION dashie.set_job(name text, schedule text DEFAULT NULL, enabled boolean DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_set_job';
COMMENT ON FUNCTION dashie.set_job(text, text, boolean) IS
'Changes when a job runs, or whether.
name: a job of dashie.job; schedule: five cron fields (minute, hour, day of month, month, day of week) in the configured time zone, or @hourly, @daily, @weekly, @monthly, @yearly, or ''default''; enabled: on or off; NULL leaves either as it is.
Errors: 22023 for an unknown job or an invalid schedule; the detail names the field.
Source: dashie semantics, "Retention and jobs".';
REVOKE ALL ON FUNCTION dashie.set_job(text, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.set_job(text, text, boolean) TO @extowner@;

CREATE PROCEDURE dashie.run_job(name text)
LANGUAGE c SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_run_job';
COMMENT ON PROCEDURE dashie.run_job(text) IS
'Runs a job now, due or not, also a disabled one. It commits in steps; inside a transaction block it works too and does not commit.
name: a job of dashie.job. A job that runs elsewhere: NOTICE, and nothing is done.
Errors: 22023 for an unknown job; 55000 when its table is not enabled; whatever the job fails with, after that is recorded in dashie.job_run (a WARNING inside a transaction block).
Source: dashie semantics, "Retention and jobs".';
REVOKE ALL ON PROCEDURE dashie.run_job(text) FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE dashie.run_job(text) TO @extowner@;

CREATE PROCEDURE dashie.run_due_jobs()
LANGUAGE c SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_run_due_jobs';
COMMENT ON PROCEDURE dashie.run_due_jobs() IS
'Runs every job that is due, each once however often it was missed; what the worker and pg_cron do. A job that fails is recorded, is a WARNING, and does not stop the others.
Source: dashie semantics, "Retention and jobs".';
REVOKE ALL ON PROCEDURE dashie.run_due_jobs() FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE dashie.run_due_jobs() TO @extowner@;

CREATE FUNCTION dashie.start_worker() RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_start_worker';
COMMENT ON FUNCTION dashie.start_worker() IS
'Starts a launcher for this database, which runs due jobs until the next restart of the server; for servers that do not preload dashie. Returns its process id; one that runs already is left alone. It leaves when the database or the extension is gone.
Errors: 53400 when the server has no free slot in max_worker_processes; 25006 on a standby.
Source: dashie semantics, "Retention and jobs".';
REVOKE ALL ON FUNCTION dashie.start_worker() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.start_worker() TO @extowner@;

CREATE FUNCTION dashie.stop_worker() RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_stop_worker';
COMMENT ON FUNCTION dashie.stop_worker() IS
'Ends what dashie.start_worker() started in this database; false if nothing runs. A preloaded launcher goes on: turn jobs off with dashie.set_job().';
REVOKE ALL ON FUNCTION dashie.stop_worker() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.stop_worker() TO @extowner@;

CREATE FUNCTION dashie.schedule_with_cron() RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_schedule_with_cron';
COMMENT ON FUNCTION dashie.schedule_with_cron() IS
'Lets pg_cron run due jobs, each minute, as the caller. Returns pg_cron''s job id. With a worker on as well, a job still runs once.
Errors: 55000 where pg_cron is not installed in this database.
Source: dashie semantics, "Retention and jobs".';
REVOKE ALL ON FUNCTION dashie.schedule_with_cron() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.schedule_with_cron() TO @extowner@;

CREATE FUNCTION dashie.unschedule_from_cron() RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_unschedule_from_cron';
COMMENT ON FUNCTION dashie.unschedule_from_cron() IS
'Removes what dashie.schedule_with_cron() scheduled for the caller; false if there is nothing.
Errors: 55000 where pg_cron is not installed in this database.';
REVOKE ALL ON FUNCTION dashie.unschedule_from_cron() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.unschedule_from_cron() TO @extowner@;
