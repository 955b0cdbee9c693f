-- dashboards (phase 8): the devices of each user.
CREATE TABLE @schema@.dashboards (
	id uuid DEFAULT gen_random_uuid() CONSTRAINT dashboards_pkey PRIMARY KEY,
	user_id uuid NOT NULL CONSTRAINT dashboards_user_id_fkey
		REFERENCES auth.users (id) ON DELETE CASCADE,
	device_name text NOT NULL,
	-- native_android is not in the roadmap's list, but in use by dashboard_heartbeats
	device_type text CONSTRAINT dashboards_device_type_check
		CHECK (device_type IN ('fire_tv', 'android_tv', 'browser', 'native_android')),
	device_fingerprint_hash text,
	active_widgets jsonb DEFAULT '{}',
	theme text DEFAULT 'dark',
	is_online boolean DEFAULT false,
	last_heartbeat_at timestamptz,
	current_version text,
	needs_update boolean DEFAULT false,
	total_sessions integer DEFAULT 0,
	total_uptime_minutes bigint DEFAULT 0,
	last_crash_at timestamptz,
	crash_count integer DEFAULT 0,
	created_at timestamptz DEFAULT now(),
	updated_at timestamptz DEFAULT now()
);

-- Ours. Heartbeats come every minute or so: summed in whole minutes, they would
-- lose what they are short of a minute each time.
ALTER TABLE @schema@.dashboards
	ADD COLUMN IF NOT EXISTS uptime_seconds bigint NOT NULL DEFAULT 0;
-- Fingerprints collide (two identical TVs in one house): the device names itself.
ALTER TABLE @schema@.dashboards ADD COLUMN IF NOT EXISTS device_key text;
ALTER TABLE @schema@.dashboards
	ADD CONSTRAINT dashboards_user_id_device_key_key UNIQUE (user_id, device_key);

CREATE INDEX idx_dashboards_user ON @schema@.dashboards (user_id);
CREATE INDEX idx_dashboards_online ON @schema@.dashboards (is_online);
CREATE INDEX idx_dashboards_fingerprint ON @schema@.dashboards (device_fingerprint_hash);

-- Access. What a default privilege of the schema gave away is taken back first.
ALTER TABLE @schema@.dashboards ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON @schema@.dashboards FROM PUBLIC, anon, authenticated, service_role CASCADE;
GRANT SELECT ON @schema@.dashboards TO authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON @schema@.dashboards TO service_role;
CREATE POLICY dashie_own_rows ON @schema@.dashboards
	FOR SELECT TO authenticated USING (user_id = (SELECT auth.uid()));
CREATE POLICY dashie_service_role ON @schema@.dashboards
	TO service_role USING (true) WITH CHECK (true);
