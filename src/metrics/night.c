/*
 * night.c
 *		A job that writes pages (refresh_daily_metrics, rollup_events) verifies the
 *		days that it wrote, where the setting verify_nightly is on.
 *
 * The days are noted as they are written, and verified in steps of their own
 * after the last one that writes: each step is a transaction, so a proof that
 * fails undoes none of the pages.  What it found is then the error of the
 * run, in dashie.job_run and in the server's log.  The next run finds nothing
 * to compute and succeeds: a day is verified once each time it is written.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "common/setting.h"
#include "metrics/engine.h"
#include "metrics/verify.h"

/* Days that one step verifies, and failed ones that the error names. */
#define STEP_DAYS 7
#define NAMED_DAYS 5

typedef struct Night
{
	bool written; /* all that was to be written is */
	int ndays;
	int next; /* index of the day that comes next */
	DateADT *days;
	int nfailed;
	StringInfoData failures;
} Night;

static int
compare_days(const void *a, const void *b)
{
	DateADT left = *(const DateADT *) a;
	DateADT right = *(const DateADT *) b;

	return left < right ? -1 : left > right;
}

bool
verify_night_plan(JobStep *step, DateADT from, DateADT to, const bool *written, bool more)
{
	MemoryContext old;
	Night *night = *step->kept;

	if (night == NULL && !dashie_setting_bool("verify_nightly"))
		return more;
	old = MemoryContextSwitchTo(step->memory);
	if (night == NULL)
	{
		*step->kept = night = palloc0(sizeof(Night));
		initStringInfo(&night->failures);
	}
	for (DateADT day = from; day <= to; day++)
	{
		if (!written[day - from])
			continue;
		night->days = night->days == NULL
						  ? palloc(sizeof(DateADT))
						  : repalloc(night->days, (night->ndays + 1) * sizeof(DateADT));
		night->days[night->ndays++] = day;
	}
	night->written = !more;

	/* the latest were written first; they are verified by stretches */
	if (night->written && night->ndays > 0)
		qsort(night->days, night->ndays, sizeof(DateADT), compare_days);
	MemoryContextSwitchTo(old);
	return more || night->ndays > 0;
}

bool
verify_night_begun(const JobStep *step)
{
	Night *night = *step->kept;

	return night != NULL && night->written;
}

static void
note_failure(Night *night, MemoryContext memory, DateADT day, const Verdict *verdict)
{
	MemoryContext old = MemoryContextSwitchTo(memory);

	if (night->nfailed++ < NAMED_DAYS)
		appendStringInfo(&night->failures, "%s%s: %s%s%s", night->failures.len > 0 ? "; " : "",
						 dashie_day_text(day), verdict->reason,
						 verdict->differences != NULL ? " " : "",
						 verdict->differences != NULL ? verdict->differences : "");
	MemoryContextSwitchTo(old);
}

/* The stretch of days that the next ones to be verified lie in. */
void
verify_night_next(const JobStep *step, DateADT *from, DateADT *to)
{
	Night *night = *step->kept;

	*from = night->days[night->next];
	*to = night->days[Min(night->next + STEP_DAYS, night->ndays) - 1];
}

/* Judges the days up to "to" that were written, in a context that may be that of the whole step. */
void
verify_night_each(JobStep *step, DateADT to, MemoryContext context, Judge judge, void *verification)
{
	Night *night = *step->kept;

	for (; night->next < night->ndays && night->days[night->next] <= to; night->next++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Verdict verdict;

		judge(verification, night->days[night->next], &verdict);
		if (!verdict.ok && !verdict.no_verdict)
			note_failure(night, step->memory, night->days[night->next], &verdict);
		MemoryContextSwitchTo(old);
	}
}

/*
 * verify_night_end is true if days are left.  With the last ones it is the
 * error of all that failed; "function" shows more of them.
 */
bool
verify_night_end(const JobStep *step, const char *function)
{
	Night *night = *step->kept;

	if (night->next < night->ndays)
		return true;
	if (night->nfailed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("verification of %d of %d days failed: %s%s", night->nfailed, night->ndays,
						night->failures.data, night->nfailed > NAMED_DAYS ? "; ..." : ""),
				 errhint("SELECT * FROM %s(...) shows what differs.", function)));
	return false;
}

bool
verify_night(JobStep *step, Oid daily)
{
	DashieGuard guard = *step->guard;
	DateADT from;
	DateADT to;
	Metrics *metrics = metrics_open(&guard, daily, true);

	verify_night_next(step, &from, &to);
	verify_night_each(step, to, metrics->context, verification_judge,
					  verification_begin(metrics, daily, from, to));
	metrics_close(metrics);
	return verify_night_end(step, "dashie.verify");
}
