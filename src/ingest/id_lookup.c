/*
 * id_lookup.c
 *		Which of some ids have an entry in an index?
 *
 * A scan of the access method begins at the root for each id, copies what it
 * finds and prepares its keys anew: most of what a look for one id costs.  What
 * is left is waiting for memory: random ids lie on other pages than those that
 * the processor has at hand, and each look at an entry must come before the next.
 *
 * So the ids, which come in order, descend together.  A page of the index
 * is visited once, for all ids that lead to it; what the next pages begin
 * with is asked for before the first of them is read; and on a page several ids
 * are looked for in turns, so that one waits while another is compared.  Random
 * ids are expected where evenly spread ones would be: few entries need a look
 * then.  A batch of ids of version 7 costs one descent in a partition of another
 * day.
 *
 * Only inner pages and leaves are read, each locked for reading while it is
 * looked at, as nbtree does it, and never two at a time: what splits or vanishes
 * meanwhile is found by the link to the right.  A page that a link leads to is not
 * given to others while a snapshot is held that is as old as the link: the caller
 * holds one.  An entry says that there may be a row: whether it is visible is the
 * caller's to see, by the index scan that everybody uses.  Nothing is
 * predicate-locked: the look for duplicates reads what is committed now, whatever
 * the transaction's own snapshot shows.
 */
#include "postgres.h"

#include "access/nbtree.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "common/compat.h"
#include "ingest/ingest.h"

/* A line of the processor's cache, or less than one. */
#define LINE_BYTES 64

/* Pages that are pinned ahead: a backend keeps track of eight pins with ease. */
#define PAGES_AHEAD 4
/* Entries that are asked for ahead where all are read. */
#define ENTRIES_AHEAD 8
/* Ids that are looked for in turns. */
#define LOOKS_AT_ONCE 16
/* Looks at places where evenly spread ids would be; after them the rest is halved. */
#define GUESSES 4

/* Neighbours among the ids, which lead to one page. */
typedef struct IdRun
{
	BlockNumber block;
	int begin;
	int end;
	uint64 low; /* what the page is for, by the first bytes of the ids */
	uint64 high;
} IdRun;

/* One id on its way to its place on a leaf. */
typedef struct IdLook
{
	int place;	/* among the ids */
	uint64 key; /* its first bytes */
	uint64 low; /* those of the entries at "below" and "above", or what bounds them */
	uint64 high;
	OffsetNumber below; /* entries up to this one are below the id */
	OffsetNumber above; /* those from this one on are not */
	OffsetNumber at;	/* looked at next; 0: settled */
	bool hit;
} IdLook;

typedef struct IdLookup
{
	Relation index;
	const IdSlot *ids;
	int nids;
	int *found; /* those of them that have an entry */
	int nfound;
	IdRun *runs; /* of a level's pages */
	int nruns;
	IdRun *below; /* of their children */
	int nbelow;
	IdLook looks[LOOKS_AT_ONCE]; /* on the leaf that is locked */
	int nlooks;
} IdLookup;

static inline IndexTuple
entry_at(Page page, OffsetNumber offset)
{
	return (IndexTuple) PageGetItem(page, PageGetItemId(page, offset));
}

/* Where the id of an entry stands; NULL for a NULL, which comes after all ids. */
static inline const unsigned char *
entry_id(Relation index, Page page, OffsetNumber offset)
{
	IndexTuple entry = entry_at(page, offset);
	bool isnull;
	Datum value;

	/* the first column of a row without NULLs stands where its data begin */
	if (likely(!IndexTupleHasNulls(entry)))
		return (unsigned char *) entry + IndexInfoFindDataOffset(entry->t_info);
	value = index_getattr(entry, 1, RelationGetDescr(index), &isnull);
	return isnull ? NULL : DatumGetUUIDP(value)->data;
}

static inline uint64
half_of_id(const unsigned char *half)
{
	uint64 value;

	memcpy(&value, half, sizeof(value));
	return pg_ntoh64(value);
}

static inline bool
entry_key(Relation index, Page page, OffsetNumber offset, IdKey *key)
{
	const unsigned char *id = entry_id(index, page, offset);

	if (id == NULL)
		return false;
	key->high = half_of_id(id);
	key->low = half_of_id(id + sizeof(uint64));
	return true;
}

/*
 * How the entry stands to an id whose first half is the same.  Not inline: the
 * second half is often on another line of the cache, and rarely wanted.
 */
static pg_noinline int
compare_second_half(const unsigned char *id, const IdKey *key)
{
	uint64 low = half_of_id(id + sizeof(uint64));

	return low < key->low ? -1 : low > key->low;
}

/* How an entry stands to an id. */
static inline int
compare_entry(Relation index, Page page, OffsetNumber offset, const IdKey *key)
{
	const unsigned char *id = entry_id(index, page, offset);
	uint64 high;

	if (id == NULL)
		return 1;
	high = half_of_id(id);
	if (high != key->high)
		return high < key->high ? -1 : 1;
	return compare_second_half(id, key);
}

/* Whether what is looked for lies to the right: the page was split or is about to go. */
static bool
lies_right(Relation index, Page page, const IdKey *key)
{
	BTPageOpaque opaque = BTPageGetOpaque(page);

	if (P_RIGHTMOST(opaque))
	{
		if (P_IGNORE(opaque))
			elog(ERROR, "fell off the end of index \"%s\"", RelationGetRelationName(index));
		return false;
	}
	return P_IGNORE(opaque) || compare_entry(index, page, P_HIKEY, key) < 0;
}

/* The first of the entries from "low" to "high" that is not below the id; high + 1 if all are. */
static OffsetNumber
first_not_below(Relation index, Page page, OffsetNumber low, OffsetNumber high, const IdKey *key)
{
	OffsetNumber end = high + 1;

	while (low < end)
	{
		OffsetNumber middle = low + (end - low) / 2;

		if (compare_entry(index, page, middle, key) < 0)
			low = middle + 1;
		else
			end = middle;
	}
	return low;
}

/*
 * The entry between "below" and "above" where the id would be if those were
 * spread evenly between their keys.
 */
static inline OffsetNumber
guess(const IdLook *look)
{
	int between = look->above - look->below - 1;
	OffsetNumber at;

	if (look->key <= look->low)
		return look->below + 1;
	if (look->key >= look->high)
		return look->above - 1;
	at = look->below + 1 +
		 (OffsetNumber) (between *
						 ((double) (look->key - look->low) / (double) (look->high - look->low)));
	/* rounded, the key may be the upper bound */
	return Min(at, look->above - 1);
}

/* look_once compares the entry that the look has come to, and says where it goes next. */
static inline void
look_once(const IdLookup *lookup, Page page, IdLook *look, int round)
{
	const unsigned char *id = entry_id(lookup->index, page, look->at);
	uint64 high = id != NULL ? half_of_id(id) : PG_UINT64_MAX;
	int order;

	if (likely(high != look->key) || id == NULL)
		order = high < look->key ? -1 : 1;
	else
		order = compare_second_half(id, &lookup->ids[look->place].key);
	if (order < 0)
	{
		look->below = look->at;
		look->low = high;
	}
	else
	{
		look->above = look->at;
		look->high = high;
	}
	look->hit = order == 0;
	if (look->hit || look->above - look->below <= 1)
		look->at = 0;
	else if (round < GUESSES)
		look->at = guess(look);
	else
		look->at = look->below + (look->above - look->below) / 2;
}

/* settle_looks takes all looks to their ends, in turns. */
static void
settle_looks(IdLookup *lookup, Page page)
{
	bool open = lookup->nlooks > 0;

	for (int i = 0; i < lookup->nlooks; i++)
		prefetch(entry_at(page, lookup->looks[i].at));
	for (int round = 1; open; round++)
	{
		open = false;
		for (int i = 0; i < lookup->nlooks; i++)
		{
			IdLook *look = &lookup->looks[i];

			if (look->at == 0)
				continue;
			look_once(lookup, page, look, round);
			if (look->at == 0)
				continue;
			open = true;
			prefetch(entry_at(page, look->at));
		}
	}
	for (int i = 0; i < lookup->nlooks; i++)
		if (lookup->looks[i].hit)
			lookup->found[lookup->nfound++] = lookup->looks[i].place;
	lookup->nlooks = 0;
}

/*
 * look_for looks for the ids of a run that come before "end" among the entries of
 * its leaf.
 */
static void
look_for(IdLookup *lookup, Page page, const IdRun *run, int end)
{
	OffsetNumber first = P_FIRSTDATAKEY(BTPageGetOpaque(page));
	OffsetNumber last = PageGetMaxOffsetNumber(page);

	for (int place = run->begin; place < end; place++)
	{
		IdLook *look = &lookup->looks[lookup->nlooks];

		look->place = place;
		look->key = lookup->ids[place].key.high;
		look->low = run->low;
		look->high = run->high;
		look->below = first - 1;
		look->above = last + 1;
		look->hit = false;
		look->at = guess(look);
		prefetch(PageGetItemId(page, look->at));
		if (++lookup->nlooks == LOOKS_AT_ONCE)
			settle_looks(lookup, page);
	}
	settle_looks(lookup, page);
}

/* How many of the ids of a run are below the key, or with "equal" not above it. */
static int
ids_below(const IdLookup *lookup, const IdRun *run, const IdKey *key, bool equal)
{
	int low = run->begin;
	int high = run->end;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (id_key_compare(&lookup->ids[middle].key, key) < (equal ? 1 : 0))
			low = middle + 1;
		else
			high = middle;
	}
	return low - run->begin;
}

/*
 * look_at_bound looks for the next id of a run on a leaf whose high key it is.
 * The entries of such an id may stand there, or on the page to the right.
 */
static void
look_at_bound(IdLookup *lookup, Page page, IdRun *run)
{
	OffsetNumber first = P_FIRSTDATAKEY(BTPageGetOpaque(page));
	OffsetNumber last = PageGetMaxOffsetNumber(page);
	const IdKey *key = &lookup->ids[run->begin].key;
	OffsetNumber offset = first_not_below(lookup->index, page, first, last, key);

	if (offset > last || compare_entry(lookup->index, page, offset, key) != 0)
		return;
	while (run->begin < run->end && id_key_compare(&lookup->ids[run->begin].key, key) == 0)
		lookup->found[lookup->nfound++] = run->begin++;
}

/*
 * look_on_leaf settles the ids of a run that the leaf can tell of.  Those that it
 * leaves are for the page to the right.
 */
static void
look_on_leaf(IdLookup *lookup, Page page, IdRun *run)
{
	BTPageOpaque opaque = BTPageGetOpaque(page);
	OffsetNumber first = P_FIRSTDATAKEY(opaque);
	OffsetNumber last = PageGetMaxOffsetNumber(page);
	int end = run->end;
	int next;
	IdKey key;

	if (!P_RIGHTMOST(opaque) && entry_key(lookup->index, page, P_HIKEY, &key))
		end = run->begin + ids_below(lookup, run, &key, false);
	next = end;
	if (first > last)
		end = run->begin;
	/* at the index's ends no parent knows what the page is for */
	if (end > run->begin && P_LEFTMOST(opaque) && entry_key(lookup->index, page, first, &key))
	{
		if (id_key_compare(&lookup->ids[end - 1].key, &key) < 0)
			end = run->begin;
		run->low = key.high;
	}
	if (end > run->begin && P_RIGHTMOST(opaque) && entry_key(lookup->index, page, last, &key))
	{
		if (id_key_compare(&lookup->ids[run->begin].key, &key) > 0)
			end = run->begin;
		run->high = key.high;
	}
	look_for(lookup, page, run, end);
	run->begin = next;
	if (next < run->end && !lies_right(lookup->index, page, &lookup->ids[next].key))
		look_at_bound(lookup, page, run);
}

/*
 * look_on_inner divides the ids of a run between the children of an inner page.
 * Those that it leaves are for the page to the right.
 */
static void
look_on_inner(IdLookup *lookup, Page page, IdRun *run)
{
	BTPageOpaque opaque = BTPageGetOpaque(page);
	OffsetNumber first = P_FIRSTDATAKEY(opaque);
	OffsetNumber last = PageGetMaxOffsetNumber(page);
	OffsetNumber child = first;
	int end = run->end;
	IdKey key;

	if (!P_RIGHTMOST(opaque) && entry_key(lookup->index, page, P_HIKEY, &key))
		end = run->begin + ids_below(lookup, run, &key, true);
	while (run->begin < end)
	{
		IdRun *part = &lookup->below[lookup->nbelow++];

		/* the last child that begins below the id; the first one begins below all */
		child =
			first_not_below(lookup->index, page, child + 1, last, &lookup->ids[run->begin].key) - 1;
		part->block = BTreeTupleGetDownLink(entry_at(page, child));
		part->begin = run->begin;
		part->low = run->low;
		part->high = run->high;
		if (child > first && entry_key(lookup->index, page, child, &key))
			part->low = key.high;
		if (child < last && entry_key(lookup->index, page, child + 1, &key))
		{
			part->high = key.high;
			do
				run->begin++;
			while (run->begin < end && id_key_compare(&lookup->ids[run->begin].key, &key) <= 0);
		}
		else
			run->begin = end;
		part->end = run->begin;
	}
}

/*
 * visit takes a run to its page, which is locked for reading, and to those on its
 * right, as far as it has to.  Gives the page back.
 */
static void
visit(IdLookup *lookup, Buffer buffer, IdRun *run)
{
	for (;;)
	{
		Page page = BufferGetPage(buffer);

		if (!lies_right(lookup->index, page, &lookup->ids[run->begin].key))
		{
			if (P_ISLEAF(BTPageGetOpaque(page)))
				look_on_leaf(lookup, page, run);
			else
				look_on_inner(lookup, page, run);
			if (run->begin == run->end)
				break;
		}
		/* what is known is of the page that the parent knew */
		run->low = 0;
		run->high = PG_UINT64_MAX;
		buffer = _bt_relandgetbuf(lookup->index, buffer, BTPageGetOpaque(page)->btpo_next, BT_READ);
	}
	_bt_relbuf(lookup->index, buffer);
}

/* Takes the runs of a level to their pages, some of which are pinned ahead. */
static void
visit_level(IdLookup *lookup)
{
	Buffer buffers[PAGES_AHEAD];

	for (int i = 0; i < lookup->nruns; i += PAGES_AHEAD)
	{
		int npages = Min(PAGES_AHEAD, lookup->nruns - i);

		CHECK_FOR_INTERRUPTS();
		for (int j = 0; j < npages; j++)
		{
			Page page;

			buffers[j] = ReadBuffer(lookup->index, lookup->runs[i + j].block);
			page = BufferGetPage(buffers[j]);
			/* its head, and its end, which says what kind of page it is */
			prefetch(page);
			prefetch(page + BLCKSZ - LINE_BYTES);
		}
		for (int j = 0; j < npages; j++)
		{
			_bt_lockbuf(lookup->index, buffers[j], BT_READ);
			_bt_checkpage(lookup->index, buffers[j]);
			visit(lookup, buffers[j], &lookup->runs[i + j]);
		}
	}
}

/* Whether ids_in_index() can read the index: a btree whose first column orders as ids do. */
bool
ids_index_possible(Relation index)
{
	return index->rd_rel->relam == BTREE_AM_OID && index->rd_opcintype[0] == UUIDOID &&
		   index->rd_indoption[0] == 0 && index_getprocid(index, 1, BTORDER_PROC) == F_UUID_CMP;
}

/*
 * ids_in_index looks for ids, ascending, in an index that ids_index_possible()
 * has seen.  "found" gets the places of those that have an entry; returns how
 * many.  "leaves" gets how many leaves the ids led to.  The caller has locked the
 * index, and holds a snapshot.
 */
int
ids_in_index(Relation index, const IdSlot *ids, int nids, int *found, int *leaves)
{
	IdLookup lookup;
	IdRun all = {.end = nids, .high = PG_UINT64_MAX};
	IdRun *runs;
	Buffer root;
	uint32 level;

	CHECK_FOR_INTERRUPTS();
	*leaves = 0;
	if (nids == 0)
		return 0;
	root = dashie_bt_getroot(index);
	if (!BufferIsValid(root))
		return 0;
	lookup.index = index;
	lookup.ids = ids;
	lookup.nids = nids;
	lookup.found = found;
	lookup.nfound = lookup.nruns = lookup.nbelow = lookup.nlooks = 0;
	runs = palloc_extended(2 * nids * sizeof(IdRun), MCXT_ALLOC_HUGE);
	lookup.runs = runs;
	lookup.below = runs + nids;
	level = BTPageGetOpaque(BufferGetPage(root))->btpo_level;
	for (visit(&lookup, root, &all); level > 0; level--)
	{
		IdRun *visited = lookup.runs;

		lookup.runs = lookup.below;
		lookup.nruns = lookup.nbelow;
		lookup.below = visited;
		lookup.nbelow = 0;
		visit_level(&lookup);
	}
	*leaves = Max(lookup.nruns, 1);
	pfree(runs);
	return lookup.nfound;
}

/*
 * ids_of_index adds the ids of all entries of an index that ids_index_possible()
 * has seen, but no more when there are more than "most".  It goes from leaf to leaf
 * as a scan does: what is divided meanwhile moves to the right alone.  The caller
 * has locked the index, and holds a snapshot.
 */
void
ids_of_index(Relation index, IdHashes *hashes, Size most)
{
	Buffer buffer = dashie_bt_getroot(index);

	if (!BufferIsValid(buffer))
		return;
	for (;;)
	{
		Page page = BufferGetPage(buffer);
		BTPageOpaque opaque = BTPageGetOpaque(page);
		OffsetNumber last = PageGetMaxOffsetNumber(page);
		BlockNumber next = opaque->btpo_next;

		if (!P_IGNORE(opaque) && !P_ISLEAF(opaque))
			next = BTreeTupleGetDownLink(entry_at(page, P_FIRSTDATAKEY(opaque)));
		else if (!P_IGNORE(opaque))
			for (OffsetNumber offset = P_FIRSTDATAKEY(opaque); offset <= last; offset++)
			{
				const unsigned char *id = entry_id(index, page, offset);

				prefetch(entry_at(page, Min(offset + ENTRIES_AHEAD, last)));
				if (id != NULL)
					id_hashes_add(hashes, id);
			}
		_bt_relbuf(index, buffer);
		if (next == P_NONE || hashes->n > most)
			return;
		CHECK_FOR_INTERRUPTS();
		buffer = _bt_getbuf(index, next, BT_READ);
	}
}
