/*
 * recount.c
 *		Users who count differently since the last run.
 *
 * A page names users by number; who of them signed up before its day, and who
 * is anonymous, is looked up when the page is computed.  An anonymous user who
 * became a permanent one, or a sign-up that was corrected, changes no session,
 * and so brings no mark: the numbers of the pages they are in are counted
 * again from their sets, also where the rows are gone.  An account that was
 * marked as deleted and is there again is in no set of the days that were
 * computed in between, and still in those of days that its sessions have left
 * meanwhile: all of them are computed again.
 *
 * Called by each run that writes, under its lock, after it looked at the users.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "common/query.h"
#include "events/events.h"
#include "metrics/engine.h"

#define BATCH_DAYS 32

typedef struct Recount
{
	UserSet *users;	 /* whose sign-up or anonymity changed */
	Datum *restored; /* ids of those who had been marked as deleted */
	int nrestored;
	UserSet *restored_users;
	Bitmapset *touched; /* days of sign-ups and conversions, from DASHIE_MIN_DAY, before today */
} Recount;

static void
touch_day(Metrics *metrics, Recount *recount, TimestampTz at)
{
	DateADT day = dashie_day_of(at, metrics->zone);

	if (day < metrics->today)
		recount->touched = bms_add_member(recount->touched, day - DASHIE_MIN_DAY);
}

static void
find_users(Metrics *metrics, Recount *recount)
{
	recount->users = user_set_create();
	recount->restored_users = user_set_create();
	recount->restored = palloc(Max(metrics->by_number_size, 1) * sizeof(Datum));
	for (int32 number = 0; number < metrics->by_number_size; number++)
	{
		UserEntry *user = numbers_by_number(metrics, number);

		if (user == NULL || !(user->is_new || user->changed) || user->departed)
			continue;
		if (user->has_signup)
			touch_day(metrics, recount, user->signed_up_at);
		if (user->converted)
			touch_day(metrics, recount, user->converted_at);
		if (user->recount)
			roaring_bitmap_add(recount->users, number);
		if (user->restored)
		{
			recount->restored[recount->nrestored++] = UUIDPGetDatum(&user->id);
			roaring_bitmap_add(recount->restored_users, number);
		}
	}
}

/*
 * What daily_metrics takes from the users for these days may have changed: the
 * pages are newer than its rows, until those are written again.
 */
static void
touch_pages(Metrics *metrics, const Recount *recount)
{
	Oid types[] = {DATEARRAYOID, TIMESTAMPTZOID};
	Datum values[2];
	Datum *days = palloc(Max(bms_num_members(recount->touched), 1) * sizeof(Datum));
	int ndays = 0;

	for (int day = bms_next_member(recount->touched, -1); day >= 0;
		 day = bms_next_member(recount->touched, day))
		days[ndays++] = DateADTGetDatum(day + DASHIE_MIN_DAY);
	if (ndays == 0)
		return;
	values[0] = PointerGetDatum(construct_array(days, ndays, DATEOID, 4, true, TYPALIGN_INT));
	values[1] = TimestampTzGetDatum(metrics->now);
	dashie_query_begin();
	dashie_query("UPDATE dashie.day_page SET computed_at = $2"
				 " WHERE day = ANY ($1) AND computed_at IS NOT NULL",
				 2, types, values, NULL);
	dashie_query_end();
}

/*
 * page_count_returning counts the members of a day's set that signed up before
 * the day and are not anonymous.
 */
int32
page_count_returning(Metrics *metrics, UserSet *active, TimestampTz before)
{
	int64 nmembers;
	int32 *members = user_set_members(active, metrics->max_user, &nmembers);
	int32 count = 0;

	for (int64 i = 0; i < nmembers; i++)
	{
		UserEntry *user = numbers_by_number(metrics, members[i]);

		if (user != NULL && !user->anonymous && user->has_signup && user->signed_up_at < before)
			count++;
	}
	return count;
}

static void
recount_batch(Metrics *metrics, const Recount *recount, DateADT from)
{
	static const Oid columns[] = {DATEOID, BYTEAOID};
	Oid types[] = {DATEOID, DATEOID, TIMESTAMPTZOID};
	Datum values[] = {DateADTGetDatum(from), DateADTGetDatum(from + BATCH_DAYS - 1), 0};
	MemoryContext context = CurrentMemoryContext;
	DateADT days[BATCH_DAYS];
	int32 returning[BATCH_DAYS];
	bool stale[BATCH_DAYS];
	int n = 0;
	uint64 nrows;

	dashie_query_begin();
	nrows = dashie_query("SELECT day, active FROM dashie.day_page"
						 " WHERE day BETWEEN $1 AND $2 AND active IS NOT NULL",
						 2, types, values, NULL);
	dashie_query_types(2, columns);
	for (uint64 row = 0; row < nrows; row++)
	{
		MemoryContext spi = MemoryContextSwitchTo(context);
		UserSet *active = user_set_from_bytes(DatumGetByteaPP(dashie_field(row, 2, NULL)));
		DateADT day = DatumGetDateADT(dashie_field(row, 1, NULL));

		if (roaring_bitmap_intersect(active, recount->users))
		{
			days[n] = day;
			stale[n] = day >= metrics->first_open_day &&
					   roaring_bitmap_intersect(active, recount->restored_users);
			returning[n++] =
				page_count_returning(metrics, active, dashie_day_start(day, metrics->zone));
		}
		MemoryContextSwitchTo(spi);
	}
	types[1] = INT4OID;
	values[2] = TimestampTzGetDatum(metrics->now);
	for (int i = 0; i < n; i++)
	{
		values[0] = DateADTGetDatum(days[i]);
		values[1] = Int32GetDatum(returning[i]);
		dashie_query("UPDATE dashie.day_page SET returning_users = $2, computed_at = $3"
					 " WHERE day = $1 AND returning_users <> $2",
					 3, types, values, NULL);
		if (stale[i])
			dashie_query("UPDATE dashie.day_page SET dirty = true WHERE day = $1 AND NOT dirty", 1,
						 types, values, NULL);
	}
	dashie_query_end();
}

/* The pages that one of the users is in. */
static void
recount_pages(Metrics *metrics, const Recount *recount)
{
	static const Oid columns[] = {DATEOID, DATEOID};
	Datum values[] = {DateADTGetDatum(DASHIE_MIN_DAY), DateADTGetDatum(DASHIE_MAX_DAY)};
	MemoryContext batch =
		AllocSetContextCreate(CurrentMemoryContext, "dashie recount", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	DateADT first;
	DateADT last;
	bool none;

	dashie_query_begin();
	dashie_query("SELECT min(day), max(day) FROM dashie.day_page WHERE day BETWEEN $1 AND $2", 2,
				 columns, values, NULL);
	dashie_query_types(2, columns);
	first = DatumGetDateADT(dashie_field(0, 1, &none));
	last = none ? first : DatumGetDateADT(dashie_field(0, 2, NULL));
	dashie_query_end();
	old = MemoryContextSwitchTo(batch);
	for (DateADT day = first; !none && day <= last; day += BATCH_DAYS)
	{
		CHECK_FOR_INTERRUPTS();
		recount_batch(metrics, recount, day);
		MemoryContextReset(batch);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(batch);
}

/* The days of the sessions of users who are there again. */
static void
mark_restored(Metrics *metrics, const Recount *recount)
{
	static const Oid columns[] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Oid types[] = {get_array_type(UUIDOID)};
	Oid mark_types[] = {DATEOID, DATEOID};
	Datum values[2];
	uint64 nrows;
	SPITupleTable *rows;

	if (recount->nrestored == 0 || !OidIsValid(metrics->sessions_rel))
		return;
	values[0] = PointerGetDatum(construct_array(recount->restored, recount->nrestored, UUIDOID,
												UUID_LEN, false, TYPALIGN_CHAR));
	dashie_query_begin();
	nrows =
		dashie_query(psprintf("SELECT started_at, coalesce(ended_at, last_activity_at, started_at)"
							  " FROM %s WHERE user_id = ANY ($1) AND started_at IS NOT NULL",
							  dashie_relation_name(metrics->sessions_rel)),
					 1, types, values, NULL);
	dashie_query_types(2, columns);
	rows = SPI_tuptable;
	for (uint64 row = 0; row < nrows; row++)
	{
		bool isnull;
		TimestampTz from =
			DatumGetTimestampTz(SPI_getbinval(rows->vals[row], rows->tupdesc, 1, &isnull));
		TimestampTz upto =
			DatumGetTimestampTz(SPI_getbinval(rows->vals[row], rows->tupdesc, 2, &isnull));

		values[0] =
			DateADTGetDatum(Max(dashie_day_of(from, metrics->zone), metrics->first_open_day));
		values[1] = DateADTGetDatum(dashie_day_of(upto, metrics->zone));
		dashie_query("UPDATE dashie.day_page SET dirty = true"
					 " WHERE day BETWEEN $1 AND $2 AND NOT dirty",
					 2, mark_types, values, NULL);
	}
	dashie_query_end();
}

/*
 * users_recount brings the pages up to date with what the run saw of the users.
 */
void
users_recount(Metrics *metrics)
{
	Recount recount = {0};

	/* the first run of all has no pages */
	if (!metrics->has_last_pass)
		return;
	find_users(metrics, &recount);
	if (!metrics->writes_all_rows)
		touch_pages(metrics, &recount);
	if (!roaring_bitmap_is_empty(recount.users))
		recount_pages(metrics, &recount);
	mark_restored(metrics, &recount);
	if (recount.nrestored > 0)
		events_restored(metrics);
}
