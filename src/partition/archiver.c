/*
 * archiver.c
 *		Which function has to confirm before a partition of widget_analytics is
 *		emptied: dashie.set_archiver(); and what came of calling it.
 *
 * The function is kept by schema and name, in dashie.partition_archiver, and is
 * called as schema.name(partition::regclass); true confirms.  A failure is kept
 * in dashie.partition_archive_failure with the time of the next try, so that one
 * partition that cannot be archived does not hold up the others.
 *
 * With whose rights: those of the table's owner and no other's.  The function
 * runs under SECURITY_RESTRICTED_OPERATION with the search_path pinned, and what
 * it sets is set back.  Who names it needs the rights of the table's owner, and
 * so does, then and at each call, the owner of the function, who could change
 * what it does.  (What is SECURITY DEFINER runs as its owner, as anywhere.)
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/day.h"
#include "common/owner.h"
#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "jobs/job.h"
#include "partition/keep.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_set_archiver);

/* A partition is being archived by this backend. */
static bool archiving = false;

/* dashie_archiver returns what set_archiver() stored, or NULL. */
Archiver *
dashie_archiver(void)
{
	DashieColumn columns[] = {{"schema_name", TEXTOID, true, 0},
							  {"function_name", TEXTOID, true, 0}};
	Archiver *archiver = NULL;
	KeptRows rows;

	if (!dashie_kept_open(&rows, "partition_archiver", columns, lengthof(columns)))
		return NULL;
	while (archiver == NULL && dashie_scan_next(rows.scan))
	{
		bool no_schema;
		bool no_function;
		Datum schema = dashie_scan_get(rows.scan, &columns[0], &no_schema);
		Datum function = dashie_scan_get(rows.scan, &columns[1], &no_function);

		archiver = palloc(sizeof(Archiver));
		archiver->schema = no_schema ? "" : TextDatumGetCString(schema);
		archiver->function = no_function ? "" : TextDatumGetCString(function);
	}
	dashie_kept_close(&rows);
	return archiver;
}

/* Its name for people and for SQL, quoted where needed. */
char *
dashie_archiver_name(const Archiver *archiver)
{
	return quote_qualified_identifier(archiver->schema, archiver->function);
}

/*
 * find_function is the function that schema.name(regclass) calls, if that is
 * one that can confirm; else InvalidOid.
 */
static Oid
find_function(const Archiver *archiver)
{
	Oid types[2] = {TEXTOID, TEXTOID};
	Datum values[2] = {CStringGetTextDatum(archiver->schema),
					   CStringGetTextDatum(archiver->function)};
	Oid function = InvalidOid;

	dashie_query_begin();
	if (dashie_query("SELECT p.oid FROM pg_catalog.pg_proc AS p"
					 " JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace"
					 " WHERE n.nspname = $1 AND p.proname = $2 AND p.prokind = 'f'"
					 " AND NOT p.proretset AND p.prorettype = 'boolean'::regtype"
					 " AND p.provariadic = 0 AND p.proargtypes[0] = 'regclass'::regtype"
					 " AND p.pronargs - p.pronargdefaults <= 1 ORDER BY p.pronargs LIMIT 1",
					 2, types, values, NULL) > 0)
		function = DatumGetObjectId(dashie_field(0, 1, NULL));
	dashie_query_end();
	return function;
}

/* require_trusted fails if somebody could make the function do what the current user must not. */
static void
require_trusted(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid owner;
	Oid namespace;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	namespace = ((Form_pg_proc) GETSTRUCT(tuple))->pronamespace;
	ReleaseSysCache(tuple);

	if (!has_privs_of_role(owner, GetUserId()))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("function %s cannot be the archiver", format_procedure(function)),
						errdetail("It belongs to role \"%s\", who could so act as role \"%s\", the "
								  "owner of widget_analytics.",
								  GetUserNameFromId(owner, false),
								  GetUserNameFromId(GetUserId(), false))));
	if (!dashie_may_use_schema(namespace, GetUserId()) ||
		!dashie_may_execute(function, GetUserId()))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("role \"%s\", the owner of widget_analytics, may not execute "
							   "function %s",
							   GetUserNameFromId(GetUserId(), false), format_procedure(function)),
						errhint("Grant it USAGE on schema %s and EXECUTE on the function.",
								quote_identifier(get_namespace_name(namespace)))));
}

/*
 * dashie_archiver_call has the archiver take a partition, as the current user,
 * the table's owner.  Whatever is not a confirmation is an error.
 */
void
dashie_archiver_call(const Archiver *archiver, Oid leaf)
{
	Oid type = REGCLASSOID;
	Datum value = ObjectIdGetDatum(leaf);
	Oid function;
	Oid user;
	int context;
	int guc_nest;
	bool confirmed = false;
	bool isnull;

	/* it may call us: then the partition in its hands must not be removed under them */
	if (archiving)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
						errmsg("an archiver cannot remove partitions itself")));

	GetUserIdAndSecContext(&user, &context);
	guc_nest = NewGUCNestLevel();
	archiving = true;
	PG_TRY();
	{
		dashie_restrict();
		function = find_function(archiver);
		if (!OidIsValid(function))
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
							errmsg("archiver %s(regclass), returning boolean, does not exist",
								   dashie_archiver_name(archiver)),
							errhint("Make it again, or choose another with "
									"dashie.set_archiver().")));
		require_trusted(function);
		dashie_query_begin();
		dashie_query(psprintf("SELECT %s($1)", dashie_archiver_name(archiver)), 1, &type, &value,
					 NULL);
		confirmed = DatumGetBool(dashie_field(0, 1, &isnull)) && !isnull;
		dashie_query_end();
	}
	PG_FINALLY();
	{
		archiving = false;
	}
	PG_END_TRY();
	AtEOXact_GUC(false, guc_nest);
	SetUserIdAndSecContext(user, context);
	if (!confirmed)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("archiver %s did not confirm", dashie_archiver_name(archiver))));
}

/* What is known of a partition that was not archived. */
typedef struct ArchiveFailure
{
	int failures; /* in a row; 0: none */
	TimestampTz next_try;
	char *message;
} ArchiveFailure;

static void
read_failure(const char *partition, ArchiveFailure *failure)
{
	DashieColumn columns[] = {{"partition", TEXTOID, true, 0},
							  {"failures", INT4OID, true, 0},
							  {"next_try", TIMESTAMPTZOID, true, 0},
							  {"message", TEXTOID, true, 0}};
	KeptRows rows;

	memset(failure, 0, sizeof(*failure));
	if (!dashie_kept_open(&rows, "partition_archive_failure", columns, lengthof(columns)))
		return;
	while (failure->failures == 0 && dashie_scan_next(rows.scan))
	{
		Datum values[lengthof(columns)];
		bool nulls[lengthof(columns)];

		for (int i = 0; i < lengthof(columns); i++)
			values[i] = dashie_scan_get(rows.scan, &columns[i], &nulls[i]);
		if (nulls[0] || nulls[1] || nulls[2] || nulls[3] ||
			strcmp(TextDatumGetCString(values[0]), partition) != 0)
			continue;
		failure->failures = DatumGetInt32(values[1]);
		failure->next_try = DatumGetTimestampTz(values[2]);
		failure->message = TextDatumGetCString(values[3]);
	}
	dashie_kept_close(&rows);
}

/*
 * dashie_archive_waits says why a partition is not to be archived yet, and sets
 * *until when it is; NULL if there is no reason.
 */
char *
dashie_archive_waits(const PartitionLeaf *leaf, TimestampTz *until)
{
	TimestampTz now = GetCurrentTimestamp();
	ArchiveFailure failure;

	if (dashie_archiver() == NULL)
		return NULL;
	read_failure(leaf->name, &failure);
	/* a clock that was wrong for a while must not keep a partition for years */
	if (failure.failures == 0 || failure.next_try <= now ||
		failure.next_try > now + 2 * dashie_retry_wait(PG_INT32_MAX))
		return NULL;
	*until = failure.next_try;
	return psprintf("not archived, failure %d, next try at %s: %s", failure.failures,
					dashie_instant_text(*until), failure.message);
}

/* Our table of failures, checked before SQL is run on it; the current user is the table's owner. */
static bool
failures_open(void)
{
	Oid relid = dashie_relation_oid("dashie", "partition_archive_failure");

	if (!OidIsValid(relid))
		return false;
	relation_close(dashie_relation_open(relid, RowExclusiveLock, ACL_INSERT, false), NoLock);
	return true;
}

/*
 * dashie_archive_failed records that a partition was not archived, and why.  A
 * cancellation is nobody's failure and goes on its way.
 */
void
dashie_archive_failed(PartitionPass *pass, const PartitionLeaf *leaf, ErrorData *error,
					  PartitionAction *action)
{
	Oid types[] = {TEXTOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID};
	Datum values[lengthof(types)];
	ArchiveFailure failure;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until;

	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
		error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN || !failures_open())
		ReThrowError(error);

	read_failure(leaf->name, &failure);
	values[0] = CStringGetTextDatum(leaf->name);
	values[1] = Int32GetDatum(Min(failure.failures, PG_INT32_MAX - 1) + 1);
	values[2] = TimestampTzGetDatum(now);
	values[3] = TimestampTzGetDatum(now + dashie_retry_wait(DatumGetInt32(values[1])));
	values[4] = CStringGetTextDatum(
		error->detail == NULL ? error->message : psprintf("%s: %s", error->message, error->detail));
	dashie_query_begin();
	dashie_query("INSERT INTO dashie.partition_archive_failure"
				 " (partition, failures, failed_at, next_try, message)"
				 " VALUES ($1, $2, $3, $4, pg_catalog.left($5, 1000)) ON CONFLICT (partition)"
				 " DO UPDATE SET failures = excluded.failures, failed_at = excluded.failed_at,"
				 " next_try = excluded.next_try, message = excluded.message",
				 lengthof(types), types, values, NULL);
	dashie_query_end();

	action->action = "hold";
	action->reason = dashie_archive_waits(leaf, &until);
	if (pass->complaint == NULL)
		pass->complaint =
			psprintf("partition \"%s\" was not archived: %s", leaf->name, error->message);
}

/* dashie_archive_succeeded forgets the failures of a partition, if there were any. */
void
dashie_archive_succeeded(const PartitionLeaf *leaf)
{
	Oid type = TEXTOID;
	Datum value = CStringGetTextDatum(leaf->name);
	ArchiveFailure failure;

	read_failure(leaf->name, &failure);
	if (failure.failures == 0 || !failures_open())
		return;
	dashie_query_begin();
	dashie_query("DELETE FROM dashie.partition_archive_failure WHERE partition = $1", 1, &type,
				 &value, NULL);
	dashie_query_end();
}

/* Schema and name of a function that can be the archiver; else an error says what it lacks. */
static Archiver
describe_function(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Archiver archiver;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
						errmsg("function with OID %u does not exist", function)));
	archiver.schema = get_namespace_name(((Form_pg_proc) GETSTRUCT(tuple))->pronamespace);
	archiver.function = pstrdup(NameStr(((Form_pg_proc) GETSTRUCT(tuple))->proname));
	ReleaseSysCache(tuple);
	if (find_function(&archiver) != function)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("function %s cannot be the archiver", format_procedure(function)),
						errdetail("It must be what %s(partition) calls with a partition of type "
								  "regclass, and return boolean.",
								  dashie_archiver_name(&archiver))));
	require_trusted(function);
	return archiver;
}

/* SQL: dashie.set_archiver(archiver regproc) */
Datum
dashie_set_archiver(PG_FUNCTION_ARGS)
{
	Oid types[] = {TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum values[lengthof(types)];
	DashieGuard guard;
	Relation parent;
	Archiver archiver;
	Oid user;
	int context;

	dashie_enter(&guard);
	GetUserIdAndSecContext(&user, &context);
	parent = dashie_partition_open_parent(dashie_enabled_oid_required("widget_analytics"),
										  AccessShareLock);
	dashie_become_owner_of(&guard, RelationGetRelid(parent));
	if (!PG_ARGISNULL(0))
		archiver = describe_function(PG_GETARG_OID(0));
	relation_close(parent, NoLock);
	SetUserIdAndSecContext(user, context);

	dashie_kept_become_owner(&guard, "partition_archive_failure");
	dashie_query_begin();
	dashie_query("DELETE FROM dashie.partition_archive_failure WHERE true", 0, NULL, NULL, NULL);
	dashie_query_end();
	SetUserIdAndSecContext(user, context);

	dashie_kept_become_owner(&guard, "partition_archiver");
	dashie_query_begin();
	if (PG_ARGISNULL(0))
		dashie_query("DELETE FROM dashie.partition_archiver WHERE single", 0, NULL, NULL, NULL);
	else
	{
		values[0] = CStringGetTextDatum(archiver.schema);
		values[1] = CStringGetTextDatum(archiver.function);
		values[2] = CStringGetTextDatum(GetUserNameFromId(guard.caller, false));
		values[3] = TimestampTzGetDatum(dashie_now());
		dashie_query("INSERT INTO dashie.partition_archiver"
					 " (schema_name, function_name, set_by, set_at) VALUES ($1, $2, $3, $4)"
					 " ON CONFLICT (single) DO UPDATE SET schema_name = excluded.schema_name,"
					 " function_name = excluded.function_name, set_by = excluded.set_by,"
					 " set_at = excluded.set_at",
					 lengthof(types), types, values, NULL);
	}
	dashie_query_end();
	dashie_leave(&guard);
	PG_RETURN_VOID();
}
