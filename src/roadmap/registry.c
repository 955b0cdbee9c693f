/*
 * registry.c
 *		Which table of the roadmap is enabled, and where: dashie.enabled_table.
 *
 * Read by everyone's calls and by the worker, with a scan that runs no code
 * of anybody.  What is read here is only a name: whoever works on the table
 * opens it by OID, checks its kind and becomes its owner first.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "common/owner.h"
#include "common/relation.h"
#include "roadmap/roadmap.h"

char *
dashie_enabled_schema(const char *table_name)
{
	DashieColumn columns[] = {{"table_name", TEXTOID, true, 0}, {"schema_name", TEXTOID, true, 0}};
	Oid relid = dashie_relation_oid("dashie", "enabled_table");
	Relation rel = OidIsValid(relid) ? try_table_open(relid, AccessShareLock) : NULL;
	DashieScan *scan;
	char *schema = NULL;

	if (rel == NULL)
		return NULL;
	if (rel->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"dashie.enabled_table\" is not a plain table")));
	dashie_relation_columns(rel, columns, lengthof(columns));
	scan = dashie_scan_latest(rel);
	while (schema == NULL && dashie_scan_next(scan))
	{
		bool isnull;
		Datum name = dashie_scan_get(scan, &columns[0], &isnull);

		if (!isnull && strcmp(TextDatumGetCString(name), table_name) == 0)
			schema = TextDatumGetCString(dashie_scan_get(scan, &columns[1], &isnull));
	}
	dashie_scan_end(scan);
	table_close(rel, AccessShareLock);
	return schema;
}

Oid
dashie_enabled_oid(const char *table_name)
{
	char *schema = dashie_enabled_schema(table_name);

	return schema != NULL ? dashie_relation_oid(schema, table_name) : InvalidOid;
}

Oid
dashie_enabled_oid_required(const char *table_name)
{
	char *schema = dashie_enabled_schema(table_name);
	Oid relid = schema != NULL ? dashie_relation_oid(schema, table_name) : InvalidOid;

	if (schema == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"%s\" is not enabled", table_name),
						errhint("Run SELECT dashie.enable('%s').", table_name)));
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is enabled in schema \"%s\", but is not there any more",
						table_name, schema),
				 errhint("Run SELECT dashie.enable('%s') to make it again.", table_name)));
	return relid;
}

/*
 * dashie_registry_lock opens the registry for enable() and disable(), of which
 * one runs at a time.  Close it without releasing the lock.
 */
Relation
dashie_registry_lock(void)
{
	Relation registry =
		table_open(dashie_relation_oid("dashie", "enabled_table"), ShareRowExclusiveLock);

	if (registry->rd_rel->relkind != RELKIND_RELATION)
		elog(ERROR, "dashie.enabled_table is not a table");
	return registry;
}

/* dashie_registry_check: before a relation is locked, it is a table and the current user's. */
void
dashie_registry_check(const RangeVar *name, Oid relid, Oid old_relid, void *arg)
{
	char kind;

	if (!OidIsValid(relid))
		return;
	kind = get_rel_relkind(relid);
	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s.%s\" is not a table", name->schemaname, name->relname),
						errhint("Rename or drop it, so that dashie.enable() can make the table.")));
	dashie_require_owner(relid);
}
