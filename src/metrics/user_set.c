/*
 * user_set.c
 *		Sets of small integers in CRoaring's portable format.
 *
 * The format (RoaringFormatSpec): a cookie, the containers' keys and
 * cardinalities, their offsets, and the containers: sorted arrays of up to
 * 4,096 values, bitmaps of 8 kB above that, or runs.  All little-endian.
 */
#include "postgres.h"

#include "port/pg_bitutils.h"
#include "utils/memutils.h"
#include "utils/palloc.h"

#include "common/compat.h"
#include "metrics/user_set.h"

#define COOKIE_PLAIN 12346
#define COOKIE_RUNS 12347
#define MIN_FOR_OFFSETS 4 /* with runs, fewer containers have no offsets */
#define ARRAY_MAX 4096
#define BITMAP_BYTES 8192

static uint32
get16(const unsigned char *p)
{
	return p[0] | ((uint32) p[1] << 8);
}

static uint32
get32(const unsigned char *p)
{
	return get16(p) | (get16(p + 2) << 16);
}

/* The size of a valid array container, 0 for an invalid one. */
static size_t
check_array(const unsigned char *p, size_t left, uint32 cardinality)
{
	if (left < cardinality * 2)
		return 0;
	for (uint32 i = 1; i < cardinality; i++)
		if (get16(p + 2 * i) <= get16(p + 2 * i - 2))
			return 0;
	return cardinality * 2;
}

static size_t
check_bitmap(const unsigned char *p, size_t left, uint32 cardinality)
{
	if (left < BITMAP_BYTES || pg_popcount((const char *) p, BITMAP_BYTES) != cardinality)
		return 0;
	return BITMAP_BYTES;
}

static size_t
check_runs(const unsigned char *p, size_t left, uint32 cardinality)
{
	uint32 nruns;
	uint32 total = 0;
	int64 last = -2; /* last value of the run before */

	if (left < 2)
		return 0;
	nruns = get16(p);
	if (left < 2 + (size_t) nruns * 4)
		return 0;
	for (uint32 i = 0; i < nruns; i++)
	{
		uint32 start = get16(p + 2 + 4 * i);
		uint32 more = get16(p + 4 + 4 * i);

		if ((int64) start <= last + 1 || start + more > PG_UINT16_MAX)
			return 0;
		last = start + more;
		total += more + 1;
	}
	return total == cardinality ? 2 + (size_t) nruns * 4 : 0;
}

const char *
user_set_problem(const unsigned char *bytes, size_t size)
{
	uint32 cookie;
	uint32 ncontainers;
	const unsigned char *runs = NULL;
	const unsigned char *keys;
	const unsigned char *offsets = NULL;
	size_t position;

	if (size < 8)
		return "too short";
	cookie = get32(bytes);
	if (cookie == COOKIE_PLAIN)
	{
		ncontainers = get32(bytes + 4);
		position = 8;
	}
	else if ((cookie & 0xFFFF) == COOKIE_RUNS)
	{
		ncontainers = (cookie >> 16) + 1;
		runs = bytes + 4;
		position = 4 + (ncontainers + 7) / 8;
	}
	else
		return "unknown format";

	/* numbers are positive integers: keys end at half of the range */
	if (ncontainers > 0x8000)
		return "too many containers";
	if (size < position + (size_t) ncontainers * 4)
		return "truncated header";
	keys = bytes + position;
	position += (size_t) ncontainers * 4;
	if (runs == NULL || ncontainers >= MIN_FOR_OFFSETS)
	{
		if (size < position + (size_t) ncontainers * 4)
			return "truncated offsets";
		offsets = bytes + position;
		position += (size_t) ncontainers * 4;
	}

	for (uint32 i = 0; i < ncontainers; i++)
	{
		uint32 key = get16(keys + 4 * i);
		uint32 cardinality = get16(keys + 4 * i + 2) + 1;
		size_t used;

		if (key >= 0x8000 || (i > 0 && key <= get16(keys + 4 * i - 4)))
			return "keys out of order";
		if (offsets != NULL && get32(offsets + 4 * i) != position)
			return "wrong offset";
		if (runs != NULL && (runs[i / 8] & (1 << (i % 8))) != 0)
			used = check_runs(bytes + position, size - position, cardinality);
		else if (cardinality <= ARRAY_MAX)
			used = check_array(bytes + position, size - position, cardinality);
		else
			used = check_bitmap(bytes + position, size - position, cardinality);
		if (used == 0)
			return "inconsistent container";
		position += used;
	}
	return position == size ? NULL : "trailing bytes";
}

static void
release(void *set)
{
	roaring_bitmap_free(set);
}

UserSet *
user_set_adopt(UserSet *set)
{
	MemoryContextCallback *callback;

	if (set == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	callback = MemoryContextAllocExtended(CurrentMemoryContext, sizeof(MemoryContextCallback),
										  MCXT_ALLOC_NO_OOM);
	if (callback == NULL)
	{
		roaring_bitmap_free(set);
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	callback->func = release;
	callback->arg = set;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	return set;
}

UserSet *
user_set_create(void)
{
	return user_set_adopt(roaring_bitmap_create());
}

UserSet *
user_set_of_sorted(const uint32 *members, uint32 n)
{
	return user_set_adopt(roaring_bitmap_of_ptr(n, members));
}

UserSet *
user_set_from_bytes(const bytea *bytes)
{
	const char *problem =
		user_set_problem((const unsigned char *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));

	if (problem != NULL)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("invalid set of user numbers: %s", problem)));
	return user_set_adopt(
		roaring_bitmap_portable_deserialize_safe(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)));
}

void
user_set_require_max(const UserSet *set, int32 max)
{
	if (!roaring_bitmap_is_empty(set) && roaring_bitmap_maximum(set) > (uint32) max)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("invalid set of user numbers: %u is far above all that were given",
							   roaring_bitmap_maximum(set))));
}

int32 *
user_set_members(const UserSet *set, int32 max, int64 *count)
{
	int32 *members;

	/* runs of members are small as bytes and huge as an array */
	user_set_require_max(set, max);
	*count = (int64) roaring_bitmap_get_cardinality(set);
	members = palloc_extended(Max(*count, 1) * sizeof(int32), MCXT_ALLOC_HUGE);
	roaring_bitmap_to_uint32_array(set, (uint32 *) members);
	return members;
}

bytea *
user_set_to_bytes(UserSet *set)
{
	size_t size;
	bytea *bytes;

	roaring_bitmap_run_optimize(set);
	size = roaring_bitmap_portable_size_in_bytes(set);
	bytes = palloc(VARHDRSZ + size);
	SET_VARSIZE(bytes, VARHDRSZ + size);
	roaring_bitmap_portable_serialize(set, VARDATA(bytes));
	return bytes;
}
