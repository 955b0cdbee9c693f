-- system_events (phase 7): errors, crashes, health.
CREATE TABLE @schema@.system_events (
	id uuid DEFAULT gen_random_uuid() CONSTRAINT system_events_pkey PRIMARY KEY,
	user_id uuid CONSTRAINT system_events_user_id_fkey
		REFERENCES auth.users (id) ON DELETE SET NULL,
	dashboard_id uuid,
	event_type text NOT NULL,
	severity text NOT NULL CONSTRAINT system_events_severity_check
		CHECK (severity IN ('info', 'warning', 'error', 'critical')),
	message text NOT NULL,
	error_details jsonb,
	user_agent text,
	app_version text,
	resolved_at timestamptz,
	created_at timestamptz DEFAULT now()
);

-- Ours. The session that an event happened in tells which sessions crashed; no
-- foreign key, since an event outlives its session and may arrive before it.
ALTER TABLE @schema@.system_events ADD COLUMN IF NOT EXISTS session_id uuid;
-- Devices send their buffer again after a failure: the key makes twice once.
ALTER TABLE @schema@.system_events ADD COLUMN IF NOT EXISTS dedupe_key text;
ALTER TABLE @schema@.system_events
	ADD CONSTRAINT system_events_dedupe_key_key UNIQUE (dedupe_key);

CREATE INDEX idx_system_events_type ON @schema@.system_events (event_type);
CREATE INDEX idx_system_events_severity ON @schema@.system_events (severity);
CREATE INDEX idx_system_events_created ON @schema@.system_events (created_at);
CREATE INDEX idx_system_events_version ON @schema@.system_events (app_version);
-- Not in the roadmap: without it, deleting a user scans the table.
CREATE INDEX idx_system_events_user ON @schema@.system_events (user_id);

-- Access. What a default privilege of the schema gave away is taken back first.
ALTER TABLE @schema@.system_events ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON @schema@.system_events FROM PUBLIC, anon, authenticated, service_role CASCADE;
GRANT SELECT ON @schema@.system_events TO authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON @schema@.system_events TO service_role;
CREATE POLICY dashie_own_rows ON @schema@.system_events
	FOR SELECT TO authenticated USING (user_id = (SELECT auth.uid()));
CREATE POLICY dashie_service_role ON @schema@.system_events
	TO service_role USING (true) WITH CHECK (true);
