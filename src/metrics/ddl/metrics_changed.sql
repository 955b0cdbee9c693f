-- Ranges of time in which sessions changed, written by each transaction as it
-- commits (src/metrics/marks.c). Insert-only and without an index, so that
-- nobody waits for anybody. A table made anew knows nothing of what happened
-- before it: its first row says that everything may have changed.
CREATE TABLE dashie.changed_range (
	"from" timestamptz NOT NULL,
	upto timestamptz NOT NULL
);
REVOKE ALL ON TABLE dashie.changed_range FROM PUBLIC;
INSERT INTO dashie.changed_range VALUES ('-infinity', 'infinity');
