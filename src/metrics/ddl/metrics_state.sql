-- What the metrics compute and must not lose. Made by dashie.enable() of
-- daily_metrics, geographic_stats or widget_analytics, owned by the caller, plain core types: it
-- is dumped as data and outlives DROP EXTENSION.

-- The one row of counters. A number that was given once is never given again.
CREATE TABLE IF NOT EXISTS dashie.metrics_state (
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
	next_user integer NOT NULL DEFAULT 1,
	next_dashboard integer NOT NULL DEFAULT 1,
	last_pass timestamptz,    -- when all users were last looked at
	geographic_at timestamptz -- when the night's job last filled geographic_stats as well
);
INSERT INTO dashie.metrics_state (only_row) VALUES (true) ON CONFLICT DO NOTHING;

-- Every user that a refresh has seen, under a small number. A refresh reads them
-- all and refuses a number or an id that is there twice: keys would be asked by
-- nobody, and cost a first run more than all the rest of what it writes.
CREATE TABLE IF NOT EXISTS dashie.user_number (
	number integer NOT NULL,
	user_id uuid,                    -- NULL once the user is gone
	signed_up_at timestamptz,
	signup_counts boolean NOT NULL,  -- in new_signups of that day
	anonymous boolean NOT NULL,
	deleted boolean NOT NULL,        -- marked as deleted, the row still there
	converted_at timestamptz         -- first applied trial -> paid event
);
CREATE INDEX IF NOT EXISTS user_number_anonymous ON dashie.user_number (number) WHERE anonymous;

-- The country of each user, 8,192 numbers a row (src/metrics/country_store.c):
-- every night moves the latest session of every user who was there.
CREATE TABLE IF NOT EXISTS dashie.user_country (
	first integer PRIMARY KEY,       -- number of the row's first user
	codes bytea NOT NULL,            -- the country of their latest session that has one
	latest bytea NOT NULL            -- start of that session
);
ALTER TABLE dashie.user_country ALTER codes SET STORAGE EXTERNAL, ALTER latest SET STORAGE EXTERNAL;

-- Every dashboard that a refresh has seen with a user of it: what a user who is
-- gone did with a dashboard stays, also if others use it. 8,192 numbers a row
-- (src/metrics/number_dashboards.c): a night reads them all.
CREATE TABLE IF NOT EXISTS dashie.dashboard_number (
	first integer PRIMARY KEY,       -- the row's first number
	ids bytea NOT NULL,              -- of the dashboards
	users bytea NOT NULL,            -- numbers of the users
	shared bytea NOT NULL            -- dashboards with several users: the first number of each
);
ALTER TABLE dashie.dashboard_number ALTER ids SET STORAGE EXTERNAL, ALTER users SET STORAGE EXTERNAL;

-- One page a day. A page that is not dirty and is final says all that is to be
-- known of its day, also when the rows that it was computed from are gone.
CREATE TABLE IF NOT EXISTS dashie.day_page (
	day date PRIMARY KEY,
	dirty boolean NOT NULL,          -- rows of the day changed since
	final boolean NOT NULL,          -- computed after the day had ended
	computed_at timestamptz,
	snapshot text,                   -- of the rows that were read: xmin:xmax:xip,...
	sessions bigint,                 -- started in the day; NULL without user_sessions
	ended_sessions bigint,
	ended_microseconds bigint,
	returning_users integer,
	active_dashboards integer,
	active bytea,                    -- numbers of the users active in the day
	entries bytea,                   -- per user and session country: sessions, ended, duration
	countries bytea,                 -- the entries' sums per session country: ended, duration
	dashboards bytea,                -- numbers of dashboards with a session in the day
	heartbeats bytea,                -- numbers of dashboards with a heartbeat in the day
	digest bytea                     -- SHA-256 over day, active, entries, dashboards, heartbeats and countries
);

-- They change as a whole and hardly compress: trying would cost more than it saves.
ALTER TABLE dashie.day_page ALTER active SET STORAGE EXTERNAL, ALTER entries SET STORAGE EXTERNAL,
	ALTER dashboards SET STORAGE EXTERNAL, ALTER heartbeats SET STORAGE EXTERNAL;

REVOKE ALL ON TABLE dashie.metrics_state, dashie.user_number, dashie.user_country, dashie.dashboard_number,
	dashie.day_page FROM PUBLIC;
