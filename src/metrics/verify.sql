CREATE FUNCTION dashie.verify("from" date, "to" date,
	OUT day date, OUT ok boolean, OUT method text, OUT differences jsonb, OUT reason text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER COST 100000 ROWS 30 AS 'MODULE_PATHNAME', 'dashie_verify';
COMMENT ON FUNCTION dashie.verify(date, date) IS
'Proves what is stored of the days "from" to "to" (inclusive, in the configured time zone, up to 3660 of them), a row each; changes nothing.
method: rows: the page is compared with plain SQL over user_sessions, dashboards and auth.users, and its bytes with their digest; digest: rows of the day are gone, the bytes are compared with their digest and the page''s numbers with the bytes; missing: there is no page. With either, the row of daily_metrics is compared with the page, and its new_signups and trial_to_paid_conversions with plain SQL.
ok: true: proven; false: something differs; NULL: neither, because rows changed since and the next refresh computes the day again, or there is nothing to prove yet; reason says which.
differences: an object with a member for each thing that differs: its two values by where they come from (page, rows, bytes, daily_metrics); differ counts elements of a set that differ. Over rows, both count the users who are still there: what others did is in the page alone, under the digest.
A digest shows damage and careless edits. Whoever changes the bytes of a page and their digest alike is seen only while the rows exist.
Errors: 22023 for NULL, a reversed or too long range, a day out of range or in the future; 55000 if neither daily_metrics nor geographic_stats was ever enabled.
Source: dashie design, "Metrics without rescanning".';
REVOKE ALL ON FUNCTION dashie.verify(date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.verify(date, date) TO @extowner@;
