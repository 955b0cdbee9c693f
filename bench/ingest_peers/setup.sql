-- The events that every way stores, and the tables that they go to.
CREATE EXTENSION dashie;
SET client_min_messages = warning;
SELECT dashie.create_auth_stub();
SELECT * FROM dashie.enable('widget_analytics');
CREATE SCHEMA peer;

INSERT INTO auth.users (id) SELECT md5('user' || n)::uuid FROM generate_series(1, 1000) AS n;
INSERT INTO public.user_sessions (id, user_id, started_at)
SELECT md5('session' || n)::uuid, md5('user' || n)::uuid, now() - interval '1 hour' FROM generate_series(1, 1000) AS n;

-- Ids are random, as a browser's crypto.randomUUID() makes them, or of version 7: the
-- milliseconds of the event, and random after that.
CREATE FUNCTION peer.id(name text, at timestamptz, kind text) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
	SELECT (CASE WHEN kind = 'v7' THEN lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(name), 14)
		ELSE overlay(md5(name) placing '4' from 13) END)::uuid $$;

-- A batch is one session's.
CREATE TABLE peer.event AS
SELECT e.batch, peer.id('event' || e.batch || '.' || e.i, e."timestamp", :'ids') AS id, e.user_id, e.dashboard_id, e.session_id,
	e.widget_type, e.event_type, e.event_data, e.duration_seconds, e."timestamp"
FROM (
SELECT b AS batch, i, md5('user' || b % 1000 + 1)::uuid AS user_id,
	NULL::uuid AS dashboard_id, md5('session' || b % 1000 + 1)::uuid AS session_id,
	(ARRAY['header', 'clock', 'main', 'agenda', 'photos', 'voice', 'weather', 'map', 'camera'])[1 + (i * 7 + b) % 9] AS widget_type,
	(ARRAY['view', 'view', 'view', 'click', 'focus', 'active', 'configure'])[1 + i % 7] AS event_type,
	CASE WHEN i % 3 = 0 THEN jsonb_build_object('source', 'touch', 'x', i % 1920, 'y', i % 1080) END AS event_data,
	i % 600 AS duration_seconds, date_trunc('milliseconds', now() - interval '1 hour') + i * interval '3 seconds' AS "timestamp"
FROM generate_series(1, :batches) AS b, generate_series(1, :events) AS i) AS e;

-- The tables that the events of a way are written to: of a partitioned one the days that they are of.
CREATE FUNCTION peer.parts(written regclass) RETURNS SETOF regclass LANGUAGE sql AS $$
	SELECT part FROM (SELECT t.relid AS part, (regexp_matches(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.*)''\) TO \(''(.*)''\)'))::timestamptz[] AS bounds
		FROM pg_partition_tree(written) AS t JOIN pg_class AS c ON c.oid = t.relid WHERE t.isleaf AND t.level > 0) AS p
	WHERE EXISTS (SELECT FROM peer.event WHERE "timestamp" >= bounds[1] AND "timestamp" < bounds[2])
	UNION ALL SELECT written WHERE NOT EXISTS (SELECT FROM pg_partitioned_table WHERE partrelid = written) $$;

-- What the days before them hold.
INSERT INTO public.widget_analytics (id, user_id, session_id, widget_type, event_type, duration_seconds, "timestamp")
SELECT peer.id('history' || d.lower_bound || '.' || n, s.at, :'ids'), md5('user' || n % 1000 + 1)::uuid, md5('session' || n % 1000 + 1)::uuid,
	(ARRAY['header', 'clock', 'main', 'agenda', 'photos', 'voice', 'weather', 'map', 'camera'])[1 + n % 9], 'view', n % 600, s.at
FROM dashie.partitions AS d, generate_series(1, :history) AS n,
	LATERAL (SELECT d.lower_bound + n * ((d.upper_bound - d.lower_bound) / (:history + 1))) AS s (at)
WHERE d.upper_bound <= (SELECT min("timestamp") FROM peer.event)
	AND NOT EXISTS (SELECT FROM peer.parts('public.widget_analytics') AS part WHERE part = format('public.%I', d.partition)::regclass);

-- The batch as a device sends it.
CREATE TABLE peer.batch AS
SELECT batch, user_id, session_id, jsonb_agg(jsonb_build_object('id', id, 'widget_type', widget_type,
	'event_type', event_type, 'event_data', event_data, 'duration_seconds', duration_seconds,
	'timestamp', to_char("timestamp" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))) AS events
FROM peer.event GROUP BY batch, user_id, session_id;

-- The roadmap's DDL, with the changes without which PostgreSQL refuses it: the
-- key contains the partition column.
CREATE EXTENSION "uuid-ossp";
CREATE TABLE peer.roadmap (
	id uuid DEFAULT uuid_generate_v4(),
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

-- The least that a table with the roadmap's keys takes.
CREATE TABLE peer.least (LIKE peer.heap);
ALTER TABLE peer.least ADD PRIMARY KEY (id, "timestamp"), ADD FOREIGN KEY (user_id) REFERENCES auth.users (id),
	ADD FOREIGN KEY (session_id) REFERENCES public.user_sessions (id);

CREATE TABLE peer.time (way text, run integer, ms numeric, cpu numeric, wal numeric, bytes numeric);
ANALYZE auth.users, public.user_sessions;
VACUUM ANALYZE public.widget_analytics;
