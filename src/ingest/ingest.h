/*
 * ingest.h
 *		Batches of widget events on their way into widget_analytics.
 *
 *		parse.c		JSON -> events, each accepted or rejected
 *		parents.c	user, session, consent: checked and locked once a batch
 *		duplicates.c	which events are stored already
 *		known_index.c	the index of a partition that tells
 *		id_lookup.c	which ids have an entry in an index
 *		id_notes.c	what is remembered of the ids of a partition
 *		target.c	the partitions: insert
 *		index_rows.c	the index entries of what was inserted
 *		track.c		the SQL functions
 */
#ifndef DASHIE_INGEST_H
#define DASHIE_INGEST_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/execnodes.h"
#include "port/pg_bswap.h"
#include "storage/buf.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#define MAX_BATCH_EVENTS 10000

/* What the roadmap knows of event_type. */
#define EVENT_TYPES 5
extern const char *const dashie_event_types[EVENT_TYPES]; /* parse.c */

/* Instants that a batch is judged by. */
typedef struct EventClock
{
	TimestampTz now;
	TimestampTz latest; /* later ones are taken for now */
	TimestampTz oldest; /* earlier ones are rejected */
} EventClock;

typedef struct WidgetEvent
{
	int index;	  /* in the batch as it was sent */
	int leaf;	  /* index into EventTarget.leaves */
	bool own_id;  /* the sender's, by which it is stored once */
	bool stored;  /* before this call */
	bool dropped; /* rejected or a duplicate */
	bool has_dashboard;
	bool has_duration;
	pg_uuid_t id;
	pg_uuid_t dashboard;
	int32 duration;
	TimestampTz at;
	Datum widget_type; /* text */
	Datum event_type;
	Datum event_data;				  /* jsonb; 0 for NULL */
	const struct WidgetEvent *before; /* sent before it in this call with the same id, or NULL */
} WidgetEvent;

/* One call of track(): what was sent, and what became of it. */
typedef struct EventBatch
{
	pg_uuid_t user;
	pg_uuid_t session;
	bool has_session;
	WidgetEvent *events; /* the accepted ones */
	int nevents;
	int64 duplicates;
	int64 inserted;
	JsonbParseState *rejected; /* an open array */
} EventBatch;

/* parse.c */
extern int events_count(Jsonb *events);
extern void events_parse(EventBatch *batch, JsonbContainer *events, const EventClock *clock);
extern void events_reject(EventBatch *batch, int index, bool retry, const char *format, ...)
	pg_attribute_printf(4, 5);
extern Datum events_rejected(EventBatch *batch); /* jsonb */
extern bool parse_uuid(const char *text, int length, pg_uuid_t *id);

/* parents.c */
typedef struct EventParents EventParents;
extern EventParents *parents_open(Relation widget_analytics);
extern bool parents_can_be_locked(const EventParents *parents);
extern bool parents_consent(EventParents *parents, const pg_uuid_t *user);
extern char *
parents_lock(EventParents *parents, const EventBatch *batch); /* NULL, or what is wrong */
extern void parents_close(EventParents *parents);
extern void users_serialize(const pg_uuid_t *users, int nusers);

/* duplicates.c */
extern void duplicates_find(Relation widget_analytics, EventBatch *const *batches, int nbatches,
							const EventClock *clock);

/* Only where the compiler has it: a hint. */
#ifdef __GNUC__
#define prefetch(address) __builtin_prefetch(address)
#else
#define prefetch(address) ((void) 0)
#endif

/* id_lookup.c */
typedef struct IdKey
{
	uint64 high;
	uint64 low;
} IdKey;

/* An id that is looked for. */
typedef struct IdSlot
{
	IdKey key;
	uint64 hash;
	int order; /* in which it was sent */
	WidgetEvent *event;
} IdSlot;

static inline int
id_key_compare(const IdKey *a, const IdKey *b)
{
	if (a->high != b->high)
		return a->high < b->high ? -1 : 1;
	return a->low < b->low ? -1 : a->low > b->low;
}

/* An id as two numbers, which order as the ids do. */
static inline IdKey
id_key(const pg_uuid_t *id)
{
	uint64 parts[2];
	IdKey key;

	memcpy(parts, id->data, sizeof(parts));
	key.high = pg_ntoh64(parts[0]);
	key.low = pg_ntoh64(parts[1]);
	return key;
}

/* What ids are noted by. */
typedef struct IdHashes
{
	uint64 *hashes;
	Size n;
	Size size;
} IdHashes;

extern bool ids_index_possible(Relation index);
extern int ids_in_index(Relation index, const IdSlot *ids, int nids, int *found, int *leaves);
extern void ids_of_index(Relation index, IdHashes *hashes, Size most);

/* known_index.c */
extern Oid known_index(Oid partition);
extern uint64 known_index_changes(void);
extern void know_index(Oid partition, Oid index, uint64 before);

/* id_notes.c */
typedef struct IdNote IdNote;
extern void id_notes_begin(int nids);
extern IdNote *id_note(Oid partition);
extern bool id_note_holds(IdNote *note, Relation partition, AttrNumber id, int nids);
extern uint64 id_hash(const unsigned char *id);
extern void id_hashes_add(IdHashes *hashes, const unsigned char *id);
extern int id_note_doubtful(const IdNote *note, const IdSlot *ids, int nids, IdSlot *doubtful);
extern void id_note_looked(IdNote *note, int nids, int leaves);

/* target.c */
typedef struct EventTarget EventTarget;
extern EventTarget *target_open(Relation widget_analytics, bool parents_locked);
extern void target_store(EventTarget *target, EventBatch *batch);
extern bool target_incomplete(const EventTarget *target); /* a partition was missing */
extern void target_close(EventTarget *target);

/* index_rows.c */
/* Rows that have their place in the table, and no index entries yet. */
typedef struct WrittenRows
{
	TupleDesc desc;
	Datum *values; /* all columns of a row, then those of the next */
	bool *nulls;
	ItemPointerData *places;
	int nrows;
} WrittenRows;

extern bool index_rows_possible(const ResultRelInfo *result);
extern void index_rows(ResultRelInfo *result, EState *estate, const WrittenRows *written);

#endif /* DASHIE_INGEST_H */
