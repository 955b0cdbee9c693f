/*
 * job.h
 *		What a job offers to the runner: one step at a time.
 *
 * The runner (run.c) calls a step inside dashie_enter() (current user = owner
 * of the extension), in a subtransaction, with SPI connected on the procedure
 * level only: a step that uses SPI calls dashie_query_begin()/end() itself.
 * It switches to a table's owner with dashie_become_owner_of(step->guard, ...),
 * does a short piece of work, and says whether there is more.  After every
 * step the runner commits, where the call allows it.
 *
 * What a step can do only with nothing around it, because it ends transactions,
 * it leaves to JobStep.alone.
 *
 * A task is work in steps that a call asks for: no schedule, no lease, no time
 * budget.
 */
#ifndef DASHIE_JOB_H
#define DASHIE_JOB_H

#include "postgres.h"

#include "common/owner.h"
#include "common/progress.h"
#include "datatype/timestamp.h"
#include "fmgr.h"

#define JOB_NUMBERS 4

typedef struct JobStep
{
	const DashieGuard *guard;
	int number;			  /* 0 for the first step of this run */
	TimestampTz since;	  /* what another job did after this need not be done again */
	void *arg;			  /* of a task; NULL in a job */
	int64 *numbers;		  /* JOB_NUMBERS of the step's own, kept during a run; 0 at first */
	MemoryContext memory; /* lives as long as the run */
	void **kept;		  /* what the steps of a run hand on, in "memory"; NULL at first */
	int64 rows;			  /* out: rows that this step added, changed or removed */
	Progress progress;	  /* out: how far all has come; without a total nothing is told */
	bool blocked;		  /* out: a lock was not to be had; retry after a short sleep */
	char *blocker;		  /* out, with blocked: who holds it, palloc'd in the caller's context */

	/*
	 * Out, with blocked: what a worker does, once a run, instead of giving up.
	 * It is called without SPI, in a transaction that it may end; others skip it.
	 */
	void (*alone)(Oid argument);
	Oid alone_argument;

	/*
	 * Out: the longest time for which a lock that others queue behind was asked
	 * for and held, microseconds; and since when one is that the commit ends.
	 */
	int64 stall;
	TimestampTz stall_since;
} JobStep;

/* One step of a job; true if another step would find work. */
typedef bool (*JobStepFunction)(JobStep *step);

/*
 * Asks for a run of a job as soon as a driver looks, without waiting for
 * anybody: where its row is locked, the job is about to run.  Inside
 * dashie_enter(), as the extension's owner.
 */
extern void dashie_job_ask(const char *name);

/* Whether the job's owner lets it run.  Inside dashie_enter(), as the extension's owner. */
extern bool dashie_job_enabled(const char *name);

/* run.c: "work" and its argument last as long as the call */
extern void dashie_run_task(FunctionCallInfo fcinfo, const char *name, const char *detail,
							JobStepFunction step, void *arg);

/* lease.c: the back-off of jobs, for whoever keeps its own, in microseconds of real time */
extern int64 dashie_retry_wait(int failures);

/* run.c: the pause before another attempt at a lock */
extern void dashie_job_pause(void);

extern bool dashie_partition_step(JobStep *step);	/* partition/ */
extern bool dashie_daily_step(JobStep *step);		/* metrics/ */
extern bool dashie_geographic_step(JobStep *step);	/* metrics/ */
extern bool dashie_events_step(JobStep *step);		/* events/ */
extern bool dashie_retention_step(JobStep *step);	/* retention/ */
extern bool dashie_close_stale_step(JobStep *step); /* sessions/ */
extern bool dashie_stripe_step(JobStep *step);		/* billing/ */
extern bool dashie_seal_step(JobStep *step);		/* billing/ */

#endif /* DASHIE_JOB_H */
