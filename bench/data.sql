-- The traffic of a product of many households, the same in every run: schema
-- bench with who there is (bench.person) and a function that makes the rows of
-- user_sessions which arrived on given days.  Everything comes from hashes of a
-- number and the seed; nothing is random.  Runs as superuser in a database that
-- has auth.users and user_profiles (demo/world.sql).
--
--   psql -v sessions=5000000 -v users=200000 -v days=90 -v seed=1 -v last=2026-03-31 -f bench/data.sql
--
-- sessions are spread over the days up to last.  Days after it have traffic
-- too, at the same rate: they are the new days that a night brings.
--
--   SELECT * FROM bench.sessions('2026-01-01', '2026-03-31')
--
-- What is in it:
--   * users: a few use their dashboard ten times a day, most twice a week;
--     60% were there before the first day, the others sign up over the days;
--     30% stop at some day. 1% are anonymous, 0.5% are marked as deleted.
--   * time: hours with a morning and an evening peak, more on weekends.
--   * length: half an hour typically, hours often (many go over midnight); 3 in
--     1,000 run for one to ten days: TVs. 1.5% never ended.
--   * countries: 30, the first with a fifth of the users. 3% of the users
--     moved, 2% of the sessions are abroad, 1% have none.
--   * late: 5% arrive up to 48 hours after they began.

\set ON_ERROR_STOP on
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS bench CASCADE;
CREATE SCHEMA bench;
GRANT USAGE ON SCHEMA bench TO PUBLIC;

CREATE TABLE bench.parameter AS
SELECT :sessions::bigint AS sessions, :users AS users, :days AS days, :seed AS seed, :'last'::date AS last,
	(:'last'::date - :days + 1) AS first;

-- bench.share(number, stream): a fraction in [0, 1), even and independent for each stream
SELECT format('CREATE FUNCTION bench.share(number bigint, stream bigint) RETURNS double precision
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	AS ''SELECT (hashint8extended(number, stream + %s) & 9007199254740991) / 9007199254740992.0::double precision''',
	:seed * 1000)
\gexec

-- Arrivals of each day, and those before it: 1.25 times as many on weekends.
CREATE TABLE bench.day AS
SELECT day, weight, arrivals, (sum(arrivals) OVER (ORDER BY day))::bigint - arrivals AS before
FROM (SELECT *, round((SELECT sessions FROM bench.parameter) * weight
		/ sum(weight) FILTER (WHERE day <= (SELECT last FROM bench.parameter)) OVER ())::bigint AS arrivals
	FROM (SELECT d::date AS day, CASE WHEN extract(isodow FROM d) >= 6 THEN 1.25 ELSE 1 END AS weight
		FROM bench.parameter, generate_series(first, last + 60, interval '1 day') AS d) AS weekly) AS weighted;

-- Of a thousand arrivals, how many came before each hour
CREATE FUNCTION bench.hour_curve() RETURNS double precision[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$SELECT ARRAY[0, 20, 34, 43, 50, 58, 74, 112, 168, 216, 250, 280, 314, 350, 382, 412, 448,
	498, 566, 646, 734, 818, 892, 954, 1000]::double precision[]$$;

-- Of 30 countries number n is drawn nearly in proportion to 1 / n.
CREATE FUNCTION bench.country_of(share double precision) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$SELECT ('{US,GB,DE,CA,FR,AU,NL,IT,ES,SE,BR,PL,JP,CH,AT,BE,NO,DK,IE,NZ,FI,PT,CZ,IN,MX,ZA,SG,IL,KR,GR}'::text[])
	[floor(power(31, share))::integer]$$;

-- Everybody.  Days count from the first day of the traffic; number 0 is the
-- user with the most sessions, and those who sign up are spread over all.
CREATE TABLE bench.person AS
SELECT number, md5('user ' || number || ' ' || seed)::uuid AS user_id,
	signup_day, first + signup_day * interval '1 day' + bench.share(number, 2) * interval '1 day' AS signed_up_at,
	CASE WHEN bench.share(number, 3) < 0.3 THEN (bench.share(number, 4) * days)::integer END AS stop_day,
	bench.country_of(bench.share(number, 5)) AS country,
	CASE WHEN bench.share(number, 6) < 0.03 THEN (bench.share(number, 7) * days)::integer END AS move_day,
	bench.country_of(bench.share(number, 8)) AS country_after,
	CASE WHEN bench.share(number, 9) < 0.85 THEN 1 WHEN bench.share(number, 9) < 0.97 THEN 2 ELSE 3 END AS dashboards,
	bench.share(number, 10) < 0.01 AS anonymous,
	bench.share(number, 11) < 0.005 AS deleted,
	bench.share(number, 12) AS tier_share,
	encode(sha256(convert_to('ip ' || number || ' ' || seed, 'UTF8')), 'hex') AS ip_address_hash,
	CASE (bench.share(number, 13) * 4)::integer
		WHEN 0 THEN 'Mozilla/5.0 (Linux; Android 9; AFTMM Build/PS7285) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36'
		WHEN 1 THEN 'Mozilla/5.0 (Linux; Android 12; BRAVIA 4K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/118.0 Safari/537.36'
		WHEN 2 THEN 'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Safari/605.1.15'
		ELSE 'Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/121.0.0.0 Safari/537.36'
	END AS user_agent
FROM (SELECT number, seed, first, days, CASE WHEN bench.share(number, 0) < 0.6 THEN -1 - (bench.share(number, 1) * 700)::integer
		ELSE (bench.share(number, 1) * days)::integer END AS signup_day
	FROM bench.parameter, generate_series(0, users - 1) AS number) AS person;
ALTER TABLE bench.person ADD PRIMARY KEY (number);
ANALYZE bench.person, bench.day, bench.parameter;

-- The rows of user_sessions that arrived on these days, in the order of arrival.  The
-- OFFSETs keep PostgreSQL from writing one step out in each use by the next.
-- A user is drawn by (rank + 500) ^ -0.75; who has not signed up yet, or has
-- stopped, gives the session to somebody else who was there from the start.
CREATE FUNCTION bench.sessions("from" date, "to" date)
RETURNS TABLE (id uuid, user_id uuid, dashboard_id uuid, started_at timestamptz, ended_at timestamptz,
	duration_minutes integer, ip_address_hash text, user_agent text, country_code text, auth_method text,
	widgets_interacted text[], settings_changed boolean, error_count integer, last_activity_at timestamptz,
	client_key text, app_version text, arrived_at timestamptz)
LANGUAGE sql STABLE
SET timezone = 'UTC'
SET work_mem = '512MB'
SET max_parallel_workers_per_gather = 0
SET enable_mergejoin = off
SET enable_nestloop = off
SET jit = off
AS $$
WITH parameter AS MATERIALIZED (
	SELECT *, power(500, 0.25) AS low, power(users + 500, 0.25) AS high FROM bench.parameter),
somebody AS MATERIALIZED (
	SELECT array_agg(number ORDER BY number) AS numbers FROM bench.person WHERE signup_day < 0 AND stop_day IS NULL),
arrival AS (
	SELECT d.before + n AS session, d.day, d.day - p.first AS day_number,
		bench.hour_curve() AS curve, (n + bench.share(d.before + n, 20)) * 1000 / d.arrivals AS place,
		least(power(low + bench.share(d.before + n, 21) * (high - low), 4) - 500, users - 1)::integer AS drawn
	FROM parameter AS p, bench.day AS d, generate_series(0, d.arrivals - 1) AS n
	WHERE d.day BETWEEN "from" AND "to" OFFSET 0),
moment AS (
	SELECT session, day_number, day + interval '1 hour' * (hour - 1
			+ (place - curve[hour]) / (curve[hour + 1] - curve[hour])) AS arrived_at, drawn
	FROM (SELECT *, least(width_bucket(place, curve), 24) AS hour FROM arrival OFFSET 0) AS a OFFSET 0),
owned AS (
	SELECT session, day_number, arrived_at::timestamptz AS arrived_at,
		CASE WHEN p.signup_day >= day_number OR p.stop_day <= day_number
			THEN numbers[1 + floor(bench.share(session, 22) * cardinality(numbers))::integer] ELSE drawn END AS number
	FROM moment CROSS JOIN somebody JOIN bench.person AS p ON p.number = drawn OFFSET 0),
lasting AS (
	SELECT session, day_number, number, arrived_at,
		arrived_at - CASE WHEN bench.share(session, 23) < 0.05
			THEN interval '48 hours' * power(bench.share(session, 24), 2) ELSE interval '0' END AS started_at,
		CASE WHEN bench.share(session, 25) < 0.003
			THEN interval '1 day' * (1 + 9 * bench.share(session, 26))
			ELSE interval '1 minute' * exp(3.2 + 1.9 * (bench.share(session, 26) + bench.share(session, 27)
				+ bench.share(session, 28) + bench.share(session, 29) - 2)) END AS lasted,
		bench.share(session, 30) AS open
	FROM owned OFFSET 0)
SELECT md5('session ' || session || ' ' || seed)::uuid, p.user_id,
	md5('dashboard ' || p.number || ' ' || floor(bench.share(session, 31) * p.dashboards) || ' ' || seed)::uuid,
	started_at, CASE WHEN open >= 0.015 THEN started_at + lasted END,
	CASE WHEN open >= 0.015 THEN floor(extract(epoch FROM lasted) / 60)::integer END,
	p.ip_address_hash, p.user_agent,
	CASE WHEN bench.share(session, 32) < 0.01 THEN NULL
		WHEN bench.share(session, 32) < 0.03 THEN bench.country_of(bench.share(session, 33))
		WHEN p.move_day <= day_number THEN p.country_after ELSE p.country END,
	CASE WHEN bench.share(session, 34) < 0.2 THEN 'web_oauth' WHEN bench.share(session, 34) < 0.6 THEN 'device_flow'
		ELSE 'hybrid_device_flow' END,
	CASE WHEN bench.share(session, 35) < 0.5 THEN '{clock,agenda}'::text[]
		WHEN bench.share(session, 35) < 0.8 THEN '{clock,agenda,photos,weather}' ELSE '{photos}' END,
	bench.share(session, 36) < 0.02, CASE WHEN bench.share(session, 37) < 0.03 THEN 1 ELSE 0 END,
	CASE WHEN open >= 0.005 THEN started_at + lasted END,
	's' || session, CASE WHEN bench.share(session, 38) < 0.8 THEN '0.3.0' ELSE '0.2.9' END, arrived_at
FROM lasting JOIN bench.person AS p USING (number) CROSS JOIN parameter
$$;

GRANT SELECT ON ALL TABLES IN SCHEMA bench TO PUBLIC;
