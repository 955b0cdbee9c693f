/*
 * owner.c
 *		With whose rights code of dashie runs.
 *
 * The rules, for every entry point that touches a relation:
 *
 * 1. No SQL of ours runs while the current user is a superuser, unless the
 *    extension's own owner is one.  A superuser who calls us, the background
 *    worker included, becomes the extension's owner first: the owner could
 *    otherwise rename our schema, plant a view under the old name, and have
 *    its functions run as the superuser.
 * 2. Work on a table of the application runs as that table's owner, and only
 *    if the extension's owner has that role's rights (the registry of enabled
 *    tables is the extension owner's data, so it must not reach further than
 *    its author) and the caller has them too.
 * 3. search_path and everything else that changes how text is read are pinned.
 *
 * There is no PG_TRY here: the abort of the transaction or subtransaction that
 * an error brings restores the user, the security context and the settings.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "common/compat.h"
#include "common/owner.h"

/* Settings that must not be the caller's while our SQL is read and run. */
static const struct
{
	const char *name;
	const char *value;
} pinned[] = {
	{"search_path", "pg_catalog, pg_temp"}, {"row_security", "off"},
	{"intervalstyle", "postgres"},			{"datestyle", "ISO, YMD"},
	{"transform_null_equals", "off"},		{"quote_all_identifiers", "off"},
	{"check_function_bodies", "on"},
};

/* What stands as it should needs no change that is undone afterwards. */
static void
pin(const char *name, const char *value)
{
	if (strcmp(GetConfigOption(name, false, false), value) != 0)
		(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
								 false);
}

Oid
dashie_extension_oid(void)
{
	return get_extension_oid("dashie", true);
}

/* Owner of the extension with that OID; InvalidOid if it is not dashie, or is gone. */
static Oid
owner_of_extension(Oid extension)
{
	Relation catalog = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid owner = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(catalog, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple) &&
		strcmp(NameStr(((Form_pg_extension) GETSTRUCT(tuple))->extname), "dashie") == 0)
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return owner;
}

/*
 * lock_extension keeps DROP EXTENSION and ALTER EXTENSION out until the end of
 * the transaction, and returns the extension's owner.  Taken before any other
 * lock of ours: DROP EXTENSION takes its locks in the same order.
 *
 * The OID that the last call found is a guess, which saves looking for the name.
 */
static Oid
lock_extension(void)
{
	static Oid extension = InvalidOid;
	Oid owner = InvalidOid;

	if (OidIsValid(extension))
	{
		LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
		owner = owner_of_extension(extension);
		if (OidIsValid(owner))
			return owner;
	}
	extension = dashie_extension_oid();
	if (OidIsValid(extension))
	{
		LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
		owner = owner_of_extension(extension);
	}
	if (!OidIsValid(owner))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("extension \"dashie\" is not installed in this database"),
						errhint("Run CREATE EXTENSION dashie.")));
	return owner;
}

/*
 * dashie_enter opens the section of a function in which SQL may run: a
 * superuser becomes the extension's owner, and settings are pinned.  Close it
 * with dashie_leave().
 */
void
dashie_enter(DashieGuard *guard)
{
	GetUserIdAndSecContext(&guard->caller, &guard->caller_context);
	guard->owner = lock_extension();
	guard->guc_nest = NewGUCNestLevel();

	if (superuser_arg(guard->caller) && !superuser_arg(guard->owner))
		SetUserIdAndSecContext(guard->owner, guard->caller_context | SECURITY_RESTRICTED_OPERATION);

	for (int i = 0; i < lengthof(pinned); i++)
		pin(pinned[i].name, pinned[i].value);
}

/*
 * Up to PostgreSQL 17 a deferred trigger runs with the rights that the commit
 * finds.  Queued while we act as a table's owner, it would run that owner's
 * code as the caller: as a superuser, in the worker.  So for the rest of the
 * transaction nothing is deferred.  The security-restricted mode makes an error
 * of what would be all the same.
 */
static void
defer_nothing(void)
{
	ConstraintsSetStmt *statement = makeNode(ConstraintsSetStmt);

	statement->constraints = NIL; /* all */
	statement->deferred = false;
	AfterTriggerSetState(statement);
}

/*
 * dashie_restrict keeps the current user, and lets code that this user chose run
 * from here on as if it were an index expression: it can neither change the
 * role nor leave anything behind that runs with other rights.
 */
void
dashie_restrict(void)
{
	Oid user;
	int context;

	GetUserIdAndSecContext(&user, &context);
	defer_nothing();
	SetUserIdAndSecContext(user, context | SECURITY_RESTRICTED_OPERATION);
}

/*
 * dashie_become makes "role" the current user until the next dashie_become()
 * or dashie_leave().
 */
void
dashie_become(const DashieGuard *guard, Oid role)
{
	if (!has_privs_of_role(guard->owner, role) || !has_privs_of_role(guard->caller, role))
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("dashie may not act as role \"%s\"", GetUserNameFromId(role, false)),
			 errdetail("Both the extension's owner \"%s\" and the calling role \"%s\" must have "
					   "the rights of the role that owns the table.",
					   GetUserNameFromId(guard->owner, false),
					   GetUserNameFromId(guard->caller, false))));

	if (role == guard->caller && role == GetOuterUserId())
	{
		/*
		 * Its own deferred triggers may wait for its own commit.  Not so those of
		 * the owner of a SECURITY DEFINER function, whose caller commits.
		 */
		SetUserIdAndSecContext(role, guard->caller_context | SECURITY_LOCAL_USERID_CHANGE);
		return;
	}
	defer_nothing();
	SetUserIdAndSecContext(role, guard->caller_context | SECURITY_RESTRICTED_OPERATION);
}

/* The caller holds a lock on the relation, or can live with an answer of a moment ago. */
Oid
dashie_owner_of(Oid relid)
{
	Relation rel = relation_open(relid, AccessShareLock);
	Oid owner = rel->rd_rel->relowner;

	relation_close(rel, NoLock);
	return owner;
}

/*
 * dashie_become_owner_of is dashie_become() for a relation's owner.  The
 * caller holds a lock on the relation.
 */
void
dashie_become_owner_of(const DashieGuard *guard, Oid relid)
{
	dashie_become(guard, dashie_owner_of(relid));
}

void
dashie_leave(DashieGuard *guard)
{
	AtEOXact_GUC(true, guard->guc_nest);
	SetUserIdAndSecContext(guard->caller, guard->caller_context);
}

/*
 * dashie_require_owner fails with 42501 unless the current user has the
 * rights of the relation's owner.
 */
void
dashie_require_owner(Oid relid)
{
	if (!dashie_owns_relation(relid, GetUserId()))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of table \"%s\"", get_rel_name(relid))));
}
