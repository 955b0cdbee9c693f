/*
 * retention.h
 *		How long the rows of a roadmap table are kept.
 */
#ifndef DASHIE_RETENTION_H
#define DASHIE_RETENTION_H

#include "postgres.h"

#include "datatype/timestamp.h"

/*
 * How long rows of the table are kept: what set_retention() stored, else the
 * roadmap's default; NULL means for ever.  Needs no rights.  Palloc'd.
 */
extern Interval *dashie_retention_of(const char *table_name);

/* The instant before which rows of the table have expired; DT_NOBEGIN where they are kept for ever. */
extern TimestampTz dashie_retention_cutoff(const char *table_name);

/*
 * Records that rows of a table from before the instant may be missing.  A floor
 * that is there already never sinks.  Inside dashie_query_begin().
 */
extern void dashie_retention_raise_floor(const char *table_name, TimestampTz removed_before);

#endif /* DASHIE_RETENTION_H */
