/*
 * collect_page.c
 *		The rows that were read of a day, and what was stored of it, become its page.
 *
 * The rule of a page that is computed again: the entries of users who are
 * still there are replaced by what the rows say; those of users who are not
 * are kept, if the page was final, that is, if the day was over before they
 * left.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "common/relation.h"
#include "metrics/collect.h"

static int
compare_entries(const void *a, const void *b)
{
	const PageEntry *left = a;
	const PageEntry *right = b;

	if (left->user != right->user)
		return left->user < right->user ? -1 : 1;
	return (int) left->country - (int) right->country;
}

/* Adds to "into" those of "from" that are not in "without". */
static void
keep_others(UserSet *into, const UserSet *from, const UserSet *without, int32 max)
{
	if (roaring_bitmap_is_empty(from))
		return;
	user_set_require_max(from, max);
	roaring_bitmap_or_inplace(into, user_set_adopt(roaring_bitmap_andnot(from, without)));
}

/* The dashboards of users who have not departed. */
static const UserSet *
dashboards_there(Collector *collector)
{
	Metrics *metrics = collector->metrics;
	MemoryContext old;
	int32 size = metrics->dashboards.size;
	uint32 *numbers;
	uint32 n = 0;

	if (collector->dashboards_there != NULL)
		return collector->dashboards_there;
	old = MemoryContextSwitchTo(collector->context);
	numbers = palloc_extended(Max(size, 1) * sizeof(uint32), MCXT_ALLOC_HUGE);
	for (int32 number = 0; number < size; number++)
	{
		int32 user = metrics->dashboards.entries[number].user_number;

		if (user != 0 && user < metrics->next_user && !roaring_bitmap_contains(metrics->gone, user))
			numbers[n++] = number;
	}
	collector->dashboards_there = user_set_of_sorted(numbers, n);
	pfree(numbers);
	MemoryContextSwitchTo(old);
	return collector->dashboards_there;
}

/*
 * signed_up_before is the set of the users, anonymous ones left out, who signed
 * up before the day began; good until the next day is asked for.  Days are
 * best asked for in their order.
 */
UserSet *
signed_up_before(Collector *collector, int day)
{
	Metrics *metrics = collector->metrics;
	const Stretch *stretch = &collector->stretch;

	if (collector->signups == NULL)
	{
		collector->signups =
			MemoryContextAllocZero(collector->context, (stretch->ndays + 1) * sizeof(NumberList));
		for (int32 number = 0; number < metrics->by_number_size; number++)
		{
			UserEntry *user = numbers_by_number(metrics, number);

			if (user != NULL && !user->anonymous && user->has_signup &&
				user->signed_up_at < stretch->starts[stretch->ndays])
				number_list_add(
					collector,
					&collector->signups[dashie_day_search(stretch->starts, stretch->ndays,
														  user->signed_up_at) +
										1],
					number);
		}
	}
	if (collector->signups_until > day + 1)
	{
		roaring_bitmap_clear(collector->signed_up);
		collector->signups_until = 0;
	}
	for (; collector->signups_until <= day; collector->signups_until++)
	{
		NumberList *list = &collector->signups[collector->signups_until];

		if (collector->signed_up == NULL)
		{
			MemoryContext old = MemoryContextSwitchTo(collector->context);

			collector->signed_up = user_set_create();
			MemoryContextSwitchTo(old);
		}
		roaring_bitmap_add_many(collector->signed_up, list->n, list->numbers);
	}
	return collector->signed_up;
}

/*
 * Distinct dashboards of two sets that name them by user: a dashboard of
 * several users counts once.
 */
static int32
count_dashboards(Metrics *metrics, UserSet *sessions, UserSet *heartbeats)
{
	int64 count;
	int32 *members;
	UserSet *all = sessions;
	UserSet *distinct;

	if (!roaring_bitmap_is_empty(heartbeats))
		all = user_set_adopt(roaring_bitmap_or(sessions, heartbeats));
	numbers_settle_dashboards(metrics);
	if (!metrics->dashboards_shared)
		return (int32) roaring_bitmap_get_cardinality(all);
	members = user_set_members(all, metrics->max_dashboard, &count);
	distinct = user_set_create();
	for (int64 i = 0; i < count; i++)
	{
		const DashboardEntry *dashboard = numbers_dashboard_by_number(metrics, members[i]);

		roaring_bitmap_add(distinct, dashboard != NULL ? dashboard->first : members[i]);
	}
	pfree(members);
	return (int32) roaring_bitmap_get_cardinality(distinct);
}

/*
 * collect_page_head fills in what a page says beside its contents and their sums.
 */
void
collect_page_head(Collector *collector, DayPage *page, int day)
{
	Metrics *metrics = collector->metrics;

	page->final = collector->stretch.starts[day + 1] <= metrics->now;
	page->has_sessions = OidIsValid(metrics->sessions_rel);
	page->has_dashboards = page->has_sessions || OidIsValid(metrics->dashboards_rel);
	page->ndashboards = count_dashboards(metrics, page->dashboards, page->heartbeats);
}

/*
 * collect_page fills a page, which holds what was stored before, in the
 * current memory context.
 */
void
collect_page(Collector *collector, DayPage *page, int day)
{
	Metrics *metrics = collector->metrics;
	DayRows *rows = &collector->days[day];
	TimestampTz starts_at = collector->stretch.starts[day];
	bool keep = page->stored && page->final;
	PageEntry *entries = palloc_extended(
		((Size) rows->nrows + page->nentries + 1) * sizeof(PageEntry), MCXT_ALLOC_HUGE);
	UserSet *active;
	UserSet *dashboards;
	int nentries = day_entries(&collector->maker, starts_at, rows, entries, &active);
	int computed = nentries;

	for (int i = 0; keep && i < page->nentries; i++)
		if (page->entries[i].user != 0 && numbers_gone(metrics, page->entries[i].user))
			entries[nentries++] = page->entries[i];
	if (nentries > computed)
		qsort(entries, nentries, sizeof(PageEntry), compare_entries);

	dashboards = day_set(&rows->dashboards);
	if (keep)
	{
		keep_others(active, page->active, numbers_there(metrics), metrics->max_user);
		keep_others(dashboards, page->dashboards, dashboards_there(collector),
					metrics->max_dashboard);
	}

	user_set_require_max(page->heartbeats, metrics->max_dashboard);

	/* a dashboard's row shows its last heartbeat only: earlier ones are known by the page alone */
	if (keep)
		roaring_bitmap_or_inplace(rows->heartbeats, page->heartbeats);
	else if (!roaring_bitmap_is_empty(page->heartbeats))
		roaring_bitmap_or_inplace(
			rows->heartbeats,
			user_set_adopt(roaring_bitmap_and(page->heartbeats, dashboards_there(collector))));

	page->entries = entries;
	page->nentries = nentries;
	page->active = active;
	page->dashboards = dashboards;
	page->heartbeats = rows->heartbeats;
	page_sum(page);
	page->returning =
		(int32) roaring_bitmap_and_cardinality(page->active, signed_up_before(collector, day));
	collect_page_head(collector, page, day);
}
