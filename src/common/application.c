/*
 * application.c
 *		The application's own tables, which may be missing, unreadable or of
 *		another shape.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

#include "common/application.h"
#include "common/setting.h"

Oid
dashie_application_table(const char *name, const DashieColumn *columns, int ncolumns)
{
	Oid relid = dashie_relation_oid("public", name);

	if (!OidIsValid(relid) || get_rel_relkind(relid) != RELKIND_RELATION ||
		pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK ||
		check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
		return InvalidOid;
	for (int i = 0; i < ncolumns; i++)
	{
		AttrNumber attnum = get_attnum(relid, columns[i].name);

		if (attnum == InvalidAttrNumber || get_atttype(relid, attnum) != columns[i].type)
			return InvalidOid;
	}
	return relid;
}

char *
dashie_access_config(const char *key)
{
	DashieColumn columns[] = {{"key", TEXTOID, true, 0}, {"value", TEXTOID, true, 0}};
	Oid relid = dashie_application_table("access_control_config", columns, lengthof(columns));
	Relation rel;
	DashieScan *scan;
	char *result = NULL;

	if (!OidIsValid(relid))
		return NULL;
	rel = dashie_relation_open(relid, AccessShareLock, ACL_SELECT, false);
	dashie_relation_columns(rel, columns, lengthof(columns));
	scan = dashie_scan_latest(rel);
	while (result == NULL && dashie_scan_next(scan))
	{
		bool isnull;
		Datum value = dashie_scan_get(scan, &columns[0], &isnull);

		if (isnull || strcmp(TextDatumGetCString(value), key) != 0)
			continue;
		value = dashie_scan_get(scan, &columns[1], &isnull);
		if (!isnull)
			result = TextDatumGetCString(value);
	}
	dashie_scan_end(scan);
	table_close(rel, NoLock);
	return result;
}

Interval
dashie_trial_length(void)
{
	Interval length = {.time = 0, .day = 0, .month = 0};
	char *configured = dashie_access_config("trial_duration_days");
	char *end;
	long days = configured == NULL ? -1 : strtol(configured, &end, 10);

	if (configured == NULL || end == configured || *end != '\0' || days < 0 || days > 36500)
		days = (long) dashie_setting_int("trial_days");
	length.day = (int32) days;
	return length;
}
