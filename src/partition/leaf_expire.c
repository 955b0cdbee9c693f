/*
 * leaf_expire.c
 *		Removing partitions whose retention is over.
 *
 * Run by maintain_partitions(), apply_retention() and their jobs, as the owner
 * of widget_analytics.  Never DETACH and then DROP: a detached partition keeps
 * its foreign keys' triggers on auth.users, and its DROP locks that table
 * against every reader.  DROP of an attached leaf locks the parent and the
 * leaf, in that order.
 *
 * In a job the leaf is emptied first, in a transaction of its own that locks
 * the leaf alone, so that the lock on the parent is held for no longer than
 * the catalog needs.  In a function both would be held until the caller's
 * transaction ends anyway: there it is one DROP, of one partition.
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
#include "partition/partition.h"

typedef struct Removal
{
	PartitionPass *pass;
	const PartitionLeaf *leaf;
	LockNeed needs[2]; /* parent, leaf */
	bool truncate;	   /* else drop */
	bool gone;		   /* out: someone else removed it, or its bounds are others now */
} Removal;

static bool
expired(const PartitionLeaf *leaf, const PartitionWindow *window)
{
	return leaf->range.upper <= window->cutoff;
}

/*
 * still_expired looks again, with the parent locked.
 */
static bool
still_expired(Removal *removal)
{
	Relation parent = relation_open(removal->pass->parent, NoLock);
	PartitionSet *set = dashie_partition_read(parent);

	relation_close(parent, NoLock);
	for (int i = 0; i < set->count; i++)
		if (set->leaves[i].relid == removal->leaf->relid)
			return expired(&set->leaves[i], &removal->pass->window);
	return false;
}

static bool
has_rows(Oid leaf)
{
	Relation rel = try_relation_open(leaf, AccessShareLock);
	bool result;

	if (rel == NULL)
		return false;
	result = RelationGetNumberOfBlocks(rel) > 0;
	relation_close(rel, AccessShareLock);
	return result;
}

/*
 * remove_leaf is the piece of work that a lock not to be had undoes.
 */
static void
remove_leaf(void *arg)
{
	Removal *removal = arg;

	removal->truncate = removal->pass->steps && removal->leaf->relkind == RELKIND_RELATION &&
						has_rows(removal->leaf->relid);
	if (removal->truncate)
		removal->needs[0].mode = ShareUpdateExclusiveLock;
	dashie_lock_together(removal->needs, lengthof(removal->needs), removal->pass->lock_budget_ms);
	removal->gone = !still_expired(removal);
	if (removal->gone)
		return;

	dashie_query_begin();
	dashie_command(psprintf(removal->truncate ? "TRUNCATE TABLE ONLY %s" : "DROP TABLE %s",
							dashie_relation_name(removal->leaf->relid)));
	dashie_query_end();
}

/*
 * refusal says why a partition is never ours to remove; NULL if it is.
 */
static const char *
refusal(const PartitionLeaf *leaf)
{
	if (leaf->relkind == RELKIND_FOREIGN_TABLE)
		return "expired, but a foreign table: its rows are not here to remove";
	if (leaf->detaching)
		return "expired, but DETACH CONCURRENTLY was begun and not finished: run ALTER TABLE ... "
			   "DETACH PARTITION ... FINALIZE";
	return NULL;
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
	ErrorData *refused = NULL;

	for (int i = 0; i < pass->set->count && result != REMOVED_ONE; i++)
	{
		const PartitionLeaf *leaf = &pass->set->leaves[i];
		Removal removal = {pass, leaf};
		PartitionAction action = {"remove", leaf->name, leaf->range.lower, leaf->range.upper};
		const char *why_not = refusal(leaf);
		ErrorData *error;

		if (!expired(leaf, &pass->window))
			break;

		removal.needs[0].relid = pass->parent;
		removal.needs[1].relid = leaf->relid;
		removal.needs[0].mode = removal.needs[1].mode = AccessExclusiveLock;
		dashie_partition_measure(leaf->relid, &action.rows, &action.bytes);
		action.reason = psprintf(
			"older than the retention of %s",
			DatumGetCString(DirectFunctionCall1(interval_out, PointerGetDatum(pass->window.keep))));

		/* once the parent was not to be had, only what does without it: emptying leaves */
		if (result == REMOVAL_BLOCKED &&
			!(pass->steps && leaf->relkind == RELKIND_RELATION && action.rows > 0))
			continue;
		if (why_not != NULL)
		{
			action.action = "blocked";
			action.reason = why_not;
		}
		else if (pass->dry_run)
		{
			action.locks = dashie_lock_text(removal.needs, lengthof(removal.needs));
			action.blocked_by = dashie_lock_holders(removal.needs, lengthof(removal.needs));
		}
		else if ((error = dashie_attempt(remove_leaf, &removal)) != NULL)
		{
			if (dashie_partition_blocked(pass, error, removal.needs, lengthof(removal.needs),
										 &action))
				result = REMOVAL_BLOCKED;
			else
				refused = error;
		}
		else if (removal.gone)
			continue;
		else
		{
			result = REMOVED_ONE;
			if (removal.truncate)
				pass->rows += Max(action.rows, 0);
		}
		if (pass->report != NULL)
			pass->report(&action, pass->report_arg);
	}

	/* a job has no rows to show: what stands in the way of all that is left is its error */
	if (pass->steps && result == REMOVED_NOTHING && refused != NULL)
		ReThrowError(refused);
	return result;
}
