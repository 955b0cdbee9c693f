/*
 * id_lookup.c
 *		Which of some ids have an entry in an index?
 *
 * A scan of the access method begins at the root for each id, copies what it
 * finds and prepares its keys anew: most of what a look for one id costs.  Here
 * the ids come in order, and a page of the index answers for all of them that
 * lie between its first entry and its last; ids between two entries need no look
 * of their own.  So a batch of ids of version 7 costs one descent in a partition of
 * another day, and random ids cost one for each page that they fall into.
 *
 * Only inner pages and leaves are read, each locked for reading while it is
 * looked at, as nbtree does it: what splits or vanishes meanwhile is found by the
 * link to the right.  An entry says that there may be a row: whether it is
 * visible is the caller's to see, by the index scan that everybody uses.
 * Nothing is predicate-locked: the look for duplicates reads what is committed
 * now, whatever the transaction's own snapshot shows.
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

#include "ingest/ingest.h"

/* 15 gave the end of a btree's page a macro; 16 wants the table for the root */
#if PG_VERSION_NUM < 150000
#define BTPageGetOpaque(page) ((BTPageOpaque) PageGetSpecialPointer(page))
#endif
#if PG_VERSION_NUM >= 160000
#define dashie_bt_getroot(index, heap) _bt_getroot((index), (heap), BT_READ)
#else
#define dashie_bt_getroot(index, heap) _bt_getroot((index), BT_READ)
#endif

/* The id of an entry; false for a NULL, which comes after all ids. */
static inline bool
entry_key(Relation index, Page page, OffsetNumber offset, IdKey *key)
{
	IndexTuple entry = (IndexTuple) PageGetItem(page, PageGetItemId(page, offset));
	bool isnull = false;
	Datum value;

	/* the first column of a row without NULLs stands where its data begin */
	if (likely(!IndexTupleHasNulls(entry)))
		value = PointerGetDatum((char *) entry + IndexInfoFindDataOffset(entry->t_info));
	else
		value = index_getattr(entry, 1, RelationGetDescr(index), &isnull);
	if (!isnull)
		*key = id_key(DatumGetUUIDP(value));
	return !isnull;
}

/* How an entry stands to an id. */
static inline int
compare_entry(Relation index, Page page, OffsetNumber offset, const IdKey *key)
{
	IdKey its;

	return entry_key(index, page, offset, &its) ? id_key_compare(&its, key) : 1;
}

/*
 * Where the id would be among the entries from "low" to "high" if those were
 * spread evenly, as random ids are: most looks are at another line of the
 * processor's cache, and fewer are needed from here.
 */
static OffsetNumber
guess(Relation index, Page page, OffsetNumber low, OffsetNumber high, const IdKey *key)
{
	IdKey first;
	IdKey last;

	if (!entry_key(index, page, low, &first) || !entry_key(index, page, high, &last) ||
		key->high <= first.high || first.high >= last.high)
		return low;
	if (key->high >= last.high)
		return high;
	return low + (OffsetNumber) ((high - low) * ((double) (key->high - first.high) /
												 (double) (last.high - first.high)));
}

/* Entries this far from the guess are looked at next. */
#define FIRST_STEP 3

/* The first of the entries from "low" to "high" that is not below the id; high + 1 if all are. */
static OffsetNumber
first_not_below(Relation index, Page page, OffsetNumber low, OffsetNumber high, const IdKey *key)
{
	OffsetNumber end = high + 1;

	if (high > low + FIRST_STEP)
	{
		OffsetNumber at = guess(index, page, low, high, key);
		int step = FIRST_STEP;

		if (compare_entry(index, page, at, key) < 0)
			for (low = at + 1; low < end; step *= 2)
			{
				at = Min(low + step, end - 1);
				if (compare_entry(index, page, at, key) >= 0)
				{
					end = at;
					break;
				}
				low = at + 1;
			}
		else
			for (end = at; low < end; step *= 2)
			{
				at = Max(end - step, (int) low);
				if (compare_entry(index, page, at, key) < 0)
				{
					low = at + 1;
					break;
				}
				end = at;
			}
	}
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

/*
 * The leftmost leaf that may hold the id, locked for reading; InvalidBuffer if
 * the index is empty.
 */
static Buffer
leaf_of_id(Relation heap, Relation index, const IdKey *key)
{
	Buffer buffer = dashie_bt_getroot(index, heap);

	while (BufferIsValid(buffer))
	{
		Page page = BufferGetPage(buffer);
		BTPageOpaque opaque = BTPageGetOpaque(page);
		BlockNumber next;

		if (lies_right(index, page, key))
			next = opaque->btpo_next;
		else if (P_ISLEAF(opaque))
			break;
		else
		{
			/* the last child that begins below the id; the first one begins below all */
			OffsetNumber child = first_not_below(index, page, P_FIRSTDATAKEY(opaque) + 1,
												 PageGetMaxOffsetNumber(page), key) -
								 1;

			next =
				BTreeTupleGetDownLink((IndexTuple) PageGetItem(page, PageGetItemId(page, child)));
		}
		buffer = _bt_relandgetbuf(index, buffer, next, BT_READ);
	}
	return buffer;
}

typedef struct IdLookup
{
	Relation heap;
	Relation index;
	const IdSlot *ids;
	int nids;
	int next;	/* ids before this one are settled */
	int *found; /* those of them that have an entry */
	int nfound;
} IdLookup;

/* Where several ids fell into one page, the next one is most likely in its neighbour. */
#define CLOSE_IDS 2

/*
 * look_on_leaf settles as many ids as the leaf can tell of; true if the page to
 * the right is the one for the next: it must be, or it may be.
 */
static bool
look_on_leaf(IdLookup *lookup, Page page)
{
	BTPageOpaque opaque = BTPageGetOpaque(page);
	OffsetNumber offset = P_FIRSTDATAKEY(opaque);
	OffsetNumber last = PageGetMaxOffsetNumber(page);
	int begin = lookup->next;

	while (lookup->next < lookup->nids)
	{
		int order;

		offset = first_not_below(lookup->index, page, offset, last, &lookup->ids[lookup->next].key);
		if (offset > last)
		{
			if (P_RIGHTMOST(opaque))
			{
				lookup->next = lookup->nids;
				return false;
			}
			return lookup->next - begin >= CLOSE_IDS ||
				   !lies_right(lookup->index, page, &lookup->ids[lookup->next].key);
		}
		/* what is below the entry has none, and what equals it has one */
		while (lookup->next < lookup->nids &&
			   (order = compare_entry(lookup->index, page, offset,
									  &lookup->ids[lookup->next].key)) >= 0)
		{
			if (order == 0)
				lookup->found[lookup->nfound++] = lookup->next;
			lookup->next++;
		}
	}
	return false;
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
 * has seen.  "found" gets the places of those that have an entry, ascending;
 * returns how many.  The caller has locked the table and the index.
 */
int
ids_in_index(Relation heap, Relation index, const IdSlot *ids, int nids, int *found)
{
	IdLookup lookup = {heap, index, ids, nids, 0, found, 0};
	Buffer buffer = InvalidBuffer;

	while (lookup.next < nids)
	{
		const IdKey *key = &ids[lookup.next].key;
		bool right;

		if (!BufferIsValid(buffer))
		{
			CHECK_FOR_INTERRUPTS();
			buffer = leaf_of_id(heap, index, key);
			if (!BufferIsValid(buffer))
				break;
		}
		if (!lies_right(index, BufferGetPage(buffer), key))
			right = look_on_leaf(&lookup, BufferGetPage(buffer));
		else
			/* a neighbour that was tried; pages that were split are not far */
			right = P_IGNORE(BTPageGetOpaque(BufferGetPage(buffer)));
		if (right)
			buffer = _bt_relandgetbuf(index, buffer,
									  BTPageGetOpaque(BufferGetPage(buffer))->btpo_next, BT_READ);
		else
		{
			_bt_relbuf(index, buffer);
			buffer = InvalidBuffer;
		}
	}
	if (BufferIsValid(buffer))
		_bt_relbuf(index, buffer);
	return lookup.nfound;
}
