/*
 * leaves.c
 *		What partitions there are, and what there should be.
 *
 * Bounds come from pg_class.relpartbound, never from names.  Readers hold a
 * lock on the parent: ACCESS SHARE to look (a partition may still come or go),
 * SHARE UPDATE EXCLUSIVE to rely on what they saw.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "optimizer/plancat.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/day.h"
#include "common/query.h"
#include "common/setting.h"
#include "partition/partition.h"
#include "retention/retention.h"

/*
 * dashie_partition_open_parent opens widget_analytics and checks that it is
 * what we maintain: range partitions by one timestamptz column.
 */
Relation
dashie_partition_open_parent(Oid relid, LOCKMODE lockmode)
{
	Relation rel = try_relation_open(relid, lockmode);
	PartitionKey key;

	if (rel == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("table \"widget_analytics\" does not exist any more")));
	key = rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ? RelationGetPartitionKey(rel) : NULL;
	if (key == NULL || key->strategy != PARTITION_STRATEGY_RANGE || key->partnatts != 1 ||
		key->partattrs[0] == 0 || key->parttypid[0] != TIMESTAMPTZOID)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"%s\" is not partitioned by range of one timestamptz column",
							   RelationGetRelationName(rel)),
						errhint("Run SELECT dashie.enable('widget_analytics').")));
	return rel;
}

/*
 * bound_instant is one end of a range partition.
 */
static TimestampTz
bound_instant(List *datums)
{
	PartitionRangeDatum *datum = castNode(PartitionRangeDatum, linitial(datums));

	switch (datum->kind)
	{
		case PARTITION_RANGE_DATUM_MINVALUE:
			return DT_NOBEGIN;
		case PARTITION_RANGE_DATUM_MAXVALUE:
			return DT_NOEND;
		case PARTITION_RANGE_DATUM_VALUE:
			return DatumGetTimestampTz(castNode(Const, datum->value)->constvalue);
	}
	pg_unreachable();
}

PartitionSet *
dashie_partition_read(Relation parent)
{
	PartitionSet *set = palloc0(sizeof(PartitionSet));
	bool any_detaching;
	List *children = find_inheritance_children_extended(RelationGetRelid(parent), false, NoLock,
														&any_detaching, NULL);
	ListCell *lc;

	set->leaves = palloc0((list_length(children) + 1) * sizeof(PartitionLeaf));
	set->ranges = palloc0((list_length(children) + 1) * sizeof(PartitionRange));
	foreach (lc, children)
	{
		Oid relid = lfirst_oid(lc);
		HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
		Form_pg_class form;
		PartitionBoundSpec *spec;
		PartitionLeaf *leaf = &set->leaves[set->count];
		Datum bound;
		bool isnull;

		if (!HeapTupleIsValid(tuple))
			continue; /* gone since the list was read */
		form = (Form_pg_class) GETSTRUCT(tuple);
		bound = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relpartbound, &isnull);
		if (!isnull)
		{
			spec = castNode(PartitionBoundSpec, stringToNode(TextDatumGetCString(bound)));
			if (spec->is_default)
			{
				set->default_partition = pstrdup(NameStr(form->relname));
				set->default_relid = relid;
			}
			else
			{
				leaf->relid = relid;
				leaf->name = pstrdup(NameStr(form->relname));
				leaf->relkind = form->relkind;
				leaf->detaching = any_detaching && PartitionHasPendingDetach(relid);
				leaf->range.lower = bound_instant(spec->lowerdatums);
				leaf->range.upper = bound_instant(spec->upperdatums);
				set->count++;
			}
		}
		ReleaseSysCache(tuple);
	}
	qsort(set->leaves, set->count, sizeof(PartitionLeaf), dashie_bounds_compare);
	for (int i = 0; i < set->count; i++)
		set->ranges[i] = set->leaves[i].range;
	return set;
}

/*
 * dashie_partition_covered_until is the instant up to which every insert from
 * "now" on finds a partition.  One whose DETACH was begun takes no rows any
 * more, although nothing else can have its range.
 */
TimestampTz
dashie_partition_covered_until(const PartitionSet *set, TimestampTz now)
{
	PartitionRange *ranges = palloc((set->count + 1) * sizeof(PartitionRange));
	int nranges = 0;

	if (set->default_partition != NULL)
		return DT_NOEND;
	for (int i = 0; i < set->count; i++)
		if (!set->leaves[i].detaching)
			ranges[nranges++] = set->leaves[i].range;
	return dashie_bounds_covered_until(ranges, nranges, now);
}

/*
 * dashie_partition_window computes what has to be covered now.  Retention is
 * an interval and nothing else, and never shorter than a day, whatever the
 * configuration says.
 */
void
dashie_partition_window(PartitionWindow *window)
{
	window->zone = dashie_timezone();
	window->now = dashie_now();
	window->keep = dashie_retention_of("widget_analytics");
	if (window->keep == NULL)
	{
		window->cutoff = DT_NOBEGIN;
		window->from = dashie_day_start(dashie_day_of(window->now, window->zone), window->zone);
	}
	else
	{
		window->cutoff = Min(dashie_subtract_interval(window->now, window->keep, window->zone),
							 window->now - USECS_PER_DAY);
		window->from = dashie_day_start(dashie_day_of(window->cutoff, window->zone), window->zone);
	}
	window->upto = dashie_day_start(dashie_day_of(window->now, window->zone) + 1 +
										dashie_setting_int("partitions_ahead_days"),
									window->zone);
}

/*
 * dashie_partition_drop_at is the instant from which retention may remove a
 * partition with this upper bound; DT_NOEND: never.
 */
TimestampTz
dashie_partition_drop_at(const PartitionWindow *window, TimestampTz upper)
{
	Interval back;

	if (window->keep == NULL || TIMESTAMP_NOT_FINITE(upper))
		return DT_NOEND;
	back.time = -window->keep->time;
	back.day = -window->keep->day;
	back.month = -window->keep->month;
	return Max(dashie_subtract_interval(upper, &back, window->zone), upper + USECS_PER_DAY);
}

/*
 * dashie_partition_measure estimates the rows of a partition and adds up its
 * size.  What is locked exclusively is not waited for: -1.
 */
void
dashie_partition_measure(Oid relid, int64 *rows, int64 *bytes)
{
	Relation rel;
	BlockNumber pages;
	double tuples;
	double visible;
	Datum size;

	*rows = *bytes = -1;
	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return;
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
	{
		UnlockRelationOid(relid, AccessShareLock);
		return;
	}
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
	{
		List *children = find_inheritance_children(relid, NoLock);
		ListCell *lc;

		*rows = *bytes = 0;
		foreach (lc, children)
		{
			int64 child_rows;
			int64 child_bytes;

			dashie_partition_measure(lfirst_oid(lc), &child_rows, &child_bytes);
			*rows += Max(child_rows, 0);
			*bytes += Max(child_bytes, 0);
		}
	}
	else if (rel->rd_rel->relkind == RELKIND_RELATION)
	{
		*rows = 0;
		if (RelationGetNumberOfBlocks(rel) > 0)
		{
			estimate_rel_size(rel, NULL, &pages, &tuples, &visible);
			*rows = (int64) tuples;
		}
		size = DirectFunctionCall1(pg_total_relation_size, ObjectIdGetDatum(relid));
		*bytes = DatumGetInt64(size);
	}
	else if (rel->rd_rel->reltuples >= 0)
		*rows = (int64) rel->rd_rel->reltuples;
	relation_close(rel, AccessShareLock);
}
