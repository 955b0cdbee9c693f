-- Every number in demo.shown, computed once more without dashie: from the log
-- itself, auth.users, user_profiles and the Stripe events.  None of dashie's
-- functions and tables is read; sessions are cut in another way than in
-- load.sql.  Slow and plain on purpose.

SET timezone = 'America/New_York';

-- A session starts with a request that follows none of the same host within 30
-- minutes, and ends with the last request before the next start.
CREATE TEMP TABLE moment AS SELECT DISTINCT host, at FROM demo.request;
CREATE INDEX ON moment (host, at);
ANALYZE moment;
CREATE TEMP TABLE start AS
SELECT host, at FROM moment
WHERE NOT EXISTS (SELECT FROM moment AS earlier
	WHERE earlier.host = moment.host AND earlier.at < moment.at
		AND earlier.at > moment.at - interval '30 minutes');
CREATE TEMP TABLE session AS
SELECT start.host, start.at AS started,
	(SELECT max(moment.at) FROM moment
		WHERE moment.host = start.host AND moment.at >= start.at
			AND NOT EXISTS (SELECT FROM start AS next
				WHERE next.host = start.host AND next.at > start.at AND next.at <= moment.at)) AS ended
FROM start;

-- One row a host: its country, sign-up, tier
CREATE TEMP TABLE person AS
SELECT host,
	CASE WHEN host ~ '\.uk$' THEN 'GB'
		WHEN split_part(reverse(host), '.', 1) ~ '^[a-z]{2}$' AND host LIKE '%.%'
		THEN upper(reverse(split_part(reverse(host), '.', 1)))
		ELSE 'ZZ' END AS country,
	auth.users.created_at AS signed_up, tier, subscription_status AS status,
	coalesce(tier_expires_at, tier_started_at + interval '14 days') AS trial_ends
FROM (SELECT DISTINCT host FROM demo.request) AS h
JOIN auth.users ON email = 'user@' || host
JOIN public.user_profiles ON auth_user_id = auth.users.id;

CREATE TEMP TABLE conversion AS
SELECT user_id, min(to_timestamp((event_data ->> 'created')::bigint)) AS at
FROM public.stripe_webhook_events
WHERE processing_status = 'processed' AND old_tier = 'trial' AND new_tier IN ('basic', 'pro')
GROUP BY user_id;

CREATE TEMP TABLE expected AS
WITH shown AS (SELECT DISTINCT clock, source, key FROM demo.shown),
day AS (
	SELECT clock, key, key::date AS d, key::date::timestamptz AS "from", (key::date + 1)::timestamptz AS upto
	FROM shown WHERE source = 'daily_metrics'),
country AS (
	SELECT clock, key, split_part(key, ' ', 1) AS c, right(key, 10)::date AS as_of,
		(right(key, 10)::date - 29)::timestamptz AS "from", (right(key, 10)::date + 1)::timestamptz AS upto
	FROM shown WHERE source = 'geographic_stats'),
asked AS (
	SELECT clock, key, (split_part(key, ' ', 1)::date - split_part(key, ' ', 3)::integer + 1)::timestamptz AS "from",
		(split_part(key, ' ', 1)::date + 1)::timestamptz AS upto
	FROM shown WHERE source = 'active_users'),
night AS (SELECT clock, key, clock::date AS today FROM shown WHERE source = 'rows')
SELECT clock, 'daily_metrics' AS source, key, metric, value
FROM day CROSS JOIN LATERAL (VALUES
	('new_signups', (SELECT count(*) FROM person WHERE signed_up >= "from" AND signed_up < upto)),
	('returning_users', (SELECT count(DISTINCT host) FROM session JOIN person USING (host)
		WHERE started < upto AND ended >= "from" AND signed_up < "from")),
	('active_dashboards', (SELECT count(DISTINCT host) FROM session WHERE started < upto AND ended >= "from")),
	('total_sessions', (SELECT count(*) FROM session WHERE started >= "from" AND started < upto)),
	('avg_session_minutes', (SELECT round(avg(extract(epoch FROM ended - started)) / 60, 2)
		FROM session WHERE started >= "from" AND started < upto)),
	('trial_to_paid_conversions', (SELECT count(*) FROM conversion WHERE at >= "from" AND at < upto))
) AS computed (metric, value)
UNION ALL
SELECT clock, 'geographic_stats', key, metric, value
FROM country CROSS JOIN LATERAL (VALUES
	('total_users', (SELECT count(*) FROM person WHERE country = c)),
	('active_users_30d', (SELECT count(*) FROM person WHERE country = c
		AND host IN (SELECT host FROM session WHERE started < upto AND ended >= "from"))),
	('trial_users', (SELECT count(*) FROM person WHERE country = c AND tier = 'trial' AND trial_ends > clock)),
	('paid_users', (SELECT count(*) FROM person WHERE country = c AND tier IN ('basic', 'pro')
		AND coalesce(status, 'active') IN ('active', 'trialing', 'past_due'))),
	('avg_session_duration_minutes', (SELECT round(avg(extract(epoch FROM ended - started)) / 60, 2)
		FROM session JOIN person USING (host) WHERE country = c AND started >= "from" AND started < upto))
) AS computed (metric, value)
UNION ALL
SELECT clock, 'active_users', key, 'users',
	(SELECT count(DISTINCT host) FROM session WHERE started < upto AND ended >= "from")
FROM asked
UNION ALL
SELECT clock, 'rows', key, metric, value
FROM night CROSS JOIN LATERAL (VALUES
	('user_sessions', (SELECT count(*) FROM session WHERE ended >= clock - interval '90 days')),
	('widget_analytics', (SELECT count(*) FROM demo.request WHERE (at::date + 1)::timestamptz > clock - interval '30 days')),
	('system_events', (SELECT count(*) FROM demo.request WHERE response >= 400 AND at >= clock - interval '90 days')),
	('partitions', (clock + interval '7 days')::date - (clock - interval '30 days')::date + 1)
) AS computed (metric, value);

-- A country that was left out, or that nobody is in, is a difference too.
INSERT INTO expected
SELECT clock, 'geographic_stats', country || substr(any_key, 3), 'total_users', count(*)
FROM person
CROSS JOIN (SELECT clock, min(key) AS any_key FROM demo.shown WHERE source = 'geographic_stats'
	GROUP BY clock, right(key, 10)) AS printed
WHERE NOT EXISTS (SELECT FROM demo.shown AS s WHERE s.clock = printed.clock AND s.key = country || substr(any_key, 3))
GROUP BY clock, country, any_key;

CREATE TEMP TABLE comparison AS
SELECT number, clock, source, key, metric, s.value AS shown, e.value AS computed,
	number IS NOT NULL AND s.value IS NOT DISTINCT FROM e.value AS equal
FROM demo.shown AS s
FULL JOIN expected AS e USING (clock, source, key, metric);

\pset tuples_only on
\pset format unaligned
SELECT concat_ws(' ', CASE WHEN equal THEN 'ok     ' ELSE 'DIFFERS' END, to_char(clock, 'DD Mon'), source, key, metric,
	coalesce(shown::text, 'NULL'), CASE WHEN equal THEN '=' ELSE '<>' END, coalesce(computed::text, 'NULL'))
FROM comparison
ORDER BY number;
SELECT CASE WHEN count(*) = 0 THEN 'nothing was compared'
	WHEN bool_and(equal) THEN 'all ' || count(*) || ' equal'
	ELSE count(*) FILTER (WHERE NOT equal) || ' of ' || count(*) || ' DIFFER' END
FROM comparison;
