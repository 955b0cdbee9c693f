-- Tables of the metrics that their owner has damaged: an error, never a crash,
-- and no memory by the size of a number that somebody wrote.
SET client_min_messages = warning;
SET dashie.now = '2026-03-20 00:10+00';
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE FUNCTION pg_temp.u(n int) RETURNS uuid LANGUAGE sql AS
$$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
SELECT count(*) FROM dashie.enable('user_sessions');
SELECT count(*) FROM dashie.enable('daily_metrics');
SELECT count(*) FROM dashie.enable('geographic_stats');
SELECT count(*) FROM dashie.enable('dashboards');
INSERT INTO auth.users (id, created_at) SELECT pg_temp.u(n), '2026-03-01' FROM generate_series(1, 3) n;
INSERT INTO public.user_sessions (id, user_id, dashboard_id, started_at, ended_at, country_code) VALUES
	(pg_temp.u(11), pg_temp.u(1), pg_temp.u(21), '2026-03-10 10:00+00', '2026-03-10 11:00+00', 'DE'),
	(pg_temp.u(12), pg_temp.u(2), NULL, '2026-03-11 10:00+00', '2026-03-11 11:00+00', NULL);
SELECT dashie.refresh_daily_metrics('2026-03-10', '2026-03-12');
PREPARE refresh AS SELECT dashie.refresh_daily_metrics('2026-03-10', '2026-03-12', force => true);

-- numbers that would take an array of gigabytes, or none at all
BEGIN; UPDATE dashie.metrics_state SET next_user = 2147483646; EXECUTE refresh; ROLLBACK;
BEGIN; UPDATE dashie.metrics_state SET next_dashboard = 2147483646; EXECUTE refresh; ROLLBACK;
BEGIN; DELETE FROM dashie.user_number; UPDATE dashie.metrics_state SET next_user = -100000000; EXECUTE refresh; ROLLBACK;
BEGIN; UPDATE dashie.user_number SET number = 2147483647 WHERE number = 1; EXECUTE refresh; ROLLBACK;
BEGIN; UPDATE dashie.user_number SET number = -1 WHERE number = 1; EXECUTE refresh; ROLLBACK;
BEGIN; UPDATE dashie.dashboard_number SET first = 2147483647; EXECUTE refresh; ROLLBACK;
BEGIN; UPDATE dashie.dashboard_number SET first = 2147475456; EXECUTE refresh; ROLLBACK;
BEGIN; UPDATE dashie.dashboard_number SET first = -8192; EXECUTE refresh; ROLLBACK;
-- dashboards of nobody, of fewer bytes, of a user far above all, and a number 0
BEGIN; UPDATE dashie.dashboard_number SET ids = substr(ids, 2); EXECUTE refresh; ROLLBACK;
BEGIN; UPDATE dashie.dashboard_number SET users = users || '\x00'; EXECUTE refresh; ROLLBACK;
BEGIN; UPDATE dashie.dashboard_number SET users = set_byte(users, 7, 128); EXECUTE refresh; ROLLBACK;
BEGIN; UPDATE dashie.dashboard_number SET users = set_byte(users, 0, 1); EXECUTE refresh; ROLLBACK;
-- other numbers of a dashboard: cut off, of no number, of a place that has none, of a later one
BEGIN; UPDATE dashie.dashboard_number SET shared = '\x01'; EXECUTE refresh; ROLLBACK;
BEGIN; UPDATE dashie.dashboard_number SET shared = '\x0100'; EXECUTE refresh; ROLLBACK;
BEGIN; UPDATE dashie.dashboard_number SET shared = '\x0201'; EXECUTE refresh; ROLLBACK;
BEGIN; UPDATE dashie.dashboard_number SET shared = '\x0101'; EXECUTE refresh; ROLLBACK;
BEGIN; UPDATE dashie.dashboard_number SET shared = '\x8080808080808080808080'; EXECUTE refresh; ROLLBACK;
-- a set of one run that is far above all numbers
BEGIN; UPDATE dashie.day_page SET active = '\x3b30000001ff7fffff01000000ffff'; EXECUTE refresh; ROLLBACK;
-- a page that cannot be read is made anew once its row is gone
BEGIN; UPDATE dashie.day_page SET entries = '\xff' WHERE day = '2026-03-10'; EXECUTE refresh; ROLLBACK;
BEGIN; UPDATE dashie.day_page SET entries = '\xff' WHERE day = '2026-03-10'; DELETE FROM dashie.day_page WHERE day = '2026-03-10'; EXECUTE refresh;
SELECT date, total_sessions FROM public.daily_metrics WHERE date = '2026-03-10'; ROLLBACK;
-- NULL where there is none
BEGIN; ALTER TABLE dashie.dashboard_number ALTER ids DROP NOT NULL; UPDATE dashie.dashboard_number SET ids = NULL; EXECUTE refresh; ROLLBACK;
BEGIN; ALTER TABLE dashie.heartbeat_seen ALTER user_id DROP NOT NULL, ALTER dashboard_id DROP NOT NULL;
INSERT INTO dashie.heartbeat_seen VALUES (pg_temp.u(21), NULL, '2026-03-11'), (NULL, pg_temp.u(1), '2026-03-11'); EXECUTE refresh; ROLLBACK;
BEGIN; ALTER TABLE public.user_sessions DROP CONSTRAINT user_sessions_pkey CASCADE; ALTER TABLE public.user_sessions ALTER id DROP NOT NULL;
UPDATE public.user_sessions SET id = NULL; EXECUTE refresh; SELECT dashie.refresh_geographic_stats('2026-03-19'); ROLLBACK;
BEGIN; ALTER TABLE public.dashboards DROP CONSTRAINT dashboards_pkey CASCADE; ALTER TABLE public.dashboards ALTER id DROP NOT NULL;
INSERT INTO public.dashboards (id, user_id, device_name, last_heartbeat_at) VALUES (NULL, pg_temp.u(1), 'TV', '2026-03-11'); EXECUTE refresh; COMMIT;
SELECT count(*) FROM dashie.heartbeat_seen;
DELETE FROM public.dashboards;
-- a day without end
BEGIN; INSERT INTO dashie.day_page (day, dirty, final) VALUES ('infinity', false, true), ('-infinity', false, true); EXECUTE refresh;
SELECT dashie.refresh_geographic_stats(); ROLLBACK;
BEGIN; INSERT INTO dashie.day_page (day, dirty, final) VALUES ('infinity', false, true); SELECT dashie.configure('timezone', 'Asia/Tokyo'); ROLLBACK;
-- columns of other types
BEGIN; ALTER TABLE dashie.day_page ALTER active TYPE bigint USING 5; EXECUTE refresh; ROLLBACK;
BEGIN; ALTER TABLE dashie.dashboard_number ALTER ids TYPE bigint USING 5; EXECUTE refresh; ROLLBACK;
BEGIN; ALTER TABLE dashie.day_page ALTER active TYPE bigint USING 5; SELECT dashie.active_users('2026-03-12', 5); ROLLBACK;
BEGIN; ALTER TABLE dashie.day_page ALTER day TYPE timestamptz USING day; EXECUTE refresh; ROLLBACK;
BEGIN; ALTER TABLE dashie.day_page ALTER day TYPE timestamptz USING day; SELECT dashie.active_users('2026-03-12', 5); ROLLBACK;
BEGIN; ALTER TABLE dashie.metrics_state ALTER next_user DROP DEFAULT, ALTER next_user TYPE text; EXECUTE refresh; ROLLBACK;
-- a view in the place of a page, whose day is another each time it is asked
BEGIN; ALTER TABLE dashie.day_page RENAME TO page;
CREATE VIEW dashie.day_page AS SELECT day + (random() * 1000000)::int AS day, dirty, final FROM dashie.page;
SELECT dashie.active_users('2026-03-12', 5); ROLLBACK;
-- marks are written as rows of the types that they have
ALTER TABLE dashie.changed_range ALTER "from" TYPE uuid USING pg_temp.u(1);
UPDATE public.user_sessions SET country_code = 'FR' WHERE country_code = 'DE';
DROP TABLE dashie.changed_range;
CREATE TABLE dashie.changed_range ("from" timestamptz NOT NULL, upto timestamptz NOT NULL);
-- an index that came and went is no obstacle
CREATE INDEX passing ON dashie.changed_range ("from");
UPDATE public.user_sessions SET country_code = 'FR' WHERE country_code = 'DE';
DROP INDEX dashie.passing;
UPDATE public.user_sessions SET country_code = 'FR' WHERE country_code = 'DE';
SELECT count(*) FROM dashie.changed_range;
-- the application's own table of heartbeats may be anybody's
SELECT count(*) FROM dashie.disable('dashboards');
CREATE TABLE public.dashboard_heartbeats (id uuid, auth_user_id uuid, last_heartbeat_at timestamptz);
INSERT INTO public.dashboard_heartbeats VALUES (NULL, pg_temp.u(1), '2026-03-12 10:00+00'), (pg_temp.u(31), pg_temp.u(1), '2026-03-12 10:00+00');
EXECUTE refresh;
SELECT date, active_dashboards FROM public.daily_metrics ORDER BY date;

DROP TABLE public.dashboard_heartbeats;
SELECT dashie.disable('daily_metrics');
SELECT dashie.disable('geographic_stats');
SELECT dashie.disable('user_sessions');
DROP TABLE public.daily_metrics, public.geographic_stats, public.dashboards, public.user_sessions CASCADE;
DROP TABLE dashie.metrics_state, dashie.user_number, dashie.user_country, dashie.dashboard_number, dashie.day_page, dashie.heartbeat_seen, dashie.retention_floor;
DELETE FROM auth.users;
