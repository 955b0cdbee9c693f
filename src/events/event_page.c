/*
 * event_page.c
 *		The page of a day's events: in memory, as bytes, and in
 *		dashie.event_page.
 *
 * Three columns of bytes, so that a question reads little.  "totals" is a version
 * byte, the sums of the day, and of all its users and of those of each type the
 * length of the set and the set.  "widgets" is a
 * version byte, the number of widgets, and of each, ascending by name: the length of
 * the name and the name in UTF-8, its sums, the length of the set of its users
 * and the set.  "entries" is a version byte and of each widget, in the same
 * order, the number of its entries, and of each entry, ascending by user: the
 * user's distance from the one before and the sums.  Sums are a bit for each
 * number that is not 0, and these: the events of each type, the seconds of each
 * type.  metrics/page_bytes.h has how numbers
 * are written.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "common/query.h"
#include "events/events.h"
#include "metrics/page_bytes.h"

#define TOTALS_VERSION 1
#define WIDGETS_VERSION 1
#define ENTRIES_VERSION 1
#define SECONDS_BIT(type) (1 << (EVENT_COUNTS + (type)))
#define MASK_MAX ((1 << 2 * EVENT_COUNTS) - 1)

/* The least bytes of a widget and of an entry: what the bytes say of their number is bounded. */
#define MIN_WIDGET_BYTES 3
#define MIN_ENTRY_BYTES 2

/* More events of a day than this are none that we counted: sums of years stay in range. */
#define MAX_EVENTS (PG_INT64_MAX / 1000000)

int
event_names_compare(const char *a, int alength, const char *b, int blength)
{
	int order = memcmp(a, b, Min(alength, blength));

	return order != 0 ? order : alength - blength;
}

/* Bytes without an encoding stay as they are. */
static bool
has_no_encoding(void)
{
	return GetDatabaseEncoding() == PG_SQL_ASCII;
}

/* The same bytes, where nothing is to be converted. */
char *
event_name(const char *text, int length, int *name_length)
{
	char *name =
		has_no_encoding() ? unconstify(char *, text) : pg_server_to_any(text, length, PG_UTF8);

	*name_length = name == text ? length : (int) strlen(name);
	return name;
}

Datum
event_name_text(const char *name, int length)
{
	char *text =
		has_no_encoding() ? unconstify(char *, name) : pg_any_to_server(name, length, PG_UTF8);

	return PointerGetDatum(
		cstring_to_text_with_len(text, text == name ? length : (int) strlen(text)));
}

void
event_seconds_add(int64 *seconds, int64 more)
{
	if (pg_add_s64_overflow(*seconds, more, seconds))
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("sum of duration_seconds is out of range")));
}

void
event_sums_add(EventSums *sums, const EventSums *other)
{
	for (int i = 0; i < EVENT_COUNTS; i++)
	{
		sums->counts[i] += other->counts[i];
		event_seconds_add(&sums->seconds[i], other->seconds[i]);
	}
}

int64
event_sums_events(const EventSums *sums)
{
	int64 total = 0;

	for (int i = 0; i < EVENT_COUNTS; i++)
		total += sums->counts[i];
	return total;
}

int64
event_sums_seconds(const EventSums *sums)
{
	int64 total = 0;

	for (int i = 0; i < EVENT_COUNTS; i++)
		event_seconds_add(&total, sums->seconds[i]);
	return total;
}

static void
put_sums(StringInfo buf, const EventSums *sums)
{
	int mask = 0;

	for (int i = 0; i < EVENT_COUNTS; i++)
		mask |= (sums->counts[i] != 0 ? 1 << i : 0) | (sums->seconds[i] != 0 ? SECONDS_BIT(i) : 0);
	put_number(buf, mask);
	for (int i = 0; i < EVENT_COUNTS; i++)
		if (sums->counts[i] != 0)
			put_number(buf, sums->counts[i]);
	for (int i = 0; i < EVENT_COUNTS; i++)
		if (sums->seconds[i] != 0)
			put_signed(buf, sums->seconds[i]);
}

static void
take_sums(PageReader *reader, EventSums *sums)
{
	int mask = (int) take_number(reader, MASK_MAX);

	memset(sums, 0, sizeof(*sums));
	for (int i = 0; i < EVENT_COUNTS; i++)
		if ((mask & 1 << i) != 0)
			sums->counts[i] = (int64) take_number(reader, MAX_EVENTS);
	for (int i = 0; i < EVENT_COUNTS; i++)
		if ((mask & SECONDS_BIT(i)) != 0)
			sums->seconds[i] = take_signed(reader);
}

static void
put_set(StringInfo buf, UserSet *set)
{
	bytea *bytes = user_set_to_bytes(set);

	put_number(buf, VARSIZE_ANY_EXHDR(bytes));
	appendBinaryStringInfo(buf, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	pfree(bytes);
}

static UserSet *
take_set(PageReader *reader)
{
	Size length = take_number(reader, take_left(reader));
	const char *bytes = (const char *) take_bytes(reader, length);
	bytea *copy = (bytea *) cstring_to_text_with_len(bytes, (int) length);
	UserSet *set = user_set_from_bytes(copy);

	pfree(copy);
	return set;
}

/*
 * event_totals_of adds up a page that has its entries.  A user has an event of a
 * type where they count as a user of the widget that it was of.
 */
void
event_totals_of(const EventPage *page, EventTotals *totals)
{
	memset(totals, 0, sizeof(*totals));
	totals->users = user_set_create();
	for (int i = 0; i < EVENT_COUNTS; i++)
		totals->typed[i] = user_set_create();
	for (int i = 0; i < page->nwidgets; i++)
	{
		const EventWidget *widget = &page->widgets[i];

		event_sums_add(&totals->sums, &widget->sums);
		roaring_bitmap_or_inplace(totals->users, widget->users);
		for (int j = 0; j < widget->nentries; j++)
		{
			const EventEntry *entry = &widget->entries[j];

			if (!roaring_bitmap_contains(widget->users, entry->user))
				continue;
			for (int k = 0; k < EVENT_COUNTS; k++)
				if (entry->sums.counts[k] != 0)
					roaring_bitmap_add(totals->typed[k], entry->user);
		}
	}
}

static bytea *
totals_to_bytes(const EventPage *page)
{
	StringInfoData buf;

	put_header(&buf);
	appendStringInfoCharMacro(&buf, TOTALS_VERSION);
	put_sums(&buf, &page->totals.sums);
	put_set(&buf, page->totals.users);
	for (int i = 0; i < EVENT_COUNTS; i++)
		put_set(&buf, page->totals.typed[i]);
	return put_finish(&buf);
}

static void
totals_from_bytes(EventPage *page, const bytea *bytes)
{
	PageReader reader;

	take_begin(&reader, bytes, "totals in dashie.event_page");
	if (take_byte(&reader) != TOTALS_VERSION)
		take_invalid(&reader, "unknown version");
	take_sums(&reader, &page->totals.sums);
	page->totals.users = take_set(&reader);
	for (int i = 0; i < EVENT_COUNTS; i++)
		page->totals.typed[i] = take_set(&reader);
	take_end(&reader);
}

/* Nobody did anything. */
static void
totals_of_nothing(EventPage *page)
{
	page->totals.users = user_set_create();
	for (int i = 0; i < EVENT_COUNTS; i++)
		page->totals.typed[i] = user_set_create();
}

static bytea *
widgets_to_bytes(const EventPage *page)
{
	StringInfoData buf;

	put_header(&buf);
	appendStringInfoCharMacro(&buf, WIDGETS_VERSION);
	put_number(&buf, page->nwidgets);
	for (int i = 0; i < page->nwidgets; i++)
	{
		const EventWidget *widget = &page->widgets[i];

		put_number(&buf, widget->length);
		appendBinaryStringInfo(&buf, widget->name, widget->length);
		put_sums(&buf, &widget->sums);
		put_set(&buf, widget->users);
	}
	return put_finish(&buf);
}

static bytea *
entries_to_bytes(const EventPage *page)
{
	StringInfoData buf;

	put_header(&buf);
	appendStringInfoCharMacro(&buf, ENTRIES_VERSION);
	for (int i = 0; i < page->nwidgets; i++)
	{
		const EventWidget *widget = &page->widgets[i];
		int32 user = 0;

		put_number(&buf, widget->nentries);
		for (int j = 0; j < widget->nentries; j++)
		{
			const EventEntry *entry = &widget->entries[j];

			put_number(&buf, entry->user - user);
			user = entry->user;
			put_sums(&buf, &entry->sums);
		}
	}
	return put_finish(&buf);
}

static void
read_widget(PageReader *reader, EventWidget *widget)
{
	Size length = take_number(reader, take_left(reader));
	const char *name = (const char *) take_bytes(reader, length);

	if (!has_no_encoding() && !pg_verify_mbstr(PG_UTF8, name, (int) length, true))
		take_invalid(reader, "a name is no UTF-8");
	widget->name = pnstrdup(name, length);
	widget->length = (int) length;
	take_sums(reader, &widget->sums);
	widget->users = take_set(reader);
}

static void
widgets_from_bytes(EventPage *page, const bytea *bytes)
{
	PageReader reader;
	uint64 count;

	take_begin(&reader, bytes, "widgets in dashie.event_page");
	if (take_byte(&reader) != WIDGETS_VERSION)
		take_invalid(&reader, "unknown version");
	count = take_number(&reader, take_left(&reader) / MIN_WIDGET_BYTES + 1);
	page->widgets = palloc0((count + 1) * sizeof(EventWidget));
	for (uint64 i = 0; i < count; i++)
	{
		EventWidget *widget = &page->widgets[i];

		read_widget(&reader, widget);
		if (i > 0 && event_names_compare(widget[-1].name, widget[-1].length, widget->name,
										 widget->length) >= 0)
			take_invalid(&reader, "out of order");
	}
	take_end(&reader);
	page->nwidgets = (int) count;
}

static void
entries_from_bytes(EventPage *page, const bytea *bytes)
{
	PageReader reader;

	take_begin(&reader, bytes, "entries in dashie.event_page");
	if (take_byte(&reader) != ENTRIES_VERSION)
		take_invalid(&reader, "unknown version");
	for (int i = 0; i < page->nwidgets; i++)
	{
		EventWidget *widget = &page->widgets[i];
		uint64 count = take_number(&reader, take_left(&reader) / MIN_ENTRY_BYTES + 1);
		int64 user = 0;

		widget->entries = palloc_extended((count + 1) * sizeof(EventEntry), MCXT_ALLOC_HUGE);
		widget->nentries = (int) count;
		for (uint64 j = 0; j < count; j++)
		{
			uint64 distance = take_number(&reader, PG_INT32_MAX);

			user += distance;
			if (user > PG_INT32_MAX || (j > 0 && distance == 0))
				take_invalid(&reader, "user numbers out of order");
			widget->entries[j].user = (int32) user;
			take_sums(&reader, &widget->entries[j].sums);
		}
	}
	take_end(&reader);
}

static const bytea *
bytes_field(uint64 row, int column)
{
	bool isnull;
	Datum value = dashie_field(row, column, &isnull);

	return isnull ? NULL : DatumGetByteaPP(value);
}

/* What stands after the head in a row of the page's parts. */
static void
read_parts(EventPage *page, EventPageParts parts, uint64 row)
{
	const bytea *totals = NULL;
	const bytea *widgets = NULL;
	const bytea *entries = NULL;
	int column = 4;

	if (parts == EVENT_TOTALS || parts == EVENT_ALL)
	{
		totals = bytes_field(row, column++);
		if (totals != NULL)
			totals_from_bytes(page, totals);
	}
	if (parts != EVENT_TOTALS)
		widgets = bytes_field(row, column++);
	if (widgets != NULL)
		widgets_from_bytes(page, widgets);
	if (parts < EVENT_ENTRIES || page->nwidgets == 0)
		return;
	entries = bytes_field(row, column);
	if (entries == NULL)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("invalid entries in dashie.event_page: none of %s",
							   dashie_day_text(page->day))));
	entries_from_bytes(page, entries);
}

/*
 * event_pages_load returns one page for each day of [from, to], whether stored
 * or not, in the current memory context.
 */
EventPage *
event_pages_load(Metrics *metrics, DateADT from, DateADT to, EventPageParts parts)
{
	static const struct
	{
		const char *columns;
		int ncolumns;
	} read[] = {
		[EVENT_HEADS] = {"", 0},
		[EVENT_TOTALS] = {", totals", 1},
		[EVENT_WIDGETS] = {", widgets", 1},
		[EVENT_ENTRIES] = {", widgets, entries", 2},
		[EVENT_ALL] = {", totals, widgets, entries", 3},
	};
	static const Oid column_types[] = {DATEOID, BOOLOID, BOOLOID, BYTEAOID, BYTEAOID, BYTEAOID};
	MemoryContext caller = CurrentMemoryContext;
	EventPage *pages = palloc0((to - from + 1) * sizeof(EventPage));
	Oid types[] = {DATEOID, DATEOID};
	Datum values[] = {DateADTGetDatum(from), DateADTGetDatum(to)};
	uint64 nrows;

	for (int i = 0; i <= to - from; i++)
	{
		pages[i].day = from + i;
		if (parts == EVENT_TOTALS || parts == EVENT_ALL)
			totals_of_nothing(&pages[i]);
	}
	dashie_query_begin();
	nrows = metrics_query(metrics,
						  psprintf("SELECT day, dirty, final%s FROM dashie.event_page"
								   " WHERE day BETWEEN $1 AND $2",
								   read[parts].columns),
						  2, types, values);
	dashie_query_types(3 + read[parts].ncolumns, column_types);
	for (uint64 row = 0; row < nrows; row++)
	{
		DateADT day = DatumGetDateADT(dashie_field(row, 1, NULL));
		EventPage *page = &pages[day - from];
		MemoryContext spi;

		if (day < from || day > to)
			elog(ERROR, "dashie.event_page is no table of days");
		page->stored = true;
		page->dirty = DatumGetBool(dashie_field(row, 2, NULL));
		page->final = DatumGetBool(dashie_field(row, 3, NULL));
		if (parts == EVENT_HEADS)
			continue;
		spi = MemoryContextSwitchTo(caller);
		read_parts(page, parts, row);
		MemoryContextSwitchTo(spi);
	}
	dashie_query_end();
	return pages;
}

/*
 * event_page_store writes a computed page: clean, with its digest.
 */
void
event_page_store(Metrics *metrics, EventPage *page)
{
	Oid types[] = {DATEOID,	 BOOLOID,  TIMESTAMPTZOID, TEXTOID,
				   BYTEAOID, BYTEAOID, BYTEAOID,	   BYTEAOID};
	Datum values[lengthof(types)];
	bytea *parts[EVENT_PAGE_COLUMNS];

	parts[0] = totals_to_bytes(page);
	parts[1] = widgets_to_bytes(page);
	parts[2] = entries_to_bytes(page);
	values[0] = DateADTGetDatum(page->day);
	values[1] = BoolGetDatum(page->final);
	values[2] = TimestampTzGetDatum(metrics->now);
	values[3] = CStringGetTextDatum(page_snapshot_text(metrics->snapshot));
	for (int i = 0; i < EVENT_PAGE_COLUMNS; i++)
		values[4 + i] = PointerGetDatum(parts[i]);
	values[7] = PointerGetDatum(page_digest(page->day, parts, EVENT_PAGE_COLUMNS));
	dashie_query_begin();
	dashie_query("INSERT INTO dashie.event_page AS p"
				 " (day, dirty, final, computed_at, snapshot, totals, widgets, entries, digest)"
				 " VALUES ($1, false, $2, $3, $4, $5, $6, $7, $8)"
				 " ON CONFLICT (day) DO UPDATE SET dirty = false, final = $2, computed_at = $3,"
				 " snapshot = $4, totals = $5, widgets = $6, entries = $7, digest = $8",
				 lengthof(types), types, values, NULL);
	dashie_query_end();
	page->stored = true;
	page->dirty = false;
}
