/*
 * health.c
 *		How payments are doing: view dashie.billing_health, and
 *		dashie.trial_expirations().
 *
 * Called by the extension's owner or a role with its rights.  Each table is
 * read as its owner, with the locks of a SELECT; what belongs to a table that
 * is missing, or that lacks the columns, is NULL.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "common/application.h"
#include "common/day.h"
#include "common/owner.h"
#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "common/setting.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_billing_health);
PG_FUNCTION_INFO_V1(dashie_trial_expirations);

enum
{
	HEALTH_QUEUE_DEPTH,
	HEALTH_QUEUE_LAG,
	HEALTH_FAILED,
	HEALTH_DEAD,
	HEALTH_FAILURES,
	HEALTH_UNKNOWN_PRICES,
	HEALTH_PAID_WITHOUT_SUBSCRIPTION,
	HEALTH_SUBSCRIPTIONS_WITHOUT_PROFILE,
	HEALTH_LAST_EVENT,
	HEALTH_DAYS_SINCE,
	HEALTH_COLUMNS
};

typedef struct Health
{
	const DashieGuard *guard;
	MemoryContext context; /* where the answer's values live */
	Oid user;
	int user_context;
	Datum values[HEALTH_COLUMNS];
	bool nulls[HEALTH_COLUMNS];
} Health;

/* Becomes the owner of a table in order to read it; false if it is none, or lacks a column. */
static bool
enter_table(Health *health, Oid relid, const DashieColumn *columns, int ncolumns)
{
	if (!OidIsValid(relid) || get_rel_relkind(relid) != RELKIND_RELATION)
		return false;
	LockRelationOid(relid, AccessShareLock);
	for (int i = 0; i < ncolumns; i++)
	{
		AttrNumber attnum = get_attnum(relid, columns[i].name);

		if (attnum == InvalidAttrNumber || get_atttype(relid, attnum) != columns[i].type)
			return false;
	}
	dashie_become_owner_of(health->guard, relid);
	relation_close(dashie_relation_open(relid, NoLock, ACL_SELECT, false), NoLock);
	dashie_query_begin();
	return true;
}

static void
leave_table(Health *health)
{
	dashie_query_end();
	SetUserIdAndSecContext(health->user, health->user_context);
}

/* A field of the one row of the last query, kept beyond it. */
static Datum
keep(const Health *health, int column, Oid type, bool *isnull)
{
	Datum value = dashie_field(0, column, isnull);
	MemoryContext old;
	int16 length;
	bool byval;

	if (*isnull)
		return (Datum) 0;
	get_typlenbyval(type, &length, &byval);
	old = MemoryContextSwitchTo(health->context);
	value = datumCopy(value, byval, length);
	MemoryContextSwitchTo(old);
	return value;
}

/*
 * Reasons of failures are counted without the names that they quote, which
 * differ from event to event; so that 'unknown price of subscription "sub_1":
 * "price_a"' is one reason, and price_a what is to be mapped.
 */
#define EVENTS_QUERY                                                                              \
	"SELECT q.depth, CASE WHEN q.depth > 0 THEN greatest($1 - q.oldest, interval '0') END, "      \
	"q.failed,"                                                                                   \
	" q.dead,"                                                                                    \
	" coalesce((SELECT jsonb_object_agg(r.reason, r.n) FROM ("                                    \
	"SELECT regexp_replace(coalesce(f.error_message, 'unknown'), '\"[^\"]*\"', '\"...\"', 'g') "  \
	"AS reason,"                                                                                  \
	" count(*) AS n FROM ONLY %1$s AS f WHERE f.processing_status IN ('failed', 'dead')"          \
	" GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 50) AS r), '{}'),"                                      \
	" (SELECT array_agg(DISTINCT m[1] ORDER BY m[1]) FROM ONLY %1$s AS f,"                        \
	" LATERAL regexp_matches(regexp_replace(f.error_message, '^[^:]*:', ''),"                     \
	" '\"([^\"]+)\"', 'g') AS m"                                                                  \
	" WHERE f.processing_status IN ('failed', 'dead') AND f.error_message LIKE 'unknown "         \
	"price%%'),"                                                                                  \
	" (SELECT max(e.created_at) FROM ONLY %1$s AS e WHERE isfinite(e.created_at)),"               \
	" (SELECT array_agg(DISTINCT e.subscription_id) FROM ONLY %1$s AS e"                          \
	" WHERE e.processing_status = 'pending' AND e.user_id IS NULL AND e.subscription_id IS NOT "  \
	"NULL)"                                                                                       \
	" FROM (SELECT count(*) FILTER (WHERE e.processing_status <> 'dead') AS depth,"               \
	" min(e.created_at) FILTER (WHERE e.processing_status <> 'dead' AND isfinite(e.created_at)) " \
	"AS oldest,"                                                                                  \
	" count(*) FILTER (WHERE e.processing_status = 'failed') AS failed,"                          \
	" count(*) FILTER (WHERE e.processing_status = 'dead') AS dead FROM ONLY %1$s AS e"           \
	" WHERE e.processing_status IN ('pending', 'processing', 'failed', 'dead')) AS q"

/* What the events tell; returns the subscriptions that wait for a user, as a text[] or NULL. */
static Datum
look_at_events(Health *health, Oid events)
{
	static const Oid types[] = {INT8OID,  INTERVALOID,	INT8OID,		INT8OID,
								JSONBOID, TEXTARRAYOID, TIMESTAMPTZOID, TEXTARRAYOID};
	static const int targets[] = {HEALTH_QUEUE_DEPTH, HEALTH_QUEUE_LAG, HEALTH_FAILED,
								  HEALTH_DEAD,		  HEALTH_FAILURES,	HEALTH_UNKNOWN_PRICES,
								  HEALTH_LAST_EVENT};
	Oid now_type = TIMESTAMPTZOID;
	Datum now = TimestampTzGetDatum(dashie_now());
	Datum waiting;
	bool isnull;

	if (!enter_table(health, events, NULL, 0))
		return (Datum) 0;
	dashie_query(psprintf(EVENTS_QUERY, dashie_relation_name(events)), 1, &now_type, &now, NULL);
	dashie_query_types(lengthof(types), types);
	for (int i = 0; i < lengthof(targets); i++)
		health->values[targets[i]] = keep(health, i + 1, types[i], &health->nulls[targets[i]]);
	waiting = keep(health, lengthof(types), TEXTARRAYOID, &isnull);
	leave_table(health);

	if (!health->nulls[HEALTH_LAST_EVENT])
	{
		TimestampTz last = DatumGetTimestampTz(health->values[HEALTH_LAST_EVENT]);

		health->values[HEALTH_DAYS_SINCE] =
			Float8GetDatum(Max(0.0, (double) (DatumGetTimestampTz(now) - last) / USECS_PER_DAY));
		health->nulls[HEALTH_DAYS_SINCE] = false;
	}
	return isnull ? (Datum) 0 : waiting;
}

/* Subscriptions that have not ended, and their users, as arrays; false if they are not known. */
static bool
look_at_subscriptions(Health *health, Datum *names, Datum *users, bool *empty)
{
	static const DashieColumn columns[] = {{"subscription_id", TEXTOID, true, 0},
										   {"user_id", UUIDOID, true, 0},
										   {"status", TEXTOID, true, 0}};
	bool isnull;

	if (!enter_table(health, dashie_relation_oid("dashie", "stripe_subscription"), columns,
					 lengthof(columns)))
		return false;
	dashie_query("SELECT array_agg(s.subscription_id), array_agg(s.user_id)"
				 " FROM ONLY dashie.stripe_subscription AS s"
				 " WHERE s.status NOT IN ('canceled', 'incomplete_expired')",
				 0, NULL, NULL, NULL);
	*names = keep(health, 1, TEXTARRAYOID, empty);
	*users = keep(health, 2, UUIDARRAYOID, &isnull);
	leave_table(health);
	return true;
}

static void
look_at_profiles(Health *health, Datum waiting)
{
	static const DashieColumn paid[] = {{"auth_user_id", UUIDOID, true, 0},
										{"tier", TEXTOID, true, 0},
										{"stripe_subscription_id", TEXTOID, true, 0}};
	Oid profiles = dashie_relation_oid("public", "user_profiles");
	Oid types[] = {TEXTARRAYOID, UUIDARRAYOID, TEXTARRAYOID};
	Datum values[lengthof(types)] = {0};
	char nulls[lengthof(types) + 1] = "   ";
	bool empty;
	bool known = look_at_subscriptions(health, &values[0], &values[1], &empty);

	if (!enter_table(health, profiles, paid, lengthof(paid)))
		return;
	dashie_query(psprintf("SELECT count(*) FROM ONLY %s AS p WHERE p.tier IN ('basic', 'pro')"
						  " AND p.stripe_subscription_id IS NULL",
						  dashie_relation_name(profiles)),
				 0, NULL, NULL, NULL);
	health->values[HEALTH_PAID_WITHOUT_SUBSCRIPTION] =
		keep(health, 1, INT8OID, &health->nulls[HEALTH_PAID_WITHOUT_SUBSCRIPTION]);
	if (known)
	{
		nulls[0] = nulls[1] = empty ? 'n' : ' ';
		nulls[2] = waiting == (Datum) 0 ? 'n' : ' ';
		values[2] = waiting;
		dashie_query(psprintf("SELECT count(DISTINCT s.name) FROM ("
							  "SELECT u.name, u.user_id FROM unnest($1, $2) AS u (name, user_id)"
							  " UNION ALL SELECT w.name, NULL FROM unnest($3) AS w (name))"
							  " AS s (name, user_id) WHERE NOT EXISTS"
							  " (SELECT FROM ONLY %s AS p WHERE p.auth_user_id = s.user_id)",
							  dashie_relation_name(profiles)),
					 lengthof(types), types, values, nulls);
		health->values[HEALTH_SUBSCRIPTIONS_WITHOUT_PROFILE] =
			keep(health, 1, INT8OID, &health->nulls[HEALTH_SUBSCRIPTIONS_WITHOUT_PROFILE]);
	}
	leave_table(health);
}

/* The one row of view dashie.billing_health. */
Datum
dashie_billing_health(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	DashieRows rows;
	Health health = {.guard = &guard, .context = CurrentMemoryContext};
	Datum waiting;

	dashie_rows_begin(fcinfo, &rows);
	dashie_enter(&guard);
	GetUserIdAndSecContext(&health.user, &health.user_context);
	memset(health.nulls, true, sizeof(health.nulls));
	waiting = look_at_events(&health, dashie_enabled_oid_required("stripe_webhook_events"));
	look_at_profiles(&health, waiting);
	dashie_rows_put(&rows, health.values, health.nulls);
	dashie_leave(&guard);
	return (Datum) 0;
}

/* SQL: dashie.trial_expirations(within interval) */
Datum
dashie_trial_expirations(PG_FUNCTION_ARGS)
{
	static const DashieColumn columns[] = {{"auth_user_id", UUIDOID, true, 0},
										   {"tier", TEXTOID, true, 0},
										   {"tier_started_at", TIMESTAMPTZOID, true, 0},
										   {"tier_expires_at", TIMESTAMPTZOID, true, 0}};
	Oid types[] = {TIMESTAMPTZOID, INTERVALOID, INTERVALOID, TEXTOID};
	Datum values[lengthof(types)];
	Oid profiles = dashie_relation_oid("public", "user_profiles");
	Health health = {0};
	DashieGuard guard;
	DashieRows rows;
	Interval *within;
	Interval trial;
	uint64 count;

	dashie_reject_null(fcinfo, 0, "within");
	within = PG_GETARG_INTERVAL_P(0);
	if (within->month < 0 || within->day < 0 || within->time < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"within\" must not be negative: %s",
						DatumGetCString(DirectFunctionCall1(interval_out, PG_GETARG_DATUM(0))))));

	dashie_rows_begin(fcinfo, &rows);
	dashie_enter(&guard);
	health.guard = &guard;
	GetUserIdAndSecContext(&health.user, &health.user_context);
	trial = dashie_trial_length();
	if (!enter_table(&health, profiles, columns, lengthof(columns)))
	{
		ereport(NOTICE, (errmsg("trials are not known: there is no table public.user_profiles with "
								"auth_user_id, tier, tier_started_at and tier_expires_at")));
		dashie_leave(&guard);
		return (Datum) 0;
	}
	values[0] = TimestampTzGetDatum(dashie_now());
	values[1] = PG_GETARG_DATUM(0);
	values[2] = IntervalPGetDatum(&trial);
	/* days are those of the configured zone, whatever the session's */
	values[3] = CStringGetTextDatum(dashie_setting_text("timezone"));
	count = dashie_query(
		psprintf(
			"SELECT t.user_id, t.expires_at, t.expires_at - $1 FROM ("
			"SELECT p.auth_user_id, coalesce(p.tier_expires_at,"
			" (p.tier_started_at AT TIME ZONE $4 + $3) AT TIME ZONE $4)"
			" FROM ONLY %s AS p WHERE p.tier = 'trial' AND isfinite(coalesce(p.tier_expires_at,"
			" p.tier_started_at))) AS t (user_id, expires_at)"
			" WHERE t.expires_at > $1 AND t.expires_at <= ($1 AT TIME ZONE $4 + $2)"
			" AT TIME ZONE $4 ORDER BY t.expires_at, t.user_id",
			dashie_relation_name(profiles)),
		lengthof(types), types, values, NULL);
	for (uint64 i = 0; i < count; i++)
	{
		Datum row[3];
		bool nulls[3];

		for (int j = 0; j < 3; j++)
			row[j] = dashie_field(i, j + 1, &nulls[j]);
		dashie_rows_put(&rows, row, nulls);
	}
	leave_table(&health);
	dashie_leave(&guard);
	return (Datum) 0;
}
