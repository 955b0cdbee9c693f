-- engagement, new_vs_returning, retention_cohorts: on rows that decide each
-- definition. t/061_questions.pl compares them with plain SQL at random.
SET client_min_messages = warning;
SET dashie.now = '2026-03-16 00:10+00';
SET timezone = 'America/Lima';
SET datestyle = 'ISO, MDY';
CREATE FUNCTION pg_temp.u(n int) RETURNS uuid LANGUAGE sql AS
$$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
SELECT dashie.engagement('2026-03-01', '2026-03-02');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM dashie.enable('daily_metrics');
-- without sessions nothing is known
SELECT * FROM dashie.engagement('2026-03-14', '2026-03-15');
SELECT * FROM dashie.new_vs_returning('2026-03-15', '2026-03-15');
SELECT count(*) FROM dashie.enable('user_sessions');
SELECT count(*) FROM dashie.enable('geographic_stats');

-- a session of an hour at noon
CREATE FUNCTION pg_temp.visit(n int, day date, country text DEFAULT NULL) RETURNS void LANGUAGE sql AS
$$ INSERT INTO public.user_sessions (user_id, started_at, ended_at, country_code)
	VALUES (pg_temp.u(n), (day + time '12:00') AT TIME ZONE 'UTC', (day + time '13:00') AT TIME ZONE 'UTC', country) $$;

INSERT INTO auth.users (id, created_at, is_anonymous) VALUES
	(pg_temp.u(1), '2026-02-01 12:00+00', false), -- signed up long ago, comes back after a month
	(pg_temp.u(2), '2026-03-02 00:00+00', false), -- Monday, 2 March
	(pg_temp.u(3), '2026-03-08 23:59+00', false), -- Sunday of the same week
	(pg_temp.u(4), '2026-03-09 00:00+00', false), -- Monday of the next
	(pg_temp.u(5), '2026-03-09 10:00+00', true),  -- anonymous: nowhere
	(pg_temp.u(6), NULL, false);                  -- nobody knows since when
SELECT pg_temp.visit(1, '2026-02-01'), pg_temp.visit(1, '2026-03-04', 'DE'), pg_temp.visit(2, '2026-03-02', 'FR'),
	pg_temp.visit(2, '2026-03-09', 'DE'), pg_temp.visit(2, '2026-03-15', 'US'), pg_temp.visit(3, '2026-03-09'),
	pg_temp.visit(4, '2026-03-09'), pg_temp.visit(5, '2026-03-09', 'DE'), pg_temp.visit(6, '2026-03-09') \g /dev/null
SELECT date, dau, wau, mau, stickiness FROM dashie.engagement('2026-03-02', '2026-03-16');
-- from pages it is the same as from rows
SELECT dashie.refresh_daily_metrics('2026-01-01', '2026-03-15');
SELECT date, dau, wau, mau, stickiness FROM dashie.engagement('2026-03-02', '2026-03-16');
-- each number is that of active_users
SELECT count(*) AS rows, count(*) FILTER (WHERE dau = dashie.active_users(date, 1) AND wau = dashie.active_users(date, 7)
	AND mau = dashie.active_users(date, 30)) AS equal
FROM dashie.engagement('2026-02-01', '2026-03-16');
-- by country: where each user is now, ZZ where nobody knows
SELECT * FROM dashie.engagement('2026-03-03', '2026-03-04', by_country => true);
SELECT * FROM dashie.engagement('2026-03-09', '2026-03-09', by_country => true);
-- a session of today that no page knows moves user 1
SELECT pg_temp.visit(1, '2026-03-16', 'JP') \g /dev/null
SELECT * FROM dashie.engagement('2026-03-09', '2026-03-09', by_country => true);
-- as does one of a device with a wrong clock
SELECT pg_temp.visit(1, '2026-04-01', 'BR') \g /dev/null
SELECT country, mau FROM dashie.engagement('2026-03-09', '2026-03-09', by_country => true);

SELECT * FROM dashie.new_vs_returning('2026-03-01', '2026-03-10');
-- 30 days of silence are not enough, 31 are
SELECT pg_temp.visit(2, '2026-02-02'), pg_temp.visit(1, '2026-02-03') \g /dev/null
UPDATE auth.users SET created_at = '2026-01-01' WHERE id = pg_temp.u(2);
SELECT * FROM dashie.new_vs_returning('2026-03-02', '2026-03-04');
UPDATE auth.users SET created_at = '2026-02-02 00:00+00' WHERE id = pg_temp.u(1);
DELETE FROM public.user_sessions WHERE user_id = pg_temp.u(1) AND started_at < '2026-03-01';
-- who signed up within the 30 days before has not been away
SELECT * FROM dashie.new_vs_returning('2026-03-04', '2026-03-04');
UPDATE auth.users SET created_at = '2026-02-01 23:59+00' WHERE id = pg_temp.u(1);
SELECT * FROM dashie.new_vs_returning('2026-03-04', '2026-03-04');
UPDATE auth.users SET created_at = '2026-03-02 00:00+00' WHERE id = pg_temp.u(2);
DELETE FROM public.user_sessions WHERE user_id = pg_temp.u(2) AND started_at < '2026-03-01';

-- Weeks begin on Monday, months are the calendar's; whole periods count; the
-- one that is not over has no row.
SELECT * FROM dashie.retention_cohorts('2026-03-04', '2026-03-10', 'week');
SELECT * FROM dashie.retention_cohorts('2026-03-08', '2026-03-09', 'day') WHERE period_number < 2;
SELECT * FROM dashie.retention_cohorts('2026-02-10', '2026-03-10', 'month');
SELECT * FROM dashie.retention_cohorts('2026-03-16', '2026-03-16', 'day');
SET dashie.now = '2026-04-01 00:00+00';
SELECT * FROM dashie.retention_cohorts('2026-02-10', '2026-03-10', 'month');
SET dashie.now = '2026-03-16 00:10+00';
SELECT dashie.refresh_daily_metrics('2026-02-01', '2026-03-15');
SELECT sum(users) AS users, (SELECT sum(new_signups) FROM public.daily_metrics WHERE date >= '2026-02-01') AS signups
FROM dashie.retention_cohorts('2026-02-01', '2026-03-15', 'day') WHERE period_number = 0;
SELECT bool_and(returning_users = n.returning) AS as_daily_metrics
FROM (SELECT date AS day, returning_users AS returning FROM dashie.new_vs_returning('2026-02-01', '2026-03-15')) n
	JOIN public.daily_metrics m ON m.date = n.day;

-- A user who leaves and rows that retention removes take nothing out of it.
CREATE TEMP TABLE before AS
	SELECT 'e' AS what, to_jsonb(e) AS row FROM dashie.engagement('2026-02-01', '2026-03-15') e
	UNION ALL SELECT 'c', to_jsonb(e) FROM dashie.engagement('2026-02-01', '2026-03-15', true) e
	UNION ALL SELECT 'n', to_jsonb(n) FROM dashie.new_vs_returning('2026-03-01', '2026-03-15') n
	UNION ALL SELECT 'r', to_jsonb(r) FROM dashie.retention_cohorts('2026-02-01', '2026-03-15', 'week') r;
CREATE VIEW pg_temp.now AS
	SELECT 'e' AS what, to_jsonb(e) AS row FROM dashie.engagement('2026-02-01', '2026-03-15') e
	UNION ALL SELECT 'c', to_jsonb(e) FROM dashie.engagement('2026-02-01', '2026-03-15', true) e
	UNION ALL SELECT 'n', to_jsonb(n) FROM dashie.new_vs_returning('2026-03-01', '2026-03-15') n
	UNION ALL SELECT 'r', to_jsonb(r) FROM dashie.retention_cohorts('2026-02-01', '2026-03-15', 'week') r;
DELETE FROM auth.users WHERE id = pg_temp.u(2);
UPDATE auth.users SET deleted_at = '2026-03-16' WHERE id = pg_temp.u(3);
TABLE pg_temp.now EXCEPT TABLE before;
SELECT dashie.refresh_daily_metrics('2026-02-01', '2026-03-15') > 0 AS computed_again;
TABLE pg_temp.now EXCEPT TABLE before;
INSERT INTO dashie.retention_floor VALUES ('user_sessions', '2026-03-12 00:00+00');
DELETE FROM public.user_sessions WHERE ended_at < '2026-03-12';
TABLE pg_temp.now EXCEPT TABLE before;
SELECT count(*) FROM before EXCEPT SELECT count(*) FROM pg_temp.now;

-- Before the first sign-up there was nobody; what retention closed before it
-- was computed is not known, nor is any window that holds it.
SELECT date, dau, wau, mau FROM dashie.engagement('2026-01-31', '2026-02-01');
DELETE FROM dashie.day_page WHERE day = '2026-03-05';
SET client_min_messages = notice;
SELECT date, dau, wau, mau, stickiness FROM dashie.engagement('2026-03-04', '2026-03-12') WHERE date NOT IN ('2026-03-07', '2026-03-08');
SELECT count(*) FILTER (WHERE active_users IS NULL) AS active, count(*) FILTER (WHERE returning_users IS NULL) AS returning,
	count(*) FILTER (WHERE resurrected_users IS NULL) AS resurrected
FROM dashie.new_vs_returning('2026-03-04', '2026-03-15');
SELECT * FROM dashie.retention_cohorts('2026-03-04', '2026-03-10', 'week');
SELECT dashie.active_users('2026-03-05', 1);
SET client_min_messages = warning;

-- Sets that no run could have written
UPDATE dashie.day_page SET active = '\x3b30000001ff7fffff01000000ffff' WHERE day = '2026-03-09';
SELECT * FROM dashie.engagement('2026-03-09', '2026-03-09');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM dashie.new_vs_returning('2026-03-09', '2026-03-09');
SELECT * FROM dashie.retention_cohorts('2026-03-09', '2026-03-09', 'day');
UPDATE dashie.day_page SET active = '\x00' WHERE day = '2026-03-09';
SELECT * FROM dashie.engagement('2026-03-09', '2026-03-09', true);
\echo :LAST_ERROR_SQLSTATE

-- Bad arguments
SELECT dashie.engagement(NULL, '2026-03-10');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.engagement('2026-03-10', NULL);
SELECT dashie.engagement('2026-03-10', '2026-03-10', NULL);
SELECT dashie.engagement('2026-03-11', '2026-03-10');
SELECT dashie.engagement('2026-03-10', '2026-03-17');
SELECT dashie.engagement('infinity', 'infinity');
SELECT dashie.engagement('-infinity', '2026-03-10');
SELECT dashie.engagement('5874897-12-31', '5874897-12-31');
SELECT dashie.engagement('4713-01-01 BC', '2026-03-10');
SELECT dashie.engagement('1998-10-30', '2026-03-16');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM dashie.engagement('1970-01-01', '1970-01-02');
SELECT dashie.new_vs_returning(NULL, '2026-03-10');
SELECT dashie.new_vs_returning('2026-03-11', '2026-03-10');
SELECT dashie.new_vs_returning('2026-03-10', '2026-03-17');
SELECT dashie.new_vs_returning('2026-03-10', 'infinity');
SELECT count(*) FROM dashie.new_vs_returning('1970-01-01', '1970-01-02');
SELECT dashie.retention_cohorts('2026-03-10', '2026-03-10', NULL);
SELECT dashie.retention_cohorts('2026-03-10', '2026-03-10', 'quarter');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.retention_cohorts('2026-03-10', '2026-03-10', '');
SELECT dashie.retention_cohorts('2026-03-11', '2026-03-10', 'day');
SELECT dashie.retention_cohorts('2026-03-10', '2026-03-17', 'day');
SELECT dashie.retention_cohorts('1970-01-01', '1970-01-02', 'month');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.retention_cohorts('infinity', 'infinity', 'day');
SELECT (dashie.engagement('2026-03-02', '2026-03-03')).dau;

SELECT dashie.disable('daily_metrics');
SELECT dashie.disable('geographic_stats');
SELECT dashie.disable('user_sessions');
DROP VIEW pg_temp.now;
DROP TABLE public.daily_metrics, public.geographic_stats, public.user_sessions CASCADE;
DROP TABLE dashie.metrics_state, dashie.user_number, dashie.user_country, dashie.dashboard_number, dashie.day_page, dashie.heartbeat_seen, dashie.retention_floor;
DELETE FROM auth.users;
