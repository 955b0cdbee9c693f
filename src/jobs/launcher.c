/*
 * launcher.c
 *		The process that looks for databases with due jobs, and its start.
 *
 * There are two kinds, of one code.  The static one comes with
 * shared_preload_libraries and serves every database; the dynamic one is
 * started by dashie.start_worker() and serves one.  Neither connects to a
 * database: each nap time it reads pg_database and starts one-shot workers
 * (worker.c), at most dashie.max_workers at once, the database that waited
 * longest first.  So it is never in the way of DROP DATABASE.
 *
 * A worker reports through a dynamic shared memory segment of the launcher:
 * one PassResult a slot, written by the worker before it leaves and read by the
 * launcher after it left.  No lock guards it.
 *
 * One launcher a scope: it holds a session lock on its database's number (0
 * for all), with a tag that no SQL can take, and leaves if another has it.
 *
 * SIGTERM ends it.  The static one exits with 1, so that the postmaster
 * restarts it; the dynamic one with 0, for good.  After a crash or kill -9
 * both are restarted.
 */
#include "postgres.h"

#include <signal.h>

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "fmgr.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "common/compat.h"
#include "common/owner.h"
#include "dashie.h"
#include "jobs/jobs.h"

PG_FUNCTION_INFO_V1(dashie_start_worker);
PG_FUNCTION_INFO_V1(dashie_stop_worker);

extern PGDLLEXPORT void dashie_launcher_main(Datum main_arg);

#define RESTART_SECONDS 5
#define LAUNCHER_TYPE "dashie launcher"

/* Databases without the extension, and those that fail, are looked at less often. */
#define ABSENT_NAPS 6
#define MAX_FAILED_NAPS 32

/* SQL takes advisory locks with 1 and 2 here. */
#define LAUNCHER_LOCK_CLASS 3
#define LAUNCHER_LOCK_KEY 0xDA5

/* What the launcher knows of a database. */
typedef struct Target
{
	Oid database;
	TimestampTz next;				/* not before */
	int failures;					/* passes in a row that said nothing */
	BackgroundWorkerHandle *worker; /* NULL: none now */
	int slot;
	bool seen;
} Target;

static List *targets = NIL;		   /* in TopMemoryContext */
static MemoryContext look_context; /* one look at pg_database */
static volatile uint32 *results;   /* in the segment, by slot */
static bool slot_used[DASHIE_WORKER_SLOTS];
static uint32 segment_handle;
static bool wait_for_slots = false; /* the server had none; said so once */

static void
on_sigterm(SIGNAL_ARGS)
{
	ShutdownRequestPending = true;
	/* also out of a wait for a lock */
	die(postgres_signal_arg);
}

/* The launcher's type in pg_stat_activity tells which database it serves. */
static void
launcher_type(char *type, Oid database)
{
	if (OidIsValid(database))
		snprintf(type, BGW_MAXLEN, LAUNCHER_TYPE " for %u", database);
	else
		strlcpy(type, LAUNCHER_TYPE, BGW_MAXLEN);
}

static void
describe_launcher(BackgroundWorker *worker, Oid database)
{
	memset(worker, 0, sizeof(*worker));
	launcher_type(worker->bgw_type, database);
	strlcpy(worker->bgw_name, worker->bgw_type, BGW_MAXLEN);
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = RESTART_SECONDS;
	strlcpy(worker->bgw_library_name, "dashie", sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, "dashie_launcher_main", sizeof(worker->bgw_function_name));
	worker->bgw_main_arg = ObjectIdGetDatum(database);
}

/* dashie_register_launcher is for _PG_init() in the postmaster. */
void
dashie_register_launcher(void)
{
	BackgroundWorker worker;

	describe_launcher(&worker, InvalidOid);
	RegisterBackgroundWorker(&worker);
}

/* The process of the launcher for a database (InvalidOid: for all); 0 if none runs. */
static int
find_launcher(Oid database)
{
	char type[BGW_MAXLEN];
	int count = pgstat_fetch_stat_numbackends();

	launcher_type(type, database);
	for (int i = 1; i <= count; i++)
	{
		PgBackendStatus *entry = &dashie_local_beentry(i)->backendStatus;
		const char *its;

		if (entry->st_backendType != B_BG_WORKER || entry->st_procpid == 0)
			continue;
		its = GetBackgroundWorkerTypeByPid(entry->st_procpid);
		if (its != NULL && strcmp(its, type) == 0)
			return entry->st_procpid;
	}
	return 0;
}

Datum
dashie_start_worker(PG_FUNCTION_ARGS)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	pid_t pid = 0;

	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
						errmsg("jobs do not run on a standby")));

	pid = find_launcher(InvalidOid);
	if (pid != 0)
	{
		ereport(NOTICE, (errmsg("the launcher of shared_preload_libraries runs already")));
		PG_RETURN_INT32(pid);
	}
	pid = find_launcher(MyDatabaseId);
	if (pid != 0)
		PG_RETURN_INT32(pid);

	describe_launcher(&worker, MyDatabaseId);
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						errmsg("the server has no free slot for a background worker"),
						errhint("Raise max_worker_processes.")));
	switch (WaitForBackgroundWorkerStartup(handle, &pid))
	{
		case BGWH_STARTED:
			PG_RETURN_INT32(pid);
		case BGWH_STOPPED:
			/* another session was faster, and its launcher holds the lock */
			pgstat_clear_snapshot();
			pid = find_launcher(MyDatabaseId);
			if (pid != 0)
				PG_RETURN_INT32(pid);
			/* FALLTHROUGH */
		default:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the worker did not start"), errhint("The server's log may say why.")));
	}
	pg_unreachable();
}

Datum
dashie_stop_worker(PG_FUNCTION_ARGS)
{
	int pid;

	pgstat_clear_snapshot();
	pid = find_launcher(MyDatabaseId);
	if (pid == 0)
		PG_RETURN_BOOL(false);
	if (kill(pid, SIGTERM) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not signal process %d: %m", pid)));
	PG_RETURN_BOOL(true);
}

/* False if another launcher serves the same scope. */
static bool
claim_scope(Oid database)
{
	LOCKTAG tag;
	bool claimed;

	SET_LOCKTAG_ADVISORY(tag, database, 0, LAUNCHER_LOCK_KEY, LAUNCHER_LOCK_CLASS);
	StartTransactionCommand();
	claimed = LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
	CommitTransactionCommand();
	return claimed;
}

static Target *
find_target(Oid database)
{
	ListCell *cell;
	Target *target;
	MemoryContext old;

	foreach (cell, targets)
	{
		target = lfirst(cell);
		if (target->database == database)
			return target;
	}
	old = MemoryContextSwitchTo(TopMemoryContext);
	target = palloc0(sizeof(Target));
	target->database = database;
	targets = lappend(targets, target);
	MemoryContextSwitchTo(old);
	return target;
}

/* Brings the list of targets up to date with pg_database. */
static void
look_for_databases(Oid only)
{
	Relation catalog;
	TableScanDesc scan;
	HeapTuple tuple;
	ListCell *cell;

	foreach (cell, targets)
		((Target *) lfirst(cell))->seen = false;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	catalog = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(catalog, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (!database->datallowconn || database->datistemplate || database->datconnlimit == -2)
			continue;
		if (!OidIsValid(only) || database->oid == only)
			find_target(database->oid)->seen = true;
	}
	table_endscan(scan);
	table_close(catalog, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(look_context);

	foreach (cell, targets)
	{
		Target *target = lfirst(cell);

		if (target->seen || target->worker != NULL)
			continue;
		targets = foreach_delete_current(targets, cell);
		pfree(target);
	}
}

/* Takes note of workers that left.  False when nobody is left to serve. */
static bool
collect_workers(Oid only)
{
	TimestampTz now = GetCurrentTimestamp();
	int64 nap = dashie_naptime * USECS_PER_SEC;
	ListCell *cell;

	foreach (cell, targets)
	{
		Target *target = lfirst(cell);
		PassResult result;
		pid_t pid;

		if (target->worker == NULL || GetBackgroundWorkerPid(target->worker, &pid) != BGWH_STOPPED)
			continue;

		result = (PassResult) results[target->slot];
		slot_used[target->slot] = false;
		pfree(target->worker);
		target->worker = NULL;

		switch (result)
		{
			case PASS_NOTHING:
				target->failures = Min(target->failures + 1, 30);
				target->next = now + nap * Min(1 << Min(target->failures - 1, 5), MAX_FAILED_NAPS);
				break;
			case PASS_NO_EXTENSION:
				if (OidIsValid(only))
					return false;
				target->failures = 0;
				target->next = now + nap * ABSENT_NAPS;
				break;
			case PASS_DONE:
				target->failures = 0;
				target->next = now + nap;
				break;
			case PASS_MORE:
				target->failures = 0;
				target->next = now;
				break;
		}
	}
	return true;
}

static bool
start_one(Target *target)
{
	BackgroundWorker worker;
	WorkerOrder order = {.segment = segment_handle};
	MemoryContext old;
	bool started;

	while (order.slot < DASHIE_WORKER_SLOTS && slot_used[order.slot])
		order.slot++;
	if (order.slot == DASHIE_WORKER_SLOTS)
		return false;

	memset(&worker, 0, sizeof(worker));
	strlcpy(worker.bgw_name, "dashie worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "dashie worker", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "dashie", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "dashie_worker_main", sizeof(worker.bgw_function_name));
	worker.bgw_main_arg = ObjectIdGetDatum(target->database);
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, &order, sizeof(order));

	results[order.slot] = PASS_NOTHING;
	old = MemoryContextSwitchTo(TopMemoryContext);
	started = RegisterDynamicBackgroundWorker(&worker, &target->worker);
	MemoryContextSwitchTo(old);
	if (!started)
	{
		target->worker = NULL;
		if (!wait_for_slots)
			ereport(LOG, (errmsg("dashie waits for a free background worker"),
						  errhint("Raise max_worker_processes.")));
		wait_for_slots = true;
		return false;
	}
	wait_for_slots = false;
	slot_used[order.slot] = true;
	target->slot = order.slot;
	return true;
}

/* Starts workers, the database that waited longest first, as many as may run. */
static void
start_workers(void)
{
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		Target *first = NULL;
		int running = 0;
		ListCell *cell;

		foreach (cell, targets)
		{
			Target *target = lfirst(cell);

			if (target->worker != NULL)
				running++;
			else if (target->seen && target->next <= now &&
					 (first == NULL || target->next < first->next))
				first = target;
		}
		if (first == NULL || running >= dashie_max_workers || !start_one(first))
			return;
	}
}

/* Until the first database is due, but no longer than a nap, milliseconds. */
static long
time_to_nap(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int64 nap = dashie_naptime * USECS_PER_SEC;
	ListCell *cell;

	foreach (cell, targets)
	{
		Target *target = lfirst(cell);

		if (target->worker == NULL)
			nap = Min(nap, target->next - now);
	}
	/* what is due and did not start waits for a worker to leave, which wakes us */
	return Max((long) (nap / 1000), 100L);
}

void
dashie_launcher_main(Datum main_arg)
{
	Oid only = DatumGetObjectId(main_arg);
	int stop_code = OidIsValid(only) ? 0 : 1;
	dsm_segment *segment;

	pqsignal(SIGTERM, on_sigterm);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	if (!claim_scope(only))
		proc_exit(0);

	segment = dsm_create(sizeof(uint32) * DASHIE_WORKER_SLOTS, 0);
	dsm_pin_mapping(segment);
	results = dsm_segment_address(segment);
	segment_handle = dsm_segment_handle(segment);
	look_context =
		AllocSetContextCreate(TopMemoryContext, "dashie launcher", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(look_context);

	for (;;)
	{
		if (ShutdownRequestPending)
			proc_exit(stop_code);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}

		/* the heartbeat: state_change in pg_stat_activity */
		pgstat_report_activity(STATE_RUNNING, "looking for databases with due jobs");
		if (!collect_workers(only))
			proc_exit(0);
		look_for_databases(only);
		if (OidIsValid(only) && targets == NIL)
			proc_exit(0);
		start_workers();
		MemoryContextReset(look_context);
		pgstat_report_activity(STATE_IDLE, NULL);

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, time_to_nap(),
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}
