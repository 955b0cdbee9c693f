/*
 * run.c
 *		Runs jobs: CALL dashie.run_job(), CALL dashie.run_due_jobs(), and the
 *		pass of a worker, all through the same code; and tasks, as
 *		CALL dashie.backfill_metrics().
 *
 * A run is: take the lease and commit; step and commit, until nothing is left
 * or the time budget is used up; give the lease back and commit.  Each of
 * these pieces is a subtransaction inside dashie_enter(), so that its error is
 * recorded and neither ends the run's bookkeeping nor the other jobs.  Between
 * two transactions the user and the settings are the caller's.
 *
 * A step that is blocked is tried again after a random pause.  When a run would
 * give up, a worker may have something that only it can do (JobStep.alone).
 *
 * Inside a transaction block or a function it is the same without commits: the
 * lease is then the row lock.
 *
 * A task is a run without a lease: its row in dashie.progress is what is
 * committed first, and it works until nothing is left.
 *
 * Every interruption falls into one of the pieces, or into a commit: nothing
 * else here checks for interrupts.  A cancelled run is recorded like a failed
 * one; then the cancellation goes on its way.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "common/compat.h"
#include "common/day.h"
#include "common/query.h"
#include "common/setting.h"
#include "jobs/jobs.h"

PG_FUNCTION_INFO_V1(dashie_run_job);
PG_FUNCTION_INFO_V1(dashie_run_due_jobs);

/* Sleep of a step that found a lock taken, milliseconds. */
#define MIN_PAUSE 50
#define MAX_PAUSE 250

bool dashie_running = false;

/* What one call of a procedure, or one pass of a worker, has to know. */
typedef struct Runner
{
	const char *driver;
	bool commits;			 /* may end transactions */
	bool worker;			 /* nothing else runs in this session */
	bool (*may_go_on)(void); /* asked in each transaction; NULL: always */
	bool stopped;			 /* may_go_on said no */
	MemoryContext context;	 /* one run; survives transactions */
	MemoryContext step_context;
	int64 budget; /* settings, read with the lease */
	int64 lock_retries;

	JobRun *run;
	bool only_if_due;
	bool more;	   /* out, of the step */
	char *blocker; /* out, of the step; NULL: not blocked */
	TimestampTz stall_since;
	void (*alone)(Oid argument);
	Oid alone_argument;
} Runner;

typedef void (*Piece)(Runner *runner, DashieGuard *guard);

/*
 * in_subtransaction does a piece of work between dashie_enter() and
 * dashie_leave(); NULL, or the error that undid it, in runner->context.
 */
static ErrorData *
in_subtransaction(Runner *runner, Piece piece)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner resources = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(runner->step_context);
	PG_TRY();
	{
		DashieGuard guard;

		CHECK_FOR_INTERRUPTS();
		PushActiveSnapshot(GetTransactionSnapshot());
		dashie_enter(&guard);
		piece(runner, &guard);
		dashie_leave(&guard);
		PopActiveSnapshot();
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(runner->context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();

	MemoryContextSwitchTo(context);
	CurrentResourceOwner = resources;
	MemoryContextReset(runner->step_context);
	return error;
}

/*
 * commit ends the transaction, where that is allowed, and starts the next;
 * NULL, or the error that made it roll back instead.
 */
static ErrorData *
commit(Runner *runner)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData *volatile error = NULL;

	if (!runner->commits)
	{
		CommandCounterIncrement();
		return NULL;
	}

	/* in a worker no command of a client does it */
	SetCurrentStatementStartTimestamp();
	PG_TRY();
	{
		SPI_commit();
		SPI_start_transaction();
		/* each step must see what others committed, whatever the session's default */
		XactIsoLevel = XACT_READ_COMMITTED;
	}
	PG_CATCH();
	{
		/* SPI_commit() has rolled back and begun anew */
		MemoryContextSwitchTo(runner->context);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return error;
}

static bool
may_go_on(Runner *runner)
{
	if (runner->may_go_on != NULL && !runner->may_go_on())
		runner->stopped = true;
	return !runner->stopped;
}

/*
 * dashie_job_pause waits a moment for others to give up a lock, without checking
 * for interrupts: what comes next does.
 */
void
dashie_job_pause(void)
{
	long pause = MIN_PAUSE + (long) (dashie_random_fraction() * (MAX_PAUSE - MIN_PAUSE));

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, pause,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

static void
take_lease(Runner *runner, DashieGuard *guard)
{
	runner->budget = dashie_setting_int("job_time_budget_s") * USECS_PER_SEC;
	runner->lock_retries = dashie_setting_int("lock_retries");
	if (runner->only_if_due && !dashie_job_applies(runner->run->job))
		return;
	dashie_lease_take(runner->run, runner->only_if_due);
}

/*
 * tell_progress keeps the row of a run that takes more than one step, or goes
 * on with what its last run has left.
 */
static void
tell_progress(Runner *runner, const Progress *progress)
{
	JobRun *run = runner->run;

	if (progress->total == 0)
		return;
	if (run->progress == 0 && run->steps == 1)
		run->progress = dashie_progress_resume(run->job->name);
	if (run->progress == 0 && runner->more)
		run->progress = dashie_progress_open(run->job->name, progress->detail);
	if (run->progress != 0)
		dashie_progress_tell(run->progress, progress);
}

/*
 * since is the start of the run before: what a job does beside its own work
 * counts for the other's next run by the clock.  Who calls a job wants it done.
 */
static TimestampTz
since(const JobRun *run)
{
	if (strcmp(run->driver, "call") == 0)
		return DT_NOEND;
	return run->previous == 0 ? DT_NOBEGIN : run->previous;
}

static void
do_step(Runner *runner, DashieGuard *guard)
{
	JobRun *run = runner->run;
	JobStep step = {.guard = guard,
					.number = run->steps,
					.since = since(run),
					.arg = run->arg,
					.numbers = run->numbers,
					.memory = runner->context,
					.kept = &run->kept};
	TimestampTz began = GetCurrentTimestamp();

	runner->blocker = NULL;
	runner->stall_since = 0;
	runner->more = run->job->step(&step);
	if (step.blocked)
	{
		runner->blocker =
			MemoryContextStrdup(runner->context, step.blocker ? step.blocker : "a lock is taken");
		run->blocked_by = runner->blocker;
	}
	runner->alone = step.alone;
	runner->alone_argument = step.alone_argument;
	runner->stall_since = step.stall_since;
	run->stall = Max(run->stall, step.stall);

	/* the step may have become a table's owner */
	dashie_leave(guard);
	dashie_enter(guard);
	run->steps++;
	run->rows += step.rows;
	step.progress.worked = GetCurrentTimestamp() - began;
	tell_progress(runner, &step.progress);
	if (!run->task)
		dashie_lease_renew(run);
}

static const char *
progress_state(const JobRun *run)
{
	if (run->error != NULL && run->error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		return "cancelled";
	return run->status;
}

static void
close_progress(Runner *runner, DashieGuard *guard)
{
	JobRun *run = runner->run;

	if (run->progress != 0)
		dashie_progress_close(run->progress, progress_state(run),
							  run->error != NULL ? run->error->message : run->blocker);
}

static void
begin_task(Runner *runner, DashieGuard *guard)
{
	JobRun *run = runner->run;

	runner->budget = PG_INT64_MAX;
	runner->lock_retries = dashie_setting_int("lock_retries");
	run->id = run->progress = dashie_progress_open(run->job->name, run->detail);
	run->started = GetCurrentTimestamp();
}

static void
release_lease(Runner *runner, DashieGuard *guard)
{
	close_progress(runner, guard);
	dashie_lease_release(runner->run);
}

static void
trim_cron_history(Runner *runner, DashieGuard *guard)
{
	dashie_trim_cron_history();
}

/*
 * work does step after step, and sets the run's status.
 */
static void
work(Runner *runner)
{
	JobRun *run = runner->run;
	int retries = 0;
	bool tried_alone = false;

	for (;;)
	{
		if (!may_go_on(runner))
		{
			run->status = "partial";
			run->more = true;
			return;
		}

		run->error = in_subtransaction(runner, do_step);
		if (run->error == NULL)
			run->error = commit(runner);
		if (runner->stall_since != 0)
			run->stall = Max(run->stall, GetCurrentTimestamp() - runner->stall_since);
		if (run->error != NULL)
		{
			run->status = "failed";
			return;
		}

		if (runner->blocker != NULL)
		{
			if (runner->worker && runner->alone != NULL && !tried_alone &&
				retries >= runner->lock_retries && may_go_on(runner))
			{
				tried_alone = true;
				retries = 0;
				run->error = dashie_run_alone(runner->alone, runner->alone_argument, run->job->name,
											  runner->context);
				if (run->error == NULL)
					continue;
				run->status = "failed";
				return;
			}
			/* sleeping inside the caller's transaction would hold its locks */
			if (!runner->commits || retries++ >= runner->lock_retries)
			{
				run->status = "blocked";
				run->blocker = runner->blocker;
				run->more = true;
				return;
			}
			dashie_job_pause();
			continue;
		}
		retries = 0;

		if (!runner->more)
		{
			run->status = "succeeded";
			run->more = false;
			return;
		}
		if (GetCurrentTimestamp() - run->started >= runner->budget)
		{
			run->status = "partial";
			run->more = true;
			return;
		}
	}
}

static JobRun *
new_run(Runner *runner, const Job *job)
{
	JobRun *run;

	MemoryContextReset(runner->context);
	runner->step_context =
		AllocSetContextCreate(runner->context, "dashie job step", ALLOCSET_DEFAULT_SIZES);
	run = MemoryContextAllocZero(runner->context, sizeof(JobRun));
	run->job = job;
	run->driver = runner->driver;
	runner->run = run;
	return run;
}

static void
do_or_throw(Runner *runner, Piece piece)
{
	ErrorData *error = in_subtransaction(runner, piece);

	if (error == NULL)
		error = commit(runner);
	if (error != NULL)
		ReThrowError(error);
}

/*
 * perform does the work between what opens a run and what closes it.
 */
static void
perform(Runner *runner, Piece close)
{
	ErrorData *error;

	dashie_running = true;
	PG_TRY();
	{
		work(runner);
		error = in_subtransaction(runner, close);
		if (error != NULL)
		{
			/* DROP EXTENSION in the middle of the run took the lease along */
			if (!OidIsValid(dashie_extension_oid()))
				runner->stopped = true;
			else
				ReThrowError(error);
		}
		error = commit(runner);
		if (error != NULL)
			ReThrowError(error);
	}
	PG_FINALLY();
	{
		dashie_running = false;
	}
	PG_END_TRY();
}

/*
 * run_one runs a job, if its lease is to be had; the run, with id 0 if not,
 * lives in runner->context.
 */
static JobRun *
run_one(Runner *runner, const Job *job, bool only_if_due)
{
	JobRun *run = new_run(runner, job);

	runner->only_if_due = only_if_due;
	if (!may_go_on(runner))
		return run;
	do_or_throw(runner, take_lease);
	if (run->id == 0)
		return run;
	perform(runner, release_lease);

	/* once a day is enough for what pg_cron remembers of us */
	if (run->previous / USECS_PER_DAY != run->started / USECS_PER_DAY && may_go_on(runner))
	{
		(void) in_subtransaction(runner, trim_cron_history);
		(void) commit(runner);
	}
	return run;
}

/* Says what went wrong in a run whose error is not to be thrown. */
static void
report(const JobRun *run, int elevel)
{
	if (run->error == NULL)
		return;
	ereport(elevel, (errcode(run->error->sqlerrcode),
					 errmsg("job \"%s\" failed: %s", run->job->name,
							run->error->message ? run->error->message : "unknown error"),
					 run->error->detail ? errdetail_internal("%s", run->error->detail) : 0,
					 run->error->hint ? errhint("%s", run->error->hint) : 0));
}

static void
begin(Runner *runner, const char *driver, bool commits)
{
	if (dashie_running)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE), errmsg("a job cannot run another job")));

	memset(runner, 0, sizeof(*runner));
	runner->driver = driver;
	runner->commits = commits;
	dashie_connect_spi(commits);
	runner->context =
		AllocSetContextCreate(CurrentMemoryContext, "dashie job run", ALLOCSET_DEFAULT_SIZES);
}

/* Whether a procedure may end the transaction that it is called in. */
static bool
may_commit(FunctionCallInfo fcinfo)
{
	return fcinfo->context != NULL && IsA(fcinfo->context, CallContext) &&
		   !castNode(CallContext, fcinfo->context)->atomic && !IsSubTransaction();
}

/* A call by pg_cron's worker, or over a connection that it opened, or by hand. */
static const char *
call_driver(void)
{
	if (MyBgworkerEntry != NULL && strcmp(MyBgworkerEntry->bgw_library_name, "pg_cron") == 0)
		return "pg_cron";
	if (application_name != NULL && strncmp(application_name, "pg_cron", 7) == 0)
		return "pg_cron";
	return "call";
}

Datum
dashie_run_job(PG_FUNCTION_ARGS)
{
	const Job *job;
	Runner runner;
	JobRun *run;
	DashieGuard guard;
	bool applies;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"name\" must not be NULL")));
	job = dashie_job_find(text_to_cstring(PG_GETARG_TEXT_PP(0)));

	PushActiveSnapshot(GetTransactionSnapshot());
	dashie_enter(&guard);
	applies = dashie_job_applies(job);
	dashie_leave(&guard);
	PopActiveSnapshot();
	if (!applies)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("job \"%s\" has nothing to work on", job->name),
						job->table != NULL ? errdetail("Table %s is not enabled.", job->table)
										   : errdetail("No table with a retention is enabled."),
						errhint("Run SELECT dashie.enable('%s').",
								job->table != NULL ? job->table : "user_sessions")));

	begin(&runner, call_driver(), may_commit(fcinfo));
	run = run_one(&runner, job, false);
	if (run->id == 0)
		ereport(NOTICE, (run->holder != 0 ? errmsg("job \"%s\" is already running in process %d",
												   job->name, run->holder)
										  : errmsg("job \"%s\" is already running", job->name)));
	else if (run->error != NULL)
	{
		/* what is recorded of the failure is committed; in a caller's transaction it must not be lost */
		if (runner.commits || run->error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(run->error);
		report(run, WARNING);
	}
	else if (run->blocker != NULL)
		ereport(WARNING, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						  errmsg("job \"%s\" was blocked: %s", job->name, run->blocker),
						  errdetail("It will be tried again.")));
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * dashie_run_task does work in steps for a procedure, until nothing is left.
 * Its error, a cancellation too, is thrown after what was done is committed.
 */
void
dashie_run_task(FunctionCallInfo fcinfo, const char *name, const char *detail, JobStepFunction step,
				void *arg)
{
	const Job task = {.name = name, .step = step};
	Runner runner;
	JobRun *run;

	begin(&runner, call_driver(), may_commit(fcinfo));
	run = new_run(&runner, &task);
	run->task = true;
	run->detail = detail;
	run->arg = arg;
	do_or_throw(&runner, begin_task);
	perform(&runner, close_progress);
	if (run->error != NULL)
		ReThrowError(run->error);
	if (run->blocker != NULL)
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						errmsg("\"%s\" was blocked: %s", name, run->blocker)));
	SPI_finish();
}

static PassResult
run_due(Runner *runner, int elevel)
{
	PassResult result = PASS_DONE;

	for (int i = 0; i < DASHIE_JOBS && !runner->stopped; i++)
	{
		JobRun *run = run_one(runner, &dashie_jobs[i], true);

		if (run->id == 0)
			continue;
		report(run, elevel);
		if (run->error != NULL && run->error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(run->error);
		if (run->more && run->blocker == NULL && run->error == NULL)
			result = PASS_MORE;
	}
	return result;
}

Datum
dashie_run_due_jobs(PG_FUNCTION_ARGS)
{
	Runner runner;

	begin(&runner, call_driver(), may_commit(fcinfo));
	(void) run_due(&runner, WARNING);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * dashie_run_pass is CALL dashie.run_due_jobs() for a worker, in a transaction
 * of its own and with a question before each piece of work.
 */
PassResult
dashie_run_pass(const char *driver, bool (*may_go_on_now)(void))
{
	Runner runner;
	PassResult result;

	begin(&runner, driver, true);
	runner.may_go_on = may_go_on_now;
	runner.worker = true;
	MemoryContextSetParent(runner.context, PortalContext); /* survives SPI_finish() */
	result = run_due(&runner, LOG);
	SPI_finish();
	return result;
}
