-- What is known of each day's widget events, also when its partition is gone.
-- Made by dashie.enable() of widget_analytics, owned by the caller, plain core
-- types: it is dumped as data and outlives DROP EXTENSION. A page that is not
-- dirty and is final says all that is to be known of its day.
CREATE TABLE IF NOT EXISTS dashie.event_page (
	day date PRIMARY KEY,
	dirty boolean NOT NULL,          -- events of the day changed since
	final boolean NOT NULL,          -- computed after the day had ended
	computed_at timestamptz,
	snapshot text,                   -- of the rows that were read: xmin:xmax:xip,...
	totals bytea,                    -- events by type, seconds, numbers of the users of each type and of all
	widgets bytea,                   -- per widget: events by type, seconds, numbers of its users
	entries bytea,                   -- per widget and user: events by type, seconds
	digest bytea                     -- SHA-256 over day, totals, widgets and entries
);
ALTER TABLE dashie.event_page ALTER totals SET STORAGE EXTERNAL, ALTER widgets SET STORAGE EXTERNAL, ALTER entries SET STORAGE EXTERNAL;
REVOKE ALL ON TABLE dashie.event_page FROM PUBLIC;
