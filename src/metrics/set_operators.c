/*
 * set_operators.c
 *		What SQL can do with sets: build, merge, compare, count and list them.
 *
 * All of it works on the bytes.  How many members a set has, and whether an
 * integer is one, is answered without reading the others.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/memutils.h"

#include "metrics/set_builder.h"
#include "metrics/set_format.h"
#include "metrics/set_type.h"

PG_FUNCTION_INFO_V1(dashie_user_set_union);
PG_FUNCTION_INFO_V1(dashie_user_set_intersect);
PG_FUNCTION_INFO_V1(dashie_user_set_except);
PG_FUNCTION_INFO_V1(dashie_user_set_has_member);
PG_FUNCTION_INFO_V1(dashie_user_set_is_member);
PG_FUNCTION_INFO_V1(dashie_user_set_contains);
PG_FUNCTION_INFO_V1(dashie_user_set_contained);
PG_FUNCTION_INFO_V1(dashie_user_set_overlaps);
PG_FUNCTION_INFO_V1(dashie_user_set_cardinality);
PG_FUNCTION_INFO_V1(dashie_user_set_from_array);
PG_FUNCTION_INFO_V1(dashie_user_set_to_array);
PG_FUNCTION_INFO_V1(dashie_user_set_unnest);

static Datum
merge(SetMergeKind kind, FunctionCallInfo fcinfo)
{
	const char *problem;
	bytea *result = set_merge(kind, PG_GETARG_SET(0), PG_GETARG_SET(1), &problem);

	set_accept(problem);
	PG_RETURN_BYTEA_P(result);
}

Datum
dashie_user_set_union(PG_FUNCTION_ARGS)
{
	return merge(SET_UNION, fcinfo);
}

Datum
dashie_user_set_intersect(PG_FUNCTION_ARGS)
{
	return merge(SET_INTERSECTION, fcinfo);
}

Datum
dashie_user_set_except(PG_FUNCTION_ARGS)
{
	return merge(SET_DIFFERENCE, fcinfo);
}

static bool
has_member(SetBytes set, int32 member)
{
	SetReader reader;
	SetContainer container;
	bool found;

	if (member < 0)
		return false;
	set_read(&reader, set.data, set.size);
	found = set_find(&reader, (uint32) member >> 16, &container) &&
			set_container_has(&container, (uint32) member & 0xFFFF);
	set_accept(reader.problem);
	return found;
}

Datum
dashie_user_set_has_member(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(has_member(PG_GETARG_SET(0), PG_GETARG_INT32(1)));
}

Datum
dashie_user_set_is_member(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(has_member(PG_GETARG_SET(1), PG_GETARG_INT32(0)));
}

static bool
is_subset(SetBytes part, SetBytes whole)
{
	const char *problem;
	bool result = set_is_subset(part, whole, &problem);

	set_accept(problem);
	return result;
}

Datum
dashie_user_set_contains(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(is_subset(PG_GETARG_SET(1), PG_GETARG_SET(0)));
}

Datum
dashie_user_set_contained(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(is_subset(PG_GETARG_SET(0), PG_GETARG_SET(1)));
}

Datum
dashie_user_set_overlaps(PG_FUNCTION_ARGS)
{
	const char *problem;
	bool result = set_overlaps(PG_GETARG_SET(0), PG_GETARG_SET(1), &problem);

	set_accept(problem);
	PG_RETURN_BOOL(result);
}

static int64
cardinality(SetBytes set)
{
	SetReader reader;
	SetContainer container;
	int64 total = 0;

	set_read(&reader, set.data, set.size);
	while (set_next(&reader, &container))
		total += container.cardinality;
	set_accept(reader.problem);
	return total;
}

Datum
dashie_user_set_cardinality(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(cardinality(PG_GETARG_SET(0)));
}

Datum
dashie_user_set_from_array(PG_FUNCTION_ARGS)
{
	ArrayType *array = PG_GETARG_ARRAYTYPE_P(0);
	int n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	const int32 *members = (const int32 *) ARR_DATA_PTR(array);
	SetBuilder *builder = set_builder_create();

	if (array_contains_nulls(array))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("members of a set must not be NULL")));
	for (int i = 0; i < n; i++)
		set_builder_add(builder, set_member(members[i]));
	PG_RETURN_BYTEA_P(set_builder_write(builder));
}

Datum
dashie_user_set_to_array(PG_FUNCTION_ARGS)
{
	SetBytes set = PG_GETARG_SET(0);
	int64 n = cardinality(set);
	Size size = ARR_OVERHEAD_NONULLS(1) + (Size) n * sizeof(int32);
	ArrayType *array;
	int32 *members;
	int64 put = 0;
	SetRuns runs;
	uint32 first;
	uint32 last;

	if (n == 0)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(INT4OID));
	if (!AllocSizeIsValid(size))
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("a set of " INT64_FORMAT " members is too large for an array", n),
						errhint("Use dashie.unnest().")));

	array = palloc(size);
	SET_VARSIZE(array, size);
	array->ndim = 1;
	array->dataoffset = 0;
	array->elemtype = INT4OID;
	ARR_DIMS(array)[0] = (int) n;
	ARR_LBOUND(array)[0] = 1;
	members = (int32 *) ARR_DATA_PTR(array);

	set_runs_begin(&runs, set.data, set.size);
	while (set_runs_next(&runs, &first, &last))
	{
		CHECK_FOR_INTERRUPTS();
		/* the header has promised how many there are */
		if (put + last - first >= n)
			set_accept("inconsistent container");
		for (int64 member = first; member <= last; member++)
			members[put++] = (int32) member;
	}
	set_accept(runs.reader.problem != NULL ? runs.reader.problem
			   : put == n				   ? NULL
										   : "inconsistent container");
	PG_RETURN_ARRAYTYPE_P(array);
}

typedef struct Unnest
{
	SetRuns runs;
	int64 next;
	int64 last;
} Unnest;

Datum
dashie_user_set_unnest(PG_FUNCTION_ARGS)
{
	FuncCallContext *context;
	Unnest *state;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext old;
		SetBytes set;

		context = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(context->multi_call_memory_ctx);
		/* a copy, since the argument may be gone at the next call */
		set = set_bytes_of((struct varlena *) PG_GETARG_BYTEA_P_COPY(0));
		state = palloc(sizeof(Unnest));
		set_runs_begin(&state->runs, set.data, set.size);
		state->next = 0;
		state->last = -1;
		context->user_fctx = state;
		MemoryContextSwitchTo(old);
	}
	context = SRF_PERCALL_SETUP();
	state = context->user_fctx;
	if (state->next > state->last)
	{
		uint32 first;
		uint32 last;

		if (!set_runs_next(&state->runs, &first, &last))
		{
			set_accept(state->runs.reader.problem);
			SRF_RETURN_DONE(context);
		}
		state->next = first;
		state->last = last;
	}
	SRF_RETURN_NEXT(context, Int32GetDatum((int32) state->next++));
}
