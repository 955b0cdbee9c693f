-- backfill_metrics() and dashie.progress: what a call answers. What needs other
-- sessions is in t/061_backfill.pl.
SET client_min_messages = warning;
SET dashie.now = '2026-03-20 12:00+00';
SET timezone = 'America/Lima';

CREATE FUNCTION pg_temp.u(n int) RETURNS uuid LANGUAGE sql AS
$$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
CREATE VIEW pg_temp.seen AS
	SELECT what, detail, state, done, total, unit, percent, rate > 0 AS has_rate, time_left, started_at, finished_at,
		message, pid = pg_backend_pid() AS mine
	FROM dashie.progress ORDER BY id;

-- Nothing to fill
CALL dashie.backfill_metrics('2026-03-01', '2026-03-02');
\echo :LAST_ERROR_SQLSTATE

-- The first enable, with years of rows: nothing of them is read.
SELECT count(*) FROM dashie.enable('user_sessions');
INSERT INTO auth.users (id, created_at) SELECT pg_temp.u(i), '2023-01-01'::timestamptz + i * interval '11 days' FROM generate_series(1, 50) i;
INSERT INTO public.user_sessions (id, user_id, started_at, ended_at, country_code)
SELECT pg_temp.u(1000 + i), pg_temp.u(1 + i % 50), t, t + i % 50 * interval '1 hour', (ARRAY['DE', 'FR', NULL])[1 + i % 3]
FROM (SELECT i, '2023-06-01 00:00+00'::timestamptz + i * interval '7 hours' AS t FROM generate_series(1, 3500) i) x;
SELECT count(*) FROM dashie.enable('daily_metrics');
SELECT count(*) FROM dashie.day_page;

-- Some days, each with its row, in steps that are committed.
CALL dashie.backfill_metrics('2025-01-01', '2025-03-31');
SELECT min(date), max(date), count(*) FROM public.daily_metrics;
SELECT * FROM pg_temp.seen;
-- again: nothing is computed
SET dashie.now = '2026-03-20 13:00+00';
CALL dashie.backfill_metrics("from" => '2025-01-01', "to" => '2025-03-31');
SELECT done, total, has_rate FROM pg_temp.seen;
SELECT count(*) FROM public.daily_metrics WHERE created_at = '2026-03-20 13:00+00';
-- a changed day, and days before and after: only those
UPDATE public.user_sessions SET ended_at = started_at WHERE id = pg_temp.u(3000);
SELECT count(*) AS changed FROM public.user_sessions WHERE id = pg_temp.u(3000) AND started_at BETWEEN '2025-01-02' AND '2025-03-30';
CALL dashie.backfill_metrics('2024-12-31', '2025-04-01');
SELECT date FROM public.daily_metrics WHERE created_at = '2026-03-20 13:00+00' AND date NOT BETWEEN '2025-01-02' AND '2025-03-30' ORDER BY date;
SELECT count(*) FROM public.daily_metrics WHERE created_at = '2026-03-20 13:00+00';

-- Inside a transaction block and in a function it works and does not commit.
DELETE FROM dashie.progress_entry;
BEGIN;
CALL dashie.backfill_metrics('2025-05-01', '2025-06-30');
SELECT count(*) FROM public.daily_metrics WHERE date >= '2025-05-01';
SELECT state, done, total FROM pg_temp.seen;
ROLLBACK;
SELECT count(*) FROM public.daily_metrics WHERE date >= '2025-05-01';
DO $$ BEGIN CALL dashie.backfill_metrics('2025-05-01', '2025-05-31'); END $$;
SELECT count(*) FROM public.daily_metrics WHERE date >= '2025-05-01';
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM public.daily_metrics WHERE date >= '2025-05-01';
CALL dashie.backfill_metrics('2025-06-01', '2025-06-30');
COMMIT;
SELECT count(*) FROM public.daily_metrics WHERE date >= '2025-05-01';
SELECT current_setting('search_path'), current_user = session_user AS same_user;

-- The nightly job catches up on the rest, verifies it, and says so.
DELETE FROM dashie.progress_entry;
SELECT dashie.configure('verify_nightly', 'on');
CALL dashie.run_job('refresh_daily_metrics');
SELECT dashie.configure('verify_nightly', NULL);
SELECT * FROM pg_temp.seen;
SELECT count(*) = 1 + max(date) - min(date) AS no_gap, max(date) FROM public.daily_metrics;
-- every number, against plain SQL
SELECT count(*) FROM public.daily_metrics AS m
WHERE (total_sessions, returning_users, avg_session_minutes) IS DISTINCT FROM (
	(SELECT count(*) FROM public.user_sessions WHERE started_at >= date::timestamp AT TIME ZONE 'UTC' AND started_at < (date + 1)::timestamp AT TIME ZONE 'UTC'),
	(SELECT count(DISTINCT user_id) FROM public.user_sessions s JOIN auth.users u ON u.id = user_id
		WHERE started_at < (date + 1)::timestamp AT TIME ZONE 'UTC' AND ended_at >= date::timestamp AT TIME ZONE 'UTC' AND u.created_at < date::timestamp AT TIME ZONE 'UTC'),
	(SELECT round(avg(extract(epoch FROM ended_at - started_at) / 60), 2) FROM public.user_sessions
		WHERE started_at >= date::timestamp AT TIME ZONE 'UTC' AND started_at < (date + 1)::timestamp AT TIME ZONE 'UTC'));
-- an ordinary night is one step, and nothing to tell of
SET dashie.now = '2026-03-22 12:00+00';
DELETE FROM dashie.job_run;
CALL dashie.run_job('refresh_daily_metrics');
SELECT status, steps, rows FROM dashie.job_run;
SELECT count(*) FROM pg_temp.seen;

-- Without daily_metrics the pages alone are filled.
SELECT dashie.disable('daily_metrics');
CALL dashie.backfill_metrics('2023-01-01', '2023-01-02');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM dashie.enable('geographic_stats');
CALL dashie.backfill_metrics('2022-12-30', '2022-12-31');
SELECT day, final, sessions FROM dashie.day_page WHERE day < '2023-01-01' ORDER BY day;
SELECT count(*) FROM public.daily_metrics WHERE date < '2023-01-01';
CALL dashie.run_job('refresh_geographic_stats');
SELECT country_code, total_users FROM public.geographic_stats ORDER BY 1;
SELECT count(*) FROM dashie.enable('daily_metrics');

-- With both, the night of daily_metrics fills geographic_stats as well.
CREATE FUNCTION pg_temp.night(job text, at timestamptz) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM public.geographic_stats;
	PERFORM set_config('dashie.now', at::text, false);
	EXECUTE format('CALL dashie.run_job(%L)', job);
	RETURN (SELECT string_agg(country_code || ' ' || total_users, ', ' ORDER BY country_code) FROM public.geographic_stats);
END $$;
SELECT pg_temp.night('refresh_daily_metrics', '2026-03-22 13:00+00');
-- by the clock the other job then finds it done, once; a call always does it
SET application_name = 'pg_cron';
SELECT pg_temp.night('refresh_geographic_stats', '2026-03-22 13:01+00');
SELECT pg_temp.night('refresh_geographic_stats', '2026-03-22 13:02+00');
SELECT pg_temp.night('refresh_daily_metrics', '2026-03-22 13:03+00');
SET application_name = 'psql';
SELECT pg_temp.night('refresh_geographic_stats', '2026-03-22 13:04+00');
-- it is not filled against its owner's will, and where it cannot be filled the days are kept
SELECT dashie.set_job('refresh_geographic_stats', enabled => false) \g /dev/null
SELECT pg_temp.night('refresh_daily_metrics', '2026-03-22 13:05+00');
SELECT dashie.set_job('refresh_geographic_stats', enabled => true) \g /dev/null
ALTER TABLE public.geographic_stats ADD CONSTRAINT nobody CHECK (total_users < 1);
UPDATE public.user_sessions SET ended_at = ended_at + interval '1 minute' WHERE started_at >= '2026-03-10';
SELECT pg_temp.night('refresh_daily_metrics', '2026-03-22 13:06+00');
SELECT status, rows > 0 AS wrote FROM dashie.job_run ORDER BY id DESC LIMIT 1;
SELECT pg_temp.night('refresh_geographic_stats', '2026-03-22 13:07+00');
ALTER TABLE public.geographic_stats DROP CONSTRAINT nobody;

-- A day that retention has closed is refused only if it was not computed before.
INSERT INTO dashie.retention_floor VALUES ('user_sessions', '2023-06-10 00:00+00')
ON CONFLICT (table_name) DO UPDATE SET removed_before = excluded.removed_before;
DELETE FROM public.user_sessions WHERE ended_at < '2023-06-10 00:00+00';
CALL dashie.backfill_metrics('2023-06-05', '2023-06-12');
SELECT date, total_sessions FROM public.daily_metrics WHERE date BETWEEN '2023-06-08' AND '2023-06-11' ORDER BY date;
CALL dashie.backfill_metrics('2022-12-01', '2023-06-12');
\echo :LAST_ERROR_SQLSTATE

-- A failure is told, and what is committed stays.
CREATE FUNCTION public.fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this day' USING ERRCODE = 'P0042'; END $$;
CREATE TRIGGER fails BEFORE INSERT OR UPDATE ON public.daily_metrics FOR EACH ROW WHEN (NEW.date = '2024-01-10') EXECUTE FUNCTION public.fails();
UPDATE public.user_sessions SET country_code = 'JP' WHERE started_at >= '2024-01-01' AND started_at < '2024-02-01';
SET dashie.now = '2026-03-23 12:00+00';
DELETE FROM dashie.progress_entry;
\set VERBOSITY terse
CALL dashie.backfill_metrics('2024-01-01', '2024-02-10');
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE
SELECT state, done < total AS unfinished, done > 0 AS begun, message FROM pg_temp.seen;
SELECT count(*) > 0 AS kept, min(date) > '2024-01-10' AS latest_first FROM public.daily_metrics WHERE created_at = '2026-03-23 12:00+00';
DROP TRIGGER fails ON public.daily_metrics;
DROP FUNCTION public.fails();
CALL dashie.backfill_metrics('2024-01-01', '2024-02-10');
SELECT state, done, total FROM pg_temp.seen WHERE state <> 'failed';

-- A row that says "running" of a process that is not there
INSERT INTO dashie.progress_entry (what, state, done, total, advanced, worked_microseconds, unit, started_at, updated_at, pid, process_start, server_start)
SELECT what, 'running', 10, 30, 10, 5000000, 'days', now(), now(), pid, start, server
FROM (VALUES ('no such process', 2147483647, now(), pg_postmaster_start_time()),
	('another one with that pid', pg_backend_pid(), '2020-01-01', pg_postmaster_start_time()),
	('before the restart', pg_backend_pid(), (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()), '2020-01-01'),
	('this one', pg_backend_pid(), (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()), pg_postmaster_start_time()))
	AS v (what, pid, start, server);
SELECT what, state, percent, rate, time_left FROM dashie.progress WHERE total = 30 ORDER BY id;
-- rows go as the history of jobs goes
UPDATE dashie.progress_entry SET updated_at = '2026-01-01' WHERE what = 'this one';
CALL dashie.backfill_metrics('2024-01-01', '2024-01-01');
SELECT count(*) FROM dashie.progress WHERE what = 'this one';

-- Bad arguments
CALL dashie.backfill_metrics(NULL, '2024-01-01');
\echo :LAST_ERROR_SQLSTATE
CALL dashie.backfill_metrics('2024-01-01', NULL);
\echo :LAST_ERROR_SQLSTATE
CALL dashie.backfill_metrics('2024-01-02', '2024-01-01');
\echo :LAST_ERROR_SQLSTATE
CALL dashie.backfill_metrics('2024-01-01', '2026-03-24');
\echo :LAST_ERROR_SQLSTATE
CALL dashie.backfill_metrics('-infinity', '2024-01-01');
CALL dashie.backfill_metrics('2024-01-01', 'infinity');
CALL dashie.backfill_metrics('2024-01-01', '10000-01-01');
CALL dashie.backfill_metrics('0001-01-01 BC', '2024-01-01');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM dashie.progress WHERE state = 'failed';
-- 10,000 days are many, and not too many
DELETE FROM dashie.retention_floor;
CALL dashie.backfill_metrics('1998-11-06', '2026-03-23');
SELECT count(*), sum(total_sessions) FROM public.daily_metrics;

SELECT dashie.disable(t) FROM unnest('{daily_metrics,geographic_stats,user_sessions}'::text[]) AS t;
DROP TABLE public.daily_metrics, public.geographic_stats, public.user_sessions CASCADE;
DROP TABLE dashie.metrics_state, dashie.user_number, dashie.user_country, dashie.dashboard_number, dashie.day_page, dashie.heartbeat_seen, dashie.retention_floor;
DELETE FROM auth.users;
DELETE FROM dashie.job_run;
DELETE FROM dashie.progress_entry;
UPDATE dashie.job_state SET last_started = NULL, last_finished = NULL, last_status = NULL;
