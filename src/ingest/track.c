/*
 * track.c
 *		dashie.track() and dashie.track_many(): widget events of a device, or of
 *		a collector that has several users'.
 *
 * Called by whoever was granted EXECUTE: the functions are SECURITY DEFINER and
 * belong to the extension's owner.  They act as the owner of widget_analytics.
 *
 * Locks, in this order: ROW EXCLUSIVE on widget_analytics; an advisory lock for
 * each user, ascending; then for each batch the rows of user and session; the
 * partitions, one after the other for reading (duplicates.c), then those that are
 * written to.
 */
#include "postgres.h"

#include "access/table.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/day.h"
#include "common/owner.h"
#include "common/rows.h"
#include "ingest/ingest.h"
#include "jobs/job.h"
#include "partition/partition.h"
#include "retention/retention.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_track);
PG_FUNCTION_INFO_V1(dashie_track_many);

/* What a device's clock may be ahead. */
#define MAX_AHEAD (5 * USECS_PER_MINUTE)

/* What one call works with. */
typedef struct Tracker
{
	DashieGuard guard;
	EventClock clock;
	Relation rel;
	EventParents *parents;
	EventTarget *target;
} Tracker;

static void
tracker_open(Tracker *tracker)
{
	Oid relid;

	dashie_enter(&tracker->guard);
	relid = dashie_enabled_oid_required("widget_analytics");
	tracker->clock.now = dashie_now();
	tracker->clock.latest = tracker->clock.now + MAX_AHEAD;
	tracker->clock.oldest = dashie_retention_cutoff("widget_analytics");
	tracker->rel = dashie_partition_open_parent(relid, RowExclusiveLock);
	dashie_become_owner_of(&tracker->guard, relid);
	tracker->parents = parents_open(tracker->rel);
	tracker->target = target_open(tracker->rel, parents_can_be_locked(tracker->parents));
}

static void
tracker_close(Tracker *tracker)
{
	bool incomplete = target_incomplete(tracker->target);

	target_close(tracker->target);
	parents_close(tracker->parents);
	table_close(tracker->rel, NoLock);
	dashie_leave(&tracker->guard);
	if (incomplete)
	{
		dashie_enter(&tracker->guard);
		dashie_job_ask("maintain_partitions");
		dashie_leave(&tracker->guard);
	}
}

Datum
dashie_track(PG_FUNCTION_ARGS)
{
	Tracker tracker;
	EventBatch batch = {0};
	Jsonb *events;
	EventBatch *batches[] = {&batch};
	TupleDesc desc;
	Datum values[3];
	bool nulls[3] = {false};
	char *problem;

	dashie_reject_null(fcinfo, 0, "user_id");
	dashie_reject_null(fcinfo, 2, "events");
	batch.user = *PG_GETARG_UUID_P(0);
	batch.has_session = !PG_ARGISNULL(1);
	if (batch.has_session)
		batch.session = *PG_GETARG_UUID_P(1);
	events = PG_GETARG_JSONB_P(2);
	(void) events_count(events);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	tracker_open(&tracker);
	if (!parents_consent(tracker.parents, &batch.user))
	{
		tracker_close(&tracker);
		nulls[0] = nulls[1] = nulls[2] = true;
		PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
	}
	users_serialize(&batch.user, 1);
	problem = parents_lock(tracker.parents, &batch);
	if (problem != NULL)
		ereport(ERROR, (errcode(ERRCODE_FOREIGN_KEY_VIOLATION), errmsg("%s", problem)));
	events_parse(&batch, &events->root, &tracker.clock);
	duplicates_find(tracker.rel, batches, 1, &tracker.clock);
	target_store(tracker.target, &batch);
	tracker_close(&tracker);

	values[0] = Int32GetDatum((int32) batch.inserted);
	values[1] = Int32GetDatum((int32) batch.duplicates);
	values[2] = events_rejected(&batch);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/* One element of track_many()'s argument. */
typedef struct SentBatch
{
	EventBatch batch;
	JsonbContainer *events;
	const char *problem; /* why none of it is stored */
	bool refused;		 /* the user has not consented */
} SentBatch;

static const char *
read_uuid(JsonbContainer *object, const char *name, pg_uuid_t *id, bool *present)
{
	JsonbValue value;

	*present = getKeyJsonValueFromContainer(object, name, strlen(name), &value) != NULL &&
			   value.type != jbvNull;
	if (*present &&
		(value.type != jbvString || !parse_uuid(value.val.string.val, value.val.string.len, id)))
		return psprintf("%s is no UUID", name);
	return NULL;
}

static void
read_batch(const JsonbValue *element, SentBatch *sent)
{
	JsonbContainer *object = element->val.binary.data;
	JsonbValue value;
	bool has_user;

	memset(sent, 0, sizeof(*sent));
	if (element->type != jbvBinary || !JsonContainerIsObject(object))
	{
		sent->problem = "no object";
		return;
	}
	sent->problem = read_uuid(object, "user_id", &sent->batch.user, &has_user);
	if (sent->problem == NULL && !has_user)
		sent->problem = "user_id is missing";
	if (sent->problem == NULL)
		sent->problem =
			read_uuid(object, "session_id", &sent->batch.session, &sent->batch.has_session);
	if (sent->problem != NULL)
		return;
	if (getKeyJsonValueFromContainer(object, "events", strlen("events"), &value) == NULL ||
		value.type != jbvBinary || !JsonContainerIsArray(value.val.binary.data))
	{
		sent->problem = "events is no array";
		return;
	}
	sent->events = value.val.binary.data;
}

static SentBatch *
read_batches(Jsonb *argument, int *count)
{
	SentBatch *sent;
	JsonbIterator *iterator;
	JsonbValue element;
	JsonbIteratorToken token;
	int64 nevents = 0;
	int n = 0;

	if (!JB_ROOT_IS_ARRAY(argument) || JB_ROOT_IS_SCALAR(argument))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"batches\" must be a JSON array")));
	sent = palloc_extended(Max(JB_ROOT_COUNT(argument), 1) * sizeof(SentBatch), MCXT_ALLOC_HUGE);
	iterator = JsonbIteratorInit(&argument->root);
	while ((token = JsonbIteratorNext(&iterator, &element, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		read_batch(&element, &sent[n]);
		if (sent[n].events != NULL)
			nevents += JsonContainerSize(sent[n].events);
		n++;
	}
	if (nevents > MAX_BATCH_EVENTS || n > MAX_BATCH_EVENTS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("too many events: " INT64_FORMAT " in %d batches", nevents, n),
						errdetail("One call takes up to %d.", MAX_BATCH_EVENTS),
						errhint("Send them in several calls.")));
	*count = n;
	return sent;
}

/*
 * Checks and reads the batches, as the owner of widget_analytics, and looks for
 * what is stored of them.
 */
static void
prepare_batches(Tracker *tracker, SentBatch *sent, int nsent)
{
	EventBatch **batches = palloc(Max(nsent, 1) * sizeof(EventBatch *));
	pg_uuid_t *users = palloc(Max(nsent, 1) * sizeof(pg_uuid_t));
	int nusers = 0;
	int nbatches = 0;

	for (int i = 0; i < nsent; i++)
		if (sent[i].problem == NULL)
			users[nusers++] = sent[i].batch.user;
	users_serialize(users, nusers);
	for (int i = 0; i < nsent; i++)
	{
		EventBatch *batch = &sent[i].batch;

		CHECK_FOR_INTERRUPTS();
		if (sent[i].problem != NULL)
			continue;
		sent[i].refused = !parents_consent(tracker->parents, &batch->user);
		if (!sent[i].refused)
			sent[i].problem = parents_lock(tracker->parents, batch);
		if (sent[i].refused || sent[i].problem != NULL)
			continue;
		events_parse(batch, sent[i].events, &tracker->clock);
		batches[nbatches++] = batch;
	}
	duplicates_find(tracker->rel, batches, nbatches, &tracker->clock);
	pfree(batches);
	pfree(users);
}

Datum
dashie_track_many(PG_FUNCTION_ARGS)
{
	DashieRows rows;
	Tracker tracker;
	SentBatch *sent;
	int nsent;

	dashie_reject_null(fcinfo, 0, "batches");
	sent = read_batches(PG_GETARG_JSONB_P(0), &nsent);
	dashie_rows_begin(fcinfo, &rows);

	tracker_open(&tracker);
	prepare_batches(&tracker, sent, nsent);
	for (int i = 0; i < nsent; i++)
	{
		EventBatch *batch = &sent[i].batch;
		Datum values[5];
		bool nulls[5] = {false, true, true, true, true};

		CHECK_FOR_INTERRUPTS();
		values[0] = Int32GetDatum(i);
		if (sent[i].problem != NULL)
		{
			values[4] = CStringGetTextDatum(sent[i].problem);
			nulls[4] = false;
		}
		else if (!sent[i].refused)
		{
			target_store(tracker.target, batch);
			values[1] = Int32GetDatum((int32) batch->inserted);
			values[2] = Int32GetDatum((int32) batch->duplicates);
			values[3] = events_rejected(batch);
			nulls[1] = nulls[2] = nulls[3] = false;
		}
		dashie_rows_put(&rows, values, nulls);
	}
	tracker_close(&tracker);
	return (Datum) 0;
}
