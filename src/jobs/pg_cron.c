/*
 * pg_cron.c
 *		pg_cron as the driver of jobs.
 *
 * pg_cron's objects are found as members of its extension, whatever schema
 * they are in, and used as the extension's owner or the caller, with the
 * rights that pg_cron gave them.  row_security is on for its tables, whose
 * policies show everybody their own rows.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "common/query.h"
#include "jobs/jobs.h"

PG_FUNCTION_INFO_V1(dashie_schedule_with_cron);
PG_FUNCTION_INFO_V1(dashie_unschedule_from_cron);

#define CRON_JOB "dashie"
#define CRON_COMMAND "CALL dashie.run_due_jobs()"

/*
 * cron_schema returns the schema, quoted, in which pg_cron's extension has its
 * tables and functions; NULL where it is not installed.  SPI is connected.
 */
static char *
cron_schema(void)
{
	Oid extension = get_extension_oid("pg_cron", true);
	Oid types[1] = {OIDOID};
	Datum values[1];

	if (!OidIsValid(extension))
		return NULL;
	values[0] = ObjectIdGetDatum(extension);
	if (dashie_query("SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_depend d"
					 " JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relname = 'job'"
					 " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
					 " WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
					 " AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass"
					 " AND d.refobjid = $1 AND d.deptype = 'e'",
					 1, types, values, NULL) == 0)
		return NULL;
	return dashie_field_text(0, 1);
}

static char *
cron_schema_required(void)
{
	char *schema = cron_schema();
	const char *home = GetConfigOption("cron.database_name", true, false);
	const char *here = get_database_name(MyDatabaseId);

	if (schema != NULL)
		return schema;
	if (home != NULL && strcmp(home, here) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_cron is not installed in this database"),
				 errdetail("pg_cron lives in database \"%s\".", home),
				 errhint("Run there, as a superuser: SELECT cron.schedule_in_database(%s, %s, %s, "
						 "%s, %s);",
						 quote_literal_cstr(CRON_JOB), quote_literal_cstr("* * * * *"),
						 quote_literal_cstr(CRON_COMMAND), quote_literal_cstr(here),
						 quote_literal_cstr(GetUserNameFromId(GetUserId(), false)))));
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("pg_cron is not installed in this database"),
					errhint("Preload pg_cron and run CREATE EXTENSION pg_cron, or use "
							"dashie.start_worker().")));
	pg_unreachable();
}

/* Until dashie_leave(). */
static void
obey_policies(void)
{
	(void) set_config_option("row_security", "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
}

Datum
dashie_schedule_with_cron(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	Oid types[3] = {TEXTOID, TEXTOID, TEXTOID};
	Datum values[3];
	int64 jobid;

	dashie_enter(&guard);
	obey_policies();
	dashie_query_begin();
	values[0] = CStringGetTextDatum(CRON_JOB);
	values[1] = CStringGetTextDatum("* * * * *");
	values[2] = CStringGetTextDatum(CRON_COMMAND);
	dashie_query(psprintf("SELECT %s.schedule($1, $2, $3)", cron_schema_required()), 3, types,
				 values, NULL);
	jobid = DatumGetInt64(dashie_field(0, 1, NULL));
	dashie_query_end();
	dashie_leave(&guard);
	PG_RETURN_INT64(jobid);
}

Datum
dashie_unschedule_from_cron(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	char *schema;
	bool found;

	dashie_enter(&guard);
	obey_policies();
	dashie_query_begin();
	schema = cron_schema_required();
	found = dashie_query(psprintf("SELECT %s.unschedule(jobid) FROM %s.job"
								  " WHERE jobname = '" CRON_JOB "' AND username = current_user",
								  schema, schema),
						 0, NULL, NULL, NULL) > 0;
	dashie_query_end();
	dashie_leave(&guard);
	PG_RETURN_BOOL(found);
}

/*
 * dashie_trim_cron_history removes what pg_cron keeps about our own job and
 * never removes itself: a row a minute.
 */
void
dashie_trim_cron_history(void)
{
	char *schema;

	dashie_query_begin();
	schema = cron_schema();
	if (schema != NULL)
	{
		obey_policies();
		dashie_query(psprintf("DELETE FROM %s.job_run_details WHERE jobid IN"
							  " (SELECT jobid FROM %s.job WHERE jobname = '" CRON_JOB "'"
							  " AND username = current_user)"
							  " AND end_time < pg_catalog.now() - interval '7 days'",
							  schema, schema),
					 0, NULL, NULL, NULL);
	}
	dashie_query_end();
}
