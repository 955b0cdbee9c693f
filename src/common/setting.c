/*
 * setting.c
 *		Settings of the product's owner: dashie.configure(), dashie.settings.
 *
 * A setting is a row of dashie.setting where it differs from the default in
 * the table below.  Rows are read with a plain scan at each use, by whatever
 * role is current: they are no secret, and a trigger in a cascade from Auth
 * needs them with no rights on anything.  The table's CHECK admits only what
 * configure() could have written, so that a restored or hand-made row is as
 * good as a checked one.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "common/day.h"
#include "common/owner.h"
#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "common/setting.h"
#include "metrics/metrics.h"

PG_FUNCTION_INFO_V1(dashie_configure);
PG_FUNCTION_INFO_V1(dashie_setting_valid);
PG_FUNCTION_INFO_V1(dashie_settings_list);

typedef enum SettingKind
{
	SETTING_INT,
	SETTING_HOURS, /* a number of them, or as long as rows are kept */
	SETTING_BOOL,
	SETTING_ZONE,
	SETTING_MODE /* of Stripe's events */
} SettingKind;

/* What a number of hours says that is none; as a number 0. */
#define HOURS_OF_RETENTION "retention"

typedef struct Setting
{
	const char *name;
	SettingKind kind;
	const char *initial; /* default, as text */
	int min;
	int max;
	const char *unit;
	const char *meaning;
} Setting;

static const Setting settings[] = {
	{"timezone", SETTING_ZONE, "UTC", 0, 0, "time zone name",
	 "Where a day begins and ends, for metrics, partitions and schedules."},
	{"partitions_ahead_days", SETTING_INT, "7", 1, 90, "days",
	 "How many days after today widget_analytics has partitions for."},
	{"duplicate_window_hours", SETTING_HOURS, HOURS_OF_RETENTION, 48, 876000,
	 "hours, or " HOURS_OF_RETENTION,
	 "How far before its time and before now an event is looked for that may be stored already; "
	 "devices keep what they could not send for 48 hours."},
	{"maintenance_lock_timeout_ms", SETTING_INT, "200", 10, 60000, "milliseconds",
	 "How long maintenance waits for a lock before it lets others pass and tries again."},
	{"lock_retries", SETTING_INT, "10", 0, 1000, "attempts",
	 "How often a job tries again for a lock before it leaves the work to its next run."},
	{"batch_rows", SETTING_INT, "10000", 1, 1000000, "rows",
	 "How many rows one short transaction of retention removes."},
	{"job_time_budget_s", SETTING_INT, "60", 1, 3600, "seconds",
	 "How long one run of a job works before it leaves the rest to the next run."},
	{"job_history_days", SETTING_INT, "30", 1, 3650, "days",
	 "How long finished runs stay in dashie.job_run; failed ones stay three times as long."},
	{"job_history_rows", SETTING_INT, "10000", 100, 1000000, "rows",
	 "How many runs dashie.job_run holds at most."},
	{"session_idle_minutes", SETTING_INT, "30", 1, 10080, "minutes",
	 "After how much silence the job close_stale_sessions ends an open session."},
	{"trial_days", SETTING_INT, "14", 0, 3650, "days",
	 "Length of a trial where access_control_config does not say trial_duration_days."},
	{"stripe_livemode", SETTING_MODE, "both", 0, 0, "live, test or both",
	 "Which events of Stripe are applied; others are stored and skipped."},
	{"stripe_max_attempts", SETTING_INT, "8", 1, 100, "attempts",
	 "After how many failures an event of Stripe is dead."},
	{"stripe_retry_s", SETTING_INT, "60", 1, 86400, "seconds",
	 "Wait before a failed event of Stripe is tried again; each further wait is four times as "
	 "long, "
	 "up to a day."},
	{"verify_nightly", SETTING_BOOL, "off", 0, 0, "on or off",
	 "Whether the jobs refresh_daily_metrics and rollup_events prove the days that they wrote, as "
	 "dashie.verify() and dashie.verify_events() do."},
};

static const Setting *
find_setting(const char *name)
{
	for (int i = 0; i < lengthof(settings); i++)
		if (strcmp(settings[i].name, name) == 0)
			return &settings[i];
	return NULL;
}

/* A whole number in the setting's range. */
static bool
is_number(const Setting *setting, const char *value)
{
	char *end;
	long number;

	errno = 0;
	number = strtol(value, &end, 10);
	return errno == 0 && end != value && *end == '\0' && number >= setting->min &&
		   number <= setting->max;
}

/*
 * setting_problem says in words why a value is not acceptable; NULL if it is.
 */
static char *
setting_problem(const Setting *setting, const char *value)
{
	switch (setting->kind)
	{
		case SETTING_ZONE:
			if (dashie_timezone_named(value) == NULL)
				return pstrdup("It must be a time zone of pg_timezone_names, without leap seconds "
							   "and with an offset of whole quarters of an hour.");
			return NULL;
		case SETTING_MODE:
			if (strcmp(value, "live") != 0 && strcmp(value, "test") != 0 &&
				strcmp(value, "both") != 0)
				return pstrdup("It must be live, test or both.");
			return NULL;
		case SETTING_BOOL:
			if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
				return pstrdup("It must be on or off.");
			return NULL;
		case SETTING_HOURS:
			if (strcmp(value, HOURS_OF_RETENTION) == 0 || is_number(setting, value))
				return NULL;
			return psprintf("It must be \"" HOURS_OF_RETENTION
							"\" or a whole number of hours from %d to %d.",
							setting->min, setting->max);
		case SETTING_INT:
			if (!is_number(setting, value))
				return psprintf("It must be a whole number of %s from %d to %d.", setting->unit,
								setting->min, setting->max);
			return NULL;
	}
	pg_unreachable();
}

char *
dashie_setting_text(const char *name)
{
	const Setting *setting = find_setting(name);
	Oid relid = dashie_relation_oid("dashie", "setting");
	DashieColumn columns[] = {{"name", TEXTOID, true, 0}, {"value", TEXTOID, true, 0}};
	Relation rel;
	DashieScan *scan;
	char *value = NULL;

	Assert(setting != NULL);
	if (!OidIsValid(relid))
		return pstrdup(setting->initial);

	rel = table_open(relid, AccessShareLock);
	if (rel->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"dashie.setting\" is not a plain table")));
	dashie_relation_columns(rel, columns, lengthof(columns));
	scan = dashie_scan_latest(rel);
	while (value == NULL && dashie_scan_next(scan))
	{
		bool isnull;
		Datum datum = dashie_scan_get(scan, &columns[0], &isnull);

		if (isnull || strcmp(TextDatumGetCString(datum), name) != 0)
			continue;
		datum = dashie_scan_get(scan, &columns[1], &isnull);
		if (!isnull)
			value = TextDatumGetCString(datum);
	}
	dashie_scan_end(scan);
	table_close(rel, AccessShareLock);

	/* a value that went bad, as a zone that the server lost, is for the user to see */
	return value != NULL ? value : pstrdup(setting->initial);
}

int64
dashie_setting_int(const char *name)
{
	const Setting *setting = find_setting(name);
	char *value = dashie_setting_text(name);

	Assert(setting != NULL && (setting->kind == SETTING_INT || setting->kind == SETTING_HOURS));
	if (setting_problem(setting, value) != NULL)
		value = pstrdup(setting->initial);
	return strtol(value, NULL, 10); /* 0 where it is no number */
}

bool
dashie_setting_bool(const char *name)
{
	Assert(find_setting(name)->kind == SETTING_BOOL);
	return strcmp(dashie_setting_text(name), "on") == 0;
}

Datum
dashie_setting_valid(PG_FUNCTION_ARGS)
{
	const Setting *setting;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_BOOL(false);
	setting = find_setting(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_BOOL(setting != NULL &&
				   setting_problem(setting, text_to_cstring(PG_GETARG_TEXT_PP(1))) == NULL);
}

Datum
dashie_configure(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	const Setting *setting;
	char *name;
	char *value;
	char *problem;
	Oid types[2] = {TEXTOID, TEXTOID};
	Datum values[2];

	dashie_reject_null(fcinfo, 0, "name");
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	setting = find_setting(name);
	if (setting == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown setting: \"%s\"", name),
				 errhint("SELECT name, meaning FROM dashie.settings lists them.")));
	value = PG_ARGISNULL(1) ? pstrdup(setting->initial) : text_to_cstring(PG_GETARG_TEXT_PP(1));
	problem = setting_problem(setting, value);
	if (problem != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid value for \"%s\": \"%s\"", name, value),
						errdetail_internal("%s", problem)));

	dashie_enter(&guard);
	if (setting->kind == SETTING_ZONE)
		dashie_metrics_change_timezone(&guard, value);
	dashie_query_begin();
	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(value);
	if (strcmp(value, setting->initial) == 0)
		dashie_query("DELETE FROM dashie.setting WHERE name = $1", 1, types, values, NULL);
	else
		dashie_query("INSERT INTO dashie.setting (name, value) VALUES ($1, $2)"
					 " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
					 2, types, values, NULL);
	dashie_query_end();
	dashie_leave(&guard);
	PG_RETURN_VOID();
}

Datum
dashie_settings_list(PG_FUNCTION_ARGS)
{
	DashieRows rows;

	dashie_rows_begin(fcinfo, &rows);
	for (int i = 0; i < lengthof(settings); i++)
	{
		const Setting *setting = &settings[i];
		Datum values[7];
		bool nulls[7] = {false};

		values[0] = CStringGetTextDatum(setting->name);
		values[1] = CStringGetTextDatum(dashie_setting_text(setting->name));
		values[2] = CStringGetTextDatum(setting->initial);
		values[3] = CStringGetTextDatum(setting->unit);
		values[4] = Int32GetDatum(setting->min);
		values[5] = Int32GetDatum(setting->max);
		nulls[4] = nulls[5] = setting->kind != SETTING_INT && setting->kind != SETTING_HOURS;
		values[6] = CStringGetTextDatum(setting->meaning);
		dashie_rows_put(&rows, values, nulls);
	}
	return (Datum) 0;
}
