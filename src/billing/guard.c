/*
 * guard.c
 *		Keeps stripe_webhook_events for 7 years: the trigger dashie.stripe_guard().
 *
 * Runs for whoever changes the table: a cascade from Auth comes as a role
 * without rights on anything of ours and with another search_path.  So nothing
 * here needs a right, a setting or a name outside pg_catalog, and no SQL runs.
 *
 * Rows are checked AFTER UPDATE: a BEFORE trigger that comes later in the
 * alphabet could still change the new row.  A row's age counts in UTC, so that
 * no setting can shorten it.  TRUNCATE reads the table, under the ACCESS
 * EXCLUSIVE lock that it holds already.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "billing/billing.h"
#include "common/day.h"
#include "common/relation.h"

PG_FUNCTION_INFO_V1(dashie_stripe_guard);

static const Interval seven_years = {.month = 7 * MONTHS_PER_YEAR};

/* Interval arithmetic on timestamps without zone is that of UTC. */
TimestampTz
dashie_stripe_deletable_before(void)
{
	return DatumGetTimestamp(DirectFunctionCall2(
		timestamp_mi_interval, TimestampGetDatum(dashie_now()), IntervalPGetDatum(&seven_years)));
}

/* The attribute's number; a table that lost the column is not one to let rows go from. */
static AttrNumber
column_number(Relation rel, const char *column)
{
	int attnum = SPI_fnumber(RelationGetDescr(rel), column);

	if (attnum <= 0)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("table \"%s\" has no column \"%s\"", RelationGetRelationName(rel),
							   column)));
	return attnum;
}

static char *
row_identity(Relation rel, HeapTuple tuple)
{
	char *id = SPI_getvalue(tuple, RelationGetDescr(rel), column_number(rel, "id"));

	return id != NULL ? id : "NULL";
}

/*
 * deny_young fails if the row may not go yet.  A row without a date has no age
 * to show, and stays.
 */
static void
deny_young(Relation rel, HeapTuple tuple, TimestampTz deletable_before)
{
	bool isnull;
	Datum deletable;
	TimestampTz created = DatumGetTimestampTz(
		heap_getattr(tuple, column_number(rel, "created_at"), RelationGetDescr(rel), &isnull));

	if (!isnull && created < deletable_before)
	{
		int64 hold = dashie_hold_on(RelationGetDescr(rel), tuple);

		if (hold == 0)
			return;
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("row %s of \"%s\" is on legal hold", row_identity(rel, tuple),
						RelationGetRelationName(rel)),
				 errdetail("Hold " INT64_FORMAT " in dashie.legal_hold covers it.", hold),
				 errhint("SELECT dashie.release_legal_hold(" INT64_FORMAT ") ends it.", hold)));
	}
	if (isnull || TIMESTAMP_NOT_FINITE(created))
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("row %s of \"%s\" must be kept", row_identity(rel, tuple),
					RelationGetRelationName(rel)),
			 errdetail("The law asks for 7 years of payment records, and this row has no date.")));
	deletable = DirectFunctionCall2(timestamp_pl_interval, TimestampGetDatum(created),
									IntervalPGetDatum(&seven_years));
	ereport(
		ERROR,
		(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		 errmsg("row %s of \"%s\" must be kept until %s", row_identity(rel, tuple),
				RelationGetRelationName(rel),
				dashie_day_text(DatumGetDateADT(DirectFunctionCall1(timestamp_date, deletable)))),
		 errdetail("The law asks for 7 years of payment records."),
		 errhint("Retention removes it afterwards.")));
}

static void
deny_young_rows(Relation rel, TimestampTz deletable_before)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool should_free;
		HeapTuple tuple;

		CHECK_FOR_INTERRUPTS();
		tuple = ExecFetchSlotHeapTuple(slot, false, &should_free);
		deny_young(rel, tuple, deletable_before);
		if (should_free)
			heap_freetuple(tuple);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
}

/*
 * column_changed compares images, not with the type's operators: the text of a
 * payload is what a signature was made over.
 */
static bool
column_changed(Relation rel, AttrNumber attnum, HeapTuple old, HeapTuple new, bool *new_isnull,
			   bool *old_isnull)
{
	TupleDesc desc = RelationGetDescr(rel);
	Form_pg_attribute att = TupleDescAttr(desc, attnum - 1);
	Datum before = heap_getattr(old, attnum, desc, old_isnull);
	Datum after = heap_getattr(new, attnum, desc, new_isnull);

	if (*old_isnull || *new_isnull)
		return *old_isnull != *new_isnull;
	return !datum_image_eq(before, after, att->attbyval, att->attlen);
}

static void
deny_change(Relation rel, HeapTuple old, HeapTuple new)
{
	static const char *const frozen[] = {"id", "stripe_event_id", "event_type", "event_data",
										 "created_at"};
	bool old_isnull;
	bool new_isnull;

	for (int i = 0; i < lengthof(frozen); i++)
		if (column_changed(rel, column_number(rel, frozen[i]), old, new, &new_isnull, &old_isnull))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("column \"%s\" of row %s of \"%s\" cannot change", frozen[i],
							row_identity(rel, old), RelationGetRelationName(rel)),
					 errdetail("The law asks for 7 years of payment records, as they came.")));

	if (column_changed(rel, column_number(rel, "user_id"), old, new, &new_isnull, &old_isnull) &&
		!old_isnull && !new_isnull)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("column \"user_id\" of row %s of \"%s\" cannot change to another user",
						row_identity(rel, old), RelationGetRelationName(rel)),
				 errhint("It may become NULL.")));
}

Datum
dashie_stripe_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation rel;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager", "stripe_guard")));
	rel = trigger->tg_relation;

	if (!superuser())
	{
		if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
			deny_young_rows(rel, dashie_stripe_deletable_before());
		else if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
			deny_young(rel, trigger->tg_trigtuple, dashie_stripe_deletable_before());
		else if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
			deny_change(rel, trigger->tg_trigtuple, trigger->tg_newtuple);
	}

	/* BEFORE DELETE: the row itself means go on; elsewhere the result is not looked at */
	return PointerGetDatum(trigger->tg_trigtuple);
}
