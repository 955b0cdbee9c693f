/*
 * billing.h
 *		The legal floor under stripe_webhook_events.
 */
#ifndef DASHIE_BILLING_H
#define DASHIE_BILLING_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Rows created before this instant may be deleted: 7 years before now, counted in UTC. */
extern TimestampTz dashie_stripe_deletable_before(void);

#endif /* DASHIE_BILLING_H */
