/*
 * cron.h
 *		Cron expressions: reading them, and when they match next.
 */
#ifndef DASHIE_CRON_H
#define DASHIE_CRON_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "pgtime.h"

/* One bit for each value of a field that matches. */
typedef struct CronSchedule
{
	uint64 minutes;
	uint32 hours;
	uint32 days;	  /* of the month: bits 1 to 31 */
	uint32 months;	  /* bits 1 to 12 */
	uint32 weekdays;  /* bits 0 (Sunday) to 6 */
	bool any_day;	  /* the day of the month begins with "*" */
	bool any_weekday; /* the day of the week begins with "*" */
} CronSchedule;

/* NULL, or what is wrong and in which field, as a sentence. */
extern char *cron_parse(const char *text, CronSchedule *schedule);

/* The first minute after "after" that matches, in the zone; false if there is none. */
extern bool
cron_next(const CronSchedule *schedule, TimestampTz after, pg_tz *zone, TimestampTz *next);

#endif /* DASHIE_CRON_H */
