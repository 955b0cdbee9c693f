-- What dashie's metrics are compared with: the definitions in plain SQL, each
-- peer in a schema of its own.  Runs as the application's owner once the
-- sessions are loaded.
--
--   naive        each metric as one would write it first
--   best         two-level aggregation over indexes made for it, from the rows alone
--   incremental  tables of its own, in which only what changed is written
--   view         materialized views
--
-- Functions of one statement, which PostgreSQL puts in place of their call: the
-- planner sees the whole.

\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET timezone = 'UTC';
SET maintenance_work_mem = '512MB';

-- What the peers take for now, as dashie.now is for dashie
CREATE TABLE bench.clock AS SELECT (last + 1)::timestamptz + interval '10 minutes' AS now FROM bench.parameter;
CREATE FUNCTION bench.now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$SELECT now FROM bench.clock$$;
CREATE FUNCTION bench.today() RETURNS date LANGUAGE sql STABLE PARALLEL SAFE AS $$SELECT (now AT TIME ZONE 'UTC')::date FROM bench.clock$$;

-- The best that indexes can do for the peers: all of a day in the index, the
-- sessions that go over midnight in a small one, the latest country of a user.
CREATE INDEX bench_sessions_day ON public.user_sessions (started_at)
	INCLUDE (ended_at, last_activity_at, user_id, dashboard_id, country_code);
CREATE INDEX bench_sessions_midnight ON public.user_sessions (started_at)
	INCLUDE (ended_at, last_activity_at, user_id, dashboard_id, country_code)
	WHERE (coalesce(ended_at, last_activity_at, started_at) AT TIME ZONE 'UTC')::date > (started_at AT TIME ZONE 'UTC')::date;
CREATE INDEX bench_sessions_long ON public.user_sessions (started_at)
	INCLUDE (ended_at, last_activity_at, user_id, dashboard_id, country_code)
	WHERE coalesce(ended_at, last_activity_at, started_at) - started_at > interval '1 day';
CREATE INDEX bench_sessions_country ON public.user_sessions (user_id, started_at DESC, id DESC)
	INCLUDE (country_code) WHERE country_code IS NOT NULL;

CREATE SCHEMA naive;
CREATE SCHEMA best;
CREATE SCHEMA incremental;
CREATE SCHEMA view;

-- daily_metrics, one subquery a column
CREATE FUNCTION naive.daily("from" date, "to" date)
RETURNS TABLE (date date, new_signups bigint, returning_users bigint, active_dashboards bigint, total_sessions bigint,
	avg_session_minutes numeric, trial_to_paid_conversions bigint)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
SELECT d.day,
	(SELECT count(*) FROM auth.users AS u
		WHERE u.created_at >= d.day AND u.created_at < d.day + 1 AND u.is_anonymous IS NOT TRUE AND u.deleted_at IS NULL),
	(SELECT count(DISTINCT s.user_id) FROM public.user_sessions AS s JOIN auth.users AS u ON u.id = s.user_id
		WHERE s.started_at < d.day + 1 AND coalesce(s.ended_at, s.last_activity_at, s.started_at) >= d.day
			AND u.created_at < d.day AND u.is_anonymous IS NOT TRUE AND u.deleted_at IS NULL),
	(SELECT count(DISTINCT s.dashboard_id) FROM public.user_sessions AS s
		WHERE s.started_at < d.day + 1 AND coalesce(s.ended_at, s.last_activity_at, s.started_at) >= d.day),
	(SELECT count(*) FROM public.user_sessions AS s WHERE s.started_at >= d.day AND s.started_at < d.day + 1),
	(SELECT round(avg(extract(epoch FROM s.ended_at - s.started_at)) / 60, 2) FROM public.user_sessions AS s
		WHERE s.started_at >= d.day AND s.started_at < d.day + 1),
	(SELECT count(*) FROM (SELECT e.user_id, min(to_timestamp((e.event_data ->> 'created')::bigint)) AS at
			FROM public.stripe_webhook_events AS e
			WHERE e.processing_status = 'processed' AND e.old_tier = 'trial' AND e.new_tier IN ('basic', 'pro')
			GROUP BY e.user_id) AS first JOIN auth.users AS u ON u.id = first.user_id
		WHERE first.at >= d.day AND first.at < d.day + 1 AND u.is_anonymous IS NOT TRUE AND u.deleted_at IS NULL)
FROM (SELECT day::date FROM generate_series("from", "to", interval '1 day') AS day) AS d
$$;

-- geographic_stats, one aggregation a column
CREATE FUNCTION naive.geographic()
RETURNS TABLE (country_code text, total_users bigint, active_users_30d bigint, trial_users bigint, paid_users bigint,
	avg_session_duration_minutes numeric)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
WITH located AS (
	SELECT u.id, coalesce(l.country_code, 'ZZ') AS country
	FROM auth.users AS u
	LEFT JOIN (SELECT DISTINCT ON (s.user_id) s.user_id, s.country_code FROM public.user_sessions AS s
		WHERE s.country_code IS NOT NULL ORDER BY s.user_id, s.started_at DESC, s.id DESC) AS l ON l.user_id = u.id
	WHERE u.is_anonymous IS NOT TRUE AND u.deleted_at IS NULL),
total AS (SELECT country, count(*) AS users FROM located GROUP BY country),
active AS (
	SELECT l.country, count(DISTINCT s.user_id) AS users
	FROM public.user_sessions AS s JOIN located AS l ON l.id = s.user_id
	WHERE s.started_at < bench.today() + 1 AND coalesce(s.ended_at, s.last_activity_at, s.started_at) >= bench.today() - 29
	GROUP BY l.country),
tier AS (
	SELECT l.country,
		count(*) FILTER (WHERE p.tier = 'trial'
			AND coalesce(p.tier_expires_at, p.tier_started_at + interval '14 days') > bench.now()) AS trial,
		count(*) FILTER (WHERE p.tier IN ('basic', 'pro')
			AND coalesce(p.subscription_status, 'active') IN ('active', 'trialing', 'past_due')) AS paid
	FROM public.user_profiles AS p JOIN located AS l ON l.id = p.auth_user_id
	GROUP BY l.country),
duration AS (
	SELECT coalesce(s.country_code, 'ZZ') AS country, round(avg(extract(epoch FROM s.ended_at - s.started_at)) / 60, 2) AS minutes
	FROM public.user_sessions AS s
	WHERE s.started_at >= bench.today() - 29 AND s.started_at < bench.today() + 1
	GROUP BY 1)
SELECT country, total.users, coalesce(active.users, 0), coalesce(trial, 0), coalesce(paid, 0), minutes
FROM total LEFT JOIN active USING (country) LEFT JOIN tier USING (country) LEFT JOIN duration USING (country)
$$;

-- Sessions that overlap the days: those that started in them, those of the day
-- before that went over midnight, and the few of more than a day.
CREATE FUNCTION best.overlapping("from" date, "to" date) RETURNS TABLE (user_id uuid, dashboard_id uuid, country_code text)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
SELECT user_id, dashboard_id, country_code FROM public.user_sessions
WHERE started_at >= "from" AND started_at < "to" + 1
UNION ALL
SELECT user_id, dashboard_id, country_code FROM public.user_sessions
WHERE started_at >= "from"::timestamptz - interval '1 day' AND started_at < "from"
	AND (coalesce(ended_at, last_activity_at, started_at) AT TIME ZONE 'UTC')::date > (started_at AT TIME ZONE 'UTC')::date
	AND coalesce(ended_at, last_activity_at, started_at) >= "from"
UNION ALL
SELECT user_id, dashboard_id, country_code FROM public.user_sessions
WHERE started_at < "from"::timestamptz - interval '1 day'
	AND coalesce(ended_at, last_activity_at, started_at) - started_at > interval '1 day'
	AND coalesce(ended_at, last_activity_at, started_at) >= "from"
$$;

-- Distinct users and dashboards of each day first, in a hash table of that day;
-- then one join with the users.
CREATE FUNCTION best.daily("from" date, "to" date)
RETURNS TABLE (date date, new_signups bigint, returning_users bigint, active_dashboards bigint, total_sessions bigint,
	avg_session_minutes numeric, trial_to_paid_conversions bigint)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
SELECT d.day, coalesce(signup.users, 0), coalesce(returned.users, 0), dashboard.dashboards, started.sessions, started.minutes,
	coalesce(conversion.users, 0)
FROM (SELECT day::date FROM generate_series("from", "to", interval '1 day') AS day) AS d
LEFT JOIN (
	SELECT created_at::date AS day, count(*) AS users FROM auth.users
	WHERE created_at >= "from" AND created_at < "to" + 1 AND is_anonymous IS NOT TRUE AND deleted_at IS NULL
	GROUP BY 1) AS signup USING (day)
LEFT JOIN (
	SELECT at::date AS day, count(*) AS users
	FROM (SELECT user_id, min(to_timestamp((event_data ->> 'created')::bigint)) AS at FROM public.stripe_webhook_events
		WHERE processing_status = 'processed' AND old_tier = 'trial' AND new_tier IN ('basic', 'pro')
		GROUP BY user_id) AS first
	JOIN auth.users AS u ON u.id = first.user_id
	WHERE at >= "from" AND at < "to" + 1 AND is_anonymous IS NOT TRUE AND deleted_at IS NULL
	GROUP BY 1) AS conversion USING (day)
LEFT JOIN (
	SELECT active.day, count(*) AS users
	FROM (SELECT d.day, o.user_id
		FROM (SELECT day::date FROM generate_series("from", "to", interval '1 day') AS day) AS d
		CROSS JOIN LATERAL (SELECT user_id FROM best.overlapping(d.day, d.day) GROUP BY user_id) AS o) AS active
	JOIN auth.users AS u ON u.id = active.user_id
	WHERE u.created_at < active.day AND is_anonymous IS NOT TRUE AND deleted_at IS NULL
	GROUP BY active.day) AS returned USING (day)
CROSS JOIN LATERAL (
	SELECT count(*) AS dashboards
	FROM (SELECT dashboard_id FROM best.overlapping(d.day, d.day) WHERE dashboard_id IS NOT NULL GROUP BY dashboard_id) AS o) AS dashboard
CROSS JOIN LATERAL (
	SELECT count(*) AS sessions,
		round(sum((date_part('epoch', ended_at - started_at) * 1000000)::bigint) / 60000000 / nullif(count(ended_at), 0), 2) AS minutes
	FROM public.user_sessions WHERE started_at >= d.day AND started_at < d.day + 1) AS started
$$;

-- The 30 days twice over an index, once for the distinct users and once for the
-- durations; the latest country of each user by a lookup.
CREATE FUNCTION best.geographic()
RETURNS TABLE (country_code text, total_users bigint, active_users_30d bigint, trial_users bigint, paid_users bigint,
	avg_session_duration_minutes numeric)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
SELECT country, users, active, trial, paid, minutes
FROM (
	SELECT coalesce(l.country_code, 'ZZ') AS country, count(*) AS users, count(a.user_id) AS active,
		count(*) FILTER (WHERE p.tier = 'trial' AND coalesce(p.tier_expires_at, p.tier_started_at + interval '14 days')
			> bench.now()) AS trial,
		count(*) FILTER (WHERE p.tier IN ('basic', 'pro')
			AND coalesce(p.subscription_status, 'active') IN ('active', 'trialing', 'past_due')) AS paid
	FROM auth.users AS u
	LEFT JOIN public.user_profiles AS p ON p.auth_user_id = u.id
	LEFT JOIN (SELECT DISTINCT user_id FROM best.overlapping(bench.today() - 29, bench.today())) AS a ON a.user_id = u.id
	LEFT JOIN LATERAL (SELECT s.country_code FROM public.user_sessions AS s
		WHERE s.user_id = u.id AND s.country_code IS NOT NULL
		ORDER BY s.started_at DESC, s.id DESC LIMIT 1) AS l ON true
	WHERE u.is_anonymous IS NOT TRUE AND u.deleted_at IS NULL
	GROUP BY 1) AS located
LEFT JOIN (
	SELECT coalesce(country_code, 'ZZ') AS country,
		round(sum((date_part('epoch', ended_at - started_at) * 1000000)::bigint) / 60000000 / nullif(count(ended_at), 0), 2) AS minutes
	FROM public.user_sessions
	WHERE started_at >= bench.today() - 29 AND started_at < bench.today() + 1
	GROUP BY 1) AS duration USING (country)
$$;

-- What each peer fills: the roadmap's tables, without defaults and times
SELECT format('CREATE TABLE %I.daily_metrics (date date PRIMARY KEY, new_signups integer, returning_users integer,
	active_dashboards integer, total_sessions integer, avg_session_minutes numeric, trial_to_paid_conversions integer)', peer),
	format('CREATE TABLE %I.geographic_stats (country_code text PRIMARY KEY, total_users integer, active_users_30d integer,
	trial_users integer, paid_users integer, avg_session_duration_minutes numeric)', peer)
FROM unnest(ARRAY['naive', 'best', 'incremental']) AS peer
\gexec

-- The tables of "incremental": of each user the latest country and the last
-- active day, which is all that the 30 days need while rows only come; of each
-- day and country the durations.
CREATE TABLE incremental.user_state (
	user_id uuid PRIMARY KEY,
	country text,
	country_at timestamptz,
	country_session uuid,
	last_active date NOT NULL
) WITH (fillfactor = 70);
CREATE TABLE incremental.day_country (
	day date,
	country text,
	ended bigint NOT NULL,
	microseconds numeric,
	PRIMARY KEY (day, country)
);

CREATE FUNCTION incremental.changed_users("from" date)
RETURNS TABLE (user_id uuid, country text, country_at timestamptz, country_session uuid, last_active date)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
SELECT a.user_id, l.country_code, l.started_at, l.id, a.last_active
FROM (SELECT s.user_id, least(max(coalesce(s.ended_at, s.last_activity_at, s.started_at))::date, bench.today()) AS last_active
	FROM public.user_sessions AS s
	WHERE coalesce(s.ended_at, s.last_activity_at, s.started_at) >= "from" AND s.started_at < bench.today() + 1
	GROUP BY s.user_id) AS a
LEFT JOIN (SELECT DISTINCT ON (s.user_id) s.user_id, s.country_code, s.started_at, s.id
	FROM public.user_sessions AS s
	WHERE s.started_at >= "from" AND s.country_code IS NOT NULL
	ORDER BY s.user_id, s.started_at DESC, s.id DESC) AS l USING (user_id)
$$;

CREATE FUNCTION incremental.durations("from" date)
RETURNS TABLE (day date, country text, ended bigint, microseconds numeric)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
SELECT started_at::date, coalesce(country_code, 'ZZ'), count(ended_at),
	sum((date_part('epoch', ended_at - started_at) * 1000000)::bigint)
FROM public.user_sessions WHERE started_at >= "from"
GROUP BY 1, 2
$$;

CREATE FUNCTION incremental.geographic()
RETURNS TABLE (country_code text, total_users bigint, active_users_30d bigint, trial_users bigint, paid_users bigint,
	avg_session_duration_minutes numeric)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
SELECT country, users, active, trial, paid, minutes
FROM (
	SELECT coalesce(s.country, 'ZZ') AS country, count(*) AS users,
		count(*) FILTER (WHERE s.last_active >= bench.today() - 29) AS active,
		count(*) FILTER (WHERE p.tier = 'trial' AND coalesce(p.tier_expires_at, p.tier_started_at + interval '14 days') > bench.now()) AS trial,
		count(*) FILTER (WHERE p.tier IN ('basic', 'pro')
			AND coalesce(p.subscription_status, 'active') IN ('active', 'trialing', 'past_due')) AS paid
	FROM auth.users AS u
	LEFT JOIN public.user_profiles AS p ON p.auth_user_id = u.id
	LEFT JOIN incremental.user_state AS s ON s.user_id = u.id
	WHERE u.is_anonymous IS NOT TRUE AND u.deleted_at IS NULL
	GROUP BY 1) AS located
LEFT JOIN (SELECT country, round(sum(microseconds) / 60000000 / nullif(sum(ended), 0), 2) AS minutes
	FROM incremental.day_country WHERE day >= bench.today() - 29 AND day <= bench.today()
	GROUP BY country) AS duration USING (country)
$$;

-- Each peer starts with what it would have after the last night.
INSERT INTO best.daily_metrics
SELECT b.* FROM bench.parameter, best.daily(first, last) AS b;
INSERT INTO naive.daily_metrics TABLE best.daily_metrics;
INSERT INTO incremental.daily_metrics TABLE best.daily_metrics;
INSERT INTO incremental.user_state SELECT * FROM incremental.changed_users('-infinity');
INSERT INTO incremental.day_country SELECT * FROM incremental.durations('-infinity');
INSERT INTO best.geographic_stats SELECT * FROM best.geographic();
INSERT INTO naive.geographic_stats TABLE best.geographic_stats;
INSERT INTO incremental.geographic_stats SELECT * FROM incremental.geographic();

CREATE MATERIALIZED VIEW view.daily_metrics AS
SELECT b.* FROM bench.parameter, best.daily(first, bench.today() - 1) AS b;
CREATE UNIQUE INDEX ON view.daily_metrics (date);
CREATE MATERIALIZED VIEW view.geographic_stats AS SELECT * FROM best.geographic();
CREATE UNIQUE INDEX ON view.geographic_stats (country_code);
