/*
 * own_tables.c
 *		What enable() needs of the payments: dashie.stripe_subscription.
 *
 * Runs inside enable(), as the user that called it, who then owns the table.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "billing/billing.h"
#include "common/query.h"
#include "common/relation.h"

void
dashie_billing_prepare(const char *table_name)
{
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum("billing_state")};

	if (strcmp(table_name, "stripe_webhook_events") != 0 ||
		OidIsValid(dashie_relation_oid("dashie", "stripe_subscription")))
		return;
	dashie_query_begin();
	if (dashie_query("SELECT ddl FROM dashie.table_ddl WHERE table_name = $1", 1, types, values,
					 NULL) != 1)
		elog(ERROR, "DDL \"billing_state\" is missing");
	dashie_command(dashie_field_text(0, 1));
	dashie_query_end();
}
