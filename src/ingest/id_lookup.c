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
#include "port/pg_bswap.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "common/compat.h"
#include "ingest/ingest.h"

/* id_key is an id as two numbers, which order as the ids do. */
IdKey
id_key(const pg_uuid_t *id)
{
	uint64 parts[2];
	IdKey key;

	memcpy(parts, id->data, sizeof(parts));
	key.high = pg_ntoh64(parts[0]);
	key.low = pg_ntoh64(parts[1]);
	return key;
}

/* How an entry stands to an id; a NULL comes after all. */
static int
compare_entry(Relation index, Page page, OffsetNumber offset, const IdKey *key)
{
	IndexTuple entry = (IndexTuple) PageGetItem(page, PageGetItemId(page, offset));
	bool isnull;
	Datum value = index_getattr(entry, 1, RelationGetDescr(index), &isnull);
	IdKey its;

	if (isnull)
		return 1;
	its = id_key(DatumGetUUIDP(value));
	return id_key_compare(&its, key);
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

/*
 * look_on_leaf settles as many ids as the leaf can tell of; true if it cannot
 * tell of the next one because its entries may begin on the page to the right.
 */
static bool
look_on_leaf(IdLookup *lookup, Page page)
{
	BTPageOpaque opaque = BTPageGetOpaque(page);
	OffsetNumber offset = P_FIRSTDATAKEY(opaque);
	OffsetNumber last = PageGetMaxOffsetNumber(page);

	while (lookup->next < lookup->nids)
	{
		int order;

		offset = first_not_below(lookup->index, page, offset, last, &lookup->ids[lookup->next].key);
		if (offset > last)
		{
			if (P_RIGHTMOST(opaque))
				lookup->next = lookup->nids;
			return !P_RIGHTMOST(opaque) &&
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
		right = lies_right(index, BufferGetPage(buffer), key) ||
				look_on_leaf(&lookup, BufferGetPage(buffer));
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
