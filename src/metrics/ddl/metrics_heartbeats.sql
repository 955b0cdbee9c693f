-- Heartbeats that no page knows yet: the first of each day of a dashboard. No index.
CREATE TABLE IF NOT EXISTS dashie.heartbeat_seen (
	dashboard_id uuid NOT NULL,
	user_id uuid NOT NULL,
	at timestamptz NOT NULL
);
REVOKE ALL ON TABLE dashie.heartbeat_seen FROM PUBLIC;
