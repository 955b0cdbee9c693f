CREATE FUNCTION dashie.close_stale_sessions(idle interval DEFAULT '30 minutes') RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_close_stale_sessions';
COMMENT ON FUNCTION dashie.close_stale_sessions(interval) IS
'Ends the open sessions whose last activity is longer ago than that, and returns how many.
idle: more than 0. ended_at becomes the last activity (last_activity_at, else started_at), not now; duration_minutes the whole minutes up to it.
Sessions that another transaction has locked are left for the next call.
Errors: 22023 for NULL, zero or a negative interval; 55000 when user_sessions is not enabled.
Source: dashie semantics, "system_events, user_sessions (phase 7)".';
REVOKE ALL ON FUNCTION dashie.close_stale_sessions(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.close_stale_sessions(interval) TO @extowner@;
