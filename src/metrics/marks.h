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

#include "fmgr.h"
#include "metrics/range.h"
#include "utils/uuid.h"

/* What is marked apart from the rest: each has its own table of marks and its own pages. */
typedef enum MarkKind
{
	MARK_SESSIONS,
	MARK_EVENTS,
	MARK_KINDS
} MarkKind;

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

/* All time between two instants has changed by the current transaction. */
extern void dashie_marks_collect(MarkKind kind, TimestampTz from, TimestampTz upto);

/* Whether an update changed a column; 0, one that the table lacks, never changes. */
extern bool dashie_mark_changed(HeapTuple old, HeapTuple new, AttrNumber attnum, TupleDesc desc);

/* Of an AFTER trigger; 39P01 unless the function is called as one. */
extern struct TriggerData *dashie_trigger_data(FunctionCallInfo fcinfo, const char *function);

/* mark_rows.c */
extern const char *dashie_mark_table(MarkKind kind); /* in schema dashie */
extern void mark_rows_write(MarkKind kind, const RangeSet *changed, bool may_rely);
extern void mark_rows_write_heartbeats(const Heartbeat *heartbeats, int n);

#endif /* DASHIE_MARKS_H */
