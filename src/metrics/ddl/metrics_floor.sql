-- Before this instant rows of the table may be missing: retention removed them.
CREATE TABLE IF NOT EXISTS dashie.retention_floor (
	table_name text PRIMARY KEY,
	removed_before timestamptz NOT NULL
);
REVOKE ALL ON TABLE dashie.retention_floor FROM PUBLIC;
