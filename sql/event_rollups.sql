-- Daily rollups of widget events: what they answer, against plain SQL over the
-- rows; what they keep when rows go; what a funnel is.
SET client_min_messages = warning;
SET dashie.now = '2026-03-20 12:00+00';
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET extra_float_digits = 0;
CREATE FUNCTION pg_temp.u(n int) RETURNS uuid LANGUAGE sql AS
$$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
INSERT INTO auth.users (id, created_at, is_anonymous) SELECT pg_temp.u(n), '2026-01-01', n = 7 FROM generate_series(1, 40) n;

-- never enabled
SELECT * FROM dashie.widget_popularity('2026-03-01', '2026-03-19');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM dashie.widget_funnel('{photos}', '1 day', '2026-03-01', '2026-03-19');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.refresh_event_rollups('2026-03-01', '2026-03-19');
CALL dashie.run_job('rollup_events');
\echo :LAST_ERROR_SQLSTATE

-- sessions are enabled with it, and no metrics
SELECT table_name FROM dashie.enable('widget_analytics');
SELECT to_regclass('dashie.event_page'), to_regclass('dashie.changed_events'), to_regclass('dashie.user_number'), to_regclass('dashie.changed_range');
SELECT tgname, tgenabled, count(*) FROM pg_trigger WHERE tgfoid = 'dashie.events_changed'::regproc GROUP BY 1, 2 ORDER BY 1;
-- nothing there yet
CALL dashie.run_job('rollup_events');
SELECT * FROM dashie.widget_popularity('2026-03-01', '2026-03-20');
SELECT * FROM dashie.event_counts('2026-03-18', '2026-03-20', 'day');

-- what plain SQL says of the rows that are there
CREATE VIEW public.popularity AS
SELECT w.widget_type, count(DISTINCT user_id) FILTER (WHERE u.is_anonymous IS NOT TRUE) AS users, count(*) AS events,
	count(*) FILTER (WHERE event_type = 'view') AS views, count(*) FILTER (WHERE event_type = 'click') AS clicks,
	count(*) FILTER (WHERE event_type = 'configure') AS configures, count(*) FILTER (WHERE event_type = 'focus') AS focuses,
	count(*) FILTER (WHERE event_type = 'active') AS actives, coalesce(sum(duration_seconds), 0)::bigint AS seconds
FROM public.widget_analytics w JOIN auth.users u ON u.id = w.user_id
WHERE "timestamp" >= '2026-03-02' AND "timestamp" < '2026-03-20' GROUP BY 1;
CREATE FUNCTION public.differences() RETURNS SETOF text LANGUAGE sql AS $$
	(SELECT 'plain SQL: ' || p::text FROM public.popularity p EXCEPT SELECT 'plain SQL: ' || p::text FROM dashie.widget_popularity('2026-03-02', '2026-03-19') p)
	UNION ALL
	(SELECT 'dashie: ' || p::text FROM dashie.widget_popularity('2026-03-02', '2026-03-19') p EXCEPT SELECT 'dashie: ' || p::text FROM public.popularity p)
$$;

-- every way in: INSERT, COPY, track() which writes past the triggers
INSERT INTO public.widget_analytics (user_id, widget_type, event_type, duration_seconds, "timestamp")
SELECT pg_temp.u(1 + n % 37), (ARRAY['clock', 'photos', 'agenda', 'weather', 'ai-response'])[1 + n * n % 5],
	(ARRAY['view', 'click', 'configure', 'focus', 'active'])[1 + n % 5], nullif(n % 90, 0), timestamptz '2026-03-02' + n * interval '37 minutes'
FROM generate_series(0, 690) n;
COPY public.widget_analytics (user_id, widget_type, event_type, duration_seconds, "timestamp") FROM stdin ENCODING 'UTF8';
00000000-0000-4000-8000-000000000038	photos	view	7	2026-03-10 10:00+00
00000000-0000-4000-8000-000000000039	karte €	click	\N	2026-03-19 23:59:59.999999+00
\.
SELECT inserted, rejected FROM dashie.track(pg_temp.u(40), NULL, '[
	{"widget_type": "voice", "event_type": "view", "timestamp": "2026-03-19T23:00:00Z", "duration_seconds": 3},
	{"widget_type": "voice", "event_type": "click", "timestamp": "2026-03-18T01:00:00Z"}]');
SELECT * FROM public.differences();
SELECT * FROM dashie.widget_popularity('2026-03-02', '2026-03-19');
-- the same from the pages
CALL dashie.run_job('rollup_events');
TABLE dashie.changed_events;
SELECT count(*), min(day), max(day), bool_and(final), bool_or(dirty) FROM dashie.event_page;
SELECT * FROM public.differences();
SELECT dashie.refresh_event_rollups('2026-03-02', '2026-03-19');
-- today is computed each time it is asked
SELECT * FROM dashie.event_counts('2026-03-19', '2026-03-20', 'day');
INSERT INTO public.widget_analytics (user_id, widget_type, event_type, "timestamp") VALUES (pg_temp.u(1), 'clock', 'view', '2026-03-20 11:00+00');
SELECT * FROM dashie.event_counts('2026-03-19', '2026-03-20', 'day');
SELECT e.*, e.users = (SELECT count(DISTINCT user_id) FROM public.widget_analytics w WHERE w.event_type = e.key AND user_id <> pg_temp.u(7)) AS exact
FROM dashie.event_counts('2026-03-02', '2026-03-20', 'event_type') e;
SELECT * FROM dashie.event_counts('2026-03-02', '2026-03-20', 'widget_type');
-- by week, from Monday, and by month: of the days that were asked for
CREATE VIEW public.by_period AS
SELECT p.period, e.*, (e.events, e.users, e.seconds) = (SELECT count(*), count(DISTINCT w.user_id) FILTER (WHERE u.is_anonymous IS NOT TRUE), coalesce(sum(w.duration_seconds), 0)::bigint
	FROM public.widget_analytics w JOIN auth.users u ON u.id = w.user_id WHERE "timestamp" >= '2026-02-27' AND "timestamp" < '2026-03-18'
	AND to_char(date_trunc(p.period, w."timestamp" AT TIME ZONE 'UTC'), 'YYYY-MM-DD') = e.key) AS exact
FROM (VALUES ('day'), ('week'), ('month')) p (period), LATERAL dashie.event_counts('2026-02-27', '2026-03-17', p.period) e WHERE p.period <> 'day' OR e.key > '2026-03-14';
TABLE public.by_period;
DROP VIEW public.by_period;
-- the digest is SHA-256 over day and bytes
CREATE FUNCTION pg_temp.le(n int) RETURNS bytea LANGUAGE sql AS
$$ SELECT decode(string_agg(lpad(to_hex(n >> s & 255), 2, '0'), '' ORDER BY s), 'hex') FROM unnest('{0,8,16,24}'::int[]) s $$;
SELECT bool_and(digest = sha256(convert_to(day::text, 'UTF8') || pg_temp.le(length(totals)) || totals || pg_temp.le(length(widgets)) || widgets || pg_temp.le(length(entries)) || entries)) FROM dashie.event_page;

--
-- Changes: the days that changed are computed again, and no others
--
INSERT INTO public.widget_analytics (id, user_id, widget_type, event_type, "timestamp") VALUES (pg_temp.u(100), pg_temp.u(3), 'voice', 'view', '2026-03-05 10:00+00');
SELECT * FROM dashie.changed_events;
SELECT * FROM public.differences();
SELECT dashie.refresh_event_rollups('2026-03-02', '2026-03-19');
SELECT * FROM public.differences();
SELECT inserted FROM dashie.track(pg_temp.u(40), NULL, '[{"widget_type": "voice", "event_type": "focus", "timestamp": "2026-03-07T10:00:00Z"}]');
SELECT * FROM dashie.changed_events;
SELECT * FROM public.differences();
SELECT dashie.refresh_event_rollups('2026-03-02', '2026-03-19');
SELECT * FROM public.differences();
UPDATE public.widget_analytics SET event_data = '{"nothing": "counted"}' WHERE id = pg_temp.u(100);
SELECT * FROM dashie.changed_events;
UPDATE public.widget_analytics SET duration_seconds = 1000 WHERE id = pg_temp.u(100);
SELECT dashie.refresh_event_rollups('2026-03-02', '2026-03-19');
UPDATE public.widget_analytics SET "timestamp" = '2026-03-08 10:00+00' WHERE id = pg_temp.u(100);
SELECT dashie.refresh_event_rollups('2026-03-02', '2026-03-19');
SELECT * FROM public.differences();
UPDATE public.widget_analytics SET widget_type = 'map', user_id = pg_temp.u(4) WHERE id = pg_temp.u(100);
SELECT * FROM public.differences();
DELETE FROM public.widget_analytics WHERE id = pg_temp.u(100);
SELECT dashie.refresh_event_rollups('2026-03-02', '2026-03-19');
SELECT * FROM public.differences();
-- a rollback leaves nothing behind; a transaction sees its own rows
BEGIN;
DELETE FROM public.widget_analytics WHERE widget_type = 'clock' AND "timestamp" < '2026-03-20';
SELECT * FROM public.differences();
SELECT dashie.refresh_event_rollups('2026-03-02', '2026-03-19') > 5 AS many;
SELECT * FROM public.differences();
ROLLBACK;
SELECT * FROM dashie.changed_events;
SELECT * FROM public.differences();
-- TRUNCATE of the table is a correction
BEGIN;
TRUNCATE public.widget_analytics;
SELECT * FROM dashie.widget_popularity('2026-03-02', '2026-03-20');
ROLLBACK;
-- a new partition has the trigger too
SET dashie.now = '2026-03-21 12:00+00';
SELECT action, partition FROM dashie.maintain_partitions();
-- (where no event was, none is missed)
TABLE dashie.retention_floor;
SELECT tgenabled FROM pg_trigger WHERE tgrelid = 'public.widget_analytics_20260328'::regclass AND tgname = 'dashie_changed';
SET dashie.now = '2026-03-20 12:00+00';
-- types that the roadmap does not know are events all the same
BEGIN;
ALTER TABLE public.widget_analytics DROP CONSTRAINT widget_analytics_event_type_check;
INSERT INTO public.widget_analytics (user_id, widget_type, event_type, duration_seconds, "timestamp") VALUES (pg_temp.u(1), 'voice', 'hover', 5, '2026-03-19 10:00+00');
SELECT dashie.refresh_event_rollups('2026-03-02', '2026-03-19');
SELECT * FROM dashie.event_counts('2026-03-19', '2026-03-19', 'event_type');
SELECT * FROM dashie.widget_popularity('2026-03-19', '2026-03-19') WHERE widget_type = 'voice';
ROLLBACK;

--
-- Users who go: finished days keep them
--
CREATE TABLE public.before AS SELECT * FROM dashie.widget_popularity('2026-03-02', '2026-03-19');
CREATE FUNCTION public.changes() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT coalesce(b::text, 'nothing') || ' -> ' || coalesce(a::text, 'nothing') FROM public.before b FULL JOIN dashie.widget_popularity('2026-03-02', '2026-03-19') a USING (widget_type) WHERE a IS DISTINCT FROM b ORDER BY 1
$$;
DELETE FROM auth.users WHERE id IN (pg_temp.u(5), pg_temp.u(6));
SELECT count(*) FROM public.differences();
SELECT * FROM public.changes();
SELECT dashie.refresh_event_rollups('2026-03-02', '2026-03-19') > 5 AS many;
SELECT * FROM public.changes();
-- also when the day is computed again for somebody else
INSERT INTO public.widget_analytics (user_id, widget_type, event_type, "timestamp") SELECT pg_temp.u(3), 'camera', 'view', t FROM generate_series(timestamptz '2026-03-02 10:00+00', '2026-03-19 10:00+00', '1 day') t;
SELECT * FROM public.changes();
CALL dashie.run_job('rollup_events');
SELECT * FROM public.changes();
SELECT dashie.refresh_event_rollups('2026-03-02', '2026-03-19', force => true);
SELECT * FROM public.changes();
DELETE FROM public.widget_analytics WHERE widget_type = 'camera';
-- marked as deleted: they count where they did; in a day that is computed first afterwards, their events alone
UPDATE auth.users SET deleted_at = '2026-03-20 12:00+00' WHERE id IN (pg_temp.u(8), pg_temp.u(40));
DELETE FROM dashie.event_page WHERE day >= '2026-03-18';
CALL dashie.run_job('rollup_events');
SELECT widget_type, users, events FROM dashie.widget_popularity('2026-03-18', '2026-03-19') WHERE widget_type = 'voice';
SELECT count(*) FROM public.changes();
-- and they are there again
UPDATE auth.users SET deleted_at = NULL WHERE id IN (pg_temp.u(8), pg_temp.u(40));
CALL dashie.run_job('rollup_events');
SELECT widget_type, users, events FROM dashie.widget_popularity('2026-03-18', '2026-03-19') WHERE widget_type = 'voice';
-- an anonymous user becomes a known one
SELECT users FROM dashie.event_counts('2026-03-02', '2026-03-19', 'widget_type') WHERE key = 'photos';
UPDATE auth.users SET is_anonymous = false WHERE id = pg_temp.u(7);
CALL dashie.run_job('rollup_events');
SELECT users FROM dashie.event_counts('2026-03-02', '2026-03-19', 'widget_type') WHERE key = 'photos';

--
-- Comparison: by hand, of 200 and 250 users
--
INSERT INTO auth.users (id, created_at) SELECT pg_temp.u(n), '2026-01-01' FROM generate_series(1001, 1450) n;
INSERT INTO public.widget_analytics (user_id, widget_type, event_type, "timestamp")
SELECT pg_temp.u(n), w, 'view', CASE WHEN n <= 1200 THEN timestamptz '2026-02-20 10:00+00' + n % 3 * interval '1 day' ELSE timestamptz '2026-02-25 10:00+00' END
FROM generate_series(1001, 1450) n, unnest('{header,main}'::text[]) w WHERE w = 'header' OR n <= 1060 OR n BETWEEN 1201 AND 1310;
CREATE VIEW public.compared AS SELECT users_a, used_a, rate_a, users_b, used_b, rate_b, round(difference::numeric, 6) AS difference,
	round(difference_low::numeric, 4) AS low, round(difference_high::numeric, 4) AS high, round(z::numeric, 4) AS z, round(p_value::numeric, 6) AS p_value
FROM dashie.widget_compare('main', '2026-02-20', '2026-02-22', '2026-02-23', '2026-02-26');
TABLE public.compared;
SELECT round((p2 - p1) / sqrt(p * (1 - p) * (1 / 200.0 + 1 / 250.0)), 4) AS z FROM (SELECT 0.3 AS p1, 0.44 AS p2, 170 / 450.0 AS p) s;
CALL dashie.run_job('rollup_events');
TABLE public.compared;
-- everybody used it: no test, but an interval; nobody did
SELECT used_a, used_b, difference, round(difference_low::numeric, 4) AS low, round(difference_high::numeric, 4) AS high, z, p_value
FROM dashie.widget_compare('header', '2026-02-20', '2026-02-22', '2026-02-23', '2026-02-26');
SET client_min_messages = notice;
SELECT * FROM dashie.widget_compare('no such widget', '2026-02-20', '2026-02-22', '2026-02-23', '2026-02-26');
SET client_min_messages = warning;
-- nobody at all in one of them
SELECT * FROM dashie.widget_compare('main', '2026-02-27', '2026-02-27', '2026-02-25', '2026-02-25');
SELECT * FROM dashie.widget_compare('main', '2026-02-25', '2026-02-25', '2026-02-27', '2026-02-27');
DELETE FROM public.widget_analytics WHERE "timestamp" < '2026-03-01';

--
-- Funnels
--
INSERT INTO auth.users (id, created_at, is_anonymous) SELECT pg_temp.u(n), '2026-01-01', n = 2009 FROM generate_series(2001, 2010) n;
INSERT INTO public.widget_analytics (user_id, widget_type, event_type, "timestamp")
SELECT pg_temp.u(2000 + n), split_part(s, ':', 1), split_part(s, ':', 2), timestamptz '2026-02-20 00:00+00' + at::interval FROM (VALUES
	(1, 'main:view', '10:00'), (1, 'photos:click', '10:05'), (1, 'photos:configure', '10:10'),
	(2, 'photos:click', '10:00'), (2, 'main:view', '10:05'),                                       -- the wrong way round
	(3, 'main:view', '10:00'), (3, 'photos:click', '11:00'),                                       -- sharp on the hour
	(4, 'main:view', '10:00'), (4, 'photos:click', '11:00:00.000001'),                             -- too late
	(5, 'main:view', '10:00'), (5, 'main:view', '10:30'), (5, 'photos:click', '11:20'), (5, 'photos:configure', '11:29'),  -- from the second start
	(6, 'main:view', '10:00'), (6, 'photos:click', '10:00'),                                       -- at the same instant
	(7, 'main:view', '23:50'), (7, 'photos:click', '24:10'), (7, 'photos:configure', '24:20'),     -- over midnight
	(8, 'main:view', '24:10'), (8, 'photos:click', '24:20'),                                       -- begun a day later
	(9, 'main:view', '10:00'), (9, 'photos:click', '10:05'),                                       -- anonymous
	(10, 'main:focus', '10:00'), (10, 'photos:view', '10:05'), (10, 'photos:click', '10:06')) v(n, s, at);
SELECT * FROM dashie.widget_funnel('{main:view,photos:click,photos:configure}', '1 hour', '2026-02-20', '2026-02-20');
SELECT * FROM dashie.widget_funnel('{main,photos,photos}', '1 hour', '2026-02-20', '2026-02-20');
SELECT * FROM dashie.widget_funnel('{main:view,photos:click,photos:configure}', '1 month', '2026-02-20', '2026-02-21');
SELECT * FROM dashie.widget_funnel('{photos}', '1 second', '2026-02-20', '2026-02-20');
SELECT * FROM dashie.widget_funnel('{nothing,photos}', '1 day', '2026-02-20', '2026-02-20');
-- the same from pages or not: there is no other way
CALL dashie.run_job('rollup_events');
SELECT step, users FROM dashie.widget_funnel('{main:view,photos:click,photos:configure}', '1 hour', '2026-02-20', '2026-02-20');
-- days without partitions
SELECT * FROM dashie.widget_funnel('{main}', '1 hour', '2026-02-17', '2026-02-20');
DELETE FROM auth.users WHERE id >= pg_temp.u(1000);
DELETE FROM public.widget_analytics WHERE "timestamp" < '2026-03-01';
DELETE FROM dashie.event_page WHERE day < '2026-03-01';
CALL dashie.run_job('rollup_events');

--
-- Retention: no partition before its days are counted; and then nothing changes
--
DROP TABLE public.before;
CREATE TABLE public.before AS SELECT * FROM dashie.widget_popularity('2026-03-02', '2026-03-19');
INSERT INTO public.widget_analytics (id, user_id, widget_type, event_type, "timestamp") VALUES (pg_temp.u(101), pg_temp.u(3), 'voice', 'view', '2026-03-04 10:00+00');
SET dashie.now = '2026-04-05 12:00+00';
SELECT action, partition, reason FROM dashie.maintain_partitions(true) WHERE action <> 'create' AND upper_bound > '2026-03-02';
CALL dashie.run_job('maintain_partitions');
SELECT min(partition) FROM dashie.partitions;
DELETE FROM public.widget_analytics WHERE id = pg_temp.u(101);
CALL dashie.run_job('rollup_events');
CALL dashie.run_job('maintain_partitions');
SELECT min(partition) FROM dashie.partitions;
SELECT min("timestamp"), table_name, removed_before FROM public.widget_analytics, dashie.retention_floor GROUP BY 2, 3;
SELECT * FROM public.changes();
TABLE dashie.changed_events;
CALL dashie.run_job('rollup_events');
SELECT * FROM public.changes();
-- a day that is closed stays so, whatever comes
CREATE TABLE public.late PARTITION OF public.widget_analytics FOR VALUES FROM ('2026-03-03') TO ('2026-03-04');
INSERT INTO public.widget_analytics (user_id, widget_type, event_type, "timestamp") VALUES (pg_temp.u(3), 'voice', 'view', '2026-03-03 10:00+00');
CALL dashie.run_job('rollup_events');
TABLE dashie.changed_events;
SELECT * FROM public.changes();
SELECT dashie.refresh_event_rollups('2026-03-03', '2026-03-03');
\echo :LAST_ERROR_SQLSTATE
CALL dashie.run_job('maintain_partitions');
SELECT to_regclass('public.late');
-- a funnel needs rows
SELECT * FROM dashie.widget_funnel('{photos,photos}', '1 day', '2026-03-02', '2026-03-10');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM dashie.widget_funnel('{photos,photos}', '1 day', '2026-03-06', '2026-03-10');
-- a day that was removed before it was counted is not known
BEGIN;
DELETE FROM dashie.event_page WHERE day = '2026-03-03';
SET client_min_messages = notice;
SELECT * FROM dashie.event_counts('2026-03-02', '2026-03-04', 'day');
SELECT * FROM dashie.event_counts('2026-03-02', '2026-03-09', 'week');
ROLLBACK;
SET client_min_messages = warning;
-- the zone of finished days stays
SELECT dashie.configure('timezone', 'Europe/Berlin');
-- users go, also from days whose rows are gone
DELETE FROM auth.users;
CALL dashie.run_job('rollup_events');
SELECT * FROM public.changes();
SELECT count(*) FROM public.widget_analytics;

--
-- Pages that their owner has damaged: an error, never a crash
--
PREPARE ask AS SELECT sum(events) FROM dashie.widget_popularity('2026-03-02', '2026-03-19');
EXECUTE ask;
BEGIN; UPDATE dashie.event_page SET widgets = '\x'; EXECUTE ask; ROLLBACK;
BEGIN; UPDATE dashie.event_page SET widgets = '\x02'; EXECUTE ask; ROLLBACK;
BEGIN; UPDATE dashie.event_page SET widgets = '\x01ffffffff0f'; EXECUTE ask; ROLLBACK;
BEGIN; UPDATE dashie.event_page SET widgets = '\x0101ff7f'; EXECUTE ask; ROLLBACK;
BEGIN; UPDATE dashie.event_page SET widgets = '\x010101ff0000'; EXECUTE ask; ROLLBACK;
BEGIN; UPDATE dashie.event_page SET widgets = '\x010101ff00'; EXECUTE ask; ROLLBACK;
BEGIN; UPDATE dashie.event_page SET widgets = substr(widgets, 1, length(widgets) - 1); EXECUTE ask; ROLLBACK;
BEGIN; UPDATE dashie.event_page SET widgets = widgets || '\x00'; EXECUTE ask; ROLLBACK;
BEGIN; UPDATE dashie.event_page SET widgets = '\x01010161001000000000000000'; EXECUTE ask; ROLLBACK;
BEGIN; UPDATE dashie.event_page SET widgets = '\x0101016100123b30000001ff7fffff01000000ffff'; EXECUTE ask; ROLLBACK;
PREPARE again AS SELECT dashie.refresh_event_rollups('2026-03-02', '2026-03-19', force => true);
BEGIN; UPDATE dashie.event_page SET entries = '\x01'; EXECUTE again; ROLLBACK;
BEGIN; UPDATE dashie.event_page SET entries = NULL WHERE day = '2026-03-05'; EXECUTE again; ROLLBACK;
PREPARE types AS SELECT sum(events), sum(users) FROM dashie.event_counts('2026-03-02', '2026-03-19', 'event_type');
BEGIN; UPDATE dashie.event_page SET entries = '\x01'; EXECUTE types; ROLLBACK;
BEGIN; UPDATE dashie.event_page SET totals = '\x'; EXECUTE types; ROLLBACK;
BEGIN; UPDATE dashie.event_page SET totals = '\x02'; EXECUTE types; ROLLBACK;
BEGIN; UPDATE dashie.event_page SET totals = '\x01ffffff7f'; EXECUTE types; ROLLBACK;
BEGIN; UPDATE dashie.event_page SET totals = '\x0100ff7f'; EXECUTE types; ROLLBACK;
BEGIN; UPDATE dashie.event_page SET totals = substr(totals, 1, length(totals) - 1); EXECUTE types; ROLLBACK;
BEGIN; UPDATE dashie.event_page SET totals = totals || '\x00'; EXECUTE types; ROLLBACK;
BEGIN; UPDATE dashie.event_page SET totals = '\x0100123b30000001ff7fffff01000000ffff'; EXECUTE types; ROLLBACK;
BEGIN; UPDATE dashie.event_page SET totals = NULL; EXECUTE types; ROLLBACK;
BEGIN; ALTER TABLE dashie.event_page ALTER totals TYPE bigint USING 5; EXECUTE types; ROLLBACK;
BEGIN; UPDATE dashie.event_page SET widgets = NULL; EXECUTE ask; ROLLBACK;
BEGIN; ALTER TABLE dashie.event_page ALTER widgets TYPE bigint USING 5; EXECUTE ask; ROLLBACK;
BEGIN; CREATE INDEX ON dashie.changed_events (upto); INSERT INTO auth.users VALUES (pg_temp.u(1));
INSERT INTO public.widget_analytics (user_id, widget_type, event_type, "timestamp") VALUES (pg_temp.u(1), 'clock', 'view', '2026-03-19'); COMMIT;

--
-- disable() keeps the pages and takes the marks and triggers
--
SELECT dashie.disable('widget_analytics');
SELECT to_regclass('dashie.changed_events'), count(*) FROM pg_trigger WHERE tgfoid = 'dashie.events_changed'::regproc;
SELECT * FROM public.changes();
SELECT table_name, action FROM dashie.enable('widget_analytics');
TABLE dashie.changed_events;
SELECT count(*) > 30 FROM pg_trigger WHERE tgfoid = 'dashie.events_changed'::regproc;

DROP VIEW public.popularity, public.compared;
DROP FUNCTION public.differences(), public.changes();
DROP TABLE public.before;
SELECT dashie.disable('widget_analytics');
SELECT dashie.disable('user_sessions');
DROP TABLE public.widget_analytics, public.user_sessions;
DROP TABLE dashie.event_page, dashie.metrics_state, dashie.user_number, dashie.user_country, dashie.dashboard_number, dashie.day_page, dashie.retention_floor;
DELETE FROM dashie.job_run;
UPDATE dashie.job_state SET last_started = NULL, last_finished = NULL, last_status = NULL, failures = 0, retry_at = NULL, more = false;
