/*
 * worker.c
 *		A one-shot process that runs the due jobs of one database.
 *
 * Started by the launcher.  It connects as the bootstrap superuser, since the
 * extension's owner may be NOLOGIN, and touches nothing but catalogs as such:
 * all SQL happens in run.c after dashie_enter(), as the extension's owner.
 *
 * It is never in the way.  In each transaction that works it holds a lock on
 * the database that DROP DATABASE, RENAME and CREATE DATABASE ... TEMPLATE
 * conflict with, and one on the extension that DROP EXTENSION conflicts with,
 * and takes neither if that means waiting.  So such a command waits for one
 * step, the next step finds the lock taken, and the worker leaves: long before
 * the five seconds after which DROP DATABASE gives up.
 *
 * SIGTERM ends it at the next interruptible point, as it does a session.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/owner.h"
#include "jobs/jobs.h"

extern PGDLLEXPORT void dashie_worker_main(Datum main_arg);

static Oid extension; /* as this worker found it */

static bool
lock_without_waiting(Oid database, Oid classid, Oid objid, LOCKMODE mode)
{
	LOCKTAG tag;

	SET_LOCKTAG_OBJECT(tag, database, classid, objid, 0);
	if (LockAcquire(&tag, mode, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	AcceptInvalidationMessages();
	return true;
}

/*
 * Asked by the runner in each transaction: locks what others may want to
 * drop, until the transaction ends.
 */
static bool
may_go_on(void)
{
	return lock_without_waiting(InvalidOid, DatabaseRelationId, MyDatabaseId, RowExclusiveLock) &&
		   lock_without_waiting(MyDatabaseId, ExtensionRelationId, extension, AccessShareLock) &&
		   dashie_extension_oid() == extension;
}

void
dashie_worker_main(Datum main_arg)
{
	WorkerOrder order;
	dsm_segment *segment;
	volatile uint32 *results;
	PassResult result;

	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(order));
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	segment = dsm_attach(order.segment);
	if (segment == NULL)
		proc_exit(0); /* the launcher is gone */
	dsm_pin_mapping(segment);
	results = dsm_segment_address(segment);

	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(main_arg), InvalidOid, 0);

	/* whatever ALTER DATABASE or ALTER ROLE set for everybody */
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("lock_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("statement_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);

	/* SPI keeps in it what a procedure needs beyond its transactions */
	PortalContext =
		AllocSetContextCreate(TopMemoryContext, "dashie worker", ALLOCSET_DEFAULT_SIZES);

	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, "CALL dashie.run_due_jobs()");
	StartTransactionCommand();
	MemoryContextSwitchTo(PortalContext);
	extension = dashie_extension_oid();
	result = OidIsValid(extension) ? dashie_run_pass("worker", may_go_on) : PASS_NO_EXTENSION;
	CommitTransactionCommand();

	results[order.slot] = result;
	proc_exit(0);
}
