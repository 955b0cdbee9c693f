CREATE FUNCTION dashie.engagement("from" date, "to" date, by_country boolean DEFAULT false,
	OUT date date, OUT country text, OUT dau bigint, OUT wau bigint, OUT mau bigint, OUT stickiness numeric)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER COST 10000 ROWS 365 AS 'MODULE_PATHNAME', 'dashie_engagement';
COMMENT ON FUNCTION dashie.engagement(date, date, boolean) IS
'One row a day of the days "from" to "to" (inclusive, in the configured time zone, up to 3660 of them): exact distinct users active on the day (dau), on the 7 days (wau) and on the 30 days (mau) that end with it, and stickiness = dau / mau, 4 decimals, NULL where mau is 0. Users deleted since included, anonymous ones not. Answers also for days whose sessions retention has removed.
by_country: instead a row for each day and country that had an active user in the 30 days; country is that of each user as of now (as in geographic_stats; ZZ: none known; of users deleted since, as last known). Otherwise country is NULL.
A number is NULL where nothing is known of one of its days: retention closed it before it was computed, or sessions were not enabled; a NOTICE counts the former.
Errors: 22023 for NULL, a reversed or too long range, a day out of range or in the future; 55000 if neither daily_metrics nor geographic_stats was ever enabled.
Source: dashie semantics, "daily_metrics" (when a user is active) and "geographic_stats" (country).';
REVOKE ALL ON FUNCTION dashie.engagement(date, date, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.engagement(date, date, boolean) TO @extowner@;

CREATE FUNCTION dashie.new_vs_returning("from" date, "to" date,
	OUT date date, OUT active_users bigint, OUT new_users bigint, OUT returning_users bigint, OUT resurrected_users bigint)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER COST 10000 ROWS 365 AS 'MODULE_PATHNAME', 'dashie_new_vs_returning';
COMMENT ON FUNCTION dashie.new_vs_returning(date, date) IS
'One row a day of the days "from" to "to" (inclusive, in the configured time zone, up to 3660 of them): active_users = new_users + returning_users.
returning_users signed up before the day, as in daily_metrics; new_users are the others, who signed up on it (or whose sign-up is later or not known). resurrected_users are those of the returning ones who signed up before the 30 days that precede the day and were active on none of them. Users deleted since included, anonymous ones not. Answers also for days whose sessions retention has removed.
A number is NULL where nothing is known of one of its days; a NOTICE counts those that retention closed.
Errors: 22023 for NULL, a reversed or too long range, a day out of range or in the future; 55000 if neither daily_metrics nor geographic_stats was ever enabled.
Source: dashie semantics, "daily_metrics".';
REVOKE ALL ON FUNCTION dashie.new_vs_returning(date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.new_vs_returning(date, date) TO @extowner@;

CREATE FUNCTION dashie.retention_cohorts("from" date, "to" date, period text,
	OUT cohort date, OUT period_number integer, OUT users bigint, OUT returned bigint, OUT rate numeric)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER COST 10000 AS 'MODULE_PATHNAME', 'dashie_retention_cohorts';
COMMENT ON FUNCTION dashie.retention_cohorts(date, date, text) IS
'Of the users who signed up in a period, how many came back n periods later: a row for each period that holds a day of "from" to "to" (cohort: its first day) and each n = period_number from 0 to the last period that is over by now. Periods that are not over have no row.
period: day, week (from Monday) or month (of the calendar), in the configured time zone; whole periods count, also where "from" or "to" lies inside of one.
users: sign-ups of the period, the sum of new_signups of its days, users deleted since included; returned: those of them who were active on at least one day of the n-th period after it (0: their own); rate = returned / users, 4 decimals, NULL where users is 0. returned and rate are NULL where nothing is known of one of the period''s days; a NOTICE counts those that retention closed. All are NULL where auth.users has no created_at.
Errors: 22023 for NULL, an unknown period, a reversed range, a day out of range, in the future, or more than 3660 days ago; 55000 if neither daily_metrics nor geographic_stats was ever enabled.
Source: dashie semantics, "geographic_stats".';
REVOKE ALL ON FUNCTION dashie.retention_cohorts(date, date, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.retention_cohorts(date, date, text) TO @extowner@;
