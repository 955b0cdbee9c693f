-- The DDL of the ten tables, one row a file of src/roadmap/tables/; the rows
-- stand at the end of the install script.
CREATE TABLE dashie.table_ddl (
	table_name text PRIMARY KEY,
	ddl text NOT NULL
);
COMMENT ON TABLE dashie.table_ddl IS
'The DDL that dashie.enable() runs, as installed. @schema@ and @user_sessions@ stand for names.';
REVOKE ALL ON TABLE dashie.table_ddl FROM PUBLIC;
GRANT SELECT ON TABLE dashie.table_ddl TO @extowner@;

CREATE TABLE dashie.enabled_table (
	table_name text PRIMARY KEY
		CONSTRAINT enabled_table_name_check CHECK (table_name IN
			('stripe_webhook_events', 'system_events', 'user_sessions', 'daily_metrics', 'dashboards',
			 'widget_analytics', 'geographic_stats', 'account_clusters', 'abuse_patterns', 'feature_usage')),
	schema_name text NOT NULL
		CONSTRAINT enabled_table_schema_check CHECK (schema_name <> '' AND
			pg_catalog.octet_length(schema_name) < 64 AND
			schema_name NOT LIKE 'pg\_%' AND schema_name NOT IN ('information_schema', 'dashie')),
	enabled_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE dashie.enabled_table IS
'Which tables of the roadmap are enabled, and in which schema. Written by dashie.enable() and dashie.disable(), shown by dashie.roadmap.';
REVOKE ALL ON TABLE dashie.enabled_table FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE dashie.enabled_table TO @extowner@;
SELECT pg_catalog.pg_extension_config_dump('dashie.enabled_table', '');

CREATE FUNCTION dashie.enable(
	table_name text, schema name DEFAULT 'public',
	OUT table_name text, OUT schema_name text, OUT action text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER ROWS 2 AS 'MODULE_PATHNAME', 'dashie_enable_table';
COMMENT ON FUNCTION dashie.enable(text, name) IS
'Makes a table of the roadmap, and those that it needs, in a schema; or adopts the one that is there.
table_name: a table of dashie.roadmap; schema: where it is to be.
Returns a row for each table: created; adopted, where it existed and was completed; unchanged.
Errors: 22023 for an unknown table or a schema that is not the application''s; 3F000 no such schema; 42P01 no auth.users; 42P16 the table is not as the roadmap has it (the detail lists all differences); 42809 it is no table; 42501 rights; 55000 it is enabled in another schema.
Source: dashie semantics, "Roadmap (phases)".';
REVOKE ALL ON FUNCTION dashie.enable(text, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.enable(text, name) TO @extowner@;

CREATE FUNCTION dashie.enable(
	phase integer, schema name DEFAULT 'public',
	OUT table_name text, OUT schema_name text, OUT action text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER ROWS 3 AS 'MODULE_PATHNAME', 'dashie_enable_phase';
COMMENT ON FUNCTION dashie.enable(integer, name) IS
'Enables the tables of a phase of the roadmap: dashie.enable(table_name, schema) for each.
phase: 5, 7, 8, 9, 10 or 11; schema: where the tables are to be.
Errors: 22023 for another phase, and those of dashie.enable(table_name, schema).
Source: dashie semantics, "Roadmap (phases)".';
REVOKE ALL ON FUNCTION dashie.enable(integer, name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.enable(integer, name) TO @extowner@;

CREATE FUNCTION dashie.enable(OUT table_name text, OUT schema_name text, OUT action text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER ROWS 10 AS 'MODULE_PATHNAME', 'dashie_enable_all';
COMMENT ON FUNCTION dashie.enable() IS
'Enables all ten tables of the roadmap: those that are not enabled in schema public, the others where they are.
Errors: those of dashie.enable(table_name, schema).
Source: dashie semantics, "Roadmap (phases)".';
REVOKE ALL ON FUNCTION dashie.enable() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.enable() TO @extowner@;

CREATE FUNCTION dashie.disable(table_name text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_disable';
COMMENT ON FUNCTION dashie.disable(text) IS
'Stops managing a table of the roadmap. The table stays with its rows, indexes, policies and grants; dashie''s triggers go, but for the guard of stripe_webhook_events.
table_name: an enabled table.
Errors: 22023 for an unknown table; 55000 if it is not enabled, or another enabled table needs it; 42501 rights.
Source: dashie semantics, "Roadmap (phases)".';
REVOKE ALL ON FUNCTION dashie.disable(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.disable(text) TO @extowner@;

CREATE FUNCTION dashie.create_auth_stub() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_create_auth_stub';
COMMENT ON FUNCTION dashie.create_auth_stub() IS
'Makes a minimal auth.users on a plain PostgreSQL, so that tables can refer to users. It belongs to the caller and has no auth.uid().
Errors: 42P07 if auth.users exists; 42501 without the right to make a schema.
Source: dashie semantics, "Roadmap (phases)".';
REVOKE ALL ON FUNCTION dashie.create_auth_stub() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.create_auth_stub() TO @extowner@;

CREATE FUNCTION dashie.roadmap_status(
	OUT table_name text, OUT phase integer, OUT phase_name text, OUT priority text,
	OUT trigger_text text, OUT trigger_met boolean, OUT evidence text, OUT enabled boolean,
	OUT schema_name text, OUT retention text, OUT strategy text, OUT "rows" bigint, OUT bytes bigint)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER ROWS 10 AS 'MODULE_PATHNAME', 'dashie_roadmap_status';
COMMENT ON FUNCTION dashie.roadmap_status() IS
'The rows of view dashie.roadmap.';
REVOKE ALL ON FUNCTION dashie.roadmap_status() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.roadmap_status() TO @extowner@;

CREATE VIEW dashie.roadmap AS
SELECT r.table_name, r.phase, r.phase_name, r.priority, r.trigger_text, r.trigger_met, r.evidence,
	r.enabled, r.schema_name, r.retention, r.strategy, r."rows", r.bytes
FROM dashie.roadmap_status() AS r
ORDER BY r.phase;
COMMENT ON VIEW dashie.roadmap IS
'The roadmap, live: one row a table with its phase, whether its trigger is met (NULL: a person decides, or it cannot be told) and on what evidence, whether it is enabled and where, how long its rows are kept and how, rows (estimate) and bytes.';
REVOKE ALL ON TABLE dashie.roadmap FROM PUBLIC;
GRANT SELECT ON TABLE dashie.roadmap TO @extowner@;
