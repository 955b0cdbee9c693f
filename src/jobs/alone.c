/*
 * alone.c
 *		What a job does with nothing around it: see JobStep.alone.
 *
 * Some commands end transactions by themselves, as DETACH CONCURRENTLY.  They
 * run only where no subtransaction, no SPI and no security context is: between
 * two transactions of a worker's run, which gives up its connection to SPI
 * for them and takes a new one afterwards.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"

#include "jobs/jobs.h"

/*
 * dashie_connect_spi connects to SPI, so that transactions may be ended or not.
 */
void
dashie_connect_spi(bool commits)
{
	int rc = SPI_connect_ext(commits ? SPI_OPT_NONATOMIC : 0);

	if (rc != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect_ext: %s", SPI_result_code_string(rc));
}

/*
 * dashie_run_alone does a piece of work in a transaction that it may end, and
 * begins another one.  A lock that was not to be had was worth a try, any other
 * error is logged; a cancellation is returned, palloc'd in "context".
 */
ErrorData *
dashie_run_alone(void (*work)(Oid), Oid argument, const char *name, MemoryContext context)
{
	ErrorData *volatile cancelled = NULL;
	Oid user;
	int security_context;

	GetUserIdAndSecContext(&user, &security_context);
	SPI_finish();
	MemoryContextSwitchTo(PortalContext);
	PG_TRY();
	{
		work(argument);
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		if (error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
			ReThrowError(error);
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			cancelled = error;
		else if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			ereport(LOG,
					(errcode(error->sqlerrcode), errmsg("job \"%s\": %s", name, error->message)));
	}
	PG_END_TRY();

	/* the work may have been interrupted with any of these changed */
	SetUserIdAndSecContext(user, security_context);
	SetConfigOption("lock_timeout", "0", PGC_USERSET, PGC_S_OVERRIDE);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	MemoryContextSwitchTo(PortalContext);
	dashie_connect_spi(true);
	return cancelled;
}
