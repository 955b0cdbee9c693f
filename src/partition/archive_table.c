/*
 * archive_table.c
 *		The archiver that comes along: dashie.archive_to_table() copies a partition
 *		into a table of the same name in a schema of its own.
 *
 * Run by the removal of partitions, or by hand, as the owner of the partition,
 * who then owns schema and table; nobody else has rights on them.
 *
 * Rows are only ever added.  A call that finds the table there adds the rows
 * that are not in it yet, so that it can be repeated, also after the partition
 * was emptied.  It confirms when every row of the partition is in the table, to
 * the byte.  What it commits does not depend on whether it is called by the
 * removal, which makes sure by itself that nothing comes in between.
 *
 * Locks: SHARE UPDATE EXCLUSIVE on the partition, so that two calls take turns.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/tupdesc.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/day.h"
#include "common/owner.h"
#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "partition/partition.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_archive_to_table);

/*
 * find_leaf locks a partition of widget_analytics and returns it; anything else
 * is a bad argument.
 */
static PartitionLeaf *
find_leaf(Oid relid)
{
	Relation parent = dashie_partition_open_parent(dashie_enabled_oid_required("widget_analytics"),
												   AccessShareLock);
	PartitionSet *set = dashie_partition_read(parent);

	for (int i = 0; i < set->count; i++)
		if (set->leaves[i].relid == relid)
		{
			LockRelationOid(relid, ShareUpdateExclusiveLock);
			set = dashie_partition_read(parent);
			break;
		}
	for (int i = 0; i < set->count; i++)
		if (set->leaves[i].relid == relid)
		{
			relation_close(parent, NoLock);
			return &set->leaves[i];
		}
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("\"%s\" is not a partition of widget_analytics",
						   get_rel_name(relid) ? get_rel_name(relid) : psprintf("%u", relid)),
					errhint("SELECT * FROM dashie.partitions lists them.")));
	pg_unreachable();
}

/*
 * require_schema makes the schema, or checks that it is the current user's:
 * whoever owns a schema can drop what others have put there.
 */
static void
require_schema(const char *schema, Oid leaf)
{
	Oid namespace = get_namespace_oid(schema, true);

	if (schema[0] == '\0' || strncmp(schema, "pg_", 3) == 0 ||
		strcmp(schema, "information_schema") == 0 || strcmp(schema, "dashie") == 0 ||
		namespace == get_rel_namespace(leaf))
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("schema \"%s\" cannot hold archived partitions", schema),
			 errdetail("It must be neither the partition's own, nor the system's or dashie's.")));
	if (!OidIsValid(namespace))
		dashie_command(psprintf("CREATE SCHEMA %s", quote_identifier(schema)));
	else if (!dashie_owns_schema(namespace, GetUserId()))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("schema \"%s\" does not belong to role \"%s\"", schema,
							   GetUserNameFromId(GetUserId(), false)),
						errdetail("Its owner could drop what is archived there.")));
}

static Oid
make_table(const char *name, const char *schema, const PartitionLeaf *leaf)
{
	Oid relid;

	dashie_command(psprintf("CREATE TABLE %s (LIKE %s INCLUDING STORAGE INCLUDING COMPRESSION"
							" INCLUDING COMMENTS)",
							name, dashie_relation_name(leaf->relid)));
	relid = dashie_relation_oid(schema, leaf->name);
	dashie_revoke_rights(relid);
	dashie_command(psprintf("ALTER TABLE %s ENABLE ROW LEVEL SECURITY", name));
	dashie_command(
		psprintf("COMMENT ON TABLE %s IS %s", name,
				 quote_literal_cstr(psprintf("widget_analytics from %s to %s, archived by dashie",
											 dashie_instant_text(leaf->range.lower),
											 dashie_instant_text(leaf->range.upper)))));
	return relid;
}

/* Whether two tables have the same columns, in the same order. */
static bool
same_columns(TupleDesc a, TupleDesc b)
{
	int j = 0;

	for (int i = 0; i < a->natts; i++)
	{
		Form_pg_attribute left = TupleDescAttr(a, i);
		Form_pg_attribute right;

		if (left->attisdropped)
			continue;
		while (j < b->natts && TupleDescAttr(b, j)->attisdropped)
			j++;
		if (j == b->natts)
			return false;
		right = TupleDescAttr(b, j++);
		if (strcmp(NameStr(left->attname), NameStr(right->attname)) != 0 ||
			left->atttypid != right->atttypid || left->atttypmod != right->atttypmod)
			return false;
	}
	while (j < b->natts && TupleDescAttr(b, j)->attisdropped)
		j++;
	return j == b->natts;
}

static void
check_table(Oid relid, Oid leaf)
{
	Relation archive =
		dashie_relation_open(relid, RowExclusiveLock, ACL_SELECT | ACL_INSERT, false);
	Relation source = relation_open(leaf, NoLock);

	dashie_require_owner(relid);
	if (!same_columns(RelationGetDescr(source), RelationGetDescr(archive)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
						errmsg("table %s has other columns than partition \"%s\"",
							   dashie_relation_name(relid), RelationGetRelationName(source)),
						errhint("Rename it, so that the partition can be archived anew.")));
	relation_close(source, NoLock);
	relation_close(archive, NoLock);
}

/* SQL: dashie.archive_to_table(partition regclass, schema name) */
Datum
dashie_archive_to_table(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	PartitionLeaf *leaf;
	const char *schema;
	const char *source;
	const char *target;
	const char *same = "t.id = p.id AND t.\"timestamp\" = p.\"timestamp\" AND t.* *= p.*";
	Oid relid;
	int64 rows;
	int64 archived;

	dashie_reject_null(fcinfo, 0, "partition");
	dashie_reject_null(fcinfo, 1, "schema");
	schema = NameStr(*PG_GETARG_NAME(1));
	dashie_enter(&guard);
	leaf = find_leaf(PG_GETARG_OID(0));
	dashie_become_owner_of(&guard, leaf->relid);

	dashie_query_begin();
	require_schema(schema, leaf->relid);
	source = psprintf("%s%s", leaf->relkind == RELKIND_PARTITIONED_TABLE ? "" : "ONLY ",
					  dashie_relation_name(leaf->relid));
	target = quote_qualified_identifier(schema, leaf->name);
	relid = dashie_relation_oid(schema, leaf->name);
	if (!OidIsValid(relid))
	{
		relid = make_table(target, schema, leaf);
		dashie_command(psprintf("INSERT INTO %s SELECT p.* FROM %s AS p", target, source));
	}
	else
	{
		check_table(relid, leaf->relid);
		dashie_command(psprintf("INSERT INTO %s SELECT p.* FROM %s AS p"
								" WHERE NOT EXISTS (SELECT FROM ONLY %s AS t WHERE %s)",
								target, source, target, same));
	}

	/* what is there by now, and not what was to be written */
	dashie_query(psprintf("SELECT (SELECT count(*) FROM %s AS p),"
						  " (SELECT count(*) FROM %s AS p JOIN ONLY %s AS t ON %s)",
						  source, source, target, same),
				 0, NULL, NULL, NULL);
	rows = DatumGetInt64(dashie_field(0, 1, NULL));
	archived = DatumGetInt64(dashie_field(0, 2, NULL));
	dashie_query_end();
	if (archived != rows)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
						errmsg("table %s holds " INT64_FORMAT " of the " INT64_FORMAT
							   " rows of partition \"%s\"",
							   target, archived, rows, leaf->name),
						errdetail("Rows came or changed while they were copied, or the table has a "
								  "trigger or a rule.")));
	dashie_leave(&guard);
	PG_RETURN_BOOL(true);
}
