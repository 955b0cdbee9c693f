/*
 * query.c
 *		SPI with checked return codes.
 *
 * The caller is inside dashie_enter(): names resolve in pg_catalog, and the
 * current user is no superuser unless the extension's owner is one.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "executor/spi.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "common/query.h"

/* A plan that is kept for the session, by its text. */
typedef struct KeptPlan
{
	uint64 hash; /* key */
	char *sql;
	SPIPlanPtr plan;
} KeptPlan;

/* More statements than these are not worth keeping: tables were renamed again and again. */
#define MAX_KEPT_PLANS 256

static HTAB *kept_plans = NULL;

void
dashie_query_begin(void)
{
	int rc = SPI_connect();

	if (rc != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect: %s", SPI_result_code_string(rc));
}

void
dashie_query_end(void)
{
	int rc = SPI_finish();

	if (rc != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish: %s", SPI_result_code_string(rc));
}

static uint64
execute(const char *sql, int nargs, const Oid *types, const Datum *values, const char *nulls,
		bool read_only)
{
	int rc = SPI_execute_with_args(sql, nargs, unconstify(Oid *, types),
								   unconstify(Datum *, values), nulls, read_only, 0);

	if (rc < 0)
		elog(ERROR, "SPI_execute_with_args: %s: %s", SPI_result_code_string(rc), sql);
	return SPI_processed;
}

uint64
dashie_query(const char *sql, int nargs, const Oid *types, const Datum *values, const char *nulls)
{
	return execute(sql, nargs, types, values, nulls, false);
}

/*
 * kept_plan finds the plan of a statement, or makes it; NULL if it cannot be
 * kept.  PostgreSQL plans it again when what it refers to has changed.
 */
static SPIPlanPtr
kept_plan(const char *sql, int nargs, const Oid *types)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) sql, strlen(sql), 0);
	KeptPlan *entry;
	SPIPlanPtr plan;
	char *copy;

	if (kept_plans == NULL)
	{
		HASHCTL control = {.keysize = sizeof(uint64), .entrysize = sizeof(KeptPlan)};

		kept_plans = hash_create("dashie plans", 64, &control, HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(kept_plans, &hash, HASH_FIND, NULL);
	if (entry != NULL)
		return strcmp(entry->sql, sql) == 0 ? entry->plan : NULL;
	if (hash_get_num_entries(kept_plans) >= MAX_KEPT_PLANS)
		return NULL;

	plan = SPI_prepare_cursor(sql, nargs, unconstify(Oid *, types), CURSOR_OPT_GENERIC_PLAN);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare_cursor: %s: %s", SPI_result_code_string(SPI_result), sql);
	copy = MemoryContextStrdup(TopMemoryContext, sql);
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "SPI_keepplan: %s", sql);
	entry = hash_search(kept_plans, &hash, HASH_ENTER, NULL);
	entry->sql = copy;
	entry->plan = plan;
	return plan;
}

uint64
dashie_query_planned(const char *sql, int nargs, const Oid *types, const Datum *values,
					 const char *nulls)
{
	SPIPlanPtr plan = kept_plan(sql, nargs, types);
	int rc;

	if (plan == NULL)
		return dashie_query(sql, nargs, types, values, nulls);
	rc = SPI_execute_plan(plan, unconstify(Datum *, values), nulls, false, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_plan: %s: %s", SPI_result_code_string(rc), sql);
	return SPI_processed;
}

uint64
dashie_query_as_of(Snapshot snapshot, const char *sql, int nargs, const Oid *types,
				   const Datum *values, const char *nulls)
{
	uint64 processed;

	/* what is read-only keeps to the active snapshot */
	PushActiveSnapshot(snapshot);
	processed = execute(sql, nargs, types, values, nulls, true);
	PopActiveSnapshot();
	return processed;
}

void
dashie_command(const char *sql)
{
	int rc = SPI_execute(sql, false, 0);

	if (rc < 0)
		elog(ERROR, "SPI_execute: %s: %s", SPI_result_code_string(rc), sql);
}

/*
 * dashie_query_types fails unless the columns of the result have the given
 * types: whoever owns a table can give its columns others, and a Datum does
 * not tell of which type it is.
 */
void
dashie_query_types(int ncolumns, const Oid *types)
{
	TupleDesc desc = SPI_tuptable->tupdesc;

	Assert(ncolumns == desc->natts);
	for (int i = 0; i < ncolumns; i++)
		if (TupleDescAttr(desc, i)->atttypid != types[i])
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("column \"%s\" has type %s, not %s",
								   NameStr(TupleDescAttr(desc, i)->attname),
								   format_type_be(TupleDescAttr(desc, i)->atttypid),
								   format_type_be(types[i]))));
}

Datum
dashie_field(uint64 row, int column, bool *isnull)
{
	bool null;
	Datum value;

	Assert(row < SPI_processed);
	value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &null);
	if (isnull != NULL)
		*isnull = null;
	else if (null)
		elog(ERROR, "unexpected null in column %d", column);
	return value;
}

char *
dashie_field_text(uint64 row, int column)
{
	char *value = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
	char *copy;

	if (value == NULL)
		return NULL;
	copy = SPI_palloc(strlen(value) + 1);
	strcpy(copy, value);
	return copy;
}

char *
dashie_relation_name(Oid relid)
{
	char *name = get_rel_name(relid);

	if (name == NULL)
		elog(ERROR, "cache lookup failed for relation %u", relid);
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name);
}
