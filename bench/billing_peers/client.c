/*
 * client.c
 *		The endpoint of bench/billing: sends deliveries of Stripe over some
 *		connections, each a process of its own, and tells how long that took.
 *
 *		client WAY CONNECTIONS [FILE]
 *
 * FILE is what deliveries.sql wrote, in the binary format of COPY.  The
 * deliveries of one user go through one connection, in their order, so that
 * what they come to does not hang on who was faster.
 *
 * WAY is a statement of one call with two parameters (payload, signature), or
 * "statements": the same work as statements of the client, each a round trip;
 * or "drain": the statement in FILE's place is repeated until it returns 0.
 *
 * Everything is prepared before the clock starts.  The fields that the
 * client's statements need were taken out of the payload beforehand: its own
 * parsing and verifying are not measured.
 */
#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libpq-fe.h>

#define COPY_HEADER 19 /* without an extension area */
#define TEXTOID 25
#define BYTEAOID 17

/* The columns of deliveries.sql. */
enum
{
	LANE, /* which user it is about */
	PAYLOAD,
	SIGNATURE,
	ID,
	TYPE,
	KIND, /* subscription, link, audit or skip */
	LIVEMODE,
	CREATED,
	RANK,
	USER, /* that the event names */
	CUSTOMER,
	SUBSCRIPTION,
	PAYMENT,
	STATUS,
	PRICE,
	SUBSCRIPTION_CREATED,
	PERIOD_END,
	TRIAL_END,
	CANCEL,
	FIELDS
};

typedef struct Delivery
{
	const char *value[FIELDS]; /* NULL for NULL */
	int length[FIELDS];
} Delivery;

static char *file;
static size_t file_size;
static int distance;

static void
die(const char *what, const char *why)
{
	fprintf(stderr, "client: %s: %s\n", what, why);
	exit(1);
}

static void
read_file(const char *path)
{
	FILE *f = fopen(path, "rb");

	if (f == NULL || fseek(f, 0, SEEK_END) != 0)
		die(path, "cannot be read");
	file_size = ftell(f);
	rewind(f);
	file = malloc(file_size);
	if (file == NULL || fread(file, 1, file_size, f) != file_size || file_size < COPY_HEADER)
		die(path, "cannot be read");
	fclose(f);
}

/* The next delivery of the file; false at its end. */
static bool
next_delivery(const char **position, Delivery *delivery)
{
	uint16_t fields;

	memcpy(&fields, *position, sizeof(fields));
	*position += sizeof(fields);
	if (fields == 0xffff)
		return false;
	if (ntohs(fields) != FIELDS)
		die("deliveries", "another number of columns");
	for (int i = 0; i < FIELDS; i++)
	{
		uint32_t length;

		memcpy(&length, *position, sizeof(length));
		*position += sizeof(length);
		delivery->length[i] = (int32_t) ntohl(length);
		delivery->value[i] = delivery->length[i] < 0 ? NULL : *position;
		if (delivery->length[i] > 0)
			*position += delivery->length[i];
	}
	return true;
}

static PGresult *
check(PGconn *conn, PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
		die("statement", PQerrorMessage(conn));
	return result;
}

/* The client's own statements; their parameters are fields of a delivery. */
enum
{
	BEGIN,
	COMMIT,
	ROLLBACK,
	FIND,
	FIND_NAMED,
	STORE,
	UPSERT,
	LINK,
	LINK_PROFILE,
	PROFILE,
	STORE_FIRST,
	FIND_PROFILE,
	FIND_PRICE,
	FIND_SUBSCRIPTION,
	FINISH,
	STATEMENTS
};

#define STALE "stale: a later event of the subscription was applied before"

static const char *const statements[STATEMENTS] = {
	[BEGIN] = "BEGIN",
	[COMMIT] = "COMMIT",
	[ROLLBACK] = "ROLLBACK",
	/* profile, what is known of the subscription, and what its price buys, in one */
	[FIND] = "SELECT p.auth_user_id, p.tier, t.tier, t.max_dashboards, t.max_calendars, coalesce((s.watermark, s.watermark_rank)"
			 " >= ($3::timestamptz, $4::smallint) OR s.status IN ('canceled', 'incomplete_expired'), false)"
			 " FROM public.user_profiles AS p"
			 " LEFT JOIN dashie.stripe_subscription AS s ON s.subscription_id = $2::text"
			 " LEFT JOIN dashie.stripe_price_tier AS t ON t.price = $5::text"
			 " WHERE p.stripe_customer_id = $1::text FOR NO KEY UPDATE OF p",
	[FIND_NAMED] = "SELECT auth_user_id, tier FROM public.user_profiles WHERE auth_user_id = $1::uuid FOR NO KEY UPDATE",
	[STORE] = "INSERT INTO public.stripe_webhook_events (stripe_event_id, event_type, event_data, livemode, customer_id,"
			  " subscription_id, payment_id, user_id, old_tier, new_tier, processing_status, error_message, processed_at, created_at)"
			  " VALUES ($1::text, $2::text, $3::text::jsonb, $4::bool, $5::text, $6::text, $7::text, $8::uuid, $9::text, $10::text,"
			  " $11::text, $12::text, now(), now()) ON CONFLICT (stripe_event_id) DO NOTHING RETURNING id",
	[UPSERT] = "INSERT INTO dashie.stripe_subscription AS s (subscription_id, customer_id, user_id, status, tier, price,"
			   " max_dashboards, max_calendars, subscription_created, first_event, current_period_end, trial_end,"
			   " cancel_at_period_end, watermark, watermark_rank, watermark_event, updated_at)"
			   " VALUES ($1::text, $2::text, $3::uuid, $4::text, $5::text, $6::text, $7::int, $8::int, $9::timestamptz,"
			   " $10::timestamptz, $11::timestamptz, $12::timestamptz, $13::bool, $10::timestamptz, $14::smallint, $15::text, now())"
			   " ON CONFLICT (subscription_id) DO UPDATE SET customer_id = excluded.customer_id, status = excluded.status,"
			   " tier = coalesce(excluded.tier, s.tier), price = coalesce(excluded.price, s.price),"
			   " max_dashboards = coalesce(excluded.max_dashboards, s.max_dashboards),"
			   " max_calendars = coalesce(excluded.max_calendars, s.max_calendars),"
			   " subscription_created = coalesce(excluded.subscription_created, s.subscription_created),"
			   " first_event = least(excluded.first_event, s.first_event),"
			   " current_period_end = coalesce(excluded.current_period_end, s.current_period_end),"
			   " trial_end = coalesce(excluded.trial_end, s.trial_end), cancel_at_period_end = excluded.cancel_at_period_end,"
			   " watermark = excluded.watermark, watermark_rank = excluded.watermark_rank,"
			   " watermark_event = excluded.watermark_event, updated_at = excluded.updated_at",
	[LINK] = "INSERT INTO dashie.stripe_subscription (subscription_id, customer_id, user_id, updated_at)"
			 " VALUES ($1::text, $2::text, $3::uuid, now()) ON CONFLICT (subscription_id) DO NOTHING",
	[LINK_PROFILE] = "UPDATE public.user_profiles SET stripe_customer_id = $2::text, stripe_subscription_id = $3::text, updated_at = now()"
					 " WHERE auth_user_id = $1::uuid",
	/* tier and limits only where a tier is granted, its beginning only where it is another one */
	[PROFILE] = "UPDATE public.user_profiles SET stripe_subscription_id = $2::text, subscription_status = $3::text,"
				" tier_started_at = CASE WHEN $4::text <> tier THEN $5::timestamptz ELSE tier_started_at END,"
				" tier_expires_at = CASE WHEN $4::text IS NULL THEN tier_expires_at END,"
				" tier = coalesce($4::text, tier), max_dashboards = coalesce($6::int, max_dashboards),"
				" max_calendars = coalesce($7::int, max_calendars), updated_at = now() WHERE auth_user_id = $1::uuid",
	/* the same, one thing at a time: see send_plainly() */
	[STORE_FIRST] = "INSERT INTO public.stripe_webhook_events (stripe_event_id, event_type, event_data, livemode, customer_id,"
					" subscription_id, payment_id, processing_status)"
					" VALUES ($1::text, $2::text, $3::text::jsonb, $4::bool, $5::text, $6::text, $7::text, 'processing')"
					" ON CONFLICT (stripe_event_id) DO NOTHING RETURNING id",
	[FIND_PROFILE] = "SELECT auth_user_id, tier FROM public.user_profiles WHERE stripe_customer_id = $1::text FOR NO KEY UPDATE",
	[FIND_PRICE] = "SELECT tier, max_dashboards, max_calendars FROM dashie.stripe_price_tier WHERE price = $1::text",
	[FIND_SUBSCRIPTION] = "SELECT (watermark, watermark_rank) >= ($2::timestamptz, $3::smallint) OR status IN ('canceled', 'incomplete_expired')"
						  " FROM dashie.stripe_subscription WHERE subscription_id = $1::text",
	[FINISH] = "UPDATE public.stripe_webhook_events SET user_id = $2::uuid, old_tier = $3::text, new_tier = $4::text,"
			   " processing_status = $5::text, error_message = $6::text, processed_at = now() WHERE id = $1::uuid",
};

/* Parameters of one statement. */
typedef struct Parameters
{
	int count;
	const char *values[16];
	int lengths[16];
	int formats[16];
} Parameters;

static void
add_field(Parameters *parameters, const Delivery *delivery, int field)
{
	parameters->values[parameters->count] = delivery->value[field];
	parameters->lengths[parameters->count] = delivery->length[field];
	parameters->formats[parameters->count++] = 1;
}

static void
add_text(Parameters *parameters, const char *text)
{
	parameters->values[parameters->count] = text;
	parameters->formats[parameters->count++] = 0;
}

static PGresult *
execute(PGconn *conn, int statement, const Parameters *parameters)
{
	char name[16];

	if (distance > 0)
		usleep(distance);
	snprintf(name, sizeof(name), "s%d", statement);
	return check(conn, PQexecPrepared(conn, name, parameters != NULL ? parameters->count : 0,
									  parameters != NULL ? parameters->values : NULL,
									  parameters != NULL ? parameters->lengths : NULL,
									  parameters != NULL ? parameters->formats : NULL, 0));
}

static bool
is(const Delivery *delivery, int field, const char *text)
{
	return delivery->value[field] != NULL && delivery->length[field] == (int) strlen(text) &&
		   memcmp(delivery->value[field], text, strlen(text)) == 0;
}

/* Field of the one row, NULL for NULL and where there is no row. */
static const char *
got(const PGresult *result, int column)
{
	return PQntuples(result) == 0 || PQgetisnull(result, 0, column) ? NULL : PQgetvalue(result, 0, column);
}

/* What every event is stored with. */
static void
add_event(Parameters *parameters, const Delivery *delivery)
{
	static const int fields[] = {ID, TYPE, PAYLOAD, LIVEMODE, CUSTOMER, SUBSCRIPTION, PAYMENT};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		add_field(parameters, delivery, fields[i]);
}

/* Stores the event; false if it is there. */
static bool
store(PGconn *conn, const Delivery *delivery, const char *user, const char *old_tier, const char *new_tier,
	  const char *status, const char *message)
{
	Parameters parameters = {0};
	PGresult *result;
	bool stored;

	add_event(&parameters, delivery);
	add_text(&parameters, user);
	add_text(&parameters, old_tier);
	add_text(&parameters, new_tier);
	add_text(&parameters, status);
	add_text(&parameters, message);
	result = execute(conn, STORE, &parameters);
	stored = PQntuples(result) == 1;
	PQclear(result);
	return stored;
}

static bool
grants(const Delivery *delivery)
{
	return is(delivery, STATUS, "active") || is(delivery, STATUS, "trialing");
}

static const char *
bought(const PGresult *price, int column)
{
	return price != NULL ? got(price, column) : NULL;
}

/*
 * What the subscription's new state makes of its row and of the profile.  What
 * its price buys stands in three columns of a result, from "first" on; NULL
 * where it grants nothing.
 */
static void
apply_subscription(PGconn *conn, const Delivery *delivery, const char *user, const PGresult *price, int first)
{
	Parameters upsert = {0};
	Parameters profile = {0};

	add_field(&upsert, delivery, SUBSCRIPTION);
	add_field(&upsert, delivery, CUSTOMER);
	add_text(&upsert, user);
	add_field(&upsert, delivery, STATUS);
	add_text(&upsert, bought(price, first));
	if (price != NULL)
		add_field(&upsert, delivery, PRICE);
	else
		add_text(&upsert, NULL);
	add_text(&upsert, bought(price, first + 1));
	add_text(&upsert, bought(price, first + 2));
	add_field(&upsert, delivery, SUBSCRIPTION_CREATED);
	add_field(&upsert, delivery, CREATED);
	add_field(&upsert, delivery, PERIOD_END);
	add_field(&upsert, delivery, TRIAL_END);
	add_field(&upsert, delivery, CANCEL);
	add_field(&upsert, delivery, RANK);
	add_field(&upsert, delivery, ID);
	PQclear(execute(conn, UPSERT, &upsert));

	add_text(&profile, user);
	add_field(&profile, delivery, SUBSCRIPTION);
	add_field(&profile, delivery, STATUS);
	add_text(&profile, bought(price, first));
	add_field(&profile, delivery, CREATED);
	add_text(&profile, bought(price, first + 1));
	add_text(&profile, bought(price, first + 2));
	PQclear(execute(conn, PROFILE, &profile));
}

static void
apply_link(PGconn *conn, const Delivery *delivery, const char *user)
{
	Parameters link = {0};
	Parameters profile = {0};

	add_field(&link, delivery, SUBSCRIPTION);
	add_field(&link, delivery, CUSTOMER);
	add_text(&link, user);
	PQclear(execute(conn, LINK, &link));
	add_text(&profile, user);
	add_field(&profile, delivery, CUSTOMER);
	add_field(&profile, delivery, SUBSCRIPTION);
	PQclear(execute(conn, LINK_PROFILE, &profile));
}

/* One delivery in the client's own statements: as few of them as will do. */
static void
send_statements(PGconn *conn, const Delivery *delivery)
{
	bool subscription = is(delivery, KIND, "subscription");
	bool link = is(delivery, KIND, "link");
	Parameters find = {0};
	PGresult *found;
	const char *user, *tier;
	bool late;

	PQclear(execute(conn, BEGIN, NULL));
	if (link)
		add_field(&find, delivery, USER);
	else
	{
		static const int fields[] = {CUSTOMER, SUBSCRIPTION, CREATED, RANK, PRICE};

		for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
			add_field(&find, delivery, fields[i]);
	}
	found = execute(conn, link ? FIND_NAMED : FIND, &find);
	user = got(found, 0);
	tier = got(found, 1);
	late = subscription && user != NULL && strcmp(got(found, 5), "t") == 0;
	if (user == NULL || (subscription && grants(delivery) && got(found, 2) == NULL))
		die("delivery", "no user, or no price");

	if (!store(conn, delivery, user, (subscription || link) && !late ? tier : NULL,
			   late ? NULL : subscription && grants(delivery) ? got(found, 2) : subscription || link ? tier : NULL,
			   late || is(delivery, KIND, "skip") ? "skipped" : "processed", late ? STALE : NULL))
	{
		PQclear(found);
		PQclear(execute(conn, ROLLBACK, NULL));
		return;
	}
	if (link)
		apply_link(conn, delivery, user);
	else if (subscription && !late)
		apply_subscription(conn, delivery, user, grants(delivery) ? found : NULL, 2);
	PQclear(found);
	PQclear(execute(conn, COMMIT, NULL));
}

/* One delivery as one would write it first: stored, looked up, applied, marked as processed. */
static void
send_plainly(PGconn *conn, const Delivery *delivery)
{
	bool subscription = is(delivery, KIND, "subscription");
	bool link = is(delivery, KIND, "link");
	Parameters parameters[5] = {{0}};
	PGresult *event, *profile, *price = NULL, *known;
	const char *user, *tier;
	bool late = false;

	PQclear(execute(conn, BEGIN, NULL));
	add_event(&parameters[0], delivery);
	event = execute(conn, STORE_FIRST, &parameters[0]);
	if (PQntuples(event) == 0)
	{
		PQclear(event);
		PQclear(execute(conn, ROLLBACK, NULL));
		return;
	}
	add_field(&parameters[1], delivery, link ? USER : CUSTOMER);
	profile = execute(conn, link ? FIND_NAMED : FIND_PROFILE, &parameters[1]);
	user = got(profile, 0);
	tier = got(profile, 1);
	if (user == NULL)
		die("delivery", "no user");
	if (subscription)
	{
		add_field(&parameters[2], delivery, SUBSCRIPTION);
		add_field(&parameters[2], delivery, CREATED);
		add_field(&parameters[2], delivery, RANK);
		known = execute(conn, FIND_SUBSCRIPTION, &parameters[2]);
		late = got(known, 0) != NULL && strcmp(got(known, 0), "t") == 0;
		PQclear(known);
		if (grants(delivery))
		{
			add_field(&parameters[3], delivery, PRICE);
			price = execute(conn, FIND_PRICE, &parameters[3]);
			if (PQntuples(price) == 0)
				die("delivery", "no price");
		}
	}
	if (link)
		apply_link(conn, delivery, user);
	else if (subscription && !late)
		apply_subscription(conn, delivery, user, price, 0);

	add_text(&parameters[4], got(event, 0));
	add_text(&parameters[4], user);
	add_text(&parameters[4], (subscription || link) && !late ? tier : NULL);
	add_text(&parameters[4], late ? NULL : price != NULL ? got(price, 0) : subscription || link ? tier : NULL);
	add_text(&parameters[4], late || is(delivery, KIND, "skip") ? "skipped" : "processed");
	add_text(&parameters[4], late ? STALE : NULL);
	PQclear(execute(conn, FINISH, &parameters[4]));
	PQclear(event);
	PQclear(profile);
	PQclear(price);
	PQclear(execute(conn, COMMIT, NULL));
}

static void
send_call(PGconn *conn, const Delivery *delivery)
{
	Parameters parameters = {0};
	PGresult *result;

	add_field(&parameters, delivery, PAYLOAD);
	add_field(&parameters, delivery, SIGNATURE);
	result = execute(conn, 0, &parameters);
	if (PQntuples(result) != 1)
		die("call", "no answer");
	PQclear(result);
}

static void
prepare(PGconn *conn, const char *way)
{
	static const Oid types[] = {BYTEAOID, TEXTOID};
	char name[16];

	if (strcmp(way, "statements") != 0 && strcmp(way, "plainly") != 0)
	{
		PQclear(check(conn, PQprepare(conn, "s0", way, strstr(way, "$2") != NULL ? 2 : 0, types)));
		return;
	}
	for (int i = 0; i < STATEMENTS; i++)
	{
		snprintf(name, sizeof(name), "s%d", i);
		PQclear(check(conn, PQprepare(conn, name, statements[i], 0, NULL)));
	}
}

/* A worker of the queue; what it cannot have, others are working on. */
static void
drain(PGconn *conn)
{
	bool left;

	do
	{
		PGresult *result = execute(conn, 0, NULL);
		bool idle = atoi(got(result, 0)) == 0;

		PQclear(result);
		left = true;
		if (idle)
		{
			result = check(conn, PQexec(conn, "SELECT 1 FROM public.stripe_webhook_events"
											  " WHERE processing_status IN ('pending', 'failed') LIMIT 1"));
			left = PQntuples(result) > 0;
			PQclear(result);
			usleep(1000);
		}
	} while (left);
}

/* One connection: says over "ready" that it is, and goes when "go" ends. */
static void
run(const char *way, int number, int connections, int ready, int go)
{
	PGconn *conn = PQconnectdb("");
	const char *position = file + COPY_HEADER;
	Delivery delivery;
	char byte = 0;

	if (PQstatus(conn) != CONNECTION_OK)
		die("connection", PQerrorMessage(conn));
	prepare(conn, way);
	if (write(ready, &byte, 1) != 1 || read(go, &byte, 1) < 0)
		die("start", "no");
	if (file == NULL)
		drain(conn);
	while (file != NULL && next_delivery(&position, &delivery))
	{
		uint32_t lane;

		memcpy(&lane, delivery.value[LANE], sizeof(lane));
		if ((int) (ntohl(lane) % connections) != number)
			continue;
		if (strcmp(way, "statements") == 0)
			send_statements(conn, &delivery);
		else if (strcmp(way, "plainly") == 0)
			send_plainly(conn, &delivery);
		else
			send_call(conn, &delivery);
	}
	PQfinish(conn);
	exit(0);
}

int
main(int argc, char **argv)
{
	int connections, status, ready[2], go[2];
	struct timeval begin, end;
	char byte;

	if (argc < 3)
		die("usage", "client WAY CONNECTIONS [FILE]");
	connections = atoi(argv[2]);
	if (getenv("DISTANCE") != NULL)
		distance = atoi(getenv("DISTANCE"));
	if (argc > 3)
		read_file(argv[3]);
	if (pipe(ready) != 0 || pipe(go) != 0)
		die("pipe", "no");
	for (int i = 0; i < connections; i++)
		if (fork() == 0)
		{
			close(go[1]);
			run(argv[1], i, connections, ready[1], go[0]);
		}
	close(ready[1]);
	for (int i = 0; i < connections; i++)
		if (read(ready[0], &byte, 1) != 1)
			die("connections", "not all came up");
	gettimeofday(&begin, NULL);
	close(go[1]);
	while (wait(&status) > 0)
		if (status != 0)
			die("connection", "failed");
	gettimeofday(&end, NULL);
	printf("%.6f\n", (end.tv_sec - begin.tv_sec) + (end.tv_usec - begin.tv_usec) / 1e6);
	return 0;
}
