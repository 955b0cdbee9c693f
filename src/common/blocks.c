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

/* What several processes share of a set: after it come its words. */
typedef struct SharedBlocks
{
	BlockNumber size;
	pg_atomic_uint32 turn; /* of the words, that has not been taken */
} SharedBlocks;

static Size
words_bytes(BlockNumber size)
{
	return ((Size) size / BITS + 1) * sizeof(uint64);
}

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
	blocks->words = palloc0(words_bytes(blocks->size));
	blocks->turn = NULL;
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
	return pg_popcount((const char *) blocks->words, (int) words_bytes(blocks->size));
}

/* dashie_blocks_shared_bytes is the room that dashie_blocks_share() needs. */
Size
dashie_blocks_shared_bytes(const DashieBlocks *blocks)
{
	return MAXALIGN(sizeof(SharedBlocks)) + words_bytes(blocks->size);
}

/*
 * dashie_blocks_share copies a set into shared memory, for processes that each
 * attach to it and divide it between them.
 */
void
dashie_blocks_share(const DashieBlocks *blocks, void *memory)
{
	SharedBlocks *shared = memory;

	shared->size = blocks->size;
	pg_atomic_init_u32(&shared->turn, 0);
	memcpy((char *) memory + MAXALIGN(sizeof(SharedBlocks)), blocks->words,
		   words_bytes(blocks->size));
}

/* dashie_blocks_attach makes a process' own view of a shared set, of the same table. */
DashieBlocks *
dashie_blocks_attach(Relation rel, Snapshot snapshot, void *memory)
{
	DashieBlocks *blocks = palloc(sizeof(DashieBlocks));
	SharedBlocks *shared = memory;

	blocks->rel = rel;
	blocks->snapshot = snapshot;
	blocks->size = shared->size;
	blocks->words = (uint64 *) ((char *) memory + MAXALIGN(sizeof(SharedBlocks)));
	blocks->turn = &shared->turn;
	return blocks;
}

/*
 * dashie_blocks_take gives a reader the next stretch [*from, *upto) of the table
 * to look for blocks in; false after the last.  Both are 0 at first.  A set that is
 * shared is given out in small ones.
 */
bool
dashie_blocks_take(const DashieBlocks *blocks, BlockNumber *from, BlockNumber *upto)
{
	uint32 word;

	if (blocks->turn == NULL)
	{
		*from = *upto;
		*upto = blocks->size;
		return *from < *upto;
	}
	do
	{
		word = pg_atomic_fetch_add_u32(blocks->turn, 1);
		if (word > blocks->size / BITS)
			return false;
	} while (blocks->words[word] == 0);
	*from = word * BITS;
	*upto = Min((uint64) blocks->size, ((uint64) word + 1) * BITS);
	return true;
}

static bool
contains(const DashieBlocks *blocks, BlockNumber block)
{
	return (blocks->words[block / BITS] >> block % BITS & 1) != 0;
}

/*
 * dashie_blocks_next finds the next blocks below "upto" that follow one another.
 */
bool
dashie_blocks_next(const DashieBlocks *blocks, BlockNumber from, BlockNumber upto,
				   BlockNumber *first, BlockNumber *last)
{
	while (from < upto && !contains(blocks, from))
	{
		uint64 rest = blocks->words[from / BITS] >> from % BITS;

		if (rest == 0)
			from = (from / BITS + 1) * BITS;
		else
			from += pg_rightmost_one_pos64(rest);
	}
	if (from >= upto)
		return false;
	*first = *last = from;
	while (*last + 1 < upto && contains(blocks, *last + 1))
		(*last)++;
	return true;
}
