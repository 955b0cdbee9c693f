/*
 * leaf_expire.c
 *		Removing partitions whose retention is over.
 *
 * Run by maintain_partitions(), apply_retention() and their jobs, as the owner
 * of widget_analytics.  Not DETACH and then DROP: a detached partition has its
 * foreign keys' triggers on auth.users, and its DROP locks that table
 * against every reader.  DROP of an attached leaf locks the parent and the
 * leaf, in that order.  What had to be detached all the same (leaf_detach.c)
 * is dropped here too: the tables that its foreign keys name are locked
 * with it, in the order in which a cascading DELETE locks them.
 *
 * In a job the leaf is emptied first, in a transaction of its own that locks
 * the leaf alone, so that the lock on the parent is held for no longer than
 * the catalog needs.  In a function both would be held until the caller's
 * transaction ends anyway: there it is one DROP, of one partition.
 *
 * What is to be kept is asked under the locks once more (leaf_hold.c), and an
 * archiver, if one is set, takes the rows before (archive.c).
 *
 * A partition goes only when the rollups of its days are final and unchanged
 * (events/event_rollup.c).  The floor that is raised with its rows tells them
 * that these days are not to be counted again.  The lock that keeps rollups out
 * is taken before those of the partition, as a rollup takes them.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/query.h"
#include "events/events.h"
#include "partition/keep.h"
#include "partition/partition.h"
#include "retention/retention.h"

typedef struct Removal
{
	PartitionPass *pass;
	const PartitionLeaf *leaf;
	LockNeed *needs; /* for TRUNCATE or for DROP */
	int nneeds;
	bool truncate; /* else drop */
	bool gone;	   /* out: someone else removed it, or it is not ours to remove any more */
	bool held;	   /* out: its days are not counted yet */
	PartitionArchiving archiving;
} Removal;

static bool
expired(const PartitionLeaf *leaf, const PartitionWindow *window)
{
	return leaf->range.upper <= window->cutoff;
}

/*
 * dashie_partition_removable says whether a leaf may be emptied now.  Asked
 * before, and again under the locks.
 */
bool
dashie_partition_removable(const PartitionPass *pass, const PartitionLeaf *leaf)
{
	TimestampTz until;

	return expired(leaf, &pass->window) && leaf->relkind != RELKIND_FOREIGN_TABLE &&
		   dashie_partition_keep_reason(leaf, &pass->window, &until) == NULL;
}

/*
 * still_removable looks again, with everything locked.
 */
static bool
still_removable(const Removal *removal)
{
	const PartitionPass *pass = removal->pass;
	const PartitionLeaf *leaves;
	int count;
	bool stale;

	if (removal->leaf->begun)
		leaves = dashie_partition_begun(pass->parent, &count, &stale);
	else
	{
		Relation parent = relation_open(pass->parent, NoLock);
		PartitionSet *set = dashie_partition_read(parent);

		relation_close(parent, NoLock);
		leaves = set->leaves;
		count = set->count;
	}
	for (int i = 0; i < count; i++)
		if (leaves[i].relid == removal->leaf->relid)
			return leaves[i].detaching == removal->leaf->detaching &&
				   dashie_partition_removable(pass, &leaves[i]);
	return false;
}

/*
 * has_rows waits for nobody: what is locked exclusively may have some.
 */
static bool
has_rows(Oid leaf)
{
	Relation rel;
	bool result;

	if (!ConditionalLockRelationOid(leaf, AccessShareLock))
		return true;
	rel = try_relation_open(leaf, NoLock);
	result = rel != NULL && RelationGetNumberOfBlocks(rel) > 0;
	if (rel != NULL)
		relation_close(rel, NoLock);
	UnlockRelationOid(leaf, AccessShareLock);
	return result;
}

/*
 * plan decides between emptying and dropping, and lists the locks.  A pending
 * leaf can only be emptied; what is empty waits for FINALIZE.
 */
static void
plan(Removal *removal)
{
	const PartitionLeaf *leaf = removal->leaf;
	Oid parent = removal->pass->parent;

	removal->truncate = leaf->relkind == RELKIND_RELATION &&
						(removal->pass->steps || leaf->detaching) && has_rows(leaf->relid);
	removal->gone = leaf->detaching && !removal->truncate;
	if (leaf->detached && !removal->truncate)
	{
		removal->needs = dashie_partition_create_locks(leaf->relid, &removal->nneeds);
		/* the leaf, which stands where a parent would, comes last */
		memmove(removal->needs, removal->needs + 1, (removal->nneeds - 1) * sizeof(LockNeed));
		removal->needs[removal->nneeds - 1].relid = leaf->relid;
		for (int i = 0; i < removal->nneeds; i++)
			removal->needs[i].mode = AccessExclusiveLock;
		return;
	}
	removal->needs = palloc0(2 * sizeof(LockNeed));
	removal->nneeds = 0;
	if (!leaf->detached)
	{
		removal->needs[0].relid = parent;
		removal->needs[0].mode = removal->truncate ? ShareUpdateExclusiveLock : AccessExclusiveLock;
		removal->nneeds++;
	}
	removal->needs[removal->nneeds].relid = leaf->relid;
	removal->needs[removal->nneeds].mode = AccessExclusiveLock;
	removal->nneeds++;
}

/*
 * is_counted tells whether the days of the partition are in the rollups, final
 * and unchanged since, and keeps rollups out until the end of the transaction.
 * Asked before the partition is locked, for the order of the locks, and after:
 * somebody may have written until then.
 */
static bool
is_counted(const PartitionLeaf *leaf)
{
	return leaf->range.upper <= dashie_events_complete_before();
}

/*
 * dashie_partition_close_days tells the rollups that the rows of a partition are
 * missed by nobody from now on; false if its days are not counted yet.  As the
 * owner of widget_analytics, with the partition locked, in the transaction that
 * takes the rows away.
 */
bool
dashie_partition_close_days(const PartitionLeaf *leaf)
{
	if (!is_counted(leaf))
		return false;
	if (leaf->relkind == RELKIND_RELATION && !has_rows(leaf->relid))
		return true;
	dashie_query_begin();
	dashie_retention_raise_floor("widget_analytics", leaf->range.upper);
	dashie_query_end();
	return true;
}

/*
 * remove_leaf is the piece of work that a lock not to be had undoes.
 */
static void
remove_leaf(void *arg)
{
	Removal *removal = arg;

	plan(removal);
	if (removal->gone)
		return;
	if (removal->pass->dry_run)
	{
		removal->held = removal->leaf->range.upper > dashie_events_complete_now();
		return;
	}
	removal->held = !is_counted(removal->leaf);
	if (removal->held)
		return;
	dashie_archive_begin(&removal->archiving, removal->leaf->relid, removal->needs, removal->nneeds,
						 removal->pass->lock_budget_ms);
	dashie_archive_lock(&removal->archiving, removal->needs, removal->nneeds,
						removal->pass->lock_budget_ms, removal->pass->steps);
	dashie_archive_end(&removal->archiving, removal->leaf);
	removal->gone = !still_removable(removal);
	if (removal->gone)
		return;
	removal->held = !dashie_partition_close_days(removal->leaf);
	if (removal->held)
		return;

	dashie_query_begin();
	dashie_command(psprintf(removal->truncate ? "TRUNCATE TABLE ONLY %s" : "DROP TABLE %s",
							dashie_relation_name(removal->leaf->relid)));
	dashie_query_end();
}

/*
 * plan_text names the locks for a dry run.  A job empties the leaf in a step
 * before, which is told too.
 */
static char *
plan_text(const Removal *removal)
{
	PartitionPass in_steps = *removal->pass;
	Removal first = {&in_steps, removal->leaf};
	char *text = dashie_lock_text(removal->needs, removal->nneeds);

	in_steps.steps = true;
	plan(&first);
	if (removal->truncate || !first.truncate)
		return text;
	return psprintf("%s; a job empties it first, with %s", text,
					dashie_lock_text(first.needs, first.nneeds));
}

static const char *
archived_first(void)
{
	Archiver *archiver = dashie_archiver();

	return archiver == NULL ? ""
							: psprintf("; archived by %s first", dashie_archiver_name(archiver));
}

static PartitionAction
describe(const PartitionPass *pass, const PartitionLeaf *leaf)
{
	PartitionAction action = {"remove", leaf->name, leaf->range.lower, leaf->range.upper};

	dashie_partition_measure(leaf->relid, &action.rows, &action.bytes);
	action.reason = psprintf(
		"older than the retention of %s%s",
		DatumGetCString(DirectFunctionCall1(interval_out, PointerGetDatum(pass->window.keep))),
		leaf->begun ? "; detached, because the table was never free" : "");
	return action;
}

/*
 * try_to_remove removes one expired leaf, or plans it, and reports that.
 * "refused" gets an error that is not about a lock.
 */
static PartitionRemoval
try_to_remove(PartitionPass *pass, const PartitionLeaf *leaf, ErrorData **refused)
{
	LockNeed leaf_alone = {leaf->relid, AccessExclusiveLock};
	Removal removal = {pass, leaf, &leaf_alone, 1};
	PartitionAction action = describe(pass, leaf);
	const char *kept;
	TimestampTz until;
	PartitionRemoval result = REMOVED_NOTHING;
	ErrorData *error;

	if (leaf->relkind == RELKIND_FOREIGN_TABLE)
	{
		action.action = "blocked";
		action.reason = "expired, but a foreign table: its rows are not here to remove";
	}
	else if ((kept = dashie_partition_keep_reason(leaf, &pass->window, &until)) != NULL)
	{
		action.action = "hold";
		action.reason = kept;
	}
	else if (pass->in_haste && dashie_archiver() != NULL)
	{
		action.action = "hold";
		action.reason = "to be archived by the next call: writers would wait for what creating "
						"partitions has locked";
	}
	else if ((error = dashie_attempt(remove_leaf, &removal)) != NULL)
	{
		if (removal.archiving.at_work)
			dashie_archive_failed(pass, leaf, error, &action);
		else if (dashie_partition_blocked(pass, error, removal.needs, removal.nneeds, &action))
			result = REMOVAL_BLOCKED;
		else
			*refused = error;
	}
	else if (removal.gone)
		return REMOVED_NOTHING;
	else if (removal.held)
	{
		pass->held = true;
		action.action = "hold";
		action.reason = "its days, and those after them, are not in the rollups of events yet";
	}
	else if (pass->dry_run)
	{
		action.reason = psprintf("%s%s", action.reason, archived_first());
		action.locks = plan_text(&removal);
		action.blocked_by = dashie_lock_holders(removal.needs, removal.nneeds);
	}
	else
	{
		result = REMOVED_ONE;
		if (removal.truncate)
			pass->rows += Max(action.rows, 0);
	}
	if (pass->report != NULL)
		pass->report(&action, pass->report_arg);
	return result;
}

/*
 * is_stuck tells whether it is the parent that somebody has in use.
 */
static bool
is_stuck(const PartitionPass *pass, const PartitionLeaf *leaf)
{
	const LockNeed need = {pass->parent, AccessExclusiveLock};

	return leaf->relkind == RELKIND_RELATION && dashie_lock_holders(&need, 1) != NULL;
}

/*
 * dashie_partition_remove removes the oldest expired partition that can be
 * removed, and reports it and those before it that could not be.  With dry_run
 * it reports every expired one.
 */
PartitionRemoval
dashie_partition_remove(PartitionPass *pass)
{
	PartitionRemoval result = REMOVED_NOTHING;
	bool parent_taken = false;
	bool pending = false;
	ErrorData *refused = NULL;

	for (int i = 0; i < pass->nbegun && result != REMOVED_ONE; i++)
		if (expired(&pass->begun[i], &pass->window))
		{
			PartitionRemoval removal = try_to_remove(pass, &pass->begun[i], &refused);

			result = Max(result, removal);
		}

	for (int i = 0; i < pass->set->count; i++)
		pending = pending || pass->set->leaves[i].detaching;
	for (int i = 0; i < pass->set->count && result != REMOVED_ONE && !pass->held; i++)
	{
		const PartitionLeaf *leaf = &pass->set->leaves[i];
		PartitionRemoval removal;

		if (!expired(leaf, &pass->window))
			break;
		/* once the parent was not to be had, only what does without it: emptying leaves */
		if (leaf->detaching ||
			(parent_taken &&
			 !(pass->steps && leaf->relkind == RELKIND_RELATION && has_rows(leaf->relid))))
			continue;
		removal = try_to_remove(pass, leaf, &refused);
		if (removal == REMOVAL_BLOCKED)
		{
			if (!parent_taken && !pending && pass->steps && is_stuck(pass, leaf))
				pass->stuck = leaf->relid;
			parent_taken = true;
		}
		result = Max(result, removal);
	}

	/* a job has no rows to show: what stands in the way of all that is left is its error */
	if (pass->steps && result == REMOVED_NOTHING && refused != NULL && pass->complaint == NULL)
		ReThrowError(refused);
	return result;
}
