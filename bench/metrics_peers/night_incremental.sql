-- The days that late rows can reach into tables of its own, and one pass over the users
SET work_mem = '256MB';
BEGIN;
CREATE TEMP TABLE night_day ON COMMIT DROP AS SELECT * FROM best.daily(bench.today() - :late, bench.today() - 1);
CREATE TEMP TABLE night_user ON COMMIT DROP AS SELECT * FROM incremental.changed_users(bench.today() - :late);
INSERT INTO incremental.daily_metrics AS m SELECT * FROM night_day
ON CONFLICT (date) DO UPDATE SET new_signups = excluded.new_signups, returning_users = excluded.returning_users,
	active_dashboards = excluded.active_dashboards, total_sessions = excluded.total_sessions,
	avg_session_minutes = excluded.avg_session_minutes, trial_to_paid_conversions = excluded.trial_to_paid_conversions
WHERE (m.*) IS DISTINCT FROM (excluded.*);
INSERT INTO incremental.user_state AS s SELECT * FROM night_user
ON CONFLICT (user_id) DO UPDATE SET last_active = greatest(s.last_active, excluded.last_active),
	country = CASE WHEN (excluded.country_at, excluded.country_session) > (s.country_at, s.country_session) IS NOT FALSE
		AND excluded.country_at IS NOT NULL THEN excluded.country ELSE s.country END,
	country_at = CASE WHEN (excluded.country_at, excluded.country_session) > (s.country_at, s.country_session) IS NOT FALSE
		AND excluded.country_at IS NOT NULL THEN excluded.country_at ELSE s.country_at END,
	country_session = CASE WHEN (excluded.country_at, excluded.country_session) > (s.country_at, s.country_session) IS NOT FALSE
		AND excluded.country_at IS NOT NULL THEN excluded.country_session ELSE s.country_session END
WHERE excluded.last_active > s.last_active
	OR (excluded.country_at, excluded.country_session) > (s.country_at, s.country_session) IS NOT FALSE AND excluded.country_at IS NOT NULL;
DELETE FROM incremental.day_country WHERE day >= bench.today() - :late;
INSERT INTO incremental.day_country SELECT * FROM incremental.durations(bench.today() - :late);
CREATE TEMP TABLE night_country ON COMMIT DROP AS SELECT * FROM incremental.geographic();
INSERT INTO incremental.geographic_stats AS g SELECT * FROM night_country
ON CONFLICT (country_code) DO UPDATE SET total_users = excluded.total_users, active_users_30d = excluded.active_users_30d,
	trial_users = excluded.trial_users, paid_users = excluded.paid_users,
	avg_session_duration_minutes = excluded.avg_session_duration_minutes
WHERE (g.*) IS DISTINCT FROM (excluded.*);
DELETE FROM incremental.geographic_stats AS g WHERE NOT EXISTS (SELECT FROM night_country AS n WHERE n.country_code = g.country_code);
COMMIT;
