/*
 * leaf_notes.c
 *		What a backend remembers of the leaves of indexes that it looks for ids in.
 *
 * Partitions of past days change rarely, and each batch of random ids would read
 * nearly all leaves of all of them again.  So a backend notes which ids a leaf has,
 * in a few bits each: they tell of most other ids that the leaf has none of them.
 *
 * A note can miss nothing that another session stored: whatever adds an entry to a
 * leaf, or changes for which ids the leaf is, writes WAL under an exclusive lock
 * and leaves that record's position on the page.  A note holds for that position
 * alone, and whoever uses it has the page locked.  (A hint may move the position
 * meanwhile, and changes nothing else.)  Positions grow, and a record
 * changes a block of one file: so a page of another file that has the same number
 * later cannot be taken for this one.  Indexes that write no WAL get no notes.
 *
 * A leaf is noted when it was the same in two visits, so that those of the current
 * day, which change all the time, take neither time nor room.  The room is limited;
 * what does not fit is read as if there were no notes.
 */
#include "postgres.h"

#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "common/compat.h"
#include "ingest/ingest.h"

/* Leaves that are remembered at most: 2.6 MB in a backend. */
#define MAX_NOTES 8192
/* A power of two, with room to find a free place. */
#define PLACES (2 * MAX_NOTES)
/* Visits without room after which all is forgotten, in case it is not used any more. */
#define MAX_REFUSED (16 * MAX_NOTES)

/* The bits of a leaf: those of an id lie together on one line of the processor's cache. */
#define LINES 4
#define LINE_WORDS 8
#define BITS_OF_ID 4

typedef struct LeafBits
{
	uint64 words[LINES][LINE_WORDS];
} LeafBits;

struct LeafNote
{
	Oid file; /* InvalidOid: nothing stands here */
	BlockNumber block;
	XLogRecPtr lsn; /* of the page, at the last visit */
	LeafBits *bits;
	Buffer buffer; /* where the leaf was last */
	bool filled;   /* "bits" has all ids of the page, as of "lsn" */
};

static MemoryContext notes_context = NULL;
static LeafNote *notes; /* by their hash, or in the next place that was free */
static LeafBits *bits;	/* one for each note, in the order in which they were made */
static int nnotes;
static int nrefused;

static uint64
scramble(uint64 value)
{
	value ^= value >> 32;
	value *= UINT64CONST(0x9E3779B97F4A7C15);
	return value ^ value >> 29;
}

/*
 * leaf_note returns the note of a leaf, which may be empty; NULL if there is none
 * and none can be made.  It stays where it is until leaf_notes_begin().
 */
LeafNote *
leaf_note(Relation index, BlockNumber block)
{
	Oid file = dashie_relation_file(index);
	uint32 place = (uint32) scramble((uint64) file << 32 | block);
	LeafNote *note;

	if (!RelationNeedsWAL(index) || notes_context == NULL)
		return NULL;
	for (;; place++)
	{
		note = &notes[place % PLACES];
		if (note->file == file && note->block == block)
			return note;
		if (note->file == InvalidOid)
			break;
	}
	if (nnotes == MAX_NOTES)
	{
		nrefused++;
		return NULL;
	}
	note->file = file;
	note->block = block;
	note->lsn = InvalidXLogRecPtr;
	note->bits = &bits[nnotes++];
	note->buffer = InvalidBuffer;
	note->filled = false;
	return note;
}

/* leaf_notes_begin makes sure that there is room for notes, before any is asked for. */
void
leaf_notes_begin(void)
{
	if (notes_context != NULL && nrefused < MAX_REFUSED)
		return;
	if (notes_context == NULL)
	{
		MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "dashie leaf notes",
													  ALLOCSET_DEFAULT_SIZES);

		notes = MemoryContextAlloc(context, PLACES * sizeof(LeafNote));
		/* memory that no note has come to is not touched */
		bits =
			(LeafBits *) TYPEALIGN(LINE_WORDS * sizeof(uint64),
								   MemoryContextAlloc(context, (MAX_NOTES + 1) * sizeof(LeafBits)));
		MemoryContextSetParent(context, TopMemoryContext);
		notes_context = context;
	}
	memset(notes, 0, PLACES * sizeof(LeafNote));
	nnotes = nrefused = 0;
}

/* The buffer where the leaf was last, or InvalidBuffer: it may hold another page by now. */
Buffer
leaf_note_buffer(const LeafNote *note)
{
	return note->buffer;
}

/*
 * leaf_note_visit compares the note with the leaf, which the caller has locked for
 * reading, and says whether it holds.  If it is worth to fill it, the caller does,
 * with leaf_note_add() and leaf_note_filled().
 */
LeafNoteState
leaf_note_visit(LeafNote *note, Buffer buffer)
{
	XLogRecPtr lsn = BufferGetLSNAtomic(buffer);
	bool same = note->lsn == lsn && !XLogRecPtrIsInvalid(lsn);

	note->buffer = buffer;
	if (same && note->filled)
		return LEAF_NOTE_HOLDS;
	note->lsn = lsn;
	note->filled = false;
	if (!same)
		return LEAF_NOTE_EMPTY;
	memset(note->bits, 0, sizeof(LeafBits));
	return LEAF_NOTE_TO_FILL;
}

void
leaf_note_filled(LeafNote *note)
{
	note->filled = true;
}

static uint64
hash_of_key(const IdKey *key)
{
	return scramble(key->low + scramble(key->high));
}

/* An id that the leaf has. */
void
leaf_note_add(LeafNote *note, const IdKey *key)
{
	uint64 hash = hash_of_key(key);
	uint64 *line = note->bits->words[hash % LINES];

	for (int i = 0; i < BITS_OF_ID; i++)
	{
		hash >>= 9;
		line[hash / 64 % LINE_WORDS] |= UINT64CONST(1) << hash % 64;
	}
}

/* Whether the leaf may have an entry with the id, says a note that holds. */
bool
leaf_note_may_have(const LeafNote *note, const IdKey *key)
{
	uint64 hash = hash_of_key(key);
	const uint64 *line = note->bits->words[hash % LINES];

	for (int i = 0; i < BITS_OF_ID; i++)
	{
		hash >>= 9;
		if ((line[hash / 64 % LINE_WORDS] & UINT64CONST(1) << hash % 64) == 0)
			return false;
	}
	return true;
}
