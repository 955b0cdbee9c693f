-- Tables made by hand are adopted, or refused with all their differences.
SET client_min_messages = warning;
SET dashie.now = '2026-03-10 12:00+00';
INSERT INTO auth.users (id) VALUES ('00000000-0000-0000-0000-000000000001');
\set user '\'00000000-0000-0000-0000-000000000001\''

-- The roadmap's DDL, as somebody would have run it.
CREATE TABLE stripe_webhook_events (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  stripe_event_id TEXT UNIQUE NOT NULL,
  event_type TEXT NOT NULL,
  user_id UUID REFERENCES auth.users(id) ON DELETE SET NULL,
  old_tier TEXT,
  new_tier TEXT,
  processed_at TIMESTAMPTZ,
  event_data JSONB NOT NULL,
  processing_status TEXT DEFAULT 'pending',
  error_message TEXT,
  retry_count INTEGER DEFAULT 0,
  created_at TIMESTAMPTZ DEFAULT NOW()
);

CREATE INDEX idx_stripe_webhooks_event_type ON stripe_webhook_events(event_type);
CREATE INDEX idx_stripe_webhooks_user ON stripe_webhook_events(user_id);
CREATE INDEX idx_stripe_webhooks_status ON stripe_webhook_events(processing_status);

CREATE TABLE system_events (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id UUID REFERENCES auth.users(id) ON DELETE SET NULL,
  dashboard_id UUID, -- Reference to dashboards table when implemented
  event_type TEXT NOT NULL,
  severity TEXT NOT NULL, -- info, warning, error, critical
  message TEXT NOT NULL,
  error_details JSONB,
  user_agent TEXT,
  app_version TEXT,
  resolved_at TIMESTAMPTZ,
  created_at TIMESTAMPTZ DEFAULT NOW()
);

CREATE INDEX idx_system_events_type ON system_events(event_type);
CREATE INDEX idx_system_events_severity ON system_events(severity);
CREATE INDEX idx_system_events_created ON system_events(created_at);
CREATE INDEX idx_system_events_version ON system_events(app_version);

CREATE TABLE user_sessions (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id UUID NOT NULL REFERENCES auth.users(id) ON DELETE CASCADE,
  dashboard_id UUID, -- Nullable until multi-device
  started_at TIMESTAMPTZ NOT NULL,
  ended_at TIMESTAMPTZ,
  duration_minutes INTEGER,
  ip_address_hash TEXT,
  user_agent TEXT,
  country_code TEXT,
  auth_method TEXT,
  widgets_interacted TEXT[],
  settings_changed BOOLEAN DEFAULT false,
  error_count INTEGER DEFAULT 0
);

CREATE INDEX idx_sessions_user ON user_sessions(user_id);
CREATE INDEX idx_sessions_started ON user_sessions(started_at);
CREATE INDEX idx_sessions_country ON user_sessions(country_code);

CREATE TABLE widget_analytics (
  id UUID DEFAULT gen_random_uuid(),
  user_id UUID NOT NULL REFERENCES auth.users(id) ON DELETE CASCADE,
  dashboard_id UUID,
  session_id UUID REFERENCES user_sessions(id) ON DELETE CASCADE,
  widget_type TEXT NOT NULL,
  event_type TEXT NOT NULL, -- view, click, configure, focus, active
  event_data JSONB,
  duration_seconds INTEGER,
  timestamp TIMESTAMPTZ DEFAULT NOW()
) PARTITION BY RANGE (timestamp);

CREATE INDEX idx_widget_analytics_type ON widget_analytics(widget_type);
CREATE INDEX idx_widget_analytics_timestamp ON widget_analytics(timestamp);

CREATE TABLE daily_metrics (
  date DATE PRIMARY KEY,
  new_signups INTEGER DEFAULT 0,
  returning_users INTEGER DEFAULT 0,
  active_dashboards INTEGER DEFAULT 0,
  total_sessions INTEGER DEFAULT 0,
  avg_session_minutes DECIMAL,
  trial_to_paid_conversions INTEGER DEFAULT 0,
  created_at TIMESTAMPTZ DEFAULT NOW()
);

CREATE TABLE geographic_stats (
  country_code TEXT PRIMARY KEY,
  total_users INTEGER DEFAULT 0,
  active_users_30d INTEGER DEFAULT 0,
  trial_users INTEGER DEFAULT 0,
  paid_users INTEGER DEFAULT 0,
  avg_session_duration_minutes DECIMAL,
  last_updated TIMESTAMPTZ DEFAULT NOW()
);

CREATE TABLE dashboards (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id UUID NOT NULL REFERENCES auth.users(id) ON DELETE CASCADE,
  device_name TEXT NOT NULL,
  device_type TEXT, -- fire_tv, android_tv, browser
  device_fingerprint_hash TEXT,
  active_widgets JSONB DEFAULT '{}',
  theme TEXT DEFAULT 'dark',
  is_online BOOLEAN DEFAULT false,
  last_heartbeat_at TIMESTAMPTZ,
  current_version TEXT,
  needs_update BOOLEAN DEFAULT false,
  total_sessions INTEGER DEFAULT 0,
  total_uptime_minutes BIGINT DEFAULT 0,
  last_crash_at TIMESTAMPTZ,
  crash_count INTEGER DEFAULT 0,
  created_at TIMESTAMPTZ DEFAULT NOW(),
  updated_at TIMESTAMPTZ DEFAULT NOW()
);

CREATE INDEX idx_dashboards_user ON dashboards(user_id);
CREATE INDEX idx_dashboards_online ON dashboards(is_online);
CREATE INDEX idx_dashboards_fingerprint ON dashboards(device_fingerprint_hash);

CREATE TABLE account_clusters (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  cluster_type TEXT NOT NULL, -- ip_hash, device_fingerprint, payment_method
  identifier_hash TEXT NOT NULL,
  user_ids UUID[] NOT NULL,
  first_detected_at TIMESTAMPTZ DEFAULT NOW(),
  is_reviewed BOOLEAN DEFAULT false,
  admin_notes TEXT,
  risk_level TEXT -- low, medium, high
);

CREATE INDEX idx_clusters_type ON account_clusters(cluster_type);
CREATE INDEX idx_clusters_identifier ON account_clusters(identifier_hash);
CREATE INDEX idx_clusters_reviewed ON account_clusters(is_reviewed);

CREATE TABLE abuse_patterns (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  pattern_type TEXT NOT NULL, -- trial_abuse, payment_fraud, api_abuse
  user_id UUID NOT NULL REFERENCES auth.users(id) ON DELETE CASCADE,
  detected_at TIMESTAMPTZ DEFAULT NOW(),
  confidence_score DECIMAL NOT NULL, -- 0.0-1.0
  auto_flagged BOOLEAN DEFAULT true,
  human_reviewed BOOLEAN DEFAULT false,
  action_taken TEXT -- warned, suspended, banned, false_positive
);

CREATE INDEX idx_abuse_type ON abuse_patterns(pattern_type);
CREATE INDEX idx_abuse_confidence ON abuse_patterns(confidence_score);
CREATE INDEX idx_abuse_detected ON abuse_patterns(detected_at);

CREATE TABLE feature_usage (
  user_id UUID NOT NULL REFERENCES auth.users(id) ON DELETE CASCADE,
  feature_name TEXT NOT NULL, -- photo_uploads, calendar_syncs, api_calls
  usage_count INTEGER DEFAULT 0,
  period_start DATE NOT NULL,
  reset_date DATE NOT NULL,
  PRIMARY KEY (user_id, feature_name, period_start)
);

CREATE INDEX idx_feature_usage_reset ON feature_usage(reset_date);

INSERT INTO user_sessions (user_id, started_at) SELECT :user, '2026-03-01' FROM generate_series(1, 10);
INSERT INTO daily_metrics (date) VALUES ('2026-03-01');
GRANT ALL ON user_sessions TO PUBLIC;
GRANT SELECT (date) ON daily_metrics TO PUBLIC;
CREATE POLICY by_hand ON user_sessions USING (true);

CREATE TEMP VIEW everything AS
SELECT t.table_name, a.attname::text AS what,
	format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || coalesce(pg_get_expr(d.adbin, d.adrelid), '') AS definition
FROM dashie.roadmap t JOIN pg_attribute a ON a.attrelid = to_regclass('public.' || t.table_name) AND a.attnum > 0
	LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
UNION ALL
SELECT t.table_name, c.conname, pg_get_constraintdef(c.oid)
FROM dashie.roadmap t JOIN pg_constraint c ON c.conrelid = to_regclass('public.' || t.table_name) AND c.contype <> 'n'
UNION ALL
SELECT t.table_name, i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
FROM dashie.roadmap t JOIN pg_index i ON i.indrelid = to_regclass('public.' || t.table_name)
UNION ALL
SELECT t.table_name, 'trigger ' || g.tgname, pg_get_triggerdef(g.oid)
FROM dashie.roadmap t JOIN pg_trigger g ON g.tgrelid = to_regclass('public.' || t.table_name) AND NOT g.tgisinternal;

SELECT * FROM dashie.enable();
SELECT * FROM dashie.enable();
SELECT (SELECT count(*) FROM user_sessions) AS sessions, (SELECT count(*) FROM daily_metrics) AS days;
SELECT c.relname, c.relrowsecurity, has_table_privilege('pg_monitor', c.oid, 'select') AS readable_by_others
FROM pg_class c WHERE c.oid IN ('user_sessions'::regclass, 'daily_metrics'::regclass);
SELECT polname FROM pg_policy WHERE polrelid = 'user_sessions'::regclass AND polname = 'by_hand';
CREATE TEMP TABLE adopted AS SELECT * FROM everything;
SELECT dashie.disable('widget_analytics');
SELECT count(dashie.disable(table_name)) FROM dashie.enabled_table;
DROP TABLE stripe_webhook_events, system_events, daily_metrics, dashboards, widget_analytics, user_sessions,
	geographic_stats, account_clusters, abuse_patterns, feature_usage;

-- An adopted table is what a new one is: no row in either direction.
SELECT count(*) FROM dashie.enable();
SELECT * FROM everything EXCEPT SELECT * FROM adopted;
SELECT * FROM adopted EXCEPT SELECT * FROM everything;
SELECT dashie.disable('widget_analytics');
SELECT count(dashie.disable(table_name)) FROM dashie.enabled_table;
DROP TABLE stripe_webhook_events, system_events, daily_metrics, dashboards, widget_analytics, user_sessions,
	geographic_stats, account_clusters, abuse_patterns, feature_usage;

-- Equal constraints under other names are not added twice; defaults of the
-- owner's own are kept, columns of their own too.
CREATE TABLE abuse_patterns (
	note text,
	confidence_score decimal NOT NULL CONSTRAINT sure CHECK (0.25 <= confidence_score AND confidence_score <= 0.75),
	action_taken text CONSTRAINT action CHECK (action_taken IN ('banned', 'warned')),
	id uuid CONSTRAINT my_key PRIMARY KEY DEFAULT '00000000-0000-0000-0000-00000000000f',
	pattern_type text NOT NULL,
	user_id uuid NOT NULL CONSTRAINT my_user REFERENCES auth.users ON DELETE CASCADE,
	detected_at timestamptz DEFAULT '2026-01-01 00:00+00',
	auto_flagged boolean DEFAULT true,
	human_reviewed boolean);
CREATE INDEX idx_abuse_type ON abuse_patterns (pattern_type);
SELECT * FROM dashie.enable('abuse_patterns');
SELECT what, definition FROM everything WHERE table_name = 'abuse_patterns' ORDER BY what COLLATE "C";
SELECT dashie.disable('abuse_patterns');
DROP TABLE abuse_patterns;

-- The wrong shape: the error lists every difference.
CREATE TABLE other (detected_at timestamptz);
CREATE INDEX idx_abuse_detected ON other (detected_at);
CREATE TABLE abuse_patterns (
	id bigint,
	pattern_type varchar(20) NOT NULL,
	user_id uuid NOT NULL REFERENCES auth.users ON DELETE SET NULL,
	confidence_score decimal(3, 2) NOT NULL,
	auto_flagged boolean GENERATED ALWAYS AS (true) STORED,
	action_taken text,
	mine int NOT NULL,
	PRIMARY KEY (id, pattern_type));
CREATE INDEX idx_abuse_type ON abuse_patterns (user_id);
SELECT * FROM dashie.enable('abuse_patterns');
\echo :LAST_ERROR_SQLSTATE
-- and nothing was changed
\d abuse_patterns
DROP TABLE abuse_patterns, other;

-- The right shape and wrong rows.
CREATE TABLE system_events (
	id uuid, user_id uuid, dashboard_id uuid, event_type text, severity text, message text, error_details jsonb,
	user_agent text, app_version text, resolved_at timestamptz, created_at timestamptz);
INSERT INTO system_events (user_id, severity, created_at) VALUES ('00000000-0000-0000-0000-000000000002', 'fatal', '2026-03-01');
SELECT * FROM dashie.enable('system_events');
\echo :LAST_ERROR_SQLSTATE
UPDATE system_events SET id = gen_random_uuid(), user_id = NULL, event_type = 'x', severity = 'critical', message = 'x';
SELECT * FROM dashie.enable('system_events');
SELECT event_type, severity, created_at AT TIME ZONE 'UTC' AS created_at, session_id FROM system_events;
SELECT dashie.disable('system_events');
DROP TABLE system_events;

-- What is no table, or another kind of table.
CREATE VIEW feature_usage AS SELECT 1 AS one;
SELECT * FROM dashie.enable('feature_usage');
\echo :LAST_ERROR_SQLSTATE
DROP VIEW feature_usage;
CREATE MATERIALIZED VIEW feature_usage AS SELECT 1 AS one;
SELECT * FROM dashie.enable('feature_usage');
DROP MATERIALIZED VIEW feature_usage;
CREATE SEQUENCE feature_usage;
SELECT * FROM dashie.enable('feature_usage');
DROP SEQUENCE feature_usage;
CREATE TABLE feature_usage (user_id uuid, feature_name text, usage_count int, period_start date, reset_date date)
	PARTITION BY LIST (feature_name);
SELECT * FROM dashie.enable('feature_usage');
\echo :LAST_ERROR_SQLSTATE
DROP TABLE feature_usage;
CREATE TABLE parent (user_id uuid, feature_name text, usage_count int, period_start date, reset_date date);
CREATE UNLOGGED TABLE feature_usage () INHERITS (parent);
CREATE TABLE child () INHERITS (feature_usage);
SELECT * FROM dashie.enable('feature_usage');
DROP TABLE parent CASCADE;

-- widget_analytics partitioned otherwise.
SELECT * FROM dashie.enable('user_sessions');
CREATE TABLE widget_analytics (id uuid, user_id uuid, dashboard_id uuid, session_id uuid, widget_type text,
	event_type text, event_data jsonb, duration_seconds int, "timestamp" timestamptz) PARTITION BY HASH (id);
SELECT * FROM dashie.enable('widget_analytics');
DROP TABLE widget_analytics;
CREATE TABLE widget_analytics (id uuid, user_id uuid, dashboard_id uuid, session_id uuid, widget_type text,
	event_type text, event_data jsonb, duration_seconds int, "timestamp" timestamptz) PARTITION BY RANGE ("timestamp");
CREATE TABLE widget_rest PARTITION OF widget_analytics DEFAULT;
SELECT * FROM dashie.enable('widget_analytics');
\echo :LAST_ERROR_SQLSTATE
DROP TABLE widget_analytics;
SELECT dashie.disable('user_sessions');
DROP TABLE user_sessions;
DROP TABLE IF EXISTS dashie.event_page, dashie.changed_events, dashie.metrics_state, dashie.user_number, dashie.user_country, dashie.dashboard_number, dashie.day_page, dashie.retention_floor;

DELETE FROM auth.users;
