/*
 * active.c
 *		dashie.active_users(): exact distinct users of a window of days.
 *
 * A question: nothing is written and no lock is taken.  Days whose page is up
 * to date are answered from it, also when their rows are gone; the others are
 * computed from the rows in memory.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "metrics/engine.h"

PG_FUNCTION_INFO_V1(dashie_active_users);

#define MAX_WINDOW_DAYS 3660
#define CHUNK_DAYS 14

static void
drop_anonymous(Metrics *metrics, UserSet *users)
{
	Oid type = INT4OID;
	uint64 nrows;

	if (metrics->users_loaded)
	{
		for (int32 number = 0; number < metrics->by_number_size; number++)
			if (metrics->by_number[number] != NULL && metrics->by_number[number]->anonymous)
				roaring_bitmap_remove(users, number);
		return;
	}
	dashie_query_begin();
	nrows =
		dashie_query("SELECT number FROM dashie.user_number WHERE anonymous", 0, NULL, NULL, NULL);
	dashie_query_types(1, &type);
	for (uint64 row = 0; row < nrows; row++)
		roaring_bitmap_remove(users, DatumGetInt32(dashie_field(row, 1, NULL)));
	dashie_query_end();
}

/* Unites the stored sets of the days that are not to be computed. */
static void
unite_stored(UserSet *users, DateADT from, DateADT to, const bool *compute)
{
	Oid types[] = {DATEOID, DATEOID};
	Datum values[] = {DateADTGetDatum(from), DateADTGetDatum(to)};
	static const Oid columns[] = {DATEOID, BYTEAOID};
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "dashie stored set", ALLOCSET_DEFAULT_SIZES);
	uint64 nrows;

	dashie_query_begin();
	nrows = dashie_query("SELECT day, active FROM dashie.day_page"
						 " WHERE day BETWEEN $1 AND $2 AND active IS NOT NULL",
						 2, types, values, NULL);
	dashie_query_types(2, columns);
	for (uint64 row = 0; row < nrows; row++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		if (!compute[DatumGetDateADT(dashie_field(row, 1, NULL)) - from])
			roaring_bitmap_or_inplace(
				users, user_set_from_bytes(DatumGetByteaPP(dashie_field(row, 2, NULL))));
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	dashie_query_end();
	MemoryContextDelete(context);
}

static void
unite_computed(Metrics *metrics, UserSet *users, DateADT from, DateADT to, const bool *compute)
{
	int ndays = to - from + 1;
	MemoryContext chunk =
		AllocSetContextCreate(metrics->context, "dashie metrics chunk", ALLOCSET_DEFAULT_SIZES);

	numbers_load(metrics);
	for (int i = 0; i < ndays;)
	{
		int n = Min(CHUNK_DAYS, ndays - i);
		MemoryContext old;
		DayPage *pages;

		if (!compute[i])
		{
			i++;
			continue;
		}
		while (!compute[i + n - 1])
			n--;
		old = MemoryContextSwitchTo(chunk);
		pages = pages_load(metrics, from + i, from + i + n - 1, true);
		collect_days(metrics, pages, n, compute + i);
		for (int j = 0; j < n; j++)
			if (compute[i + j])
				roaring_bitmap_or_inplace(users, pages[j].active);
		MemoryContextSwitchTo(old);
		MemoryContextReset(chunk);
		i += n;
	}
}

Datum
dashie_active_users(PG_FUNCTION_ARGS)
{
	DateADT to = dashie_day_argument("d", DASHIE_ARG(0));
	DateADT from;
	int32 days;
	DashieGuard guard;
	Metrics *metrics;
	MemoryContext old;
	DayPage *heads;
	bool *compute;
	bool any = false;
	int lost = 0;
	UserSet *users;
	int64 result;

	dashie_reject_null(fcinfo, 1, "days");
	days = PG_GETARG_INT32(1);
	if (days < 1 || days > MAX_WINDOW_DAYS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"days\" is out of range: %d", days),
						errdetail("A window has 1 to %d days.", MAX_WINDOW_DAYS)));
	from = Max(to - days + 1, DASHIE_MIN_DAY);

	dashie_enter(&guard);
	metrics = metrics_open(&guard, metrics_table("day_page"), true);
	if (to > metrics->today)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"d\" (%s) is in the future", dashie_day_text(to)),
						errdetail("Today is %s in time zone %s.", dashie_day_text(metrics->today),
								  pg_get_timezone_name(metrics->zone))));

	old = MemoryContextSwitchTo(metrics->context);
	compute = palloc0(to - from + 1);
	if (OidIsValid(dashie_relation_oid("dashie", "changed_range")))
		metrics_marked(metrics, from, to, compute);
	heads = pages_load(metrics, from, to, false);
	for (int i = 0; i <= to - from; i++)
	{
		DayPage *page = &heads[i];

		if (!page->stored || page->dirty || !page->has_sessions ||
			(!page->final && page->day < metrics->today))
			compute[i] = true;
		if (page->day < metrics->first_open_day || !OidIsValid(metrics->sessions_rel))
			compute[i] = false;
		if (!page->stored && page->day < metrics->first_open_day)
			lost++;
		any |= compute[i];
	}
	if (lost > 0)
		ereport(NOTICE, (errmsg("nothing is known of %d of the %d days: retention closed them "
								"before they were computed",
								lost, days)));

	users = user_set_create();
	unite_stored(users, from, to, compute);
	if (any)
		unite_computed(metrics, users, from, to, compute);
	drop_anonymous(metrics, users);
	result = (int64) roaring_bitmap_get_cardinality(users);
	MemoryContextSwitchTo(old);
	metrics_close(metrics);
	dashie_leave(&guard);
	PG_RETURN_INT64(result);
}
