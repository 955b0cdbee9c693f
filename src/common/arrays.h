/*
 * arrays.h
 *		Many rows as parameters of one statement: an array a column, for
 *		... FROM unnest($1, $2, ...).
 */
#ifndef DASHIE_ARRAYS_H
#define DASHIE_ARRAYS_H

#include "postgres.h"

#define DASHIE_MAX_ARRAYS 16

typedef struct DashieArrays
{
	int ncolumns;
	const Oid *types;				  /* of the elements */
	int nrows;						  /* counted by the caller as it fills rows in */
	Datum *values[DASHIE_MAX_ARRAYS]; /* [column][row] */
	bool *nulls[DASHIE_MAX_ARRAYS];
	Oid parameter_types[DASHIE_MAX_ARRAYS]; /* filled by dashie_arrays_finish() */
	Datum parameters[DASHIE_MAX_ARRAYS];
} DashieArrays;

/* Room for up to "capacity" rows, not NULL. */
extern void dashie_arrays_init(DashieArrays *arrays, const Oid *types, int ncolumns, int capacity);

/* Makes the parameters; ncolumns of them, to which the caller may add its own. */
extern void dashie_arrays_finish(DashieArrays *arrays);

#endif /* DASHIE_ARRAYS_H */
