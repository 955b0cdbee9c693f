/*
 * query.h
 *		SPI with checked return codes.
 *
 * Values are parameters.  Names of relations come from dashie_relation_name()
 * or quote_identifier(), never from the caller's text.
 */
#ifndef DASHIE_QUERY_H
#define DASHIE_QUERY_H

#include "postgres.h"

#include "executor/spi.h"
#include "utils/snapshot.h"

extern void dashie_query_begin(void);
extern void dashie_query_end(void);

/* Runs one statement; the number of rows it returned or changed. */
extern uint64
dashie_query(const char *sql, int nargs, const Oid *types, const Datum *values, const char *nulls);

/*
 * The same for statements that run often: planned once a session and kept by
 * their text, which therefore holds no values.
 */
extern uint64 dashie_query_planned(const char *sql, int nargs, const Oid *types,
								   const Datum *values, const char *nulls);

/* The same for a SELECT that sees what "snapshot" sees, and nothing newer. */
extern uint64 dashie_query_as_of(Snapshot snapshot, const char *sql, int nargs, const Oid *types,
								 const Datum *values, const char *nulls);

/* Runs SQL without parameters, DDL for example. */
extern void dashie_command(const char *sql);

/* Fails unless the columns of the last dashie_query() have these types. */
extern void dashie_query_types(int ncolumns, const Oid *types);

/* Field of a row of the last dashie_query(). Pass-by-reference values live until dashie_query_end(). */
extern Datum dashie_field(uint64 row, int column, bool *isnull);
/* Field as text, palloc'd in the context outside SPI; NULL for NULL. */
extern char *dashie_field_text(uint64 row, int column);

/* schema.name of a relation, quoted where needed */
extern char *dashie_relation_name(Oid relid);

#endif /* DASHIE_QUERY_H */
