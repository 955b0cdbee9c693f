/*
 * evidence.c
 *		Disputes and early fraud warnings become evidence in abuse_patterns,
 *		where that is enabled.
 *
 * One open row a user: each further event raises its confidence to
 * 1 - product(1 - weight).  What a person found to be a false alarm is not
 * raised again.  Runs as the table's owner, while the user's profile is locked.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/uuid.h"

#include "billing/stripe.h"
#include "common/day.h"
#include "common/query.h"
#include "common/relation.h"
#include "roadmap/roadmap.h"

/* How much each proves; the first that fits counts. */
static const struct
{
	const char *event_type;
	const char *fraud_type; /* NULL: any */
	const char *weight;
} weights[] = {
	{"charge.dispute.created", "fraudulent", "0.8"},
	{"charge.dispute.created", NULL, "0.4"},
	{"radar.early_fraud_warning.created", NULL, "0.6"},
};

static const char *
weight_of(const StripeEvent *event)
{
	for (int i = 0; i < lengthof(weights); i++)
		if (strcmp(event->type, weights[i].event_type) == 0 &&
			(weights[i].fraud_type == NULL ||
			 (event->fraud_type != NULL && strcmp(event->fraud_type, weights[i].fraud_type) == 0)))
			return weights[i].weight;
	elog(ERROR, "no weight of event type \"%s\"", event->type);
}

void
stripe_feed_abuse(const DashieGuard *guard, const StripeEvent *event, const pg_uuid_t *user)
{
	Oid relid = dashie_enabled_oid("abuse_patterns");
	Oid types[3] = {UUIDOID, NUMERICOID, TIMESTAMPTZOID};
	Datum values[3];
	char *name;
	Oid saved;
	int context;

	if (!OidIsValid(relid))
		return;
	GetUserIdAndSecContext(&saved, &context);
	LockRelationOid(relid, RowExclusiveLock);
	dashie_become_owner_of(guard, relid);
	relation_close(dashie_relation_open(relid, NoLock, ACL_SELECT | ACL_INSERT | ACL_UPDATE, false),
				   NoLock);
	name = dashie_relation_name(relid);
	values[0] = UUIDPGetDatum(user);
	values[1] = DirectFunctionCall3(numeric_in, CStringGetDatum(weight_of(event)),
									ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	values[2] = TimestampTzGetDatum(dashie_now());

	dashie_query_begin();
	if (dashie_query(psprintf("SELECT FROM ONLY %s WHERE user_id = $1"
							  " AND pattern_type = 'payment_fraud'"
							  " AND action_taken = 'false_positive'",
							  name),
					 1, types, values, NULL) == 0 &&
		dashie_query(psprintf("UPDATE ONLY %s SET confidence_score ="
							  " round(1 - (1 - confidence_score) * (1 - $2), 4)"
							  " WHERE user_id = $1 AND pattern_type = 'payment_fraud'"
							  " AND human_reviewed IS NOT TRUE AND action_taken IS NULL",
							  name),
					 2, types, values, NULL) == 0)
		dashie_query(psprintf("INSERT INTO %s (pattern_type, user_id, detected_at,"
							  " confidence_score, auto_flagged)"
							  " VALUES ('payment_fraud', $1, $3, $2, true)",
							  name),
					 3, types, values, NULL);
	dashie_query_end();
	SetUserIdAndSecContext(saved, context);
}
