/*
 * carry_over.c
 *		What an unpartitioned table has that its partitioned successor must have,
 *		too, as statements; and what it has that cannot be carried over.
 *
 * Questions to the catalog, for convert.c; the caller holds ACCESS EXCLUSIVE on
 * the table, and is inside dashie_query_begin().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "common/query.h"
#include "partition/partition.h"

/* $1 the table */
static const char *const obstacles =
	"WITH t AS (SELECT c.oid, c.reltype, y.typarray FROM pg_catalog.pg_class c"
	"  JOIN pg_catalog.pg_type y ON y.oid = c.reltype WHERE c.oid = $1)"
	" SELECT what FROM ("
	" SELECT 1 AS kind, pg_catalog.format('trigger %I', tgname) AS what"
	"   FROM pg_catalog.pg_trigger WHERE tgrelid = $1 AND NOT tgisinternal"
	" UNION ALL SELECT 2, pg_catalog.format('rule %I', rulename)"
	"   FROM pg_catalog.pg_rewrite WHERE ev_class = $1"
	" UNION ALL"
	" SELECT 3, pg_catalog.format('foreign key %I of table %s', conname, conrelid::regclass)"
	"   FROM pg_catalog.pg_constraint WHERE contype = 'f' AND confrelid = $1"
	" UNION ALL SELECT 4, pg_catalog.format('table %s inherits from it', inhrelid::regclass)"
	"   FROM pg_catalog.pg_inherits WHERE inhparent = $1"
	" UNION ALL SELECT 4, pg_catalog.format('it inherits from table %s', inhparent::regclass)"
	"   FROM pg_catalog.pg_inherits WHERE inhrelid = $1"
	/* the id key may be: the new primary key has the time in it as well */
	" UNION ALL SELECT 5, pg_catalog.format('%s %I without column \"timestamp\"',"
	"     CASE WHEN i.indisexclusion THEN 'exclusion constraint'"
	"          WHEN i.indisprimary THEN 'primary key' ELSE 'unique index' END, c.relname)"
	"   FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid,"
	"     LATERAL (SELECT pg_catalog.array_agg(a.attname::text) AS columns"
	"       FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n)"
	"       LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = k.attnum"
	"      WHERE k.n <= i.indnkeyatts) k"
	"  WHERE i.indrelid = $1 AND (i.indisunique OR i.indisexclusion)"
	"    AND NOT (k.columns <@ '{id,timestamp}' AND 'id' = ANY (k.columns)"
	"             AND i.indpred IS NULL AND i.indexprs IS NULL)"
	"    AND (i.indisexclusion OR i.indisprimary"
	"         OR NOT coalesce('timestamp' = ANY (k.columns), false))"
	" UNION ALL SELECT 6, pg_catalog.format('identity of column %I', attname)"
	"   FROM pg_catalog.pg_attribute"
	"  WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attidentity <> ''"
	" UNION ALL SELECT 7, pg_catalog.format('foreign key %I that is not validated', conname)"
	"   FROM pg_catalog.pg_constraint WHERE contype = 'f' AND conrelid = $1 AND NOT convalidated"
	" UNION ALL SELECT 8, pg_catalog.format('publication %I', p.pubname)"
	"   FROM pg_catalog.pg_publication_rel r"
	"   JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid WHERE r.prrelid = $1"
	/* whatever else depends on the table or its row type, but for what is its own */
	" UNION ALL SELECT DISTINCT 9, CASE WHEN r.oid IS NULL"
	"     THEN pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)"
	"     ELSE pg_catalog.pg_describe_object('pg_catalog.pg_class'::regclass, r.ev_class, 0) END"
	"   FROM t JOIN pg_catalog.pg_depend d ON d.deptype = 'n'"
	"     AND (d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = t.oid"
	"       OR d.refclassid = 'pg_catalog.pg_type'::regclass"
	"          AND d.refobjid IN (t.reltype, t.typarray))"
	"   LEFT JOIN pg_catalog.pg_rewrite r"
	"     ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND r.oid = d.objid"
	"  WHERE r.ev_class IS DISTINCT FROM $1"
	"    AND NOT EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = $1"
	"      AND d.classid = 'pg_catalog.pg_policy'::regclass AND p.oid = d.objid)"
	"    AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c"
	"      WHERE d.classid = 'pg_catalog.pg_constraint'::regclass AND c.oid = d.objid"
	"        AND (c.conrelid = $1 OR c.contype = 'f'))"
	"    AND NOT EXISTS (SELECT FROM pg_catalog.pg_attrdef f WHERE f.adrelid = $1"
	"      AND d.classid = 'pg_catalog.pg_attrdef'::regclass AND f.oid = d.objid)"
	"    AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = $1"
	"      AND d.classid = 'pg_catalog.pg_class'::regclass AND i.indexrelid = d.objid)"
	"    AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = $1"
	"      AND d.classid = 'pg_catalog.pg_trigger'::regclass AND g.oid = d.objid)"
	"    AND d.classid NOT IN ('pg_catalog.pg_publication_rel'::regclass,"
	"      'pg_catalog.pg_statistic_ext'::regclass)"
	" ) o ORDER BY kind, what";

/* $1 the table, $2 its name */
static const char *const rest =
	"SELECT ddl FROM ("
	" SELECT 1 AS step, c.relname, CASE WHEN k.oid IS NULL"
	"     THEN pg_catalog.pg_get_indexdef(i.indexrelid)"
	"     ELSE pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', $2, k.conname,"
	"       pg_catalog.pg_get_constraintdef(k.oid)) END AS ddl"
	"   FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
	"   LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = $1"
	"  WHERE i.indrelid = $1 AND NOT i.indisprimary"
	/* unique on id, with the time or without: the new primary key */
	"    AND NOT (i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL"
	"      AND i.indkey::int2[] <@ (SELECT pg_catalog.array_agg(attnum)"
	"        FROM pg_catalog.pg_attribute"
	"        WHERE attrelid = $1 AND attname IN ('id', 'timestamp')))"
	" UNION ALL SELECT 2, stxname, pg_catalog.pg_get_statisticsobjdef(oid)"
	"   FROM pg_catalog.pg_statistic_ext WHERE stxrelid = $1"
	" UNION ALL SELECT 3, '', pg_catalog.format('COMMENT ON TABLE %s IS %L', $2, d.description)"
	"   FROM pg_catalog.pg_description d"
	"  WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND d.objoid = $1 AND d.objsubid = 0"
	" UNION ALL SELECT 3, a.attname,"
	"     pg_catalog.format('COMMENT ON COLUMN %s.%I IS %L', $2, a.attname, d.description)"
	"   FROM pg_catalog.pg_description d"
	"   JOIN pg_catalog.pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid"
	"  WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND d.objoid = $1 AND d.objsubid > 0"
	" UNION ALL SELECT 3, c.relname, pg_catalog.format('COMMENT ON INDEX %s.%I IS %L',"
	"     c.relnamespace::regnamespace, c.relname, d.description)"
	"   FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
	"   JOIN pg_catalog.pg_description d ON d.classoid = 'pg_catalog.pg_class'::regclass"
	"     AND d.objoid = c.oid"
	"  WHERE i.indrelid = $1 AND NOT i.indisunique"
	" ) s ORDER BY step, relname";

/* $1 the old table, $2 the new one, $3 its name */
static const char *const columns =
	"SELECT ddl FROM ("
	" SELECT 1 AS step, o.attnum,"
	"     pg_catalog.format('ALTER TABLE %s ADD COLUMN %I %s%s%s%s', $3, o.attname,"
	"     pg_catalog.format_type(o.atttypid, o.atttypmod),"
	"     CASE WHEN o.attcollation <> y.typcollation"
	"          THEN ' COLLATE ' || o.attcollation::regcollation END,"
	"     CASE WHEN o.attgenerated <> ''"
	"          THEN ' GENERATED ALWAYS AS (' || pg_catalog.pg_get_expr(f.adbin, f.adrelid)"
	"            || CASE o.attgenerated WHEN 's' THEN ') STORED' ELSE ')' END"
	"          ELSE ' DEFAULT ' || pg_catalog.pg_get_expr(f.adbin, f.adrelid) END,"
	"     CASE WHEN o.attnotnull THEN ' NOT NULL' END) AS ddl"
	"   FROM pg_catalog.pg_attribute o JOIN pg_catalog.pg_type y ON y.oid = o.atttypid"
	"   LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = o.attrelid AND f.adnum = o.attnum"
	"  WHERE o.attrelid = $1 AND o.attnum > 0 AND NOT o.attisdropped AND NOT EXISTS"
	"    (SELECT FROM pg_catalog.pg_attribute n WHERE n.attrelid = $2 AND n.attname = o.attname)"
	" UNION ALL"
	" SELECT 2, o.attnum, pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s', $3,"
	"     o.attname, pg_catalog.pg_get_expr(f.adbin, f.adrelid))"
	"   FROM pg_catalog.pg_attribute o"
	"   JOIN pg_catalog.pg_attribute n ON n.attrelid = $2 AND n.attname = o.attname"
	"   JOIN pg_catalog.pg_attrdef f ON f.adrelid = o.attrelid AND f.adnum = o.attnum"
	"   LEFT JOIN pg_catalog.pg_attrdef g ON g.adrelid = n.attrelid AND g.adnum = n.attnum"
	"  WHERE o.attrelid = $1 AND o.attgenerated = '' AND n.attgenerated = ''"
	"    AND pg_catalog.pg_get_expr(f.adbin, f.adrelid)"
	"        IS DISTINCT FROM pg_catalog.pg_get_expr(g.adbin, g.adrelid)"
	" UNION ALL"
	" SELECT 2, o.attnum,"
	"     pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', $3, o.attname)"
	"   FROM pg_catalog.pg_attribute o"
	"   JOIN pg_catalog.pg_attribute n ON n.attrelid = $2 AND n.attname = o.attname"
	"  WHERE o.attrelid = $1 AND o.attnotnull AND NOT n.attnotnull"
	" ) s ORDER BY step, attnum";

/* $1 the old table, $2 the new one, $3 its name */
static const char *const constraints =
	"SELECT ddl FROM ("
	" SELECT 1 AS step, o.conname,"
	"     pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', $3, o.conname,"
	"     pg_catalog.pg_get_constraintdef(o.oid)) AS ddl"
	"   FROM pg_catalog.pg_constraint o"
	"  WHERE o.conrelid = $1 AND o.contype IN ('c', 'f')"
	/* a foreign key of the same columns to the same table is the same, whatever its name */
	"    AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint n WHERE n.conrelid = $2"
	"      AND (n.conname = o.conname"
	"           OR n.contype = 'f' AND o.contype = 'f' AND n.confrelid = o.confrelid"
	"           AND n.confdeltype = o.confdeltype"
	"           AND (SELECT pg_catalog.array_agg(attname::text ORDER BY k.n)"
	"                  FROM pg_catalog.unnest(n.conkey) WITH ORDINALITY k(num, n)"
	"                  JOIN pg_catalog.pg_attribute ON attrelid = $2 AND attnum = k.num)"
	"             = (SELECT pg_catalog.array_agg(attname::text ORDER BY k.n)"
	"                  FROM pg_catalog.unnest(o.conkey) WITH ORDINALITY k(num, n)"
	"                  JOIN pg_catalog.pg_attribute ON attrelid = $1 AND attnum = k.num)))"
	" UNION ALL"
	" SELECT 2, '', pg_catalog.format('ALTER SEQUENCE %s OWNED BY %s.%I', d.objid::regclass, $3,"
	"     a.attname)"
	"   FROM pg_catalog.pg_depend d"
	"   JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'"
	"   JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid"
	"  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'a'"
	"    AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = $1"
	" ) s ORDER BY step, conname";

/*
 * texts_of collects the one column of a query's result.
 */
static List *
texts_of(const char *sql, int nargs, const Oid *types, const Datum *values)
{
	uint64 nrows = dashie_query(sql, nargs, types, values, NULL);
	List *texts = NIL;

	for (uint64 i = 0; i < nrows; i++)
		texts = lappend(texts, dashie_field_text(i, 1));
	return texts;
}

static List *
statements_between(const char *sql, Oid old, Oid new)
{
	Oid types[3] = {OIDOID, OIDOID, TEXTOID};
	Datum values[3] = {ObjectIdGetDatum(old), ObjectIdGetDatum(new),
					   CStringGetTextDatum(dashie_relation_name(new))};

	return texts_of(sql, lengthof(types), types, values);
}

/*
 * dashie_carry_obstacles names what a partitioned table cannot carry, and what
 * hangs on the table itself and would not follow to another.
 */
List *
dashie_carry_obstacles(Oid old)
{
	Oid types[1] = {OIDOID};
	Datum values[1] = {ObjectIdGetDatum(old)};

	return texts_of(obstacles, lengthof(types), types, values);
}

/*
 * dashie_carry_columns makes statements for columns that "new" lacks, and for
 * defaults and NOT NULLs where they differ.
 */
List *
dashie_carry_columns(Oid old, Oid new)
{
	return statements_between(columns, old, new);
}

/*
 * dashie_carry_constraints makes statements for checks and foreign keys that
 * "new" lacks, and for sequences that belong to "old".
 */
List *
dashie_carry_constraints(Oid old, Oid new)
{
	return statements_between(constraints, old, new);
}

/*
 * dashie_carry_rest makes statements for indexes, unique constraints,
 * statistics and comments.  It is called while "old" has its name and they
 * have theirs; they run when both are free again.
 */
List *
dashie_carry_rest(Oid old)
{
	Oid types[2] = {OIDOID, TEXTOID};
	Datum values[2] = {ObjectIdGetDatum(old), CStringGetTextDatum(dashie_relation_name(old))};

	return texts_of(rest, lengthof(types), types, values);
}
