/*
 * proof.c
 *		What proofs of a day have in common, whatever its page is of: differences
 *		and reasons, digests, sets of users, and the verdict.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "common/query.h"
#include "metrics/verify.h"

void
proof_difference(Proof *proof, const char *name, const char *members, ...)
{
	appendStringInfo(&proof->json, "%s\"%s\": {", proof->json.len > 0 ? ", " : "", name);
	for (;;)
	{
		va_list args;
		int needed;

		va_start(args, members);
		needed = appendStringInfoVA(&proof->json, members, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&proof->json, needed);
	}
	appendStringInfoChar(&proof->json, '}');
}

bool
proof_compare(Proof *proof, const char *name, int64 page, const char *other_label, int64 other)
{
	if (page == other)
		return false;
	proof_difference(proof, name, "\"page\": " INT64_FORMAT ", \"%s\": " INT64_FORMAT, page,
					 other_label, other);
	return true;
}

void
proof_reason(Proof *proof, const char *reason)
{
	appendStringInfo(&proof->reason, "%s%s", proof->reason.len > 0 ? "; " : "", reason);
}

static char *
hex(const bytea *bytes)
{
	return TextDatumGetCString(
		DirectFunctionCall2(binary_encode, PointerGetDatum(bytes), CStringGetTextDatum("hex")));
}

/*
 * proof_bytes copies the fields of the one row of the last query, from the first
 * on; NULL for NULL.
 */
void
proof_bytes(bytea **parts, int nparts)
{
	for (int i = 0; i < nparts; i++)
	{
		bool isnull;
		Datum value = dashie_field(0, i + 1, &isnull);

		parts[i] = isnull ? NULL : DatumGetByteaPCopy(value);
	}
}

bool
proof_digest(Proof *proof, DateADT day, bytea *const *parts, int nparts, const bytea *stored)
{
	bytea *computed = NULL;
	bool complete = true;

	for (int i = 0; i < nparts; i++)
		complete &= parts[i] != NULL;
	if (complete)
		computed = page_digest(day, parts, nparts);
	if (stored != NULL && computed != NULL &&
		VARSIZE_ANY_EXHDR(stored) == VARSIZE_ANY_EXHDR(computed) &&
		memcmp(VARDATA_ANY(stored), VARDATA_ANY(computed), VARSIZE_ANY_EXHDR(computed)) == 0)
		return true;
	proof->failed = true;
	proof_difference(proof, "digest", "\"page\": %s, \"bytes\": %s",
					 stored != NULL ? psprintf("\"%s\"", hex(stored)) : "null",
					 computed != NULL ? psprintf("\"%s\"", hex(computed)) : "null");
	proof_reason(proof, "the page's bytes are not those of its digest");
	return false;
}

void
proof_differing(Proof *proof, const char *name, int64 page, int64 rows, int64 differ)
{
	if (differ == 0)
		return;
	proof_difference(proof, name,
					 "\"page\": " INT64_FORMAT ", \"rows\": " INT64_FORMAT
					 ", \"differ\": " INT64_FORMAT,
					 page, rows, differ);
	proof->failed = true;
}

int64
proof_count_differing(Proof *proof, const UserSet *page, const UserSet *rows)
{
	UserSet *differ = user_set_adopt(roaring_bitmap_xor(page, rows));
	int64 count;
	int32 *members = user_set_members(differ, proof->metrics->max_user, &count);
	int64 settled = 0;

	for (int64 i = 0; i < count; i++)
	{
		UserEntry *user = numbers_by_number(proof->metrics, members[i]);

		if (user != NULL && (user->is_new || user->changed))
			settled++;
	}
	proof->pending |= settled > 0;
	return count - settled;
}

/*
 * verdict_of calls the judge of a page whose bytes may be such as no page holds:
 * the reader's error becomes the reason.  "method" is what it would have been.
 */
void
verdict_of(Judge judge, void *verification, DateADT day, const char *method, Verdict *verdict)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner resources = CurrentResourceOwner;
	ErrorData *error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		judge(verification, day, verdict);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (error->sqlerrcode != ERRCODE_DATA_CORRUPTED)
			ReThrowError(error);
		memset(verdict, 0, sizeof(*verdict));
		verdict->method = method;
		verdict->reason = error->message;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = resources;
}

/*
 * proof_verdict concludes a proof: "pending" is the reason where no verdict can
 * be given yet, "unchanged" why there were no rows to compare with, or NULL.
 */
void
proof_verdict(Proof *proof, const char *pending, const char *unchanged, Verdict *verdict)
{
	verdict->ok = !proof->failed;
	verdict->no_verdict = !proof->failed && (proof->changed || proof->pending);
	if (verdict->no_verdict)
		proof_reason(proof, pending);
	else if (verdict->ok && unchanged != NULL)
		proof_reason(proof, unchanged);
	else if (verdict->ok && proof->departed > 0)
		proof_reason(
			proof, psprintf("equal to plain SQL; unchanged for users who left since: " INT64_FORMAT,
							proof->departed));
	else if (verdict->ok)
		proof_reason(proof, "equal to plain SQL");
	if (proof->json.len > 0)
		verdict->differences = psprintf("{%s}", proof->json.data);
	verdict->reason = proof->reason.data;
}

/* The first and the last day that have a page; the earliest day of all where none has. */
void
verify_page_days(const Metrics *metrics, const char *table, DateADT *first, DateADT *last)
{
	Oid types[] = {DATEOID, DATEOID};
	Datum values[] = {DateADTGetDatum(DASHIE_MIN_DAY), DateADTGetDatum(DASHIE_MAX_DAY)};
	bool none;

	dashie_query_begin();
	metrics_query(
		metrics,
		psprintf("SELECT min(day), max(day) FROM dashie.%s WHERE day BETWEEN $1 AND $2", table), 2,
		types, values);
	dashie_query_types(2, types);
	*first = DatumGetDateADT(dashie_field(0, 1, &none));
	*last = DatumGetDateADT(dashie_field(0, 2, &none));
	if (none)
		*first = *last = DASHIE_MIN_DAY;
	dashie_query_end();
}

enum
{
	OUT_DAY,
	OUT_OK,
	OUT_METHOD,
	OUT_DIFFERENCES,
	OUT_REASON,
	OUT_COLUMNS
};

void
verdict_put(DashieRows *rows, DateADT day, const Verdict *verdict)
{
	Datum values[OUT_COLUMNS];
	bool nulls[OUT_COLUMNS] = {false};

	values[OUT_DAY] = DateADTGetDatum(day);
	values[OUT_OK] = BoolGetDatum(verdict->ok);
	nulls[OUT_OK] = verdict->no_verdict;
	values[OUT_METHOD] = CStringGetTextDatum(verdict->method);
	nulls[OUT_DIFFERENCES] = verdict->differences == NULL;
	if (verdict->differences != NULL)
		values[OUT_DIFFERENCES] =
			DirectFunctionCall1(jsonb_in, CStringGetDatum(verdict->differences));
	values[OUT_REASON] = CStringGetTextDatum(verdict->reason);
	dashie_rows_put(rows, values, nulls);
}
