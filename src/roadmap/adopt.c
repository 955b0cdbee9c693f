/*
 * adopt.c
 *		A table that was made by hand: compared with the roadmap's, and what it
 *		lacks added.
 *
 * Runs inside enable(), as the table's owner: looking for an equal CHECK
 * evaluates expressions that the owner wrote.  The caller holds the lock.
 * Columns and keys that differ are collected, not thrown, so that the owner
 * sees the whole list at once; a missing default, NOT NULL, CHECK, key or
 * index is added.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "commands/tablecmds.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "parser/parse_type.h"
#include "partitioning/partdesc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/syscache.h"

#include "common/relation.h"
#include "roadmap/roadmap.h"

/* ALTER TABLE with one subcommand */
static Node *
alter_table(const Enabling *enabling, AlterTableType type, const char *name, Node *def)
{
	AlterTableStmt *alter = makeNode(AlterTableStmt);
	AlterTableCmd *command = makeNode(AlterTableCmd);

	command->subtype = type;
	command->name = name != NULL ? pstrdup(name) : NULL;
	command->def = def;
	command->behavior = DROP_RESTRICT;
	alter->relation = makeRangeVar(pstrdup(enabling->schema), pstrdup(enabling->table->name), -1);
	alter->cmds = list_make1(command);
	alter->objtype = OBJECT_TABLE;
	return (Node *) alter;
}

/* The attribute of that name, or NULL. */
static Form_pg_attribute
find_attribute(Relation rel, const char *name)
{
	for (int i = 0; i < RelationGetNumberOfAttributes(rel); i++)
	{
		Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(rel), i);

		if (!attr->attisdropped && strcmp(NameStr(attr->attname), name) == 0)
			return attr;
	}
	return NULL;
}

/* Whether a column may hold what the roadmap's column may; the difference is noted. */
static void
compare_type(Enabling *enabling, Form_pg_attribute attr, ColumnDef *wanted)
{
	Oid type;
	int32 typmod;

	typenameTypeIdAndMod(NULL, wanted->typeName, &type, &typmod);
	if (attr->atttypid != type || attr->atttypmod != typmod)
		dashie_ddl_differ(enabling, "column \"%s\" has type %s, not %s", wanted->colname,
						  format_type_with_typemod(attr->atttypid, attr->atttypmod),
						  format_type_with_typemod(type, typmod));
	else if (attr->attgenerated != '\0')
		dashie_ddl_differ(enabling, "column \"%s\" is generated", wanted->colname);
	else if (OidIsValid(attr->attcollation) && !get_collation_isdeterministic(attr->attcollation))
		dashie_ddl_differ(enabling, "column \"%s\" has a nondeterministic collation",
						  wanted->colname);
}

/*
 * A column beyond the roadmap's is the application's own and stays; but one
 * that must be given a value would refuse every row that dashie writes.
 */
static void
compare_other_columns(Enabling *enabling, Relation rel, List *wanted)
{
	for (int i = 0; i < RelationGetNumberOfAttributes(rel); i++)
	{
		Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(rel), i);
		bool known = false;
		ListCell *lc;

		if (attr->attisdropped || !attr->attnotnull || attr->atthasdef || attr->attidentity != '\0')
			continue;
		foreach (lc, wanted)
			if (IsA(lfirst(lc), ColumnDef) &&
				strcmp(lfirst_node(ColumnDef, lc)->colname, NameStr(attr->attname)) == 0)
				known = true;
		if (!known)
			dashie_ddl_differ(enabling,
							  "column \"%s\" is not in the roadmap, and NOT NULL without a default",
							  NameStr(attr->attname));
	}
}

/* A partitioned table must be cut by ranges of the roadmap's column alone. */
static void
compare_partitioning(Enabling *enabling, Relation rel, PartitionSpec *wanted)
{
	PartitionKey key = RelationGetPartitionKey(rel);
	const char *column = linitial_node(PartitionElem, wanted->partParams)->name;
	Oid default_partition = get_default_partition_oid(RelationGetRelid(rel));

	if (key->strategy != PARTITION_STRATEGY_RANGE || key->partnatts != 1 ||
		key->partattrs[0] != get_attnum(RelationGetRelid(rel), column) ||
		key->partattrs[0] == InvalidAttrNumber)
		dashie_ddl_differ(enabling, "it is not partitioned by RANGE (%s)",
						  quote_identifier(column));
	if (OidIsValid(default_partition))
		dashie_ddl_differ(enabling, "it has a DEFAULT partition, \"%s\"",
						  get_rel_name(default_partition));
}

/*
 * dashie_adopt_columns compares the columns, and how the table is made, with
 * a CREATE TABLE statement.  Nothing is changed.
 */
void
dashie_adopt_columns(Enabling *enabling, CreateStmt *statement)
{
	Relation rel = relation_open(enabling->relid, NoLock);
	ListCell *lc;

	if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		dashie_ddl_differ(enabling, "it is not a permanent, logged table");
	if (rel->rd_rel->relispartition)
		dashie_ddl_differ(enabling, "it is a partition of another table");
	/* a rule could turn away what is to be kept; later the guard refuses it */
	if (rel->rd_rules != NULL && strcmp(enabling->table->name, "stripe_webhook_events") == 0)
		dashie_ddl_differ(enabling, "it has rules");
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		compare_partitioning(enabling, rel, statement->partspec);
	else if (find_inheritance_children(RelationGetRelid(rel), NoLock) != NIL)
		dashie_ddl_differ(enabling, "other tables inherit from it");

	foreach (lc, statement->tableElts)
	{
		ColumnDef *wanted = lfirst(lc);
		Form_pg_attribute attr;

		if (!IsA(wanted, ColumnDef))
			continue;
		attr = find_attribute(rel, wanted->colname);
		if (attr == NULL)
		{
			Oid type;
			int32 typmod;

			typenameTypeIdAndMod(NULL, wanted->typeName, &type, &typmod);
			dashie_ddl_differ(enabling, "column \"%s\" %s is missing", wanted->colname,
							  format_type_with_typemod(type, typmod));
		}
		else
			compare_type(enabling, attr, wanted);
	}
	compare_other_columns(enabling, rel, statement->tableElts);
	relation_close(rel, NoLock);
}

/* Whether the columns of a key are these, in this order. */
static bool
same_columns(Oid relid, const int16 *attnums, int natts, List *names)
{
	ListCell *lc;
	int i = 0;

	if (natts != list_length(names))
		return false;
	foreach (lc, names)
		if (get_attnum(relid, strVal(lfirst(lc))) != attnums[i++])
			return false;
	return true;
}

static char *
column_list(List *names)
{
	StringInfoData out;
	ListCell *lc;

	initStringInfo(&out);
	foreach (lc, names)
		appendStringInfo(&out, "%s%s", out.len > 0 ? ", " : "",
						 quote_identifier(strVal(lfirst(lc))));
	return out.data;
}

/*
 * Whether a key over these columns is there, under any name.  A primary key
 * over others is a difference, and then there is nothing to add either.
 */
static bool
has_key(Enabling *enabling, Relation rel, Constraint *wanted)
{
	List *indexes = RelationGetIndexList(rel);
	ListCell *lc;
	bool found = false;

	foreach (lc, indexes)
	{
		Relation index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;
		bool same = form->indisunique && form->indisvalid && form->indimmediate &&
					!dashie_index_is_partial(index) &&
					same_columns(RelationGetRelid(rel), form->indkey.values, form->indnkeyatts,
								 wanted->keys);

		if (wanted->contype == CONSTR_UNIQUE && same)
			found = true;
		else if (wanted->contype == CONSTR_PRIMARY && form->indisprimary)
		{
			found = true;
			if (!same)
				dashie_ddl_differ(enabling, "its primary key is not (%s)",
								  column_list(wanted->keys));
		}
		index_close(index, NoLock);
	}
	list_free(indexes);
	return found;
}

/*
 * Whether a foreign key from this column to that table is there, under any
 * name.  One that does something else on delete is a difference.
 */
static bool
has_foreign_key(Enabling *enabling, Relation rel, Constraint *wanted)
{
	const char *column = strVal(linitial(wanted->fk_attrs));
	AttrNumber attnum = get_attnum(RelationGetRelid(rel), column);
	Oid target = RangeVarGetRelid(wanted->pktable, NoLock, false);
	Relation catalog = table_open(ConstraintRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	bool found = false;

	ScanKeyInit(&key, Anum_pg_constraint_conrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationGetRelid(rel)));
	scan = systable_beginscan(catalog, ConstraintRelidTypidNameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);
		bool isnull;
		ArrayType *columns;

		if (form->contype != CONSTRAINT_FOREIGN || form->confrelid != target)
			continue;
		columns = DatumGetArrayTypeP(
			heap_getattr(tuple, Anum_pg_constraint_conkey, RelationGetDescr(catalog), &isnull));
		if (isnull || ARR_DIMS(columns)[0] != 1 || ((int16 *) ARR_DATA_PTR(columns))[0] != attnum)
			continue;
		found = true;
		if (form->confdeltype != wanted->fk_del_action)
			dashie_ddl_differ(
				enabling, "foreign key \"%s\" is not ON DELETE %s", NameStr(form->conname),
				wanted->fk_del_action == FKCONSTR_ACTION_CASCADE ? "CASCADE" : "SET NULL");
		else if (!form->convalidated)
			dashie_ddl_differ(enabling, "foreign key \"%s\" is not validated",
							  NameStr(form->conname));
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return found;
}

/* Whether every column that an expression names is there. */
static bool
columns_exist(Node *node, void *arg)
{
	if (node == NULL)
		return false;
	if (IsA(node, ColumnRef))
		return find_attribute((Relation) arg, strVal(linitial(((ColumnRef *) node)->fields))) ==
			   NULL;
	return raw_expression_tree_walker(node, columns_exist, arg);
}

/* Whether the table's own CHECKs and NOT NULLs imply this one. */
static bool
has_check(Relation rel, Constraint *wanted)
{
	ParseState *pstate;
	ParseNamespaceItem *item;
	Node *expr;

	if (columns_exist(wanted->raw_expr, rel))
		return true; /* a missing column is in the list already */

	pstate = make_parsestate(NULL);
	item = addRangeTableEntryForRelation(pstate, rel, AccessShareLock, NULL, false, true);
	addNSItemToQuery(pstate, item, true, true, true);
	expr = transformExpr(pstate, copyObject(wanted->raw_expr), EXPR_KIND_CHECK_CONSTRAINT);
	expr = coerce_to_boolean(pstate, expr, "CHECK");
	assign_expr_collations(pstate, expr);
	free_parsestate(pstate);

	expr = eval_const_expressions(NULL, expr);
	expr = (Node *) canonicalize_qual((Expr *) expr, true);
	return PartConstraintImpliedByRelConstraint(rel, make_ands_implicit((Expr *) expr));
}

/* dashie_adopt_constraint adds a table constraint unless an equal one is there. */
void
dashie_adopt_constraint(Enabling *enabling, Constraint *constraint)
{
	Relation rel = relation_open(enabling->relid, AccessShareLock);
	bool found = false;

	switch (constraint->contype)
	{
		case CONSTR_PRIMARY:
		case CONSTR_UNIQUE:
			found = has_key(enabling, rel, constraint);
			break;
		case CONSTR_FOREIGN:
			found = has_foreign_key(enabling, rel, constraint);
			break;
		case CONSTR_CHECK:
			found = has_check(rel, constraint);
			break;
		default:
			elog(ERROR, "unexpected constraint type %d in the DDL of \"%s\"",
				 (int) constraint->contype, enabling->table->name);
	}
	relation_close(rel, NoLock);
	if (!found)
		dashie_ddl_run(enabling, alter_table(enabling, AT_AddConstraint, NULL,
											 copyObject((Node *) constraint)));
}

/* The same constraint, written at the table instead of at its column. */
static Constraint *
table_constraint(Constraint *constraint, const char *column)
{
	Constraint *copy = copyObject(constraint);

	if (copy->contype == CONSTR_PRIMARY || copy->contype == CONSTR_UNIQUE)
		copy->keys = list_make1(makeString(pstrdup(column)));
	else if (copy->contype == CONSTR_FOREIGN)
		copy->fk_attrs = list_make1(makeString(pstrdup(column)));
	return copy;
}

/*
 * Adds what a column lacks.  A default of the owner's own is kept: an id from
 * uuid-ossp is as good as ours.
 */
static void
adopt_column_constraints(Enabling *enabling, ColumnDef *wanted)
{
	ListCell *lc;

	foreach (lc, wanted->constraints)
	{
		Constraint *constraint = lfirst_node(Constraint, lc);
		Relation rel = relation_open(enabling->relid, AccessShareLock);
		Form_pg_attribute attr = find_attribute(rel, wanted->colname);
		bool exists = attr != NULL;
		bool notnull = exists && attr->attnotnull;
		bool hasdef = exists && (attr->atthasdef || attr->attidentity != '\0');

		relation_close(rel, NoLock);
		if (!exists)
			return;
		if (constraint->contype == CONSTR_NOTNULL)
		{
			if (!notnull)
				dashie_ddl_run(enabling,
							   alter_table(enabling, AT_SetNotNull, wanted->colname, NULL));
		}
		else if (constraint->contype == CONSTR_DEFAULT)
		{
			if (!hasdef)
				dashie_ddl_run(enabling, alter_table(enabling, AT_ColumnDefault, wanted->colname,
													 copyObject(constraint->raw_expr)));
		}
		else
			dashie_adopt_constraint(enabling, table_constraint(constraint, wanted->colname));
	}
}

/* dashie_adopt_constraints adds what a table lacks of a CREATE TABLE statement. */
void
dashie_adopt_constraints(Enabling *enabling, CreateStmt *statement)
{
	ListCell *lc;

	foreach (lc, statement->tableElts)
	{
		Node *element = lfirst(lc);

		if (IsA(element, ColumnDef))
			adopt_column_constraints(enabling, (ColumnDef *) element);
		else
			dashie_adopt_constraint(enabling, castNode(Constraint, element));
	}
}

/* dashie_adopt_column handles ADD COLUMN IF NOT EXISTS of a column that is ours. */
void
dashie_adopt_column(Enabling *enabling, AlterTableCmd *command)
{
	ColumnDef *wanted = castNode(ColumnDef, command->def);
	Relation rel = relation_open(enabling->relid, AccessShareLock);
	Form_pg_attribute attr = find_attribute(rel, wanted->colname);

	if (attr != NULL)
		compare_type(enabling, attr, wanted);
	relation_close(rel, NoLock);

	if (attr == NULL)
		dashie_ddl_run(enabling,
					   alter_table(enabling, AT_AddColumn, NULL, copyObject((Node *) wanted)));
	else
		adopt_column_constraints(enabling, wanted);
}

/* Whether an index has the columns of an IndexStmt; expressions are not compared. */
static bool
same_index(Relation index, IndexStmt *wanted)
{
	ListCell *lc;
	int i = 0;

	if (!index->rd_index->indisvalid ||
		index->rd_index->indnkeyatts != list_length(wanted->indexParams))
		return false;
	foreach (lc, wanted->indexParams)
	{
		IndexElem *element = lfirst_node(IndexElem, lc);
		AttrNumber attnum = index->rd_index->indkey.values[i++];

		if (attnum !=
			(element->name != NULL ? get_attnum(index->rd_index->indrelid, element->name) : 0))
			return false;
	}
	return true;
}

/* dashie_adopt_index creates an index unless one of that name is on the table. */
void
dashie_adopt_index(Enabling *enabling, IndexStmt *statement)
{
	Oid relid = dashie_relation_oid(enabling->schema, statement->idxname);

	if (!OidIsValid(relid))
		dashie_ddl_run(enabling, (Node *) statement);
	else if (get_rel_relkind(relid) != RELKIND_INDEX &&
			 get_rel_relkind(relid) != RELKIND_PARTITIONED_INDEX)
		dashie_ddl_differ(enabling, "the name of index \"%s\" is taken by another relation",
						  statement->idxname);
	else
	{
		Relation index = relation_open(relid, AccessShareLock);

		if (index->rd_index->indrelid != enabling->relid)
			dashie_ddl_differ(enabling, "index \"%s\" belongs to another table",
							  statement->idxname);
		else if (!same_index(index, statement))
			dashie_ddl_differ(enabling, "index \"%s\" has other columns, or is invalid",
							  statement->idxname);
		relation_close(index, NoLock);
	}
}
