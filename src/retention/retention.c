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
 * unchanged since.  dashie.retention_floor records, in the transaction that
 * removes sessions, the start of the day from which on history is still whole;
 * a refresh never counts an earlier day again.  So the floor must not pass a
 * day that a refresh has yet to count: the DELETE itself looks, with the
 * snapshot that it reads the sessions with, that no day from the floor up to
 * its limit is dirty or marked as changed.
 *
 * Every table is worked on in a subtransaction of its own, and waits for its
 * lock no longer than maintenance_lock_timeout_ms: one that fails is reported,
 * and the others go on.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "billing/billing.h"
#include "common/day.h"
#include "common/owner.h"
#include "common/query.h"
#include "common/relation.h"
#include "common/rows.h"
#include "common/setting.h"
#include "jobs/job.h"
#include "metrics/marks.h"
#include "metrics/metrics.h"
#include "partition/partition.h"
#include "retention/retention.h"
#include "roadmap/roadmap.h"

PG_FUNCTION_INFO_V1(dashie_apply_retention);

/* One pass over one table: what to do, and what came of it. */
typedef struct Pass
{
	const DashieGuard *guard;
	const RoadmapTable *table;
	bool dry_run;
	int number;			/* of the job's steps on this table */
	DashieRows *result; /* rows for the caller of the function; NULL in the job */
	int64 rows;			/* removed, or removable with dry_run */
	bool more;			/* another pass would find work */
	bool locked;		/* holds locks that others should not wait behind for long */
	char *blocker;		/* a lock was not to be had: who holds it */
	int64 stall;		/* as in JobStep */
	TimestampTz stall_since;
	ErrorData *error; /* the pass failed and left nothing behind */
	char *complaint;  /* part of it failed, and that is recorded */
} Pass;

/* A line of apply_retention()'s answer. */
typedef struct Line
{
	const char *action;
	TimestampTz upto;
	int64 rows;
	int64 bytes; /* -1: unknown */
	const char *reason;
	const char *locks;
	const char *blocked_by;
} Line;

/*
 * The run of the job in this backend, from its step 0 on.  Tables take turns,
 * so that a long backlog of one does not starve the others when the run's time
 * is up.
 */
static struct
{
	bool done[ROADMAP_TABLES];
	int steps[ROADMAP_TABLES];
	int waits[ROADMAP_TABLES];
	int turn;
	int64 numbers[JOB_NUMBERS]; /* of the partitions */
	int sqlerrcode;				/* of the first table that failed, else 0 */
	char message[512];
} run;

static bool
is_partitioned(const RoadmapTable *table)
{
	return strcmp(table->name, "widget_analytics") == 0;
}

static void
put_line(Pass *pass, const Line *line)
{
	Datum values[8] = {0};
	bool nulls[8] = {false};

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
 * The days of user_sessions that retention may close: [floor, limit) is to be
 * computed, final and unchanged.
 */
typedef struct SessionDays
{
	bool metrics; /* somebody computes days at all */
	TimestampTz floor;
	TimestampTz limit;
} SessionDays;

/* What the current snapshot knows of days from $1 on that must be counted first. */
#define FIRST_MARK \
	"SELECT min(greatest(m.\"from\", $1)) FROM dashie.changed_range AS m WHERE m.upto >= $1"
#define FIRST_DIRTY \
	"SELECT min(p.day) FROM dashie.day_page AS p WHERE (p.dirty OR NOT p.final) AND p.day >= $2"

/*
 * session_days finds how far days may be closed: up to the cutoff, but not
 * beyond the first day that waits for a refresh.
 */
static void
session_days(SessionDays *days, TimestampTz cutoff, pg_tz *zone)
{
	TimestampTz complete = dashie_metrics_complete_before();
	Oid types[2] = {TIMESTAMPTZOID, DATEOID};
	Datum values[2];
	Datum value;
	bool isnull;

	days->metrics = !TIMESTAMP_IS_NOEND(complete);
	days->floor = DT_NOBEGIN;
	days->limit = Min(cutoff, complete);
	if (!days->metrics)
		return;

	/* what this transaction changed itself is not marked before it commits */
	dashie_marks_flush();
	dashie_query("SELECT removed_before FROM dashie.retention_floor"
				 " WHERE table_name = 'user_sessions'",
				 0, NULL, NULL, NULL);
	if (SPI_processed > 0)
		days->floor = DatumGetTimestampTz(dashie_field(0, 1, NULL));

	values[0] = TimestampTzGetDatum(days->floor);
	values[1] = DateADTGetDatum(dashie_day_of(days->floor, zone));
	dashie_query("SELECT (" FIRST_MARK "), (" FIRST_DIRTY ")", 2, types, values, NULL);
	value = dashie_field(0, 1, &isnull);
	if (!isnull)
		days->limit = Min(days->limit,
						  dashie_day_start(dashie_day_of(DatumGetTimestampTz(value), zone), zone));
	value = dashie_field(0, 2, &isnull);
	if (!isnull)
		days->limit = Min(days->limit, dashie_day_start(DatumGetDateADT(value), zone));
}

/* A count or a DELETE of expired rows; all but the text is common. */
typedef struct Statement
{
	const char *name; /* of the table, quoted */
	const char *at;	  /* a row's time */
	Oid limit_type;	  /* timestamptz, or date where the time is a date */
	Datum limit;	  /* rows before it have expired */
	DateADT limit_day;
	const SessionDays *days; /* NULL: the table has no part in the metrics */
	bool holds;				 /* rows may be on legal hold */
	TimestampTz floor;
	DateADT floor_day;
} Statement;

/*
 * $1 the limit, $2 rows of a batch, $3 the limit's day, $4 and $5 the floor and
 * its day.
 */
static uint64
run_statement(const Statement *statement, const char *sql)
{
	Oid types[5] = {statement->limit_type, INT8OID, DATEOID, TIMESTAMPTZOID, DATEOID};
	Datum values[5];

	values[0] = statement->limit;
	values[1] = Int64GetDatum(dashie_setting_int("batch_rows"));
	values[2] = DateADTGetDatum(statement->limit_day);
	values[3] = TimestampTzGetDatum(statement->floor);
	values[4] = DateADTGetDatum(statement->floor_day);
	return dashie_query(sql, 5, types, values, NULL);
}

static const char *
not_on_hold(const Statement *statement)
{
	return statement->holds ? " AND " DASHIE_NOT_ON_HOLD : "";
}

static int64
count_expired(const Statement *statement)
{
	run_statement(statement, psprintf("SELECT count(*) FROM ONLY %s AS t WHERE (%s) < $1%s",
									  statement->name, statement->at, not_on_hold(statement)));
	return DatumGetInt64(dashie_field(0, 1, NULL));
}

/*
 * delete_expired removes one batch, oldest first.  The condition on the time
 * stands twice: in the subselect, where FOR UPDATE looks at the newest version
 * of a row that changed since the snapshot, and in the DELETE, for a row that
 * this transaction changes between the two (a trigger of the application).
 */
static int64
delete_expired(const Statement *statement)
{
	const char *days_unchanged = " AND NOT EXISTS (SELECT FROM dashie.changed_range AS m"
								 " WHERE m.\"from\" < $1 AND m.upto >= $4)"
								 " AND NOT EXISTS (SELECT FROM dashie.day_page AS p"
								 " WHERE (p.dirty OR NOT p.final) AND p.day >= $5 AND p.day < $3)";

	return run_statement(
		statement,
		psprintf("DELETE FROM ONLY %s WHERE ctid = ANY (ARRAY("
				 "SELECT t.ctid FROM ONLY %s AS t WHERE (%s) < $1%s%s"
				 " ORDER BY (%s) LIMIT $2 FOR UPDATE OF t SKIP LOCKED)) AND (%s) < $1",
				 statement->name, statement->name, statement->at,
				 statement->days != NULL && statement->days->metrics ? days_unchanged : "",
				 not_on_hold(statement), statement->at, statement->at));
}

void
dashie_retention_raise_floor(const char *table_name, TimestampTz removed_before)
{
	Oid types[] = {TEXTOID, TIMESTAMPTZOID};
	Datum values[] = {CStringGetTextDatum(table_name), TimestampTzGetDatum(removed_before)};

	if (!OidIsValid(dashie_relation_oid("dashie", "retention_floor")))
		return;
	dashie_query("INSERT INTO dashie.retention_floor AS f (table_name, removed_before)"
				 " VALUES ($1, $2) ON CONFLICT (table_name) DO UPDATE"
				 " SET removed_before = excluded.removed_before"
				 " WHERE f.removed_before < excluded.removed_before",
				 2, types, values, NULL);
}

static int64
estimated_bytes(Relation rel, int64 rows)
{
	double live = rel->rd_rel->reltuples;

	if (live <= 0 || rel->rd_rel->relpages <= 0)
		return -1;
	return (int64) (rel->rd_rel->relpages * (double) BLCKSZ / live * rows);
}

/* What has expired and stays, for somebody who looks. */
static void
put_held(Pass *pass, Statement *statement, TimestampTz cutoff, Relation rel, int64 removable)
{
	Line line = {0};
	int64 held;

	bool on_hold = statement->holds;

	statement->limit = TimestampTzGetDatum(cutoff);
	statement->holds = false;
	held = count_expired(statement) - removable;
	if (held <= 0)
		return;
	line.action = "hold";
	line.upto = cutoff;
	line.rows = held;
	line.bytes = estimated_bytes(rel, held);
	line.reason = on_hold ? "on legal hold"
				  : statement->limit_day <= DASHIE_MIN_DAY
					  ? "the days of these sessions are not in the metrics yet"
					  : psprintf("from %s on, days are not final in the metrics yet",
								 dashie_day_text(statement->limit_day));
	put_line(pass, &line);
}

static void
remove_rows(Pass *pass, Oid relid)
{
	const LockNeed need = {relid, pass->dry_run ? AccessShareLock : RowExclusiveLock};
	const LockNeed delete_need = {relid, RowExclusiveLock};
	bool sessions = strcmp(pass->table->name, "user_sessions") == 0;
	TimestampTz cutoff = dashie_retention_cutoff(pass->table->name);
	TimestampTz upto = cutoff;
	pg_tz *zone = dashie_timezone();
	SessionDays days;
	Statement statement = {0};
	Relation rel;
	Line line = {0};

	/* a dry run only reads: it must work on a standby too */
	dashie_lock_together(&need, 1, dashie_setting_int("maintenance_lock_timeout_ms"));
	if (pass->dry_run)
	{
		line.locks = dashie_lock_text(&delete_need, 1);
		line.blocked_by = dashie_lock_holders(&delete_need, 1);
	}
	dashie_become_owner_of(pass->guard, relid);
	rel = dashie_relation_open(relid, NoLock, pass->dry_run ? ACL_SELECT : ACL_DELETE, false);

	dashie_query_begin();
	if (sessions)
	{
		session_days(&days, cutoff, zone);
		upto = days.limit;
		statement.days = &days;
		statement.floor = days.floor;
		statement.floor_day = dashie_day_of(days.floor, zone);
	}
	statement.name = dashie_relation_name(relid);
	statement.at = pass->table->time_column;
	statement.holds = strcmp(pass->table->name, "stripe_webhook_events") == 0 && dashie_hold_any();
	statement.limit_day = dashie_day_of(upto, zone);
	if (get_atttype(relid, get_attnum(relid, statement.at)) == DATEOID)
	{
		statement.limit_type = DATEOID;
		statement.limit = DateADTGetDatum(statement.limit_day);
		upto = cutoff = dashie_day_start(statement.limit_day, zone);
	}
	else
	{
		statement.limit_type = TIMESTAMPTZOID;
		statement.limit = TimestampTzGetDatum(upto);
	}

	if (pass->dry_run)
		pass->rows = count_expired(&statement);
	else
	{
		pass->rows = delete_expired(&statement);
		pass->locked = pass->rows > 0;
		if (pass->rows > 0 && sessions)
			dashie_retention_raise_floor("user_sessions", upto);
		pass->more = pass->rows >= dashie_setting_int("batch_rows");
	}

	line.action = "delete";
	line.upto = upto;
	line.rows = pass->rows;
	line.bytes = estimated_bytes(rel, pass->rows);
	line.reason = psprintf("older than %s", keep_text(pass->table->name));
	if (pass->rows > 0)
		put_line(pass, &line);
	if ((upto < cutoff || statement.holds) && pass->result != NULL && !pass->more)
		put_held(pass, &statement, cutoff, rel, pass->dry_run ? pass->rows : 0);

	dashie_query_end();
	relation_close(rel, NoLock);
}

static void
put_partition(const PartitionAction *action, void *arg)
{
	Pass *pass = arg;
	Line line = {0};

	line.action = action->action;
	line.upto = action->upper;
	line.rows = action->rows;
	line.bytes = action->bytes;
	line.reason = action->partition == NULL
					  ? action->reason
					  : psprintf("partition %s: %s", action->partition, action->reason);
	line.locks = action->locks;
	line.blocked_by = action->blocked_by;
	put_line(pass, &line);
}

static void
remove_partitions(Pass *pass)
{
	if (pass->result != NULL)
		dashie_partition_expire(pass->guard, pass->dry_run, put_partition, pass);
	else
	{
		JobStep step = {0};
		void *complaint = NULL;

		step.guard = pass->guard;
		step.number = pass->number;
		step.numbers = run.numbers;
		step.memory = CurrentMemoryContext;
		step.kept = &complaint;
		pass->locked = true;
		pass->more = dashie_partition_expire_step(&step);
		pass->rows = step.rows;
		pass->stall = step.stall;
		pass->stall_since = step.stall_since;
		if (step.blocked)
			pass->blocker = step.blocker;
		pass->complaint = complaint;
	}
}

static void
remove_expired(Pass *pass)
{
	Oid relid = dashie_enabled_oid(pass->table->name);
	Oid user;
	int context;
	int nest;

	if (!OidIsValid(relid) || dashie_retention_of(pass->table->name) == NULL)
		return;

	GetUserIdAndSecContext(&user, &context);
	nest = NewGUCNestLevel();
	if (is_partitioned(pass->table))
		remove_partitions(pass);
	else
		remove_rows(pass, relid);
	AtEOXact_GUC(true, nest);
	SetUserIdAndSecContext(user, context);
}

static void
pass_work(void *arg)
{
	remove_expired(arg);
}

/*
 * run_pass works on one table.  A lock that was not to be had and an error
 * leave it as it was, and are told in the Pass.  An error that is meant for
 * the whole session, a cancel above all, goes on.
 */
static void
run_pass(Pass *pass)
{
	ErrorData *error = dashie_attempt(pass_work, pass);
	LockNeed need = {InvalidOid, RowExclusiveLock};
	Line line = {0};

	if (error == NULL)
		return;
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
		ReThrowError(error);

	pass->rows = 0;
	pass->more = pass->locked = false;
	line.upto = dashie_retention_cutoff(pass->table->name);
	line.bytes = -1;
	line.reason = error->message;
	if (dashie_is_blocked(error))
	{
		need.relid = dashie_enabled_oid(pass->table->name);
		if (OidIsValid(need.relid))
			pass->blocker = dashie_lock_holders(&need, 1);
		if (pass->blocker == NULL)
			pass->blocker = pstrdup("a lock of somebody who has gone meanwhile");
		line.action = "blocked";
		line.blocked_by = pass->blocker;
	}
	else
	{
		pass->error = error;
		line.action = "failed";
		ereport(WARNING, (errcode(error->sqlerrcode),
						  errmsg("retention of %s failed: %s", pass->table->name, error->message),
						  error->detail != NULL ? errdetail_internal("%s", error->detail) : 0));
	}
	put_line(pass, &line);
}

Datum
dashie_apply_retention(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	DashieRows rows;

	dashie_reject_null(fcinfo, 0, "dry_run");
	if (!PG_GETARG_BOOL(0))
		PreventCommandIfReadOnly("dashie.apply_retention()");
	dashie_rows_begin(fcinfo, &rows);
	dashie_enter(&guard);
	for (int i = 0; i < 2 * ROADMAP_TABLES; i++)
	{
		Pass pass = {0};

		/* partitions in a second round: nobody is to wait behind their locks meanwhile */
		pass.table = &dashie_roadmap_tables[i % ROADMAP_TABLES];
		if (is_partitioned(pass.table) != (i >= ROADMAP_TABLES))
			continue;
		CHECK_FOR_INTERRUPTS();
		pass.guard = &guard;
		pass.dry_run = PG_GETARG_BOOL(0);
		pass.result = &rows;
		run_pass(&pass);
	}
	dashie_leave(&guard);
	return (Datum) 0;
}

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
		Pass pass = {0};

		CHECK_FOR_INTERRUPTS();
		pass.guard = step->guard;
		pass.table = &dashie_roadmap_tables[run.turn];
		pass.number = run.steps[run.turn]++;
		run_pass(&pass);

		step->stall = Max(step->stall, pass.stall);
		if (pass.stall_since != 0)
			step->stall_since = pass.stall_since;
		if (pass.error != NULL)
			remember_failure(pass.error->sqlerrcode, pass.table->name, pass.error->message);
		if (pass.complaint != NULL)
			remember_failure(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION, pass.table->name, pass.complaint);
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
		run.done[run.turn] = pass.blocker != NULL || !pass.more;
		step->rows = pass.rows;
		if (pass.locked)
			return true;
	}

	if (run.sqlerrcode != 0)
		ereport(ERROR, (errcode(run.sqlerrcode), errmsg_internal("%s", run.message),
						errdetail("The other tables were worked on.")));
	return false;
}
