/*
 * question.c
 *		A question about a stretch of days: the set of users active on each.
 *
 * Nothing is written and no lock is taken: everything is read with the one
 * snapshot of the run, pages and marks included.  Days whose page is up to
 * date are answered from it, also when their rows are gone; the others are
 * computed from the rows in memory.  Held at any time are the sets of a few
 * weeks and what the visitor keeps.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "metrics/question.h"

/* Days that one pass over the sessions computes, and that one query reads. */
#define CHUNK_DAYS 14
#define BATCH_DAYS 32

/*
 * metrics_query runs a SELECT: in a question with the snapshot of the run, else
 * so that it also sees what the run has written itself.
 */
uint64
metrics_query(const Metrics *metrics, const char *sql, int nargs, const Oid *types,
			  const Datum *values)
{
	if (metrics->readonly)
		return dashie_query_as_of(metrics->snapshot, sql, nargs, types, values, NULL);
	return dashie_query(sql, nargs, types, values, NULL);
}

void
question_check_range(const char *from_name, DateADT from, const char *to_name, DateADT to)
{
	if (from > to)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"%s\" (%s) is later than \"%s\" (%s)", from_name,
							   dashie_day_text(from), to_name, dashie_day_text(to))));
	if (to - from >= MAX_WINDOW_DAYS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the range from %s to %s is too long: %d days",
							   dashie_day_text(from), dashie_day_text(to), to - from + 1),
						errdetail("A range has 1 to %d days.", MAX_WINDOW_DAYS)));
}

void
question_range(FunctionCallInfo fcinfo, DateADT *from, DateADT *to)
{
	*from = dashie_day_argument("from", DASHIE_ARG(0));
	*to = dashie_day_argument("to", DASHIE_ARG(1));
	question_check_range("from", *from, "to", *to);
}

Metrics *
question_open(DashieGuard *guard, Oid owner_rel, const char *argument, DateADT to)
{
	Metrics *metrics = metrics_open(guard, owner_rel, true);

	metrics_reject_future(metrics, argument, to);
	return metrics;
}

/*
 * beginning is the day of the first page or sign-up: before it there was
 * nobody who counts and whose sessions retention could have removed.
 */
static DateADT
beginning(Metrics *metrics)
{
	static const Oid columns[] = {DATEOID, TIMESTAMPTZOID};
	DateADT first = metrics->today;
	bool isnull;
	Datum value;

	dashie_query_begin();
	metrics_query(metrics,
				  "SELECT (SELECT min(day) FROM dashie.day_page),"
				  " (SELECT min(signed_up_at) FROM dashie.user_number WHERE signup_counts)",
				  0, NULL, NULL);
	dashie_query_types(2, columns);
	value = dashie_field(0, 1, &isnull);
	if (!isnull)
		first = Min(first, DatumGetDateADT(value));
	value = dashie_field(0, 2, &isnull);
	if (!isnull)
		first = Min(first, dashie_day_of(DatumGetTimestampTz(value), metrics->zone));
	dashie_query_end();
	return first;
}

/*
 * plan_days tells which days are to be computed, and which can be known at
 * all; returns how many retention closed before they were computed.
 */
static int
plan_days(Metrics *metrics, DateADT from, DateADT to, bool *compute, bool *known)
{
	DayPage *heads = pages_load(metrics, from, to, false);
	DateADT first = DASHIE_MAX_DAY; /* not asked yet */
	int lost = 0;

	metrics_marked(metrics, MARK_SESSIONS, from, to, compute);
	for (int i = 0; i <= to - from; i++)
	{
		DayPage *page = &heads[i];

		/* a day that is not over keeps nobody, also who left without a mark */
		if (!page->stored || page->dirty || !page->has_sessions || !page->final)
			compute[i] = true;
		if (page->day < metrics->first_open_day || !OidIsValid(metrics->sessions_rel))
			compute[i] = false;
		known[i] = compute[i] || (page->stored && page->has_sessions);
		if (!page->stored && page->day < metrics->first_open_day)
		{
			if (first == DASHIE_MAX_DAY)
				first = beginning(metrics);
			known[i] = page->day < first;
			lost += known[i] ? 0 : 1;
		}
	}
	pfree(heads);
	return lost;
}

UserSet *
metrics_anonymous(Metrics *metrics)
{
	UserSet *anonymous = user_set_create();
	Oid type = INT4OID;
	uint64 nrows;

	if (metrics->users_loaded)
	{
		for (int32 number = 0; number < metrics->by_number_size; number++)
			if (metrics->by_number[number].anonymous)
				roaring_bitmap_add(anonymous, number);
		return anonymous;
	}
	dashie_query_begin();
	nrows = metrics_query(metrics, "SELECT number FROM dashie.user_number WHERE anonymous", 0, NULL,
						  NULL);
	dashie_query_types(1, &type);
	for (uint64 row = 0; row < nrows; row++)
		roaring_bitmap_add(anonymous, DatumGetInt32(dashie_field(row, 1, NULL)));
	dashie_query_end();
	return anonymous;
}

const UserSet *
question_anonymous(Question *question)
{
	MemoryContext old;

	if (question->anonymous == NULL)
	{
		old = MemoryContextSwitchTo(question->metrics->context);
		question->anonymous = metrics_anonymous(question->metrics);
		MemoryContextSwitchTo(old);
	}
	return question->anonymous;
}

/*
 * question_begin finds out how the days are to be answered.  The users are
 * looked at only if a day is to be computed, or the caller has done so.
 */
Question *
question_begin(Metrics *metrics, DateADT from, DateADT to)
{
	MemoryContext old = MemoryContextSwitchTo(metrics->context);
	Question *question = palloc0(sizeof(Question));
	int ndays = to - from + 1;

	question->metrics = metrics;
	question->from = from;
	question->to = to;
	question->compute = palloc0(ndays);
	question->known = palloc0(ndays);
	question->settled = palloc0(ndays * sizeof(UserSet *));
	question->lost = plan_days(metrics, from, to, question->compute, question->known);
	if (memchr(question->compute, true, ndays) != NULL)
		numbers_load(metrics);
	MemoryContextSwitchTo(old);
	return question;
}

/*
 * compute_stretch reads the rows of the days from "day" on of which wanted[]
 * says so, the first one included, in one pass; returns how many days of
 * *pages it took.
 */
static int
compute_stretch(Metrics *metrics, DateADT day, int ndays, const bool *wanted, DayPage **pages)
{
	int n = Min(CHUNK_DAYS, ndays);

	CHECK_FOR_INTERRUPTS();
	while (!wanted[n - 1])
		n--;
	*pages = pages_load(metrics, day, day + n - 1, true);
	collect_days(metrics, *pages, n, wanted);
	return n;
}

/*
 * question_settle_countries reads every day that is not up to date, up to
 * today and beyond: a session of any of them may be the latest of its user.
 * The caller has loaded the users before the question began.
 */
void
question_settle_countries(Question *question)
{
	Metrics *metrics = question->metrics;
	MemoryContext old = MemoryContextSwitchTo(metrics->context);
	MemoryContext chunk =
		AllocSetContextCreate(metrics->context, "dashie metrics chunk", ALLOCSET_DEFAULT_SIZES);
	DateADT from;
	int ndays;
	bool *compute;
	int n;

	Assert(metrics->users_loaded);
	from = metrics_first_day(metrics);
	from = Min(from, question->from);
	ndays = metrics->today - from + 1;
	compute = palloc0(ndays);
	(void) plan_days(metrics, from, metrics->today, compute, palloc0(ndays));
	for (int i = 0; i < ndays; i += n)
	{
		DayPage *pages;

		n = 1;
		if (!compute[i])
			continue;
		MemoryContextSwitchTo(chunk);
		n = compute_stretch(metrics, from + i, ndays - i, compute + i, &pages);
		MemoryContextSwitchTo(metrics->context);
		for (int j = 0; j < n; j++)
		{
			DateADT day = pages[j].day;

			if (compute[i + j] && day >= question->from && day <= question->to)
				question->settled[day - question->from] =
					user_set_adopt(roaring_bitmap_copy(pages[j].active));
		}
		MemoryContextReset(chunk);
	}
	countries_future(metrics);
	MemoryContextDelete(chunk);
	MemoryContextSwitchTo(old);
}

static void
visit_day(Question *question, DateADT day, UserSet *active, DayVisitor visit, void *arg)
{
	if (!question->known[day - question->from])
	{
		visit(arg, day, NULL);
		return;
	}
	if (active == NULL)
		active = user_set_create();
	if (!question->raw)
		roaring_bitmap_andnot_inplace(active, question_anonymous(question));
	visit(arg, day, active);
}

/* Visits up to ndays days that are answered from their pages; in a context that is reset after. */
static int
visit_stored(Question *question, DateADT from, int ndays, DayVisitor visit, void *arg)
{
	UserSet *sets[BATCH_DAYS] = {NULL};
	Oid types[] = {DATEOID, DATEOID};
	Datum values[2];
	static const Oid columns[] = {DATEOID, BYTEAOID};
	MemoryContext context = CurrentMemoryContext;
	uint64 nrows;
	int n = 0;

	CHECK_FOR_INTERRUPTS();
	while (n < Min(BATCH_DAYS, ndays) && !question->compute[from - question->from + n])
		n++;
	values[0] = DateADTGetDatum(from);
	values[1] = DateADTGetDatum(from + n - 1);
	dashie_query_begin();
	nrows = metrics_query(question->metrics,
						  "SELECT day, active FROM dashie.day_page"
						  " WHERE day BETWEEN $1 AND $2 AND active IS NOT NULL",
						  2, types, values);
	dashie_query_types(2, columns);
	for (uint64 row = 0; row < nrows; row++)
	{
		MemoryContext spi = MemoryContextSwitchTo(context);

		sets[DatumGetDateADT(dashie_field(row, 1, NULL)) - from] =
			user_set_from_bytes(DatumGetByteaPP(dashie_field(row, 2, NULL)));
		MemoryContextSwitchTo(spi);
	}
	dashie_query_end();
	for (int i = 0; i < n; i++)
		visit_day(question, from + i, sets[i], visit, arg);
	return n;
}

void
question_each_day(Question *question, DayVisitor visit, void *arg)
{
	Metrics *metrics = question->metrics;
	int ndays = question->to - question->from + 1;
	MemoryContext chunk =
		AllocSetContextCreate(metrics->context, "dashie metrics chunk", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(chunk);
	int n;

	for (int i = 0; i < ndays; i += n)
	{
		DateADT day = question->from + i;

		if (question->settled[i] != NULL)
		{
			visit_day(question, day, question->settled[i], visit, arg);
			n = 1;
		}
		else if (question->compute[i])
		{
			DayPage *pages;

			n = compute_stretch(metrics, day, ndays - i, question->compute + i, &pages);
			for (int j = 0; j < n; j++)
				visit_day(question, day + j, pages[j].active, visit, arg);
		}
		else
			n = visit_stored(question, day, ndays - i, visit, arg);
		MemoryContextReset(chunk);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(chunk);
}

void
question_tell_lost(const Question *question)
{
	if (question->lost > 0)
		ereport(NOTICE, (errmsg("nothing is known of %d of the %d days: retention closed them "
								"before they were computed",
								question->lost, question->to - question->from + 1)));
}
