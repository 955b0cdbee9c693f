/*
 * dashie.c
 *		Loading of the library, and the server settings.
 *
 * Server settings exist only for what belongs to a process: whether there is
 * a launcher, how long it sleeps, how many workers it starts, and the clock of
 * tests.  What the product's owner decides is data: common/setting.c.
 *
 * _PG_init runs in the postmaster when the library is preloaded, else in each
 * session that first calls a function of ours.
 */
#include "postgres.h"

#include <limits.h>

#include "fmgr.h"
#include "miscadmin.h"

#include "common/compat.h"
#include "dashie.h"
#include "jobs/jobs.h"
#include "metrics/metrics.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

bool dashie_launcher_enabled = true;
int dashie_naptime = 10;
int dashie_max_workers = 2;
char *dashie_now_override = NULL;

void
_PG_init(void)
{
	DefineCustomIntVariable("dashie.naptime", "Time between two looks for jobs that are due.", NULL,
							&dashie_naptime, 10, 1, INT_MAX / 1000, PGC_SIGHUP, GUC_UNIT_S, NULL,
							NULL, NULL);
	DefineCustomIntVariable("dashie.max_workers",
							"Number of databases in which a launcher lets jobs run at once.",
							"Each takes one of max_worker_processes.", &dashie_max_workers, 2, 1,
							DASHIE_WORKER_SLOTS, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("dashie.now", "The time that dashie takes for now, for tests.",
							   "Empty: the real time.", &dashie_now_override, "", PGC_SUSET,
							   GUC_NOT_IN_SAMPLE, NULL, NULL, NULL);
	/* the server accepts a setting of its start only while it starts */
	if (process_shared_preload_libraries_in_progress)
		DefineCustomBoolVariable("dashie.launcher", "Starts the dashie launcher with the server.",
								 NULL, &dashie_launcher_enabled, true, PGC_POSTMASTER, 0, NULL,
								 NULL, NULL);
	MarkGUCPrefixReserved("dashie");

	dashie_marks_init();

	if (process_shared_preload_libraries_in_progress && dashie_launcher_enabled)
		dashie_register_launcher();
}
