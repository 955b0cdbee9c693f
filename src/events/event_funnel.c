/*
 * event_funnel.c
 *		dashie.widget_funnel(): how many users went through some steps in their
 *		order, inside a time.
 *
 * The order of a user's events is known from their rows alone, so a funnel is
 * answered while these exist, and refused otherwise: pages hold no times, and
 * were they to, retention would be none.
 *
 * Of each user and step the latest start is kept from which a chain of events
 * has reached the step: a later start is never worse.  Days are read one by one
 * in their order, and a day's events sorted by user and time; memory is that of
 * one day's events that belong to a step, and of the users who have any.
 * Events of the same instant are not in any order, so that none of them comes
 * after another.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "common/rows.h"
#include "events/events.h"
#include "metrics/question.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_widget_funnel);

#define MAX_STEPS 32

typedef struct FunnelStep
{
	const char *widget; /* of the server's encoding */
	int length;
	int type; /* -1: any */
	text *label;
} FunnelStep;

/* An event that belongs to one or more of the steps. */
typedef struct FunnelEvent
{
	TimestampTz at;
	int32 user;
	uint32 steps; /* a bit each */
} FunnelEvent;

/* How far a user has come. */
typedef struct FunnelUser
{
	int reached;							  /* steps */
	TimestampTz start[FLEXIBLE_ARRAY_MEMBER]; /* [step]: DT_NOBEGIN while it was not reached */
} FunnelUser;

typedef struct Funnel
{
	Metrics *metrics;
	const UserSet *anonymous;
	FunnelStep steps[MAX_STEPS];
	int nsteps;
	int64 within;
	TimestampTz entry_end; /* a first step counts before it */
	FunnelUser **users;	   /* [number] */
	FunnelEvent *events;   /* of the day */
	int64 nevents;
	int64 size;
	int64 reached[MAX_STEPS];
} Funnel;

/* "photos", or with one of the roadmap's event types: "photos:click". */
static void
parse_step(Funnel *funnel, Datum value)
{
	text *label = DatumGetTextPP(value);
	FunnelStep *step = &funnel->steps[funnel->nsteps++];

	step->label = label;
	step->widget = VARDATA_ANY(label);
	step->length = VARSIZE_ANY_EXHDR(label);
	step->type = -1;
	for (int i = 0; i < EVENT_TYPES; i++)
	{
		int length = strlen(dashie_event_types[i]);
		int at = step->length - length;

		if (at > 0 && step->widget[at - 1] == ':' &&
			memcmp(step->widget + at, dashie_event_types[i], length) == 0)
		{
			step->type = i;
			step->length = at - 1;
			break;
		}
	}
	if (step->length == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("step %d names no widget: \"%s\"", funnel->nsteps, text_to_cstring(label)),
				 errhint("A step is a widget_type, or one with an event_type after a colon: "
						 "photos:click.")));
}

static void
parse_steps(Funnel *funnel, ArrayType *array)
{
	Datum *values;
	bool *nulls;
	int count;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"steps\" must be a one-dimensional array")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &count);
	if (count < 1 || count > MAX_STEPS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"steps\" has %d elements", count),
						errdetail("A funnel has 1 to %d steps.", MAX_STEPS)));
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("step %d must not be NULL", i + 1)));
		parse_step(funnel, values[i]);
	}
}

/* The elapsed time that an interval stands for: days of 24 hours, months of 30 days. */
static int64
parse_within(const Interval *within)
{
	int64 days = (int64) within->month * DAYS_PER_MONTH + within->day;
	int64 elapsed;

	if (pg_mul_s64_overflow(days, USECS_PER_DAY, &elapsed) ||
		pg_add_s64_overflow(elapsed, within->time, &elapsed) || elapsed <= 0 ||
		elapsed > MAX_WINDOW_DAYS * USECS_PER_DAY)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("argument \"within\" is out of range: %s",
					DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(within)))),
			 errdetail("It is more than 0 and at most %d days.", MAX_WINDOW_DAYS)));
	return elapsed;
}

static void
collect_event(void *arg, const EventRow *row)
{
	Funnel *funnel = arg;
	int type = event_type_of(row);
	uint32 steps = 0;
	UserEntry *user;
	FunnelEvent *event;

	for (int i = 0; i < funnel->nsteps; i++)
	{
		const FunnelStep *step = &funnel->steps[i];

		if (step->length == row->widget_length && (step->type < 0 || step->type == type) &&
			memcmp(step->widget, row->widget, step->length) == 0)
			steps |= UINT32_C(1) << i;
	}
	if (steps == 0 || row->user == NULL)
		return;
	user = numbers_user(funnel->metrics, row->user);
	if (user == NULL || !user_is_there(user) ||
		roaring_bitmap_contains(funnel->anonymous, user->number))
		return;

	if (funnel->nevents == funnel->size)
	{
		funnel->size = Max(1024, funnel->size * 2);
		funnel->events =
			funnel->events == NULL
				? MemoryContextAllocHuge(funnel->metrics->context,
										 funnel->size * sizeof(FunnelEvent))
				: repalloc_huge(funnel->events, (Size) funnel->size * sizeof(FunnelEvent));
	}
	event = &funnel->events[funnel->nevents++];
	event->at = row->at;
	event->user = user->number;
	event->steps = steps;
}

static int
compare_events(const void *a, const void *b)
{
	const FunnelEvent *left = a;
	const FunnelEvent *right = b;

	if (left->user != right->user)
		return left->user < right->user ? -1 : 1;
	if (left->at != right->at)
		return left->at < right->at ? -1 : 1;
	return 0;
}

static FunnelUser *
funnel_user(Funnel *funnel, int32 number)
{
	FunnelUser *user = funnel->users[number];

	if (user == NULL)
	{
		user =
			MemoryContextAlloc(funnel->metrics->context,
							   offsetof(FunnelUser, start) + funnel->nsteps * sizeof(TimestampTz));
		user->reached = 0;
		for (int i = 0; i < funnel->nsteps; i++)
			user->start[i] = DT_NOBEGIN;
		funnel->users[number] = user;
	}
	return user;
}

/* What an instant of a user brings; the last step first, so that none relies on the same instant. */
static void
advance(Funnel *funnel, FunnelUser *user, TimestampTz at, uint32 steps)
{
	for (int i = funnel->nsteps - 1; i > 0; i--)
		if ((steps & UINT32_C(1) << i) != 0 && user->start[i - 1] != DT_NOBEGIN &&
			at - user->start[i - 1] <= funnel->within)
		{
			user->start[i] = Max(user->start[i], user->start[i - 1]);
			user->reached = Max(user->reached, i + 1);
		}
	if ((steps & 1) != 0 && at < funnel->entry_end)
	{
		user->start[0] = at;
		user->reached = Max(user->reached, 1);
	}
}

static void
pass_day(Funnel *funnel, EventSource *source, TimestampTz from, TimestampTz upto)
{
	int64 next;

	CHECK_FOR_INTERRUPTS();
	funnel->nevents = 0;
	event_source_read(source, funnel->metrics->snapshot, from, upto, collect_event, funnel);
	qsort(funnel->events, funnel->nevents, sizeof(FunnelEvent), compare_events);
	for (int64 i = 0; i < funnel->nevents; i = next)
	{
		const FunnelEvent *event = &funnel->events[i];
		uint32 steps = 0;

		for (next = i; next < funnel->nevents && compare_events(event, &funnel->events[next]) == 0;
			 next++)
			steps |= funnel->events[next].steps;
		advance(funnel, funnel_user(funnel, event->user), event->at, steps);
	}
}

/* Refuses days whose events are not there any more. */
static void
require_rows(Metrics *metrics, EventSource *source, DateADT from, TimestampTz upto)
{
	TimestampTz first = Max(event_source_complete_from(source, Min(upto, metrics->now)),
							dashie_day_start(metrics->first_open_event_day, metrics->zone));
	DateADT day;

	if (first <= dashie_day_start(from, metrics->zone))
		return;
	first = Max(first, event_source_complete_from(source, metrics->now));
	day = dashie_day_of(first, metrics->zone);
	if (dashie_day_start(day, metrics->zone) < first)
		day++;
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("no events are kept of %s", dashie_day_text(from)),
					errdetail("A funnel follows the order of events. There are partitions with all "
							  "events from %s on.",
							  dashie_day_text(day)),
					errhint("Ask from that day on. dashie.widget_popularity() and "
							"dashie.event_counts() also answer for earlier days.")));
}

static void
put_steps(Funnel *funnel, DashieRows *rows)
{
	for (int32 number = 0; number < funnel->metrics->by_number_size; number++)
		for (int i = 0; funnel->users[number] != NULL && i < funnel->users[number]->reached; i++)
			funnel->reached[i]++;
	for (int i = 0; i < funnel->nsteps; i++)
	{
		int64 before = funnel->reached[Max(i - 1, 0)];
		Datum values[5];
		bool nulls[5] = {false};

		values[0] = Int32GetDatum(i + 1);
		values[1] = PointerGetDatum(funnel->steps[i].label);
		values[2] = Int64GetDatum(funnel->reached[i]);
		if (!(nulls[3] = funnel->reached[0] == 0))
			values[3] = share(funnel->reached[i], funnel->reached[0]);
		if (!(nulls[4] = before == 0))
			values[4] = share(funnel->reached[i], before);
		dashie_rows_put(rows, values, nulls);
	}
}

/* SQL: dashie.widget_funnel(steps text[], within interval, "from" date, "to" date) */
Datum
dashie_widget_funnel(PG_FUNCTION_ARGS)
{
	DashieRows rows;
	DashieGuard guard;
	Funnel funnel = {0};
	EventSource *source;
	MemoryContext old;
	DateADT from;
	DateADT to;
	pg_tz *zone;
	TimestampTz upto;

	dashie_reject_null(fcinfo, 0, "steps");
	dashie_reject_null(fcinfo, 1, "within");
	parse_steps(&funnel, PG_GETARG_ARRAYTYPE_P(0));
	funnel.within = parse_within(PG_GETARG_INTERVAL_P(1));
	from = dashie_day_argument("from", DASHIE_ARG(2));
	to = dashie_day_argument("to", DASHIE_ARG(3));
	question_check_range("from", from, "to", to);
	dashie_rows_begin(fcinfo, &rows);

	dashie_enter(&guard);
	zone = dashie_timezone();
	funnel.entry_end = dashie_day_start(to + 1, zone);
	upto = funnel.entry_end + funnel.within;
	source = event_source_open(dashie_enabled_oid_required("widget_analytics"),
							   dashie_day_start(from, zone), upto);
	funnel.metrics = question_open(&guard, event_pages_oid(), "to", to);
	event_load_floor(funnel.metrics);
	require_rows(funnel.metrics, source, from, upto);
	old = MemoryContextSwitchTo(funnel.metrics->context);
	numbers_load(funnel.metrics);
	funnel.anonymous = metrics_anonymous(funnel.metrics);
	funnel.users = palloc_extended(Max(funnel.metrics->by_number_size, 1) * sizeof(FunnelUser *),
								   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (DateADT day = from; dashie_day_start(day, zone) < upto; day++)
		pass_day(&funnel, source, dashie_day_start(day, zone),
				 Min(dashie_day_start(day + 1, zone), upto));
	put_steps(&funnel, &rows);
	MemoryContextSwitchTo(old);
	event_source_close(source);
	metrics_close(funnel.metrics);
	dashie_leave(&guard);
	return (Datum) 0;
}
