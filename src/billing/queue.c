/*
 * queue.c
 *		Events that wait: dashie.stripe_process_pending(), the job of that name,
 *		dashie.stripe_replay(), and the dead letters.
 *
 * The queue is stripe_webhook_events itself: events that are pending or failed
 * and due.  Workers share it with SKIP LOCKED.  A batch holds the profiles of
 * many users until it commits, so it never waits for one: an event whose
 * profile is taken stays where it is.  Rows of the queue that an application
 * inserted by hand are taken like others.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "billing/stripe.h"
#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "common/setting.h"
#include "jobs/job.h"
#include "partition/partition.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_stripe_process_pending);
PG_FUNCTION_INFO_V1(dashie_stripe_replay);
PG_FUNCTION_INFO_V1(dashie_stripe_dead_letters_list);

/* One step of the job, short enough to hold its profiles. */
#define STEP_BATCH 100

#define MAX_BATCH 10000

static int64
created_of(const StripeRow *row)
{
	JsonbValue value;

	if (!JB_ROOT_IS_OBJECT(row->body) ||
		getKeyJsonValueFromContainer(&row->body->root, "created", strlen("created"), &value) ==
			NULL ||
		value.type != jbvNumeric)
		return 0;
	return (int64) DatumGetFloat8(
		DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(value.val.numeric)));
}

/* In Stripe's order few events come late. */
static int
compare_rows(const void *a, const void *b)
{
	int64 left = created_of(a);
	int64 right = created_of(b);

	return left < right ? -1 : left > right ? 1 : 0;
}

/* A batch; the number of events that were dealt with. */
static int
process_batch(const DashieGuard *guard, Oid events, int limit)
{
	MemoryContext batch_context =
		AllocSetContextCreate(CurrentMemoryContext, "dashie stripe batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext event_context =
		AllocSetContextCreate(batch_context, "dashie stripe event", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(batch_context);
	StripeRow *rows;
	int nrows = stripe_rows_due(guard, events, NULL, limit, &rows);
	int done = 0;

	qsort(rows, nrows, sizeof(StripeRow), compare_rows);
	MemoryContextSwitchTo(event_context);
	for (int i = 0; i < nrows; i++)
	{
		StripeOutcome outcome;

		CHECK_FOR_INTERRUPTS();
		if (stripe_attempt_row(guard, events, &rows[i], true, &outcome))
		{
			done++;
			stripe_follow_link(guard, events, &outcome);
		}
		MemoryContextReset(event_context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(batch_context);
	return done;
}

/* SQL: dashie.stripe_process_pending(batch int) */
Datum
dashie_stripe_process_pending(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	int32 batch;
	int done;

	dashie_reject_null(fcinfo, 0, "batch");
	batch = PG_GETARG_INT32(0);
	if (batch < 1 || batch > MAX_BATCH)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"batch\" must be from 1 to %d: %d", MAX_BATCH, batch)));
	dashie_enter(&guard);
	done = process_batch(&guard, stripe_events_open(), batch);
	dashie_leave(&guard);
	PG_RETURN_INT32(done);
}

/* SQL: dashie.stripe_replay(id uuid) */
Datum
dashie_stripe_replay(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	pg_uuid_t *id;
	Oid events;
	StripeRow row = {0};
	const char *status;

	dashie_reject_null(fcinfo, 0, "id");
	id = PG_GETARG_UUID_P(0);
	dashie_enter(&guard);
	events = stripe_events_open();
	if (!stripe_row_get(&guard, events, id, &row))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("no event has the id %s",
							   DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id))))));
	status = row.status;
	if (status == NULL || strcmp(status, "processed") != 0)
	{
		StripeOutcome outcome;

		/* a person looked at it: it has all its attempts again */
		row.retry_count = 0;
		(void) stripe_attempt_row(&guard, events, &row, false, &outcome);
		stripe_follow_link(&guard, events, &outcome);
		status = outcome.status;
	}
	dashie_leave(&guard);
	PG_RETURN_TEXT_P(cstring_to_text(status));
}

/* The rows of view dashie.stripe_dead_letters; none where the table is not enabled. */
Datum
dashie_stripe_dead_letters_list(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {UUIDOID, TEXTOID, TEXTOID, UUIDOID,
								TEXTOID, TEXTOID, INT4OID, TIMESTAMPTZOID};
	DashieRows rows;
	DashieGuard guard;
	Oid events;
	uint64 nrows;

	dashie_rows_begin(fcinfo, &rows);
	dashie_enter(&guard);
	if (OidIsValid(dashie_enabled_oid("stripe_webhook_events")))
	{
		events = stripe_events_open();
		dashie_become_owner_of(&guard, events);
		dashie_query_begin();
		nrows = dashie_query(psprintf("SELECT id, stripe_event_id, event_type, user_id,"
									  " customer_id, error_message, retry_count, created_at"
									  " FROM ONLY %s WHERE processing_status = 'dead'",
									  dashie_relation_name(events)),
							 0, NULL, NULL, NULL);
		if (nrows > 0)
			dashie_query_types(lengthof(types), types);
		for (uint64 i = 0; i < nrows; i++)
		{
			Datum values[lengthof(types)];
			bool nulls[lengthof(types)];

			for (int column = 0; column < lengthof(types); column++)
				values[column] = dashie_field(i, column + 1, &nulls[column]);
			dashie_rows_put(&rows, values, nulls);
		}
		dashie_query_end();
	}
	dashie_leave(&guard);
	return (Datum) 0;
}

/* A step of the job, as dashie_attempt() wants it. */
typedef struct QueueStep
{
	const DashieGuard *guard;
	int done;
} QueueStep;

static void
process_in_time(void *arg)
{
	QueueStep *work = arg;
	int nest = NewGUCNestLevel();

	dashie_lock_timeout((int) dashie_setting_int("maintenance_lock_timeout_ms"));
	work->done = process_batch(work->guard, stripe_events_open(), STEP_BATCH);
	AtEOXact_GUC(true, nest);
}

/* dashie_stripe_step deals with one batch of the queue. */
bool
dashie_stripe_step(JobStep *step)
{
	QueueStep work = {.guard = step->guard};
	LockNeed need = {InvalidOid, RowExclusiveLock};
	ErrorData *error;

	need.relid = dashie_enabled_oid("stripe_webhook_events");
	if (!OidIsValid(need.relid))
		return false;
	error = dashie_attempt(process_in_time, &work);
	if (error != NULL)
	{
		if (!dashie_is_blocked(error))
			ReThrowError(error);
		step->blocked = true;
		step->blocker = dashie_lock_holders(&need, 1);
		return true;
	}
	step->rows = work.done;
	return work.done >= STEP_BATCH;
}
