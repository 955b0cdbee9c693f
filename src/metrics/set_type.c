/*
 * set_type.c
 *		The SQL type dashie.user_set: its bytes, and when two are equal.
 *
 * Bytes that come in, by the binary protocol or from a bytea such as
 * dashie.day_page.active, may be anybody's: each is checked, and the set is
 * written anew.  So equal sets have equal bytes, and what is equal to what, and
 * its hash, are a matter of bytes.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"

#include "metrics/set_format.h"
#include "metrics/set_type.h"

PG_FUNCTION_INFO_V1(dashie_user_set_recv);
PG_FUNCTION_INFO_V1(dashie_user_set_send);
PG_FUNCTION_INFO_V1(dashie_user_set_from_bytea);
PG_FUNCTION_INFO_V1(dashie_user_set_eq);
PG_FUNCTION_INFO_V1(dashie_user_set_ne);
PG_FUNCTION_INFO_V1(dashie_user_set_lt);
PG_FUNCTION_INFO_V1(dashie_user_set_le);
PG_FUNCTION_INFO_V1(dashie_user_set_gt);
PG_FUNCTION_INFO_V1(dashie_user_set_ge);
PG_FUNCTION_INFO_V1(dashie_user_set_cmp);
PG_FUNCTION_INFO_V1(dashie_user_set_hash);
PG_FUNCTION_INFO_V1(dashie_user_set_hash_extended);

void
set_accept(const char *problem)
{
	if (problem != NULL)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("damaged value of type %s: %s", SET_TYPE_NAME, problem)));
}

uint32
set_member(int32 value)
{
	if (value < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid member of a set: %d", value),
						errdetail("A set holds integers from 0 to %d.", SET_MEMBER_MAX)));
	return (uint32) value;
}

static bytea *
from_outside(const unsigned char *bytes, size_t size)
{
	const char *problem = user_set_problem(bytes, size);

	if (problem != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
						errmsg("invalid bytes for type %s: %s", SET_TYPE_NAME, problem)));
	return set_rewrite(bytes, size);
}

Datum
dashie_user_set_recv(PG_FUNCTION_ARGS)
{
	StringInfo message = (StringInfo) PG_GETARG_POINTER(0);
	int size = message->len - message->cursor;

	PG_RETURN_BYTEA_P(from_outside((const unsigned char *) pq_getmsgbytes(message, size), size));
}

Datum
dashie_user_set_send(PG_FUNCTION_ARGS)
{
	PG_RETURN_BYTEA_P(PG_GETARG_BYTEA_P_COPY(0));
}

Datum
dashie_user_set_from_bytea(PG_FUNCTION_ARGS)
{
	SetBytes bytes = PG_GETARG_SET(0);

	PG_RETURN_BYTEA_P(from_outside(bytes.data, bytes.size));
}

/*
 * An order without a meaning, but always the same: what sorting needs to bring
 * equal sets together.
 */
static int
compare(FunctionCallInfo fcinfo)
{
	struct varlena *a = PG_GETARG_VARLENA_PP(0);
	struct varlena *b = PG_GETARG_VARLENA_PP(1);
	SetBytes left = set_bytes_of(a);
	SetBytes right = set_bytes_of(b);
	int result = memcmp(left.data, right.data, Min(left.size, right.size));

	if (result == 0)
		result = left.size < right.size ? -1 : left.size > right.size;
	PG_FREE_IF_COPY(a, 0);
	PG_FREE_IF_COPY(b, 1);
	return result;
}

static bool
are_equal(FunctionCallInfo fcinfo)
{
	/* sets of different sizes need not be read */
	if (toast_raw_datum_size(PG_GETARG_DATUM(0)) != toast_raw_datum_size(PG_GETARG_DATUM(1)))
		return false;
	return compare(fcinfo) == 0;
}

Datum
dashie_user_set_eq(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(are_equal(fcinfo));
}

Datum
dashie_user_set_ne(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(!are_equal(fcinfo));
}

Datum
dashie_user_set_lt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(fcinfo) < 0);
}

Datum
dashie_user_set_le(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(fcinfo) <= 0);
}

Datum
dashie_user_set_gt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(fcinfo) > 0);
}

Datum
dashie_user_set_ge(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare(fcinfo) >= 0);
}

Datum
dashie_user_set_cmp(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(compare(fcinfo));
}

Datum
dashie_user_set_hash(PG_FUNCTION_ARGS)
{
	struct varlena *value = PG_GETARG_VARLENA_PP(0);
	SetBytes set = set_bytes_of(value);
	uint32 hash = hash_bytes(set.data, (int) set.size);

	PG_FREE_IF_COPY(value, 0);
	PG_RETURN_UINT32(hash);
}

Datum
dashie_user_set_hash_extended(PG_FUNCTION_ARGS)
{
	struct varlena *value = PG_GETARG_VARLENA_PP(0);
	SetBytes set = set_bytes_of(value);
	uint64 hash = hash_bytes_extended(set.data, (int) set.size, PG_GETARG_INT64(1));

	PG_FREE_IF_COPY(value, 0);
	PG_RETURN_UINT64(hash);
}
