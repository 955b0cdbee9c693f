/*
 * active.c
 *		Exact distinct users of a window of days: dashie.active_users(), and
 *		dashie.active_users_by_country(), by the country in which each is counted.
 *
 * Where all days of the window have pages that are up to date, only their sets
 * are read, and for countries the two bytes a user of dashie.user_country: no
 * user is looked at.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "common/rows.h"
#include "metrics/question.h"

PG_FUNCTION_INFO_V1(dashie_active_users);
PG_FUNCTION_INFO_V1(dashie_active_users_by_country);

static void
unite(void *arg, DateADT day, const UserSet *active)
{
	if (active != NULL)
		roaring_bitmap_or_inplace((UserSet *) arg, active);
}

/*
 * ask_window opens the question that both functions ask, of arguments "d" and
 * "days", and unites the days' sets, anonymous users included.
 */
static UserSet *
ask_window(FunctionCallInfo fcinfo, DashieGuard *guard, Question **question)
{
	DateADT to = dashie_day_argument("d", DASHIE_ARG(0));
	int32 days;
	Metrics *metrics;
	MemoryContext old;
	UserSet *users;

	dashie_reject_null(fcinfo, 1, "days");
	days = PG_GETARG_INT32(1);
	if (days < 1 || days > MAX_WINDOW_DAYS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"days\" is out of range: %d", days),
						errdetail("A window has 1 to %d days.", MAX_WINDOW_DAYS)));

	dashie_enter(guard);
	metrics = question_open(guard, metrics_table("day_page"), "d", to);
	*question = question_begin(metrics, Max(to - days + 1, DASHIE_MIN_DAY), to);
	question_tell_lost(*question);
	old = MemoryContextSwitchTo(metrics->context);
	users = user_set_create();
	MemoryContextSwitchTo(old);
	(*question)->raw = true;
	question_each_day(*question, unite, users);
	return users;
}

Datum
dashie_active_users(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	Question *question;
	UserSet *users = ask_window(fcinfo, &guard, &question);
	int64 result;

	roaring_bitmap_andnot_inplace(users, question_anonymous(question));
	result = (int64) roaring_bitmap_get_cardinality(users);
	metrics_close(question->metrics);
	dashie_leave(&guard);
	PG_RETURN_INT64(result);
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
	DashieGuard guard;
	Question *question;
	Metrics *metrics;
	MemoryContext old;
	UserSet *users;
	CountryCode *codes;
	int32 size;
	int32 *members;
	int64 nmembers;
	int64 *counts;

	dashie_rows_begin(fcinfo, &rows);
	users = ask_window(fcinfo, &guard, &question);
	metrics = question->metrics;
	old = MemoryContextSwitchTo(metrics->context);
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
