CREATE FUNCTION dashie.retention_valid(table_name text, keep interval) RETURNS boolean
LANGUAGE c IMMUTABLE PARALLEL SAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_retention_valid';
COMMENT ON FUNCTION dashie.retention_valid(text, interval) IS
'Whether dashie.set_retention() could have stored this: the check of table dashie.retention_config.';
REVOKE ALL ON FUNCTION dashie.retention_valid(text, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.retention_valid(text, interval) TO @extowner@;

CREATE TABLE dashie.retention_config (
	table_name text PRIMARY KEY,
	keep interval NOT NULL,
	CONSTRAINT retention_valid CHECK (dashie.retention_valid(table_name, keep))
);
COMMENT ON TABLE dashie.retention_config IS
'How long rows are kept where that differs from the roadmap. Written by dashie.set_retention(), shown by dashie.roadmap.';
REVOKE ALL ON TABLE dashie.retention_config FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE dashie.retention_config TO @extowner@;
SELECT pg_catalog.pg_extension_config_dump('dashie.retention_config', '');

CREATE FUNCTION dashie.set_retention(table_name text, keep interval) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_set_retention';
COMMENT ON FUNCTION dashie.set_retention(text, interval) IS
'Sets how long rows of a roadmap table are kept. Takes effect when retention runs next; nothing is removed at once.
table_name: a table of dashie.roadmap, enabled or not; keep: from 1 day to 100 years, at least 7 years for stripe_webhook_events; NULL for the roadmap''s own retention.
Errors: 22023 for an unknown table, a table that is kept for ever (daily_metrics, geographic_stats), or an interval out of range.
Source: dashie semantics, "Retention and jobs".';
REVOKE ALL ON FUNCTION dashie.set_retention(text, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.set_retention(text, interval) TO @extowner@;

CREATE FUNCTION dashie.apply_retention(
	dry_run boolean DEFAULT false,
	OUT table_name text, OUT action text, OUT upto timestamptz, OUT rows bigint, OUT bytes bigint,
	OUT reason text, OUT locks text, OUT blocked_by text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER ROWS 10 AS 'MODULE_PATHNAME', 'dashie_apply_retention';
COMMENT ON FUNCTION dashie.apply_retention(boolean) IS
'Removes what is older than its retention, in the caller''s transaction: one batch (setting batch_rows) of each table and one partition at most. The job of the same name goes on until nothing is left.
dry_run: true removes nothing, and shows all that is due, the locks that each step takes and who would block it now.
A row for each thing done: action is delete, remove (a partition), finalize (a DETACH CONCURRENTLY that somebody had begun), hold (expired, but its days are not in the metrics or the rollups yet, or the partition is on hold or not archived), blocked (a lock was not to be had) or failed (reason says why; the other tables go on).
upto: rows before it have expired; bytes: an estimate from the planner''s statistics, NULL without them.
Errors: 22023 for NULL.
Source: dashie semantics, "Retention and jobs".';
REVOKE ALL ON FUNCTION dashie.apply_retention(boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.apply_retention(boolean) TO @extowner@;
