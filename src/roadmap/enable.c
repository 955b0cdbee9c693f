/*
 * enable.c
 *		dashie.enable(): tables of the roadmap are made or adopted, and registered.
 *
 * Called by the extension's owner or a role that has its rights; a superuser
 * becomes the owner.  New tables belong to the current user; from then on each
 * statement runs as the table's owner.
 *
 * Locks, in this order: the extension (share: no DROP EXTENSION meanwhile),
 * dashie.enabled_table (SHARE ROW EXCLUSIVE: one enable or disable at a time,
 * readers go on), then each table: ACCESS EXCLUSIVE to adopt it, ACCESS SHARE
 * if it is enabled already.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "billing/billing.h"
#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "metrics/metrics.h"
#include "partition/partition.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_enable_table);
PG_FUNCTION_INFO_V1(dashie_enable_phase);
PG_FUNCTION_INFO_V1(dashie_enable_all);

/* The user that dashie_enter() left us with. */
typedef struct Identity
{
	Oid user;
	int context;
} Identity;

static void
identity_save(Identity *identity)
{
	GetUserIdAndSecContext(&identity->user, &identity->context);
}

static void
identity_restore(const Identity *identity)
{
	SetUserIdAndSecContext(identity->user, identity->context);
}

/* A schema that tables of the application may be put in, or an error. */
static void
require_schema(const char *schema)
{
	Oid namespace = get_namespace_oid(schema, true);

	if (strncmp(schema, "pg_", 3) == 0 || strcmp(schema, "information_schema") == 0 ||
		strcmp(schema, "dashie") == 0 ||
		(OidIsValid(namespace) && OidIsValid(getExtensionOfObject(NamespaceRelationId, namespace))))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("tables of the application cannot be put in schema \"%s\"", schema),
						errdetail("It belongs to PostgreSQL or to an extension.")));
	if (!OidIsValid(namespace))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_SCHEMA), errmsg("schema \"%s\" does not exist", schema),
				 errhint("Run CREATE SCHEMA %s.", quote_identifier(schema))));
}

/* The DDL of a table, filled in. */
static char *
read_ddl(const Enabling *enabling)
{
	Oid sessions = dashie_enabled_oid("user_sessions");
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(enabling->table->name)};
	char *ddl;

	dashie_query_begin();
	if (dashie_query("SELECT ddl FROM dashie.table_ddl WHERE table_name = $1", 1, types, values,
					 NULL) != 1)
		elog(ERROR, "no DDL of table \"%s\" is installed", enabling->table->name);
	ddl = dashie_field_text(0, 1);
	dashie_query_end();
	return dashie_ddl_fill(ddl, quote_identifier(enabling->schema),
						   OidIsValid(sessions) ? dashie_relation_name(sessions) : NULL);
}

/* dashie_partition_convert() calls back to have the partitioned table made. */
typedef struct CreateParent
{
	const char *sql;
	CreateStmt *statement;
} CreateParent;

static void
create_parent(void *arg)
{
	CreateParent *parent = arg;

	dashie_ddl_execute(parent->sql, copyObject((Node *) parent->statement));
}

static void
report_differences(const Enabling *enabling)
{
	StringInfoData list;
	ListCell *lc;

	if (enabling->differences == NIL)
		return;
	initStringInfo(&list);
	foreach (lc, enabling->differences)
		appendStringInfo(&list, "%s%s", list.len > 0 ? "\n" : "", (char *) lfirst(lc));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
			 errmsg("table \"%s.%s\" cannot be enabled", enabling->schema, enabling->table->name),
			 errdetail("It is not as the roadmap has it:\n%s", list.data),
			 errhint("Change the table, or move it to another schema with its indexes: ALTER TABLE "
					 "... SET SCHEMA.")));
}

/* CREATE TABLE: a new table is made; one that exists is compared and completed. */
static void
enable_create(Enabling *enabling, CreateStmt *statement)
{
	if (!enabling->existed)
	{
		dashie_ddl_run(enabling, (Node *) statement);
		enabling->relid = dashie_relation_oid(enabling->schema, enabling->table->name);
		return;
	}

	if (statement->partspec == NULL &&
		get_rel_relkind(enabling->relid) == RELKIND_PARTITIONED_TABLE)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("table \"%s.%s\" is partitioned", enabling->schema,
							   enabling->table->name)));

	dashie_adopt_columns(enabling, statement);
	if (statement->partspec != NULL && get_rel_relkind(enabling->relid) == RELKIND_RELATION)
	{
		CreateParent parent = {enabling->sql, statement};

		report_differences(enabling);
		dashie_partition_convert(enabling->relid, create_parent, &parent);
		CommandCounterIncrement();
		enabling->relid = dashie_relation_oid(enabling->schema, enabling->table->name);
		enabling->changes++;
	}
	dashie_adopt_constraints(enabling, statement);
}

/* The trigger of that name on the table, if it is there: its function and firing mode. */
static bool
find_trigger(Oid relid, const char *name, Oid *function, char *enabled)
{
	Relation rel = relation_open(relid, AccessShareLock);
	bool found = false;

	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		Trigger *trigger = &rel->trigdesc->triggers[i];

		if (strcmp(trigger->tgname, name) == 0)
		{
			*function = trigger->tgfoid;
			*enabled = trigger->tgenabled;
			found = true;
		}
	}
	relation_close(rel, NoLock);
	return found;
}

/* ALTER TABLE, one subcommand at a time */
static void
enable_alter(Enabling *enabling, AlterTableStmt *statement)
{
	ListCell *lc;

	foreach (lc, statement->cmds)
	{
		AlterTableCmd *command = lfirst_node(AlterTableCmd, lc);
		AlterTableStmt *single = copyObject(statement);
		Relation rel;
		bool done = false;
		Oid function;
		char mode;

		switch (command->subtype)
		{
			case AT_AddColumn:
				dashie_adopt_column(enabling, command);
				continue;
			case AT_AddConstraint:
				dashie_adopt_constraint(enabling, castNode(Constraint, command->def));
				continue;
			case AT_EnableRowSecurity:
				rel = relation_open(enabling->relid, AccessShareLock);
				done = rel->rd_rel->relrowsecurity;
				relation_close(rel, NoLock);
				break;
			case AT_EnableAlwaysTrig:
				done = find_trigger(enabling->relid, command->name, &function, &mode) &&
					   mode == TRIGGER_FIRES_ALWAYS;
				break;
			default:
				break;
		}
		if (done)
			continue;
		single->cmds = list_make1(copyObject(command));
		dashie_ddl_run(enabling, (Node *) single);
	}
}

/*
 * CREATE TRIGGER: as the user that called enable(), who may use dashie's
 * functions, which the table's owner need not.
 */
static void
enable_trigger(Enabling *enabling, CreateTrigStmt *statement, const Identity *caller)
{
	Identity owner;
	Oid wanted;
	Oid function;
	char mode;

	identity_save(&owner);
	identity_restore(caller);
	wanted = LookupFuncName(statement->funcname, 0, NULL, false);
	if (!find_trigger(enabling->relid, statement->trigname, &function, &mode))
		dashie_ddl_run(enabling, (Node *) statement);
	else if (function != wanted)
		dashie_ddl_differ(enabling, "trigger \"%s\" calls another function than %s",
						  statement->trigname, get_func_name(wanted));
	identity_restore(&owner);
}

static void
enable_statement(Enabling *enabling, Node *statement, const Identity *caller)
{
	switch (nodeTag(statement))
	{
		case T_CreateStmt:
			enable_create(enabling, (CreateStmt *) statement);
			/* from here on with the rights of the table's owner, whoever that is */
			identity_restore(caller);
			dashie_become_owner_of(enabling->guard, enabling->relid);
			break;
		case T_AlterTableStmt:
			enable_alter(enabling, (AlterTableStmt *) statement);
			break;
		case T_IndexStmt:
			dashie_adopt_index(enabling, (IndexStmt *) statement);
			break;
		case T_CreatePolicyStmt:
			dashie_access_policy(enabling, (CreatePolicyStmt *) statement);
			break;
		case T_GrantStmt:
			dashie_access_grant(enabling, (GrantStmt *) statement);
			break;
		case T_CreateTrigStmt:
			enable_trigger(enabling, (CreateTrigStmt *) statement, caller);
			break;
		default:
			elog(ERROR, "unexpected statement %d in the DDL of \"%s\"", (int) nodeTag(statement),
				 enabling->table->name);
	}
}

/*
 * dashie_enable_tie_triggers ties the triggers that call functions of ours to the extension, as ALTER
 * TRIGGER ... DEPENDS ON EXTENSION does: dropping it drops them, and not the
 * table.  The statement would lock the extension exclusively, after others
 * that wait for the registry took their share of that lock.
 */
void
dashie_enable_tie_triggers(Oid relid)
{
	ObjectAddress extension;
	Relation rel = relation_open(relid, AccessShareLock);

	ObjectAddressSet(extension, ExtensionRelationId, dashie_extension_oid());
	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		Trigger *trigger = &rel->trigdesc->triggers[i];
		ObjectAddress address;

		if (trigger->tgisinternal ||
			getExtensionOfObject(ProcedureRelationId, trigger->tgfoid) != extension.objectId ||
			list_member_oid(getAutoExtensionsOfObject(TriggerRelationId, trigger->tgoid),
							extension.objectId))
			continue;
		ObjectAddressSet(address, TriggerRelationId, trigger->tgoid);
		recordDependencyOn(&address, &extension, DEPENDENCY_AUTO_EXTENSION);
	}
	relation_close(rel, NoLock);
	CommandCounterIncrement();
}

static void
register_table(const Enabling *enabling)
{
	Oid types[] = {TEXTOID, TEXTOID};
	Datum values[] = {CStringGetTextDatum(enabling->table->name),
					  CStringGetTextDatum(enabling->schema)};

	dashie_query_begin();
	dashie_query("INSERT INTO dashie.enabled_table (table_name, schema_name) VALUES ($1, $2) "
				 "ON CONFLICT (table_name) DO UPDATE SET schema_name = excluded.schema_name, "
				 "enabled_at = excluded.enabled_at",
				 2, types, values, NULL);
	dashie_query_end();
	CommandCounterIncrement();
}

/*
 * enable_one enables one table in "schema", or where it is already, or in
 * public, when schema is NULL.  Returns what was done.
 */
static const char *
enable_one(Enabling *enabling, const char *schema)
{
	const char *name = enabling->table->name;
	char *registered = dashie_enabled_schema(name);
	Identity caller;
	ListCell *lc;

	if (registered != NULL && schema != NULL && strcmp(schema, registered) != 0 &&
		OidIsValid(dashie_relation_oid(registered, name)))
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s\" is enabled in schema \"%s\"", name, registered),
			 errhint("Run SELECT dashie.disable('%s') first to manage the one in schema \"%s\".",
					 name, schema)));
	enabling->schema = schema != NULL ? schema : registered != NULL ? registered : "public";
	require_schema(enabling->schema);

	identity_save(&caller);
	enabling->registered = registered != NULL && strcmp(registered, enabling->schema) == 0;
	enabling->relid =
		RangeVarGetRelidExtended(makeRangeVar(pstrdup(enabling->schema), pstrdup(name), -1),
								 enabling->registered ? AccessShareLock : AccessExclusiveLock,
								 RVR_MISSING_OK, dashie_registry_check, NULL);
	enabling->existed = OidIsValid(enabling->relid);
	enabling->registered = enabling->registered && enabling->existed;

	enabling->sql = read_ddl(enabling);
	if (enabling->existed)
		dashie_become_owner_of(enabling->guard, enabling->relid);
	foreach (lc, dashie_ddl_parse(enabling->sql))
		enable_statement(enabling, lfirst(lc), &caller);
	if (enabling->existed && !enabling->registered)
		dashie_access_adopt(enabling);
	report_differences(enabling);

	if (get_rel_relkind(enabling->relid) == RELKIND_PARTITIONED_TABLE)
		dashie_partition_cover(enabling->relid);
	identity_restore(&caller);
	dashie_metrics_prepare(name, enabling->relid);
	dashie_billing_prepare(name, enabling->relid);
	dashie_partition_prepare(name, enabling->relid);
	dashie_access_private();
	dashie_enable_tie_triggers(enabling->relid);

	if (!enabling->registered)
		register_table(enabling);
	if (!enabling->existed)
		return "created";
	return enabling->registered && enabling->changes == 0 ? "unchanged" : "adopted";
}

/* Adds the tables that the wanted ones need, unless they are enabled somewhere. */
static void
want_needed(bool *wanted)
{
	for (int i = ROADMAP_TABLES - 1; i >= 0; i--)
	{
		const RoadmapTable *needed;

		if (!wanted[i] || dashie_roadmap_tables[i].requires == NULL)
			continue;
		needed = dashie_roadmap_get(dashie_roadmap_tables[i].requires);
		Assert(needed < &dashie_roadmap_tables[i]);
		if (!OidIsValid(dashie_enabled_oid(needed->name)))
			wanted[needed - dashie_roadmap_tables] = true;
	}
}

/*
 * enable_tables enables the wanted ones, and what they need, in the order of
 * the roadmap, with a row of the result for each.
 */
static void
enable_tables(FunctionCallInfo fcinfo, bool *wanted, const char *schema)
{
	EnableSkipped skipped = {NIL};
	DashieGuard guard;
	DashieRows rows;
	Relation registry;

	dashie_enter(&guard);
	dashie_rows_begin(fcinfo, &rows);
	if (schema != NULL)
		require_schema(schema);
	registry = dashie_registry_lock();
	dashie_users_require();
	want_needed(wanted);

	for (int i = 0; i < ROADMAP_TABLES; i++)
	{
		Enabling enabling = {
			.guard = &guard, .table = &dashie_roadmap_tables[i], .skipped = &skipped};
		Datum values[3];
		bool nulls[3] = {false, false, false};

		if (!wanted[i])
			continue;
		values[2] = CStringGetTextDatum(enable_one(&enabling, schema));
		values[0] = CStringGetTextDatum(enabling.table->name);
		values[1] = CStringGetTextDatum(enabling.schema);
		dashie_rows_put(&rows, values, nulls);
	}

	dashie_access_report(&skipped);
	table_close(registry, NoLock);
	dashie_leave(&guard);
}

static char *
schema_argument(FunctionCallInfo fcinfo, int argno)
{
	dashie_reject_null(fcinfo, argno, "schema");
	return pstrdup(NameStr(*PG_GETARG_NAME(argno)));
}

/* SQL: dashie.enable(table_name text, schema name) */
Datum
dashie_enable_table(PG_FUNCTION_ARGS)
{
	bool wanted[ROADMAP_TABLES] = {false};
	const RoadmapTable *table;

	dashie_reject_null(fcinfo, 0, "table_name");
	table = dashie_roadmap_get(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	wanted[table - dashie_roadmap_tables] = true;
	enable_tables(fcinfo, wanted, schema_argument(fcinfo, 1));
	return (Datum) 0;
}

/* SQL: dashie.enable(phase int, schema name) */
Datum
dashie_enable_phase(PG_FUNCTION_ARGS)
{
	bool wanted[ROADMAP_TABLES] = {false};
	bool found = false;
	int32 phase;

	dashie_reject_null(fcinfo, 0, "phase");
	phase = PG_GETARG_INT32(0);
	for (int i = 0; i < ROADMAP_TABLES; i++)
		if (dashie_roadmap_tables[i].phase == phase)
			wanted[i] = found = true;
	if (!found)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%d is not a phase of the roadmap with tables to enable", phase),
						errhint("SELECT DISTINCT phase FROM dashie.roadmap lists them.")));
	enable_tables(fcinfo, wanted, schema_argument(fcinfo, 1));
	return (Datum) 0;
}

/* SQL: dashie.enable() */
Datum
dashie_enable_all(PG_FUNCTION_ARGS)
{
	bool wanted[ROADMAP_TABLES];

	memset(wanted, true, sizeof(wanted));
	enable_tables(fcinfo, wanted, NULL);
	return (Datum) 0;
}
