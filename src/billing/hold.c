/*
 * hold.c
 *		Payment records that are kept beyond 7 years: dashie.legal_hold(),
 *		dashie.release_legal_hold().
 *
 * A hold is a row of dashie.legal_hold, the owner's data.  Retention leaves the
 * rows out that a hold covers (DASHIE_NOT_ON_HOLD), and the guard refuses to
 * delete them (dashie_hold_on()).  The guard runs for whoever deletes, so it
 * reads the table through the access method, without rights.
 *
 * Locks are those of an INSERT, an UPDATE or a SELECT.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "billing/audit.h"
#include "billing/billing.h"
#include "common/application.h"
#include "common/day.h"
#include "common/owner.h"
#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_legal_hold);
PG_FUNCTION_INFO_V1(dashie_release_legal_hold);

/* A payment record, as far as holds look at it. */
typedef struct HeldRow
{
	const pg_uuid_t *user; /* NULL: unknown */
	text *customer;		   /* NULL: unknown */
	TimestampTz created;
} HeldRow;

enum
{
	HOLD_NUMBER,
	HOLD_USER,
	HOLD_CUSTOMERS,
	HOLD_FROM,
	HOLD_TO,
	HOLD_RELEASED,
	HOLD_COLUMNS
};

static bool
contains(ArrayType *customers, const text *customer)
{
	Datum *values;
	bool *nulls;
	int count;

	deconstruct_array(customers, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &count);
	for (int i = 0; i < count; i++)
		if (!nulls[i] && DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID, values[i],
															  PointerGetDatum(customer))))
			return true;
	return false;
}

/* Whether the hold under the scan covers the row: the same rule as DASHIE_NOT_ON_HOLD. */
static bool
covers(DashieScan *scan, DashieColumn *columns, const HeldRow *row)
{
	const pg_uuid_t *user = dashie_scan_uuid(scan, &columns[HOLD_USER]);
	bool isnull;
	Datum value;

	(void) dashie_scan_get(scan, &columns[HOLD_RELEASED], &isnull);
	if (!isnull)
		return false;
	if (user != NULL && (row->user == NULL || memcmp(user, row->user, sizeof(pg_uuid_t)) != 0))
	{
		value = dashie_scan_get(scan, &columns[HOLD_CUSTOMERS], &isnull);
		if (isnull || row->customer == NULL || !contains(DatumGetArrayTypeP(value), row->customer))
			return false;
	}
	value = dashie_scan_get(scan, &columns[HOLD_FROM], &isnull);
	if (!isnull && !DATE_IS_NOBEGIN(DatumGetDateADT(value)) &&
		row->created < dashie_audit_day_start(DatumGetDateADT(value)))
		return false;
	value = dashie_scan_get(scan, &columns[HOLD_TO], &isnull);
	return isnull || DATE_IS_NOEND(DatumGetDateADT(value)) ||
		   row->created < dashie_audit_day_start(DatumGetDateADT(value) + 1);
}

/* The field of that name, if the row has one of that type. */
static Datum
field(TupleDesc desc, HeapTuple tuple, const char *name, Oid type, bool *isnull)
{
	int attnum = SPI_fnumber(desc, name);

	*isnull = true;
	if (attnum <= 0 || TupleDescAttr(desc, attnum - 1)->atttypid != type)
		return (Datum) 0;
	return heap_getattr(tuple, attnum, desc, isnull);
}

/* The table of holds, opened without rights; NULL if there is none. */
static Relation
open_holds(DashieColumn *columns)
{
	static const DashieColumn wanted[HOLD_COLUMNS] = {{"number", INT8OID, true, 0},
													  {"user_id", UUIDOID, true, 0},
													  {"customer_ids", TEXTARRAYOID, true, 0},
													  {"from", DATEOID, true, 0},
													  {"to", DATEOID, true, 0},
													  {"released_at", TIMESTAMPTZOID, true, 0}};
	Oid relid = dashie_relation_oid("dashie", "legal_hold");
	Relation rel = OidIsValid(relid) ? try_table_open(relid, AccessShareLock) : NULL;

	if (rel == NULL)
		return NULL;
	if (rel->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"dashie.legal_hold\" is not a plain table")));
	memcpy(columns, wanted, sizeof(wanted));
	dashie_relation_columns(rel, columns, HOLD_COLUMNS);
	return rel;
}

/* dashie_hold_any tells whether there is a hold that was not released. */
bool
dashie_hold_any(void)
{
	DashieColumn columns[HOLD_COLUMNS];
	Relation rel = open_holds(columns);
	DashieScan *scan;
	bool found = false;

	if (rel == NULL)
		return false;
	scan = dashie_scan_latest(rel);
	while (!found && dashie_scan_next(scan))
		(void) dashie_scan_get(scan, &columns[HOLD_RELEASED], &found);
	dashie_scan_end(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * dashie_hold_on returns the number of a hold that covers a row of
 * stripe_webhook_events, or 0.
 */
int64
dashie_hold_on(TupleDesc desc, HeapTuple tuple)
{
	DashieColumn columns[HOLD_COLUMNS];
	Relation rel = open_holds(columns);
	HeldRow row = {0};
	DashieScan *scan;
	Datum value;
	bool isnull;
	int64 number = 0;

	if (rel == NULL)
		return 0;
	row.created = DatumGetTimestampTz(field(desc, tuple, "created_at", TIMESTAMPTZOID, &isnull));
	value = field(desc, tuple, "user_id", UUIDOID, &isnull);
	row.user = isnull ? NULL : DatumGetUUIDP(value);
	value = field(desc, tuple, "customer_id", TEXTOID, &isnull);
	row.customer = isnull ? NULL : DatumGetTextPP(value);

	scan = dashie_scan_latest(rel);
	while (number == 0 && dashie_scan_next(scan))
		if (covers(scan, columns, &row))
			number = DatumGetInt64(dashie_scan_get(scan, &columns[HOLD_NUMBER], &isnull));
	dashie_scan_end(scan);
	table_close(rel, AccessShareLock);
	return number;
}

/* Locks a table, which is to be one, and makes its owner the current user. */
static void
become_owner_of(const DashieGuard *guard, Oid relid, LOCKMODE lockmode)
{
	LockRelationOid(relid, lockmode);
	dashie_become_owner_of(guard, relid);
	relation_close(dashie_relation_open(relid, lockmode, ACL_SELECT, false), NoLock);
}

/* dashie.legal_hold, if it is there, as its owner. */
static void
become_owner_of_holds(const DashieGuard *guard)
{
	Oid relid = dashie_relation_oid("dashie", "legal_hold");

	if (!OidIsValid(relid))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"dashie.legal_hold\" does not exist"),
						errhint("Run SELECT dashie.enable('stripe_webhook_events').")));
	become_owner_of(guard, relid, RowExclusiveLock);
}

/*
 * auth.users belongs to others than the extension's owner, who may be a
 * superuser: so it is read through the access method.
 */
static void
require_user(const pg_uuid_t *user)
{
	DashieColumn column = {"id", UUIDOID, true, 0};
	Relation rel = dashie_relation_open(dashie_relation_oid("auth", "users"), AccessShareLock,
										ACL_SELECT, false);
	DashieScan *scan;
	bool found = false;

	dashie_relation_columns(rel, &column, 1);
	scan = dashie_scan_latest(rel);
	while (!found && dashie_scan_next(scan))
	{
		const pg_uuid_t *id = dashie_scan_uuid(scan, &column);

		found = id != NULL && memcmp(id, user, sizeof(pg_uuid_t)) == 0;
	}
	dashie_scan_end(scan);
	relation_close(rel, AccessShareLock);
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("user %s does not exist",
						DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(user))))));
}

/* The customer that the user's profile shows, or NULL; read like auth.users. */
static char *
profile_customer(const pg_uuid_t *user)
{
	DashieColumn columns[] = {{"auth_user_id", UUIDOID, true, 0},
							  {"stripe_customer_id", TEXTOID, true, 0}};
	Oid relid = dashie_application_table("user_profiles", columns, lengthof(columns));
	Relation rel;
	DashieScan *scan;
	char *customer = NULL;

	if (!OidIsValid(relid))
		return NULL;
	rel = dashie_relation_open(relid, AccessShareLock, ACL_SELECT, false);
	dashie_relation_columns(rel, columns, lengthof(columns));
	scan = dashie_scan_latest(rel);
	while (customer == NULL && dashie_scan_next(scan))
	{
		const pg_uuid_t *id = dashie_scan_uuid(scan, &columns[0]);
		bool isnull;
		Datum value;

		if (id == NULL || memcmp(id, user, sizeof(pg_uuid_t)) != 0)
			continue;
		value = dashie_scan_get(scan, &columns[1], &isnull);
		if (isnull)
			break;
		customer = TextDatumGetCString(value);
	}
	dashie_scan_end(scan);
	relation_close(rel, AccessShareLock);
	return customer;
}

/*
 * The customers that a user was with Stripe, as a text[]: by these their rows
 * are known when the user is gone.
 */
static Datum
customers_of(Datum user, const char *profile, Oid events, bool *isnull)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid types[2] = {UUIDOID, TEXTOID};
	Datum values[2] = {user, (Datum) 0};
	char nulls[2] = {' ', 'n'};
	Datum result;

	if (profile != NULL)
	{
		values[1] = CStringGetTextDatum(profile);
		nulls[1] = ' ';
	}
	dashie_query_begin();
	dashie_query(psprintf("SELECT array_agg(DISTINCT x.customer::text) FROM ("
						  "SELECT e.customer_id FROM ONLY %s AS e WHERE e.user_id = $1"
						  " UNION ALL SELECT $2) AS x (customer) WHERE x.customer IS NOT NULL",
						  dashie_relation_name(events)),
				 2, types, values, nulls);
	result = dashie_field(0, 1, isnull);
	if (!*isnull)
	{
		MemoryContext spi = MemoryContextSwitchTo(caller);

		result = PointerGetDatum(DatumGetArrayTypePCopy(result));
		MemoryContextSwitchTo(spi);
	}
	dashie_query_end();
	return result;
}

/* SQL: dashie.legal_hold(reason text, user_id uuid, "from" date, "to" date) */
Datum
dashie_legal_hold(PG_FUNCTION_ARGS)
{
	Oid types[] = {TEXTOID, UUIDOID, TEXTARRAYOID, DATEOID, DATEOID, TEXTOID, TIMESTAMPTZOID};
	Datum values[lengthof(types)] = {0};
	char nulls[lengthof(types) + 1] = "       ";
	DashieGuard guard;
	Oid user;
	int context;
	Oid events;
	char *customer;
	bool isnull = true;
	int64 number;

	dashie_reject_null(fcinfo, 0, "reason");
	if (VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(0)) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"reason\" must not be empty: \"\"")));
	if (PG_ARGISNULL(1) && PG_ARGISNULL(2) && PG_ARGISNULL(3))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a hold needs a user or a period: user_id, from and to are NULL")));
	for (int i = 2; i <= 3; i++)
		if (!PG_ARGISNULL(i))
			values[i + 1] =
				DateADTGetDatum(dashie_day_argument(i == 2 ? "from" : "to", DASHIE_ARG(i)));
	if (!PG_ARGISNULL(2) && !PG_ARGISNULL(3) && PG_GETARG_DATEADT(2) > PG_GETARG_DATEADT(3))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"from\" (%s) must not be after \"to\" (%s)",
							   dashie_day_text(PG_GETARG_DATEADT(2)),
							   dashie_day_text(PG_GETARG_DATEADT(3)))));

	dashie_enter(&guard);
	GetUserIdAndSecContext(&user, &context);
	events = dashie_enabled_oid_required("stripe_webhook_events");
	if (!PG_ARGISNULL(1))
	{
		values[1] = PG_GETARG_DATUM(1);
		require_user(DatumGetUUIDP(values[1]));
		customer = profile_customer(DatumGetUUIDP(values[1]));
		become_owner_of(&guard, events, AccessShareLock);
		values[2] = customers_of(values[1], customer, events, &isnull);
		SetUserIdAndSecContext(user, context);
	}
	nulls[1] = PG_ARGISNULL(1) ? 'n' : ' ';
	nulls[2] = isnull ? 'n' : ' ';
	nulls[3] = PG_ARGISNULL(2) ? 'n' : ' ';
	nulls[4] = PG_ARGISNULL(3) ? 'n' : ' ';
	values[0] = PG_GETARG_DATUM(0);
	values[5] = CStringGetTextDatum(GetUserNameFromId(guard.caller, false));
	values[6] = TimestampTzGetDatum(dashie_now());

	become_owner_of_holds(&guard);
	dashie_query_begin();
	dashie_query("INSERT INTO dashie.legal_hold"
				 " (reason, user_id, customer_ids, \"from\", \"to\", placed_by, placed_at)"
				 " VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING number::bigint",
				 lengthof(types), types, values, nulls);
	number = DatumGetInt64(dashie_field(0, 1, NULL));
	dashie_query_end();
	dashie_leave(&guard);
	PG_RETURN_INT64(number);
}

/* SQL: dashie.release_legal_hold(number bigint) */
Datum
dashie_release_legal_hold(PG_FUNCTION_ARGS)
{
	Oid types[] = {INT8OID, TEXTOID, TIMESTAMPTZOID};
	Datum values[lengthof(types)];
	DashieGuard guard;

	dashie_reject_null(fcinfo, 0, "number");
	dashie_enter(&guard);
	(void) dashie_enabled_oid_required("stripe_webhook_events");
	become_owner_of_holds(&guard);
	values[0] = PG_GETARG_DATUM(0);
	values[1] = CStringGetTextDatum(GetUserNameFromId(guard.caller, false));
	values[2] = TimestampTzGetDatum(dashie_now());
	dashie_query_begin();
	if (dashie_query("UPDATE dashie.legal_hold SET released_by = $2, released_at = $3"
					 " WHERE number = $1 AND released_at IS NULL",
					 lengthof(types), types, values, NULL) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("there is no legal hold " INT64_FORMAT " to release",
							   DatumGetInt64(values[0])),
						errhint("SELECT * FROM dashie.legal_hold lists them.")));
	dashie_query_end();
	dashie_leave(&guard);
	PG_RETURN_VOID();
}
