/*
 * leaf_rights.c
 *		The policies and grants of one table, repeated on another.
 *
 * A partition is a table that an API can address by its own name.  It gets
 * none of its parent's row level security, and whatever the default privileges
 * of its owner say: on the platform that is everything, for everyone.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_type.h"
#include "commands/policy.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/nodes.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

#include "common/compat.h"
#include "common/query.h"
#include "partition/partition.h"

/* GRANTs and REVOKEs as text; $1 the table to read, $2 the name of the one to change */
static const char *const revoke_all =
	"SELECT DISTINCT pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s', $2,"
	"   CASE a.grantee WHEN 0 THEN 'PUBLIC'"
	"   ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END)"
	" FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a"
	" WHERE c.oid = $1 AND a.grantee <> c.relowner";

static const char *const grant_all =
	"SELECT pg_catalog.format('GRANT %s ON TABLE %s TO %s%s',"
	"   pg_catalog.string_agg(a.what, ', ' ORDER BY a.what), $2,"
	"   CASE a.grantee WHEN 0 THEN 'PUBLIC'"
	"   ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END,"
	"   CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END)"
	" FROM (SELECT a.privilege_type AS what, a.grantee, a.is_grantable"
	"         FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a"
	"        WHERE c.oid = $1 AND a.grantee <> c.relowner"
	"       UNION"
	"       SELECT pg_catalog.format('%s (%I)', a.privilege_type, t.attname), a.grantee, "
	"a.is_grantable"
	"         FROM pg_catalog.pg_class c, pg_catalog.pg_attribute t,"
	"              pg_catalog.aclexplode(t.attacl) a"
	"        WHERE c.oid = $1 AND t.attrelid = c.oid AND NOT t.attisdropped"
	"          AND a.grantee <> c.relowner) a"
	" GROUP BY a.grantee, a.is_grantable";

/* Policies that the table has, to be dropped: $1 the table, $2 its name */
static const char *const drop_policies =
	"SELECT pg_catalog.format('DROP POLICY %I ON %s', polname, $2)"
	" FROM pg_catalog.pg_policy WHERE polrelid = $1";

/* Whether $2 has other grants, policies or row level security than $1 asks for */
static const char *const rights_differ =
	"WITH g AS ("
	"  SELECT c.oid, a.privilege_type, NULL::name AS attname, a.grantee, a.is_grantable"
	"    FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a"
	"   WHERE c.oid IN ($1, $2) AND a.grantee <> c.relowner"
	"  UNION ALL"
	"  SELECT c.oid, a.privilege_type, t.attname, a.grantee, a.is_grantable"
	"    FROM pg_catalog.pg_class c, pg_catalog.pg_attribute t, pg_catalog.aclexplode(t.attacl) a"
	"   WHERE c.oid IN ($1, $2) AND t.attrelid = c.oid AND NOT t.attisdropped"
	"     AND a.grantee <> c.relowner),"
	" r AS (SELECT oid, pg_catalog.concat_ws(' ', privilege_type, attname, grantee, is_grantable) "
	"AS what"
	"         FROM g"
	"       UNION ALL"
	"       SELECT polrelid, pg_catalog.concat_ws(' ', polname, polcmd, polpermissive, polroles)"
	"         FROM pg_catalog.pg_policy WHERE polrelid IN ($1, $2)"
	"       UNION ALL"
	"       SELECT oid, pg_catalog.concat_ws(' ', relforcerowsecurity, relrowsecurity OR oid = $1)"
	"         FROM pg_catalog.pg_class WHERE oid IN ($1, $2))"
	" SELECT FROM r GROUP BY what HAVING pg_catalog.count(DISTINCT oid) < 2";

/*
 * run_generated runs the statements that a query returns.
 */
static void
run_generated(const char *generator, Oid source, Oid target)
{
	Oid types[2] = {OIDOID, TEXTOID};
	Datum values[2];
	List *commands = NIL;
	ListCell *lc;
	uint64 nrows;

	values[0] = ObjectIdGetDatum(source);
	values[1] = CStringGetTextDatum(dashie_relation_name(target));
	nrows = dashie_query(generator, 2, types, values, NULL);
	for (uint64 i = 0; i < nrows; i++)
		commands = lappend(commands, dashie_field_text(i, 1));
	foreach (lc, commands)
		dashie_command(lfirst(lc));
}

/* dashie_revoke_rights takes from everybody but its owner what a table's creation gave away. */
void
dashie_revoke_rights(Oid relid)
{
	dashie_query_begin();
	run_generated(revoke_all, relid, relid);
	dashie_query_end();
}

static const char *
policy_command(char command)
{
	switch (command)
	{
		case '*':
			return "ALL";
		case ACL_SELECT_CHR:
			return "SELECT";
		case ACL_INSERT_CHR:
			return "INSERT";
		case ACL_UPDATE_CHR:
			return "UPDATE";
		case ACL_DELETE_CHR:
			return "DELETE";
	}
	elog(ERROR, "unrecognized policy command: \"%c\"", command);
}

/*
 * append_expression writes an expression over the columns of "from" so that it
 * reads as one over those of "alias".  (pg_get_expr() would name "from" itself
 * where the expression holds a subquery.)
 */
static void
append_expression(StringInfo sql, const char *clause, Datum tree, Oid from, const char *alias)
{
	Node *node = stringToNode(TextDatumGetCString(tree));
	List *context = deparse_context_for(alias, from);

	appendStringInfo(sql, " %s (%s)", clause, deparse_expression(node, context, false, false));
}

static char *
policy_ddl(Relation catalog, HeapTuple tuple, Oid from, Oid to)
{
	Form_pg_policy form = (Form_pg_policy) GETSTRUCT(tuple);
	char *alias = get_rel_name(to);
	StringInfoData sql;
	ArrayType *roles;
	Oid *role;
	Datum datum;
	bool isnull;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE POLICY %s ON %s AS %s FOR %s TO ",
					 quote_identifier(NameStr(form->polname)), dashie_relation_name(to),
					 form->polpermissive ? "PERMISSIVE" : "RESTRICTIVE",
					 policy_command(form->polcmd));

	datum = heap_getattr(tuple, Anum_pg_policy_polroles, RelationGetDescr(catalog), &isnull);
	roles = DatumGetArrayTypePCopy(datum);
	role = (Oid *) ARR_DATA_PTR(roles);
	for (int i = 0; i < ARR_DIMS(roles)[0]; i++)
		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "",
						 OidIsValid(role[i]) ? quote_identifier(GetUserNameFromId(role[i], false))
											 : "PUBLIC");

	datum = heap_getattr(tuple, Anum_pg_policy_polqual, RelationGetDescr(catalog), &isnull);
	if (!isnull)
		append_expression(&sql, "USING", datum, from, alias);
	datum = heap_getattr(tuple, Anum_pg_policy_polwithcheck, RelationGetDescr(catalog), &isnull);
	if (!isnull)
		append_expression(&sql, "WITH CHECK", datum, from, alias);
	return sql.data;
}

static void
copy_policies(Oid from, Oid to)
{
	Relation catalog = table_open(PolicyRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	List *commands = NIL;
	ListCell *lc;

	ScanKeyInit(&key, Anum_pg_policy_polrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(from));
	scan = systable_beginscan(catalog, PolicyPolrelidPolnameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_policy form = (Form_pg_policy) GETSTRUCT(tuple);

		if (!OidIsValid(get_relation_policy_oid(to, NameStr(form->polname), true)))
			commands = lappend(commands, policy_ddl(catalog, tuple, from, to));
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);

	foreach (lc, commands)
		dashie_command(lfirst(lc));
}

void
dashie_copy_rights(Oid from, Oid to, bool replace)
{
	Relation rel = relation_open(from, AccessShareLock);
	bool force = rel->rd_rel->relforcerowsecurity;
	char *name = dashie_relation_name(to);

	relation_close(rel, NoLock);
	dashie_query_begin();

	/* on whatever the parent says: a table without it is open to who has grants */
	dashie_command(psprintf("ALTER TABLE %s ENABLE ROW LEVEL SECURITY", name));
	if (replace)
	{
		run_generated(revoke_all, to, to);
		run_generated(drop_policies, to, to);
	}
	run_generated(grant_all, from, to);
	copy_policies(from, to);
	if (force)
		dashie_command(psprintf("ALTER TABLE %s FORCE ROW LEVEL SECURITY", name));
	else if (replace)
		dashie_command(psprintf("ALTER TABLE %s NO FORCE ROW LEVEL SECURITY", name));
	dashie_query_end();
}

/*
 * dashie_rights_differ tells whether dashie_copy_rights(from, to, true) has
 * anything to do.  Expressions of policies are not compared.
 */
bool
dashie_rights_differ(Oid from, Oid to)
{
	Oid types[2] = {OIDOID, OIDOID};
	Datum values[2] = {ObjectIdGetDatum(from), ObjectIdGetDatum(to)};
	bool result;

	dashie_query_begin();
	result = dashie_query(rights_differ, 2, types, values, NULL) > 0;
	dashie_query_end();
	return result;
}
