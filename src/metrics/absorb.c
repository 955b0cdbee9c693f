/*
 * absorb.c
 *		What a refresh does with the marks: it deletes them and makes the pages
 *		of their days dirty.  marks.c has the protocol.
 *
 * Run as the owner of the table that is filled, under the lock of engine.c.
 * Takes RowExclusiveLock on the table of marks, which no writer waits for.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/query.h"
#include "common/setting.h"
#include "metrics/engine.h"
#include "metrics/range.h"

static const DashieColumn mark_columns[] = {
	{"from", TIMESTAMPTZOID, true, 0},
	{"upto", TIMESTAMPTZOID, true, 0},
};

typedef struct MarkScan
{
	Relation rel;
	DashieColumn columns[lengthof(mark_columns)];
	DashieScan *scan;
} MarkScan;

static void
marks_begin(MarkScan *marks, Metrics *metrics, MarkKind kind, LOCKMODE lockmode, AclMode rights)
{
	memcpy(marks->columns, mark_columns, sizeof(mark_columns));
	marks->rel =
		dashie_relation_open(metrics_table(dashie_mark_table(kind)), lockmode, rights, false);
	dashie_relation_columns(marks->rel, marks->columns, lengthof(mark_columns));
	marks->scan = dashie_scan_begin(marks->rel, metrics->snapshot);
}

static bool
marks_next(MarkScan *marks, Range *mark)
{
	bool isnull;

	if (!dashie_scan_next(marks->scan))
		return false;

	/* a NULL, which no constraint need forbid, is the end of all time */
	mark->from = DatumGetTimestampTz(dashie_scan_get(marks->scan, &marks->columns[0], &isnull));
	if (isnull)
		mark->from = DT_NOBEGIN;
	mark->upto = DatumGetTimestampTz(dashie_scan_get(marks->scan, &marks->columns[1], &isnull));
	if (isnull)
		mark->upto = DT_NOEND;
	return true;
}

static void
marks_end(MarkScan *marks)
{
	dashie_scan_end(marks->scan);
	table_close(marks->rel, NoLock);
}

/*
 * is_running says whether a backend is still in a transaction.  One that was
 * prepared is in none; it relies on nobody, and may stay for long.
 */
static bool
is_running(VirtualTransactionId vxid)
{
	volatile PGPROC *proc = dashie_vxid_proc(vxid);

	return proc != NULL && dashie_proc_lxid(proc) == vxid.localTransactionId;
}

/*
 * await_holders waits until those have ended who may have relied on the marks
 * that are deleted now.  They are committing, so that is soon; no longer than
 * maintenance waits for a lock.  False if somebody has not ended.
 */
static bool
await_holders(Oid relid)
{
	LOCKTAG tag;
	VirtualTransactionId *holders;
	int count;
	int64 patience_ms = dashie_setting_int("maintenance_lock_timeout_ms");

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	/* the weakest mode that conflicts with the writers' RowExclusiveLock */
	holders = GetLockConflicts(&tag, ShareLock, &count);
	for (int i = 0; i < count; i++)
	{
		/* whoever is in no transaction any more is seen by the next snapshot */
		while (is_running(holders[i]))
		{
			if (patience_ms-- <= 0)
				return false;
			CHECK_FOR_INTERRUPTS();
			pg_usleep(1000);
		}
	}
	return true;
}

/* The ranges as two arrays, for unnest(). */
static void
range_arrays(const RangeSet *set, Datum *from, Datum *upto)
{
	Datum *values = palloc(2 * set->n * sizeof(Datum));

	for (int i = 0; i < set->n; i++)
	{
		values[i] = TimestampTzGetDatum(set->ranges[i].from);
		values[set->n + i] = TimestampTzGetDatum(set->ranges[i].upto);
	}
	*from = PointerGetDatum(
		construct_array(values, set->n, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	*upto = PointerGetDatum(construct_array(values + set->n, set->n, TIMESTAMPTZOID, 8,
											FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* put_back writes marks for those who have not ended; the next refresh takes them. */
static void
put_back(MarkKind kind, const RangeSet *relied_on)
{
	Oid types[] = {TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID};
	Datum values[2];

	range_arrays(relied_on, &values[0], &values[1]);
	dashie_query_begin();
	dashie_query(psprintf("INSERT INTO dashie.%s (\"from\", upto) SELECT * FROM unnest($1, $2)",
						  dashie_mark_table(kind)),
				 2, types, values, NULL);
	dashie_query_end();
}

static void
make_dirty(Metrics *metrics, MarkKind kind, const RangeSet *set)
{
	Oid types[] = {DATEARRAYOID, DATEARRAYOID, DATEOID};
	Datum *days = palloc(2 * set->n * sizeof(Datum));
	Datum values[3];

	for (int i = 0; i < set->n; i++)
	{
		days[i] = DateADTGetDatum(dashie_day_of(set->ranges[i].from, metrics->zone));
		days[set->n + i] = DateADTGetDatum(dashie_day_of(set->ranges[i].upto, metrics->zone));
	}
	values[0] = PointerGetDatum(construct_array(days, set->n, DATEOID, 4, true, TYPALIGN_INT));
	values[1] =
		PointerGetDatum(construct_array(days + set->n, set->n, DATEOID, 4, true, TYPALIGN_INT));
	values[2] = DateADTGetDatum(kind == MARK_EVENTS ? metrics->first_open_event_day
													: metrics->first_open_day);
	dashie_query_begin();
	dashie_query(
		psprintf("UPDATE dashie.%s AS p SET dirty = true"
				 " WHERE NOT p.dirty AND p.day >= $3 AND EXISTS"
				 " (SELECT FROM unnest($1, $2) AS m (f, t) WHERE p.day BETWEEN m.f AND m.t)",
				 kind == MARK_EVENTS ? "event_page" : "day_page"),
		3, types, values, NULL);
	dashie_query_end();
}

/*
 * absorb_ranges turns the visible marks into dirty pages, and gives the run the
 * snapshot that it reads the rows with.
 */
void
absorb_ranges(Metrics *metrics, MarkKind kind)
{
	RangeSet all = {.context = metrics->context};
	RangeSet relied_on = {.context = metrics->context};
	MarkScan marks;
	Range mark;
	Oid relid;

	marks_begin(&marks, metrics, kind, RowExclusiveLock, ACL_SELECT | ACL_INSERT | ACL_DELETE);
	while (marks_next(&marks, &mark))
	{
		range_set_add(&all, mark.from, mark.upto);
		if (!TIMESTAMP_NOT_FINITE(mark.from) && !TIMESTAMP_NOT_FINITE(mark.upto))
			range_set_add(&relied_on, mark.from, mark.upto);
		simple_table_tuple_delete(marks.rel, dashie_scan_tid(marks.scan), metrics->snapshot);
	}
	relid = RelationGetRelid(marks.rel);
	marks_end(&marks);
	if (all.n == 0)
		return;

	if (relied_on.n > 0 && !await_holders(relid))
		put_back(kind, &relied_on);
	UnregisterSnapshot(metrics->snapshot);
	metrics->snapshot = RegisterSnapshot(GetLatestSnapshot());
	make_dirty(metrics, kind, &all);
}

/*
 * metrics_marked sets days[i] for each day of [from, to] that a visible mark
 * touches, and leaves the marks where they are.
 */
bool
metrics_marked(Metrics *metrics, MarkKind kind, DateADT from, DateADT to, bool *days)
{
	MarkScan marks;
	Range mark;
	bool any = false;

	/* what nobody computes has no marks */
	if (!OidIsValid(dashie_relation_oid("dashie", dashie_mark_table(kind))))
		return false;
	marks_begin(&marks, metrics, kind, AccessShareLock, ACL_SELECT);
	while (marks_next(&marks, &mark))
	{
		DateADT first = Max(dashie_day_of(mark.from, metrics->zone), from);
		DateADT last = Min(dashie_day_of(mark.upto, metrics->zone), to);

		for (DateADT day = first; day <= last; day++)
			any = days[day - from] = true;
	}
	marks_end(&marks);
	return any;
}
