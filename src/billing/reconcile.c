/*
 * reconcile.c
 *		Compares profiles with what Stripe says: dashie.stripe_reconcile().
 *
 * Called by the extension's owner or a role with its rights, with a list of
 * subscriptions as Stripe's API returns it.  Each becomes an event that says
 * how the subscription stands, and goes the way of all events
 * (dashie.stripe_ingest()): so a repair does what the event would have done that
 * was missed, and is in the audit trail like it.  The subscriptions of one
 * customer are taken in together, in a subtransaction; what differs afterwards
 * in the profile is the answer.  Without repair, and where nothing differs, the
 * subtransaction is rolled back.
 *
 * Locks are those of events that are ingested.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "billing/stripe.h"
#include "common/day.h"
#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_stripe_reconcile);

/* A subscription of the list. */
typedef struct Listed
{
	Jsonb *body; /* the event made of it */
	StripeEvent event;
} Listed;

typedef struct Reconciling
{
	const DashieGuard *guard;
	DashieRows *result;
	bool repair;
	TimestampTz as_of;
	bool complete; /* nothing follows the list */
	int nlisted;
	Listed *listed; /* sorted by customer */
} Reconciling;

/* What came of the subscriptions of one customer. */
typedef struct Answer
{
	const Listed *listed; /* the first of them */
	const char *problem;  /* NULL: none */
	bool has_user;
	pg_uuid_t user;
	char *customer;
	char *subscription;
	Jsonb *differences;
	bool repaired;
	char *message;
} Answer;

static void
put_answer(Reconciling *reconciling, const Answer *answer)
{
	Datum values[7] = {0};
	bool nulls[7] = {false};

	if (!(nulls[0] = !answer->has_user))
		values[0] = UUIDPGetDatum(&answer->user);
	if (!(nulls[1] = answer->customer == NULL))
		values[1] = CStringGetTextDatum(answer->customer);
	if (!(nulls[2] = answer->subscription == NULL))
		values[2] = CStringGetTextDatum(answer->subscription);
	values[3] = CStringGetTextDatum(answer->problem);
	if (!(nulls[4] = answer->differences == NULL))
		values[4] = JsonbPGetDatum(answer->differences);
	values[5] = BoolGetDatum(answer->repaired);
	if (!(nulls[6] = answer->message == NULL))
		values[6] = CStringGetTextDatum(answer->message);
	dashie_rows_put(reconciling->result, values, nulls);
}

static void
bad_item(int item, const char *problem)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("item %d of argument \"subscriptions\" is no subscription", item),
					errdetail_internal("%s", problem)));
}

static char *
get_text(JsonbContainer *container, const char *key)
{
	JsonbValue value;

	if (getKeyJsonValueFromContainer(container, key, strlen(key), &value) == NULL ||
		value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

static bool
get_bool(JsonbContainer *container, const char *key)
{
	JsonbValue value;

	return getKeyJsonValueFromContainer(container, key, strlen(key), &value) != NULL &&
		   value.type == jbvBool && value.val.boolean;
}

static void
push_text(JsonbParseState **state, const char *key, char *text)
{
	JsonbValue value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, key);
	value.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &value);
	if (text == NULL)
		return;
	value.val.string.val = text;
	value.val.string.len = strlen(text);
	pushJsonbValue(state, WJB_VALUE, &value);
}

/* The event that says how a subscription stands. */
static Jsonb *
make_event(JsonbValue *subscription, char *id, TimestampTz as_of)
{
	JsonbContainer *container = subscription->val.binary.data;
	char *status = get_text(container, "status");
	bool ended = status != NULL &&
				 (strcmp(status, "canceled") == 0 || strcmp(status, "incomplete_expired") == 0);
	int64 created = STRIPE_SECONDS(as_of);
	JsonbParseState *state = NULL;
	JsonbValue value;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_text(&state, "id", psprintf("evt_reconcile_%s_" INT64_FORMAT, id, created));
	push_text(&state, "object", "event");
	push_text(&state, "type",
			  ended ? "customer.subscription.deleted" : "customer.subscription.updated");
	push_text(&state, "created", NULL);
	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(created);
	pushJsonbValue(&state, WJB_VALUE, &value);
	push_text(&state, "livemode", NULL);
	value.type = jbvBool;
	value.val.boolean = get_bool(container, "livemode");
	pushJsonbValue(&state, WJB_VALUE, &value);
	/* not Stripe's own: whoever reads the audit trail is to see it */
	push_text(&state, "source", "dashie.stripe_reconcile");
	push_text(&state, "data", NULL);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_text(&state, "object", NULL);
	pushJsonbValue(&state, WJB_VALUE, subscription);
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static int
compare_listed(const void *a, const void *b)
{
	const Listed *left = a;
	const Listed *right = b;
	int result;

	if (left->event.customer == NULL || right->event.customer == NULL)
		result = (right->event.customer != NULL) - (left->event.customer != NULL);
	else
		result = strcmp(left->event.customer, right->event.customer);
	return result != 0 ? result : strcmp(left->event.subscription, right->event.subscription);
}

/* Reads the list: an array, or an object of Stripe's with the array in "data". */
static void
read_list(Reconciling *reconciling, Jsonb *list)
{
	JsonbContainer *items = &list->root;
	JsonbValue data;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	int item = 0;

	reconciling->complete = true;
	if (JB_ROOT_IS_OBJECT(list))
	{
		if (getKeyJsonValueFromContainer(&list->root, "data", 4, &data) == NULL ||
			data.type != jbvBinary || !JsonContainerIsArray(data.val.binary.data))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"subscriptions\" is no list of Stripe's"),
					 errdetail("It must be an array of subscriptions, or an object that has one "
							   "as \"data\".")));
		reconciling->complete = !get_bool(&list->root, "has_more");
		items = data.val.binary.data;
	}
	else if (!JB_ROOT_IS_ARRAY(list) || JB_ROOT_IS_SCALAR(list))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"subscriptions\" is no list of Stripe's"),
						errdetail("It must be an array of subscriptions, or an object that has one "
								  "as \"data\".")));

	reconciling->listed = palloc0((JsonContainerSize(items) + 1) * sizeof(Listed));
	iterator = JsonbIteratorInit(items);
	while ((token = JsonbIteratorNext(&iterator, &data, true)) != WJB_DONE)
	{
		Listed *listed;
		char *object;
		char *id;

		if (token != WJB_ELEM)
			continue;
		CHECK_FOR_INTERRUPTS();
		if (data.type != jbvBinary || !JsonContainerIsObject(data.val.binary.data))
			bad_item(item, "It is not an object.");
		object = get_text(data.val.binary.data, "object");
		id = get_text(data.val.binary.data, "id");
		if (object == NULL || strcmp(object, "subscription") != 0)
			bad_item(item, "Its \"object\" is not \"subscription\".");
		if (id == NULL || id[0] == '\0' || strlen(id) > 200)
			bad_item(item, "It has no \"id\".");
		listed = &reconciling->listed[reconciling->nlisted++];
		listed->body = make_event(&data, id, reconciling->as_of);
		stripe_event_read(listed->body, &listed->event);
		if (listed->event.subscription == NULL)
			bad_item(item, "It cannot be read.");
		item++;
	}
	qsort(reconciling->listed, reconciling->nlisted, sizeof(Listed), compare_listed);
}

/* Adds a field of the profile to the differences, if it differs. */
static bool
differ(JsonbParseState **state, const char *field, const char *is, const char *should_be)
{
	const char *sides[] = {is, should_be};

	if (is == NULL ? should_be == NULL : should_be != NULL && strcmp(is, should_be) == 0)
		return false;
	push_text(state, field, NULL);
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < lengthof(sides); i++)
	{
		JsonbValue null = {.type = jbvNull};

		push_text(state, i == 0 ? "is" : "should_be", unconstify(char *, sides[i]));
		if (sides[i] == NULL)
			pushJsonbValue(state, WJB_VALUE, &null);
	}
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
	return true;
}

static const char *
number_text(int number)
{
	return number < 0 ? NULL : psprintf("%d", number);
}

static Jsonb *
profile_differences(const StripeProfile *before, const StripeProfile *after)
{
	JsonbParseState *state = NULL;
	bool any = false;
	JsonbValue *object;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	any |= differ(&state, "stripe_customer_id", before->customer, after->customer);
	any |= differ(&state, "stripe_subscription_id", before->subscription, after->subscription);
	any |= differ(&state, "tier", before->tier, after->tier);
	any |= differ(&state, "subscription_status", before->status, after->status);
	any |= differ(&state, "max_dashboards", number_text(before->max_dashboards),
				  number_text(after->max_dashboards));
	any |= differ(&state, "max_calendars", number_text(before->max_calendars),
				  number_text(after->max_calendars));
	any |= differ(&state, "tier_expires_at", before->expires ? "set" : NULL,
				  after->expires ? "set" : NULL);
	object = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return any ? JsonbValueToJsonb(object) : NULL;
}

/* Why an event is not applied; read as the owner of the events. */
static char *
error_message(const DashieGuard *guard, Datum id)
{
	Oid events = dashie_enabled_oid_required("stripe_webhook_events");
	Oid types[1] = {UUIDOID};
	Oid user;
	int context;
	char *message;

	GetUserIdAndSecContext(&user, &context);
	LockRelationOid(events, AccessShareLock);
	dashie_become_owner_of(guard, events);
	relation_close(dashie_relation_open(events, NoLock, ACL_SELECT, false), NoLock);
	dashie_query_begin();
	message = dashie_query(psprintf("SELECT e.error_message FROM ONLY %s AS e WHERE e.id = $1",
									dashie_relation_name(events)),
						   1, types, &id, NULL) > 0
				  ? dashie_field_text(0, 1)
				  : NULL;
	dashie_query_end();
	SetUserIdAndSecContext(user, context);
	return message;
}

/* Takes an event in; its status, and why it failed. */
static char *
ingest(const DashieGuard *guard, const Listed *listed, char **message)
{
	Oid types[1] = {JSONBOID};
	Datum values[1] = {JsonbPGetDatum(listed->body)};
	pg_uuid_t id;
	char *status;

	dashie_query_begin();
	dashie_query("SELECT i.status, i.id FROM dashie.stripe_ingest(event => $1) AS i", 1, types,
				 values, NULL);
	status = dashie_field_text(0, 1);
	id = *DatumGetUUIDP(dashie_field(0, 2, NULL));
	dashie_query_end();
	*message = error_message(guard, UUIDPGetDatum(&id));
	return status;
}

/* Takes in the subscriptions of one customer, and says what came of it. */
static void
take_in(Reconciling *reconciling, int first, int count, Answer *answer)
{
	StripeProfile before;
	StripeProfile after;
	StripeFound found = stripe_find_profile(reconciling->guard, &reconciling->listed[first].event,
											false, false, &before);

	answer->has_user = found == STRIPE_USER;
	if (found == STRIPE_USER)
		answer->user = before.user;
	for (int i = first; i < first + count; i++)
	{
		const StripeEvent *event = &reconciling->listed[i].event;
		char *message;
		char *status;

		CHECK_FOR_INTERRUPTS();
		if (found == STRIPE_USER_GONE)
		{
			/* nobody uses it, and somebody pays for it */
			if (event->status != NULL &&
				(event->status->grants || strcmp(event->status->name, "past_due") == 0))
			{
				answer->problem = "user deleted";
				answer->subscription = event->subscription;
			}
			continue;
		}
		status = ingest(reconciling->guard, &reconciling->listed[i], &message);
		if (strcmp(status, "pending") == 0)
			answer->problem = "unknown user";
		else if (strcmp(status, "failed") == 0 || strcmp(status, "dead") == 0)
			answer->problem = "failed";
		else
			continue;
		answer->subscription = event->subscription;
		answer->message = message;
	}
	if (found != STRIPE_USER || !before.exists)
		return;

	(void) stripe_find_profile(reconciling->guard, &reconciling->listed[first].event, false, false,
							   &after);
	answer->differences = profile_differences(&before, &after);
	if (answer->differences == NULL)
		return;
	if (answer->problem == NULL)
		answer->problem = "differs";
	answer->subscription = after.subscription;
	answer->repaired = reconciling->repair;
}

/* A subtransaction around take_in(), kept if it repaired something. */
static void
reconcile_customer(Reconciling *reconciling, int first, int count)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	const StripeEvent *event = &reconciling->listed[first].event;
	Answer answer = {.listed = &reconciling->listed[first]};

	answer.customer = event->customer;
	answer.subscription = event->subscription;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(old);
	PG_TRY();
	{
		take_in(reconciling, first, count, &answer);
		if (answer.repaired)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(old);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
			ReThrowError(error);
		answer.problem = "failed";
		answer.message = error->message;
		answer.differences = NULL;
		answer.repaired = false;
	}
	PG_END_TRY();
	if (answer.problem != NULL)
		put_answer(reconciling, &answer);
}

/* Profiles that are paid by a subscription that a complete list does not have. */
static void
report_unlisted(Reconciling *reconciling)
{
	static const DashieColumn columns[] = {{"auth_user_id", UUIDOID, true, 0},
										   {"tier", TEXTOID, true, 0},
										   {"subscription_status", TEXTOID, true, 0},
										   {"stripe_customer_id", TEXTOID, true, 0},
										   {"stripe_subscription_id", TEXTOID, true, 0}};
	Oid profiles = dashie_relation_oid("public", "user_profiles");
	Oid types[1] = {TEXTARRAYOID};
	Datum values[1];
	Datum *ids = palloc((reconciling->nlisted + 1) * sizeof(Datum));
	Oid user;
	int context;
	uint64 count;

	if (!reconciling->complete || !OidIsValid(profiles))
		return;
	for (int i = 0; i < lengthof(columns); i++)
	{
		AttrNumber attnum = get_attnum(profiles, columns[i].name);

		if (attnum == InvalidAttrNumber || get_atttype(profiles, attnum) != columns[i].type)
			return;
	}
	for (int i = 0; i < reconciling->nlisted; i++)
		ids[i] = CStringGetTextDatum(reconciling->listed[i].event.subscription);
	values[0] = PointerGetDatum(
		construct_array(ids, reconciling->nlisted, TEXTOID, -1, false, TYPALIGN_INT));

	GetUserIdAndSecContext(&user, &context);
	LockRelationOid(profiles, AccessShareLock);
	dashie_become_owner_of(reconciling->guard, profiles);
	relation_close(dashie_relation_open(profiles, NoLock, ACL_SELECT, false), NoLock);
	dashie_query_begin();
	count = dashie_query(
		psprintf("SELECT p.auth_user_id, p.stripe_customer_id, p.stripe_subscription_id"
				 " FROM ONLY %s AS p WHERE p.tier IN ('basic', 'pro')"
				 " AND (p.subscription_status IS NULL OR p.subscription_status <> 'canceled')"
				 " AND p.stripe_subscription_id IS NOT NULL"
				 " AND NOT EXISTS (SELECT FROM unnest($1) AS l (id)"
				 " WHERE l.id = p.stripe_subscription_id) ORDER BY 3",
				 dashie_relation_name(profiles)),
		1, types, values, NULL);
	for (uint64 i = 0; i < count; i++)
	{
		Answer answer = {.problem = "not listed", .has_user = true};

		answer.user = *DatumGetUUIDP(dashie_field(i, 1, NULL));
		answer.customer = dashie_field_text(i, 2);
		answer.subscription = dashie_field_text(i, 3);
		put_answer(reconciling, &answer);
	}
	dashie_query_end();
	SetUserIdAndSecContext(user, context);
}

/* SQL: dashie.stripe_reconcile(subscriptions jsonb, repair boolean, as_of timestamptz) */
Datum
dashie_stripe_reconcile(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	DashieRows rows;
	Reconciling reconciling = {.guard = &guard, .result = &rows};

	dashie_reject_null(fcinfo, 0, "subscriptions");
	dashie_reject_null(fcinfo, 1, "repair");
	reconciling.repair = PG_GETARG_BOOL(1);
	reconciling.as_of = PG_ARGISNULL(2) ? dashie_now() : PG_GETARG_TIMESTAMPTZ(2);
	if (TIMESTAMP_NOT_FINITE(reconciling.as_of) || reconciling.as_of > dashie_now())
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"as_of\" must not be in the future: %s",
							   timestamptz_to_str(reconciling.as_of))));

	dashie_rows_begin(fcinfo, &rows);
	dashie_enter(&guard);
	(void) dashie_enabled_oid_required("stripe_webhook_events");
	read_list(&reconciling, PG_GETARG_JSONB_P(0));
	for (int first = 0, count; first < reconciling.nlisted; first += count)
	{
		const char *customer = reconciling.listed[first].event.customer;

		count = 1;
		while (customer != NULL && first + count < reconciling.nlisted &&
			   reconciling.listed[first + count].event.customer != NULL &&
			   strcmp(reconciling.listed[first + count].event.customer, customer) == 0)
			count++;
		reconcile_customer(&reconciling, first, count);
	}
	report_unlisted(&reconciling);
	dashie_leave(&guard);
	return (Datum) 0;
}
