/*
 * active_country.c
 *		dashie.active_users_by_country(): exact distinct users of a window of
 *		days, by the country in which each is counted.
 *
 * A question: nothing is written and no lock is taken.  Where all days of the
 * window have pages that are up to date, only their sets are read, and the two
 * bytes a user of dashie.user_country: no user is looked at.  Days that
 * changed since are computed from the rows in memory.
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

PG_FUNCTION_INFO_V1(dashie_active_users_by_country);

#define MAX_WINDOW_DAYS 3660

/* Which days of the window are to be computed from the rows; true if any. */
static bool
plan_days(Metrics *metrics, DateADT from, DateADT to, bool *compute)
{
	DayPage *heads = pages_load(metrics, from, to, false);
	bool any = false;

	if (OidIsValid(dashie_relation_oid("dashie", "changed_range")))
		metrics_marked(metrics, from, to, compute);
	for (int i = 0; i <= to - from; i++)
	{
		DayPage *page = &heads[i];

		if (!page->stored || page->dirty || !page->has_sessions || !page->final)
			compute[i] = true;
		if (page->day < metrics->first_open_day || !OidIsValid(metrics->sessions_rel))
			compute[i] = false;
		any |= compute[i];
	}
	pfree(heads);
	return any;
}

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
		DateADT day = DatumGetDateADT(dashie_field(row, 1, NULL));

		if (day >= from && day <= to && !compute[day - from])
			roaring_bitmap_or_inplace(
				users, user_set_from_bytes(DatumGetByteaPP(dashie_field(row, 2, NULL))));
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	dashie_query_end();
	MemoryContextDelete(context);
}

static void
unite_page(Metrics *metrics, DayPage *page, void *arg)
{
	roaring_bitmap_or_inplace((UserSet *) arg, page->active);
}

static void
unite_computed(Metrics *metrics, UserSet *users, DateADT from, DateADT to, bool *compute)
{
	DayPage *heads = pages_load(metrics, from, to, false);

	for (int i = 0; i <= to - from; i++)
		while (compute[i])
			(void) collect_stretch(metrics, heads + i, to - from + 1 - i, compute + i, unite_page,
								   users);
	pfree(heads);
}

/* The country of a number: as the last refresh left it, or of a user who is new since. */
static CountryCode
country_of(const Metrics *metrics, const CountryCode *codes, int32 size, int32 number)
{
	UserEntry *user = metrics->users_loaded ? numbers_by_number(metrics, number) : NULL;

	if (user != NULL && user->is_new)
		return user->anonymous || !user_is_there(user) ? COUNTRY_NOT_COUNTED : user->country;
	return number < size ? codes[number] : COUNTRY_NOT_COUNTED;
}

Datum
dashie_active_users_by_country(PG_FUNCTION_ARGS)
{
	DashieRows rows;
	DateADT to = dashie_day_argument("d", DASHIE_ARG(0));
	DateADT from;
	int32 days;
	DashieGuard guard;
	Metrics *metrics;
	MemoryContext old;
	bool *compute;
	bool any;
	UserSet *users;
	CountryCode *codes;
	int32 size;
	int32 *members;
	int64 nmembers;
	int64 *counts;

	dashie_reject_null(fcinfo, 1, "days");
	days = PG_GETARG_INT32(1);
	if (days < 1 || days > MAX_WINDOW_DAYS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"days\" is out of range: %d", days),
						errdetail("A window has 1 to %d days.", MAX_WINDOW_DAYS)));
	from = Max(to - days + 1, DASHIE_MIN_DAY);

	dashie_rows_begin(fcinfo, &rows);
	dashie_enter(&guard);
	metrics = metrics_open(&guard, metrics_table("day_page"), true);
	if (to > metrics->today)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"d\" (%s) is in the future", dashie_day_text(to)),
						errdetail("Today is %s in time zone %s.", dashie_day_text(metrics->today),
								  pg_get_timezone_name(metrics->zone))));

	old = MemoryContextSwitchTo(metrics->context);
	compute = palloc0(to - from + 1);
	any = plan_days(metrics, from, to, compute);
	users = user_set_create();
	unite_stored(users, from, to, compute);
	if (any)
		unite_computed(metrics, users, from, to, compute);

	codes = countries_codes(metrics, &size);
	members = user_set_members(users, metrics->max_user, &nmembers);
	counts = palloc0(COUNTRIES * sizeof(int64));
	for (int64 i = 0; i < nmembers; i++)
	{
		CountryCode country = country_of(metrics, codes, size, members[i]);

		if (country != COUNTRY_NOT_COUNTED)
			counts[country_index(country)]++;
	}
	for (int i = 0; i < COUNTRIES; i++)
	{
		char code[3] = {(char) ('A' + i / 26), (char) ('A' + i % 26), '\0'};
		Datum values[2];
		bool nulls[2] = {false, false};

		if (counts[i] == 0)
			continue;
		values[0] = CStringGetTextDatum(code);
		values[1] = Int64GetDatum(counts[i]);
		dashie_rows_put(&rows, values, nulls);
	}
	MemoryContextSwitchTo(old);
	metrics_close(metrics);
	dashie_leave(&guard);
	return (Datum) 0;
}
