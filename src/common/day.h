/*
 * day.h
 *		Days of a time zone, and the clock.
 *
 * A day d is [dashie_day_start(d), dashie_day_start(d + 1)): the same instants
 * as SQL's (d::timestamp AT TIME ZONE zone).  Pure but for dashie_now() and
 * dashie_timezone().
 */
#ifndef DASHIE_DAY_H
#define DASHIE_DAY_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "pgtime.h"
#include "utils/date.h"

/* The days dashie computes with: far enough, and safe against overflow. */
#define DASHIE_MIN_DAY (-10957) /* 1970-01-01 */
#define DASHIE_MAX_DAY 2921939	/* 9999-12-31 */

extern TimestampTz dashie_now(void); /* dashie.now where set, else the statement's clock */
extern pg_tz *dashie_timezone(void); /* setting "timezone"; an error if it is no zone any more */
extern pg_tz *dashie_timezone_named(const char *name); /* NULL if unknown or unusable */

extern TimestampTz dashie_day_start(DateADT day, pg_tz *zone);
extern DateADT
dashie_day_of(TimestampTz at, pg_tz *zone); /* clamps infinities and far instants to MIN/MAX_DAY */
/* The day of n days that an instant lies in: -1 before the first, n after the last. */
extern int dashie_day_search(const TimestampTz *starts, int n, TimestampTz at);
extern DateADT dashie_today(pg_tz *zone);
extern char *dashie_day_text(DateADT day);		  /* 2026-11-24 */
extern char *dashie_instant_text(TimestampTz at); /* as SQL shows it in this session */

/* A week begins with its Monday (ISO 8601), a month with the first. */
typedef enum DashiePeriod
{
	PERIOD_DAY,
	PERIOD_WEEK,
	PERIOD_MONTH
} DashiePeriod;

/* The first day of the period that a day lies in. */
extern DateADT dashie_period_start(DashiePeriod period, DateADT day);

/* A date argument: not NULL, finite, within [MIN_DAY, MAX_DAY], else 22023 naming the argument. */
extern DateADT dashie_day_argument(const char *name, NullableDatum arg);

/* "at" minus an interval, in a zone; 22023 when it leaves the range of timestamps */
extern TimestampTz dashie_subtract_interval(TimestampTz at, const Interval *span, pg_tz *zone);

#endif /* DASHIE_DAY_H */
