/*
 * audit_rows.c
 *		Rows of stripe_webhook_events as seals know them: in one form, whatever
 *		the machine, the encoding or the order on disk.
 *
 * A row's digest is SHA-256 over its id, created_at, stripe_event_id,
 * event_type and event_data as jsonb prints it: what cannot change.  Entries
 * as bytes: for each row, in ascending order of id, 16 bytes of id, 8 of
 * created_at (microseconds since 2000, the highest first) and 32 of digest.
 *
 * Rows are read through the access method, as the table's owner, so that no
 * code of theirs runs.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "billing/audit.h"
#include "common/day.h"
#include "common/relation.h"

#define ENTRY_BYTES (UUID_LEN + 8 + DASHIE_DIGEST_LENGTH)

enum
{
	ROW_ID,
	ROW_EVENT_ID,
	ROW_TYPE,
	ROW_DATA,
	ROW_CREATED,
	ROW_COLUMNS
};

static void
find_columns(Relation events, DashieColumn *columns)
{
	static const DashieColumn wanted[ROW_COLUMNS] = {{"id", UUIDOID, true, 0},
													 {"stripe_event_id", TEXTOID, true, 0},
													 {"event_type", TEXTOID, true, 0},
													 {"event_data", JSONBOID, true, 0},
													 {"created_at", TIMESTAMPTZOID, true, 0}};

	memcpy(columns, wanted, sizeof(wanted));
	dashie_relation_columns(events, columns, ROW_COLUMNS);
}

TimestampTz
dashie_audit_day_start(DateADT day)
{
	return (TimestampTz) day * USECS_PER_DAY;
}

DateADT
dashie_audit_day_of(TimestampTz at)
{
	int64 day = at / USECS_PER_DAY;

	if (at < day * USECS_PER_DAY)
		day--;
	return (DateADT) Max(DASHIE_MIN_DAY, Min(DASHIE_MAX_DAY, day));
}

Relation
dashie_audit_open_events(Oid relid)
{
	return dashie_relation_open(relid, AccessShareLock, ACL_SELECT, false);
}

static void
digest_text(pg_cryptohash_ctx *hash, DashieScan *scan, const DashieColumn *column)
{
	bool isnull;
	Datum value = dashie_scan_get(scan, column, &isnull);
	text *string;

	if (isnull)
	{
		dashie_digest_text(hash, NULL, 0);
		return;
	}
	string = DatumGetTextPP(value);
	dashie_digest_text(hash, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
}

static void
digest_json(pg_cryptohash_ctx *hash, DashieScan *scan, const DashieColumn *column)
{
	bool isnull;
	Datum value = dashie_scan_get(scan, column, &isnull);
	Jsonb *json;
	char *string;

	if (isnull)
	{
		dashie_digest_text(hash, NULL, 0);
		return;
	}
	json = DatumGetJsonbP(value);
	string = JsonbToCString(NULL, &json->root, VARSIZE(json));
	dashie_digest_text(hash, string, strlen(string));
}

/* The next free entry of a list that grows. */
static AuditEntry *
add_entry(AuditEntries *entries)
{
	if (entries->count == entries->size)
	{
		int size = Max(64, entries->size * 2);

		entries->items = entries->items == NULL
							 ? palloc_extended(size * sizeof(AuditEntry), MCXT_ALLOC_HUGE)
							 : repalloc_huge(entries->items, size * sizeof(AuditEntry));
		entries->size = size;
	}
	return &entries->items[entries->count++];
}

int
dashie_audit_compare(const void *a, const void *b)
{
	return memcmp(&((const AuditEntry *) a)->id, &((const AuditEntry *) b)->id, UUID_LEN);
}

void
dashie_audit_sort(AuditEntries *entries)
{
	if (entries->count > 1)
		qsort(entries->items, entries->count, sizeof(AuditEntry), dashie_audit_compare);
}

/*
 * dashie_audit_read adds an entry for each row created in [from, upto), and
 * sorts them.
 */
void
dashie_audit_read(Relation events, Snapshot snapshot, TimestampTz from, TimestampTz upto,
				  AuditEntries *entries)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context =
		AllocSetContextCreate(caller, "dashie payment record", ALLOCSET_DEFAULT_SIZES);
	pg_cryptohash_ctx *hash = dashie_digest_create();
	DashieColumn columns[ROW_COLUMNS];
	DashieScan *scan;

	find_columns(events, columns);
	scan = dashie_scan_begin_range(events, snapshot, &columns[ROW_CREATED], from, upto);
	while (dashie_scan_next(scan))
	{
		AuditEntry *entry = add_entry(entries);
		const pg_uuid_t *id = dashie_scan_uuid(scan, &columns[ROW_ID]);
		bool isnull;

		CHECK_FOR_INTERRUPTS();
		if (id == NULL)
			memset(&entry->id, 0, sizeof(entry->id));
		else
			entry->id = *id;
		entry->created = DatumGetTimestampTz(dashie_scan_get(scan, &columns[ROW_CREATED], &isnull));

		MemoryContextSwitchTo(context);
		dashie_digest_begin(hash);
		dashie_digest_bytes(hash, &entry->id, UUID_LEN);
		dashie_digest_number(hash, entry->created);
		digest_text(hash, scan, &columns[ROW_EVENT_ID]);
		digest_text(hash, scan, &columns[ROW_TYPE]);
		digest_json(hash, scan, &columns[ROW_DATA]);
		dashie_digest_finish(hash, entry->digest);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(context);
	}
	dashie_scan_end(scan);
	pg_cryptohash_free(hash);
	MemoryContextDelete(context);
	dashie_audit_sort(entries);
}

/* dashie_audit_first_row finds when the oldest row from an instant on was created. */
bool
dashie_audit_first_row(Relation events, Snapshot snapshot, TimestampTz from, TimestampTz *created)
{
	DashieColumn columns[ROW_COLUMNS];
	DashieScan *scan;
	bool found = false;

	find_columns(events, columns);
	scan = dashie_scan_begin_range(events, snapshot, &columns[ROW_CREATED], from, DT_NOEND);
	while (dashie_scan_next(scan))
	{
		bool isnull;
		TimestampTz at = DatumGetTimestampTz(dashie_scan_get(scan, &columns[ROW_CREATED], &isnull));

		if (TIMESTAMP_NOT_FINITE(at))
			continue;
		if (!found || at < *created)
			*created = at;
		found = true;
		if (dashie_scan_is_ordered(scan))
			break;
	}
	dashie_scan_end(scan);
	return found;
}

bytea *
dashie_audit_to_bytes(const AuditEntries *entries)
{
	Size length = VARHDRSZ + (Size) entries->count * ENTRY_BYTES;
	bytea *bytes;
	uint8 *out;

	if (length > MaxAllocSize)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("a day with %d payment records cannot be sealed", entries->count)));
	bytes = palloc(length);
	SET_VARSIZE(bytes, length);
	out = (uint8 *) VARDATA(bytes);
	for (int i = 0; i < entries->count; i++)
	{
		const AuditEntry *entry = &entries->items[i];

		memcpy(out, &entry->id, UUID_LEN);
		out += UUID_LEN;
		for (int shift = 56; shift >= 0; shift -= 8)
			*out++ = (uint8) ((uint64) entry->created >> shift);
		memcpy(out, entry->digest, DASHIE_DIGEST_LENGTH);
		out += DASHIE_DIGEST_LENGTH;
	}
	return bytes;
}

bool
dashie_audit_add_bytes(AuditEntries *entries, const bytea *bytes)
{
	const uint8 *in = (const uint8 *) VARDATA_ANY(bytes);
	Size length = VARSIZE_ANY_EXHDR(bytes);

	if (length % ENTRY_BYTES != 0)
		return false;
	for (const uint8 *end = in + length; in < end;)
	{
		AuditEntry *entry = add_entry(entries);
		uint64 created = 0;

		memcpy(&entry->id, in, UUID_LEN);
		in += UUID_LEN;
		for (int i = 0; i < 8; i++)
			created = created << 8 | *in++;
		entry->created = (TimestampTz) created;
		memcpy(entry->digest, in, DASHIE_DIGEST_LENGTH);
		in += DASHIE_DIGEST_LENGTH;
	}
	return true;
}

void
dashie_audit_content(const bytea *bytes, uint8 *content)
{
	pg_cryptohash_ctx *hash = dashie_digest_create();

	dashie_digest_begin(hash);
	dashie_digest_bytes(hash, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	dashie_digest_finish(hash, content);
	pg_cryptohash_free(hash);
}

void
dashie_audit_chain(const AuditSeal *seal, const uint8 *previous, uint8 *digest)
{
	static const uint8 none[DASHIE_DIGEST_LENGTH];
	pg_cryptohash_ctx *hash = dashie_digest_create();

	dashie_digest_begin(hash);
	dashie_digest_bytes(hash, previous != NULL ? previous : none, DASHIE_DIGEST_LENGTH);
	dashie_digest_number(hash, seal->number);
	dashie_digest_number(hash, seal->day);
	dashie_digest_number(hash, seal->late);
	dashie_digest_number(hash, seal->sealed_at);
	dashie_digest_number(hash, seal->row_count);
	dashie_digest_bytes(hash, seal->content, DASHIE_DIGEST_LENGTH);
	dashie_digest_finish(hash, digest);
	pg_cryptohash_free(hash);
}
