-- dashie.track(): batches of widget events.
SET client_min_messages = warning;
SET dashie.now = '2026-03-20 12:00+00';
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE FUNCTION pg_temp.u(n int) RETURNS uuid LANGUAGE sql AS
$$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
SELECT dashie.track(pg_temp.u(1), NULL, '[]');
SELECT count(*) > 1 FROM dashie.enable('widget_analytics');
INSERT INTO auth.users (id) SELECT pg_temp.u(n) FROM generate_series(1, 3) n;
INSERT INTO public.user_sessions (id, user_id, started_at) VALUES
	(pg_temp.u(11), pg_temp.u(1), '2026-03-20 11:00+00'), (pg_temp.u(12), pg_temp.u(2), '2026-03-20 11:00+00');

-- what is sent is what is stored
SELECT * FROM dashie.track(user_id => pg_temp.u(1), session_id => pg_temp.u(11), events => '[
	{"widget_type": "clock", "event_type": "view", "timestamp": "2026-03-20T11:30:00Z"},
	{"id": "00000000-0000-4000-8000-0000000000A1", "widget_type": "weather", "event_type": "click", "timestamp": "2026-03-20T12:45:30.250+01:00",
		"duration_seconds": 7, "dashboard_id": "00000000-0000-4000-8000-000000000031", "event_data": {"city": "Berlin", "list": [1, null]}},
	{"widget_type": "agenda", "event_type": "focus", "duration_seconds": null, "event_data": null, "another": "key"},
	{"widget_type": "photos", "event_type": "active", "timestamp": "2026-03-20 13:00:00+00", "event_data": 5}]');
SELECT id = pg_temp.u(0) AS of_nobody, user_id, dashboard_id, session_id, widget_type, event_type, event_data, duration_seconds, "timestamp"
FROM public.widget_analytics ORDER BY widget_type;
SELECT id FROM public.widget_analytics WHERE widget_type = 'weather';
SELECT bool_and(dashie.uuid_v7_time(id) IS NOT NULL) FROM public.widget_analytics WHERE widget_type <> 'weather';

-- an event with an id is stored once: in its batch, later, in another day's partition, and by another session
TRUNCATE public.widget_analytics;
SELECT inserted, duplicates FROM dashie.track(pg_temp.u(1), NULL, '[
	{"id": "00000000-0000-4000-8000-0000000000b1", "widget_type": "clock", "event_type": "view", "timestamp": "2026-03-19T23:59:59Z"},
	{"id": "00000000-0000-4000-8000-0000000000B1", "widget_type": "clock", "event_type": "view", "timestamp": "2026-03-19T23:59:59Z"},
	{"id": "00000000-0000-4000-8000-0000000000b2", "widget_type": "clock", "event_type": "view", "timestamp": "2026-03-21T02:00:00Z"},
	{"id": "00000000-0000-4000-8000-0000000000b3", "widget_type": "clock", "event_type": "view"},
	{"id": "00000000-0000-4000-8000-0000000000b4", "widget_type": "clock", "event_type": "view", "timestamp": "2026-03-01T10:00:00Z"}]');
SELECT id, "timestamp" FROM public.widget_analytics ORDER BY id;
SET dashie.now = '2026-03-21 12:00+00';
SELECT inserted, duplicates FROM dashie.track(pg_temp.u(1), pg_temp.u(11), '[
	{"id": "00000000-0000-4000-8000-0000000000b1", "widget_type": "clock", "event_type": "view", "timestamp": "2026-03-20T00:00:01Z"},
	{"id": "00000000-0000-4000-8000-0000000000b2", "widget_type": "clock", "event_type": "view", "timestamp": "2026-03-21T02:00:00Z"},
	{"id": "00000000-0000-4000-8000-0000000000b3", "widget_type": "clock", "event_type": "view"},
	{"id": "00000000-0000-4000-8000-0000000000b4", "widget_type": "clock", "event_type": "view", "timestamp": "2026-03-01T10:00:00Z"},
	{"id": "00000000-0000-4000-8000-0000000000b5", "widget_type": "clock", "event_type": "view", "timestamp": "2026-03-01T10:00:00Z"}]');
SELECT inserted, duplicates FROM dashie.track(pg_temp.u(1), NULL, (SELECT jsonb_agg(jsonb_build_object('id', dashie.uuid_v7(), 'widget_type', 'map', 'event_type', 'view')) FROM generate_series(1, 1500)));
SELECT inserted, duplicates FROM dashie.track(pg_temp.u(1), NULL, (SELECT jsonb_agg(jsonb_build_object('id', id, 'widget_type', 'map', 'event_type', 'view', 'timestamp', "timestamp")) FROM public.widget_analytics));
SELECT count(*), count(DISTINCT id) FROM public.widget_analytics;
-- each index has them all
BEGIN;
SET LOCAL enable_seqscan = off;
SELECT (SELECT count(*) FROM public.widget_analytics WHERE user_id = pg_temp.u(1)) AS by_user,
	(SELECT count(*) FROM public.widget_analytics WHERE widget_type IN ('clock', 'map')) AS by_widget,
	(SELECT count(*) FROM public.widget_analytics WHERE "timestamp" > '2026-01-01') AS by_time,
	(SELECT count(*) FROM public.widget_analytics WHERE session_id IS NULL) AS by_session,
	(SELECT count(*) FROM public.widget_analytics WHERE session_id = pg_temp.u(11)) AS of_session;
ROLLBACK;
SET dashie.now = '2026-03-20 12:00+00';

-- within the whole retention: whatever time it has, whichever came first, in one batch or in two
TRUNCATE public.widget_analytics;
CREATE FUNCTION pg_temp.events(id uuid, VARIADIC times text[]) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_agg(jsonb_build_object('id', id, 'widget_type', 'clock', 'event_type', 'view', 'timestamp', t || '+00') ORDER BY n)
	FROM unnest(times) WITH ORDINALITY u (t, n) $$;
CREATE FUNCTION pg_temp.send(id uuid, VARIADIC times text[]) RETURNS text LANGUAGE sql AS $$
	SELECT format('%s stored, %s twice, %s rejected', inserted, duplicates, jsonb_array_length(rejected))
	FROM dashie.track(pg_temp.u(1), NULL, pg_temp.events(id, VARIADIC times)) $$;
-- random ones, and those of version 7 of that time
CREATE FUNCTION pg_temp.r(n int) RETURNS uuid LANGUAGE sql AS
$$ SELECT overlay(overlay(md5('r' || n) placing '4' from 13) placing '8' from 17)::uuid $$;
CREATE FUNCTION pg_temp.t(n int, at timestamptz) RETURNS uuid LANGUAGE sql AS
$$ SELECT overlay(overlay(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || substr(md5('t' || n), 13) placing '7' from 13) placing '8' from 17)::uuid $$;
SELECT dashie.uuid_v7_time(pg_temp.t(1, '2026-02-28 10:00+00'));
SELECT pg_temp.send(id, '2026-02-28 10:00') AS earlier, pg_temp.send(id, '2026-03-20 10:00') AS later
FROM (VALUES (pg_temp.r(1)), (pg_temp.t(1, '2026-02-28 10:00+00'))) i (id);
SELECT pg_temp.send(id, '2026-03-20 10:00') AS later, pg_temp.send(id, '2026-02-28 10:00') AS earlier
FROM (VALUES (pg_temp.r(2)), (pg_temp.t(2, '2026-02-28 10:00+00'))) i (id);
SELECT pg_temp.send(id, '2026-02-28 10:00', '2026-03-20 10:00') AS both FROM (VALUES (pg_temp.r(3)), (pg_temp.t(3, '2026-02-28 10:00+00'))) i (id);
SELECT pg_temp.send(id, '2026-03-20 10:00', '2026-02-28 10:00') AS both FROM (VALUES (pg_temp.r(4)), (pg_temp.t(4, '2026-02-28 10:00+00'))) i (id);
-- the oldest that is kept, one that is not any more, and one that stands in a day to come
SELECT pg_temp.send(pg_temp.r(5), '2026-02-18 13:00'), pg_temp.send(pg_temp.r(5), '2026-02-18 11:00', '2026-03-20 11:00');
INSERT INTO public.widget_analytics (id, user_id, widget_type, event_type, "timestamp") VALUES (pg_temp.r(6), pg_temp.u(1), 'clock', 'view', '2026-03-26 10:00+00');
SELECT pg_temp.send(pg_temp.r(6), '2026-03-20 11:00');
-- its row is gone, its entry in the index is not
DELETE FROM public.widget_analytics WHERE id = pg_temp.r(5);
SELECT pg_temp.send(pg_temp.r(5), '2026-03-20 11:00'), pg_temp.send(pg_temp.r(5), '2026-02-28 11:00');
SELECT id, count(*) FROM public.widget_analytics GROUP BY 1 HAVING count(*) > 1;
-- many, over many pages of indexes: all again with another time, between as many new ones
TRUNCATE public.widget_analytics;
INSERT INTO public.widget_analytics (id, user_id, widget_type, event_type, "timestamp")
SELECT CASE WHEN n % 2 = 0 THEN pg_temp.r(n) ELSE pg_temp.t(n, at) END, pg_temp.u(1), 'clock', 'view', at
FROM generate_series(1, 6000) n, LATERAL (SELECT timestamptz '2026-02-19' + n * n % 29 * interval '1 day' + n * interval '1 second') s (at);
-- in two partitions enough for a root above the leaves
INSERT INTO public.widget_analytics (id, user_id, widget_type, event_type, "timestamp")
SELECT CASE WHEN n % 2 = 0 THEN pg_temp.r(n) ELSE pg_temp.t(n, at) END, pg_temp.u(1), 'clock', 'view', at
FROM generate_series(6001, 24000) n, LATERAL (SELECT timestamptz '2026-03-01' + n % 2 * interval '1 day' + n * interval '1 second') s (at);
-- (STABLE: what the parts before have stored is none of it)
CREATE FUNCTION pg_temp.again(part int) RETURNS jsonb LANGUAGE sql STABLE AS $$
	SELECT jsonb_agg(jsonb_build_object('id', id, 'widget_type', 'clock', 'event_type', 'view', 'timestamp', timestamptz '2026-02-19' + n % 29 * interval '1 day'))
	FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM public.widget_analytics
		UNION ALL SELECT pg_temp.r(n), n FROM generate_series(100001, 104000) n
		UNION ALL SELECT pg_temp.t(n, timestamptz '2026-02-19' + n % 29 * interval '1 day'), n FROM generate_series(100001, 104000) n) i WHERE n % 40 = part $$;
SELECT sum(s.stored), sum(s.inserted), sum(s.duplicates) FROM (
	SELECT (SELECT count(*) FROM jsonb_array_elements(e) x JOIN public.widget_analytics w ON w.id = (x->>'id')::uuid) AS stored, t.inserted, t.duplicates
	FROM generate_series(0, 9) part, LATERAL (SELECT pg_temp.again(part)) a (e), LATERAL dashie.track(pg_temp.u(1), NULL, e) t) s;
SELECT count(*), count(DISTINCT id) FROM public.widget_analytics;
-- not further than one wants to look
SELECT dashie.configure('duplicate_window_hours', '48');
SELECT pg_temp.send(pg_temp.r(100), '2026-03-20 09:00') FROM public.widget_analytics WHERE id = pg_temp.r(100) AND "timestamp" < '2026-03-17';
SELECT pg_temp.send(pg_temp.r(7), '2026-03-05 10:00') AS once, pg_temp.send(pg_temp.r(7), '2026-03-07 09:00') AS in_the_days_before,
	pg_temp.send(pg_temp.r(7), '2026-03-04 10:00') AS earlier, pg_temp.send(pg_temp.r(7), '2026-03-20 09:00') AS much_later;
SELECT dashie.configure('duplicate_window_hours', '480');
SELECT pg_temp.send(pg_temp.r(7), '2026-03-20 10:00') AS found;
SELECT dashie.configure('duplicate_window_hours', NULL);
-- of several users' batches
TRUNCATE public.widget_analytics;
SELECT pg_temp.send(pg_temp.r(1), '2026-02-25 10:00');
SELECT batch, inserted, duplicates, rejected FROM dashie.track_many((SELECT jsonb_agg(jsonb_build_object('user_id', pg_temp.u(n), 'events', e) ORDER BY o) FROM (VALUES
	(1, 2, pg_temp.events(pg_temp.r(1), '2026-03-10 10:00') || pg_temp.events(pg_temp.r(2), '2026-02-26 10:00')),
	(2, 1, pg_temp.events(pg_temp.r(2), '2026-03-18 10:00') || pg_temp.events(pg_temp.r(3), '2026-03-18 10:00')),
	(3, 2, pg_temp.events(pg_temp.r(3), '2026-03-18 10:00') || pg_temp.events(pg_temp.r(2), '2026-03-01 10:00'))) v (o, n, e)));
SELECT user_id, "timestamp" FROM public.widget_analytics ORDER BY "timestamp";
-- ids at the ends of a leaf, so far apart that where one should be between them is rounded to an end
TRUNCATE public.widget_analytics;
SELECT pg_temp.send(id::uuid, '2026-03-05 10:00') FROM unnest('{00000000-0000-0000-0000-000000000001,80000000-0000-0001-0000-000000000000,80000000-0000-0002-0000-000000000000}'::text[]) id;
SELECT pg_temp.send(id::uuid, '2026-03-06 10:00') FROM unnest('{00000000-0000-0000-0000-000000000001,80000000-0000-0001-0000-000000000000,80000000-0000-0002-0000-000000000000}'::text[]) id;
SELECT pg_temp.send(id::uuid, '2026-03-06 10:00') FROM unnest('{00000000-0000-0000-0000-000000000000,80000000-0000-0001-0000-000000000001,80000000-0000-0002-0000-000000000001}'::text[]) id;
-- one whose partition is missing is not stored: the next one is
BEGIN;
DROP TABLE public.widget_analytics_20260305;
SELECT batch, inserted, duplicates, jsonb_array_length(rejected) AS rejected FROM dashie.track_many((SELECT jsonb_agg(jsonb_build_object('user_id', pg_temp.u(1), 'events', e) ORDER BY o) FROM (VALUES
	(1, pg_temp.events(pg_temp.r(8), '2026-03-05 10:00')), (2, pg_temp.events(pg_temp.r(8), '2026-03-06 10:00')), (3, pg_temp.events(pg_temp.r(8), '2026-03-07 10:00'))) v (o, e)));
-- in a partition that has partitions, in one without an index
CREATE TABLE public.parted PARTITION OF public.widget_analytics FOR VALUES FROM ('2026-03-05') TO ('2026-03-06') PARTITION BY RANGE ("timestamp");
CREATE TABLE public.parted_day PARTITION OF public.parted DEFAULT;
SELECT pg_temp.send(pg_temp.r(9), '2026-03-05 10:00') AS stored, pg_temp.send(pg_temp.r(9), '2026-03-20 10:00', '2026-03-05 11:00') AS found;
SELECT pg_temp.send(pg_temp.r(10), '2026-03-06 10:00');
ALTER TABLE public.widget_analytics DROP CONSTRAINT widget_analytics_pkey;
SELECT pg_temp.send(pg_temp.r(10), '2026-03-20 10:00') AS found, pg_temp.send(pg_temp.r(11), '2026-03-20 10:00') AS stored;
ROLLBACK;

-- a bad event is rejected, and the others are stored
TRUNCATE public.widget_analytics;
SELECT inserted, duplicates FROM dashie.track(pg_temp.u(2), pg_temp.u(12), '[]');
SELECT inserted, duplicates, jsonb_pretty(rejected) FROM dashie.track(pg_temp.u(2), pg_temp.u(12), '[
	{"widget_type": "clock", "event_type": "view"},
	5, null, [], "view", {},
	{"widget_type": "clock"},
	{"widget_type": "", "event_type": "view"},
	{"widget_type": 7, "event_type": "view"},
	{"widget_type": null, "event_type": "view"},
	{"widget_type": "clock", "event_type": "View"},
	{"widget_type": "clock", "event_type": ["view"]},
	{"widget_type": "clock", "event_type": "view", "duration_seconds": -1},
	{"widget_type": "clock", "event_type": "view", "duration_seconds": 2147483648},
	{"widget_type": "clock", "event_type": "view", "duration_seconds": "7"},
	{"widget_type": "clock", "event_type": "view", "timestamp": "2026-03-20T11:00:00"},
	{"widget_type": "clock", "event_type": "view", "timestamp": "yesterday"},
	{"widget_type": "clock", "event_type": "view", "timestamp": "infinity-and-more"},
	{"widget_type": "clock", "event_type": "view", "timestamp": "2026-02-30T11:00:00Z"},
	{"widget_type": "clock", "event_type": "view", "timestamp": "294277-01-01T00:00:00Z"},
	{"widget_type": "clock", "event_type": "view", "timestamp": 1774000000},
	{"widget_type": "clock", "event_type": "view", "timestamp": "2026-02-01T11:00:00Z"},
	{"widget_type": "clock", "event_type": "view", "id": "b1"},
	{"widget_type": "clock", "event_type": "view", "id": "00000000-0000-4000-8000-0000000000g1"},
	{"widget_type": "clock", "event_type": "view", "dashboard_id": true},
	{"widget_type": "clock", "event_type": "view", "timestamp": "2026-03-20T11:00:00-08"}]');
SELECT (rejected->0->>'reason') FROM dashie.track(pg_temp.u(2), NULL,
	jsonb_build_array(jsonb_build_object('event_type', 'view', 'widget_type', repeat('ü', 200))));
SELECT inserted FROM dashie.track(pg_temp.u(2), NULL,
	jsonb_build_array(jsonb_build_object('event_type', 'view', 'widget_type', repeat('ü', 127), 'event_data', repeat('x', 100000))));
SELECT length(widget_type), length(event_data #>> '{}') FROM public.widget_analytics WHERE widget_type LIKE 'ü%';

-- a partition that is missing is asked of the job, and its events are to be sent again
TRUNCATE public.widget_analytics;
CALL dashie.run_job('maintain_partitions');
SELECT format('DROP TABLE public.%I', partition) AS statement FROM dashie.partitions WHERE lower_bound = '2026-03-10' \gset
:statement;
SELECT more, next_run > '2026-03-20 12:00+00' AS waits FROM dashie.job WHERE name = 'maintain_partitions';
SELECT * FROM dashie.track(pg_temp.u(2), NULL, '[
	{"widget_type": "clock", "event_type": "view", "timestamp": "2026-03-10T11:00:00Z"},
	{"widget_type": "clock", "event_type": "view", "timestamp": "2026-03-11T11:00:00Z"}]');
SELECT more, next_run > '2026-03-20 12:00+00' AS waits FROM dashie.job WHERE name = 'maintain_partitions';
CALL dashie.run_due_jobs();
SELECT * FROM dashie.track(pg_temp.u(2), NULL, '[{"widget_type": "clock", "event_type": "view", "timestamp": "2026-03-10T11:00:00Z"}]');

-- bad arguments
SELECT dashie.track(NULL, NULL, '[]');
SELECT dashie.track(pg_temp.u(1), NULL, NULL);
SELECT dashie.track(pg_temp.u(1), NULL, '{}');
SELECT dashie.track(pg_temp.u(1), NULL, '7');
SELECT dashie.track(pg_temp.u(1), NULL, (SELECT jsonb_agg(1) FROM generate_series(1, 10001)));
SELECT dashie.track(pg_temp.u(9), NULL, '[]');
SELECT dashie.track(pg_temp.u(1), pg_temp.u(19), '[]');
SELECT dashie.track(pg_temp.u(1), pg_temp.u(12), '[]');

-- rows that are added to a page of a table that this transaction has emptied, frozen as they come
CREATE FUNCTION pg_temp.again(ids text[]) RETURNS TABLE (inserted int, duplicates int) LANGUAGE sql AS $$
	SELECT inserted, duplicates FROM dashie.track(pg_temp.u(1), NULL,
		(SELECT jsonb_agg(jsonb_build_object('id', id, 'widget_type', 'clock', 'event_type', 'view')) FROM unnest(ids) AS id)) $$;
BEGIN;
TRUNCATE public.widget_analytics_20260301;
COPY public.widget_analytics_20260301 (id, user_id, widget_type, event_type, "timestamp") FROM stdin (FREEZE);
00000000-0000-4000-8000-0000000000f1	00000000-0000-4000-8000-000000000001	clock	view	2026-03-01 11:00+00
\.
SELECT * FROM pg_temp.again(ARRAY['00000000-0000-4000-8000-0000000000f1']);
SELECT * FROM pg_temp.again(ARRAY['00000000-0000-4000-8000-0000000000f1']);
SELECT * FROM pg_temp.again(ARRAY['00000000-0000-4000-8000-0000000000f1']);
COPY public.widget_analytics_20260301 (id, user_id, widget_type, event_type, "timestamp") FROM stdin (FREEZE);
00000000-0000-4000-8000-0000000000f2	00000000-0000-4000-8000-000000000001	clock	view	2026-03-01 11:00+00
\.
SELECT * FROM pg_temp.again(ARRAY['00000000-0000-4000-8000-0000000000f1', '00000000-0000-4000-8000-0000000000f2']);
COMMIT;
SELECT * FROM pg_temp.again(ARRAY['00000000-0000-4000-8000-0000000000f1', '00000000-0000-4000-8000-0000000000f2']);

-- a collector's batches: each stands for itself
TRUNCATE public.widget_analytics;
SELECT * FROM dashie.track_many('[
	{"user_id": "00000000-0000-4000-8000-000000000002", "session_id": "00000000-0000-4000-8000-000000000012", "events": [
		{"widget_type": "clock", "event_type": "view", "id": "00000000-0000-4000-8000-0000000000c1"}, {"widget_type": "clock"}]},
	{"user_id": "00000000-0000-4000-8000-000000000001", "events": [{"widget_type": "map", "event_type": "click"}]},
	{"user_id": "00000000-0000-4000-8000-000000000009", "events": [{"widget_type": "map", "event_type": "click"}]},
	{"user_id": "00000000-0000-4000-8000-000000000002", "session_id": "00000000-0000-4000-8000-000000000012", "events": [
		{"widget_type": "clock", "event_type": "view", "id": "00000000-0000-4000-8000-0000000000c1"}]},
	{"user_id": "00000000-0000-4000-8000-000000000001", "session_id": "00000000-0000-4000-8000-000000000012", "events": []},
	{"user_id": "nobody", "events": []}, {"user_id": "00000000-0000-4000-8000-000000000001", "session_id": 7, "events": []},
	{"events": []}, {"user_id": "00000000-0000-4000-8000-000000000001", "events": {}}, 5]');
SELECT user_id, session_id, widget_type FROM public.widget_analytics ORDER BY 1;
SELECT * FROM dashie.track_many(NULL);
SELECT * FROM dashie.track_many('{}');
SELECT * FROM dashie.track_many('[]');

-- consent: asked of the profile where there are profiles
CREATE TABLE public.user_profiles (auth_user_id uuid UNIQUE, analytics_consent boolean DEFAULT true);
INSERT INTO public.user_profiles VALUES (pg_temp.u(1), true), (pg_temp.u(2), false), (pg_temp.u(3), NULL);
SELECT n, t.* FROM generate_series(1, 3) n, dashie.track(pg_temp.u(n), NULL, '[{"widget_type": "clock", "event_type": "view"}]') t;
SELECT * FROM dashie.track_many('[{"user_id": "00000000-0000-4000-8000-000000000002", "events": [{"widget_type": "map", "event_type": "click"}]}]');
DROP TABLE public.user_profiles;

-- what others added to the table is not passed by: triggers, defaults, checks
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.event_data := '"seen"'; RETURN NEW; END $$;
CREATE TRIGGER note BEFORE INSERT ON public.widget_analytics FOR EACH ROW EXECUTE FUNCTION public.note();
SELECT * FROM dashie.track(pg_temp.u(1), pg_temp.u(11), '[{"widget_type": "noted", "event_type": "view"}]');
DROP TRIGGER note ON public.widget_analytics;
DROP FUNCTION public.note;
ALTER TABLE public.widget_analytics ADD COLUMN source text DEFAULT 'device';
SELECT * FROM dashie.track(pg_temp.u(1), pg_temp.u(11), '[{"widget_type": "defaulted", "event_type": "view"}]');
ALTER TABLE public.widget_analytics ALTER COLUMN source DROP DEFAULT;
ALTER TABLE public.widget_analytics ADD CONSTRAINT no_ghosts CHECK (widget_type <> 'ghost');
\set VERBOSITY terse
SELECT * FROM dashie.track(pg_temp.u(1), pg_temp.u(11), '[{"widget_type": "ghost", "event_type": "view"}]');
SELECT * FROM dashie.track(pg_temp.u(1), pg_temp.u(11), '[{"widget_type": "plain", "event_type": "view"}]');
ALTER TABLE public.widget_analytics FORCE ROW LEVEL SECURITY;
SELECT * FROM dashie.track(pg_temp.u(1), pg_temp.u(11), '[{"widget_type": "forced", "event_type": "view"}]');
\set VERBOSITY default
SELECT widget_type, event_data, source FROM public.widget_analytics WHERE session_id = pg_temp.u(11) ORDER BY 1;

SELECT dashie.disable('widget_analytics');
SELECT dashie.disable('user_sessions');
DROP TABLE public.widget_analytics, public.user_sessions;
DROP TABLE dashie.event_page, dashie.metrics_state, dashie.user_number, dashie.user_country, dashie.dashboard_number, dashie.day_page, dashie.retention_floor;
DELETE FROM auth.users;
