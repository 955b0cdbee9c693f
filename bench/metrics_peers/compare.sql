-- How many rows of a peer are not those of dashie, or missing. Variable: peer.
WITH ours AS (
	SELECT date, new_signups, returning_users, active_dashboards, total_sessions, avg_session_minutes, trial_to_paid_conversions
	FROM public.daily_metrics, bench.parameter WHERE date BETWEEN first AND bench.today() - 1),
theirs AS (
	SELECT date, new_signups, returning_users, active_dashboards, total_sessions, avg_session_minutes, trial_to_paid_conversions
	FROM :peer.daily_metrics),
our_countries AS (
	SELECT country_code, total_users, active_users_30d, trial_users, paid_users, avg_session_duration_minutes
	FROM public.geographic_stats),
their_countries AS (
	SELECT country_code, total_users, active_users_30d, trial_users, paid_users, avg_session_duration_minutes
	FROM :peer.geographic_stats)
SELECT (SELECT count(*) FROM (TABLE ours EXCEPT TABLE theirs) AS a) + (SELECT count(*) FROM (TABLE theirs EXCEPT TABLE ours) AS a)
	+ (SELECT count(*) FROM (TABLE our_countries EXCEPT TABLE their_countries) AS a)
	+ (SELECT count(*) FROM (TABLE their_countries EXCEPT TABLE our_countries) AS a)
	+ CASE WHEN (SELECT count(*) FROM ours) * (SELECT count(*) FROM our_countries) = 0 THEN 1 ELSE 0 END;
