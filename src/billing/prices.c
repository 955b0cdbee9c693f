/*
 * prices.c
 *		Which tier a price buys: dashie.map_stripe_price().
 *
 * dashie.stripe_price_tier is configuration, read and written as the
 * extension's owner.  A price is looked for by its id, then by its lookup_key;
 * then its own metadata may name the tier.  A subscription with several items
 * has the highest tier of those that are known, so that an addition need not be
 * mapped.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "billing/stripe.h"
#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_map_stripe_price);

static int
field_int(int column)
{
	bool isnull;
	Datum value = dashie_field(0, column, &isnull);

	return isnull ? -1 : DatumGetInt32(value);
}

/* The row of a price or lookup key. */
static bool
find_mapping(char *price, StripeGrant *grant)
{
	static const Oid columns[] = {TEXTOID, INT4OID, INT4OID};
	Oid types[1] = {TEXTOID};
	Datum values[1];
	bool found;

	if (price == NULL)
		return false;
	values[0] = CStringGetTextDatum(price);
	dashie_query_begin();
	found = dashie_query_planned("SELECT tier, max_dashboards, max_calendars"
								 " FROM dashie.stripe_price_tier WHERE price = $1",
								 1, types, values, NULL) > 0;
	if (found)
	{
		dashie_query_types(lengthof(columns), columns);
		grant->tier = dashie_field_text(0, 1);
		grant->max_dashboards = field_int(2);
		grant->max_calendars = field_int(3);
		found = grant->tier != NULL && stripe_tier_known(grant->tier);
	}
	dashie_query_end();
	return found;
}

static bool
find_price(const StripePrice *price, StripeGrant *grant)
{
	grant->tier = NULL;
	grant->max_dashboards = grant->max_calendars = -1;
	if (!find_mapping(price->id, grant) && !find_mapping(price->lookup_key, grant))
	{
		if (price->tier == NULL || !stripe_tier_known(price->tier))
			return false;
		grant->tier = price->tier;
		grant->max_dashboards = grant->max_calendars = -1;
	}
	grant->price = price->id;
	if (grant->max_dashboards < 0)
		grant->max_dashboards = stripe_tier_dashboards(grant->tier);
	return true;
}

/* stripe_find_grant finds what a subscription's prices buy; false if none is known. */
bool
stripe_find_grant(const StripeEvent *event, StripeGrant *grant)
{
	bool found = false;

	for (int i = 0; i < event->nprices; i++)
	{
		StripeGrant candidate;

		if (find_price(&event->prices[i], &candidate) &&
			(!found || stripe_tier_order(candidate.tier) > stripe_tier_order(grant->tier)))
		{
			*grant = candidate;
			found = true;
		}
	}
	return found;
}

/*
 * retry_unknown lets events that failed for want of this price be tried again
 * at once.
 */
static void
retry_unknown(const DashieGuard *guard, const char *price)
{
	Oid events;
	Oid types[1] = {TEXTOID};
	Datum values[1] = {CStringGetTextDatum(psprintf("\"%s\"", price))};

	if (!OidIsValid(dashie_enabled_oid("stripe_webhook_events")))
		return;
	events = stripe_events_open();
	dashie_become_owner_of(guard, events);
	dashie_query_begin();
	dashie_query(psprintf("UPDATE ONLY %s SET next_attempt_at = NULL"
						  " WHERE processing_status = 'failed' AND next_attempt_at IS NOT NULL"
						  " AND error_message LIKE 'unknown price%%'"
						  " AND strpos(error_message, $1) > 0",
						  dashie_relation_name(events)),
				 1, types, values, NULL);
	dashie_query_end();
}

static void
set_limit(FunctionCallInfo fcinfo, int argno, const char *name, Datum *value, char *null)
{
	if (PG_ARGISNULL(argno))
	{
		*null = 'n';
		return;
	}
	if (PG_GETARG_INT32(argno) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be negative: %d", name, PG_GETARG_INT32(argno))));
	*value = PG_GETARG_DATUM(argno);
}

Datum
dashie_map_stripe_price(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	char *price;
	char *tier = NULL;
	Oid types[4] = {TEXTOID, TEXTOID, INT4OID, INT4OID};
	Datum values[4] = {0};
	char nulls[4] = {' ', ' ', ' ', ' '};

	dashie_reject_null(fcinfo, 0, "price");
	price = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (price[0] == '\0' || strlen(price) > 255)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid price: \"%s\"", price),
				 errdetail("It must be the id or the lookup key of a price.")));
	if (!PG_ARGISNULL(1))
		tier = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (tier != NULL && !stripe_tier_known(tier))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown tier: \"%s\"", tier),
				 errdetail("It must be basic, pro, beta or trial.")));
	values[0] = CStringGetTextDatum(price);
	set_limit(fcinfo, 2, "max_dashboards", &values[2], &nulls[2]);
	set_limit(fcinfo, 3, "max_calendars", &values[3], &nulls[3]);

	dashie_enter(&guard);
	dashie_query_begin();
	if (tier == NULL)
		dashie_query("DELETE FROM dashie.stripe_price_tier WHERE price = $1", 1, types, values,
					 NULL);
	else
	{
		values[1] = CStringGetTextDatum(tier);
		dashie_query(
			"INSERT INTO dashie.stripe_price_tier (price, tier, max_dashboards, max_calendars)"
			" VALUES ($1, $2, $3, $4) ON CONFLICT (price) DO UPDATE SET tier = excluded.tier,"
			" max_dashboards = excluded.max_dashboards, max_calendars = excluded.max_calendars",
			4, types, values, nulls);
	}
	dashie_query_end();
	if (tier != NULL)
		retry_unknown(&guard, price);
	dashie_leave(&guard);
	PG_RETURN_VOID();
}
