/*
 * geographic.c
 *		dashie.refresh_geographic_stats() and the job of that name.
 *
 * Countries are applied when reading: a user who moved counts where they are.
 * The 30 days' sets are united, and one pass over the users counts them by
 * country. Run as the owner of geographic_stats, under the lock of engine.c.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/application.h"
#include "common/arrays.h"
#include "common/compat.h"
#include "common/query.h"
#include "common/rows.h"
#include "jobs/job.h"
#include "metrics/engine.h"
#include "metrics/numbers.h"
#include "partition/partition.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_refresh_geographic_stats);

#define WINDOW_DAYS 30

typedef struct CountryCounts
{
	int64 users;
	int64 active;
	int64 trial;
	int64 paid;
} CountryCounts;

/*
 * read_window unites the sets of the days that end with as_of, and sums the
 * sessions that started on them by the session's own country.
 */
static UserSet *
read_window(Metrics *metrics, DateADT as_of, CountrySum *sums)
{
	UserSet *active = user_set_create();
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "dashie window day", ALLOCSET_DEFAULT_SIZES);
	DateADT from = Max(as_of - WINDOW_DAYS + 1, DASHIE_MIN_DAY);
	static const Oid columns[] = {DATEOID, BYTEAOID, BYTEAOID};
	Oid types[] = {DATEOID, DATEOID};
	Datum values[] = {DateADTGetDatum(from), DateADTGetDatum(as_of)};
	uint64 nrows;
	int lost = Max(Min(as_of + 1, metrics->first_open_day) - from, 0);

	dashie_query_begin();
	nrows = dashie_query("SELECT day, active, countries FROM dashie.day_page"
						 " WHERE day BETWEEN $1 AND $2",
						 2, types, values, NULL);
	dashie_query_types(lengthof(columns), columns);
	for (uint64 row = 0; row < nrows; row++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		bool isnull;
		Datum value;

		if (DatumGetDateADT(dashie_field(row, 1, NULL)) < metrics->first_open_day)
			lost--;
		value = dashie_field(row, 2, &isnull);
		if (!isnull)
			roaring_bitmap_or_inplace(active, user_set_from_bytes(DatumGetByteaPP(value)));
		value = dashie_field(row, 3, &isnull);
		if (!isnull)
			country_sums_from_bytes(DatumGetByteaPP(value), sums);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	dashie_query_end();
	MemoryContextDelete(context);
	if (lost > 0)
		ereport(NOTICE, (errmsg("nothing is known of %d of the %d days: retention closed them "
								"before they were computed",
								lost, WINDOW_DAYS)));
	return active;
}

/* The length first: the text may be a large one, and there is one a user. */
static inline bool
text_is(Datum value, bool isnull, const char *word)
{
	size_t length = strlen(word);
	const char *stored = DatumGetPointer(value);

	if (isnull)
		return false;
	/* as it nearly always lies in a row */
	if (VARATT_IS_SHORT(stored) && !VARATT_IS_EXTERNAL(stored))
		return VARSIZE_SHORT(stored) == VARHDRSZ_SHORT + length &&
			   memcmp(VARDATA_SHORT(stored), word, length) == 0;
	return toast_raw_datum_size(value) == VARHDRSZ + length &&
		   memcmp(VARDATA_ANY(DatumGetTextPP(value)), word, length) == 0;
}

/* What a row of user_profiles says. */
typedef struct Profile
{
	pg_uuid_t user;
	int32 number; /* 0: to be looked up */
	bool trial;
	bool paid;
} Profile;

#define PROFILE_BATCH 64

/* Returns the number of the last user who is known. */
static int32
count_profiles(Metrics *metrics, CountryCounts *counts, const Profile *batch, int n)
{
	int32 number = 0;

	for (int i = 0; i < n; i++)
		if (batch[i].number == 0)
			id_index_prefetch_entry(&metrics->users, &batch[i].user, numbers_users(metrics));
	for (int i = 0; i < n; i++)
	{
		UserEntry *user = batch[i].number != 0 ? numbers_by_number(metrics, batch[i].number)
											   : numbers_user(metrics, &batch[i].user);
		CountryCounts *country;

		if (user == NULL)
			continue;
		number = user->number;
		if (!user_is_there(user) || user->anonymous)
			continue;
		country = &counts[country_index(user->country)];
		country->trial += batch[i].trial;
		country->paid += batch[i].paid;
	}
	return number;
}

/*
 * count_tiers counts trial and paid users by country; false if there is no
 * user_profiles to know them from.
 */
static bool
count_tiers(Metrics *metrics, CountryCounts *counts)
{
	DashieColumn columns[] = {
		{"auth_user_id", UUIDOID, true, 0},			  {"tier", TEXTOID, true, 0},
		{"tier_started_at", TIMESTAMPTZOID, true, 0}, {"tier_expires_at", TIMESTAMPTZOID, true, 0},
		{"subscription_status", TEXTOID, true, 0},
	};
	Oid relid = dashie_application_table("user_profiles", columns, lengthof(columns));
	Interval trial;
	TimestampTz oldest_trial; /* one that began then, without an end of its own, is over */
	Relation rel;
	Profile batch[PROFILE_BATCH];
	int n = 0;
	int32 before = 0; /* the number of the row before, or of one shortly before it */
	DashieScan *scan;

	if (!OidIsValid(relid))
		return false;
	trial = dashie_trial_length();
	oldest_trial = dashie_subtract_interval(metrics->now, &trial, metrics->zone);

	rel = dashie_relation_open(relid, AccessShareLock, ACL_SELECT, false);
	dashie_relation_columns(rel, columns, lengthof(columns));
	scan = dashie_scan_begin(rel, metrics->snapshot);
	dashie_scan_want(scan, columns, lengthof(columns));
	while (dashie_scan_next(scan))
	{
		const pg_uuid_t *id = dashie_scan_uuid(scan, &columns[0]);
		Profile *profile = &batch[n];
		bool isnull;
		Datum value;

		if (id == NULL)
			continue;
		profile->user = *id;
		profile->number = numbers_guess(metrics, before, id);
		if (profile->number != 0)
			before = profile->number;
		profile->trial = profile->paid = false;
		value = dashie_scan_get(scan, &columns[1], &isnull);
		if (text_is(value, isnull, "trial"))
		{
			value = dashie_scan_get(scan, &columns[3], &isnull);
			if (!isnull)
				profile->trial = DatumGetTimestampTz(value) > metrics->now;
			else
			{
				value = dashie_scan_get(scan, &columns[2], &isnull);
				profile->trial = isnull || DatumGetTimestampTz(value) > oldest_trial;
			}
		}
		else if (text_is(value, isnull, "basic") || text_is(value, isnull, "pro"))
		{
			value = dashie_scan_get(scan, &columns[4], &isnull);
			profile->paid = isnull || text_is(value, isnull, "active") ||
							text_is(value, isnull, "trialing") ||
							text_is(value, isnull, "past_due");
		}
		if (!profile->trial && !profile->paid)
			continue;
		if (profile->number == 0)
			id_index_prefetch(&metrics->users, &profile->user);
		if (++n == PROFILE_BATCH)
		{
			before = count_profiles(metrics, counts, batch, n);
			n = 0;
		}
	}
	(void) count_profiles(metrics, counts, batch, n);
	dashie_scan_end(scan);
	table_close(rel, NoLock);
	return true;
}

enum
{
	OUT_COUNTRY,
	OUT_USERS,
	OUT_ACTIVE,
	OUT_TRIAL,
	OUT_PAID,
	OUT_AVERAGE,
	OUT_COLUMNS
};

/*
 * write_countries makes geographic_stats hold exactly the countries that have
 * a user; rows that are right already stay untouched.
 */
static int64
write_countries(Metrics *metrics, Oid geographic, const CountryCounts *counts,
				const CountrySum *sums, bool has_tiers)
{
	static const Oid types[OUT_COLUMNS] = {TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, NUMERICOID};
	DashieArrays rows;
	char *name = dashie_relation_name(geographic);
	int64 changed;

	dashie_arrays_init(&rows, types, OUT_COLUMNS, COUNTRIES);
	for (int i = 0; i < COUNTRIES; i++)
	{
		const CountryCounts *country = &counts[i];
		int n = rows.nrows;
		char code[3] = {(char) ('A' + i / 26), (char) ('A' + i % 26), '\0'};

		if (country->users == 0)
			continue;
		rows.values[OUT_COUNTRY][n] = CStringGetTextDatum(code);
		rows.values[OUT_USERS][n] = Int64GetDatum(country->users);
		rows.values[OUT_ACTIVE][n] = Int64GetDatum(country->active);
		rows.nulls[OUT_ACTIVE][n] = !OidIsValid(metrics->sessions_rel);
		rows.values[OUT_TRIAL][n] = Int64GetDatum(country->trial);
		rows.values[OUT_PAID][n] = Int64GetDatum(country->paid);
		rows.nulls[OUT_TRIAL][n] = rows.nulls[OUT_PAID][n] = !has_tiers;
		rows.nulls[OUT_AVERAGE][n] = sums[i].ended == 0;
		if (sums[i].ended > 0)
			rows.values[OUT_AVERAGE][n] = average_minutes(sums[i].duration, sums[i].ended);
		rows.nrows++;
	}
	dashie_arrays_finish(&rows);
	rows.parameter_types[OUT_COLUMNS] = TIMESTAMPTZOID;
	rows.parameters[OUT_COLUMNS] = TimestampTzGetDatum(metrics->now);

	dashie_query_begin();
	changed = (int64) dashie_query(psprintf("DELETE FROM %s WHERE country_code <> ALL ($1)", name),
								   1, rows.parameter_types, rows.parameters, NULL);
	changed += (int64) dashie_query(
		psprintf(
			"INSERT INTO %s AS g (country_code, total_users, active_users_30d, trial_users,"
			" paid_users, avg_session_duration_minutes, last_updated)"
			" SELECT n.c, n.users, n.active, n.trial, n.paid, n.average, $7"
			" FROM unnest($1, $2, $3, $4, $5, $6) AS n (c, users, active, trial, paid, average)"
			" ON CONFLICT (country_code) DO UPDATE SET total_users = excluded.total_users,"
			" active_users_30d = excluded.active_users_30d, trial_users = excluded.trial_users,"
			" paid_users = excluded.paid_users,"
			" avg_session_duration_minutes = excluded.avg_session_duration_minutes,"
			" last_updated = excluded.last_updated"
			" WHERE (g.total_users, g.active_users_30d, g.trial_users, g.paid_users,"
			" g.avg_session_duration_minutes)"
			" IS DISTINCT FROM (excluded.total_users, excluded.active_users_30d,"
			" excluded.trial_users, excluded.paid_users, excluded.avg_session_duration_minutes)",
			name),
		OUT_COLUMNS + 1, rows.parameter_types, rows.parameters, NULL);
	dashie_query_end();
	return changed;
}

/* The statistics as of a day whose pages, like all others, are up to date. */
typedef struct Statistics
{
	Metrics *metrics;
	Oid geographic;
	DateADT as_of;
	int64 changed; /* out: rows */
} Statistics;

static void
write_statistics(void *arg)
{
	Statistics *statistics = arg;
	Metrics *metrics = statistics->metrics;
	MemoryContext old = MemoryContextSwitchTo(metrics->context);
	CountryCounts *counts = palloc0(COUNTRIES * sizeof(CountryCounts));
	CountrySum *sums = palloc0(COUNTRIES * sizeof(CountrySum));
	UserSet *active = read_window(metrics, statistics->as_of, sums);
	bool has_tiers;

	for (int32 number = 0; number < metrics->by_number_size; number++)
	{
		UserEntry *user = numbers_by_number(metrics, number);
		CountryCounts *country;

		if (user == NULL || !user_is_there(user) || user->anonymous)
			continue;
		country = &counts[country_index(user->country)];
		country->users++;
		if (roaring_bitmap_contains(active, number))
			country->active++;
	}
	has_tiers = count_tiers(metrics, counts);
	if (!has_tiers)
		ereport(
			NOTICE,
			(errmsg("trial_users and paid_users are NULL: there is no table public.user_profiles "
					"that role \"%s\" can read",
					GetUserNameFromId(GetUserId(), false))));
	statistics->changed = write_countries(metrics, statistics->geographic, counts, sums, has_tiers);
	MemoryContextSwitchTo(old);
}

static int64
write_now(Metrics *metrics, Oid geographic, DateADT as_of)
{
	Statistics statistics = {metrics, geographic, as_of, 0};

	countries_future(metrics);
	write_statistics(&statistics);
	return statistics.changed;
}

/*
 * geographic_beside returns geographic_stats, if the job of daily_metrics may
 * fill it with the same pass over the users, or InvalidOid.
 */
Oid
geographic_beside(Oid daily)
{
	Oid geographic;

	if (!dashie_job_enabled("refresh_geographic_stats"))
		return InvalidOid;
	geographic = dashie_enabled_oid("geographic_stats");
	return OidIsValid(geographic) && dashie_owner_of(geographic) == dashie_owner_of(daily)
			   ? geographic
			   : InvalidOid;
}

/*
 * geographic_write_beside writes the statistics as of today in the night's run
 * of daily_metrics.  What fails is left to the job of its own, so that it does
 * not take the days along.
 */
int64
geographic_write_beside(Metrics *metrics, Oid geographic)
{
	Statistics statistics = {metrics, geographic, metrics->today, 0};
	ErrorData *error;

	countries_future(metrics);
	error = dashie_attempt(write_statistics, &statistics);
	if (error == NULL)
	{
		metrics->geographic_at = metrics->now;
		return statistics.changed;
	}
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
		ReThrowError(error);
	ereport(LOG, (errmsg("geographic_stats is left to the job \"refresh_geographic_stats\": %s",
						 error->message)));
	return 0;
}

Datum
dashie_refresh_geographic_stats(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	Oid geographic;
	Metrics *metrics;
	DateADT as_of = PG_ARGISNULL(0) ? 0 : dashie_day_argument("as_of", DASHIE_ARG(0));
	bool more;
	int64 changed;

	dashie_enter(&guard);
	geographic = dashie_enabled_oid_required("geographic_stats");
	metrics = metrics_open(&guard, geographic, false);
	if (PG_ARGISNULL(0))
		as_of = metrics->today;
	metrics_reject_future(metrics, "as_of", as_of);

	metrics_absorb_marks(metrics);
	metrics_bring_up(metrics, metrics_first_day(metrics), metrics->today, false, false, &more,
					 NULL);
	changed = write_now(metrics, geographic, as_of);
	metrics_close(metrics);
	dashie_leave(&guard);
	PG_RETURN_INT32((int32) changed);
}

/* Whether the night's run of daily_metrics did it since this job last ran by the clock. */
static bool
done_beside(Metrics *metrics, const JobStep *step)
{
	numbers_bounds(metrics);
	return step->number == 0 && metrics->geographic_at > step->since &&
		   metrics->geographic_at > metrics->now - USECS_PER_DAY;
}

/*
 * dashie_geographic_step is one step of the job: pages that are missing first,
 * then the statistics as of today.
 */
bool
dashie_geographic_step(JobStep *step)
{
	DashieGuard guard = *step->guard;
	Oid geographic = dashie_enabled_oid_required("geographic_stats");
	Metrics *metrics = metrics_open(&guard, geographic, false);
	DateADT from;
	bool *computed;
	bool more;

	if (done_beside(metrics, step))
	{
		metrics_close(metrics);
		return false;
	}
	metrics_absorb_marks_of_night(metrics, step, metrics->today);
	from = metrics_first_day(metrics);
	computed = MemoryContextAllocZero(metrics->context, metrics->today - from + 1);
	more = metrics_catch_up(metrics, from, metrics->today, step, computed);
	if (!more)
	{
		bool left;

		/* also what has changed since its turn */
		metrics_bring_up(metrics, from, metrics->today, false, false, &left, NULL);
		step->rows += write_now(metrics, geographic, metrics->today);
	}
	metrics_close(metrics);
	return more;
}
