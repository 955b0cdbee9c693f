-- daily_metrics, geographic_stats and active_users: each definition on rows
-- that decide it. t/060_property.pl compares them with plain SQL at random.
SET client_min_messages = warning;
SET dashie.now = '2026-03-20 00:10+00';
SET timezone = 'America/Lima';
SET datestyle = 'ISO, MDY';

CREATE FUNCTION pg_temp.u(n int) RETURNS uuid LANGUAGE sql AS
$$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;

-- Without the sources their columns are NULL, not 0.
SELECT dashie.refresh_daily_metrics('2026-03-10', '2026-03-11');
\echo :LAST_ERROR_SQLSTATE
SELECT table_name, action FROM dashie.enable('daily_metrics');
CREATE VIEW pg_temp.days AS
	SELECT date, new_signups AS signups, returning_users AS returning, active_dashboards AS dashboards,
		total_sessions AS sessions, avg_session_minutes AS minutes, trial_to_paid_conversions AS paid
	FROM public.daily_metrics ORDER BY date;
INSERT INTO auth.users (id, created_at) VALUES (pg_temp.u(1), '2026-03-10 00:00+00'), (pg_temp.u(2), '2026-03-10 23:59:59.999999+00'),
	(pg_temp.u(3), '2026-03-11 00:00+00'), (pg_temp.u(4), NULL);
INSERT INTO auth.users (id, created_at, is_anonymous) VALUES (pg_temp.u(5), '2026-03-10 12:00+00', true);
INSERT INTO auth.users (id, created_at, deleted_at) VALUES (pg_temp.u(6), '2026-03-10 12:00+00', '2026-03-11');
SELECT dashie.refresh_daily_metrics('2026-03-10', '2026-03-12');
SELECT * FROM pg_temp.days;

-- A source that is enabled later fills its column.
SELECT table_name, action FROM dashie.enable('user_sessions');
SELECT table_name, action FROM dashie.enable('stripe_webhook_events');
SELECT table_name, action FROM dashie.enable('dashboards');
SELECT table_name, action FROM dashie.enable('geographic_stats');
SELECT dashie.refresh_daily_metrics('2026-03-10', '2026-03-12');
SELECT * FROM pg_temp.days;

-- Sessions over midnight, of days, open ones, and one that ends at midnight
-- sharp and touches the new day.
INSERT INTO public.user_sessions (id, user_id, dashboard_id, started_at, ended_at, last_activity_at, country_code) VALUES
	(pg_temp.u(101), pg_temp.u(1), pg_temp.u(201), '2026-03-11 23:50+00', '2026-03-12 00:20+00', NULL, 'DE'),
	(pg_temp.u(102), pg_temp.u(2), pg_temp.u(202), '2026-03-12 10:00+00', '2026-03-15 10:00:00.5+00', NULL, NULL),
	(pg_temp.u(103), pg_temp.u(3), NULL, '2026-03-13 10:00+00', NULL, NULL, 'FR'),
	(pg_temp.u(104), pg_temp.u(3), NULL, '2026-03-13 12:00+00', NULL, '2026-03-14 12:00+00', 'US'),
	(pg_temp.u(105), pg_temp.u(4), NULL, '2026-03-16 23:00+00', '2026-03-17 00:00+00', NULL, 'XX'),
	(pg_temp.u(106), pg_temp.u(5), NULL, '2026-03-16 12:00+00', '2026-03-16 12:01+00', NULL, 'US');
SELECT dashie.refresh_daily_metrics('2026-03-10', '2026-03-19');
SELECT * FROM pg_temp.days;
-- running it twice changes nothing
SELECT dashie.refresh_daily_metrics('2026-03-10', '2026-03-19');
SELECT dashie.active_users('2026-03-19', 10) AS all_days, dashie.active_users('2026-03-12', 1) AS d12,
	dashie.active_users('2026-03-15', 1) AS d15, dashie.active_users('2026-03-17', 1) AS d17, dashie.active_users('2026-03-17', 3) AS d15_to_17;

-- ended_at set later: only the days that it changes are computed again
SET dashie.now = '2026-03-20 01:00+00';
UPDATE public.user_sessions SET ended_at = '2026-03-13 11:30+00' WHERE id = pg_temp.u(103);
SELECT dashie.refresh_daily_metrics('2026-03-10', '2026-03-19');
SELECT date, avg_session_minutes FROM public.daily_metrics WHERE created_at = '2026-03-20 01:00+00';
-- a late row, and a column that no metric reads
INSERT INTO public.user_sessions (id, user_id, started_at, ended_at) VALUES (pg_temp.u(107), pg_temp.u(1), '2026-03-18 10:00+00', '2026-03-18 10:10+00');
UPDATE public.user_sessions SET error_count = 7 WHERE id = pg_temp.u(102);
SET dashie.now = '2026-03-20 02:00+00';
SELECT dashie.refresh_daily_metrics('2026-03-10', '2026-03-19');
SELECT date, returning_users, total_sessions FROM public.daily_metrics WHERE created_at = '2026-03-20 02:00+00';

-- Conversions: the first applied trial -> paid event, at Stripe's own time.
INSERT INTO public.stripe_webhook_events (stripe_event_id, event_type, user_id, old_tier, new_tier, processing_status, event_data) VALUES
	('evt_1', 'customer.subscription.updated', pg_temp.u(1), 'trial', 'basic', 'processed', '{"created": 1773446400}'),
	('evt_2', 'customer.subscription.updated', pg_temp.u(1), 'trial', 'pro', 'processed', '{"created": 1773619200}'),
	('evt_3', 'customer.subscription.updated', pg_temp.u(2), 'basic', 'pro', 'processed', '{"created": 1773446400}'),
	('evt_4', 'customer.subscription.updated', pg_temp.u(3), 'trial', 'pro', 'failed', '{"created": 1773446400}'),
	('evt_5', 'customer.subscription.updated', pg_temp.u(5), 'trial', 'pro', 'processed', '{"created": 1773446400}');
SELECT dashie.refresh_daily_metrics('2026-03-10', '2026-03-19');
SELECT date, trial_to_paid_conversions FROM public.daily_metrics WHERE trial_to_paid_conversions > 0;

-- Heartbeats: the first one of each day counts, and is known after the next.
INSERT INTO public.dashboards (id, user_id, device_name, last_heartbeat_at) VALUES (pg_temp.u(301), pg_temp.u(1), 'TV', '2026-03-18 10:00+00');
UPDATE public.dashboards SET last_heartbeat_at = '2026-03-18 10:01+00' WHERE id = pg_temp.u(301);
UPDATE public.dashboards SET last_heartbeat_at = '2026-03-19 00:00+00' WHERE id = pg_temp.u(301);
UPDATE public.dashboards SET last_heartbeat_at = '2026-03-20 00:00+00' WHERE id = pg_temp.u(301);
SELECT count(*) AS kept FROM dashie.heartbeat_seen;
SELECT dashie.refresh_daily_metrics('2026-03-17', '2026-03-19');
SELECT date, active_dashboards FROM public.daily_metrics WHERE date >= '2026-03-17' ORDER BY date;
SELECT count(*) AS kept FROM dashie.heartbeat_seen;

-- Countries: of the latest session that has one; ZZ without; anonymous and
-- deleted users do not count.
CREATE TABLE public.user_profiles (auth_user_id uuid, tier text, tier_started_at timestamptz, tier_expires_at timestamptz, subscription_status text);
INSERT INTO public.user_profiles VALUES
	(pg_temp.u(1), 'pro', NULL, NULL, 'past_due'),
	(pg_temp.u(2), 'trial', '2026-03-06 02:00:01+00', NULL, NULL),
	(pg_temp.u(3), 'trial', '2026-03-01', '2026-03-20 02:00+00', NULL),
	(pg_temp.u(4), 'basic', NULL, NULL, 'canceled');
SELECT dashie.refresh_geographic_stats();
SELECT country_code, total_users, active_users_30d AS active, trial_users AS trial, paid_users AS paid, avg_session_duration_minutes AS minutes
FROM public.geographic_stats ORDER BY 1;
SELECT dashie.refresh_geographic_stats();
-- as of a day before: who was active in the 30 days that end with it
SELECT dashie.refresh_geographic_stats('2026-03-12');
SELECT country_code, total_users, active_users_30d AS active FROM public.geographic_stats ORDER BY 1;
-- the latest session changes its country, then is removed: the one before counts again
UPDATE public.user_sessions SET country_code = 'JP' WHERE id = pg_temp.u(104);
SELECT dashie.refresh_geographic_stats();
SELECT country_code, total_users FROM public.geographic_stats ORDER BY 1;
DELETE FROM public.user_sessions WHERE id = pg_temp.u(104);
SELECT dashie.refresh_geographic_stats();
SELECT country_code, total_users FROM public.geographic_stats ORDER BY 1;

-- A user who leaves takes nothing out of finished days, also when somebody
-- else's late row makes one of them be computed again; a row that is removed
-- while its user stays is a correction.
SELECT dashie.refresh_daily_metrics('2026-03-10', '2026-03-19');
CREATE TEMP TABLE before AS SELECT * FROM pg_temp.days;
DELETE FROM auth.users WHERE id = pg_temp.u(2);
SELECT dashie.refresh_daily_metrics('2026-03-10', '2026-03-19') > 0 AS computed_again;
SELECT * FROM pg_temp.days EXCEPT TABLE before;
INSERT INTO public.user_sessions (user_id, started_at, ended_at) VALUES (pg_temp.u(3), '2026-03-12 12:00+00', '2026-03-12 13:00+00');
SELECT dashie.refresh_daily_metrics('2026-03-10', '2026-03-19');
SELECT * FROM pg_temp.days EXCEPT TABLE before;
DELETE FROM public.user_sessions WHERE user_id = pg_temp.u(3) AND started_at = '2026-03-12 12:00+00';
SELECT dashie.refresh_daily_metrics('2026-03-10', '2026-03-19');
SELECT * FROM pg_temp.days EXCEPT TABLE before;
SELECT dashie.active_users('2026-03-12', 1) AS still_with_the_user_who_left;
-- numbers are not given again
INSERT INTO auth.users (id, created_at) VALUES (pg_temp.u(7), '2026-03-19 12:00+00');
SELECT dashie.refresh_daily_metrics('2026-03-19', '2026-03-19');
SELECT number, user_id IS NULL AS gone FROM dashie.user_number ORDER BY number;
-- marked as deleted: the day keeps them too
UPDATE auth.users SET deleted_at = '2026-03-20' WHERE id = pg_temp.u(1);
INSERT INTO public.user_sessions (user_id, started_at, ended_at) VALUES (pg_temp.u(3), '2026-03-18 12:00+00', '2026-03-18 13:00+00');
SELECT dashie.refresh_daily_metrics('2026-03-10', '2026-03-19');
SELECT * FROM pg_temp.days WHERE date = '2026-03-18';

-- Days that retention has touched are refused, and go on answering.
SELECT dashie.active_users('2026-03-16', 7);
INSERT INTO dashie.retention_floor VALUES ('user_sessions', '2026-03-15 00:00+00');
DELETE FROM public.user_sessions WHERE coalesce(ended_at, last_activity_at, started_at) < '2026-03-15';
SELECT dashie.refresh_daily_metrics('2026-03-14', '2026-03-19');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.refresh_daily_metrics('2026-03-15', '2026-03-19');
SELECT dashie.active_users('2026-03-16', 7);
SELECT dashie.refresh_geographic_stats() >= 0 AS refreshed;
SELECT country_code, total_users, active_users_30d AS active FROM public.geographic_stats ORDER BY 1;
SELECT date, total_sessions FROM public.daily_metrics WHERE date BETWEEN '2026-03-12' AND '2026-03-14' ORDER BY 1;
-- force counts what is left
SELECT dashie.refresh_daily_metrics('2026-03-13', '2026-03-13', force => true);
SELECT date, total_sessions FROM public.daily_metrics WHERE date BETWEEN '2026-03-12' AND '2026-03-14' ORDER BY 1;
-- a time zone can no longer change
SELECT dashie.configure('timezone', 'Europe/Berlin');
\echo :LAST_ERROR_SQLSTATE

-- A time zone that can change: days of 23 and 25 hours.
SELECT dashie.disable(t) FROM unnest(ARRAY['daily_metrics', 'geographic_stats', 'user_sessions', 'stripe_webhook_events', 'dashboards']) t;
DROP TABLE public.daily_metrics, public.geographic_stats, public.user_sessions, public.dashboards, public.user_profiles CASCADE;
DROP TABLE public.stripe_webhook_events;
DROP TABLE dashie.metrics_state, dashie.user_number, dashie.user_country, dashie.dashboard_number, dashie.day_page, dashie.heartbeat_seen, dashie.retention_floor;
DELETE FROM auth.users;
INSERT INTO auth.users (id, created_at) VALUES (pg_temp.u(1), '2026-01-01');
SELECT count(*) FROM dashie.enable('user_sessions');
SELECT count(*) FROM dashie.enable('daily_metrics');
CREATE VIEW pg_temp.days2 AS SELECT date, returning_users, total_sessions FROM public.daily_metrics ORDER BY date;
INSERT INTO public.user_sessions (user_id, started_at) SELECT pg_temp.u(1), t FROM generate_series('2026-03-27 23:30+00'::timestamptz, '2026-03-30', '30 min') t;
SET dashie.now = '2026-04-01 00:10+00';
SELECT dashie.refresh_daily_metrics('2026-03-27', '2026-03-30');
SELECT * FROM pg_temp.days2;
SELECT dashie.configure('timezone', 'Europe/Berlin');
SELECT dashie.refresh_daily_metrics('2026-03-27', '2026-03-30');
SELECT * FROM pg_temp.days2;

-- The page's owner can write what they like into it: an error, never a crash.
UPDATE dashie.day_page SET active = '\x00' WHERE day = '2026-03-28';
SELECT dashie.active_users('2026-03-29', 3);
\echo :LAST_ERROR_SQLSTATE
UPDATE dashie.day_page SET active = '\x3a300000010000000000ffff10000000' WHERE day = '2026-03-28';
SELECT dashie.active_users('2026-03-29', 3);
UPDATE dashie.day_page SET active = '\x3a30000000000000', entries = '\x0105' WHERE day = '2026-03-28';
SELECT dashie.refresh_daily_metrics('2026-03-28', '2026-03-28', true);
\echo :LAST_ERROR_SQLSTATE
UPDATE dashie.day_page SET entries = '\x01ffffffffffffffffff01' WHERE day = '2026-03-28';
SELECT dashie.refresh_daily_metrics('2026-03-28', '2026-03-28', true);
UPDATE dashie.day_page SET entries = '\x0100' WHERE day = '2026-03-28';
SELECT dashie.refresh_daily_metrics('2026-03-28', '2026-03-28', true);

-- Bad arguments
SELECT dashie.refresh_daily_metrics(NULL, '2026-03-28');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.refresh_daily_metrics('2026-03-28', NULL);
SELECT dashie.refresh_daily_metrics('2026-03-28', '2026-03-28', NULL);
SELECT dashie.refresh_daily_metrics('2026-03-28', '2026-03-27');
SELECT dashie.refresh_daily_metrics('2026-03-28', '2026-04-02');
SELECT dashie.refresh_daily_metrics('infinity', 'infinity');
SELECT dashie.refresh_daily_metrics('-infinity', '2026-03-27');
SELECT dashie.refresh_daily_metrics('2026-03-27', '5874897-12-31');
SELECT dashie.refresh_daily_metrics('4713-01-01 BC', '2026-03-27');
SELECT dashie.refresh_geographic_stats();
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.active_users(NULL, 1);
SELECT dashie.active_users('2026-03-28', NULL);
SELECT dashie.active_users('2026-03-28', 0);
SELECT dashie.active_users('2026-03-28', -1);
SELECT dashie.active_users('2026-03-28', 10000);
SELECT dashie.active_users('2026-04-02', 1);
SELECT dashie.active_users('infinity', 1);

SELECT dashie.disable('daily_metrics');
SELECT dashie.disable('user_sessions');
DROP TABLE public.daily_metrics, public.user_sessions CASCADE;
DROP TABLE dashie.metrics_state, dashie.user_number, dashie.user_country, dashie.dashboard_number, dashie.day_page, dashie.heartbeat_seen, dashie.retention_floor;
SELECT dashie.configure('timezone', NULL);
DELETE FROM auth.users;
