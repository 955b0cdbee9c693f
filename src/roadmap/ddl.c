/*
 * ddl.c
 *		The DDL of a table, from tables/<name>.sql: filled in, parsed, run.
 *
 * The text comes from member table dashie.table_ddl, which nobody but the
 * install script writes.  It is parsed once and run statement by statement
 * through ProcessUtility, so that what stands in the file is what runs, and
 * enable() can look at each statement first.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/parser.h"
#include "tcop/dest.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "common/query.h"
#include "roadmap/roadmap.h"

/*
 * dashie_ddl_fill puts names, quoted already, in place of @schema@ and
 * @user_sessions@.  One pass: a name that looks like one of these stays as it is.
 */
char *
dashie_ddl_fill(const char *ddl, const char *schema, const char *user_sessions)
{
	static const char schema_mark[] = "@schema@";
	static const char sessions_mark[] = "@user_sessions@";
	StringInfoData out;

	initStringInfo(&out);
	while (*ddl != '\0')
	{
		if (strncmp(ddl, schema_mark, strlen(schema_mark)) == 0)
		{
			appendStringInfoString(&out, schema);
			ddl += strlen(schema_mark);
		}
		else if (strncmp(ddl, sessions_mark, strlen(sessions_mark)) == 0)
		{
			Assert(user_sessions != NULL);
			appendStringInfoString(&out, user_sessions);
			ddl += strlen(sessions_mark);
		}
		else
			appendStringInfoChar(&out, *ddl++);
	}
	return out.data;
}

/* dashie_ddl_parse returns the statements of a text, as raw parse trees. */
List *
dashie_ddl_parse(const char *sql)
{
	List *statements = NIL;
	ListCell *lc;

	foreach (lc, raw_parser(sql, RAW_PARSE_DEFAULT))
		statements = lappend(statements, lfirst_node(RawStmt, lc)->stmt);
	return statements;
}

/* An error's position is one in our text, not in the caller's query. */
static void
position_in_ddl(void *arg)
{
	if (geterrposition() > 0)
	{
		internalerrposition(geterrposition());
		internalerrquery((const char *) arg);
		errposition(0);
	}
}

/*
 * dashie_ddl_execute runs one statement of a text as the current user.  The
 * tree is used up.
 */
void
dashie_ddl_execute(const char *sql, Node *statement)
{
	PlannedStmt *planned = makeNode(PlannedStmt);
	ErrorContextCallback context;

	planned->commandType = CMD_UTILITY;
	planned->utilityStmt = statement;
	planned->stmt_location = -1;

	context.callback = position_in_ddl;
	context.arg = unconstify(char *, sql);
	context.previous = error_context_stack;
	error_context_stack = &context;

	PushActiveSnapshot(GetTransactionSnapshot());
	ProcessUtility(planned, sql, false, PROCESS_UTILITY_QUERY, NULL, NULL, None_Receiver, NULL);
	PopActiveSnapshot();
	CommandCounterIncrement();

	error_context_stack = context.previous;
}

/* dashie_ddl_differ notes one reason why a table cannot be adopted. */
void
dashie_ddl_differ(Enabling *enabling, const char *format, ...)
{
	StringInfoData line;

	initStringInfo(&line);
	for (;;)
	{
		va_list args;
		int needed;

		va_start(args, format);
		needed = appendStringInfoVA(&line, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&line, needed);
	}
	enabling->differences = lappend(enabling->differences, line.data);
}

/*
 * Errors that say something about the table being adopted, and so belong in
 * the list of its differences.  All others go to the caller as they are.
 */
static bool
is_difference(const ErrorData *error)
{
	int class = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	if (error->elevel != ERROR || error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE)
		return false;
	return class == ERRCODE_TO_CATEGORY(ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION) ||
		   class == ERRCODE_TO_CATEGORY(ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION) ||
		   class == ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION);
}

/*
 * dashie_ddl_run runs one statement.  On a table that existed before, it does
 * so in a subtransaction, so that the error of one statement becomes one of
 * the listed differences and the next is still tried.
 */
void
dashie_ddl_run(Enabling *enabling, Node *statement)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	enabling->changes++;
	if (!enabling->existed)
	{
		dashie_ddl_execute(enabling->sql, statement);
		return;
	}

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(old);
	PG_TRY();
	{
		dashie_ddl_execute(enabling->sql, statement);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(old);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old);
		CurrentResourceOwner = owner;

		if (!is_difference(error))
			ReThrowError(error);

		/* that a column is missing or of another type is in the list already */
		if ((error->sqlerrcode == ERRCODE_UNDEFINED_COLUMN ||
			 error->sqlerrcode == ERRCODE_UNDEFINED_FUNCTION ||
			 error->sqlerrcode == ERRCODE_DATATYPE_MISMATCH) &&
			enabling->differences != NIL)
			return;
		if (error->detail != NULL)
			dashie_ddl_differ(enabling, "%s: %s", error->message, error->detail);
		else
			dashie_ddl_differ(enabling, "%s", error->message);
	}
	PG_END_TRY();
}

/*
 * dashie_ddl_own runs a file of a capability's folder ddl/: tables of its own
 * in schema dashie, for the current user, who then owns them.
 */
void
dashie_ddl_own(const char *name)
{
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(name)};

	dashie_query_begin();
	if (dashie_query("SELECT ddl FROM dashie.table_ddl WHERE table_name = $1", 1, types, values,
					 NULL) != 1)
		elog(ERROR, "DDL \"%s\" is missing", name);
	dashie_command(dashie_field_text(0, 1));
	dashie_query_end();
}

/*
 * dashie_ddl_share lets the owner of a table, as whom maintenance runs, use
 * tables of ours, which belong to whoever enables.
 */
void
dashie_ddl_share(Oid relid, const char *rights, const char *tables)
{
	Relation rel = relation_open(relid, AccessShareLock);
	Oid owner = rel->rd_rel->relowner;
	const char *role = quote_identifier(GetUserNameFromId(owner, false));

	relation_close(rel, NoLock);
	if (owner == GetUserId())
		return;
	dashie_query_begin();
	dashie_command(psprintf("GRANT USAGE ON SCHEMA dashie TO %s", role));
	dashie_command(psprintf("GRANT %s ON TABLE %s TO %s", rights, tables, role));
	dashie_query_end();
}
