-- dashie.roadmap: the ten tables, and their triggers on the real numbers.
SET client_min_messages = warning;

SELECT table_name, phase, phase_name, priority, trigger_text, retention, strategy FROM dashie.roadmap;
SELECT table_name, trigger_met, evidence, enabled, schema_name, "rows", bytes FROM dashie.roadmap;

-- Users who are anonymous or deleted do not count.
INSERT INTO auth.users (is_anonymous, deleted_at)
SELECT false, NULL::timestamptz FROM generate_series(1, 49)
UNION ALL SELECT true, NULL FROM generate_series(1, 60)
UNION ALL SELECT NULL, '2026-01-01' FROM generate_series(1, 60);
SELECT table_name, trigger_met, evidence FROM dashie.roadmap WHERE phase = 7;
INSERT INTO auth.users (is_anonymous) VALUES (NULL);
SELECT table_name, trigger_met, evidence FROM dashie.roadmap WHERE phase = 7;
INSERT INTO auth.users SELECT FROM generate_series(1, 50);
SELECT table_name, trigger_met, evidence FROM dashie.roadmap WHERE phase = 7;
-- A table without those columns.
ALTER TABLE auth.users DROP COLUMN is_anonymous, DROP COLUMN deleted_at;
SELECT table_name, trigger_met, evidence FROM dashie.roadmap WHERE phase = 7;
ALTER TABLE auth.users RENAME TO users_away;
SELECT table_name, trigger_met, evidence FROM dashie.roadmap WHERE phase = 7;
CREATE VIEW auth.users AS SELECT id FROM auth.users_away;
SELECT table_name, trigger_met, evidence FROM dashie.roadmap WHERE phase = 7;
DROP VIEW auth.users;
ALTER TABLE auth.users_away RENAME TO users;
ALTER TABLE auth.users ADD COLUMN is_anonymous boolean DEFAULT false, ADD COLUMN deleted_at timestamptz;
DELETE FROM auth.users;

-- beta_mode_enabled
CREATE TABLE public.access_control_config (key text PRIMARY KEY, value text NOT NULL);
SELECT trigger_met, evidence FROM dashie.roadmap WHERE phase = 5;
INSERT INTO public.access_control_config VALUES ('beta_mode_enabled', 'true'), ('maintenance_mode', 'false');
SELECT trigger_met, evidence FROM dashie.roadmap WHERE phase = 5;
UPDATE public.access_control_config SET value = 'false' WHERE key = 'beta_mode_enabled';
SELECT trigger_met, evidence FROM dashie.roadmap WHERE phase = 5;
UPDATE public.access_control_config SET value = 'maybe' WHERE key = 'beta_mode_enabled';
SELECT trigger_met, evidence FROM dashie.roadmap WHERE phase = 5;
DROP TABLE public.access_control_config;

-- An enabled table: where it is, how big.
SELECT * FROM dashie.enable('feature_usage');
INSERT INTO auth.users (id) VALUES ('00000000-0000-0000-0000-000000000001');
INSERT INTO feature_usage (user_id, feature_name, period_start, reset_date)
SELECT '00000000-0000-0000-0000-000000000001', 'feature ' || i, '2026-03-01', '2026-04-01'
FROM generate_series(1, 10) i;
ANALYZE feature_usage;
SELECT table_name, enabled, schema_name, "rows", bytes > 0 AS has_bytes FROM dashie.roadmap WHERE phase = 11;
-- Dropped by hand: registered, but not there.
DROP TABLE feature_usage;
SELECT table_name, enabled, schema_name, "rows", bytes FROM dashie.roadmap WHERE phase = 11;
SELECT dashie.disable('feature_usage');
DELETE FROM auth.users;
