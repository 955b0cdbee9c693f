/*
 * payload.c
 *		Reads what an event of Stripe says, whatever API version sent it.
 *
 * Pure.  What the versions in use differ in:
 *	 current_period_end		on the subscription; on its items since 2025-03-31
 *	 price					an item's "price"; "plan" before 2020
 *	 an invoice's subscription	"subscription"; under "parent" since 2025-03-31
 *	 customer, charge, ...	an id, or the object where the endpoint expands it
 *
 * Only what makes an event an event must be there.  Anything else that is
 * missing or of another type than expected counts as absent; whether it can be
 * done without is for whoever applies the event.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "billing/stripe.h"
#include "common/compat.h"

#define MAX_NAME 255 /* bytes of an id or a type */

/* What an endpoint's clock may be behind Stripe's; test clocks run years ahead. */
#define MAX_AHEAD (24 * 60 * 60)
#define MAX_AHEAD_TEST (10 * INT64CONST(366) * 24 * 60 * 60)

static bool
get(JsonbContainer *container, const char *key, JsonbValue *value)
{
	return container != NULL && JsonContainerIsObject(container) &&
		   getKeyJsonValueFromContainer(container, key, strlen(key), value) != NULL;
}

static JsonbContainer *
get_container(JsonbContainer *container, const char *key)
{
	JsonbValue value;

	return get(container, key, &value) && value.type == jbvBinary ? value.val.binary.data : NULL;
}

static JsonbContainer *
get_object(JsonbContainer *container, const char *key)
{
	JsonbContainer *result = get_container(container, key);

	return result != NULL && JsonContainerIsObject(result) ? result : NULL;
}

static char *
value_text(const JsonbValue *value)
{
	if (value->type != jbvString || value->val.string.len == 0)
		return NULL;
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static char *
get_text(JsonbContainer *container, const char *key)
{
	JsonbValue value;

	return get(container, key, &value) ? value_text(&value) : NULL;
}

/* An id that stands there by itself, or as the id of the whole object. */
static char *
get_id(JsonbContainer *container, const char *key)
{
	JsonbValue value;
	char *id;

	if (!get(container, key, &value))
		return NULL;
	id = value.type == jbvBinary ? get_text(value.val.binary.data, "id") : value_text(&value);
	return id != NULL && strlen(id) <= MAX_NAME ? id : NULL;
}

static bool
get_bool(JsonbContainer *container, const char *key)
{
	JsonbValue value;

	return get(container, key, &value) && value.type == jbvBool && value.val.boolean;
}

/* A whole number of seconds that a timestamp can hold; false for anything else. */
static bool
value_seconds(const JsonbValue *value, int64 *seconds)
{
	char *text;

	if (value->type != jbvNumeric)
		return false;
	text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
	if (strlen(text) > 12 || strspn(text, "0123456789") != strlen(text))
		return false;
	*seconds = strtoll(text, NULL, 10);
	return *seconds <= INT64CONST(253402300799); /* 9999-12-31 23:59:59 */
}

static int64
get_seconds(JsonbContainer *container, const char *key)
{
	JsonbValue value;
	int64 seconds;

	return get(container, key, &value) && value_seconds(&value, &seconds) ? seconds : 0;
}

static bool
parse_uuid(const char *text, pg_uuid_t *uuid)
{
	int nibbles = 0;

	/* the form that Stripe's metadata hold; uuid_in() knows no soft errors everywhere */
	if (strlen(text) != 36)
		return false;
	for (int i = 0; i < 36; i++)
	{
		char c = text[i];
		int value;

		if (i == 8 || i == 13 || i == 18 || i == 23)
		{
			if (c != '-')
				return false;
			continue;
		}
		if (c >= '0' && c <= '9')
			value = c - '0';
		else if (c >= 'a' && c <= 'f')
			value = c - 'a' + 10;
		else if (c >= 'A' && c <= 'F')
			value = c - 'A' + 10;
		else
			return false;
		if (nibbles % 2 == 0)
			uuid->data[nibbles / 2] = value << 4;
		else
			uuid->data[nibbles / 2] |= value;
		nibbles++;
	}
	return true;
}

/* What is no UUID names nobody: other systems put their own ids there. */
static void
add_user(StripeEvent *event, const char *text)
{
	if (text != NULL && event->nusers < STRIPE_MAX_USERS &&
		parse_uuid(text, &event->users[event->nusers]))
		event->nusers++;
}

static void
add_metadata_user(StripeEvent *event, JsonbContainer *container)
{
	add_user(event, get_text(get_object(container, "metadata"), "user_id"));
}

static void
add_price(StripeEvent *event, JsonbContainer *item)
{
	StripePrice *price = &event->prices[event->nprices];
	JsonbContainer *container;

	price->id = get_id(item, "price");
	if (price->id == NULL)
		price->id = get_id(item, "plan");
	if (price->id == NULL || get_bool(item, "deleted"))
		return;
	container = get_object(item, "price");
	if (container == NULL)
		container = get_object(item, "plan");
	price->lookup_key = get_text(container, "lookup_key");
	price->tier = get_text(get_object(container, "metadata"), "tier");
	event->nprices++;
}

/* stripe_read_subscription reads a subscription, as an event or the API has it. */
void
stripe_read_subscription(JsonbContainer *object, StripeEvent *event)
{
	JsonbContainer *items = get_container(get_object(object, "items"), "data");
	int nitems = items != NULL && JsonContainerIsArray(items) ? JsonContainerSize(items) : 0;

	event->subscription = get_id(object, "id");
	event->customer = get_id(object, "customer");
	event->status_text = get_text(object, "status");
	event->status = stripe_status(event->status_text);
	event->subscription_created = get_seconds(object, "created");
	event->period_end = get_seconds(object, "current_period_end");
	event->trial_end = get_seconds(object, "trial_end");
	event->cancel_at_period_end = get_bool(object, "cancel_at_period_end");
	event->nprices = 0;
	event->prices = palloc0((nitems + 1) * sizeof(StripePrice));

	for (int i = 0; i < nitems; i++)
	{
		JsonbValue *item = getIthJsonbValueFromContainer(items, i);
		int64 end;

		if (item == NULL || item->type != jbvBinary ||
			!JsonContainerIsObject(item->val.binary.data))
			continue;
		add_price(event, item->val.binary.data);
		/* items may be billed in different periods: paid until the last of them */
		end = get_seconds(item->val.binary.data, "current_period_end");
		event->period_end = Max(event->period_end, end);
	}
	/* before there were items */
	if (event->nprices == 0)
		add_price(event, object);
}

static void
read_invoice(StripeEvent *event)
{
	JsonbContainer *details =
		get_object(get_object(event->object, "parent"), "subscription_details");

	event->subscription = get_id(event->object, "subscription");
	if (event->subscription == NULL)
		event->subscription = get_id(details, "subscription");
	add_metadata_user(event, details);
	add_metadata_user(event, get_object(event->object, "subscription_details"));
}

/*
 * The payment that an object belongs to: its charge, else its payment intent.
 * A dispute and a warning name it, and the events of the charge say whose it is.
 */
static void
read_payment(StripeEvent *event, const char *class)
{
	event->intent = get_id(event->object, "payment_intent");
	event->payment = get_id(event->object, "charge");
	if (strcmp(class, "charge") == 0)
		event->payment = event->object_id;
	if (strcmp(class, "payment_intent") == 0)
	{
		event->intent = event->object_id;
		event->payment = get_id(event->object, "latest_charge");
	}
	if (event->payment == NULL)
		event->payment = event->intent;
	/* an expanded charge tells its customer */
	if (event->customer == NULL)
		event->customer = get_id(get_object(event->object, "charge"), "customer");
	if (event->customer == NULL)
		event->customer = get_id(get_object(event->object, "payment_intent"), "customer");
}

static void
read_object(StripeEvent *event)
{
	char *class = get_text(event->object, "object");

	event->object_id = get_id(event->object, "id");
	if (class == NULL)
		class = "";
	event->customer = get_id(event->object, "customer");
	add_user(event, event->known != NULL && event->known->kind == STRIPE_LINK
						? get_text(event->object, "client_reference_id")
						: NULL);
	add_metadata_user(event, event->object);

	if (event->known != NULL && event->known->kind == STRIPE_SUBSCRIPTION)
	{
		stripe_read_subscription(event->object, event);
		return;
	}
	if (event->known != NULL && event->known->kind == STRIPE_CUSTOMER_GONE)
	{
		event->customer = event->object_id;
		return;
	}
	if (event->known != NULL && event->known->kind == STRIPE_LINK)
	{
		event->mode = get_text(event->object, "mode");
		event->subscription = get_id(event->object, "subscription");
		return;
	}
	if (event->known != NULL && event->known->kind == STRIPE_FRAUD)
	{
		event->fraud_type = get_text(event->object, "reason");
		if (event->fraud_type == NULL)
			event->fraud_type = get_text(event->object, "fraud_type");
	}
	if (strcmp(class, "invoice") == 0)
		read_invoice(event);
	else if (strcmp(class, "customer") == 0 && event->customer == NULL)
		event->customer = event->object_id;
	else
		event->subscription = get_id(event->object, "subscription");
	if (strcmp(class, "charge") == 0 || strcmp(class, "payment_intent") == 0 ||
		strcmp(class, "invoice") == 0 || strcmp(class, "dispute") == 0 ||
		strcmp(class, "radar.early_fraud_warning") == 0)
		read_payment(event, class);
}

static void
reject(const char *what, const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", what),
					detail != NULL ? errdetail_internal("%s", detail) : 0));
}

static char *
required_text(JsonbContainer *root, const char *key)
{
	JsonbValue value;
	char *text = get(root, key, &value) ? value_text(&value) : NULL;

	if (text == NULL)
		reject(psprintf("event has no \"%s\"", key), NULL);
	if (strlen(text) > MAX_NAME)
		reject(psprintf("\"%s\" of the event is too long", key),
			   psprintf("It has %zu bytes; %d are allowed.", strlen(text), MAX_NAME));
	return text;
}

/* stripe_event_read reads an event; what is not one is 22023. */
void
stripe_event_read(Jsonb *body, StripeEvent *event)
{
	JsonbContainer *root = &body->root;
	JsonbValue value;
	char *class;

	memset(event, 0, sizeof(*event));
	event->grant.max_dashboards = event->grant.max_calendars = -1;
	event->body = body;
	if (!JB_ROOT_IS_OBJECT(body))
		reject("event is not a JSON object",
			   JB_ROOT_IS_SCALAR(body) ? "It is a single value." : "It is an array.");
	class = get_text(root, "object");
	if (class != NULL && strcmp(class, "event") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"object\" of the event is \"%s\", not \"event\"",
							   pnstrdup(class, pg_mbcliplen(class, strlen(class), 64))),
						strncmp(class, "v2.", 3) == 0
							? errdetail("A thin event does not hold the object that it is about.")
							: 0,
						errhint("Let the endpoint receive snapshot events.")));
	event->id = required_text(root, "id");
	event->type = required_text(root, "type");
	if (!get(root, "created", &value))
		reject("event has no \"created\"", NULL);
	if (!value_seconds(&value, &event->created))
		reject(psprintf("\"created\" of event \"%s\" is not a time", event->id),
			   "It must be a whole number of seconds since 1970.");
	if (get(root, "livemode", &value) && value.type == jbvBool)
	{
		event->has_livemode = true;
		event->livemode = value.val.boolean;
	}

	event->known = stripe_event_type(event->type);
	event->object = get_object(get_object(root, "data"), "object");
	event->previous = get_object(get_object(root, "data"), "previous_attributes");
	if (event->object != NULL)
		read_object(event);
}

/*
 * stripe_check_created refuses an event from the future: as the latest of all
 * it would make every later one stale.
 */
void
stripe_check_created(const StripeEvent *event, TimestampTz now)
{
	int64 ahead = event->has_livemode && !event->livemode ? MAX_AHEAD_TEST : MAX_AHEAD;

	if (STRIPE_TIMESTAMP(event->created) > now + ahead * USECS_PER_SEC)
		reject(psprintf("\"created\" of event \"%s\" lies in the future: %s", event->id,
						timestamptz_to_str(STRIPE_TIMESTAMP(event->created))),
			   NULL);
}

/*
 * stripe_same_body compares two deliveries of an event.  The number of
 * endpoints that wait for it is Stripe's bookkeeping, and changes with each.
 */
bool
stripe_same_body(Jsonb *a, Jsonb *b)
{
	Datum key = CStringGetTextDatum("pending_webhooks");
	Datum left;
	Datum right;

	if (compareJsonbContainers(&a->root, &b->root) == 0)
		return true;
	if (!JB_ROOT_IS_OBJECT(a) || !JB_ROOT_IS_OBJECT(b))
		return false;
	left = DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(a), key);
	right = DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(b), key);
	return compareJsonbContainers(&DatumGetJsonbP(left)->root, &DatumGetJsonbP(right)->root) == 0;
}
