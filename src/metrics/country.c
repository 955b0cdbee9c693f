/*
 * country.c
 *		The country of each user: that of their latest session that has one.
 *
 * It is kept (country_store.c) with the session it came from, so that it
 * is still known when retention has removed the session.  When a stretch of
 * time is read anew, every user whose country came from there is in doubt:
 * the rows say it again, or, where the session was removed or moved, the
 * user's other rows are asked, and after them the pages of days whose rows
 * are gone.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/query.h"
#include "common/relation.h"
#include "metrics/engine.h"

/*
 * country_code reads a session's country: two capital letters, of which XX
 * means unknown.  Anything else is no country.
 */
CountryCode
country_code(Datum value, bool isnull)
{
	text *code;
	const char *letters;

	/* looked at first: the text may be a large one */
	if (isnull || toast_raw_datum_size(value) != VARHDRSZ + 2)
		return NO_COUNTRY;
	code = DatumGetTextPP(value);
	letters = VARDATA_ANY(code);
	if (VARSIZE_ANY_EXHDR(code) != 2 || letters[0] < 'A' || letters[0] > 'Z' || letters[1] < 'A' ||
		letters[1] > 'Z' || (letters[0] == 'X' && letters[1] == 'X'))
		return NO_COUNTRY;
	return (CountryCode) ((unsigned char) letters[0] << 8 | (unsigned char) letters[1]);
}

const pg_uuid_t lowest_session_id = {{0}};

/* A session's id; its table's owner may let it be NULL, which is then the lowest. */
static const pg_uuid_t *
session_id(DashieScan *scan, const DashieColumn *column)
{
	const pg_uuid_t *id = dashie_scan_uuid(scan, column);

	return id != NULL ? id : &lowest_session_id;
}

static bool
later(TimestampTz at, const pg_uuid_t *session, const UserEntry *user)
{
	if (user->country == NO_COUNTRY)
		return true;
	if (at != user->country_at)
		return at > user->country_at;
	return memcmp(session->data, user->country_session.data, UUID_LEN) > 0;
}

static void
add_doubt(CountryDoubts *doubts, const UserEntry *user)
{
	CountryDoubt *doubt;

	if (doubts->n == doubts->size)
	{
		doubts->size = Max(1024, doubts->size * 2);
		doubts->doubts = doubts->doubts == NULL
							 ? palloc_extended(doubts->size * sizeof(CountryDoubt), MCXT_ALLOC_HUGE)
							 : repalloc_huge(doubts->doubts, doubts->size * sizeof(CountryDoubt));
	}
	doubt = &doubts->doubts[doubts->n++];
	doubt->number = user->number;
	doubt->at = user->country_at;
}

/*
 * countries_begin puts in doubt the country of every user that came from a
 * session that started in one of the wanted days, day i being
 * [starts[i], starts[i + 1]).  Both arrays must outlast countries_finish().
 */
void
countries_begin(Metrics *metrics, CountryDoubts *doubts, const TimestampTz *starts, int ndays,
				const bool *wanted)
{
	memset(doubts, 0, sizeof(CountryDoubts));
	doubts->starts = starts;
	doubts->ndays = ndays;
	doubts->wanted = wanted;
	for (int32 number = 0; number < metrics->by_number_size; number++)
	{
		UserEntry *user = numbers_by_number(metrics, number);

		if (user == NULL || user->country == NO_COUNTRY || user->country_at < starts[0] ||
			user->country_at >= starts[ndays] || user->departed ||
			!wanted[dashie_day_search(starts, ndays, user->country_at)])
			continue;
		add_doubt(doubts, user);
		user->rederive = true;
		user->country = NO_COUNTRY;
	}
}

/*
 * countries_candidate tells of a session with a country, in any order.  Whoever
 * knows that no other session of the user began at that instant need not know
 * its id and gives lowest_session_id.
 */
void
countries_candidate(UserEntry *user, CountryCode country, TimestampTz at, const pg_uuid_t *session)
{
	if (user->departed || !later(at, session, user))
		return;
	user->country = country;
	user->country_at = at;
	user->country_session = *session;
}

static void
candidate_from_slot(TupleTableSlot *slot, const DashieColumn *columns, UserEntry *user)
{
	bool isnull;
	Datum value = slot_getattr(slot, columns[3].attnum, &isnull);
	CountryCode country = country_code(value, isnull);
	TimestampTz at;

	if (country == NO_COUNTRY)
		return;
	at = DatumGetTimestampTz(slot_getattr(slot, columns[2].attnum, &isnull));
	if (isnull)
		return;
	value = slot_getattr(slot, columns[0].attnum, &isnull);
	countries_candidate(user, country, at, isnull ? &lowest_session_id : DatumGetUUIDP(value));
}

/* All sessions of the users in doubt, through the index on the user or in one pass. */
static void
ask_rows(Metrics *metrics, UserEntry **users, int nusers)
{
	DashieColumn columns[] = {
		{"id", UUIDOID, true, 0},
		{"user_id", UUIDOID, true, 0},
		{"started_at", TIMESTAMPTZOID, true, 0},
		{"country_code", TEXTOID, true, 0},
	};
	Relation rel = dashie_relation_open(metrics->sessions_rel, AccessShareLock, ACL_SELECT, false);
	Oid indexid;

	dashie_relation_columns(rel, columns, lengthof(columns));
	indexid = dashie_find_index(rel, columns[1].attnum, NULL);
	if (OidIsValid(indexid))
	{
		Relation index = index_open(indexid, AccessShareLock);
		TupleTableSlot *slot = table_slot_create(rel, NULL);
		IndexScanDesc scan = dashie_index_beginscan(rel, index, metrics->snapshot, 1);

		for (int i = 0; i < nusers; i++)
		{
			ScanKeyData key;

			CHECK_FOR_INTERRUPTS();
			ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(&users[i]->id));
			index_rescan(scan, &key, 1, NULL, 0);
			while (index_getnext_slot(scan, ForwardScanDirection, slot))
				candidate_from_slot(slot, columns, users[i]);
		}
		index_endscan(scan);
		index_close(index, NoLock);
		ExecDropSingleTupleTableSlot(slot);
	}
	else
	{
		DashieScan *scan = dashie_scan_begin(rel, metrics->snapshot);

		while (dashie_scan_next(scan))
		{
			bool isnull;
			Datum value = dashie_scan_get(scan, &columns[1], &isnull);
			UserEntry *user = isnull ? NULL : numbers_user(metrics, DatumGetUUIDP(value));
			CountryCode country;

			if (user == NULL || !user->rederive)
				continue;
			value = dashie_scan_get(scan, &columns[3], &isnull);
			country = country_code(value, isnull);
			if (country == NO_COUNTRY)
				continue;
			value = dashie_scan_get(scan, &columns[2], &isnull);
			countries_candidate(user, country, DatumGetTimestampTz(value),
								session_id(scan, &columns[0]));
		}
		dashie_scan_end(scan);
	}
	table_close(rel, NoLock);
}

/*
 * The pages of days that have lost rows, latest first: they know the country
 * of each user's latest session of the day.
 */
static void
ask_pages(Metrics *metrics, UserEntry **users, int nusers)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "dashie country pages", ALLOCSET_DEFAULT_SIZES);
	int open = nusers;
	bool *done = palloc0(nusers);
	bool isnull;
	DateADT oldest;
	Oid type = DATEOID;

	dashie_query_begin();
	metrics_query(metrics, "SELECT min(day) FROM dashie.day_page", 0, NULL, NULL);
	dashie_query_types(1, &type);
	oldest = DatumGetDateADT(dashie_field(0, 1, &isnull));
	oldest = Max(oldest, DASHIE_MIN_DAY);
	dashie_query_end();

	for (DateADT day = metrics->first_open_day - 1; !isnull && open > 0 && day >= oldest; day--)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		DayPage *page = pages_load(metrics, day, day, true);
		TimestampTz last = dashie_day_start(day + 1, metrics->zone) - 1;
		pg_uuid_t unknown;

		CHECK_FOR_INTERRUPTS();
		memset(&unknown, 0xFF, sizeof(unknown));
		for (int i = 0; i < nusers; i++)
		{
			if (done[i])
				continue;
			if (users[i]->country != NO_COUNTRY && users[i]->country_at > last)
			{
				done[i] = true;
				open--;
				continue;
			}
			for (int j = 0; j < page->nentries; j++)
			{
				if (page->entries[j].user == users[i]->number && page->entries[j].latest)
				{
					countries_candidate(users[i], page->entries[j].country, last, &unknown);
					done[i] = true;
					open--;
					break;
				}
			}
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
}

/*
 * is_settled says whether the rows of the wanted days have told the country.
 * A session that tells it may have been overtaken by one that no day read holds,
 * if there are such days up to the session that told it before.
 */
static bool
is_settled(const CountryDoubts *doubts, const UserEntry *user, TimestampTz before)
{
	if (user->country == NO_COUNTRY)
		return false;
	for (int day = dashie_day_search(doubts->starts, doubts->ndays, user->country_at) + 1;
		 day < doubts->ndays && doubts->starts[day] <= before; day++)
		if (!doubts->wanted[day])
			return false;
	return true;
}

/*
 * countries_finish settles the doubts that no row of the wanted days has settled.
 */
void
countries_finish(Metrics *metrics, CountryDoubts *doubts)
{
	UserEntry **users = palloc_extended(Max(doubts->n, 1) * sizeof(UserEntry *), MCXT_ALLOC_HUGE);
	int nusers = 0;

	for (int i = 0; i < doubts->n; i++)
	{
		UserEntry *user = numbers_by_number(metrics, doubts->doubts[i].number);

		if (is_settled(doubts, user, doubts->doubts[i].at))
			user->rederive = false;
		else
			users[nusers++] = user;
	}
	if (nusers > 0)
	{
		if (OidIsValid(metrics->sessions_rel))
			ask_rows(metrics, users, nusers);
		ask_pages(metrics, users, nusers);
		for (int i = 0; i < nusers; i++)
			users[i]->rederive = false;
	}
	pfree(users);
	if (doubts->doubts != NULL)
		pfree(doubts->doubts);
}

/*
 * countries_future looks at the sessions of days that have not begun: devices
 * with a wrong clock.  No page holds them, so each run reads them.
 */
void
countries_future(Metrics *metrics)
{
	DashieColumn columns[] = {
		{"id", UUIDOID, true, 0},
		{"user_id", UUIDOID, true, 0},
		{"started_at", TIMESTAMPTZOID, true, 0},
		{"country_code", TEXTOID, true, 0},
	};
	TimestampTz future[] = {dashie_day_start(metrics->today + 1, metrics->zone), DT_NOEND};
	bool wanted = true;
	CountryDoubts doubts;
	Relation rel;
	DashieScan *scan;

	if (!OidIsValid(metrics->sessions_rel))
		return;
	rel = dashie_relation_open(metrics->sessions_rel, AccessShareLock, ACL_SELECT, false);
	dashie_relation_columns(rel, columns, lengthof(columns));
	countries_begin(metrics, &doubts, future, 1, &wanted);
	scan = dashie_scan_begin_range(rel, metrics->snapshot, &columns[2], future[0], DT_NOEND);
	while (dashie_scan_next(scan))
	{
		bool isnull;
		Datum value = dashie_scan_get(scan, &columns[1], &isnull);
		UserEntry *user = isnull ? NULL : numbers_user(metrics, DatumGetUUIDP(value));
		CountryCode country;

		if (user == NULL)
			continue;
		value = dashie_scan_get(scan, &columns[3], &isnull);
		country = country_code(value, isnull);
		if (country == NO_COUNTRY)
			continue;
		value = dashie_scan_get(scan, &columns[2], &isnull);
		countries_candidate(user, country, DatumGetTimestampTz(value),
							session_id(scan, &columns[0]));
	}
	dashie_scan_end(scan);
	table_close(rel, NoLock);
	countries_finish(metrics, &doubts);
}
