CREATE FUNCTION dashie.sessions_changed() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_sessions_changed';
COMMENT ON FUNCTION dashie.sessions_changed() IS
'Trigger of user_sessions (AFTER each row, and AFTER TRUNCATE): remembers which time the transaction changed, so that a refresh computes those days again, and no others.';
REVOKE ALL ON FUNCTION dashie.sessions_changed() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.sessions_changed() TO @extowner@;

CREATE FUNCTION dashie.heartbeat_changed() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_heartbeat_changed';
COMMENT ON FUNCTION dashie.heartbeat_changed() IS
'Trigger of dashboards (AFTER each row): remembers the first heartbeat of each day of a dashboard, which its row overwrites.';
REVOKE ALL ON FUNCTION dashie.heartbeat_changed() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.heartbeat_changed() TO @extowner@;

CREATE FUNCTION dashie.refresh_daily_metrics("from" date, "to" date, force boolean DEFAULT false)
RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_refresh_daily_metrics';
COMMENT ON FUNCTION dashie.refresh_daily_metrics(date, date, boolean) IS
'Brings the rows of daily_metrics for the days "from" to "to" (inclusive, in the configured time zone) up to date and returns how many were written. Days whose rows did not change are not computed again.
force: compute every day of the range from the rows that are there, also days whose sessions retention has removed.
Errors: 22023 for NULL, a reversed range, a day out of range or in the future; 55000 if daily_metrics is not enabled, or a day has lost sessions to retention and force is false.
Source: dashie semantics, "daily_metrics".';
REVOKE ALL ON FUNCTION dashie.refresh_daily_metrics(date, date, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.refresh_daily_metrics(date, date, boolean) TO @extowner@;

CREATE PROCEDURE dashie.backfill_metrics("from" date, "to" date)
LANGUAGE c SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_backfill_metrics';
COMMENT ON PROCEDURE dashie.backfill_metrics(date, date) IS
'Brings the metrics of the days "from" to "to" (inclusive, in the configured time zone) up to date, in short transactions of some days each, the latest first; with their rows of daily_metrics where that is enabled. Days that are up to date cost nothing, so a call after one that was cancelled, or died, goes on where that stopped. dashie.progress shows how far it is. It takes turns with the nightly jobs, which also do what is left.
It works until all is done: the setting job_time_budget_s is for jobs, but statement_timeout counts for a CALL as a whole. Inside a transaction block it works too and does not commit.
Errors: 22023 for NULL, a reversed range, a day out of range or in the future; 55000 if neither daily_metrics nor geographic_stats is enabled, or retention has removed sessions of a day before it was computed.
Source: dashie semantics, "daily_metrics"; dashie design, "Jobs".';
REVOKE ALL ON PROCEDURE dashie.backfill_metrics(date, date) FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE dashie.backfill_metrics(date, date) TO @extowner@;

CREATE FUNCTION dashie.refresh_geographic_stats(as_of date DEFAULT NULL) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_refresh_geographic_stats';
COMMENT ON FUNCTION dashie.refresh_geographic_stats(date) IS
'Brings geographic_stats up to date in one transaction and returns how many rows were written or removed. Rows that are right already stay untouched; readers are never blocked.
as_of: last of the 30 days of active_users_30d and of the mean duration; NULL for today.
Errors: 22023 for a day out of range or in the future; 55000 if geographic_stats is not enabled.
Source: dashie semantics, "geographic_stats".';
REVOKE ALL ON FUNCTION dashie.refresh_geographic_stats(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.refresh_geographic_stats(date) TO @extowner@;

CREATE FUNCTION dashie.active_users(d date, days integer) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER COST 10000 AS 'MODULE_PATHNAME', 'dashie_active_users';
COMMENT ON FUNCTION dashie.active_users(date, integer) IS
'Exact number of distinct users with a session that overlaps one of the "days" days that end with d (in the configured time zone), users deleted since included, anonymous ones not. Answers also for days whose sessions retention has removed.
days: 1 to 3660.
Errors: 22023 for NULL, a window out of range or a day in the future; 55000 if neither daily_metrics nor geographic_stats was ever enabled.
Source: dashie semantics, "geographic_stats".';
REVOKE ALL ON FUNCTION dashie.active_users(date, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.active_users(date, integer) TO @extowner@;

CREATE FUNCTION dashie.active_users_by_country(d date, days integer DEFAULT 30)
RETURNS TABLE (country_code text, users bigint)
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER COST 10000 AS 'MODULE_PATHNAME', 'dashie_active_users_by_country';
COMMENT ON FUNCTION dashie.active_users_by_country(date, integer) IS
'Exact number of distinct users with a session that overlaps one of the "days" days that end with d (in the configured time zone), by country; ZZ where none is known. A user counts in the country in which the last refresh left them, and not at all if they were gone, marked as deleted or anonymous then. Answers also for days whose sessions retention has removed.
days: 1 to 3660.
Errors: 22023 for NULL, a window out of range or a day in the future; 55000 if neither daily_metrics nor geographic_stats was ever enabled.
Source: dashie semantics, "geographic_stats".';
REVOKE ALL ON FUNCTION dashie.active_users_by_country(date, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.active_users_by_country(date, integer) TO @extowner@;
