/*
 * verify.h
 *		What the proofs of days share, and the files of dashie.verify().
 */
#ifndef DASHIE_VERIFY_H
#define DASHIE_VERIFY_H

#include "postgres.h"

#include "common/rows.h"
#include "jobs/job.h"
#include "lib/stringinfo.h"
#include "metrics/engine.h"

typedef struct Proof
{
	Metrics *metrics;
	Oid owner_rel; /* the table as whose owner the run acts */
	DayPage *page; /* with contents; NULL where another kind of page is proven */
	TimestampTz start;
	TimestampTz end;
	bool changed; /* the next refresh computes the page again */
	bool failed;
	bool pending;		 /* a difference that the next refresh settles */
	int64 departed;		 /* users whose part is known by the page alone */
	StringInfoData json; /* members of the object of differences */
	StringInfoData reason;
} Proof;

/* Adds a difference: a name, and the members of its JSON object. */
extern void proof_difference(Proof *proof, const char *name, const char *members, ...)
	pg_attribute_printf(3, 4);

/* Adds {"page": page, other_label: other} if the two differ; says whether they do. */
extern bool
proof_compare(Proof *proof, const char *name, int64 page, const char *other_label, int64 other);

/* Adds why the day is not proven, once. */
extern void proof_reason(Proof *proof, const char *reason);

/* plain.c: compares the page with plain SQL over the day's rows. */
extern void proof_by_rows(Proof *proof);

/* plain.c: what daily_metrics counts of the users alone, per day, by plain SQL. */
enum
{
	SIGNUPS,
	CONVERSIONS,
	USER_COUNTS
};

typedef struct UserCounts
{
	int64
		plain[USER_COUNTS]; /* from auth.users and Stripe's events; of those who left, as stored */
	int64 stored[USER_COUNTS]; /* from user_number alone */
} UserCounts;

extern UserCounts *plain_user_counts(Metrics *metrics, Oid owner_rel, DateADT from, DateADT to);

/* The fields of the one row of the last query, copied. */
extern void proof_bytes(bytea **parts, int nparts);

/* Whether bytes are those that their digest was made of; else that is a difference. */
extern bool
proof_digest(Proof *proof, DateADT day, bytea *const *parts, int nparts, const bytea *stored);

/* Adds what differs of whole sets, where the numbers alone may agree. */
extern void proof_differing(Proof *proof, const char *name, int64 page, int64 rows, int64 differ);

/*
 * The members of one set and not of both.  Users whose row changed since the last
 * refresh are left to the next one.
 */
extern int64 proof_count_differing(Proof *proof, const UserSet *page, const UserSet *rows);

typedef struct Verdict
{
	bool no_verdict; /* neither proven nor failed */
	bool ok;
	const char *method;
	char *differences; /* JSON, NULL if none */
	char *reason;
} Verdict;

extern void
proof_verdict(Proof *proof, const char *pending, const char *unchanged, Verdict *verdict);

/* Which days have a page in a table of dashie's. */
extern void
verify_page_days(const Metrics *metrics, const char *table, DateADT *first, DateADT *last);

/* Judges one day of what begun; the verdict lives in the current memory context. */
typedef void (*Judge)(void *verification, DateADT day, Verdict *verdict);

extern void
verdict_of(Judge judge, void *verification, DateADT day, const char *method, Verdict *verdict);

/* A row of dashie.verify() and of its like. */
extern void verdict_put(DashieRows *rows, DateADT day, const Verdict *verdict);

/*
 * night.c: the jobs that write pages, where the setting verify_nightly is on.
 * plan() notes the days that a step wrote and whether it was the last one to
 * write, and says whether there is another step; begun() tells whether that one
 * is to verify.  Such a step asks next() for a stretch of days, calls each() to
 * judge those of them that were written, and is done with end(), which says
 * whether there is another one, or is the error of all that failed.
 */
extern bool
verify_night_plan(JobStep *step, DateADT from, DateADT to, const bool *written, bool more);
extern bool verify_night_begun(const JobStep *step);
extern void verify_night_next(const JobStep *step, DateADT *from, DateADT *to);
extern void verify_night_each(JobStep *step, DateADT to, MemoryContext context, Judge judge,
							  void *verification);
extern bool verify_night_end(const JobStep *step, const char *function);
extern bool verify_night(JobStep *step, Oid daily); /* of refresh_daily_metrics */

/* verify.c */
typedef struct Verification Verification;

/* Reads what is one query for all days of [from, to]. */
extern Verification *verification_begin(Metrics *metrics, Oid daily, DateADT from, DateADT to);

/* A Judge of it. */
extern void verification_judge(void *verification, DateADT day, Verdict *verdict);

#endif /* DASHIE_VERIFY_H */
