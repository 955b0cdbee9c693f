-- The archiver that has to confirm before a partition of widget_analytics goes.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
SET dashie.now = '2026-03-10 12:00+00';
INSERT INTO auth.users (id) VALUES ('00000000-0000-0000-0000-000000000001');

-- Not enabled
SELECT dashie.set_archiver('dashie.archive_to_table');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.archive_to_table('pg_class');
\echo :LAST_ERROR_SQLSTATE

-- Four rows a day; 08 Feb expires on 11 Mar, 09 Feb on 12 Mar, ...
SELECT dashie.configure('partitions_ahead_days', '30');
SELECT table_name FROM dashie.enable('widget_analytics');
-- nobody counts the events here, so that no partition waits for that
DROP TABLE dashie.changed_events;
SELECT dashie.configure('partitions_ahead_days', NULL);
INSERT INTO widget_analytics (user_id, widget_type, event_type, event_data, "timestamp")
SELECT '00000000-0000-0000-0000-000000000001', 'clock', 'view', jsonb_build_object('i', i), timestamptz '2026-02-08' + i * interval '6 hours'
FROM generate_series(0, 31) i;
CREATE FUNCTION timeless(text) RETURNS text LANGUAGE sql AS $$ SELECT regexp_replace($1, 'next try at \S+ \S+: ', 'next try at T: ', 'g') $$;
CREATE FUNCTION maintain(dry_run boolean DEFAULT false)
RETURNS TABLE (action text, partition text, why text) LANGUAGE sql AS $$
	SELECT action, partition, timeless(reason) FROM dashie.maintain_partitions(dry_run) WHERE action <> 'create' $$;

--
-- Archivers that cannot be
--
CREATE SCHEMA arch;
CREATE FUNCTION arch.returns_text(regclass) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$;
CREATE FUNCTION arch.takes_oid(oid) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
CREATE FUNCTION arch.takes_two(regclass, text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
CREATE FUNCTION arch.set_of(regclass) RETURNS SETOF boolean LANGUAGE sql AS $$ SELECT true $$;
CREATE PROCEDURE arch.procedure(regclass) LANGUAGE sql AS $$ SELECT true $$;
SELECT dashie.set_archiver('arch.nothing');
SELECT dashie.set_archiver(0);
SELECT dashie.set_archiver('arch.returns_text');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.set_archiver('arch.takes_oid');
SELECT dashie.set_archiver('arch.takes_two');
SELECT dashie.set_archiver('arch.set_of');
SELECT dashie.set_archiver('arch.procedure');
SELECT * FROM dashie.partition_archiver;

--
-- An archiver: whom it runs as, and what it may do
--
CREATE TABLE arch.log (n serial, what text);
CREATE FUNCTION arch.record(partition regclass, answer boolean DEFAULT true) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO arch.log (what) SELECT format('%s of %s rows', partition, count(*)) FROM public.widget_analytics
	WHERE tableoid = partition;
	RETURN answer;
END $$;
SET dashie.now = '2026-03-11 06:00+00';
SELECT dashie.set_archiver('arch.record');
SELECT schema_name, function_name, set_by = current_user AS me, set_at FROM dashie.partition_archiver;
SELECT * FROM maintain(dry_run => true);
-- not while locks of another kind are held
SELECT dashie.configure('partitions_ahead_days', '31');
SELECT * FROM maintain();
SELECT dashie.configure('partitions_ahead_days', NULL);
SELECT * FROM maintain();
SELECT what FROM arch.log ORDER BY n;
-- a regprocedure will do; what it sets does not stay; it can neither change role nor make temporary tables
CREATE FUNCTION arch.sets(regclass) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('work_mem', '1234kB', false), set_config('search_path', 'arch', false);
	RETURN true;
END $$;
CREATE FUNCTION arch.role(regclass) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN SET ROLE pg_monitor; RETURN true; END $$;
CREATE FUNCTION arch.temporary(regclass) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE t (); RETURN true; END $$;
CREATE FUNCTION arch.denies(regclass) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
CREATE FUNCTION arch.unsure(regclass) RETURNS boolean LANGUAGE sql AS $$ SELECT NULL::boolean $$;
CREATE FUNCTION arch.fails(regclass) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN INSERT INTO arch.log (what) VALUES ('undone'); RAISE 'no space left on tape' USING DETAIL = 'Tape 7.'; END $$;
CREATE FUNCTION arch.nested(regclass) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN RAISE '%', (SELECT string_agg(reason, '; ') FROM dashie.maintain_partitions() WHERE action = 'hold'); END $$;
CREATE FUNCTION arch.changes(regclass) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	UPDATE public.widget_analytics SET duration_seconds = 1 WHERE tableoid = $1;
	RETURN true;
END $$;
CREATE FUNCTION arch.empties(regclass) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN DELETE FROM public.widget_analytics WHERE tableoid = $1; RETURN true; END $$;
SET dashie.now = '2026-03-12 06:00+00';
CREATE FUNCTION try(name text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dashie.set_archiver(('arch.' || name)::regproc);
	RETURN (SELECT string_agg(concat_ws(' ', action, partition, why), '; ') FROM maintain());
END $$;
SELECT name, try(name) FROM unnest('{role,temporary,denies,unsure,fails,nested,changes,empties}'::text[]) AS name;
SELECT partition, rows FROM dashie.partitions WHERE upper_bound <= '2026-02-10';
SELECT count(*), sum((event_data->>'i')::int) FROM widget_analytics WHERE "timestamp" < '2026-02-10';
SELECT what FROM arch.log ORDER BY n;

--
-- A failure keeps the partition, is recorded, and waits for its next try
--
SET dashie.now = '2026-03-13 06:00+00';
SELECT dashie.set_archiver('arch.fails');
SELECT * FROM maintain();
SELECT * FROM maintain();
SELECT partition, failures, message, next_try - failed_at AS wait FROM dashie.partition_archive_failure ORDER BY 1;
SELECT partition, timeless(kept_by) AS kept_by, kept_until > now() AS later
FROM dashie.partitions WHERE kept_by IS NOT NULL ORDER BY 1;
UPDATE dashie.partition_archive_failure SET next_try = now();
SELECT count(*) FROM maintain();
SELECT partition, failures, next_try - failed_at AS wait FROM dashie.partition_archive_failure ORDER BY 1;
-- up to an hour
UPDATE dashie.partition_archive_failure SET failures = 100, next_try = now();
SELECT count(*) FROM maintain();
SELECT partition, failures, next_try - failed_at AS wait FROM dashie.partition_archive_failure ORDER BY 1;
-- a next try that a wrong clock has put years ahead is none
UPDATE dashie.partition_archive_failure SET next_try = now() + interval '3 years';
SELECT kept_by FROM dashie.partitions WHERE kept_by IS NOT NULL;
-- the job is recorded as failed, and has done the rest
SELECT dashie.set_archiver('arch.record');
CREATE OR REPLACE FUNCTION arch.record(partition regclass, answer boolean DEFAULT true) RETURNS boolean LANGUAGE sql AS $$
	SELECT partition <> 'public.widget_analytics_20260209'::regclass $$;
CALL dashie.run_job('maintain_partitions');
SELECT status, sqlstate, rows, error_message
FROM dashie.job_run ORDER BY id DESC LIMIT 1;
SELECT partition FROM dashie.partitions WHERE upper_bound <= '2026-02-11' ORDER BY 1;
SELECT partition, failures FROM dashie.partition_archive_failure ORDER BY 1;
-- a run in which nothing is tried succeeds
CALL dashie.run_job('maintain_partitions');
SELECT status FROM dashie.job_run ORDER BY id DESC LIMIT 1;
-- retention's job the same
UPDATE dashie.partition_archive_failure SET next_try = now();
CALL dashie.run_job('apply_retention');
SELECT status, error_message
FROM dashie.job_run ORDER BY id DESC LIMIT 1;
-- dropped meanwhile, or of another kind by now
UPDATE dashie.partition_archive_failure SET next_try = now();
DROP FUNCTION arch.record;
SELECT * FROM maintain();
CREATE FUNCTION arch.record(partition oid) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
UPDATE dashie.partition_archive_failure SET next_try = now();
SELECT * FROM maintain();
-- a schema that was renamed
SELECT dashie.set_archiver('arch.sets');
ALTER SCHEMA arch RENAME TO "Arch ""2""";
SELECT * FROM maintain();
ALTER SCHEMA "Arch ""2""" RENAME TO arch;
SELECT dashie.set_archiver('arch.sets(regclass)'::regprocedure);
SELECT * FROM dashie.partition_archive_failure;
SELECT * FROM maintain();
SELECT current_setting('work_mem') = '1234kB' AS work_mem, current_setting('search_path') ~ 'arch' AS search_path;
SELECT dashie.set_archiver(NULL);
SELECT * FROM dashie.partition_archiver;

--
-- archive_to_table
--
SELECT dashie.archive_to_table(NULL);
SELECT dashie.archive_to_table('widget_analytics_20260211', NULL);
SELECT dashie.archive_to_table('widget_analytics');
SELECT dashie.archive_to_table('pg_class');
SELECT dashie.archive_to_table(0);
SELECT dashie.archive_to_table('widget_analytics_20260211', 'public');
SELECT dashie.archive_to_table('widget_analytics_20260211', 'dashie');
SELECT dashie.archive_to_table('widget_analytics_20260211', 'pg_temp');
SELECT dashie.archive_to_table('widget_analytics_20260211', '');
SELECT dashie.archive_to_table('widget_analytics_20260211');
SELECT count(*), sum((event_data->>'i')::int) FROM dashie_archive.widget_analytics_20260211;
SELECT relrowsecurity, obj_description(oid, 'pg_class') FROM pg_class WHERE oid = 'dashie_archive.widget_analytics_20260211'::regclass;
-- again, with what has come since; nothing is ever removed
SELECT dashie.archive_to_table('widget_analytics_20260211');
INSERT INTO widget_analytics (user_id, widget_type, event_type, "timestamp")
VALUES ('00000000-0000-0000-0000-000000000001', 'clock', 'view', '2026-02-11 03:00');
SELECT dashie.archive_to_table('widget_analytics_20260211');
DELETE FROM widget_analytics WHERE "timestamp" = '2026-02-11 03:00';
SELECT dashie.archive_to_table('widget_analytics_20260211');
SELECT count(*) FROM dashie_archive.widget_analytics_20260211;
-- a row that changed is another row
UPDATE widget_analytics SET duration_seconds = 5 WHERE "timestamp" = '2026-02-11 06:00';
SELECT dashie.archive_to_table('widget_analytics_20260211');
SELECT "timestamp", duration_seconds FROM dashie_archive.widget_analytics_20260211 ORDER BY 1, 2;
-- types without equality, NULLs, generated and dropped columns, large values
ALTER TABLE widget_analytics ADD COLUMN j json, ADD COLUMN gone int, ADD COLUMN p point,
	ADD COLUMN twice int GENERATED ALWAYS AS (duration_seconds * 2) STORED;
ALTER TABLE widget_analytics DROP COLUMN gone;
SELECT dashie.archive_to_table('widget_analytics_20260211');
\echo :LAST_ERROR_SQLSTATE
DROP TABLE dashie_archive.widget_analytics_20260211;
UPDATE widget_analytics SET j = '{"a" : 1 }', p = '(1,2)', event_data = jsonb_build_object('x', repeat('abc', 100000)) WHERE "timestamp" = '2026-02-11 06:00';
SELECT dashie.archive_to_table('widget_analytics_20260211');
SELECT dashie.archive_to_table('widget_analytics_20260211');
SELECT count(*), count(*) FILTER (WHERE p.* *= t.*) AS same, min(t.j::text) AS j, min(t.twice) AS twice, max(length(t.event_data->>'x')) AS x
FROM ONLY widget_analytics_20260211 p JOIN dashie_archive.widget_analytics_20260211 t USING (id);
-- what loses rows does not confirm
CREATE RULE loses AS ON INSERT TO dashie_archive.widget_analytics_20260211 DO INSTEAD NOTHING;
INSERT INTO widget_analytics (user_id, widget_type, event_type, "timestamp")
VALUES ('00000000-0000-0000-0000-000000000001', 'clock', 'view', '2026-02-11 04:00');
SELECT dashie.archive_to_table('widget_analytics_20260211');
\echo :LAST_ERROR_SQLSTATE
DROP TABLE dashie_archive.widget_analytics_20260211;
CREATE VIEW dashie_archive.widget_analytics_20260211 AS TABLE widget_analytics;
SELECT dashie.archive_to_table('widget_analytics_20260211');
\echo :LAST_ERROR_SQLSTATE
DROP VIEW dashie_archive.widget_analytics_20260211;

-- as the archiver: rows leave only with their copy
SELECT dashie.set_archiver('dashie.archive_to_table');
SET dashie.now = '2026-03-15 06:00+00';
CREATE TABLE before_all AS SELECT * FROM widget_analytics;
CALL dashie.run_job('maintain_partitions');
SELECT status, rows FROM dashie.job_run ORDER BY id DESC LIMIT 1;
SELECT count(*), count(a.id) AS archived, count(w.id) AS still_there
FROM before_all b
LEFT JOIN (TABLE dashie_archive.widget_analytics_20260211 UNION ALL TABLE dashie_archive.widget_analytics_20260212) a ON a.id = b.id
LEFT JOIN widget_analytics w ON w.id = b.id;
SELECT partition FROM dashie.partitions WHERE upper_bound <= '2026-02-14' ORDER BY 1;
-- in a schema of one's own
CREATE FUNCTION arch.elsewhere(partition regclass) RETURNS boolean LANGUAGE sql AS $$ SELECT dashie.archive_to_table(partition, 'Cold "storage"') $$;
SELECT dashie.set_archiver('arch.elsewhere');
SET dashie.now = '2026-03-16 06:00+00';
SELECT * FROM maintain();
SELECT count(*) FROM "Cold ""storage""".widget_analytics_20260213;
-- a partition with partitions of its own, one of them empty
CREATE TABLE deep PARTITION OF widget_analytics FOR VALUES FROM ('2026-01-01') TO ('2026-02-01') PARTITION BY RANGE ("timestamp");
CREATE TABLE deep_1 PARTITION OF deep FOR VALUES FROM ('2026-01-01') TO ('2026-01-15');
CREATE TABLE deep_2 PARTITION OF deep FOR VALUES FROM ('2026-01-15') TO ('2026-02-01');
INSERT INTO widget_analytics (user_id, widget_type, event_type, "timestamp")
SELECT '00000000-0000-0000-0000-000000000001', 'map', 'view', timestamptz '2026-01-20' + i * interval '1 hour' FROM generate_series(1, 10) i;
SELECT * FROM maintain();
SELECT count(*) FROM "Cold ""storage""".deep;
SELECT to_regclass('deep'), to_regclass('deep_2');

--
-- Rights
--
CREATE ROLE arch_owner NOLOGIN;
CREATE ROLE arch_stranger NOLOGIN;
GRANT USAGE ON SCHEMA dashie TO arch_stranger;
GRANT EXECUTE ON FUNCTION dashie.set_archiver TO arch_stranger;
SET ROLE arch_stranger;
SELECT dashie.set_archiver(NULL);
SELECT dashie.set_archiver('arch.elsewhere');
SELECT dashie.archive_to_table('public.widget_analytics_20260301');
RESET ROLE;
SELECT function_name FROM dashie.partition_archiver;
-- of somebody who could make it act as the table's owner; and so later
ALTER TABLE widget_analytics OWNER TO arch_owner;
DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT relid FROM pg_partition_tree('widget_analytics') LOOP EXECUTE format('ALTER TABLE %s OWNER TO arch_owner', t); END LOOP; END $$;
GRANT CREATE ON SCHEMA public TO arch_owner;
GRANT USAGE ON SCHEMA arch, dashie TO arch_owner;
GRANT REFERENCES, SELECT ON user_sessions, auth.users TO arch_owner;
GRANT USAGE ON SCHEMA auth TO arch_owner;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA arch TO arch_owner;
GRANT SELECT, INSERT, UPDATE, DELETE ON dashie.partition_hold, dashie.partition_archiver, dashie.partition_archive_failure, dashie.retention_floor TO arch_owner;
CREATE FUNCTION arch.whoami(regclass) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN INSERT INTO arch.log (what) VALUES (concat_ws(' ', current_user, current_setting('search_path'))); RETURN true; END $$;
GRANT USAGE ON SEQUENCE arch.log_n_seq TO arch_owner;
ALTER FUNCTION arch.whoami OWNER TO arch_stranger;
SELECT dashie.set_archiver('arch.whoami');
\echo :LAST_ERROR_SQLSTATE
ALTER FUNCTION arch.whoami OWNER TO arch_owner;
SELECT dashie.set_archiver('arch.whoami');
ALTER FUNCTION arch.whoami OWNER TO arch_stranger;
SET dashie.now = '2026-03-17 06:00+00';
SELECT * FROM maintain();
ALTER FUNCTION arch.whoami OWNER TO arch_owner;
UPDATE dashie.partition_archive_failure SET next_try = now();
TRUNCATE arch.log;
SELECT * FROM maintain();
SELECT what FROM arch.log;
-- may not be executed by the owner
REVOKE USAGE ON SCHEMA dashie FROM arch_owner;
SELECT dashie.set_archiver('dashie.archive_to_table');
\echo :LAST_ERROR_SQLSTATE
-- a schema that somebody else has made, to drop what is put there
GRANT USAGE ON SCHEMA dashie TO arch_owner;
GRANT EXECUTE ON FUNCTION dashie.archive_to_table TO arch_owner;
DROP SCHEMA dashie_archive CASCADE;
CREATE SCHEMA dashie_archive;
GRANT ALL ON SCHEMA dashie_archive TO PUBLIC;
SELECT dashie.set_archiver('dashie.archive_to_table');
SET dashie.now = '2026-03-18 06:00+00';
SELECT * FROM maintain();
ALTER SCHEMA dashie_archive OWNER TO arch_owner;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE arch_owner GRANT ALL ON TABLES TO PUBLIC;
UPDATE dashie.partition_archive_failure SET next_try = now();
SELECT * FROM maintain();
SELECT relowner::regrole, relrowsecurity, (SELECT count(*) FROM aclexplode(relacl) WHERE grantee <> relowner) AS granted
FROM pg_class WHERE relnamespace = 'dashie_archive'::regnamespace AND relkind = 'r';
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE arch_owner REVOKE ALL ON TABLES FROM PUBLIC;

SELECT dashie.set_archiver(NULL);
SELECT dashie.disable('widget_analytics');
SELECT dashie.disable('user_sessions');
DROP TABLE widget_analytics, before_all, user_sessions;
DROP SCHEMA arch, dashie_archive, "Cold ""storage""" CASCADE;
DROP FUNCTION maintain(boolean), timeless(text), try(text);
DROP OWNED BY arch_owner, arch_stranger;
DROP ROLE arch_owner, arch_stranger;
DROP TABLE dashie.event_page, dashie.metrics_state, dashie.user_number, dashie.user_country, dashie.dashboard_number, dashie.day_page, dashie.retention_floor;
DELETE FROM auth.users;
