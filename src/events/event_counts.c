/*
 * event_counts.c
 *		dashie.widget_popularity() and dashie.event_counts(): events, seconds and
 *		exact distinct users of a stretch of days, by what one asks for.
 *
 * Groups gather while the days are visited: a group has sums and the set of its
 * users, so memory is that of the groups and not of the days.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "common/rows.h"
#include "events/events.h"
#include "metrics/question.h"

PG_FUNCTION_INFO_V1(dashie_widget_popularity);
PG_FUNCTION_INFO_V1(dashie_event_counts);

typedef struct EventGroup
{
	char *name; /* of a widget, else NULL */
	int length;
	DateADT day;  /* the first one of a day, week or month */
	bool unknown; /* nothing is known of one of its days */
	EventSums sums;
	UserSet *users;
} EventGroup;

typedef struct Gathering
{
	EventQuestion *question;
	DashiePeriod period; /* where that is asked for */
	EventGroup *groups;	 /* widgets ascending by name */
	int ngroups;
	int size;
} Gathering;

static EventGroup *
add_group(Gathering *gathering, int at)
{
	MemoryContext old = MemoryContextSwitchTo(gathering->question->metrics->context);
	EventGroup *group;

	if (gathering->ngroups == gathering->size)
	{
		gathering->size = Max(32, gathering->size * 2);
		gathering->groups =
			gathering->groups == NULL
				? palloc(gathering->size * sizeof(EventGroup))
				: repalloc_huge(gathering->groups, (Size) gathering->size * sizeof(EventGroup));
	}
	group = &gathering->groups[at];
	memmove(group + 1, group, (gathering->ngroups - at) * sizeof(EventGroup));
	gathering->ngroups++;
	memset(group, 0, sizeof(*group));
	group->users = user_set_create();
	MemoryContextSwitchTo(old);
	return group;
}

/* The group of a widget, which is added where it belongs. */
static EventGroup *
group_of_widget(Gathering *gathering, const EventWidget *widget)
{
	int low = 0;
	int high = gathering->ngroups;
	EventGroup *group;

	while (low < high)
	{
		int middle = (low + high) / 2;
		int order =
			event_names_compare(gathering->groups[middle].name, gathering->groups[middle].length,
								widget->name, widget->length);

		if (order == 0)
			return &gathering->groups[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	group = add_group(gathering, low);
	group->name = MemoryContextAlloc(gathering->question->metrics->context, widget->length + 1);
	memcpy(group->name, widget->name, widget->length);
	group->length = widget->length;
	return group;
}

static void
add_widget(EventGroup *group, const EventWidget *widget)
{
	event_sums_add(&group->sums, &widget->sums);
	roaring_bitmap_or_inplace(group->users, widget->users);
}

static void
gather_widgets(void *arg, DateADT day, const EventPage *page)
{
	for (int i = 0; page != NULL && i < page->nwidgets; i++)
		add_widget(group_of_widget(arg, &page->widgets[i]), &page->widgets[i]);
}

/* Days come in their order: the first one of a period that was asked for begins its group. */
static void
gather_period(void *arg, DateADT day, const EventPage *page)
{
	Gathering *gathering = arg;
	DateADT start = dashie_period_start(gathering->period, day);
	EventGroup *group = gathering->ngroups > 0 ? &gathering->groups[gathering->ngroups - 1] : NULL;

	if (group == NULL || group->day != start)
	{
		group = add_group(gathering, gathering->ngroups);
		group->day = start;
	}
	if (page == NULL)
	{
		group->unknown = true;
		return;
	}
	event_sums_add(&group->sums, &page->totals.sums);
	roaring_bitmap_or_inplace(group->users, page->totals.users);
}

/* Groups are the types, and the last those that the roadmap does not know. */
static void
gather_types(void *arg, DateADT day, const EventPage *page)
{
	Gathering *gathering = arg;

	for (int i = 0; page != NULL && i < EVENT_COUNTS; i++)
	{
		EventGroup *group = &gathering->groups[i];

		group->sums.counts[i] += page->totals.sums.counts[i];
		event_seconds_add(&group->sums.seconds[i], page->totals.sums.seconds[i]);
		roaring_bitmap_or_inplace(group->users, page->totals.typed[i]);
	}
}

static int64
count_users(const Gathering *gathering, const EventGroup *group)
{
	return (int64) roaring_bitmap_andnot_cardinality(group->users, gathering->question->anonymous);
}

static void
gathering_begin(Gathering *gathering, FunctionCallInfo fcinfo, DashieGuard *guard)
{
	DateADT from;
	DateADT to;

	question_range(fcinfo, &from, &to);
	memset(gathering, 0, sizeof(*gathering));
	dashie_enter(guard);
	gathering->question = event_question_begin(guard, from, to, "to");
}

static void
gathering_end(Gathering *gathering, DashieGuard *guard)
{
	event_question_end(gathering->question);
	dashie_leave(guard);
}

/* A widget's group with its users, to be sorted by them. */
typedef struct Popular
{
	const EventGroup *group;
	int64 users;
} Popular;

static int
compare_popular(const void *a, const void *b)
{
	const Popular *left = a;
	const Popular *right = b;

	if (left->users != right->users)
		return left->users > right->users ? -1 : 1;
	return event_names_compare(left->group->name, left->group->length, right->group->name,
							   right->group->length);
}

static Popular *
sort_popular(const Gathering *gathering)
{
	Popular *popular = palloc_extended((gathering->ngroups + 1) * sizeof(Popular), MCXT_ALLOC_HUGE);

	for (int i = 0; i < gathering->ngroups; i++)
	{
		popular[i].group = &gathering->groups[i];
		popular[i].users = count_users(gathering, popular[i].group);
	}
	qsort(popular, gathering->ngroups, sizeof(Popular), compare_popular);
	return popular;
}

/* SQL: dashie.widget_popularity("from" date, "to" date) */
Datum
dashie_widget_popularity(PG_FUNCTION_ARGS)
{
	DashieRows rows;
	DashieGuard guard;
	Gathering gathering;
	Popular *popular;

	dashie_rows_begin(fcinfo, &rows);
	gathering_begin(&gathering, fcinfo, &guard);
	event_question_each_day(gathering.question, EVENT_WIDGETS, gather_widgets, &gathering);
	popular = sort_popular(&gathering);
	for (int i = 0; i < gathering.ngroups; i++)
	{
		const EventGroup *group = popular[i].group;
		Datum values[4 + EVENT_TYPES];
		bool nulls[4 + EVENT_TYPES] = {false};

		values[0] = event_name_text(group->name, group->length);
		values[1] = Int64GetDatum(popular[i].users);
		values[2] = Int64GetDatum(event_sums_events(&group->sums));
		for (int j = 0; j < EVENT_TYPES; j++)
			values[3 + j] = Int64GetDatum(group->sums.counts[j]);
		values[3 + EVENT_TYPES] = Int64GetDatum(event_sums_seconds(&group->sums));
		dashie_rows_put(&rows, values, nulls);
	}
	gathering_end(&gathering, &guard);
	return (Datum) 0;
}

static void
put_counts(const Gathering *gathering, DashieRows *rows, const EventGroup *group, Datum key)
{
	Datum values[4];
	bool nulls[4] = {false};

	values[0] = key;
	values[1] = Int64GetDatum(event_sums_events(&group->sums));
	values[2] = Int64GetDatum(count_users(gathering, group));
	values[3] = Int64GetDatum(event_sums_seconds(&group->sums));
	nulls[1] = nulls[2] = nulls[3] = group->unknown;
	dashie_rows_put(rows, values, nulls);
}

static void
count_by_period(Gathering *gathering, DashieRows *rows)
{
	event_question_each_day(gathering->question, EVENT_TOTALS, gather_period, gathering);
	for (int i = 0; i < gathering->ngroups; i++)
		put_counts(gathering, rows, &gathering->groups[i],
				   CStringGetTextDatum(dashie_day_text(gathering->groups[i].day)));
}

static void
count_by_widget(Gathering *gathering, DashieRows *rows)
{
	event_question_each_day(gathering->question, EVENT_WIDGETS, gather_widgets, gathering);
	for (int i = 0; i < gathering->ngroups; i++)
		put_counts(gathering, rows, &gathering->groups[i],
				   event_name_text(gathering->groups[i].name, gathering->groups[i].length));
}

static void
count_by_type(Gathering *gathering, DashieRows *rows)
{
	for (int i = 0; i < EVENT_COUNTS; i++)
		(void) add_group(gathering, i);
	event_question_each_day(gathering->question, EVENT_TOTALS, gather_types, gathering);
	for (int i = 0; i < EVENT_COUNTS; i++)
		if (i < EVENT_TYPES || event_sums_events(&gathering->groups[i].sums) > 0)
			put_counts(gathering, rows, &gathering->groups[i],
					   CStringGetTextDatum(i < EVENT_TYPES ? dashie_event_types[i] : "other"));
}

static const struct
{
	const char *name;
	void (*count)(Gathering *gathering, DashieRows *rows);
	DashiePeriod period;
} kinds[] = {
	{"day", count_by_period, PERIOD_DAY},
	{"week", count_by_period, PERIOD_WEEK},
	{"month", count_by_period, PERIOD_MONTH},
	{"widget_type", count_by_widget},
	{"event_type", count_by_type},
};

/* SQL: dashie.event_counts("from" date, "to" date, by text) */
Datum
dashie_event_counts(PG_FUNCTION_ARGS)
{
	DashieRows rows;
	DashieGuard guard;
	Gathering gathering;
	char *by;
	int kind = 0;

	dashie_reject_null(fcinfo, 2, "by");
	by = text_to_cstring(PG_GETARG_TEXT_PP(2));
	while (kind < lengthof(kinds) && strcmp(kinds[kind].name, by) != 0)
		kind++;
	if (kind == lengthof(kinds))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"by\" is unknown: \"%s\"", by),
						errhint("It is day, week, month, widget_type or event_type.")));
	dashie_rows_begin(fcinfo, &rows);
	gathering_begin(&gathering, fcinfo, &guard);
	gathering.period = kinds[kind].period;
	kinds[kind].count(&gathering, &rows);
	gathering_end(&gathering, &guard);
	return (Datum) 0;
}
