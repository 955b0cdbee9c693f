/*
 * event_plain.c
 *		The events of a day by plain SQL, for dashie.verify_events().
 *
 * The statement says what a page must hold in the words of its definition and
 * shares nothing with event_collect.c: no marks, no pages, no partitions.  It
 * runs as the owner of widget_analytics, with the snapshot that the page was read
 * with.
 *
 * A page keeps what users did who have left since, and their rows are gone
 * with them.  So both sides are counted over the users who are still there.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "common/query.h"
#include "common/relation.h"
#include "events/events.h"
#include "metrics/verify.h"

#define EVENTS_SQL                                                                   \
	"SELECT coalesce(widget_type, ''), user_id, coalesce(event_type, ''), count(*)," \
	" coalesce(sum(duration_seconds), 0) FROM %s"                                    \
	" WHERE \"timestamp\" >= $1 AND \"timestamp\" < $2 GROUP BY 1, 2, 3"

/* What a user did with a widget. */
typedef struct PlainCell
{
	const char *name;
	int length;
	int32 user; /* 0: nobody we know */
	bool there; /* and not marked as deleted */
	EventSums sums;
} PlainCell;

static int
compare_cells(const void *a, const void *b)
{
	const PlainCell *left = a;
	const PlainCell *right = b;
	int order = event_names_compare(left->name, left->length, right->name, right->length);

	return order != 0 ? order : (left->user > right->user) - (left->user < right->user);
}

static void
read_cell(Metrics *metrics, uint64 row, MemoryContext caller, PlainCell *cell)
{
	bool isnull;
	Datum user = dashie_field(row, 2, &isnull);
	UserEntry *entry = isnull ? NULL : numbers_user(metrics, DatumGetUUIDP(user));
	text *widget = DatumGetTextPP(dashie_field(row, 1, &isnull));
	text *type_text = DatumGetTextPP(dashie_field(row, 3, &isnull));
	MemoryContext spi = MemoryContextSwitchTo(caller);
	EventRow event = {.type = VARDATA_ANY(type_text), .type_length = VARSIZE_ANY_EXHDR(type_text)};
	const char *name = event_name(VARDATA_ANY(widget), VARSIZE_ANY_EXHDR(widget), &cell->length);
	int type = event_type_of(&event);

	memset(&cell->sums, 0, sizeof(cell->sums));
	cell->name = pnstrdup(name, cell->length);
	cell->user = entry != NULL ? entry->number : 0;
	cell->there = entry != NULL && user_is_there(entry);
	cell->sums.counts[type] = DatumGetInt64(dashie_field(row, 4, &isnull));
	cell->sums.seconds[type] = DatumGetInt64(dashie_field(row, 5, &isnull));
	MemoryContextSwitchTo(spi);
}

/* One cell for each widget and user, in the order of a page; returns how many. */
static int64
merge_cells(PlainCell *cells, uint64 ncells)
{
	int64 n = 0;

	qsort(cells, ncells, sizeof(PlainCell), compare_cells);
	for (uint64 i = 0; i < ncells; i++)
	{
		if (n > 0 && compare_cells(&cells[n - 1], &cells[i]) == 0)
			event_sums_add(&cells[n - 1].sums, &cells[i].sums);
		else
			cells[n++] = cells[i];
	}
	return n;
}

static PlainCell *
read_cells(Proof *proof, Oid events, int64 *ncells)
{
	static const Oid columns[] = {TEXTOID, UUIDOID, TEXTOID, INT8OID, INT8OID};
	Oid types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum values[] = {TimestampTzGetDatum(proof->start), TimestampTzGetDatum(proof->end)};
	MemoryContext caller = CurrentMemoryContext;
	Metrics *metrics = proof->metrics;
	PlainCell *cells;
	uint64 nrows;

	dashie_become_owner_of(metrics->guard, events);
	table_close(dashie_relation_open(events, AccessShareLock, ACL_SELECT, true), NoLock);
	dashie_query_begin();
	nrows = metrics_query(metrics, psprintf(EVENTS_SQL, dashie_relation_name(events)), 2, types,
						  values);
	dashie_query_types(lengthof(columns), columns);
	cells = MemoryContextAllocHuge(caller, Max(nrows, 1) * sizeof(PlainCell));
	for (uint64 row = 0; row < nrows; row++)
		read_cell(metrics, row, caller, &cells[row]);
	dashie_query_end();
	dashie_become_owner_of(metrics->guard, proof->owner_rel);
	*ncells = merge_cells(cells, nrows);
	return cells;
}

/* One side's part of the day. */
typedef struct PlainTotals
{
	int64 cells;
	int64 events;
	int64 seconds;
	int64 users; /* of each widget */
} PlainTotals;

static void
add_cell(PlainTotals *totals, const EventSums *sums)
{
	totals->cells++;
	totals->events += event_sums_events(sums);
	event_seconds_add(&totals->seconds, event_sums_seconds(sums));
}

typedef struct PlainComparison
{
	Proof *proof;
	const PlainCell *cells;
	int64 ncells;
	int64 next;
	PlainTotals in_page;
	PlainTotals in_rows;
	int64 differing_cells;
	int64 differing_users;
	UserSet *departed;
} PlainComparison;

static bool
is_cell_of(const PlainComparison *comparison, int64 at, const EventWidget *widget)
{
	return at < comparison->ncells &&
		   event_names_compare(comparison->cells[at].name, comparison->cells[at].length,
							   widget->name, widget->length) == 0;
}

/* The entries of a widget, and who of those who are there counts as its user. */
static void
compare_widget(PlainComparison *comparison, const EventWidget *widget)
{
	Proof *proof = comparison->proof;
	UserSet *in_page =
		user_set_adopt(roaring_bitmap_and(widget->users, numbers_there(proof->metrics)));
	UserSet *in_rows = user_set_create();
	int64 at = comparison->next;

	for (int i = 0; i < widget->nentries; i++)
	{
		const EventEntry *entry = &widget->entries[i];

		if (entry->user != 0 && numbers_gone(proof->metrics, entry->user))
		{
			roaring_bitmap_add(comparison->departed, entry->user);
			continue;
		}
		add_cell(&comparison->in_page, &entry->sums);
		while (is_cell_of(comparison, at, widget) && comparison->cells[at].user < entry->user)
		{
			at++;
			comparison->differing_cells++;
		}
		if (is_cell_of(comparison, at, widget) && comparison->cells[at].user == entry->user)
			comparison->differing_cells +=
				memcmp(&comparison->cells[at++].sums, &entry->sums, sizeof(EventSums)) != 0 ? 1 : 0;
		else
			comparison->differing_cells++;
	}
	for (int64 i = comparison->next; is_cell_of(comparison, i, widget); i++)
	{
		if (i >= at)
			comparison->differing_cells++;
		if (comparison->cells[i].there)
			roaring_bitmap_add(in_rows, comparison->cells[i].user);
		comparison->next = i + 1;
	}
	comparison->in_page.users += (int64) roaring_bitmap_get_cardinality(in_page);
	comparison->differing_users += proof_count_differing(proof, in_page, in_rows);
}

void
event_proof_by_rows(Proof *proof, const EventPage *page, Oid events)
{
	PlainComparison comparison = {.proof = proof, .departed = user_set_create()};
	bool failed_before = proof->failed;

	comparison.cells = read_cells(proof, events, &comparison.ncells);
	proof->failed = false;
	for (int64 i = 0; i < comparison.ncells; i++)
	{
		add_cell(&comparison.in_rows, &comparison.cells[i].sums);
		comparison.in_rows.users += comparison.cells[i].there ? 1 : 0;
	}
	for (int i = 0; i < page->nwidgets; i++)
	{
		const EventWidget *widget = &page->widgets[i];

		/* widgets that no entry of the page has */
		for (; comparison.next < comparison.ncells; comparison.next++)
		{
			const PlainCell *cell = &comparison.cells[comparison.next];

			if (event_names_compare(cell->name, cell->length, widget->name, widget->length) >= 0)
				break;
			comparison.differing_cells++;
			comparison.differing_users += cell->there ? 1 : 0;
		}
		compare_widget(&comparison, widget);
	}
	for (; comparison.next < comparison.ncells; comparison.next++)
	{
		comparison.differing_cells++;
		comparison.differing_users += comparison.cells[comparison.next].there ? 1 : 0;
	}
	proof->departed = (int64) roaring_bitmap_get_cardinality(comparison.departed);
	proof->failed |= proof_compare(proof, "events", comparison.in_page.events, "rows",
								   comparison.in_rows.events);
	proof->failed |= proof_compare(proof, "seconds", comparison.in_page.seconds, "rows",
								   comparison.in_rows.seconds);
	proof_differing(proof, "events_by_widget_and_user", comparison.in_page.cells,
					comparison.in_rows.cells, comparison.differing_cells);
	proof_differing(proof, "users_by_widget", comparison.in_page.users, comparison.in_rows.users,
					comparison.differing_users);
	if (proof->failed)
		proof_reason(proof, "the page differs from plain SQL over the rows");
	proof->failed |= failed_before;
}
