/*
 * keep.h
 *		What keeps an expired partition, and the archiver that has to confirm
 *		before it goes; inside the slice.
 *
 *		leaf_hold.c		holds, and the gate
 *		archiver.c		which function it is, and what came of calling it
 *		archive.c		a partition's archiving beside its readers and writers
 *		archive_table.c	the archiver that comes along
 */
#ifndef DASHIE_KEEP_H
#define DASHIE_KEEP_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "common/owner.h"
#include "common/relation.h"
#include "partition/partition.h"
#include "utils/snapshot.h"

/* leaf_hold.c: rows of one of our own tables, and its owner */
typedef struct KeptRows
{
	Relation rel;
	Snapshot snapshot;
	DashieScan *scan;
} KeptRows;

extern bool dashie_kept_open(KeptRows *rows, const char *name, DashieColumn *columns, int ncolumns);
extern void dashie_kept_close(KeptRows *rows);
extern void dashie_kept_become_owner(const DashieGuard *guard, const char *name);

/* archiver.c */
typedef struct Archiver
{
	char *schema;
	char *function;
} Archiver;

extern Archiver *dashie_archiver(void); /* NULL: none is set */
extern char *dashie_archiver_name(const Archiver *archiver);
extern void dashie_archiver_call(const Archiver *archiver, Oid leaf);
extern char *dashie_archive_waits(const PartitionLeaf *leaf, TimestampTz *until);
extern void dashie_archive_failed(PartitionPass *pass, const PartitionLeaf *leaf, ErrorData *error,
								  PartitionAction *action);
extern void dashie_archive_succeeded(const PartitionLeaf *leaf);

/* archive.c: what goes around the locks of a removal, in this order */
typedef struct PartitionArchiving
{
	Archiver *archiver;	  /* NULL: there is none */
	Snapshot snapshot;	  /* no newer than what the archiver sees */
	XLogRecPtr looked_at; /* see archive.c */
	bool at_work;		  /* an error now is the archiver's */
} PartitionArchiving;

extern void dashie_archive_begin(PartitionArchiving *archiving, Oid leaf, const LockNeed *needs,
								 int nneeds, int lock_budget_ms);
extern void dashie_archive_lock(const PartitionArchiving *archiving, const LockNeed *needs,
								int nneeds, int lock_budget_ms, bool patient);
extern void dashie_archive_end(PartitionArchiving *archiving, const PartitionLeaf *leaf);

#endif /* DASHIE_KEEP_H */
