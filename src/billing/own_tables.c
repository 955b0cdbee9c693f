/*
 * own_tables.c
 *		What enable() needs of the payments: their own tables in schema dashie.
 *
 * Runs inside enable(), as the user that called it, who then owns the tables.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "billing/billing.h"
#include "common/query.h"
#include "common/relation.h"
#include "roadmap/roadmap.h"

/* Runs one of the files of billing/ddl. */
static void
run_ddl(const char *name)
{
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(name)};

	dashie_query_begin();
	if (dashie_query("SELECT ddl FROM dashie.table_ddl WHERE table_name = $1", 1, types, values,
					 NULL) != 1)
		elog(ERROR, "DDL \"%s\" is missing", name);
	dashie_command(dashie_field_text(0, 1));
	dashie_query_end();
}

/*
 * Retention reads the holds as the owner of the payments, who is not
 * necessarily the one who enables.
 */
static void
share_holds(Oid relid)
{
	Relation rel = relation_open(relid, AccessShareLock);
	Oid owner = rel->rd_rel->relowner;
	const char *role = quote_identifier(GetUserNameFromId(owner, false));

	relation_close(rel, NoLock);
	if (owner == GetUserId())
		return;
	dashie_query_begin();
	dashie_command(psprintf("GRANT USAGE ON SCHEMA dashie TO %s", role));
	dashie_command(psprintf("GRANT SELECT ON TABLE dashie.legal_hold TO %s", role));
	dashie_query_end();
}

void
dashie_billing_prepare(const char *table_name, Oid relid)
{
	Oid seals;

	if (strcmp(table_name, "stripe_webhook_events") != 0)
		return;
	if (!OidIsValid(dashie_relation_oid("dashie", "stripe_subscription")))
		run_ddl("billing_state");
	if (!OidIsValid(dashie_relation_oid("dashie", "audit_seal")) ||
		!OidIsValid(dashie_relation_oid("dashie", "legal_hold")))
		run_ddl("billing_audit");

	/* the triggers go with the extension, the table stays */
	seals = dashie_relation_oid("dashie", "audit_seal");
	if (!OidIsValid(get_trigger_oid(seals, "dashie_guard_delete", true)))
		run_ddl("billing_audit_guard");
	dashie_enable_tie_triggers(seals);
	share_holds(relid);
}
