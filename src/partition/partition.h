/*
 * partition.h
 *		Daily partitions of widget_analytics: what other slices call.
 */
#ifndef DASHIE_PARTITION_H
#define DASHIE_PARTITION_H

#include "postgres.h"

#include "common/owner.h"

/*
 * Called by enable() after the parent exists: makes every missing partition,
 * as the current user, in the caller's transaction.
 */
extern void dashie_partition_cover(Oid parent);

/*
 * Called by enable() when an unpartitioned table stands under the name:
 * replaces it by a partitioned one with the same rows.  "ddl" is a callback
 * that creates the roadmap's table under the same name in the same schema.
 */
typedef void (*PartitionCreateParent) (void *arg);
extern void dashie_partition_convert(Oid plain, PartitionCreateParent create, void *arg);

/* One expired partition removed (or, with dry_run, all listed) by apply_retention(). */
struct DashieRows;

#endif							/* DASHIE_PARTITION_H */
