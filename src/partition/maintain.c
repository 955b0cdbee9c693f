/*
 * maintain.c
 *		dashie.maintain_partitions(), the job of that name, dashie.partitions.
 *
 * Run by the extension's owner, by whoever was granted EXECUTE and has the
 * rights of the table's owner, and by the job.  A pass looks under ACCESS
 * SHARE; where there is something to do it takes its locks for maintenance_
 * lock_timeout_ms at most, looks again, and does it: two callers at once do
 * the work once.  What could not be done is reported as "blocked" and undone
 * by itself; the rest of the pass goes on.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/day.h"
#include "common/query.h"
#include "common/rows.h"
#include "common/setting.h"
#include "jobs/job.h"
#include "partition/partition.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_maintain_partitions);
PG_FUNCTION_INFO_V1(dashie_partitions_list);

/* Partitions that one step of the job makes: bounds how long writers of auth.users wait. */
#define CREATE_STEP 4

/* JobStep.numbers: whether this run found that FINALIZE has to wait */
#define FINALIZE_WAITS 0

/* A pass while it runs, with what it must give back. */
typedef struct Maintenance
{
	PartitionPass pass;
	const DashieGuard *guard;
	Oid user;
	int security_context;
	int guc_nest;
	int nmissing;
	PartitionRange *missing;
	List *names;	/* of the partitions just made */
	bool finalized; /* a DETACH just now */
} Maintenance;

/*
 * dashie_partition_blocked turns an error into a "blocked" action.  Errors
 * that are neither about a lock nor about an object in the way are thrown
 * again.  True if a later attempt may succeed by itself.
 */
bool
dashie_partition_blocked(PartitionPass *pass, ErrorData *error, const LockNeed *needs, int nneeds,
						 PartitionAction *action)
{
	action->action = "blocked";
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		action->reason = psprintf("no lock within %d ms", pass->lock_budget_ms);
	else if (dashie_is_blocked(error))
		action->reason = error->message;
	else if (error->sqlerrcode == ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST ||
			 error->sqlerrcode == ERRCODE_FEATURE_NOT_SUPPORTED)
	{
		action->reason = error->detail == NULL ? error->message
											   : psprintf("%s: %s", error->message, error->detail);
		return false;
	}
	else
		ReThrowError(error);

	action->locks = dashie_lock_text(needs, nneeds);
	action->blocked_by = dashie_lock_holders(needs, nneeds);
	pass->blocker = action->blocked_by != NULL ? unconstify(char *, action->blocked_by)
											   : unconstify(char *, action->reason);
	return true;
}

/*
 * look reads what there is and what is missing, and becomes the table's owner.
 */
static void
look(void *arg)
{
	Maintenance *work = arg;
	Relation rel = dashie_partition_open_parent(work->pass.parent, AccessShareLock);

	dashie_become_owner_of(work->guard, work->pass.parent);
	work->pass.begun =
		dashie_partition_begun(work->pass.parent, &work->pass.nbegun, &work->pass.stale);
	work->pass.set = dashie_partition_read(rel);
	work->nmissing =
		dashie_partition_missing(rel, work->pass.set, &work->pass.window, &work->missing);
	relation_close(rel, NoLock);
}

/*
 * most_urgent keeps what one step makes: from today's partition on, else the
 * newest.
 */
static void
most_urgent(Maintenance *work)
{
	int first = 0;

	if (!work->pass.steps || work->nmissing <= CREATE_STEP)
		return;
	while (first < work->nmissing - CREATE_STEP &&
		   work->missing[first].upper <= work->pass.window.now)
		first++;
	work->missing += first;
	work->nmissing = CREATE_STEP;
}

/*
 * create_missing makes what is missing now: another pass may have been faster.
 */
static void
create_missing(void *arg)
{
	Maintenance *work = arg;
	Relation rel = dashie_partition_open_parent(work->pass.parent, ShareUpdateExclusiveLock);

	work->nmissing = dashie_partition_missing(rel, dashie_partition_read(rel), &work->pass.window,
											  &work->missing);
	relation_close(rel, NoLock);
	most_urgent(work);
	work->names = NIL;
	if (work->nmissing > 0)
		work->names = dashie_partition_create(work->pass.parent, work->missing, work->nmissing,
											  work->pass.lock_budget_ms);
}

static void
report_created(Maintenance *work, const LockNeed *needs, int nneeds)
{
	const char *locks = work->pass.dry_run ? dashie_lock_text(needs, nneeds) : NULL;
	const char *holders = work->pass.dry_run ? dashie_lock_holders(needs, nneeds) : NULL;

	for (int i = 0; i < work->nmissing; i++)
	{
		const PartitionRange *range = &work->missing[i];
		PartitionAction action = {"create", NULL, range->lower, range->upper, 0, -1};

		if (work->pass.dry_run)
		{
			action.partition = dashie_partition_name(work->pass.parent, range->day);
			action.locks = locks;
			action.blocked_by = holders;
		}
		else
			action.partition = list_nth(work->names, i);
		action.reason = range->upper > work->pass.window.now
							? "no partition yet: inserts would fail"
							: "no partition, and inside the retention";
		work->pass.report(&action, work->pass.report_arg);
	}
}

/*
 * pass_begin opens a pass.  False if there is nothing to look at: the table is
 * not enabled, or its lock was not to be had, which is reported.
 */
static bool
pass_begin(Maintenance *work, Oid parent)
{
	ErrorData *error;

	GetUserIdAndSecContext(&work->user, &work->security_context);
	work->guc_nest = NewGUCNestLevel();
	work->pass.parent = parent;
	if (!OidIsValid(parent))
		return false;

	work->pass.lock_budget_ms = dashie_setting_int("maintenance_lock_timeout_ms");
	dashie_partition_window(&work->pass.window);
	dashie_lock_timeout(work->pass.lock_budget_ms);
	error = dashie_attempt(look, work);
	if (error != NULL)
	{
		LockNeed need = {parent, AccessShareLock};
		PartitionAction action = {"blocked", NULL, DT_NOBEGIN, DT_NOEND, -1, -1};

		if (!dashie_partition_blocked(&work->pass, error, &need, 1, &action))
			ReThrowError(error);
		if (work->pass.report != NULL)
			work->pass.report(&action, work->pass.report_arg);
		return false;
	}
	return true;
}

static void
pass_end(Maintenance *work)
{
	AtEOXact_GUC(true, work->guc_nest);
	SetUserIdAndSecContext(work->user, work->security_context);
}

/*
 * create_pass makes the missing partitions, or plans it.  False if it was
 * blocked.
 */
static bool
create_pass(Maintenance *work)
{
	ErrorData *error = NULL;
	LockNeed *needs;
	int nneeds;

	if (work->nmissing == 0)
		return true;
	needs = dashie_partition_create_locks(work->pass.parent, &nneeds);
	if (!work->pass.dry_run)
		error = dashie_attempt(create_missing, work);
	if (error != NULL)
	{
		PartitionAction action = {
			"blocked", NULL, work->missing[0].lower, work->missing[work->nmissing - 1].upper,
			-1,		   -1};

		if (!dashie_partition_blocked(&work->pass, error, needs, nneeds, &action))
			ReThrowError(error);
		action.reason = psprintf("%d partition%s to create: %s", work->nmissing,
								 work->nmissing == 1 ? "" : "s", action.reason);
		if (work->pass.report != NULL)
			work->pass.report(&action, work->pass.report_arg);
		return false;
	}
	if (work->pass.report != NULL)
		report_created(work, needs, nneeds);
	return true;
}

/*
 * finalize_pass finishes what is half detached, for a caller who then goes on:
 * a range that this gives free is among the missing ones now.
 */
static void
finalize_pass(Maintenance *work)
{
	work->finalized =
		dashie_partition_finalize(&work->pass) == PENDING_FINALIZED && !work->pass.dry_run;
	if (work->finalized)
		look(work);
}

/*
 * remove_pass removes an expired partition.  Locks that the work before took are held
 * until the end of the transaction, and writers of auth.users wait for them:
 * so it asks for its own and does not wait.
 */
static PartitionRemoval
remove_pass(Maintenance *work)
{
	if (work->names != NIL || work->finalized)
	{
		work->pass.lock_budget_ms = 1;
		work->pass.in_haste = true;
	}
	return dashie_partition_remove(&work->pass);
}

static Datum
instant_or_null(TimestampTz at, bool *isnull)
{
	*isnull = TIMESTAMP_NOT_FINITE(at);
	return TimestampTzGetDatum(at);
}

static Datum
text_or_null(const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

static void
put_action(const PartitionAction *action, void *arg)
{
	Datum values[9];
	bool nulls[9] = {false};

	values[0] = CStringGetTextDatum(action->action);
	values[1] = text_or_null(action->partition, &nulls[1]);
	values[2] = instant_or_null(action->lower, &nulls[2]);
	values[3] = instant_or_null(action->upper, &nulls[3]);
	values[4] = Int64GetDatum(action->rows);
	nulls[4] = action->rows < 0;
	values[5] = Int64GetDatum(action->bytes);
	nulls[5] = action->bytes < 0;
	values[6] = text_or_null(action->reason, &nulls[6]);
	values[7] = text_or_null(action->locks, &nulls[7]);
	values[8] = text_or_null(action->blocked_by, &nulls[8]);
	dashie_rows_put(arg, values, nulls);
}

Datum
dashie_maintain_partitions(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	DashieRows rows;
	Maintenance work = {0};

	dashie_reject_null(fcinfo, 0, "dry_run");
	dashie_rows_begin(fcinfo, &rows);
	dashie_enter(&guard);
	work.guard = &guard;
	work.pass.dry_run = PG_GETARG_BOOL(0);
	work.pass.report = put_action;
	work.pass.report_arg = &rows;
	if (pass_begin(&work, dashie_enabled_oid_required("widget_analytics")))
	{
		finalize_pass(&work);
		create_pass(&work);
		remove_pass(&work);
	}
	pass_end(&work);
	dashie_leave(&guard);
	return (Datum) 0;
}

void
dashie_partition_expire(const DashieGuard *guard, bool dry_run, PartitionReport report, void *arg)
{
	Maintenance work = {0};

	work.guard = guard;
	work.pass.dry_run = dry_run;
	work.pass.report = report;
	work.pass.report_arg = arg;
	if (pass_begin(&work, dashie_enabled_oid("widget_analytics")))
	{
		finalize_pass(&work);
		remove_pass(&work);
	}
	pass_end(&work);
}

/*
 * run_step is one transaction of a job: a pending DETACH finished, or a few
 * missing partitions made, or one leaf emptied, or one dropped.  A DETACH that
 * has to wait for older queries keeps nothing else waiting.
 */
static bool
run_step(JobStep *step, bool create)
{
	Maintenance work = {0};
	Oid parent = dashie_enabled_oid("widget_analytics");
	PartitionPending pending = PENDING_NOTHING;
	PartitionRemoval removal = REMOVED_NOTHING;
	bool again = true;

	work.guard = step->guard;
	work.pass.steps = true;
	dashie_stall_reset();
	if (!pass_begin(&work, parent))
		step->blocked = again = OidIsValid(parent);
	else
	{
		if (step->numbers[FINALIZE_WAITS] == 0)
			pending = dashie_partition_finalize(&work.pass);
		step->numbers[FINALIZE_WAITS] |= pending == PENDING_BLOCKED;
		if (pending == PENDING_FINALIZED)
			;
		else if (create && work.nmissing > 0)
			step->blocked = !create_pass(&work);
		else if ((removal = remove_pass(&work)) == REMOVED_NOTHING)
		{
			/* nothing is left but this */
			if (pending == PENDING_NOTHING)
				pending = dashie_partition_finalize(&work.pass);
			again = pending != PENDING_NOTHING;
			step->blocked = pending == PENDING_BLOCKED;
		}
		else
			step->blocked = removal == REMOVAL_BLOCKED;
	}
	step->rows += work.pass.rows;
	step->stall = dashie_stall(&step->stall_since);
	if (step->blocked)
		step->blocker = work.pass.blocker;
	if (removal == REMOVAL_BLOCKED && OidIsValid(work.pass.stuck))
	{
		step->alone = dashie_partition_detach;
		step->alone_argument = work.pass.stuck;
	}
	pass_end(&work);
	if (work.pass.stale)
		dashie_partition_forget(work.pass.begun, work.pass.nbegun);

	/* recorded with this step; the run goes on with the rest, and ends with the first of them */
	if (work.pass.complaint != NULL)
	{
		if (*step->kept == NULL)
			*step->kept = MemoryContextStrdup(step->memory, work.pass.complaint);
		return true;
	}
	return again;
}

bool
dashie_partition_step(JobStep *step)
{
	if (run_step(step, true))
		return true;
	if (*step->kept != NULL)
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
						errmsg_internal("%s", (char *) *step->kept)));
	return false;
}

bool
dashie_partition_expire_step(JobStep *step)
{
	return run_step(step, false);
}

/*
 * whole_days_until is how many whole days of inserts at the clock still find a
 * partition.
 */
static Datum
whole_days_until(TimestampTz end, TimestampTz now, bool *isnull)
{
	*isnull = end == DT_NOEND;
	return *isnull ? (Datum) 0 : Int32GetDatum((int32) ((end - now) / USECS_PER_DAY));
}

Datum
dashie_partitions_list(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	DashieRows rows;
	Oid parent;

	dashie_rows_begin(fcinfo, &rows);
	dashie_enter(&guard);
	parent = dashie_enabled_oid("widget_analytics");
	if (OidIsValid(parent))
	{
		Relation rel = dashie_partition_open_parent(parent, AccessShareLock);
		PartitionSet *set = dashie_partition_read(rel);
		PartitionWindow window;
		TimestampTz covered;

		dashie_partition_window(&window);
		covered = dashie_partition_covered_until(set, window.now);
		for (int i = 0; i < set->count; i++)
		{
			const PartitionLeaf *leaf = &set->leaves[i];
			int64 nrows;
			int64 nbytes;
			char *kept;
			TimestampTz until;
			Datum values[9];
			bool nulls[9] = {false};

			dashie_partition_measure(leaf->relid, &nrows, &nbytes);
			values[0] = CStringGetTextDatum(leaf->name);
			values[1] = TimestampTzGetDatum(leaf->range.lower);
			values[2] = TimestampTzGetDatum(leaf->range.upper);
			values[3] = Int64GetDatum(nrows);
			nulls[3] = nrows < 0;
			values[4] = Int64GetDatum(nbytes);
			nulls[4] = nbytes < 0;
			values[5] =
				instant_or_null(dashie_partition_drop_at(&window, leaf->range.upper), &nulls[5]);
			values[6] = whole_days_until(covered, window.now, &nulls[6]);
			kept = dashie_partition_keep_reason(leaf, &window, &until);
			values[7] = text_or_null(kept, &nulls[7]);
			values[8] = instant_or_null(until, &nulls[8]);
			dashie_rows_put(&rows, values, nulls);
		}
		relation_close(rel, AccessShareLock);
	}
	dashie_leave(&guard);
	return (Datum) 0;
}
