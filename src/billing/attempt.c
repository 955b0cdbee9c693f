/*
 * attempt.c
 *		One attempt to apply an event, in a subtransaction: what it changes and
 *		its row are stored together, or neither.
 *
 * A failure is an outcome like others: it is recorded with its message, and
 * tried again after a while, up to the setting stripe_max_attempts.  What ends
 * the whole call is passed on: a cancellation, and a serialization failure,
 * after which the caller has to repeat the transaction.
 *
 * An event whose user is not known is no failure.  It waits as long again as it
 * has waited, and is looked at at once when its customer gets a user.
 *
 * Locks: the event's row where it is stored, then those of profile.c.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "billing/stripe.h"
#include "common/day.h"
#include "common/query.h"
#include "common/setting.h"
#include "partition/partition.h"

#define LONGEST_WAIT USECS_PER_DAY
#define WAIT_GROWTH 4

/* Pending events of one customer that are looked at together. */
#define CUSTOMER_BATCH 100

typedef struct Attempt
{
	const DashieGuard *guard;
	Oid events;
	Jsonb *body; /* to be read first; NULL: "event" is read already */
	StripeEvent *event;
	bool nowait;
	StripeOutcome *outcome;
	StripeStore store;
	void *arg;
	bool taken; /* somebody else stored the event */
} Attempt;

static TimestampTz
wait_of_pending(TimestampTz created_at)
{
	int64 shortest = dashie_setting_int("stripe_retry_s") * USECS_PER_SEC;
	TimestampTz now = dashie_now();
	int64 age =
		created_at == 0 || TIMESTAMP_NOT_FINITE(created_at) ? LONGEST_WAIT : now - created_at;

	return now + Min(Max(age, shortest), LONGEST_WAIT);
}

static void
plan_next(StripeOutcome *outcome, int failures, TimestampTz created_at)
{
	int64 wait;

	outcome->retry_count = failures;
	outcome->next_attempt = 0;
	if (strcmp(outcome->status, "pending") == 0)
		outcome->next_attempt = wait_of_pending(created_at);
	if (strcmp(outcome->status, "failed") != 0)
		return;
	outcome->retry_count = failures + 1;
	if (outcome->retry_count >= dashie_setting_int("stripe_max_attempts"))
	{
		outcome->status = "dead";
		return;
	}
	wait = dashie_setting_int("stripe_retry_s") * USECS_PER_SEC;
	for (int i = 1; i < outcome->retry_count && wait < LONGEST_WAIT; i++)
		wait *= WAIT_GROWTH;
	outcome->next_attempt = dashie_now() + Min(wait, LONGEST_WAIT);
}

static void
attempt(void *arg)
{
	Attempt *attempt = arg;

	if (attempt->body != NULL)
		stripe_event_read(attempt->body, attempt->event);
	stripe_apply(attempt->guard, attempt->events, attempt->event, attempt->nowait,
				 attempt->outcome);
	if (!attempt->store(attempt->outcome, attempt->arg))
	{
		attempt->taken = true;
		ereport(ERROR, (errcode(ERRCODE_UNIQUE_VIOLATION), errmsg("the event is stored already")));
	}
}

static bool
ends_the_call(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION ||
		   error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE;
}

/* False if somebody else stored the event; then nothing was done. */
static bool
run(Attempt *work)
{
	StripeOutcome *outcome = work->outcome;
	ErrorData *error;
	bool has_user;

	memset(outcome, 0, sizeof(*outcome));
	error = dashie_attempt(attempt, work);

	if (work->taken)
		return false;
	if (error == NULL)
		return true;
	if (ends_the_call(error))
		ReThrowError(error);
	/* the row says whose event failed, unless that is what failed */
	has_user = outcome->has_user && error->sqlerrcode != ERRCODE_FOREIGN_KEY_VIOLATION;
	*outcome = (StripeOutcome){.has_user = has_user, .user = outcome->user};
	if (work->nowait && error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
	{
		outcome->locked = true;
		return true;
	}
	outcome->status = "failed";
	outcome->message = error->message;
	return work->store(outcome, work->arg);
}

/* Completes each outcome before it is stored. */
typedef struct Storing
{
	StripeStore store;
	void *arg;
	int failures;
	TimestampTz created_at;
} Storing;

static bool
plan_and_store(const StripeOutcome *outcome, void *arg)
{
	Storing *storing = arg;

	plan_next(unconstify(StripeOutcome *, outcome), storing->failures, storing->created_at);
	return storing->store(outcome, storing->arg);
}

/*
 * stripe_attempt applies a new event and stores it; false if somebody else
 * stored it meanwhile.
 */
bool
stripe_attempt(const DashieGuard *guard, Oid events, StripeEvent *event, bool nowait,
			   StripeOutcome *outcome, StripeStore store, void *arg)
{
	Storing storing = {.store = store, .arg = arg, .created_at = dashie_now()};
	Attempt work = {.guard = guard,
					.events = events,
					.event = event,
					.nowait = nowait,
					.outcome = outcome,
					.store = plan_and_store,
					.arg = &storing};

	return run(&work);
}

typedef struct Update
{
	const DashieGuard *guard;
	Oid events;
	StripeEvent *event;
	const StripeRow *row;
} Update;

static bool
update(const StripeOutcome *outcome, void *arg)
{
	Update *update = arg;

	stripe_row_update(update->guard, update->events, update->event, outcome, update->row);
	return true;
}

/*
 * stripe_attempt_row is the same for an event that is stored, and whose row is
 * locked; false if its profile is locked, with nowait.
 */
bool
stripe_attempt_row(const DashieGuard *guard, Oid events, const StripeRow *row, bool nowait,
				   StripeOutcome *outcome)
{
	StripeEvent event = {0};
	Update stored = {.guard = guard, .events = events, .event = &event, .row = row};
	Storing storing = {.store = update,
					   .arg = &stored,
					   .failures = row->retry_count,
					   .created_at = row->created_at};
	Attempt work = {.guard = guard,
					.events = events,
					.body = row->body,
					.event = &event,
					.nowait = nowait,
					.outcome = outcome,
					.store = plan_and_store,
					.arg = &storing};

	(void) run(&work);
	return !outcome->locked;
}

/*
 * stripe_follow_link looks, after an event that made a customer's user known,
 * at what came for that customer before.  Who is storing such an event held the
 * customer's lock, so that it is here by now; what somebody else has at hand is
 * left to them, who will find the user, or to the job.
 */
void
stripe_follow_link(const DashieGuard *guard, Oid events, const StripeOutcome *outcome)
{
	StripeRow *rows;
	int nrows;

	if (outcome->linked == NULL || !outcome->has_user)
		return;
	stripe_rows_give_user(guard, events, outcome->linked, &outcome->user);
	nrows = stripe_rows_due(guard, events, outcome->linked, CUSTOMER_BATCH, &rows);
	for (int i = 0; i < nrows; i++)
	{
		StripeOutcome followed;

		CHECK_FOR_INTERRUPTS();
		(void) stripe_attempt_row(guard, events, &rows[i], true, &followed);
	}
}
