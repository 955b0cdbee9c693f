/*
 * blocks.c
 *		The blocks of a table that hold what ranges of its indexes name.
 *
 * An index entry leads to the block of its row, and of each version of it that
 * has the same indexed values: so the visible rows of the blocks are those that
 * an index scan would find, and their neighbours.  Reading a block once costs
 * what four or five visits of single rows do.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/bufmgr.h"

#include "common/blocks.h"

#define BITS 64

/*
 * dashie_blocks_readable says whether the table's access method can read a
 * range of row addresses.
 */
bool
dashie_blocks_readable(Relation rel)
{
	return rel->rd_tableam->scan_set_tidrange != NULL;
}

/*
 * dashie_blocks_create makes an empty set.  The snapshot is older than the
 * call: a row that it sees lies in a block that is there now.
 */
DashieBlocks *
dashie_blocks_create(Relation rel, Snapshot snapshot)
{
	DashieBlocks *blocks = palloc(sizeof(DashieBlocks));

	blocks->rel = rel;
	blocks->snapshot = snapshot;
	blocks->size = RelationGetNumberOfBlocks(rel);
	blocks->words = palloc0(((Size) blocks->size / BITS + 1) * sizeof(uint64));
	return blocks;
}

void
dashie_blocks_free(DashieBlocks *blocks)
{
	pfree(blocks->words);
	pfree(blocks);
}

uint64
dashie_blocks_add(DashieBlocks *blocks, Oid indexid, TimestampTz from, TimestampTz upto)
{
	DashieScan *scan = dashie_scan_begin_index(blocks->rel, blocks->snapshot, indexid, from, upto);
	ItemPointer tid;
	uint64 count = 0;

	while ((tid = index_getnext_tid(scan->lookup, ForwardScanDirection)) != NULL)
	{
		BlockNumber block = ItemPointerGetBlockNumber(tid);

		CHECK_FOR_INTERRUPTS();
		count++;
		if (block < blocks->size)
			blocks->words[block / BITS] |= UINT64CONST(1) << block % BITS;
	}
	dashie_scan_end(scan);
	return count;
}

uint64
dashie_blocks_count(const DashieBlocks *blocks)
{
	return pg_popcount((const char *) blocks->words,
					   (int) ((blocks->size / BITS + 1) * sizeof(uint64)));
}

static bool
contains(const DashieBlocks *blocks, BlockNumber block)
{
	return (blocks->words[block / BITS] >> block % BITS & 1) != 0;
}

/*
 * dashie_blocks_next finds the next stretch of blocks that follow one another.
 */
bool
dashie_blocks_next(const DashieBlocks *blocks, BlockNumber from, BlockNumber *first,
				   BlockNumber *last)
{
	while (from < blocks->size && !contains(blocks, from))
	{
		uint64 rest = blocks->words[from / BITS] >> from % BITS;

		if (rest == 0)
			from = (from / BITS + 1) * BITS;
		else
			from += pg_rightmost_one_pos64(rest);
	}
	if (from >= blocks->size)
		return false;
	*first = *last = from;
	while (*last + 1 < blocks->size && contains(blocks, *last + 1))
		(*last)++;
	return true;
}
