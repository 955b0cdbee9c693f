-- Prints what dashie computed, and keeps each printed number in demo.shown for
-- compare.sql.  The psql variable "clock" is what dashie.now stands at.

SELECT (:'clock'::timestamptz AT TIME ZONE 'America/New_York')::date AS today \gset
SELECT coalesce(nullif(:'as_of', ''), :'today') AS as_of \gset

-- Days: the first five, and the last three
CREATE TEMP VIEW day_shown AS
SELECT date, new_signups, returning_users, active_dashboards, total_sessions, avg_session_minutes,
	trial_to_paid_conversions
FROM public.daily_metrics
WHERE date BETWEEN '1995-08-01' AND '1995-08-05' OR date > greatest('1995-08-05', :'today'::date - 4)
ORDER BY date;

CREATE TEMP VIEW country_shown AS
SELECT country_code, total_users, active_users_30d, trial_users, paid_users, avg_session_duration_minutes
FROM public.geographic_stats
ORDER BY total_users DESC, country_code;

CREATE TEMP VIEW actives_shown AS
SELECT d, days, dashie.active_users(d, days)
FROM (VALUES (date '1995-08-01', 1), ('1995-08-01', 30), ('1995-08-02', 1), ('1995-08-04', 3),
		('1995-08-04', 7), ('1995-08-30', 30)) AS asked (d, days)
WHERE d < :'today'::date;

CREATE TEMP VIEW rows_shown AS
SELECT (SELECT count(*) FROM public.user_sessions) AS user_sessions,
	(SELECT count(*) FROM public.widget_analytics) AS widget_analytics,
	(SELECT count(*) FROM public.system_events) AS system_events,
	(SELECT count(*) FROM pg_catalog.pg_inherits
		WHERE inhparent = 'public.widget_analytics'::regclass) AS partitions;

\echo
\echo daily_metrics
TABLE day_shown;
\echo geographic_stats, activity of the 30 days up to :as_of
TABLE country_shown;
\echo active_users
TABLE actives_shown;
\echo rows
TABLE rows_shown;

INSERT INTO demo.shown (clock, source, key, metric, value)
SELECT :'clock', source, r ->> key, metric, value::numeric
FROM (
	SELECT 'daily_metrics' AS source, 'date' AS key, to_jsonb(s) AS r FROM day_shown AS s
	UNION ALL
	SELECT 'geographic_stats', 'country_code', to_jsonb(s) FROM country_shown AS s
	UNION ALL
	SELECT 'active_users', 'arguments', jsonb_build_object('arguments', d || ' over ' || days, 'users', active_users)
	FROM actives_shown
	UNION ALL
	SELECT 'rows', 'today', to_jsonb(s) || jsonb_build_object('today', :'today') FROM rows_shown AS s
) AS shown
CROSS JOIN LATERAL jsonb_each_text(r) WITH ORDINALITY AS field (metric, value, place)
WHERE metric <> key
ORDER BY source = 'rows', source = 'active_users', source = 'geographic_stats', r ->> key, place;

UPDATE demo.shown SET key = key || ' as of ' || :'as_of'
WHERE source = 'geographic_stats' AND clock = :'clock' AND key NOT LIKE '% as of %';
