/*
 * application.h
 *		The application's own tables, which may be missing, unreadable or of
 *		another shape: then there is nothing to know from them.
 */
#ifndef DASHIE_APPLICATION_H
#define DASHIE_APPLICATION_H

#include "postgres.h"

#include "common/relation.h"
#include "datatype/timestamp.h"

/*
 * OID of public.<name> if it is a plain table with these columns of which the
 * current user may read every row; else InvalidOid.
 */
extern Oid dashie_application_table(const char *name, const DashieColumn *columns, int ncolumns);

/* Value of a key of access_control_config; NULL if there is none to be read. */
extern char *dashie_access_config(const char *key);

/* Length of a trial in days: the application's own figure, else the setting. */
extern Interval dashie_trial_length(void);

#endif /* DASHIE_APPLICATION_H */
