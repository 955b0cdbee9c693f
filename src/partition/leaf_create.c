/*
 * leaf_create.c
 *		Making partitions: from nothing to attached.
 *
 * Run by maintain_partitions(), by the job and by enable(), as the owner of
 * widget_analytics.  Locks: SHARE UPDATE EXCLUSIVE on the parent, which other
 * maintenance waits for and readers and writers do not; then SHARE ROW
 * EXCLUSIVE on the tables that the parent's foreign keys name, which ATTACH
 * takes to repeat the keys, and which is why everything else is done before.
 *
 * A partition is never visible, not even to its own transaction's routing,
 * before it has row level security, policies and grants.  No check constraint
 * is needed for ATTACH to be quick: the table is empty.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/tablespace.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/day.h"
#include "common/query.h"
#include "partition/partition.h"

/* Partitions made in one transaction: bounds the locks that it holds. */
#define PARTITION_BATCH 100

static bool
name_taken(const char *name, Oid namespace)
{
	return OidIsValid(get_relname_relid(name, namespace)) ||
		   SearchSysCacheExists2(TYPENAMENSP, PointerGetDatum(name), ObjectIdGetDatum(namespace));
}

/*
 * dashie_partition_name is widget_analytics_20261124, or with _1, _2, ... where that is
 * taken: by a partition of an earlier time zone, or by anything at all.
 */
char *
dashie_partition_name(Oid parent, DateADT day)
{
	Oid namespace = get_rel_namespace(parent);
	int year;
	int month;
	int dom;
	char label[32];
	char *name;

	j2date(day + POSTGRES_EPOCH_JDATE, &year, &month, &dom);
	snprintf(label, sizeof(label), "%04d%02d%02d", year, month, dom);
	name = makeObjectName(get_rel_name(parent), NULL, label);
	for (int i = 1; name_taken(name, namespace); i++)
	{
		snprintf(label, sizeof(label), "%04d%02d%02d_%d", year, month, dom, i);
		name = makeObjectName(get_rel_name(parent), NULL, label);
	}
	return name;
}

static char *
instant_literal(TimestampTz at)
{
	return quote_literal_cstr(dashie_instant_text(at));
}

/*
 * dashie_partition_missing lists what is to be made now.  Where it is more
 * than one transaction should hold, the newest: the next inserts need them.
 */
int
dashie_partition_missing(Relation parent, const PartitionSet *set, const PartitionWindow *window,
						 PartitionRange **missing)
{
	int count;

	if (set->default_partition != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has a default partition", RelationGetRelationName(parent)),
				 errdetail("Each new partition would scan \"%s\" under an exclusive lock, and fail "
						   "where that holds rows of its range.",
						   set->default_partition),
				 errhint("Detach \"%s\", run dashie.maintain_partitions(), and insert its rows "
						 "again.",
						 set->default_partition)));

	count = dashie_bounds_missing(set->ranges, set->count, window->from, window->upto, window->zone,
								  missing);
	if (count > PARTITION_BATCH)
	{
		*missing += count - PARTITION_BATCH;
		count = PARTITION_BATCH;
	}
	return count;
}

/*
 * references_any tells whether a table has a foreign key to one of the others.
 */
static bool
references_any(Oid relid, List *others)
{
	Relation rel = try_relation_open(relid, AccessShareLock);
	bool result = false;
	ListCell *lc;

	if (rel == NULL)
		return false;
	foreach (lc, RelationGetFKeyList(rel))
	{
		Oid other = ((ForeignKeyCacheInfo *) lfirst(lc))->confrelid;

		result = result || (other != relid && list_member_oid(others, other));
	}
	relation_close(rel, AccessShareLock);
	return result;
}

/*
 * dashie_partition_create_locks lists what making a partition locks, beyond
 * the partition: the parent first, then each table that its foreign keys name,
 * a table before those that reference it, as a cascading DELETE locks them.
 */
LockNeed *
dashie_partition_create_locks(Oid parent, int *nneeds)
{
	Relation rel = relation_open(parent, AccessShareLock);
	List *keys = RelationGetFKeyList(rel);
	List *referenced = NIL;
	LockNeed *needs = palloc0((list_length(keys) + 1) * sizeof(LockNeed));
	ListCell *lc;

	foreach (lc, keys)
		referenced =
			list_append_unique_oid(referenced, ((ForeignKeyCacheInfo *) lfirst(lc))->confrelid);
	relation_close(rel, AccessShareLock);

	needs[0].relid = parent;
	needs[0].mode = ShareUpdateExclusiveLock;
	*nneeds = 1;
	for (int second = 0; second < 2; second++)
		foreach (lc, referenced)
			if (references_any(lfirst_oid(lc), referenced) == (second == 1))
			{
				needs[*nneeds].relid = lfirst_oid(lc);
				needs[*nneeds].mode = ShareRowExclusiveLock;
				(*nneeds)++;
			}
	return needs;
}

/*
 * make_table makes the partition to be, complete and not yet attached.
 * Identity is left out: partitions take their values through the parent, and
 * from 17 on a table with an identity of its own cannot be attached.
 */
static Oid
make_table(Oid parent, const char *parent_name, Oid tablespace, const char *name, Oid namespace)
{
	char *qualified = quote_qualified_identifier(get_namespace_name(namespace), name);
	StringInfoData sql;
	Oid relid;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING IDENTITY)", qualified,
					 parent_name);
	if (OidIsValid(tablespace))
		appendStringInfo(&sql, " TABLESPACE %s", quote_identifier(get_tablespace_name(tablespace)));
	dashie_command(sql.data);

	relid = get_relname_relid(name, namespace);
	if (!OidIsValid(relid))
		elog(ERROR, "partition \"%s\" was not created", name);
	dashie_copy_rights(parent, relid, true);
	return relid;
}

/*
 * dashie_partition_create makes and attaches partitions for the given ranges,
 * none of which may exist.  The caller holds SHARE UPDATE EXCLUSIVE on the
 * parent and no open reference to it.  Returns their names.
 */
List *
dashie_partition_create(Oid parent, const PartitionRange *ranges, int nranges, int lock_budget_ms)
{
	Relation rel = relation_open(parent, NoLock);
	Oid namespace = RelationGetNamespace(rel);
	Oid tablespace = rel->rd_rel->reltablespace;
	char *parent_name = dashie_relation_name(parent);
	char *schema = get_namespace_name(namespace);
	List *names = NIL;
	LockNeed *needs;
	int nneeds;

	relation_close(rel, NoLock);
	dashie_query_begin();
	for (int i = 0; i < nranges; i++)
	{
		char *name = dashie_partition_name(parent, ranges[i].day);

		make_table(parent, parent_name, tablespace, name, namespace);
		names = lappend(names, name);
	}

	/* one budget for all: who queues behind the first must not wait for the second too */
	needs = dashie_partition_create_locks(parent, &nneeds);
	dashie_lock_together(needs, nneeds, lock_budget_ms);
	for (int i = 0; i < nranges; i++)
		dashie_command(psprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)",
								parent_name, quote_qualified_identifier(schema, list_nth(names, i)),
								instant_literal(ranges[i].lower),
								instant_literal(ranges[i].upper)));
	dashie_query_end();
	return names;
}

/*
 * secure gives partitions that were made by other means the parent's rights:
 * an API serves them by their own names.
 */
static void
secure(Oid parent, Oid relid, char relkind)
{
	ListCell *lc;

	if (relkind == RELKIND_FOREIGN_TABLE)
		return;
	if (dashie_rights_differ(parent, relid))
		dashie_copy_rights(parent, relid, true);
	if (relkind == RELKIND_PARTITIONED_TABLE)
		foreach (lc, find_inheritance_children(relid, NoLock))
			secure(parent, lfirst_oid(lc), get_rel_relkind(lfirst_oid(lc)));
}

void
dashie_partition_cover(Oid parent)
{
	PartitionWindow window;
	PartitionSet *set;
	Relation rel = dashie_partition_open_parent(parent, ShareUpdateExclusiveLock);

	set = dashie_partition_read(rel);
	relation_close(rel, NoLock);
	for (int i = 0; i < set->count; i++)
		secure(parent, set->leaves[i].relid, set->leaves[i].relkind);

	dashie_partition_window(&window);
	for (;;)
	{
		PartitionRange *missing;
		int count;

		rel = dashie_partition_open_parent(parent, ShareUpdateExclusiveLock);
		count = dashie_partition_missing(rel, dashie_partition_read(rel), &window, &missing);
		relation_close(rel, NoLock);
		if (count == 0)
			break;
		dashie_partition_create(parent, missing, count, 0);
	}
}
