/*
 * seal_guard.c
 *		Seals of payment records are written once: the trigger
 *		dashie.seal_guard() of dashie.audit_seal.
 *
 * Runs for whoever changes the table, and runs no SQL.  A seal may lose its
 * entries when its day is more than 7 years ago, and nothing else.  Adding
 * seals is free: a forged one does not fit into the chain.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/rel.h"

#include "billing/audit.h"
#include "billing/billing.h"

PG_FUNCTION_INFO_V1(dashie_seal_guard);

static bool
same_field(TupleDesc desc, int attnum, HeapTuple old, HeapTuple new)
{
	Form_pg_attribute att = TupleDescAttr(desc, attnum - 1);
	bool old_isnull;
	bool new_isnull;
	Datum before = heap_getattr(old, attnum, desc, &old_isnull);
	Datum after = heap_getattr(new, attnum, desc, &new_isnull);

	if (old_isnull || new_isnull)
		return old_isnull == new_isnull;
	return datum_image_eq(before, after, att->attbyval, att->attlen);
}

/* Whether the change only takes the entries of a seal whose rows have expired. */
static bool
forgets_expired(TupleDesc desc, HeapTuple old, HeapTuple new)
{
	int entries = SPI_fnumber(desc, "entries");
	int day = SPI_fnumber(desc, "day");
	bool isnull;
	Datum value;

	if (entries <= 0 || day <= 0 || TupleDescAttr(desc, day - 1)->atttypid != DATEOID)
		return false;
	for (int attnum = 1; attnum <= desc->natts; attnum++)
		if (attnum != entries && !TupleDescAttr(desc, attnum - 1)->attisdropped &&
			!same_field(desc, attnum, old, new))
			return false;
	if (same_field(desc, entries, old, new))
		return true;
	if (!heap_attisnull(new, entries, desc))
		return false;
	value = heap_getattr(old, day, desc, &isnull);
	return !isnull && !DATE_NOT_FINITE(DatumGetDateADT(value)) &&
		   dashie_audit_day_start(DatumGetDateADT(value) + 1) <= dashie_stripe_deletable_before();
}

Datum
dashie_seal_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function \"%s\" was not called by trigger manager", "seal_guard")));

	if (!superuser() && !(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) &&
						  forgets_expired(RelationGetDescr(trigger->tg_relation),
										  trigger->tg_trigtuple, trigger->tg_newtuple)))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("rows of \"%s\" cannot be changed or deleted",
							   RelationGetRelationName(trigger->tg_relation)),
						errdetail("They prove that payment records are as they came.")));
	return PointerGetDatum(trigger->tg_trigtuple);
}
