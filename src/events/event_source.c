/*
 * event_source.c
 *		Reads the events of a stretch of time from the partitions of
 *		widget_analytics.
 *
 * Locks: ACCESS SHARE on the table and then on the partitions, which keeps
 * retention from emptying one that is about to be read; no snapshot would tell.
 * Reading goes through the table access method, and asks for rights on the
 * table alone, as a SELECT from it would.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/relation.h"
#include "events/events.h"

enum
{
	COLUMN_USER,
	COLUMN_WIDGET,
	COLUMN_TYPE,
	COLUMN_SECONDS,
	COLUMN_TIME,
	EVENT_COLUMNS
};

struct EventSource
{
	Relation parent;
	PartitionSet *set;
	bool has_default;
};

/* A partition's partitions may be there too. */
static void
lock_leaf(Oid relid)
{
	LockRelationOid(relid, AccessShareLock);
	(void) find_all_inheritors(relid, AccessShareLock, NULL);
}

static bool
overlaps(const PartitionLeaf *leaf, TimestampTz from, TimestampTz upto)
{
	return !leaf->detaching && leaf->range.lower < upto && leaf->range.upper > from;
}

EventSource *
event_source_open(Oid parent, TimestampTz from, TimestampTz upto)
{
	EventSource *source = palloc0(sizeof(EventSource));

	source->parent = dashie_partition_open_parent(parent, AccessShareLock);
	source->set = dashie_partition_read(source->parent);
	for (int i = 0; i < source->set->count; i++)
		if (overlaps(&source->set->leaves[i], from, upto))
			lock_leaf(source->set->leaves[i].relid);
	source->has_default = source->set->default_partition != NULL;
	if (source->has_default)
		lock_leaf(source->set->default_relid);
	return source;
}

void
event_source_close(EventSource *source)
{
	relation_close(source->parent, NoLock);
	pfree(source);
}

/*
 * first_of finds the earliest event of a partition, which is locked, or of its
 * partitions; DT_NOEND if there is none.
 */
static TimestampTz
first_of(Oid relid, Snapshot snapshot)
{
	DashieColumn column = {"timestamp", TIMESTAMPTZOID, true, 0};
	Relation rel = try_relation_open(relid, NoLock);
	TimestampTz first = DT_NOEND;
	ListCell *lc;

	if (rel == NULL)
		return first;
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		foreach (lc, find_inheritance_children(relid, NoLock))
			first = Min(first, first_of(lfirst_oid(lc), snapshot));
	else if (rel->rd_rel->relkind == RELKIND_RELATION)
	{
		DashieScan *scan;

		dashie_relation_columns(rel, &column, 1);
		scan = dashie_scan_begin_range(rel, snapshot, &column, DT_NOBEGIN, DT_NOEND);
		while (dashie_scan_next(scan))
		{
			bool isnull;
			Datum at = dashie_scan_get(scan, &column, &isnull);

			if (!isnull)
				first = Min(first, DatumGetTimestampTz(at));
			if (dashie_scan_is_ordered(scan))
				break;
		}
		dashie_scan_end(scan);
	}
	relation_close(rel, NoLock);
	return first;
}

/*
 * events_first is the earliest event of widget_analytics; DT_NOEND if there is
 * none.  Locks no more partitions than it looks at.
 */
TimestampTz
events_first(Oid parent, Snapshot snapshot)
{
	Relation rel = dashie_partition_open_parent(parent, AccessShareLock);
	PartitionSet *set = dashie_partition_read(rel);
	TimestampTz first = DT_NOEND;

	for (int i = 0; i < set->count && first == DT_NOEND; i++)
	{
		if (set->leaves[i].detaching)
			continue;
		lock_leaf(set->leaves[i].relid);
		first = first_of(set->leaves[i].relid, snapshot);
	}
	if (set->default_partition != NULL)
	{
		lock_leaf(set->default_relid);
		first = Min(first, first_of(set->default_relid, snapshot));
	}
	relation_close(rel, NoLock);
	return first;
}

TimestampTz
event_source_complete_from(const EventSource *source, TimestampTz upto)
{
	TimestampTz from = upto;

	if (source->has_default)
		return DT_NOBEGIN;
	for (int i = source->set->count - 1; i >= 0; i--)
	{
		const PartitionLeaf *leaf = &source->set->leaves[i];

		if (!leaf->detaching && leaf->range.upper >= from && leaf->range.lower < from)
			from = leaf->range.lower;
	}
	return from;
}

int
event_type_of(const EventRow *row)
{
	for (int i = 0; i < EVENT_TYPES; i++)
		if (strlen(dashie_event_types[i]) == row->type_length &&
			memcmp(dashie_event_types[i], row->type, row->type_length) == 0)
			return i;
	return EVENT_TYPES;
}

/* A text of the current row, in place if it stands there plainly. */
static const char *
text_of(DashieScan *scan, const DashieColumn *column, int *length, text **copy)
{
	bool isnull;
	Datum value = dashie_scan_get(scan, column, &isnull);
	text *plain;

	*copy = NULL;
	*length = 0;
	if (isnull)
		return "";
	plain = DatumGetTextPP(value);
	if ((Pointer) plain != DatumGetPointer(value))
		*copy = plain;
	*length = VARSIZE_ANY_EXHDR(plain);
	return VARDATA_ANY(plain);
}

static void
visit_row(DashieScan *scan, const DashieColumn *columns, TimestampTz at, EventRowVisitor visit,
		  void *arg)
{
	EventRow row = {.at = at};
	text *widget;
	text *type;
	bool isnull;

	row.user = dashie_scan_uuid(scan, &columns[COLUMN_USER]);
	row.widget = text_of(scan, &columns[COLUMN_WIDGET], &row.widget_length, &widget);
	row.type = text_of(scan, &columns[COLUMN_TYPE], &row.type_length, &type);
	row.seconds = DatumGetInt32(dashie_scan_get(scan, &columns[COLUMN_SECONDS], &isnull));
	if (isnull)
		row.seconds = 0;
	visit(arg, &row);
	if (widget != NULL)
		pfree(widget);
	if (type != NULL)
		pfree(type);
}

/* "whole": the partition holds no other time. */
static void
read_leaf(Oid relid, Snapshot snapshot, bool whole, TimestampTz from, TimestampTz upto,
		  EventRowVisitor visit, void *arg)
{
	DashieColumn columns[EVENT_COLUMNS] = {
		[COLUMN_USER] = {"user_id", UUIDOID, true, 0},
		[COLUMN_WIDGET] = {"widget_type", TEXTOID, true, 0},
		[COLUMN_TYPE] = {"event_type", TEXTOID, true, 0},
		[COLUMN_SECONDS] = {"duration_seconds", INT4OID, true, 0},
		[COLUMN_TIME] = {"timestamp", TIMESTAMPTZOID, true, 0},
	};
	Relation rel = try_relation_open(relid, NoLock);
	DashieScan *scan;

	if (rel == NULL)
		return;
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
	{
		List *children = find_inheritance_children(relid, NoLock);
		ListCell *lc;

		relation_close(rel, NoLock);
		foreach (lc, children)
			read_leaf(lfirst_oid(lc), snapshot, false, from, upto, visit, arg);
		return;
	}
	if (rel->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("partition \"%s\" is not a plain table: its events cannot be counted",
						RelationGetRelationName(rel)),
				 errhint("Detach it.")));
	dashie_relation_columns(rel, columns, EVENT_COLUMNS);
	scan = whole ? dashie_scan_begin(rel, snapshot)
				 : dashie_scan_begin_range(rel, snapshot, &columns[COLUMN_TIME], from, upto);
	while (dashie_scan_next(scan))
	{
		bool isnull;
		TimestampTz at = DatumGetTimestampTz(dashie_scan_get(scan, &columns[COLUMN_TIME], &isnull));

		if (!isnull && at >= from && at < upto)
			visit_row(scan, columns, at, visit, arg);
	}
	dashie_scan_end(scan);
	relation_close(rel, NoLock);
}

void
event_source_read(EventSource *source, Snapshot snapshot, TimestampTz from, TimestampTz upto,
				  EventRowVisitor visit, void *arg)
{
	relation_close(dashie_relation_open(RelationGetRelid(source->parent), NoLock, ACL_SELECT, true),
				   NoLock);
	for (int i = 0; i < source->set->count; i++)
	{
		const PartitionLeaf *leaf = &source->set->leaves[i];

		if (overlaps(leaf, from, upto))
			read_leaf(leaf->relid, snapshot, leaf->range.lower >= from && leaf->range.upper <= upto,
					  from, upto, visit, arg);
	}
	if (source->has_default)
		read_leaf(source->set->default_relid, snapshot, false, from, upto, visit, arg);
}
