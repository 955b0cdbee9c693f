/*
 * seal.c
 *		Seals of payment records: the job seal_audit.
 *
 * Each finished day of UTC gets a seal: what its rows were, and a digest that
 * follows on the one of the seal before, so that no seal can be changed
 * without changing all that come after it.  dashie.verify_audit() compares.
 *
 * A row belongs to the day in which its transaction began (created_at), and may
 * be seen long after that: so a day is sealed an hour after its end and when no
 * transaction runs that began before, though not later than a day after it.
 * Rows that come after that (a prepared transaction, a session that sat idle, a
 * row dated back by hand) get a late seal of their own within a week, which
 * says that they came afterwards; older ones are what verify_audit() calls
 * added.
 *
 * Runs as the owner of the payments to read them, and as the owner of
 * dashie.audit_seal to write.  Takes SHARE ROW EXCLUSIVE on the latter, for
 * which it waits no longer than maintenance_lock_timeout_ms, so that one
 * writes seals at a time; ingest never looks at that table.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "billing/audit.h"
#include "billing/billing.h"
#include "common/compat.h"
#include "common/day.h"
#include "common/query.h"
#include "common/relation.h"
#include "common/setting.h"
#include "jobs/job.h"
#include "partition/partition.h"
#include "roadmap/roadmap.h"

#define GRACE (1 * USECS_PER_HOUR)
#define PATIENCE (24 * USECS_PER_HOUR)
#define LATE_DAYS 7
#define DAYS_PER_STEP 31

#define SEAL_COLUMNS                                                                       \
	"SELECT number, day, late, sealed_at, row_count, entries IS NOT NULL, content, digest" \
	" FROM dashie.audit_seal"

/* One step of the job. */
typedef struct Sealing
{
	JobStep *step;
	Oid events_relid;
	Oid seals_relid;
	Relation events;
	Snapshot snapshot;
	Oid events_owner;
	Oid seals_owner;
	TimestampTz now;
	TimestampTz oldest; /* start of the oldest transaction that ran before the snapshot */
	AuditSeal last;		/* number 0: there is none yet */
	bool more;
} Sealing;

/* A digest of another length, which the table's CHECK refuses, is none that fits the chain. */
static void
copy_digest(uint64 row, int column, uint8 *digest)
{
	bytea *bytes = DatumGetByteaPP(dashie_field(row, column, NULL));

	if (VARSIZE_ANY_EXHDR(bytes) == DASHIE_DIGEST_LENGTH)
		memcpy(digest, VARDATA_ANY(bytes), DASHIE_DIGEST_LENGTH);
	else
		memset(digest, 0, DASHIE_DIGEST_LENGTH);
}

/* A row of a query for SEAL_COLUMNS. */
static void
read_seal(uint64 row, AuditSeal *seal)
{
	seal->number = DatumGetInt64(dashie_field(row, 1, NULL));
	seal->day = DatumGetDateADT(dashie_field(row, 2, NULL));
	seal->late = DatumGetBool(dashie_field(row, 3, NULL));
	seal->sealed_at = DatumGetTimestampTz(dashie_field(row, 4, NULL));
	seal->row_count = DatumGetInt64(dashie_field(row, 5, NULL));
	seal->has_entries = DatumGetBool(dashie_field(row, 6, NULL));
	copy_digest(row, 7, seal->content);
	copy_digest(row, 8, seal->digest);
}

static const Oid seal_types[] = {INT8OID, DATEOID, BOOLOID,	 TIMESTAMPTZOID,
								 INT8OID, BOOLOID, BYTEAOID, BYTEAOID};

/* dashie_audit_seals returns every seal, by number. */
AuditSeal *
dashie_audit_seals(int *nseals)
{
	MemoryContext caller = CurrentMemoryContext;
	AuditSeal *seals;
	uint64 count;

	dashie_query_begin();
	count = dashie_query(SEAL_COLUMNS " ORDER BY number", 0, NULL, NULL, NULL);
	dashie_query_types(lengthof(seal_types), seal_types);
	seals = MemoryContextAllocHuge(caller, (count + 1) * sizeof(AuditSeal));
	for (uint64 i = 0; i < count; i++)
		read_seal(i, &seals[i]);
	dashie_query_end();
	*nseals = (int) count;
	return seals;
}

/*
 * dashie_audit_seal_entries adds the entries of one seal, if it has them, and
 * computes what its content must be; false if the bytes are no entries.
 */
bool
dashie_audit_seal_entries(int64 number, AuditEntries *entries, uint8 *content)
{
	static const Oid column[] = {BYTEAOID};
	MemoryContext caller = CurrentMemoryContext;
	Oid types[1] = {INT8OID};
	Datum values[1] = {Int64GetDatum(number)};
	bool good = false;

	dashie_query_begin();
	if (dashie_query("SELECT entries FROM dashie.audit_seal"
					 " WHERE number = $1 AND entries IS NOT NULL",
					 1, types, values, NULL) == 1)
	{
		bytea *bytes;
		MemoryContext spi;

		dashie_query_types(1, column);
		bytes = DatumGetByteaPP(dashie_field(0, 1, NULL));
		dashie_audit_content(bytes, content);
		spi = MemoryContextSwitchTo(caller);
		good = dashie_audit_add_bytes(entries, bytes);
		MemoryContextSwitchTo(spi);
	}
	dashie_query_end();
	return good;
}

/* When the oldest transaction of other sessions began: it may yet show a row of that time. */
static TimestampTz
oldest_transaction(void)
{
	int count = pgstat_fetch_stat_numbackends();
	TimestampTz oldest = DT_NOEND;

	for (int i = 1; i <= count; i++)
	{
		PgBackendStatus *entry = &dashie_local_beentry(i)->backendStatus;

		if (entry->st_procpid == 0 || entry->st_procpid == MyProcPid ||
			entry->st_databaseid != MyDatabaseId ||
			(entry->st_backendType != B_BACKEND && entry->st_backendType != B_BG_WORKER))
			continue;
		if (entry->st_xact_start_timestamp != 0)
			oldest = Min(oldest, entry->st_xact_start_timestamp);
	}
	return oldest;
}

static bool
may_seal(const Sealing *sealing, DateADT day)
{
	TimestampTz end = dashie_audit_day_start(day + 1);

	return end + GRACE <= sealing->now &&
		   (end + PATIENCE <= sealing->now || sealing->oldest >= end);
}

/* Appends a seal over the entries. */
static void
write_seal(Sealing *sealing, DateADT day, bool late, const AuditEntries *entries)
{
	Oid types[] = {INT8OID, DATEOID,  BOOLOID,	TIMESTAMPTZOID,
				   INT8OID, BYTEAOID, BYTEAOID, BYTEAOID};
	Datum values[lengthof(types)];
	bytea *bytes = dashie_audit_to_bytes(entries);
	bytea *content = palloc(VARHDRSZ + DASHIE_DIGEST_LENGTH);
	bytea *digest = palloc(VARHDRSZ + DASHIE_DIGEST_LENGTH);
	AuditSeal seal = {0};

	seal.number = sealing->last.number + 1;
	seal.day = day;
	seal.late = late;
	seal.sealed_at = sealing->now;
	seal.row_count = entries->count;
	dashie_audit_content(bytes, seal.content);
	dashie_audit_chain(&seal, sealing->last.number > 0 ? sealing->last.digest : NULL, seal.digest);

	SET_VARSIZE(content, VARHDRSZ + DASHIE_DIGEST_LENGTH);
	memcpy(VARDATA(content), seal.content, DASHIE_DIGEST_LENGTH);
	SET_VARSIZE(digest, VARHDRSZ + DASHIE_DIGEST_LENGTH);
	memcpy(VARDATA(digest), seal.digest, DASHIE_DIGEST_LENGTH);

	values[0] = Int64GetDatum(seal.number);
	values[1] = DateADTGetDatum(seal.day);
	values[2] = BoolGetDatum(seal.late);
	values[3] = TimestampTzGetDatum(seal.sealed_at);
	values[4] = Int64GetDatum(seal.row_count);
	values[5] = PointerGetDatum(bytes);
	values[6] = PointerGetDatum(content);
	values[7] = PointerGetDatum(digest);
	dashie_become(sealing->step->guard, sealing->seals_owner);
	dashie_query_begin();
	dashie_query("INSERT INTO dashie.audit_seal"
				 " (number, day, late, sealed_at, row_count, entries, content, digest)"
				 " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
				 lengthof(types), types, values, NULL);
	dashie_query_end();
	sealing->last = seal;
	sealing->step->rows += entries->count;
	pfree(bytes);
	pfree(content);
	pfree(digest);
}

/* The rows of a day, in a memory context that the caller resets. */
static AuditEntries
read_day(Sealing *sealing, DateADT day)
{
	AuditEntries entries = {0};

	dashie_become(sealing->step->guard, sealing->events_owner);
	dashie_audit_read(sealing->events, sealing->snapshot, dashie_audit_day_start(day),
					  dashie_audit_day_start(day + 1), &entries);
	return entries;
}

/* The last seal of all, and the days between which each has one; false if none has. */
static bool
find_last(Sealing *sealing, DateADT *first_day, DateADT *last_day)
{
	static const Oid day_types[] = {DATEOID, DATEOID};
	bool isnull;

	dashie_become(sealing->step->guard, sealing->seals_owner);
	dashie_query_begin();
	if (dashie_query(SEAL_COLUMNS " ORDER BY number DESC LIMIT 1", 0, NULL, NULL, NULL) > 0)
	{
		dashie_query_types(lengthof(seal_types), seal_types);
		read_seal(0, &sealing->last);
	}
	dashie_query("SELECT min(day), max(day) FROM dashie.audit_seal WHERE NOT late", 0, NULL, NULL,
				 NULL);
	dashie_query_types(2, day_types);
	*first_day = DatumGetDateADT(dashie_field(0, 1, &isnull));
	*last_day = DatumGetDateADT(dashie_field(0, 2, &isnull));
	dashie_query_end();
	return !isnull;
}

static void
seal_days(Sealing *sealing, DateADT day)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "dashie sealed day", ALLOCSET_DEFAULT_SIZES);
	int64 batch = dashie_setting_int("batch_rows");

	for (int n = 0; may_seal(sealing, day); n++, day++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		AuditEntries entries;

		CHECK_FOR_INTERRUPTS();
		if (n >= DAYS_PER_STEP || sealing->step->rows >= batch)
			sealing->more = true;
		else
		{
			entries = read_day(sealing, day);
			write_seal(sealing, day, false, &entries);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
		if (sealing->more)
			break;
	}
	MemoryContextDelete(context);
}

/* What the seals of a day know: the numbers of the seals that have entries. */
static AuditEntries
known_entries(Sealing *sealing, DateADT day)
{
	AuditEntries known = {0};
	MemoryContext caller = CurrentMemoryContext;
	Oid types[1] = {DATEOID};
	Datum values[1] = {DateADTGetDatum(day)};
	uint64 count;
	int64 *numbers;
	uint8 content[DASHIE_DIGEST_LENGTH];

	dashie_become(sealing->step->guard, sealing->seals_owner);
	dashie_query_begin();
	count = dashie_query("SELECT number::bigint FROM dashie.audit_seal WHERE day = $1", 1, types,
						 values, NULL);
	numbers = MemoryContextAlloc(caller, (count + 1) * sizeof(int64));
	for (uint64 i = 0; i < count; i++)
		numbers[i] = DatumGetInt64(dashie_field(i, 1, NULL));
	dashie_query_end();
	for (uint64 i = 0; i < count; i++)
		(void) dashie_audit_seal_entries(numbers[i], &known, content);
	dashie_audit_sort(&known);
	return known;
}

/* Seals the rows of a day that no seal knows yet. */
static void
seal_late_rows(Sealing *sealing, DateADT day)
{
	AuditEntries rows = read_day(sealing, day);
	AuditEntries known;
	int late = 0;

	if (rows.count == 0)
		return;
	known = known_entries(sealing, day);
	for (int i = 0; i < rows.count; i++)
		if (known.count == 0 || bsearch(&rows.items[i], known.items, known.count,
										sizeof(AuditEntry), dashie_audit_compare) == NULL)
			rows.items[late++] = rows.items[i];
	rows.count = late;
	if (late > 0)
		write_seal(sealing, day, true, &rows);
}

/*
 * Seals of days whose rows retention has removed lose their entries; content
 * and digest stay, and the chain with them.
 */
static void
forget_expired(Sealing *sealing)
{
	DateADT before = dashie_audit_day_of(dashie_stripe_deletable_before());
	MemoryContext caller = CurrentMemoryContext;
	Oid types[1] = {DATEOID};
	Datum values[1] = {DateADTGetDatum(before)};
	uint64 count;
	DateADT *days;

	dashie_become(sealing->step->guard, sealing->seals_owner);
	dashie_query_begin();
	count = dashie_query("SELECT DISTINCT day::date FROM dashie.audit_seal"
						 " WHERE entries IS NOT NULL AND day < $1",
						 1, types, values, NULL);
	days = MemoryContextAlloc(caller, (count + 1) * sizeof(DateADT));
	for (uint64 i = 0; i < count; i++)
		days[i] = DatumGetDateADT(dashie_field(i, 1, NULL));
	dashie_query_end();

	for (uint64 i = 0; i < count; i++)
	{
		TimestampTz created;

		CHECK_FOR_INTERRUPTS();
		dashie_become(sealing->step->guard, sealing->events_owner);
		if (dashie_audit_first_row(sealing->events, sealing->snapshot,
								   dashie_audit_day_start(days[i]), &created) &&
			created < dashie_audit_day_start(days[i] + 1))
			continue;
		dashie_become(sealing->step->guard, sealing->seals_owner);
		dashie_query_begin();
		values[0] = DateADTGetDatum(days[i]);
		dashie_query("UPDATE dashie.audit_seal SET entries = NULL"
					 " WHERE day = $1 AND entries IS NOT NULL",
					 1, types, values, NULL);
		dashie_query_end();
	}
}

static Oid
owner_of(Oid relid)
{
	Relation rel = relation_open(relid, AccessShareLock);
	Oid owner = rel->rd_rel->relowner;

	relation_close(rel, NoLock);
	return owner;
}

static void
seal_work(void *arg)
{
	Sealing *sealing = arg;
	LockNeed need = {sealing->seals_relid, ShareRowExclusiveLock};
	Oid user;
	int context;
	int nest = NewGUCNestLevel();
	DateADT first_day;
	DateADT last_day;
	TimestampTz created;

	GetUserIdAndSecContext(&user, &context);
	dashie_lock_together(&need, 1, dashie_setting_int("maintenance_lock_timeout_ms"));
	sealing->seals_owner = owner_of(sealing->seals_relid);
	sealing->events_owner = owner_of(sealing->events_relid);
	dashie_become(sealing->step->guard, sealing->events_owner);
	sealing->events = dashie_audit_open_events(sealing->events_relid);
	/* in this order: whoever has ended in between is in the snapshot */
	sealing->oldest = oldest_transaction();
	sealing->snapshot = RegisterSnapshot(GetLatestSnapshot());

	if (find_last(sealing, &first_day, &last_day))
	{
		if (sealing->step->number == 0)
		{
			for (DateADT day = Max(first_day, last_day - LATE_DAYS + 1); day <= last_day; day++)
				seal_late_rows(sealing, day);
			forget_expired(sealing);
		}
		seal_days(sealing, last_day + 1);
	}
	else
	{
		dashie_become(sealing->step->guard, sealing->events_owner);
		if (dashie_audit_first_row(sealing->events, sealing->snapshot, DT_NOBEGIN, &created))
			seal_days(sealing, dashie_audit_day_of(created));
	}

	UnregisterSnapshot(sealing->snapshot);
	relation_close(sealing->events, NoLock);
	AtEOXact_GUC(true, nest);
	SetUserIdAndSecContext(user, context);
}

/* dashie_seal_step seals up to a month of days; nothing where payments are not enabled. */
bool
dashie_seal_step(JobStep *step)
{
	Sealing sealing = {.step = step};
	LockNeed need = {InvalidOid, ShareRowExclusiveLock};
	ErrorData *error;

	sealing.events_relid = dashie_enabled_oid("stripe_webhook_events");
	sealing.seals_relid = dashie_relation_oid("dashie", "audit_seal");
	if (!OidIsValid(sealing.events_relid))
		return false;
	if (!OidIsValid(sealing.seals_relid))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"dashie.audit_seal\" does not exist"),
						errhint("Run SELECT dashie.enable('stripe_webhook_events').")));
	sealing.now = dashie_now();

	error = dashie_attempt(seal_work, &sealing);
	if (error != NULL)
	{
		if (!dashie_is_blocked(error))
			ReThrowError(error);
		need.relid = sealing.seals_relid;
		step->rows = 0;
		step->blocked = true;
		step->blocker = dashie_lock_holders(&need, 1);
		return true;
	}
	return sealing.more;
}
