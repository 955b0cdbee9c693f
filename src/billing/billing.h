/*
 * billing.h
 *		What other slices call of the payments.
 */
#ifndef DASHIE_BILLING_H
#define DASHIE_BILLING_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Rows created before this instant may be deleted: 7 years before now, counted in UTC. */
extern TimestampTz dashie_stripe_deletable_before(void);

/*
 * Called by enable() for every table, after its DDL, as the current user:
 * makes the payments' own table in schema dashie.
 */
extern void dashie_billing_prepare(const char *table_name);

#endif /* DASHIE_BILLING_H */
