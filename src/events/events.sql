CREATE FUNCTION dashie.events_changed() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_events_changed';
COMMENT ON FUNCTION dashie.events_changed() IS
'Trigger of widget_analytics (AFTER each row, and AFTER TRUNCATE): remembers which time the transaction changed, so that the rollups of those days are computed again, and of no others.';
ALTER FUNCTION dashie.events_changed() OWNER TO @extowner@;
REVOKE ALL ON FUNCTION dashie.events_changed() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.events_changed() TO @extowner@;

CREATE FUNCTION dashie.refresh_event_rollups("from" date, "to" date, force boolean DEFAULT false)
RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_refresh_event_rollups';
COMMENT ON FUNCTION dashie.refresh_event_rollups(date, date, boolean) IS
'Brings the rollups of the events of the days "from" to "to" (inclusive, in the configured time zone) up to date and returns how many were computed. Days whose events did not change are not computed again. The job rollup_events does this for all days that are over.
force: compute every day of the range from the events that are there, also days whose events retention has removed.
Errors: 22023 for NULL, a reversed range, a day out of range or in the future; 55000 if widget_analytics is not enabled, or a day has lost events to retention and force is false.
Source: dashie semantics, "widget_analytics".';
REVOKE ALL ON FUNCTION dashie.refresh_event_rollups(date, date, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.refresh_event_rollups(date, date, boolean) TO @extowner@;

CREATE FUNCTION dashie.widget_popularity("from" date, "to" date,
	OUT widget_type text, OUT users bigint, OUT events bigint, OUT views bigint, OUT clicks bigint,
	OUT configures bigint, OUT focuses bigint, OUT actives bigint, OUT seconds bigint)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER COST 10000 ROWS 20 AS 'MODULE_PATHNAME', 'dashie_widget_popularity';
COMMENT ON FUNCTION dashie.widget_popularity(date, date) IS
'One row for each widget with an event on the days "from" to "to" (inclusive, in the configured time zone, up to 3660 of them), the one with most users first: users = exact distinct users with an event of it; events = all its events, and those of each event_type; seconds = the sum of duration_seconds. Users deleted since included, as the finished days counted them; anonymous ones not among the users, but with their events. Answers also for days whose partitions retention has removed.
Where nothing is known of some of the days, because their events were removed before they were counted, a NOTICE counts them.
Errors: 22023 for NULL, a reversed or too long range, a day out of range or in the future; 55000 if widget_analytics was never enabled.
Source: dashie semantics, "widget_analytics".';
REVOKE ALL ON FUNCTION dashie.widget_popularity(date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.widget_popularity(date, date) TO @extowner@;

CREATE FUNCTION dashie.event_counts("from" date, "to" date, by text,
	OUT key text, OUT events bigint, OUT users bigint, OUT seconds bigint)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER COST 10000 ROWS 30 AS 'MODULE_PATHNAME', 'dashie_event_counts';
COMMENT ON FUNCTION dashie.event_counts(date, date, text) IS
'Events, exact distinct users and the sum of duration_seconds of the days "from" to "to" (inclusive, in the configured time zone, up to 3660 of them), by
by: day, week (ISO 8601, of which key is the Monday) or month (of which key is the first): a row for each that has days in the range, key = its first day as YYYY-MM-DD, of those days alone, so the first and the last may be of a part of a week or month; NULL numbers where nothing is known of one of them. Or widget_type (a row for each widget with an event) or event_type (a row for each of the five, and "other" if there were others).
Who counts as a user, and which days can be answered, is as in dashie.widget_popularity().
Errors: 22023 for NULL, another "by", a reversed or too long range, a day out of range or in the future; 55000 if widget_analytics was never enabled.
Source: dashie semantics, "widget_analytics".';
REVOKE ALL ON FUNCTION dashie.event_counts(date, date, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.event_counts(date, date, text) TO @extowner@;

CREATE FUNCTION dashie.widget_compare(widget text, from_a date, to_a date, from_b date, to_b date,
	OUT users_a bigint, OUT used_a bigint, OUT rate_a numeric, OUT users_b bigint, OUT used_b bigint, OUT rate_b numeric,
	OUT difference double precision, OUT difference_low double precision, OUT difference_high double precision,
	OUT z double precision, OUT p_value double precision)
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER COST 10000 AS 'MODULE_PATHNAME', 'dashie_widget_compare';
COMMENT ON FUNCTION dashie.widget_compare(text, date, date, date, date) IS
'Was a widget used by another share of the active users on the days from_b to to_b than on the days from_a to to_a (inclusive, in the configured time zone)? For a change that was made in between.
users_x = n: distinct users with an event of any widget on those days; used_x = k: those of them with an event of this one; rate_x = p = k / n, 4 decimals. Who counts as a user is as in dashie.widget_popularity().
difference = p_b - p_a, with its 95 % interval after Newcombe: of Wilson''s intervals [l, u] of the two shares, low = difference - sqrt((p_b - l_b)^2 + (u_a - p_a)^2), high = difference + sqrt((u_b - p_b)^2 + (p_a - l_a)^2).
z = difference / sqrt(p (1 - p) (1/n_a + 1/n_b)) with the pooled p = (k_a + k_b) / (n_a + n_b); p_value = erfc(|z| / sqrt(2)), two-sided. NULL where nobody or everybody used the widget in both; with users_x = 0 the rate, the difference and the test are NULL. A widget that nobody used is no error: 0, and a NOTICE if it is so in both.
The test takes the two groups for independent samples and is an approximation for large ones (ten who used it and ten who did not in each is a usual minimum). Most users are in both ranges, which makes it cautious: a real change may look weaker than it is.
Errors: 22023 for NULL, ranges that are reversed, too long (3660 days) or overlap, a day out of range or in the future; 55000 if widget_analytics was never enabled.
Source: roadmap, "widget_analytics": feature popularity, A/B test changes.';
REVOKE ALL ON FUNCTION dashie.widget_compare(text, date, date, date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.widget_compare(text, date, date, date, date) TO @extowner@;

CREATE FUNCTION dashie.widget_funnel(steps text[], within interval, "from" date, "to" date,
	OUT step integer, OUT name text, OUT users bigint, OUT rate numeric, OUT step_rate numeric)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER COST 10000 ROWS 4 AS 'MODULE_PATHNAME', 'dashie_widget_funnel';
COMMENT ON FUNCTION dashie.widget_funnel(text[], interval, date, date) IS
'How many users came how far: a row for each step, with the users for whom there are events of the steps 1 to this one, each later than the one before and none later than "within" after the first; rate = users / users of step 1, step_rate = users / users of the step before, 4 decimals, NULL where that is 0.
steps: 1 to 32; each a widget_type, for any event of it, or with one of the five event types after a colon, such as photos:click (so the widget "x:click" is asked for as "x:click:view" and so on). A step may come again; it then needs another event. Events of the same instant are in no order: none is later than another.
within: elapsed time, days of 24 hours and months of 30 days, up to 3660 days.
"from", "to": the days (inclusive, in the configured time zone) of the first step''s event; the others may lie after "to". A funnel whose time is not over yet may still grow.
A user counts once, with the furthest that they came. Only users who are there now, neither anonymous nor marked as deleted: the events of others are gone, or not asked for.
Errors: 22023 for NULL, a bad step, a "within" or a range out of range or reversed, a day in the future; 55000 if widget_analytics is not enabled, or the events of a day are gone: the order of events is in the rows alone, and the detail names the first day that has them.
Source: dashie semantics, "widget_analytics".';
REVOKE ALL ON FUNCTION dashie.widget_funnel(text[], interval, date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.widget_funnel(text[], interval, date, date) TO @extowner@;

CREATE FUNCTION dashie.verify_events("from" date, "to" date,
	OUT day date, OUT ok boolean, OUT method text, OUT differences jsonb, OUT reason text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER COST 100000 ROWS 30 AS 'MODULE_PATHNAME', 'dashie_verify_events';
COMMENT ON FUNCTION dashie.verify_events(date, date) IS
'Proves what is stored of the events of the days "from" to "to" (inclusive, in the configured time zone, up to 3660 of them), a row each; changes nothing.
method: rows: the page is compared with plain SQL over widget_analytics, and its bytes with their digest; digest: rows of the day are gone, the bytes are compared with their digest and the page''s sums with its entries; missing: there is no page.
ok: true: proven; false: something differs; NULL: neither, because events changed since and the next run of the job rollup_events counts the day again, or there is nothing to prove yet; reason says which.
differences: an object with a member for each thing that differs: its two values by where they come from (page, rows, bytes); differ counts elements of a set that differ. Over rows, both count the users who are still there: what others did is in the page alone, under the digest.
A digest shows damage and careless edits. Whoever changes the bytes of a page and their digest alike is seen only while the rows exist. Rows that somebody removed with their partition, by hand and not by retention, and for which an empty one was made since, differ.
Errors: 22023 for NULL, a reversed or too long range, a day out of range or in the future; 55000 if widget_analytics was never enabled.
Source: dashie design, "Metrics without rescanning".';
REVOKE ALL ON FUNCTION dashie.verify_events(date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.verify_events(date, date) TO @extowner@;
