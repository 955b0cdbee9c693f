/*
 * compat.h
 *		Every difference between the supported PostgreSQL versions.
 *
 * No other file tests PG_VERSION_NUM.
 */
#ifndef DASHIE_COMPAT_H
#define DASHIE_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 140000 || PG_VERSION_NUM >= 190000
#error "dashie supports PostgreSQL 14 to 18"
#endif

#include "access/genam.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "utils/acl.h"
#include "utils/guc.h"

/* 16 moved the macros of variable-length types out of postgres.h */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* 16 folded the pg_xxx_ownercheck() family into object_ownercheck() */
#if PG_VERSION_NUM >= 160000
#define dashie_owns_relation(relid, role) object_ownercheck(RelationRelationId, (relid), (role))
#define dashie_owns_database(dbid, role) object_ownercheck(DatabaseRelationId, (dbid), (role))
#define dashie_may_use_schema(nspid, role) \
	(object_aclcheck(NamespaceRelationId, (nspid), (role), ACL_USAGE) == ACLCHECK_OK)
#define dashie_owns_schema(nspid, role) object_ownercheck(NamespaceRelationId, (nspid), (role))
#define dashie_may_execute(funcid, role) \
	(object_aclcheck(ProcedureRelationId, (funcid), (role), ACL_EXECUTE) == ACLCHECK_OK)
#else
#define dashie_owns_relation(relid, role) pg_class_ownercheck((relid), (role))
#define dashie_owns_database(dbid, role) pg_database_ownercheck((dbid), (role))
#define dashie_may_use_schema(nspid, role) \
	(pg_namespace_aclcheck((nspid), (role), ACL_USAGE) == ACLCHECK_OK)
#define dashie_owns_schema(nspid, role) pg_namespace_ownercheck((nspid), (role))
#define dashie_may_execute(funcid, role) \
	(pg_proc_aclcheck((funcid), (role), ACL_EXECUTE) == ACLCHECK_OK)
#endif

/* 16 renamed what says where a relation's file is, and which subtransaction gave it a new one */
#if PG_VERSION_NUM >= 160000
#define dashie_relation_file(rel) ((rel)->rd_locator.relNumber)
#define dashie_file_subtransaction(rel) ((rel)->rd_firstRelfilelocatorSubid)
#else
#define dashie_relation_file(rel) ((rel)->rd_node.relNode)
#define dashie_file_subtransaction(rel) ((rel)->rd_firstRelfilenodeSubid)
#endif

/* 18 added the instrumentation argument */
#if PG_VERSION_NUM >= 180000
#define dashie_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), NULL, (nkeys), 0)
#else
#define dashie_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), (nkeys), 0)
#endif

/* 15 gave the end of a btree's page a macro */
#if PG_VERSION_NUM < 150000
#define BTPageGetOpaque(page) ((BTPageOpaque) PageGetSpecialPointer(page))
#endif

/* 16 wants the table, unless the root is only read */
#if PG_VERSION_NUM >= 160000
#define dashie_bt_getroot(index) _bt_getroot((index), NULL, BT_READ)
#else
#define dashie_bt_getroot(index) _bt_getroot((index), BT_READ)
#endif

/* 15 replaced random() by a generator of its own; from 0 to below 1 */
#if PG_VERSION_NUM >= 150000
#include "common/pg_prng.h"
#define dashie_random_fraction() pg_prng_double(&pg_global_prng_state)
#else
#define dashie_random_fraction() ((double) random() / ((double) MAX_RANDOM_VALUE + 1))
#endif

/*
 * The backend that a virtual transaction id names, and the one that it runs.
 * 17 counts backends from zero, and renamed them.
 */
#if PG_VERSION_NUM >= 170000
#define dashie_vxid_proc(vxid) ProcNumberGetProc((vxid).procNumber)
#define dashie_proc_lxid(proc) ((proc)->vxid.lxid)
#else
#define dashie_vxid_proc(vxid) BackendIdGetProc((vxid).backendId)
#define dashie_proc_lxid(proc) ((proc)->lxid)
#endif

/* 16 renamed the access to entries of pg_stat_activity */
#if PG_VERSION_NUM >= 160000
#define dashie_local_beentry(n) pgstat_get_local_beentry_by_index(n)
#else
#define dashie_local_beentry(n) pgstat_fetch_stat_local_beentry(n)
#endif

/* 15 added the argument that says whether to flush at once; before, it always was */
#if PG_VERSION_NUM >= 150000
#define dashie_mq_send(queue, size, data, flush) \
	shm_mq_send((queue), (size), (data), false, (flush))
#define dashie_mq_sendv(queue, pieces, n) shm_mq_sendv((queue), (pieces), (n), false, true)
#else
#define dashie_mq_send(queue, size, data, flush) shm_mq_send((queue), (size), (data), false)
#define dashie_mq_sendv(queue, pieces, n) shm_mq_sendv((queue), (pieces), (n), false)
#endif

/* 18 dropped the argument that says whether the portal runs once */
#if PG_VERSION_NUM >= 180000
#define dashie_portal_run(portal, dest) PortalRun((portal), FETCH_ALL, true, (dest), (dest), NULL)
#else
#define dashie_portal_run(portal, dest) \
	PortalRun((portal), FETCH_ALL, true, true, (dest), (dest), NULL)
#endif

/* 15 gave EmitWarningsOnPlaceholders() its new name */
#if PG_VERSION_NUM < 150000
#define MarkGUCPrefixReserved(prefix) EmitWarningsOnPlaceholders(prefix)
#endif

/* 16 gave DecodeDateTime() an argument that tells more of an error */
#include "utils/datetime.h"
static inline int
dashie_decode_datetime(char **fields, int *types, int nfields, int *type, struct pg_tm *tm,
					   fsec_t *fsec, int *zone)
{
#if PG_VERSION_NUM >= 160000
	DateTimeErrorExtra extra;

	return DecodeDateTime(fields, types, nfields, type, tm, fsec, zone, &extra);
#else
	return DecodeDateTime(fields, types, nfields, type, tm, fsec, zone);
#endif
}

/* 16 gave ExecInsertIndexTuples() an argument for updates */
#if PG_VERSION_NUM >= 160000
#define dashie_insert_index_tuples(result, slot, estate) \
	ExecInsertIndexTuples((result), (slot), (estate), false, false, NULL, NIL, false)
#else
#define dashie_insert_index_tuples(result, slot, estate) \
	ExecInsertIndexTuples((result), (slot), (estate), false, false, NULL, NIL)
#endif

/* 16 lets an input function report an error without throwing it */
#if PG_VERSION_NUM < 160000
#define ereturn(context, dummy_value, ...) ereport(ERROR, __VA_ARGS__)
#endif

#endif /* DASHIE_COMPAT_H */
