-- dashie.enable() and dashie.disable(): the tables as the roadmap has them.
SET client_min_messages = warning;
SET dashie.now = '2026-03-10 12:00+00';

SELECT * FROM dashie.enable('system_events');
SELECT * FROM dashie.enable('system_events');
-- with what it needs
SELECT * FROM dashie.enable('widget_analytics');
SELECT * FROM dashie.enable(7);
SELECT * FROM dashie.enable();
SELECT * FROM dashie.enable();
SELECT table_name, schema_name FROM dashie.enabled_table ORDER BY table_name;

-- The roadmap's own DDL, for comparison: only that ids come from
-- gen_random_uuid(), and that a partitioned table cannot have a primary key
-- without its partition column.
CREATE SCHEMA roadmap;
SET search_path = roadmap;
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
RESET search_path;

CREATE TEMP VIEW shape AS
SELECT n.nspname, c.relname, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod) AS type,
	pg_get_expr(d.adbin, d.adrelid) AS default_value, a.attnotnull
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
	LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('public', 'roadmap')
	AND c.relname IN (SELECT table_name FROM dashie.roadmap);

-- What the roadmap has and we have otherwise: the primary key of widget_analytics.
SELECT relname, attname, attnum, type, default_value, attnotnull FROM shape WHERE nspname = 'roadmap'
EXCEPT
SELECT relname, attname, attnum, type, default_value, attnotnull FROM shape WHERE nspname = 'public'
ORDER BY relname, attnum;
-- Columns that we add, after those of the roadmap.
SELECT relname, attname, type, default_value, attnotnull FROM shape p
WHERE nspname = 'public' AND NOT EXISTS
	(SELECT FROM shape r WHERE r.nspname = 'roadmap' AND r.relname = p.relname AND r.attname = p.attname)
ORDER BY relname, attnum;

-- Indexes: the roadmap's are there under their names and alike; then ours.
CREATE TEMP VIEW index_shape AS
SELECT n.nspname, t.relname, i.relname AS index_name, x.indisunique, x.indisprimary,
	regexp_replace(pg_get_indexdef(i.oid), '^.* USING ', '') AS definition
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
	JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname IN ('public', 'roadmap') AND t.relname IN (SELECT table_name FROM dashie.roadmap);
SELECT relname, index_name, definition FROM index_shape WHERE nspname = 'roadmap'
EXCEPT SELECT relname, index_name, definition FROM index_shape WHERE nspname = 'public';
SELECT relname, index_name, indisunique, definition FROM index_shape p
WHERE nspname = 'public' AND NOT EXISTS
	(SELECT FROM index_shape r WHERE r.nspname = 'roadmap' AND r.index_name = p.index_name)
ORDER BY 1, 2;

-- Constraints. Not shown: NOT NULL, and the keys, which stand above.
SELECT c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid)
FROM pg_constraint c
WHERE c.connamespace = 'public'::regnamespace AND c.contype IN ('c', 'f')
	AND c.conrelid::regclass::text IN (SELECT table_name FROM dashie.roadmap)
ORDER BY c.conrelid::regclass::text, c.conname;

-- Every foreign key has an index that starts with its column.
SELECT c.conrelid::regclass, c.conname AS without_index
FROM pg_constraint c
WHERE c.connamespace = 'public'::regnamespace AND c.contype = 'f' AND NOT EXISTS
	(SELECT FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indkey[0] = c.conkey[1]);

-- Row level security is on for each, partitions included.
SELECT c.oid::regclass AS without_rls
FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity;

-- The value lists hold, and odd numbers are refused.
INSERT INTO auth.users (id) VALUES ('00000000-0000-0000-0000-000000000001');
\set user '\'00000000-0000-0000-0000-000000000001\''
\set VERBOSITY terse
INSERT INTO system_events (event_type, severity, message) VALUES ('x', 'fatal', 'x');
INSERT INTO user_sessions (user_id, started_at) VALUES (:user, 'infinity');
INSERT INTO user_sessions (user_id, started_at, ended_at) VALUES (:user, '2026-03-01 10:00+00', '2026-03-01 09:59+00');
INSERT INTO user_sessions (user_id, started_at, country_code) VALUES (:user, '2026-03-01 10:00+00', 'de');
INSERT INTO user_sessions (user_id, started_at, country_code) VALUES (:user, '2026-03-01 10:00+00', E'DE\n');
INSERT INTO user_sessions (user_id, started_at, client_key) VALUES (:user, '2026-03-01 10:00+00', 'a'), (:user, '2026-03-01 10:00+00', 'a');
INSERT INTO abuse_patterns (pattern_type, user_id, confidence_score) VALUES ('api_abuse', :user, 'NaN');
INSERT INTO abuse_patterns (pattern_type, user_id, confidence_score) VALUES ('api_abuse', :user, 1.01);
INSERT INTO feature_usage (user_id, feature_name, period_start, reset_date) VALUES (:user, 'x', '2026-03-01', '2026-03-01');
INSERT INTO user_sessions (user_id, started_at) VALUES ('00000000-0000-0000-0000-000000000002', '2026-03-01 10:00+00');
\set VERBOSITY default

-- Deleting a user takes what is theirs, and keeps what must be kept.
INSERT INTO user_sessions (id, user_id, started_at) VALUES ('00000000-0000-0000-0000-0000000000aa', :user, '2026-03-10 10:00+00');
INSERT INTO system_events (user_id, event_type, severity, message) VALUES (:user, 'x', 'info', 'x');
INSERT INTO stripe_webhook_events (user_id, stripe_event_id, event_type, event_data, created_at) VALUES (:user, 'evt_1', 'x', '{}', '2010-01-01');
INSERT INTO abuse_patterns (pattern_type, user_id, confidence_score) VALUES ('api_abuse', :user, 0.5);
DELETE FROM auth.users;
SELECT (SELECT count(*) FROM user_sessions) AS sessions, (SELECT count(*) FROM abuse_patterns) AS abuse,
	(SELECT count(*) FROM system_events WHERE user_id IS NULL) AS events,
	(SELECT count(*) FROM stripe_webhook_events WHERE user_id IS NULL) AS stripe;
DELETE FROM system_events;

-- disable() keeps the table.
SELECT dashie.disable('user_sessions');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.disable('widget_analytics');
SELECT dashie.disable('user_sessions');
SELECT dashie.disable('user_sessions');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) AS triggers_of_ours FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE t.tgrelid = 'user_sessions'::regclass AND p.pronamespace = 'dashie'::regnamespace;
SELECT count(*) FROM user_sessions;
SELECT * FROM dashie.enable('user_sessions');
SELECT dashie.disable('user_sessions');
DROP TABLE widget_analytics, user_sessions;

-- Another schema, with a name that needs quotes.
CREATE SCHEMA "My ""Schema"" @user_sessions@";
SELECT * FROM dashie.enable('widget_analytics', 'My "Schema" @user_sessions@');
SELECT c.conrelid::regclass, pg_get_constraintdef(c.oid) FROM pg_constraint c
WHERE c.conname = 'widget_analytics_session_id_fkey' AND c.conparentid = 0
ORDER BY c.conrelid::regclass::text COLLATE "C";
SELECT * FROM dashie.enable('user_sessions');
\echo :LAST_ERROR_SQLSTATE
-- With no schema said, a table stays where it is.
SELECT * FROM dashie.enable() WHERE schema_name <> 'public';
-- One that is gone can be made elsewhere.
DROP SCHEMA "My ""Schema"" @user_sessions@" CASCADE;
SELECT * FROM dashie.enable('user_sessions');
SELECT dashie.disable('widget_analytics');
SELECT dashie.disable('user_sessions');

-- A search_path in which everything has a double changes nothing.
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz WHERE 1/0 = 0';
CREATE FUNCTION hostile.isfinite(timestamptz) RETURNS boolean LANGUAGE sql AS 'SELECT 1/0 = 0';
CREATE FUNCTION hostile.gen_random_uuid() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid WHERE 1/0 = 0';
CREATE DOMAIN hostile.text AS pg_catalog.varchar;
CREATE DOMAIN hostile.timestamptz AS pg_catalog.timestamp;
CREATE TABLE hostile.table_ddl (table_name pg_catalog.text, ddl pg_catalog.text);
SET search_path = hostile, pg_catalog;
SELECT * FROM dashie.enable('user_sessions');
SELECT * FROM dashie.enable('user_sessions');
RESET search_path;
SELECT column_name, data_type, domain_schema, column_default FROM information_schema.columns
WHERE table_name = 'user_sessions' AND table_schema = 'public' AND (domain_schema IS NOT NULL OR column_default IS NOT NULL)
ORDER BY column_name;
DROP SCHEMA hostile CASCADE;

-- Bad input.
SELECT * FROM dashie.enable('user_session');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM dashie.enable('');
SELECT * FROM dashie.enable(6);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM dashie.enable(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM dashie.enable(NULL::int);
SELECT * FROM dashie.enable('dashboards', NULL);
SELECT dashie.disable(NULL);
SELECT dashie.disable('nothing');
SELECT * FROM dashie.enable('dashboards', 'no such schema');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM dashie.enable('dashboards', 'pg_catalog');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM dashie.enable('dashboards', 'information_schema');
SELECT * FROM dashie.enable('dashboards', 'dashie');
SELECT * FROM dashie.enable('dashboards', 'pg_temp');

-- auth.users missing, or not as expected.
CREATE TABLE taken (id int);
ALTER TABLE auth.users RENAME TO users_away;
SELECT * FROM dashie.enable('dashboards');
\echo :LAST_ERROR_SQLSTATE
CREATE TABLE auth.users (email text);
SELECT * FROM dashie.enable('dashboards');
\echo :LAST_ERROR_SQLSTATE
ALTER TABLE auth.users ADD COLUMN id text PRIMARY KEY;
SELECT * FROM dashie.enable('dashboards');
ALTER TABLE auth.users DROP COLUMN id;
ALTER TABLE auth.users ADD COLUMN id uuid;
SELECT * FROM dashie.enable('dashboards');
DROP TABLE auth.users;
CREATE VIEW auth.users AS SELECT * FROM auth.users_away;
SELECT * FROM dashie.enable('dashboards');
\echo :LAST_ERROR_SQLSTATE
DROP VIEW auth.users;
ALTER TABLE auth.users_away RENAME TO users;
DROP TABLE taken;

-- Nobody writes into the registry what enable() would not have written.
\set VERBOSITY terse
INSERT INTO dashie.enabled_table VALUES ('pg_class', 'public');
INSERT INTO dashie.enabled_table VALUES ('widget_analytics', 'pg_catalog');
INSERT INTO dashie.enabled_table VALUES ('widget_analytics', 'dashie');
\set VERBOSITY default

SELECT dashie.disable(table_name) FROM dashie.enabled_table;
DROP SCHEMA roadmap CASCADE;
DROP TABLE stripe_webhook_events, system_events, user_sessions, daily_metrics, dashboards,
	geographic_stats, account_clusters, abuse_patterns, feature_usage;
