/*
 * rows.h
 *		Set-returning functions in materialize mode, and argument checks.
 */
#ifndef DASHIE_ROWS_H
#define DASHIE_ROWS_H

#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/tuplestore.h"

typedef struct DashieRows
{
	TupleDesc desc;
	Tuplestorestate *store;
} DashieRows;

extern void dashie_rows_begin(FunctionCallInfo fcinfo, DashieRows *rows);
extern void dashie_rows_put(DashieRows *rows, const Datum *values, const bool *nulls);

/* 22023 "argument "x" must not be NULL" */
extern void dashie_reject_null(FunctionCallInfo fcinfo, int argno, const char *name);

#define DASHIE_ARG(n) (fcinfo->args[n])

#endif /* DASHIE_ROWS_H */
