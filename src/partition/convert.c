/*
 * convert.c
 *		An unpartitioned widget_analytics becomes a partitioned one.
 *
 * Run by enable() in its transaction, as the owner of the table, which holds
 * ACCESS EXCLUSIVE on it until the transaction ends: readers and writers wait
 * meanwhile, and an error leaves everything as it was.  At its end the old
 * table is dropped, which locks the tables that its foreign keys reference.
 *
 * Nothing is lost: rows of any age go to partitions of their own, columns,
 * defaults, checks, indexes, statistics, policies, grants, comments and owned
 * sequences are carried over, and what a partitioned table could not carry is
 * refused before anything is changed, all of it at once (carry_over.c).
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/day.h"
#include "common/query.h"
#include "common/relation.h"
#include "partition/partition.h"

/* Blocks that one INSERT reads: bounds the queue of its foreign key checks. */
#define COPY_BLOCKS 4096
/* Seconds between two words about progress. */
#define PROGRESS_SECONDS 5
/* With more days than this, those that retention will drop anyway share partitions by month. */
#define MAX_DAYS_APART 400

typedef struct Conversion
{
	Oid old;
	Oid new;
	char *schema;
	char *name;
	char *old_name; /* quoted and qualified, once renamed */
	char *new_name;
	BlockNumber blocks;
	int64 rows;
	int64 no_time;
	int64 infinite_time;
	int64 far_time;	  /* outside the days that dashie computes with */
	Bitmapset *days;  /* with rows, counted from DASHIE_MIN_DAY */
	List *afterwards; /* statements to run when the old names are free again */
} Conversion;

static void
run_all(List *commands)
{
	ListCell *lc;

	foreach (lc, commands)
		dashie_command(lfirst(lc));
}

/*
 * survey reads the table once: how many rows, on which days, and which rows
 * have no day.
 */
static void
survey(Conversion *conversion)
{
	pg_tz *zone = dashie_timezone();
	DashieColumn column = {"timestamp", TIMESTAMPTZOID, true, 0};
	TimestampTz first = dashie_day_start(DASHIE_MIN_DAY, zone);
	TimestampTz last = dashie_day_start(DASHIE_MAX_DAY, zone);
	TimestampTz begin = 0;
	TimestampTz end = 0; /* [begin, end) is the day of the last row: most rows share it */
	Relation rel = relation_open(conversion->old, AccessExclusiveLock);
	DashieScan *scan;

	dashie_relation_columns(rel, &column, 1);
	conversion->blocks = RelationGetNumberOfBlocks(rel);
	scan = dashie_scan_latest(rel);
	while (dashie_scan_next(scan))
	{
		bool isnull;
		TimestampTz at = DatumGetTimestampTz(dashie_scan_get(scan, &column, &isnull));

		conversion->rows++;
		if (isnull)
			conversion->no_time++;
		else if (TIMESTAMP_NOT_FINITE(at))
			conversion->infinite_time++;
		else if (at < first || at >= last)
			conversion->far_time++;
		else if (at < begin || at >= end)
		{
			DateADT day = dashie_day_of(at, zone);

			begin = dashie_day_start(day, zone);
			end = dashie_day_start(day + 1, zone);
			conversion->days = bms_add_member(conversion->days, day - DASHIE_MIN_DAY);
		}
	}
	dashie_scan_end(scan);
	relation_close(rel, NoLock);
}

static void
refuse_obstacles(const Conversion *conversion)
{
	List *found = dashie_carry_obstacles(conversion->old);
	StringInfoData detail;
	ListCell *lc;

	if (conversion->no_time > 0)
		found = lappend(found,
						psprintf(INT64_FORMAT " row(s) without a timestamp", conversion->no_time));
	if (conversion->infinite_time > 0)
		found = lappend(found, psprintf(INT64_FORMAT " row(s) with an infinite timestamp",
										conversion->infinite_time));
	if (conversion->far_time > 0)
		found =
			lappend(found, psprintf(INT64_FORMAT " row(s) with a timestamp outside 1970 to 9999",
									conversion->far_time));
	if (found == NIL)
		return;

	initStringInfo(&detail);
	foreach (lc, found)
		appendStringInfo(&detail, "%s%s", detail.len > 0 ? "\n" : "", (char *) lfirst(lc));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s.%s\" cannot be converted to a partitioned table",
					conversion->schema, conversion->name),
			 errdetail_internal("%s", detail.data),
			 errhint("Drop or change what is listed, run dashie.enable() again, and make it anew "
					 "on the partitioned table where that can carry it.")));
}

static char *
free_name(const char *name, Oid namespace)
{
	char *result;

	for (int i = 0;; i++)
	{
		result = makeObjectName(name, i == 0 ? NULL : psprintf("%d", i), "unpartitioned");
		if (!OidIsValid(get_relname_relid(result, namespace)))
			return result;
	}
}

/*
 * move_aside renames the old table and its indexes, so that the new table can
 * have all the names.
 */
static void
move_aside(Conversion *conversion)
{
	Relation rel = relation_open(conversion->old, NoLock);
	Oid namespace = RelationGetNamespace(rel);
	List *indexes = RelationGetIndexList(rel);
	bool forced = rel->rd_rel->relforcerowsecurity;
	char *name = free_name(conversion->name, namespace);
	ListCell *lc;

	relation_close(rel, NoLock);
	dashie_command(
		psprintf("ALTER TABLE %s RENAME TO %s", conversion->new_name, quote_identifier(name)));
	conversion->old_name = quote_qualified_identifier(conversion->schema, name);
	foreach (lc, indexes)
		dashie_command(
			psprintf("ALTER INDEX %s RENAME TO %s", dashie_relation_name(lfirst_oid(lc)),
					 quote_identifier(free_name(get_rel_name(lfirst_oid(lc)), namespace))));
	/* policies that bind the owner too would hide rows from the copy */
	if (forced)
	{
		dashie_command(
			psprintf("ALTER TABLE %s NO FORCE ROW LEVEL SECURITY", conversion->old_name));
		conversion->afterwards =
			lappend(conversion->afterwards,
					psprintf("ALTER TABLE %s FORCE ROW LEVEL SECURITY", conversion->new_name));
	}
}

/*
 * months_first is the first day of the month of a day, or of the next month.
 */
static DateADT
months_first(DateADT day, int months_on)
{
	int year;
	int month;
	int dom;

	j2date(day + POSTGRES_EPOCH_JDATE, &year, &month, &dom);
	month += months_on;
	return date2j(year + (month - 1) / 12, (month - 1) % 12 + 1, 1) - POSTGRES_EPOCH_JDATE;
}

static void
make_partitions(Conversion *conversion)
{
	int ndays = bms_num_members(conversion->days);
	PartitionRange *ranges = palloc(Max(ndays, 1) * sizeof(PartitionRange));
	int nranges = 0;
	int member = -1;
	PartitionWindow window;
	DateADT window_day;

	dashie_partition_window(&window);
	window_day = dashie_day_of(window.from, window.zone);
	while ((member = bms_next_member(conversion->days, member)) >= 0)
	{
		DateADT day = member + DASHIE_MIN_DAY;
		DateADT next = day + 1;

		if (ndays > MAX_DAYS_APART && day < window_day)
		{
			day = months_first(day, 0);
			next = Min(months_first(day, 1), window_day);
			member = next - 1 - DASHIE_MIN_DAY;
		}
		ranges[nranges].day = day;
		ranges[nranges].lower = dashie_day_start(day, window.zone);
		ranges[nranges].upper = dashie_day_start(next, window.zone);
		if (ranges[nranges].lower < ranges[nranges].upper)
			nranges++;
	}
	dashie_partition_create(conversion->new, ranges, nranges, 0);
}

/*
 * column_list names the columns that rows are copied by: all but generated ones.
 */
static char *
column_list(Oid relid)
{
	Relation rel = relation_open(relid, NoLock);
	TupleDesc desc = RelationGetDescr(rel);
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (!column->attisdropped && column->attgenerated == '\0')
			appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "",
							 quote_identifier(NameStr(column->attname)));
	}
	relation_close(rel, NoLock);
	return list.data;
}

static void
copy_rows(Conversion *conversion)
{
	char *columns = column_list(conversion->old);
	char *insert = psprintf("INSERT INTO %s (%s) SELECT %s FROM ONLY %s"
							" WHERE ctid >= $1 AND ctid < $2",
							conversion->new_name, columns, columns, conversion->old_name);
	Oid types[2] = {TIDOID, TIDOID};
	TimestampTz told = GetCurrentTimestamp();
	int64 copied = 0;
	int64 found;

	for (uint64 block = 0; block < conversion->blocks; block += COPY_BLOCKS)
	{
		ItemPointerData from;
		ItemPointerData upto;
		Datum values[2] = {PointerGetDatum(&from), PointerGetDatum(&upto)};

		CHECK_FOR_INTERRUPTS();
		ItemPointerSet(&from, (BlockNumber) block, 0);
		ItemPointerSet(&upto, (BlockNumber) Min(block + COPY_BLOCKS, conversion->blocks), 0);
		copied += dashie_query(insert, 2, types, values, NULL);
		if (TimestampDifferenceExceeds(told, GetCurrentTimestamp(), PROGRESS_SECONDS * 1000))
		{
			told = GetCurrentTimestamp();
			ereport(NOTICE,
					(errmsg("partitioning \"%s\": " INT64_FORMAT " of " INT64_FORMAT " rows (%d%%)",
							conversion->name, copied, conversion->rows,
							(int) (copied * 100 / Max(conversion->rows, 1)))));
		}
	}

	dashie_query(psprintf("SELECT pg_catalog.count(*) FROM %s", conversion->new_name), 0, NULL,
				 NULL, NULL);
	found = DatumGetInt64(dashie_field(0, 1, NULL));
	if (copied != conversion->rows || found != conversion->rows)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("converting \"%s\" to partitions would have lost rows", conversion->name),
				 errdetail(INT64_FORMAT " rows were there, " INT64_FORMAT " copied, " INT64_FORMAT
										" found in the partitions.",
						   conversion->rows, copied, found)));
}

void
dashie_partition_convert(Oid plain, PartitionCreateParent create, void *arg)
{
	Conversion conversion = {plain};

	LockRelationOid(plain, AccessExclusiveLock);
	conversion.name = get_rel_name(plain);
	conversion.schema = get_namespace_name(get_rel_namespace(plain));
	conversion.new_name = dashie_relation_name(plain);
	dashie_query_begin();
	survey(&conversion);
	refuse_obstacles(&conversion);

	conversion.afterwards = dashie_carry_rest(plain);
	move_aside(&conversion);
	create(arg);
	CommandCounterIncrement();
	conversion.new = get_relname_relid(conversion.name, get_rel_namespace(plain));
	relation_close(dashie_partition_open_parent(conversion.new, AccessExclusiveLock), NoLock);

	run_all(dashie_carry_columns(plain, conversion.new));
	make_partitions(&conversion);
	copy_rows(&conversion);
	run_all(dashie_carry_constraints(plain, conversion.new));
	dashie_copy_rights(plain, conversion.new, false);
	dashie_command(psprintf("DROP TABLE %s", conversion.old_name));
	run_all(conversion.afterwards);
	dashie_query_end();

	ereport(NOTICE, (errmsg("table \"%s.%s\" is partitioned now: " INT64_FORMAT " rows, %d days",
							conversion.schema, conversion.name, conversion.rows,
							bms_num_members(conversion.days))));
}
