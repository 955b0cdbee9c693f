-- CREATE EXTENSION, and what must hold for everything that it makes.
CREATE EXTENSION dashie;
SELECT dashie.create_auth_stub();
SELECT dashie.create_auth_stub();
\echo :LAST_ERROR_SQLSTATE
\d auth.users

-- What PUBLIC may call: nothing but uuid_v7 and functions without side effects.
SELECT p.oid::regprocedure AS callable_by_public
FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'dashie'
WHERE EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
	WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE')
	AND p.proname <> 'uuid_v7' AND p.provolatile <> 'i'
ORDER BY 1;

-- Relations that PUBLIC may use: none.
SELECT c.oid::regclass AS usable_by_public
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'dashie',
	aclexplode(c.relacl) a
WHERE a.grantee = 0;

-- Every function, table and view has a comment.
SELECT p.oid::regprocedure AS without_comment
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'dashie'
WHERE obj_description(p.oid, 'pg_proc') IS NULL
ORDER BY 1;
SELECT c.oid::regclass AS without_comment
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'dashie'
WHERE c.relkind IN ('r', 'p', 'v') AND obj_description(c.oid, 'pg_class') IS NULL
ORDER BY 1;

-- A SECURITY DEFINER function belongs to the owner of the extension, not to
-- the superuser who ran the script; and none is in another language than C
-- or SQL.
SELECT p.oid::regprocedure AS definer_of_another
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'dashie',
	pg_extension e
WHERE e.extname = 'dashie' AND p.prosecdef AND p.proowner <> e.extowner
ORDER BY 1;
SELECT p.oid::regprocedure AS other_language
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'dashie'
	JOIN pg_language l ON l.oid = p.prolang
WHERE l.lanname NOT IN ('c', 'sql') AND p.prokind <> 'a'
ORDER BY 1;

-- Tables of the extension hold configuration or the run of jobs, and what
-- must be dumped is marked.
SELECT c.relname, c.oid = ANY (e.extconfig) AS dumped
FROM pg_class c
	JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
	JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'dashie'
WHERE c.relkind = 'r' AND c.relname IN ('setting', 'enabled_table', 'table_ddl')
ORDER BY c.relname;
SELECT r.table_name, d.ddl IS NOT NULL AS has_ddl FROM dashie.roadmap r LEFT JOIN dashie.table_ddl d USING (table_name);
