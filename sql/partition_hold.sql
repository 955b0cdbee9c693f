-- Holds on partitions of widget_analytics.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET dashie.now = '2026-03-10 12:00+00';
INSERT INTO auth.users (id) VALUES ('00000000-0000-0000-0000-000000000001');

-- Not enabled
SELECT dashie.hold_partition('2026-03-01', 'why');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.release_partition('2026-03-01');
\echo :LAST_ERROR_SQLSTATE

SELECT table_name FROM dashie.enable('widget_analytics');
-- nobody counts the events here, so that no partition waits for that
DROP TABLE dashie.changed_events;
-- 08 Feb has expired on 11 Mar, 09 Feb on 12 Mar, ...
INSERT INTO widget_analytics (user_id, widget_type, event_type, event_data, "timestamp")
SELECT '00000000-0000-0000-0000-000000000001', 'clock', 'view', jsonb_build_object('i', i), timestamptz '2026-02-08' + i * interval '6 hours'
FROM generate_series(0, 31) i;

CREATE FUNCTION maintain(dry_run boolean DEFAULT false)
RETURNS TABLE (action text, partition text, why text) LANGUAGE sql AS $$
	SELECT action, partition, reason FROM dashie.maintain_partitions(dry_run) WHERE action <> 'create' $$;

--
-- Holds
--
SELECT dashie.hold_partition(NULL, 'why');
SELECT dashie.hold_partition('2026-02-08', NULL);
SELECT dashie.hold_partition('2026-02-08', '');
SELECT dashie.hold_partition('2026-02-08', 'why', '2026-03-10 12:00+00');
SELECT dashie.hold_partition('2026-02-08', 'why', '-infinity');
SELECT dashie.hold_partition('infinity', 'why');
SELECT dashie.hold_partition('2026-02-07', 'before the first');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.hold_partition('2026-03-18', 'after the last');
SELECT dashie.release_partition('2026-02-08');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.release_partition(NULL);

SELECT dashie.hold_partition('2026-02-08', 'audit', '2026-03-20');
SELECT dashie.hold_partition('2026-02-08', 'lawsuit');
SELECT dashie.hold_partition('2026-02-09', 'audit', 'infinity');
SELECT day, reason, until, placed_by = current_user AS me, placed_at FROM dashie.partition_hold ORDER BY day, reason;
SELECT partition, kept_by, kept_until, drop_at FROM dashie.partitions WHERE kept_by IS NOT NULL ORDER BY 1;
SET dashie.now = '2026-03-13 06:00+00';
SELECT * FROM maintain(dry_run => true);
SELECT table_name, action, upto, reason FROM dashie.apply_retention(true);
-- the third has no hold and goes
SELECT * FROM maintain();
SELECT * FROM maintain();
-- the same reason again sets the end anew, and ended ones go
SELECT dashie.hold_partition('2026-02-08', 'lawsuit', '2026-03-14');
SELECT partition, kept_by, kept_until FROM dashie.partitions WHERE kept_by IS NOT NULL ORDER BY 1;
SELECT dashie.release_partition('2026-02-08', 'nothing of that name');
SELECT dashie.release_partition('2026-02-08', 'audit');
SET dashie.now = '2026-03-14 00:00+00';
SELECT * FROM maintain();
SELECT dashie.release_partition('2026-02-09');
SELECT * FROM maintain();
SELECT day FROM dashie.partition_hold;

-- a day counts in the configured zone, and keeps whatever partition has some of it
SELECT dashie.configure('timezone', 'America/New_York');
SELECT dashie.hold_partition('2026-02-11', 'zone');
SELECT partition, kept_by FROM dashie.partitions WHERE kept_by IS NOT NULL ORDER BY 1;
SELECT dashie.release_partition('2026-02-11');
SELECT dashie.configure('timezone', NULL);
CREATE TABLE january PARTITION OF widget_analytics FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
SELECT dashie.hold_partition('2026-01-15', 'in the middle');
SELECT dashie.hold_partition('2026-01-31', 'at the end');
\set VERBOSITY terse
SET client_min_messages = notice;
SELECT dashie.hold_partition('2026-01-01', 'at the start');
SET client_min_messages = warning;
SELECT * FROM maintain();
SELECT dashie.release_partition(day) FROM (SELECT DISTINCT day FROM dashie.partition_hold ORDER BY day) d;
SELECT * FROM maintain();

-- the job passes by what is held
SET dashie.now = '2026-03-16 06:00+00';
SELECT dashie.hold_partition('2026-02-12', 'job');
CALL dashie.run_job('maintain_partitions');
SELECT status, rows > 0 AS emptied FROM dashie.job_run ORDER BY id DESC LIMIT 1;
SELECT partition, kept_by FROM dashie.partitions ORDER BY lower_bound LIMIT 2;
SELECT count(*) FROM widget_analytics WHERE "timestamp" < '2026-02-14';
-- retention grows: what it no longer wants is shown as held all the same
SELECT dashie.set_retention('widget_analytics', '33 days');
SELECT partition, kept_by FROM dashie.partitions ORDER BY lower_bound LIMIT 1;
SELECT * FROM maintain();
SELECT dashie.set_retention('widget_analytics', NULL);
-- rows written by hand that make no sense hold nothing
INSERT INTO dashie.partition_hold VALUES ('infinity', 'x', NULL, 'me', now()), ('-infinity', 'x', NULL, 'me', now()), ('9999-12-31', 'x', NULL, 'me', now()),
	('4000-01-01 BC', 'x', NULL, 'me', now());
SELECT partition, kept_by FROM dashie.partitions WHERE kept_by IS NOT NULL;
-- without the table nothing is held, and a call says what is missing
DROP TABLE dashie.partition_hold;
SELECT dashie.hold_partition('2026-02-20', 'why');
SELECT * FROM maintain(true);
SELECT action FROM dashie.enable('widget_analytics');
DROP TABLE dashie.changed_events;
SELECT dashie.hold_partition('2026-02-12', 'again');
DROP TABLE dashie.partition_hold;
CREATE VIEW dashie.partition_hold AS SELECT current_date AS day, 'x' AS reason, now() AS until;
SELECT * FROM maintain();
DROP VIEW dashie.partition_hold;
SELECT action FROM dashie.enable('widget_analytics');
DROP TABLE dashie.changed_events;
SELECT * FROM maintain();

-- Rights
CREATE ROLE hold_stranger NOLOGIN;
GRANT USAGE ON SCHEMA dashie TO hold_stranger;
SET ROLE hold_stranger;
SELECT dashie.hold_partition('2026-03-01', 'mine');
SELECT dashie.release_partition('2026-03-01');
RESET ROLE;
GRANT EXECUTE ON FUNCTION dashie.hold_partition, dashie.release_partition TO hold_stranger;
SET ROLE hold_stranger;
SELECT dashie.hold_partition('2026-03-01', 'mine');
SELECT dashie.release_partition('2026-03-01');
RESET ROLE;

DROP FUNCTION maintain(boolean);
DROP OWNED BY hold_stranger;
DROP ROLE hold_stranger;
SELECT dashie.disable('widget_analytics');
SELECT dashie.disable('user_sessions');
DROP TABLE widget_analytics, user_sessions;
DROP TABLE dashie.event_page, dashie.metrics_state, dashie.user_number, dashie.user_country, dashie.dashboard_number, dashie.day_page, dashie.retention_floor;
DELETE FROM auth.users;
