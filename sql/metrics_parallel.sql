-- However the sessions are read (by parallel workers, by one process, in many
-- passes for want of memory, through the index), the pages are the same.
SET client_min_messages = warning;
SET dashie.now = '2026-03-20 00:10+00';
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE FUNCTION pg_temp.u(n int) RETURNS uuid LANGUAGE sql AS
$$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
SELECT count(*) FROM dashie.enable('user_sessions');
SELECT count(*) FROM dashie.enable('daily_metrics');
SELECT count(*) FROM dashie.enable('geographic_stats');
INSERT INTO auth.users (id, created_at, is_anonymous, deleted_at)
	SELECT pg_temp.u(n), '2026-01-20'::timestamptz + n * interval '1 hour', n % 50 = 0, CASE WHEN n % 70 = 0 THEN '2026-03-01'::timestamptz END
	FROM generate_series(1, 1000) n;
-- sessions that begin at the same instant, that last for days, that are open, without a country, of dashboards that users share
INSERT INTO public.user_sessions (id, user_id, dashboard_id, started_at, ended_at, last_activity_at, country_code)
	SELECT pg_temp.u(100000 + n * 7919 % 60000), pg_temp.u(1 + n * 31 % 1000), CASE WHEN n % 9 > 0 THEN pg_temp.u(1 + n * 31 % 1000 / 2) END,
		s, CASE WHEN n % 11 > 0 THEN s + n * 37 % 100 * interval '1 minute' + CASE WHEN n % 500 = 0 THEN interval '40 hours' ELSE '0' END END,
		CASE WHEN n % 22 = 0 THEN s + interval '3 days' END, (ARRAY['DE', 'FR', 'PT', NULL, 'XX'])[1 + n % 5]
	FROM (SELECT n, '2026-02-01'::timestamptz + n * 17 % 4400 / 4 * interval '1 hour' AS s FROM generate_series(1, 60000) n) AS x;
-- in different countries at the same instant: the session with the highest id says the user's country
INSERT INTO public.user_sessions (id, user_id, started_at, ended_at, country_code)
	SELECT pg_temp.u(200000 + n * 7 % 1800), pg_temp.u(1 + n % 600), s, s + interval '5 minutes', (ARRAY['IT', 'ES', 'PL'])[1 + n / 600]
	FROM (SELECT n, CASE WHEN n % 3 > 0 THEN '2026-03-19 22:00'::timestamptz ELSE '2026-02-20' END AS s FROM generate_series(0, 1799) n) AS x;
CREATE TEMP TABLE kept (way text, day date, digest bytea, countries bytea, sessions bigint, returning_users int, active_dashboards int);
PREPARE keep (text) AS INSERT INTO kept SELECT $1, day, digest, countries, sessions, returning_users, active_dashboards FROM dashie.day_page;
PREPARE refresh AS SELECT dashie.refresh_daily_metrics('2026-02-01', '2026-03-19', force => true);

SET min_parallel_table_scan_size = 0;
SET max_parallel_maintenance_workers = 2;
EXECUTE refresh;
EXECUTE keep ('two workers');
SELECT dashie.refresh_geographic_stats('2026-03-19') > 0 AS written;
CREATE TEMP TABLE first_countries AS SELECT first, codes, latest FROM dashie.user_country;
EXECUTE refresh;
EXECUTE keep ('two workers, again');
SET max_parallel_maintenance_workers = 0;
EXECUTE refresh;
EXECUTE keep ('one process');
-- pages that have no row are made by the workers, by them and the leader, or by the leader alone
DELETE FROM dashie.day_page;
EXECUTE refresh;
EXECUTE keep ('anew: one process');
SELECT count(*) AS different FROM first_countries f FULL JOIN dashie.user_country c USING (first)
	WHERE (f.codes, f.latest) IS DISTINCT FROM (c.codes, c.latest);
SET max_parallel_maintenance_workers = 1;
DELETE FROM dashie.day_page;
EXECUTE refresh;
EXECUTE keep ('anew: one worker');
SET max_parallel_maintenance_workers = 2;
DELETE FROM dashie.day_page WHERE extract(day FROM day) % 3 > 0;
EXECUTE refresh;
EXECUTE keep ('anew: some days');
DELETE FROM dashie.day_page;
SET maintenance_work_mem = '1MB';
EXECUTE refresh;
EXECUTE keep ('anew: several passes of workers');
RESET maintenance_work_mem;
SELECT count(*) AS different FROM first_countries f FULL JOIN dashie.user_country c USING (first)
	WHERE (f.codes, f.latest) IS DISTINCT FROM (c.codes, c.latest);
BEGIN ISOLATION LEVEL REPEATABLE READ;
DELETE FROM dashie.day_page;
EXECUTE refresh;
EXECUTE keep ('anew: under one snapshot');
COMMIT;
-- also where an error before it took back what a subtransaction had written
BEGIN;
DELETE FROM dashie.day_page;
DO $$
BEGIN
	PERFORM dashie.refresh_daily_metrics('2026-02-01', '2026-03-19', force => true);
	RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
	RAISE WARNING 'pages: %', (SELECT count(*) FROM dashie.day_page);
	PERFORM dashie.refresh_daily_metrics('2026-02-01', '2026-03-19', force => true);
END $$;
EXECUTE keep ('anew: in a subtransaction');
COMMIT;
-- what the owner adds to the table of pages is minded
\set VERBOSITY terse
BEGIN;
DELETE FROM dashie.day_page;
ALTER TABLE dashie.day_page ADD CHECK (day <> '2026-03-01');
EXECUTE refresh;
ROLLBACK;
BEGIN;
DELETE FROM dashie.day_page;
CREATE UNIQUE INDEX ON dashie.day_page (extract(day FROM day));
EXECUTE refresh;
ROLLBACK;
BEGIN;
CREATE FUNCTION pg_temp.count_page() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.computed_at := '2000-01-01'; RETURN NEW; END $$;
CREATE TRIGGER count_page BEFORE INSERT ON dashie.day_page FOR EACH ROW EXECUTE FUNCTION pg_temp.count_page();
DELETE FROM dashie.day_page;
EXECUTE refresh;
SELECT count(*) AS pages, count(*) FILTER (WHERE computed_at = '2000-01-01') AS by_trigger FROM dashie.day_page;
ROLLBACK;
-- numbers that are given anew are stored while workers make pages, or after it where the owner has added something; and are known afterwards
\set VERBOSITY default
CREATE TEMP TABLE first_users AS SELECT * FROM dashie.user_number;
CREATE PROCEDURE pg_temp.give_numbers_anew() LANGUAGE sql AS $$
	TRUNCATE dashie.day_page, dashie.user_number, dashie.dashboard_number, dashie.user_country;
	UPDATE dashie.metrics_state SET next_user = 1, next_dashboard = 1, last_pass = NULL;
$$;
CREATE PROCEDURE pg_temp.check_numbers() LANGUAGE plpgsql AS $$
DECLARE
	given record;
	bad text;
BEGIN
	SELECT next_user, next_dashboard INTO given FROM dashie.metrics_state;
	PERFORM dashie.refresh_daily_metrics('2026-02-01', '2026-03-19', force => true);
	SELECT string_agg(day::text, ', ') INTO bad FROM dashie.day_page p JOIN kept k USING (day)
		WHERE k.way = 'two workers' AND (p.sessions, p.returning_users, p.active_dashboards) IS DISTINCT FROM (k.sessions, k.returning_users, k.active_dashboards);
	RAISE WARNING '% pages, other than before: %, not proved: %; % users, other than before: %; % of users given, % of dashboards; all of them known: %',
		(SELECT count(*) FROM dashie.day_page), bad, (SELECT count(*) FROM dashie.verify('2026-02-01', '2026-03-19') WHERE ok IS NOT TRUE),
		(SELECT count(*) FROM dashie.user_number), (SELECT count(*) FROM (TABLE first_users EXCEPT TABLE dashie.user_number) AS x),
		given.next_user - 1, given.next_dashboard - 1, (SELECT (next_user, next_dashboard) = (given.next_user, given.next_dashboard) FROM dashie.metrics_state);
END $$;
BEGIN; CALL pg_temp.give_numbers_anew(); EXECUTE refresh; CALL pg_temp.check_numbers(); ROLLBACK;
BEGIN; CALL pg_temp.give_numbers_anew(); SET LOCAL maintenance_work_mem = '1MB'; EXECUTE refresh; CALL pg_temp.check_numbers(); ROLLBACK;
BEGIN; CALL pg_temp.give_numbers_anew(); ALTER TABLE dashie.dashboard_number ADD CHECK (first >= 0); EXECUTE refresh; CALL pg_temp.check_numbers(); ROLLBACK;
BEGIN; CALL pg_temp.give_numbers_anew();
CREATE FUNCTION public.share(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN 100 / (n - 7); EXCEPTION WHEN division_by_zero THEN RETURN 0; END $$;
CREATE INDEX ON dashie.user_number (public.share(number)); EXECUTE refresh; CALL pg_temp.check_numbers(); ROLLBACK;
BEGIN; CALL pg_temp.give_numbers_anew(); ALTER TABLE dashie.user_number ADD CHECK (number > 0); EXECUTE refresh; CALL pg_temp.check_numbers(); ROLLBACK;
-- a user who has left and signed up again with the same id: the former one gives way first
BEGIN; DELETE FROM dashie.day_page; CREATE UNIQUE INDEX ON dashie.user_number (user_id);
UPDATE auth.users SET created_at = '2026-03-20 00:05+00' WHERE id = pg_temp.u(5);
UPDATE dashie.metrics_state SET last_pass = '2026-03-20 00:01+00';
EXECUTE refresh;
SELECT number, user_id IS NULL AS gone, signed_up_at FROM dashie.user_number WHERE number IN (5, 1001) ORDER BY number;
ROLLBACK;
-- 60,000 rows of 24 bytes do not fit
SET maintenance_work_mem = '1MB';
EXECUTE refresh;
EXECUTE keep ('several passes');
SET max_parallel_maintenance_workers = 2;
EXECUTE refresh;
EXECUTE keep ('several passes of workers');
RESET maintenance_work_mem;
SELECT sum(dashie.refresh_daily_metrics(d::date, d::date, force => true)) FROM generate_series('2026-02-01'::timestamp, '2026-03-19', interval '1 day') d;
EXECUTE keep ('by day, through the index');
-- rows that lie together are read by blocks
CLUSTER public.user_sessions USING idx_sessions_started;
SELECT sum(dashie.refresh_daily_metrics(d::date, d::date, force => true)) FROM generate_series('2026-02-01'::timestamp, '2026-03-19', interval '1 day') d;
EXECUTE keep ('by day, by blocks');
-- which a worker did while the users were looked at: now one process, and again several days at once
SET max_parallel_maintenance_workers = 0;
SELECT sum(dashie.refresh_daily_metrics(d::date, d::date, force => true)) FROM generate_series('2026-02-01'::timestamp, '2026-03-19', interval '1 day') d;
EXECUTE keep ('by day, by blocks, one process');
SET max_parallel_maintenance_workers = 2;
SELECT sum(dashie.refresh_daily_metrics(d::date, d::date + 9, force => true)) FROM generate_series('2026-02-01'::timestamp, '2026-03-10', interval '9 days') d;
EXECUTE keep ('ten days, by blocks');
-- days that the look at the users adds: before those that were read ahead, and between them
BEGIN;
UPDATE public.user_sessions SET ended_at = ended_at + interval '1 minute' WHERE id IN (SELECT id FROM public.user_sessions WHERE started_at >= '2026-03-17' AND ended_at < '2026-03-17 12:00' LIMIT 1);
UPDATE public.user_sessions SET ended_at = ended_at + interval '1 minute' WHERE id IN (SELECT id FROM public.user_sessions WHERE started_at >= '2026-03-19' AND ended_at < '2026-03-19 12:00' LIMIT 1);
UPDATE auth.users SET deleted_at = NULL WHERE id = (SELECT user_id FROM public.user_sessions JOIN auth.users u ON u.id = user_id
	WHERE deleted_at IS NOT NULL GROUP BY 1 HAVING bool_or(started_at BETWEEN '2026-03-15' AND '2026-03-17') ORDER BY 1 LIMIT 1);
SELECT dashie.refresh_daily_metrics('2026-03-13', '2026-03-19') > 2 AS more_than_were_marked;
SELECT count(*) AS days, count(*) FILTER (WHERE NOT ok) AS wrong FROM dashie.verify('2026-03-01', '2026-03-19');
ROLLBACK;
-- a night with a late day
BEGIN;
UPDATE public.user_sessions SET ended_at = ended_at + interval '1 minute' WHERE id IN (SELECT id FROM public.user_sessions WHERE started_at >= '2026-03-10' AND ended_at < '2026-03-10 12:00' LIMIT 1);
CALL dashie.run_job('refresh_daily_metrics');
SELECT status FROM dashie.job_run ORDER BY id DESC LIMIT 1;
SELECT count(*) AS days, count(*) FILTER (WHERE NOT ok) AS wrong FROM dashie.verify('2026-03-01', '2026-03-19');
ROLLBACK;
DROP INDEX public.idx_sessions_end;
SELECT sum(dashie.refresh_daily_metrics(d::date, d::date, force => true)) FROM generate_series('2026-02-01'::timestamp, '2026-03-19', interval '1 day') d;
EXECUTE keep ('by day, without the index on the end');
DROP INDEX public.idx_sessions_started, public.idx_sessions_long;
EXECUTE refresh;
EXECUTE keep ('without indexes');
-- days apart are not computed with all that lies between them
UPDATE dashie.day_page SET dirty = day IN ('2026-02-02', '2026-03-18');
SELECT dashie.refresh_daily_metrics('2026-02-01', '2026-03-19');
EXECUTE keep ('two days apart');
SELECT k.way, count(*) AS days, count(*) FILTER (WHERE (k.digest, k.countries, k.sessions, k.returning_users, k.active_dashboards)
	IS DISTINCT FROM (f.digest, f.countries, f.sessions, f.returning_users, f.active_dashboards)) AS different
FROM kept k JOIN kept f ON f.day = k.day AND f.way = 'two workers' GROUP BY k.way ORDER BY k.way;
SELECT count(*) AS different FROM first_countries f FULL JOIN dashie.user_country c USING (first)
	WHERE (f.codes, f.latest) IS DISTINCT FROM (c.codes, c.latest);

-- and they are those of plain SQL
WITH s AS (SELECT *, coalesce(ended_at, last_activity_at, started_at) AS upto FROM public.user_sessions),
days AS (SELECT d::date AS day, d AS b, d + interval '1 day' AS e FROM generate_series('2026-02-01'::timestamptz, '2026-03-19', interval '1 day') d),
plain AS (SELECT day,
	(SELECT count(DISTINCT s.user_id) FROM s JOIN auth.users u ON u.id = s.user_id WHERE s.started_at < e AND upto >= b
		AND u.created_at < b AND NOT u.is_anonymous AND u.deleted_at IS NULL)::int AS returning_users,
	(SELECT count(DISTINCT dashboard_id) FROM s WHERE started_at < e AND upto >= b)::int AS active_dashboards,
	(SELECT count(*) FROM s WHERE started_at >= b AND started_at < e)::int AS total_sessions,
	(SELECT round(avg(extract(epoch FROM ended_at - started_at) / 60), 2) FROM s WHERE started_at >= b AND started_at < e) AS minutes
	FROM days)
SELECT count(*) AS days, count(*) FILTER (WHERE (p.returning_users, p.active_dashboards, p.total_sessions, p.minutes)
	IS DISTINCT FROM (m.returning_users, m.active_dashboards, m.total_sessions, m.avg_session_minutes)) AS different
FROM plain p LEFT JOIN public.daily_metrics m ON m.date = p.day;

-- the country of each user is that of the latest session that has one, and of those at one instant of the one with the highest id
WITH latest AS (SELECT DISTINCT ON (user_id) user_id, country_code FROM public.user_sessions WHERE country_code <> 'XX'
	ORDER BY user_id, started_at DESC, id DESC),
plain AS (SELECT l.country_code, count(*) AS users FROM latest l JOIN auth.users u ON u.id = l.user_id
	WHERE NOT u.is_anonymous AND u.deleted_at IS NULL GROUP BY l.country_code)
SELECT count(*) AS countries, count(*) FILTER (WHERE p.users IS DISTINCT FROM a.users) AS different
FROM plain p LEFT JOIN dashie.active_users_by_country('2026-03-19', 47) a USING (country_code);

-- the users of a window by country, from the pages; they agree with geographic_stats
SELECT dashie.refresh_geographic_stats('2026-03-19') >= 0 AS refreshed;
SELECT count(*) AS countries, count(*) FILTER (WHERE a.users IS DISTINCT FROM nullif(g.active_users_30d, 0)) AS different
FROM public.geographic_stats g FULL JOIN dashie.active_users_by_country('2026-03-19') a USING (country_code);
SELECT sum(users) FROM dashie.active_users_by_country('2026-03-19', 1);
-- a late session of somebody new counts at once
INSERT INTO auth.users (id, created_at) VALUES (pg_temp.u(2000), '2026-03-01');
INSERT INTO public.user_sessions (user_id, started_at, ended_at, country_code) VALUES (pg_temp.u(2000), '2026-03-19 10:00+00', '2026-03-19 11:00+00', 'JP');
SELECT * FROM dashie.active_users_by_country('2026-03-19', 1) WHERE country_code = 'JP';
SELECT * FROM dashie.active_users_by_country('2026-03-19', 0);
SELECT * FROM dashie.active_users_by_country('2026-03-21', 1);
SELECT * FROM dashie.active_users_by_country(NULL, 1);
SELECT * FROM dashie.active_users_by_country('2026-03-19', NULL);

-- users of many dashboards, which others come to share in later runs: each counts once
CREATE FUNCTION pg_temp.dashboards(OUT day date, OUT counted bigint, OUT right_one boolean) RETURNS SETOF record LANGUAGE sql AS
$$ SELECT m.date, m.active_dashboards, m.active_dashboards = (SELECT count(DISTINCT dashboard_id) FROM public.user_sessions s JOIN auth.users u ON u.id = s.user_id
		WHERE started_at < m.date + 1 AND coalesce(ended_at, last_activity_at, started_at) >= m.date)
	FROM public.daily_metrics m WHERE m.date >= '2026-03-18' ORDER BY 1 $$;
INSERT INTO public.user_sessions (user_id, dashboard_id, started_at, ended_at)
	SELECT pg_temp.u(1 + n % 2), pg_temp.u(5000 + n / 4), '2026-03-18 12:00+00', '2026-03-18 13:00+00' FROM generate_series(0, 199) n;
SELECT dashie.refresh_daily_metrics('2026-03-18', '2026-03-19');
SELECT * FROM pg_temp.dashboards();
INSERT INTO public.user_sessions (user_id, dashboard_id, started_at, ended_at)
	SELECT pg_temp.u(1 + n % 5), pg_temp.u(5000 + n / 5), '2026-03-19 12:00+00', '2026-03-19 13:00+00' FROM generate_series(0, 299) n;
SELECT dashie.refresh_daily_metrics('2026-03-18', '2026-03-19');
SELECT * FROM pg_temp.dashboards();
EXECUTE refresh;
SELECT * FROM pg_temp.dashboards();
-- as they were stored: a number for each pair, and which are of one dashboard
SELECT count(DISTINCT (substr(ids, 16 * n + 1, 16), substr(users, 4 * n + 1, 4))) = count(*) AS each_pair_once, bool_or(length(shared) > 0) AS some_are_shared
	FROM dashie.dashboard_number, generate_series(0, 8191) n WHERE substr(users, 4 * n + 1, 4) <> '\x00000000';

-- an error in the middle, in a worker or in the leader: nothing is left behind
\set SHOW_CONTEXT never
SET max_parallel_maintenance_workers = 2;
ALTER TABLE public.user_sessions DROP CONSTRAINT user_sessions_ended_at_check, DROP CONSTRAINT user_sessions_started_at_check;
UPDATE public.user_sessions SET ended_at = 'infinity', started_at = '2026-02-10' WHERE id = pg_temp.u(100000);
UPDATE public.user_sessions SET ended_at = '-infinity' WHERE id = pg_temp.u(100001);
EXECUTE refresh;
UPDATE public.user_sessions SET ended_at = NULL WHERE id IN (pg_temp.u(100000), pg_temp.u(100001));
EXECUTE refresh;
-- an error in a worker that makes a page
DELETE FROM dashie.day_page;
UPDATE public.user_sessions SET ended_at = '294276-12-31' WHERE id IN (pg_temp.u(200000), pg_temp.u(200600));
\set SHOW_CONTEXT errors
EXECUTE refresh;
\set SHOW_CONTEXT never
SELECT count(*) FROM dashie.day_page;
SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker' AND datname = current_database();
UPDATE public.user_sessions SET ended_at = NULL WHERE ended_at = '294276-12-31';
EXECUTE refresh;
-- countries that their owner has overwritten: an error, never a crash
BEGIN; UPDATE dashie.user_country SET codes = substr(codes, 2); EXECUTE refresh; ROLLBACK;
BEGIN; UPDATE dashie.user_country SET codes = set_byte(codes, 10, 7); EXECUTE refresh; ROLLBACK;
BEGIN; UPDATE dashie.user_country SET codes = set_byte(codes, 10, 7); SELECT * FROM dashie.active_users_by_country('2026-03-17', 1); ROLLBACK;
BEGIN; UPDATE dashie.user_country SET first = 1; EXECUTE refresh; ROLLBACK;
BEGIN; UPDATE dashie.user_country SET first = 2147475456; EXECUTE refresh; ROLLBACK;
BEGIN; UPDATE dashie.user_country SET first = 2147475456; SELECT * FROM dashie.active_users_by_country('2026-03-17', 1); ROLLBACK;
BEGIN; UPDATE dashie.day_page SET countries = '\x4445'; SELECT dashie.refresh_geographic_stats('2026-03-19'); ROLLBACK;
BEGIN; UPDATE dashie.day_page SET countries = '\x00450102'; SELECT dashie.refresh_geographic_stats('2026-03-19'); ROLLBACK;
-- numbers and users that are there twice
BEGIN; INSERT INTO dashie.user_number SELECT * FROM dashie.user_number WHERE number = 1; EXECUTE refresh; ROLLBACK;
BEGIN; INSERT INTO dashie.user_number (number, user_id, signup_counts, anonymous, deleted) SELECT 1500, user_id, true, false, false FROM dashie.user_number WHERE number = 1; EXECUTE refresh; ROLLBACK;
BEGIN; ALTER TABLE dashie.dashboard_number DROP CONSTRAINT dashboard_number_pkey; INSERT INTO dashie.dashboard_number SELECT * FROM dashie.dashboard_number WHERE first = 0; EXECUTE refresh; ROLLBACK;
-- what the owner adds to a table of numbers is minded
BEGIN; ALTER TABLE dashie.user_number ADD CHECK (number < 1002); INSERT INTO auth.users (id, created_at) VALUES (pg_temp.u(3000), '2026-03-01'); EXECUTE refresh; ROLLBACK;
BEGIN; CREATE UNIQUE INDEX ON dashie.user_number ((number % 1001)); INSERT INTO auth.users (id, created_at) VALUES (pg_temp.u(3000), '2026-03-01'); EXECUTE refresh; ROLLBACK;
-- more profiles than are looked up at once: half of them in the order of the users, the others not
CREATE TABLE public.user_profiles (auth_user_id uuid, tier text, tier_started_at timestamptz, tier_expires_at timestamptz, subscription_status text);
INSERT INTO public.user_profiles SELECT pg_temp.u(CASE WHEN n <= 500 THEN n ELSE 501 + n * 7919 % 500 END), (ARRAY['trial', 'pro', 'basic', 'free'])[1 + n * 13 % 4]
	FROM generate_series(1, 1000) n;
SELECT dashie.refresh_geographic_stats('2026-03-19') > 0 AS written;
SELECT sum(trial_users) = (SELECT count(*) FROM public.user_profiles p JOIN auth.users u ON u.id = p.auth_user_id WHERE tier = 'trial' AND NOT is_anonymous AND deleted_at IS NULL) AS trial,
	sum(paid_users) = (SELECT count(*) FROM public.user_profiles p JOIN auth.users u ON u.id = p.auth_user_id WHERE tier IN ('pro', 'basic') AND NOT is_anonymous AND deleted_at IS NULL) AS paid,
	sum(paid_users) > 300 AS many
FROM public.geographic_stats;
DROP TABLE public.user_profiles;

SELECT dashie.disable('daily_metrics');
SELECT dashie.disable('geographic_stats');
SELECT dashie.disable('user_sessions');
DROP TABLE public.daily_metrics, public.geographic_stats, public.user_sessions CASCADE;
DROP TABLE dashie.metrics_state, dashie.user_number, dashie.user_country, dashie.dashboard_number, dashie.day_page, dashie.heartbeat_seen, dashie.retention_floor;
DELETE FROM auth.users;
