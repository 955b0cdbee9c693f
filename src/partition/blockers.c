/*
 * blockers.c
 *		Taking locks without making others wait, and naming who is in the way.
 *
 * Whoever queues for a strong lock makes everyone behind it wait as well.  So
 * maintenance waits for maintenance_lock_timeout_ms and no longer, over all
 * the locks that one piece of work needs together, and tries again later.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "common/query.h"
#include "partition/partition.h"

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
