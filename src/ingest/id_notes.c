/*
 * id_notes.c
 *		Which ids the partitions of quiet days have, as far as this backend has noted.
 *
 * Partitions of past days change rarely, and each batch of random ids would read
 * nearly all leaves of the indexes of all of them again.  So a backend notes the
 * ids that a partition has, in two bytes each: they tell of nearly all other ids
 * that it has none of them.
 *
 * A note holds as long as the pages of the table are what they were (PageState).
 * Whatever adds a row to a page that the visibility map calls all-visible takes that
 * away, and fewer pages are.  VACUUM gives it back, which leaves its place in the WAL
 * on the page of the map.  So the map says the same of each page as long as these
 * places and the number are the same.  Whatever changes any other page of the table
 * leaves its own place there.  Places in the WAL grow: what is changed after they were
 * read makes their sum a larger one, and the latest of them a later one.  What was
 * committed before the caller's snapshot was taken has left its traces before they are
 * looked at.  The caller has locked the partition: its file stays, and is not cut.
 *
 * The ids are read after the state, whatever has changed since: those of pages that are
 * all-visible by then are all in the index; the rows of other pages are read
 * themselves, as their entries or their commit may be still to come.
 *
 * Tables that write no WAL get no notes, nor those with too many pages that VACUUM has
 * not seen, nor those whose file this transaction has made: there COPY FREEZE adds rows
 * to all-visible pages.  The room is limited; what does not fit is looked for as if
 * there were no notes.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/visibilitymap.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/bufmgr.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/relation.h"
#include "ingest/ingest.h"

/* What the notes of a backend may take. */
#define ROOM_BYTES (4 * 1024 * 1024)
/* A note that was not used for this long makes room for others. */
#define IDLE_USECS (10 * USECS_PER_MINUTE)
/* To look into a leaf takes as long as to see whether as many pages of the table have changed. */
#define PAGES_OF_LEAF 3
/* Pages whose ids a call may note for each of its own: a small one does not wait for all notes. */
#define PAGES_OF_ID 30
/* A table with more loose pages gets no note. */
#define LOOSE_PAGES 2000

/* The visibility map has two bits for each page of a table, the lower one: all-visible. */
#define VISIBLE_BITS UINT64CONST(0x5555555555555555)
#define PAGES_OF_WORD (BITS_PER_BYTE * sizeof(uint64) / BITS_PER_HEAPBLOCK)
#define PAGES_OF_MAP ((BLCKSZ - MAXALIGN(SizeOfPageHeaderData)) / sizeof(uint64) * PAGES_OF_WORD)

/* Blocks that are asked for ahead. */
#define BLOCKS_AHEAD 16

/* The bits of an id lie together, one in each word of a block. */
#define BLOCK_WORDS 8
#define BYTES_OF_ID 2

typedef struct IdBlock
{
	uint32 words[BLOCK_WORDS];
} IdBlock;

/* What the pages of a table are like.  Its loose pages are those that are not all-visible. */
typedef struct PageState
{
	Oid file;
	AttrNumber id; /* the column */
	BlockNumber pages;
	BlockNumber visible; /* how many the visibility map calls all-visible */
	uint64 mapped;		 /* the sum of the places in the WAL of the map's pages */
	XLogRecPtr changed;	 /* the latest place of the loose pages */
} PageState;

struct IdNote
{
	Oid partition; /* the key */
	int leaves;	   /* of the index, as far as looks have shown */
	uint64 spent;  /* leaves that were read since the state was seen, or noted */
	PageState state;
	bool listed;		/* the loose pages are: */
	BlockNumber *loose; /* ascending */
	int nloose;
	IdBlock *blocks; /* NULL: not noted */
	void *memory;	 /* that they stand in */
	uint32 nblocks;
	TimestampTz used;
};

static HTAB *notes = NULL;
static MemoryContext notes_context;
static Size room = ROOM_BYTES;
static int64 pages_left; /* whose ids this call may note */

/* Any odd numbers will do. */
static const uint32 odd[BLOCK_WORDS] = {0x243F6A89, 0x85A308D3, 0x13198A2F, 0x03707345,
										0xA4093823, 0x299F31D1, 0x082EFA99, 0xEC4E6C89};

static void
forget_ids(IdNote *note)
{
	note->spent = 0;
	if (note->blocks == NULL)
		return;
	room += (note->nblocks + 1) * sizeof(IdBlock);
	pfree(note->memory);
	note->blocks = NULL;
}

static void
forget_loose(IdNote *note)
{
	note->listed = false;
	if (note->loose != NULL)
		pfree(note->loose);
	note->loose = NULL;
}

/* Forgets what nobody asks for any more: of partitions that are gone, say. */
static void
forget_idle(TimestampTz before)
{
	HASH_SEQ_STATUS scan;
	IdNote *note;

	hash_seq_init(&scan, notes);
	while ((note = hash_seq_search(&scan)) != NULL)
		if (note->used < before)
		{
			forget_ids(note);
			forget_loose(note);
			hash_search(notes, &note->partition, HASH_REMOVE, NULL);
		}
}

/* id_notes_begin says for how many ids the partitions are about to be looked into. */
void
id_notes_begin(int nids)
{
	static TimestampTz tidied = 0;
	TimestampTz now = GetCurrentTransactionStartTimestamp();

	if (notes == NULL)
	{
		HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(IdNote)};

		notes_context =
			AllocSetContextCreate(TopMemoryContext, "dashie id notes", ALLOCSET_DEFAULT_SIZES);
		control.hcxt = notes_context;
		notes = hash_create("dashie id notes", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	if (tidied + IDLE_USECS < now)
	{
		forget_idle(now - IDLE_USECS);
		tidied = now;
	}
	pages_left = (int64) nids * PAGES_OF_ID;
}

/* id_note returns the note of a partition, empty at first; until the next one is asked for. */
IdNote *
id_note(Oid partition)
{
	bool found;
	IdNote *note = hash_search(notes, &partition, HASH_ENTER, &found);

	if (!found)
	{
		memset(note, 0, sizeof(*note));
		note->partition = partition;
		note->leaves = INT_MAX;
	}
	note->used = GetCurrentTransactionStartTimestamp();
	return note;
}

static inline uint64
scramble(uint64 value)
{
	value ^= value >> 32;
	value *= UINT64CONST(0x9E3779B97F4A7C15);
	return value ^ value >> 29;
}

/* What an id is noted by. */
uint64
id_hash(const unsigned char *id)
{
	uint64 halves[2];

	memcpy(halves, id, sizeof(halves));
	return scramble(halves[1] + scramble(halves[0]));
}

void
id_hashes_add(IdHashes *hashes, const unsigned char *id)
{
	if (hashes->n == hashes->size)
	{
		hashes->size = Max(1024, 2 * hashes->size);
		hashes->hashes = hashes->hashes == NULL
							 ? palloc_extended(hashes->size * sizeof(uint64), MCXT_ALLOC_HUGE)
							 : repalloc_huge(hashes->hashes, hashes->size * sizeof(uint64));
	}
	hashes->hashes[hashes->n++] = id_hash(id);
}

/* The block of an id's bits. */
static inline IdBlock *
block_of(const IdNote *note, uint64 hash)
{
	return &note->blocks[(hash >> 32) * note->nblocks >> 32];
}

static inline uint32
bit_of(uint64 hash, int word)
{
	return (uint32) 1 << ((uint32) hash * odd[word] >> 27);
}

/* Those bits of an id that are not set, in some words of its block. */
static inline uint32
lacks(const IdBlock *block, uint64 hash, int from, int upto)
{
	uint32 missing = 0;

	for (int i = from; i < upto; i++)
		missing |= bit_of(hash, i) & ~block->words[i];
	return missing;
}

/*
 * id_note_doubtful copies those of the ids that the partition may have, says a note
 * that holds; returns how many.
 */
int
id_note_doubtful(const IdNote *note, const IdSlot *ids, int nids, IdSlot *doubtful)
{
	int n = 0;

	for (int i = 0; i < Min(BLOCKS_AHEAD, nids); i++)
		prefetch(block_of(note, ids[i].hash));
	for (int i = 0; i < nids; i++)
	{
		uint64 hash = ids[i].hash;
		const IdBlock *block = block_of(note, hash);

		if (i + BLOCKS_AHEAD < nids)
			prefetch(block_of(note, ids[i + BLOCKS_AHEAD].hash));
		/* three words suffice nearly always */
		if (likely(lacks(block, hash, 0, 3) != 0))
			continue;
		if (lacks(block, hash, 3, BLOCK_WORDS) == 0)
			doubtful[n++] = ids[i];
	}
	return n;
}

static XLogRecPtr
place_of_page(Relation rel, BlockNumber block)
{
	Buffer buffer = ReadBuffer(rel, block);
	XLogRecPtr lsn;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	lsn = BufferGetLSNAtomic(buffer);
	UnlockReleaseBuffer(buffer);
	return lsn;
}

static inline bool
all_visible(Relation rel, BlockNumber block, Buffer *map)
{
	return (visibilitymap_get_status(rel, block, map) & VISIBILITYMAP_ALL_VISIBLE) != 0;
}

/* Whether the map says the same of each page. */
static bool
same_map(const PageState *a, const PageState *b)
{
	return a->file == b->file && a->pages == b->pages && a->visible == b->visible &&
		   a->mapped == b->mapped;
}

/* Adds what a page of the visibility map says of so many pages of the table. */
static void
map_page_state(Buffer map, BlockNumber pages, PageState *state)
{
	const uint64 *words = (const uint64 *) PageGetContents(BufferGetPage(map));

	LockBuffer(map, BUFFER_LOCK_SHARE);
	state->mapped += BufferGetLSNAtomic(map);
	for (BlockNumber i = 0; i * PAGES_OF_WORD < pages; i++)
		state->visible += pg_popcount64(words[i] & VISIBLE_BITS);
	LockBuffer(map, BUFFER_LOCK_UNLOCK);
}

/* map_state asks the visibility map of a table; false: it does not tell of all that adds rows. */
static bool
map_state(Relation rel, PageState *state)
{
	Buffer map = InvalidBuffer;

	/* on a standby changes come in another order */
	if (rel->rd_rel->relam != HEAP_TABLE_AM_OID || !RelationNeedsWAL(rel) || RecoveryInProgress())
		return false;
	if (rel->rd_createSubid != InvalidSubTransactionId ||
		dashie_file_subtransaction(rel) != InvalidSubTransactionId)
		return false;
	state->file = dashie_relation_file(rel);
	state->pages = RelationGetNumberOfBlocks(rel);
	for (BlockNumber block = 0; block < state->pages; block += PAGES_OF_MAP)
	{
		(void) visibilitymap_get_status(rel, block, &map);
		if (BufferIsValid(map))
			map_page_state(map, Min(state->pages - block, PAGES_OF_MAP), state);
	}
	if (BufferIsValid(map))
		ReleaseBuffer(map);
	return true;
}

/* Lists the loose pages of a table, unless the map has changed again. */
static void
list_loose(IdNote *note, Relation rel)
{
	Buffer map = InvalidBuffer;
	BlockNumber expected = note->state.pages - note->state.visible;
	BlockNumber n = 0;

	forget_loose(note);
	note->loose = MemoryContextAlloc(notes_context, Max(expected, 1) * sizeof(BlockNumber));
	for (BlockNumber block = 0; block < note->state.pages; block++)
	{
		CHECK_FOR_INTERRUPTS();
		if (all_visible(rel, block, &map))
			continue;
		if (n < expected)
			note->loose[n] = block;
		n++;
	}
	if (BufferIsValid(map))
		ReleaseBuffer(map);
	note->nloose = (int) expected;
	note->listed = n == expected;
	if (!note->listed)
		forget_loose(note);
}

/*
 * note_state brings the note to the state that the pages of the table are in, and
 * forgets what was noted in another one.  Returns false if the state has not been
 * seen before, or cannot be told by reading up to "most" pages.
 */
static bool
note_state(IdNote *note, Relation rel, AttrNumber id, int most)
{
	PageState state = {.id = id};
	bool listed;

	if (!map_state(rel, &state))
		return false;
	if (!same_map(&state, &note->state))
	{
		forget_ids(note);
		forget_loose(note);
		note->state = state;
		return false;
	}
	if (state.visible > state.pages || state.pages - state.visible > (BlockNumber) most)
		return false;
	listed = note->listed;
	if (!listed)
		list_loose(note, rel);
	if (!note->listed)
		return false;
	for (int i = 0; i < note->nloose; i++)
	{
		CHECK_FOR_INTERRUPTS();
		state.changed = Max(state.changed, place_of_page(rel, note->loose[i]));
	}
	if (listed && (note->state.id != state.id || note->state.changed != state.changed))
		forget_ids(note);
	note->state = state;
	return true;
}

/* The ids of all rows on a page, whoever sees them. */
static void
add_page(IdHashes *hashes, Relation rel, BlockNumber block, AttrNumber id)
{
	Buffer buffer = ReadBuffer(rel, block);
	Page page = BufferGetPage(buffer);
	OffsetNumber last;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	last = PageIsNew(page) ? 0 : PageGetMaxOffsetNumber(page);
	for (OffsetNumber offset = FirstOffsetNumber; offset <= last; offset++)
	{
		ItemId item = PageGetItemId(page, offset);
		HeapTupleData row;
		Datum value;
		bool isnull;

		if (!ItemIdIsNormal(item))
			continue;
		row.t_data = (HeapTupleHeader) PageGetItem(page, item);
		row.t_len = ItemIdGetLength(item);
		ItemPointerSet(&row.t_self, block, offset);
		row.t_tableOid = RelationGetRelid(rel);
		value = heap_getattr(&row, id, RelationGetDescr(rel), &isnull);
		if (!isnull)
			id_hashes_add(hashes, DatumGetUUIDP(value)->data);
	}
	UnlockReleaseBuffer(buffer);
}

/* Those of the rows on pages that are not all-visible: their index entries may be still to come. */
static void
add_loose_pages(IdHashes *hashes, Relation rel, AttrNumber id, Size most)
{
	BlockNumber pages = RelationGetNumberOfBlocks(rel);
	Buffer map = InvalidBuffer;

	for (BlockNumber block = 0; block < pages && hashes->n <= most; block++)
		if (!all_visible(rel, block, &map))
		{
			CHECK_FOR_INTERRUPTS();
			add_page(hashes, rel, block, id);
		}
	if (BufferIsValid(map))
		ReleaseBuffer(map);
}

/* How many ids there is room for. */
static Size
free_room(void)
{
	return (room - Min(room, 2 * sizeof(IdBlock))) / BYTES_OF_ID;
}

/* Notes the ids of a table, if there is room. */
static void
fill(IdNote *note, Relation rel)
{
	Relation index = dashie_index_open(rel, note->state.id);
	Size most = free_room();
	IdHashes hashes = {0};
	bool readable = index != NULL && ids_index_possible(index);

	if (readable)
	{
		add_loose_pages(&hashes, rel, note->state.id, most);
		ids_of_index(index, &hashes, most);
	}
	if (index != NULL)
		index_close(index, AccessShareLock);
	if (readable && hashes.n <= most && room >= 2 * sizeof(IdBlock))
	{
		note->nblocks = hashes.n * BYTES_OF_ID / sizeof(IdBlock) + 1;
		note->memory = MemoryContextAllocZero(notes_context, (note->nblocks + 1) * sizeof(IdBlock));
		note->blocks = (IdBlock *) TYPEALIGN(sizeof(IdBlock), note->memory);
		room -= (note->nblocks + 1) * sizeof(IdBlock);
	}
	for (Size i = 0; i < hashes.n && note->blocks != NULL; i++)
	{
		IdBlock *block = block_of(note, hashes.hashes[i]);

		prefetch(block_of(note, hashes.hashes[Min(i + BLOCKS_AHEAD, hashes.n - 1)]));
		for (int j = 0; j < BLOCK_WORDS; j++)
			block->words[j] |= bit_of(hashes.hashes[i], j);
	}
	if (hashes.hashes != NULL)
		pfree(hashes.hashes);
}

/*
 * id_note_holds says whether the note tells which ids the partition has now, which
 * the caller has locked, and makes the note where that is worth it: to look for so
 * many ids otherwise.
 */
bool
id_note_holds(IdNote *note, Relation partition, AttrNumber id, int nids)
{
	int leaves = Min(nids, note->leaves);

	/* as far as VACUUM or ANALYZE knows, there is no room */
	if (note->blocks == NULL && partition->rd_rel->reltuples > free_room())
		return false;
	if (!note_state(note, partition, id, Min(leaves * PAGES_OF_LEAF, LOOSE_PAGES)))
		return false;
	if (note->blocks == NULL && note->spent * PAGES_OF_LEAF >= note->state.pages && pages_left > 0)
	{
		pages_left -= note->state.pages;
		note->spent = 0;
		fill(note, partition);
	}
	return note->blocks != NULL;
}

/* id_note_looked notes how many leaves a look for that many ids led to, without the note. */
void
id_note_looked(IdNote *note, int nids, int leaves)
{
	/* each id in another leaf: there may be many more */
	note->leaves = leaves < nids ? leaves : INT_MAX;
	note->spent += leaves;
}
