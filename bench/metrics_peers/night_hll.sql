-- Only the three distinct counts
SET work_mem = '256MB';
SET search_path = pg_catalog, hll;
BEGIN;
DELETE FROM hll.day WHERE day >= bench.today() - :late;
INSERT INTO hll.day SELECT * FROM hll.sets(bench.today() - :late, bench.today());
INSERT INTO hll.daily_metrics
SELECT day, round(hll_cardinality(hll_union_agg(returned))), round(hll_cardinality(hll_union_agg(dashboards)))
FROM hll.day WHERE day >= bench.today() - :late GROUP BY day
ON CONFLICT (date) DO UPDATE SET returning_users = excluded.returning_users, active_dashboards = excluded.active_dashboards;
INSERT INTO hll.geographic_stats
SELECT country, round(hll_cardinality(hll_union_agg(users)))
FROM hll.day WHERE day >= bench.today() - 29 AND day <= bench.today() GROUP BY country
ON CONFLICT (country_code) DO UPDATE SET active_users_30d = excluded.active_users_30d;
COMMIT;
