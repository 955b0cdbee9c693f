-- daily_metrics (phase 7): one row a day, filled by dashie.refresh_daily_metrics().
CREATE TABLE @schema@.daily_metrics (
	date date CONSTRAINT daily_metrics_pkey PRIMARY KEY,
	new_signups integer DEFAULT 0,
	returning_users integer DEFAULT 0,
	active_dashboards integer DEFAULT 0,
	total_sessions integer DEFAULT 0,
	avg_session_minutes numeric,
	trial_to_paid_conversions integer DEFAULT 0,
	created_at timestamptz DEFAULT now()
);

-- Access. What a default privilege of the schema gave away is taken back first.
ALTER TABLE @schema@.daily_metrics ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON @schema@.daily_metrics FROM PUBLIC, anon, authenticated, service_role CASCADE;
GRANT SELECT, INSERT, UPDATE, DELETE ON @schema@.daily_metrics TO service_role;
CREATE POLICY dashie_service_role ON @schema@.daily_metrics
	TO service_role USING (true) WITH CHECK (true);
