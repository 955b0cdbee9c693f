CREATE FUNCTION dashie.hold_partition(day date, reason text, until timestamptz DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_hold_partition';
COMMENT ON FUNCTION dashie.hold_partition(date, text, timestamptz) IS
'Keeps the partition of widget_analytics that has a day, whatever its retention; several holds with different reasons count each for itself, the same reason again sets its end anew.
day: in the configured time zone; reason: for people; until: when the hold ends, NULL: when it is released.
A NOTICE says that the partition has no rows. Holds are rows of dashie.partition_hold.
Errors: 22023 for a day that no partition has, NULL, an empty reason, an end that is not in the future; 55000 when widget_analytics is not enabled; 42501 without the rights of its owner.
Source: dashie semantics, "Retention and jobs".';
REVOKE ALL ON FUNCTION dashie.hold_partition(date, text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.hold_partition(date, text, timestamptz) TO @extowner@;

CREATE FUNCTION dashie.release_partition(day date, reason text DEFAULT NULL) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_release_partition';
COMMENT ON FUNCTION dashie.release_partition(date, text) IS
'Ends the holds of dashie.hold_partition() on a day. Returns how many there were.
day: as it was held; reason: that of one of them, NULL for all.
Errors: 22023 for NULL, or when there is no such hold; 55000 when widget_analytics is not enabled; 42501 without the rights of its owner.
Source: dashie semantics, "Retention and jobs".';
REVOKE ALL ON FUNCTION dashie.release_partition(date, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.release_partition(date, text) TO @extowner@;

CREATE FUNCTION dashie.set_archiver(archiver regproc) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_set_archiver';
COMMENT ON FUNCTION dashie.set_archiver(regproc) IS
'Names the function that has to confirm before a partition of widget_analytics is emptied or dropped; NULL: none. It is kept by schema and name.
archiver: called as archiver(partition regclass), returning boolean; further arguments have defaults. True confirms. False, NULL or an error keep the partition, are recorded (dashie.partition_archive_failure, dashie.partitions), and it is called again after 1, 2, 4 ... 60 minutes.
It runs as the owner of widget_analytics, security-restricted (no temporary tables, no SET ROLE), with search_path pinned to pg_catalog, in the transaction that empties the partition, and again if that is undone: what it does outside must bear repeating. It is not called for a partition without rows.
Errors: 22023 for a function of another signature; 42883 if there is none; 42501 if it belongs to a role without the rights of the owner of widget_analytics, if that owner may not execute it, or without that owner''s rights; 55000 when widget_analytics is not enabled.
Source: dashie semantics, "Retention and jobs".';
REVOKE ALL ON FUNCTION dashie.set_archiver(regproc) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.set_archiver(regproc) TO @extowner@;

CREATE FUNCTION dashie.archive_to_table(partition regclass, schema name DEFAULT 'dashie_archive') RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_archive_to_table';
COMMENT ON FUNCTION dashie.archive_to_table(regclass, name) IS
'An archiver: copies the rows of a partition of widget_analytics into a table of the same name in another schema, both made when missing, owned by the partition''s owner and granted to nobody. Rows that are there already are not copied again, and none is ever removed. Returns true when every row is there.
partition: of dashie.partitions; schema: where to.
The copy has no foreign keys: the deletion of a user does not reach it.
Errors: 22023 for NULL, what is no partition, or a schema of the system, of dashie or of the partition; 42501 for a schema of another owner, or without the right to make one; 42P16 for a table with other columns; 55006 when rows came meanwhile; 55000 when widget_analytics is not enabled.
Source: dashie semantics, "Retention and jobs".';
REVOKE ALL ON FUNCTION dashie.archive_to_table(regclass, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.archive_to_table(regclass, name) TO @extowner@;
