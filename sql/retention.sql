-- Retention: dashie.set_retention(), dashie.apply_retention().
SET dashie.now = '2026-03-10 12:00+00';
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;

--
-- How long
--
SELECT dashie.set_retention('system_events', '10 days');
SELECT dashie.set_retention('abuse_patterns', '1 year 2 mons 3 days');
SELECT dashie.set_retention('account_clusters', '100 years');
SELECT dashie.set_retention('feature_usage', '24:00:00');
SELECT dashie.set_retention('stripe_webhook_events', '2558 days');
TABLE dashie.retention_config ORDER BY table_name;
SELECT dashie.set_retention('account_clusters', NULL);
SELECT dashie.set_retention('abuse_patterns', NULL);
SELECT dashie.set_retention('feature_usage', NULL);
SELECT dashie.set_retention('stripe_webhook_events', NULL);
TABLE dashie.retention_config ORDER BY table_name;

-- what is no retention
SELECT dashie.set_retention('system_events', '0');
SELECT dashie.set_retention('system_events', '1 second');
SELECT dashie.set_retention('system_events', '23:59:59.999999');
SELECT dashie.set_retention('system_events', '-90 days');
SELECT dashie.set_retention('system_events', '1 mon -1 day');
SELECT dashie.set_retention('system_events', '100 years 1 day');
SELECT dashie.set_retention('system_events', '400 years');
SELECT dashie.set_retention('stripe_webhook_events', '6 years 11 mons 30 days');
SELECT dashie.set_retention('stripe_webhook_events', '2556 days');
SELECT dashie.set_retention('daily_metrics', '1 year');
SELECT dashie.set_retention('geographic_stats', '1 year');
SELECT dashie.set_retention('user_profiles', '1 year');
SELECT dashie.set_retention(NULL, '1 year');
SELECT * FROM dashie.apply_retention(NULL);
-- by hand neither
INSERT INTO dashie.retention_config VALUES ('user_sessions', '1 hour');
INSERT INTO dashie.retention_config VALUES ('users', '1 year');
UPDATE dashie.retention_config SET keep = '1 second';

--
-- Rows
--
INSERT INTO auth.users (id, email, created_at) VALUES
	('00000000-0000-0000-0000-0000000000c1', 'kept@example.org', '2025-01-01 00:00+00');
SELECT count(*) FROM dashie.enable('system_events');
SELECT count(*) FROM dashie.enable('user_sessions');
SELECT count(*) FROM dashie.enable('feature_usage');
SELECT dashie.set_retention('feature_usage', '1 mon');

-- the cutoff itself is young enough; NULL has no age
INSERT INTO public.system_events (event_type, severity, message, created_at) VALUES
	('boot', 'info', 'a microsecond too old', '2026-02-28 11:59:59.999999+00'),
	('boot', 'info', 'just young enough', '2026-02-28 12:00+00'),
	('boot', 'info', 'no date', NULL),
	('boot', 'info', 'ancient', '1999-01-01'),
	('boot', 'info', 'from the future', 'infinity');
-- a session's age counts from its end, in whole days
INSERT INTO public.user_sessions (user_id, started_at, last_activity_at, ended_at, client_key) VALUES
	('00000000-0000-0000-0000-0000000000c1', '2025-12-09 23:00+00', NULL, '2025-12-09 23:59:59+00', 'ended on the last day that goes'),
	('00000000-0000-0000-0000-0000000000c1', '2025-12-09 23:00+00', NULL, '2025-12-10 00:00+00', 'touches the first day that stays'),
	('00000000-0000-0000-0000-0000000000c1', '2025-01-01 00:00+00', '2026-03-09 00:00+00', NULL, 'a TV that runs for months'),
	('00000000-0000-0000-0000-0000000000c1', '2025-10-01 00:00+00', NULL, NULL, 'never heard of again');
-- a period is over when it resets
INSERT INTO public.feature_usage (user_id, feature_name, period_start, reset_date) VALUES
	('00000000-0000-0000-0000-0000000000c1', 'photo_uploads', '2026-01-09', '2026-02-09'),
	('00000000-0000-0000-0000-0000000000c1', 'photo_uploads', '2026-01-10', '2026-02-10');

-- the plan, whatever the session's time zone is
SET timezone = 'Pacific/Kiritimati';
SELECT table_name, action, upto AT TIME ZONE 'UTC' AS upto, rows, reason, locks, blocked_by
FROM dashie.apply_retention(dry_run => true);
SELECT count(*) FROM public.user_sessions;
-- the act
SELECT table_name, action, upto AT TIME ZONE 'UTC' AS upto, rows, reason, locks, blocked_by
FROM dashie.apply_retention();
SET timezone = 'UTC';
SELECT message FROM public.system_events ORDER BY created_at;
SELECT client_key FROM public.user_sessions ORDER BY client_key;
SELECT period_start FROM public.feature_usage;
TABLE dashie.retention_floor;
-- again: nothing is left
SELECT * FROM dashie.apply_retention();

-- a device's age counts from its last sign of life
SELECT count(*) FROM dashie.enable('dashboards');
INSERT INTO public.dashboards (user_id, device_name, created_at, last_heartbeat_at) VALUES
	('00000000-0000-0000-0000-0000000000c1', 'alive', '2024-01-01', '2026-03-10'),
	('00000000-0000-0000-0000-0000000000c1', 'silent', '2024-01-01', '2025-01-01'),
	('00000000-0000-0000-0000-0000000000c1', 'never heard of', '2024-01-01', NULL);
SELECT * FROM dashie.apply_retention();
SELECT dashie.set_retention('dashboards', '1 year');
SELECT table_name, action, upto, rows FROM dashie.apply_retention();
SELECT device_name FROM public.dashboards;
SELECT dashie.set_retention('dashboards', NULL);
SELECT dashie.disable('dashboards');
DROP TABLE public.dashboards;

-- a session's day is one of the configured zone
SELECT dashie.configure('timezone', 'America/New_York');
INSERT INTO public.user_sessions (user_id, started_at, ended_at, client_key) VALUES
	('00000000-0000-0000-0000-0000000000c1', '2025-12-09 20:00-05', '2025-12-09 23:59:59-05', 'before midnight in New York'),
	('00000000-0000-0000-0000-0000000000c1', '2025-12-09 20:00-05', '2025-12-10 00:00-05', 'at midnight in New York');
SELECT table_name, action, upto, rows FROM dashie.apply_retention();
SELECT client_key FROM public.user_sessions WHERE client_key LIKE '%New York';
SELECT dashie.configure('timezone', NULL);

-- one batch at a time, oldest first
SELECT dashie.configure('batch_rows', '2');
INSERT INTO public.system_events (event_type, severity, message, created_at)
SELECT 'boot', 'info', 'old ' || i, timestamptz '2026-01-01 00:00+00' + i * interval '1 day' FROM generate_series(1, 5) AS i;
SELECT table_name, rows FROM dashie.apply_retention();
SELECT min(message) FROM public.system_events WHERE message LIKE 'old%';
CALL dashie.run_job('apply_retention');
SELECT count(*) FROM public.system_events WHERE message LIKE 'old%';
SELECT status, rows FROM dashie.job_run WHERE name = 'apply_retention' ORDER BY id DESC LIMIT 1;
SELECT dashie.configure('batch_rows', NULL);

--
-- One table that fails does not stop the others, and the run counts as failed
--
CREATE FUNCTION public.regress_refuse() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN RAISE 'not this one' USING ERRCODE = 'raise_exception'; END$$;
CREATE TRIGGER refuse BEFORE DELETE ON public.system_events
	FOR EACH ROW EXECUTE FUNCTION public.regress_refuse();
INSERT INTO public.system_events (event_type, severity, message, created_at) VALUES ('boot', 'info', 'stuck', '2020-01-01');
INSERT INTO public.feature_usage (user_id, feature_name, period_start, reset_date) VALUES
	('00000000-0000-0000-0000-0000000000c1', 'photo_uploads', '2020-01-09', '2020-02-09');
SELECT table_name, action, rows, reason FROM dashie.apply_retention();
INSERT INTO public.feature_usage (user_id, feature_name, period_start, reset_date) VALUES
	('00000000-0000-0000-0000-0000000000c1', 'photo_uploads', '2020-01-09', '2020-02-09');
CALL dashie.run_job('apply_retention');
SELECT status, rows, sqlstate, error_message FROM dashie.job_run WHERE name = 'apply_retention' ORDER BY id DESC LIMIT 1;
SELECT count(*) FROM public.feature_usage WHERE period_start = '2020-01-09';
DROP TRIGGER refuse ON public.system_events;
DROP FUNCTION public.regress_refuse();
DELETE FROM public.system_events WHERE message = 'stuck';

--
-- Sessions wait for the metrics of their days
--
DELETE FROM dashie.retention_floor;
INSERT INTO public.user_sessions (user_id, started_at, ended_at, client_key)
SELECT '00000000-0000-0000-0000-0000000000c1', d, d + interval '1 hour', 'day ' || d::date
FROM generate_series(timestamptz '2025-12-01 10:00+00', '2025-12-05 10:00+00', '1 day') AS d;
SELECT count(*) FROM dashie.enable('daily_metrics');
-- nothing is computed yet
SELECT table_name, action, upto, rows, reason FROM dashie.apply_retention() WHERE table_name = 'user_sessions';
SELECT count(*) FROM public.user_sessions WHERE client_key LIKE 'day%';
SELECT dashie.refresh_daily_metrics('2025-01-01', '2026-03-09');
CREATE TEMP TABLE before AS SELECT * FROM public.daily_metrics;
-- a TV that is touched every minute holds nothing back
UPDATE public.user_sessions SET last_activity_at = '2026-03-10 11:59+00' WHERE client_key = 'a TV that runs for months';
SELECT table_name, action, upto, rows, reason FROM dashie.apply_retention(true) WHERE table_name = 'user_sessions';
-- a late row: its day, and those after it, wait for the next refresh
INSERT INTO public.user_sessions (user_id, started_at, ended_at, client_key) VALUES
	('00000000-0000-0000-0000-0000000000c1', '2025-12-03 22:00+00', '2025-12-03 23:00+00', 'late');
SELECT table_name, action, upto, rows, reason FROM dashie.apply_retention(true) WHERE table_name = 'user_sessions';
SELECT table_name, action, upto, rows, reason FROM dashie.apply_retention() WHERE table_name = 'user_sessions';
SELECT client_key FROM public.user_sessions WHERE client_key LIKE 'day%' OR client_key = 'late' ORDER BY started_at;
TABLE dashie.retention_floor;
SELECT dashie.refresh_daily_metrics('2025-12-03', '2026-03-09');
SELECT table_name, action, upto, rows, reason FROM dashie.apply_retention() WHERE table_name = 'user_sessions';
SELECT client_key FROM public.user_sessions WHERE client_key LIKE 'day%' OR client_key = 'late' ORDER BY started_at;
TABLE dashie.retention_floor;
-- history is what it was, but for the late row
SELECT dashie.refresh_daily_metrics('2025-12-01', '2026-03-09');
SELECT dashie.refresh_daily_metrics('2025-12-10', '2026-03-09');
SELECT m.date, b.total_sessions AS before, m.total_sessions AS after
FROM public.daily_metrics AS m JOIN before AS b USING (date)
WHERE (m.returning_users, m.total_sessions, m.avg_session_minutes)
	IS DISTINCT FROM (b.returning_users, b.total_sessions, b.avg_session_minutes);

--
-- Partitions go whole: one at a time from the function, all of them by the job
--
SET dashie.now = '2026-03-05 12:00+00';
SELECT count(*) FROM dashie.enable('widget_analytics');
SELECT min(partition), max(partition), count(*) FROM dashie.partitions;
INSERT INTO public.widget_analytics (user_id, widget_type, event_type, "timestamp")
SELECT '00000000-0000-0000-0000-0000000000c1', 'clock', 'view', t
FROM generate_series(timestamptz '2026-02-03 12:00+00', '2026-03-04 12:00+00', '1 day') AS t;
SET dashie.now = '2026-03-10 12:00+00';
-- not before its days are counted
SELECT table_name, action, upto, reason FROM dashie.apply_retention() WHERE table_name = 'widget_analytics';
SELECT dashie.refresh_event_rollups('2026-02-03', '2026-03-09');
SELECT table_name, action, upto, reason, locks, blocked_by FROM dashie.apply_retention(true) WHERE table_name = 'widget_analytics';
SELECT table_name, action, upto, reason FROM dashie.apply_retention() WHERE table_name = 'widget_analytics';
SELECT min("timestamp") FROM public.widget_analytics;
CALL dashie.run_job('apply_retention');
SELECT min("timestamp") FROM public.widget_analytics;
SELECT min(partition) FROM dashie.partitions;
SELECT * FROM dashie.apply_retention() WHERE table_name = 'widget_analytics';
SELECT dashie.disable('widget_analytics');
DROP TABLE public.widget_analytics;

-- locks: specs/retention_ingest
SELECT dashie.set_retention('system_events', NULL);
SELECT dashie.set_retention('feature_usage', NULL);
SELECT dashie.disable(t) FROM unnest('{system_events,user_sessions,feature_usage,daily_metrics}'::text[]) AS t;
DROP TABLE before;
DROP TABLE IF EXISTS dashie.event_page, dashie.retention_floor, dashie.changed_range, dashie.heartbeat_seen, dashie.day_page,
	dashie.user_number, dashie.user_country, dashie.dashboard_number, dashie.metrics_state;
DROP TABLE public.system_events, public.user_sessions, public.feature_usage, public.daily_metrics;
DELETE FROM auth.users WHERE id = '00000000-0000-0000-0000-0000000000c1';
TABLE dashie.retention_config;
DELETE FROM dashie.job_run;
UPDATE dashie.job_state SET last_started = NULL, last_finished = NULL, last_status = NULL, failures = 0, retry_at = NULL, more = false;
