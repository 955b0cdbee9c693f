/*
 * profile.c
 *		public.user_profiles: whose an event is, and what the profile shows of
 *		the user's subscriptions.
 *
 * The table is the application's, and runs as its owner.  Of its columns only
 * auth_user_id must be there; those that are missing, or of another type, are
 * left out, and a session warns of it once.  Without the table, users are those
 * that events name themselves, and there is nothing to show.
 *
 * Locks, in this order, all until the end of the transaction:
 *
 * 1. The customer (an advisory lock), where an event names the user itself, and
 *    so may make the customer known; and where nobody knows the user, after
 *    which the event looks again.  So of a checkout and an event that waits for
 *    it, the later one sees what the earlier one did: it finds the user, or the
 *    event that waits (attempt.c).
 * 2. The profile's row (FOR NO KEY UPDATE) before anything of the user's is read
 *    or written, so that events of one user are applied one after the other;
 *    without the table, an advisory lock of the user.
 *
 * Who deals with many events in one transaction waits for neither.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"

#include "billing/stripe.h"
#include "common/day.h"
#include "common/query.h"
#include "common/relation.h"

/* Columns that are read, in this order. */
enum
{
	COLUMN_USER = 0,
	COLUMN_CUSTOMER,
	COLUMN_SUBSCRIPTION,
	COLUMN_TIER,
	COLUMN_STATUS,
	COLUMN_STARTED,
	COLUMN_EXPIRES,
	COLUMN_DASHBOARDS,
	COLUMN_CALENDARS,
	COLUMN_UPDATED,
	COLUMNS
};

static const DashieColumn profile_columns[COLUMNS] = {
	{"auth_user_id", UUIDOID, true, 0},
	{"stripe_customer_id", TEXTOID, false, 0},
	{"stripe_subscription_id", TEXTOID, false, 0},
	{"tier", TEXTOID, false, 0},
	{"subscription_status", TEXTOID, false, 0},
	{"tier_started_at", TIMESTAMPTZOID, false, 0},
	{"tier_expires_at", TIMESTAMPTZOID, false, 0},
	{"max_dashboards", INT4OID, false, 0},
	{"max_calendars", INT4OID, false, 0},
	{"updated_at", TIMESTAMPTZOID, false, 0},
};

/* The table while it is worked on, as its owner. */
typedef struct Profiles
{
	Oid relid; /* InvalidOid: the application keeps none */
	char *name;
	DashieColumn columns[COLUMNS];
	Oid user; /* to return to */
	int context;
} Profiles;

/* What is missing is remarked once a session: it is no event's fault. */
static void
report_missing(const Profiles *profiles)
{
	static Oid reported = InvalidOid;
	static int reported_columns = 0;
	int columns = 0;
	StringInfoData missing;

	initStringInfo(&missing);
	for (int i = 0; i < COLUMN_UPDATED; i++)
		if (profiles->columns[i].attnum == InvalidAttrNumber)
		{
			columns |= 1 << i;
			appendStringInfo(&missing, "%s%s", missing.len > 0 ? ", " : "",
							 profiles->columns[i].name);
		}
	if (columns != 0 && (reported != profiles->relid || reported_columns != columns))
		ereport(WARNING, (errmsg("table %s lacks columns that payments set: %s", profiles->name,
								 missing.data),
						  errdetail("Events of Stripe are applied to the others.")));
	reported = profiles->relid;
	reported_columns = columns;
}

static bool
profiles_open(const DashieGuard *guard, Profiles *profiles, AclMode rights)
{
	Relation rel;

	GetUserIdAndSecContext(&profiles->user, &profiles->context);
	profiles->relid = dashie_relation_oid("public", "user_profiles");
	if (!OidIsValid(profiles->relid))
		return false;
	LockRelationOid(profiles->relid, RowExclusiveLock);
	dashie_become_owner_of(guard, profiles->relid);
	rel = dashie_relation_open(profiles->relid, RowExclusiveLock, rights, false);
	memcpy(profiles->columns, profile_columns, sizeof(profile_columns));
	dashie_relation_columns(rel, profiles->columns, COLUMNS);
	relation_close(rel, NoLock);
	profiles->name = dashie_relation_name(profiles->relid);
	report_missing(profiles);
	dashie_query_begin();
	return true;
}

static void
profiles_close(Profiles *profiles)
{
	if (OidIsValid(profiles->relid))
		dashie_query_end();
	SetUserIdAndSecContext(profiles->user, profiles->context);
}

static bool
has(const Profiles *profiles, int column)
{
	return profiles->columns[column].attnum != InvalidAttrNumber;
}

/* SELECT of all columns with one condition on one of them. */
static char *
select_where(const Profiles *profiles, int column, bool lock, bool nowait)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; i < COLUMN_UPDATED; i++)
		appendStringInfo(&sql, "%s %s", i == 0 ? "SELECT" : ",",
						 has(profiles, i) ? profiles->columns[i].name : "NULL");
	appendStringInfo(&sql, " FROM ONLY %s WHERE %s = $1 LIMIT 2", profiles->name,
					 profiles->columns[column].name);
	if (lock)
		appendStringInfo(&sql, " FOR NO KEY UPDATE%s", nowait ? " NOWAIT" : "");
	return sql.data;
}

static int
field_int(int column)
{
	bool isnull;
	Datum value = dashie_field(0, column, &isnull);

	return isnull ? -1 : DatumGetInt32(value);
}

static void
read_profile(const Profiles *profiles, StripeProfile *profile)
{
	bool isnull;
	Datum value;

	memset(profile, 0, sizeof(*profile));
	profile->exists = true;
	profile->max_dashboards = profile->max_calendars = -1;
	profile->user = *DatumGetUUIDP(dashie_field(0, COLUMN_USER + 1, NULL));
	profile->customer = dashie_field_text(0, COLUMN_CUSTOMER + 1);
	profile->subscription = dashie_field_text(0, COLUMN_SUBSCRIPTION + 1);
	profile->tier = dashie_field_text(0, COLUMN_TIER + 1);
	profile->status = dashie_field_text(0, COLUMN_STATUS + 1);
	if (has(profiles, COLUMN_STARTED))
	{
		value = dashie_field(0, COLUMN_STARTED + 1, &isnull);
		profile->tier_started_at = isnull ? 0 : DatumGetTimestampTz(value);
	}
	if (has(profiles, COLUMN_EXPIRES))
	{
		(void) dashie_field(0, COLUMN_EXPIRES + 1, &isnull);
		profile->expires = !isnull;
	}
	if (has(profiles, COLUMN_DASHBOARDS))
		profile->max_dashboards = field_int(COLUMN_DASHBOARDS + 1);
	if (has(profiles, COLUMN_CALENDARS))
		profile->max_calendars = field_int(COLUMN_CALENDARS + 1);
}

static bool
find_by_user(const Profiles *profiles, const pg_uuid_t *user, bool lock, bool nowait,
			 StripeProfile *profile)
{
	Oid types[1] = {UUIDOID};
	Datum values[1] = {UUIDPGetDatum(user)};

	if (dashie_query_planned(select_where(profiles, COLUMN_USER, lock, nowait), 1, types, values,
							 NULL) == 0)
		return false;
	read_profile(profiles, profile);
	return true;
}

static bool
find_by_customer(const Profiles *profiles, const char *customer, bool lock, bool nowait,
				 StripeProfile *profile)
{
	Oid types[1] = {TEXTOID};
	Datum values[1];
	uint64 count;

	if (customer == NULL || !has(profiles, COLUMN_CUSTOMER))
		return false;
	values[0] = CStringGetTextDatum(customer);
	count = dashie_query_planned(select_where(profiles, COLUMN_CUSTOMER, lock, nowait), 1, types,
								 values, NULL);
	if (count > 1 && lock)
		ereport(ERROR, (errcode(ERRCODE_CARDINALITY_VIOLATION),
						errmsg("customer \"%s\" belongs to several profiles", customer),
						errhint("Let one row of %s have it.", profiles->name)));
	if (count == 1)
		read_profile(profiles, profile);
	return count == 1;
}

/*
 * A user that an event names must not take over the customer of another: that
 * name may come from whoever opened a payment link.
 */
static void
reject_stranger(const Profiles *profiles, const StripeProfile *profile, const char *customer)
{
	Oid types[2] = {TEXTOID, UUIDOID};
	Datum values[2];

	if (customer == NULL || !has(profiles, COLUMN_CUSTOMER) ||
		(profile->customer != NULL && strcmp(profile->customer, customer) == 0))
		return;
	values[0] = CStringGetTextDatum(customer);
	values[1] = UUIDPGetDatum(&profile->user);
	if (dashie_query_planned(psprintf("SELECT FROM ONLY %s WHERE stripe_customer_id = $1"
									  " AND auth_user_id <> $2",
									  profiles->name),
							 2, types, values, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("customer \"%s\" belongs to another user than the one that the event names",
						customer)));
}

/*
 * Whose subscription or customer it is, as earlier events said.  The user's
 * deletion leaves the row without a user.
 */
static StripeFound
find_by_earlier(const DashieGuard *guard, const StripeEvent *event, pg_uuid_t *user)
{
	static const Oid columns[] = {UUIDOID};
	Oid relid = dashie_relation_oid("dashie", "stripe_subscription");
	Oid types[2] = {TEXTOID, TEXTOID};
	Datum values[2] = {0};
	char nulls[2] = {' ', ' '};
	StripeFound found = STRIPE_NO_USER;
	Oid saved;
	int context;

	if (!OidIsValid(relid) || (event->subscription == NULL && event->customer == NULL))
		return STRIPE_NO_USER;
	GetUserIdAndSecContext(&saved, &context);
	LockRelationOid(relid, RowExclusiveLock);
	dashie_become_owner_of(guard, relid);
	relation_close(dashie_relation_open(relid, NoLock, ACL_SELECT, false), NoLock);
	if (event->subscription != NULL)
		values[0] = CStringGetTextDatum(event->subscription);
	else
		nulls[0] = 'n';
	if (event->customer != NULL)
		values[1] = CStringGetTextDatum(event->customer);
	else
		nulls[1] = 'n';
	dashie_query_begin();
	if (dashie_query_planned("SELECT user_id FROM ONLY dashie.stripe_subscription"
							 " WHERE subscription_id = $1 OR customer_id = $2"
							 " ORDER BY user_id IS NULL, subscription_id = $1 DESC NULLS LAST"
							 " LIMIT 1",
							 2, types, values, nulls) > 0)
	{
		bool isnull;
		Datum value = dashie_field(0, 1, &isnull);

		dashie_query_types(1, columns);
		found = isnull ? STRIPE_USER_GONE : STRIPE_USER;
		if (!isnull)
			*user = *DatumGetUUIDP(value);
	}
	dashie_query_end();
	SetUserIdAndSecContext(saved, context);
	return found;
}

/* Advisory locks of classes of our own: SQL functions take those of 1 and 2. */
typedef enum LockClass
{
	LOCK_CUSTOMER = 0xda01,
	LOCK_USER
} LockClass;

static void
take_lock(LockClass class, const void *name, int length, bool nowait)
{
	uint64 hash = hash_bytes_extended(name, length, 0);
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (hash >> 32), (uint32) hash, class);
	if (LockAcquire(&tag, ExclusiveLock, false, nowait) == LOCKACQUIRE_NOT_AVAIL)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg(class == LOCK_USER ? "the user is locked" : "the customer is locked")));
}

/* Without profiles: who the event names, or earlier ones did. */
static StripeFound
find_without_profiles(const DashieGuard *guard, const StripeEvent *event, bool lock, bool nowait,
					  StripeProfile *profile)
{
	StripeFound found = STRIPE_USER;

	memset(profile, 0, sizeof(*profile));
	profile->max_dashboards = profile->max_calendars = -1;
	if (event->nusers > 0)
		profile->user = event->users[0];
	else
		found = find_by_earlier(guard, event, &profile->user);
	if (found == STRIPE_USER && lock)
		take_lock(LOCK_USER, profile->user.data, UUID_LEN, nowait);
	return found;
}

static StripeFound
find(const DashieGuard *guard, const StripeEvent *event, bool lock, bool nowait,
	 StripeProfile *profile)
{
	Profiles profiles;
	StripeFound found = STRIPE_NO_USER;
	pg_uuid_t user;

	if (!profiles_open(guard, &profiles, lock ? ACL_SELECT | ACL_UPDATE : ACL_SELECT))
	{
		profiles_close(&profiles);
		return find_without_profiles(guard, event, lock, nowait, profile);
	}
	for (int i = 0; i < event->nusers && found == STRIPE_NO_USER; i++)
		if (find_by_user(&profiles, &event->users[i], lock, nowait, profile))
		{
			if (lock)
				reject_stranger(&profiles, profile, event->customer);
			found = STRIPE_USER;
		}
	if (found == STRIPE_NO_USER &&
		find_by_customer(&profiles, event->customer, lock, nowait, profile))
		found = STRIPE_USER;
	profiles_close(&profiles);
	if (found == STRIPE_USER)
		return found;

	found = find_by_earlier(guard, event, &user);
	if (found == STRIPE_USER)
	{
		profiles_open(guard, &profiles, lock ? ACL_SELECT | ACL_UPDATE : ACL_SELECT);
		if (!find_by_user(&profiles, &user, lock, nowait, profile))
			found = STRIPE_NO_USER;
		profiles_close(&profiles);
	}
	return found;
}

/*
 * stripe_find_profile finds the user of an event: whom it names, else whose
 * customer it is, else whose earlier events said it was.  With lock, the
 * profile is the caller's until the end of the transaction, and evidence that
 * contradicts itself is an error; with nowait, so is a profile or a customer
 * that is taken (55P03).
 */
StripeFound
stripe_find_profile(const DashieGuard *guard, const StripeEvent *event, bool lock, bool nowait,
					StripeProfile *profile)
{
	bool links = lock && event->nusers > 0;
	StripeFound found;

	if (links && event->customer != NULL)
		take_lock(LOCK_CUSTOMER, event->customer, strlen(event->customer), nowait);
	found = find(guard, event, lock, nowait, profile);
	if (found != STRIPE_NO_USER || links || event->customer == NULL)
		return found;
	take_lock(LOCK_CUSTOMER, event->customer, strlen(event->customer), nowait);
	return find(guard, event, lock, nowait, profile);
}

/* The SET list of an UPDATE, as it grows. */
typedef struct Changes
{
	const Profiles *profiles;
	StringInfoData sql;
	int count;
	Oid types[COLUMNS + 1];
	Datum values[COLUMNS + 1];
	char nulls[COLUMNS + 1];
} Changes;

static void
change(Changes *changes, int column, Oid type, Datum value, bool isnull)
{
	if (!has(changes->profiles, column))
		return;
	changes->types[changes->count] = type;
	changes->values[changes->count] = value;
	changes->nulls[changes->count] = isnull ? 'n' : ' ';
	changes->count++;
	appendStringInfo(&changes->sql, "%s%s = $%d", changes->count == 1 ? "" : ", ",
					 changes->profiles->columns[column].name, changes->count);
}

static void
change_text(Changes *changes, int column, char **shown, char *wanted)
{
	if (wanted == NULL || (*shown != NULL && strcmp(*shown, wanted) == 0))
		return;
	*shown = wanted;
	change(changes, column, TEXTOID, CStringGetTextDatum(wanted), false);
}

static void
change_int(Changes *changes, int column, int *shown, int wanted)
{
	if (wanted < 0 || *shown == wanted)
		return;
	*shown = wanted;
	change(changes, column, INT4OID, Int32GetDatum(wanted), false);
}

/* What the current subscription gives: tier, limits, and no end. */
static void
change_tier(Changes *changes, StripeProfile *profile, const StripeLife *before,
			const StripeLife *after)
{
	bool same = profile->tier != NULL && strcmp(profile->tier, after->tier) == 0;
	TimestampTz since = after->tier_since != 0 ? STRIPE_TIMESTAMP(after->tier_since) : 0;
	bool ours = before->tier_since != 0 && before->tier_since != after->tier_since &&
				profile->tier_started_at == STRIPE_TIMESTAMP(before->tier_since);

	/* an event that came late may show that the present tier began earlier */
	if (since != 0 && ((after->granted && !same) || ours))
	{
		profile->tier_started_at = since;
		change(changes, COLUMN_STARTED, TIMESTAMPTZOID, TimestampTzGetDatum(since), false);
	}
	if (!after->granted)
		return;
	change_text(changes, COLUMN_TIER, &profile->tier, after->tier);
	if (profile->expires)
	{
		profile->expires = false;
		change(changes, COLUMN_EXPIRES, TIMESTAMPTZOID, (Datum) 0, true);
	}
	change_int(changes, COLUMN_DASHBOARDS, &profile->max_dashboards, after->grant.max_dashboards);
	change_int(changes, COLUMN_CALENDARS, &profile->max_calendars, after->grant.max_calendars);
}

static bool
run_update(Changes *changes, const StripeProfile *profile)
{
	int nchanges = changes->count;

	if (nchanges == 0)
		return false;
	change(changes, COLUMN_UPDATED, TIMESTAMPTZOID, TimestampTzGetDatum(dashie_now()), false);
	changes->types[changes->count] = UUIDOID;
	changes->values[changes->count] = UUIDPGetDatum(&profile->user);
	changes->nulls[changes->count] = ' ';
	dashie_query_planned(psprintf("UPDATE ONLY %s SET %s WHERE auth_user_id = $%d",
								  changes->profiles->name, changes->sql.data, changes->count + 1),
						 changes->count + 1, changes->types, changes->values, changes->nulls);
	return true;
}

/*
 * stripe_profile_update makes the profile show what the user's subscriptions
 * come to; true if anything changed.
 */
bool
stripe_profile_update(const DashieGuard *guard, StripeProfile *profile, const StripeLife *before,
					  const StripeLife *after)
{
	Profiles profiles;
	Changes changes = {.profiles = &profiles};
	const StripeSubscription *current;
	bool changed;

	if (!profile->exists || after->current < 0)
		return false;
	current = &after->subs[after->current];
	profiles_open(guard, &profiles, ACL_SELECT | ACL_UPDATE);
	initStringInfo(&changes.sql);
	change_text(&changes, COLUMN_CUSTOMER, &profile->customer, current->customer);
	change_text(&changes, COLUMN_SUBSCRIPTION, &profile->subscription, current->id);
	if (after->shown >= 0)
		change_text(&changes, COLUMN_STATUS, &profile->status,
					unconstify(char *, after->subs[after->shown].status->name));
	if (after->tier != NULL)
		change_tier(&changes, profile, before, after);
	changed = run_update(&changes, profile);
	profiles_close(&profiles);
	return changed;
}

/* A profile that has no subscription at all: its customer, and that it is over. */
void
stripe_profile_set(const DashieGuard *guard, StripeProfile *profile, char *customer, char *status)
{
	Profiles profiles;
	Changes changes = {.profiles = &profiles};

	if (!profile->exists)
		return;
	profiles_open(guard, &profiles, ACL_SELECT | ACL_UPDATE);
	initStringInfo(&changes.sql);
	change_text(&changes, COLUMN_CUSTOMER, &profile->customer, customer);
	change_text(&changes, COLUMN_STATUS, &profile->status, status);
	(void) run_update(&changes, profile);
	profiles_close(&profiles);
}
