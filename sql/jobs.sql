-- Jobs: schedules, runs by hand, history, failures. What needs processes of
-- its own is in t/.
SET client_min_messages = warning;
SET dashie.now = '2026-03-10 12:00+00';

SELECT name, schedule, enabled, applicable, running, last_run, next_run FROM dashie.job;

-- set_job()
SELECT dashie.set_job(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.set_job('no_such_job', '* * * * *');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.set_job('apply_retention', '60 * * * *');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.set_job('apply_retention', '* 24 * * *');
SELECT dashie.set_job('apply_retention', '* * 0 * *');
SELECT dashie.set_job('apply_retention', '* * * foo *');
SELECT dashie.set_job('apply_retention', '* * * * 8');
SELECT dashie.set_job('apply_retention', '* * * *');
SELECT dashie.set_job('apply_retention', '* * * * * *');
SELECT dashie.set_job('apply_retention', '');
SELECT dashie.set_job('apply_retention', '@noon');
SELECT dashie.set_job('apply_retention', '*/0 * * * *');
SELECT dashie.set_job('apply_retention', '5/10 * * * *');
SELECT dashie.set_job('apply_retention', '30-10 * * * *');
SELECT dashie.set_job('apply_retention', '1,,2 * * * *');
SELECT dashie.set_job('apply_retention', '1- * * * *');
SELECT dashie.set_job('apply_retention', '-1 * * * *');
SELECT dashie.set_job('apply_retention', '99999999999999999999 * * * *');
SELECT dashie.set_job('apply_retention', '0 0 30 2 *');
SELECT dashie.set_job('apply_retention', '0 0 31 feb,apr,jun *');

SELECT dashie.set_job('apply_retention', schedule => '15 4 * * mon-fri');
SELECT dashie.set_job('apply_retention', enabled => false);
SELECT name, schedule, enabled FROM dashie.job WHERE name = 'apply_retention';
SELECT * FROM dashie.job_config;
SELECT dashie.set_job('apply_retention');
SELECT * FROM dashie.job_config;
SELECT dashie.set_job('apply_retention', 'default', true);
SELECT name, schedule, enabled FROM dashie.job WHERE name = 'apply_retention';
SELECT * FROM dashie.job_config;

-- the table takes what set_job() would have written, and nothing else
INSERT INTO dashie.job_config VALUES ('no_such_job', NULL, false);
INSERT INTO dashie.job_config VALUES ('apply_retention', '0 0 31 2 *', false);

-- a job without its table
CALL dashie.run_job(NULL);
\echo :LAST_ERROR_SQLSTATE
CALL dashie.run_job('no_such_job');
\echo :LAST_ERROR_SQLSTATE
CALL dashie.run_job('close_stale_sessions');
\echo :LAST_ERROR_SQLSTATE
CALL dashie.run_job('apply_retention');
\echo :LAST_ERROR_SQLSTATE
CALL dashie.run_due_jobs();
SELECT count(*) FROM dashie.job_run;

SELECT dashie.enable('user_sessions');
SELECT name, applicable, next_run FROM dashie.job ORDER BY name;

-- when a schedule comes next
CREATE FUNCTION next_run(zone text, schedule text, after timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result timestamptz;
BEGIN
	PERFORM dashie.configure('timezone', zone);
	PERFORM dashie.set_job('close_stale_sessions', schedule);
	UPDATE dashie.job_state SET last_started = after WHERE name = 'close_stale_sessions';
	SELECT j.next_run INTO result FROM dashie.job j WHERE j.name = 'close_stale_sessions';
	RETURN to_char(result AT TIME ZONE zone, 'Dy YYYY-MM-DD HH24:MI:SS ')
		|| to_char(result AT TIME ZONE 'UTC', 'HH24:MI') || 'Z';
END $$;
SET dashie.now = '2100-01-01';
SELECT schedule, next_run('UTC', schedule, '2026-03-10 12:00:30+00')
FROM (VALUES ('* * * * *'), ('0 12 * * *'), ('1 12 * * *'), ('*/7 * * * *'), ('50-59/3,5 * * * *'), ('@hourly'),
	('@daily'), ('@weekly'), ('@monthly'), ('@yearly'), ('  0   0  *  *  7 '), ('0 0 * * SUN'), ('0 0 * * fri-sun'),
	('0 0 29 2 *'), ('0 0 31 * *'), ('0 0 13 * fri'), ('0 0 */2 * fri'), ('0 0 */30 Feb mon'), ('0 9-17/4 * jan,Dec *'),
	('0 0 29 2 0-7')) AS v (schedule);
-- exactly on the minute: the next one
SELECT next_run('UTC', '0 12 * * *', '2026-03-10 12:00+00');
SELECT next_run('UTC', '* * * * *', '2026-03-10 12:00+00');
-- spring: 2:30 does not exist on 29 March in Berlin; the gap ends at 3:00
SELECT schedule, next_run('Europe/Berlin', schedule, after::timestamptz) FROM (VALUES
	('30 2 * * *', '2026-03-28 12:00+00'), ('30 2 * * *', '2026-03-29 01:00+00'), ('0 3 * * *', '2026-03-28 12:00+00'),
	('30 * * * *', '2026-03-29 00:30+00'), ('*/15 * * * *', '2026-03-29 00:45+00')) AS v (schedule, after);
-- autumn: 2:30 comes twice on 25 October; fixed hours run the first time, every hour runs both
SELECT schedule, next_run('Europe/Berlin', schedule, after::timestamptz) FROM (VALUES
	('30 2 * * *', '2026-10-24 12:00+00'), ('30 2 * * *', '2026-10-25 00:30+00'), ('45 2 * * *', '2026-10-25 00:30+00'),
	('30 2,3 * * *', '2026-10-25 00:30+00'), ('30 * * * *', '2026-10-25 00:30+00'), ('*/15 * * * *', '2026-10-25 00:45+00'))
	AS v (schedule, after);
-- midnight that does not exist, half an hour of daylight saving, and a day that was left out
SELECT next_run('America/Santiago', '0 0 * * *', '2026-09-05 12:00+00');
SELECT next_run('Australia/Lord_Howe', '10 2 * * *', '2026-10-03 00:00+00');
SELECT next_run('Pacific/Apia', '0 12 30 12 *', '2011-12-01 00:00+00');
-- the session's time zone has no part in it
SET timezone = 'Asia/Tokyo';
SELECT next_run('UTC', '0 12 * * *', '2026-03-10 12:00:30+00');
RESET timezone;
DROP FUNCTION next_run;
SELECT dashie.configure('timezone', NULL);
SELECT dashie.set_job('close_stale_sessions', 'default');
UPDATE dashie.job_state SET last_started = NULL;

-- a pass: never ran, so due; then not due; a missed run is caught up once
SET dashie.now = '2026-03-10 12:01+00';
CALL dashie.run_due_jobs();
CALL dashie.run_due_jobs();
SELECT name, started_at, finished_at, status, steps, rows, error_message, driver FROM dashie.job_run ORDER BY id;
SELECT name, last_run, last_status, next_run, failures, more, running FROM dashie.job WHERE applicable;
SET dashie.now = '2026-03-13 12:00+00';
CALL dashie.run_due_jobs();
CALL dashie.run_due_jobs();
SELECT name, started_at, status FROM dashie.job_run ORDER BY id;
-- a clock that had been wrong for a while
UPDATE dashie.job_state SET last_started = '2099-01-01' WHERE name = 'close_stale_sessions';
SELECT next_run FROM dashie.job WHERE name = 'close_stale_sessions';
CALL dashie.run_due_jobs();
SELECT last_run FROM dashie.job WHERE name = 'close_stale_sessions';

-- inside a transaction block nothing is committed
BEGIN;
CALL dashie.run_job('close_stale_sessions');
SELECT count(*) FROM dashie.job_run;
ROLLBACK;
SELECT count(*) FROM dashie.job_run;
BEGIN;
CALL dashie.run_job('close_stale_sessions');
SAVEPOINT s;
CALL dashie.run_job('close_stale_sessions');
COMMIT;
DO $$ BEGIN CALL dashie.run_job('close_stale_sessions'); END $$;
DO $$ BEGIN BEGIN CALL dashie.run_job('close_stale_sessions'); EXCEPTION WHEN division_by_zero THEN END; END $$;
SELECT count(*) FROM dashie.job_run;
SELECT current_setting('search_path'), current_user = session_user AS same_user;

-- a disabled job is not due, and runs when asked
SELECT dashie.set_job('close_stale_sessions', enabled => false);
UPDATE dashie.job_state SET last_started = NULL;
DELETE FROM dashie.job_run;
CALL dashie.run_due_jobs();
CALL dashie.run_job('close_stale_sessions');
SELECT name, status FROM dashie.job_run ORDER BY id;
SELECT dashie.set_job('close_stale_sessions', 'default', true);

-- a failure is recorded, waits longer each time, and does not stop the others
INSERT INTO auth.users (id) VALUES ('00000000-0000-4000-8000-00000000b001');
INSERT INTO public.user_sessions (user_id, started_at) VALUES ('00000000-0000-4000-8000-00000000b001', '2026-03-12 12:00+00');
CREATE FUNCTION public.fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no updates today' USING ERRCODE = 'P0042'; END $$;
CREATE TRIGGER fails BEFORE UPDATE ON public.user_sessions FOR EACH ROW EXECUTE FUNCTION public.fails();
UPDATE dashie.job_state SET last_started = NULL;
DELETE FROM dashie.job_run;
CALL dashie.run_job('close_stale_sessions');
\echo :LAST_ERROR_SQLSTATE
CALL dashie.run_due_jobs();
SELECT name, status, error_message, sqlstate FROM dashie.job_run ORDER BY id;
-- it waits
CALL dashie.run_due_jobs();
SELECT name, failures, next_run > now() AS waits FROM dashie.job WHERE failures > 0;
SELECT name, failures, retry_at - now() BETWEEN '50 s' AND '70 s' AS in_a_minute FROM dashie.job_state WHERE failures > 0;
BEGIN;
CALL dashie.run_job('close_stale_sessions');
COMMIT;
SELECT name, failures, retry_at - now() BETWEEN '110 s' AND '140 s' AS in_two_minutes FROM dashie.job_state WHERE failures > 0;
UPDATE dashie.job_state SET failures = 30, retry_at = now() WHERE failures > 0;
SELECT name, last_status, next_run = '2026-03-13 12:00+00' AS due FROM dashie.job WHERE failures > 0;
SET client_min_messages = error;
CALL dashie.run_due_jobs();
RESET client_min_messages;
SET client_min_messages = warning;
SELECT name, failures, retry_at - now() BETWEEN '50 min' AND '70 min' AS in_an_hour FROM dashie.job_state WHERE failures > 0;
DROP TRIGGER fails ON public.user_sessions;
DROP FUNCTION public.fails();
CALL dashie.run_job('close_stale_sessions');
SELECT name, last_status, failures, retry_at FROM dashie.job_state WHERE name = 'close_stale_sessions';
SELECT ended_at FROM public.user_sessions;


-- the lease of a process that is gone, of an earlier start of the server, and of a broken-off run
DELETE FROM dashie.job_run;
INSERT INTO dashie.job_run (name, started_at, status, driver) VALUES ('close_stale_sessions', '2026-03-13 11:00+00', 'running', 'worker');
UPDATE dashie.job_state SET lease_pid = 2147483647, lease_boot = pg_postmaster_start_time(), lease_expires = now() + '1 hour'
WHERE name = 'close_stale_sessions';
SELECT name, running, next_run FROM dashie.job WHERE name = 'close_stale_sessions';
CALL dashie.run_due_jobs();
SELECT name, status, finished_at, error_message FROM dashie.job_run ORDER BY id;
UPDATE dashie.job_state SET lease_pid = pg_backend_pid(), lease_boot = '2020-01-01', lease_expires = now() + '1 hour'
WHERE name = 'close_stale_sessions';
CALL dashie.run_due_jobs();
UPDATE dashie.job_state SET lease_pid = pg_backend_pid(), lease_boot = pg_postmaster_start_time(), lease_expires = now() + '1 hour'
WHERE name = 'close_stale_sessions';
CALL dashie.run_due_jobs();
SELECT count(*) FILTER (WHERE status = 'succeeded') FROM dashie.job_run;
-- one that died twice waits before it is tried again
UPDATE dashie.job_state SET lease_pid = 2147483647, lease_boot = pg_postmaster_start_time(), lease_expires = now() + '1 hour', failures = 1
WHERE name = 'close_stale_sessions';
CALL dashie.run_due_jobs();
SELECT failures, lease_pid, retry_at > now() AS waits FROM dashie.job_state WHERE name = 'close_stale_sessions';
CALL dashie.run_job('close_stale_sessions');
SELECT failures, lease_pid, retry_at FROM dashie.job_state WHERE name = 'close_stale_sessions';

-- history is capped by age, failures three times as long, and by number
DELETE FROM dashie.job_run;
INSERT INTO dashie.job_run (name, started_at, finished_at, status, driver)
SELECT 'apply_retention', t, t, status, 'call'
FROM (VALUES ('2026-02-11 12:00:01+00'::timestamptz), ('2026-02-11 11:59:59+00'), ('2025-12-13 12:00:01+00'), ('2025-12-13 11:59:59+00')) AS a (t),
	(VALUES ('succeeded'), ('failed')) AS s (status);
CALL dashie.run_job('close_stale_sessions');
SELECT name, started_at, status FROM dashie.job_run ORDER BY id;
SELECT dashie.configure('job_history_rows', '100');
INSERT INTO dashie.job_run (name, started_at, finished_at, status, driver)
SELECT 'apply_retention', '2026-03-13 11:00+00', '2026-03-13 11:00+00', 'succeeded', 'call' FROM generate_series(1, 200);
CALL dashie.run_job('close_stale_sessions');
SELECT status, count(*) FROM dashie.job_run GROUP BY status ORDER BY status;
SELECT dashie.configure('job_history_rows', NULL);

-- without pg_cron
SELECT dashie.schedule_with_cron();
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.unschedule_from_cron();
\echo :LAST_ERROR_SQLSTATE

-- server settings
SELECT name, unit, context FROM pg_settings WHERE name LIKE 'dashie.%' AND name <> 'dashie.launcher' ORDER BY name;
SET dashie.naptime = 5;

SELECT dashie.disable('user_sessions');
DROP TABLE public.user_sessions CASCADE;
DELETE FROM auth.users WHERE id = '00000000-0000-4000-8000-00000000b001';
DELETE FROM dashie.job_run;
UPDATE dashie.job_state SET last_started = NULL, last_finished = NULL, last_status = NULL;
