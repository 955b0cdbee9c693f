/*
 * stripe.h
 *		What the files of this folder share; billing.h is for the other slices.
 *
 * The way of an event: ingest.c or queue.c takes it, payload.c reads it,
 * apply.c finds its user (profile.c), puts it in its place in the life of the
 * user's subscriptions (state.c, life.c), and writes the profile.
 */
#ifndef DASHIE_STRIPE_H
#define DASHIE_STRIPE_H

#include "postgres.h"

#include "common/owner.h"
#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/* What is done with an event. */
typedef enum StripeKind
{
	STRIPE_SKIP = 0,	  /* stored, and nothing else */
	STRIPE_AUDIT,		  /* stored with its user */
	STRIPE_SUBSCRIPTION,  /* the new state of a subscription */
	STRIPE_LINK,		  /* names customer and subscription of a user */
	STRIPE_CUSTOMER_GONE, /* ends all subscriptions of a customer */
	STRIPE_FRAUD		  /* evidence against a user */
} StripeKind;

/* One of the event types that are not skipped; see state.c. */
typedef struct StripeEventType
{
	const char *name; /* ending in '*': every type that begins so */
	StripeKind kind;
	int rank; /* order among the events of one second */
} StripeEventType;

/* One of Stripe's states of a subscription; see state.c. */
typedef struct StripeStatus
{
	const char *name;
	bool grants; /* sets the tier */
	bool stored; /* becomes subscription_status of the profile */
	bool final;	 /* nothing follows it */
	int standing;
} StripeStatus;

/* What a price buys. */
typedef struct StripeGrant
{
	char *tier; /* NULL: nothing */
	char *price;
	int max_dashboards; /* -1: leave as it is */
	int max_calendars;
} StripeGrant;

/* The price of an item of a subscription. */
typedef struct StripePrice
{
	char *id;
	char *lookup_key;
	char *tier; /* from its metadata */
} StripePrice;

#define STRIPE_MAX_USERS 4

/* What an event says; payload.c.  Text is palloc'd, 0 and NULL stand for absent. */
typedef struct StripeEvent
{
	Jsonb *body;
	char *id;
	char *type;
	int64 created; /* Unix seconds, as all times here */
	bool has_livemode;
	bool livemode;
	const StripeEventType *known; /* NULL: a type that is skipped */

	JsonbContainer *object; /* data.object, NULL if there is none */
	JsonbContainer *previous;
	char *object_id;
	char *customer;
	char *subscription;
	char *payment;	  /* charge, else payment intent */
	char *intent;	  /* payment intent */
	char *mode;		  /* of a checkout session */
	char *fraud_type; /* reason of a dispute, type of a warning */
	int nusers;		  /* users that the event names, best evidence first */
	pg_uuid_t users[STRIPE_MAX_USERS];

	/* of a subscription */
	const StripeStatus *status; /* NULL: unknown, see status_text */
	char *status_text;
	int nprices;
	StripePrice *prices;
	int64 subscription_created;
	int64 period_end;
	int64 trial_end;
	bool cancel_at_period_end;
	StripeGrant grant; /* filled by whoever applies it: prices.c */
} StripeEvent;

/* A row of dashie.stripe_subscription. */
typedef struct StripeSubscription
{
	char *id;
	char *customer;
	const StripeStatus *status; /* NULL: only a checkout named it */
	StripeGrant grant;
	int64 created;
	int64 first_event; /* 0: no event yet */
	int64 period_end;
	int64 trial_end;
	int cancel_at_period_end; /* -1: not known */
	int64 watermark;		  /* 0: no event was applied */
	int rank;
	char *event;
	int64 tier_since;
	bool changed; /* differs from the row, or has none */
} StripeSubscription;

/* The subscriptions of one user, and what follows from them. */
typedef struct StripeLife
{
	int nsubs;
	int capacity;
	StripeSubscription *subs;
	int current; /* index of the one that the profile names; -1: none */
	int shown;	 /* of the one whose status it shows: the best that has begun */

	char *tier;		   /* of the user; NULL: not known */
	int64 tier_since;  /* 0: from before the first event */
	char *tier_before; /* before the first event */
	bool granted;	   /* an applied event decided the tier */
	StripeGrant grant; /* with what */
} StripeLife;

/* state.c: pure */
extern const StripeEventType *stripe_event_type(const char *name);
extern const StripeStatus *stripe_status(const char *name);
extern bool stripe_tier_known(const char *tier);
extern int stripe_tier_dashboards(const char *tier);
extern int stripe_tier_order(const char *tier);
extern void stripe_life_init(StripeLife *life);
extern StripeSubscription *stripe_life_find(StripeLife *life, const char *subscription);
extern StripeSubscription *stripe_life_add(StripeLife *life, const char *subscription);
extern void stripe_life_choose(StripeLife *life);
extern bool stripe_life_apply(StripeLife *life, const StripeEvent *event);
extern bool stripe_life_is_late(const StripeLife *life, const StripeEvent *event);

/* order.c: pure */
extern void stripe_order(StripeEvent **events, int nevents);

/* payload.c: pure; a bad argument is 22023 */
extern void stripe_event_read(Jsonb *body, StripeEvent *event);
extern bool stripe_same_body(Jsonb *a, Jsonb *b);
extern void stripe_check_created(const StripeEvent *event, TimestampTz now);
extern void stripe_read_subscription(JsonbContainer *object, StripeEvent *event);

#define STRIPE_TIMESTAMP(seconds)             \
	((TimestampTz) (seconds) *USECS_PER_SEC - \
	 (TimestampTz) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)
#define STRIPE_SECONDS(timestamp)                                                              \
	(((timestamp) + (TimestampTz) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY) / \
	 USECS_PER_SEC)

/* verify.c: pure */
extern bool stripe_signature_matches(const char *payload, size_t payload_len, const char *header,
									 const char *const *secrets, int nsecrets, int64 tolerance_us,
									 TimestampTz at);

/* secrets.c; as the extension's owner */
extern char **stripe_secrets(int *nsecrets);

/* prices.c; as the extension's owner */
extern bool stripe_find_grant(const StripeEvent *event, StripeGrant *grant);

/* A row of public.user_profiles; profile.c */
typedef struct StripeProfile
{
	pg_uuid_t user;
	bool exists; /* false: the application keeps no profiles */
	char *customer;
	char *subscription;
	char *tier;
	char *status;
	TimestampTz tier_started_at; /* 0: NULL, or no such column */
	bool expires;				 /* tier_expires_at is not NULL */
	int max_dashboards;			 /* -1: NULL, or no such column */
	int max_calendars;
} StripeProfile;

typedef enum StripeFound
{
	STRIPE_NO_USER = 0,
	STRIPE_USER,
	STRIPE_USER_GONE /* known once, deleted since */
} StripeFound;

extern StripeFound stripe_find_profile(const DashieGuard *guard, const StripeEvent *event,
									   bool lock, bool nowait, StripeProfile *profile);
extern bool stripe_profile_update(const DashieGuard *guard, StripeProfile *profile,
								  const StripeLife *before, const StripeLife *after);

extern void
stripe_profile_set(const DashieGuard *guard, StripeProfile *profile, char *customer, char *status);

/* life.c */
extern void
stripe_life_load(const DashieGuard *guard, const StripeProfile *profile, StripeLife *life);
extern void stripe_life_retell(const DashieGuard *guard, Oid events, const StripeProfile *profile,
							   StripeEvent *late, StripeLife *life);
extern void
stripe_life_store(const DashieGuard *guard, const StripeProfile *profile, StripeLife *life);

/* apply.c */
extern bool stripe_is_wanted(const StripeEvent *event);
extern void stripe_complete_status(StripeEvent *event);

/* What became of an event; apply.c */
typedef struct StripeOutcome
{
	const char *status; /* processed, skipped, pending, failed, dead */
	char *message;		/* error_message */
	bool has_user;
	pg_uuid_t user;
	bool applied; /* to a profile: old_tier and new_tier count */
	char *old_tier;
	char *new_tier;
	char *linked; /* customer whose user is known since this event */
	bool locked;  /* somebody else holds the profile: nothing was done */
	int retry_count;
	TimestampTz next_attempt; /* 0: none */
} StripeOutcome;

/*
 * Applies an event.  "events" is stripe_webhook_events.  With nowait a profile
 * that is locked is left alone.  Runs inside a subtransaction.
 */
extern void stripe_apply(const DashieGuard *guard, Oid events, StripeEvent *event, bool nowait,
						 StripeOutcome *outcome);

/* evidence.c */
extern void
stripe_feed_abuse(const DashieGuard *guard, const StripeEvent *event, const pg_uuid_t *user);

/*
 * stripe_webhook_events: rows.c.  All as the table's owner; "events" is its OID.
 */
typedef struct StripeRow
{
	pg_uuid_t id;
	char *status;
	int retry_count;
	TimestampTz created_at; /* 0: NULL */
	bool has_user;
	Jsonb *body;
} StripeRow;

/*
 * The status of events of one customer.  An expression, and so are conditions on
 * user_id beside it: else the planner may combine the index of the customer
 * with one of these, and read entries of half the table.
 */
#define STRIPE_STATUS_IN "coalesce(processing_status, '') IN "

/* Locks the table, and checks that it has what is needed; 55000 where it is not enabled. */
extern Oid stripe_events_open(void);
extern bool
stripe_row_find(const DashieGuard *guard, Oid events, const char *event_id, StripeRow *row);
extern bool
stripe_row_get(const DashieGuard *guard, Oid events, const pg_uuid_t *id, StripeRow *row);
extern bool stripe_row_insert(const DashieGuard *guard, Oid events, const StripeEvent *event,
							  const StripeOutcome *outcome, StripeRow *row);
extern void stripe_row_update(const DashieGuard *guard, Oid events, const StripeEvent *event,
							  const StripeOutcome *outcome, const StripeRow *row);
extern void stripe_row_conflict(const DashieGuard *guard, Oid events, const StripeRow *row);
extern int stripe_rows_due(const DashieGuard *guard, Oid events, const char *customer, int limit,
						   StripeRow **rows);
extern void stripe_rows_give_user(const DashieGuard *guard, Oid events, const char *customer,
								  const pg_uuid_t *user);

/* attempt.c */
typedef bool (*StripeStore)(const StripeOutcome *outcome, void *arg);
extern bool stripe_attempt(const DashieGuard *guard, Oid events, StripeEvent *event, bool nowait,
						   StripeOutcome *outcome, StripeStore store, void *arg);
extern bool stripe_attempt_row(const DashieGuard *guard, Oid events, const StripeRow *row,
							   bool nowait, StripeOutcome *outcome);
extern void stripe_follow_link(const DashieGuard *guard, Oid events, const StripeOutcome *outcome);

#endif /* DASHIE_STRIPE_H */
