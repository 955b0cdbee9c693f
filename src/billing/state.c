/*
 * state.c
 *		The state machine of subscriptions: what each event does to the
 *		subscriptions of a user, and what the user's profile shows of them.
 *
 * Pure: no database, no clock.  Everything that depends on the kind of an
 * event or on a subscription's status stands in the two tables below.
 *
 * A life is told by applying its events in order: by Stripe's "created", then
 * by rank, then as order.c finds.  What the profile shows is a function of the
 * set of subscriptions and not of the way they came about, so an event that
 * comes late only has to be put in its place (life.c).
 */
#include "postgres.h"

#include "billing/stripe.h"

/*
 * Types of events.  The first that fits counts; what is not here is skipped.
 * Events of the same second: created < trial_will_end < others < deleted.
 */
static const StripeEventType event_types[] = {
	/* type									kind				  rank */
	{"customer.subscription.created", STRIPE_SUBSCRIPTION, 0},
	{"customer.subscription.trial_will_end", STRIPE_SUBSCRIPTION, 1},
	{"customer.subscription.updated", STRIPE_SUBSCRIPTION, 2},
	{"customer.subscription.paused", STRIPE_SUBSCRIPTION, 2},
	{"customer.subscription.resumed", STRIPE_SUBSCRIPTION, 2},
	{"customer.subscription.pending_update_applied", STRIPE_SUBSCRIPTION, 2},
	{"customer.subscription.pending_update_expired", STRIPE_SUBSCRIPTION, 2},
	{"customer.subscription.deleted", STRIPE_SUBSCRIPTION, 3},
	{"customer.deleted", STRIPE_CUSTOMER_GONE, 4},
	{"checkout.session.completed", STRIPE_LINK, 2},
	{"invoice.*", STRIPE_AUDIT, 2},
	{"charge.dispute.created", STRIPE_FRAUD, 2},
	{"radar.early_fraud_warning.created", STRIPE_FRAUD, 2},
};

/*
 * Status of a subscription.  "standing" decides which of several subscriptions
 * a profile shows; an ended one that never granted anything stands lowest.
 */
enum
{
	ENDED = 0,
	ENDED_AFTER_GRANT,
	BEGUN,
	SUSPENDED,
	ENTITLED
};

static const StripeStatus statuses[] = {
	/* status		sets tier  stored	final	standing */
	{"active", true, true, false, ENTITLED},		  {"trialing", true, true, false, ENTITLED},
	{"past_due", false, true, false, ENTITLED},		  {"unpaid", false, true, false, SUSPENDED},
	{"paused", false, true, false, SUSPENDED},		  {"incomplete", false, false, false, BEGUN},
	{"incomplete_expired", false, true, true, ENDED}, {"canceled", false, true, true, ENDED},
};

/* The tiers, from low to high, and the dashboards that come with those that are sold. */
static const struct
{
	const char *name;
	int max_dashboards; /* -1: not limited here */
} tiers[] = {{"trial", 1}, {"beta", -1}, {"basic", 1}, {"pro", 3}};

const StripeEventType *
stripe_event_type(const char *name)
{
	for (int i = 0; i < lengthof(event_types); i++)
	{
		size_t len = strlen(event_types[i].name);

		if (event_types[i].name[len - 1] == '*' ? strncmp(name, event_types[i].name, len - 1) == 0
												: strcmp(name, event_types[i].name) == 0)
			return &event_types[i];
	}
	return NULL;
}

const StripeStatus *
stripe_status(const char *name)
{
	for (int i = 0; name != NULL && i < lengthof(statuses); i++)
		if (strcmp(name, statuses[i].name) == 0)
			return &statuses[i];
	return NULL;
}

/* stripe_tier_order returns a tier's place among the tiers; -1 for what is none. */
int
stripe_tier_order(const char *tier)
{
	for (int i = 0; i < lengthof(tiers); i++)
		if (strcmp(tier, tiers[i].name) == 0)
			return i;
	return -1;
}

bool
stripe_tier_known(const char *tier)
{
	return stripe_tier_order(tier) >= 0;
}

int
stripe_tier_dashboards(const char *tier)
{
	int i = stripe_tier_order(tier);

	return i < 0 ? -1 : tiers[i].max_dashboards;
}

void
stripe_life_init(StripeLife *life)
{
	memset(life, 0, sizeof(*life));
	life->current = life->shown = -1;
}

StripeSubscription *
stripe_life_find(StripeLife *life, const char *subscription)
{
	for (int i = 0; i < life->nsubs; i++)
		if (strcmp(life->subs[i].id, subscription) == 0)
			return &life->subs[i];
	return NULL;
}

StripeSubscription *
stripe_life_add(StripeLife *life, const char *subscription)
{
	StripeSubscription *sub;

	if (life->nsubs == life->capacity)
	{
		life->capacity = Max(life->capacity * 2, 4);
		life->subs = life->subs == NULL
						 ? palloc(life->capacity * sizeof(StripeSubscription))
						 : repalloc(life->subs, life->capacity * sizeof(StripeSubscription));
	}
	sub = &life->subs[life->nsubs++];
	memset(sub, 0, sizeof(*sub));
	sub->id = pstrdup(subscription);
	sub->grant.max_dashboards = sub->grant.max_calendars = -1;
	sub->cancel_at_period_end = -1;
	sub->changed = true;
	return sub;
}

static int
standing(const StripeSubscription *sub)
{
	if (sub->status == NULL)
		return BEGUN;
	if (sub->status->standing == ENDED && sub->grant.tier != NULL)
		return ENDED_AFTER_GRANT;
	return sub->status->standing;
}

static int
compare_int64(int64 a, int64 b)
{
	return a < b ? -1 : a > b ? 1 : 0;
}

/* Positive: the profile shows a rather than b. */
static int
compare_subscriptions(const StripeSubscription *a, const StripeSubscription *b)
{
	int result = standing(a) - standing(b);

	/* of those that have ended the one that lasted longest, else the newest */
	if (result == 0 && a->status != NULL && a->status->final && b->status != NULL &&
		b->status->final)
		result = compare_int64(a->watermark, b->watermark);
	if (result == 0)
		result = compare_int64(a->created != 0 ? a->created : a->first_event,
							   b->created != 0 ? b->created : b->first_event);
	if (result == 0)
		result = compare_int64(a->first_event, b->first_event);
	return result != 0 ? result : strcmp(a->id, b->id);
}

/*
 * stripe_life_choose finds the subscription that the profile names, and the one
 * whose status it shows: one that is not paid for the first time yet does not
 * hide how another ended.
 */
void
stripe_life_choose(StripeLife *life)
{
	life->current = life->shown = -1;
	for (int i = 0; i < life->nsubs; i++)
	{
		const StripeSubscription *sub = &life->subs[i];

		if (life->current < 0 || compare_subscriptions(sub, &life->subs[life->current]) > 0)
			life->current = i;
		if (sub->status != NULL && sub->status->stored &&
			(life->shown < 0 || compare_subscriptions(sub, &life->subs[life->shown]) > 0))
			life->shown = i;
	}
}

static void
set_tier(StripeLife *life, const StripeGrant *grant, int64 since)
{
	life->granted = true;
	life->grant = *grant;
	if (life->tier != NULL && strcmp(life->tier, grant->tier) == 0)
		return;
	life->tier = grant->tier;
	life->tier_since = since;
}

/* Whether anything that is known of the user's subscriptions happened at or after the event. */
bool
stripe_life_is_late(const StripeLife *life, const StripeEvent *event)
{
	bool first = true;

	for (int i = 0; i < life->nsubs; i++)
	{
		const StripeSubscription *sub = &life->subs[i];

		if (sub->watermark == 0)
			continue;
		first = false;
		if (sub->watermark > event->created ||
			(sub->watermark == event->created && sub->rank >= event->known->rank))
			return true;
	}
	/* before the first event, what is stored may hold the end of the customer */
	return first;
}

static void
move_watermark(StripeSubscription *sub, const StripeEvent *event)
{
	sub->watermark = event->created;
	sub->rank = event->known->rank;
	sub->event = event->id;
	if (sub->first_event == 0 || event->created < sub->first_event)
		sub->first_event = event->created;
	sub->changed = true;
}

/* The new state of a subscription; false if it had ended. */
static bool
apply_subscription(StripeLife *life, const StripeEvent *event)
{
	StripeSubscription *sub = stripe_life_find(life, event->subscription);

	if (sub == NULL)
		sub = stripe_life_add(life, event->subscription);
	if (sub->status != NULL && sub->status->final && sub->watermark != 0)
	{
		/* also what comes after the end tells when it began */
		if (event->created < sub->first_event)
			sub->first_event = event->created;
		return false;
	}
	move_watermark(sub, event);
	sub->status = event->status;
	if (event->customer != NULL)
		sub->customer = event->customer;
	if (event->subscription_created != 0)
		sub->created = event->subscription_created;
	if (event->period_end != 0)
		sub->period_end = event->period_end;
	if (event->trial_end != 0)
		sub->trial_end = event->trial_end;
	sub->cancel_at_period_end = event->cancel_at_period_end;
	if (event->status->grants)
		sub->grant = event->grant;
	return true;
}

static bool
apply_link(StripeLife *life, const StripeEvent *event)
{
	StripeSubscription *sub;

	if (event->subscription == NULL)
		return true;
	sub = stripe_life_find(life, event->subscription);
	if (sub == NULL)
		sub = stripe_life_add(life, event->subscription);
	if (sub->customer == NULL && event->customer != NULL)
	{
		sub->customer = event->customer;
		sub->changed = true;
	}
	return true;
}

static bool
apply_customer_gone(StripeLife *life, const StripeEvent *event)
{
	for (int i = 0; i < life->nsubs; i++)
	{
		StripeSubscription *sub = &life->subs[i];

		if (sub->customer == NULL || strcmp(sub->customer, event->customer) != 0 ||
			(sub->status != NULL && sub->status->final))
			continue;
		sub->status = stripe_status("canceled");
		move_watermark(sub, event);
	}
	return true;
}

/*
 * stripe_life_apply applies an event that comes after all that were applied
 * before; false if it changes nothing because its subscription has ended.
 */
bool
stripe_life_apply(StripeLife *life, const StripeEvent *event)
{
	const StripeSubscription *current;
	char *shown;
	bool done;

	stripe_life_choose(life);
	shown = life->current >= 0 ? life->subs[life->current].id : NULL;

	switch (event->known->kind)
	{
		case STRIPE_SUBSCRIPTION:
			done = apply_subscription(life, event);
			break;
		case STRIPE_LINK:
			done = apply_link(life, event);
			break;
		case STRIPE_CUSTOMER_GONE:
			done = apply_customer_gone(life, event);
			break;
		default:
			return false;
	}

	stripe_life_choose(life);
	if (life->current < 0)
		return done;
	current = &life->subs[life->current];
	if (current->grant.tier == NULL)
		return done;
	if (done && event->known->kind == STRIPE_SUBSCRIPTION && event->status->grants &&
		strcmp(event->subscription, current->id) == 0)
		set_tier(life, &current->grant, event->created);
	/* another one takes over, with what it granted before */
	else if ((shown == NULL || strcmp(shown, current->id) != 0) && standing(current) >= SUSPENDED)
		set_tier(life, &current->grant, event->created);
	return done;
}
