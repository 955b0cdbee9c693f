-- widget_analytics (phase 9): what is done with each widget. Many rows: daily
-- partitions, made and dropped by dashie.maintain_partitions().
-- The key of a partitioned table must contain the partition column.
CREATE TABLE @schema@.widget_analytics (
	id uuid NOT NULL DEFAULT gen_random_uuid(),
	user_id uuid NOT NULL CONSTRAINT widget_analytics_user_id_fkey
		REFERENCES auth.users (id) ON DELETE CASCADE,
	dashboard_id uuid,
	session_id uuid CONSTRAINT widget_analytics_session_id_fkey
		REFERENCES @user_sessions@ (id) ON DELETE CASCADE,
	widget_type text NOT NULL,
	event_type text NOT NULL CONSTRAINT widget_analytics_event_type_check
		CHECK (event_type IN ('view', 'click', 'configure', 'focus', 'active')),
	event_data jsonb,
	duration_seconds integer
		CONSTRAINT widget_analytics_duration_seconds_check CHECK (duration_seconds >= 0),
	"timestamp" timestamptz NOT NULL DEFAULT now()
		CONSTRAINT widget_analytics_timestamp_check CHECK (isfinite("timestamp")),
	CONSTRAINT widget_analytics_pkey PRIMARY KEY (id, "timestamp")
) PARTITION BY RANGE ("timestamp");

CREATE INDEX idx_widget_analytics_type ON @schema@.widget_analytics (widget_type);
CREATE INDEX idx_widget_analytics_timestamp ON @schema@.widget_analytics ("timestamp");
-- Not in the roadmap: without them, deleting a user or a session scans every partition.
CREATE INDEX idx_widget_analytics_user ON @schema@.widget_analytics (user_id);
CREATE INDEX idx_widget_analytics_session ON @schema@.widget_analytics (session_id);

-- Access. What a default privilege of the schema gave away is taken back first.
ALTER TABLE @schema@.widget_analytics ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON @schema@.widget_analytics FROM PUBLIC, anon, authenticated, service_role CASCADE;
GRANT SELECT ON @schema@.widget_analytics TO authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON @schema@.widget_analytics TO service_role;
CREATE POLICY dashie_own_rows ON @schema@.widget_analytics
	FOR SELECT TO authenticated USING (user_id = (SELECT auth.uid()));
CREATE POLICY dashie_service_role ON @schema@.widget_analytics
	TO service_role USING (true) WITH CHECK (true);
