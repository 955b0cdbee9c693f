-- Ranges of time in which events changed, as dashie.changed_range of sessions.
CREATE TABLE dashie.changed_events (
	"from" timestamptz NOT NULL,
	upto timestamptz NOT NULL
);
REVOKE ALL ON TABLE dashie.changed_events FROM PUBLIC;
INSERT INTO dashie.changed_events VALUES ('-infinity', 'infinity');
