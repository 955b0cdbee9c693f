-- verify: each day's page against plain SQL over its rows, its digest
-- afterwards, and daily_metrics; what was tampered with is shown.
SET client_min_messages = warning;
SET dashie.now = '2026-03-14 00:10+00';
SET timezone = 'America/Lima';
SET datestyle = 'ISO, MDY';
CREATE FUNCTION pg_temp.u(n int) RETURNS uuid LANGUAGE sql AS
$$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
SELECT dashie.verify('2026-03-10', '2026-03-11');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM unnest(ARRAY['user_sessions', 'daily_metrics', 'dashboards', 'stripe_webhook_events']) t, dashie.enable(t);
INSERT INTO auth.users (id, created_at, is_anonymous) VALUES (pg_temp.u(1), '2026-03-01', false), (pg_temp.u(2), '2026-03-10 12:00+00', false),
	(pg_temp.u(3), '2026-03-11 12:00+00', true), (pg_temp.u(4), '2026-03-01', false), (pg_temp.u(5), '2026-03-12', false);
INSERT INTO public.user_sessions (id, user_id, dashboard_id, started_at, ended_at, last_activity_at, country_code) VALUES
	(pg_temp.u(11), pg_temp.u(1), pg_temp.u(21), '2026-03-10 10:00+00', '2026-03-10 11:00:00.5+00', NULL, 'DE'),
	(pg_temp.u(12), pg_temp.u(1), pg_temp.u(21), '2026-03-10 12:00+00', NULL, '2026-03-11 00:00+00', 'FR'),
	(pg_temp.u(13), pg_temp.u(2), pg_temp.u(22), '2026-03-10 13:00+00', '2026-03-13 01:00+00', NULL, 'XX'),
	(pg_temp.u(14), pg_temp.u(3), NULL, '2026-03-11 13:00+00', NULL, NULL, 'US'),
	(pg_temp.u(15), pg_temp.u(4), pg_temp.u(21), '2026-03-10 09:00+00', '2026-03-10 09:10+00', NULL, NULL),
	(pg_temp.u(16), pg_temp.u(5), pg_temp.u(25), '2026-03-12 09:00+00', '2026-03-12 09:10+00', NULL, 'DE');
INSERT INTO public.dashboards (id, user_id, device_name, last_heartbeat_at) VALUES (pg_temp.u(23), pg_temp.u(1), 'TV', '2026-03-11 10:00+00');
INSERT INTO public.stripe_webhook_events (stripe_event_id, event_type, user_id, old_tier, new_tier, processing_status, event_data) VALUES
	('evt_1', 'customer.subscription.updated', pg_temp.u(1), 'trial', 'basic', 'processed', '{"created": 1773144000}'),
	('evt_2', 'customer.subscription.updated', pg_temp.u(1), 'trial', 'pro', 'processed', '{"created": 1773230400}');

-- nothing is computed yet
SELECT * FROM dashie.verify('2026-03-13', '2026-03-14');
SELECT dashie.refresh_daily_metrics('2026-03-01', '2026-03-13');
CREATE VIEW pg_temp.proof AS SELECT * FROM dashie.verify('2026-03-10', '2026-03-14');
TABLE pg_temp.proof;
-- all but the days of the view, which say the same
SELECT DISTINCT ok, method, differences, reason FROM dashie.verify('2026-03-01', '2026-03-09');

-- A change that no refresh has seen is no failure; nor is one that is not
-- committed yet.
BEGIN; UPDATE public.user_sessions SET ended_at = '2026-03-10 11:30+00' WHERE id = pg_temp.u(11); TABLE pg_temp.proof; ROLLBACK;
BEGIN; UPDATE public.dashboards SET last_heartbeat_at = '2026-03-12 10:00+00'; SELECT day, ok, reason FROM pg_temp.proof; ROLLBACK;
BEGIN; INSERT INTO auth.users (id, created_at) VALUES (pg_temp.u(6), '2026-03-12 12:00+00'); SELECT day, ok, reason FROM pg_temp.proof; ROLLBACK;
BEGIN; UPDATE auth.users SET created_at = '2026-03-20' WHERE id = pg_temp.u(1); SELECT day, ok, reason FROM pg_temp.proof; ROLLBACK;

-- Users who count differently: an anonymous one became permanent, one was
-- marked as deleted when the day was computed. No session changed.
BEGIN;
UPDATE auth.users SET is_anonymous = false, created_at = '2026-03-02' WHERE id = pg_temp.u(3);
SELECT day, ok, differences, reason FROM pg_temp.proof WHERE day = '2026-03-11';
-- a run that does not write the row of that day
SET LOCAL dashie.now = '2026-03-14 00:20+00';
SELECT dashie.refresh_daily_metrics('2026-03-13', '2026-03-13');
SELECT day, ok, differences, reason FROM dashie.verify('2026-03-01', '2026-03-13') WHERE ok IS NOT TRUE;
CALL dashie.run_job('refresh_daily_metrics');
SELECT date, new_signups, returning_users FROM public.daily_metrics WHERE date IN ('2026-03-02', '2026-03-11');
SELECT ok, count(*) FROM dashie.verify('2026-03-01', '2026-03-13') GROUP BY ok;
ROLLBACK;
BEGIN;
INSERT INTO auth.users (id, created_at, deleted_at) VALUES (pg_temp.u(7), '2026-03-03', '2026-03-13');
INSERT INTO public.user_sessions (user_id, started_at, ended_at) VALUES (pg_temp.u(7), '2026-03-11 23:00+00', '2026-03-12 01:00+00');
CALL dashie.run_job('refresh_daily_metrics');
UPDATE auth.users SET deleted_at = NULL WHERE id = pg_temp.u(7);
SELECT day, ok, differences, reason FROM pg_temp.proof WHERE day BETWEEN '2026-03-11' AND '2026-03-12';
CALL dashie.run_job('refresh_daily_metrics');
SELECT date, new_signups, returning_users, dashie.active_users(date, 1) FROM public.daily_metrics WHERE date IN ('2026-03-03', '2026-03-11', '2026-03-12') ORDER BY 1;
SELECT ok, count(*) FROM dashie.verify('2026-03-01', '2026-03-13') GROUP BY ok;
ROLLBACK;

-- Tampering while the rows exist: in each column of the page, and of daily_metrics.
CREATE FUNCTION pg_temp.failures() RETURNS TABLE (day date, method text, differences jsonb, reason text) LANGUAGE sql AS
$$ SELECT day, method, CASE WHEN differences ? 'digest' THEN differences - 'digest' || '{"digest": "differs"}' ELSE differences END, reason
	FROM dashie.verify('2026-03-01', '2026-03-14') WHERE NOT ok $$;
BEGIN; UPDATE dashie.day_page SET sessions = sessions + 1 WHERE day = '2026-03-10'; SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE dashie.day_page SET ended_sessions = 1, ended_microseconds = 5 WHERE day = '2026-03-10'; SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE dashie.day_page SET returning_users = 7, active_dashboards = 7 WHERE day = '2026-03-10'; SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE dashie.day_page SET sessions = NULL WHERE day = '2026-03-10'; SELECT day, ok, reason FROM pg_temp.proof; ROLLBACK;
BEGIN; UPDATE dashie.day_page p SET active = q.active FROM dashie.day_page q WHERE p.day = '2026-03-10' AND q.day = '2026-03-11'; SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE dashie.day_page SET entries = set_byte(entries, 8, 6) WHERE day = '2026-03-10'; SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE dashie.day_page SET dashboards = '\x00' WHERE day = '2026-03-10'; SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE dashie.day_page SET heartbeats = NULL WHERE day = '2026-03-10'; SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE dashie.day_page SET digest = set_byte(digest, 0, get_byte(digest, 0) # 1) WHERE day = '2026-03-10'; SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE dashie.day_page SET digest = NULL WHERE day = '2026-03-10'; SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE dashie.day_page SET countries = set_byte(countries, length(countries) - 1, 1) WHERE day = '2026-03-10'; SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; DELETE FROM dashie.day_page WHERE day = '2026-03-10'; SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE public.daily_metrics SET new_signups = 5, total_sessions = 6 WHERE date = '2026-03-10'; SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE public.daily_metrics SET returning_users = 5, active_dashboards = NULL, avg_session_minutes = 0.01, trial_to_paid_conversions = 0 WHERE date = '2026-03-10';
SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; DELETE FROM public.daily_metrics WHERE date = '2026-03-10'; SELECT * FROM pg_temp.failures(); ROLLBACK;

-- Bytes and digest forged alike: the rows tell.
CREATE FUNCTION pg_temp.forge(d date) RETURNS void LANGUAGE sql AS $$
	UPDATE dashie.day_page SET digest = sha256(convert_to(day::text, 'UTF8')
		|| substr(int4send(length(active)), 4, 1) || substr(int4send(length(active)), 3, 1) || '\x0000'::bytea || active
		|| substr(int4send(length(entries)), 4, 1) || substr(int4send(length(entries)), 3, 1) || '\x0000'::bytea || entries
		|| substr(int4send(length(dashboards)), 4, 1) || substr(int4send(length(dashboards)), 3, 1) || '\x0000'::bytea || dashboards
		|| substr(int4send(length(heartbeats)), 4, 1) || substr(int4send(length(heartbeats)), 3, 1) || '\x0000'::bytea || heartbeats
		|| substr(int4send(length(countries)), 4, 1) || substr(int4send(length(countries)), 3, 1) || '\x0000'::bytea || countries)
	WHERE day = d $$;
BEGIN; SELECT pg_temp.forge('2026-03-10'); SELECT count(*) AS as_before FROM pg_temp.failures();
UPDATE dashie.day_page p SET active = q.active FROM dashie.day_page q WHERE p.day = '2026-03-10' AND q.day = '2026-03-11';
SELECT pg_temp.forge('2026-03-10'); SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE dashie.day_page p SET entries = q.entries, sessions = q.sessions, ended_sessions = q.ended_sessions,
	ended_microseconds = q.ended_microseconds FROM dashie.day_page q WHERE p.day = '2026-03-10' AND q.day = '2026-03-12';
SELECT pg_temp.forge('2026-03-10'); SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE dashie.day_page p SET dashboards = q.dashboards FROM dashie.day_page q WHERE p.day = '2026-03-10' AND q.day = '2026-03-12';
SELECT pg_temp.forge('2026-03-10'); SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE dashie.day_page p SET heartbeats = q.heartbeats FROM dashie.day_page q WHERE p.day = '2026-03-11' AND q.day = '2026-03-12';
SELECT pg_temp.forge('2026-03-11'); SELECT * FROM pg_temp.failures(); ROLLBACK;
-- bytes that no page holds, under a digest that fits
BEGIN; UPDATE dashie.day_page SET entries = '\x0105' WHERE day = '2026-03-10'; SELECT pg_temp.forge('2026-03-10'); SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE dashie.day_page SET active = '\x3b30000001ff7fffff01000000ffff' WHERE day = '2026-03-10'; SELECT pg_temp.forge('2026-03-10'); SELECT * FROM pg_temp.failures(); ROLLBACK;
-- a change behind the back of the triggers
BEGIN; ALTER TABLE public.user_sessions DISABLE TRIGGER dashie_changed; DELETE FROM public.user_sessions WHERE id = pg_temp.u(11); SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; ALTER TABLE public.user_sessions DISABLE TRIGGER dashie_changed; UPDATE public.user_sessions SET country_code = 'NL' WHERE id = pg_temp.u(12);
UPDATE public.user_sessions SET dashboard_id = NULL WHERE id = pg_temp.u(13); SELECT * FROM pg_temp.failures(); ROLLBACK;

-- Users who left: their part is under the digest, the others' part is compared.
DELETE FROM auth.users WHERE id = pg_temp.u(4);
UPDATE auth.users SET deleted_at = '2026-03-14' WHERE id = pg_temp.u(2);
SELECT day, ok, reason FROM pg_temp.proof;
SELECT dashie.refresh_daily_metrics('2026-03-01', '2026-03-13');
SELECT day, ok, differences, reason FROM pg_temp.proof;
BEGIN; UPDATE dashie.day_page SET entries = set_byte(entries, 4, get_byte(entries, 4) # 1) WHERE day = '2026-03-10'; SELECT * FROM pg_temp.failures(); ROLLBACK;

-- Rows that retention removed
SELECT dashie.set_retention('user_sessions', '1 day');
SELECT table_name, rows FROM dashie.apply_retention() WHERE table_name = 'user_sessions';
SELECT * FROM pg_temp.proof;
SELECT dashie.refresh_daily_metrics('2026-03-13', '2026-03-13');
BEGIN; UPDATE dashie.day_page SET sessions = sessions + 1 WHERE day = '2026-03-11'; SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE dashie.day_page SET returning_users = 9 WHERE day = '2026-03-11'; SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE dashie.day_page SET active = '\x3a30000000000000' WHERE day = '2026-03-11'; SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE dashie.day_page SET digest = sha256('') WHERE day = '2026-03-11'; SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE dashie.day_page SET entries = '\x0105' WHERE day = '2026-03-11'; SELECT pg_temp.forge('2026-03-11'); SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; DELETE FROM dashie.day_page WHERE day = '2026-03-11'; SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; UPDATE public.daily_metrics SET total_sessions = 1000, new_signups = 1 WHERE date = '2026-03-11'; SELECT * FROM pg_temp.failures(); ROLLBACK;
BEGIN; DELETE FROM public.daily_metrics WHERE date = '2026-03-11'; SELECT * FROM pg_temp.failures(); ROLLBACK;

-- The night verifies what it wrote, where that is wanted; what is wrong is the
-- error of the run, and the numbers stay.
SELECT dashie.configure('verify_nightly', 'on');
INSERT INTO public.user_sessions (user_id, started_at, ended_at) VALUES (pg_temp.u(1), '2026-03-13 10:00+00', '2026-03-13 10:30+00');
CALL dashie.run_job('refresh_daily_metrics');
SELECT status, steps, rows, error_message FROM dashie.job_run ORDER BY id DESC LIMIT 1;
-- somebody's trigger writes other numbers than the job
CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.total_sessions := new.total_sessions + 1; RETURN new; END $$;
CREATE TRIGGER meddle BEFORE INSERT OR UPDATE ON public.daily_metrics FOR EACH ROW EXECUTE FUNCTION public.meddle();
INSERT INTO public.user_sessions (user_id, started_at, ended_at) VALUES (pg_temp.u(1), '2026-03-13 11:00+00', '2026-03-13 11:30+00');
\set VERBOSITY terse
CALL dashie.run_job('refresh_daily_metrics');
\set VERBOSITY default
SELECT status, steps, sqlstate, error_message FROM dashie.job_run ORDER BY id DESC LIMIT 1;
SELECT total_sessions FROM public.daily_metrics WHERE date = '2026-03-13';
DROP TRIGGER meddle ON public.daily_metrics;
-- nothing is verified where nothing was written, and nothing where it is not wanted
CALL dashie.run_job('refresh_daily_metrics');
SELECT status, steps FROM dashie.job_run ORDER BY id DESC LIMIT 1;
SELECT dashie.configure('verify_nightly', NULL);
INSERT INTO public.user_sessions (user_id, started_at, ended_at) VALUES (pg_temp.u(1), '2026-03-13 12:00+00', '2026-03-13 12:30+00');
CALL dashie.run_job('refresh_daily_metrics');
SELECT status, steps FROM dashie.job_run ORDER BY id DESC LIMIT 1;
SELECT day, ok FROM pg_temp.proof;

-- Bad arguments
SELECT dashie.configure('verify_nightly', 'perhaps');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.verify(NULL, '2026-03-10');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.verify('2026-03-11', NULL);
SELECT dashie.verify('2026-03-11', '2026-03-10');
SELECT dashie.verify('2026-03-11', '2026-03-15');
SELECT dashie.verify('-infinity', '2026-03-10');
SELECT dashie.verify('2026-03-10', 'infinity');
SELECT dashie.verify('1998-10-30', '2026-03-14');

SELECT dashie.disable(t) FROM unnest(ARRAY['daily_metrics', 'user_sessions', 'dashboards', 'stripe_webhook_events']) t;
-- also without the tables: pages stay, and so does their digest
SELECT day, ok, method, reason FROM pg_temp.proof;
DROP VIEW pg_temp.proof;
DROP TABLE public.daily_metrics, public.user_sessions, public.dashboards CASCADE;
DROP TABLE public.stripe_webhook_events;
DROP FUNCTION public.meddle();
DROP TABLE dashie.metrics_state, dashie.user_number, dashie.user_country, dashie.dashboard_number, dashie.day_page, dashie.heartbeat_seen, dashie.retention_floor;
SELECT dashie.set_retention('user_sessions', NULL);
DELETE FROM dashie.job_run;
DELETE FROM auth.users;
