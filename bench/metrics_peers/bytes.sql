-- What each way keeps on disk, indexes and TOAST included
CREATE TEMP TABLE kept (what text, bytes bigint);
INSERT INTO kept VALUES
	('user_sessions, the rows', pg_table_size('public.user_sessions')),
	('user_sessions, the indexes of dashie.enable()', pg_indexes_size('public.user_sessions')
		- (SELECT sum(pg_relation_size(indexrelid)) FROM pg_index WHERE indexrelid::regclass::text LIKE '%bench_sessions%')),
	('best SQL: its four indexes', (SELECT sum(pg_relation_size(indexrelid)) FROM pg_index
		WHERE indexrelid::regclass::text LIKE '%bench_sessions%')),
	('incremental SQL: user_state, day_country', pg_total_relation_size('incremental.user_state')
		+ pg_total_relation_size('incremental.day_country')),
	('materialized views', pg_total_relation_size('view.daily_metrics') + pg_total_relation_size('view.geographic_stats'));
INSERT INTO kept SELECT 'dashie.' || relname, pg_total_relation_size(oid) FROM pg_class
WHERE relnamespace = 'dashie'::regnamespace AND relkind = 'r' AND relowner = 'app_owner'::regrole AND pg_relation_size(oid) > 0;
INSERT INTO kept SELECT 'hll: sets a day and country', pg_total_relation_size(to_regclass('hll.day')) WHERE to_regclass('hll.day') IS NOT NULL;
INSERT INTO kept SELECT 'of dashie.day_page: the sets of active users alone', sum(length(active)) FROM dashie.day_page;
SELECT format('| %s | %s | %s | %s |', what, round(bytes / 1048576.0, 1), round(bytes / 1024.0 / days, 1), round(bytes::numeric / users, 0))
FROM kept, (SELECT bench.today() - first AS days, users FROM bench.parameter) AS p
ORDER BY what LIKE 'dashie%' DESC, bytes DESC;
