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

/* More digits than that are no time that a timestamptz holds. */
#define CREATED_DIGITS 11

#define PREFETCH_AHEAD 16

#define UNIX_TO_POSTGRES_SECONDS ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

/*
 * event_time reads Stripe's "created", whole seconds, or without it the time
 * when the row was written; false if there is neither.
 */
static bool
event_time(uint64 row, TimestampTz *at)
{
	bool isnull;
	Datum value = dashie_field(row, 2, &isnull);
	const char *created = isnull ? "" : TextDatumGetCString(value);
	Size length = strlen(created);

	if (length > 0 && length <= CREATED_DIGITS && strspn(created, "0123456789") == length)
	{
		*at = (strtoll(created, NULL, 10) - UNIX_TO_POSTGRES_SECONDS) * USECS_PER_SEC;
		return true;
	}
	value = dashie_field(row, 3, &isnull);
	*at = isnull ? 0 : DatumGetTimestampTz(value);
	return !isnull;
}

/*
 * conversions_read asks for the events: before the users are looked at, since
 * that may be done while parallel workers run, when no code of others should.
 */
void
conversions_read(Metrics *metrics)
{
	static const Oid columns[] = {UUIDOID, TEXTOID, TIMESTAMPTZOID};
	MemoryContext context = CurrentMemoryContext;
	Oid user_id;
	int security;
	Relation rel;
	uint64 nrows;

	if (!OidIsValid(metrics->stripe_rel))
		return;
	/* as its owner, who may be another than that of the metrics: an index runs its owner's code */
	GetUserIdAndSecContext(&user_id, &security);
	LockRelationOid(metrics->stripe_rel, AccessShareLock);
	dashie_become_owner_of(metrics->guard, metrics->stripe_rel);
	rel = dashie_relation_open(metrics->stripe_rel, NoLock, ACL_SELECT, false);
	dashie_query_begin();
	nrows = metrics_query(metrics,
						  psprintf("SELECT user_id, event_data->>'created', created_at FROM %s"
								   " WHERE old_tier = 'trial' AND new_tier IN ('basic', 'pro')"
								   " AND processing_status = 'processed' AND user_id IS NOT NULL",
								   dashie_relation_name(metrics->stripe_rel)),
						  0, NULL, NULL);
	dashie_query_types(lengthof(columns), columns);
	metrics->conversions = MemoryContextAllocHuge(context, Max(nrows, 1) * sizeof(Conversion));
	for (uint64 row = 0; row < nrows; row++)
	{
		Conversion *conversion = &metrics->conversions[metrics->nconversions];

		if (!event_time(row, &conversion->at))
			continue;
		conversion->user = *DatumGetUUIDP(dashie_field(row, 1, NULL));
		metrics->nconversions++;
	}
	dashie_query_end();
	SetUserIdAndSecContext(user_id, security);
	table_close(rel, NoLock);
}

/*
 * conversions_apply sets "converted" of every user who is there.
 */
void
conversions_apply(Metrics *metrics)
{
	TimestampTz removable;
	TimestampTz *first; /* by number; DT_NOEND for none */

	if (!OidIsValid(metrics->stripe_rel))
		return;
	removable = dashie_subtract_interval(metrics->now, &kept, metrics->zone);
	first = palloc_extended(Max(metrics->by_number_size, 1) * sizeof(TimestampTz), MCXT_ALLOC_HUGE);
	for (int32 number = 0; number < metrics->by_number_size; number++)
		first[number] = DT_NOEND;
	for (uint64 i = 0; i < metrics->nconversions; i++)
	{
		const Conversion *conversion = &metrics->conversions[i];
		UserEntry *user;

		if (i + PREFETCH_AHEAD < metrics->nconversions)
			id_index_prefetch(&metrics->users, &conversion[PREFETCH_AHEAD].user);
		user = numbers_user(metrics, &conversion->user);
		/* who was marked as deleted stays as last seen */
		if (user != NULL && !user->deleted)
			first[user->number] = Min(first[user->number], conversion->at);
	}

	for (int32 number = 0; number < metrics->by_number_size; number++)
	{
		UserEntry *user = numbers_by_number(metrics, number);
		TimestampTz at = first[number];

		if (user == NULL || !user_is_there(user))
			continue;
		if (user->converted && user->converted_at < removable && user->converted_at < at)
			continue;
		if (at == DT_NOEND ? user->converted : !user->converted || user->converted_at != at)
		{
			user->converted = at != DT_NOEND;
			if (user->converted)
				user->converted_at = at;
			user->changed = true;
		}
	}
	pfree(first);
}
