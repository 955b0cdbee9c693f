-- The product's rows up to the last day of data.sql: users, profiles, sessions.
-- Runs as superuser after data.sql, before dashie is installed:
-- user_sessions is made with the columns it has in dashie but without keys and
-- indexes, which dashie.enable() then adds to the rows, as to any table that it
-- adopts.

\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET timezone = 'UTC';

INSERT INTO auth.users (id, email, created_at, is_anonymous, deleted_at)
SELECT user_id, 'user' || number || '@example.com', signed_up_at, anonymous,
	CASE WHEN deleted THEN signed_up_at + interval '1 hour' END
FROM bench.person
ORDER BY signed_up_at;

GRANT CREATE ON SCHEMA bench TO app_owner;
SET ROLE app_owner;

-- Of 100 users 10 beta, 60 trial, 20 basic, 10 pro; some are past due or canceled.
INSERT INTO public.user_profiles (auth_user_id, email, tier, tier_started_at, subscription_status)
SELECT user_id, 'user' || number || '@example.com',
	CASE WHEN tier_share < 0.1 THEN 'beta' WHEN tier_share < 0.7 THEN 'trial' WHEN tier_share < 0.9 THEN 'basic' ELSE 'pro' END,
	signed_up_at,
	CASE WHEN tier_share < 0.1 THEN NULL WHEN tier_share < 0.7 THEN 'trialing' WHEN tier_share < 0.72 THEN 'past_due'
		WHEN tier_share < 0.75 THEN 'canceled' ELSE 'active' END
FROM bench.person
ORDER BY signed_up_at;

CREATE TABLE public.user_sessions (
	id uuid NOT NULL,
	user_id uuid NOT NULL,
	dashboard_id uuid,
	started_at timestamptz NOT NULL,
	ended_at timestamptz,
	duration_minutes integer,
	ip_address_hash text,
	user_agent text,
	country_code text,
	auth_method text,
	widgets_interacted text[],
	settings_changed boolean DEFAULT false,
	error_count integer DEFAULT 0,
	last_activity_at timestamptz,
	client_key text,
	app_version text
);
REVOKE ALL ON public.user_sessions FROM anon, authenticated, service_role;

-- The arrivals of these days, in the order in which they came
CREATE FUNCTION bench.arrive("from" date, "to" date) RETURNS void
LANGUAGE sql VOLATILE
AS $$
INSERT INTO public.user_sessions
	(id, user_id, dashboard_id, started_at, ended_at, duration_minutes, ip_address_hash, user_agent, country_code,
	 auth_method, widgets_interacted, settings_changed, error_count, last_activity_at, client_key, app_version)
SELECT id, user_id, dashboard_id, started_at, ended_at, duration_minutes, ip_address_hash, user_agent, country_code,
	auth_method, widgets_interacted, settings_changed, error_count, last_activity_at, client_key, app_version
FROM bench.sessions("from", "to")
$$;

-- Ten days a transaction, so that no large temporary file is written.
SELECT format('SELECT bench.arrive(%L, %L)', day, least(day + 9, last))
FROM (SELECT day::date, last FROM bench.parameter, generate_series(first, last, interval '10 days') AS day) AS stretch
\pset format unaligned
\pset tuples_only on
\gexec
\pset format aligned
\pset tuples_only off
ANALYZE public.user_sessions, public.user_profiles;
