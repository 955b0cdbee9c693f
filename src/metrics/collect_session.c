/*
 * collect_session.c
 *		What a session's row says, and where a pass puts it.
 *
 * A session belongs to the sets of all days that it overlaps and to the
 * entries of the day it started in.  Of a row 24 bytes are kept, and four for
 * its dashboard; what does not fit into the pass's memory is left to a later
 * pass, a day at a time from the end.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "utils/memutils.h"

#include "common/relation.h"
#include "metrics/collect.h"
#include "metrics/numbers.h"

void
session_reader_open(SessionReader *reader, Oid relid)
{
	static const DashieColumn columns[SESSION_COLUMNS] = {
		[COLUMN_ID] = {"id", UUIDOID, true, 0},
		[COLUMN_USER] = {"user_id", UUIDOID, true, 0},
		[COLUMN_DASHBOARD] = {"dashboard_id", UUIDOID, true, 0},
		[COLUMN_STARTED] = {"started_at", TIMESTAMPTZOID, true, 0},
		[COLUMN_ENDED] = {"ended_at", TIMESTAMPTZOID, true, 0},
		[COLUMN_LAST_ACTIVITY] = {"last_activity_at", TIMESTAMPTZOID, true, 0},
		[COLUMN_COUNTRY] = {"country_code", TEXTOID, true, 0},
	};

	memcpy(reader->columns, columns, sizeof(columns));
	reader->rel = dashie_relation_open(relid, AccessShareLock, ACL_SELECT, false);
	dashie_relation_columns(reader->rel, reader->columns, SESSION_COLUMNS);
	reader->last_attnum = 0;
}

/*
 * session_reader_whole is for a pass that needs nearly every row whole: its
 * columns are found in one go.  Most sessions have ended, so that their last
 * activity is not asked for.
 */
void
session_reader_whole(SessionReader *reader)
{
	for (int i = 0; i < SESSION_COLUMNS; i++)
		if (i != COLUMN_LAST_ACTIVITY)
			reader->last_attnum = Max(reader->last_attnum, reader->columns[i].attnum);
}

static inline int
day_of(Stretch *stretch, TimestampTz at)
{
	int day = stretch->hint;

	if (at < stretch->starts[day] || at >= stretch->starts[day + 1])
	{
		day = dashie_day_search(stretch->starts, stretch->ndays, at);
		if (day >= 0 && day < stretch->ndays)
			stretch->hint = day;
	}
	return day;
}

static inline bool
copy_uuid(DashieScan *scan, const DashieColumn *column, pg_uuid_t *id)
{
	const pg_uuid_t *value = dashie_scan_uuid(scan, column);

	if (value == NULL)
		return false;
	*id = *value;
	return true;
}

/*
 * session_read reads the current row; false if it does not touch the stretch.
 */
bool
session_read(const SessionReader *reader, Stretch *stretch, DashieScan *scan, Session *session)
{
	const DashieColumn *columns = reader->columns;
	TimestampTz covered;
	TimestampTz ended_at = 0;
	bool has_ended;
	bool isnull;
	Datum value;

	if (reader->last_attnum > 0)
		slot_getsomeattrs(scan->slot, reader->last_attnum);
	value = dashie_scan_get(scan, &columns[COLUMN_STARTED], &isnull);
	if (isnull)
		return false;
	session->started = covered = DatumGetTimestampTz(value);
	value = dashie_scan_get(scan, &columns[COLUMN_ENDED], &isnull);
	has_ended = !isnull;
	if (has_ended)
		covered = ended_at = DatumGetTimestampTz(value);
	else
	{
		value = dashie_scan_get(scan, &columns[COLUMN_LAST_ACTIVITY], &isnull);
		if (!isnull)
			covered = DatumGetTimestampTz(value);
	}

	session->first = day_of(stretch, session->started);
	session->last = day_of(stretch, covered);
	session->last = Min(session->last, stretch->ndays - 1);
	if (session->first >= stretch->ndays || (session->first < 0 && session->last < 0))
		return false;

	session->has_user = copy_uuid(scan, &columns[COLUMN_USER], &session->user);
	session->has_dashboard = copy_uuid(scan, &columns[COLUMN_DASHBOARD], &session->dashboard);
	if (session->first < 0)
		return true;
	session->tid = scan->slot->tts_tid;
	value = dashie_scan_get(scan, &columns[COLUMN_COUNTRY], &isnull);
	session->country = country_code(value, isnull);
	session->duration = NOT_ENDED;
	if (has_ended && (pg_sub_s64_overflow(ended_at, session->started, &session->duration) ||
					  session->duration == NOT_ENDED))
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("session duration is out of range")));
	return true;
}

/*
 * session_row packs a session that started in the stretch; its user is for the
 * caller to fill in.
 */
void
session_row(const Session *session, const Stretch *stretch, SessionRow *row)
{
	uint64 at = (uint64) (session->started - stretch->starts[session->first]);
	uint64 country = session->country == NO_COUNTRY ? 0 : country_index(session->country) + 1;

	if (at >> ROW_START_BITS != 0)
		elog(ERROR, "day %d of the stretch is too long", session->first);
	row->start = at << (ROW_OFFSET_BITS + ROW_COUNTRY_BITS) | country << ROW_OFFSET_BITS |
				 ItemPointerGetOffsetNumberNoCheck(&session->tid);
	row->block = ItemPointerGetBlockNumberNoCheck(&session->tid);
	row->duration = session->duration;
}

CountryCode
session_row_country(const SessionRow *row)
{
	int index = (int) (row->start >> ROW_OFFSET_BITS) & ((1 << ROW_COUNTRY_BITS) - 1);

	if (index == 0)
		return NO_COUNTRY;
	index--;
	return (CountryCode) (('A' + index / 26) << 8 | ('A' + index % 26));
}

/* The size that an array grows to. */
static uint32
grown(uint32 size)
{
	uint64 larger = (uint64) size + size / 2 + 64;

	if (larger > PG_INT32_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("a day has too many sessions to be computed")));
	return (uint32) larger;
}

static void *
grow(Collector *collector, void *array, uint32 *size, Size element)
{
	uint32 larger = grown(*size);

	collector->used += (larger - *size) * element;
	array = array == NULL ? MemoryContextAllocHuge(collector->context, larger * element)
						  : repalloc_huge(array, larger * element);
	*size = larger;
	return array;
}

void
number_list_add(Collector *collector, NumberList *list, uint32 number)
{
	/* the sessions of a user or dashboard often follow one another */
	if (list->n > 0 && list->numbers[list->n - 1] == number)
		return;
	if (list->n == list->size)
		list->numbers = grow(collector, list->numbers, &list->size, sizeof(uint32));
	list->numbers[list->n++] = number;
}

static void
list_free_numbers(Collector *collector, NumberList *list)
{
	if (list->numbers == NULL)
		return;
	collector->used -= list->size * sizeof(uint32);
	pfree(list->numbers);
	memset(list, 0, sizeof(NumberList));
}

void
collector_release(Collector *collector, int day)
{
	DayRows *rows = &collector->days[day];

	if (rows->rows != NULL)
	{
		collector->used -= rows->size * sizeof(SessionRow);
		pfree(rows->rows);
		rows->rows = NULL;
		rows->nrows = rows->size = 0;
	}
	list_free_numbers(collector, &rows->users);
	list_free_numbers(collector, &rows->dashboards);
}

/* Leaves the last days to a later pass until the rest fits; one day always stays. */
static void
make_room(Collector *collector)
{
	int first = 0;
	int last = collector->stretch.ndays - 1;

	while (!collector->wanted[first])
		first++;
	while (collector->used > collector->limit)
	{
		while (last > first && !collector->wanted[last])
			last--;
		if (last == first)
			break;
		collector->wanted[last] = false;
		collector_release(collector, last);
	}
}

/*
 * collector_add takes a session of a user who is known, or in the day of its
 * start also of nobody we know.  dashboard 0 is none.
 */
void
collector_add(Collector *collector, int first, int last, const SessionRow *row, uint32 dashboard)
{
	if (first >= 0 && collector->wanted[first])
	{
		DayRows *day = &collector->days[first];

		if (day->nrows == day->size)
			day->rows = grow(collector, day->rows, &day->size, sizeof(SessionRow));
		day->rows[day->nrows++] = *row;
	}
	if (row->user != 0)
	{
		for (int i = Max(first, 0); i <= last; i++)
		{
			if (!collector->wanted[i])
				continue;
			if (i > first)
				number_list_add(collector, &collector->days[i].users, row->user);
			if (dashboard != 0)
				number_list_add(collector, &collector->days[i].dashboards, dashboard);
		}
	}
	if (collector->used > collector->limit)
		make_room(collector);
}

static void
add_session(Collector *collector, const Session *session, int32 user)
{
	SessionRow row = {0};
	uint32 dashboard = 0;

	if (session->first >= 0)
		session_row(session, &collector->stretch, &row);
	row.user = user;
	if (user != 0 && session->has_dashboard)
		dashboard = numbers_dashboard(collector->metrics, &session->dashboard, user);
	collector_add(collector, session->first, session->last, &row, dashboard);
}

void
collector_flush(Collector *collector)
{
	Metrics *metrics = collector->metrics;
	const Session *batch = collector->batch;
	int32 users[SESSION_BATCH]; /* 0: nobody we know */

	for (int i = 0; i < collector->nbatch; i++)
		id_index_prefetch_entry(&metrics->users, &batch[i].user, numbers_users(metrics));
	for (int i = 0; i < collector->nbatch; i++)
	{
		const UserEntry *user = batch[i].has_user ? numbers_user(metrics, &batch[i].user) : NULL;

		users[i] = user != NULL ? user->number : 0;
		dashboard_map_prefetch(&metrics->dashboards, users[i]);
	}
	for (int i = 0; i < collector->nbatch; i++)
		dashboard_map_prefetch_entry(&metrics->dashboards, users[i]);
	for (int i = 0; i < collector->nbatch; i++)
		add_session(collector, &batch[i], users[i]);
	collector->nbatch = 0;
}

/*
 * collector_add_current takes the current row of a scan.
 */
void
collector_add_current(Collector *collector, DashieScan *scan)
{
	Session *session = &collector->batch[collector->nbatch];

	if (!session_read(&collector->reader, &collector->stretch, scan, session))
		return;
	id_index_prefetch(&collector->metrics->users, &session->user);
	if (++collector->nbatch == SESSION_BATCH)
		collector_flush(collector);
}
