-- What the metrics are, in plain SQL over all rows that ever were: the other
-- side of t/060_property.pl. It shares nothing with the C code: no marks, no
-- numbers, no pages.
--
-- A user is the account and not the id: who was deleted and signs up again
-- under the same id is another one. So each sign-up has a number of its own,
-- "inc", in auth.users as well.
SET check_function_bodies = off;
ALTER TABLE auth.users ADD COLUMN IF NOT EXISTS email text;
ALTER TABLE auth.users ADD COLUMN inc integer;
CREATE SCHEMA oracle;
-- as the last look at the accounts that were there saw them
CREATE TABLE oracle.person (inc integer PRIMARY KEY, anonymous boolean, seen boolean DEFAULT false);
CREATE TABLE oracle.sessions (id uuid PRIMARY KEY, inc integer, dashboard_id uuid, started_at timestamptz,
	ended_at timestamptz, last_activity_at timestamptz, country_code text);
CREATE TABLE oracle.heartbeat (dashboard_id uuid, inc integer, at timestamptz);
CREATE TABLE oracle.conversion (inc integer, at timestamptz);
-- what the finished days hold
CREATE TABLE oracle.entry (day date, inc integer, country text, sessions bigint, ended bigint, minutes numeric);
CREATE TABLE oracle.active (day date, inc integer, signed_up_at timestamptz);
CREATE TABLE oracle.dashboard (day date, inc integer, dashboard_id uuid);
CREATE TABLE oracle.signup (day date, inc integer);
CREATE TABLE oracle.converted (day date, inc integer);

CREATE FUNCTION oracle.start_of(d date, tz text) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
$$ SELECT d::timestamp AT TIME ZONE tz $$;
CREATE FUNCTION oracle.today(tz text) RETURNS date LANGUAGE sql STABLE AS
$$ SELECT oracle.day_of(current_setting('dashie.now')::timestamptz, tz) $$;
-- the day [start_of(d), start_of(d + 1)) of an instant: where an hour comes twice the calendar may be ahead
CREATE FUNCTION oracle.day_of(at timestamptz, tz text) RETURNS date LANGUAGE sql IMMUTABLE AS
$$ SELECT d - (at < oracle.start_of(d, tz))::int FROM (SELECT (at AT TIME ZONE tz)::date AS d) x $$;
CREATE FUNCTION oracle.covered(s oracle.sessions) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
$$ SELECT coalesce(s.ended_at, s.last_activity_at, s.started_at) $$;
CREATE FUNCTION oracle.is_there(i integer) RETURNS boolean LANGUAGE sql STABLE AS
$$ SELECT EXISTS (SELECT FROM auth.users u WHERE u.inc = i) $$;
CREATE FUNCTION oracle.counts(i integer) RETURNS boolean LANGUAGE sql STABLE AS
$$ SELECT EXISTS (SELECT FROM auth.users u WHERE u.inc = i AND u.deleted_at IS NULL) $$;

-- The finished days of [a, z] anew, from the sources that are enabled: what
-- users who are there did is replaced, what those who are not did stays.
CREATE FUNCTION oracle.compute(a date, z date, tz text, sessions boolean, dashboards boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE d date; b timestamptz; e timestamptz;
BEGIN
	FOR d IN SELECT generate_series(a, z, interval '1 day')::date LOOP
		b := oracle.start_of(d, tz); e := oracle.start_of(d + 1, tz);
		IF sessions THEN
			DELETE FROM oracle.entry t WHERE t.day = d AND oracle.is_there(t.inc);
			INSERT INTO oracle.entry SELECT d, s.inc, coalesce(nullif(s.country_code, 'XX'), 'ZZ'), count(*), count(s.ended_at),
					coalesce(sum(extract(epoch FROM s.ended_at - s.started_at) / 60), 0)
				FROM oracle.sessions s WHERE s.started_at >= b AND s.started_at < e AND oracle.is_there(s.inc) GROUP BY 2, 3;
			DELETE FROM oracle.active t WHERE t.day = d AND oracle.counts(t.inc);
			INSERT INTO oracle.active SELECT DISTINCT d, s.inc, u.created_at
				FROM oracle.sessions s JOIN auth.users u ON u.inc = s.inc
				WHERE s.started_at < e AND oracle.covered(s) >= b AND u.deleted_at IS NULL;
		END IF;
		DELETE FROM oracle.dashboard t WHERE t.day = d AND oracle.is_there(t.inc);
		INSERT INTO oracle.dashboard SELECT d, s.inc, s.dashboard_id
			FROM oracle.sessions s WHERE sessions AND s.started_at < e AND oracle.covered(s) >= b
				AND s.dashboard_id IS NOT NULL AND oracle.is_there(s.inc)
			UNION SELECT d, h.inc, h.dashboard_id FROM oracle.heartbeat h
			WHERE dashboards AND h.at >= b AND h.at < e AND oracle.is_there(h.inc);
	END LOOP;
END $$;

-- Sign-ups and conversions of all finished days, which go by users and not by
-- days; who is anonymous, and since when somebody is no new user, likewise.
CREATE FUNCTION oracle.compute_users(first date, today date, tz text, stripe boolean) RETURNS void LANGUAGE sql AS $$
	UPDATE oracle.person p SET anonymous = u.is_anonymous, seen = true FROM auth.users u
		WHERE u.inc = p.inc AND (u.deleted_at IS NULL OR NOT p.seen);
	UPDATE oracle.active a SET signed_up_at = u.created_at FROM auth.users u WHERE u.inc = a.inc AND u.deleted_at IS NULL;
	DELETE FROM oracle.signup t WHERE oracle.counts(t.inc);
	INSERT INTO oracle.signup SELECT oracle.day_of(u.created_at, tz), u.inc FROM auth.users u
		WHERE u.created_at < oracle.start_of(today, tz) AND u.is_anonymous IS NOT TRUE AND u.deleted_at IS NULL;
	DELETE FROM oracle.converted t WHERE stripe AND oracle.counts(t.inc);
	INSERT INTO oracle.converted SELECT oracle.day_of(c.at, tz), c.inc
		FROM (SELECT inc, min(at) AS at FROM oracle.conversion GROUP BY 1) c JOIN auth.users u ON u.inc = c.inc
		WHERE stripe AND c.at < oracle.start_of(today, tz) AND u.is_anonymous IS NOT TRUE AND u.deleted_at IS NULL
$$;

CREATE FUNCTION oracle.compare_daily(first date, today date, tz text, sessions boolean, dashboards boolean, stripe boolean)
RETURNS SETOF text LANGUAGE sql AS $$
	WITH expected AS (
		SELECT d::date AS date,
			(SELECT count(*) FROM oracle.signup s WHERE s.day = d)::int AS new_signups,
			CASE WHEN sessions THEN (SELECT count(*) FROM oracle.active a JOIN oracle.person p ON p.inc = a.inc
				WHERE a.day = d AND NOT p.anonymous AND a.signed_up_at < oracle.start_of(d::date, tz))::int END AS returning_users,
			CASE WHEN sessions OR dashboards THEN
				(SELECT count(DISTINCT dashboard_id) FROM oracle.dashboard b WHERE b.day = d)::int END AS active_dashboards,
			CASE WHEN sessions THEN (SELECT coalesce(sum(sessions), 0) FROM oracle.entry e WHERE e.day = d)::int END AS total_sessions,
			(SELECT round(sum(minutes) / nullif(sum(ended), 0), 2) FROM oracle.entry e WHERE e.day = d) AS avg_session_minutes,
			CASE WHEN stripe THEN (SELECT count(*) FROM oracle.converted c WHERE c.day = d)::int END AS conversions
		FROM generate_series(first, today - 1, interval '1 day') d)
	SELECT format('DIFF %s: expected %s, found %s', coalesce(x.date, m.date), x, m)
	FROM expected x FULL JOIN (SELECT date, new_signups, returning_users, active_dashboards, total_sessions,
		avg_session_minutes, trial_to_paid_conversions FROM public.daily_metrics WHERE date >= first AND date < today) m ON m.date = x.date
	WHERE (x.date, x.new_signups, x.returning_users, x.active_dashboards, x.total_sessions, x.avg_session_minutes, x.conversions)
		IS DISTINCT FROM (m.date, m.new_signups, m.returning_users, m.active_dashboards, m.total_sessions, m.avg_session_minutes,
		m.trial_to_paid_conversions)
$$;

-- Users active in a window: finished days from above, today from the rows.
CREATE FUNCTION oracle.active_in(upto date, days integer, today date, tz text, sessions boolean)
RETURNS TABLE (inc integer) LANGUAGE sql AS $$
	SELECT a.inc FROM oracle.active a JOIN oracle.person p ON p.inc = a.inc
		WHERE a.day BETWEEN upto - days + 1 AND upto AND NOT p.anonymous
	UNION SELECT s.inc FROM oracle.sessions s JOIN auth.users u ON u.inc = s.inc
		WHERE sessions AND upto >= today AND s.started_at < oracle.start_of(today + 1, tz)
		AND oracle.covered(s) >= oracle.start_of(today, tz) AND u.is_anonymous IS NOT TRUE AND u.deleted_at IS NULL
$$;

CREATE FUNCTION oracle.compare_active(upto date, days integer, today date, tz text, sessions boolean)
RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('DIFF active_users(%s, %s): expected %s, found %s', upto, days, e, f)
	FROM (SELECT (SELECT count(*) FROM oracle.active_in(upto, days, today, tz, sessions)) AS e,
		dashie.active_users(upto, days) AS f) x WHERE e <> f
$$;

-- With the tiers of public.user_profiles, where there is such a table.
CREATE FUNCTION oracle.compare_geographic(today date, tz text, sessions boolean, profiles boolean)
RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	CREATE TEMP TABLE tier (inc integer, trial boolean, paid boolean) ON COMMIT DROP;
	IF profiles THEN
		INSERT INTO tier SELECT u.inc,
			p.tier = 'trial' AND NOT coalesce(coalesce(p.tier_expires_at,
				((p.tier_started_at AT TIME ZONE tz) + interval '14 days') AT TIME ZONE tz)
				<= current_setting('dashie.now')::timestamptz, false),
			p.tier IN ('basic', 'pro') AND coalesce(p.subscription_status IN ('active', 'trialing', 'past_due'), true)
		FROM public.user_profiles p JOIN auth.users u ON u.id = p.auth_user_id;
	END IF;
	RETURN QUERY WITH country AS (
		SELECT u.inc, coalesce((SELECT s.country_code FROM oracle.sessions s WHERE sessions AND s.inc = u.inc
			AND nullif(s.country_code, 'XX') IS NOT NULL ORDER BY s.started_at DESC, s.id DESC LIMIT 1), 'ZZ') AS c
		FROM auth.users u WHERE u.is_anonymous IS NOT TRUE AND u.deleted_at IS NULL),
	durations AS (
		SELECT country AS c, sum(minutes) AS minutes, sum(ended) AS ended FROM (
			SELECT country, minutes, ended FROM oracle.entry WHERE day BETWEEN today - 29 AND today - 1
			UNION ALL SELECT coalesce(nullif(s.country_code, 'XX'), 'ZZ'),
				extract(epoch FROM s.ended_at - s.started_at) / 60, 1
			FROM oracle.sessions s WHERE sessions AND s.ended_at IS NOT NULL AND oracle.is_there(s.inc)
				AND s.started_at >= oracle.start_of(today, tz) AND s.started_at < oracle.start_of(today + 1, tz)) x GROUP BY 1),
	expected AS (
		SELECT k.c, count(*)::int AS total_users,
			CASE WHEN sessions THEN (count(*) FILTER (WHERE k.inc IN
				(SELECT i.inc FROM oracle.active_in(today, 30, today, tz, true) i)))::int END AS active,
			CASE WHEN profiles THEN (count(*) FILTER (WHERE t.trial))::int END AS trial,
			CASE WHEN profiles THEN (count(*) FILTER (WHERE t.paid))::int END AS paid,
			(SELECT round(d.minutes / nullif(d.ended, 0), 2) FROM durations d WHERE d.c = k.c) AS average
		FROM country k LEFT JOIN tier t ON t.inc = k.inc GROUP BY k.c)
	SELECT format('DIFF country %s: expected %s, found %s', coalesce(x.c, g.country_code), x, g)
	FROM expected x FULL JOIN public.geographic_stats g ON g.country_code = x.c
	WHERE (x.c, x.total_users, x.active, x.trial, x.paid, x.average) IS DISTINCT FROM (g.country_code, g.total_users,
		g.active_users_30d, g.trial_users, g.paid_users, g.avg_session_duration_minutes);
	DROP TABLE tier;
END $$;

-- Ends the session that writes the n-th row of metrics from now on, as told by
-- oracle.fate: 'cancel 3' is an error, 'terminate 1' its end, 'kill 2' kill -9.
CREATE FUNCTION oracle.meet_fate() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	fate text := split_part(current_setting('oracle.fate', true), ' ', 1);
	rows integer := nullif(split_part(current_setting('oracle.fate', true), ' ', 2), '')::integer;
BEGIN
	IF rows > 1 THEN
		PERFORM set_config('oracle.fate', fate || ' ' || rows - 1, false);
	ELSIF rows = 1 THEN
		CASE fate
			WHEN 'cancel' THEN PERFORM pg_cancel_backend(pg_backend_pid());
			WHEN 'terminate' THEN PERFORM pg_terminate_backend(pg_backend_pid());
			WHEN 'kill' THEN EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'kill -9 ' || pg_backend_pid());
		END CASE;
		PERFORM pg_sleep(60);
	END IF;
	RETURN NEW;
END $$;
