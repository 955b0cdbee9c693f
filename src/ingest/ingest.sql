CREATE FUNCTION dashie.track(
	user_id uuid, session_id uuid, events jsonb,
	OUT inserted integer, OUT duplicates integer, OUT rejected jsonb)
RETURNS record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER AS 'MODULE_PATHNAME', 'dashie_track';
COMMENT ON FUNCTION dashie.track(uuid, uuid, jsonb) IS
'Stores a batch of widget events of a user, and of a session if one is given, in widget_analytics.
events: a JSON array of up to 10000 objects with widget_type (text, required), event_type (view, click, configure, focus or active, required), id (a UUID: an event with one is stored once, however often and with whatever time it is sent; it is looked for in all partitions that retention has not reached, or as far back as the setting duplicate_window_hours says), timestamp (text with a time zone; missing: now), duration_seconds (not negative), event_data (any JSON), dashboard_id (a UUID).
A timestamp more than 5 minutes in the future is taken for now.
Returns how many events were inserted and how many were duplicates, and the rejected ones: an array of {index, reason}, index from 0; with "retry": true where the event should be sent again as it is, because its partition does not exist yet. All three are NULL, and nothing is stored, where user_profiles does not say that the user consented to analytics.
Errors: 22023 for NULL, no array, or more than 10000 events; 23503 for an unknown user, or a session that is unknown or another user''s; 55000 when widget_analytics is not enabled.
Source: dashie semantics, "widget_analytics".';
ALTER FUNCTION dashie.track(uuid, uuid, jsonb) OWNER TO @extowner@;
REVOKE ALL ON FUNCTION dashie.track(uuid, uuid, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.track(uuid, uuid, jsonb) TO @extowner@;

CREATE FUNCTION dashie.track_many(
	batches jsonb,
	OUT batch integer, OUT inserted integer, OUT duplicates integer, OUT rejected jsonb, OUT error text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER ROWS 100 AS 'MODULE_PATHNAME', 'dashie_track_many';
COMMENT ON FUNCTION dashie.track_many(jsonb) IS
'dashie.track() for a collector that has events of several users.
batches: a JSON array of {"user_id", "session_id", "events"}, with up to 10000 events in all.
Returns a row for each batch, by its index from 0: what track() would return, or the error for which nothing of this batch was stored; the others are.
Errors: 22023 for NULL, no array, or more than 10000 events or batches; 55000 when widget_analytics is not enabled.
Source: dashie semantics, "widget_analytics".';
ALTER FUNCTION dashie.track_many(jsonb) OWNER TO @extowner@;
REVOKE ALL ON FUNCTION dashie.track_many(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.track_many(jsonb) TO @extowner@;
