/*
 * blocks.h
 *		The blocks of a table that hold what ranges of its indexes name.
 *
 * For reading many rows that lie together: each block is read once, with all
 * its visible rows, whichever range named it.
 */
#ifndef DASHIE_BLOCKS_H
#define DASHIE_BLOCKS_H

#include "postgres.h"

#include "common/relation.h"
#include "port/atomics.h"

struct DashieBlocks
{
	Relation rel;
	Snapshot snapshot;
	BlockNumber size;		/* blocks that can hold a row which the snapshot sees */
	uint64 *words;			/* a bit a block */
	pg_atomic_uint32 *turn; /* of a set that processes divide between them; else NULL */
};

/* Can blocks of this table be read by themselves? */
extern bool dashie_blocks_readable(Relation rel);
extern DashieBlocks *dashie_blocks_create(Relation rel, Snapshot snapshot);
/* Adds [from, upto) of an index whose first column is a timestamptz; returns how many entries. */
extern uint64
dashie_blocks_add(DashieBlocks *blocks, Oid indexid, TimestampTz from, TimestampTz upto);
/* The first of those in [from, upto), with the last of its neighbours; false if there is none. */
extern bool dashie_blocks_next(const DashieBlocks *blocks, BlockNumber from, BlockNumber upto,
							   BlockNumber *first, BlockNumber *last);
extern bool dashie_blocks_take(const DashieBlocks *blocks, BlockNumber *from, BlockNumber *upto);
extern Size dashie_blocks_shared_bytes(const DashieBlocks *blocks);
extern void dashie_blocks_share(const DashieBlocks *blocks, void *memory);
extern DashieBlocks *dashie_blocks_attach(Relation rel, Snapshot snapshot, void *memory);
extern uint64 dashie_blocks_count(const DashieBlocks *blocks);
extern void dashie_blocks_free(DashieBlocks *blocks);

#endif /* DASHIE_BLOCKS_H */
