-- user_sessions (phase 7): when people use their dashboards.
CREATE TABLE @schema@.user_sessions (
	id uuid DEFAULT gen_random_uuid() CONSTRAINT user_sessions_pkey PRIMARY KEY,
	user_id uuid NOT NULL CONSTRAINT user_sessions_user_id_fkey
		REFERENCES auth.users (id) ON DELETE CASCADE,
	dashboard_id uuid,
	started_at timestamptz NOT NULL
		CONSTRAINT user_sessions_started_at_check CHECK (isfinite(started_at)),
	ended_at timestamptz,
	duration_minutes integer
		CONSTRAINT user_sessions_duration_minutes_check CHECK (duration_minutes >= 0),
	ip_address_hash text,
	user_agent text,
	country_code text CONSTRAINT user_sessions_country_code_check
		CHECK (country_code COLLATE "C" ~ '^[A-Z]{2}$'),
	auth_method text,
	widgets_interacted text[],
	settings_changed boolean DEFAULT false,
	error_count integer DEFAULT 0
		CONSTRAINT user_sessions_error_count_check CHECK (error_count >= 0),
	CONSTRAINT user_sessions_ended_at_check
		CHECK (ended_at >= started_at AND isfinite(ended_at))
);

-- Ours. Until a session ends it lasts to its last activity.
ALTER TABLE @schema@.user_sessions ADD COLUMN IF NOT EXISTS last_activity_at timestamptz;
ALTER TABLE @schema@.user_sessions ADD CONSTRAINT user_sessions_last_activity_at_check
	CHECK (last_activity_at >= started_at AND isfinite(last_activity_at));
-- The client's own name of the session, so that a start sent twice is one session.
ALTER TABLE @schema@.user_sessions ADD COLUMN IF NOT EXISTS client_key text;
ALTER TABLE @schema@.user_sessions
	ADD CONSTRAINT user_sessions_user_id_client_key_key UNIQUE (user_id, client_key);
-- Crash rates are per version.
ALTER TABLE @schema@.user_sessions ADD COLUMN IF NOT EXISTS app_version text;

CREATE INDEX idx_sessions_user ON @schema@.user_sessions (user_id);
CREATE INDEX idx_sessions_started ON @schema@.user_sessions (started_at);
CREATE INDEX idx_sessions_country ON @schema@.user_sessions (country_code);
-- Not in the roadmap: retention goes by the end of a session; a day is found by
-- the starts of that day and the day before, and the few long sessions.
CREATE INDEX idx_sessions_end ON @schema@.user_sessions
	((coalesce(ended_at, last_activity_at, started_at)));
CREATE INDEX idx_sessions_long ON @schema@.user_sessions (started_at)
	WHERE coalesce(ended_at, last_activity_at, started_at) - started_at > interval '1 day';
-- Not in the roadmap: the sessions that may have fallen silent (sessions/stale.c).
CREATE INDEX idx_sessions_open ON @schema@.user_sessions
	((coalesce(last_activity_at, started_at))) WHERE ended_at IS NULL;

-- Access. What a default privilege of the schema gave away is taken back first.
ALTER TABLE @schema@.user_sessions ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON @schema@.user_sessions FROM PUBLIC, anon, authenticated, service_role CASCADE;
GRANT SELECT ON @schema@.user_sessions TO authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON @schema@.user_sessions TO service_role;
CREATE POLICY dashie_own_rows ON @schema@.user_sessions
	FOR SELECT TO authenticated USING (user_id = (SELECT auth.uid()));
CREATE POLICY dashie_service_role ON @schema@.user_sessions
	TO service_role USING (true) WITH CHECK (true);
