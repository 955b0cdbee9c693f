/*
 * progress.h
 *		How far long work has come, for others to see while it runs: the rows
 *		of dashie.progress.
 *
 * All functions run inside dashie_enter().  A row is visible to others when
 * the transaction that wrote it has committed.
 */
#ifndef DASHIE_PROGRESS_H
#define DASHIE_PROGRESS_H

#include "postgres.h"

/* What a piece of work that took "worked" microseconds has come to. */
typedef struct Progress
{
	const char *unit;	/* of the numbers below, such as "days" */
	const char *detail; /* what exactly is worked on; NULL: as it was */
	int64 done;
	int64 total;
	int64 advanced; /* by this piece */
	int64 worked;
} Progress;

extern int64 dashie_progress_open(const char *what, const char *detail);
extern int64 dashie_progress_resume(const char *what); /* 0: nothing of that name is unfinished */
extern void dashie_progress_tell(int64 id, const Progress *progress);
extern void dashie_progress_close(int64 id, const char *state, const char *message);

#endif /* DASHIE_PROGRESS_H */
