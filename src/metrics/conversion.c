/*
 * conversion.c
 *		When each user first went from trial to paid.
 *
 * The source is stripe_webhook_events: an event that was applied (processed,
 * with the tiers it changed), at Stripe's own "created".  There are never
 * more such rows than conversions, and a partial index holds them.
 *
 * A row that is gone takes its conversion along only if that is a correction:
 * not when its user left, and not when it was older than the seven years after
 * which retention removes it.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "common/query.h"
#include "common/relation.h"
#include "metrics/engine.h"

/* Events kept for less than this are never removed by retention. */
static const Interval kept = {.time = 0, .day = 0, .month = 7 * MONTHS_PER_YEAR};

/*
 * conversions_load sets "converted" of every user who is there.
 */
void
conversions_load(Metrics *metrics)
{
	Relation rel;
	TimestampTz removable;
	static const Oid columns[] = {UUIDOID, TIMESTAMPTZOID};
	bool *found;
	uint64 nrows;
	Oid user_id;
	int context;

	if (!OidIsValid(metrics->stripe_rel))
		return;
	/* as its owner, who may be another than that of the metrics: an index runs its owner's code */
	GetUserIdAndSecContext(&user_id, &context);
	LockRelationOid(metrics->stripe_rel, AccessShareLock);
	dashie_become_owner_of(metrics->guard, metrics->stripe_rel);
	rel = dashie_relation_open(metrics->stripe_rel, NoLock, ACL_SELECT, false);
	removable = dashie_subtract_interval(metrics->now, &kept, metrics->zone);
	found = palloc0(Max(metrics->by_number_size, 1));

	dashie_query_begin();
	nrows =
		dashie_query(psprintf("SELECT e.user_id, min(e.at) FROM ("
							  " SELECT user_id, CASE WHEN event_data->>'created' ~ '^[0-9]{1,11}$'"
							  " THEN to_timestamp((event_data->>'created')::double precision)"
							  " ELSE created_at END AS at"
							  " FROM %s WHERE old_tier = 'trial' AND new_tier IN ('basic', 'pro')"
							  " AND processing_status = 'processed' AND user_id IS NOT NULL) AS e"
							  " WHERE e.at IS NOT NULL GROUP BY e.user_id",
							  dashie_relation_name(metrics->stripe_rel)),
					 0, NULL, NULL, NULL);
	dashie_query_types(2, columns);
	for (uint64 row = 0; row < nrows; row++)
	{
		UserEntry *user = numbers_user(metrics, DatumGetUUIDP(dashie_field(row, 1, NULL)));
		TimestampTz at = DatumGetTimestampTz(dashie_field(row, 2, NULL));

		/* who was marked as deleted stays as last seen */
		if (user == NULL || user->deleted)
			continue;
		found[user->number] = true;
		if (user->converted && user->converted_at < removable && user->converted_at < at)
			continue;
		if (!user->converted || user->converted_at != at)
		{
			user->converted = true;
			user->converted_at = at;
			user->changed = true;
		}
	}
	dashie_query_end();
	SetUserIdAndSecContext(user_id, context);

	for (int32 number = 0; number < metrics->by_number_size; number++)
	{
		UserEntry *user = metrics->by_number[number];

		if (user != NULL && user_is_there(user) && user->converted && !found[number] &&
			user->converted_at >= removable)
		{
			user->converted = false;
			user->changed = true;
		}
	}
	pfree(found);
	table_close(rel, NoLock);
}
