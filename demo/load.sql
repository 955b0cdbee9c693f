-- The log as the product's rows: profiles, dashboards, sessions, widget events,
-- system events and a few Stripe events.  README.md says what stands for what.

\set end_of_log 'timestamptz ''1995-08-01 12:52:01 America/New_York'''

CREATE FUNCTION pg_temp.number_of(host text) RETURNS integer
LANGUAGE sql IMMUTABLE
AS $$SELECT ('x' || substr(md5(host), 1, 7))::bit(28)::integer$$;

CREATE FUNCTION pg_temp.country_of(host text) RETURNS text
LANGUAGE sql IMMUTABLE
AS $$
	SELECT CASE WHEN host ~ '\.[a-z][a-z]$'
		THEN replace(upper(right(host, 2)), 'UK', 'GB') END
$$;

-- Tiers: of 100 users 10 beta, 70 trial, 10 basic, 10 pro.  Of those who pay
-- some are past due, which still counts as paid, and some have canceled.
INSERT INTO public.user_profiles
	(auth_user_id, email, tier, tier_started_at, subscription_status, first_sign_in_at)
SELECT id, email,
	CASE WHEN n < 10 THEN 'beta' WHEN n < 80 THEN 'trial' WHEN n < 90 THEN 'basic' ELSE 'pro' END,
	created_at,
	CASE WHEN n < 10 THEN NULL WHEN n < 80 THEN 'trialing' WHEN n = 89 THEN 'past_due'
		WHEN n = 99 THEN 'canceled' ELSE 'active' END,
	created_at
FROM (SELECT *, pg_temp.number_of(substr(email, 6)) / 4 % 100 AS n FROM auth.users) AS users;

INSERT INTO public.dashboards (id, user_id, device_name, device_type, last_heartbeat_at, created_at, updated_at)
SELECT md5('dashboard of ' || host)::uuid, md5(host)::uuid, host, 'browser', max(at), min(at), max(at)
FROM demo.request
GROUP BY host;

-- A visit is a run of requests less than 30 minutes apart.
CREATE TEMP TABLE visit_request AS
SELECT *, md5(host || ' visit ' || count(*) FILTER (WHERE first) OVER (PARTITION BY host ORDER BY at, number))::uuid AS session_id,
	lower(coalesce(nullif(split_part(split_part(path, '?', 1), '/', 2), ''), 'home')) AS widget
FROM (SELECT *, at - lag(at) OVER (PARTITION BY host ORDER BY at, number) < interval '30 minutes' IS NOT TRUE AS first
	FROM demo.request) AS request;

INSERT INTO public.user_sessions
	(id, user_id, dashboard_id, started_at, ended_at, duration_minutes, country_code, auth_method,
	 widgets_interacted, error_count, last_activity_at, app_version)
SELECT session_id, md5(host)::uuid, md5('dashboard of ' || host)::uuid, min(at),
	CASE WHEN open THEN NULL ELSE max(at) END,
	CASE WHEN open THEN NULL ELSE floor(extract(epoch FROM max(at) - min(at)) / 60) END,
	pg_temp.country_of(host), 'web_oauth',
	array_agg(DISTINCT widget), count(*) FILTER (WHERE response >= 400), max(at), '0.3.0'
FROM (SELECT *, max(at) OVER (PARTITION BY session_id) > :end_of_log - interval '30 minutes' AS open
	FROM visit_request) AS request
GROUP BY session_id, host, open;

INSERT INTO public.widget_analytics
	(user_id, dashboard_id, session_id, widget_type, event_type, event_data, "timestamp")
SELECT md5(host)::uuid, md5('dashboard of ' || host)::uuid, session_id, widget,
	CASE method WHEN 'GET' THEN 'view' WHEN 'POST' THEN 'click' WHEN 'HEAD' THEN 'focus' END,
	jsonb_build_object('path', path, 'response', response, 'bytes', bytes), at
FROM visit_request;

INSERT INTO public.system_events
	(user_id, dashboard_id, event_type, severity, message, app_version, created_at)
SELECT md5(host)::uuid, md5('dashboard of ' || host)::uuid, 'http_' || response,
	CASE WHEN response >= 500 THEN 'error' ELSE 'warning' END,
	method || ' ' || path || ' answered ' || response, '0.3.0', at
FROM visit_request
WHERE response >= 400;

-- One user in eight of tier pro paid on this day, five minutes after the first
-- request.  Some had an event more, three days later, which is no second conversion.
INSERT INTO public.stripe_webhook_events
	(stripe_event_id, event_type, user_id, old_tier, new_tier, processed_at, event_data, processing_status, created_at)
SELECT event_id, 'customer.subscription.updated', user_id, 'trial', 'pro', at + interval '1 second',
	jsonb_build_object('id', event_id, 'object', 'event', 'type', 'customer.subscription.updated',
		'created', extract(epoch FROM at)::bigint, 'livemode', false),
	'processed', at + interval '1 second'
FROM (SELECT u.id AS user_id, r.at + interval '5 minutes' + again * interval '3 days' AS at,
		'evt_' || substr(md5(r.host), 1, 20) || again AS event_id
	FROM (SELECT host, min(at) AS at FROM demo.request GROUP BY host) AS r
	JOIN auth.users AS u ON u.id = md5(r.host)::uuid
	JOIN public.user_profiles AS p ON p.auth_user_id = u.id AND p.tier = 'pro'
	CROSS JOIN generate_series(0, 1) AS again
	WHERE pg_temp.number_of(r.host) % 8 = 1
		AND (again = 0 OR pg_temp.number_of(r.host) % 16 = 1)) AS event;

ANALYZE public.user_sessions, public.widget_analytics, public.system_events;

SELECT (SELECT count(*) FROM auth.users) AS users,
	(SELECT count(*) FROM public.dashboards) AS dashboards,
	(SELECT count(*) FROM public.user_sessions) AS sessions,
	(SELECT count(*) FROM public.user_sessions WHERE ended_at IS NULL) AS not_ended,
	(SELECT count(*) FROM public.widget_analytics) AS widget_events,
	(SELECT count(*) FROM public.system_events) AS system_events,
	(SELECT count(*) FROM public.stripe_webhook_events) AS stripe_events;
