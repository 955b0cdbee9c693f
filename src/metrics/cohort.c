/*
 * cohort.c
 *		dashie.retention_cohorts(): of those who signed up in a period, how many
 *		came back n periods later.
 *
 * A question like those of engagement.c: one pass over the days' sets, in
 * which the last period of each user is kept, so that a user counts once a
 * period.  Users deleted since are in their cohort as they are in new_signups.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/memutils.h"

#include "common/rows.h"
#include "metrics/question.h"

PG_FUNCTION_INFO_V1(dashie_retention_cohorts);

static const char *const period_names[] = {"day", "week", "month"};

/* next_period is the first day of the period after the one that begins with "start". */
static DateADT
next_period(DashiePeriod period, DateADT start)
{
	switch (period)
	{
		case PERIOD_DAY:
			break;
		case PERIOD_WEEK:
			return start + 7;
		case PERIOD_MONTH:
			return dashie_period_start(period, start + 31);
	}
	return start + 1;
}

static DashiePeriod
period_argument(FunctionCallInfo fcinfo, int argno)
{
	char *name;

	dashie_reject_null(fcinfo, argno, "period");
	name = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	for (int i = 0; i < lengthof(period_names); i++)
		if (strcmp(period_names[i], name) == 0)
			return (DashiePeriod) i;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown period: \"%s\"", name),
			 errhint("It is one of day, week and month.")));
	pg_unreachable();
}

/*
 * Periods are numbered from the one that holds the first day asked for; those
 * that are over by now count, and of them the first ones are cohorts.
 */
typedef struct Cohorts
{
	Metrics *metrics;
	int nperiods;
	int ncohorts;
	DateADT *starts;   /* [period], and of the one after the last */
	bool *unknown;	   /* [period]: of one of its days nothing is known */
	int current;	   /* period of the day that is visited */
	int64 *sizes;	   /* [cohort] */
	int32 *cohort;	   /* [user number]: -1 in none */
	int32 *last;	   /* [user number]: last period they were active in */
	int32 **came_back; /* [cohort][periods later] */
} Cohorts;

static void
find_periods(Cohorts *cohorts, DashiePeriod period, DateADT from, DateADT to, DateADT today)
{
	DateADT first = dashie_period_start(period, from);
	int size = today - first + 2;

	cohorts->starts = palloc(size * sizeof(DateADT));
	cohorts->starts[0] = first;
	for (DateADT next = next_period(period, first); next <= today; next = next_period(period, next))
	{
		cohorts->starts[++cohorts->nperiods] = next;
		if (cohorts->starts[cohorts->nperiods - 1] <= to)
			cohorts->ncohorts = cohorts->nperiods;
	}
	cohorts->unknown = palloc0(size);
	cohorts->sizes = palloc0(size * sizeof(int64));
	cohorts->came_back = palloc(size * sizeof(int32 *));
	for (int i = 0; i < cohorts->ncohorts; i++)
		cohorts->came_back[i] = palloc0((cohorts->nperiods - i) * sizeof(int32));
}

/* Puts each user whose sign-up counts into the cohort of its day. */
static void
find_users(Cohorts *cohorts)
{
	Metrics *metrics = cohorts->metrics;
	TimestampTz *starts = palloc((cohorts->ncohorts + 1) * sizeof(TimestampTz));
	int32 nusers = metrics->by_number_size;

	for (int i = 0; i <= cohorts->ncohorts; i++)
		starts[i] = dashie_day_start(cohorts->starts[i], metrics->zone);
	cohorts->cohort = MemoryContextAllocHuge(metrics->context, ((Size) nusers + 1) * sizeof(int32));
	cohorts->last = MemoryContextAllocHuge(metrics->context, ((Size) nusers + 1) * sizeof(int32));
	for (int32 number = 0; number < nusers; number++)
	{
		UserEntry *user = numbers_by_number(metrics, number);
		int low = 0;
		int high = cohorts->ncohorts;

		cohorts->cohort[number] = cohorts->last[number] = -1;
		if (user == NULL || user->anonymous || !user->signup_counts || !user->has_signup ||
			user->signed_up_at < starts[0] || user->signed_up_at >= starts[cohorts->ncohorts])
			continue;
		/* the last one that starts at or before the sign-up lies in [low, high) */
		while (high - low > 1)
		{
			int middle = (low + high) / 2;

			if (starts[middle] <= user->signed_up_at)
				low = middle;
			else
				high = middle;
		}
		cohorts->cohort[number] = low;
		cohorts->sizes[low]++;
	}
}

static void
count_returns(void *arg, DateADT day, const UserSet *active)
{
	Cohorts *cohorts = arg;
	Metrics *metrics = cohorts->metrics;
	int64 count;
	int32 *members;

	while (day >= cohorts->starts[cohorts->current + 1])
		cohorts->current++;
	if (active == NULL)
	{
		cohorts->unknown[cohorts->current] = true;
		return;
	}
	members = user_set_members(active, metrics->max_user, &count);
	for (int64 i = 0; i < count && members[i] < metrics->by_number_size; i++)
	{
		int32 cohort = cohorts->cohort[members[i]];
		int32 *last = &cohorts->last[members[i]];

		if (cohort < 0 || cohort > cohorts->current || *last == cohorts->current)
			continue;
		*last = cohorts->current;
		cohorts->came_back[cohort][cohorts->current - cohort]++;
	}
}

enum
{
	OUT_COHORT,
	OUT_PERIOD,
	OUT_USERS,
	OUT_RETURNED,
	OUT_RATE,
	OUT_COLUMNS
};

static void
put_cohorts(const Cohorts *cohorts, DashieRows *rows)
{
	Datum values[OUT_COLUMNS];
	bool nulls[OUT_COLUMNS] = {false};

	nulls[OUT_USERS] = !cohorts->metrics->has_signups;
	for (int i = 0; i < cohorts->ncohorts; i++)
	{
		values[OUT_COHORT] = DateADTGetDatum(cohorts->starts[i]);
		values[OUT_USERS] = Int64GetDatum(cohorts->sizes[i]);
		for (int n = 0; n < cohorts->nperiods - i; n++)
		{
			values[OUT_PERIOD] = Int32GetDatum(n);
			values[OUT_RETURNED] = Int64GetDatum(cohorts->came_back[i][n]);
			nulls[OUT_RETURNED] = nulls[OUT_USERS] || cohorts->unknown[i + n];
			nulls[OUT_RATE] = nulls[OUT_RETURNED] || cohorts->sizes[i] == 0;
			if (!nulls[OUT_RATE])
				values[OUT_RATE] = share(cohorts->came_back[i][n], cohorts->sizes[i]);
			dashie_rows_put(rows, values, nulls);
		}
	}
}

Datum
dashie_retention_cohorts(PG_FUNCTION_ARGS)
{
	Cohorts cohorts = {0};
	DateADT from;
	DateADT to;
	DashiePeriod period;
	DashieRows rows;
	DashieGuard guard;
	Metrics *metrics;
	MemoryContext old;

	question_range(fcinfo, &from, &to);
	period = period_argument(fcinfo, 2);
	dashie_rows_begin(fcinfo, &rows);

	dashie_enter(&guard);
	cohorts.metrics = metrics = question_open(&guard, metrics_table("day_page"), "to", to);
	if (metrics->today - from > MAX_WINDOW_DAYS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"from\" (%s) lies too far back", dashie_day_text(from)),
						errdetail("Cohorts are followed until today, over up to %d days.",
								  MAX_WINDOW_DAYS)));
	old = MemoryContextSwitchTo(metrics->context);
	find_periods(&cohorts, period, from, to, metrics->today);
	if (cohorts.ncohorts > 0)
	{
		DateADT last = cohorts.starts[cohorts.nperiods] - 1;
		Question *question;

		numbers_load(metrics);
		question = question_begin(metrics, Max(cohorts.starts[0], DASHIE_MIN_DAY), last);
		question_tell_lost(question);
		find_users(&cohorts);
		question->raw = true; /* anonymous users are in no cohort */
		question_each_day(question, count_returns, &cohorts);
		put_cohorts(&cohorts, &rows);
	}
	MemoryContextSwitchTo(old);
	metrics_close(metrics);
	dashie_leave(&guard);
	return (Datum) 0;
}
