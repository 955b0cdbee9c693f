/*
 * cron.c
 *		Cron expressions: reading them, and when they match next.
 *
 * Pure: no database, no state.  PostgreSQL and pg_cron export no parser.
 *
 * The five fields are those of Vixie cron: minute, hour, day of the month,
 * month, day of the week; lists, ranges, steps and names.  Where both day
 * fields are restricted, a day matches when either does.
 *
 * Where the clock is changed, jobs at fixed hours behave as people expect of a
 * daily job: a time that is skipped runs when the gap ends, a time that comes
 * twice runs the first time only.  A job of every hour follows the real time
 * instead, so it does not pause while an hour is repeated.
 */
#include "postgres.h"

#include <ctype.h>

#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "jobs/cron.h"

/* The calendar of weekdays and leap years repeats within 40 years, 2100 included. */
#define CRON_HORIZON_DAYS (41 * 366)

#define UNIX_TO_POSTGRES_SECS (((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE)) * SECS_PER_DAY)
#define EVERY_HOUR ((1U << 24) - 1)

typedef struct CronField
{
	const char *title;
	int min;
	int max;
	const char *const *names; /* names[i] stands for min + i */
	int nnames;
} CronField;

static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun",
										  "jul", "aug", "sep", "oct", "nov", "dec"};
static const char *const weekday_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

enum
{
	CRON_MINUTE,
	CRON_HOUR,
	CRON_DAY,
	CRON_MONTH,
	CRON_WEEKDAY,
	CRON_FIELDS
};

static const CronField fields[CRON_FIELDS] = {
	{"minute", 0, 59, NULL, 0},
	{"hour", 0, 23, NULL, 0},
	{"day of month", 1, 31, NULL, 0},
	{"month", 1, 12, month_names, lengthof(month_names)},
	{"day of week", 0, 7, weekday_names, lengthof(weekday_names)},
};

static const struct
{
	const char *name;
	const char *expression;
} nicknames[] = {{"@hourly", "0 * * * *"},	{"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
				 {"@weekly", "0 0 * * 0"},	{"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
				 {"@annually", "0 0 1 1 *"}};

static char *
problem(int field, const char *what)
{
	return psprintf("Field %d (%s): %s.", field + 1, fields[field].title, what);
}

/*
 * read_value reads a number or a name at *cursor and steps over it; false,
 * with *error set, if there is none or it is out of range.
 */
static bool
read_value(int number, const char **cursor, int *value, char **error)
{
	const CronField *field = &fields[number];
	const char *start = *cursor;
	int length = 0;

	while (isalnum((unsigned char) start[length]))
		length++;
	if (length == 0)
	{
		*error = problem(number, *start == '\0' ? "a value is missing at its end"
												: psprintf("unexpected \"%s\"", start));
		return false;
	}
	*cursor = start + length;

	if (!isdigit((unsigned char) start[0]))
	{
		for (int i = 0; i < field->nnames; i++)
			if (length == 3 && pg_strncasecmp(start, field->names[i], 3) == 0)
			{
				*value = field->min + i;
				return true;
			}
		*error = problem(number, psprintf("\"%.*s\" is not a known name", length, start));
		return false;
	}

	*value = 0;
	for (int i = 0; i < length; i++)
	{
		if (!isdigit((unsigned char) start[i]))
		{
			*error = problem(number, psprintf("\"%.*s\" is not a number", length, start));
			return false;
		}
		*value = Min(*value * 10 + (start[i] - '0'), 100000);
	}
	if (*value < field->min || *value > field->max)
	{
		*error = problem(
			number, psprintf("%.*s is not from %d to %d", length, start, field->min, field->max));
		return false;
	}
	return true;
}

/*
 * read_field reads one field, a list of "*", values and ranges with steps,
 * into a set of bits; NULL if it is well-formed.
 */
static char *
read_field(int number, const char *text, uint64 *bits)
{
	const CronField *field = &fields[number];
	const char *cursor = text;
	char *error = NULL;

	*bits = 0;
	for (;;)
	{
		int low = field->min;
		int high = field->max;
		int step = 1;
		bool range = true;

		if (*cursor == '*')
			cursor++;
		else
		{
			if (!read_value(number, &cursor, &low, &error))
				return error;
			high = low;
			range = (*cursor == '-');
			if (range)
			{
				cursor++;
				if (!read_value(number, &cursor, &high, &error))
					return error;
				if (number == CRON_WEEKDAY && high == 0 && low > 0)
					high = 7; /* fri-sun */
				if (high < low)
					return problem(number, psprintf("the range %d-%d runs backwards", low, high));
			}
		}

		if (*cursor == '/')
		{
			char *end;
			long value;

			if (!range)
				return problem(number, "a step needs a range or \"*\" before it");
			cursor++;
			value = isdigit((unsigned char) *cursor) ? strtol(cursor, &end, 10) : 0;
			if (value < 1 || value > field->max)
				return problem(number, psprintf("a step must be from 1 to %d", field->max));
			cursor = end;
			step = (int) value;
		}

		for (int value = low; value <= high; value += step)
			*bits |= UINT64CONST(1) << value;

		if (*cursor == '\0')
			return NULL;
		if (*cursor != ',')
			return problem(number, psprintf("unexpected \"%s\"", cursor));
		cursor++;
	}
}

char *
cron_parse(const char *text, CronSchedule *schedule)
{
	uint64 bits[CRON_FIELDS];
	char *copy;
	char *word;
	char *rest = NULL;
	int nfields = 0;
	bool starred[CRON_FIELDS];
	char *error;

	while (isspace((unsigned char) *text))
		text++;
	if (text[0] == '@')
	{
		int length = strlen(text);

		while (isspace((unsigned char) text[length - 1]))
			length--;
		for (int i = 0; i < lengthof(nicknames); i++)
			if (strlen(nicknames[i].name) == length &&
				pg_strncasecmp(nicknames[i].name, text, length) == 0)
				return cron_parse(nicknames[i].expression, schedule);
		return pstrdup("The names are @hourly, @daily, @weekly, @monthly and @yearly.");
	}

	copy = pstrdup(text);
	for (word = strtok_r(copy, " \t\n\r", &rest); word != NULL;
		 word = strtok_r(NULL, " \t\n\r", &rest))
	{
		if (nfields == CRON_FIELDS)
			return pstrdup("There are more than five fields.");
		error = read_field(nfields, word, &bits[nfields]);
		if (error != NULL)
			return error;
		starred[nfields] = (word[0] == '*');
		nfields++;
	}
	if (nfields < CRON_FIELDS)
		return psprintf("Field %d (%s) is missing: five fields are needed.", nfields + 1,
						fields[nfields].title);

	schedule->minutes = bits[CRON_MINUTE];
	schedule->hours = (uint32) bits[CRON_HOUR];
	schedule->days = (uint32) bits[CRON_DAY];
	schedule->months = (uint32) bits[CRON_MONTH];
	schedule->weekdays =
		(uint32) (bits[CRON_WEEKDAY] & 0x7F) | (uint32) ((bits[CRON_WEEKDAY] >> 7) & 1);
	schedule->any_day = starred[CRON_DAY];
	schedule->any_weekday = starred[CRON_WEEKDAY];

	/* days that no month has, and no day of the week makes up for */
	if (schedule->any_weekday)
	{
		bool possible = false;

		for (int month = 1; month <= MONTHS_PER_YEAR; month++)
			for (int day = 1; day <= day_tab[1][month - 1]; day++)
				if ((schedule->months & (1U << month)) && (schedule->days & (1U << day)))
					possible = true;
		if (!possible)
			return problem(CRON_DAY, "no month of field 4 has such a day");
	}
	return NULL;
}

static bool
day_matches(const CronSchedule *schedule, int julian)
{
	int year, month, day;
	bool by_day, by_weekday;

	j2date(julian, &year, &month, &day);
	if (!(schedule->months & (1U << month)))
		return false;
	by_day = (schedule->days & (1U << day)) != 0;
	by_weekday = (schedule->weekdays & (1U << j2day(julian))) != 0;
	if (schedule->any_day || schedule->any_weekday)
		return by_day && by_weekday;
	return by_day || by_weekday;
}

/* Seconds since 1970 of the local clock at an instant. */
static int64
local_seconds(int64 instant, pg_tz *zone)
{
	pg_time_t time = (pg_time_t) instant;
	struct pg_tm *tm = pg_localtime(&time, zone);

	return instant + (tm != NULL ? tm->tm_gmtoff : 0);
}

/*
 * instant_of maps a local time, in seconds since 1970 on the local clock, to
 * the instant when that time comes first; a time that is skipped, to the end
 * of the gap.
 */
static int64
instant_of(int64 local, pg_tz *zone)
{
	pg_time_t from = (pg_time_t) (local - 2 * SECS_PER_DAY);

	for (;;)
	{
		long before_offset = 0;
		long after_offset = 0;
		int before_dst, after_dst;
		pg_time_t boundary;
		int found = pg_next_dst_boundary(&from, &before_offset, &before_dst, &boundary,
										 &after_offset, &after_dst, zone);

		if (found <= 0 || local < boundary + before_offset)
			return local - before_offset;
		if (local < boundary + after_offset)
			return boundary;
		from = boundary;
	}
}

/* cron_next() on real time, for schedules of every hour. */
static bool
next_of_every_hour(const CronSchedule *schedule, int64 after, pg_tz *zone, int64 *next)
{
	int64 limit = after + (int64) CRON_HORIZON_DAYS * SECS_PER_DAY;
	int64 local = local_seconds(after, zone);
	int64 instant = after + SECS_PER_MINUTE - (local % SECS_PER_MINUTE);

	while (instant < limit)
	{
		int julian;

		local = local_seconds(instant, zone);
		julian = (int) (local / SECS_PER_DAY) + UNIX_EPOCH_JDATE;
		if (!day_matches(schedule, julian))
		{
			/* to the next day, however long this one is */
			int64 midnight = instant_of(((local / SECS_PER_DAY) + 1) * SECS_PER_DAY, zone);

			instant = Max(midnight, instant + SECS_PER_MINUTE);
			continue;
		}
		if (schedule->minutes & (UINT64CONST(1) << ((local / SECS_PER_MINUTE) % MINS_PER_HOUR)))
		{
			*next = instant;
			return true;
		}
		instant += SECS_PER_MINUTE;
	}
	return false;
}

/* cron_next() on the local clock, for schedules at certain hours. */
static bool
next_of_fixed_hours(const CronSchedule *schedule, int64 after, pg_tz *zone, int64 *next)
{
	/* a day early: a time that came twice may lie before the clock's date */
	int64 first_day = local_seconds(after, zone) / SECS_PER_DAY - 1;

	for (int64 day = first_day; day < first_day + CRON_HORIZON_DAYS; day++)
	{
		if (!day_matches(schedule, (int) day + UNIX_EPOCH_JDATE))
			continue;
		for (int hour = 0; hour < HOURS_PER_DAY; hour++)
		{
			if (!(schedule->hours & (1U << hour)))
				continue;
			for (int minute = 0; minute < MINS_PER_HOUR; minute++)
			{
				int64 instant;

				if (!(schedule->minutes & (UINT64CONST(1) << minute)))
					continue;
				instant = instant_of(
					day * SECS_PER_DAY + hour * SECS_PER_HOUR + minute * SECS_PER_MINUTE, zone);
				if (instant > after)
				{
					*next = instant;
					return true;
				}
			}
		}
	}
	return false;
}

bool
cron_next(const CronSchedule *schedule, TimestampTz after, pg_tz *zone, TimestampTz *next)
{
	int64 seconds;
	int64 found;
	bool ok;

	/* days before 1970 never come up, and divisions below round down */
	if (TIMESTAMP_NOT_FINITE(after))
		return false;
	seconds = after / USECS_PER_SEC - (after % USECS_PER_SEC < 0 ? 1 : 0) + UNIX_TO_POSTGRES_SECS;
	seconds = Max(seconds, 2 * SECS_PER_DAY);

	if ((schedule->hours & EVERY_HOUR) == EVERY_HOUR)
		ok = next_of_every_hour(schedule, seconds, zone, &found);
	else
		ok = next_of_fixed_hours(schedule, seconds, zone, &found);
	if (!ok)
		return false;
	*next = (found - UNIX_TO_POSTGRES_SECS) * USECS_PER_SEC;
	return IS_VALID_TIMESTAMP(*next);
}
