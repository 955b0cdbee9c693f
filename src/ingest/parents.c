/*
 * parents.c
 *		The rows that events refer to: user and session, checked once a batch.
 *
 * A declared foreign key looks its parent up for each row, through a trigger
 * and SQL.  The events of a batch have one user and one session, so each is
 * looked up once, and locked as the key would: FOR KEY SHARE, to the end of
 * the transaction.  A delete of the parent waits for us, or we for it and then
 * find it gone: no orphan either way.  The lock is taken with the table access
 * method, for which the owner of widget_analytics needs no right on the
 * parent; a foreign key needs none either.
 *
 * Where the table has foreign keys of another shape, the batch goes the
 * ordinary way, and PostgreSQL checks them.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "common/application.h"
#include "common/compat.h"
#include "common/relation.h"
#include "ingest/ingest.h"

/* PostgreSQL's own advisory locks have 1 and 2 here. */
#define USER_LOCK_CLASS 3

/* A table of parents, with the index that its key is found by. */
typedef struct ParentTable
{
	Relation rel;
	Relation index;
	AttrNumber key;
	AttrNumber owner; /* of a session: its user; 0 for users */
	TupleTableSlot *slot;
} ParentTable;

struct EventParents
{
	bool lockable;
	ParentTable users;
	ParentTable sessions;
	bool has_sessions; /* user_sessions is there to be locked */
	ParentTable profiles;
	AttrNumber consent;
};

static bool
open_table(ParentTable *parent, Oid relid, Oid indexid, AttrNumber key, LOCKMODE lockmode)
{
	if (!OidIsValid(indexid))
		return false;
	parent->rel = table_open(relid, lockmode);
	parent->index = index_open(indexid, AccessShareLock);
	parent->key = key;
	parent->slot = table_slot_create(parent->rel, NULL);
	return parent->rel->rd_rel->relkind == RELKIND_RELATION &&
		   parent->index->rd_index->indkey.values[0] == key &&
		   TupleDescAttr(RelationGetDescr(parent->rel), key - 1)->atttypid == UUIDOID;
}

static void
close_table(ParentTable *parent)
{
	if (parent->rel == NULL)
		return;
	ExecDropSingleTupleTableSlot(parent->slot);
	index_close(parent->index, NoLock);
	table_close(parent->rel, NoLock);
}

/* Opens the parent of a foreign key; false if the key is not of the usual shape. */
static bool
open_parent(EventParents *parents, Relation rel, const ForeignKeyCacheInfo *key)
{
	const char *column;
	HeapTuple tuple;
	Oid indexid;
	ParentTable *parent;

	if (key->nkeys != 1)
		return false;
	column = get_attname(RelationGetRelid(rel), key->conkey[0], false);
	if (strcmp(column, "user_id") == 0)
		parent = &parents->users;
	else if (strcmp(column, "session_id") == 0)
		parent = &parents->sessions;
	else
		return false;
	if (parent->rel != NULL)
		return false;

	tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(key->conoid));
	if (!HeapTupleIsValid(tuple))
		return false;
	indexid = ((Form_pg_constraint) GETSTRUCT(tuple))->conindid;
	ReleaseSysCache(tuple);
	if (!open_table(parent, key->confrelid, indexid, key->confkey[0], RowShareLock))
		return false;
	if (parent == &parents->sessions)
	{
		parents->has_sessions = true;
		parent->owner = get_attnum(key->confrelid, "user_id");
		if (parent->owner != InvalidAttrNumber &&
			get_atttype(key->confrelid, parent->owner) != UUIDOID)
			return false;
	}
	return true;
}

/* user_profiles, if it is there and says who consented to analytics. */
static void
open_profiles(EventParents *parents)
{
	DashieColumn columns[] = {
		{"auth_user_id", UUIDOID, true, 0},
		{"analytics_consent", BOOLOID, true, 0},
	};
	Oid relid = dashie_application_table("user_profiles", columns, lengthof(columns));
	Relation rel;
	Oid indexid;

	if (!OidIsValid(relid))
		return;
	rel = dashie_relation_open(relid, AccessShareLock, ACL_SELECT, false);
	dashie_relation_columns(rel, columns, lengthof(columns));
	indexid = dashie_find_index(rel, columns[0].attnum, NULL);
	if (!OidIsValid(indexid))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"user_profiles\" has no index on \"auth_user_id\""),
						errhint("It needs one: consent is looked up for each batch of events.")));
	parents->consent = columns[1].attnum;
	(void) open_table(&parents->profiles, relid, indexid, columns[0].attnum, AccessShareLock);
	table_close(rel, NoLock);
}

/*
 * parents_open finds what the events of widget_analytics refer to.  Run as the
 * table's owner.
 */
EventParents *
parents_open(Relation widget_analytics)
{
	EventParents *parents = palloc0(sizeof(EventParents));
	ListCell *lc;

	parents->lockable = true;
	foreach (lc, RelationGetFKeyList(widget_analytics))
		if (!open_parent(parents, widget_analytics, lfirst(lc)))
			parents->lockable = false;
	if (parents->users.rel == NULL)
		parents->lockable = false;
	open_profiles(parents);
	return parents;
}

/* Whether parents_lock() does all that the foreign keys would do. */
bool
parents_can_be_locked(const EventParents *parents)
{
	return parents->lockable;
}

void
parents_close(EventParents *parents)
{
	close_table(&parents->users);
	close_table(&parents->sessions);
	close_table(&parents->profiles);
	pfree(parents);
}

/*
 * What SQL would see now: in a transaction with one snapshot that snapshot,
 * as a foreign key does it.
 */
static Snapshot
current_snapshot(void)
{
	return RegisterSnapshot(IsolationUsesXactSnapshot() ? GetTransactionSnapshot()
														: GetLatestSnapshot());
}

/* Finds a row by its key; its slot holds it. */
static bool
find_row(ParentTable *parent, const pg_uuid_t *id, Snapshot snapshot)
{
	IndexScanDesc scan = dashie_index_beginscan(parent->rel, parent->index, snapshot, 1);
	ScanKeyData key;
	bool found;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(id));
	index_rescan(scan, &key, 1, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, parent->slot);
	index_endscan(scan);
	return found;
}

/* The row of that key, locked FOR KEY SHARE; false if there is none. */
static bool
lock_row(ParentTable *parent, const pg_uuid_t *id)
{
	Snapshot snapshot = current_snapshot();
	ItemPointerData tid;
	TM_FailureData failure;
	TM_Result result;
	bool isnull;
	bool found = find_row(parent, id, snapshot);

	if (found)
	{
		tid = parent->slot->tts_tid;
		result = table_tuple_lock(
			parent->rel, &tid, snapshot, parent->slot, GetCurrentCommandId(false),
			LockTupleKeyShare, LockWaitBlock,
			IsolationUsesXactSnapshot() ? 0 : TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
		if ((result == TM_Updated || result == TM_Deleted) && IsolationUsesXactSnapshot())
			ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
							errmsg("could not serialize access due to concurrent update")));
		/* the version that we waited for may have another key */
		found = (result == TM_Ok || result == TM_SelfModified) &&
				memcmp(DatumGetUUIDP(slot_getattr(parent->slot, parent->key, &isnull)), id,
					   UUID_LEN) == 0;
	}
	UnregisterSnapshot(snapshot);
	return found;
}

static char *
uuid_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

/*
 * parents_lock makes sure that the batch's user and session are there and stay
 * there, where they can be locked.  The user first, as a cascade from the
 * user's deletion does.  NULL, or what is wrong.
 */
char *
parents_lock(EventParents *parents, const EventBatch *batch)
{
	bool isnull;
	Datum owner;

	if (!parents->lockable)
		return NULL;
	if (!lock_row(&parents->users, &batch->user))
		return psprintf("user \"%s\" does not exist", uuid_text(&batch->user));
	if (!batch->has_session || !parents->has_sessions)
		return NULL;
	if (!lock_row(&parents->sessions, &batch->session))
		return psprintf("session \"%s\" does not exist", uuid_text(&batch->session));
	if (parents->sessions.owner == InvalidAttrNumber)
		return NULL;
	owner = slot_getattr(parents->sessions.slot, parents->sessions.owner, &isnull);
	if (isnull || memcmp(DatumGetUUIDP(owner), &batch->user, UUID_LEN) != 0)
		return psprintf("session \"%s\" is not one of user \"%s\"", uuid_text(&batch->session),
						uuid_text(&batch->user));
	return NULL;
}

/*
 * parents_consent says whether the user consented to analytics: also where
 * nobody is asked, because there are no profiles.
 */
bool
parents_consent(EventParents *parents, const pg_uuid_t *user)
{
	Snapshot snapshot;
	bool isnull;
	bool consent;

	if (parents->profiles.rel == NULL)
		return true;
	snapshot = current_snapshot();
	consent = find_row(&parents->profiles, user, snapshot) &&
			  DatumGetBool(slot_getattr(parents->profiles.slot, parents->consent, &isnull)) &&
			  !isnull;
	UnregisterSnapshot(snapshot);
	return consent;
}

static int
compare_numbers(const void *a, const void *b)
{
	uint64 left = *(const uint64 *) a;
	uint64 right = *(const uint64 *) b;

	return left < right ? -1 : left > right;
}

/*
 * users_serialize lets nobody else store events of these users that have ids
 * of their own until the end of the transaction.  A device that sends a batch
 * twice does so while the first try may still run: the second must see its
 * rows to know the duplicates.  In one order, so that two callers do not wait
 * for each other.
 */
void
users_serialize(const pg_uuid_t *users, int nusers)
{
	uint64 *keys = palloc(Max(nusers, 1) * sizeof(uint64));

	for (int i = 0; i < nusers; i++)
		keys[i] = hash_bytes_extended(users[i].data, UUID_LEN, 0);
	qsort(keys, nusers, sizeof(uint64), compare_numbers);
	for (int i = 0; i < nusers; i++)
	{
		LOCKTAG tag;

		if (i > 0 && keys[i] == keys[i - 1])
			continue;
		SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (keys[i] >> 32), (uint32) keys[i],
							 USER_LOCK_CLASS);
		(void) LockAcquire(&tag, ExclusiveLock, false, false);
	}
	pfree(keys);
}
