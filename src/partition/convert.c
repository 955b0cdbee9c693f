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
 * refused before anything is changed, all of it at once.
 */
#include "postgres.h"

#include "access/relation.h"
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
#include "utils/snapmgr.h"
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
	char *old_name;				/* quoted and qualified, once renamed */
	char *new_name;
	BlockNumber blocks;
	int64 rows;
	int64 no_time;
	int64 infinite_time;
	int64 far_time;				/* outside the days that dashie computes with */
	Bitmapset *days;			/* with rows, counted from DASHIE_MIN_DAY */
	List *afterwards;			/* statements to run when the old names are free again */
} Conversion;

/* What a partitioned table cannot carry, or what hangs on the table itself.  $1 is the table. */
static const char *const obstacles =
	"WITH t AS (SELECT c.oid, c.reltype, y.typarray FROM pg_catalog.pg_class c"
	"  JOIN pg_catalog.pg_type y ON y.oid = c.reltype WHERE c.oid = $1)"
	" SELECT what FROM ("
	" SELECT 1 AS kind, pg_catalog.format('trigger %I', tgname) AS what"
	"   FROM pg_catalog.pg_trigger WHERE tgrelid = $1 AND NOT tgisinternal"
	" UNION ALL SELECT 2, pg_catalog.format('rule %I', rulename)"
	"   FROM pg_catalog.pg_rewrite WHERE ev_class = $1"
	" UNION ALL SELECT 3, pg_catalog.format('foreign key %I of table %s', conname, conrelid::regclass)"
	"   FROM pg_catalog.pg_constraint WHERE contype = 'f' AND confrelid = $1"
	" UNION ALL SELECT 4, pg_catalog.format('table %s inherits from it', inhrelid::regclass)"
	"   FROM pg_catalog.pg_inherits WHERE inhparent = $1"
	" UNION ALL SELECT 4, pg_catalog.format('it inherits from table %s', inhparent::regclass)"
	"   FROM pg_catalog.pg_inherits WHERE inhrelid = $1"
	" UNION ALL SELECT 5, pg_catalog.format('%s %I without column \"timestamp\"',"
	"     CASE WHEN i.indisexclusion THEN 'exclusion constraint' WHEN i.indisprimary THEN 'primary key'"
	"          ELSE 'unique index' END, c.relname)"
	"   FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid,"
	"     LATERAL (SELECT pg_catalog.array_agg(a.attname::text) AS columns"
	"       FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n)"
	"       LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = k.attnum"
	"      WHERE k.n <= i.indnkeyatts) k"
	"  WHERE i.indrelid = $1 AND (i.indisunique OR i.indisexclusion)"
	"    AND NOT (k.columns <@ '{id,timestamp}' AND 'id' = ANY (k.columns) AND i.indpred IS NULL"
	"             AND i.indexprs IS NULL)"
	"    AND (i.indisexclusion OR i.indisprimary"
	"         OR NOT coalesce('timestamp' = ANY (k.columns), false))"
	" UNION ALL SELECT 6, pg_catalog.format('identity of column %I', attname)"
	"   FROM pg_catalog.pg_attribute"
	"  WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attidentity <> ''"
	" UNION ALL SELECT 7, pg_catalog.format('foreign key %I that is not validated', conname)"
	"   FROM pg_catalog.pg_constraint WHERE contype = 'f' AND conrelid = $1 AND NOT convalidated"
	" UNION ALL SELECT 8, pg_catalog.format('publication %I', p.pubname)"
	"   FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid"
	"  WHERE r.prrelid = $1"
	" UNION ALL SELECT DISTINCT 9, CASE WHEN r.oid IS NULL"
	"     THEN pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)"
	"     ELSE pg_catalog.pg_describe_object('pg_catalog.pg_class'::regclass, r.ev_class, 0) END"
	"   FROM t JOIN pg_catalog.pg_depend d ON d.deptype = 'n'"
	"     AND (d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = t.oid"
	"       OR d.refclassid = 'pg_catalog.pg_type'::regclass AND d.refobjid IN (t.reltype, t.typarray))"
	"   LEFT JOIN pg_catalog.pg_rewrite r"
	"     ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND r.oid = d.objid"
	"  WHERE r.ev_class IS DISTINCT FROM $1"
	"    AND NOT EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = $1"
	"      AND d.classid = 'pg_catalog.pg_policy'::regclass AND p.oid = d.objid)"
	"    AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c"
	"      WHERE d.classid = 'pg_catalog.pg_constraint'::regclass AND c.oid = d.objid"
	"        AND (c.conrelid = $1 OR c.contype = 'f'))"
	"    AND NOT EXISTS (SELECT FROM pg_catalog.pg_attrdef f WHERE f.adrelid = $1"
	"      AND d.classid = 'pg_catalog.pg_attrdef'::regclass AND f.oid = d.objid)"
	"    AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = $1"
	"      AND d.classid = 'pg_catalog.pg_class'::regclass AND i.indexrelid = d.objid)"
	"    AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = $1"
	"      AND d.classid = 'pg_catalog.pg_trigger'::regclass AND g.oid = d.objid)"
	"    AND d.classid NOT IN ('pg_catalog.pg_publication_rel'::regclass,"
	"      'pg_catalog.pg_statistic_ext'::regclass)"
	" ) o ORDER BY kind, what";

/*
 * Statements that run once the old table is gone, written while its indexes,
 * statistics and comments can still be read under their names.
 */
static const char *const carried_over =
	"SELECT ddl FROM ("
	" SELECT 1 AS step, c.relname, CASE WHEN k.oid IS NULL THEN pg_catalog.pg_get_indexdef(i.indexrelid)"
	"     ELSE pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', $2, k.conname,"
	"       pg_catalog.pg_get_constraintdef(k.oid)) END AS ddl"
	"   FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
	"   LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = $1"
	"  WHERE i.indrelid = $1 AND NOT i.indisprimary"
	/* unique on id, with the time or without: the new primary key */
	"    AND NOT (i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indkey::int2[] <@"
	"      (SELECT pg_catalog.array_agg(attnum) FROM pg_catalog.pg_attribute"
	"        WHERE attrelid = $1 AND attname IN ('id', 'timestamp')))"
	" UNION ALL SELECT 2, stxname, pg_catalog.pg_get_statisticsobjdef(oid)"
	"   FROM pg_catalog.pg_statistic_ext WHERE stxrelid = $1"
	" UNION ALL SELECT 3, '', pg_catalog.format('COMMENT ON TABLE %s IS %L', $2, d.description)"
	"   FROM pg_catalog.pg_description d"
	"  WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND d.objoid = $1 AND d.objsubid = 0"
	" UNION ALL SELECT 3, a.attname,"
	"     pg_catalog.format('COMMENT ON COLUMN %s.%I IS %L', $2, a.attname, d.description)"
	"   FROM pg_catalog.pg_description d"
	"   JOIN pg_catalog.pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid"
	"  WHERE d.classoid = 'pg_catalog.pg_class'::regclass AND d.objoid = $1 AND d.objsubid > 0"
	" UNION ALL SELECT 3, c.relname, pg_catalog.format('COMMENT ON INDEX %I.%I IS %L',"
	"     c.relnamespace::regnamespace, c.relname, d.description)"
	"   FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
	"   JOIN pg_catalog.pg_description d ON d.classoid = 'pg_catalog.pg_class'::regclass"
	"     AND d.objoid = c.oid"
	"  WHERE i.indrelid = $1 AND NOT i.indisunique"
	" ) s ORDER BY step, relname";

/* Columns of $1 that $2 lacks, and defaults and NOT NULLs where they differ; $3 names $2. */
static const char *const columns_over =
	"SELECT ddl FROM ("
	" SELECT 1 AS step, o.attnum, pg_catalog.format('ALTER TABLE %s ADD COLUMN %I %s%s%s%s', $3, o.attname,"
	"     pg_catalog.format_type(o.atttypid, o.atttypmod),"
	"     CASE WHEN o.attcollation <> y.typcollation THEN ' COLLATE ' || o.attcollation::regcollation END,"
	"     CASE WHEN o.attgenerated = 's' THEN"
	"       ' GENERATED ALWAYS AS (' || pg_catalog.pg_get_expr(f.adbin, f.adrelid) || ') STORED'"
	"     WHEN f.oid IS NOT NULL THEN ' DEFAULT ' || pg_catalog.pg_get_expr(f.adbin, f.adrelid) END,"
	"     CASE WHEN o.attnotnull THEN ' NOT NULL' END) AS ddl"
	"   FROM pg_catalog.pg_attribute o JOIN pg_catalog.pg_type y ON y.oid = o.atttypid"
	"   LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = o.attrelid AND f.adnum = o.attnum"
	"  WHERE o.attrelid = $1 AND o.attnum > 0 AND NOT o.attisdropped AND NOT EXISTS"
	"    (SELECT FROM pg_catalog.pg_attribute n WHERE n.attrelid = $2 AND n.attname = o.attname)"
	" UNION ALL"
	" SELECT 2, o.attnum, pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s', $3, o.attname,"
	"     pg_catalog.pg_get_expr(f.adbin, f.adrelid))"
	"   FROM pg_catalog.pg_attribute o"
	"   JOIN pg_catalog.pg_attribute n ON n.attrelid = $2 AND n.attname = o.attname"
	"   JOIN pg_catalog.pg_attrdef f ON f.adrelid = o.attrelid AND f.adnum = o.attnum"
	"   LEFT JOIN pg_catalog.pg_attrdef g ON g.adrelid = n.attrelid AND g.adnum = n.attnum"
	"  WHERE o.attrelid = $1 AND o.attgenerated = '' AND n.attgenerated = ''"
	"    AND pg_catalog.pg_get_expr(f.adbin, f.adrelid)"
	"        IS DISTINCT FROM pg_catalog.pg_get_expr(g.adbin, g.adrelid)"
	" UNION ALL"
	" SELECT 2, o.attnum, pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', $3, o.attname)"
	"   FROM pg_catalog.pg_attribute o"
	"   JOIN pg_catalog.pg_attribute n ON n.attrelid = $2 AND n.attname = o.attname"
	"  WHERE o.attrelid = $1 AND o.attnotnull AND NOT n.attnotnull"
	" ) s ORDER BY step, attnum";

/*
 * Constraints of $1 that $2 lacks, and sequences that belong to $1.  A foreign
 * key of the same columns to the same table is the same, whatever its name.
 */
static const char *const constraints_over =
	"SELECT ddl FROM ("
	" SELECT 1 AS step, o.conname, pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', $3, o.conname,"
	"     pg_catalog.pg_get_constraintdef(o.oid)) AS ddl"
	"   FROM pg_catalog.pg_constraint o"
	"  WHERE o.conrelid = $1 AND o.contype IN ('c', 'f')"
	"    AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint n WHERE n.conrelid = $2"
	"      AND (n.conname = o.conname OR n.contype = 'f' AND o.contype = 'f' AND n.confrelid = o.confrelid"
	"           AND n.confdeltype = o.confdeltype"
	"           AND (SELECT pg_catalog.array_agg(attname::text ORDER BY k.n)"
	"                  FROM pg_catalog.unnest(n.conkey) WITH ORDINALITY k(num, n)"
	"                  JOIN pg_catalog.pg_attribute ON attrelid = $2 AND attnum = k.num)"
	"             = (SELECT pg_catalog.array_agg(attname::text ORDER BY k.n)"
	"                  FROM pg_catalog.unnest(o.conkey) WITH ORDINALITY k(num, n)"
	"                  JOIN pg_catalog.pg_attribute ON attrelid = $1 AND attnum = k.num)))"
	" UNION ALL"
	" SELECT 2, '', pg_catalog.format('ALTER SEQUENCE %s OWNED BY %s.%I', d.objid::regclass, $3, a.attname)"
	"   FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'"
	"   JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid"
	"  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'a'"
	"    AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = $1"
	" ) s ORDER BY step, conname";

/*
 * texts_of collects the one column of a query's result.
 */
static List *
texts_of(const char *sql, int nargs, const Datum *values)
{
	Oid types[3] = {OIDOID, nargs == 2 ? TEXTOID : OIDOID, TEXTOID};
	uint64 nrows = dashie_query(sql, nargs, types, values, NULL);
	List *texts = NIL;

	for (uint64 i = 0; i < nrows; i++)
		texts = lappend(texts, dashie_field_text(i, 1));
	return texts;
}

static void
run_all(List *commands)
{
	ListCell *lc;

	foreach(lc, commands)
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
	TimestampTz end = 0;		/* [begin, end) is the day of the last row: most rows share it */
	Relation rel = relation_open(conversion->old, AccessExclusiveLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	DashieScan *scan;

	dashie_relation_columns(rel, &column, 1);
	conversion->blocks = RelationGetNumberOfBlocks(rel);
	scan = dashie_scan_begin(rel, snapshot);
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
	UnregisterSnapshot(snapshot);
	relation_close(rel, NoLock);
}

static void
refuse_obstacles(const Conversion *conversion)
{
	Datum values[1] = {ObjectIdGetDatum(conversion->old)};
	List *found = texts_of(obstacles, 1, values);
	StringInfoData detail;
	ListCell *lc;

	if (conversion->no_time > 0)
		found = lappend(found, psprintf(INT64_FORMAT " row(s) without a timestamp",
										conversion->no_time));
	if (conversion->infinite_time > 0)
		found = lappend(found, psprintf(INT64_FORMAT " row(s) with an infinite timestamp",
										conversion->infinite_time));
	if (conversion->far_time > 0)
		found = lappend(found, psprintf(INT64_FORMAT " row(s) with a timestamp outside 1970 to 9999",
										conversion->far_time));
	if (found == NIL)
		return;

	initStringInfo(&detail);
	foreach(lc, found)
		appendStringInfo(&detail, "%s%s", detail.len > 0 ? "\n" : "", (char *) lfirst(lc));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s.%s\" cannot be converted to a partitioned table", conversion->schema,
					conversion->name),
			 errdetail_internal("%s", detail.data),
			 errhint("Drop or change what is listed, run dashie.enable() again, and make it anew on "
					 "the partitioned table where that can carry it.")));
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
	dashie_command(psprintf("ALTER TABLE %s RENAME TO %s", conversion->new_name,
							quote_identifier(name)));
	conversion->old_name = quote_qualified_identifier(conversion->schema, name);
	foreach(lc, indexes)
		dashie_command(psprintf(
			"ALTER INDEX %s RENAME TO %s", dashie_relation_name(lfirst_oid(lc)),
			quote_identifier(free_name(get_rel_name(lfirst_oid(lc)), namespace))));
	/* policies that bind the owner too would hide rows from the copy; copy_rights() reads it later */
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
	char *insert = psprintf("INSERT INTO %s (%s) SELECT %s FROM ONLY %s WHERE ctid >= $1 AND ctid < $2",
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

	dashie_query(psprintf("SELECT pg_catalog.count(*) FROM %s", conversion->new_name), 0, NULL, NULL,
				 NULL);
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
	Datum values[3];

	LockRelationOid(plain, AccessExclusiveLock);
	conversion.name = get_rel_name(plain);
	conversion.schema = get_namespace_name(get_rel_namespace(plain));
	conversion.new_name = dashie_relation_name(plain);
	dashie_query_begin();
	survey(&conversion);
	refuse_obstacles(&conversion);

	values[0] = ObjectIdGetDatum(plain);
	values[1] = CStringGetTextDatum(conversion.new_name);
	conversion.afterwards = texts_of(carried_over, 2, values);
	move_aside(&conversion);
	create(arg);
	CommandCounterIncrement();
	conversion.new = get_relname_relid(conversion.name, get_rel_namespace(plain));
	relation_close(dashie_partition_open_parent(conversion.new, AccessExclusiveLock), NoLock);

	values[1] = ObjectIdGetDatum(conversion.new);
	values[2] = CStringGetTextDatum(conversion.new_name);
	run_all(texts_of(columns_over, 3, values));
	make_partitions(&conversion);
	copy_rows(&conversion);
	run_all(texts_of(constraints_over, 3, values));
	dashie_copy_rights(plain, conversion.new, false);
	dashie_command(psprintf("DROP TABLE %s", conversion.old_name));
	run_all(conversion.afterwards);
	dashie_query_end();

	ereport(NOTICE,
			(errmsg("table \"%s.%s\" is partitioned now: " INT64_FORMAT " rows, %d days",
					conversion.schema, conversion.name, conversion.rows,
					bms_num_members(conversion.days))));
}
