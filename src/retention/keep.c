/*
 * keep.c
 *		How long the rows of each table are kept: dashie.set_retention().
 *
 * A row of dashie.retention_config overrides the roadmap's retention of one
 * table.  Its CHECK calls the same test as set_retention(), so that a restored
 * or hand-made row is as safe as a checked one: a mistyped interval must never
 * reach live data, nor the seven years that the law asks of payment records.
 *
 * Read by anybody, through a plain scan without rights; written by the
 * extension's owner.  Locks: those of a SELECT or an INSERT on the table.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "billing/billing.h"
#include "common/day.h"
#include "common/owner.h"
#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "retention/retention.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_retention_valid);
PG_FUNCTION_INFO_V1(dashie_set_retention);

#define MAX_KEEP_YEARS 100
#define STRIPE_KEEP_YEARS 7
#define MEAN_DAYS_PER_MONTH (365.25 / MONTHS_PER_YEAR)

/* The fewest days that an interval without negative fields can span. */
static double
shortest_days(const Interval *span)
{
	return (span->month / MONTHS_PER_YEAR) * 365.0 + (span->month % MONTHS_PER_YEAR) * 28.0 +
		   span->day + span->time / (double) USECS_PER_DAY;
}

/*
 * keep_problem says in words why rows cannot be kept that long; NULL if they
 * can.
 */
static const char *
keep_problem(const RoadmapTable *table, const Interval *keep)
{
	double mean;

	if (table->time_column == NULL)
		return "Rows of this table are kept for ever.";
	if (keep->month < 0 || keep->day < 0 || keep->time < 0)
		return "No part of the interval may be negative.";
	mean = keep->month * MEAN_DAYS_PER_MONTH + keep->day + keep->time / (double) USECS_PER_DAY;
	if (shortest_days(keep) < 1 || mean > MAX_KEEP_YEARS * 365.25)
		return "It must be from 1 day to 100 years.";

	/* seven years have two leap days at most; one day more for a change of the clock */
	if (strcmp(table->name, "stripe_webhook_events") == 0 &&
		keep->month < STRIPE_KEEP_YEARS * MONTHS_PER_YEAR &&
		shortest_days(keep) < STRIPE_KEEP_YEARS * 365 + 3)
		return "The law asks for 7 years of payment records at least.";
	return NULL;
}

Datum
dashie_retention_valid(PG_FUNCTION_ARGS)
{
	const RoadmapTable *table;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_BOOL(false);
	table = dashie_roadmap_find(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_BOOL(table != NULL && keep_problem(table, PG_GETARG_INTERVAL_P(1)) == NULL);
}

Datum
dashie_set_retention(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	const RoadmapTable *table;
	Oid types[2] = {TEXTOID, INTERVALOID};
	Datum values[2];

	dashie_reject_null(fcinfo, 0, "table_name");
	table = dashie_roadmap_get(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	if (!PG_ARGISNULL(1))
	{
		const char *problem = keep_problem(table, PG_GETARG_INTERVAL_P(1));

		if (problem != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid retention for %s: %s", table->name,
							DatumGetCString(DirectFunctionCall1(interval_out, PG_GETARG_DATUM(1)))),
					 errdetail_internal("%s", problem)));
	}

	dashie_enter(&guard);
	dashie_query_begin();
	values[0] = CStringGetTextDatum(table->name);
	values[1] = PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1);
	if (PG_ARGISNULL(1))
		dashie_query("DELETE FROM dashie.retention_config WHERE table_name = $1", 1, types, values,
					 NULL);
	else
		dashie_query("INSERT INTO dashie.retention_config AS c (table_name, keep) VALUES ($1, $2)"
					 " ON CONFLICT (table_name) DO UPDATE SET keep = excluded.keep",
					 2, types, values, NULL);
	dashie_query_end();
	dashie_leave(&guard);
	PG_RETURN_VOID();
}

/* What set_retention() stored for the table, or NULL. */
static Interval *
configured_keep(const char *table_name)
{
	Oid relid = dashie_relation_oid("dashie", "retention_config");
	DashieColumn columns[] = {{"table_name", TEXTOID, true, 0}, {"keep", INTERVALOID, true, 0}};
	Relation rel;
	DashieScan *scan;
	Interval *keep = NULL;

	if (!OidIsValid(relid))
		return NULL;
	rel = table_open(relid, AccessShareLock);
	if (rel->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"dashie.retention_config\" is not a plain table")));
	dashie_relation_columns(rel, columns, lengthof(columns));
	scan = dashie_scan_latest(rel);
	while (keep == NULL && dashie_scan_next(scan))
	{
		bool isnull;
		Datum name = dashie_scan_get(scan, &columns[0], &isnull);

		if (strcmp(TextDatumGetCString(name), table_name) == 0)
		{
			keep = palloc(sizeof(Interval));
			*keep = *DatumGetIntervalP(dashie_scan_get(scan, &columns[1], &isnull));
		}
	}
	dashie_scan_end(scan);
	table_close(rel, AccessShareLock);
	return keep;
}

Interval *
dashie_retention_of(const char *table_name)
{
	const RoadmapTable *table = dashie_roadmap_get(table_name);
	Interval *keep;

	if (table->time_column == NULL)
		return NULL;
	keep = configured_keep(table_name);
	if (keep == NULL && table->keep != NULL)
		keep =
			DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(table->keep),
												  ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	return keep;
}

TimestampTz
dashie_retention_cutoff(const char *table_name)
{
	Interval *keep = dashie_retention_of(table_name);
	pg_tz *zone;
	TimestampTz cutoff;

	if (keep == NULL)
		return DT_NOBEGIN;
	zone = dashie_timezone();
	cutoff = dashie_subtract_interval(dashie_now(), keep, zone);

	/* the guard of the table counts in UTC, whatever the configured zone */
	if (strcmp(table_name, "stripe_webhook_events") == 0)
		cutoff = Min(cutoff, dashie_stripe_deletable_before());

	/* metrics forget sessions by whole days */
	if (strcmp(table_name, "user_sessions") == 0)
		cutoff = dashie_day_start(dashie_day_of(cutoff, zone), zone);
	return cutoff;
}
