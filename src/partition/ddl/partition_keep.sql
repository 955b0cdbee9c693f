-- What keeps expired partitions of widget_analytics. Made by dashie.enable() of
-- that table, owned by the caller, plain core types: it is dumped as data and
-- outlives DROP EXTENSION, so that nothing is dropped because of that.

-- Days that somebody wants kept.
CREATE TABLE IF NOT EXISTS dashie.partition_hold (
	day date NOT NULL,
	reason text NOT NULL CHECK (reason <> ''),
	until timestamptz,               -- NULL: until it is released
	placed_by text NOT NULL,
	placed_at timestamptz NOT NULL,
	PRIMARY KEY (day, reason)
);

-- The function that has to confirm before a partition is emptied: one row, or none.
CREATE TABLE IF NOT EXISTS dashie.partition_archiver (
	single boolean PRIMARY KEY DEFAULT true CHECK (single),
	schema_name text NOT NULL,
	function_name text NOT NULL,
	set_by text NOT NULL,
	set_at timestamptz NOT NULL
);

-- Partitions for which it did not.
CREATE TABLE IF NOT EXISTS dashie.partition_archive_failure (
	partition text PRIMARY KEY,
	failures integer NOT NULL CHECK (failures > 0), -- in a row
	failed_at timestamptz NOT NULL,
	next_try timestamptz NOT NULL,
	message text NOT NULL
);
REVOKE ALL ON TABLE dashie.partition_hold, dashie.partition_archiver, dashie.partition_archive_failure FROM PUBLIC;
