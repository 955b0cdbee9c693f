/*
 * page_bytes.h
 *		Numbers in the bytes of a page: written, and read with every byte checked.
 *
 * Integers are variable-length, seven bits a byte, the lowest first; signed
 * ones are zigzag-coded.  The owner of a table of pages can write what they
 * like into it: what does not fit is XX001.
 */
#ifndef DASHIE_PAGE_BYTES_H
#define DASHIE_PAGE_BYTES_H

#include "postgres.h"

#include "common/compat.h"
#include "lib/stringinfo.h"

static inline void
put_number(StringInfo buf, uint64 number)
{
	while (number >= 0x80)
	{
		appendStringInfoCharMacro(buf, (char) (number | 0x80));
		number >>= 7;
	}
	appendStringInfoCharMacro(buf, (char) number);
}

static inline void
put_signed(StringInfo buf, int64 number)
{
	put_number(buf, ((uint64) number << 1) ^ (uint64) (number >> 63));
}

static inline void
put_header(StringInfo buf)
{
	initStringInfo(buf);
	appendStringInfoSpaces(buf, VARHDRSZ);
}

static inline bytea *
put_finish(StringInfo buf)
{
	bytea *bytes = (bytea *) buf->data;

	SET_VARSIZE(bytes, buf->len);
	return bytes;
}

typedef struct PageReader
{
	const char *what; /* for messages */
	const unsigned char *next;
	const unsigned char *end;
} PageReader;

static inline void
take_begin(PageReader *reader, const bytea *bytes, const char *what)
{
	reader->what = what;
	reader->next = (const unsigned char *) VARDATA_ANY(bytes);
	reader->end = reader->next + VARSIZE_ANY_EXHDR(bytes);
}

static inline void
take_invalid(const PageReader *reader, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED), errmsg("invalid %s: %s", reader->what, problem)));
}

static inline Size
take_left(const PageReader *reader)
{
	return reader->end - reader->next;
}

static inline unsigned char
take_byte(PageReader *reader)
{
	if (reader->next == reader->end)
		take_invalid(reader, "truncated");
	return *reader->next++;
}

static inline uint64
take_number(PageReader *reader, uint64 max)
{
	uint64 number = 0;

	for (int shift = 0;; shift += 7)
	{
		unsigned char byte = take_byte(reader);

		if (shift == 63 && byte > 1)
			take_invalid(reader, "number too large");
		number |= (uint64) (byte & 0x7F) << shift;
		if (byte < 0x80)
			break;
		if (shift == 63)
			take_invalid(reader, "number too long");
	}
	if (number > max)
		take_invalid(reader, "number out of range");
	return number;
}

static inline int64
take_signed(PageReader *reader)
{
	uint64 zigzag = take_number(reader, PG_UINT64_MAX);

	return (int64) (zigzag >> 1) ^ -(int64) (zigzag & 1);
}

/* The next "length" bytes, in place. */
static inline const unsigned char *
take_bytes(PageReader *reader, Size length)
{
	const unsigned char *bytes = reader->next;

	if (length > take_left(reader))
		take_invalid(reader, "truncated");
	reader->next += length;
	return bytes;
}

static inline void
take_end(const PageReader *reader)
{
	if (reader->next != reader->end)
		take_invalid(reader, "trailing bytes");
}

#endif /* DASHIE_PAGE_BYTES_H */
