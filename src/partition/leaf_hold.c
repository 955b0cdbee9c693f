/*
 * leaf_hold.c
 *		What keeps an expired partition: dashie.hold_partition(),
 *		dashie.release_partition(), and the gate that removal goes through.
 *
 * A hold is a row of dashie.partition_hold, the owner's data: a day of the
 * configured time zone, whatever partition has it.  The gate,
 * dashie_partition_keep_reason(), is asked to plan, to show, and again under the
 * locks that a removal takes.  Who places a hold takes ACCESS SHARE on the
 * partition first and keeps it until the commit: so either the hold is there
 * when removal looks, or the partition is gone when the hold looks.
 *
 * Run by the extension's owner and by maintenance.  Tables are read through the
 * access method, without rights.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/day.h"
#include "common/owner.h"
#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "partition/keep.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_hold_partition);
PG_FUNCTION_INFO_V1(dashie_release_partition);

#define OWN_TABLES \
	"dashie.partition_hold, dashie.partition_archiver, dashie.partition_archive_failure"

/* dashie_partition_prepare makes our own tables, inside enable(), as its caller. */
void
dashie_partition_prepare(const char *table_name, Oid relid)
{
	if (strcmp(table_name, "widget_analytics") != 0)
		return;
	if (!OidIsValid(dashie_relation_oid("dashie", "partition_hold")) ||
		!OidIsValid(dashie_relation_oid("dashie", "partition_archiver")) ||
		!OidIsValid(dashie_relation_oid("dashie", "partition_archive_failure")))
		dashie_ddl_own("partition_keep");
	dashie_ddl_share(relid, "SELECT, INSERT, UPDATE, DELETE", OWN_TABLES);
}

/*
 * dashie_kept_open begins to read one of our own tables as it is now; false if
 * it is not there.
 */
bool
dashie_kept_open(KeptRows *rows, const char *name, DashieColumn *columns, int ncolumns)
{
	Oid relid = dashie_relation_oid("dashie", name);

	rows->rel = OidIsValid(relid) ? try_table_open(relid, AccessShareLock) : NULL;
	if (rows->rel == NULL)
		return false;
	if (rows->rel->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"dashie.%s\" is not a plain table", name)));
	dashie_relation_columns(rows->rel, columns, ncolumns);
	rows->snapshot = RegisterSnapshot(GetLatestSnapshot());
	rows->scan = dashie_scan_begin(rows->rel, rows->snapshot);
	return true;
}

void
dashie_kept_close(KeptRows *rows)
{
	dashie_scan_end(rows->scan);
	UnregisterSnapshot(rows->snapshot);
	table_close(rows->rel, AccessShareLock);
}

/*
 * dashie_kept_become_owner makes the owner of one of our own tables the current
 * user, to write to it.
 */
void
dashie_kept_become_owner(const DashieGuard *guard, const char *name)
{
	Oid relid = dashie_relation_oid("dashie", name);

	if (!OidIsValid(relid))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"dashie.%s\" does not exist", name),
						errhint("Run SELECT dashie.enable('widget_analytics').")));
	LockRelationOid(relid, RowExclusiveLock);
	dashie_become_owner_of(guard, relid);
	relation_close(dashie_relation_open(relid, RowExclusiveLock, ACL_INSERT, false), NoLock);
}

/* Whether a partition has some of the day. */
static bool
has_day(const PartitionLeaf *leaf, DateADT day, pg_tz *zone)
{
	return leaf->range.lower < dashie_day_start(day + 1, zone) &&
		   leaf->range.upper > dashie_day_start(day, zone);
}

/*
 * held says which holds are on a partition, and sets *until when the last of
 * them ends.
 */
static char *
held(const PartitionLeaf *leaf, const PartitionWindow *window, TimestampTz *until)
{
	DashieColumn columns[] = {{"day", DATEOID, true, 0},
							  {"reason", TEXTOID, true, 0},
							  {"until", TIMESTAMPTZOID, true, 0}};
	StringInfoData reasons;
	TimestampTz last = DT_NOBEGIN;
	KeptRows rows;

	if (!dashie_kept_open(&rows, "partition_hold", columns, lengthof(columns)))
		return NULL;
	initStringInfo(&reasons);
	while (dashie_scan_next(rows.scan))
	{
		bool isnull;
		DateADT day = DatumGetDateADT(dashie_scan_get(rows.scan, &columns[0], &isnull));
		TimestampTz end;

		if (isnull || DATE_NOT_FINITE(day) || day < DASHIE_MIN_DAY || day >= DASHIE_MAX_DAY ||
			!has_day(leaf, day, window->zone))
			continue;
		end = DatumGetTimestampTz(dashie_scan_get(rows.scan, &columns[2], &isnull));
		if (isnull)
			end = DT_NOEND;
		if (end <= window->now)
			continue;
		last = Max(last, end);
		appendStringInfoString(&reasons, reasons.len > 0 ? "; " : "");
		if (end != DT_NOEND)
			appendStringInfo(&reasons, "on hold until %s", dashie_instant_text(end));
		else
			appendStringInfoString(&reasons, "on hold");
		appendStringInfo(&reasons, ": %s",
						 TextDatumGetCString(dashie_scan_get(rows.scan, &columns[1], &isnull)));
	}
	dashie_kept_close(&rows);
	if (reasons.len == 0)
		return NULL;
	*until = last;
	return reasons.data;
}

/*
 * dashie_partition_keep_reason says why a partition is not to be removed now, and
 * sets *until from when on it may be, DT_NOEND if that is not known; NULL if
 * nothing is in the way.  Whether the rollups have counted its days is asked where
 * it is removed, because the answer needs a lock to stay true.
 */
char *
dashie_partition_keep_reason(const PartitionLeaf *leaf, const PartitionWindow *window,
							 TimestampTz *until)
{
	char *reason;

	*until = DT_NOEND;
	if ((reason = held(leaf, window, until)) != NULL)
		return reason;
	if (leaf->range.upper > window->cutoff)
		return NULL; /* nobody wants to remove it yet */

	return dashie_archive_waits(leaf, until);
}

/*
 * lock_day takes ACCESS SHARE on the partitions that have some of the day, until
 * the end of the transaction, and returns how many there are: 0 if none is left
 * once they are locked.
 */
static int
lock_day(Relation parent, DateADT day, pg_tz *zone)
{
	PartitionSet *before = dashie_partition_read(parent);
	PartitionSet *set;
	int count = 0;

	for (int i = 0; i < before->count; i++)
		if (has_day(&before->leaves[i], day, zone))
			LockRelationOid(before->leaves[i].relid, AccessShareLock);

	set = dashie_partition_read(parent);
	for (int i = 0; i < set->count; i++)
	{
		const PartitionLeaf *leaf = &set->leaves[i];
		Relation rel;

		if (!has_day(leaf, day, zone))
			continue;
		count++;
		rel = relation_open(leaf->relid, AccessShareLock);
		if (leaf->relkind == RELKIND_RELATION && RelationGetNumberOfBlocks(rel) == 0)
			ereport(NOTICE, (errmsg("partition \"%s\" has no rows", leaf->name)));
		relation_close(rel, NoLock);
	}
	return count;
}

/* SQL: dashie.hold_partition(day date, reason text, until timestamptz) */
Datum
dashie_hold_partition(PG_FUNCTION_ARGS)
{
	Oid types[] = {DATEOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID};
	Datum values[lengthof(types)];
	char nulls[lengthof(types) + 1] = "     ";
	DashieGuard guard;
	Relation parent;
	DateADT day;
	Oid user;
	int context;

	dashie_reject_null(fcinfo, 0, "day");
	dashie_reject_null(fcinfo, 1, "reason");
	day = dashie_day_argument("day", DASHIE_ARG(0));
	if (VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(1)) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"reason\" must not be empty: \"\"")));
	if (!PG_ARGISNULL(2) && PG_GETARG_TIMESTAMPTZ(2) <= dashie_now())
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"until\" must lie in the future: %s",
							   dashie_instant_text(PG_GETARG_TIMESTAMPTZ(2)))));

	dashie_enter(&guard);
	GetUserIdAndSecContext(&user, &context);
	parent = dashie_partition_open_parent(dashie_enabled_oid_required("widget_analytics"),
										  AccessShareLock);
	dashie_become_owner_of(&guard, RelationGetRelid(parent));
	if (lock_day(parent, day, dashie_timezone()) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("no partition has the day %s", dashie_day_text(day)),
						errhint("SELECT * FROM dashie.partitions lists them.")));
	relation_close(parent, NoLock);
	SetUserIdAndSecContext(user, context);

	values[0] = DateADTGetDatum(day);
	values[1] = PG_GETARG_DATUM(1);
	values[2] = PG_GETARG_DATUM(2);
	if (PG_ARGISNULL(2) || PG_GETARG_TIMESTAMPTZ(2) == DT_NOEND)
		nulls[2] = 'n';
	values[3] = CStringGetTextDatum(GetUserNameFromId(guard.caller, false));
	values[4] = TimestampTzGetDatum(dashie_now());
	dashie_kept_become_owner(&guard, "partition_hold");
	dashie_query_begin();
	dashie_query("DELETE FROM dashie.partition_hold WHERE until <= $1", 1, &types[4], &values[4],
				 NULL);
	dashie_query("INSERT INTO dashie.partition_hold (day, reason, until, placed_by, placed_at)"
				 " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (day, reason) DO UPDATE"
				 " SET until = excluded.until, placed_by = excluded.placed_by,"
				 " placed_at = excluded.placed_at",
				 lengthof(types), types, values, nulls);
	dashie_query_end();
	dashie_leave(&guard);
	PG_RETURN_VOID();
}

/* SQL: dashie.release_partition(day date, reason text) */
Datum
dashie_release_partition(PG_FUNCTION_ARGS)
{
	Oid types[] = {DATEOID, TEXTOID};
	Datum values[lengthof(types)];
	char nulls[lengthof(types) + 1] = "  ";
	DashieGuard guard;
	DateADT day;
	uint64 released;

	dashie_reject_null(fcinfo, 0, "day");
	day = dashie_day_argument("day", DASHIE_ARG(0));
	dashie_enter(&guard);
	(void) dashie_enabled_oid_required("widget_analytics");
	dashie_kept_become_owner(&guard, "partition_hold");
	values[0] = DateADTGetDatum(day);
	values[1] = PG_GETARG_DATUM(1);
	if (PG_ARGISNULL(1))
		nulls[1] = 'n';
	dashie_query_begin();
	released = dashie_query("DELETE FROM dashie.partition_hold"
							" WHERE day = $1 AND ($2 IS NULL OR reason = $2)",
							lengthof(types), types, values, nulls);
	dashie_query_end();
	if (released == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 PG_ARGISNULL(1) ? errmsg("there is no hold on the day %s", dashie_day_text(day))
								 : errmsg("there is no hold on the day %s with the reason \"%s\"",
										  dashie_day_text(day), TextDatumGetCString(values[1])),
				 errhint("SELECT * FROM dashie.partition_hold lists them.")));
	dashie_leave(&guard);
	PG_RETURN_INT32((int32) released);
}
