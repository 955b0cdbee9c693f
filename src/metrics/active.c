/*
 * active.c
 *		dashie.active_users(): exact distinct users of a window of days.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/memutils.h"

#include "common/rows.h"
#include "metrics/question.h"

PG_FUNCTION_INFO_V1(dashie_active_users);

static void
unite(void *arg, DateADT day, const UserSet *active)
{
	if (active != NULL)
		roaring_bitmap_or_inplace((UserSet *) arg, active);
}

Datum
dashie_active_users(PG_FUNCTION_ARGS)
{
	DateADT to = dashie_day_argument("d", DASHIE_ARG(0));
	int32 days;
	DashieGuard guard;
	Metrics *metrics;
	MemoryContext old;
	Question *question;
	UserSet *users;
	int64 result;

	dashie_reject_null(fcinfo, 1, "days");
	days = PG_GETARG_INT32(1);
	if (days < 1 || days > MAX_WINDOW_DAYS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"days\" is out of range: %d", days),
						errdetail("A window has 1 to %d days.", MAX_WINDOW_DAYS)));

	dashie_enter(&guard);
	metrics = question_open(&guard, metrics_table("day_page"), "d", to);
	question = question_begin(metrics, Max(to - days + 1, DASHIE_MIN_DAY), to);
	question_tell_lost(question);
	old = MemoryContextSwitchTo(metrics->context);
	users = user_set_create();
	MemoryContextSwitchTo(old);
	question->raw = true;
	question_each_day(question, unite, users);
	roaring_bitmap_andnot_inplace(users, question->anonymous);
	result = (int64) roaring_bitmap_get_cardinality(users);
	metrics_close(metrics);
	dashie_leave(&guard);
	PG_RETURN_INT64(result);
}
