/*
 * access.c
 *		Who may use an enabled table: grants and policies for Supabase's API
 *		roles, as far as these exist.
 *
 * Runs inside enable(), as the table's owner.  A new table starts with what
 * its DDL grants and nothing else, whatever the schema's default privileges
 * say.  A table made by hand keeps its policies and grants, but loses what
 * nobody may have: anything for PUBLIC and anon, and what row level security
 * does not cover for authenticated.  On a table that was enabled before,
 * grants are the owner's matter: only what is missing is added.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/policy.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "common/compat.h"
#include "common/query.h"
#include "roadmap/roadmap.h"

static void
note_missing(Enabling *enabling, const char *what)
{
	ListCell *lc;

	foreach (lc, enabling->skipped->missing)
		if (strcmp(lfirst(lc), what) == 0)
			return;
	enabling->skipped->missing = lappend(enabling->skipped->missing, pstrdup(what));
}

/* The roles of a list that exist; the others are noted. */
static List *
existing_roles(Enabling *enabling, List *roles)
{
	List *existing = NIL;
	ListCell *lc;

	foreach (lc, roles)
	{
		RoleSpec *role = lfirst_node(RoleSpec, lc);

		if (role->roletype != ROLESPEC_CSTRING || OidIsValid(get_role_oid(role->rolename, true)))
			existing = lappend(existing, role);
		else
			note_missing(enabling, psprintf("role \"%s\"", role->rolename));
	}
	return existing;
}

/* Whether a policy's expression calls a function of schema auth. */
static bool
calls_auth(Node *node, void *arg)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncCall) && list_length(((FuncCall *) node)->funcname) == 2 &&
		strcmp(strVal(linitial(((FuncCall *) node)->funcname)), "auth") == 0)
		return true;
	return raw_expression_tree_walker(node, calls_auth, arg);
}

/* Whether the current user can name auth.uid() in a policy, and it returns a uuid. */
static bool
has_auth_uid(void)
{
	Oid namespace = get_namespace_oid("auth", true);
	Oid function;

	if (!OidIsValid(namespace) || !dashie_may_use_schema(namespace, GetUserId()))
		return false;
	function = LookupFuncName(list_make2(makeString(pstrdup("auth")), makeString(pstrdup("uid"))),
							  0, NULL, true);
	return OidIsValid(function) && get_func_rettype(function) == UUIDOID;
}

/* dashie_access_policy creates a policy unless one of that name is there. */
void
dashie_access_policy(Enabling *enabling, CreatePolicyStmt *statement)
{
	List *roles = existing_roles(enabling, statement->roles);
	bool possible = list_length(roles) == list_length(statement->roles);

	if (calls_auth(statement->qual, NULL) && !has_auth_uid())
	{
		note_missing(enabling, "function auth.uid()");
		possible = false;
	}
	if (possible &&
		!OidIsValid(get_relation_policy_oid(enabling->relid, statement->policy_name, true)))
		dashie_ddl_run(enabling, (Node *) statement);
}

/* Whether a role holds every privilege of a GRANT already. */
static bool
holds_all(Oid relid, RoleSpec *role, List *privileges)
{
	ListCell *lc;

	if (role->roletype != ROLESPEC_CSTRING)
		return false;
	foreach (lc, privileges)
	{
		const char *name = lfirst_node(AccessPriv, lc)->priv_name;
		AclMode mode;

		if (strcmp(name, "select") == 0)
			mode = ACL_SELECT;
		else if (strcmp(name, "insert") == 0)
			mode = ACL_INSERT;
		else if (strcmp(name, "update") == 0)
			mode = ACL_UPDATE;
		else if (strcmp(name, "delete") == 0)
			mode = ACL_DELETE;
		else
			elog(ERROR, "unexpected privilege \"%s\"", name);
		if (pg_class_aclcheck(relid, get_role_oid(role->rolename, false), mode) != ACLCHECK_OK)
			return false;
	}
	return true;
}

/* dashie_access_grant runs a GRANT, or a new table's REVOKE, for the roles that exist. */
void
dashie_access_grant(Enabling *enabling, GrantStmt *statement)
{
	List *existing = existing_roles(enabling, statement->grantees);
	List *grantees = NIL;
	ListCell *lc;

	if (!statement->is_grant && enabling->existed)
		return;

	foreach (lc, existing)
		if (!enabling->registered ||
			!holds_all(enabling->relid, lfirst_node(RoleSpec, lc), statement->privileges))
			grantees = lappend(grantees, lfirst(lc));
	statement->grantees = grantees;
	if (grantees != NIL)
		dashie_ddl_run(enabling, (Node *) statement);
}

/*
 * An owner can revoke what the owner granted.  What somebody else passed on
 * to PUBLIC or anon is a difference.
 */
static void
compare_grants(Enabling *enabling)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(enabling->relid));
	Oid anon = get_role_oid("anon", true);
	bool isnull;
	Datum datum;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", enabling->relid);
	datum = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relacl, &isnull);
	if (!isnull)
	{
		Acl *acl = DatumGetAclP(datum);

		for (int i = 0; i < ACL_NUM(acl); i++)
		{
			const AclItem *item = &ACL_DAT(acl)[i];

			if (item->ai_grantee == ACL_ID_PUBLIC || (OidIsValid(anon) && item->ai_grantee == anon))
				dashie_ddl_differ(enabling, "role \"%s\" has granted rights on it to %s",
								  GetUserNameFromId(item->ai_grantor, false),
								  item->ai_grantee == ACL_ID_PUBLIC ? "PUBLIC" : "anon");
		}
	}
	ReleaseSysCache(tuple);
}

/* dashie_access_adopt takes from a table made by hand what nobody may have. */
void
dashie_access_adopt(Enabling *enabling)
{
	const char *name = quote_qualified_identifier(enabling->schema, enabling->table->name);
#ifdef ACL_MAINTAIN
	const char *maintain = ", MAINTAIN";
#else
	const char *maintain = "";
#endif
	ListCell *lc;

	enabling->sql =
		psprintf("REVOKE ALL ON %s FROM PUBLIC, anon CASCADE;\n"
				 "REVOKE TRUNCATE, REFERENCES, TRIGGER%s ON %s FROM authenticated CASCADE",
				 name, maintain, name);
	foreach (lc, dashie_ddl_parse(enabling->sql))
	{
		GrantStmt *statement = lfirst_node(GrantStmt, lc);

		statement->grantees = existing_roles(enabling, statement->grantees);
		if (statement->grantees != NIL)
			dashie_ddl_run(enabling, (Node *) statement);
	}
	compare_grants(enabling);
}

/*
 * dashie_access_private takes from everybody but the owner what default
 * privileges gave of the tables that this transaction made in schema dashie.
 * They hold what dashie computes, and are for nobody else.
 */
void
dashie_access_private(void)
{
	List *commands = NIL;
	ListCell *lc;
	uint64 count;

	dashie_query_begin();
	count = dashie_query(
		"SELECT c.oid, 'REVOKE ALL ON ' || c.oid::regclass || ' FROM ' || "
		"  string_agg(DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' "
		"             ELSE quote_ident(pg_get_userbyid(a.grantee)) END, ', ') || ' CASCADE' "
		"FROM pg_class c, aclexplode(c.relacl) a "
		"WHERE c.relnamespace = 'dashie'::regnamespace AND c.relkind = 'r' "
		"AND c.relowner = current_user::regrole AND a.grantee <> c.relowner "
		"GROUP BY c.oid",
		0, NULL, NULL, NULL);
	for (uint64 i = 0; i < count; i++)
	{
		Relation rel = relation_open(DatumGetObjectId(dashie_field(i, 1, NULL)), AccessShareLock);

		if (rel->rd_createSubid != InvalidSubTransactionId)
			commands = lappend(commands, dashie_field_text(i, 2));
		relation_close(rel, NoLock);
	}
	foreach (lc, commands)
		dashie_command(lfirst(lc));
	dashie_query_end();
}

/* dashie_access_report says once what was left out for all tables. */
void
dashie_access_report(const EnableSkipped *skipped)
{
	StringInfoData list;
	ListCell *lc;

	if (skipped->missing == NIL)
		return;
	initStringInfo(&list);
	foreach (lc, skipped->missing)
		appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", (char *) lfirst(lc));
	ereport(NOTICE,
			(errmsg("row level security is on, and what needs the following is not granted: %s",
					list.data),
			 errhint("Once they exist, run dashie.enable() again.")));
}
