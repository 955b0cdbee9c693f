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
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "storage/bufmgr.h"

#include "common/blocks.h"

#define BITS 64

typedef struct SharedBlocks
{
	pg_atomic_uint32 next_word; /* nobody has taken its blocks yet */
	BlockNumber size;
	uint64 words[FLEXIBLE_ARRAY_MEMBER];
} SharedBlocks;

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
	blocks->shared = NULL;
	return blocks;
}

void
dashie_blocks_free(DashieBlocks *blocks)
{
	if (blocks->shared == NULL)
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

/* The next stretch of neighbours in [from, upto). */
static bool
find_stretch(const DashieBlocks *blocks, BlockNumber from, BlockNumber upto, BlockNumber *first,
			 BlockNumber *last)
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

/*
 * dashie_blocks_next finds the next stretch of blocks that follow one another.
 * Of a shared set it takes as many blocks as a word holds, when it is through
 * with those that it took before.
 */
bool
dashie_blocks_next(DashieBlocks *blocks, BlockNumber from, BlockNumber *first, BlockNumber *last)
{
	if (blocks->shared == NULL)
		return find_stretch(blocks, from, blocks->size, first, last);
	while (!find_stretch(blocks, from, blocks->taken_upto, first, last))
	{
		uint32 word = pg_atomic_fetch_add_u32(&blocks->shared->next_word, 1);

		if (word > (blocks->size - 1) / BITS)
			return false;
		from = word * BITS;
		blocks->taken_upto = Min(blocks->size, from + BITS);
	}
	return true;
}

static Size
words_size(BlockNumber size)
{
	return ((Size) size / BITS + 1) * sizeof(uint64);
}

Size
dashie_blocks_shared_size(const DashieBlocks *blocks)
{
	return offsetof(SharedBlocks, words) + words_size(blocks->size);
}

void
dashie_blocks_share(const DashieBlocks *blocks, void *memory)
{
	SharedBlocks *shared = memory;

	pg_atomic_init_u32(&shared->next_word, 0);
	shared->size = blocks->size;
	memcpy(shared->words, blocks->words, words_size(blocks->size));
}

/*
 * dashie_blocks_attach makes a set of what is shared, whose blocks go to
 * whoever asks for them first.  It must not outlast the shared memory.
 */
DashieBlocks *
dashie_blocks_attach(Relation rel, Snapshot snapshot, void *memory)
{
	DashieBlocks *blocks = palloc(sizeof(DashieBlocks));

	blocks->rel = rel;
	blocks->snapshot = snapshot;
	blocks->shared = memory;
	blocks->size = blocks->shared->size;
	blocks->words = blocks->shared->words;
	blocks->taken_upto = 0;
	return blocks;
}
