/*
 * billing.h
 *		What other slices call of the payments.
 */
#ifndef DASHIE_BILLING_H
#define DASHIE_BILLING_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "datatype/timestamp.h"

/* Rows created before this instant may be deleted: 7 years before now, counted in UTC. */
extern TimestampTz dashie_stripe_deletable_before(void);

/* Number of a legal hold that covers a row of stripe_webhook_events; 0: none does. */
extern int64 dashie_hold_on(TupleDesc desc, HeapTuple tuple);

/* Whether any hold is in force. */
extern bool dashie_hold_any(void);

/*
 * The same in SQL, for retention: the row t of stripe_webhook_events is on no
 * hold.  hold.c has it in C.
 */
#define DASHIE_NOT_ON_HOLD                                                                      \
	"NOT EXISTS (SELECT FROM dashie.legal_hold AS h WHERE h.released_at IS NULL"                \
	" AND (h.user_id IS NULL OR h.user_id = t.user_id OR t.customer_id = ANY (h.customer_ids))" \
	" AND (h.\"from\" IS NULL OR t.created_at >= h.\"from\"::timestamp AT TIME ZONE 'UTC')"     \
	" AND (h.\"to\" IS NULL OR t.created_at < (h.\"to\" + 1)::timestamp AT TIME ZONE 'UTC'))"

/*
 * Called by enable() for every table, after its DDL, as the current user:
 * makes the payments' own tables in schema dashie.
 */
extern void dashie_billing_prepare(const char *table_name, Oid relid);

#endif /* DASHIE_BILLING_H */
