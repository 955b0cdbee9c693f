-- Tables that are enabled when there is history already, and accounts that are
-- made again under an id that was in use: each found by t/060_property.pl.
SET client_min_messages = warning;
SET dashie.now = '2026-03-10 12:00+00';

CREATE FUNCTION pg_temp.u(n int) RETURNS uuid LANGUAGE sql AS
$$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
INSERT INTO auth.users (id, created_at) VALUES (pg_temp.u(1), '2026-03-01'), (pg_temp.u(2), '2026-03-01');

-- dashboards, with heartbeats that nobody watched; daily_metrics has no source of the column yet
SELECT count(*) FROM dashie.enable('dashboards');
SELECT dashie.disable('dashboards');
INSERT INTO public.dashboards (id, user_id, device_name, last_heartbeat_at) VALUES (pg_temp.u(101), pg_temp.u(1), 'TV', '2026-03-08 10:00+00'),
	(pg_temp.u(102), pg_temp.u(1), 'tablet', '2026-03-10 10:00+00');
SELECT count(*) FROM dashie.enable('daily_metrics');
SELECT dashie.refresh_daily_metrics('2026-03-07', '2026-03-09');
SELECT date, active_dashboards FROM public.daily_metrics ORDER BY date;
SELECT count(*) FROM dashie.enable('dashboards');
-- today's heartbeat from before is overwritten tomorrow
SET dashie.now = '2026-03-11 12:00+00';
UPDATE public.dashboards SET last_heartbeat_at = '2026-03-11 10:00+00' WHERE id = pg_temp.u(102);
SELECT dashie.refresh_daily_metrics('2026-03-07', '2026-03-10');
SELECT date, active_dashboards FROM public.daily_metrics ORDER BY date;

-- metrics that are enabled after dashboards know the last heartbeats
SELECT dashie.disable('daily_metrics');
DROP TABLE public.daily_metrics, dashie.metrics_state, dashie.user_number, dashie.user_country, dashie.dashboard_number, dashie.day_page, dashie.heartbeat_seen;
SELECT count(*) FROM dashie.enable('daily_metrics');
UPDATE public.dashboards SET last_heartbeat_at = '2026-03-12 10:00+00' WHERE id = pg_temp.u(102);
SET dashie.now = '2026-03-12 12:00+00';
SELECT dashie.refresh_daily_metrics('2026-03-10', '2026-03-11');
SELECT date, active_dashboards FROM public.daily_metrics ORDER BY date;

-- daily_metrics, when retention has closed days that geographic_stats had computed
SELECT dashie.disable('daily_metrics');
DROP TABLE public.daily_metrics;
SELECT count(*) FROM dashie.enable('user_sessions');
SELECT count(*) FROM dashie.enable('geographic_stats');
INSERT INTO public.user_sessions (id, user_id, started_at, ended_at) VALUES (pg_temp.u(201), pg_temp.u(1), '2026-03-05 10:00+00', '2026-03-05 11:00+00'),
	(pg_temp.u(202), pg_temp.u(2), '2026-03-11 10:00+00', '2026-03-11 11:00+00');
SELECT dashie.refresh_geographic_stats();
SELECT dashie.set_retention('user_sessions', '3 days');
CALL dashie.run_job('apply_retention');
SELECT count(*) FROM public.user_sessions;
SELECT count(*) FROM dashie.enable('daily_metrics');
CALL dashie.run_job('refresh_daily_metrics');
SELECT date, total_sessions FROM public.daily_metrics WHERE date >= '2026-03-05' ORDER BY date;

-- An account that is deleted, and one that is made anew under its id before the
-- next refresh: two users. What the first did stays.
DELETE FROM auth.users WHERE id = pg_temp.u(2);
INSERT INTO auth.users (id, created_at) VALUES (pg_temp.u(2), '2026-03-12 13:00+00');
INSERT INTO public.user_sessions (user_id, started_at, ended_at) VALUES (pg_temp.u(2), '2026-03-12 14:00+00', '2026-03-12 14:30+00');
SET dashie.now = '2026-03-13 00:10+00';
CALL dashie.run_job('refresh_daily_metrics');
SELECT date, new_signups, returning_users, total_sessions FROM public.daily_metrics WHERE date >= '2026-03-11' ORDER BY date;
SELECT dashie.active_users('2026-03-12', 2);
SELECT number, user_id, signed_up_at FROM dashie.user_number ORDER BY number;
-- a sign-up that is set right later is no new account
UPDATE auth.users SET created_at = '2026-03-12 10:00+00' WHERE id = pg_temp.u(2);
SELECT dashie.refresh_daily_metrics('2026-03-11', '2026-03-12');
SELECT number, user_id, signed_up_at FROM dashie.user_number ORDER BY number;
-- the heartbeat of an account that is not there any more is not that of the next one
INSERT INTO public.dashboards (id, user_id, device_name, last_heartbeat_at) VALUES (pg_temp.u(103), pg_temp.u(2), 'TV', '2026-03-13 08:00+00');
DELETE FROM auth.users WHERE id = pg_temp.u(2);
INSERT INTO auth.users (id, created_at) VALUES (pg_temp.u(2), '2026-03-13 09:00+00');
SET dashie.now = '2026-03-14 00:10+00';
CALL dashie.run_job('refresh_daily_metrics');
SELECT date, new_signups, active_dashboards FROM public.daily_metrics WHERE date = '2026-03-13';

SELECT dashie.set_retention('user_sessions', NULL);
SELECT dashie.disable(t) FROM unnest('{daily_metrics,geographic_stats,user_sessions,dashboards}'::text[]) AS t;
DROP TABLE public.daily_metrics, public.geographic_stats, public.user_sessions, public.dashboards CASCADE;
DROP TABLE dashie.metrics_state, dashie.user_number, dashie.user_country, dashie.dashboard_number, dashie.day_page, dashie.heartbeat_seen, dashie.retention_floor;
DELETE FROM auth.users;
DELETE FROM dashie.job_run;
UPDATE dashie.job_state SET last_started = NULL, last_finished = NULL, last_status = NULL;
