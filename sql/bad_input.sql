-- Bad input: what each call answers, by SQLSTATE and message.
SET dashie.now = '2026-03-10 12:00+00';
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;

CREATE FUNCTION public.attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ' ' || message
		|| CASE WHEN detail = '' THEN '' ELSE E'\n  ' || replace(detail, E'\n', E'\n  ') END
		|| CASE WHEN hint = '' THEN '' ELSE E'\n  HINT ' || hint END;
END
$$;
\pset format unaligned
\pset tuples_only on
\pset footer off

--
-- Tables and phases that are not on the roadmap
--
SELECT public.attempt($$SELECT * FROM dashie.enable('user_profiles')$$);
SELECT public.attempt($$SELECT * FROM dashie.enable('')$$);
SELECT public.attempt($$SELECT * FROM dashie.enable('User_Sessions')$$);
SELECT public.attempt($$SELECT * FROM dashie.enable(6)$$);
SELECT public.attempt($$SELECT * FROM dashie.enable(-1)$$);
SELECT public.attempt($$SELECT dashie.disable('user_profiles')$$);
SELECT public.attempt($$SELECT dashie.disable('user_sessions')$$);

--
-- NULL for every argument of every function: a bad argument, or a value on purpose, never a crash
--
SELECT p.proname || '(' || pg_get_function_identity_arguments(p.oid) || '): '
	|| split_part(public.attempt(format('SELECT * FROM dashie.%I(%s)', p.proname,
		(SELECT string_agg('NULL::' || t::regtype, ', ' ORDER BY i) FROM unnest(p.proargtypes) WITH ORDINALITY AS a(t, i)))), E'\n', 1)
FROM pg_proc AS p JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'dashie'
WHERE p.prokind = 'f' AND p.pronargs > 0 AND p.prorettype <> 'trigger'::regtype
	AND NOT (ARRAY['internal', 'cstring']::regtype[]::oid[] && p.proargtypes::oid[])
ORDER BY p.proname, p.oid::regprocedure::text;
SELECT public.attempt('CALL dashie.run_job(NULL)');

--
-- Dates
--
SELECT count(*) FROM dashie.enable('daily_metrics');
SELECT count(*) FROM dashie.enable('geographic_stats');
SELECT public.attempt($$SELECT dashie.refresh_daily_metrics('2026-03-02', '2026-03-01')$$);
SELECT public.attempt($$SELECT dashie.refresh_daily_metrics('-infinity', '2026-03-01')$$);
SELECT public.attempt($$SELECT dashie.refresh_daily_metrics('2026-03-01', 'infinity')$$);
SELECT public.attempt($$SELECT dashie.refresh_daily_metrics('2026-03-01', '5874897-12-31')$$);
SELECT public.attempt($$SELECT dashie.refresh_daily_metrics('4713-01-01 BC', '2026-03-01')$$);
SELECT public.attempt($$SELECT dashie.refresh_daily_metrics('1970-01-01', '9999-12-31')$$);
SELECT public.attempt($$SELECT dashie.refresh_daily_metrics('2026-03-11', '2026-03-12')$$);
SELECT public.attempt($$SELECT dashie.refresh_geographic_stats('infinity')$$);
SELECT public.attempt($$SELECT dashie.refresh_geographic_stats('5874897-12-31')$$);
SELECT public.attempt($$SELECT dashie.refresh_geographic_stats('2026-03-11')$$);
SELECT public.attempt($$SELECT dashie.active_users('infinity', 30)$$);
SELECT public.attempt($$SELECT dashie.active_users('5874897-12-31', 30)$$);
SELECT public.attempt($$SELECT dashie.active_users('2026-03-09', 0)$$);
SELECT public.attempt($$SELECT dashie.active_users('2026-03-09', -1)$$);
SELECT public.attempt($$SELECT dashie.active_users('2026-03-09', 2147483647)$$);

--
-- Settings and time zones
--
SELECT public.attempt($$SELECT dashie.configure('colour', 'red')$$);
SELECT public.attempt($$SELECT dashie.configure('timezone', 'Mars/Olympus_Mons')$$);
SELECT public.attempt($$SELECT dashie.configure('timezone', '')$$);
SELECT public.attempt($$SELECT dashie.configure('timezone', 'right/UTC')$$);
SELECT public.attempt($$SELECT dashie.configure('batch_rows', '0')$$);
SELECT public.attempt($$SELECT dashie.configure('batch_rows', '1e3')$$);
SELECT public.attempt($$SELECT dashie.configure('batch_rows', '99999999999999999999')$$);
SELECT public.attempt($$INSERT INTO dashie.setting VALUES ('timezone', 'Mars/Olympus_Mons')$$);

--
-- Retention
--
SELECT public.attempt($$SELECT dashie.set_retention('widget_analytics', '0')$$);
SELECT public.attempt($$SELECT dashie.set_retention('widget_analytics', '-30 days')$$);
SELECT public.attempt($$SELECT dashie.set_retention('widget_analytics', '1 second')$$);
SELECT public.attempt($$SELECT dashie.set_retention('widget_analytics', '400 years')$$);
SELECT public.attempt($$SELECT dashie.set_retention('widget_analytics', '23 hours 59 minutes')$$);
SELECT public.attempt($$SELECT dashie.set_retention('stripe_webhook_events', '1 year')$$);

--
-- Jobs
--
SELECT public.attempt($$CALL dashie.run_job('make_coffee')$$);
SELECT public.attempt($$SELECT dashie.set_job('make_coffee', '* * * * *', true)$$);
SELECT cron || ': ' || public.attempt(format('SELECT dashie.set_job(%L, %L)', 'apply_retention', cron))
FROM (VALUES ('', 1), ('* * * *', 2), ('* * * * * *', 3), ('60 * * * *', 4), ('* 24 * * *', 5), ('* * 0 * *', 6),
	('* * 32 * *', 7), ('* * * 13 *', 8), ('* * * * 8', 9), ('*/0 * * * *', 10), ('5-1 * * * *', 11), ('1,, * * * *', 12),
	('a * * * *', 13), ('-1 * * * *', 14), ('99999999999 * * * *', 15), ('@fortnightly', 16), ('0 0 30 2 *', 17)) AS v(cron, i)
ORDER BY i;

--
-- Schemas
--
SELECT public.attempt($$SELECT * FROM dashie.enable('system_events', 'nowhere')$$);
SELECT public.attempt($$SELECT * FROM dashie.enable('system_events', 'my schema')$$);
CREATE SCHEMA "My Schema";
CREATE SCHEMA "it's ""quoted"", 100%";
SELECT * FROM dashie.enable('system_events', 'My Schema');
SELECT dashie.disable('system_events');
SELECT * FROM dashie.enable('system_events', 'it''s "quoted", 100%');
INSERT INTO "it's ""quoted"", 100%".system_events (event_type, severity, message, created_at) VALUES ('boot', 'info', 'old', '2020-01-01');
SELECT table_name, action, rows FROM dashie.apply_retention();
SELECT dashie.disable('system_events');
SELECT * FROM dashie.enable('user_sessions', 'My Schema');
SELECT * FROM dashie.enable('widget_analytics', 'My Schema');
SELECT dashie.close_stale_sessions();
SELECT dashie.disable('widget_analytics');
SELECT dashie.disable('user_sessions');
DROP SCHEMA "My Schema" CASCADE;
DROP SCHEMA "it's ""quoted"", 100%" CASCADE;
SELECT public.attempt($$SELECT * FROM dashie.enable('system_events', 'pg_catalog')$$);
SELECT public.attempt($$SELECT * FROM dashie.enable('system_events', 'pg_temp')$$);
SELECT public.attempt($$SELECT * FROM dashie.enable('system_events', 'dashie')$$);

--
-- A hostile search_path: nothing of what stands there runs
--
CREATE SCHEMA trap;
CREATE FUNCTION trap.spring() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE 'sprung'; END$$;
CREATE FUNCTION trap.now() RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN RAISE 'sprung'; END$$;
CREATE FUNCTION trap.coalesce_lt(timestamptz, timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE 'sprung'; END$$;
CREATE OPERATOR trap.< (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = trap.coalesce_lt);
CREATE FUNCTION trap.text_eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE 'sprung'; END$$;
CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.text_eq);
CREATE FUNCTION trap.gen_random_uuid() RETURNS uuid LANGUAGE plpgsql AS $$BEGIN RAISE 'sprung'; END$$;
CREATE VIEW trap.user_sessions AS SELECT trap.spring();
CREATE VIEW trap.enabled_table AS SELECT trap.spring();
SET search_path = trap, pg_catalog, public;
SELECT * FROM dashie.enable('user_sessions');
INSERT INTO auth.users (id) VALUES ('00000000-0000-0000-0000-0000000000e1');
INSERT INTO public.user_sessions (user_id, started_at) VALUES ('00000000-0000-0000-0000-0000000000e1', '2025-01-01');
SELECT dashie.close_stale_sessions();
SELECT dashie.refresh_daily_metrics('2025-01-01', '2026-03-09');
SELECT dashie.refresh_geographic_stats();
SELECT dashie.set_retention('user_sessions', '30 days');
SELECT dashie.configure('batch_rows', '7');
SELECT table_name, action, rows FROM dashie.apply_retention(true);
SELECT table_name, action, rows FROM dashie.apply_retention();
SELECT dashie.set_retention('user_sessions', NULL);
SELECT dashie.configure('batch_rows', NULL);
RESET search_path;
DROP SCHEMA trap CASCADE;

--
-- Tables that are not what they should be
--
SELECT dashie.disable(t) FROM unnest('{user_sessions,daily_metrics,geographic_stats}'::text[]) AS t;
DROP TABLE public.user_sessions, public.daily_metrics, public.geographic_stats;
-- the right name and the wrong shape
CREATE TABLE public.system_events (id text PRIMARY KEY, message integer);
SELECT public.attempt($$SELECT * FROM dashie.enable('system_events')$$);
DROP TABLE public.system_events;
CREATE VIEW public.system_events AS SELECT 1 AS id;
SELECT public.attempt($$SELECT * FROM dashie.enable('system_events')$$);
DROP VIEW public.system_events;
CREATE SEQUENCE public.system_events;
SELECT public.attempt($$SELECT * FROM dashie.enable('system_events')$$);
DROP SEQUENCE public.system_events;
CREATE TYPE public.system_events AS (id uuid);
SELECT public.attempt($$SELECT * FROM dashie.enable('system_events')$$);
DROP TYPE public.system_events;
-- enabled, then dropped or replaced
SELECT * FROM dashie.enable('system_events');
DROP TABLE public.system_events;
SELECT * FROM dashie.apply_retention();
CREATE VIEW public.system_events AS SELECT now() AS created_at;
SELECT action, reason FROM dashie.apply_retention();
DROP VIEW public.system_events;
SELECT dashie.disable('system_events');
-- somebody else's
CREATE ROLE regress_dashie_owner;
CREATE ROLE regress_dashie_caller;
GRANT USAGE, CREATE ON SCHEMA public TO regress_dashie_owner, regress_dashie_caller;
GRANT USAGE ON SCHEMA dashie, auth TO regress_dashie_caller, regress_dashie_owner;
GRANT SELECT, REFERENCES ON auth.users TO regress_dashie_caller, regress_dashie_owner;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dashie TO regress_dashie_caller;
GRANT ALL ON ALL TABLES IN SCHEMA dashie TO regress_dashie_caller;
SELECT * FROM dashie.enable('system_events');
ALTER TABLE public.system_events OWNER TO regress_dashie_owner;
INSERT INTO public.system_events (event_type, severity, message, created_at) VALUES ('boot', 'info', 'old', '2020-01-01');
SET ROLE regress_dashie_caller;
SELECT public.attempt($$SELECT * FROM dashie.enable('system_events')$$);
SELECT action, rows, reason FROM dashie.apply_retention();
RESET ROLE;
SELECT count(*) FROM public.system_events;
SELECT dashie.disable('system_events');
SET ROLE regress_dashie_caller;
SELECT public.attempt($$SELECT * FROM dashie.enable('system_events')$$);
RESET ROLE;
DROP TABLE public.system_events;
DROP OWNED BY regress_dashie_owner, regress_dashie_caller;
DROP ROLE regress_dashie_owner, regress_dashie_caller;

--
-- auth.users missing, or not what it should be
--
ALTER SCHEMA auth RENAME TO auth_away;
SELECT public.attempt($$SELECT * FROM dashie.enable('user_sessions')$$);
SELECT table_name, trigger_met, evidence FROM dashie.roadmap WHERE table_name = 'user_sessions';
CREATE SCHEMA auth;
SELECT public.attempt($$SELECT * FROM dashie.enable('user_sessions')$$);
CREATE TABLE auth.users (email text);
SELECT public.attempt($$SELECT * FROM dashie.enable('user_sessions')$$);
DROP TABLE auth.users;
CREATE TABLE auth.users (id bigint PRIMARY KEY);
SELECT public.attempt($$SELECT * FROM dashie.enable('user_sessions')$$);
DROP TABLE auth.users;
CREATE TABLE auth.users (id uuid);
SELECT public.attempt($$SELECT * FROM dashie.enable('user_sessions')$$);
DROP TABLE auth.users;
CREATE VIEW auth.users AS SELECT gen_random_uuid() AS id;
SELECT public.attempt($$SELECT * FROM dashie.enable('user_sessions')$$);
DROP VIEW auth.users;
-- without created_at, is_anonymous and deleted_at there are no sign-ups to count, but metrics all the same
CREATE TABLE auth.users (id uuid PRIMARY KEY);
INSERT INTO auth.users VALUES ('00000000-0000-0000-0000-0000000000e1');
DROP TABLE IF EXISTS dashie.event_page, dashie.retention_floor, dashie.changed_range, dashie.heartbeat_seen, dashie.day_page,
	dashie.user_number, dashie.user_country, dashie.dashboard_number, dashie.metrics_state;
SELECT * FROM dashie.enable('user_sessions');
SELECT * FROM dashie.enable('daily_metrics');
INSERT INTO public.user_sessions (user_id, started_at) VALUES ('00000000-0000-0000-0000-0000000000e1', '2026-03-01');
SELECT public.attempt($$SELECT dashie.refresh_daily_metrics('2026-03-01', '2026-03-01')$$);
SELECT date, new_signups, returning_users, total_sessions FROM public.daily_metrics;
SELECT dashie.disable(t) FROM unnest('{user_sessions,daily_metrics}'::text[]) AS t;
DROP TABLE public.user_sessions, public.daily_metrics;
DROP SCHEMA auth CASCADE;
ALTER SCHEMA auth_away RENAME TO auth;

--
-- A full set of partitions for another time zone, and a zone that changes under them
--
SELECT dashie.configure('timezone', 'Asia/Tokyo');
SELECT count(*) > 0 FROM dashie.enable('widget_analytics');
SELECT dashie.configure('timezone', 'America/New_York');
SELECT action, count(*), bool_and(blocked_by IS NULL) FROM dashie.maintain_partitions() GROUP BY action ORDER BY action;
-- every instant has a partition, and no two overlap
WITH bounds AS (
	SELECT (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.*?)''\) TO'))[1]::timestamptz AS lower,
		(regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''(.*?)''\)'))[1]::timestamptz AS upper
	FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = 'public.widget_analytics'::regclass)
SELECT min(lower) <= timestamptz '2026-03-10 12:00+00' - interval '30 days' AS back,
	max(upper) >= timestamptz '2026-03-10 12:00+00' + interval '7 days' AS ahead,
	bool_and(upper = next OR next IS NULL) AS no_gap
FROM (SELECT lower, upper, lead(lower) OVER (ORDER BY lower) AS next FROM bounds) AS b;
--
-- Questions about events
--
SELECT public.attempt($$SELECT * FROM dashie.widget_popularity('2026-03-09', '2026-03-08')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_popularity('2026-03-01', '2026-03-11')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_popularity('-infinity', '2026-03-09')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_popularity('2010-01-01', '2026-03-09')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_popularity('2026-03-01', '12026-03-01')$$);
SELECT public.attempt($$SELECT * FROM dashie.event_counts('2026-03-01', '2026-03-09', 'year')$$);
SELECT public.attempt($$SELECT * FROM dashie.event_counts('2026-03-01', '2026-03-09', '')$$);
SELECT public.attempt($$SELECT * FROM dashie.event_counts('2026-03-01', '2026-03-11', 'day')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_compare('clock', '2026-03-02', '2026-03-01', '2026-03-03', '2026-03-04')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_compare('clock', '2026-03-01', '2026-03-02', '2026-03-04', '2026-03-03')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_compare('clock', '2026-03-01', '2026-03-04', '2026-03-04', '2026-03-09')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_compare('clock', '2026-03-01', '2026-03-02', '2026-03-04', '2026-03-11')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_compare('clock', '2026-03-01', '2026-03-02', '2026-03-04', NULL)$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_compare('', '2026-03-01', '2026-03-02', '2026-03-04', '2026-03-05')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_funnel('{}', '1 day', '2026-03-01', '2026-03-09')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_funnel('{clock,NULL}', '1 day', '2026-03-01', '2026-03-09')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_funnel('{clock,""}', '1 day', '2026-03-01', '2026-03-09')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_funnel('{":click"}', '1 day', '2026-03-01', '2026-03-09')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_funnel('{{a,b},{c,d}}', '1 day', '2026-03-01', '2026-03-09')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_funnel(array_fill('clock'::text, '{33}'), '1 day', '2026-03-01', '2026-03-09')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_funnel(array_fill('clock'::text, '{32}'), '1 day', '2026-03-01', '2026-03-09')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_funnel('{clock}', '0', '2026-03-01', '2026-03-09')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_funnel('{clock}', '-1 day', '2026-03-01', '2026-03-09')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_funnel('{clock}', '1 day -24 hours', '2026-03-01', '2026-03-09')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_funnel('{clock}', '10000 years', '2026-03-01', '2026-03-09')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_funnel('{clock}', '170000000 years', '2026-03-01', '2026-03-09')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_funnel('{clock}', '1 day', '2026-03-09', '2026-03-01')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_funnel('{clock}', '1 day', '2026-03-01', '2026-03-11')$$);
SELECT public.attempt($$SELECT * FROM dashie.widget_funnel('{clock}', '1 day', '2000-01-01', '2009-01-01')$$);
SELECT public.attempt($$SELECT dashie.refresh_event_rollups('2026-03-09', '2026-03-08')$$);
SELECT public.attempt($$SELECT dashie.refresh_event_rollups('2026-03-09', '2026-03-11')$$);
SELECT public.attempt($$SELECT dashie.refresh_event_rollups('2026-03-09', '2026-03-09', NULL)$$);

SELECT dashie.configure('timezone', NULL);
SELECT dashie.disable(t) FROM unnest('{widget_analytics,user_sessions}'::text[]) AS t;
DROP TABLE public.widget_analytics, public.user_sessions;
DELETE FROM auth.users WHERE id = '00000000-0000-0000-0000-0000000000e1';
DROP TABLE IF EXISTS dashie.event_page, dashie.retention_floor, dashie.changed_range, dashie.heartbeat_seen, dashie.day_page,
	dashie.user_number, dashie.user_country, dashie.dashboard_number, dashie.metrics_state;
DROP FUNCTION public.attempt(text);
