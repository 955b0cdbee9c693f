/*
 * page.c
 *		The page of a day: in memory, as bytes, and in dashie.day_page.
 *
 * The entries as bytes: a version byte, the number of entries, and for each,
 * in ascending order of (user, country): the user's distance from the one
 * before, flags, the country's two letters if it has one, sessions, ended
 * sessions, and the duration in microseconds if any ended.  page_bytes.h has
 * how numbers are written.
 *
 * The owner of the table can write what they like into it: reading checks
 * every byte, and what does not fit is an error (XX001).
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/int.h"
#include "common/sha2.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "common/bulk.h"
#include "common/query.h"
#include "metrics/engine.h"
#include "metrics/page_bytes.h"

#define ENTRIES_VERSION 1
#define FLAG_LATEST 0x01
#define FLAG_COUNTRY 0x02
#define FLAG_ENDED 0x04
#define FLAGS_KNOWN 0x07
#define MIN_ENTRY_BYTES 3

bytea *
page_entries_to_bytes(const PageEntry *entries, int nentries)
{
	StringInfoData buf;
	int32 user = 0;

	put_header(&buf);
	appendStringInfoCharMacro(&buf, ENTRIES_VERSION);
	put_number(&buf, nentries);
	for (int i = 0; i < nentries; i++)
	{
		const PageEntry *entry = &entries[i];

		put_number(&buf, entry->user - user);
		user = entry->user;
		appendStringInfoCharMacro(&buf, (entry->latest ? FLAG_LATEST : 0) |
											(entry->country != NO_COUNTRY ? FLAG_COUNTRY : 0) |
											(entry->ended > 0 ? FLAG_ENDED : 0));
		if (entry->country != NO_COUNTRY)
		{
			appendStringInfoCharMacro(&buf, entry->country >> 8);
			appendStringInfoCharMacro(&buf, entry->country & 0xFF);
		}
		put_number(&buf, entry->sessions);
		if (entry->ended > 0)
		{
			put_number(&buf, entry->ended);
			put_signed(&buf, entry->duration);
		}
	}
	return put_finish(&buf);
}

#define ENTRIES_NAME "entries in dashie.day_page"

static CountryCode
take_country(PageReader *reader)
{
	unsigned char first = take_byte(reader);
	unsigned char second = take_byte(reader);

	if (first < 'A' || first > 'Z' || second < 'A' || second > 'Z')
		take_invalid(reader, "no country code");
	return (CountryCode) (first << 8 | second);
}

PageEntry *
page_entries_from_bytes(const bytea *bytes, int *nentries)
{
	PageReader reader;
	uint64 count;
	PageEntry *entries;
	int64 user = 0;

	take_begin(&reader, bytes, ENTRIES_NAME);
	if (take_byte(&reader) != ENTRIES_VERSION)
		take_invalid(&reader, "unknown version");
	count = take_number(&reader, take_left(&reader) / MIN_ENTRY_BYTES + 1);
	entries = palloc_extended((count + 1) * sizeof(PageEntry), MCXT_ALLOC_HUGE);

	for (uint64 i = 0; i < count; i++)
	{
		PageEntry *entry = &entries[i];
		unsigned char flags;

		user += take_number(&reader, PG_INT32_MAX);
		if (user > PG_INT32_MAX)
			take_invalid(&reader, "user number out of range");
		entry->user = (int32) user;
		flags = take_byte(&reader);
		if ((flags & ~FLAGS_KNOWN) != 0)
			take_invalid(&reader, "unknown flags");
		entry->latest = (flags & FLAG_LATEST) != 0;
		entry->country = NO_COUNTRY;
		if ((flags & FLAG_COUNTRY) != 0)
		{
			entry->country = take_country(&reader);
		}
		entry->sessions = (int64) take_number(&reader, PG_INT32_MAX);
		entry->ended = 0;
		entry->duration = 0;
		if ((flags & FLAG_ENDED) != 0)
		{
			entry->ended = (int64) take_number(&reader, PG_INT32_MAX);
			entry->duration = take_signed(&reader);
		}
		if (entry->sessions == 0 || entry->ended > entry->sessions ||
			((flags & FLAG_ENDED) != 0 && entry->ended == 0))
			take_invalid(&reader, "inconsistent counts");
		if (i > 0 && (entry[-1].user > entry->user ||
					  (entry[-1].user == entry->user && entry[-1].country >= entry->country)))
			take_invalid(&reader, "out of order");
	}
	take_end(&reader);
	*nentries = (int) count;
	return entries;
}

/*
 * The sums of a day by session country, which the window of geographic_stats
 * reads instead of the entries: for each country of which a session ended, its
 * two letters (ZZ for none), the sessions that ended, and their duration.
 */
bytea *
country_sums_to_bytes(const PageEntry *entries, int nentries)
{
	CountrySum *sums = palloc0(COUNTRIES * sizeof(CountrySum));
	StringInfoData buf;

	for (int i = 0; i < nentries; i++)
		country_sum_add(&sums[country_index(entries[i].country)], entries[i].ended,
						entries[i].duration);
	put_header(&buf);
	for (int i = 0; i < COUNTRIES; i++)
	{
		if (sums[i].ended == 0)
			continue;
		appendStringInfoCharMacro(&buf, 'A' + i / 26);
		appendStringInfoCharMacro(&buf, 'A' + i % 26);
		put_number(&buf, sums[i].ended);
		put_signed(&buf, sums[i].duration);
	}
	pfree(sums);
	return put_finish(&buf);
}

/* Adds what country_sums_to_bytes() wrote to sums[COUNTRIES]. */
void
country_sums_from_bytes(const bytea *bytes, CountrySum *sums)
{
	PageReader reader;

	take_begin(&reader, bytes, ENTRIES_NAME);
	while (reader.next != reader.end)
	{
		CountryCode country = take_country(&reader);
		int64 ended = (int64) take_number(&reader, PG_INT32_MAX);

		country_sum_add(&sums[country_index(country)], ended, take_signed(&reader));
	}
}

void
country_sum_add(CountrySum *sum, int64 ended, int64 duration)
{
	if (pg_add_s64_overflow(sum->ended, ended, &sum->ended) ||
		pg_add_s64_overflow(sum->duration, duration, &sum->duration))
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
						errmsg("sum of session durations is out of range")));
}

static UserSet *
set_field(uint64 row, int column)
{
	bool isnull;
	Datum value = dashie_field(row, column, &isnull);

	if (isnull)
		return user_set_create();
	return user_set_from_bytes(DatumGetByteaPP(value));
}

static int64
count_field(uint64 row, int column, bool *present)
{
	bool isnull;
	Datum value = dashie_field(row, column, &isnull);

	*present = !isnull;
	return isnull ? 0 : DatumGetInt64(value);
}

/*
 * pages_load returns one page for each day of [from, to], whether stored or
 * not, in the current memory context.
 */
DayPage *
pages_load(Metrics *metrics, DateADT from, DateADT to, bool with_contents)
{
	MemoryContext caller = CurrentMemoryContext;
	int npages = to - from + 1;
	DayPage *pages = palloc0(npages * sizeof(DayPage));
	Oid types[] = {DATEOID, DATEOID};
	Datum values[] = {DateADTGetDatum(from), DateADTGetDatum(to)};
	static const Oid columns[] = {DATEOID, BOOLOID, BOOLOID,  INT8OID,	INT8OID,  INT8OID,
								  INT8OID, INT8OID, BYTEAOID, BYTEAOID, BYTEAOID, BYTEAOID};
	uint64 nrows;

	for (int i = 0; i < npages; i++)
		pages[i].day = from + i;

	dashie_query_begin();
	nrows = metrics_query(
		metrics,
		with_contents ? "SELECT day, dirty, final, sessions, ended_sessions, ended_microseconds,"
						" returning_users::bigint, active_dashboards::bigint,"
						" active, entries, dashboards, heartbeats"
						" FROM dashie.day_page WHERE day BETWEEN $1 AND $2"
					  : "SELECT day, dirty, final, sessions, ended_sessions, ended_microseconds,"
						" returning_users::bigint, active_dashboards::bigint"
						" FROM dashie.day_page WHERE day BETWEEN $1 AND $2",
		2, types, values);
	dashie_query_types(with_contents ? 12 : 8, columns);
	for (uint64 row = 0; row < nrows; row++)
	{
		DayPage *page = &pages[DatumGetDateADT(dashie_field(row, 1, NULL)) - from];
		bool present;
		bool isnull;
		Datum value;
		MemoryContext spi;

		page->stored = true;
		page->dirty = DatumGetBool(dashie_field(row, 2, NULL));
		page->final = DatumGetBool(dashie_field(row, 3, NULL));
		page->sessions = count_field(row, 4, &page->has_sessions);
		page->ended = count_field(row, 5, &present);
		page->duration = count_field(row, 6, &present);
		page->returning = (int32) count_field(row, 7, &present);
		page->ndashboards = (int32) count_field(row, 8, &page->has_dashboards);
		if (!with_contents)
			continue;

		spi = MemoryContextSwitchTo(caller);
		page->active = set_field(row, 9);
		value = dashie_field(row, 10, &isnull);
		if (!isnull)
			page->entries = page_entries_from_bytes(DatumGetByteaPP(value), &page->nentries);
		page->dashboards = set_field(row, 11);
		page->heartbeats = set_field(row, 12);
		MemoryContextSwitchTo(spi);
	}
	dashie_query_end();

	for (int i = 0; with_contents && i < npages; i++)
	{
		if (pages[i].active == NULL)
		{
			pages[i].active = user_set_create();
			pages[i].dashboards = user_set_create();
			pages[i].heartbeats = user_set_create();
		}
	}
	return pages;
}

/*
 * page_digest is SHA-256 over the day and the page's parts.
 */
bytea *
page_digest(DateADT day, bytea *const *parts, int nparts)
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);
	bytea *result = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	char *text = dashie_day_text(day);

	SET_VARSIZE(result, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	if (hash == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	if (pg_cryptohash_init(hash) < 0 ||
		pg_cryptohash_update(hash, (uint8 *) text, strlen(text)) < 0)
		elog(ERROR, "could not compute SHA-256");
	for (int i = 0; i < nparts; i++)
	{
		uint8 size[4];
		uint32 length = VARSIZE_ANY_EXHDR(parts[i]);

		for (int j = 0; j < 4; j++)
			size[j] = (uint8) (length >> (8 * j));
		if (pg_cryptohash_update(hash, size, 4) < 0 ||
			pg_cryptohash_update(hash, (uint8 *) VARDATA_ANY(parts[i]), length) < 0)
			elog(ERROR, "could not compute SHA-256");
	}
	if (pg_cryptohash_final(hash, (uint8 *) VARDATA(result), PG_SHA256_DIGEST_LENGTH) < 0)
		elog(ERROR, "could not compute SHA-256");
	pg_cryptohash_free(hash);
	return result;
}

char *
page_snapshot_text(Snapshot snapshot)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "%u:%u:", snapshot->xmin, snapshot->xmax);
	for (uint32 i = 0; i < snapshot->xcnt; i++)
		appendStringInfo(&buf, "%s%u", i > 0 ? "," : "", snapshot->xip[i]);
	return buf.data;
}

/*
 * page_encode makes a page's parts and their digest, in the current memory context.
 */
void
page_encode(const DayPage *page, PageBytes *bytes)
{
	bytes->parts[0] = user_set_to_bytes(page->active);
	bytes->parts[1] = page_entries_to_bytes(page->entries, page->nentries);
	bytes->parts[2] = user_set_to_bytes(page->dashboards);
	bytes->parts[3] = user_set_to_bytes(page->heartbeats);
	bytes->parts[4] = country_sums_to_bytes(page->entries, page->nentries);
	bytes->digest = page_digest(page->day, bytes->parts, PAGE_PARTS);
}

/* The columns of a page that is computed: clean, with its digest. */
enum
{
	PAGE_DAY,
	PAGE_DIRTY,
	PAGE_FINAL,
	PAGE_COMPUTED_AT,
	PAGE_SNAPSHOT,
	PAGE_SESSIONS,
	PAGE_ENDED,
	PAGE_DURATION,
	PAGE_RETURNING,
	PAGE_NDASHBOARDS,
	PAGE_BYTES, /* the parts, then the digest */
	PAGE_COLUMNS = PAGE_BYTES + PAGE_PARTS + 1
};

static const char *const page_columns[PAGE_COLUMNS] = {
	"day",
	"dirty",
	"final",
	"computed_at",
	"snapshot",
	"sessions",
	"ended_sessions",
	"ended_microseconds",
	"returning_users",
	"active_dashboards",
	"active",
	"entries",
	"dashboards",
	"heartbeats",
	"countries",
	"digest",
};

static const Oid page_types[PAGE_COLUMNS] = {
	DATEOID, BOOLOID, BOOLOID,	TIMESTAMPTZOID, TEXTOID,  INT8OID,	INT8OID,  INT8OID,
	INT4OID, INT4OID, BYTEAOID, BYTEAOID,		BYTEAOID, BYTEAOID, BYTEAOID, BYTEAOID,
};

static void
page_values(const Metrics *metrics, const DayPage *page, Datum *values, bool *nulls)
{
	PageBytes own;
	const PageBytes *bytes = page->bytes;

	if (bytes == NULL)
	{
		page_encode(page, &own);
		bytes = &own;
	}
	memset(nulls, 0, PAGE_COLUMNS * sizeof(bool));
	values[PAGE_DAY] = DateADTGetDatum(page->day);
	values[PAGE_DIRTY] = BoolGetDatum(false);
	values[PAGE_FINAL] = BoolGetDatum(page->final);
	values[PAGE_COMPUTED_AT] = TimestampTzGetDatum(metrics->now);
	values[PAGE_SNAPSHOT] = CStringGetTextDatum(page_snapshot_text(metrics->snapshot));
	values[PAGE_SESSIONS] = Int64GetDatum(page->sessions);
	values[PAGE_ENDED] = Int64GetDatum(page->ended);
	values[PAGE_DURATION] = Int64GetDatum(page->duration);
	values[PAGE_RETURNING] = Int32GetDatum(page->returning);
	values[PAGE_NDASHBOARDS] = Int32GetDatum(page->ndashboards);
	nulls[PAGE_SESSIONS] = nulls[PAGE_ENDED] = nulls[PAGE_DURATION] = nulls[PAGE_RETURNING] =
		!page->has_sessions;
	nulls[PAGE_NDASHBOARDS] = !page->has_dashboards;
	for (int i = 0; i < PAGE_PARTS; i++)
		values[PAGE_BYTES + i] = PointerGetDatum(bytes->parts[i]);
	values[PAGE_BYTES + PAGE_PARTS] = PointerGetDatum(bytes->digest);
}

/*
 * page_store writes a computed page: clean, with its digest.
 */
void
page_store(Metrics *metrics, DayPage *page)
{
	Datum values[PAGE_COLUMNS];
	bool isnull[PAGE_COLUMNS];
	char nulls[PAGE_COLUMNS + 1] = {0};

	page_values(metrics, page, values, isnull);
	for (int i = 0; i < PAGE_COLUMNS; i++)
		nulls[i] = isnull[i] ? 'n' : ' ';
	dashie_query_begin();
	dashie_query(
		"INSERT INTO dashie.day_page AS p (day, dirty, final, computed_at, snapshot, sessions,"
		" ended_sessions, ended_microseconds, returning_users, active_dashboards,"
		" active, entries, dashboards, heartbeats, countries, digest)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
		" ON CONFLICT (day) DO UPDATE SET dirty = $2, final = $3, computed_at = $4,"
		" snapshot = $5, sessions = $6, ended_sessions = $7, ended_microseconds = $8,"
		" returning_users = $9, active_dashboards = $10, active = $11, entries = $12,"
		" dashboards = $13, heartbeats = $14, countries = $15, digest = $16",
		PAGE_COLUMNS, page_types, values, nulls);
	dashie_query_end();
	page->stored = true;
	page->dirty = false;
}

/* One row for dashie_bulk_insert(); the rows keep to the arrays that are given. */
static void
page_row(DashieArrays *rows, Datum *values, bool *nulls)
{
	rows->ncolumns = PAGE_COLUMNS;
	rows->types = page_types;
	rows->nrows = 1;
	for (int i = 0; i < PAGE_COLUMNS; i++)
	{
		rows->values[i] = &values[i];
		rows->nulls[i] = &nulls[i];
	}
}

/*
 * page_may_insert says whether page_insert() may be used for pages that have no
 * row: not where the table's owner has added what it would pass by, nor where
 * rows may be there that this transaction does not see.
 */
bool
page_may_insert(Metrics *metrics)
{
	Datum values[PAGE_COLUMNS];
	bool nulls[PAGE_COLUMNS];
	DashieArrays rows;

	page_row(&rows, values, nulls);
	return !IsolationUsesXactSnapshot() &&
		   dashie_bulk_may_insert(metrics->page_rel, page_columns, &rows);
}

/*
 * page_insert does what page_store does for a page that has no row, without a
 * command of its own: it may be used while parallel workers run, in a
 * transaction that has its id.
 */
void
page_insert(Metrics *metrics, DayPage *page)
{
	Datum values[PAGE_COLUMNS];
	bool nulls[PAGE_COLUMNS];
	DashieArrays rows;

	page_values(metrics, page, values, nulls);
	page_row(&rows, values, nulls);
	if (!dashie_bulk_insert(metrics->page_rel, page_columns, &rows))
		elog(ERROR, "dashie.day_page has changed under a lock");
	page->stored = true;
	page->dirty = false;
}
