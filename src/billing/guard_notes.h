/*
 * guard_notes.h
 *		What carries the guards of payment records, as it was before a command.
 *		Between guard_notes.c and guard_ddl.c only.
 */
#ifndef DASHIE_GUARD_NOTES_H
#define DASHIE_GUARD_NOTES_H

#include "postgres.h"

#include "access/attnum.h"
#include "access/htup.h"
#include "nodes/pg_list.h"

/* The columns that a guard looks at, of either table. */
#define GUARDED_COLUMNS 14
extern const char *const dashie_guarded_columns[GUARDED_COLUMNS];

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
	GuardedColumn columns[GUARDED_COLUMNS];
} GuardedTable;

typedef struct GuardTrigger
{
	Oid oid;
	GuardedTable *table;
	NameData name;
	Oid function;
	int16 type;
	char enabled;
} GuardTrigger;

/* What carried the guards before a command. */
typedef struct GuardNotes
{
	struct GuardNotes *outer; /* of the command that this one is nested in */
	Node *parsetree;		  /* of the command; identifies it */
	int nest_level;			  /* of the transaction, when it began */
	MemoryContext context;
	Oid schema; /* the extension's */
	NameData schema_name;
	List *tables;	/* of GuardedTable * */
	List *triggers; /* of GuardTrigger * */
} GuardNotes;

extern void dashie_guard_push(Node *parsetree, Oid schema);
extern void dashie_guard_pop(void);
/* The notes of this command, or NULL. */
extern GuardNotes *dashie_guard_notes(Node *parsetree);

/* A table as it is now; false if it is not there any more. */
extern bool dashie_guard_note_table(GuardedTable *table, Oid relid);
/* The catalog's row of a trigger, to be freed; NULL if there is none. */
extern HeapTuple dashie_guard_trigger(Oid oid);

#endif /* DASHIE_GUARD_NOTES_H */
