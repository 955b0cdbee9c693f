/*
 * order.c
 *		The order in which events happened.
 *
 * Pure.  Stripe's "created" has whole seconds, and deliveries come in any
 * order.  Within a second the type decides (state.c); among equals of one
 * subscription previous_attributes does: an event follows the one whose object
 * it remembers.  What is left undecided goes by the event's id, so that the
 * result never depends on the order of delivery.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/fmgrprotos.h"

#include "billing/stripe.h"

/*
 * value_matches tells whether a value of previous_attributes is what an object
 * had: nested objects hold only what changed, NULL is the same as absent.
 */
static bool
value_matches(JsonbValue *before, JsonbValue *had)
{
	JsonbIterator *it;
	JsonbValue key;
	JsonbIteratorToken token;

	check_stack_depth();
	if (before->type == jbvNull)
		return had == NULL || had->type == jbvNull;
	if (had == NULL || before->type != had->type)
		return false;
	switch (before->type)
	{
		case jbvString:
			return before->val.string.len == had->val.string.len &&
				   memcmp(before->val.string.val, had->val.string.val, before->val.string.len) == 0;
		case jbvNumeric:
			return DatumGetBool(DirectFunctionCall2(numeric_eq,
													NumericGetDatum(before->val.numeric),
													NumericGetDatum(had->val.numeric)));
		case jbvBool:
			return before->val.boolean == had->val.boolean;
		case jbvBinary:
			break;
		default:
			return false;
	}
	if (!JsonContainerIsObject(before->val.binary.data) ||
		!JsonContainerIsObject(had->val.binary.data))
		return compareJsonbContainers(before->val.binary.data, had->val.binary.data) == 0;

	it = JsonbIteratorInit(before->val.binary.data);
	(void) JsonbIteratorNext(&it, &key, true);
	while ((token = JsonbIteratorNext(&it, &key, true)) == WJB_KEY)
	{
		JsonbValue value;
		JsonbValue *other = getKeyJsonValueFromContainer(had->val.binary.data, key.val.string.val,
														 key.val.string.len, NULL);

		(void) JsonbIteratorNext(&it, &value, true);
		if (!value_matches(&value, other))
			return false;
	}
	return true;
}

/* Whether the later event remembers the state that the earlier one left. */
static bool
remembers(const StripeEvent *later, const StripeEvent *earlier)
{
	JsonbValue before = {.type = jbvBinary};
	JsonbValue had = {.type = jbvBinary};

	if (later->previous == NULL || JsonContainerSize(later->previous) == 0 ||
		earlier->object == NULL)
		return false;
	before.val.binary.data = later->previous;
	had.val.binary.data = earlier->object;
	return value_matches(&before, &had);
}

static bool
precedes(const StripeEvent *a, const StripeEvent *b)
{
	return remembers(b, a) && !remembers(a, b);
}

/*
 * chain puts events of one subscription, second and rank, which come by id,
 * into their order.  "before" is what happened last to the subscription, or
 * NULL.
 */
static void
chain(StripeEvent **events, int nevents, const StripeEvent *before)
{
	for (int done = 0; done < nevents - 1; done++)
	{
		int next = -1;
		int first = -1;
		StripeEvent *chosen;

		CHECK_FOR_INTERRUPTS();
		for (int i = done; i < nevents; i++)
		{
			bool begins = true;

			for (int j = done; j < nevents && begins; j++)
				begins = j == i || !precedes(events[j], events[i]);
			if (!begins)
				continue;
			if (first < 0)
				first = i;
			if (next < 0 && before != NULL && remembers(events[i], before))
				next = i;
		}
		/* where all remember each other, the state before says where to begin */
		for (int i = done; next < 0 && first < 0 && before != NULL && i < nevents; i++)
			if (remembers(events[i], before))
				next = i;
		if (next < 0)
			next = first < 0 ? done : first;

		chosen = events[next];
		memmove(&events[done + 1], &events[done], (next - done) * sizeof(StripeEvent *));
		events[done] = chosen;
		before = chosen;
	}
}

static int
compare_text(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return (a != NULL) - (b != NULL);
	return strcmp(a, b);
}

static int
compare_moments(const StripeEvent *a, const StripeEvent *b)
{
	if (a->created != b->created)
		return a->created < b->created ? -1 : 1;
	if (a->known->rank != b->known->rank)
		return a->known->rank - b->known->rank;
	return compare_text(a->subscription, b->subscription);
}

static int
compare_events(const void *a, const void *b)
{
	const StripeEvent *left = *(StripeEvent *const *) a;
	const StripeEvent *right = *(StripeEvent *const *) b;
	int result = compare_moments(left, right);

	return result != 0 ? result : strcmp(left->id, right->id);
}

/* stripe_order sorts events, all of known types, into the order in which they happened. */
void
stripe_order(StripeEvent **events, int nevents)
{
	qsort(events, nevents, sizeof(StripeEvent *), compare_events);
	for (int from = 0, upto; from < nevents; from = upto)
	{
		const StripeEvent *before = NULL;

		for (upto = from + 1; upto < nevents && compare_moments(events[from], events[upto]) == 0;)
			upto++;
		if (upto - from < 2 || events[from]->subscription == NULL)
			continue;
		for (int i = from - 1; i >= 0 && before == NULL; i--)
			if (compare_text(events[i]->subscription, events[from]->subscription) == 0)
				before = events[i];
		chain(&events[from], upto - from, before);
	}
}
