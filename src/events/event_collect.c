/*
 * event_collect.c
 *		The events of a day become its page.
 *
 * The rule of a page that is computed again is that of sessions
 * (metrics/collect_page.c): what users who are there did is replaced by what
 * the rows say; what users who are not there did is kept, if the page was
 * final.  Who is marked as deleted counts as a user where they did before.
 *
 * Memory is that of the page: one cell for each widget and user, however many
 * events they have.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#include "events/events.h"

/* What a user did with a widget. */
typedef struct EventCell
{
	uint64 key; /* the widget's number, and the user's */
	uint32 status;
	bool kept; /* of somebody who is gone, from the page that was */
	EventSums sums;
} EventCell;

#define CELL_KEY(widget, user) ((uint64) (widget) << 32 | (uint32) (user))
#define CELL_WIDGET(cell) ((int) ((cell)->key >> 32))
#define CELL_USER(cell) ((int32) ((cell)->key & PG_UINT32_MAX))

#define SH_PREFIX event_cell
#define SH_ELEMENT_TYPE EventCell
#define SH_KEY_TYPE uint64
#define SH_KEY key
#define SH_HASH_KEY(tb, key) ((uint32) ((key) *UINT64CONST(0x9E3779B97F4A7C15) >> 32))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct WidgetName
{
	const char *name;
	int length;
} WidgetName;

/* A widget by its name. */
typedef struct NameSlot
{
	WidgetName name;
	uint32 status;
	int number;
} NameSlot;

#define SH_PREFIX widget_name
#define SH_ELEMENT_TYPE NameSlot
#define SH_KEY_TYPE WidgetName
#define SH_KEY name
#define SH_HASH_KEY(tb, key) hash_bytes((const unsigned char *) (key).name, (key).length)
#define SH_EQUAL(tb, a, b) ((a).length == (b).length && memcmp((a).name, (b).name, (a).length) == 0)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct EventCollector
{
	Metrics *metrics;
	event_cell_hash *cells;
	widget_name_hash *names;
	EventWidget *widgets; /* in the order in which they came */
	int nwidgets;
	int size;
} EventCollector;

/* The number of a widget, which becomes known. */
static int
widget_number(EventCollector *collector, const char *name, int length)
{
	WidgetName key = {name, length};
	bool found;
	NameSlot *slot = widget_name_insert(collector->names, key, &found);
	EventWidget *widget;

	if (found)
		return slot->number;
	if (collector->nwidgets == collector->size)
	{
		collector->size *= 2;
		collector->widgets =
			repalloc_huge(collector->widgets, (Size) collector->size * sizeof(EventWidget));
	}
	slot->number = collector->nwidgets++;
	slot->name.name = pnstrdup(name, length);
	widget = &collector->widgets[slot->number];
	memset(widget, 0, sizeof(*widget));
	widget->name = unconstify(char *, slot->name.name);
	widget->length = length;
	widget->users = user_set_create();
	return slot->number;
}

static EventCell *
cell_of(EventCollector *collector, int widget, int32 user)
{
	bool found;
	EventCell *cell = event_cell_insert(collector->cells, CELL_KEY(widget, user), &found);

	if (!found)
	{
		memset(&cell->sums, 0, sizeof(cell->sums));
		cell->kept = false;
	}
	return cell;
}

static void
collect_row(void *arg, const EventRow *row)
{
	EventCollector *collector = arg;
	UserEntry *user = row->user != NULL ? numbers_user(collector->metrics, row->user) : NULL;
	int length;
	char *name = event_name(row->widget, row->widget_length, &length);
	EventCell *cell =
		cell_of(collector, widget_number(collector, name, length), user != NULL ? user->number : 0);
	int type = event_type_of(row);

	cell->sums.counts[type]++;
	event_seconds_add(&cell->sums.seconds[type], row->seconds);
	if (name != row->widget)
		pfree(name);
}

/* What is kept of the page that was: users who are gone, who have no rows. */
static void
keep_gone(EventCollector *collector, const EventPage *page)
{
	Metrics *metrics = collector->metrics;

	for (int i = 0; i < page->nwidgets; i++)
	{
		const EventWidget *old = &page->widgets[i];
		UserSet *users;
		int number;

		user_set_require_max(old->users, metrics->max_user);
		users = user_set_adopt(roaring_bitmap_andnot(old->users, numbers_there(metrics)));
		number =
			roaring_bitmap_is_empty(users) ? -1 : widget_number(collector, old->name, old->length);
		if (number >= 0)
			roaring_bitmap_or_inplace(collector->widgets[number].users, users);
		for (int j = 0; j < old->nentries; j++)
		{
			const EventEntry *entry = &old->entries[j];
			EventCell *cell;

			if (entry->user == 0 || !numbers_gone(metrics, entry->user))
				continue;
			if (number < 0)
				number = widget_number(collector, old->name, old->length);
			cell = cell_of(collector, number, entry->user);
			cell->sums = entry->sums;
			cell->kept = true;
		}
	}
}

static int
compare_cells(const void *a, const void *b)
{
	uint64 left = (*(EventCell *const *) a)->key;
	uint64 right = (*(EventCell *const *) b)->key;

	return left < right ? -1 : left > right;
}

/* Turns the cells into the widgets' entries and sums, and adds who counts as a user. */
static void
fill_widgets(EventCollector *collector)
{
	uint32 ncells = collector->cells->members;
	EventCell **cells = palloc_extended((ncells + 1) * sizeof(EventCell *), MCXT_ALLOC_HUGE);
	EventEntry *entries = palloc_extended((ncells + 1) * sizeof(EventEntry), MCXT_ALLOC_HUGE);
	uint32 *users = palloc_extended((ncells + 1) * sizeof(uint32), MCXT_ALLOC_HUGE);
	event_cell_iterator iterator;
	EventCell *cell;
	uint32 n = 0;
	uint32 next;

	event_cell_start_iterate(collector->cells, &iterator);
	while ((cell = event_cell_iterate(collector->cells, &iterator)) != NULL)
		cells[n++] = cell;
	qsort(cells, n, sizeof(EventCell *), compare_cells);
	for (uint32 i = 0; i < n; i = next)
	{
		EventWidget *widget = &collector->widgets[CELL_WIDGET(cells[i])];
		uint32 nusers = 0;
		UserSet *set;

		widget->entries = entries + i;
		for (next = i; next < n && CELL_WIDGET(cells[next]) == CELL_WIDGET(cells[i]); next++)
		{
			entries[next].user = CELL_USER(cells[next]);
			entries[next].sums = cells[next]->sums;
			event_sums_add(&widget->sums, &cells[next]->sums);
			if (entries[next].user != 0 && !cells[next]->kept)
				users[nusers++] = entries[next].user;
		}
		widget->nentries = (int) (next - i);
		set = user_set_of_sorted(users, nusers);
		if (collector->metrics->deleted != NULL)
			roaring_bitmap_andnot_inplace(set, collector->metrics->deleted);
		roaring_bitmap_or_inplace(widget->users, set);
	}
	pfree(users);
	pfree(cells);
}

static int
compare_widgets(const void *a, const void *b)
{
	const EventWidget *left = a;
	const EventWidget *right = b;

	return event_names_compare(left->name, left->length, right->name, right->length);
}

void
event_collect(Metrics *metrics, EventSource *source, EventPage *page)
{
	EventCollector collector = {.metrics = metrics, .size = 16};
	TimestampTz start = dashie_day_start(page->day, metrics->zone);
	TimestampTz end = dashie_day_start(page->day + 1, metrics->zone);

	collector.cells = event_cell_create(CurrentMemoryContext, 1024, NULL);
	collector.names = widget_name_create(CurrentMemoryContext, 16, NULL);
	collector.widgets = palloc(collector.size * sizeof(EventWidget));
	if (page->stored && page->final)
		keep_gone(&collector, page);
	event_source_read(source, metrics->snapshot, start, end, collect_row, &collector);
	fill_widgets(&collector);
	qsort(collector.widgets, collector.nwidgets, sizeof(EventWidget), compare_widgets);
	event_cell_destroy(collector.cells);

	page->widgets = collector.widgets;
	page->nwidgets = collector.nwidgets;
	event_totals_of(page, &page->totals);
	page->final = end <= metrics->now;
}
