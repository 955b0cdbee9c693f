/*
 * jobs.h
 *		What the files of this folder share; job.h is for the other slices.
 */
#ifndef DASHIE_JOBS_H
#define DASHIE_JOBS_H

#include "postgres.h"

#include "common/owner.h"
#include "datatype/timestamp.h"
#include "jobs/cron.h"
#include "jobs/job.h"

/* One of the jobs that there are; see jobs.c. */
typedef struct Job
{
	const char *name;
	const char *schedule; /* default */
	const char *table;	  /* applies where this one is enabled; NULL: see job_applies() */
	JobStepFunction step;
} Job;

#define DASHIE_JOBS 8
extern const Job dashie_jobs[DASHIE_JOBS];

/* What the owner changed, over the defaults. */
typedef struct JobConfig
{
	char *schedule;
	CronSchedule cron;
	bool enabled;
} JobConfig;

/* A row of dashie.job_state; timestamps are 0 where the row has NULL. */
typedef struct JobState
{
	bool found;
	TimestampTz last_started;
	TimestampTz last_finished;
	char *last_status;
	int failures;
	TimestampTz retry_at;
	bool more;
	int lease_pid; /* 0: nobody holds or left a lease */
	TimestampTz lease_boot;
	TimestampTz lease_expires;
} JobState;

/* A run in progress. */
typedef struct JobRun
{
	const Job *job;
	bool task;			/* has no lease and no row in dashie.job_run */
	const char *detail; /* of a task */
	void *arg;			/* of a task */
	int64 numbers[JOB_NUMBERS];
	int64 progress; /* row of dashie.progress_entry; 0: none */
	const char *driver;
	int64 id;			 /* of dashie.job_run; 0: the lease was not to be had */
	int holder;			 /* with id 0: the process that runs the job, if known */
	TimestampTz started; /* real time, for the budget */
	int steps;
	void *kept; /* see JobStep */
	int64 rows;
	int failures;		  /* before this run */
	TimestampTz previous; /* start of the run before it; 0: none */
	const char *status;
	bool more;
	ErrorData *error; /* failed */
	char *blocker;	  /* blocked */
	char *blocked_by; /* who was in the way last, also if it went on then */
	int64 stall;	  /* the longest, microseconds; see JobStep */
} JobRun;

/* jobs.c */
extern const Job *dashie_job_find(const char *name);
extern bool dashie_job_applies(const Job *job);
extern void dashie_job_config(const Job *job, JobConfig *config);
extern bool dashie_job_next(const JobConfig *config, const JobState *state, TimestampTz *next);

/* lease.c; all inside dashie_enter() */
extern void dashie_job_state(const Job *job, bool lock, JobState *state);
extern bool dashie_lease_alive(const JobState *state);
extern void dashie_lease_take(JobRun *run, bool only_if_due);
extern void dashie_lease_renew(JobRun *run);
extern void dashie_lease_release(JobRun *run);

/* alone.c */
extern void dashie_connect_spi(bool commits);
extern ErrorData *
dashie_run_alone(void (*work)(Oid), Oid argument, const char *name, MemoryContext context);

/* run.c */
typedef enum PassResult
{
	PASS_NOTHING = 0, /* also: the worker died before it could say */
	PASS_NO_EXTENSION,
	PASS_DONE,
	PASS_MORE /* work is left that need not wait */
} PassResult;

extern bool dashie_running; /* this backend is running a job now */
extern PassResult dashie_run_pass(const char *driver, bool (*may_go_on)(void));

/* launcher.c, worker.c */
#define DASHIE_WORKER_SLOTS 64

/* What the launcher hands to a worker, in bgw_extra. */
typedef struct WorkerOrder
{
	uint32 segment; /* dsm_handle: PassResult by slot */
	int slot;
} WorkerOrder;

extern void dashie_register_launcher(void);

/* pg_cron.c; inside dashie_enter() */
extern void dashie_trim_cron_history(void);

#endif /* DASHIE_JOBS_H */
