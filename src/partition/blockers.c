/*
 * blockers.c
 *		Taking locks without making others wait, and naming who is in the way.
 *
 * Whoever queues for a strong lock makes everyone behind it wait as well.  So
 * maintenance waits for maintenance_lock_timeout_ms and no longer, over all
 * the locks that one piece of work needs together, and tries again later.
 *
 * The time from asking for such a lock until it is given back is the longest
 * that anybody can have waited: it is measured here, for dashie.job_run.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/procarray.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/query.h"
#include "partition/partition.h"

/* Between two looks whether an old snapshot has gone, microseconds */
#define SNAPSHOT_POLL 5000

static TimestampTz stall_since; /* 0: nobody waits because of us */
static int64 stall_longest;		/* of those that are over, microseconds */

void
dashie_stall_reset(void)
{
	stall_since = 0;
	stall_longest = 0;
}

/* dashie_stall_begins is called before asking for a lock that readers or writers queue behind. */
void
dashie_stall_begins(void)
{
	if (stall_since == 0)
		stall_since = GetCurrentTimestamp();
}

static void
stall_ends(void)
{
	if (stall_since != 0)
		stall_longest = Max(stall_longest, GetCurrentTimestamp() - stall_since);
	stall_since = 0;
}

/*
 * dashie_stall tells, since the reset, the longest stall that is over, and
 * since when there is one that ends with the transaction, or 0.
 */
int64
dashie_stall(TimestampTz *since)
{
	*since = stall_since;
	return stall_longest;
}

/*
 * dashie_lock_timeout bounds every wait for a lock until the caller's GUC nest
 * level ends.
 */
void
dashie_lock_timeout(int ms)
{
	(void) set_config_option("lock_timeout", psprintf("%d", ms), PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * dashie_lock_together takes several locks, in the given order, within one
 * budget of time.  Without a budget (0) it waits as the session does.
 */
void
dashie_lock_together(const LockNeed *needs, int nneeds, int budget_ms)
{
	TimestampTz begin = GetCurrentTimestamp();

	for (int i = 0; i < nneeds; i++)
	{
		if (DoLockModesConflict(needs[i].mode, RowExclusiveLock))
			dashie_stall_begins();
		if (budget_ms > 0)
		{
			long spent = TimestampDifferenceMilliseconds(begin, GetCurrentTimestamp());

			dashie_lock_timeout((int) Max(budget_ms - spent, 1));
		}
		LockRelationOid(needs[i].relid, needs[i].mode);
	}
	if (budget_ms > 0)
		dashie_lock_timeout(budget_ms);
}

/*
 * dashie_lock_text describes locks for people, each mode once with its tables.
 */
char *
dashie_lock_text(const LockNeed *needs, int nneeds)
{
	StringInfoData text;
	static const char *const names[] = {
		"",		 "ACCESS SHARE",		"ROW SHARE", "ROW EXCLUSIVE",	"SHARE UPDATE EXCLUSIVE",
		"SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"};

	initStringInfo(&text);
	for (int i = 0; i < nneeds; i++)
	{
		if (i > 0 && needs[i].mode == needs[i - 1].mode)
			appendStringInfo(&text, ", %s", dashie_relation_name(needs[i].relid));
		else
			appendStringInfo(&text, "%s%s on %s", i > 0 ? "; " : "", names[needs[i].mode],
							 dashie_relation_name(needs[i].relid));
	}
	return text.data;
}

static ArrayType *
text_array(Datum *items, int nitems)
{
	return construct_array(items, nitems, TEXTOID, -1, false, TYPALIGN_INT);
}

/*
 * dashie_lock_holders names the sessions that hold, or wait in line for, a
 * lock that conflicts with one of the needed ones: pid, mode, table, and the
 * query where the current user may see it.  NULL if there is none.
 */
char *
dashie_lock_holders(const LockNeed *needs, int nneeds)
{
	Oid types[3] = {OIDARRAYOID, TEXTARRAYOID, OIDOID};
	Datum values[3];
	Datum *relations = palloc(nneeds * MaxLockMode * sizeof(Datum));
	Datum *modes = palloc(nneeds * MaxLockMode * sizeof(Datum));
	int npairs = 0;
	char *result = NULL;

	for (int i = 0; i < nneeds; i++)
		for (LOCKMODE mode = AccessShareLock; mode <= MaxLockMode; mode++)
			if (DoLockModesConflict(needs[i].mode, mode))
			{
				relations[npairs] = ObjectIdGetDatum(needs[i].relid);
				modes[npairs++] = CStringGetTextDatum(GetLockmodeName(DEFAULT_LOCKMETHOD, mode));
			}
	values[0] = PointerGetDatum(
		construct_array(relations, npairs, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
	values[1] = PointerGetDatum(text_array(modes, npairs));
	values[2] = ObjectIdGetDatum(MyDatabaseId);

	dashie_query_begin();
	dashie_query(
		"SELECT pg_catalog.string_agg(b.who, '; ' ORDER BY b.granted DESC, b.pid)"
		" FROM (SELECT DISTINCT ON (l.pid) l.pid, l.granted,"
		"         CASE WHEN l.pid IS NULL THEN 'a prepared transaction'"
		"              ELSE 'pid ' || l.pid::pg_catalog.text END"
		"         || ' (' || l.mode || ' on ' || l.relation::pg_catalog.regclass::pg_catalog.text"
		"         || CASE WHEN l.granted THEN ')' ELSE ', waiting)' END"
		"         || coalesce(': ' || pg_catalog.left(s.query, 200), '') AS who"
		"       FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2))"
		"            WITH ORDINALITY AS need(relation, mode, n)"
		"       JOIN pg_catalog.pg_locks l ON l.locktype = 'relation' AND l.database = $3"
		"            AND l.relation = need.relation AND l.mode = need.mode"
		"       LEFT JOIN pg_catalog.pg_stat_activity s ON s.pid = l.pid"
		"      WHERE l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()"
		"      ORDER BY l.pid, l.granted DESC, need.n) b",
		3, types, values, NULL);
	result = dashie_field_text(0, 1);
	dashie_query_end();
	return result;
}

/*
 * dashie_snapshot_holder waits, without a lock, for the snapshots that may not
 * see what the transaction "xid" did.  NULL once they are gone; after the
 * budget, who holds one.  A snapshot that is taken meanwhile sees it.
 */
char *
dashie_snapshot_holder(TransactionId xid, int budget_ms)
{
	TimestampTz end = GetCurrentTimestamp() + budget_ms * (int64) 1000;
	const int ignored = PROC_IS_AUTOVACUUM | PROC_IN_VACUUM;
	int count;
	VirtualTransactionId *old = GetCurrentVirtualXIDs(xid, true, false, ignored, &count);
	PGPROC *proc = NULL;
	Oid type = INT4OID;
	Datum pid;
	char *result;

	for (;;)
	{
		int nnow;
		VirtualTransactionId *now = GetCurrentVirtualXIDs(xid, true, false, ignored, &nnow);
		int kept = 0;

		for (int i = 0; i < count; i++)
			for (int j = 0; j < nnow; j++)
				if (VirtualTransactionIdEquals(old[i], now[j]))
				{
					old[kept++] = old[i];
					break;
				}
		count = kept;
		if (count == 0)
			return NULL;
		if (GetCurrentTimestamp() >= end)
			break;
		CHECK_FOR_INTERRUPTS();
		pg_usleep(SNAPSHOT_POLL);
	}

	proc = dashie_vxid_proc(old[0]);
	if (proc == NULL || proc->pid == 0)
		return pstrdup("a snapshot of somebody who has gone meanwhile");
	pid = Int32GetDatum(proc->pid);
	dashie_query_begin();
	dashie_query("SELECT 'pid ' || $1 || ' (an older snapshot)' || coalesce((SELECT ': '"
				 " || pg_catalog.left(s.query, 200) FROM pg_catalog.pg_stat_activity AS s"
				 " WHERE s.pid = $1), '')",
				 1, &type, &pid, NULL);
	result = dashie_field_text(0, 1);
	dashie_query_end();
	return result;
}

/*
 * dashie_attempt does a piece of work in a subtransaction.  NULL if it
 * succeeded; else everything it did is undone, its locks are released, and the
 * error is returned.
 */
ErrorData *
dashie_attempt(void (*work)(void *), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		work(arg);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		stall_ends();
	}
	PG_END_TRY();
	return error;
}

/*
 * dashie_is_blocked tells the errors that another session or an object in the
 * way causes, and that a later attempt may not meet, from all others.
 */
bool
dashie_is_blocked(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		   error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		   error->sqlerrcode == ERRCODE_OBJECT_IN_USE;
}
