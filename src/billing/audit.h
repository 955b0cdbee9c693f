/*
 * audit.h
 *		Seals of payment records: what seal.c writes and verify_audit.c reads.
 *		Inside the slice only.
 *
 * Days are days of UTC, like the 7 years of the guard: no setting moves them.
 */
#ifndef DASHIE_AUDIT_H
#define DASHIE_AUDIT_H

#include "postgres.h"

#include "common/digest.h"
#include "common/owner.h"
#include "datatype/timestamp.h"
#include "utils/date.h"
#include "utils/rel.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

/* What a seal says of one row. */
typedef struct AuditEntry
{
	pg_uuid_t id;
	TimestampTz created;
	uint8 digest[DASHIE_DIGEST_LENGTH];
} AuditEntry;

/* Sorted by id. */
typedef struct AuditEntries
{
	int count;
	int size;
	AuditEntry *items;
} AuditEntries;

/* A row of dashie.audit_seal, without its entries. */
typedef struct AuditSeal
{
	int64 number;
	DateADT day;
	bool late;
	TimestampTz sealed_at;
	int64 row_count;
	bool has_entries;
	uint8 content[DASHIE_DIGEST_LENGTH];
	uint8 digest[DASHIE_DIGEST_LENGTH];
} AuditSeal;

/* audit_rows.c */
extern TimestampTz dashie_audit_day_start(DateADT day);
extern DateADT dashie_audit_day_of(TimestampTz at);
extern Relation dashie_audit_open_events(Oid relid);
extern void dashie_audit_read(Relation events, Snapshot snapshot, TimestampTz from,
							  TimestampTz upto, AuditEntries *entries);
extern bool
dashie_audit_first_row(Relation events, Snapshot snapshot, TimestampTz from, TimestampTz *created);
extern bytea *dashie_audit_to_bytes(const AuditEntries *entries);
/* Adds the entries of a seal; false if the bytes are no entries. */
extern bool dashie_audit_add_bytes(AuditEntries *entries, const bytea *bytes);
extern void dashie_audit_sort(AuditEntries *entries);
extern int dashie_audit_compare(const void *a, const void *b);
extern void dashie_audit_content(const bytea *bytes, uint8 *content);
/* The digest of a seal, which follows on the one before it; NULL for the first. */
extern void dashie_audit_chain(const AuditSeal *seal, const uint8 *previous, uint8 *digest);

/* seal.c; the current user may read the table */
extern AuditSeal *dashie_audit_seals(int *nseals);
extern bool dashie_audit_seal_entries(int64 number, AuditEntries *entries, uint8 *content);

#endif /* DASHIE_AUDIT_H */
