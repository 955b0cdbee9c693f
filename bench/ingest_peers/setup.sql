-- The events that every way stores, and the tables that they go to.
CREATE EXTENSION dashie;
SET client_min_messages = warning;
SELECT dashie.create_auth_stub();
SELECT * FROM dashie.enable('widget_analytics');
CREATE SCHEMA peer;

INSERT INTO auth.users (id) SELECT md5('user' || n)::uuid FROM generate_series(1, 1000) AS n;
INSERT INTO public.user_sessions (id, user_id, started_at)
SELECT md5('session' || n)::uuid, md5('user' || n)::uuid, now() - interval '1 hour' FROM generate_series(1, 1000) AS n;

-- A batch is one session's; ids are random, as a browser's crypto.randomUUID() makes them.
CREATE TABLE peer.event AS
SELECT b AS batch, md5('event' || b || '.' || i)::uuid AS id, md5('user' || b % 1000 + 1)::uuid AS user_id,
	NULL::uuid AS dashboard_id, md5('session' || b % 1000 + 1)::uuid AS session_id,
	(ARRAY['header', 'clock', 'main', 'agenda', 'photos', 'voice', 'weather', 'map', 'camera'])[1 + (i * 7 + b) % 9] AS widget_type,
	(ARRAY['view', 'view', 'view', 'click', 'focus', 'active', 'configure'])[1 + i % 7] AS event_type,
	CASE WHEN i % 3 = 0 THEN jsonb_build_object('source', 'touch', 'x', i % 1920, 'y', i % 1080) END AS event_data,
	i % 600 AS duration_seconds, date_trunc('milliseconds', now() - interval '1 hour') + i * interval '3 seconds' AS "timestamp"
FROM generate_series(1, :batches) AS b, generate_series(1, :events) AS i;

-- The batch as a device sends it.
CREATE TABLE peer.batch AS
SELECT batch, user_id, session_id, jsonb_agg(jsonb_build_object('id', id, 'widget_type', widget_type,
	'event_type', event_type, 'event_data', event_data, 'duration_seconds', duration_seconds,
	'timestamp', to_char("timestamp" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))) AS events
FROM peer.event GROUP BY batch, user_id, session_id;

-- The roadmap's DDL, with the changes without which PostgreSQL refuses it: the
-- key contains the partition column. uuid-ossp is not asked for ids here.
CREATE TABLE peer.roadmap (
	id uuid DEFAULT gen_random_uuid(),
	user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
	dashboard_id uuid,
	session_id uuid REFERENCES public.user_sessions (id) ON DELETE CASCADE,
	widget_type text NOT NULL,
	event_type text NOT NULL,
	event_data jsonb,
	duration_seconds integer,
	"timestamp" timestamptz DEFAULT now(),
	PRIMARY KEY (id, "timestamp")
) PARTITION BY RANGE ("timestamp");
CREATE INDEX ON peer.roadmap (widget_type);
CREATE INDEX ON peer.roadmap ("timestamp");
SELECT format('CREATE TABLE peer.roadmap_%s PARTITION OF peer.roadmap FOR VALUES FROM (%L) TO (%L)', n, lower_bound, upper_bound)
FROM (SELECT *, row_number() OVER () AS n FROM dashie.partitions) AS p
\gexec

-- From the bare heap to dashie's table, one key or index after the other.
CREATE TABLE peer.step (name text, title text, ddl text);
INSERT INTO peer.step VALUES
	('key', '+ primary key', 'ADD PRIMARY KEY (id, "timestamp")'),
	('key_2', '+ index on widget_type', NULL),
	('key_3', '+ index on timestamp', NULL),
	('key_4', '+ index on user_id', NULL),
	('key_5', '+ index on session_id', NULL),
	('key_6', '+ CHECKs', 'ADD CHECK (event_type IN (''view'', ''click'', ''configure'', ''focus'', ''active'')), ADD CHECK (duration_seconds >= 0), ADD CHECK (isfinite("timestamp"))'),
	('key_7', '+ foreign keys', 'ADD FOREIGN KEY (user_id) REFERENCES auth.users (id), ADD FOREIGN KEY (session_id) REFERENCES public.user_sessions (id)');
CREATE TABLE peer.heap AS SELECT id, user_id, dashboard_id, session_id, widget_type, event_type, event_data, duration_seconds, "timestamp"
FROM peer.event LIMIT 0;
SELECT format('CREATE TABLE peer.%s (LIKE peer.heap)', name) FROM peer.step ORDER BY name
\gexec
SELECT format('ALTER TABLE peer.%s %s', t.name, s.ddl) FROM peer.step AS t JOIN peer.step AS s ON s.name <= t.name AND s.ddl IS NOT NULL
\gexec
SELECT format('CREATE INDEX ON peer.%s (%I)', t.name, i.col) FROM peer.step AS t
JOIN (VALUES ('key_2', 'widget_type'), ('key_3', 'timestamp'), ('key_4', 'user_id'), ('key_5', 'session_id')) AS i (name, col) ON i.name <= t.name
\gexec
CREATE TABLE peer.time (way text, run integer, ms numeric, wal numeric, bytes numeric);
ANALYZE auth.users, public.user_sessions;
