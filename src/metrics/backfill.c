/*
 * backfill.c
 *		Days made in steps: CALL dashie.backfill_metrics(), and what the nightly
 *		jobs have to catch up on.
 *
 * A step is one transaction: the lock of engine.c, one snapshot, and as many
 * days as are done in about STEP_TARGET.  So a backfill and a night take
 * turns, nobody's snapshot gets old, and what is committed stays when the rest
 * is cancelled or dies.  Nothing is remembered of where it stopped: the pages
 * say which days are done, whoever made them.
 *
 * The latest day comes first: last night's numbers do not wait for years of
 * history, and a user's country is that of their latest session, so that what
 * comes after seldom changes it.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/rows.h"
#include "jobs/job.h"
#include "metrics/engine.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_backfill_metrics);

/* So many days, what is late in an ordinary night, are done in one step. */
#define NIGHT_DAYS 14
#define MAX_STEP_DAYS 366
#define STEP_TARGET (2 * USECS_PER_SEC)

/* What the steps of a run remember, in JobStep.numbers. */
typedef struct Pace
{
	int64 days;		 /* that the next step takes on; 0: this is the first */
	int64 took;		 /* time of the last step */
	int64 below;	 /* days from here on have had their turn */
	int64 unchanged; /* the last step was as long as the one before, in days */
} Pace;

StaticAssertDecl(sizeof(Pace) <= JOB_NUMBERS * sizeof(int64),
				 "a pace does not fit into JobStep.numbers");

/*
 * set_pace chooses how many days the next step takes on.  More, while a step
 * is short, or is not much longer for twice the days: then it is what each
 * step costs, and not the days, that takes the time.
 */
static void
set_pace(Pace *pace, int64 took)
{
	bool cheap = took < STEP_TARGET ||
				 (pace->took > 0 && !pace->unchanged && took < pace->took + pace->took / 2);

	if (cheap && pace->days < MAX_STEP_DAYS)
	{
		pace->days = Min(pace->days * 2, MAX_STEP_DAYS);
		pace->unchanged = false;
	}
	else
	{
		if (took > 2 * STEP_TARGET && !cheap)
			pace->days = Max(pace->days / 2, 1);
		pace->unchanged = true;
	}
	pace->took = took;
}

/*
 * metrics_absorb_marks_of_night is metrics_absorb_marks() for a job that catches up
 * to a day: the first step of an ordinary night needs few days, all of them late ones.
 */
void
metrics_absorb_marks_of_night(Metrics *metrics, const JobStep *step, DateADT to)
{
	DateADT from = Max(metrics_first_page_day(to + 1), to - 2 * NIGHT_DAYS + 1);

	if (step->number == 0 && from <= to)
		metrics_absorb_marks_for(metrics, from, to, false, NIGHT_DAYS);
	else
		metrics_absorb_marks(metrics);
}

/*
 * metrics_catch_up brings some of the days [from, to] up to date, the latest
 * first, and says whether days are left.  computed[i] says which were done.  A
 * day that changes after its turn is left to the next run, so that rows that
 * keep coming in for one day do not hold up the others.
 */
bool
metrics_catch_up(Metrics *metrics, DateADT from, DateADT to, JobStep *step, bool *computed)
{
	Pace *pace = (Pace *) step->numbers;
	MemoryContext old = MemoryContextSwitchTo(metrics->context);
	int ndays = to - from + 1;
	DayPage *heads = pages_load(metrics, from, to, false);
	TimestampTz began = GetCurrentTimestamp();
	int waiting = 0;
	int turn = 0; /* days that wait for their turn */
	int last = -1;
	int first = 0;
	bool more = false;
	int done = 0;

	for (int i = 0; i < ndays; i++)
	{
		if (!metrics_day_needed(metrics, &heads[i], false))
			continue;
		waiting++;
		if (pace->days == 0 || from + i < pace->below)
		{
			turn++;
			last = i;
		}
	}
	if (pace->days == 0)
		pace->days = turn <= NIGHT_DAYS ? NIGHT_DAYS : 1;

	if (turn > 0)
	{
		int taken = 0;

		for (first = last; first >= 0; first--)
			if (metrics_day_needed(metrics, &heads[first], false) && ++taken == pace->days)
				break;
		first = Max(first, 0);
		done = metrics_bring_up(metrics, from + first, from + last, false, false, &more,
								computed + first);
		more = taken < turn;
		pace->below = from + first;
		set_pace(pace, GetCurrentTimestamp() - began);
	}
	pfree(heads);
	MemoryContextSwitchTo(old);

	step->progress.unit = "days";
	step->progress.detail = psprintf("%s to %s", dashie_day_text(from), dashie_day_text(to));
	step->progress.total = ndays;
	step->progress.done = ndays - waiting + done;
	step->progress.advanced = done;
	return more;
}

typedef struct Backfill
{
	DateADT from;
	DateADT to;
} Backfill;

/* The table whose owner the work is done as. */
static Oid
filled_table(Oid *daily)
{
	*daily = dashie_enabled_oid("daily_metrics");
	if (OidIsValid(*daily))
		return *daily;
	if (dashie_enabled_schema("geographic_stats") != NULL)
		return dashie_enabled_oid_required("geographic_stats");
	return dashie_enabled_oid_required("daily_metrics");
}

static bool
backfill_step(JobStep *step)
{
	const Backfill *range = step->arg;
	DashieGuard guard = *step->guard;
	Oid daily;
	Metrics *metrics = metrics_open(&guard, filled_table(&daily), false);
	bool *computed = MemoryContextAllocZero(metrics->context, range->to - range->from + 1);
	bool more;

	metrics_absorb_marks(metrics);
	more = metrics_catch_up(metrics, range->from, range->to, step, computed);
	if (OidIsValid(daily))
		step->rows += daily_write_rows(metrics, daily, range->from, range->to, computed);
	metrics_close(metrics);
	return more;
}

/*
 * check_range refuses what could not be filled: days to come, and days that
 * retention has taken sessions of before they were computed.
 */
static void
check_range(const Backfill *range)
{
	DashieGuard guard;
	Metrics *metrics;
	Oid daily;
	DateADT closed;
	DayPage *heads;

	dashie_enter(&guard);
	metrics = metrics_open(&guard, filled_table(&daily), true);
	metrics_reject_future(metrics, "to", range->to);
	closed = Min(range->to, metrics->first_open_day - 1);
	if (range->from <= closed)
	{
		heads = pages_load(metrics, range->from, closed, false);
		for (int i = 0; i <= closed - range->from; i++)
			if (!heads[i].stored)
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						 errmsg("retention has removed sessions of %s",
								dashie_day_text(range->from + i)),
						 errdetail("Days before %s would be computed from less than they were.",
								   dashie_day_text(metrics->first_open_day)),
						 errhint("Backfill from %s on; or count only what is left with "
								 "dashie.refresh_daily_metrics(..., force => true).",
								 dashie_day_text(metrics->first_open_day))));
	}
	metrics_close(metrics);
	dashie_leave(&guard);
}

/* SQL: dashie.backfill_metrics("from" date, "to" date) */
Datum
dashie_backfill_metrics(PG_FUNCTION_ARGS)
{
	Backfill range;

	range.from = dashie_day_argument("from", DASHIE_ARG(0));
	range.to = dashie_day_argument("to", DASHIE_ARG(1));
	if (range.from > range.to)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"from\" (%s) is later than \"to\" (%s)",
							   dashie_day_text(range.from), dashie_day_text(range.to))));

	PushActiveSnapshot(GetTransactionSnapshot());
	check_range(&range);
	PopActiveSnapshot();
	dashie_run_task(fcinfo, "backfill_metrics",
					psprintf("%s to %s", dashie_day_text(range.from), dashie_day_text(range.to)),
					backfill_step, &range);
	PG_RETURN_VOID();
}
