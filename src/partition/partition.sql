-- Not dumped: it names tables by OID.
CREATE TABLE dashie.partition_removal (
	relid oid PRIMARY KEY,
	schema_name text NOT NULL,
	partition text NOT NULL,
	lower_bound timestamptz NOT NULL,
	upper_bound timestamptz NOT NULL,
	begun_at timestamptz NOT NULL
);
COMMENT ON TABLE dashie.partition_removal IS
'Expired partitions of widget_analytics that a worker detached with DETACH CONCURRENTLY because their parent was never free, until they are dropped. A row is written in the transaction that marks the partition: what somebody else detached is never here, and never dropped. Whoever attaches such a table again, or renames it, keeps it.';
REVOKE ALL ON TABLE dashie.partition_removal FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE dashie.partition_removal TO @extowner@;

CREATE FUNCTION dashie.maintain_partitions(
	dry_run boolean DEFAULT false,
	OUT action text, OUT partition text, OUT lower_bound timestamptz, OUT upper_bound timestamptz,
	OUT row_estimate bigint, OUT bytes bigint, OUT reason text, OUT locks text, OUT blocked_by text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER ROWS 10 AS 'MODULE_PATHNAME', 'dashie_maintain_partitions';
COMMENT ON FUNCTION dashie.maintain_partitions(boolean) IS
'Makes the missing daily partitions of widget_analytics, and removes one that retention has expired, in the caller''s transaction.
dry_run: do nothing, tell what would be done, for all expired ones, the locks it takes and who would block it now.
Returns one row for each thing done (create, remove, or finalize: a DETACH CONCURRENTLY that somebody had begun), not to be done yet (hold: on hold, not archived, or not yet in what is computed from it; reason says which) or not to be done now (blocked, with the holders of the locks); bounds are NULL where there is none.
Waits for no lock longer than the setting maintenance_lock_timeout_ms (milliseconds).
Errors: 22023 for NULL; 55000 when widget_analytics is not enabled, is not partitioned by a timestamptz, or has a default partition.
Source: dashie semantics, "Retention and jobs".';
REVOKE ALL ON FUNCTION dashie.maintain_partitions(boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.maintain_partitions(boolean) TO @extowner@;

CREATE FUNCTION dashie.partitions_list(
	OUT partition text, OUT lower_bound timestamptz, OUT upper_bound timestamptz,
	OUT rows bigint, OUT bytes bigint, OUT drop_at timestamptz, OUT days_left integer,
	OUT kept_by text, OUT kept_until timestamptz)
RETURNS SETOF record
LANGUAGE c STABLE PARALLEL UNSAFE SECURITY INVOKER ROWS 40 AS 'MODULE_PATHNAME', 'dashie_partitions_list';
COMMENT ON FUNCTION dashie.partitions_list() IS
'The rows of view dashie.partitions.';
REVOKE ALL ON FUNCTION dashie.partitions_list() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.partitions_list() TO @extowner@;

CREATE VIEW dashie.partitions AS
SELECT p.partition, p.lower_bound, p.upper_bound, p.rows, p.bytes, p.drop_at, p.days_left, p.kept_by, p.kept_until
FROM dashie.partitions_list() AS p;
COMMENT ON VIEW dashie.partitions IS
'The partitions of widget_analytics: bounds (-infinity and infinity where there is none), estimated rows, size with indexes in bytes, and drop_at, from when on retention may drop it (NULL: never). days_left: for how many whole days from now inserts find a partition (the same in each row; NULL: without end). kept_by: what keeps it even so, a hold or the archiver''s last failure (NULL: nothing), and kept_until when that ends (NULL: not known). Empty while widget_analytics is not enabled.';
REVOKE ALL ON TABLE dashie.partitions FROM PUBLIC;
GRANT SELECT ON TABLE dashie.partitions TO @extowner@;
