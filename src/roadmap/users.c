/*
 * users.c
 *		auth.users: what enable() needs of it, how many users it holds, and a
 *		stand-in for a plain PostgreSQL.
 *
 * The table belongs to Supabase Auth.  It is read through the access method,
 * as the current user and with the rights that SQL would ask for, so that
 * none of its owner's code runs.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

#include "common/owner.h"
#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_create_auth_stub);

/* Whether a column alone is a key that a foreign key can point at. */
static bool
is_key(Relation rel, AttrNumber attnum)
{
	List *indexes = RelationGetIndexList(rel);
	ListCell *lc;
	bool found = false;

	foreach (lc, indexes)
	{
		Relation index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;

		if (form->indisunique && form->indisvalid && form->indimmediate && form->indnkeyatts == 1 &&
			form->indkey.values[0] == attnum && !dashie_index_is_partial(index))
			found = true;
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return found;
}

static void
require_right(Oid relid, AttrNumber attnum, AclMode right, const char *name)
{
	if (pg_class_aclcheck(relid, GetUserId(), right) == ACLCHECK_OK ||
		pg_attribute_aclcheck(relid, attnum, GetUserId(), right) == ACLCHECK_OK)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for table users of schema auth"),
			 errdetail("Role \"%s\" needs %s on auth.users, and nothing else of it.",
					   GetUserNameFromId(GetUserId(), false), name),
			 errhint("Run GRANT SELECT, REFERENCES ON auth.users TO %s as the owner of auth.users.",
					 quote_identifier(GetUserNameFromId(GetUserId(), false)))));
}

/* dashie_users_require fails unless tables of the roadmap can refer to auth.users. */
void
dashie_users_require(void)
{
	Oid relid = dashie_relation_oid("auth", "users");
	Relation rel = OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : NULL;
	AttrNumber id;

	if (rel == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table auth.users does not exist"),
						errdetail("The tables of the roadmap refer to the users of Supabase Auth."),
						errhint("On a plain PostgreSQL, run SELECT dashie.create_auth_stub().")));
	if (rel->rd_rel->relkind != RELKIND_RELATION &&
		rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("auth.users is not a table")));

	id = get_attnum(relid, "id");
	if (id == InvalidAttrNumber || get_atttype(relid, id) != UUIDOID || !is_key(rel, id))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table auth.users cannot be referred to"),
						id == InvalidAttrNumber ? errdetail("It has no column \"id\".")
						: get_atttype(relid, id) != UUIDOID
							? errdetail("Its column \"id\" has type %s, not uuid.",
										format_type_be(get_atttype(relid, id)))
							: errdetail("Its column \"id\" is neither a primary key nor unique.")));
	require_right(relid, id, ACL_REFERENCES, "REFERENCES");
	require_right(relid, id, ACL_SELECT, "SELECT");
	relation_close(rel, NoLock);
}

/*
 * dashie_users_count counts the users who are neither anonymous nor deleted,
 * where those columns exist.  False, and why in words, if it cannot.
 */
bool
dashie_users_count(int64 *count, const char **problem)
{
	DashieColumn columns[] = {{"is_anonymous", BOOLOID, false, 0},
							  {"deleted_at", TIMESTAMPTZOID, false, 0}};
	Oid relid = dashie_relation_oid("auth", "users");
	Relation rel;
	DashieScan *scan;

	*count = 0;
	if (!OidIsValid(relid) || get_rel_relkind(relid) != RELKIND_RELATION)
	{
		*problem = "there is no table auth.users";
		return false;
	}
	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK ||
		check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
	{
		*problem = "auth.users may not be read";
		return false;
	}

	rel = dashie_relation_open(relid, AccessShareLock, ACL_SELECT, false);
	dashie_relation_columns(rel, columns, lengthof(columns));
	scan = dashie_scan_latest(rel);
	while (dashie_scan_next(scan))
	{
		bool isnull;
		bool anonymous = DatumGetBool(dashie_scan_get(scan, &columns[0], &isnull)) && !isnull;

		(void) dashie_scan_get(scan, &columns[1], &isnull);
		if (!anonymous && isnull)
			(*count)++;
	}
	dashie_scan_end(scan);
	relation_close(rel, AccessShareLock);
	return true;
}

/* SQL: dashie.create_auth_stub() */
Datum
dashie_create_auth_stub(PG_FUNCTION_ARGS)
{
	DashieGuard guard;

	dashie_enter(&guard);
	if (OidIsValid(dashie_relation_oid("auth", "users")))
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_TABLE), errmsg("auth.users exists already"),
						errhint("Nothing is to be done: run SELECT dashie.enable().")));

	dashie_query_begin();
	if (!OidIsValid(get_namespace_oid("auth", true)))
		dashie_command("CREATE SCHEMA auth");
	dashie_command("CREATE TABLE auth.users ("
				   " id uuid PRIMARY KEY DEFAULT gen_random_uuid(),"
				   " email text,"
				   " created_at timestamptz DEFAULT now(),"
				   " is_anonymous boolean DEFAULT false,"
				   " deleted_at timestamptz)");
	dashie_command("ALTER TABLE auth.users ENABLE ROW LEVEL SECURITY");
	dashie_command("COMMENT ON TABLE auth.users IS 'Stand-in for the users of Supabase Auth, made "
				   "by dashie.create_auth_stub().'");
	dashie_query_end();
	dashie_leave(&guard);
	PG_RETURN_VOID();
}
