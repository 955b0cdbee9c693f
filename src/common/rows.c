/*
 * rows.c
 *		Set-returning functions in materialize mode, and argument checks.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "common/rows.h"

/*
 * dashie_rows_begin prepares the result of a set-returning function.  The
 * store lives in the per-query context; rows may be put from any context.
 */
void
dashie_rows_begin(FunctionCallInfo fcinfo, DashieRows *rows)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext old;

	if (info == NULL || !IsA(info, ReturnSetInfo) || !(info->allowedModes & SFRM_Materialize))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("set-valued function called in context that cannot accept a set")));

	old = MemoryContextSwitchTo(info->econtext->ecxt_per_query_memory);
	if (get_call_result_type(fcinfo, NULL, &rows->desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	rows->store =
		tuplestore_begin_heap(info->allowedModes & SFRM_Materialize_Random, false, work_mem);
	info->returnMode = SFRM_Materialize;
	info->setResult = rows->store;
	info->setDesc = rows->desc;
	MemoryContextSwitchTo(old);
}

void
dashie_rows_put(DashieRows *rows, const Datum *values, const bool *nulls)
{
	tuplestore_putvalues(rows->store, rows->desc, unconstify(Datum *, values),
						 unconstify(bool *, nulls));
}

void
dashie_reject_null(FunctionCallInfo fcinfo, int argno, const char *name)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"%s\" must not be NULL", name)));
}
