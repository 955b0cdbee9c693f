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
 * Commands nest (a default may call a function that runs DDL), so notes are a
 * stack, an entry of which belongs to one command; an error that undoes the
 * command takes its entry along.
 *
 * No lock is taken but those of a catalog scan.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
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
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "billing/billing.h"
#include "common/owner.h"

PG_FUNCTION_INFO_V1(dashie_stripe_guard_ddl);

/* The trigger functions that guard; they live in the schema of the event trigger's own. */
static const char *const guard_functions[] = {"stripe_guard", "seal_guard"};

/* The columns that a guard looks at, of either table. */
static const char *const guarded_columns[] = {
	"id",  "stripe_event_id", "event_type", "event_data", "created_at", "user_id", "number",
	"day", "sealed_at",		  "late",		"row_count",  "entries",	"content", "digest",
};

typedef struct GuardedColumn
{
	AttrNumber number; /* 0: the table has no such column */
	Oid type;
	int32 typmod;
} GuardedColumn;

typedef struct GuardedTable
{
	Oid relid;
	NameData name;
	Oid schema;
	NameData schema_name;
	Oid owner;
	char persistence;
	bool is_partition;
	bool has_rules;
	bool has_children;
	bool has_parents;
	Oid extension; /* of which it is a member */
	GuardedColumn columns[lengthof(guarded_columns)];
} GuardedTable;

typedef struct GuardTrigger
{
	Oid oid;
	int table; /* index into Notes.tables */
	NameData name;
	Oid function;
	int16 type;
	char enabled;
} GuardTrigger;

/* What carried the guards before a command. */
typedef struct Notes
{
	struct Notes *outer; /* of the command that this one is nested in */
	Node *parsetree;	 /* of the command; identifies it */
	int nest_level;		 /* of the transaction, when it began */
	MemoryContext context;
	Oid schema; /* the extension's */
	NameData schema_name;
	int ntables;
	GuardedTable *tables;
	int ntriggers;
	GuardTrigger *triggers;
} Notes;

static Notes *notes_stack = NULL;

static void
pop_notes(void)
{
	Notes *notes = notes_stack;

	notes_stack = notes->outer;
	MemoryContextDelete(notes->context);
}

static void
notes_at_xact_event(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		while (notes_stack != NULL)
			pop_notes();
}

static void
notes_at_subxact_event(SubXactEvent event, SubTransactionId mine, SubTransactionId parent,
					   void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		while (notes_stack != NULL && notes_stack->nest_level >= GetCurrentTransactionNestLevel())
			pop_notes();
}

static pg_attribute_noreturn() void refuse(const GuardedTable *table, const char *problem)
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

static void
note_column(GuardedTable *table, int i)
{
	HeapTuple tuple = SearchSysCacheAttName(table->relid, guarded_columns[i]);
	GuardedColumn *column = &table->columns[i];

	if (!HeapTupleIsValid(tuple))
		return;
	column->number = ((Form_pg_attribute) GETSTRUCT(tuple))->attnum;
	column->type = ((Form_pg_attribute) GETSTRUCT(tuple))->atttypid;
	column->typmod = ((Form_pg_attribute) GETSTRUCT(tuple))->atttypmod;
	ReleaseSysCache(tuple);
}

/* Notes a table; false if it is not there any more. */
static bool
note_table(GuardedTable *table, Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	char *schema_name;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_class) GETSTRUCT(tuple);
	memset(table, 0, sizeof(GuardedTable));
	table->relid = relid;
	table->name = form->relname;
	table->schema = form->relnamespace;
	table->owner = form->relowner;
	table->persistence = form->relpersistence;
	table->is_partition = form->relispartition;
	table->has_rules = form->relhasrules;
	table->has_children = form->relhassubclass;
	ReleaseSysCache(tuple);

	schema_name = get_namespace_name(table->schema);
	if (schema_name != NULL)
		namestrcpy(&table->schema_name, schema_name);
	table->has_parents = has_superclass(relid);
	table->extension = getExtensionOfObject(RelationRelationId, relid);
	for (int i = 0; i < lengthof(guarded_columns); i++)
		note_column(table, i);
	return true;
}

/* Index of the table in the notes, which is added if need be; -1 if it is gone. */
static int
note_table_of(Notes *notes, Oid relid)
{
	for (int i = 0; i < notes->ntables; i++)
		if (notes->tables[i].relid == relid)
			return i;
	notes->tables = notes->tables == NULL
						? palloc(sizeof(GuardedTable))
						: repalloc(notes->tables, (notes->ntables + 1) * sizeof(GuardedTable));
	return note_table(&notes->tables[notes->ntables], relid) ? notes->ntables++ : -1;
}

/* The catalog's row of a trigger, to be freed; NULL if there is none. */
static HeapTuple
find_trigger(Oid oid)
{
	Relation catalog = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
	scan = systable_beginscan(catalog, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return tuple;
}

static void
note_trigger(Notes *notes, Oid oid)
{
	HeapTuple tuple = find_trigger(oid);
	Form_pg_trigger form;
	GuardTrigger *trigger;
	int table;

	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_trigger) GETSTRUCT(tuple);
	table = note_table_of(notes, form->tgrelid);
	if (table < 0)
		return;
	notes->triggers =
		notes->triggers == NULL
			? palloc(sizeof(GuardTrigger))
			: repalloc(notes->triggers, (notes->ntriggers + 1) * sizeof(GuardTrigger));
	trigger = &notes->triggers[notes->ntriggers++];
	trigger->oid = oid;
	trigger->table = table;
	trigger->name = form->tgname;
	trigger->function = form->tgfoid;
	trigger->type = form->tgtype;
	trigger->enabled = form->tgenabled;
	heap_freetuple(tuple);
}

/* Notes the triggers that call a guard's function. */
static void
note_triggers_of(Notes *notes, Oid function)
{
	Relation catalog = table_open(DependRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(ProcedureRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(function));
	scan = systable_beginscan(catalog, DependReferenceIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		if (form->classid == TriggerRelationId)
			note_trigger(notes, form->objid);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
}

static void
push_notes(Node *parsetree, Oid schema)
{
	static bool registered = false;
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "dashie guarded tables", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Notes *notes = palloc0(sizeof(Notes));
	char *schema_name = get_namespace_name(schema);
	oidvector *no_arguments = buildoidvector(NULL, 0);

	notes->context = context;
	notes->parsetree = parsetree;
	notes->nest_level = GetCurrentTransactionNestLevel();
	notes->outer = notes_stack;
	notes->schema = schema;
	if (schema_name != NULL)
		namestrcpy(&notes->schema_name, schema_name);
	/* on the stack at once, so that an error below frees it */
	notes_stack = notes;
	if (!registered)
	{
		RegisterXactCallback(notes_at_xact_event, NULL);
		RegisterSubXactCallback(notes_at_subxact_event, NULL);
		registered = true;
	}

	for (int i = 0; i < lengthof(guard_functions); i++)
	{
		Oid function =
			GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(guard_functions[i]),
							PointerGetDatum(no_arguments), ObjectIdGetDatum(schema));

		if (OidIsValid(function))
			note_triggers_of(notes, function);
	}
	MemoryContextSwitchTo(old);
	if (notes->ntriggers == 0)
		pop_notes();
}

/* The notes of this command, or NULL. */
static Notes *
notes_of(Node *parsetree)
{
	return notes_stack != NULL && notes_stack->parsetree == parsetree ? notes_stack : NULL;
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
refuse_drop_with_extension(const Notes *notes, Node *parsetree)
{
	ListCell *lc;

	if (IsA(parsetree, DropStmt) && ((DropStmt *) parsetree)->removeType == OBJECT_SCHEMA)
	{
		foreach (lc, ((DropStmt *) parsetree)->objects)
			if (strcmp(strVal(lfirst(lc)), NameStr(notes->schema_name)) == 0)
				refuse(&notes->tables[0],
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

			for (int i = 0; OidIsValid(role) && i < notes->ntables; i++)
				if (notes->tables[i].owner == role || schema_owner == role)
					refuse(&notes->tables[i],
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
	const Notes *notes = arg;

	if (dropped->classId != RelationRelationId)
		return;
	for (int i = 0; i < notes->ntables; i++)
	{
		const GuardedTable *table = &notes->tables[i];

		if (dropped->objectId != table->relid)
			continue;
		if (dropped->objectSubId == 0)
			refuse(table, "it may not be dropped");
		for (int j = 0; j < lengthof(guarded_columns); j++)
			if (table->columns[j].number == dropped->objectSubId)
				refuse(table, psprintf("column \"%s\" may not be dropped", guarded_columns[j]));
	}
}

static void
refuse_dropped_trigger(const ObjectAddress *dropped, void *arg)
{
	const Notes *notes = arg;

	for (int i = 0; dropped->classId == TriggerRelationId && i < notes->ntriggers; i++)
		if (dropped->objectId == notes->triggers[i].oid)
			refuse(&notes->tables[notes->triggers[i].table],
				   psprintf("trigger \"%s\" may not be dropped", NameStr(notes->triggers[i].name)));
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
			refuse(before, psprintf("column \"%s\" may not be dropped", guarded_columns[i]));
		if (strcmp(NameStr(form->attname), guarded_columns[i]) != 0)
			refuse(before, psprintf("column \"%s\" may not be renamed", guarded_columns[i]));
		if (form->atttypid != column->type || form->atttypmod != column->typmod)
			refuse(before,
				   psprintf("the type of column \"%s\" may not change", guarded_columns[i]));
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
	if (!note_table(&now, before->relid))
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
	for (int i = 0; i < lengthof(guarded_columns); i++)
		check_column(before, i);
	check_schema(before, before->schema, NameStr(before->schema_name));
}

/* A trigger may be made stronger, as by the end of a restore, and not weaker. */
static void
check_trigger(const Notes *notes, const GuardTrigger *before)
{
	const GuardedTable *table = &notes->tables[before->table];
	HeapTuple tuple = find_trigger(before->oid);
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
check_rewrite(const Notes *notes)
{
	Oid relid = DatumGetObjectId(OidFunctionCall0(F_PG_EVENT_TRIGGER_TABLE_REWRITE_OID));

	for (int i = 0; i < notes->ntables; i++)
		if (notes->tables[i].relid == relid)
			refuse(&notes->tables[i], "it may not be rewritten");
}

Datum
dashie_stripe_guard_ddl(PG_FUNCTION_ARGS)
{
	EventTriggerData *trigger = (EventTriggerData *) fcinfo->context;
	Notes *notes;
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
		push_notes(trigger->parsetree, schema);
		notes = notes_of(trigger->parsetree);
		if (notes != NULL)
			refuse_drop_with_extension(notes, trigger->parsetree);
		return (Datum) 0;
	}

	notes = notes_of(trigger->parsetree);
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
		for (int i = 0; i < notes->ntables; i++)
			check_table(&notes->tables[i]);
		for (int i = 0; i < notes->ntriggers; i++)
			check_trigger(notes, &notes->triggers[i]);
		check_schema(&notes->tables[0], notes->schema, NameStr(notes->schema_name));
		pop_notes();
	}
	return (Datum) 0;
}
