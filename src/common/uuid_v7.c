/*
 * uuid_v7.c
 *		dashie.uuid_v7(): time-ordered ids (RFC 9562, version 7).
 *
 * Layout, most significant bit first:
 *		48 bits		milliseconds since 1970
 *		 4 bits		version, 7
 *		12 bits		fraction of the millisecond, in 1/4096
 *		 2 bits		variant, binary 10
 *		62 bits		random, from PostgreSQL's strong generator
 *
 * The 60 bits of time are read as one number, which each id of a process makes
 * larger: by the clock, or by one where the clock stands still or went back.
 * So the ids of a process ascend, inside a millisecond and across statements
 * and transactions, and two processes order as their clocks do.  dashie.now
 * has no part in it: it stands still.
 *
 * No locks; a parallel worker has a sequence of its own.
 */
#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "common/uuid_v7.h"

PG_FUNCTION_INFO_V1(dashie_uuid_v7);
PG_FUNCTION_INFO_V1(dashie_uuid_v7_time);

#define UNIX_EPOCH_OFFSET \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * USECS_PER_SEC)
#define FRACTIONS 4096
#define VARIANT UINT64CONST(0x8000000000000000)
#define RANDOM_BITS UINT64CONST(0x3FFFFFFFFFFFFFFF)

/* Asked of the generator at once: a call for each id would be most of its cost. */
#define POOL_SIZE 512

/* Milliseconds and fractions of an instant, in one number. */
static uint64
ticks_of(TimestampTz at)
{
	uint64 micros = (uint64) (at + UNIX_EPOCH_OFFSET);

	return micros / 1000 * FRACTIONS + micros % 1000 * FRACTIONS / 1000;
}

void
dashie_make_uuid_v7(pg_uuid_t *id)
{
	static uint64 last_ticks = 0;
	static uint64 pool[POOL_SIZE];
	static int pooled = 0;
	uint64 ticks = ticks_of(GetCurrentTimestamp());
	uint64 high;
	uint64 low;

	if (ticks <= last_ticks)
		ticks = last_ticks + 1;
	last_ticks = ticks;

	if (pooled == 0)
	{
		if (!pg_strong_random(pool, sizeof(pool)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
		pooled = POOL_SIZE;
	}
	low = pool[--pooled];
	/* an id that was given away must not stand in memory to be read */
	pool[pooled] = 0;

	high = ticks / FRACTIONS << 16 | UINT64CONST(0x7000) | ticks % FRACTIONS;
	high = pg_hton64(high);
	low = pg_hton64((low & RANDOM_BITS) | VARIANT);
	memcpy(id->data, &high, sizeof(high));
	memcpy(id->data + sizeof(high), &low, sizeof(low));
}

Datum
dashie_uuid_v7(PG_FUNCTION_ARGS)
{
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

	dashie_make_uuid_v7(id);
	PG_RETURN_UUID_P(id);
}

Datum
dashie_uuid_v7_time(PG_FUNCTION_ARGS)
{
	pg_uuid_t *id = PG_GETARG_UUID_P(0);
	uint64 high;

	memcpy(&high, id->data, sizeof(high));
	high = pg_ntoh64(high);
	if ((high >> 12 & 0xF) != 7 || (id->data[8] & 0xC0) != 0x80)
		PG_RETURN_NULL();
	/* 48 bits of milliseconds end in the year 10889: no overflow */
	PG_RETURN_TIMESTAMPTZ((TimestampTz) (high >> 16) * 1000 - UNIX_EPOCH_OFFSET);
}
