/*
 * guard_notes.c
 *		Notes of what carries the guards of payment records, taken before a
 *		command that could matter (guard_ddl.c).
 *
 * Commands nest (a default may call a function that runs DDL), so notes are a
 * stack, an entry of which belongs to one command; an error that undoes the
 * command takes its entry along.  Catalogs are read with the locks of a catalog
 * scan and no others.
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
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "billing/guard_notes.h"

/* The trigger functions that guard; they live in the schema of the event trigger's own. */
static const char *const guard_functions[] = {"stripe_guard", "seal_guard"};

/* The columns that a guard looks at, of either table. */
const char *const dashie_guarded_columns[GUARDED_COLUMNS] = {
	"id",  "stripe_event_id", "event_type", "event_data", "created_at", "user_id", "number",
	"day", "sealed_at",		  "late",		"row_count",  "entries",	"content", "digest",
};

static GuardNotes *notes_stack = NULL;

void
dashie_guard_pop(void)
{
	GuardNotes *notes = notes_stack;

	notes_stack = notes->outer;
	MemoryContextDelete(notes->context);
}

static void
notes_at_xact_event(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		while (notes_stack != NULL)
			dashie_guard_pop();
}

static void
notes_at_subxact_event(SubXactEvent event, SubTransactionId mine, SubTransactionId parent,
					   void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		while (notes_stack != NULL && notes_stack->nest_level >= GetCurrentTransactionNestLevel())
			dashie_guard_pop();
}

static void
note_column(GuardedTable *table, int i)
{
	HeapTuple tuple = SearchSysCacheAttName(table->relid, dashie_guarded_columns[i]);
	GuardedColumn *column = &table->columns[i];

	if (!HeapTupleIsValid(tuple))
		return;
	column->number = ((Form_pg_attribute) GETSTRUCT(tuple))->attnum;
	column->type = ((Form_pg_attribute) GETSTRUCT(tuple))->atttypid;
	column->typmod = ((Form_pg_attribute) GETSTRUCT(tuple))->atttypmod;
	ReleaseSysCache(tuple);
}

bool
dashie_guard_note_table(GuardedTable *table, Oid relid)
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
	for (int i = 0; i < GUARDED_COLUMNS; i++)
		note_column(table, i);
	return true;
}

/* The table in the notes, to which it is added if need be; NULL if it is gone. */
static GuardedTable *
note_table_of(GuardNotes *notes, Oid relid)
{
	GuardedTable *table;
	ListCell *lc;

	foreach (lc, notes->tables)
	{
		table = lfirst(lc);
		if (table->relid == relid)
			return table;
	}
	table = palloc(sizeof(GuardedTable));
	if (!dashie_guard_note_table(table, relid))
		return NULL;
	notes->tables = lappend(notes->tables, table);
	return table;
}

HeapTuple
dashie_guard_trigger(Oid oid)
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
note_trigger(GuardNotes *notes, Oid oid)
{
	HeapTuple tuple = dashie_guard_trigger(oid);
	Form_pg_trigger form;
	GuardTrigger *trigger;
	GuardedTable *table;

	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_trigger) GETSTRUCT(tuple);
	table = note_table_of(notes, form->tgrelid);
	if (table == NULL)
		return;
	trigger = palloc(sizeof(GuardTrigger));
	trigger->oid = oid;
	trigger->table = table;
	trigger->name = form->tgname;
	trigger->function = form->tgfoid;
	trigger->type = form->tgtype;
	trigger->enabled = form->tgenabled;
	notes->triggers = lappend(notes->triggers, trigger);
	heap_freetuple(tuple);
}

/* Notes the triggers that call a guard's function. */
static void
note_triggers_of(GuardNotes *notes, Oid function)
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

void
dashie_guard_push(Node *parsetree, Oid schema)
{
	static bool registered = false;
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "dashie guarded tables", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	GuardNotes *notes = palloc0(sizeof(GuardNotes));
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
	if (notes->triggers == NIL)
		dashie_guard_pop();
}

GuardNotes *
dashie_guard_notes(Node *parsetree)
{
	return notes_stack != NULL && notes_stack->parsetree == parsetree ? notes_stack : NULL;
}
