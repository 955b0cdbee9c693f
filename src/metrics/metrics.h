/*
 * metrics.h
 *		What other slices call of the metrics.
 */
#ifndef DASHIE_METRICS_H
#define DASHIE_METRICS_H

#include "postgres.h"

#include "common/owner.h"
#include "datatype/timestamp.h"

/* Called by _PG_init(): the callbacks that write changed-day marks at commit. */
extern void dashie_marks_init(void);

/*
 * Called by enable() for every table, after its DDL, as the current user:
 * makes the metrics' own tables in schema dashie that this table needs.
 */
extern void dashie_metrics_prepare(const char *table_name, Oid relid);

/* Called by disable() after a table of metrics is no longer enabled. */
extern void dashie_metrics_release(void);

/*
 * Called by configure('timezone', ...) before the row is written: marks every
 * computed day as changed, or fails with 55000 when a finished day could not
 * be computed again.
 */
extern void dashie_metrics_change_timezone(const DashieGuard *guard, const char *zone_name);

/*
 * Every session that ended before the returned instant lies in days that are
 * computed and final; DT_NOEND when no metrics are enabled.  Called as the
 * owner of user_sessions.  Keeps refreshes out until the end of the
 * transaction; a session with a visible mark is not to be removed either.
 */
extern TimestampTz dashie_metrics_complete_before(void);

#endif /* DASHIE_METRICS_H */
