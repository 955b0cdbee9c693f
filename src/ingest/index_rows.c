/*
 * index_rows.c
 *		The index entries of rows that were just written together.
 *
 * COPY and INSERT make the entries of a row in all indexes and then those of the
 * next row, each in another place of each index.  Here one index is filled after
 * the other, with rows of like keys together, so that most entries find what
 * leads to them in the processor's cache.  Which rows come first says nothing
 * about the result.
 */
#include "postgres.h"

#include "access/genam.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "port/pg_bswap.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#include "ingest/ingest.h"

typedef struct KeyedRow
{
	uint64 key; /* the first bytes of the value */
	int row;
} KeyedRow;

/*
 * index_rows_possible says whether all indexes are of the kind that is filled
 * here: btrees of columns, checked at once.
 */
bool
index_rows_possible(const ResultRelInfo *result)
{
	for (int i = 0; i < result->ri_NumIndices; i++)
	{
		Relation index = result->ri_IndexRelationDescs[i];
		const IndexInfo *info = result->ri_IndexRelationInfo[i];

		if (index->rd_rel->relam != BTREE_AM_OID || !index->rd_index->indimmediate ||
			info->ii_Expressions != NIL || info->ii_Predicate != NIL ||
			info->ii_ExclusionOps != NULL)
			return false;
	}
	return true;
}

static uint64
first_bytes(Oid type, Datum value)
{
	uint64 key = 0;

	if (type == UUIDOID)
		memcpy(&key, DatumGetUUIDP(value)->data, sizeof(key));
	else
	{
		const struct varlena *text = (const struct varlena *) DatumGetPointer(value);

		if (!VARATT_IS_COMPRESSED(text) && !VARATT_IS_EXTERNAL(text))
			memcpy(&key, VARDATA_ANY(text), Min(sizeof(key), VARSIZE_ANY_EXHDR(text)));
	}
	return pg_ntoh64(key);
}

static int
compare_rows(const void *a, const void *b)
{
	const KeyedRow *left = a;
	const KeyedRow *right = b;

	if (left->key != right->key)
		return left->key < right->key ? -1 : 1;
	return left->row - right->row;
}

/* Rows of like keys together; other types than these come in their order, as time does. */
static void
order_rows(const WrittenRows *written, AttrNumber attnum, KeyedRow *rows)
{
	Oid type = TupleDescAttr(written->desc, attnum - 1)->atttypid;
	bool ordered = type == UUIDOID || type == TEXTOID;

	for (int i = 0; i < written->nrows; i++)
	{
		int place = i * written->desc->natts + attnum - 1;

		rows[i].key =
			ordered && !written->nulls[place] ? first_bytes(type, written->values[place]) : 0;
		rows[i].row = i;
	}
	if (ordered)
		qsort(rows, written->nrows, sizeof(KeyedRow), compare_rows);
}

/*
 * index_rows makes the entries of rows that have their place in the table, in
 * indexes that index_rows_possible() has seen.
 */
void
index_rows(ResultRelInfo *result, EState *estate, const WrittenRows *written)
{
	KeyedRow *rows = palloc(written->nrows * sizeof(KeyedRow));
	MemoryContext old = CurrentMemoryContext;

	for (int i = 0; i < result->ri_NumIndices; i++)
	{
		Relation index = result->ri_IndexRelationDescs[i];
		IndexInfo *info = result->ri_IndexRelationInfo[i];
		IndexUniqueCheck check = index->rd_index->indisunique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO;

		if (!info->ii_ReadyForInserts)
			continue;
		order_rows(written, info->ii_IndexAttrNumbers[0], rows);
		for (int j = 0; j < written->nrows; j++)
		{
			int row = rows[j].row;
			Datum values[INDEX_MAX_KEYS];
			bool nulls[INDEX_MAX_KEYS];

			for (int k = 0; k < info->ii_NumIndexAttrs; k++)
			{
				int place = row * written->desc->natts + info->ii_IndexAttrNumbers[k] - 1;

				values[k] = written->values[place];
				nulls[k] = written->nulls[place];
			}
			MemoryContextSwitchTo(GetPerTupleMemoryContext(estate));
			index_insert(index, values, nulls, &written->places[row], result->ri_RelationDesc,
						 check, false, info);
			MemoryContextSwitchTo(old);
			ResetPerTupleExprContext(estate);
		}
	}
	pfree(rows);
}
