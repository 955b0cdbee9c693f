/*
 * life.c
 *		The subscriptions of a user, as dashie.stripe_subscription keeps them;
 *		and telling a life again when an event comes late.
 *
 * Runs while the user's profile is locked (profile.c), so nobody else works on
 * the same rows.  The table runs as its owner, the history of events as the
 * owner of stripe_webhook_events.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "billing/stripe.h"
#include "common/day.h"
#include "common/query.h"
#include "common/relation.h"

#define COLUMNS 19

/* dashie.stripe_subscription, in the order in which it is read and written. */
#define COLUMN_LIST                                                                              \
	"subscription_id, customer_id, user_id, status, tier, price, max_dashboards, max_calendars," \
	" subscription_created, first_event, current_period_end, trial_end, cancel_at_period_end,"   \
	" watermark, watermark_rank, watermark_event, tier_since, tier_before, updated_at"

static const Oid column_types[COLUMNS] = {
	TEXTOID,		TEXTOID,		UUIDOID, TEXTOID,		 TEXTOID,
	TEXTOID,		INT4OID,		INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID,
	TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID, TIMESTAMPTZOID, INT2OID,
	TEXTOID,		TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID};

/* The table as its owner; where it is missing, enable() has to make it again. */
static void
open_table(const DashieGuard *guard)
{
	Oid relid = dashie_relation_oid("dashie", "stripe_subscription");

	if (!OidIsValid(relid))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"dashie.stripe_subscription\" does not exist"),
						errhint("Run SELECT dashie.enable('stripe_webhook_events').")));
	LockRelationOid(relid, RowExclusiveLock);
	dashie_become_owner_of(guard, relid);
	relation_close(dashie_relation_open(relid, NoLock, ACL_SELECT | ACL_INSERT | ACL_UPDATE, false),
				   NoLock);
}

static int64
field_seconds(uint64 row, int column)
{
	bool isnull;
	Datum value = dashie_field(row, column, &isnull);

	return isnull || TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(value))
			   ? 0
			   : STRIPE_SECONDS(DatumGetTimestampTz(value));
}

static int
field_int(uint64 row, int column)
{
	bool isnull;
	Datum value = dashie_field(row, column, &isnull);

	return isnull ? -1 : DatumGetInt32(value);
}

static void
read_row(StripeLife *life, uint64 row)
{
	StripeSubscription *sub = stripe_life_add(life, dashie_field_text(row, 1));
	bool isnull;
	Datum value;
	char *before;

	sub->changed = false;
	sub->customer = dashie_field_text(row, 2);
	sub->status = stripe_status(dashie_field_text(row, 4));
	sub->grant.tier = dashie_field_text(row, 5);
	sub->grant.price = dashie_field_text(row, 6);
	sub->grant.max_dashboards = field_int(row, 7);
	sub->grant.max_calendars = field_int(row, 8);
	sub->created = field_seconds(row, 9);
	sub->first_event = field_seconds(row, 10);
	sub->period_end = field_seconds(row, 11);
	sub->trial_end = field_seconds(row, 12);
	value = dashie_field(row, 13, &isnull);
	sub->cancel_at_period_end = isnull ? -1 : DatumGetBool(value);
	sub->watermark = field_seconds(row, 14);
	value = dashie_field(row, 15, &isnull);
	sub->rank = isnull ? 0 : DatumGetInt16(value);
	sub->event = dashie_field_text(row, 16);
	sub->tier_since = field_seconds(row, 17);
	before = dashie_field_text(row, 18);
	if (before != NULL)
		life->tier_before = before;
}

/*
 * What the profile says of a subscription that no event has spoken of yet, as
 * before dashie came, counts until one does.
 */
static void
add_from_profile(const StripeProfile *profile, StripeLife *life)
{
	StripeSubscription *sub;

	if (profile->subscription == NULL || profile->subscription[0] == '\0' ||
		stripe_life_find(life, profile->subscription) != NULL)
		return;
	sub = stripe_life_add(life, profile->subscription);
	sub->customer = profile->customer;
	sub->status = stripe_status(profile->status);
	if (profile->tier != NULL && stripe_tier_known(profile->tier))
	{
		sub->grant.tier = profile->tier;
		sub->grant.max_dashboards = profile->max_dashboards;
		sub->grant.max_calendars = profile->max_calendars;
	}
}

/* stripe_life_load reads what is known of a user's subscriptions. */
void
stripe_life_load(const DashieGuard *guard, const StripeProfile *profile, StripeLife *life)
{
	Oid types[1] = {UUIDOID};
	Datum values[1] = {UUIDPGetDatum(&profile->user)};
	MemoryContext memory = CurrentMemoryContext;
	uint64 nrows;
	Oid user;
	int context;

	stripe_life_init(life);
	GetUserIdAndSecContext(&user, &context);
	open_table(guard);
	dashie_query_begin();
	nrows = dashie_query_planned("SELECT " COLUMN_LIST " FROM ONLY dashie.stripe_subscription"
								 " WHERE user_id = $1",
								 1, types, values, NULL);
	if (nrows > 0)
		dashie_query_types(COLUMNS, column_types);
	memory = MemoryContextSwitchTo(memory);
	for (uint64 row = 0; row < nrows; row++)
		read_row(life, row);
	MemoryContextSwitchTo(memory);
	dashie_query_end();
	SetUserIdAndSecContext(user, context);

	add_from_profile(profile, life);
	stripe_life_choose(life);
	life->tier = profile->tier;
	if (life->tier_before == NULL)
		life->tier_before = profile->tier;
	if (life->current >= 0)
	{
		const StripeSubscription *current = &life->subs[life->current];

		if (life->tier == NULL)
			life->tier = current->grant.tier;
		life->tier_since = current->tier_since;
	}
}

/* The customers of a life, and of the event; as a text array, and their number. */
static Datum
customers_of(const StripeLife *life, const StripeEvent *event, int *ncustomers)
{
	Datum *elements = palloc((life->nsubs + 1) * sizeof(Datum));

	*ncustomers = 0;
	for (int i = 0; i < life->nsubs; i++)
		if (life->subs[i].customer != NULL)
			elements[(*ncustomers)++] = CStringGetTextDatum(life->subs[i].customer);
	if (event->customer != NULL)
		elements[(*ncustomers)++] = CStringGetTextDatum(event->customer);
	return PointerGetDatum(
		construct_array(elements, *ncustomers, TEXTOID, -1, false, TYPALIGN_INT));
}

/* A stored event, and the tier that it led to when it was applied. */
typedef struct Stored
{
	Jsonb *body;
	char *new_tier;
} Stored;

/*
 * read_history returns the events of these customers that were dealt with and
 * may have a place in the life.
 */
static Stored *
read_history(const DashieGuard *guard, Oid events, const StripeProfile *profile, Datum customers,
			 int *nstored)
{
	static const Oid columns[] = {JSONBOID, TEXTOID};
	Oid types[2] = {TEXTARRAYOID, UUIDOID};
	Datum values[2] = {customers, UUIDPGetDatum(&profile->user)};
	MemoryContext context = CurrentMemoryContext;
	Stored *stored;
	Oid user;
	int user_context;

	GetUserIdAndSecContext(&user, &user_context);
	dashie_become_owner_of(guard, events);
	dashie_query_begin();
	*nstored = (int) dashie_query_planned(
		psprintf("SELECT event_data, new_tier FROM ONLY %s WHERE customer_id = ANY ($1)"
				 " AND " STRIPE_STATUS_IN "('processed', 'skipped')"
				 " AND (event_type LIKE 'customer.subscription.%%'"
				 " OR event_type = 'customer.deleted')"
				 " AND coalesce(user_id, $2) = $2",
				 dashie_relation_name(events)),
		2, types, values, NULL);
	stored = MemoryContextAlloc(context, Max(*nstored, 1) * sizeof(Stored));
	if (*nstored > 0)
		dashie_query_types(lengthof(columns), columns);
	for (int i = 0; i < *nstored; i++)
	{
		MemoryContext spi = MemoryContextSwitchTo(context);

		stored[i].body = DatumGetJsonbPCopy(dashie_field(i, 1, NULL));
		MemoryContextSwitchTo(spi);
		stored[i].new_tier = dashie_field_text(i, 2);
	}
	dashie_query_end();
	SetUserIdAndSecContext(user, user_context);
	return stored;
}

/*
 * What an event of the history granted.  A price that nobody knows any more
 * bought what it bought then.
 */
static bool
find_past_grant(StripeLife *life, StripeEvent *event, const char *new_tier)
{
	const StripeSubscription *sub = stripe_life_find(life, event->subscription);

	if (stripe_find_grant(event, &event->grant))
		return true;
	if (event->nprices == 0 || new_tier == NULL || !stripe_tier_known(new_tier))
		return false;
	for (int i = 0; sub != NULL && sub->grant.price != NULL && i < event->nprices; i++)
		if (strcmp(sub->grant.price, event->prices[i].id) == 0)
		{
			event->grant = sub->grant;
			return true;
		}
	event->grant.tier = pstrdup(new_tier);
	event->grant.price = event->prices[0].id;
	event->grant.max_dashboards = stripe_tier_dashboards(new_tier);
	return true;
}

/* Whether an event of the history has a place in a life; then its grant is found. */
static bool
belongs(StripeLife *life, StripeEvent *event, const char *new_tier)
{
	if (event->known == NULL || event->object == NULL || !stripe_is_wanted(event))
		return false;
	if (event->known->kind == STRIPE_CUSTOMER_GONE)
		return event->customer != NULL;
	if (event->known->kind != STRIPE_SUBSCRIPTION || event->subscription == NULL)
		return false;
	stripe_complete_status(event);
	return event->status != NULL &&
		   (!event->status->grants || find_past_grant(life, event, new_tier));
}

static bool
happened_to(const StripeSubscription *sub, StripeEvent **events, int nevents)
{
	for (int i = 0; i < nevents; i++)
		if (events[i]->known->kind == STRIPE_SUBSCRIPTION &&
			strcmp(events[i]->subscription, sub->id) == 0)
			return true;
	return false;
}

/*
 * stripe_life_retell puts a late event in its place: it replaces the life by
 * one that is told from its beginning, from the stored events and this one.
 * Subscriptions of which no event is stored stay as they are.
 */
void
stripe_life_retell(const DashieGuard *guard, Oid events_table, const StripeProfile *profile,
				   StripeEvent *late, StripeLife *life)
{
	StripeLife told;
	StripeEvent **events;
	Stored *stored = NULL;
	int nstored = 0;
	int nevents = 0;
	int ncustomers;
	Datum customers = customers_of(life, late, &ncustomers);

	if (ncustomers > 0)
		stored = read_history(guard, events_table, profile, customers, &nstored);
	events = palloc((nstored + 1) * sizeof(StripeEvent *));
	events[nevents++] = late;
	for (int i = 0; i < nstored; i++)
	{
		StripeEvent *event = palloc(sizeof(StripeEvent));

		CHECK_FOR_INTERRUPTS();
		stripe_event_read(stored[i].body, event);
		if (strcmp(event->id, late->id) != 0 && belongs(life, event, stored[i].new_tier))
			events[nevents++] = event;
	}
	stripe_order(events, nevents);

	stripe_life_init(&told);
	for (int i = 0; i < life->nsubs; i++)
		if (!happened_to(&life->subs[i], events, nevents))
		{
			StripeSubscription *sub = stripe_life_add(&told, life->subs[i].id);

			*sub = life->subs[i];
		}
	told.tier = told.tier_before = life->tier_before;
	if (told.tier == NULL)
		told.tier = life->tier;
	for (int i = 0; i < nevents; i++)
		(void) stripe_life_apply(&told, events[i]);
	stripe_life_choose(&told);
	*life = told;
}

static Datum
seconds_datum(int64 seconds, char *null)
{
	*null = seconds == 0 ? 'n' : ' ';
	return TimestampTzGetDatum(STRIPE_TIMESTAMP(seconds));
}

static Datum
text_datum(const char *text, char *null)
{
	*null = text == NULL ? 'n' : ' ';
	return text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

static Datum
int_datum(int value, char *null)
{
	*null = value < 0 ? 'n' : ' ';
	return Int32GetDatum(value);
}

static void
write_row(const StripeProfile *profile, const StripeLife *life, const StripeSubscription *sub)
{
	Datum values[COLUMNS];
	char nulls[COLUMNS];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = CStringGetTextDatum(sub->id);
	values[1] = text_datum(sub->customer, &nulls[1]);
	values[2] = UUIDPGetDatum(&profile->user);
	values[3] = text_datum(sub->status != NULL ? sub->status->name : NULL, &nulls[3]);
	values[4] = text_datum(sub->grant.tier, &nulls[4]);
	values[5] = text_datum(sub->grant.price, &nulls[5]);
	values[6] = int_datum(sub->grant.max_dashboards, &nulls[6]);
	values[7] = int_datum(sub->grant.max_calendars, &nulls[7]);
	values[8] = seconds_datum(sub->created, &nulls[8]);
	values[9] = seconds_datum(sub->first_event, &nulls[9]);
	values[10] = seconds_datum(sub->period_end, &nulls[10]);
	values[11] = seconds_datum(sub->trial_end, &nulls[11]);
	values[12] = BoolGetDatum(sub->cancel_at_period_end > 0);
	nulls[12] = sub->cancel_at_period_end < 0 ? 'n' : ' ';
	values[13] = seconds_datum(sub->watermark, &nulls[13]);
	values[14] = Int16GetDatum(sub->rank);
	nulls[14] = sub->watermark == 0 ? 'n' : ' ';
	values[15] = text_datum(sub->event, &nulls[15]);
	values[16] = seconds_datum(sub->tier_since, &nulls[16]);
	values[17] = text_datum(life->tier_before, &nulls[17]);
	values[18] = TimestampTzGetDatum(dashie_now());

	if (dashie_query_planned(
			"INSERT INTO dashie.stripe_subscription AS s (" COLUMN_LIST ")"
			" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,"
			" $18, $19)"
			" ON CONFLICT (subscription_id) DO UPDATE SET customer_id = excluded.customer_id,"
			" user_id = excluded.user_id, status = excluded.status, tier = excluded.tier,"
			" price = excluded.price, max_dashboards = excluded.max_dashboards,"
			" max_calendars = excluded.max_calendars,"
			" subscription_created = excluded.subscription_created,"
			" first_event = excluded.first_event,"
			" current_period_end = excluded.current_period_end, trial_end = excluded.trial_end,"
			" cancel_at_period_end = excluded.cancel_at_period_end,"
			" watermark = excluded.watermark, watermark_rank = excluded.watermark_rank,"
			" watermark_event = excluded.watermark_event, tier_since = excluded.tier_since,"
			" updated_at = excluded.updated_at"
			" WHERE s.user_id IS NULL OR s.user_id = excluded.user_id",
			COLUMNS, column_types, values, nulls) == 0)
		ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
						errmsg("subscription \"%s\" belongs to another user", sub->id)));
}

/* stripe_life_store writes the rows that differ from what was read. */
void
stripe_life_store(const DashieGuard *guard, const StripeProfile *profile, StripeLife *life)
{
	Oid user;
	int context;
	bool changed = false;

	if (life->current >= 0 && life->subs[life->current].tier_since != life->tier_since)
	{
		life->subs[life->current].tier_since = life->tier_since;
		life->subs[life->current].changed = true;
	}
	for (int i = 0; i < life->nsubs; i++)
		changed |= life->subs[i].changed;
	if (!changed)
		return;

	GetUserIdAndSecContext(&user, &context);
	open_table(guard);
	dashie_query_begin();
	for (int i = 0; i < life->nsubs; i++)
		if (life->subs[i].changed)
			write_row(profile, life, &life->subs[i]);
	dashie_query_end();
	SetUserIdAndSecContext(user, context);
}
