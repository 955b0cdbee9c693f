/*
 * set_text.c
 *		The SQL type dashie.user_set as text: '{1,2,5-9}'.
 *
 * Written with three or more consecutive members as a range, ascending.  Read
 * in any order, with members and ranges that repeat or overlap, and with spaces
 * between them.  Memory goes by the length of the text, not by the number of
 * members: '{0-2147483647}' is small.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "common/compat.h"
#include "metrics/set_format.h"
#include "metrics/set_type.h"

PG_FUNCTION_INFO_V1(dashie_user_set_in);
PG_FUNCTION_INFO_V1(dashie_user_set_out);

#define MAX_RUNS (SET_CONTAINER_RANGE / 2) /* of a container */

typedef struct SetRange
{
	uint32 first;
	uint32 last;
} SetRange;

typedef struct SetRanges
{
	SetRange *ranges;
	size_t n;
	size_t room;
	bool ascending;
} SetRanges;

typedef struct Parser
{
	const char *text;
	const char *next;
	Node *escontext; /* where an error goes that is not to be thrown; or NULL */
} Parser;

static void
add_range(SetRanges *ranges, uint32 first, uint32 last)
{
	if (ranges->n == ranges->room)
	{
		ranges->room *= 2;
		ranges->ranges = repalloc_huge(ranges->ranges, ranges->room * sizeof(SetRange));
	}
	if (ranges->n > 0 && ranges->ranges[ranges->n - 1].last >= first)
		ranges->ascending = false;
	ranges->ranges[ranges->n].first = first;
	ranges->ranges[ranges->n].last = last;
	ranges->n++;
}

static int
compare_ranges(const void *a, const void *b)
{
	uint32 x = ((const SetRange *) a)->first;
	uint32 y = ((const SetRange *) b)->first;

	return x < y ? -1 : x > y;
}

/* Brings the ranges in order and joins those that touch. */
static void
join_ranges(SetRanges *ranges)
{
	size_t kept = 0;

	if (!ranges->ascending)
		qsort(ranges->ranges, ranges->n, sizeof(SetRange), compare_ranges);
	for (size_t i = 1; i < ranges->n; i++)
	{
		SetRange *before = &ranges->ranges[kept];

		if (ranges->ranges[i].first <= before->last + 1)
			before->last = Max(before->last, ranges->ranges[i].last);
		else
			ranges->ranges[++kept] = ranges->ranges[i];
	}
	ranges->n = Min(ranges->n, kept + 1);
}

static bytea *
ranges_to_set(SetRanges *ranges)
{
	SetWriter writer;
	unsigned char *runs = palloc(4 * Min(ranges->n + 1, MAX_RUNS));
	uint32 nruns = 0;
	uint32 key = 0;

	join_ranges(ranges);
	set_writer_init(&writer);
	for (size_t i = 0; i < ranges->n; i++)
	{
		SetRange *range = &ranges->ranges[i];

		CHECK_FOR_INTERRUPTS();
		for (uint32 first = range->first; first <= range->last;)
		{
			uint32 last = Min(range->last, first | 0xFFFF);

			if (first >> 16 != key)
			{
				set_write_runs(&writer, key, runs, nruns);
				nruns = 0;
				key = first >> 16;
			}
			set_put16(runs + 4 * nruns, first);
			set_put16(runs + 4 * nruns + 2, last - first);
			nruns++;
			first = last + 1;
		}
	}
	set_write_runs(&writer, key, runs, nruns);
	return set_writer_finish(&writer);
}

static void
skip_spaces(Parser *parser)
{
	while (*parser->next == ' ' || (*parser->next >= '\t' && *parser->next <= '\r'))
		parser->next++;
}

static bool
malformed(Parser *parser, const char *detail)
{
	ereturn(parser->escontext, false,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg("invalid input syntax for type %s: \"%s\"", SET_TYPE_NAME, parser->text),
			 errdetail("At character %d: %s", (int) (parser->next - parser->text) + 1, detail)));
}

static bool
parse_member(Parser *parser, uint32 *member)
{
	const char *start;
	const char *digits;
	uint64 value = 0;

	skip_spaces(parser);
	start = parser->next;
	digits = *start == '-' ? start + 1 : start;
	for (parser->next = digits; *parser->next >= '0' && *parser->next <= '9'; parser->next++)
		value = Min(value * 10 + (*parser->next - '0'), (uint64) SET_MEMBER_MAX + 1);
	if (parser->next == digits)
	{
		parser->next = start;
		return malformed(parser, "an integer was expected.");
	}
	if (digits != start || value > SET_MEMBER_MAX)
		ereturn(parser->escontext, false,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("value \"%.*s\" is out of range for type %s",
						(int) Min(parser->next - start, 40), start, SET_TYPE_NAME),
				 errdetail("A set holds integers from 0 to %d.", SET_MEMBER_MAX)));
	*member = (uint32) value;
	skip_spaces(parser);
	return true;
}

static bool
parse(Parser *parser, SetRanges *ranges)
{
	skip_spaces(parser);
	if (*parser->next != '{')
		return malformed(parser, "\"{\" was expected.");
	parser->next++;
	skip_spaces(parser);
	if (*parser->next != '}')
	{
		for (;;)
		{
			uint32 first;
			uint32 last;

			if (!parse_member(parser, &first))
				return false;
			last = first;
			if (*parser->next == '-')
			{
				parser->next++;
				if (!parse_member(parser, &last))
					return false;
				if (last < first)
					return malformed(parser, "the range ends before it begins.");
			}
			add_range(ranges, first, last);
			if (*parser->next != ',')
				break;
			parser->next++;
		}
		if (*parser->next != '}')
			return malformed(parser, "\",\" or \"}\" was expected.");
	}
	parser->next++;
	skip_spaces(parser);
	if (*parser->next != '\0')
		return malformed(parser, "nothing was expected after \"}\".");
	return true;
}

Datum
dashie_user_set_in(PG_FUNCTION_ARGS)
{
	Parser parser;
	SetRanges ranges = {.room = 16, .ascending = true};

	parser.text = parser.next = PG_GETARG_CSTRING(0);
	parser.escontext = fcinfo->context;
	ranges.ranges = palloc(ranges.room * sizeof(SetRange));
	if (!parse(&parser, &ranges))
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(ranges_to_set(&ranges));
}

static void
put_member(StringInfo buf, char before, uint32 member)
{
	char digits[12];

	appendStringInfoChar(buf, before);
	appendBinaryStringInfo(buf, digits, pg_ultoa_n(member, digits));
}

Datum
dashie_user_set_out(PG_FUNCTION_ARGS)
{
	SetBytes set = PG_GETARG_SET(0);
	StringInfoData buf;
	SetRuns runs;
	uint32 first;
	uint32 last;

	initStringInfo(&buf);
	set_runs_begin(&runs, set.data, set.size);
	while (set_runs_next(&runs, &first, &last))
	{
		CHECK_FOR_INTERRUPTS();
		put_member(&buf, buf.len == 0 ? '{' : ',', first);
		if (last > first)
			put_member(&buf, last - first > 1 ? '-' : ',', last);
	}
	set_accept(runs.reader.problem);
	appendStringInfoString(&buf, buf.len == 0 ? "{}" : "}");
	PG_RETURN_CSTRING(buf.data);
}
