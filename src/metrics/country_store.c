/*
 * country_store.c
 *		The countries of the users as they are stored: dashie.user_country.
 *
 * Every night moves the latest session of each user who was there, so a row a
 * user would make the night rewrite a table.  A row holds some thousands of
 * users instead (number_block.h), in two columns:
 *		codes	two bytes a user: the country's letters, 0 for none; the highest
 *				bit says that the user is not counted (anonymous, marked as
 *				deleted, or gone)
 *		latest	eight bytes a user: the start of the session it came from.  Of several
 *				that started in the same microsecond the rows say which counts:
 *				they are of one day, and read together.
 * Codes are what a question about countries reads: 400 kB for 200,000 users.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "common/arrays.h"
#include "common/query.h"
#include "common/relation.h"
#include "metrics/engine.h"
#include "metrics/number_block.h"

#define CODE_BYTES 2
#define LATEST_BYTES 8
#define NOT_COUNTED 0x8000
#define WHAT "countries in dashie.user_country"

static uint16
get_code(const unsigned char *p)
{
	uint16 code = (uint16) block_get(p, CODE_BYTES);
	CountryCode country = code & ~NOT_COUNTED;

	if (country != NO_COUNTRY && (country >> 8 < 'A' || country >> 8 > 'Z' ||
								  (country & 0xFF) < 'A' || (country & 0xFF) > 'Z'))
		number_block_invalid(WHAT, "no country code");
	return code;
}

/*
 * countries_load gives every user who has a number the country that is stored.
 */
void
countries_load(Metrics *metrics)
{
	DashieColumn columns[] = {
		{"first", INT4OID, true, 0},
		{"codes", BYTEAOID, true, 0},
		{"latest", BYTEAOID, true, 0},
	};
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "dashie countries", ALLOCSET_DEFAULT_SIZES);
	Relation rel =
		dashie_relation_open(metrics_table("user_country"), AccessShareLock, ACL_SELECT, false);
	DashieScan *scan;

	metrics->country_nblocks = metrics->max_user / BLOCK_NUMBERS + 1;
	metrics->country_blocks =
		MemoryContextAllocZero(metrics->context, metrics->country_nblocks * sizeof(CountryBlock));
	dashie_relation_columns(rel, columns, lengthof(columns));
	scan = dashie_scan_begin(rel, metrics->snapshot);
	while (dashie_scan_next(scan))
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		int32 block =
			number_block_index(dashie_scan_value(scan, &columns[0]), metrics->max_user, WHAT);
		CountryBlock *stored = &metrics->country_blocks[block];

		stored->codes = MemoryContextAlloc(metrics->context, BLOCK_NUMBERS * CODE_BYTES);
		memcpy(stored->codes,
			   number_block_column(dashie_scan_value(scan, &columns[1]), CODE_BYTES, WHAT),
			   BLOCK_NUMBERS * CODE_BYTES);
		stored->latest = MemoryContextAlloc(metrics->context, BLOCK_NUMBERS * LATEST_BYTES);
		memcpy(stored->latest,
			   number_block_column(dashie_scan_value(scan, &columns[2]), LATEST_BYTES, WHAT),
			   BLOCK_NUMBERS * LATEST_BYTES);
		for (int i = 0; i < BLOCK_NUMBERS; i++)
		{
			UserEntry *user = numbers_by_number(metrics, block * BLOCK_NUMBERS + i);
			const unsigned char *latest = stored->latest + i * LATEST_BYTES;

			if (user == NULL)
				continue;
			user->country = get_code(stored->codes + i * CODE_BYTES) & ~NOT_COUNTED;
			user->country_at = (TimestampTz) block_get(latest, LATEST_BYTES);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	dashie_scan_end(scan);
	table_close(rel, NoLock);
	MemoryContextDelete(context);
}

/* The bytes of a block as they should be; false if it has no user. */
static bool
build_block(Metrics *metrics, int block, unsigned char *codes, unsigned char *latest)
{
	bool any = false;

	memset(latest, 0, BLOCK_NUMBERS * LATEST_BYTES);
	for (int i = 0; i < BLOCK_NUMBERS; i++)
	{
		UserEntry *user = numbers_by_number(metrics, block * BLOCK_NUMBERS + i);
		uint16 code = NO_COUNTRY;

		if (user != NULL)
		{
			any = true;
			code = user->country;
		}
		/* of who is gone the country stays, and not what it was known from */
		if (code != NO_COUNTRY && !user->departed)
			block_put(latest + i * LATEST_BYTES, LATEST_BYTES, (uint64) user->country_at);
		if (user == NULL || user->anonymous || !user_is_there(user))
			code |= NOT_COUNTED;
		block_put(codes + i * CODE_BYTES, CODE_BYTES, code);
	}
	return any;
}

/*
 * countries_store writes the blocks that changed.
 */
void
countries_store(Metrics *metrics)
{
	static const Oid types[] = {INT4OID, BYTEAOID, BYTEAOID};
	unsigned char *codes = palloc(BLOCK_NUMBERS * CODE_BYTES);
	unsigned char *latest = palloc(BLOCK_NUMBERS * LATEST_BYTES);

	dashie_query_begin();
	for (int block = 0; block * BLOCK_NUMBERS < metrics->by_number_size; block++)
	{
		CountryBlock *stored =
			block < metrics->country_nblocks ? &metrics->country_blocks[block] : NULL;
		Datum values[3];
		bool same_codes;

		if (!build_block(metrics, block, codes, latest))
			continue;
		values[0] = Int32GetDatum(block * BLOCK_NUMBERS);
		if (stored == NULL || stored->codes == NULL)
		{
			values[1] = PointerGetDatum(number_block_bytes(codes, BLOCK_NUMBERS * CODE_BYTES));
			values[2] = PointerGetDatum(number_block_bytes(latest, BLOCK_NUMBERS * LATEST_BYTES));
			dashie_query("INSERT INTO dashie.user_country (first, codes, latest)"
						 " VALUES ($1, $2, $3)",
						 3, types, values, NULL);
			continue;
		}
		same_codes = memcmp(stored->codes, codes, BLOCK_NUMBERS * CODE_BYTES) == 0;
		if (memcmp(stored->latest, latest, BLOCK_NUMBERS * LATEST_BYTES) != 0)
		{
			values[1] = PointerGetDatum(number_block_bytes(latest, BLOCK_NUMBERS * LATEST_BYTES));
			dashie_query("UPDATE dashie.user_country SET latest = $2 WHERE first = $1", 2, types,
						 values, NULL);
		}
		if (!same_codes)
		{
			values[1] = PointerGetDatum(number_block_bytes(codes, BLOCK_NUMBERS * CODE_BYTES));
			dashie_query("UPDATE dashie.user_country SET codes = $2 WHERE first = $1", 2, types,
						 values, NULL);
		}
	}
	dashie_query_end();
}

/* Of the last query. */
static NullableDatum
field(uint64 row, int column)
{
	NullableDatum value;

	value.value = dashie_field(row, column, &value.isnull);
	return value;
}

/*
 * countries_codes reads the country of each number as the last refresh left
 * it; COUNTRY_NOT_COUNTED for a number that counts nowhere.
 */
CountryCode *
countries_codes(Metrics *metrics, int32 *size)
{
	static const Oid types[] = {INT4OID, BYTEAOID};
	MemoryContext caller = CurrentMemoryContext;
	CountryCode *result;
	uint64 nrows;
	int32 nblocks = 0;

	numbers_bounds(metrics);
	dashie_query_begin();
	nrows = metrics_query(
		metrics, "SELECT first, codes FROM dashie.user_country ORDER BY first DESC", 0, NULL, NULL);
	dashie_query_types(lengthof(types), types);
	if (nrows > 0)
		nblocks = number_block_index(field(0, 1), metrics->max_user, WHAT) + 1;
	*size = nblocks * BLOCK_NUMBERS;
	result = MemoryContextAllocHuge(caller, Max(*size, 1) * sizeof(CountryCode));
	for (int32 i = 0; i < *size; i++)
		result[i] = COUNTRY_NOT_COUNTED;
	for (uint64 row = 0; row < nrows; row++)
	{
		int32 block = number_block_index(field(row, 1), metrics->max_user, WHAT);
		const unsigned char *codes = number_block_column(field(row, 2), CODE_BYTES, WHAT);

		if (block >= nblocks)
			number_block_invalid(WHAT, "out of order");
		for (int i = 0; i < BLOCK_NUMBERS; i++)
		{
			uint16 code = get_code(codes + i * CODE_BYTES);

			if ((code & NOT_COUNTED) == 0)
				result[block * BLOCK_NUMBERS + i] = code;
		}
	}
	dashie_query_end();
	return result;
}
