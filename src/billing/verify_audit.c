/*
 * verify_audit.c
 *		Compares payment records with their seals: dashie.verify_audit().
 *
 * Called by the extension's owner or a role with its rights.  Reads the
 * payments as their owner and the seals as theirs; changes nothing and locks
 * nothing but ACCESS SHARE.  A row that comes or goes between reading the seals
 * and reading the rows would be taken for a finding, so the snapshot for the
 * rows is taken right after the seals were read, and days that are not over are
 * left out.
 *
 * Seals that somebody changed contradict themselves or the one that follows.
 * Whoever may write everything could make all seals anew from some day on: the
 * digest of a day, kept elsewhere, shows that too.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "billing/audit.h"
#include "billing/billing.h"
#include "common/day.h"
#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_verify_audit);

/* As many ids of rows as an answer names. */
#define MAX_TOUCHED 100

typedef struct Verification
{
	DashieGuard *guard;
	DashieRows *result;
	Relation events;
	Oid events_owner;
	Oid seals_owner;
	Snapshot snapshot;
	int nseals;
	AuditSeal *seals; /* by number */
	bool *broken;	  /* [seal]: does not follow on the one before it */
	DateADT first;	  /* day that has a seal */
	DateADT last;
	DateADT expired; /* what was created before this day may have been removed */
} Verification;

/* What was found of one day. */
typedef struct DayFindings
{
	DateADT day;
	bool sealed;
	bool broken;
	int64 rows; /* that seals know */
	int64 late;
	int64 changed;
	int64 removed;
	int64 added;
	int64 expired;
	int ntouched;
	Datum touched[MAX_TOUCHED];
	const AuditSeal *last; /* seal of the day */
} DayFindings;

/*
 * check_chain finds the seals that do not follow on the one before them: by
 * their digest, by their number, or by their day.
 */
static void
check_chain(Verification *verification)
{
	const AuditSeal *before = NULL;
	const AuditSeal *day_before = NULL;

	verification->broken = palloc0(verification->nseals + 1);
	for (int i = 0; i < verification->nseals; i++)
	{
		const AuditSeal *seal = &verification->seals[i];
		uint8 digest[DASHIE_DIGEST_LENGTH];

		CHECK_FOR_INTERRUPTS();
		dashie_audit_chain(seal, before != NULL ? before->digest : NULL, digest);
		if (memcmp(digest, seal->digest, DASHIE_DIGEST_LENGTH) != 0 ||
			seal->number != (before != NULL ? before->number : 0) + 1 ||
			(!seal->late && day_before != NULL && seal->day != day_before->day + 1))
			verification->broken[i] = true;
		before = seal;
		if (!seal->late)
			day_before = seal;
	}
}

static void
touch(DayFindings *findings, const pg_uuid_t *id)
{
	pg_uuid_t *copy;

	if (findings->ntouched == MAX_TOUCHED)
		return;
	copy = palloc(sizeof(pg_uuid_t));
	*copy = *id;
	findings->touched[findings->ntouched++] = UUIDPGetDatum(copy);
}

/* Compares what the seals of a day know with the rows that there are, both by id. */
static void
compare(Verification *verification, DayFindings *findings, const AuditEntries *known,
		const AuditEntries *rows)
{
	TimestampTz removable = dashie_stripe_deletable_before();
	int i = 0;
	int j = 0;

	while (i < known->count || j < rows->count)
	{
		int order = i == known->count  ? 1
					: j == rows->count ? -1
									   : dashie_audit_compare(&known->items[i], &rows->items[j]);

		CHECK_FOR_INTERRUPTS();
		if (order == 0)
		{
			if (known->items[i].created != rows->items[j].created ||
				memcmp(known->items[i].digest, rows->items[j].digest, DASHIE_DIGEST_LENGTH) != 0)
			{
				findings->changed++;
				touch(findings, &rows->items[j].id);
			}
			i++;
			j++;
		}
		else if (order < 0)
		{
			if (known->items[i].created < removable)
				findings->expired++;
			else
			{
				findings->removed++;
				touch(findings, &known->items[i].id);
			}
			i++;
		}
		else
		{
			findings->added++;
			touch(findings, &rows->items[j].id);
			j++;
		}
	}
}

static const char *
status(const DayFindings *findings)
{
	if (findings->broken)
		return "broken";
	if (findings->changed > 0 || findings->removed > 0)
		return "touched";
	if (findings->added > 0 || findings->late > 0)
		return "added later";
	if (!findings->sealed)
		return "not sealed";
	if (findings->expired > 0)
		return "expired";
	return "intact";
}

static void
put_findings(Verification *verification, DayFindings *findings)
{
	Datum values[10];
	bool nulls[10] = {false};

	values[0] = DateADTGetDatum(findings->day);
	values[1] = CStringGetTextDatum(status(findings));
	values[2] = Int64GetDatum(findings->rows);
	nulls[2] = !findings->sealed;
	values[3] = Int64GetDatum(findings->changed);
	values[4] = Int64GetDatum(findings->removed);
	values[5] = Int64GetDatum(findings->added);
	values[6] = Int64GetDatum(findings->late);
	values[7] = Int64GetDatum(findings->expired);
	if (findings->ntouched > 0)
		values[8] = PointerGetDatum(construct_array(findings->touched, findings->ntouched, UUIDOID,
													UUID_LEN, false, TYPALIGN_CHAR));
	else
		nulls[8] = true;
	if (findings->last != NULL)
	{
		char hex[2 * DASHIE_DIGEST_LENGTH];

		hex_encode((const char *) findings->last->digest, DASHIE_DIGEST_LENGTH, hex);
		values[9] = PointerGetDatum(cstring_to_text_with_len(hex, sizeof(hex)));
	}
	else
		nulls[9] = true;
	dashie_rows_put(verification->result, values, nulls);
}

/* What one seal knows of its day. */
static void
read_known(Verification *verification, int i, DayFindings *findings, AuditEntries *known)
{
	const AuditSeal *seal = &verification->seals[i];
	int before = known->count;
	uint8 content[DASHIE_DIGEST_LENGTH];

	findings->last = seal;
	findings->sealed = true;
	findings->rows += seal->row_count;
	if (seal->late)
		findings->late += seal->row_count;
	if (verification->broken[i])
		findings->broken = true;
	if (!seal->has_entries)
	{
		/* retention had removed all of them */
		if (seal->day < verification->expired)
			findings->expired += seal->row_count;
		else
			findings->broken = true;
		return;
	}
	dashie_become(verification->guard, verification->seals_owner);
	if (!dashie_audit_seal_entries(seal->number, known, content) ||
		known->count - before != seal->row_count ||
		memcmp(content, seal->content, DASHIE_DIGEST_LENGTH) != 0)
		findings->broken = true;
}

static void
verify_day(Verification *verification, DateADT day)
{
	DayFindings findings = {.day = day};
	AuditEntries known = {0};
	AuditEntries rows = {0};

	for (int i = 0; i < verification->nseals; i++)
		if (verification->seals[i].day == day)
			read_known(verification, i, &findings, &known);
	dashie_audit_sort(&known);

	/* a day between others that has no seal had one */
	if (!findings.sealed && day > verification->first && day < verification->last)
		findings.broken = true;

	dashie_become(verification->guard, verification->events_owner);
	dashie_audit_read(verification->events, verification->snapshot, dashie_audit_day_start(day),
					  dashie_audit_day_start(day + 1), &rows);
	/* a day that is yet to be sealed is no finding; one before all seals is */
	if (findings.sealed || day < verification->first)
		compare(verification, &findings, &known, &rows);
	put_findings(verification, &findings);
}

/*
 * Rows that are older than the first seal were not there when it was written.
 * Only days that have such rows are looked at: there may be centuries.
 */
static void
verify_before_first(Verification *verification, DateADT from, DateADT to)
{
	TimestampTz created;

	while (from <= to)
	{
		bool found;

		dashie_become(verification->guard, verification->events_owner);
		found = dashie_audit_first_row(verification->events, verification->snapshot,
									   dashie_audit_day_start(from), &created);
		if (!found || dashie_audit_day_of(created) > to)
			return;
		verify_day(verification, dashie_audit_day_of(created));
		from = dashie_audit_day_of(created) + 1;
	}
}

static void
verify_days(Verification *verification, DateADT from, DateADT to)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "dashie verified day", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);

	verify_before_first(verification, from, Min(to, verification->first - 1));
	for (DateADT day = Max(from, verification->first); day <= to; day++)
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(context);
		verify_day(verification, day);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

static Relation
open_as_owner(Verification *verification, Oid relid, Oid *owner)
{
	Relation rel;

	LockRelationOid(relid, AccessShareLock);
	dashie_become_owner_of(verification->guard, relid);
	*owner = GetUserId();
	rel = dashie_audit_open_events(relid);
	return rel;
}

static DateADT
day_argument(const char *name, NullableDatum argument, DateADT otherwise)
{
	return argument.isnull ? otherwise : dashie_day_argument(name, argument);
}

Datum
dashie_verify_audit(PG_FUNCTION_ARGS)
{
	DateADT from = day_argument("from", DASHIE_ARG(0), DASHIE_MIN_DAY);
	DateADT to = day_argument("to", DASHIE_ARG(1), DASHIE_MAX_DAY);
	DashieGuard guard;
	DashieRows rows;
	Verification verification = {.guard = &guard, .result = &rows};
	Oid seals_relid;
	Relation seals;

	if (from > to)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"from\" (%s) must not be after \"to\" (%s)", dashie_day_text(from),
							   dashie_day_text(to))));
	dashie_rows_begin(fcinfo, &rows);
	dashie_enter(&guard);
	verification.events =
		open_as_owner(&verification, dashie_enabled_oid_required("stripe_webhook_events"),
					  &verification.events_owner);
	seals_relid = dashie_relation_oid("dashie", "audit_seal");
	if (!OidIsValid(seals_relid))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"dashie.audit_seal\" does not exist"),
						errhint("Run SELECT dashie.enable('stripe_webhook_events').")));
	seals = open_as_owner(&verification, seals_relid, &verification.seals_owner);

	verification.seals = dashie_audit_seals(&verification.nseals);
	/* after the seals: a row that a seal knows is in it */
	verification.snapshot = RegisterSnapshot(GetLatestSnapshot());
	verification.expired = dashie_audit_day_of(dashie_stripe_deletable_before());
	check_chain(&verification);
	if (verification.nseals > 0)
	{
		verification.first = verification.last = verification.seals[0].day;
		for (int i = 1; i < verification.nseals; i++)
		{
			verification.first = Min(verification.first, verification.seals[i].day);
			verification.last = Max(verification.last, verification.seals[i].day);
		}
		/* today is not over */
		to = Min(to, Max(dashie_audit_day_of(dashie_now()) - 1, verification.last));
		verify_days(&verification, from, to);
	}

	UnregisterSnapshot(verification.snapshot);
	relation_close(seals, NoLock);
	relation_close(verification.events, NoLock);
	dashie_leave(&guard);
	return (Datum) 0;
}
