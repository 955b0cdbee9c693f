/*
 * event_rows.c
 *		Rows of stripe_webhook_events: found, stored, updated, as the table's
 *		owner.
 *
 * Takes ROW EXCLUSIVE on the table, and the lock of each row that is worked on:
 * before the user's profile when the row exists, else at the end, when it is
 * inserted.  That cannot deadlock, because nobody else sees a row that is not
 * committed, and who inserts the same event waits for the same profile first.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"

#include "billing/stripe.h"
#include "common/day.h"
#include "common/query.h"
#include "common/relation.h"
#include "roadmap/roadmap.h"

/* What is read of a row, in this order. */
#define ROW_COLUMNS "id, processing_status, retry_count, created_at, user_id, event_data"
static const Oid row_types[] = {UUIDOID, TEXTOID, INT4OID, TIMESTAMPTZOID, UUIDOID, JSONBOID};

static const DashieColumn event_columns[] = {
	{"id", UUIDOID, true, 0},
	{"stripe_event_id", TEXTOID, true, 0},
	{"event_type", TEXTOID, true, 0},
	{"user_id", UUIDOID, true, 0},
	{"old_tier", TEXTOID, true, 0},
	{"new_tier", TEXTOID, true, 0},
	{"processed_at", TIMESTAMPTZOID, true, 0},
	{"event_data", JSONBOID, true, 0},
	{"processing_status", TEXTOID, true, 0},
	{"error_message", TEXTOID, true, 0},
	{"retry_count", INT4OID, true, 0},
	{"created_at", TIMESTAMPTZOID, true, 0},
	{"next_attempt_at", TIMESTAMPTZOID, true, 0},
	{"livemode", BOOLOID, true, 0},
	{"customer_id", TEXTOID, true, 0},
	{"subscription_id", TEXTOID, true, 0},
	{"payment_id", TEXTOID, true, 0},
	{"conflicting_deliveries", INT4OID, true, 0},
};

/* Rights are checked when the owner's statements run. */
Oid
stripe_events_open(void)
{
	Oid relid = dashie_enabled_oid_required("stripe_webhook_events");
	DashieColumn columns[lengthof(event_columns)];
	Relation rel;

	rel = try_relation_open(relid, RowExclusiveLock);
	if (rel == NULL || rel->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"stripe_webhook_events\" is not a plain table")));
	memcpy(columns, event_columns, sizeof(columns));
	dashie_relation_columns(rel, columns, lengthof(columns));
	relation_close(rel, NoLock);
	return relid;
}

/* Who we were before we became the table's owner. */
typedef struct Identity
{
	Oid user;
	int context;
} Identity;

static void
begin(const DashieGuard *guard, Oid events, Identity *identity)
{
	GetUserIdAndSecContext(&identity->user, &identity->context);
	dashie_become_owner_of(guard, events);
	dashie_query_begin();
}

static void
end(const Identity *identity)
{
	dashie_query_end();
	SetUserIdAndSecContext(identity->user, identity->context);
}

/* A row of the last query; in "context", which outlives it. */
static void
read_row(uint64 number, MemoryContext context, StripeRow *row)
{
	bool isnull;
	Datum value;
	MemoryContext spi;

	row->id = *DatumGetUUIDP(dashie_field(number, 1, NULL));
	row->status = dashie_field_text(number, 2);
	value = dashie_field(number, 3, &isnull);
	row->retry_count = isnull ? 0 : DatumGetInt32(value);
	value = dashie_field(number, 4, &isnull);
	row->created_at = isnull ? 0 : DatumGetTimestampTz(value);
	(void) dashie_field(number, 5, &isnull);
	row->has_user = !isnull;
	spi = MemoryContextSwitchTo(context);
	row->body = DatumGetJsonbPCopy(dashie_field(number, 6, NULL));
	MemoryContextSwitchTo(spi);
}

static bool
find(const DashieGuard *guard, Oid events, const char *condition, Oid type, Datum value,
	 StripeRow *row)
{
	MemoryContext context = CurrentMemoryContext;
	Identity identity;
	bool found;

	begin(guard, events, &identity);
	found = dashie_query_planned(psprintf("SELECT " ROW_COLUMNS " FROM ONLY %s WHERE %s"
										  " FOR NO KEY UPDATE",
										  dashie_relation_name(events), condition),
								 1, &type, &value, NULL) > 0;
	if (found)
	{
		dashie_query_types(lengthof(row_types), row_types);
		read_row(0, context, row);
	}
	end(&identity);
	return found;
}

/* The index is asked first: nearly every event is new. */
bool
stripe_row_find(const DashieGuard *guard, Oid events, const char *event_id, StripeRow *row)
{
	Relation rel = relation_open(events, NoLock);
	bool stored = dashie_index_holds(rel, get_attnum(events, "stripe_event_id"), event_id);

	relation_close(rel, NoLock);
	return stored &&
		   find(guard, events, "stripe_event_id = $1", TEXTOID, CStringGetTextDatum(event_id), row);
}

bool
stripe_row_get(const DashieGuard *guard, Oid events, const pg_uuid_t *id, StripeRow *row)
{
	return find(guard, events, "id = $1", UUIDOID, UUIDPGetDatum(id), row);
}

/* Parameters of the columns that an outcome fills, after those of the caller. */
typedef struct Parameters
{
	int count;
	Oid types[20];
	Datum values[20];
	char nulls[20];
} Parameters;

static void
add(Parameters *parameters, Oid type, Datum value, bool isnull)
{
	int i = parameters->count++;

	Assert(i < lengthof(parameters->types));
	parameters->types[i] = type;
	parameters->values[i] = value;
	parameters->nulls[i] = isnull ? 'n' : ' ';
}

static void
add_text(Parameters *parameters, const char *text)
{
	add(parameters, TEXTOID, text == NULL ? (Datum) 0 : CStringGetTextDatum(text), text == NULL);
}

static void
add_time(Parameters *parameters, TimestampTz at)
{
	add(parameters, TIMESTAMPTZOID, TimestampTzGetDatum(at), at == 0);
}

/* $1 to $13, in the order of both statements. */
static void
add_outcome(Parameters *parameters, const StripeEvent *event, const StripeOutcome *outcome)
{
	bool done =
		strcmp(outcome->status, "processed") == 0 || strcmp(outcome->status, "skipped") == 0;

	add_text(parameters, outcome->status);
	add_text(parameters, outcome->message);
	add(parameters, UUIDOID, UUIDPGetDatum(&outcome->user), !outcome->has_user);
	add_text(parameters, outcome->applied ? outcome->old_tier : NULL);
	add_text(parameters, outcome->applied ? outcome->new_tier : NULL);
	add_time(parameters, done ? dashie_now() : 0);
	add(parameters, INT4OID, Int32GetDatum(outcome->retry_count), false);
	add_time(parameters, outcome->next_attempt);
	add(parameters, BOOLOID, BoolGetDatum(event->livemode), !event->has_livemode);
	add_text(parameters, event->customer);
	add_text(parameters, event->subscription);
	add_text(parameters, event->payment);
}

/*
 * stripe_row_insert stores a new event with its outcome; false, and nothing
 * stored, if somebody else stored it meanwhile.
 */
bool
stripe_row_insert(const DashieGuard *guard, Oid events, const StripeEvent *event,
				  const StripeOutcome *outcome, StripeRow *row)
{
	Parameters parameters = {0};
	Identity identity;
	bool inserted;

	add_outcome(&parameters, event, outcome);
	add_text(&parameters, event->id);
	add_text(&parameters, event->type);
	add(&parameters, JSONBOID, JsonbPGetDatum(event->body), false);
	add_time(&parameters, dashie_now());

	begin(guard, events, &identity);
	inserted =
		dashie_query_planned(
			psprintf("INSERT INTO %s (processing_status, error_message, user_id, old_tier,"
					 " new_tier, processed_at, retry_count, next_attempt_at, livemode,"
					 " customer_id, subscription_id, payment_id, stripe_event_id, event_type,"
					 " event_data, created_at)"
					 " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,"
					 " $16) ON CONFLICT (stripe_event_id) DO NOTHING RETURNING id",
					 dashie_relation_name(events)),
			parameters.count, parameters.types, parameters.values, parameters.nulls) > 0;
	if (inserted)
		row->id = *DatumGetUUIDP(dashie_field(0, 1, NULL));
	end(&identity);
	return inserted;
}

/* stripe_row_update stores the outcome of another attempt; a user that is known stays. */
void
stripe_row_update(const DashieGuard *guard, Oid events, const StripeEvent *event,
				  const StripeOutcome *outcome, const StripeRow *row)
{
	Parameters parameters = {0};
	Identity identity;

	add_outcome(&parameters, event, outcome);
	add(&parameters, UUIDOID, UUIDPGetDatum(&row->id), false);
	begin(guard, events, &identity);
	dashie_query_planned(
		psprintf("UPDATE ONLY %s SET processing_status = $1, error_message = $2,"
				 " user_id = coalesce(user_id, $3), old_tier = $4, new_tier = $5,"
				 " processed_at = $6, retry_count = $7, next_attempt_at = $8,"
				 " livemode = coalesce(livemode, $9), customer_id = coalesce(customer_id, $10),"
				 " subscription_id = coalesce(subscription_id, $11),"
				 " payment_id = coalesce(payment_id, $12) WHERE id = $13",
				 dashie_relation_name(events)),
		parameters.count, parameters.types, parameters.values, parameters.nulls);
	end(&identity);
}

/* stripe_row_conflict counts a delivery with another body than the one that is kept. */
void
stripe_row_conflict(const DashieGuard *guard, Oid events, const StripeRow *row)
{
	Oid types[1] = {UUIDOID};
	Datum values[1] = {UUIDPGetDatum(&row->id)};
	Identity identity;

	begin(guard, events, &identity);
	dashie_query_planned(psprintf("UPDATE ONLY %s SET conflicting_deliveries ="
								  " coalesce(conflicting_deliveries, 0) + 1 WHERE id = $1",
								  dashie_relation_name(events)),
						 1, types, values, NULL);
	end(&identity);
}

/*
 * stripe_rows_due locks events that are due, those that wait longest first; or
 * with a customer those of it that are pending, due or not.  What others work
 * on is left out.
 */
int
stripe_rows_due(const DashieGuard *guard, Oid events, const char *customer, int limit,
				StripeRow **rows)
{
	MemoryContext context = CurrentMemoryContext;
	Oid types[2] = {INT4OID, TIMESTAMPTZOID};
	Datum values[2] = {Int32GetDatum(limit), TimestampTzGetDatum(dashie_now())};
	const char *condition = "processing_status IN ('pending', 'failed')"
							" AND coalesce(next_attempt_at, '-infinity') <= $2"
							" ORDER BY coalesce(next_attempt_at, '-infinity')";
	Identity identity;
	int nrows;

	if (customer != NULL)
	{
		types[1] = TEXTOID;
		values[1] = CStringGetTextDatum(customer);
		condition = "customer_id = $2 AND " STRIPE_STATUS_IN "('pending')";
	}
	begin(guard, events, &identity);
	nrows = (int) dashie_query_planned(psprintf("SELECT " ROW_COLUMNS " FROM ONLY %s WHERE %s"
												" LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED",
												dashie_relation_name(events), condition),
									   2, types, values, NULL);
	if (nrows > 0)
		dashie_query_types(lengthof(row_types), row_types);
	*rows = MemoryContextAlloc(context, Max(nrows, 1) * sizeof(StripeRow));
	for (int i = 0; i < nrows; i++)
		read_row(i, context, &(*rows)[i]);
	end(&identity);
	return nrows;
}

/*
 * stripe_rows_give_user names the user of events that came before it was known.
 * A row that is locked is being tried again, by somebody who may wait for our
 * customer and will find the user.
 */
void
stripe_rows_give_user(const DashieGuard *guard, Oid events, const char *customer,
					  const pg_uuid_t *user)
{
	Oid types[2] = {TEXTOID, UUIDOID};
	Datum values[2] = {CStringGetTextDatum(customer), UUIDPGetDatum(user)};
	Identity identity;

	begin(guard, events, &identity);
	dashie_query_planned(
		psprintf("UPDATE ONLY %s SET user_id = $2 WHERE id IN (SELECT id FROM ONLY %s"
				 " WHERE customer_id = $1 AND num_nulls(user_id) = 1"
				 " AND " STRIPE_STATUS_IN "('skipped') FOR NO KEY UPDATE SKIP LOCKED)",
				 dashie_relation_name(events), dashie_relation_name(events)),
		2, types, values, NULL);
	end(&identity);
}
