-- The days that late rows can reach, and the 30 days. Into temporary tables first: an INSERT
-- ... SELECT runs without parallel workers.
SET work_mem = '256MB';
BEGIN;
CREATE TEMP TABLE night_day ON COMMIT DROP AS SELECT * FROM best.daily(bench.today() - :late, bench.today() - 1);
CREATE TEMP TABLE night_country ON COMMIT DROP AS SELECT * FROM best.geographic();
INSERT INTO best.daily_metrics AS m SELECT * FROM night_day
ON CONFLICT (date) DO UPDATE SET new_signups = excluded.new_signups, returning_users = excluded.returning_users,
	active_dashboards = excluded.active_dashboards, total_sessions = excluded.total_sessions,
	avg_session_minutes = excluded.avg_session_minutes, trial_to_paid_conversions = excluded.trial_to_paid_conversions
WHERE (m.*) IS DISTINCT FROM (excluded.*);
INSERT INTO best.geographic_stats AS g SELECT * FROM night_country
ON CONFLICT (country_code) DO UPDATE SET total_users = excluded.total_users, active_users_30d = excluded.active_users_30d,
	trial_users = excluded.trial_users, paid_users = excluded.paid_users,
	avg_session_duration_minutes = excluded.avg_session_duration_minutes
WHERE (g.*) IS DISTINCT FROM (excluded.*);
DELETE FROM best.geographic_stats AS g WHERE NOT EXISTS (SELECT FROM night_country AS n WHERE n.country_code = g.country_code);
COMMIT;
