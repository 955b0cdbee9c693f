/*
 * event_compare.c
 *		dashie.widget_compare(): is a widget used by another share of the active
 *		users in one stretch of days than in another?
 *
 * A question for each stretch.  The test and the interval are the textbook's:
 * pooled z of two proportions, and Newcombe's interval for their difference,
 * which is made of Wilson's intervals and holds at shares of 0 and 1 too.
 */
#include "postgres.h"

#include <math.h>

#include "utils/builtins.h"
#include "utils/memutils.h"

#include "common/rows.h"
#include "events/events.h"
#include "metrics/question.h"

PG_FUNCTION_INFO_V1(dashie_widget_compare);

/* The 97.5 % quantile of the normal distribution. */
#define QUANTILE 1.959963984540054

/* One stretch of days. */
typedef struct Arm
{
	const char *widget;
	int length;
	UserSet *all;
	UserSet *of_widget;
	int64 users; /* with an event of any widget */
	int64 used;	 /* of them, with one of the widget */
} Arm;

static void
gather(void *arg, DateADT day, const EventPage *page)
{
	Arm *arm = arg;

	for (int i = 0; page != NULL && i < page->nwidgets; i++)
	{
		const EventWidget *widget = &page->widgets[i];

		roaring_bitmap_or_inplace(arm->all, widget->users);
		if (event_names_compare(widget->name, widget->length, arm->widget, arm->length) == 0)
			roaring_bitmap_or_inplace(arm->of_widget, widget->users);
	}
}

static void
ask(Arm *arm, DateADT from, DateADT to, const char *argument)
{
	DashieGuard guard;
	EventQuestion *question;

	dashie_enter(&guard);
	question = event_question_begin(&guard, from, to, argument);
	arm->all = user_set_create();
	arm->of_widget = user_set_create();
	event_question_each_day(question, EVENT_WIDGETS, gather, arm);
	arm->users = (int64) roaring_bitmap_andnot_cardinality(arm->all, question->anonymous);
	arm->used = (int64) roaring_bitmap_andnot_cardinality(arm->of_widget, question->anonymous);
	event_question_end(question);
	dashie_leave(&guard);
}

/* Wilson's interval of a share. */
static void
wilson(const Arm *arm, double *low, double *high)
{
	double n = (double) arm->users;
	double p = arm->used / n;
	double square = QUANTILE * QUANTILE;
	double middle = p + square / (2 * n);
	double half = QUANTILE * sqrt(p * (1 - p) / n + square / (4 * n * n));

	*low = (middle - half) / (1 + square / n);
	*high = (middle + half) / (1 + square / n);
}

typedef struct Comparison
{
	double difference;
	double low;
	double high;
	bool tested; /* else nobody used it, or everybody: there is nothing to test */
	double z;
	double p_value;
} Comparison;

/* Both arms have users. */
static void
compare(const Arm *a, const Arm *b, Comparison *result)
{
	double share_a = (double) a->used / a->users;
	double share_b = (double) b->used / b->users;
	double pooled = (double) (a->used + b->used) / (a->users + b->users);
	double variance = pooled * (1 - pooled) * (1.0 / a->users + 1.0 / b->users);
	double low_a;
	double high_a;
	double low_b;
	double high_b;

	wilson(a, &low_a, &high_a);
	wilson(b, &low_b, &high_b);
	result->difference = share_b - share_a;
	result->low = result->difference - hypot(share_b - low_b, high_a - share_a);
	result->high = result->difference + hypot(high_b - share_b, share_a - low_a);
	result->tested = variance > 0;
	if (result->tested)
	{
		result->z = result->difference / sqrt(variance);
		result->p_value = erfc(fabs(result->z) / sqrt(2.0));
	}
}

static void
arm_range(FunctionCallInfo fcinfo, int first, const char *from_name, const char *to_name,
		  DateADT *from, DateADT *to)
{
	*from = dashie_day_argument(from_name, DASHIE_ARG(first));
	*to = dashie_day_argument(to_name, DASHIE_ARG(first + 1));
	question_check_range(from_name, *from, to_name, *to);
}

enum
{
	OUT_USERS_A,
	OUT_USED_A,
	OUT_RATE_A,
	OUT_USERS_B,
	OUT_USED_B,
	OUT_RATE_B,
	OUT_DIFFERENCE,
	OUT_LOW,
	OUT_HIGH,
	OUT_Z,
	OUT_P_VALUE,
	OUT_COLUMNS
};

/* SQL: dashie.widget_compare(widget text, from_a date, to_a date, from_b date, to_b date) */
Datum
dashie_widget_compare(PG_FUNCTION_ARGS)
{
	Arm a = {0};
	Arm b = {0};
	Comparison result = {0};
	DateADT from_a;
	DateADT to_a;
	DateADT from_b;
	DateADT to_b;
	text *widget;
	TupleDesc desc;
	Datum values[OUT_COLUMNS];
	bool nulls[OUT_COLUMNS] = {false};

	dashie_reject_null(fcinfo, 0, "widget");
	widget = PG_GETARG_TEXT_PP(0);
	arm_range(fcinfo, 1, "from_a", "to_a", &from_a, &to_a);
	arm_range(fcinfo, 3, "from_b", "to_b", &from_b, &to_b);
	if (from_a <= to_b && from_b <= to_a)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the ranges from %s to %s and from %s to %s overlap",
							   dashie_day_text(from_a), dashie_day_text(to_a),
							   dashie_day_text(from_b), dashie_day_text(to_b)),
						errhint("A test of two groups needs days that belong to one of them.")));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	a.widget = event_name(VARDATA_ANY(widget), VARSIZE_ANY_EXHDR(widget), &a.length);
	b.widget = a.widget;
	b.length = a.length;
	ask(&a, from_a, to_a, "to_a");
	ask(&b, from_b, to_b, "to_b");
	if (a.used == 0 && b.used == 0)
		ereport(NOTICE,
				(errmsg("nobody used widget \"%s\" in either range", text_to_cstring(widget))));

	values[OUT_USERS_A] = Int64GetDatum(a.users);
	values[OUT_USED_A] = Int64GetDatum(a.used);
	values[OUT_USERS_B] = Int64GetDatum(b.users);
	values[OUT_USED_B] = Int64GetDatum(b.used);
	if (!(nulls[OUT_RATE_A] = a.users == 0))
		values[OUT_RATE_A] = share(a.used, a.users);
	if (!(nulls[OUT_RATE_B] = b.users == 0))
		values[OUT_RATE_B] = share(b.used, b.users);
	nulls[OUT_DIFFERENCE] = nulls[OUT_LOW] = nulls[OUT_HIGH] = a.users == 0 || b.users == 0;
	if (!nulls[OUT_DIFFERENCE])
		compare(&a, &b, &result);
	nulls[OUT_Z] = nulls[OUT_P_VALUE] = !result.tested;
	values[OUT_DIFFERENCE] = Float8GetDatum(result.difference);
	values[OUT_LOW] = Float8GetDatum(result.low);
	values[OUT_HIGH] = Float8GetDatum(result.high);
	values[OUT_Z] = Float8GetDatum(result.z);
	values[OUT_P_VALUE] = Float8GetDatum(result.p_value);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
