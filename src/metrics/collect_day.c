/*
 * collect_day.c
 *		The rows that were read of a day become entries and sets.
 *
 * Run by the leader and by parallel workers alike: all that it asks for beside
 * the rows is in a DayMaker.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "common/int.h"

#include "common/relation.h"
#include "metrics/collect.h"

#define RADIX_BITS 11
#define RADIX (1 << RADIX_BITS)

/*
 * Sorts what begins "key" bytes into each element with a number, by that number;
 * those of a number stay in the order they came.  Returns where they are now:
 * the array, or another one of that size.  Inline, so that both sizes are known.
 */
static pg_attribute_always_inline void *
sort_by_number(void *array, uint32 n, Size size, Size key)
{
#define NUMBER(elements, i) (*(const uint32 *) ((elements) + (Size) (i) *size + key))
	char *from = array;
	char *to;
	uint32 highest = 0;

	if (n < 2)
		return array;
	for (uint32 i = 0; i < n; i++)
		highest = Max(highest, NUMBER(from, i));
	to = palloc_extended((Size) n * size, MCXT_ALLOC_HUGE);
	for (int shift = 0; shift < 32 && highest >> shift != 0; shift += RADIX_BITS)
	{
		uint32 starts[RADIX] = {0};
		uint32 sum = 0;
		char *swap = from;

		for (uint32 i = 0; i < n; i++)
			starts[(NUMBER(from, i) >> shift) & (RADIX - 1)]++;
		for (int i = 0; i < RADIX; i++)
		{
			uint32 count = starts[i];

			starts[i] = sum;
			sum += count;
		}
		for (uint32 i = 0; i < n; i++)
		{
			uint32 place = starts[(NUMBER(from, i) >> shift) & (RADIX - 1)]++;

			memcpy(to + place * size, from + i * size, size);
		}
		from = to;
		to = swap;
	}
	return from;
#undef NUMBER
}

/*
 * day_set is a set of the numbers of a list, in any order and many times.  The
 * list is left in any order.
 */
UserSet *
day_set(const NumberList *list)
{
	uint32 *numbers = sort_by_number(list->numbers, list->n, sizeof(uint32), 0);
	uint32 distinct = 0;

	for (uint32 i = 0; i < list->n; i++)
		if (distinct == 0 || numbers[distinct - 1] != numbers[i])
			numbers[distinct++] = numbers[i];
	return user_set_of_sorted(numbers, distinct);
}

/* The id of a session, which is asked for only if two began at the same instant. */
static pg_uuid_t
row_id(DayMaker *maker, const SessionRow *row)
{
	const DashieColumn *column = &maker->reader->columns[COLUMN_ID];
	Relation rel = maker->reader->rel;
	ItemPointerData tid;
	pg_uuid_t id = {{0}};
	bool isnull;
	Datum value;

	ItemPointerSet(&tid, row->block, row->start & PG_UINT16_MAX);
	if (!table_tuple_fetch_row_version(rel, &tid, maker->snapshot, maker->slot))
		elog(ERROR, "a session has vanished from \"%s\"", RelationGetRelationName(rel));
	value = slot_getattr(maker->slot, column->attnum, &isnull);
	if (!isnull)
		id = *DatumGetUUIDP(value);
	ExecClearTuple(maker->slot);
	return id;
}

static bool
later(DayMaker *maker, const SessionRow *row, const SessionRow *than)
{
	pg_uuid_t id;
	pg_uuid_t than_id;

	if (ROW_AT(row) != ROW_AT(than))
		return ROW_AT(row) > ROW_AT(than);
	if (session_row_country(row) == session_row_country(than))
		return false;
	id = row_id(maker, row);
	than_id = row_id(maker, than);
	return memcmp(&id, &than_id, UUID_LEN) > 0;
}

static void
add_to_entry(PageEntry *entry, const SessionRow *row)
{
	entry->sessions++;
	if (row->duration == NOT_ENDED)
		return;
	entry->ended++;
	if (pg_add_s64_overflow(entry->duration, row->duration, &entry->duration))
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("sum of session durations is out of range")));
}

static void
begin_entry(PageEntry *entry, const SessionRow *row)
{
	entry->user = (int32) row->user;
	entry->country = session_row_country(row);
	entry->latest = false;
	entry->sessions = entry->ended = entry->duration = 0;
	add_to_entry(entry, row);
}

/*
 * The rows that one user has in a day that begins at "starts_at": an entry for
 * each country, in the order of the countries.  The latest may tell the user's
 * country; which one of the same instant it was is settled here.
 */
static int
user_entries(DayMaker *maker, TimestampTz starts_at, const SessionRow *rows, int nrows,
			 PageEntry *entries)
{
	const SessionRow *latest = NULL;
	int nentries = 0;

	for (int i = 0; i < nrows; i++)
	{
		CountryCode country = session_row_country(&rows[i]);
		int at = nentries;

		/* a user is rarely in more than one country a day */
		while (at > 0 && entries[at - 1].country > country)
			at--;
		if (at > 0 && entries[at - 1].country == country)
			add_to_entry(&entries[at - 1], &rows[i]);
		else
		{
			memmove(entries + at + 1, entries + at, (nentries - at) * sizeof(PageEntry));
			begin_entry(&entries[at], &rows[i]);
			nentries++;
		}
		if (country != NO_COUNTRY && rows[i].user != 0 &&
			(latest == NULL || later(maker, &rows[i], latest)))
			latest = &rows[i];
	}
	if (latest == NULL)
		return nentries;
	for (int i = 0; i < nentries; i++)
		entries[i].latest = entries[i].country == session_row_country(latest);
	maker->candidate(maker->arg, latest->user, session_row_country(latest),
					 starts_at + (TimestampTz) ROW_AT(latest));
	return nentries;
}

/*
 * day_entries makes a day's entries of its rows, sorted by user and country,
 * and the set of the users of the day, who count unless marked as deleted.
 * There must be room for as many entries as rows; the rows are left in any order.
 */
int
day_entries(DayMaker *maker, TimestampTz starts_at, DayRows *day, PageEntry *entries,
			UserSet **active)
{
	SessionRow *rows =
		sort_by_number(day->rows, day->nrows, sizeof(SessionRow), offsetof(SessionRow, user));
	uint32 *users = palloc_extended(Max(day->nrows, 1) * sizeof(uint32), MCXT_ALLOC_HUGE);
	int nusers = 0;
	int nentries = 0;
	uint32 next;

	for (uint32 i = 0; i < day->nrows; i = next)
	{
		uint32 number = rows[i].user;

		for (next = i + 1; next < day->nrows && rows[next].user == number;)
			next++;
		nentries += user_entries(maker, starts_at, rows + i, next - i, entries + nentries);
		if (number != 0)
			users[nusers++] = number;
	}
	*active = user_set_of_sorted(users, nusers);
	pfree(users);
	roaring_bitmap_or_inplace(*active, day_set(&day->users));
	if (maker->deleted != NULL)
		roaring_bitmap_andnot_inplace(*active, maker->deleted);
	return nentries;
}

/*
 * page_sum fills in the sums over a page's entries.
 */
void
page_sum(DayPage *page)
{
	page->sessions = page->ended = page->duration = 0;
	for (int i = 0; i < page->nentries; i++)
	{
		page->sessions += page->entries[i].sessions;
		page->ended += page->entries[i].ended;
		if (pg_add_s64_overflow(page->duration, page->entries[i].duration, &page->duration))
			ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
							errmsg("sum of session durations is out of range")));
	}
}
