/*
 * ingest.c
 *		dashie.stripe_ingest(): what the endpoint calls with each event.
 *
 * SECURITY DEFINER, of the extension's owner: whoever may execute it needs no
 * rights on the tables, so that the role of an endpoint can be given this and
 * nothing else.
 *
 * Exactly once: an event is applied and its row inserted in one subtransaction,
 * and the unique key on stripe_event_id decides between several deliveries.
 * Who loses has changed nothing, and finds the row of who won.  The call fails
 * only for what is no event or is not signed; what goes wrong while an event is
 * applied is recorded in its row, and the endpoint can answer that it has it.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/toast_compression.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "billing/stripe.h"
#include "common/day.h"
#include "common/query.h"
#include "common/rows.h"

PG_FUNCTION_INFO_V1(dashie_stripe_ingest_signed);
PG_FUNCTION_INFO_V1(dashie_stripe_ingest);

/* Larger than any event; what is larger is refused before it is looked at. */
#define MAX_PAYLOAD (8 * 1024 * 1024)

#define MAX_TRIES 10

#define TOLERANCE (5 * USECS_PER_MINUTE)

typedef struct Insertion
{
	const DashieGuard *guard;
	Oid events;
	const StripeEvent *event;
	StripeRow *row;
} Insertion;

static bool
insert(const StripeOutcome *outcome, void *arg)
{
	Insertion *insertion = arg;

	return stripe_row_insert(insertion->guard, insertion->events, insertion->event, outcome,
							 insertion->row);
}

/*
 * A delivery of an event that is stored already: what failed is tried again,
 * with the body that is kept.
 */
static const char *
take_duplicate(const DashieGuard *guard, Oid events, const StripeEvent *event, const StripeRow *row)
{
	StripeOutcome outcome;

	if (!stripe_same_body(row->body, event->body))
	{
		ereport(WARNING,
				(errmsg("event \"%s\" came again with another body", event->id),
				 errdetail("The first one is kept; conflicting_deliveries counts the others.")));
		stripe_row_conflict(guard, events, row);
	}
	if (row->status != NULL &&
		(strcmp(row->status, "processed") == 0 || strcmp(row->status, "skipped") == 0))
		return row->status;
	(void) stripe_attempt_row(guard, events, row, false, &outcome);
	stripe_follow_link(guard, events, &outcome);
	return outcome.status;
}

static Datum
result(FunctionCallInfo fcinfo, const pg_uuid_t *id, const char *status, bool duplicate)
{
	TupleDesc desc;
	Datum values[3];
	bool nulls[3] = {false, false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = UUIDPGetDatum(id);
	values[1] = CStringGetTextDatum(status);
	values[2] = BoolGetDatum(duplicate);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/*
 * compress_fast lets what is stored until dashie_leave() be compressed with
 * lz4, where the server has it and the column does not say otherwise: with
 * pglz that would be a third of the work of taking an event.
 */
static void
compress_fast(void)
{
#ifdef USE_LZ4
	if (default_toast_compression != TOAST_LZ4_COMPRESSION)
		(void) set_config_option("default_toast_compression", "lz4", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
#endif
}

static Datum
ingest(FunctionCallInfo fcinfo, const DashieGuard *guard, Jsonb *body)
{
	StripeEvent event;
	Oid events;

	stripe_event_read(body, &event);
	stripe_check_created(&event, dashie_now());
	events = stripe_events_open();
	compress_fast();

	/* who stored it while we tried may have rolled back: then the next try does */
	for (int tries = 0; tries < MAX_TRIES; tries++)
	{
		StripeRow row = {0};
		StripeOutcome outcome;
		Insertion insertion = {.guard = guard, .events = events, .event = &event, .row = &row};

		CHECK_FOR_INTERRUPTS();
		if (stripe_row_find(guard, events, event.id, &row))
		{
			const char *status = take_duplicate(guard, events, &event, &row);

			return result(fcinfo, &row.id, status, true);
		}
		if (stripe_attempt(guard, events, &event, false, &outcome, insert, &insertion))
		{
			stripe_follow_link(guard, events, &outcome);
			return result(fcinfo, &row.id, outcome.status, false);
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("event \"%s\" could not be stored", event.id),
			 errhint("Look for triggers of %s that keep rows out.", dashie_relation_name(events))));
}

/* The text of a payload that is signed: UTF-8, as JSON must be. */
static char *
payload_text(const bytea *payload)
{
	const char *bytes = VARDATA_ANY(payload);
	int length = VARSIZE_ANY_EXHDR(payload);
	char *text;

	if (memchr(bytes, '\0', length) != NULL || !pg_verify_mbstr(PG_UTF8, bytes, length, true))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"payload\" is not text in UTF-8"),
						errdetail("It has %d bytes.", length)));
	text = pnstrdup(bytes, length);
	return pg_any_to_server(text, length, PG_UTF8);
}

/* SQL: dashie.stripe_ingest(payload bytea, signature_header text) */
Datum
dashie_stripe_ingest_signed(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	bytea *payload;
	char *header;
	char **secrets;
	int nsecrets;
	Jsonb *body;
	Datum answer;

	dashie_reject_null(fcinfo, 0, "payload");
	dashie_reject_null(fcinfo, 1, "signature_header");
	if (toast_raw_datum_size(PG_GETARG_DATUM(0)) - VARHDRSZ > MAX_PAYLOAD)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"payload\" is too long: %zu bytes",
							   toast_raw_datum_size(PG_GETARG_DATUM(0)) - VARHDRSZ),
						errdetail("At most %d bytes are taken.", MAX_PAYLOAD)));
	payload = PG_GETARG_BYTEA_PP(0);
	header = text_to_cstring(PG_GETARG_TEXT_PP(1));

	dashie_enter(&guard);
	secrets = stripe_secrets(&nsecrets);
	if (!stripe_signature_matches(VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload), header,
								  (const char *const *) secrets, nsecrets, TOLERANCE, dashie_now()))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the signature does not match the payload"),
				 errdetail("Either it was not made with a secret that is set, or more than 5 "
						   "minutes from now, or the payload is not what was signed, byte for "
						   "byte.")));
	body = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(payload_text(payload))));
	answer = ingest(fcinfo, &guard, body);
	dashie_leave(&guard);
	return answer;
}

/* SQL: dashie.stripe_ingest(event jsonb) */
Datum
dashie_stripe_ingest(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	Datum answer;

	dashie_reject_null(fcinfo, 0, "event");
	if (toast_raw_datum_size(PG_GETARG_DATUM(0)) - VARHDRSZ > MAX_PAYLOAD)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"event\" is too long: %zu bytes",
							   toast_raw_datum_size(PG_GETARG_DATUM(0)) - VARHDRSZ),
						errdetail("At most %d bytes are taken.", MAX_PAYLOAD)));
	dashie_enter(&guard);
	answer = ingest(fcinfo, &guard, PG_GETARG_JSONB_P(0));
	dashie_leave(&guard);
	return answer;
}
