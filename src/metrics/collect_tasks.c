/*
 * collect_tasks.c
 *		The pages of new days divided among the workers that read the table.
 *
 * A worker that has read its share waits for days.  For each it gets, through a
 * queue of its own, the rows of the day under the users' numbers, and sets that
 * only the leader knows; it sends back the page's contents as bytes, their
 * digest and their sums.  The leader writes the page.  A worker has one day at a
 * time, and holds that day and the latest session with a country of each user
 * it was told of: these it sends at the end.
 *
 * Only days without a row in dashie.day_page are divided: their rows can be
 * inserted while the workers run, when no row may be updated and no command
 * begun.  What is stored of the others is looked at by the leader alone.
 *
 * The two sides are of one release, on one machine: what they send each other
 * is laid out as in memory.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#include "common/compat.h"
#include "common/presize.h"
#include "metrics/collect.h"

/* A day that takes more is not sent: the leader makes it. */
#define MAX_TASK_BYTES (MaxAllocSize / 4)

#define CANDIDATES_PER_MESSAGE 16384

/* Followed by the rows, both lists, and the sets as bytes. */
typedef struct Task
{
	int32 day; /* of the stretch; NO_MORE_DAYS after the last */
	DateADT date;
	uint32 nrows;
	uint32 nusers;
	uint32 ndashboards;
} Task;

#define NO_MORE_DAYS (-1)

/* Followed by the parts and the digest. */
typedef struct Result
{
	int64 sessions;
	int64 ended;
	int64 duration;
	int32 returning;
} Result;

/* A user's latest session with a country, of the days that a worker made. */
typedef struct Candidate
{
	TimestampTz at;
	uint32 user;
	CountryCode country; /* NO_COUNTRY: none yet */
} Candidate;

/* What a worker keeps: by the users' numbers. */
typedef struct Candidates
{
	MemoryContext context;
	Candidate *candidates;
	int32 size;
} Candidates;

/* A message in pieces, each of which begins where any type may. */
#define MAX_PIECES 8
typedef struct Parcel
{
	shm_mq_iovec pieces[2 * MAX_PIECES];
	int n;
} Parcel;

static void
parcel_add(Parcel *parcel, const void *data, Size size)
{
	static const char padding[MAXIMUM_ALIGNOF] = {0};

	Assert(parcel->n + 2 <= lengthof(parcel->pieces));
	parcel->pieces[parcel->n].data = data;
	parcel->pieces[parcel->n++].len = size;
	if (MAXALIGN(size) != size)
	{
		parcel->pieces[parcel->n].data = padding;
		parcel->pieces[parcel->n++].len = MAXALIGN(size) - size;
	}
}

static void
parcel_add_bytes(Parcel *parcel, const bytea *bytes)
{
	parcel_add(parcel, bytes, VARSIZE(bytes));
}

/* A worker's message to the leader. */
static void
parcel_send(Parcel *parcel, shm_mq_handle *results)
{
	if (dashie_mq_sendv(results, parcel->pieces, parcel->n) != SHM_MQ_SUCCESS)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("lost connection to the leader of a parallel refresh")));
}

/* The next piece of a message. */
static void *
take(char **next, Size size)
{
	void *piece = *next;

	*next += MAXALIGN(size);
	return piece;
}

static bytea *
take_bytea(char **next)
{
	return take(next, VARSIZE(*next));
}

/* A worker's DayMaker.candidate. */
static void
keep_candidate(void *arg, uint32 user, CountryCode country, TimestampTz at)
{
	Candidates *kept = arg;
	Candidate *candidate;

	kept->candidates = dashie_presize(kept->context, kept->candidates, &kept->size, (int32) user,
									  sizeof(Candidate));
	candidate = &kept->candidates[user];
	if (candidate->country != NO_COUNTRY && candidate->at >= at)
		return;
	candidate->at = at;
	candidate->user = user;
	candidate->country = country;
}

/* The last message has room left. */
static void
send_candidates(Candidates *kept, shm_mq_handle *results)
{
	Candidate *batch = palloc(CANDIDATES_PER_MESSAGE * sizeof(Candidate));
	int n = 0;

	for (int32 user = 0;; user++)
	{
		bool end = user >= kept->size;

		if (end || n == CANDIDATES_PER_MESSAGE)
		{
			Parcel parcel = {0};
			int64 count = n;

			parcel_add(&parcel, &count, sizeof(count));
			parcel_add(&parcel, batch, n * sizeof(Candidate));
			parcel_send(&parcel, results);
			if (n < CANDIDATES_PER_MESSAGE)
				break;
			n = 0;
		}
		if (!end && kept->candidates[user].country != NO_COUNTRY)
			batch[n++] = kept->candidates[user];
	}
	pfree(batch);
}

/* Makes the contents of a page of a task, and sends them. */
static void
serve(DayMaker *maker, const Task *task, char *next, TimestampTz starts_at, shm_mq_handle *results)
{
	DayPage page = {0};
	DayRows rows = {0};
	PageBytes bytes;
	UserSet *signed_up;
	Result result;
	Parcel parcel = {0};

	rows.nrows = task->nrows;
	rows.rows = take(&next, task->nrows * sizeof(SessionRow));
	rows.users.n = task->nusers;
	rows.users.numbers = take(&next, task->nusers * sizeof(uint32));
	rows.dashboards.n = task->ndashboards;
	rows.dashboards.numbers = take(&next, task->ndashboards * sizeof(uint32));
	signed_up = user_set_from_bytes(take_bytea(&next));
	maker->deleted = user_set_from_bytes(take_bytea(&next));

	page.day = task->date;
	page.heartbeats = user_set_from_bytes(take_bytea(&next));
	page.entries = palloc_extended(Max(rows.nrows, 1) * (Size) sizeof(PageEntry), MCXT_ALLOC_HUGE);
	page.nentries = day_entries(maker, starts_at, &rows, page.entries, &page.active);
	page.dashboards = day_set(&rows.dashboards);
	page_sum(&page);
	page_encode(&page, &bytes);

	result.sessions = page.sessions;
	result.ended = page.ended;
	result.duration = page.duration;
	result.returning = (int32) roaring_bitmap_and_cardinality(page.active, signed_up);
	parcel_add(&parcel, &result, sizeof(result));
	for (int i = 0; i < PAGE_PARTS; i++)
		parcel_add_bytes(&parcel, bytes.parts[i]);
	parcel_add_bytes(&parcel, bytes.digest);
	parcel_send(&parcel, results);
}

/*
 * page_worker_serve is what a worker does after its share of the table, until
 * the leader has no more days or goes away.  The reader's table is open; the
 * active snapshot is the one that it was read with.
 */
void
page_worker_serve(const SessionReader *reader, const TimestampTz *starts, shm_mq_handle *tasks,
				  shm_mq_handle *results)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "dashie served day", ALLOCSET_DEFAULT_SIZES);
	Candidates kept = {CurrentMemoryContext};
	DayMaker maker = {reader, GetActiveSnapshot(), table_slot_create(reader->rel, NULL)};
	MemoryContext old = MemoryContextSwitchTo(context);
	Size size;
	void *data;

	maker.candidate = keep_candidate;
	maker.arg = &kept;
	while (shm_mq_receive(tasks, &size, &data, false) == SHM_MQ_SUCCESS)
	{
		char *next = data;
		const Task *task = take(&next, sizeof(Task));

		if (task->day == NO_MORE_DAYS)
		{
			send_candidates(&kept, results);
			break;
		}
		serve(&maker, task, next, starts[task->day], results);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	ExecDropSingleTupleTableSlot(maker.slot);
}

static bool
can_be_sent(const DayRows *rows)
{
	return rows->nrows * (Size) sizeof(SessionRow) +
			   ((Size) rows->users.n + rows->dashboards.n) * sizeof(uint32) <
		   MAX_TASK_BYTES;
}

/* A worker that is gone has raised an error, which the end of the parallel part raises here. */
static void
fail_for_worker(Collector *collector)
{
	collect_parallel_end(collector);
	elog(ERROR, "a worker of a parallel refresh ended early");
}

/* The leader's message to a worker. */
static void
task_send(Collector *collector, PageWorker *worker, Parcel *parcel)
{
	if (dashie_mq_sendv(worker->tasks, parcel->pieces, parcel->n) != SHM_MQ_SUCCESS)
		fail_for_worker(collector);
}

static void
send_day(Collector *collector, PageWorker *worker, DateADT date, int day, const bytea *deleted)
{
	DayRows *rows = &collector->days[day];
	Task task = {day, date, rows->nrows, rows->users.n, rows->dashboards.n};
	Parcel parcel = {0};

	parcel_add(&parcel, &task, sizeof(task));
	parcel_add(&parcel, rows->rows, rows->nrows * sizeof(SessionRow));
	parcel_add(&parcel, rows->users.numbers, rows->users.n * sizeof(uint32));
	parcel_add(&parcel, rows->dashboards.numbers, rows->dashboards.n * sizeof(uint32));
	parcel_add_bytes(&parcel, user_set_to_bytes(signed_up_before(collector, day)));
	parcel_add_bytes(&parcel, deleted);
	parcel_add_bytes(&parcel, user_set_to_bytes(rows->heartbeats));
	task_send(collector, worker, &parcel);
	collector_release(collector, day);
	worker->day = day;
}

/* Takes a message of a worker, good until the next one; false if none is there. */
static bool
receive(Collector *collector, PageWorker *worker, bool wait, char **data)
{
	Size size;
	void *message;
	shm_mq_result result = shm_mq_receive(worker->results, &size, &message, !wait);

	if (result == SHM_MQ_WOULD_BLOCK)
		return false;
	if (result != SHM_MQ_SUCCESS)
		fail_for_worker(collector);
	*data = message;
	return true;
}

/* Writes a page from what a worker has sent. */
static void
take_page(Collector *collector, DayPage *page, int day, char *next, PageDone insert, void *arg)
{
	const Result *result = take(&next, sizeof(Result));
	PageBytes bytes;

	for (int i = 0; i < PAGE_PARTS; i++)
		bytes.parts[i] = take_bytea(&next);
	bytes.digest = take_bytea(&next);
	page->bytes = &bytes;
	page->sessions = result->sessions;
	page->ended = result->ended;
	page->duration = result->duration;
	page->returning = result->returning;
	page->dashboards = user_set_from_bytes(bytes.parts[2]);
	page->heartbeats = collector->days[day].heartbeats;
	collect_page_head(collector, page, day);
	insert(collector->metrics, page, arg);
}

static void
take_candidates(Collector *collector, PageWorker *worker)
{
	char *next = NULL;
	int64 n;

	do
	{
		const Candidate *candidates;

		(void) receive(collector, worker, true, &next);
		n = *(int64 *) take(&next, sizeof(int64));
		candidates = take(&next, n * sizeof(Candidate));
		for (int64 i = 0; i < n; i++)
			countries_candidate(numbers_by_number(collector->metrics, (int32) candidates[i].user),
								candidates[i].country, candidates[i].at, &lowest_session_id);
	} while (n == CANDIDATES_PER_MESSAGE);
}

/* The next day from here on that has no row yet. */
static int
next_new_day(const Collector *collector, const DayPage *heads, const bool *wanted, int day)
{
	while (day < collector->stretch.ndays &&
		   (!collector->wanted[day] || !wanted[day] || heads[day].stored))
		day++;
	return day;
}

/*
 * collect_new_pages makes the pages of the wanted days that have no row yet with
 * the workers' help and hands them to "insert", in any order, the parallel part
 * still going on; page->bytes has the contents of those that a worker made.
 * wanted[] is cleared for them.  Returns how many they were.
 */
int
collect_new_pages(Collector *collector, const DayPage *heads, bool *wanted, PageDone insert,
				  void *arg)
{
	Metrics *metrics = collector->metrics;
	int ndays = collector->stretch.ndays;
	int next = next_new_day(collector, heads, wanted, 0);
	int count = 0;
	MemoryContext day_context;
	MemoryContext old;
	bytea *deleted;

	deleted = user_set_to_bytes(metrics->deleted != NULL ? metrics->deleted : user_set_create());
	day_context = AllocSetContextCreate(CurrentMemoryContext, "dashie collected new day",
										ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(day_context);
	for (;;)
	{
		bool waiting = false;
		bool received = false;

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < collector->npage_workers; i++)
		{
			PageWorker *worker = &collector->page_workers[i];
			int made = -1;
			char *message = NULL;

			if (worker->day >= 0 && receive(collector, worker, false, &message))
			{
				made = worker->day;
				worker->day = -1;
			}
			/* the worker goes on while its page is written */
			if (worker->day < 0 && next < ndays && can_be_sent(&collector->days[next]))
			{
				send_day(collector, worker, heads[next].day, next, deleted);
				wanted[next] = false;
				count++;
				next = next_new_day(collector, heads, wanted, next + 1);
			}
			if (made >= 0)
			{
				DayPage page = heads[made];

				take_page(collector, &page, made, message, insert, arg);
				received = true;
			}
			waiting |= worker->day >= 0;
			MemoryContextReset(day_context);
		}
		if (!waiting && next == ndays)
			break;
		if (received)
			continue;

		/* what is to be written in any case is written while they work */
		if (collector->insert_numbers && numbers_insert(metrics))
		{
			MemoryContextReset(day_context);
			continue;
		}

		/* several workers keep the leader busy with what they send; one does not */
		if (next < ndays && (collector->npage_workers < 2 || !can_be_sent(&collector->days[next])))
		{
			DayPage page = heads[next];

			page.active = page.dashboards = page.heartbeats = user_set_create();
			collect_page(collector, &page, next);
			insert(metrics, &page, arg);
			MemoryContextReset(day_context);
			collector_release(collector, next);
			wanted[next] = false;
			count++;
			next = next_new_day(collector, heads, wanted, next + 1);
			continue;
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, 0, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}

	for (int i = 0; i < collector->npage_workers; i++)
	{
		Task task = {NO_MORE_DAYS};
		Parcel parcel = {0};

		parcel_add(&parcel, &task, sizeof(task));
		task_send(collector, &collector->page_workers[i], &parcel);
	}
	for (int i = 0; i < collector->npage_workers; i++)
		take_candidates(collector, &collector->page_workers[i]);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(day_context);
	pfree(deleted);
	return count;
}
