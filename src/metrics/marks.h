/*
 * marks.h
 *		What a transaction changed, and how a refresh learns of it.
 *
 *		marks.c		collects it, row by row; the protocol of all three
 *		mark_rows.c	leaves it behind with the transaction
 *		absorb.c	takes it up in a refresh
 */
#ifndef DASHIE_MARKS_H
#define DASHIE_MARKS_H

#include "postgres.h"

#include "metrics/range.h"
#include "utils/uuid.h"

typedef struct Heartbeat
{
	pg_uuid_t dashboard;
	pg_uuid_t user;
	TimestampTz at;
} Heartbeat;

/* marks.c */

/*
 * Writes the marks that the current transaction has collected so far, so that
 * a refresh inside it sees them together with the rows.
 */
extern void dashie_marks_flush(void);

/* mark_rows.c */
extern void mark_rows_write(const RangeSet *changed, bool may_rely);
extern void mark_rows_write_heartbeats(const Heartbeat *heartbeats, int n);

#endif /* DASHIE_MARKS_H */
