/*
 * bulk.h
 *		Many rows into one of our own tables, through the table access method.
 */
#ifndef DASHIE_BULK_H
#define DASHIE_BULK_H

#include "postgres.h"

#include "common/arrays.h"

/*
 * Inserts the rows into a table that has exactly these columns, in any order.
 * False, and nothing is inserted, if there is anything that an INSERT would
 * have to mind beside indexes: triggers, rules, checks, other columns.
 */
extern bool dashie_bulk_insert(Oid relid, const char *const *columns, const DashieArrays *rows);

/*
 * Whether dashie_bulk_insert() would insert rows of these columns, also while
 * parallel workers run.
 */
extern bool dashie_bulk_may_insert(Oid relid, const char *const *columns, const DashieArrays *rows);

#endif /* DASHIE_BULK_H */
