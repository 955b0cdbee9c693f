/*
 * engine.c
 *		One run of the metrics: what it locks, sees and brings up to date.
 *
 * A run that writes holds ShareUpdateExclusiveLock on dashie.day_page, which
 * lets readers pass and other runs wait, and takes its snapshot after that:
 * it sees all that earlier runs wrote.  Once the marks are absorbed, it reads
 * everything with one snapshot.  It acts as the owner of the table that it fills.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/application.h"
#include "common/query.h"
#include "common/relation.h"
#include "metrics/engine.h"
#include "metrics/marks.h"
#include "roadmap/roadmap.h"

/* A first run looks back this far at most, however old the oldest row. */
#define MAX_HISTORY_DAYS 3660

Oid
metrics_table(const char *name)
{
	Oid relid = dashie_relation_oid("dashie", name);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"dashie.%s\" does not exist", name),
				 errhint("Run SELECT dashie.enable('daily_metrics'), or of geographic_stats.")));
	return relid;
}

/* The application's own table of heartbeats, where there is one. */
static Oid
heartbeat_source(void)
{
	static const DashieColumn columns[] = {
		{"id", UUIDOID, true, 0},
		{"auth_user_id", UUIDOID, true, 0},
		{"last_heartbeat_at", TIMESTAMPTZOID, true, 0},
	};

	return dashie_application_table("dashboard_heartbeats", columns, lengthof(columns));
}

/* The first day that begins at an instant or after it. */
static DateADT
first_day_from(const Metrics *metrics, TimestampTz at)
{
	DateADT day = dashie_day_of(at, metrics->zone);

	return dashie_day_start(day, metrics->zone) < at ? day + 1 : day;
}

/* metrics_load_retention_floor reads what retention has removed of sessions and of events. */
void
metrics_load_retention_floor(Metrics *metrics)
{
	Oid relid = dashie_relation_oid("dashie", "retention_floor");
	DashieColumn columns[] = {
		{"table_name", TEXTOID, true, 0},
		{"removed_before", TIMESTAMPTZOID, true, 0},
	};
	Relation rel;
	DashieScan *scan;

	metrics->removed_before = DT_NOBEGIN;
	metrics->first_open_day = metrics->first_open_event_day = DASHIE_MIN_DAY;
	if (!OidIsValid(relid))
		return;

	rel = dashie_relation_open(relid, AccessShareLock, ACL_SELECT, false);
	dashie_relation_columns(rel, columns, lengthof(columns));
	scan = dashie_scan_begin(rel, metrics->snapshot);
	while (dashie_scan_next(scan))
	{
		bool isnull;
		Datum value = dashie_scan_get(scan, &columns[0], &isnull);
		char *table = isnull ? "" : TextDatumGetCString(value);
		TimestampTz floor = DatumGetTimestampTz(dashie_scan_get(scan, &columns[1], &isnull));

		if (strcmp(table, "user_sessions") == 0)
		{
			metrics->removed_before = floor;
			metrics->first_open_day = first_day_from(metrics, floor);
		}
		else if (strcmp(table, "widget_analytics") == 0)
			metrics->first_open_event_day = first_day_from(metrics, floor);
	}
	dashie_scan_end(scan);
	table_close(rel, NoLock);
}

/*
 * metrics_open begins a run, as the owner of "owner_rel", an enabled table.
 * The guard is entered.
 */
Metrics *
metrics_open(DashieGuard *guard, Oid owner_rel, bool readonly)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "dashie metrics", ALLOCSET_DEFAULT_SIZES);
	Metrics *metrics = MemoryContextAllocZero(context, sizeof(Metrics));

	if (!RecoveryInProgress() && !XactReadOnly)
		dashie_marks_flush();
	dashie_become_owner_of(guard, owner_rel);

	metrics->guard = guard;
	metrics->context = context;
	metrics->readonly = readonly;
	metrics->page_rel = metrics_table("day_page");
	table_close(dashie_relation_open(
					metrics->page_rel, readonly ? AccessShareLock : ShareUpdateExclusiveLock,
					readonly ? ACL_SELECT : ACL_SELECT | ACL_INSERT | ACL_UPDATE, false),
				NoLock);
	metrics->snapshot = RegisterSnapshot(
		IsolationUsesXactSnapshot() && readonly ? GetTransactionSnapshot() : GetLatestSnapshot());
	metrics->zone = dashie_timezone();
	metrics->now = dashie_now();
	metrics->today = dashie_day_of(metrics->now, metrics->zone);
	metrics->sessions_rel = dashie_enabled_oid("user_sessions");
	metrics->stripe_rel = dashie_enabled_oid("stripe_webhook_events");
	metrics->dashboards_rel = dashie_enabled_oid("dashboards");
	metrics->own_dashboards = OidIsValid(metrics->dashboards_rel);
	if (!metrics->own_dashboards)
		metrics->dashboards_rel = heartbeat_source();
	metrics_load_retention_floor(metrics);
	return metrics;
}

void
metrics_close(Metrics *metrics)
{
	collect_ahead_end(metrics);
	if (!metrics->readonly && metrics->users_loaded)
		numbers_store(metrics);
	UnregisterSnapshot(metrics->snapshot);
	MemoryContextDelete(metrics->context);
}

static void
absorb_heartbeats(Metrics *metrics)
{
	DashieColumn columns[] = {
		{"dashboard_id", UUIDOID, true, 0},
		{"user_id", UUIDOID, true, 0},
		{"at", TIMESTAMPTZOID, true, 0},
	};
	Relation rel = dashie_relation_open(metrics_table("heartbeat_seen"), RowExclusiveLock,
										ACL_SELECT | ACL_DELETE, false);
	DashieScan *scan;
	List *pages = NIL;
	ListCell *lc;

	dashie_relation_columns(rel, columns, lengthof(columns));
	scan = dashie_scan_begin(rel, metrics->snapshot);
	while (dashie_scan_next(scan))
	{
		bool isnull;
		const pg_uuid_t *id = dashie_scan_uuid(scan, &columns[1]);
		UserEntry *user;
		Datum value;
		DateADT day;
		DayPage *page = NULL;

		numbers_load(metrics);
		user = id != NULL ? numbers_user(metrics, id) : NULL;
		value = dashie_scan_get(scan, &columns[2], &isnull);
		day = dashie_day_of(DatumGetTimestampTz(value), metrics->zone);
		id = dashie_scan_uuid(scan, &columns[0]);

		/* of an account that was made again under the same id since */
		if (user != NULL && user->has_signup && DatumGetTimestampTz(value) < user->signed_up_at)
			user = NULL;
		if (user != NULL && id != NULL && !isnull && day >= metrics->first_open_day)
		{
			foreach (lc, pages)
				if (((DayPage *) lfirst(lc))->day == day)
					page = lfirst(lc);
			if (page == NULL)
			{
				page = pages_load(metrics, day, day, true);
				pages = lappend(pages, page);
			}
			roaring_bitmap_add(page->heartbeats, numbers_dashboard(metrics, id, user->number));
		}
		simple_table_tuple_delete(rel, dashie_scan_tid(scan), metrics->snapshot);
	}
	dashie_scan_end(scan);
	table_close(rel, NoLock);

	dashie_query_begin();
	foreach (lc, pages)
	{
		DayPage *page = lfirst(lc);
		Oid types[] = {DATEOID, BYTEAOID};
		Datum values[] = {DateADTGetDatum(page->day),
						  PointerGetDatum(user_set_to_bytes(page->heartbeats))};

		dashie_query("INSERT INTO dashie.day_page (day, dirty, final, heartbeats) VALUES ($1, "
					 "true, false, $2)"
					 " ON CONFLICT (day) DO UPDATE SET dirty = true, heartbeats = $2",
					 2, types, values, NULL);
	}
	dashie_query_end();
}

/*
 * Lets a worker begin to read those of the days that are needed, as far as is
 * known before the users were looked at; unless they are more than "most".
 */
static void
read_ahead(Metrics *metrics, DateADT from, DateADT to, bool force, int most)
{
	int ndays = to - from + 1;
	bool *needed = palloc(ndays * sizeof(bool));
	DayPage *heads = pages_load(metrics, from, to, false);
	int count = 0;

	for (int i = 0; i < ndays; i++)
		count += needed[i] = metrics_day_needed(metrics, &heads[i], force);
	if (count <= most)
		collect_ahead(metrics, from, ndays, needed);
	pfree(heads);
	pfree(needed);
}

/*
 * metrics_absorb_marks turns the visible marks into dirty pages and evidence
 * of heartbeats, and deletes them.  Loads the numbers.
 */
void
metrics_absorb_marks(Metrics *metrics)
{
	/* no days */
	metrics_absorb_marks_for(metrics, 0, -1, false, 0);
}

/*
 * metrics_absorb_marks_for is for who will bring up at once those of [from, to] that are
 * needed, if they are no more than "most": a worker may read their sessions while
 * the users are looked at.  In the first run of all the users are not looked at
 * yet, but when the sessions are read, or when somebody asks for them.
 */
void
metrics_absorb_marks_for(Metrics *metrics, DateADT from, DateADT to, bool force, int most)
{
	MemoryContext old = MemoryContextSwitchTo(metrics->context);

	absorb_ranges(metrics, MARK_SESSIONS);
	numbers_prepare(metrics);
	if (metrics->has_last_pass || from > to)
	{
		if (from <= to)
			read_ahead(metrics, from, to, force, most);
		numbers_load(metrics);
		collect_ahead_read(metrics);
		users_recount(metrics);
	}
	absorb_heartbeats(metrics);
	CommandCounterIncrement();
	MemoryContextSwitchTo(old);
}

/*
 * metrics_first_day is the first day that anything is known of: the earliest
 * session, sign-up or page (its rows may have been removed as a correction),
 * but no day that retention has touched.
 */
DateADT
metrics_first_day(Metrics *metrics)
{
	TimestampTz first = metrics->now;
	DateADT day;
	Oid page_types = DATEOID;
	Datum page_from = DateADTGetDatum(metrics->first_open_day);
	bool no_page;

	numbers_load(metrics);
	for (int32 number = 0; number < metrics->by_number_size; number++)
	{
		UserEntry *user = numbers_by_number(metrics, number);

		if (user != NULL && user->signup_counts && user->has_signup && user->signed_up_at < first)
			first = user->signed_up_at;
	}
	if (OidIsValid(metrics->sessions_rel))
	{
		DashieColumn column = {"started_at", TIMESTAMPTZOID, true, 0};
		Relation rel =
			dashie_relation_open(metrics->sessions_rel, AccessShareLock, ACL_SELECT, false);
		DashieScan *scan;

		dashie_relation_columns(rel, &column, 1);
		scan = dashie_scan_begin_range(rel, metrics->snapshot, &column, DT_NOBEGIN, first);
		while (dashie_scan_next(scan))
		{
			bool isnull;
			Datum value = dashie_scan_get(scan, &column, &isnull);

			if (!isnull && DatumGetTimestampTz(value) < first)
				first = DatumGetTimestampTz(value);
			if (dashie_scan_is_ordered(scan))
				break;
		}
		dashie_scan_end(scan);
		table_close(rel, NoLock);
	}
	day = dashie_day_of(first, metrics->zone);

	dashie_query_begin();
	metrics_query(metrics, "SELECT min(day) FROM dashie.day_page WHERE day >= $1", 1, &page_types,
				  &page_from);
	dashie_query_types(1, &page_types);
	page_from = dashie_field(0, 1, &no_page);
	if (!no_page)
		day = Min(day, DatumGetDateADT(page_from));
	dashie_query_end();

	day = Max(day, metrics->today - MAX_HISTORY_DAYS);
	return Max(day, metrics->first_open_day);
}

/*
 * metrics_first_page_day is the first day whose numbers are known, also when retention
 * has closed it: daily_metrics may have been enabled after that.
 */
DateADT
metrics_first_page_day(DateADT otherwise)
{
	Oid type = DATEOID;
	Datum value = DateADTGetDatum(DASHIE_MIN_DAY);
	bool none;

	dashie_query_begin();
	dashie_query("SELECT min(day) FROM dashie.day_page WHERE day >= $1", 1, &type, &value, NULL);
	dashie_query_types(1, &type);
	value = dashie_field(0, 1, &none);
	dashie_query_end();
	return none ? otherwise : Min(otherwise, DatumGetDateADT(value));
}

/* metrics_reject_future refuses a day to come as an argument. */
void
metrics_reject_future(const Metrics *metrics, const char *argument, DateADT day)
{
	if (day > metrics->today)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"%s\" (%s) is in the future", argument, dashie_day_text(day)),
						errdetail("Today is %s in time zone %s.", dashie_day_text(metrics->today),
								  pg_get_timezone_name(metrics->zone))));
}

typedef struct BringUp
{
	DateADT from;
	bool *computed;
} BringUp;

static void
store_computed(Metrics *metrics, DayPage *page, void *arg)
{
	BringUp *bring_up = arg;

	page_store(metrics, page);
	if (bring_up->computed != NULL)
		bring_up->computed[page->day - bring_up->from] = true;
}

static void
insert_computed(Metrics *metrics, DayPage *page, void *arg)
{
	BringUp *bring_up = arg;

	page_insert(metrics, page);
	if (bring_up->computed != NULL)
		bring_up->computed[page->day - bring_up->from] = true;
}

/*
 * metrics_day_needed says whether a day is to be computed: its page is
 * missing, dirty, or not final although the day is over; with force, always.
 */
bool
metrics_day_needed(const Metrics *metrics, const DayPage *page, bool force)
{
	if (page->day < metrics->first_open_day && !force)
		return false;

	/* rows that are out of reach leave what was computed from them */
	if (page->stored && page->has_sessions && !OidIsValid(metrics->sessions_rel))
		return false;
	return force || !page->stored || page->dirty || (!page->final && page->day < metrics->today);
}

/*
 * metrics_bring_up computes and stores the pages of [from, to] that are needed.
 * Returns the number of days computed; computed[i], if wanted, says which.
 * With "one_pass" it stops after one pass over the sessions, and *more says
 * whether days are left.
 */
int
metrics_bring_up(Metrics *metrics, DateADT from, DateADT to, bool force, bool one_pass, bool *more,
				 bool *computed)
{
	int ndays = to - from + 1;
	BringUp bring_up = {from, computed};
	bool *needed;
	DayPage *heads;
	int count = 0;
	MemoryContext old;

	*more = false;
	if (ndays <= 0)
		return 0;
	old = MemoryContextSwitchTo(metrics->context);
	needed = palloc0(ndays);
	heads = pages_load(metrics, from, to, false);
	for (int i = 0; i < ndays; i++)
		needed[i] = metrics_day_needed(metrics, &heads[i], force);

	for (int i = 0; i < ndays; i++)
	{
		/* a pass may leave days to the next one */
		while (needed[i])
		{
			if (one_pass && count > 0)
			{
				*more = true;
				break;
			}
			CHECK_FOR_INTERRUPTS();
			count += collect_stretch(metrics, heads + i, ndays - i, needed + i, store_computed,
									 insert_computed, &bring_up);
		}
		if (*more)
			break;
	}
	pfree(heads);
	pfree(needed);
	MemoryContextSwitchTo(old);
	return count;
}
