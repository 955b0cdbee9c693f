/*
 * verify.h
 *		What the files of dashie.verify() share: the proof of one day.
 */
#ifndef DASHIE_VERIFY_H
#define DASHIE_VERIFY_H

#include "postgres.h"

#include "jobs/job.h"
#include "lib/stringinfo.h"
#include "metrics/engine.h"

typedef struct Proof
{
	Metrics *metrics;
	Oid owner_rel; /* the table as whose owner the run acts */
	DayPage *page; /* with contents */
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

/*
 * night.c: the job refresh_daily_metrics, where the setting verify_nightly is
 * on.  plan() notes the days that a step wrote and whether it was the last one
 * to write, and says whether there is another step; begun() tells whether that
 * one is to verify, with verify_night().
 */
extern bool
verify_night_plan(JobStep *step, DateADT from, DateADT to, const bool *written, bool more);
extern bool verify_night_begun(const JobStep *step);
extern bool verify_night(JobStep *step, Oid daily);

/* verify.c */
typedef struct Verdict
{
	bool no_verdict; /* neither proven nor failed */
	bool ok;
	const char *method;
	char *differences; /* JSON, NULL if none */
	char *reason;
} Verdict;

typedef struct Verification Verification;

/* Reads what is one query for all days of [from, to]. */
extern Verification *verification_begin(Metrics *metrics, Oid daily, DateADT from, DateADT to);

/* The verdict lives in the current memory context. */
extern void verification_judge(Verification *all, DateADT day, Verdict *verdict);

#endif /* DASHIE_VERIFY_H */
