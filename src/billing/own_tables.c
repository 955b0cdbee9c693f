/*
 * own_tables.c
 *		What enable() needs of the payments: their own tables in schema dashie.
 *
 * Runs inside enable(), as the user that called it, who then owns the tables.
 */
#include "postgres.h"

#include "commands/trigger.h"

#include "billing/billing.h"
#include "common/relation.h"
#include "roadmap/roadmap.h"

void
dashie_billing_prepare(const char *table_name, Oid relid)
{
	Oid seals;

	if (strcmp(table_name, "stripe_webhook_events") != 0)
		return;
	if (!OidIsValid(dashie_relation_oid("dashie", "stripe_subscription")))
		dashie_ddl_own("billing_state");
	if (!OidIsValid(dashie_relation_oid("dashie", "audit_seal")) ||
		!OidIsValid(dashie_relation_oid("dashie", "legal_hold")))
		dashie_ddl_own("billing_audit");

	/* the triggers go with the extension, the table stays */
	seals = dashie_relation_oid("dashie", "audit_seal");
	if (!OidIsValid(get_trigger_oid(seals, "dashie_guard_delete", true)))
		dashie_ddl_own("billing_audit_guard");
	dashie_enable_tie_triggers(seals);
	/* retention reads the holds as the owner of the payments */
	dashie_ddl_share(relid, "SELECT", "dashie.legal_hold");
}
