/*
 * day.c
 *		Days of a time zone, and the clock.
 *
 * A day is the interval between two midnights as SQL computes them,
 * (d::timestamp AT TIME ZONE zone): where a change of the clock makes midnight
 * ambiguous or skips it, PostgreSQL's choice is ours, so that plain SQL and
 * partition bounds agree with us.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "common/day.h"
#include "common/setting.h"
#include "dashie.h"

/*
 * dashie_now is the one clock of everything that decides what is due, expired
 * or missing.  Tests and the demo set dashie.now; only a superuser can.
 */
TimestampTz
dashie_now(void)
{
	if (dashie_now_override != NULL && dashie_now_override[0] != '\0')
		return DatumGetTimestampTz(
			DirectFunctionCall3(timestamptz_in, CStringGetDatum(dashie_now_override),
								ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	return GetCurrentTimestamp();
}

pg_tz *
dashie_timezone_named(const char *name)
{
	pg_tz *zone = pg_tzset(name);
	struct pg_tm tm;
	int offset;
	fsec_t fsec;

	if (zone == NULL || !pg_tz_acceptable(zone))
		return NULL;

	/*
	 * A heartbeat inside one quarter of an hour of UTC never changes the day
	 * (metrics/marks.c); every zone in use today keeps to quarters.
	 */
	if (timestamp2tm(GetCurrentTimestamp(), &offset, &tm, &fsec, NULL, zone) != 0 ||
		offset % (15 * SECS_PER_MINUTE) != 0)
		return NULL;
	return zone;
}

pg_tz *
dashie_timezone(void)
{
	char *name = dashie_setting_text("timezone");
	pg_tz *zone = dashie_timezone_named(name);

	if (zone == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the configured time zone \"%s\" is not known to this server", name),
						errhint("Run SELECT dashie.configure('timezone', ...) with a zone of "
								"pg_timezone_names.")));
	return zone;
}

TimestampTz
dashie_day_start(DateADT day, pg_tz *zone)
{
	struct pg_tm tm = {0};
	int offset;
	TimestampTz result;

	j2date(day + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
	offset = DetermineTimeZoneOffset(&tm, zone);
	if (tm2timestamp(&tm, 0, &offset, &result) != 0)
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
						errmsg("day %d is out of range", day)));
	return result;
}

DateADT
dashie_day_of(TimestampTz at, pg_tz *zone)
{
	struct pg_tm tm;
	int offset;
	fsec_t fsec;
	int64 day;

	if (at < dashie_day_start(DASHIE_MIN_DAY, zone))
		return DASHIE_MIN_DAY;
	if (at >= dashie_day_start(DASHIE_MAX_DAY, zone))
		return DASHIE_MAX_DAY;
	if (timestamp2tm(at, &offset, &tm, &fsec, NULL, zone) != 0)
		elog(ERROR, "timestamp out of range");
	day = date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE;

	/* the wall clock may show a date before its day begins or after it ended */
	while (at < dashie_day_start(day, zone))
		day--;
	while (at >= dashie_day_start(day + 1, zone))
		day++;
	return (DateADT) day;
}

/*
 * dashie_day_search takes the starts of n days that follow one another, and
 * the end of the last.  Without a branch that depends on them: what is looked
 * for may be anywhere, and is by the hundred thousand.
 */
int
dashie_day_search(const TimestampTz *starts, int n, TimestampTz at)
{
	const TimestampTz *first = starts;
	int left = n + 1;

	/* the first one that is later than "at" is here or within those that are left */
	while (left > 1)
	{
		int half = left / 2;

		first += first[half - 1] <= at ? half : 0;
		left -= half;
	}
	return (int) (first - starts) + (*first <= at ? 1 : 0) - 1;
}

DateADT
dashie_today(pg_tz *zone)
{
	return dashie_day_of(dashie_now(), zone);
}

char *
dashie_day_text(DateADT day)
{
	int year, month, dom;

	j2date(day + POSTGRES_EPOCH_JDATE, &year, &month, &dom);
	return psprintf("%04d-%02d-%02d", year, month, dom);
}

char *
dashie_instant_text(TimestampTz at)
{
	return DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(at)));
}

DateADT
dashie_period_start(DashiePeriod period, DateADT day)
{
	int year, month, dom;

	switch (period)
	{
		case PERIOD_DAY:
			break;
		case PERIOD_WEEK:
			/* j2day() counts from Sunday */
			return day - (j2day(day + POSTGRES_EPOCH_JDATE) + 6) % 7;
		case PERIOD_MONTH:
			j2date(day + POSTGRES_EPOCH_JDATE, &year, &month, &dom);
			return day - (dom - 1);
	}
	return day;
}

DateADT
dashie_day_argument(const char *name, NullableDatum arg)
{
	DateADT day;

	if (arg.isnull)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"%s\" must not be NULL", name)));
	day = DatumGetDateADT(arg.value);
	if (DATE_NOT_FINITE(day) || day < DASHIE_MIN_DAY || day > DASHIE_MAX_DAY)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"%s\" is out of range: %s", name,
							   DatumGetCString(DirectFunctionCall1(date_out, arg.value))),
						errdetail("Days from 1970-01-01 to 9999-12-31 are accepted.")));
	return day;
}

TimestampTz
dashie_subtract_interval(TimestampTz at, const Interval *span, pg_tz *zone)
{
	struct pg_tm tm;
	int offset;
	fsec_t fsec;
	int months;
	TimestampTz result;

	/*
	 * As timestamptz_mi_interval(), which would use the session's zone: months
	 * first, with the day of the month clamped, then days on the wall clock,
	 * then the exact time.
	 */
	if (timestamp2tm(at, &offset, &tm, &fsec, NULL, zone) != 0)
		goto out_of_range;
	months = tm.tm_year * MONTHS_PER_YEAR + (tm.tm_mon - 1) - span->month;
	tm.tm_year = months / MONTHS_PER_YEAR;
	tm.tm_mon = months % MONTHS_PER_YEAR + 1;
	if (months < 0 || tm.tm_year < 1)
		goto out_of_range;
	if (tm.tm_mday > day_tab[isleap(tm.tm_year)][tm.tm_mon - 1])
		tm.tm_mday = day_tab[isleap(tm.tm_year)][tm.tm_mon - 1];
	j2date(date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - span->day, &tm.tm_year, &tm.tm_mon,
		   &tm.tm_mday);
	offset = DetermineTimeZoneOffset(&tm, zone);
	if (tm2timestamp(&tm, fsec, &offset, &result) != 0)
		goto out_of_range;
	result -= span->time;
	if (!IS_VALID_TIMESTAMP(result))
		goto out_of_range;
	return result;

out_of_range:
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("interval %s is out of range",
					DatumGetCString(DirectFunctionCall1(interval_out, PointerGetDatum(span))))));
	pg_unreachable();
}
