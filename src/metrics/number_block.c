/*
 * number_block.c
 *		Reads and makes the columns of tables with a row for some thousands of
 *		numbers.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "common/compat.h"
#include "metrics/number_block.h"

void
number_block_invalid(const char *what, const char *problem)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("invalid %s: %s", what, problem)));
}

int32
number_block_index(NullableDatum value, int32 highest, const char *what)
{
	int32 first = DatumGetInt32(value.value);

	if (value.isnull || first < 0 || first % BLOCK_NUMBERS != 0 || first > highest)
		number_block_invalid(what, "wrong number");
	return first / BLOCK_NUMBERS;
}

bytea *
number_block_list(NullableDatum value, const char *what)
{
	if (value.isnull)
		number_block_invalid(what, "NULL");
	return DatumGetByteaPP(value.value);
}

const unsigned char *
number_block_column(NullableDatum value, Size value_size, const char *what)
{
	bytea *bytes = number_block_list(value, what);

	if (VARSIZE_ANY_EXHDR(bytes) != BLOCK_NUMBERS * value_size)
		number_block_invalid(what, "wrong size");
	return (unsigned char *) VARDATA_ANY(bytes);
}

bytea *
number_block_bytes(const unsigned char *data, Size size)
{
	bytea *bytes = palloc(VARHDRSZ + size);

	SET_VARSIZE(bytes, VARHDRSZ + size);
	memcpy(VARDATA(bytes), data, size);
	return bytes;
}
