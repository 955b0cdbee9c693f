/*
 * guard_ddl.c
 *		Keeps the guards of payment records on their tables: the event trigger
 *		function dashie.stripe_guard_ddl().
 *
 * The triggers of guard.c and seal_guard.c refuse what DML could do to a row;
 * their tables' owner could still take the triggers, the columns or the table
 * away.  The event triggers run with every DDL command of the database, as
 * whoever gives it, so they do nothing that could fail on its own: they read
 * catalogs, run no SQL, and look at nothing but the tables that carry a guard,
 * which they find through the dependency of a trigger on the guard's function.
 *
 * Before a command that could matter, what carries the guards is written down;
 * after it, it is compared.  So it does not matter which of the many ways a
 * command found.  What another session changed meanwhile is not this command's
 * doing: a difference counts if this transaction wrote the catalog's row.
 *
 * No lock is taken but those of a catalog scan.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_trigger.h"
#include "commands/event_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "billing/guard_notes.h"

PG_FUNCTION_INFO_V1(dashie_stripe_guard_ddl);

static void
refuse(const GuardedTable *table, const char *problem)
{
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("table \"%s.%s\" is guarded: %s", NameStr(table->schema_name),
						   NameStr(table->name), problem),
					errdetail("The law asks for 7 years of payment records."),
					errhint("The guard ends with DROP EXTENSION dashie, or with the database.")));
}

/* Whether this transaction wrote the row. */
static bool
is_ours(HeapTuple tuple)
{
	return TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
}

/*
 * Commands that could take something from a guarded table.  CREATE and ALTER
 * EXTENSION are not among them: what their scripts do comes here by itself.
 */
static bool
could_matter(Node *parsetree)
{
	switch (nodeTag(parsetree))
	{
		case T_CreateStmt:
		case T_CreateForeignTableStmt:
			return ((CreateStmt *) parsetree)->inhRelations != NIL;
		case T_AlterTableStmt:
		case T_RenameStmt:
		case T_AlterObjectSchemaStmt:
		case T_AlterObjectDependsStmt:
		case T_AlterOwnerStmt:
		case T_AlterExtensionContentsStmt:
		case T_CreateTrigStmt:
		case T_RuleStmt:
		case T_CreateSchemaStmt:
		case T_DropStmt:
		case T_DropOwnedStmt:
			return true;
		default:
			return false;
	}
}

/*
 * A command that drops a guarded table together with the extension drops the
 * event triggers before they could see it.
 */
static void
refuse_drop_with_extension(const GuardNotes *notes, Node *parsetree)
{
	ListCell *lc;
	ListCell *table;

	if (IsA(parsetree, DropStmt) && ((DropStmt *) parsetree)->removeType == OBJECT_SCHEMA)
	{
		foreach (lc, ((DropStmt *) parsetree)->objects)
			if (strcmp(strVal(lfirst(lc)), NameStr(notes->schema_name)) == 0)
				refuse(linitial(notes->tables),
					   psprintf("schema \"%s\" may not be dropped", NameStr(notes->schema_name)));
	}
	else if (IsA(parsetree, DropOwnedStmt))
	{
		HeapTuple tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(notes->schema));
		Oid schema_owner = InvalidOid;

		if (HeapTupleIsValid(tuple))
		{
			schema_owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
			ReleaseSysCache(tuple);
		}
		foreach (lc, ((DropOwnedStmt *) parsetree)->roles)
		{
			Oid role = get_rolespec_oid(lfirst_node(RoleSpec, lc), true);

			foreach (table, notes->tables)
				if (OidIsValid(role) &&
					(((GuardedTable *) lfirst(table))->owner == role || schema_owner == role))
					refuse(lfirst(table),
						   psprintf("what role \"%s\" owns may not be dropped all at once",
									GetUserNameFromId(role, false)));
		}
	}
}

/* Rows of pg_event_trigger_dropped_objects(), read without SQL. */
static void
for_each_dropped(void (*visit)(const ObjectAddress *dropped, void *arg), void *arg)
{
	LOCAL_FCINFO(call, 0);
	EState *estate = CreateExecutorState();
	ReturnSetInfo result = {.type = T_ReturnSetInfo};
	FmgrInfo function;
	TupleTableSlot *slot;

	fmgr_info(F_PG_EVENT_TRIGGER_DROPPED_OBJECTS, &function);
	result.econtext = CreateExprContext(estate);
	result.allowedModes = (int) SFRM_Materialize;
	InitFunctionCallInfoData(*call, &function, 0, InvalidOid, NULL, (Node *) &result);
	(void) FunctionCallInvoke(call);

	slot = MakeSingleTupleTableSlot(result.setDesc, &TTSOpsMinimalTuple);
	while (tuplestore_gettupleslot(result.setResult, true, false, slot))
	{
		ObjectAddress dropped;
		bool isnull;

		dropped.classId = DatumGetObjectId(slot_getattr(slot, 1, &isnull));
		dropped.objectId = DatumGetObjectId(slot_getattr(slot, 2, &isnull));
		dropped.objectSubId = DatumGetInt32(slot_getattr(slot, 3, &isnull));
		visit(&dropped, arg);
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(result.setResult);
	FreeExecutorState(estate);
}

static void
refuse_dropped_table(const ObjectAddress *dropped, void *arg)
{
	const GuardNotes *notes = arg;
	ListCell *lc;

	if (dropped->classId != RelationRelationId)
		return;
	foreach (lc, notes->tables)
	{
		const GuardedTable *table = lfirst(lc);

		if (dropped->objectId != table->relid)
			continue;
		if (dropped->objectSubId == 0)
			refuse(table, "it may not be dropped");
		for (int j = 0; j < GUARDED_COLUMNS; j++)
			if (table->columns[j].number == dropped->objectSubId)
				refuse(table,
					   psprintf("column \"%s\" may not be dropped", dashie_guarded_columns[j]));
	}
}

static void
refuse_dropped_trigger(const ObjectAddress *dropped, void *arg)
{
	const GuardNotes *notes = arg;
	ListCell *lc;

	if (dropped->classId != TriggerRelationId)
		return;
	foreach (lc, notes->triggers)
	{
		const GuardTrigger *trigger = lfirst(lc);

		if (dropped->objectId == trigger->oid)
			refuse(trigger->table,
				   psprintf("trigger \"%s\" may not be dropped", NameStr(trigger->name)));
	}
}

static void
check_column(const GuardedTable *before, int i)
{
	const GuardedColumn *column = &before->columns[i];
	HeapTuple tuple;
	Form_pg_attribute form;

	if (column->number == 0)
		return;
	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(before->relid), Int16GetDatum(column->number));
	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_attribute) GETSTRUCT(tuple);
	if (is_ours(tuple))
	{
		if (form->attisdropped)
			refuse(before, psprintf("column \"%s\" may not be dropped", dashie_guarded_columns[i]));
		if (strcmp(NameStr(form->attname), dashie_guarded_columns[i]) != 0)
			refuse(before, psprintf("column \"%s\" may not be renamed", dashie_guarded_columns[i]));
		if (form->atttypid != column->type || form->atttypmod != column->typmod)
			refuse(before,
				   psprintf("the type of column \"%s\" may not change", dashie_guarded_columns[i]));
	}
	ReleaseSysCache(tuple);
}

static void
check_schema(const GuardedTable *before, Oid schema, const char *name_before)
{
	HeapTuple tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(schema));

	if (!HeapTupleIsValid(tuple))
		return;
	if (is_ours(tuple) &&
		strcmp(NameStr(((Form_pg_namespace) GETSTRUCT(tuple))->nspname), name_before) != 0)
		refuse(before, psprintf("schema \"%s\" may not be renamed", name_before));
	ReleaseSysCache(tuple);
}

static void
check_table(const GuardedTable *before)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(before->relid));
	GuardedTable now;
	bool ours;

	/* a table that this command dropped was found among the dropped objects */
	if (!HeapTupleIsValid(tuple))
		return;
	ours = is_ours(tuple);
	ReleaseSysCache(tuple);
	if (!dashie_guard_note_table(&now, before->relid))
		return;

	if (ours)
	{
		if (strcmp(NameStr(now.name), NameStr(before->name)) != 0)
			refuse(before, "it may not be renamed");
		if (now.schema != before->schema)
			refuse(before, "it may not be moved to another schema");
		if (now.owner != before->owner)
			refuse(before, "it may not be given to another owner");
		if (now.persistence != before->persistence)
			refuse(before, "it may not become unlogged");
		if (now.is_partition && !before->is_partition)
			refuse(before, "it may not become a partition");
		if (now.has_rules && !before->has_rules)
			refuse(before, "it may not have rules");
		if (now.has_children && !before->has_children)
			refuse(before, "no table may inherit from it");
	}
	if (now.has_parents && !before->has_parents)
		refuse(before, "it may not inherit from a table");
	if (now.extension != before->extension)
		refuse(before, "it may not become part of an extension");
	for (int i = 0; i < GUARDED_COLUMNS; i++)
		check_column(before, i);
	check_schema(before, before->schema, NameStr(before->schema_name));
}

/* A trigger may be made stronger, as by the end of a restore, and not weaker. */
static void
check_trigger(const GuardTrigger *before)
{
	const GuardedTable *table = before->table;
	HeapTuple tuple = dashie_guard_trigger(before->oid);
	Form_pg_trigger form;

	if (!HeapTupleIsValid(tuple) || !is_ours(tuple))
		return;
	form = (Form_pg_trigger) GETSTRUCT(tuple);
	if (form->tgfoid != before->function || form->tgtype != before->type ||
		form->tgattr.dim1 != 0 || !heap_attisnull(tuple, Anum_pg_trigger_tgqual, NULL))
		refuse(table, psprintf("trigger \"%s\" may not be replaced", NameStr(before->name)));
	if (form->tgenabled != before->enabled && form->tgenabled != TRIGGER_FIRES_ALWAYS)
		refuse(table, psprintf("trigger \"%s\" may not be disabled", NameStr(before->name)));
	if (strcmp(NameStr(form->tgname), NameStr(before->name)) != 0)
		refuse(table, psprintf("trigger \"%s\" may not be renamed", NameStr(before->name)));
	heap_freetuple(tuple);
}

static void
check_rewrite(const GuardNotes *notes)
{
	Oid relid = DatumGetObjectId(OidFunctionCall0(F_PG_EVENT_TRIGGER_TABLE_REWRITE_OID));
	ListCell *lc;

	foreach (lc, notes->tables)
		if (((GuardedTable *) lfirst(lc))->relid == relid)
			refuse(lfirst(lc), "it may not be rewritten");
}

Datum
dashie_stripe_guard_ddl(PG_FUNCTION_ARGS)
{
	EventTriggerData *trigger = (EventTriggerData *) fcinfo->context;
	GuardNotes *notes;
	Oid schema;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function \"%s\" was not called by event trigger manager",
							   "stripe_guard_ddl")));

	if (strcmp(trigger->event, "ddl_command_start") == 0)
	{
		if (!could_matter(trigger->parsetree) || superuser())
			return (Datum) 0;
		schema = get_func_namespace(fcinfo->flinfo->fn_oid);
		if (!OidIsValid(schema))
			return (Datum) 0;
		dashie_guard_push(trigger->parsetree, schema);
		notes = dashie_guard_notes(trigger->parsetree);
		if (notes != NULL)
			refuse_drop_with_extension(notes, trigger->parsetree);
		return (Datum) 0;
	}

	notes = dashie_guard_notes(trigger->parsetree);
	if (notes == NULL)
		return (Datum) 0;
	if (strcmp(trigger->event, "sql_drop") == 0)
	{
		/* the table itself first: its columns and triggers go with it */
		for_each_dropped(refuse_dropped_table, notes);
		for_each_dropped(refuse_dropped_trigger, notes);
	}
	else if (strcmp(trigger->event, "table_rewrite") == 0)
		check_rewrite(notes);
	else if (strcmp(trigger->event, "ddl_command_end") == 0)
	{
		ListCell *lc;

		/* what a DROP did was all among the dropped objects */
		if (IsA(trigger->parsetree, DropStmt) || IsA(trigger->parsetree, DropOwnedStmt))
		{
			dashie_guard_pop();
			return (Datum) 0;
		}
		foreach (lc, notes->tables)
			check_table(lfirst(lc));
		foreach (lc, notes->triggers)
			check_trigger(lfirst(lc));
		check_schema(linitial(notes->tables), notes->schema, NameStr(notes->schema_name));
		dashie_guard_pop();
	}
	return (Datum) 0;
}
