/*
 * stale.c
 *		Ends sessions that fell silent: dashie.close_stale_sessions() and the
 *		job of that name.
 *
 * Runs as the owner of user_sessions, a batch a statement.  Takes ROW
 * EXCLUSIVE on the table, for which the job waits no longer than
 * maintenance_lock_timeout_ms.  A session that somebody is just touching is
 * locked and therefore skipped, and one that was touched since the snapshot is
 * looked at again in its newest version.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "common/day.h"
#include "common/owner.h"
#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "common/setting.h"
#include "jobs/job.h"
#include "partition/partition.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_close_stale_sessions);

/* idx_sessions_open has this expression and predicate */
#define LAST_ACTIVITY "coalesce(last_activity_at, started_at)"
#define STALE "ended_at IS NULL AND " LAST_ACTIVITY " < $1 AND isfinite(" LAST_ACTIVITY ")"
/* an activity noted before the start, by a clock that was wrong, ends the session at its start */
#define END_OF_SESSION "greatest(last_activity_at, started_at)"

/*
 * close_batch ends up to batch_rows sessions silent since before the instant;
 * the number ended.
 */
static int64
close_batch(const DashieGuard *guard, Oid relid, TimestampTz silent_since, int64 batch)
{
	Oid types[2] = {TIMESTAMPTZOID, INT8OID};
	Datum values[2];
	Oid user;
	int context;
	int64 closed;
	Relation rel;
	char *name;

	GetUserIdAndSecContext(&user, &context);
	LockRelationOid(relid, RowExclusiveLock);
	dashie_become_owner_of(guard, relid);
	rel = dashie_relation_open(relid, RowExclusiveLock, ACL_UPDATE, false);
	name = dashie_relation_name(relid);

	values[0] = TimestampTzGetDatum(silent_since);
	values[1] = Int64GetDatum(batch);
	dashie_query_begin();
	closed = dashie_query(
		psprintf("UPDATE ONLY %s SET ended_at = " END_OF_SESSION ", duration_minutes ="
				 " least(floor(extract(epoch FROM " END_OF_SESSION " - started_at) / 60),"
				 " 2147483647)::integer"
				 " WHERE ctid = ANY (ARRAY(SELECT t.ctid FROM ONLY %s AS t WHERE " STALE
				 " ORDER BY " LAST_ACTIVITY " LIMIT $2 FOR UPDATE SKIP LOCKED)) AND " STALE,
				 name, name),
		2, types, values, NULL);
	dashie_query_end();

	relation_close(rel, NoLock);
	SetUserIdAndSecContext(user, context);
	return closed;
}

Datum
dashie_close_stale_sessions(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	Interval *idle;
	TimestampTz silent_since;
	Oid relid;
	int64 batch;
	int64 closed;
	int64 total = 0;

	dashie_reject_null(fcinfo, 0, "idle");
	idle = PG_GETARG_INTERVAL_P(0);
	if (idle->month < 0 || idle->day < 0 || idle->time < 0 ||
		(idle->month == 0 && idle->day == 0 && idle->time == 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"idle\" must be positive: %s",
						DatumGetCString(DirectFunctionCall1(interval_out, PG_GETARG_DATUM(0))))));

	dashie_enter(&guard);
	silent_since = dashie_subtract_interval(dashie_now(), idle, dashie_timezone());
	relid = dashie_enabled_oid_required("user_sessions");
	batch = dashie_setting_int("batch_rows");
	do
	{
		CHECK_FOR_INTERRUPTS();
		closed = close_batch(&guard, relid, silent_since, batch);
		total += closed;
	} while (closed >= batch);
	dashie_leave(&guard);

	PG_RETURN_INT32((int32) Min(total, PG_INT32_MAX));
}

/* A step of the job, as dashie_attempt() wants it. */
typedef struct StaleBatch
{
	const DashieGuard *guard;
	Oid relid;
	int64 batch;
	int64 closed;
} StaleBatch;

static void
close_batch_in_time(void *arg)
{
	StaleBatch *work = arg;
	TimestampTz silent_since =
		dashie_now() - dashie_setting_int("session_idle_minutes") * USECS_PER_MINUTE;
	int nest = NewGUCNestLevel();

	dashie_lock_timeout((int) dashie_setting_int("maintenance_lock_timeout_ms"));
	work->closed = close_batch(work->guard, work->relid, silent_since, work->batch);
	AtEOXact_GUC(true, nest);
}

/*
 * dashie_close_stale_step ends one batch; there is nothing to do where
 * user_sessions is not enabled.
 */
bool
dashie_close_stale_step(JobStep *step)
{
	StaleBatch work = {.guard = step->guard};
	LockNeed need = {InvalidOid, RowExclusiveLock};
	ErrorData *error;

	need.relid = work.relid = dashie_enabled_oid("user_sessions");
	if (!OidIsValid(work.relid))
		return false;
	work.batch = dashie_setting_int("batch_rows");

	error = dashie_attempt(close_batch_in_time, &work);
	if (error != NULL)
	{
		if (!dashie_is_blocked(error))
			ReThrowError(error);
		step->blocked = true;
		step->blocker = dashie_lock_holders(&need, 1);
		return true;
	}
	step->rows = work.closed;
	return work.closed >= work.batch;
}
