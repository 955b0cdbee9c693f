/*
 * archive.c
 *		A partition's archiving beside its readers and writers.
 *
 * The archiver and the TRUNCATE (or DROP) are one transaction, so that neither
 * happens without the other.  While the archiver works, which may take minutes,
 * the partition is locked in SHARE UPDATE EXCLUSIVE: one archives it at a time,
 * and readers and writers go on.  A lock that keeps writers out would be
 * simpler, and would make the deletion of a user wait for the archiver.  Then
 * ACCESS EXCLUSIVE is taken, within the usual short time, and every row is seen
 * to be what it was before the archiver began: a row that came, changed or went
 * since undoes the whole, and the partition stays for a later try.
 *
 * That look has to be quick, so it is taken twice: once before the lock, at
 * leisure, and then only at pages that were written since, which their LSN tells.
 * A page that is all-visible in the visibility map is not even read: what is
 * visible to everybody is so to the snapshot from before the archiver, which is
 * held, and to the newest.
 *
 * Run by the removal of partitions, as the owner of widget_analytics, in a
 * subtransaction of its own.  Order of locks: parent, partition; but the parent
 * may be waited for while the partition is locked as above, so two that remove
 * the same one can block each other: the timeout ends that.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/visibilitymap.h"
#include "access/xlog.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/setting.h"
#include "jobs/job.h"
#include "partition/keep.h"

/* A look at the rows of a partition. */
typedef struct Look
{
	Snapshot then; /* before the archiver began */
	Snapshot now;
	XLogRecPtr looked_at; /* pages not written since need no second look; 0: all do */
	bool pending;		  /* out: not all that was seen is settled: the next look takes all */
} Look;

/*
 * page_changed tells whether a page has a tuple that one of the snapshots sees
 * and the other does not.
 */
static bool
page_changed(Relation rel, BlockNumber block, Look *look)
{
	Buffer buffer = ReadBuffer(rel, block);
	Page page = BufferGetPage(buffer);
	bool changed = false;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	if (look->looked_at == InvalidXLogRecPtr || PageGetLSN(page) >= look->looked_at)
		for (OffsetNumber offset = FirstOffsetNumber;
			 !changed && offset <= PageGetMaxOffsetNumber(page); offset = OffsetNumberNext(offset))
		{
			ItemId item = PageGetItemId(page, offset);
			HeapTupleData tuple;
			TransactionId dead_after;
			HTSV_Result state;
			bool visible;

			if (!ItemIdIsNormal(item))
				continue;
			tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
			tuple.t_len = ItemIdGetLength(item);
			tuple.t_tableOid = RelationGetRelid(rel);
			ItemPointerSet(&tuple.t_self, block, offset);
			visible = HeapTupleSatisfiesVisibility(&tuple, look->now, buffer);
			changed = HeapTupleSatisfiesVisibility(&tuple, look->then, buffer) != visible;

			/* also what was committed since the snapshot was taken */
			state = HeapTupleSatisfiesVacuumHorizon(&tuple, buffer, &dead_after);
			if (visible ? state != HEAPTUPLE_LIVE
						: state != HEAPTUPLE_DEAD && state != HEAPTUPLE_RECENTLY_DEAD)
				look->pending = true;
		}
	UnlockReleaseBuffer(buffer);
	return changed;
}

static bool
table_changed(Relation rel, Look *look)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	Buffer map = InvalidBuffer;
	bool changed = false;

	for (BlockNumber block = 0; !changed && block < nblocks; block++)
	{
		CHECK_FOR_INTERRUPTS();
		changed = !VM_ALL_VISIBLE(rel, block, &map) && page_changed(rel, block, look);
	}
	if (BufferIsValid(map))
		ReleaseBuffer(map);
	return changed;
}

/*
 * require_unchanged fails if a row came, changed or went since the snapshot
 * from before the archiver, and sets archiving->looked_at for the next look.
 */
static void
require_unchanged(PartitionArchiving *archiving, List *parts)
{
	XLogRecPtr begin = GetXLogInsertRecPtr();
	Look look = {archiving->snapshot, RegisterSnapshot(GetLatestSnapshot()), archiving->looked_at};
	ListCell *lc;

	archiving->at_work = true;
	foreach (lc, parts)
	{
		Relation rel = lfirst(lc);

		if (table_changed(rel, &look))
			ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
							errmsg("rows came, changed or went while it was archived")));
		if (!RelationNeedsWAL(rel))
			look.pending = true;
		relation_close(rel, NoLock);
	}
	UnregisterSnapshot(look.now);
	archiving->at_work = false;
	archiving->looked_at = look.pending ? InvalidXLogRecPtr : begin;
}

/*
 * open_parts locks a partition and those that it may have itself, and opens the
 * ones that hold rows; NIL if it is gone.
 */
static List *
open_parts(Oid leaf, LOCKMODE lockmode)
{
	List *parts = NIL;
	ListCell *lc;

	LockRelationOid(leaf, lockmode);
	foreach (lc, find_all_inheritors(leaf, lockmode, NULL))
	{
		Relation rel = try_relation_open(lfirst_oid(lc), NoLock);

		if (rel == NULL)
			continue;
		if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		{
			relation_close(rel, NoLock);
			continue;
		}
		if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relam != HEAP_TABLE_AM_OID)
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							errmsg("\"%s\" cannot be archived", RelationGetRelationName(rel)),
							errdetail("It is not a plain table of access method heap.")));
		parts = lappend(parts, rel);
	}
	return parts;
}

/*
 * dashie_archive_begin has the archiver, if there is one, take what a partition
 * holds.  "needs" are the locks of the removal that follows: they are tried
 * first, so that nothing is archived in vain beside a long reader.
 */
void
dashie_archive_begin(PartitionArchiving *archiving, Oid leaf, const LockNeed *needs, int nneeds,
					 int lock_budget_ms)
{
	BlockNumber nblocks = 0;
	List *parts;
	ListCell *lc;

	archiving->archiver = dashie_archiver();
	if (archiving->archiver == NULL)
		return;
	dashie_lock_together(needs, nneeds, lock_budget_ms);
	for (int i = 0; i < nneeds; i++)
		UnlockRelationOid(needs[i].relid, needs[i].mode);

	parts = open_parts(leaf, ShareUpdateExclusiveLock);
	/* before the look for rows: one that it sees is also found by that */
	archiving->snapshot = RegisterSnapshot(GetTransactionSnapshot());
	foreach (lc, parts)
	{
		nblocks += RelationGetNumberOfBlocks((Relation) lfirst(lc));
		relation_close(lfirst(lc), NoLock);
	}
	if (nblocks == 0)
		return;
	archiving->at_work = true;
	dashie_archiver_call(archiving->archiver, leaf);
	require_unchanged(archiving, open_parts(leaf, ShareUpdateExclusiveLock));
}

typedef struct FinalLocks
{
	const LockNeed *needs;
	int nneeds;
	int budget_ms;
} FinalLocks;

static void
take_locks(void *arg)
{
	FinalLocks *locks = arg;

	dashie_lock_together(locks->needs, locks->nneeds, locks->budget_ms);
}

/*
 * dashie_archive_lock takes the locks of the removal.  What the archiver did is
 * worth more than one attempt; in a caller's transaction, whose locks others
 * may wait for, there is only one.
 */
void
dashie_archive_lock(const PartitionArchiving *archiving, const LockNeed *needs, int nneeds,
					int lock_budget_ms, bool patient)
{
	FinalLocks locks = {needs, nneeds, lock_budget_ms};
	int64 retries = patient && archiving->archiver != NULL ? dashie_setting_int("lock_retries") : 0;
	ErrorData *error;

	while ((error = dashie_attempt(take_locks, &locks)) != NULL)
	{
		if (!dashie_is_blocked(error) || retries-- <= 0)
			ReThrowError(error);
		dashie_job_pause();
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * dashie_archive_end fails if the partition, which is locked by now, is not what
 * the archiver has seen.
 */
void
dashie_archive_end(PartitionArchiving *archiving, const PartitionLeaf *leaf)
{
	if (archiving->archiver == NULL)
		return;
	require_unchanged(archiving, open_parts(leaf->relid, AccessExclusiveLock));
	UnregisterSnapshot(archiving->snapshot);
	dashie_archive_succeeded(leaf);
}
