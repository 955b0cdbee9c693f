-- What the rollups of events are, in plain SQL over the rows that are there,
-- whenever dashie has been asked to: the other side of t/062_events.pl.
SET check_function_bodies = off;
CREATE SCHEMA oracle;
-- as the last look at the accounts that were there saw them
CREATE TABLE oracle.person (id uuid PRIMARY KEY, anonymous boolean, seen boolean DEFAULT false);
-- what the finished days hold
CREATE TABLE oracle.entry (day date, user_id uuid, widget text, type text, events bigint, seconds bigint);
CREATE TABLE oracle.member (day date, user_id uuid, widget text);

CREATE FUNCTION oracle.start_of(d date, tz text) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
$$ SELECT d::timestamp AT TIME ZONE tz $$;
CREATE FUNCTION oracle.today(tz text) RETURNS date LANGUAGE sql STABLE AS
$$ SELECT (current_setting('dashie.now')::timestamptz AT TIME ZONE tz)::date $$;
-- the first day that has lost no events to retention
CREATE FUNCTION oracle.first_open(tz text) RETURNS date LANGUAGE sql STABLE AS
$$ SELECT coalesce(max((removed_before AT TIME ZONE tz)::date), '1970-01-01') FROM dashie.retention_floor WHERE table_name = 'widget_analytics' $$;
-- the first day that has a partition
CREATE FUNCTION oracle.first_kept(tz text) RETURNS date LANGUAGE sql STABLE AS
$$ SELECT greatest(oracle.first_open(tz), (min(lower_bound) AT TIME ZONE tz)::date) FROM dashie.partitions $$;

-- Days anew: what users who are there did is replaced, what those who are not did stays.
CREATE FUNCTION oracle.compute(a date, z date, tz text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE d date; b timestamptz; e timestamptz;
BEGIN
	UPDATE oracle.person p SET anonymous = u.is_anonymous, seen = true FROM auth.users u
		WHERE u.id = p.id AND (u.deleted_at IS NULL OR NOT p.seen);
	FOR d IN SELECT generate_series(greatest(a, oracle.first_open(tz)), z, interval '1 day')::date LOOP
		b := oracle.start_of(d, tz); e := oracle.start_of(d + 1, tz);
		DELETE FROM oracle.entry t WHERE t.day = d AND EXISTS (SELECT FROM auth.users u WHERE u.id = t.user_id);
		INSERT INTO oracle.entry SELECT d, user_id, widget_type, event_type, count(*), coalesce(sum(duration_seconds), 0)
			FROM public.widget_analytics WHERE "timestamp" >= b AND "timestamp" < e GROUP BY 2, 3, 4;
		DELETE FROM oracle.member t WHERE t.day = d AND EXISTS (SELECT FROM auth.users u WHERE u.id = t.user_id AND u.deleted_at IS NULL);
		INSERT INTO oracle.member SELECT DISTINCT d, user_id, widget_type
			FROM public.widget_analytics w JOIN auth.users u ON u.id = w.user_id AND u.deleted_at IS NULL
			WHERE "timestamp" >= b AND "timestamp" < e;
	END LOOP;
END $$;

-- Rows of what differs, of [a, z].
CREATE FUNCTION oracle.popularity(a date, z date) RETURNS SETOF text LANGUAGE sql AS $$
WITH expected AS (
	SELECT widget, (SELECT count(DISTINCT m.user_id) FROM oracle.member m JOIN oracle.person p ON p.id = m.user_id AND NOT p.anonymous
			WHERE m.widget = w.widget AND m.day BETWEEN a AND z) AS users, coalesce(sum(events), 0) AS events,
		coalesce(sum(events) FILTER (WHERE type = 'view'), 0) AS views, coalesce(sum(events) FILTER (WHERE type = 'click'), 0) AS clicks,
		coalesce(sum(events) FILTER (WHERE type = 'configure'), 0) AS configures, coalesce(sum(events) FILTER (WHERE type = 'focus'), 0) AS focuses,
		coalesce(sum(events) FILTER (WHERE type = 'active'), 0) AS actives, coalesce(sum(seconds), 0) AS seconds
	FROM (SELECT widget, type, events, seconds FROM oracle.entry WHERE day BETWEEN a AND z
		UNION ALL SELECT widget, NULL, 0, 0 FROM oracle.member WHERE day BETWEEN a AND z) w GROUP BY widget)
SELECT format('popularity %s to %s: expected %s, found %s', a, z, e, p) FROM expected e FULL JOIN dashie.widget_popularity(a, z) p ON p.widget_type = e.widget
WHERE (e.users, e.events, e.views, e.clicks, e.configures, e.focuses, e.actives, e.seconds)
	IS DISTINCT FROM (p.users, p.events, p.views, p.clicks, p.configures, p.focuses, p.actives, p.seconds)
$$;
CREATE FUNCTION oracle.days(a date, z date) RETURNS SETOF text LANGUAGE sql AS $$
SELECT format('day %s: expected %s events %s users %s seconds, found %s', d.date, e.events, m.users, e.seconds, c)
FROM (SELECT generate_series(a, z, interval '1 day')::date AS date) d
	LEFT JOIN dashie.event_counts(a, z, 'day') c ON c.key = d.date::text,
	LATERAL (SELECT coalesce(sum(events), 0) AS events, coalesce(sum(seconds), 0) AS seconds FROM oracle.entry WHERE day = d.date) e,
	LATERAL (SELECT count(DISTINCT user_id) AS users FROM oracle.member JOIN oracle.person p ON p.id = user_id AND NOT p.anonymous WHERE day = d.date) m
WHERE (e.events, m.users, e.seconds) IS DISTINCT FROM (c.events, c.users, c.seconds)
$$;
CREATE FUNCTION oracle.types(a date, z date) RETURNS SETOF text LANGUAGE sql AS $$
SELECT format('type %s: expected %s events %s users %s seconds, found %s', c.key, e.events, e.users, e.seconds, c)
FROM dashie.event_counts(a, z, 'event_type') c,
	LATERAL (SELECT coalesce(sum(events), 0) AS events, coalesce(sum(seconds), 0) AS seconds,
		count(DISTINCT t.user_id) FILTER (WHERE NOT p.anonymous AND EXISTS (SELECT FROM oracle.member m WHERE (m.day, m.user_id, m.widget) = (t.day, t.user_id, t.widget))) AS users
		FROM oracle.entry t JOIN oracle.person p ON p.id = t.user_id WHERE t.type = c.key AND day BETWEEN a AND z) e
WHERE (e.events, e.users, e.seconds) IS DISTINCT FROM (c.events, c.users, c.seconds)
$$;
CREATE FUNCTION oracle.compared(w text, a date, b date, c date, d date) RETURNS SETOF text LANGUAGE sql AS $$
SELECT format('compare %s: expected %s %s %s %s, found %s', w, na, ka, nb, kb, f)
FROM dashie.widget_compare(w, a, b, c, d) f,
	LATERAL (SELECT count(DISTINCT user_id) AS na, count(DISTINCT user_id) FILTER (WHERE widget = w) AS ka
		FROM oracle.member m JOIN oracle.person p ON p.id = m.user_id AND NOT p.anonymous WHERE day BETWEEN a AND b) x,
	LATERAL (SELECT count(DISTINCT user_id) AS nb, count(DISTINCT user_id) FILTER (WHERE widget = w) AS kb
		FROM oracle.member m JOIN oracle.person p ON p.id = m.user_id AND NOT p.anonymous WHERE day BETWEEN c AND d) y,
	LATERAL (SELECT (ka + kb)::float / nullif(na + nb, 0) AS pool) q
WHERE (na, ka, nb, kb) IS DISTINCT FROM (f.users_a, f.used_a, f.users_b, f.used_b)
	OR (f.z IS NULL) <> (pool IS NULL OR pool IN (0, 1) OR na * nb = 0)
	OR abs(f.z - (kb::float / nullif(nb, 0) - ka::float / nullif(na, 0)) / nullif(sqrt(pool * (1 - pool) * (1.0 / nullif(na, 0) + 1.0 / nullif(nb, 0))), 0)) > 1e-9
$$;
-- three steps, by joins
CREATE FUNCTION oracle.funnel(s text[], w interval, a date, z date, tz text) RETURNS SETOF text LANGUAGE sql AS $$
WITH e AS (SELECT user_id, "timestamp" AS at, array(SELECT i FROM generate_subscripts(s, 1) i
		WHERE split_part(s[i], ':', 1) = widget_type AND (s[i] !~ ':' OR split_part(s[i], ':', 2) = event_type)) AS steps
	FROM public.widget_analytics JOIN auth.users u ON u.id = user_id AND u.is_anonymous IS NOT TRUE AND u.deleted_at IS NULL),
first AS (SELECT user_id, at FROM e WHERE 1 = ANY (steps) AND at >= oracle.start_of(a, tz) AND at < oracle.start_of(z + 1, tz)),
second AS (SELECT f.user_id, f.at AS start, e.at FROM first f JOIN e ON e.user_id = f.user_id AND 2 = ANY (e.steps) AND e.at > f.at AND e.at - f.at <= w),
third AS (SELECT f.user_id FROM second f JOIN e ON e.user_id = f.user_id AND 3 = ANY (e.steps) AND e.at > f.at AND e.at - f.start <= w)
SELECT format('funnel %s within %s: expected %s users, found %s', s, w, x.users, f) FROM dashie.widget_funnel(s, w, a, z) f
	JOIN (VALUES (1, (SELECT count(DISTINCT user_id) FROM first)), (2, (SELECT count(DISTINCT user_id) FROM second)),
		(3, (SELECT count(DISTINCT user_id) FROM third))) x(step, users) USING (step)
WHERE x.users <> f.users
$$;

-- Ends the session in the middle of its work, at the row that the setting oracle.fate counts.
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
