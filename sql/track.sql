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
SET dashie.now = '2026-03-20 12:00+00';

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
