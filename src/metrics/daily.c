/*
 * daily.c
 *		dashie.refresh_daily_metrics() and the job of that name.
 *
 * A row of daily_metrics is put together from the head of the day's page and
 * from dashie.user_number, which knows when each user signed up and converted.
 * Run as the owner of daily_metrics, under the lock of engine.c.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "common/arrays.h"
#include "common/query.h"
#include "common/rows.h"
#include "jobs/job.h"
#include "metrics/engine.h"
#include "metrics/verify.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_refresh_daily_metrics);

typedef struct DayCounts
{
	int64 signups;
	int64 conversions;
} DayCounts;

/* Sign-ups and conversions of each day of the range, from one pass over the users. */
static DayCounts *
count_users(Metrics *metrics, DateADT from, DateADT to)
{
	int ndays = to - from + 1;
	DayCounts *counts = palloc0(ndays * sizeof(DayCounts));
	TimestampTz *starts = palloc((ndays + 1) * sizeof(TimestampTz));
	int day;

	for (day = 0; day <= ndays; day++)
		starts[day] = dashie_day_start(from + day, metrics->zone);

	for (int32 number = 0; number < metrics->by_number_size; number++)
	{
		UserEntry *user = numbers_by_number(metrics, number);

		if (user == NULL || user->anonymous)
			continue;
		if (user->signup_counts && user->has_signup)
		{
			day = dashie_day_search(starts, ndays, user->signed_up_at);
			if (day >= 0 && day < ndays)
				counts[day].signups++;
		}
		if (user->converted)
		{
			day = dashie_day_search(starts, ndays, user->converted_at);
			if (day >= 0 && day < ndays)
				counts[day].conversions++;
		}
	}
	pfree(starts);
	return counts;
}

enum
{
	OUT_DATE,
	OUT_SIGNUPS,
	OUT_RETURNING,
	OUT_DASHBOARDS,
	OUT_SESSIONS,
	OUT_AVERAGE,
	OUT_CONVERSIONS,
	OUT_COMPUTED,
	OUT_COLUMNS
};

/*
 * daily_write_rows writes the row of each day that has a page; a row that is right
 * already stays untouched, unless its day was computed again.
 */
int64
daily_write_rows(Metrics *metrics, Oid daily, DateADT from, DateADT to, const bool *computed)
{
	static const Oid types[OUT_COLUMNS] = {DATEOID, INT8OID,	INT8OID, INT8OID,
										   INT8OID, NUMERICOID, INT8OID, BOOLOID};
	int ndays = to - from + 1;
	DayPage *pages;
	DayCounts *counts;
	DashieArrays rows;
	int64 changed;

	if (ndays <= 0)
		return 0;
	numbers_load(metrics);
	pages = pages_load(metrics, from, to, false);
	counts = count_users(metrics, from, to);
	dashie_arrays_init(&rows, types, OUT_COLUMNS, ndays);
	for (int i = 0; i < ndays; i++)
	{
		DayPage *page = &pages[i];
		int n = rows.nrows;

		if (!page->stored || (page->dirty && page->day >= metrics->first_open_day))
			continue;
		rows.values[OUT_DATE][n] = DateADTGetDatum(page->day);
		rows.values[OUT_SIGNUPS][n] = Int64GetDatum(counts[i].signups);
		rows.nulls[OUT_SIGNUPS][n] = !metrics->has_signups;
		rows.values[OUT_RETURNING][n] = Int64GetDatum(page->returning);
		rows.nulls[OUT_RETURNING][n] = !page->has_sessions;
		rows.values[OUT_DASHBOARDS][n] = Int64GetDatum(page->ndashboards);
		rows.nulls[OUT_DASHBOARDS][n] = !page->has_dashboards;
		rows.values[OUT_SESSIONS][n] = Int64GetDatum(page->sessions);
		rows.nulls[OUT_SESSIONS][n] = !page->has_sessions;
		rows.nulls[OUT_AVERAGE][n] = !page->has_sessions || page->ended == 0;
		if (!rows.nulls[OUT_AVERAGE][n])
			rows.values[OUT_AVERAGE][n] = average_minutes(page->duration, page->ended);
		rows.values[OUT_CONVERSIONS][n] = Int64GetDatum(counts[i].conversions);
		rows.nulls[OUT_CONVERSIONS][n] = !OidIsValid(metrics->stripe_rel);
		rows.values[OUT_COMPUTED][n] = BoolGetDatum(computed[i]);
		rows.nrows++;
	}

	dashie_arrays_finish(&rows);
	rows.parameter_types[OUT_COLUMNS] = TIMESTAMPTZOID;
	rows.parameters[OUT_COLUMNS] = TimestampTzGetDatum(metrics->now);

	dashie_query_begin();
	changed = (int64) dashie_query(
		psprintf(
			"INSERT INTO %s AS m (date, new_signups, returning_users, active_dashboards,"
			" total_sessions, avg_session_minutes, trial_to_paid_conversions, created_at)"
			" SELECT n.date, n.new_signups, n.returning_users, n.active_dashboards,"
			" n.total_sessions, n.avg_session_minutes, n.conversions, $9"
			" FROM unnest($1, $2, $3, $4, $5, $6, $7) AS n (date, new_signups, returning_users,"
			" active_dashboards, total_sessions, avg_session_minutes, conversions)"
			" ON CONFLICT (date) DO UPDATE SET new_signups = excluded.new_signups,"
			" returning_users = excluded.returning_users,"
			" active_dashboards = excluded.active_dashboards,"
			" total_sessions = excluded.total_sessions,"
			" avg_session_minutes = excluded.avg_session_minutes,"
			" trial_to_paid_conversions = excluded.trial_to_paid_conversions,"
			" created_at = excluded.created_at"
			" WHERE (m.new_signups, m.returning_users, m.active_dashboards, m.total_sessions,"
			" m.avg_session_minutes, m.trial_to_paid_conversions)"
			" IS DISTINCT FROM (excluded.new_signups, excluded.returning_users,"
			" excluded.active_dashboards, excluded.total_sessions,"
			" excluded.avg_session_minutes, excluded.trial_to_paid_conversions)"
			" OR excluded.date IN (SELECT c.date FROM unnest($1, $8) AS c (date, computed)"
			" WHERE c.computed)",
			dashie_relation_name(daily)),
		OUT_COLUMNS + 1, rows.parameter_types, rows.parameters, NULL);
	dashie_query_end();
	return changed;
}

Datum
dashie_refresh_daily_metrics(PG_FUNCTION_ARGS)
{
	DateADT from = dashie_day_argument("from", DASHIE_ARG(0));
	DateADT to = dashie_day_argument("to", DASHIE_ARG(1));
	bool force;
	DashieGuard guard;
	Oid daily;
	Metrics *metrics;
	bool *computed;
	bool more;
	int64 changed;

	dashie_reject_null(fcinfo, 2, "force");
	force = PG_GETARG_BOOL(2);
	if (from > to)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"from\" (%s) is later than \"to\" (%s)", dashie_day_text(from),
							   dashie_day_text(to))));

	dashie_enter(&guard);
	daily = dashie_enabled_oid_required("daily_metrics");
	metrics = metrics_open(&guard, daily, false);
	metrics_reject_future(metrics, "to", to);
	if (from < metrics->first_open_day && !force)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("retention has removed sessions of %s", dashie_day_text(from)),
				 errdetail("Days before %s would be computed from less than they were.",
						   dashie_day_text(metrics->first_open_day)),
				 errhint("Refresh from %s on; or pass force => true to count only what is left.",
						 dashie_day_text(metrics->first_open_day))));

	metrics_absorb_marks_for(metrics, from, to, force, PG_INT32_MAX);
	computed = MemoryContextAllocZero(metrics->context, to - from + 1);
	metrics_bring_up(metrics, from, to, force, false, &more, computed);
	changed = daily_write_rows(metrics, daily, from, to, computed);
	metrics_close(metrics);
	dashie_leave(&guard);
	PG_RETURN_INT32((int32) changed);
}

/*
 * dashie_daily_step is one step of the job: days up to yesterday that are
 * missing or changed.  The last of them fills geographic_stats as well, where
 * that is enabled: both need the same look at every user.  After them come,
 * where they are wanted, the steps that verify those days.
 */
bool
dashie_daily_step(JobStep *step)
{
	DashieGuard guard = *step->guard;
	Oid daily = dashie_enabled_oid_required("daily_metrics");
	Oid geographic;
	Metrics *metrics;
	bool more = false;
	DateADT from;
	DateADT yesterday;
	DateADT to;

	if (verify_night_begun(step))
		return verify_night(step, daily);
	geographic = geographic_beside(daily);
	metrics = metrics_open(&guard, daily, false);
	metrics->writes_all_rows = true;
	yesterday = metrics->today - 1;
	to = OidIsValid(geographic) ? metrics->today : yesterday;
	metrics_absorb_marks_of_night(metrics, step, to);
	from = metrics_first_day(metrics);
	if (from <= to)
	{
		DateADT first = metrics_first_page_day(from);
		bool *computed = MemoryContextAllocZero(metrics->context, to - first + 1);
		bool left;

		more = metrics_catch_up(metrics, from, to, step, computed + (from - first));
		if (!more && OidIsValid(geographic))
			/* also what has changed since its turn */
			metrics_bring_up(metrics, from, to, false, false, &left, computed + (from - first));
		step->rows += daily_write_rows(metrics, daily, first, yesterday, computed);
		if (!more && OidIsValid(geographic))
			step->rows += geographic_write_beside(metrics, geographic);
		more = verify_night_plan(step, first, yesterday, computed, more);
	}
	metrics_close(metrics);
	return more;
}
