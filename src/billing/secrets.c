/*
 * secrets.c
 *		The signing secrets of the webhook endpoint: dashie.set_stripe_secrets().
 *
 * With Supabase Vault they are one secret of it, a line each, written and read
 * with SQL as the extension's owner.  Else they are rows of
 * dashie.stripe_secret, which belongs to the bootstrap superuser and is granted
 * to nobody: no role's rights would do for SQL, so the rows are read and
 * written through the table access method.  That runs no code of anybody.
 *
 * No function returns a secret, and no message holds one.  Errors keep the
 * statement out of the log, which would show them.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "billing/stripe.h"
#include "common/query.h"
#include "common/relation.h"

PG_FUNCTION_INFO_V1(dashie_set_stripe_secrets);

#define MAX_SECRETS 16
#define MAX_SECRET_LENGTH 255
#define VAULT_NAME "dashie_stripe_secrets"

/* A schema is cheaper to look for, and nobody but a superuser can make the extension. */
static bool
has_vault(void)
{
	return OidIsValid(get_namespace_oid("vault", true)) &&
		   OidIsValid(get_extension_oid("supabase_vault", true));
}

/*
 * open_own_table opens dashie.stripe_secret; what stands under the name but
 * does not belong to a superuser is not ours.
 */
static Relation
open_own_table(LOCKMODE lockmode)
{
	Oid relid = dashie_relation_oid("dashie", "stripe_secret");
	Relation rel = OidIsValid(relid) ? try_table_open(relid, lockmode) : NULL;

	if (rel == NULL || rel->rd_rel->relkind != RELKIND_RELATION ||
		!superuser_arg(rel->rd_rel->relowner) || RelationGetDescr(rel)->natts != 1 ||
		TupleDescAttr(RelationGetDescr(rel), 0)->atttypid != TEXTOID)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errhidestmt(true),
						errmsg("\"dashie.stripe_secret\" is not the extension's own table"),
						errhint("Create the extension again.")));
	return rel;
}

/* Calls back with each row; "each" may delete it. */
static void
scan_own_table(Relation rel, void (*each)(Relation rel, TupleTableSlot *slot, void *arg), void *arg)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		each(rel, slot, arg);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
}

static void
delete_row(Relation rel, TupleTableSlot *slot, void *arg)
{
	simple_table_tuple_delete(rel, &slot->tts_tid, GetLatestSnapshot());
}

static void
write_own_table(char **secrets, int nsecrets)
{
	/* one writer at a time: a row must be deleted once */
	Relation rel = open_own_table(ShareRowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	scan_own_table(rel, delete_row, NULL);
	for (int i = 0; i < nsecrets; i++)
	{
		ExecClearTuple(slot);
		slot->tts_values[0] = CStringGetTextDatum(secrets[i]);
		slot->tts_isnull[0] = false;
		ExecStoreVirtualTuple(slot);
		simple_table_tuple_insert(rel, slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

static void
write_vault(char **secrets, int nsecrets)
{
	Oid types[2] = {TEXTOID, TEXTOID};
	Datum values[2];
	StringInfoData all;
	bool isnull;

	initStringInfo(&all);
	for (int i = 0; i < nsecrets; i++)
		appendStringInfo(&all, "%s%s", i > 0 ? "\n" : "", secrets[i]);
	values[0] = CStringGetTextDatum(all.data);
	values[1] = CStringGetTextDatum(VAULT_NAME);

	dashie_query_begin();
	dashie_query("SELECT vault.update_secret(id, $1) FROM vault.secrets WHERE name = $2", 2, types,
				 values, NULL);
	if (SPI_processed == 0)
	{
		dashie_query("SELECT vault.create_secret($1, $2, 'Signing secrets of the Stripe endpoint')",
					 2, types, values, NULL);
		(void) dashie_field(0, 1, &isnull);
	}
	dashie_query_end();
}

typedef struct Collected
{
	char *secrets[MAX_SECRETS];
	int nsecrets;
} Collected;

static void
collect(Collected *collected, char *secret)
{
	if (secret[0] != '\0' && collected->nsecrets < MAX_SECRETS)
		collected->secrets[collected->nsecrets++] = secret;
}

static void
collect_row(Relation rel, TupleTableSlot *slot, void *arg)
{
	bool isnull;
	Datum value = slot_getattr(slot, 1, &isnull);

	if (!isnull)
		collect(arg, TextDatumGetCString(value));
}

static void
read_vault(Collected *collected)
{
	Oid types[1] = {TEXTOID};
	Datum values[1] = {CStringGetTextDatum(VAULT_NAME)};
	char *all = NULL;

	dashie_query_begin();
	if (dashie_query_planned("SELECT decrypted_secret::text FROM vault.decrypted_secrets"
							 " WHERE name = $1",
							 1, types, values, NULL) > 0)
		all = dashie_field_text(0, 1);
	dashie_query_end();
	while (all != NULL)
	{
		char *end = strchr(all, '\n');

		if (end != NULL)
			*end++ = '\0';
		collect(collected, all);
		all = end;
	}
}

/*
 * stripe_secrets returns the secrets; without any it fails, so that nothing is
 * ingested unverified: after a restore they have to be set again.
 */
char **
stripe_secrets(int *nsecrets)
{
	Collected *collected = palloc0(sizeof(Collected));

	if (has_vault())
		read_vault(collected);
	if (collected->nsecrets == 0)
	{
		Relation rel = open_own_table(AccessShareLock);

		scan_own_table(rel, collect_row, collected);
		table_close(rel, AccessShareLock);
	}
	if (collected->nsecrets == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no signing secret of Stripe is set"),
				 errdetail("Without one no event can be verified. A dump does not hold secrets."),
				 errhint("Run SELECT dashie.set_stripe_secrets(...).")));
	*nsecrets = collected->nsecrets;
	return collected->secrets;
}

static char *
checked_secret(Datum element, bool isnull, int number)
{
	const char *problem = NULL;
	char *secret = isnull ? "" : TextDatumGetCString(element);

	if (secret[0] == '\0')
		problem = "is empty";
	else if (strlen(secret) > MAX_SECRET_LENGTH)
		problem = "is too long";
	else if (strcspn(secret, " \t\r\n") != strlen(secret))
		problem = "contains white space";
	if (problem != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
						errmsg("secret %d %s", number, problem)));
	return secret;
}

Datum
dashie_set_stripe_secrets(PG_FUNCTION_ARGS)
{
	DashieGuard guard;
	Datum *elements;
	bool *nulls;
	int nsecrets;
	char *secrets[MAX_SECRETS];

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
						errmsg("argument \"secrets\" must not be NULL")));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls,
					  &nsecrets);
	if (nsecrets < 1 || nsecrets > MAX_SECRETS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
						errmsg("argument \"secrets\" must hold 1 to %d secrets: %d", MAX_SECRETS,
							   nsecrets)));
	for (int i = 0; i < nsecrets; i++)
		secrets[i] = checked_secret(elements[i], nulls[i], i + 1);

	dashie_enter(&guard);
	if (has_vault())
	{
		write_vault(secrets, nsecrets);
		write_own_table(NULL, 0);
	}
	else
		write_own_table(secrets, nsecrets);
	dashie_leave(&guard);
	PG_RETURN_VOID();
}
