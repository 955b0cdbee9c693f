/*
 * partition.h
 *		Daily partitions of widget_analytics.
 *
 * The first part is what other slices call; the second is shared between the
 * files of this one.
 */
#ifndef DASHIE_PARTITION_H
#define DASHIE_PARTITION_H

#include "postgres.h"

#include "common/owner.h"
#include "datatype/timestamp.h"
#include "jobs/job.h"
#include "nodes/pg_list.h"
#include "pgtime.h"
#include "storage/lockdefs.h"
#include "utils/date.h"
#include "utils/relcache.h"

/*
 * Called by enable() after the parent is complete: makes the missing partitions,
 * as the current user, in the caller's transaction, and gives those that were
 * there the rights of the parent.
 */
extern void dashie_partition_cover(Oid parent);

/*
 * Called by enable() for every table, after its DDL, as the current user: makes
 * the tables in schema dashie that say which partitions are to be kept.
 */
extern void dashie_partition_prepare(const char *table_name, Oid relid);

/*
 * Called by enable() when an unpartitioned table stands under the name:
 * replaces it by a partitioned one with the same rows.  "create" makes the
 * roadmap's table under the same name in the same schema, as the current user;
 * it is called when the name is free.  Afterwards the name belongs to a new
 * OID.  The current user owns the table.
 */
typedef void (*PartitionCreateParent)(void *arg);
extern void dashie_partition_convert(Oid plain, PartitionCreateParent create, void *arg);

/* A thing that maintenance did, would do, or could not do. */
typedef struct PartitionAction
{
	const char *action;	   /* "create", "remove", "finalize", "hold" or "blocked" */
	const char *partition; /* name without schema; NULL where it is about several */
	TimestampTz lower;	   /* DT_NOBEGIN: without bound */
	TimestampTz upper;	   /* DT_NOEND: without bound */
	int64 rows;			   /* estimate; -1: not known */
	int64 bytes;		   /* with indexes and TOAST; -1: not known */
	const char *reason;
	const char *locks;		/* with dry_run: what the step locks; else NULL */
	const char *blocked_by; /* who holds a lock in the way now; NULL: nobody */
} PartitionAction;

typedef void (*PartitionReport)(const PartitionAction *action, void *arg);

/*
 * For apply_retention(): removes the oldest expired partition in the caller's
 * transaction, or with dry_run names all that have expired.  "report" is called
 * for each of them, and for each that could not be removed; its argument lives
 * until the call returns.  Quiet where widget_analytics is not enabled.
 */
extern void
dashie_partition_expire(const DashieGuard *guard, bool dry_run, PartitionReport report, void *arg);

/* The same as steps of a job: emptying and dropping are transactions of their own. */
extern bool dashie_partition_expire_step(JobStep *step);

/*
 * Gives "to" row level security and the policies and grants of "from".  With
 * replace, it has no others afterwards; without, its own stay, and of two
 * policies of one name its own.
 */
extern void dashie_copy_rights(Oid from, Oid to, bool replace);
extern bool dashie_rights_differ(Oid from, Oid to);

/* ---------- inside the slice ---------- */

/* [lower, upper); "day" is the day of lower, which names the partition */
typedef struct PartitionRange
{
	TimestampTz lower;
	TimestampTz upper;
	DateADT day;
} PartitionRange;

/* bounds.c */
extern int dashie_bounds_missing(const PartitionRange *existing, int nexisting, TimestampTz from,
								 TimestampTz upto, pg_tz *zone, PartitionRange **missing);
extern TimestampTz
dashie_bounds_covered_until(const PartitionRange *existing, int nexisting, TimestampTz at);
extern int dashie_bounds_compare(const void *a, const void *b);

/* One attached partition, as the catalog has it. */
typedef struct PartitionLeaf
{
	PartitionRange range; /* first, so that leaves sort as ranges do */
	Oid relid;
	char *name;
	char relkind;
	bool detaching; /* DETACH CONCURRENTLY was begun and not finished */
	bool begun;		/* by us, who then drop it: see leaf_detach.c */
	bool detached;	/* no partition any more; only with begun */
} PartitionLeaf;

typedef struct PartitionSet
{
	int count;
	PartitionLeaf *leaves;	 /* by bounds */
	PartitionRange *ranges;	 /* the same bounds alone */
	char *default_partition; /* its name, or NULL */
	Oid default_relid;
} PartitionSet;

typedef struct LockNeed
{
	Oid relid;
	LOCKMODE mode;
} LockNeed;

/* What is to be covered, and what has expired. */
typedef struct PartitionWindow
{
	pg_tz *zone;
	TimestampTz now;
	TimestampTz from;
	TimestampTz upto;
	TimestampTz cutoff; /* an upper bound up to here has expired; DT_NOBEGIN: none */
	Interval *keep;		/* NULL: for ever */
} PartitionWindow;

/* leaves.c */
extern Relation dashie_partition_open_parent(Oid relid, LOCKMODE lockmode);
extern PartitionSet *dashie_partition_read(Relation parent);
extern TimestampTz dashie_partition_covered_until(const PartitionSet *set, TimestampTz now);
extern void dashie_partition_window(PartitionWindow *window);
extern TimestampTz dashie_partition_drop_at(const PartitionWindow *window, TimestampTz upper);
extern void dashie_partition_measure(Oid relid, int64 *rows, int64 *bytes);

/* leaf_create.c */
extern int dashie_partition_missing(Relation parent, const PartitionSet *set,
									const PartitionWindow *window, PartitionRange **missing);
extern List *
dashie_partition_create(Oid parent, const PartitionRange *ranges, int nranges, int lock_budget_ms);
extern char *dashie_partition_name(Oid parent, DateADT day);
extern LockNeed *dashie_partition_create_locks(Oid parent, int *nneeds);

/* One look at the partitions, and what is done about it: see maintain.c. */
typedef struct PartitionPass
{
	Oid parent;
	PartitionWindow window;
	PartitionSet *set;
	PartitionLeaf *begun; /* what we began to detach */
	int nbegun;
	bool stale; /* some of what is written down of them is not true any more */
	int lock_budget_ms;
	bool steps;	   /* emptying and dropping are transactions of their own */
	bool in_haste; /* writers of other tables wait for what this transaction has locked */
	bool dry_run;
	PartitionReport report;
	void *report_arg;
	char *blocker;	 /* who holds the lock that was last not to be had */
	Oid stuck;		 /* an expired leaf that only the locks on the parent keep */
	bool held;		 /* the rollups of events have yet to count what has expired */
	char *complaint; /* what was due, failed and was recorded; the rest went on */
	int64 rows;		 /* estimate of the rows removed */
} PartitionPass;

typedef enum PartitionRemoval
{
	/* of several results the greatest counts */
	REMOVED_NOTHING,
	REMOVAL_BLOCKED,
	REMOVED_ONE /* with steps: emptied or dropped */
} PartitionRemoval;

/* leaf_expire.c */
extern PartitionRemoval dashie_partition_remove(PartitionPass *pass);
extern bool dashie_partition_removable(const PartitionPass *pass, const PartitionLeaf *leaf);
extern bool dashie_partition_close_days(const PartitionLeaf *leaf);

/* leaf_detach.c */
typedef enum PartitionPending
{
	PENDING_NOTHING,
	PENDING_FINALIZED,
	PENDING_BLOCKED
} PartitionPending;

extern PartitionLeaf *dashie_partition_begun(Oid parent, int *count, bool *stale);
extern void dashie_partition_forget(const PartitionLeaf *begun, int nbegun);
extern PartitionPending dashie_partition_finalize(PartitionPass *pass);
extern void dashie_partition_detach(Oid leaf);

/* leaf_rights.c */
extern void dashie_revoke_rights(Oid relid);

/* leaf_hold.c */
extern char *dashie_partition_keep_reason(const PartitionLeaf *leaf, const PartitionWindow *window,
										  TimestampTz *until);

/* maintain.c */
extern bool dashie_partition_blocked(PartitionPass *pass, ErrorData *error, const LockNeed *needs,
									 int nneeds, PartitionAction *action);

/* carry_over.c */
extern List *dashie_carry_obstacles(Oid old);
extern List *dashie_carry_columns(Oid old, Oid new);
extern List *dashie_carry_constraints(Oid old, Oid new);
extern List *dashie_carry_rest(Oid old);

/* blockers.c */
extern void dashie_stall_reset(void);
extern void dashie_stall_begins(void);
extern int64 dashie_stall(TimestampTz *since);
extern void dashie_lock_timeout(int ms);
extern void dashie_lock_together(const LockNeed *needs, int nneeds, int budget_ms);
extern char *dashie_lock_holders(const LockNeed *needs, int nneeds);
extern char *dashie_snapshot_holder(TransactionId xid, int budget_ms);
extern char *dashie_lock_text(const LockNeed *needs, int nneeds);
extern ErrorData *dashie_attempt(void (*work)(void *), void *arg);
extern bool dashie_is_blocked(const ErrorData *error);

#endif /* DASHIE_PARTITION_H */
