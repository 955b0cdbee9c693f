-- The tables, from what each run wrote; medians over the runs, ratios within each.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
CREATE TEMP TABLE title (way text, n integer, title text);
INSERT INTO title VALUES ('none', 0, 'no maintenance'), ('dashie', 1, 'dashie: the job maintain_partitions'),
	('partman', 2, 'pg_partman: run_maintenance()'), ('plain', 3, 'DELETE, then VACUUM');
CREATE TEMP TABLE a_drop (way text, run integer, ms numeric, wal numeric);
CREATE TEMP TABLE a_wait (section text, way text, run integer, us bigint);
CREATE TEMP TABLE a_stall (section text, run integer, ms numeric);
CREATE TEMP TABLE a_failure (section text, way text, run integer, maintenance integer, statements integer);
\copy a_failure FROM 'failures.tsv'
\copy a_drop FROM 'drops.tsv'
\copy a_wait FROM 'waits.tsv'
\copy a_stall FROM 'stalls.tsv'

CREATE FUNCTION pg_temp.median(numeric[]) RETURNS numeric LANGUAGE sql
AS $$ SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY v)::numeric FROM unnest($1) AS v $$;

\echo '| dropping a day of' :events 'events | ms | takes, dashie = 1 | WAL, kB | WAL, dashie = 1 |'
\echo '| --- | ---: | ---: | ---: | ---: |'
SELECT format('| %s | %s | %s | %s | %s |', t.title, round(pg_temp.median(array_agg(d.ms)), 1),
	round(pg_temp.median(array_agg(d.ms / b.ms)), 1), round(pg_temp.median(array_agg(d.wal)) / 1024),
	round(pg_temp.median(array_agg(d.wal / b.wal)), 1))
FROM a_drop AS d JOIN a_drop AS b ON b.way = 'dashie' AND b.run = d.run JOIN title AS t ON t.way = d.way
GROUP BY t.n, t.title ORDER BY t.n;

CREATE TEMP TABLE waited AS
SELECT section, way, run, count(*) AS statements, max(us) / 1000.0 AS worst,
	percentile_disc(0.999) WITHIN GROUP (ORDER BY us) / 1000.0 AS rare, percentile_disc(0.5) WITHIN GROUP (ORDER BY us) / 1000.0 AS usual
FROM a_wait GROUP BY section, way, run;
\echo
\echo '| load | meanwhile | worst ms, median of runs | worst ms of all | 99.9% ms | median ms | statements | failed | maintenance failed |'
\echo '| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |'
SELECT format('| %s | %s | %s | %s | %s | %s | %s | %s | %s |', section, title, round(pg_temp.median(array_agg(worst)), 1), round(max(worst), 1),
	round(pg_temp.median(array_agg(rare)), 1), round(pg_temp.median(array_agg(usual)), 2), sum(w.statements), sum(f.statements), sum(f.maintenance))
FROM waited AS w JOIN a_failure AS f USING (section, way, run) JOIN title USING (way) GROUP BY section, n, title ORDER BY section DESC, n;

\echo
\echo '| load | longest stall that dashie recorded, ms, median and worst of runs |'
\echo '| --- | ---: |'
SELECT format('| %s | %s, %s |', section, round(pg_temp.median(array_agg(ms)), 1), round(max(ms), 1)) FROM a_stall GROUP BY section ORDER BY section DESC;
