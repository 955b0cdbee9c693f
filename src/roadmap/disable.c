/*
 * disable.c
 *		dashie.disable(): a table of the roadmap is let go of.
 *
 * Called like enable(), with the same locks: the extension, the registry, then
 * the table, ACCESS EXCLUSIVE, which dropping its triggers needs.  The table
 * keeps its rows, indexes, policies and grants.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "metrics/metrics.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_disable);

/* Guards rows that the law wants kept: it goes with the extension alone. */
#define GUARD_FUNCTION "stripe_guard"

/* Drops the triggers that call functions of ours, but for the guard. */
static void
drop_triggers(Oid relid)
{
	Relation rel = relation_open(relid, AccessShareLock);
	List *commands = NIL;
	ListCell *lc;

	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		Trigger *trigger = &rel->trigdesc->triggers[i];

		if (!trigger->tgisinternal &&
			getExtensionOfObject(ProcedureRelationId, trigger->tgfoid) == dashie_extension_oid() &&
			strcmp(get_func_name(trigger->tgfoid), GUARD_FUNCTION) != 0)
			commands = lappend(commands,
							   psprintf("DROP TRIGGER %s ON %s", quote_identifier(trigger->tgname),
										dashie_relation_name(relid)));
	}
	relation_close(rel, NoLock);

	foreach (lc, commands)
		dashie_command(lfirst(lc));
}

/* SQL: dashie.disable(table_name text) */
Datum
dashie_disable(PG_FUNCTION_ARGS)
{
	Oid types[] = {TEXTOID};
	const RoadmapTable *table;
	Datum values[1];
	DashieGuard guard;
	Oid user;
	int context;
	Relation registry;
	char *schema;
	Oid relid;

	dashie_reject_null(fcinfo, 0, "table_name");
	table = dashie_roadmap_get(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	values[0] = CStringGetTextDatum(table->name);

	dashie_enter(&guard);
	GetUserIdAndSecContext(&user, &context);
	registry = dashie_registry_lock();
	schema = dashie_enabled_schema(table->name);
	if (schema == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"%s\" is not enabled", table->name)));
	for (int i = 0; i < ROADMAP_TABLES; i++)
	{
		const RoadmapTable *other = &dashie_roadmap_tables[i];

		if (other->requires != NULL && strcmp(other->requires, table->name) == 0 &&
			dashie_enabled_schema(other->name) != NULL)
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("table \"%s\" is needed by enabled table \"%s\"", table->name,
								   other->name),
							errhint("Run SELECT dashie.disable('%s') first.", other->name)));
	}

	/* whatever else stands under the name by now has no triggers of ours */
	relid = dashie_relation_oid(schema, table->name);
	dashie_query_begin();
	if (OidIsValid(relid) && (get_rel_relkind(relid) == RELKIND_RELATION ||
							  get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE))
	{
		relid = RangeVarGetRelidExtended(makeRangeVar(schema, pstrdup(table->name), -1),
										 AccessExclusiveLock, 0, dashie_registry_check, NULL);
		dashie_become_owner_of(&guard, relid);
		drop_triggers(relid);
		SetUserIdAndSecContext(user, context);
	}
	dashie_query("DELETE FROM dashie.enabled_table WHERE table_name = $1", 1, types, values, NULL);
	dashie_query_end();
	dashie_metrics_release();

	table_close(registry, NoLock);
	dashie_leave(&guard);
	PG_RETURN_VOID();
}
