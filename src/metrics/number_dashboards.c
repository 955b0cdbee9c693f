/*
 * number_dashboards.c
 *		Dashboards under small numbers: in memory and in dashie.dashboard_number.
 *
 * A dashboard has a number for each of its users: what a user who is gone did
 * with it stays, also if others use it.  Where it has several, "first" is the
 * one that stands for all of them when dashboards are counted.
 *
 * Stored are, of some thousands of numbers a row (number_block.h),
 *		ids		16 bytes each
 *		users	four bytes each: the user's number; 0 where none was given
 *		shared	of each number that is not the first of its dashboard: how far it
 *				is from the one before, and the first
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "nodes/bitmapset.h"
#include "utils/memutils.h"

#include "common/arrays.h"
#include "common/bulk.h"
#include "common/query.h"
#include "common/relation.h"
#include "metrics/engine.h"
#include "metrics/number_block.h"
#include "metrics/numbers.h"
#include "metrics/page_bytes.h"

#define USER_BYTES 4
#define WHAT "dashboards in dashie.dashboard_number"

#define PREFETCH_AHEAD 64

static void
load_shared(Metrics *metrics, int32 start, bytea *shared)
{
	PageReader reader;
	int32 number = start;
	int32 first;

	take_begin(&reader, shared, WHAT);
	while (take_left(&reader) > 0)
	{
		number += (int32) take_number(&reader, BLOCK_NUMBERS - 1 - (number - start));
		if (dashboard_map_entry(&metrics->dashboards, number) == NULL)
			take_invalid(&reader, "no such number");
		/* it was given before */
		first = (int32) take_number(&reader, number - 1);
		if (dashboard_map_entry(&metrics->dashboards, first) == NULL)
			take_invalid(&reader, "no such number");
		metrics->dashboards.entries[number].first = first;
		metrics->dashboards_shared = true;
	}
}

/* The current row, in a memory context that is reset after it.  Returns which block it is. */
static int32
load_block(Metrics *metrics, DashieScan *scan, const DashieColumn *columns)
{
	int32 block =
		number_block_index(dashie_scan_value(scan, &columns[0]), metrics->max_dashboard, WHAT);
	int32 start = block * BLOCK_NUMBERS;
	const unsigned char *ids =
		number_block_column(dashie_scan_value(scan, &columns[1]), sizeof(pg_uuid_t), WHAT);
	const unsigned char *users =
		number_block_column(dashie_scan_value(scan, &columns[2]), USER_BYTES, WHAT);

	if (bms_is_member(block, metrics->dashboard_blocks))
		number_block_invalid(WHAT, "the same numbers twice");
	for (int i = 0; i < BLOCK_NUMBERS; i++)
	{
		uint32 user = (uint32) block_get(users + i * USER_BYTES, USER_BYTES);

		if (i + PREFETCH_AHEAD < BLOCK_NUMBERS)
			dashboard_map_prefetch(
				&metrics->dashboards,
				(uint32) block_get(users + (i + PREFETCH_AHEAD) * USER_BYTES, USER_BYTES));
		if (user == 0)
			continue;
		if (user > (uint32) metrics->max_user || start + i == 0)
			number_block_invalid(WHAT, "wrong number");
		dashboard_map_add(&metrics->dashboards, start + i,
						  (const pg_uuid_t *) (ids + i * sizeof(pg_uuid_t)), (int32) user);
		metrics->next_dashboard = Max(metrics->next_dashboard, start + i + 1);
	}
	load_shared(metrics, start, number_block_list(dashie_scan_value(scan, &columns[3]), WHAT));
	return block;
}

/*
 * numbers_load_dashboards is called by whoever asks for a dashboard: a night
 * without any reads none.
 */
void
numbers_load_dashboards(Metrics *metrics)
{
	DashieColumn columns[] = {
		{"first", INT4OID, true, 0},
		{"ids", BYTEAOID, true, 0},
		{"users", BYTEAOID, true, 0},
		{"shared", BYTEAOID, true, 0},
	};
	MemoryContext context;
	Relation rel;
	DashieScan *scan;

	if (metrics->dashboards_loaded)
		return;
	metrics->dashboards_loaded = true;
	numbers_bounds(metrics);
	dashboard_map_init(&metrics->dashboards, metrics->context, metrics->next_dashboard,
					   metrics->next_user);
	context =
		AllocSetContextCreate(CurrentMemoryContext, "dashie dashboards", ALLOCSET_DEFAULT_SIZES);
	rel =
		dashie_relation_open(metrics_table("dashboard_number"), AccessShareLock, ACL_SELECT, false);
	dashie_relation_columns(rel, columns, lengthof(columns));
	scan = dashie_scan_begin(rel, metrics->snapshot);
	while (dashie_scan_next(scan))
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		int32 block = load_block(metrics, scan, columns);

		MemoryContextSwitchTo(metrics->context);
		metrics->dashboard_blocks = bms_add_member(metrics->dashboard_blocks, block);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	dashie_scan_end(scan);
	table_close(rel, NoLock);
	MemoryContextDelete(context);
	metrics->first_new_dashboard = metrics->unsettled_dashboard = metrics->next_dashboard;
}

/* NULL if unknown; good until the next dashboard is asked for. */
const DashboardEntry *
numbers_dashboard_by_number(Metrics *metrics, int32 number)
{
	numbers_load_dashboards(metrics);
	return dashboard_map_entry(&metrics->dashboards, number);
}

/*
 * numbers_dashboard returns the number of a dashboard with one of its users,
 * and gives one to a pair that is new.
 */
int32
numbers_dashboard(Metrics *metrics, const pg_uuid_t *id, int32 user_number)
{
	int32 number;

	numbers_load_dashboards(metrics);
	number = dashboard_map_find(&metrics->dashboards, id, user_number);
	if (number != 0)
		return number;
	number = numbers_take_next(&metrics->next_dashboard, "dashboards");
	metrics->max_dashboard = Max(metrics->max_dashboard, number);
	dashboard_map_add(&metrics->dashboards, number, id, user_number);
	return number;
}

/*
 * numbers_settle_dashboards finds out which of the numbers that were given
 * since the last call are of dashboards that have other numbers: "first" of all
 * of them, and dashboards_shared, are right until the next one is given.  The
 * new ones are put into an index, and the others looked for in it.
 */
void
numbers_settle_dashboards(Metrics *metrics)
{
	DashboardEntry *entries;
	IdEntries by_number;
	IdIndex index;
	int32 since;

	numbers_load_dashboards(metrics);
	since = metrics->unsettled_dashboard;
	if (since == metrics->next_dashboard)
		return;
	entries = metrics->dashboards.entries;
	by_number.first = entries;
	by_number.size = sizeof(DashboardEntry);
	id_index_init(&index, CurrentMemoryContext, metrics->next_dashboard - since);
	for (int32 number = since; number < metrics->next_dashboard; number++)
	{
		int32 first;

		if (number + PREFETCH_AHEAD < metrics->next_dashboard)
			id_index_prefetch(&index, &entries[number + PREFETCH_AHEAD].id);
		first = id_index_get(&index, &entries[number].id, by_number);
		if (first != 0)
			entries[number].first = first;
		else
			id_index_put(&index, &entries[number].id, by_number, number);
	}
	for (int32 number = 1; number < since; number++)
	{
		int32 other;

		if (number + PREFETCH_AHEAD < since)
			id_index_prefetch(&index, &entries[number + PREFETCH_AHEAD].id);
		if (entries[number].user_number == 0)
			continue;
		other = id_index_get(&index, &entries[number].id, by_number);
		if (other != 0)
			entries[other].first = entries[number].first;
	}
	/* those of the index know it now, and come before those that they stand for */
	for (int32 number = since; number < metrics->next_dashboard; number++)
	{
		int32 first = entries[number].first;

		if (first >= since)
			entries[number].first = entries[first].first;
		if (first != number)
			metrics->dashboards_shared = true;
	}
	id_index_free(&index);
	metrics->unsettled_dashboard = metrics->next_dashboard;
}

static const Oid block_types[] = {INT4OID, BYTEAOID, BYTEAOID, BYTEAOID};
static const char *const block_columns[] = {"first", "ids", "users", "shared"};

/* The row of a block, in the current memory context. */
static void
block_row(Metrics *metrics, int32 block, Datum *values)
{
	int32 start = block * BLOCK_NUMBERS;
	int32 before = 0;
	unsigned char *ids = palloc0(BLOCK_NUMBERS * sizeof(pg_uuid_t));
	unsigned char *users = palloc0(BLOCK_NUMBERS * USER_BYTES);
	StringInfoData shared;

	put_header(&shared);
	for (int i = 0; i < BLOCK_NUMBERS; i++)
	{
		const DashboardEntry *dashboard = dashboard_map_entry(&metrics->dashboards, start + i);

		if (dashboard == NULL)
			continue;
		memcpy(ids + i * sizeof(pg_uuid_t), &dashboard->id, sizeof(pg_uuid_t));
		block_put(users + i * USER_BYTES, USER_BYTES, dashboard->user_number);
		if (dashboard->first != start + i)
		{
			put_number(&shared, i - before);
			put_number(&shared, dashboard->first);
			before = i;
		}
	}
	values[0] = Int32GetDatum(start);
	values[1] = PointerGetDatum(number_block_bytes(ids, BLOCK_NUMBERS * sizeof(pg_uuid_t)));
	values[2] = PointerGetDatum(number_block_bytes(users, BLOCK_NUMBERS * USER_BYTES));
	values[3] = PointerGetDatum(put_finish(&shared));
}

static bool
is_stored(const Metrics *metrics, int32 block)
{
	return bms_is_member(block, metrics->dashboard_blocks);
}

/* Inserts the row in bulk; false where the table's owner has added what that would pass by. */
static bool
insert_row(const Datum *values)
{
	DashieArrays rows;

	dashie_arrays_init(&rows, block_types, lengthof(block_types), 1);
	for (int i = 0; i < rows.ncolumns; i++)
		rows.values[i][0] = values[i];
	rows.nrows = 1;
	return dashie_bulk_insert(metrics_table("dashboard_number"), block_columns, &rows);
}

static void
write_row(const char *sql, const Datum *values)
{
	dashie_query_begin();
	dashie_query(sql, lengthof(block_types), block_types, values, NULL);
	dashie_query_end();
}

/* Writes the block of the first number that has no row yet. */
static void
store_block(Metrics *metrics)
{
	int32 block = metrics->first_new_dashboard / BLOCK_NUMBERS;
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "dashie dashboards", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Datum values[lengthof(block_types)];

	block_row(metrics, block, values);
	if (is_stored(metrics, block))
		write_row("UPDATE dashie.dashboard_number SET ids = $2, users = $3, shared = $4"
				  " WHERE first = $1",
				  values);
	else if (!insert_row(values))
		write_row("INSERT INTO dashie.dashboard_number (first, ids, users, shared)"
				  " VALUES ($1, $2, $3, $4)",
				  values);
	MemoryContextSwitchTo(metrics->context);
	metrics->dashboard_blocks = bms_add_member(metrics->dashboard_blocks, block);
	metrics->first_new_dashboard =
		block * BLOCK_NUMBERS + Min(metrics->next_dashboard - block * BLOCK_NUMBERS, BLOCK_NUMBERS);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* Whether rows of dashie.dashboard_number can be inserted in bulk. */
bool
dashboards_may_insert(void)
{
	DashieArrays rows;

	dashie_arrays_init(&rows, block_types, lengthof(block_types), 1);
	return dashie_bulk_may_insert(metrics_table("dashboard_number"), block_columns, &rows);
}

/*
 * dashboards_insert inserts a row with numbers that this run has given; false if
 * there are no more, or a row that is there is to be updated.
 */
bool
dashboards_insert(Metrics *metrics)
{
	if (metrics->first_new_dashboard == metrics->next_dashboard ||
		is_stored(metrics, metrics->first_new_dashboard / BLOCK_NUMBERS))
		return false;
	numbers_settle_dashboards(metrics);
	store_block(metrics);
	return true;
}

/*
 * dashboards_store writes the rows with numbers that this run has given.
 */
void
dashboards_store(Metrics *metrics)
{
	if (!metrics->dashboards_loaded || metrics->first_new_dashboard == metrics->next_dashboard)
		return;
	numbers_settle_dashboards(metrics);
	while (metrics->first_new_dashboard < metrics->next_dashboard)
		store_block(metrics);
}
