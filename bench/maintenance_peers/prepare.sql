-- Work for a night: :days expired days of :events events, and, where there are
-- partitions, as many at the other end that are missing.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SELECT :'way' = 'partman' AS partman, :'way' = 'plain' AS plain \gset

\if :partman
SELECT partman.create_partition_time('public.widget_analytics',
	ARRAY(SELECT date_trunc('day', now()) - n * interval '1 day' FROM generate_series(32, 31 + :days) AS n)) \g /dev/null
\elif :plain
\else
SELECT format('CREATE TABLE public.old_%s PARTITION OF public.widget_analytics FOR VALUES FROM (%L) TO (%L)', n,
	date_trunc('day', now()) - n * interval '1 day', date_trunc('day', now()) - (n - 1) * interval '1 day')
FROM generate_series(32, 31 + :days) AS n
\gexec
\endif
\if :plain
\elif :missing
SELECT format('DROP TABLE %s', inhrelid::regclass)
FROM (SELECT inhrelid, row_number() OVER (ORDER BY substring(pg_get_expr(relpartbound, oid) FROM 'FROM .''([0-9-]+)')::date DESC) AS n
	FROM pg_inherits JOIN pg_class ON oid = inhrelid
	WHERE inhparent = 'public.widget_analytics'::regclass AND pg_get_expr(relpartbound, oid) <> 'DEFAULT') AS p
WHERE n <= :days
\gexec
\endif
SELECT public.add_events(date_trunc('day', now()) - n * interval '1 day', :events) FROM generate_series(32, 31 + :days) AS n \g /dev/null
VACUUM ANALYZE public.widget_analytics;
VACUUM ANALYZE auth.users, public.user_sessions;
