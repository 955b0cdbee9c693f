/*
 * set_aggregate.c
 *		dashie.user_set_agg() and the aggregate dashie.user_set_union().
 *
 * Both have a SetBuilder for a state, in the aggregate's memory context, which
 * counts towards work_mem like any other.  Between processes a state travels as
 * a set's bytes, which are checked where they arrive.  No row, or NULLs only,
 * make NULL, as for every aggregate but count().
 *
 * The aggregate dashie.user_set_intersect() has no code of its own: its state
 * is the set that is left, and its transition and combine function the
 * intersection of two.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/memutils.h"

#include "metrics/set_builder.h"
#include "metrics/set_format.h"
#include "metrics/set_type.h"

PG_FUNCTION_INFO_V1(dashie_user_set_agg_add);
PG_FUNCTION_INFO_V1(dashie_user_set_agg_unite);
PG_FUNCTION_INFO_V1(dashie_user_set_agg_combine);
PG_FUNCTION_INFO_V1(dashie_user_set_agg_serialize);
PG_FUNCTION_INFO_V1(dashie_user_set_agg_deserialize);
PG_FUNCTION_INFO_V1(dashie_user_set_agg_final);

static MemoryContext
aggregate_context(FunctionCallInfo fcinfo)
{
	MemoryContext context;

	if (!AggCheckCallContext(fcinfo, &context))
		elog(ERROR, "aggregate function called outside of an aggregate");
	return context;
}

/* The state, or NULL as long as there is none. */
static SetBuilder *
get_state(FunctionCallInfo fcinfo, int argno)
{
	return PG_ARGISNULL(argno) ? NULL : (SetBuilder *) PG_GETARG_POINTER(argno);
}

static Datum
return_state(FunctionCallInfo fcinfo, SetBuilder *state)
{
	if (state == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(state);
}

Datum
dashie_user_set_agg_add(PG_FUNCTION_ARGS)
{
	MemoryContext context = aggregate_context(fcinfo);
	SetBuilder *state = get_state(fcinfo, 0);
	MemoryContext old;

	if (PG_ARGISNULL(1))
		return return_state(fcinfo, state);
	old = MemoryContextSwitchTo(context);
	if (state == NULL)
		state = set_builder_create();
	set_builder_add(state, set_member(PG_GETARG_INT32(1)));
	MemoryContextSwitchTo(old);
	PG_RETURN_POINTER(state);
}

Datum
dashie_user_set_agg_unite(PG_FUNCTION_ARGS)
{
	MemoryContext context = aggregate_context(fcinfo);
	SetBuilder *state = get_state(fcinfo, 0);
	SetBytes set;
	MemoryContext old;

	if (PG_ARGISNULL(1))
		return return_state(fcinfo, state);
	set = PG_GETARG_SET(1);
	old = MemoryContextSwitchTo(context);
	if (state == NULL)
		state = set_builder_create();
	set_accept(set_builder_add_set(state, set.data, set.size));
	MemoryContextSwitchTo(old);
	PG_RETURN_POINTER(state);
}

Datum
dashie_user_set_agg_combine(PG_FUNCTION_ARGS)
{
	MemoryContext context = aggregate_context(fcinfo);
	SetBuilder *state = get_state(fcinfo, 0);
	SetBuilder *other = get_state(fcinfo, 1);
	MemoryContext old;

	if (other == NULL)
		return return_state(fcinfo, state);
	old = MemoryContextSwitchTo(context);
	if (state == NULL)
		state = set_builder_create();
	set_builder_add_builder(state, other);
	MemoryContextSwitchTo(old);
	PG_RETURN_POINTER(state);
}

Datum
dashie_user_set_agg_serialize(PG_FUNCTION_ARGS)
{
	aggregate_context(fcinfo);
	PG_RETURN_BYTEA_P(set_builder_write(get_state(fcinfo, 0)));
}

Datum
dashie_user_set_agg_deserialize(PG_FUNCTION_ARGS)
{
	SetBytes set = PG_GETARG_SET(0);
	SetBuilder *state;

	aggregate_context(fcinfo);
	set_accept(user_set_problem(set.data, set.size));
	state = set_builder_create();
	set_accept(set_builder_add_set(state, set.data, set.size));
	PG_RETURN_POINTER(state);
}

Datum
dashie_user_set_agg_final(PG_FUNCTION_ARGS)
{
	SetBuilder *state;

	aggregate_context(fcinfo);
	state = get_state(fcinfo, 0);
	if (state == NULL)
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(set_builder_write(state));
}
