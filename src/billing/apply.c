/*
 * apply.c
 *		What an event of Stripe does: finds its user, puts it in its place in the
 *		life of the user's subscriptions, and lets the profile show the result.
 *
 * Runs in a subtransaction of whoever took the event (ingest.c, queue.c).  An
 * error is what the event failed with.
 *
 * Locks: those of profile.c, then rows of dashie.stripe_subscription.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "billing/stripe.h"
#include "common/query.h"
#include "common/relation.h"
#include "common/setting.h"

/* Whether the setting stripe_livemode lets the event be applied. */
bool
stripe_is_wanted(const StripeEvent *event)
{
	char *mode;

	if (!event->has_livemode)
		return true;
	mode = dashie_setting_text("stripe_livemode");
	return strcmp(mode, "both") == 0 || strcmp(mode, event->livemode ? "live" : "test") == 0;
}

static void
skip(StripeOutcome *outcome, const char *message)
{
	outcome->status = "skipped";
	outcome->message = message != NULL ? pstrdup(message) : NULL;
}

static void
set_user(StripeOutcome *outcome, const StripeProfile *profile)
{
	outcome->has_user = true;
	outcome->user = profile->user;
}

/* What cannot be told from a payload that misses it. */
static void
require(const StripeEvent *event, const void *value, const char *what)
{
	if (value == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s has no %s", event->type, what)));
}

/* A subscription that was deleted is canceled, whatever its object says. */
void
stripe_complete_status(StripeEvent *event)
{
	if (strcmp(event->type, "customer.subscription.deleted") == 0)
		event->status = stripe_status("canceled");
}

/* Checks what an event of this kind must hold; false if it is none to apply. */
static bool
check_event(StripeEvent *event, StripeOutcome *outcome)
{
	require(event, event->object, "data.object");
	switch (event->known->kind)
	{
		case STRIPE_SUBSCRIPTION:
			require(event, event->subscription, "id of the subscription");
			stripe_complete_status(event);
			if (event->status == NULL)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("unknown status of subscription \"%s\": %s", event->subscription,
								event->status_text != NULL ? psprintf("\"%s\"", event->status_text)
														   : "none")));
			return true;
		case STRIPE_LINK:
			if (event->mode != NULL && strcmp(event->mode, "subscription") == 0)
				return true;
			skip(outcome, "not the checkout of a subscription");
			return false;
		case STRIPE_CUSTOMER_GONE:
			require(event, event->customer, "id of the customer");
			return true;
		default:
			return true;
	}
}

/*
 * find_payer takes the customer of a dispute or warning from the events of the
 * payment that it is about.
 */
static void
find_payer(const DashieGuard *guard, Oid events, StripeEvent *event)
{
	Oid types[2] = {TEXTOID, TEXTOID};
	Datum values[2];
	Oid user;
	int context;

	if (event->customer != NULL || event->payment == NULL)
		return;
	GetUserIdAndSecContext(&user, &context);
	dashie_become_owner_of(guard, events);
	values[0] = CStringGetTextDatum(event->payment);
	values[1] = CStringGetTextDatum(event->intent != NULL ? event->intent : event->payment);
	dashie_query_begin();
	if (dashie_query_planned(psprintf("SELECT customer_id::text FROM ONLY %s"
									  " WHERE payment_id IN ($1, $2) AND customer_id IS NOT NULL"
									  " LIMIT 1",
									  dashie_relation_name(events)),
							 2, types, values, NULL) > 0)
		event->customer = dashie_field_text(0, 1);
	dashie_query_end();
	SetUserIdAndSecContext(user, context);
}

static void
stay_pending(const StripeEvent *event, StripeOutcome *outcome)
{
	outcome->status = "pending";
	if (event->customer != NULL)
		outcome->message = psprintf("no user is known for customer \"%s\"", event->customer);
	else
		outcome->message = pstrdup("the event names no user and no customer");
}

/* Finds what the subscription's price buys, or fails. */
static void
require_grant(StripeEvent *event)
{
	StringInfoData prices;

	if (stripe_find_grant(event, &event->grant))
		return;
	initStringInfo(&prices);
	for (int i = 0; i < event->nprices; i++)
	{
		appendStringInfo(&prices, "%s\"%s\"", i > 0 ? ", " : "", event->prices[i].id);
		if (event->prices[i].lookup_key != NULL)
			appendStringInfo(&prices, " (lookup key \"%s\")", event->prices[i].lookup_key);
	}
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("unknown price of subscription \"%s\": %s", event->subscription,
						   prices.len > 0 ? prices.data : "none")));
}

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* Whether a late event made a difference, other than to when the tier began. */
static bool
made_difference(StripeLife *before, StripeLife *after, const StripeEvent *event)
{
	if (before->current < 0 || after->nsubs != before->nsubs ||
		strcmp(before->subs[before->current].id, after->subs[after->current].id) != 0)
		return true;
	for (int i = 0; i < after->nsubs; i++)
	{
		const StripeSubscription *sub = &after->subs[i];
		const StripeSubscription *was = stripe_life_find(before, sub->id);

		if (was == NULL || was->status != sub->status ||
			!same_text(was->grant.tier, sub->grant.tier) ||
			(same_text(sub->event, event->id) && !same_text(was->event, event->id)))
			return true;
	}
	return false;
}

/*
 * apply_to_life applies an event that changes subscriptions, while the user's
 * profile is locked.
 */
static void
apply_to_life(const DashieGuard *guard, Oid events, StripeEvent *event, StripeProfile *profile,
			  StripeOutcome *outcome)
{
	StripeLife before;
	StripeLife life;
	char *old_customer = profile->customer;

	stripe_life_load(guard, profile, &before);
	life = before;
	life.subs = palloc(Max(life.capacity, 1) * sizeof(StripeSubscription));
	if (before.nsubs > 0)
		memcpy(life.subs, before.subs, before.nsubs * sizeof(StripeSubscription));

	if (event->known->kind != STRIPE_LINK && stripe_life_is_late(&before, event))
	{
		bool different;

		stripe_life_retell(guard, events, profile, event, &life);
		different = life.current < 0 || made_difference(&before, &life, event);
		if (!different)
			skip(outcome, "stale: a later event of the subscription was applied before");
		/* a tier that somebody set by hand stays where the event changes nothing */
		life.granted = different && life.granted;
	}
	else if (!stripe_life_apply(&life, event))
		skip(outcome, "stale: the subscription has ended");

	outcome->old_tier = profile->tier;
	stripe_life_store(guard, profile, &life);
	stripe_profile_update(guard, profile, &before, &life);
	if (life.current < 0 && event->customer != NULL)
	{
		/* a customer without any subscription */
		if (event->known->kind == STRIPE_LINK && profile->customer == NULL)
			stripe_profile_set(guard, profile, event->customer, NULL);
		else if (event->known->kind == STRIPE_CUSTOMER_GONE &&
				 same_text(profile->customer, event->customer))
			stripe_profile_set(guard, profile, NULL, "canceled");
	}
	outcome->new_tier = profile->tier;
	outcome->applied = profile->exists && strcmp(outcome->status, "processed") == 0;
	if (event->customer != NULL &&
		(event->known->kind == STRIPE_LINK || !same_text(old_customer, profile->customer)))
		outcome->linked = event->customer;
}

void
stripe_apply(const DashieGuard *guard, Oid events, StripeEvent *event, bool nowait,
			 StripeOutcome *outcome)
{
	StripeKind kind = event->known != NULL ? event->known->kind : STRIPE_SKIP;
	bool lock = kind != STRIPE_SKIP && kind != STRIPE_AUDIT;
	StripeProfile profile;
	StripeFound found;

	memset(outcome, 0, sizeof(*outcome));
	outcome->status = "processed";
	if (!stripe_is_wanted(event))
	{
		skip(outcome, event->livemode ? "a live event; the setting stripe_livemode is test"
									  : "a test event; the setting stripe_livemode is live");
		return;
	}
	if (kind == STRIPE_SKIP)
		skip(outcome, NULL);
	else if (!check_event(event, outcome))
		return;

	if (kind == STRIPE_FRAUD)
		find_payer(guard, events, event);
	found = stripe_find_profile(guard, event, lock, nowait, &profile);
	if (found == STRIPE_USER)
		set_user(outcome, &profile);
	if (kind == STRIPE_SKIP)
		return;
	if (found == STRIPE_USER_GONE)
	{
		if (kind != STRIPE_AUDIT)
			skip(outcome, "the user is gone");
		return;
	}
	if (found == STRIPE_NO_USER)
	{
		stay_pending(event, outcome);
		return;
	}

	if (kind == STRIPE_AUDIT)
		return;
	if (kind == STRIPE_FRAUD)
	{
		stripe_feed_abuse(guard, event, &profile.user);
		return;
	}
	if (kind == STRIPE_SUBSCRIPTION && event->status->grants)
		require_grant(event);
	apply_to_life(guard, events, event, &profile, outcome);
}
