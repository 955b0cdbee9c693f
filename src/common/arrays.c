/*
 * arrays.c
 *		Many rows as parameters of one statement: an array a column.
 */
#include "postgres.h"

#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/palloc.h"

#include "common/arrays.h"

void
dashie_arrays_init(DashieArrays *arrays, const Oid *types, int ncolumns, int capacity)
{
	Assert(ncolumns <= DASHIE_MAX_ARRAYS);
	arrays->ncolumns = ncolumns;
	arrays->types = types;
	arrays->nrows = 0;
	for (int i = 0; i < ncolumns; i++)
	{
		arrays->values[i] =
			palloc_extended(Max(capacity, 1) * sizeof(Datum), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
		arrays->nulls[i] = palloc0(Max(capacity, 1) * sizeof(bool));
	}
}

void
dashie_arrays_finish(DashieArrays *arrays)
{
	for (int i = 0; i < arrays->ncolumns; i++)
	{
		Oid type = arrays->types[i];
		int16 length;
		bool byval;
		char align;
		int lower = 1;

		get_typlenbyvalalign(type, &length, &byval, &align);
		arrays->parameter_types[i] = get_array_type(type);
		arrays->parameters[i] =
			PointerGetDatum(construct_md_array(arrays->values[i], arrays->nulls[i], 1,
											   &arrays->nrows, &lower, type, length, byval, align));
	}
}
