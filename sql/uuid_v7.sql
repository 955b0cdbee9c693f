-- Time-ordered ids: RFC 9562, version 7.
-- the version and the variant
SELECT bool_and(substr(id::text, 15, 1) = '7' AND substr(id::text, 20, 1) IN ('8', '9', 'a', 'b')) AS as_the_rfc_says
FROM (SELECT dashie.uuid_v7() AS id FROM generate_series(1, 10000)) AS ids;

-- each is larger than the one before, inside a millisecond, across statements and savepoints
CREATE TEMPORARY TABLE made (n serial, id uuid);
INSERT INTO made (id) SELECT dashie.uuid_v7() FROM generate_series(1, 5000);
BEGIN;
SAVEPOINT s;
INSERT INTO made (id) SELECT dashie.uuid_v7() FROM generate_series(1, 100);
SELECT max(id::text) AS lost FROM made \gset
ROLLBACK TO s;
INSERT INTO made (id) SELECT dashie.uuid_v7() FROM generate_series(1, 100);
COMMIT;
INSERT INTO made (id) SELECT dashie.uuid_v7() FROM generate_series(1, 5000);
SELECT count(*) FILTER (WHERE id <= before) AS out_of_order, count(DISTINCT id) AS ids
FROM (SELECT id, lag(id) OVER (ORDER BY n) AS before FROM made) AS pairs;
SELECT bool_and(id::text > :'lost') AS after_the_lost FROM made WHERE n > 5100;
-- 62 bits are random: of 10,100 ids no two share the last twelve hex digits
SELECT count(DISTINCT right(id::text, 12)) AS random_ends FROM made;

-- the time in it is the clock's, whatever a test has set for now
SET dashie.now = '2001-01-01';
SELECT dashie.uuid_v7_time(dashie.uuid_v7()) BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() AS by_the_clock;
RESET dashie.now;
-- the example of the RFC (appendix A.6), the ends of the range, and other versions
SELECT dashie.uuid_v7_time('017F22E2-79B0-7CC3-98C4-DC0C0C07398F') AT TIME ZONE 'UTC' AS example,
	dashie.uuid_v7_time('00000000-0000-7000-8000-000000000000') AT TIME ZONE 'UTC' AS first,
	dashie.uuid_v7_time('ffffffff-ffff-7fff-bfff-ffffffffffff') AT TIME ZONE 'UTC' AS last;
SELECT id, dashie.uuid_v7_time(id) FROM (VALUES ('919108f7-52d1-4320-9bac-f847db4148a8'::uuid), -- version 4
	('017F22E2-79B0-7CC3-C8C4-DC0C0C07398F'), ('00000000-0000-0000-0000-000000000000'), (NULL)) AS v(id);

-- as a column's default, for a role that has no other right on dashie, and in a parallel plan
CREATE ROLE regress_dashie_inserter;
CREATE TABLE public.with_default (id uuid DEFAULT dashie.uuid_v7() PRIMARY KEY, n int);
GRANT INSERT, SELECT ON public.with_default TO regress_dashie_inserter;
SET ROLE regress_dashie_inserter;
INSERT INTO public.with_default (n) SELECT generate_series(1, 3);
SELECT n FROM public.with_default ORDER BY id;
RESET ROLE;
DROP TABLE public.with_default;
DROP ROLE regress_dashie_inserter;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
CREATE TABLE public.some_rows AS SELECT generate_series(1, 10000) AS n;
SELECT count(DISTINCT id) FROM (SELECT dashie.uuid_v7() AS id FROM public.some_rows OFFSET 0) AS ids;
SELECT proname, proparallel, provolatile FROM pg_proc WHERE proname LIKE 'uuid_v7%' AND pronamespace = 'dashie'::regnamespace ORDER BY 1;
DROP TABLE public.some_rows;
