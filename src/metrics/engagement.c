/*
 * engagement.c
 *		dashie.engagement() and dashie.new_vs_returning(): a row a day.
 *
 * Distinct users of all windows that slide over a stretch of days, in one pass
 * over the days' sets: of each user the last day they were active is kept, and
 * of each of the last 30 days the number of users whose last one it is.  The
 * users of a window are the sum over its days.  So a day costs what its set
 * holds, however long the windows, and memory is four bytes a user.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "common/rows.h"
#include "metrics/question.h"

PG_FUNCTION_INFO_V1(dashie_engagement);
PG_FUNCTION_INFO_V1(dashie_new_vs_returning);

#define WEEK_DAYS 7
#define MONTH_DAYS 30
#define NEVER PG_INT32_MIN

typedef struct LastSeen
{
	DateADT *day; /* [user number]; NEVER */
	int32 size;
} LastSeen;

static void
last_seen_init(LastSeen *last, Metrics *metrics)
{
	last->size = 0;
	last->day = NULL;
	numbers_bounds(metrics);
}

/* Room for the numbers up to the highest of a set that was checked. */
static void
last_seen_reserve(LastSeen *last, MemoryContext context, int32 highest)
{
	int32 old_size = last->size;

	if (highest < old_size)
		return;
	last->size = (int32) Min((int64) highest + highest / 2 + 1024, PG_INT32_MAX);
	last->day = last->day == NULL
					? MemoryContextAllocHuge(context, (Size) last->size * sizeof(DateADT))
					: repalloc_huge(last->day, (Size) last->size * sizeof(DateADT));
	for (int32 i = old_size; i < last->size; i++)
		last->day[i] = NEVER;
}

/* The members of a day's set, with room for each in "last". */
static int32 *
day_members(LastSeen *last, Metrics *metrics, const UserSet *active, int64 *count)
{
	int32 *members = user_set_members(active, metrics->max_user, count);

	if (*count > 0)
		last_seen_reserve(last, metrics->context, members[*count - 1]);
	return members;
}

typedef struct Engagement
{
	Metrics *metrics;
	DashieRows *rows;
	DateADT asked_from;
	bool by_country;
	int ngroups;
	LastSeen last;
	DateADT last_unknown;	   /* latest day that nothing is known of; NEVER */
	int32 (*seen)[MONTH_DAYS]; /* [group][day modulo]: users last active on that day */
	int32 *today;			   /* [group]: users active on the day */
} Engagement;

enum
{
	OUT_DATE,
	OUT_COUNTRY,
	OUT_DAU,
	OUT_WAU,
	OUT_MAU,
	OUT_STICKINESS,
	OUT_COLUMNS
};

static int
slot_of(DateADT day)
{
	return (day - DASHIE_MIN_DAY) % MONTH_DAYS;
}

static int
group_of(const Engagement *engagement, int32 number)
{
	UserEntry *user;

	if (!engagement->by_country)
		return 0;
	user = numbers_by_number(engagement->metrics, number);
	return country_index(user != NULL ? user->country : NO_COUNTRY);
}

static void
put_engagement(Engagement *engagement, DateADT day, int group)
{
	Datum values[OUT_COLUMNS];
	bool nulls[OUT_COLUMNS] = {false};
	char code[3] = {(char) ('A' + group / 26), (char) ('A' + group % 26), '\0'};
	bool known_before = engagement->last_unknown != NEVER;
	int known_days = known_before ? day - engagement->last_unknown : MONTH_DAYS;
	int64 week = 0;
	int64 month = 0;

	for (int i = 0; i < MONTH_DAYS; i++)
	{
		/* days before the first one are slots that were never filled */
		int32 users = engagement->seen[group][slot_of(day + MONTH_DAYS - i)];

		month += users;
		if (i < WEEK_DAYS)
			week += users;
	}
	if (engagement->by_country && month == 0)
		return;
	values[OUT_DATE] = DateADTGetDatum(day);
	values[OUT_COUNTRY] = CStringGetTextDatum(code);
	nulls[OUT_COUNTRY] = !engagement->by_country;
	values[OUT_DAU] = Int64GetDatum(engagement->today[group]);
	nulls[OUT_DAU] = known_days < 1;
	values[OUT_WAU] = Int64GetDatum(week);
	nulls[OUT_WAU] = known_days < WEEK_DAYS;
	values[OUT_MAU] = Int64GetDatum(month);
	nulls[OUT_MAU] = known_days < MONTH_DAYS;
	nulls[OUT_STICKINESS] = nulls[OUT_MAU] || month == 0;
	if (!nulls[OUT_STICKINESS])
		values[OUT_STICKINESS] = share(engagement->today[group], month);
	dashie_rows_put(engagement->rows, values, nulls);
}

static void
count_engagement(void *arg, DateADT day, const UserSet *active)
{
	Engagement *engagement = arg;
	LastSeen *last = &engagement->last;
	int slot = slot_of(day);
	int64 count = 0;
	int32 *members = NULL;

	/* the day that leaves the windows had this slot */
	for (int group = 0; group < engagement->ngroups; group++)
		engagement->seen[group][slot] = engagement->today[group] = 0;
	if (active != NULL)
		members = day_members(last, engagement->metrics, active, &count);
	else
		engagement->last_unknown = day;
	for (int64 i = 0; i < count; i++)
	{
		int group = group_of(engagement, members[i]);
		DateADT *seen = &last->day[members[i]];

		if (*seen != NEVER && day - *seen < MONTH_DAYS)
			engagement->seen[group][slot_of(*seen)]--;
		engagement->seen[group][slot]++;
		engagement->today[group]++;
		*seen = day;
	}
	for (int group = 0; day >= engagement->asked_from && group < engagement->ngroups; group++)
		put_engagement(engagement, day, group);
}

Datum
dashie_engagement(PG_FUNCTION_ARGS)
{
	Engagement engagement = {.last_unknown = NEVER};
	DateADT to;
	DashieRows rows;
	DashieGuard guard;
	Question *question;

	question_range(fcinfo, &engagement.asked_from, &to);
	dashie_reject_null(fcinfo, 2, "by_country");
	engagement.by_country = PG_GETARG_BOOL(2);
	engagement.ngroups = engagement.by_country ? COUNTRIES : 1;
	dashie_rows_begin(fcinfo, &rows);
	engagement.rows = &rows;

	dashie_enter(&guard);
	engagement.metrics = question_open(&guard, metrics_table("day_page"), "to", to);
	if (engagement.by_country)
		numbers_load(engagement.metrics);
	question = question_begin(engagement.metrics,
							  Max(engagement.asked_from - MONTH_DAYS + 1, DASHIE_MIN_DAY), to);
	question_tell_lost(question);
	if (engagement.by_country)
		question_settle_countries(question);
	last_seen_init(&engagement.last, engagement.metrics);
	engagement.seen = MemoryContextAllocZero(engagement.metrics->context,
											 engagement.ngroups * sizeof(*engagement.seen));
	engagement.today =
		MemoryContextAllocZero(engagement.metrics->context, engagement.ngroups * sizeof(int32));
	question_each_day(question, count_engagement, &engagement);
	metrics_close(engagement.metrics);
	dashie_leave(&guard);
	return (Datum) 0;
}

typedef struct Comers
{
	Metrics *metrics;
	DashieRows *rows;
	DateADT asked_from;
	LastSeen last;
	DateADT last_unknown;
} Comers;

enum
{
	COMERS_DATE,
	COMERS_ACTIVE,
	COMERS_NEW,
	COMERS_RETURNING,
	COMERS_RESURRECTED,
	COMERS_COLUMNS
};

static void
count_comers(void *arg, DateADT day, const UserSet *active)
{
	Comers *comers = arg;
	Metrics *metrics = comers->metrics;
	TimestampTz start = dashie_day_start(day, metrics->zone);
	TimestampTz quiet_since =
		dashie_day_start(Max(day - MONTH_DAYS, DASHIE_MIN_DAY), metrics->zone);
	int64 count = 0;
	int32 *members = NULL;
	int64 returning = 0;
	int64 resurrected = 0;
	Datum values[COMERS_COLUMNS];
	bool nulls[COMERS_COLUMNS] = {false};

	if (active != NULL)
		members = day_members(&comers->last, metrics, active, &count);
	for (int64 i = 0; i < count; i++)
	{
		UserEntry *user = numbers_by_number(metrics, members[i]);
		DateADT *seen = &comers->last.day[members[i]];

		if (user != NULL && user->has_signup && user->signed_up_at < start)
		{
			returning++;
			if (user->signed_up_at < quiet_since && (*seen == NEVER || *seen < day - MONTH_DAYS))
				resurrected++;
		}
		*seen = day;
	}
	if (day >= comers->asked_from)
	{
		values[COMERS_DATE] = DateADTGetDatum(day);
		values[COMERS_ACTIVE] = Int64GetDatum(count);
		values[COMERS_NEW] = Int64GetDatum(count - returning);
		values[COMERS_RETURNING] = Int64GetDatum(returning);
		nulls[COMERS_ACTIVE] = nulls[COMERS_NEW] = nulls[COMERS_RETURNING] = active == NULL;
		values[COMERS_RESURRECTED] = Int64GetDatum(resurrected);
		nulls[COMERS_RESURRECTED] = active == NULL || (comers->last_unknown != NEVER &&
													   comers->last_unknown >= day - MONTH_DAYS);
		dashie_rows_put(comers->rows, values, nulls);
	}
	if (active == NULL)
		comers->last_unknown = day;
}

Datum
dashie_new_vs_returning(PG_FUNCTION_ARGS)
{
	Comers comers = {.last_unknown = NEVER};
	DateADT to;
	DashieRows rows;
	DashieGuard guard;
	Question *question;

	question_range(fcinfo, &comers.asked_from, &to);
	dashie_rows_begin(fcinfo, &rows);
	comers.rows = &rows;

	dashie_enter(&guard);
	comers.metrics = question_open(&guard, metrics_table("day_page"), "to", to);
	numbers_load(comers.metrics);
	question =
		question_begin(comers.metrics, Max(comers.asked_from - MONTH_DAYS, DASHIE_MIN_DAY), to);
	question_tell_lost(question);
	last_seen_init(&comers.last, comers.metrics);
	question_each_day(question, count_comers, &comers);
	metrics_close(comers.metrics);
	dashie_leave(&guard);
	return (Datum) 0;
}
