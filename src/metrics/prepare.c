/*
 * prepare.c
 *		What enable(), disable(), configure('timezone') and retention need of
 *		the metrics.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/query.h"
#include "common/relation.h"
#include "events/events.h"
#include "metrics/engine.h"
#include "metrics/metrics.h"
#include "roadmap/roadmap.h"

/*
 * run_ddl runs one of the files of metrics/ddl, which the install script put
 * into dashie.table_ddl.
 */
static void
run_ddl(const char *name, const char *table)
{
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(name)};
	char *ddl;
	char *mark;
	int guc_nest = NewGUCNestLevel();

	/* what is there already is no news */
	(void) set_config_option("client_min_messages", "warning", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	dashie_query_begin();
	if (dashie_query("SELECT ddl FROM dashie.table_ddl WHERE table_name = $1", 1, types, values,
					 NULL) != 1)
		elog(ERROR, "DDL \"%s\" is missing", name);
	ddl = dashie_field_text(0, 1);
	while (table != NULL && (mark = strstr(ddl, "@table@")) != NULL)
	{
		*mark = '\0';
		ddl = psprintf("%s%s%s", ddl, table, mark + strlen("@table@"));
	}
	dashie_command(ddl);
	dashie_query_end();
	AtEOXact_GUC(true, guc_nest);
}

/* As the catalog is now, whatever the transaction's snapshot shows. */
static bool
has_trigger(Oid relid, const char *name)
{
	return OidIsValid(get_trigger_oid(relid, name, true));
}

static bool
metrics_wanted(void)
{
	return OidIsValid(dashie_relation_oid("dashie", "changed_range"));
}

static void
share_state_with(Oid owner)
{
	static const char *const names[] = {
		"metrics_state",  "user_number",   "user_country",	  "dashboard_number", "day_page",
		"heartbeat_seen", "changed_range", "retention_floor", "event_page",		  "changed_events"};
	char *role = pstrdup(quote_identifier(GetUserNameFromId(owner, false)));
	StringInfoData sql;

	initStringInfo(&sql);
	/* each new partition gets the trigger of its parent, which asks who makes it for EXECUTE */
	appendStringInfo(&sql,
					 "GRANT USAGE ON SCHEMA dashie TO %s;"
					 " GRANT EXECUTE ON FUNCTION dashie.events_changed() TO %s",
					 role, role);
	for (int i = 0; i < lengthof(names); i++)
		if (OidIsValid(dashie_relation_oid("dashie", names[i])))
			appendStringInfo(&sql,
							 "; GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE dashie.%s TO %s",
							 names[i], role);
	dashie_query_begin();
	dashie_command(sql.data);
	dashie_query_end();
}

/*
 * share_state lets the owners of adopted tables, as whom metrics and retention
 * run, use the metrics' tables, which belong to whoever enables.
 */
static void
share_state(Oid relid)
{
	static const char *const tables[] = {"daily_metrics", "geographic_stats", "user_sessions",
										 "dashboards", "widget_analytics"};

	for (int i = -1; i < (int) lengthof(tables); i++)
	{
		Oid table = i < 0 ? relid : dashie_enabled_oid(tables[i]);
		HeapTuple tuple;
		Oid owner;

		if (!OidIsValid(table))
			continue;
		tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for relation %u", table);
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
		if (owner != GetUserId())
			share_state_with(owner);
	}
}

/* What happened to a table before it had its trigger is unknown; nothing where nobody reads marks. */
static void
mark_all_time(MarkKind kind)
{
	const char *table = dashie_mark_table(kind);

	if (!OidIsValid(dashie_relation_oid("dashie", table)))
		return;
	dashie_query_begin();
	dashie_command(psprintf("INSERT INTO dashie.%s VALUES ('-infinity', 'infinity')", table));
	dashie_query_end();
}

/*
 * remember_heartbeats keeps the last heartbeat of each dashboard from before
 * anybody remembered the first one of a day: the next one overwrites it.
 */
static void
remember_heartbeats(Oid dashboards)
{
	if (!OidIsValid(dashboards) || !OidIsValid(dashie_relation_oid("dashie", "heartbeat_seen")) ||
		!dashie_owns_relation(dashboards, GetUserId()))
		return;
	dashie_query_begin();
	dashie_command(psprintf("INSERT INTO dashie.heartbeat_seen (dashboard_id, user_id, at)"
							" SELECT id, user_id, last_heartbeat_at FROM %s"
							" WHERE isfinite(last_heartbeat_at)",
							dashie_relation_name(dashboards)));
	dashie_query_end();
}

/*
 * prepare_events makes what counts events; the first mark says that all may
 * have changed, and so does one for the time in which there was no trigger.
 */
static void
prepare_events(Oid relid)
{
	bool marked = OidIsValid(dashie_relation_oid("dashie", dashie_mark_table(MARK_EVENTS)));

	run_ddl("metrics_state", NULL);
	run_ddl("metrics_floor", NULL);
	run_ddl("event_pages", NULL);
	if (!marked)
		run_ddl("events_changed", NULL);
	if (has_trigger(relid, "dashie_changed"))
		return;
	run_ddl("events_triggers", dashie_relation_name(relid));
	if (marked)
		mark_all_time(MARK_EVENTS);
}

void
dashie_metrics_prepare(const char *table_name, Oid relid)
{
	char *table = dashie_relation_name(relid);

	if (strcmp(table_name, "daily_metrics") == 0 || strcmp(table_name, "geographic_stats") == 0)
	{
		bool remembered = OidIsValid(dashie_relation_oid("dashie", "heartbeat_seen"));

		run_ddl("metrics_state", NULL);
		run_ddl("metrics_heartbeats", NULL);
		if (!remembered)
			remember_heartbeats(dashie_enabled_oid("dashboards"));
		if (!metrics_wanted())
			run_ddl("metrics_changed", NULL);
	}
	else if (strcmp(table_name, "user_sessions") == 0)
	{
		run_ddl("metrics_floor", NULL);
		if (!has_trigger(relid, "dashie_changed"))
		{
			run_ddl("metrics_sessions", table);
			mark_all_time(MARK_SESSIONS);
		}
	}
	else if (strcmp(table_name, "dashboards") == 0)
	{
		if (!has_trigger(relid, "dashie_heartbeat"))
		{
			run_ddl("metrics_dashboards", table);
			mark_all_time(MARK_SESSIONS);
			remember_heartbeats(relid);
		}
	}
	else if (strcmp(table_name, "widget_analytics") == 0)
		prepare_events(relid);
	else
		return;
	share_state(relid);
}

static void
drop_marks(MarkKind kind)
{
	const char *table = dashie_mark_table(kind);

	if (!OidIsValid(dashie_relation_oid("dashie", table)))
		return;
	dashie_query_begin();
	dashie_command(psprintf("DROP TABLE dashie.%s", table));
	dashie_query_end();
}

/*
 * dashie_metrics_release drops a table of marks when nothing reads it any
 * more, so that it does not grow.  Pages and numbers stay; when metrics are
 * enabled again, all that can be computed from rows is.
 */
void
dashie_metrics_release(void)
{
	if (dashie_enabled_schema("daily_metrics") == NULL &&
		dashie_enabled_schema("geographic_stats") == NULL)
		drop_marks(MARK_SESSIONS);
	if (dashie_enabled_schema("widget_analytics") == NULL)
		drop_marks(MARK_EVENTS);
}

/*
 * unrepeatable says why a finished day could not be computed again from rows;
 * NULL if each could.
 */
static char *
unrepeatable(Metrics *metrics)
{
	MemoryContext context =
		AllocSetContextCreate(metrics->context, "dashie page check", ALLOCSET_DEFAULT_SIZES);
	DateADT first;
	DateADT last;
	bool isnull;
	char *reason = NULL;
	Oid types[] = {DATEOID, DATEOID};
	Datum today = DateADTGetDatum(metrics->today + 1);

	dashie_query_begin();
	/* no day after today is final, whatever the table says */
	dashie_query("SELECT min(day), max(day) FROM dashie.day_page WHERE final AND day <= $1", 1,
				 types, &today, NULL);
	first = DatumGetDateADT(dashie_field(0, 1, &isnull));
	last = isnull ? first : DatumGetDateADT(dashie_field(0, 2, NULL));
	dashie_query_types(2, types);
	dashie_query_end();
	if (isnull)
		return NULL;
	if (first < metrics->first_open_day)
		return psprintf("Retention has removed sessions of %s.", dashie_day_text(first));

	numbers_load(metrics);
	for (DateADT day = first; day <= last && reason == NULL; day++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		DayPage *page = pages_load(metrics, day, day, true);
		bool departed = false;
		int64 count;
		int32 *members = user_set_members(page->active, metrics->max_user, &count);

		for (int64 i = 0; i < count && !departed; i++)
		{
			UserEntry *user = numbers_by_number(metrics, members[i]);

			departed = user == NULL || !user_is_there(user);
		}
		for (int i = 0; i < page->nentries && !departed; i++)
			departed = page->entries[i].user != 0 && numbers_gone(metrics, page->entries[i].user);
		MemoryContextSwitchTo(metrics->context);
		if (departed)
			reason = psprintf("A user who was active on %s is gone.", dashie_day_text(day));
		else if (page->final && !roaring_bitmap_is_empty(page->heartbeats))
			reason =
				psprintf("The heartbeats of %s are only known by their day.", dashie_day_text(day));
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
	return reason;
}

void
dashie_metrics_change_timezone(const DashieGuard *guard, const char *zone_name)
{
	Oid page_rel = dashie_relation_oid("dashie", "day_page");
	DashieGuard inner = *guard;
	Metrics *metrics;
	Oid user;
	int context;
	char *reason;

	if (!OidIsValid(page_rel) || pg_tzset(zone_name) == dashie_timezone())
		return;

	GetUserIdAndSecContext(&user, &context);
	metrics = metrics_open(&inner, page_rel, false);
	/* without metrics there are no marks; the pages stay, and must follow all the same */
	if (metrics_wanted())
		metrics_absorb_marks(metrics);
	if (OidIsValid(dashie_relation_oid("dashie", dashie_mark_table(MARK_EVENTS))))
		absorb_ranges(metrics, MARK_EVENTS);
	reason = unrepeatable(metrics);
	if (reason == NULL)
		reason = events_unrepeatable(metrics);
	if (reason != NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the time zone cannot be changed to \"%s\": finished days could not "
							   "be computed again",
							   zone_name),
						errdetail_internal("%s", reason)));
	dashie_query_begin();
	dashie_query("UPDATE dashie.day_page SET dirty = true WHERE NOT dirty", 0, NULL, NULL, NULL);
	if (OidIsValid(dashie_relation_oid("dashie", "event_page")))
		dashie_query("UPDATE dashie.event_page SET dirty = true WHERE NOT dirty", 0, NULL, NULL,
					 NULL);
	dashie_query_end();
	metrics_close(metrics);
	SetUserIdAndSecContext(user, context);
}

TimestampTz
dashie_metrics_complete_before(void)
{
	Oid page_rel = dashie_relation_oid("dashie", "day_page");
	Oid sessions = dashie_enabled_oid("user_sessions");
	Metrics metrics = {0};
	DateADT first;
	DateADT yesterday;
	DateADT day;
	bool isnull;
	DayPage *pages;

	if (!OidIsValid(page_rel) || !metrics_wanted() || !OidIsValid(sessions))
		return DT_NOEND;

	/* no refresh may turn marks into dirty pages until the caller has committed */
	if (!RecoveryInProgress())
		LockRelationOid(page_rel, ShareUpdateExclusiveLock);
	metrics.snapshot = RegisterSnapshot(GetLatestSnapshot());
	metrics.zone = dashie_timezone();
	metrics_load_retention_floor(&metrics);
	UnregisterSnapshot(metrics.snapshot);
	yesterday = dashie_today(metrics.zone) - 1;

	dashie_query_begin();
	dashie_query(psprintf("SELECT min(started_at) FROM %s", dashie_relation_name(sessions)), 0,
				 NULL, NULL, NULL);
	first = dashie_day_of(DatumGetTimestampTz(dashie_field(0, 1, &isnull)), metrics.zone);
	dashie_query_end();
	if (isnull)
		return dashie_day_start(yesterday + 1, metrics.zone);

	first = Max(first, metrics.first_open_day);
	if (first > yesterday)
		return dashie_day_start(Min(first, yesterday + 1), metrics.zone);
	pages = pages_load(&metrics, first, yesterday, false);
	for (day = first; day <= yesterday; day++)
	{
		DayPage *page = &pages[day - first];

		if (!page->stored || page->dirty || !page->final || !page->has_sessions)
			break;
	}
	pfree(pages);
	return dashie_day_start(day, metrics.zone);
}
