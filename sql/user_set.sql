-- The type dashie.user_set: text and bytes, operators, aggregates.
SET search_path = dashie, public;
SET client_min_messages = warning;

--
-- Text
--
SELECT t AS input, t::user_set AS output, cardinality(t::user_set)
FROM unnest(ARRAY['{}', ' { } ', '{0}', '{2147483647}', '{1,2,5-9}', '{1,2,3}', '{3,1,2,2}', '{7-7}', '{5-9,1-6,20,10}', E'{ 1 ,\t2 - 4,\n9}',
	'{65534-65537}', '{0-2147483647}', '{000012}', '{4,5}', '{0-65535,65536-131071,131073}']) AS t;
SELECT t::text::user_set::text = t::text AS round_trip, count(*)
FROM (SELECT user_set(array_agg((random() * 3000)::int * (CASE WHEN i % 2 = 0 THEN 1 ELSE 700000 END))) AS t FROM generate_series(1, 200) i, generate_series(1, 20) g GROUP BY g) s
GROUP BY 1;
SELECT ''::user_set;
SELECT '{'::user_set;
SELECT '{1'::user_set;
SELECT '{1,}'::user_set;
SELECT '{,1}'::user_set;
SELECT '{1 2}'::user_set;
SELECT '{1}x'::user_set;
SELECT '{a}'::user_set;
SELECT '{5-}'::user_set;
SELECT '{5--6}'::user_set;
SELECT '{9-5}'::user_set;
SELECT '{-1}'::user_set;
SELECT '{- 1}'::user_set;
SELECT '{2147483648}'::user_set;
SELECT '{0-99999999999999999999999999}'::user_set;
SELECT '{1.5}'::user_set;
SELECT NULL::user_set IS NULL AS is_null;

--
-- Bytes: Roaring's portable format, each set in one form only
--
SELECT '{}'::user_set::bytea, '{1,3}'::user_set::bytea, '{1-3}'::user_set::bytea, user_set_send('{1-3}');
-- the same members as values, as runs, and as values under a cookie for runs
SELECT b::user_set, b::user_set::bytea FROM (VALUES ('\x3a300000010000000000020010000000010002000300'::bytea), ('\x3b3000000100000200010001000200'),
	('\x3b3000000000000200010002000300'), ('\x3b3000000100000100010001000100'), ('\x3a30000001000000000001001000000001000200')) AS v(b);
SELECT '\x'::bytea::user_set;
SELECT '\x3a300000'::bytea::user_set;
SELECT '\x3930000000000000'::bytea::user_set;
SELECT '\x3a30000001000000'::bytea::user_set;
SELECT '\x3a3000000100000000000200'::bytea::user_set;
SELECT '\x3a30000001000000000002001000000001000200'::bytea::user_set;
SELECT '\x3a30000001000000000002001000000001000300020000'::bytea::user_set;
SELECT '\x3a300000010000000000020010000000010003000200'::bytea::user_set;
SELECT '\x3a300000010000000000020011000000010002000300'::bytea::user_set;
SELECT '\x3a300000010000000080020010000000010002000300'::bytea::user_set;
SELECT '\x3a3000000200000001000000010000001800000018000000010001000200'::bytea::user_set;
SELECT '\x3a300000ffffffff'::bytea::user_set;
SELECT '\x3b3000000100000200010001000300'::bytea::user_set;
SELECT '\x3b30000001000002000000'::bytea::user_set;
SELECT '\x3b30000001000002000200010000000200010000'::bytea::user_set;
-- Roaring of 64 bits, and the library's own format
SELECT '\x01000000000000000000000000000000'::bytea::user_set;

--
-- Arrays and rows
--
SELECT user_set(ARRAY[5, 1, 5, 3]), user_set('{}'), user_set(ARRAY[[1, 2], [3, 2]]), ARRAY[9, 8]::user_set, to_array('{1,2,5-9}'), to_array('{}'),
	'{4,2}'::user_set::int[];
SELECT user_set(ARRAY[1, NULL]);
SELECT user_set(ARRAY[1, -1]);
SELECT to_array('{0-2147483647}');
SELECT * FROM unnest('{3,70000-70002,2147483647}'::user_set) AS member;
SELECT count(*), sum(member::bigint) FROM unnest('{0-99999}'::user_set) AS member;
SELECT s, unnest(s) FROM (VALUES ('{1,2}'::user_set), ('{}'), ('{7}')) AS v(s);

--
-- Operators
--
SELECT a, b, a | b AS "or", a & b AS "and", a - b AS minus, a @> b AS contains, a <@ b AS contained, a && b AS overlap, a = b AS eq, a <> b AS ne
FROM unnest(ARRAY['{}', '{1-5}', '{2,4,70000}']::user_set[]) AS a, unnest(ARRAY['{}', '{1-5}', '{4}', '{70000,80000}']::user_set[]) AS b;
SELECT m, '{0,7,65536,100000-200000}'::user_set @> m AS contains, m <@ '{0,7,65536,100000-200000}'::user_set AS contained
FROM unnest(ARRAY[-1, 0, 6, 7, 8, 65535, 65536, 99999, 100000, 150000, 200000, 200001, 2147483647]) AS m;
SELECT cardinality('{0-2147483647}' - '{5}'::user_set), '{0-2147483647}'::user_set - '{0-4,6-2147483647}' AS rest, '{0-2147483647}'::user_set & '{3,2000000000}' AS common,
	'{0-2147483647}'::user_set @> '{1-2147483646}'::user_set AS whole;
SELECT contains(users => '{1,2}', member => 2), contains(users => '{1,2}', part => '{2,3}'), user_set_except(users => '{1,2}', others => '{2}');
-- NULL in, NULL out
SELECT '{1}'::user_set | NULL AS "or", cardinality(NULL::user_set), contains(NULL, 1), to_array(NULL::user_set), user_set(NULL);
-- what arrays say about the same members, over all kinds of containers
CREATE TABLE user_set_kinds AS
SELECT k, array_agg(DISTINCT m ORDER BY m) AS members FROM (
	SELECT 1 AS k, m FROM generate_series(0, 9000, 2) m
	UNION ALL SELECT 2, m FROM generate_series(0, 9000, 3) m
	UNION ALL SELECT 3, m FROM generate_series(500, 70000) m
	UNION ALL SELECT 4, m FROM generate_series(0, 131071, 5) m
	UNION ALL SELECT 5, m * 5 + x FROM generate_series(0, 4095) m, (VALUES (0), (1)) AS v(x)
	UNION ALL SELECT 6, m * 65536 + 3 FROM generate_series(0, 50) m
	UNION ALL SELECT 7, m FROM generate_series(65500, 65600) m) s
GROUP BY k;
SELECT count(*) AS pairs,
	count(*) FILTER (WHERE to_array(a.s | b.s) IS NOT DISTINCT FROM (SELECT array_agg(m ORDER BY m) FROM (SELECT unnest(a.members) AS m UNION SELECT unnest(b.members)) u)) AS united,
	count(*) FILTER (WHERE to_array(a.s & b.s) = (SELECT coalesce(array_agg(m ORDER BY m), '{}') FROM (SELECT unnest(a.members) AS m INTERSECT SELECT unnest(b.members)) u)) AS common,
	count(*) FILTER (WHERE to_array(a.s - b.s) = (SELECT coalesce(array_agg(m ORDER BY m), '{}') FROM (SELECT unnest(a.members) AS m EXCEPT SELECT unnest(b.members)) u)) AS rest,
	count(*) FILTER (WHERE (a.s @> b.s) = (a.s | b.s = a.s) AND (a.s <@ b.s) = (a.s - b.s = '{}') AND (a.s && b.s) = (a.s & b.s <> '{}')) AS agree
FROM (SELECT *, user_set(members) AS s FROM user_set_kinds) a, (SELECT *, user_set(members) AS s FROM user_set_kinds) b;

--
-- Equality, sorting, hashing
--
SELECT s, count(*) FROM unnest(ARRAY['{1-3}', '{3,2,1}', '{1,2}', '{}', '{2-2,1}']::user_set[]) AS s GROUP BY s ORDER BY cardinality(s);
SET enable_hashagg = off;
SELECT s, count(*) FROM unnest(ARRAY['{1-3}', '{3,2,1}', '{1,2}', '{}', '{2-2,1}']::user_set[]) AS s GROUP BY s ORDER BY cardinality(s);
RESET enable_hashagg;
SELECT count(DISTINCT s) FROM unnest(ARRAY['{1-3}', '{3,2,1}', '{1,2}', NULL]::user_set[]) AS s;
SELECT user_set_cmp(a, b) = -user_set_cmp(b, a) AS antisymmetric, (user_set_cmp(a, b) = 0) = (a = b) AS equal, (a #<# b) = (b #># a) AS lt, (a #<=# b) = (b #>=# a) AS le, count(*)
FROM unnest(ARRAY['{}', '{1}', '{1,2}', '{1-3}', '{70000}']::user_set[]) a, unnest(ARRAY['{}', '{1}', '{1,2}', '{1-3}', '{70000}']::user_set[]) b GROUP BY 1, 2, 3, 4;
SELECT user_set_hash('{1-3}') = user_set_hash('{3,2,1}') AS hash, user_set_hash_extended('{1-3}', 5) = user_set_hash_extended('{3,2,1}', 5) AS hash_extended,
	user_set_hash('{1-3}') = user_set_hash('{1-4}') AS other_hash;

--
-- Aggregates
--
SELECT user_set_agg(m), user_set_agg(m) FILTER (WHERE m > 5), user_set_agg(NULL) FROM unnest(ARRAY[3, NULL, 1, 9, 3]) AS m;
SELECT user_set_agg(m) FROM unnest(ARRAY[3, -7]) AS m;
SELECT user_set_agg(m) FROM unnest('{}'::int[]) AS m;
SELECT user_set_union(s), user_set_intersect(s) FROM unnest(ARRAY['{1-5}', NULL, '{4-9,70000}', '{5,4}']::user_set[]) AS s;
SELECT user_set_union(s), user_set_intersect(s) FROM unnest('{}'::user_set[]) AS s;
SELECT user_set_union(s), user_set_intersect(s) FROM unnest(ARRAY['{}', '{1}']::user_set[]) AS s;
SELECT k % 2 AS odd, cardinality(user_set_union(user_set(members))), cardinality(user_set_intersect(user_set(members))), count(*) FROM user_set_kinds GROUP BY 1 ORDER BY 1;
SELECT user_set_union(user_set(members)) = (SELECT user_set_agg(m) FROM user_set_kinds, unnest(members) AS m) AS same FROM user_set_kinds;
-- a sliding window of days
CREATE TABLE user_set_days AS SELECT date '2026-03-01' + d AS day, user_set_agg((d * 37 + m * m) % 101) AS active FROM generate_series(0, 9) d, generate_series(1, 5 + d) m GROUP BY d;
SELECT w.day, cardinality(w.active) AS dau, cardinality(w.week) AS wau, w.week = (SELECT user_set_agg(m) FROM user_set_days d, unnest(d.active) AS m WHERE d.day BETWEEN w.day - 6 AND w.day) AS right
FROM (SELECT day, active, user_set_union(active) OVER (ORDER BY day ROWS BETWEEN 6 PRECEDING AND CURRENT ROW) AS week FROM user_set_days) w ORDER BY day;
SELECT day, cardinality(user_set_agg(member) OVER (ORDER BY day, member)) FROM user_set_days, unnest(active) AS member ORDER BY day, member LIMIT 7;

--
-- In parallel
--
CREATE TABLE user_set_events AS SELECT i AS id, (i * 7919::bigint % 200003)::int AS member, i % 3 AS kind FROM generate_series(1, 60000) i;
ALTER TABLE user_set_events SET (parallel_workers = 2);
CREATE TABLE user_set_many AS SELECT user_set_agg(member) AS s, kind FROM user_set_events GROUP BY id / 600, kind;
ALTER TABLE user_set_many SET (parallel_workers = 2);
ANALYZE user_set_events, user_set_many;
CREATE TABLE user_set_serial AS
SELECT (SELECT user_set_agg(member) FROM user_set_events) AS agg, user_set_union(s) AS united, user_set_intersect(s | '{300000}') AS common, user_set_union(s) FILTER (WHERE kind = 7) AS none FROM user_set_many;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT user_set_agg(member) FROM user_set_events;
EXPLAIN (COSTS OFF) SELECT user_set_union(s), user_set_intersect(s | '{300000}'), user_set_union(s) FILTER (WHERE kind = 7) FROM user_set_many;
SELECT p.agg = s.agg AS agg, cardinality(p.agg) FROM (SELECT user_set_agg(member) AS agg FROM user_set_events) p, user_set_serial s;
SELECT p.united = s.united AS united, p.common = s.common AS common, p.common, p.none
FROM (SELECT user_set_union(s) AS united, user_set_intersect(s | '{300000}') AS common, user_set_union(s) FILTER (WHERE kind = 7) AS none FROM user_set_many) p, user_set_serial s;
SELECT kind, cardinality(user_set_agg(member)), count(DISTINCT member) FROM user_set_events GROUP BY kind ORDER BY kind;
RESET parallel_setup_cost; RESET parallel_tuple_cost; RESET min_parallel_table_scan_size; RESET max_parallel_workers_per_gather;

--
-- Stored, toasted and out of line
--
CREATE TABLE user_set_stored (id int PRIMARY KEY, s user_set);
INSERT INTO user_set_stored SELECT i, (SELECT user_set_agg((m * m % 1000003)::int) FROM generate_series(1, 40000::bigint * i) m) FROM generate_series(0, 2) i;
UPDATE user_set_stored SET s = '{}' WHERE s IS NULL;
INSERT INTO user_set_stored SELECT id + 10, s FROM user_set_stored;
SELECT a.id, b.id, a.s = b.s AS equal FROM user_set_stored a JOIN user_set_stored b ON a.s = b.s WHERE a.id < b.id ORDER BY 1;
SELECT id, cardinality(s), s @> 1 AS has_1, s @> 4 AS has_4, s::text::user_set = s AS text, s::bytea::user_set = s AS bytes FROM user_set_stored ORDER BY id;

--
-- A page's bytes are a set; other bytes in their place are an error
--
SELECT (SELECT user_set_union(active::user_set) FROM (VALUES ('\x3b3000000100000200010001000200'::bytea), ('\x3a3000000100000000000000100000000900')) AS day_page(active));
SELECT user_set_union(active::user_set) FROM (VALUES ('\x3b3000000100000200010001000200'::bytea), ('\x3b30000001000002000100010003')) AS day_page(active);

--
-- For everybody who may use the schema, and nobody else
--
CREATE ROLE user_set_analyst;
SET ROLE user_set_analyst;
SELECT dashie.cardinality('{1,2}'::dashie.user_set);
RESET ROLE;
GRANT USAGE ON SCHEMA dashie TO user_set_analyst;
SET ROLE user_set_analyst;
SELECT dashie.cardinality(dashie.user_set_agg(m)), dashie.user_set_agg(m) | '{7}' AS more, dashie.user_set_union(dashie.user_set(ARRAY[m])) FROM generate_series(1, 3) m;
CREATE TEMP TABLE mine AS SELECT dashie.user_set_agg(m) AS s FROM generate_series(1, 3) m;
SELECT DISTINCT s FROM mine;
RESET ROLE;
DROP TABLE mine;
REVOKE USAGE ON SCHEMA dashie FROM user_set_analyst;
DROP ROLE user_set_analyst;

-- every function of the type and its aggregates: immutable, parallel safe, strict but for the parts that see a NULL state
SELECT p.oid::regprocedure AS odd FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
WHERE (p.prorettype = 'user_set'::regtype OR 'user_set'::regtype::oid = ANY (p.proargtypes::oid[]) OR p.proname LIKE 'user\_set\_agg%') AND p.prokind = 'f'
	AND (p.provolatile <> 'i' OR p.proparallel <> 's' OR NOT p.proisstrict) ORDER BY 1;
SELECT amname, opcname, amvalidate(c.oid) FROM pg_opclass c JOIN pg_am a ON a.oid = opcmethod WHERE opcintype = 'user_set'::regtype ORDER BY 1;

DROP TABLE user_set_kinds, user_set_days, user_set_events, user_set_many, user_set_serial, user_set_stored;
RESET search_path;
