/*
 * retention.c
 *		Removes what is older than its retention: dashie.apply_retention() and
 *		the job of that name.
 *
 * Rows go in batches, oldest first, as the owner of their table.  A batch
 * takes ROW EXCLUSIVE on the table and the locks of its rows; rows that
 * somebody else holds are left for the next pass, so that retention waits for
 * nobody, and a row whose time moves forward meanwhile stays, because the lock
 * and the DELETE both look at its newest version.  Partitions of
 * widget_analytics go whole (partition/).
 *
 * Sessions stay until the days that they touch are in the metrics, final and
 * unchanged since.  One statement, so one snapshot, sees the sessions, the
 * days' pages and the marks of changed days; in the same transaction
 * dashie.retention_floor records from where on history is still whole, which
 * is how a refresh knows the days that it must not count again.
 *
 * Every table is worked on in a subtransaction of its own: one that fails is
 * reported, and the others go on.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "common/day.h"
#include "common/owner.h"
#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "common/setting.h"
#include "jobs/job.h"
#include "metrics/metrics.h"
#include "partition/partition.h"
#include "retention/retention.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_apply_retention);

bool		dashie_retention_deleting = false;

/* One pass over one table: what to do, and what came of it. */
typedef struct Pass
{
	const DashieGuard *guard;
	const RoadmapTable *table;
	bool		dry_run;
	DashieRows *result;			/* rows for the caller of the function; NULL in the job */
	int64		rows;			/* removed, or removable with dry_run */
	bool		more;			/* another pass would find work */
	char	   *blocker;		/* a lock was not to be had: who holds it */
	ErrorData  *error;			/* the pass failed and left nothing behind */
} Pass;

/* A line of apply_retention()'s answer. */
typedef struct Line
{
	const char *action;
	TimestampTz upto;
	int64		rows;
	int64		bytes;			/* -1: unknown */
	const char *reason;
	const char *locks;
	const char *blocked_by;
} Line;

static void
put_line(Pass *pass, const Line *line)
{
	Datum		values[8] = {0};
	bool		nulls[8] = {false};

	if (pass->result == NULL)
		return;
	values[0] = CStringGetTextDatum(pass->table->name);
	values[1] = CStringGetTextDatum(line->action);
	values[2] = TimestampTzGetDatum(line->upto);
	values[3] = Int64GetDatum(line->rows);
	nulls[3] = line->rows < 0;
	values[4] = Int64GetDatum(line->bytes);
	nulls[4] = line->bytes < 0;
	values[5] = CStringGetTextDatum(line->reason);
	if (!(nulls[6] = line->locks == NULL))
		values[6] = CStringGetTextDatum(line->locks);
	if (!(nulls[7] = line->blocked_by == NULL))
		values[7] = CStringGetTextDatum(line->blocked_by);
	dashie_rows_put(pass->result, values, nulls);
}

static char *
keep_text(const char *table_name)
{
	return DatumGetCString(
		DirectFunctionCall1(interval_out, IntervalPGetDatum(dashie_retention_of(table_name))));
}

/*
 * lock_blockers lists the sessions that would make a DELETE on the table wait,
 * or NULL.
 */
static char *
lock_blockers(Oid relid)
{
	Oid			type = OIDOID;
	Datum		value = ObjectIdGetDatum(relid);
	char	   *blockers;

	dashie_query_begin();
	dashie_query("SELECT string_agg(DISTINCT coalesce('pid ' || l.pid, 'a prepared transaction')"
				 " || ' (' || l.mode || ')', ', ')"
				 " FROM pg_catalog.pg_locks AS l"
				 " JOIN pg_catalog.pg_database AS d ON d.oid = l.database"
				 " WHERE l.locktype = 'relation' AND d.datname = current_database()"
				 " AND l.relation = $1 AND l.pid IS DISTINCT FROM pg_backend_pid()"
				 " AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',"
				 " 'AccessExclusiveLock')",
				 1, &type, &value, NULL);
	blockers = dashie_field_text(0, 1);
	dashie_query_end();
	return blockers;
}

/*
 * The condition under which rows have expired and may go: $1 is the instant,
 * or the day for a column of type date, before which they have.
 */
static char *
expired_condition(const Pass *pass, bool with_metrics)
{
	const char *at = pass->table->time_column;

	if (!with_metrics)
		return psprintf("(%s) < $1", at);
	return psprintf("(%s) < $1"
					" AND NOT EXISTS (SELECT FROM dashie.changed_range AS m"
					" WHERE m.\"from\" <= (%s) AND m.upto >= t.started_at)"
					" AND NOT EXISTS (SELECT FROM dashie.day_page AS p"
					" WHERE (p.dirty OR NOT p.final) AND p.day < $3)",
					at, at);
}

/* $1: the limit, $2: rows of a batch, $3: the limit's day. */
static int64
run_statement(const char *sql, Oid limit_type, Datum limit, DateADT limit_day)
{
	Oid			types[3] = {limit_type, INT8OID, DATEOID};
	Datum		values[3];

	values[0] = limit;
	values[1] = Int64GetDatum(dashie_setting_int("batch_rows"));
	values[2] = DateADTGetDatum(limit_day);
	return dashie_query(sql, 3, types, values, NULL);
}

static int64
count_expired(const char *name, const char *condition, Oid limit_type, Datum limit,
			  DateADT limit_day)
{
	char	   *sql = psprintf("SELECT count(*) FROM ONLY %s AS t WHERE %s", name, condition);
	bool		isnull;

	run_statement(sql, limit_type, limit, limit_day);
	return DatumGetInt64(dashie_field(0, 1, &isnull));
}

/*
 * delete_expired removes one batch, oldest first.  The condition stands twice:
 * in the subselect, where FOR UPDATE looks at the newest version of a row that
 * changed since the snapshot, and in the DELETE, for a row that changes
 * between the two.
 */
static int64
delete_expired(const Pass *pass, const char *name, const char *condition, Oid limit_type,
			   Datum limit, DateADT limit_day)
{
	const char *at = pass->table->time_column;
	int64		rows = 0;
	char	   *sql = psprintf("DELETE FROM ONLY %s WHERE ctid = ANY (ARRAY("
							   "SELECT t.ctid FROM ONLY %s AS t WHERE %s"
							   " ORDER BY (%s) LIMIT $2 FOR UPDATE OF t SKIP LOCKED))"
							   " AND (%s) < $1",
							   name, name, condition, at, at);

	dashie_retention_deleting = true;
	PG_TRY();
	{
		rows = run_statement(sql, limit_type, limit, limit_day);
	}
	PG_FINALLY();
	{
		dashie_retention_deleting = false;
	}
	PG_END_TRY();
	return rows;
}

/*
 * raise_floor records that sessions which ended before the instant may be
 * missing.  A floor that is there already never sinks.
 */
static void
raise_floor(TimestampTz removed_before)
{
	Oid			type = TIMESTAMPTZOID;
	Datum		value = TimestampTzGetDatum(removed_before);

	dashie_query("INSERT INTO dashie.retention_floor AS f (table_name, removed_before)"
				 " VALUES ('user_sessions', $1) ON CONFLICT (table_name) DO UPDATE"
				 " SET removed_before = excluded.removed_before"
				 " WHERE f.removed_before < excluded.removed_before",
				 1, &type, &value, NULL);
}

static int64
estimated_bytes(Relation rel, int64 rows)
{
	double		live = rel->rd_rel->reltuples;

	if (live <= 0 || rel->rd_rel->relpages <= 0)
		return -1;
	return (int64) (rel->rd_rel->relpages * (double) BLCKSZ / live * rows);
}

static void
remove_rows(Pass *pass, Oid relid)
{
	bool		sessions = strcmp(pass->table->name, "user_sessions") == 0;
	TimestampTz cutoff = dashie_retention_cutoff(pass->table->name);
	TimestampTz upto = cutoff;
	pg_tz	   *zone = dashie_timezone();
	bool		with_metrics = false;
	Oid			limit_type = TIMESTAMPTZOID;
	Datum		limit;
	DateADT		limit_day;
	Relation	rel;
	char	   *name;
	char	   *condition;
	Line		line = {0};

	/* a dry run reads only: it must work on a standby too */
	line.locks = psprintf("ROW EXCLUSIVE on %s, FOR UPDATE of the rows that nobody else has locked",
						  dashie_relation_name(relid));
	if (!pass->dry_run && !ConditionalLockRelationOid(relid, RowExclusiveLock))
	{
		pass->blocker = lock_blockers(relid);
		LockRelationOid(relid, RowExclusiveLock);
		pass->blocker = NULL;
	}
	if (pass->dry_run)
	{
		LockRelationOid(relid, AccessShareLock);
		line.blocked_by = lock_blockers(relid);
	}
	dashie_become_owner_of(pass->guard, relid);
	rel = dashie_relation_open(relid, AccessShareLock, pass->dry_run ? ACL_SELECT : ACL_DELETE,
							   false);
	name = dashie_relation_name(relid);

	if (sessions)
	{
		TimestampTz complete = dashie_metrics_complete_before();

		with_metrics = !TIMESTAMP_IS_NOEND(complete);
		upto = Min(cutoff, complete);
	}
	limit_day = dashie_day_of(upto, zone);
	limit = TimestampTzGetDatum(upto);
	if (get_atttype(relid, get_attnum(relid, pass->table->time_column)) == DATEOID)
	{
		limit_type = DATEOID;
		limit = DateADTGetDatum(limit_day);
	}
	condition = expired_condition(pass, with_metrics);

	dashie_query_begin();
	if (pass->dry_run)
		pass->rows = count_expired(name, condition, limit_type, limit, limit_day);
	else
	{
		pass->rows = delete_expired(pass, name, condition, limit_type, limit, limit_day);
		if (pass->rows > 0 && sessions &&
			OidIsValid(dashie_relation_oid("dashie", "retention_floor")))
			raise_floor(upto);
		pass->more = pass->rows >= dashie_setting_int("batch_rows");
	}

	line.action = "delete";
	line.upto = upto;
	line.rows = pass->rows;
	line.bytes = estimated_bytes(rel, pass->rows);
	line.reason = psprintf("older than %s", keep_text(pass->table->name));
	if (!pass->dry_run)
		line.locks = NULL;
	if (pass->rows > 0)
		put_line(pass, &line);

	/* what has expired and stays, for somebody who looks */
	if (with_metrics && pass->result != NULL)
	{
		char	   *old = psprintf("(%s) < $1", pass->table->time_column);
		int64		held = count_expired(name, old, TIMESTAMPTZOID, TimestampTzGetDatum(cutoff),
										 limit_day) -
						   (pass->dry_run ? pass->rows : 0);

		if (!pass->more && held > 0)
		{
			line.action = "hold";
			line.upto = cutoff;
			line.rows = held;
			line.bytes = estimated_bytes(rel, held);
			line.reason = "the metrics of these sessions' days are not final yet, or somebody "
						  "has locked them";
			put_line(pass, &line);
		}
	}
	dashie_query_end();
	relation_close(rel, NoLock);
}

static void
remove_expired(Pass *pass)
{
	Oid			relid = dashie_enabled_oid(pass->table->name);
	Oid			user;
	int			context;
	int			nest;
	char		timeout[32];

	if (!OidIsValid(relid) || dashie_retention_of(pass->table->name) == NULL)
		return;

	GetUserIdAndSecContext(&user, &context);
	nest = NewGUCNestLevel();
	snprintf(timeout, sizeof(timeout), INT64_FORMAT "ms",
			 dashie_setting_int("maintenance_lock_timeout_ms"));
	(void) set_config_option("lock_timeout", timeout, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	if (strcmp(pass->table->name, "widget_analytics") != 0)
		remove_rows(pass, relid);
	AtEOXact_GUC(true, nest);
	SetUserIdAndSecContext(user, context);
}

/*
 * run_pass works on one table in a subtransaction.  A lock that was not to be
 * had and an error leave it as it was, and are told in the Pass.  An error
 * that is meant for the whole session, a cancel above all, goes on.
 */
static void
run_pass(Pass *pass)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner resowner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		remove_expired(pass);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = resowner;
	}
	PG_CATCH();
	{
		ErrorData  *error;
		Line		line = {0};

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = resowner;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
			ReThrowError(error);

		pass->rows = 0;
		pass->more = false;
		line.upto = dashie_retention_cutoff(pass->table->name);
		line.rows = 0;
		line.bytes = -1;
		if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		{
			if (pass->blocker == NULL)
				pass->blocker = "a lock on a row of a table that refers to it";
			line.action = "blocked";
			line.reason = error->message;
			line.blocked_by = pass->blocker;
		}
		else
		{
			pass->blocker = NULL;
			pass->error = error;
			line.action = "failed";
			line.reason = error->message;
			ereport(WARNING,
					(errcode(error->sqlerrcode),
					 errmsg("retention of %s failed: %s", pass->table->name, error->message),
					 error->detail != NULL ? errdetail_internal("%s", error->detail) : 0));
		}
		put_line(pass, &line);
	}
	PG_END_TRY();
}

Datum
dashie_apply_retention(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	DashieRows	rows;

	dashie_reject_null(fcinfo, 0, "dry_run");
	dashie_rows_begin(fcinfo, &rows);
	dashie_enter(&guard);
	for (int i = 0; i < ROADMAP_TABLES; i++)
	{
		Pass		pass = {0};

		CHECK_FOR_INTERRUPTS();
		pass.guard = &guard;
		pass.table = &dashie_roadmap_tables[i];
		pass.dry_run = PG_GETARG_BOOL(0);
		pass.result = &rows;
		run_pass(&pass);
	}
	dashie_leave(&guard);
	return (Datum) 0;
}

/*
 * The run of the job in this backend, from its step 0 on.  Tables take turns,
 * so that a long backlog of one does not starve the others when the run's time
 * is up.
 */
static struct
{
	bool		done[ROADMAP_TABLES];
	int			waits[ROADMAP_TABLES];
	int			turn;
	int			sqlerrcode;		/* of the first table that failed, else 0 */
	char		message[512];
} run;

static void
remember_failure(int sqlerrcode, const char *table_name, const char *message)
{
	if (run.sqlerrcode != 0)
		return;
	run.sqlerrcode = sqlerrcode;
	snprintf(run.message, sizeof(run.message), "retention of %s failed: %s", table_name, message);
}

static bool
next_table(void)
{
	for (int i = 0; i < ROADMAP_TABLES; i++)
	{
		run.turn = (run.turn + 1) % ROADMAP_TABLES;
		if (!run.done[run.turn])
			return true;
	}
	return false;
}

/*
 * dashie_retention_step removes one batch of the table whose turn it is.  The
 * step after the last one raises what a table failed with, so that the run
 * counts as failed and the work of the others stays committed.
 */
bool
dashie_retention_step(JobStep *step)
{
	if (step->number == 0)
	{
		memset(&run, 0, sizeof(run));
		run.turn = ROADMAP_TABLES - 1;
	}

	while (next_table())
	{
		Pass		pass = {0};

		CHECK_FOR_INTERRUPTS();
		pass.guard = step->guard;
		pass.table = &dashie_roadmap_tables[run.turn];
		run_pass(&pass);

		if (pass.error != NULL)
			remember_failure(pass.error->sqlerrcode, pass.table->name, pass.error->message);
		if (pass.blocker != NULL)
		{
			if (run.waits[run.turn]++ < dashie_setting_int("lock_retries"))
			{
				step->blocked = true;
				step->blocker = pass.blocker;
				return true;
			}
			remember_failure(ERRCODE_LOCK_NOT_AVAILABLE, pass.table->name,
							 psprintf("blocked by %s", pass.blocker));
		}
		run.done[run.turn] = !pass.more;
		step->rows = pass.rows;
		if (pass.rows > 0)
			return true;
	}

	if (run.sqlerrcode != 0)
		ereport(ERROR,
				(errcode(run.sqlerrcode),
				 errmsg_internal("%s", run.message),
				 errdetail("The other tables were worked on.")));
	return false;
}
