/*
 * status.c
 *		dashie.roadmap: the roadmap as a live view.
 *
 * Runs for whoever may call it, as dashie_enter() leaves them.  Users and
 * access_control_config are read through the access method: no code of the
 * tables' owners runs.  What cannot be read is said in the evidence, and is
 * never an error: the view must show a database without Supabase too.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/timestamp.h"

#include "common/owner.h"
#include "common/relation.h"
#include "common/rows.h"
#include "retention/retention.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_roadmap_status);

/* A trigger of the roadmap, evaluated. */
typedef struct Evidence
{
	bool known; /* else a person decides, or the source is missing */
	bool met;
	char *text;
} Evidence;

/* Value of a key of public.access_control_config; NULL, and why, if there is none. */
static char *
read_access_control(const char *wanted, const char **problem)
{
	DashieColumn columns[] = {{"key", TEXTOID, false, 0}, {"value", TEXTOID, false, 0}};
	Oid relid = dashie_relation_oid("public", "access_control_config");
	Relation rel;
	DashieScan *scan;
	char *value = NULL;

	if (!OidIsValid(relid) || get_rel_relkind(relid) != RELKIND_RELATION)
	{
		*problem = "there is no table public.access_control_config";
		return NULL;
	}
	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK ||
		check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
	{
		*problem = "public.access_control_config may not be read";
		return NULL;
	}

	rel = dashie_relation_open(relid, AccessShareLock, ACL_SELECT, false);
	dashie_relation_columns(rel, columns, lengthof(columns));
	scan = dashie_scan_latest(rel);
	while (value == NULL && dashie_scan_next(scan))
	{
		bool isnull;
		Datum key = dashie_scan_get(scan, &columns[0], &isnull);

		if (isnull || strcmp(TextDatumGetCString(key), wanted) != 0)
			continue;
		key = dashie_scan_get(scan, &columns[1], &isnull);
		if (!isnull)
			value = TextDatumGetCString(key);
	}
	dashie_scan_end(scan);
	relation_close(rel, AccessShareLock);
	*problem = "public.access_control_config does not say beta_mode_enabled";
	return value;
}

static Evidence
beta_evidence(void)
{
	Evidence evidence = {false, false, NULL};
	const char *problem;
	char *value = read_access_control("beta_mode_enabled", &problem);
	bool on;

	if (value == NULL)
		evidence.text = pstrdup(problem);
	else
	{
		evidence.text = psprintf("beta_mode_enabled = %s", value);
		evidence.known = parse_bool(value, &on);
		evidence.met = evidence.known && !on;
	}
	return evidence;
}

static Evidence
evaluate(const RoadmapTable *table, bool counted, int64 users, const char *problem)
{
	Evidence evidence = {false, false, NULL};

	switch (table->trigger)
	{
		case TRIGGER_DECISION:
			evidence.text = pstrdup("a person decides");
			break;
		case TRIGGER_BETA_OFF:
			evidence = beta_evidence();
			break;
		case TRIGGER_USERS:
			evidence.known = counted;
			evidence.met = users >= table->trigger_users;
			evidence.text =
				counted
					? psprintf(INT64_FORMAT " users, trigger at %d", users, table->trigger_users)
					: psprintf("%s, trigger at %d users", problem, table->trigger_users);
			break;
	}
	return evidence;
}

/*
 * Rows (the planner's estimate) and bytes of a table with its partitions;
 * false if it was dropped meanwhile, rows -1 if it was never analyzed.
 */
static bool
measure(Oid relid, double *rows, int64 *bytes)
{
	Relation table = try_relation_open(relid, AccessShareLock);
	ListCell *lc;

	if (table == NULL)
		return false;
	*rows = -1;
	*bytes = 0;
	foreach (lc, find_all_inheritors(relid, AccessShareLock, NULL))
	{
		Relation rel = relation_open(lfirst_oid(lc), NoLock);

		if (RELKIND_HAS_STORAGE(rel->rd_rel->relkind))
		{
			*bytes += DatumGetInt64(
				DirectFunctionCall1(pg_total_relation_size, ObjectIdGetDatum(lfirst_oid(lc))));
			if (rel->rd_rel->reltuples >= 0)
				*rows = Max(*rows, 0) + rel->rd_rel->reltuples;
		}
		relation_close(rel, NoLock);
	}
	relation_close(table, NoLock);
	return true;
}

/* How long rows are kept, in words. */
static char *
retention_text(const RoadmapTable *table)
{
	Interval *keep = dashie_retention_of(table->name);

	if (keep == NULL)
		return pstrdup(table->time_column == NULL ? "forever" : "until set");
	return DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(keep)));
}

/* SQL: dashie.roadmap_status() */
Datum
dashie_roadmap_status(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	DashieRows rows;
	const char *problem = NULL;
	int64 users;
	bool counted;

	dashie_enter(&guard);
	dashie_rows_begin(fcinfo, &rows);
	counted = dashie_users_count(&users, &problem);

	for (int i = 0; i < ROADMAP_TABLES; i++)
	{
		const RoadmapTable *table = &dashie_roadmap_tables[i];
		Evidence evidence = evaluate(table, counted, users, problem);
		char *schema = dashie_enabled_schema(table->name);
		Oid relid = schema != NULL ? dashie_relation_oid(schema, table->name) : InvalidOid;
		double tuples;
		int64 bytes;
		Datum values[13];
		bool nulls[13] = {false};

		values[0] = CStringGetTextDatum(table->name);
		values[1] = Int32GetDatum(table->phase);
		values[2] = CStringGetTextDatum(table->phase_name);
		values[3] = CStringGetTextDatum(table->priority);
		values[4] = CStringGetTextDatum(table->trigger_text);
		values[5] = BoolGetDatum(evidence.met);
		nulls[5] = !evidence.known;
		values[6] = CStringGetTextDatum(evidence.text);
		values[7] = BoolGetDatum(OidIsValid(relid));
		nulls[8] = schema == NULL;
		if (schema != NULL)
			values[8] = CStringGetTextDatum(schema);
		values[9] = CStringGetTextDatum(retention_text(table));
		values[10] = CStringGetTextDatum(table->strategy);
		nulls[11] = nulls[12] = true;
		if (OidIsValid(relid) && measure(relid, &tuples, &bytes))
		{
			values[11] = Int64GetDatum((int64) tuples);
			nulls[11] = tuples < 0;
			values[12] = Int64GetDatum(bytes);
			nulls[12] = false;
		}
		dashie_rows_put(&rows, values, nulls);
	}
	dashie_leave(&guard);
	return (Datum) 0;
}
