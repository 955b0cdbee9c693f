/*
 * user_set.c
 *		Sets of small integers as CRoaring's bitmaps, for the pages of days.
 *
 * The library takes its memory from malloc, and believes the bytes that it is
 * given: so each bitmap is freed by a callback of a memory context, and bytes
 * from a table are checked first (set_format.c).
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/palloc.h"

#include "common/compat.h"
#include "metrics/user_set.h"

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

/*
 * user_set_to_bytes leaves to the writer how the members are written, not to
 * the release of the library: equal sets are equal bytes, also in the digest of
 * a page.
 */
bytea *
user_set_to_bytes(UserSet *set)
{
	size_t size = roaring_bitmap_portable_size_in_bytes(set);
	char *bytes = palloc(size);
	bytea *result;

	roaring_bitmap_portable_serialize(set, bytes);
	result = set_rewrite((const unsigned char *) bytes, size);
	pfree(bytes);
	return result;
}
