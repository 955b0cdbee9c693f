/*
 * leaf_detach.c
 *		Detaching partitions whose parent is never free, and finishing what was
 *		detached halfway.
 *
 * A partition goes by DROP, which needs the parent for itself for a moment.
 * Where one long query follows the other that moment never comes.  Then a
 * worker runs DETACH CONCURRENTLY, which needs SHARE UPDATE EXCLUSIVE:
 * queries that begin afterwards do not know the partition any more.  Only a
 * worker can: the command ends transactions, so it must be the whole of what a
 * session does, and neither SPI nor a procedure can be.
 *
 * Three things may be left then, each for a later step or pass, in this order:
 *
 *	pending		marked, still a partition.  FINALIZE ends this, once no query is
 *				left that began before the mark; every pass tries it first, also
 *				where somebody else gave up.  It locks the tables that
 *				the foreign keys name in SHARE ROW EXCLUSIVE for a moment.
 *	detached	a table by itself.  Its foreign keys have triggers of their own on
 *				those tables, so DROP takes ACCESS EXCLUSIVE on them for a
 *				moment: asked for together, within maintenance_lock_timeout_ms,
 *				with the table emptied before (leaf_expire.c).
 *	gone		its row in dashie.partition_removal is deleted.
 *
 * That row is written by the transaction that makes the mark: so it is there
 * exactly if the mark was ours, also after kill -9, and what somebody detached
 * by hand is never dropped.  Who attaches such a table again, or renames it,
 * has it back.
 *
 * Run as the owner of widget_analytics; rows of dashie.partition_removal are
 * read by anybody, and written by the extension's owner.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_event_trigger.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/portal.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/day.h"
#include "common/query.h"
#include "common/relation.h"
#include "partition/partition.h"
#include "roadmap/roadmap.h"

/* DETACH waits for nobody: what it would wait for, FINALIZE does later, and better. */
#define DETACH_LOCK_TIMEOUT "10ms"

/*
 * look_at fills in what became of a table that we began to detach.  False if it
 * is not ours any more: gone, renamed, attached again.
 */
static bool
look_at(PartitionLeaf *leaf, const char *schema, Oid parent)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(leaf->relid));
	HeapTuple parent_tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(parent));
	bool ours = false;

	if (HeapTupleIsValid(tuple) && HeapTupleIsValid(parent_tuple))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);
		char *its_schema = get_namespace_name(form->relnamespace);

		leaf->relkind = form->relkind;
		leaf->detached = !form->relispartition;
		ours = form->relkind == RELKIND_RELATION &&
			   strcmp(NameStr(form->relname), leaf->name) == 0 && its_schema != NULL &&
			   strcmp(its_schema, schema) == 0 &&
			   form->relowner == ((Form_pg_class) GETSTRUCT(parent_tuple))->relowner;
	}
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (HeapTupleIsValid(parent_tuple))
		ReleaseSysCache(parent_tuple);

	if (ours && !leaf->detached)
	{
		leaf->detaching = get_partition_parent(leaf->relid, true) == parent &&
						  PartitionHasPendingDetach(leaf->relid);
		ours = leaf->detaching;
	}
	return ours;
}

/*
 * dashie_partition_begun lists the partitions of the parent that we began to
 * detach and have yet to drop; "stale" if there are rows about others.
 */
PartitionLeaf *
dashie_partition_begun(Oid parent, int *count, bool *stale)
{
	Oid relid = dashie_relation_oid("dashie", "partition_removal");
	DashieColumn columns[] = {{"relid", OIDOID, true, 0},
							  {"schema_name", TEXTOID, true, 0},
							  {"partition", TEXTOID, true, 0},
							  {"lower_bound", TIMESTAMPTZOID, true, 0},
							  {"upper_bound", TIMESTAMPTZOID, true, 0}};
	int room = 4;
	PartitionLeaf *leaves = palloc(room * sizeof(PartitionLeaf));
	Relation rel;
	Snapshot snapshot;
	DashieScan *scan;

	*count = 0;
	*stale = false;
	if (!OidIsValid(relid))
		return leaves;
	rel = table_open(relid, AccessShareLock);
	if (rel->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"dashie.partition_removal\" is not a plain table")));
	dashie_relation_columns(rel, columns, lengthof(columns));
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = dashie_scan_begin(rel, snapshot);
	while (dashie_scan_next(scan))
	{
		Datum values[lengthof(columns)];
		bool isnull[lengthof(columns)];
		bool complete = true;
		PartitionLeaf leaf = {.begun = true};

		for (int i = 0; i < lengthof(columns); i++)
		{
			values[i] = dashie_scan_get(scan, &columns[i], &isnull[i]);
			complete = complete && !isnull[i];
		}
		if (complete)
		{
			leaf.relid = DatumGetObjectId(values[0]);
			leaf.name = TextDatumGetCString(values[2]);
			leaf.range.lower = DatumGetTimestampTz(values[3]);
			leaf.range.upper = DatumGetTimestampTz(values[4]);
		}
		if (!complete || !look_at(&leaf, TextDatumGetCString(values[1]), parent))
		{
			*stale = true;
			continue;
		}
		if (*count == room)
			leaves = repalloc(leaves, (room *= 2) * sizeof(PartitionLeaf));
		leaves[(*count)++] = leaf;
	}
	dashie_scan_end(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return leaves;
}

/*
 * dashie_partition_forget deletes the rows of what is not ours any more.  As
 * the extension's owner.
 */
void
dashie_partition_forget(const PartitionLeaf *begun, int nbegun)
{
	Oid type = OIDARRAYOID;
	Datum *oids = palloc((nbegun + 1) * sizeof(Datum));
	Datum value;

	for (int i = 0; i < nbegun; i++)
		oids[i] = ObjectIdGetDatum(begun[i].relid);
	value = PointerGetDatum(construct_array(oids, nbegun, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
	dashie_query_begin();
	dashie_query("DELETE FROM dashie.partition_removal WHERE relid <> ALL ($1)", 1, &type, &value,
				 NULL);
	dashie_query_end();
}

static PlannedStmt *
parse_utility(const char *sql)
{
	RawStmt *raw = linitial_node(RawStmt, pg_parse_query(sql));
	PlannedStmt *statement = makeNode(PlannedStmt);

	statement->commandType = CMD_UTILITY;
	statement->utilityStmt = raw->stmt;
	return statement;
}

typedef struct Finalization
{
	PartitionPass *pass;
	const PartitionLeaf *leaf;
	LockNeed *needs; /* parent, the tables of the foreign keys, leaf */
	int nneeds;
	bool gone;			   /* out: somebody else was faster */
	char *snapshot_holder; /* out: who has to end first */
} Finalization;

static TransactionId
mark_of(Oid leaf)
{
	Oid type = OIDOID;
	Datum value = ObjectIdGetDatum(leaf);
	TransactionId xid = InvalidTransactionId;

	dashie_query_begin();
	if (dashie_query("SELECT i.xmin FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = $1"
					 " AND i.inhdetachpending",
					 1, &type, &value, NULL) > 0)
		xid = DatumGetTransactionId(dashie_field(0, 1, NULL));
	dashie_query_end();
	return xid;
}

/*
 * finalize runs FINALIZE.  PostgreSQL waits in it for every snapshot that is
 * older than its own, with the partition locked: where long queries overlap,
 * for ever.  The snapshots that matter are those that may not see the mark.
 * For these we wait first, without a lock; and the command's own snapshot is
 * dated back to the mark, so that it asks for no others.
 *
 * It takes the locks on the tables of the foreign keys one after the other,
 * each for as long as the lock_timeout is: the budget is divided between them.
 */
static void
finalize(void *arg)
{
	Finalization *work = arg;
	int budget = work->pass->lock_budget_ms;
	TransactionId mark = mark_of(work->leaf->relid);
	char *sql;

	work->gone = !TransactionIdIsValid(mark);
	if (work->gone)
		return;
	work->snapshot_holder = dashie_snapshot_holder(mark, budget);
	if (work->snapshot_holder != NULL)
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE), errmsg("an older snapshot")));

	dashie_lock_timeout(Max(budget / Max(work->nneeds - 2, 1), 1));
	sql =
		psprintf("ALTER TABLE %s DETACH PARTITION %s FINALIZE",
				 dashie_relation_name(work->pass->parent), dashie_relation_name(work->leaf->relid));
	PushCopiedSnapshot(GetTransactionSnapshot());
	if (TransactionIdPrecedes(mark, GetActiveSnapshot()->xmin))
		GetActiveSnapshot()->xmin = mark;
	dashie_stall_begins();
	ProcessUtility(parse_utility(sql), sql, false, PROCESS_UTILITY_QUERY, NULL, NULL, None_Receiver,
				   NULL);
	PopActiveSnapshot();
	CommandCounterIncrement();
	dashie_lock_timeout(budget);
}

/*
 * dashie_partition_finalize finishes a DETACH CONCURRENTLY that was begun and
 * not finished, by whomever; PostgreSQL allows one at a time.
 */
PartitionPending
dashie_partition_finalize(PartitionPass *pass)
{
	Finalization work = {pass};
	PartitionAction action = {"finalize", NULL, DT_NOBEGIN, DT_NOEND, -1, -1};
	PartitionPending result = PENDING_FINALIZED;
	ErrorData *error;

	for (int i = 0; i < pass->set->count; i++)
		if (pass->set->leaves[i].detaching)
			work.leaf = &pass->set->leaves[i];
	if (work.leaf == NULL)
		return PENDING_NOTHING;

	action.partition = work.leaf->name;
	action.lower = work.leaf->range.lower;
	action.upper = work.leaf->range.upper;
	action.reason = "DETACH CONCURRENTLY was begun and not finished";
	dashie_partition_measure(work.leaf->relid, &action.rows, &action.bytes);
	work.needs = dashie_partition_create_locks(pass->parent, &work.nneeds);
	work.needs = repalloc(work.needs, (work.nneeds + 1) * sizeof(LockNeed));
	work.needs[work.nneeds].relid = work.leaf->relid;
	work.needs[work.nneeds++].mode = AccessExclusiveLock;

	if (pass->dry_run)
	{
		action.locks = dashie_lock_text(work.needs, work.nneeds);
		action.blocked_by = dashie_snapshot_holder(mark_of(work.leaf->relid), 0);
		if (action.blocked_by == NULL)
			action.blocked_by = dashie_lock_holders(work.needs, work.nneeds);
	}
	else if ((error = dashie_attempt(finalize, &work)) != NULL)
	{
		if (!dashie_partition_blocked(pass, error, work.needs, work.nneeds, &action))
			ReThrowError(error);
		if (work.snapshot_holder != NULL)
			action.blocked_by = pass->blocker = work.snapshot_holder;
		action.reason = psprintf("DETACH CONCURRENTLY was begun and not finished: %s",
								 work.snapshot_holder != NULL ? "queries from before still run"
															  : action.reason);
		result = PENDING_BLOCKED;
	}
	else if (work.gone)
		return PENDING_FINALIZED;
	if (pass->report != NULL)
		pass->report(&action, pass->report_arg);
	return result;
}

/*
 * owners_code_may_run tells whether DDL would run an event trigger that does not
 * come from a superuser, as some platforms allow.  It must not run in a
 * superuser's session without a security context.
 */
static bool
owners_code_may_run(void)
{
	bool result;

	dashie_query_begin();
	result = dashie_query("SELECT FROM pg_catalog.pg_event_trigger AS t"
						  " JOIN pg_catalog.pg_proc AS p ON p.oid = t.evtfoid"
						  " JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang"
						  " JOIN pg_catalog.pg_roles AS o ON o.oid IN (t.evtowner, p.proowner)"
						  " WHERE t.evtenabled <> 'D' AND NOT o.rolsuper"
						  " AND l.lanname NOT IN ('c', 'internal')",
						  0, NULL, NULL, NULL) > 0;
	dashie_query_end();
	return result;
}

/*
 * write_down records, as the extension's owner, what the same transaction is
 * about to mark.
 */
static void
write_down(const PartitionLeaf *leaf)
{
	Oid types[6] = {OIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum values[6];

	dashie_query_begin();
	values[0] = ObjectIdGetDatum(leaf->relid);
	values[1] = CStringGetTextDatum(get_namespace_name(get_rel_namespace(leaf->relid)));
	values[2] = CStringGetTextDatum(leaf->name);
	values[3] = TimestampTzGetDatum(leaf->range.lower);
	values[4] = TimestampTzGetDatum(leaf->range.upper);
	values[5] = TimestampTzGetDatum(dashie_now());
	dashie_query("INSERT INTO dashie.partition_removal (relid, schema_name, partition, lower_bound,"
				 " upper_bound, begun_at) VALUES ($1, $2, $3, $4, $5, $6)"
				 " ON CONFLICT (relid) DO UPDATE SET schema_name = excluded.schema_name,"
				 " partition = excluded.partition, lower_bound = excluded.lower_bound,"
				 " upper_bound = excluded.upper_bound, begun_at = excluded.begun_at",
				 6, types, values, NULL);
	dashie_query_end();
}

/*
 * prepare looks once more, with the parent and the leaf locked as DETACH does,
 * and writes down what is about to be marked.  Returns the command, palloc'd in
 * the caller's context, or NULL if there is nothing to detach any more.
 */
static char *
prepare(const DashieGuard *guard, Oid relid, Oid *owner)
{
	PartitionPass pass = {.parent = dashie_enabled_oid("widget_analytics")};
	const PartitionLeaf *leaf = NULL;
	Relation rel;

	if (!OidIsValid(pass.parent))
		return NULL;
	rel = dashie_partition_open_parent(pass.parent, ShareUpdateExclusiveLock);
	LockRelationOid(relid, ShareUpdateExclusiveLock);
	dashie_partition_window(&pass.window);
	pass.set = dashie_partition_read(rel);
	*owner = rel->rd_rel->relowner;
	relation_close(rel, NoLock);

	for (int i = 0; i < pass.set->count; i++)
	{
		if (pass.set->leaves[i].detaching)
			return NULL; /* one at a time */
		if (pass.set->leaves[i].relid == relid)
			leaf = &pass.set->leaves[i];
	}
	if (leaf == NULL || pass.set->default_partition != NULL || leaf->relkind != RELKIND_RELATION ||
		!dashie_partition_removable(&pass, leaf))
		return NULL;

	/* also checks that we may: the command itself runs without a security context */
	dashie_become(guard, *owner);
	if (!dashie_partition_close_days(leaf))
		return NULL;
	dashie_become(guard, guard->owner);
	write_down(leaf);
	return psprintf("ALTER TABLE %s DETACH PARTITION %s CONCURRENTLY",
					dashie_relation_name(pass.parent), dashie_relation_name(relid));
}

/*
 * run_alone runs a command as a client's session would: through a portal, with
 * nothing around it.
 */
static void
run_alone(const char *sql)
{
	Portal portal = CreateNewPortal();
	MemoryContext old = MemoryContextSwitchTo(portal->portalContext);
	char *text = pstrdup(sql);
	List *plan = list_make1(parse_utility(text));

	MemoryContextSwitchTo(old);
	portal->visible = false;
	PortalDefineQuery(portal, NULL, text, CMDTAG_ALTER_TABLE, plan, NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	(void) dashie_portal_run(portal, None_Receiver);
	PortalDrop(portal, false);
}

/*
 * dashie_partition_detach is what a worker does for a partition that could not
 * be dropped: see JobStep.alone.  Nothing is connected to SPI, and the
 * transaction is one that it may end.  An error is thrown; the mark may be
 * committed by then.
 *
 * No event trigger can come until the session's lock on their catalog is given
 * back, which an error does too.
 */
void
dashie_partition_detach(Oid relid)
{
	DashieGuard guard;
	Oid user;
	int security_context;
	Oid owner = InvalidOid;
	char *sql;
	LockRelId event_triggers = {EventTriggerRelationId, MyDatabaseId};

	GetUserIdAndSecContext(&user, &security_context);
	SetConfigOption("lock_timeout", DETACH_LOCK_TIMEOUT, PGC_USERSET, PGC_S_OVERRIDE);
	PushActiveSnapshot(GetTransactionSnapshot());
	dashie_enter(&guard);
	LockRelationIdForSession(&event_triggers, ShareLock);
	sql = owners_code_may_run() ? NULL : prepare(&guard, relid, &owner);
	dashie_leave(&guard);
	PopActiveSnapshot();
	if (sql != NULL)
	{
		SetUserIdAndSecContext(owner, security_context);
		run_alone(sql);
		SetUserIdAndSecContext(user, security_context);
	}
	UnlockRelationIdForSession(&event_triggers, ShareLock);
	SetConfigOption("lock_timeout", "0", PGC_USERSET, PGC_S_OVERRIDE);
}
