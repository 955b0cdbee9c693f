/*
 * collect_parallel.c
 *		The reading of a large table, or of many of its blocks, by parallel workers.
 *
 * The blocks of the table are shared out by PostgreSQL's parallel scan, those of
 * a part of it by turns (common/blocks.c); the leader reads its share too, once it
 * knows the users.  A worker runs as the same user, with the same
 * snapshot and settings, and checks the table again before it reads.  It knows
 * nothing of users: it calls each by the order in which it met them, and sends
 * to the leader, through a queue each,
 *		the ids of users and dashboards when it first meets them,
 *		a row for each session, which names them by that order.
 * So the leader alone gives numbers and holds rows, within its limit of memory,
 * and a worker holds what the table has of different ids.  Workers that have
 * read their share stay, where they are of use, for the days' pages
 * (collect_tasks.c).
 *
 * An error in a worker is raised in the leader; an abort of the leader's
 * transaction or subtransaction ends the workers and frees what was shared.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "optimizer/paths.h"
#include "storage/bufmgr.h"
#include "storage/shm_mq.h"
#include "storage/shm_toc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "common/blocks.h"
#include "common/compat.h"
#include "common/huge_pages.h"
#include "common/relation.h"
#include "metrics/collect.h"
#include "metrics/numbers.h"

#define KEY_SHARED 1
#define KEY_STARTS 2
#define KEY_SCAN 3
#define KEY_QUEUES 4
#define KEY_TASK_QUEUES 5

/*
 * Of all queues together, with up to 32 workers.  With two each has room for a day of
 * some tens of thousands of sessions, or for what is read while the users are looked
 * at: who must wait for room is woken for each part of a message.  Where shared memory is limited to 64 MB, as in a container,
 * others have room too.
 */
#define QUEUES_BYTES (16 * 1024 * 1024)
#define MIN_QUEUE_BYTES (256 * 1024)
#define ITEMS_PER_MESSAGE 512
#define DRAIN_EVERY 256 /* rows of its own that the leader reads in between */
#define PREFETCH_AHEAD 16

typedef struct SharedCollect
{
	Oid sessions_rel;
	int ndays;
	int32 expected_users;
	bool by_blocks;	  /* KEY_SCAN is a set of blocks, not a scan of the whole table */
	Size queue_bytes; /* of each worker's queue to the leader */
	Size task_bytes;  /* of the one from it */
} SharedCollect;

typedef enum MessageKind
{
	MESSAGE_USERS,
	MESSAGE_DASHBOARDS,
	MESSAGE_ROWS,
	MESSAGE_END
} MessageKind;

/* Users and dashboards are named by the order in which the worker met them, from 1; 0 is none. */
typedef struct DashboardMet
{
	pg_uuid_t id;
	uint32 user;
} DashboardMet;

typedef struct RowMet
{
	SessionRow row;
	uint32 dashboard;
	int16 first;
	int16 last;
} RowMet;

typedef struct MessageHeader
{
	uint64 kind; /* keeps the items aligned */
	uint64 nitems;
} MessageHeader;

static const Size item_sizes[] = {
	[MESSAGE_USERS] = sizeof(pg_uuid_t),
	[MESSAGE_DASHBOARDS] = sizeof(DashboardMet),
	[MESSAGE_ROWS] = sizeof(RowMet),
	[MESSAGE_END] = 0,
};

/* A message that is being put together. */
typedef struct Outbox
{
	MessageHeader header;
	char items[ITEMS_PER_MESSAGE * sizeof(RowMet)];
} Outbox;

/* A batch of sessions makes known whom it names before the first of its rows is sent. */
StaticAssertDecl((ITEMS_PER_MESSAGE + SESSION_BATCH) * sizeof(pg_uuid_t) <=
					 ITEMS_PER_MESSAGE * sizeof(RowMet),
				 "users of a batch have no room in a message");

/* A user whom a worker met, and the dashboard of theirs that it met last: mostly they have one. */
typedef struct UserMet
{
	pg_uuid_t id;
	pg_uuid_t dashboard_id;
	uint32 dashboard; /* 0: none yet */
} UserMet;

typedef struct Worker
{
	SessionReader reader;
	Stretch stretch;
	shm_mq_handle *queue;
	IdIndex user_index;
	UserMet *users;
	uint32 nusers;
	uint32 users_size;
	DashboardMap dashboards;
	uint32 ndashboards;
	Outbox new_users;
	Outbox new_dashboards;
	Outbox rows;
} Worker;

/*
 * parallel_workers_for says how many workers reading so many blocks is worth:
 * one more each time that they are three times as many.
 */
int
parallel_workers_for(uint64 blocks)
{
	double threshold = Max(min_parallel_table_scan_size, 1);
	int nworkers = 0;

	if (IsInParallelMode() || (blocks < threshold))
		return 0;
	while (blocks >= threshold && nworkers < max_parallel_maintenance_workers)
	{
		nworkers++;
		threshold *= 3;
	}
	return nworkers;
}

static void
send_message(Worker *worker, const MessageHeader *header, bool flush)
{
	Size size = sizeof(MessageHeader) + header->nitems * item_sizes[header->kind];

	if (dashie_mq_send(worker->queue, size, header, flush) != SHM_MQ_SUCCESS)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("lost connection to the leader of a parallel refresh")));
}

static void
send_items(Worker *worker, Outbox *outbox)
{
	if (outbox->header.nitems == 0)
		return;
	send_message(worker, &outbox->header, false);
	outbox->header.nitems = 0;
}

/* Rows name users and dashboards that must have been told of before. */
static void
send_rows(Worker *worker)
{
	send_items(worker, &worker->new_users);
	send_items(worker, &worker->new_dashboards);
	send_items(worker, &worker->rows);
}

static void *
put(Outbox *outbox)
{
	return outbox->items + outbox->header.nitems++ * item_sizes[outbox->header.kind];
}

static void *
room_for(void *array, uint32 n, uint32 *size, Size element)
{
	if (n < *size)
		return array;
	*size = Max(1024, *size * 2);
	return array == NULL ? palloc_extended(*size * element, MCXT_ALLOC_HUGE)
						 : repalloc_huge(array, *size * element);
}

static IdEntries
users_met(const Worker *worker)
{
	IdEntries entries = {worker->users, sizeof(UserMet)};

	return entries;
}

static uint32
meet_user(Worker *worker, const pg_uuid_t *id)
{
	int32 user = id_index_get(&worker->user_index, id, users_met(worker));

	if (user != 0)
		return user;
	user = ++worker->nusers;
	worker->users = room_for(worker->users, user, &worker->users_size, sizeof(UserMet));
	worker->users[user].id = *id;
	worker->users[user].dashboard = 0;
	id_index_put(&worker->user_index, id, users_met(worker), user);
	*(pg_uuid_t *) put(&worker->new_users) = *id;
	return user;
}

/* A dashboard with another user has another number. */
static uint32
meet_dashboard(Worker *worker, const pg_uuid_t *id, uint32 user)
{
	UserMet *met = &worker->users[user];
	DashboardMet *told;

	if (met->dashboard != 0 && memcmp(&met->dashboard_id, id, sizeof(pg_uuid_t)) == 0)
		return met->dashboard;
	met->dashboard_id = *id;
	met->dashboard = dashboard_map_find(&worker->dashboards, id, user);
	if (met->dashboard != 0)
		return met->dashboard;
	met->dashboard = ++worker->ndashboards;
	dashboard_map_add(&worker->dashboards, met->dashboard, id, user);
	told = put(&worker->new_dashboards);
	told->id = *id;
	told->user = user;
	return met->dashboard;
}

static void
send_session(Worker *worker, const Session *session, uint32 user)
{
	RowMet *row = put(&worker->rows);

	row->first = session->first;
	row->last = session->last;
	if (session->first >= 0)
		session_row(session, &worker->stretch, &row->row);
	row->row.user = user;
	row->dashboard =
		user != 0 && session->has_dashboard ? meet_dashboard(worker, &session->dashboard, user) : 0;
	if (worker->rows.header.nitems == ITEMS_PER_MESSAGE)
		send_rows(worker);
}

static void
send_batch(Worker *worker, const Session *batch, int n)
{
	uint32 users[SESSION_BATCH]; /* 0: none */

	for (int i = 0; i < n; i++)
	{
		const pg_uuid_t *met =
			id_index_likely(&worker->user_index, &batch[i].user, users_met(worker));

		__builtin_prefetch(met);
		__builtin_prefetch((const char *) met + sizeof(UserMet) - 1);
	}
	for (int i = 0; i < n; i++)
		users[i] = batch[i].has_user ? meet_user(worker, &batch[i].user) : 0;
	for (int i = 0; i < n; i++)
		send_session(worker, &batch[i], users[i]);
}

/* A process' share of the table or of the blocks; the active snapshot is that of all. */
static DashieScan *
begin_share(Relation rel, const SharedCollect *shared, void *shared_scan)
{
	if (shared->by_blocks)
		return dashie_scan_begin_blocks(
			dashie_blocks_attach(rel, GetActiveSnapshot(), shared_scan));
	return dashie_scan_begin_parallel(rel, shared_scan);
}

PGDLLEXPORT void dashie_collect_worker(dsm_segment *segment, shm_toc *toc);

/*
 * dashie_collect_worker is the main function of a parallel worker.
 */
void
dashie_collect_worker(dsm_segment *segment, shm_toc *toc)
{
	SharedCollect *shared = shm_toc_lookup(toc, KEY_SHARED, false);
	char *queues = shm_toc_lookup(toc, KEY_QUEUES, false);
	char *task_queues = shm_toc_lookup(toc, KEY_TASK_QUEUES, false);
	MessageHeader end = {MESSAGE_END};
	MemoryContext old;
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "dashie reader", ALLOCSET_DEFAULT_SIZES);
	Worker *worker = palloc0(sizeof(Worker));
	Session *batch = palloc0(SESSION_BATCH * sizeof(Session));
	int n = 0;
	shm_mq *queue = (shm_mq *) (queues + ParallelWorkerNumber * shared->queue_bytes);
	shm_mq *task_queue = (shm_mq *) (task_queues + ParallelWorkerNumber * shared->task_bytes);
	shm_mq_handle *tasks;
	DashieScan *scan;

	shm_mq_set_sender(queue, MyProc);
	worker->queue = shm_mq_attach(queue, segment, NULL);
	shm_mq_set_receiver(task_queue, MyProc);
	tasks = shm_mq_attach(task_queue, segment, NULL);
	old = MemoryContextSwitchTo(context);
	worker->stretch.ndays = shared->ndays;
	worker->stretch.starts = shm_toc_lookup(toc, KEY_STARTS, false);
	worker->users_size = shared->expected_users + 1;
	worker->users = palloc_extended(worker->users_size * sizeof(UserMet), MCXT_ALLOC_HUGE);
	dashie_huge_pages(worker->users, worker->users_size * sizeof(UserMet));
	id_index_init(&worker->user_index, CurrentMemoryContext, shared->expected_users);
	dashboard_map_init(&worker->dashboards, CurrentMemoryContext, shared->expected_users,
					   shared->expected_users);
	worker->new_users.header.kind = MESSAGE_USERS;
	worker->new_dashboards.header.kind = MESSAGE_DASHBOARDS;
	worker->rows.header.kind = MESSAGE_ROWS;
	session_reader_open(&worker->reader, shared->sessions_rel);
	session_reader_whole(&worker->reader);

	scan = begin_share(worker->reader.rel, shared, shm_toc_lookup(toc, KEY_SCAN, false));
	while (dashie_scan_next(scan))
	{
		Session *session = &batch[n];

		if (!session_read(&worker->reader, &worker->stretch, scan, session))
			continue;
		id_index_prefetch(&worker->user_index, &session->user);
		if (++n == SESSION_BATCH)
		{
			send_batch(worker, batch, n);
			n = 0;
		}
	}
	send_batch(worker, batch, n);
	send_rows(worker);
	dashie_scan_end(scan);
	send_message(worker, &end, true);

	/* whom it has met is of no more use */
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	page_worker_serve(&worker->reader, worker->stretch.starts, tasks, worker->queue);
	table_close(worker->reader.rel, AccessShareLock);
	shm_mq_detach(tasks);
	shm_mq_detach(worker->queue);
}

/* What the leader knows of a worker: the numbers of whom the worker met. */
struct Inbox
{
	shm_mq_handle *queue;
	bool done;
	bool complete; /* done, and all has come */
	uint32 *users; /* 0: nobody we know */
	uint32 nusers;
	uint32 users_size;
	uint32 *dashboards;
	uint32 ndashboards;
	uint32 dashboards_size;
};

static void
take_users(Collector *collector, Inbox *inbox, const pg_uuid_t *ids, int n)
{
	Metrics *metrics = collector->metrics;

	for (int from = 0; from < n; from += SESSION_BATCH)
	{
		int upto = Min(from + SESSION_BATCH, n);

		for (int i = from; i < upto; i++)
			id_index_prefetch(&metrics->users, &ids[i]);
		for (int i = from; i < upto; i++)
			id_index_prefetch_entry(&metrics->users, &ids[i], numbers_users(metrics));
		for (int i = from; i < upto; i++)
		{
			UserEntry *user = numbers_user(metrics, &ids[i]);

			inbox->users =
				room_for(inbox->users, ++inbox->nusers, &inbox->users_size, sizeof(uint32));
			inbox->users[inbox->nusers] = user != NULL ? user->number : 0;
		}
	}
}

static uint32
user_met(const Inbox *inbox, uint32 user)
{
	return user != 0 ? inbox->users[user] : 0;
}

static void
take_dashboards(Collector *collector, Inbox *inbox, const DashboardMet *dashboards, int n)
{
	const DashboardMap *map = &collector->metrics->dashboards;

	for (int from = 0; from < n; from += SESSION_BATCH)
	{
		int upto = Min(from + SESSION_BATCH, n);

		for (int i = from; i < upto; i++)
			dashboard_map_prefetch(map, user_met(inbox, dashboards[i].user));
		for (int i = from; i < upto; i++)
			dashboard_map_prefetch_entry(map, user_met(inbox, dashboards[i].user));
		for (int i = from; i < upto; i++)
		{
			uint32 user = user_met(inbox, dashboards[i].user);

			inbox->dashboards = room_for(inbox->dashboards, ++inbox->ndashboards,
										 &inbox->dashboards_size, sizeof(uint32));
			inbox->dashboards[inbox->ndashboards] =
				user != 0 ? numbers_dashboard(collector->metrics, &dashboards[i].id, user) : 0;
		}
	}
}

static void
take_rows(Collector *collector, const Inbox *inbox, const RowMet *rows, int n)
{
	for (int i = 0; i < n; i++)
	{
		SessionRow row = rows[i].row;

		if (i + PREFETCH_AHEAD < n)
		{
			__builtin_prefetch(&inbox->users[rows[i + PREFETCH_AHEAD].row.user]);
			__builtin_prefetch(&inbox->dashboards[rows[i + PREFETCH_AHEAD].dashboard]);
		}
		row.user = user_met(inbox, row.user);
		collector_add(collector, rows[i].first, rows[i].last, &row,
					  rows[i].dashboard != 0 ? inbox->dashboards[rows[i].dashboard] : 0);
	}
}

/* Takes what has arrived; with "wait" until the worker has sent all. */
static void
drain(Collector *collector, Inbox *inbox, bool wait)
{
	while (!inbox->done)
	{
		Size size;
		void *data;
		MessageHeader *header;
		void *items;
		shm_mq_result result = shm_mq_receive(inbox->queue, &size, &data, !wait);

		if (result == SHM_MQ_WOULD_BLOCK)
			return;
		if (result != SHM_MQ_SUCCESS)
		{
			inbox->done = true;
			return;
		}
		header = data;
		items = header + 1;
		Assert(size == sizeof(MessageHeader) + header->nitems * item_sizes[header->kind]);
		switch (header->kind)
		{
			case MESSAGE_USERS:
				take_users(collector, inbox, items, header->nitems);
				break;
			case MESSAGE_DASHBOARDS:
				take_dashboards(collector, inbox, items, header->nitems);
				break;
			case MESSAGE_ROWS:
				take_rows(collector, inbox, items, header->nitems);
				break;
			case MESSAGE_END:
				inbox->done = inbox->complete = true;
				break;
		}
	}
}

/* The leader's own share. */
static void
read_share(Collector *collector)
{
	DashieScan *scan = begin_share(collector->reader.rel,
								   shm_toc_lookup(collector->parallel->toc, KEY_SHARED, false),
								   shm_toc_lookup(collector->parallel->toc, KEY_SCAN, false));
	int since = 0;

	while (dashie_scan_next(scan))
	{
		collector_add_current(collector, scan);
		if (++since < DRAIN_EVERY)
			continue;
		since = 0;
		for (int i = 0; i < collector->ninboxes; i++)
			drain(collector, &collector->inboxes[i], false);
	}
	collector_flush(collector);
	dashie_scan_end(scan);
}

/* About how many users a worker will meet: in the whole table nearly all. */
static int32
expected_users(Collector *collector, const DashieBlocks *blocks)
{
	Relation rel = collector->reader.rel;
	double rows = Max(rel->rd_rel->reltuples, 0);

	if (blocks != NULL)
		rows *= (double) dashie_blocks_count(blocks) / Max(blocks->size, 1);
	return (int32) Min(rows, numbers_expected(collector->metrics));
}

/*
 * collect_parallel_begin lets up to nworkers workers begin to read the table,
 * or the given blocks of it, for which no pages will be asked of them; it is right
 * also when none of them can be had.
 * The parallel part lasts until collect_parallel_end(): up to there nothing may
 * be written but what collect_tasks.c says.
 */
void
collect_parallel_begin(Collector *collector, int nworkers, const DashieBlocks *blocks)
{
	Relation rel = collector->reader.rel;
	Snapshot snapshot = collector->metrics->snapshot;
	Size starts_size = (collector->stretch.ndays + 1) * sizeof(TimestampTz);
	Size scan_size = blocks != NULL ? dashie_blocks_shared_bytes(blocks)
									: table_parallelscan_estimate(rel, snapshot);
	Size queue_bytes = BUFFERALIGN(Max(QUEUES_BYTES / (2 * nworkers), MIN_QUEUE_BYTES));
	Size task_bytes = blocks != NULL ? BUFFERALIGN(MIN_QUEUE_BYTES) : queue_bytes;
	Size queues_size = mul_size(nworkers, queue_bytes);
	Size task_queues_size = mul_size(nworkers, task_bytes);
	ParallelContext *context;
	SharedCollect *shared;
	TimestampTz *starts;
	void *shared_scan;
	char *queues;
	char *task_queues;

	PushActiveSnapshot(snapshot);
	EnterParallelMode();
	context = CreateParallelContext("$libdir/dashie", "dashie_collect_worker", nworkers);
	collector->parallel = context;
	shm_toc_estimate_chunk(&context->estimator, sizeof(SharedCollect));
	shm_toc_estimate_chunk(&context->estimator, starts_size);
	shm_toc_estimate_chunk(&context->estimator, scan_size);
	shm_toc_estimate_chunk(&context->estimator, queues_size);
	shm_toc_estimate_chunk(&context->estimator, task_queues_size);
	shm_toc_estimate_keys(&context->estimator, 5);
	InitializeParallelDSM(context);

	shared = shm_toc_allocate(context->toc, sizeof(SharedCollect));
	shared->sessions_rel = RelationGetRelid(rel);
	shared->ndays = collector->stretch.ndays;
	shared->expected_users = expected_users(collector, blocks);
	shared->by_blocks = blocks != NULL;
	shared->queue_bytes = queue_bytes;
	shared->task_bytes = task_bytes;
	shm_toc_insert(context->toc, KEY_SHARED, shared);
	starts = shm_toc_allocate(context->toc, starts_size);
	memcpy(starts, collector->stretch.starts, starts_size);
	shm_toc_insert(context->toc, KEY_STARTS, starts);
	shared_scan = shm_toc_allocate(context->toc, scan_size);
	if (blocks != NULL)
		dashie_blocks_share(blocks, shared_scan);
	else
		table_parallelscan_initialize(rel, shared_scan, snapshot);
	shm_toc_insert(context->toc, KEY_SCAN, shared_scan);
	queues = shm_toc_allocate(context->toc, queues_size);
	shm_toc_insert(context->toc, KEY_QUEUES, queues);
	task_queues = shm_toc_allocate(context->toc, task_queues_size);
	shm_toc_insert(context->toc, KEY_TASK_QUEUES, task_queues);

	/* without a segment of shared memory there are no workers to use it */
	nworkers = context->seg != NULL ? context->nworkers : 0;
	collector->inboxes = palloc0(Max(nworkers, 1) * sizeof(Inbox));
	collector->ninboxes = nworkers;
	collector->page_workers = palloc0(Max(nworkers, 1) * sizeof(PageWorker));
	for (int i = 0; i < nworkers; i++)
	{
		Inbox *inbox = &collector->inboxes[i];
		shm_mq *queue = shm_mq_create(queues + i * queue_bytes, queue_bytes);
		shm_mq *task_queue = shm_mq_create(task_queues + i * task_bytes, task_bytes);

		shm_mq_set_receiver(queue, MyProc);
		inbox->queue = shm_mq_attach(queue, context->seg, NULL);
		shm_mq_set_sender(task_queue, MyProc);
		collector->page_workers[i].tasks = shm_mq_attach(task_queue, context->seg, NULL);
		collector->page_workers[i].results = inbox->queue;
		collector->page_workers[i].day = -1;
	}
	LaunchParallelWorkers(context);
	collector->npage_workers = context->nworkers_launched;
	for (int i = 0; i < nworkers; i++)
	{
		Inbox *inbox = &collector->inboxes[i];

		if (i < context->nworkers_launched)
		{
			shm_mq_set_handle(inbox->queue, context->worker[i].bgwhandle);
			shm_mq_set_handle(collector->page_workers[i].tasks, context->worker[i].bgwhandle);
		}
		else
			inbox->done = inbox->complete = true;
	}
}

/*
 * collect_parallel_read reads the leader's share and takes what the workers
 * have read; false if that is not all, or if no worker is there for the pages:
 * the end of the parallel part then raises the error of the one that failed.
 */
bool
collect_parallel_read(Collector *collector)
{
	bool complete = true;

	read_share(collector);
	for (int i = 0; i < collector->ninboxes; i++)
	{
		Inbox *inbox = &collector->inboxes[i];

		drain(collector, inbox, true);
		complete &= inbox->complete;
		if (inbox->users != NULL)
			pfree(inbox->users);
		if (inbox->dashboards != NULL)
			pfree(inbox->dashboards);
	}
	pfree(collector->inboxes);
	collector->inboxes = NULL;
	return complete && collector->npage_workers > 0;
}

/*
 * collect_parallel_end ends the parallel part, if it lasts: workers that wait
 * end, and the error of one that has failed is raised.
 */
void
collect_parallel_end(Collector *collector)
{
	if (collector->parallel == NULL)
		return;
	for (int i = 0; i < collector->npage_workers; i++)
		shm_mq_detach(collector->page_workers[i].tasks);
	WaitForParallelWorkersToFinish(collector->parallel);
	DestroyParallelContext(collector->parallel);
	collector->parallel = NULL;
	ExitParallelMode();
	PopActiveSnapshot();
}
