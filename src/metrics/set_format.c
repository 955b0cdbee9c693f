/*
 * set_format.c
 *		A set of integers as bytes: reading and checking.
 *
 * The format is Roaring's portable one (RoaringFormatSpec), restricted to
 * integers that are not negative: a cookie, the containers' keys and
 * cardinalities, their offsets, and the containers: sorted arrays of up to
 * 4,096 values, bitmaps of 8 kB above that, or runs.  All little-endian.
 *
 * Reading checks everything that decides where the next byte is, so that no
 * bytes, however damaged, make it leave the set.  What the containers hold is
 * checked where bytes come in from outside: user_set_problem().
 */
#include "postgres.h"

#include "port/pg_bitutils.h"

#include "metrics/set_format.h"

#define MAX_CONTAINERS 0x8000 /* half of what the format allows: no negative integers */

/*
 * set_read looks at the header.  After a problem set_next() finds no container.
 */
void
set_read(SetReader *reader, const unsigned char *bytes, size_t size)
{
	uint32 cookie;

	memset(reader, 0, sizeof(*reader));
	reader->bytes = bytes;
	reader->size = size;
	if (size < 8)
	{
		reader->problem = "too short";
		return;
	}
	cookie = set_get32(bytes);
	if (cookie == SET_COOKIE_PLAIN)
	{
		reader->ncontainers = set_get32(bytes + 4);
		reader->position = 8;
	}
	else if ((cookie & 0xFFFF) == SET_COOKIE_RUNS)
	{
		reader->ncontainers = (cookie >> 16) + 1;
		reader->run_flags = bytes + 4;
		reader->position = 4 + (reader->ncontainers + 7) / 8;
	}
	else
	{
		reader->problem = "unknown format or version";
		return;
	}

	if (reader->ncontainers > MAX_CONTAINERS)
		reader->problem = "too many containers";
	else if (size < reader->position + (size_t) reader->ncontainers * 4)
		reader->problem = "truncated header";
	if (reader->problem != NULL)
	{
		reader->ncontainers = 0;
		return;
	}
	reader->headers = bytes + reader->position;
	reader->position += (size_t) reader->ncontainers * 4;
	if (reader->run_flags == NULL || reader->ncontainers >= SET_MIN_FOR_OFFSETS)
	{
		if (size < reader->position + (size_t) reader->ncontainers * 4)
		{
			reader->problem = "truncated offsets";
			reader->ncontainers = 0;
			return;
		}
		reader->offsets = bytes + reader->position;
		reader->position += (size_t) reader->ncontainers * 4;
	}
}

/* The container at a position, if it lies within the set. */
static bool
get_container(SetReader *reader, uint32 i, size_t position, SetContainer *container)
{
	size_t left = reader->size - position;
	size_t size;

	container->key = set_get16(reader->headers + 4 * i);
	container->cardinality = set_get16(reader->headers + 4 * i + 2) + 1;
	container->data = reader->bytes + position;
	container->nruns = 0;
	if (reader->run_flags != NULL && (reader->run_flags[i / 8] & (1 << (i % 8))) != 0)
	{
		container->kind = SET_RUNS;
		size = 2;
		if (left >= size)
		{
			container->nruns = set_get16(container->data);
			container->data += 2;
			size += (size_t) container->nruns * 4;
			if (container->nruns == 0)
			{
				reader->problem = "empty container";
				return false;
			}
		}
	}
	else if (container->cardinality <= SET_VALUES_MAX)
	{
		container->kind = SET_VALUES;
		size = container->cardinality * 2;
	}
	else
	{
		container->kind = SET_BITS;
		size = SET_BITS_BYTES;
	}
	if (left < size)
	{
		reader->problem = "truncated container";
		return false;
	}
	reader->position = position + size;
	return true;
}

/*
 * set_next returns the next container; false at the end, and when the bytes
 * turn out to be no set: reader->problem says which.
 */
bool
set_next(SetReader *reader, SetContainer *container)
{
	uint32 i = reader->next;

	if (reader->problem != NULL)
		return false;
	if (i == reader->ncontainers)
	{
		if (reader->position != reader->size)
			reader->problem = "trailing bytes";
		return false;
	}
	if (reader->offsets != NULL && set_get32(reader->offsets + 4 * i) != reader->position)
	{
		reader->problem = "wrong offset";
		return false;
	}
	if (!get_container(reader, i, reader->position, container))
		return false;
	if (container->key >= MAX_CONTAINERS)
		reader->problem = "member out of range";
	else if (i > 0 && container->key <= set_get16(reader->headers + 4 * i - 4))
		reader->problem = "keys out of order";
	reader->next++;
	return reader->problem == NULL;
}

/*
 * set_find looks for a container by its key, without reading those before it
 * where their offsets are stored.
 */
bool
set_find(SetReader *reader, uint32 key, SetContainer *container)
{
	uint32 low = 0;
	uint32 high = reader->ncontainers;

	if (reader->offsets == NULL)
	{
		while (set_next(reader, container))
			if (container->key >= key)
				return container->key == key;
		return false;
	}
	while (low < high)
	{
		uint32 middle = (low + high) / 2;

		if (set_get16(reader->headers + 4 * middle) < key)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == reader->ncontainers || set_get16(reader->headers + 4 * low) != key)
		return false;
	if (set_get32(reader->offsets + 4 * low) > reader->size)
	{
		reader->problem = "wrong offset";
		return false;
	}
	return get_container(reader, low, set_get32(reader->offsets + 4 * low), container);
}

static bool
values_are_valid(const SetContainer *container)
{
	for (uint32 i = 1; i < container->cardinality; i++)
		if (set_get16(container->data + 2 * i) <= set_get16(container->data + 2 * i - 2))
			return false;
	return true;
}

static bool
runs_are_valid(const SetContainer *container)
{
	uint32 total = 0;
	int64 last = -2; /* last value of the run before */

	for (uint32 i = 0; i < container->nruns; i++)
	{
		uint32 start = set_get16(container->data + 4 * i);
		uint32 more = set_get16(container->data + 4 * i + 2);

		if ((int64) start <= last + 1 || start + more > PG_UINT16_MAX)
			return false;
		last = start + more;
		total += more + 1;
	}
	return total == container->cardinality;
}

/*
 * user_set_problem reads all of a set and checks every byte of it.
 */
const char *
user_set_problem(const unsigned char *bytes, size_t size)
{
	SetReader reader;
	SetContainer container;

	set_read(&reader, bytes, size);
	while (set_next(&reader, &container))
	{
		bool valid = false;

		switch (container.kind)
		{
			case SET_VALUES:
				valid = values_are_valid(&container);
				break;
			case SET_BITS:
				valid = pg_popcount((const char *) container.data, SET_BITS_BYTES) ==
						container.cardinality;
				break;
			case SET_RUNS:
				valid = runs_are_valid(&container);
				break;
		}
		if (!valid)
			return "inconsistent container";
	}
	return reader.problem;
}

bool
set_container_has(const SetContainer *container, uint32 value)
{
	bool runs = container->kind == SET_RUNS;
	uint32 width = runs ? 4 : 2;
	uint32 low = 0;
	uint32 high = runs ? container->nruns : container->cardinality;

	if (container->kind == SET_BITS)
		return set_bit_is_set(container->data, value);

	/* the last entry that does not start after the value */
	while (low < high)
	{
		uint32 middle = (low + high) / 2;

		if (set_get16(container->data + width * middle) <= value)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return false;
	low--;
	return value - set_get16(container->data + width * low) <=
		   (runs ? set_get16(container->data + width * low + 2) : 0);
}

static void
fill_bits(unsigned char *bits, uint32 first, uint32 last)
{
	while (first <= last && (first & 7) != 0)
	{
		bits[first >> 3] |= 1 << (first & 7);
		first++;
	}
	if (first + 8 <= last + 1)
	{
		uint32 nbytes = (last + 1 - first) / 8;

		memset(bits + (first >> 3), 0xFF, nbytes);
		first += nbytes * 8;
	}
	for (; first <= last; first++)
		bits[first >> 3] |= 1 << (first & 7);
}

void
set_container_add_to_bits(const SetContainer *container, unsigned char *bits)
{
	switch (container->kind)
	{
		case SET_VALUES:
			for (uint32 i = 0; i < container->cardinality; i++)
			{
				uint32 value = set_get16(container->data + 2 * i);

				bits[value >> 3] |= 1 << (value & 7);
			}
			break;
		case SET_BITS:
			for (int i = 0; i < SET_BITS_BYTES; i += 8)
			{
				uint64 ours;
				uint64 theirs;

				memcpy(&ours, bits + i, 8);
				memcpy(&theirs, container->data + i, 8);
				ours |= theirs;
				memcpy(bits + i, &ours, 8);
			}
			break;
		case SET_RUNS:
			for (uint32 i = 0; i < container->nruns; i++)
			{
				uint32 first = set_get16(container->data + 4 * i);
				uint32 last = first + set_get16(container->data + 4 * i + 2);

				fill_bits(bits, first, Min(last, PG_UINT16_MAX));
			}
			break;
	}
}

/*
 * set_container_to_values writes the members of a container of at most
 * SET_VALUES_MAX of them, as in a container of values.
 */
uint32
set_container_to_values(const SetContainer *container, unsigned char *values)
{
	uint32 n = 0;

	if (container->kind == SET_VALUES)
	{
		memcpy(values, container->data, container->cardinality * 2);
		return container->cardinality;
	}
	for (uint32 i = 0; i < container->nruns; i++)
	{
		uint32 first = set_get16(container->data + 4 * i);
		uint32 more = set_get16(container->data + 4 * i + 2);

		for (uint32 j = 0; j <= more && n < SET_VALUES_MAX; j++)
			set_put16(values + 2 * n++, first + j);
	}
	return n;
}

/* The first bit from "bit" on that is set (or not set); the range's end if there is none. */
static uint32
next_bit(const unsigned char *bits, uint32 bit, bool set)
{
	uint64 word;

	if (bit >= SET_CONTAINER_RANGE)
		return SET_CONTAINER_RANGE;
	word = set_get64(bits + bit / 64 * 8);
	word = (set ? word : ~word) & (PG_UINT64_MAX << (bit % 64));
	bit -= bit % 64;
	while (word == 0)
	{
		bit += 64;
		if (bit == SET_CONTAINER_RANGE)
			return bit;
		word = set_get64(bits + bit / 8);
		word = set ? word : ~word;
	}
	return bit + pg_rightmost_one_pos64(word);
}

/*
 * set_container_next_run returns the next members of a container that have no
 * gap between them; "at" is where the search goes on, and starts as 0.
 */
bool
set_container_next_run(const SetContainer *container, uint32 *at, uint32 *first, uint32 *last)
{
	const unsigned char *data = container->data;
	uint32 i = *at;

	switch (container->kind)
	{
		case SET_VALUES:
			if (i == container->cardinality)
				return false;
			*first = *last = set_get16(data + 2 * i);
			while (++i < container->cardinality && set_get16(data + 2 * i) == *last + 1)
				++*last;
			break;
		case SET_BITS:
			*first = next_bit(data, i, true);
			if (*first == SET_CONTAINER_RANGE)
				return false;
			i = next_bit(data, *first, false);
			*last = i - 1;
			break;
		case SET_RUNS:
			if (i == container->nruns)
				return false;
			*first = set_get16(data + 4 * i);
			*last = Min(*first + set_get16(data + 4 * i + 2), PG_UINT16_MAX);
			i++;
			break;
	}
	*at = i;
	return true;
}

void
set_runs_begin(SetRuns *runs, const unsigned char *bytes, size_t size)
{
	set_read(&runs->reader, bytes, size);
	runs->container.kind = SET_VALUES;
	runs->container.cardinality = 0;
	runs->at = 0;
	runs->pending = false;
}

/*
 * set_runs_next returns the next members without a gap between them, as far as
 * they go; false at the end or at a problem (runs->reader.problem).
 */
bool
set_runs_next(SetRuns *runs, uint32 *first, uint32 *last)
{
	for (;;)
	{
		uint32 from;
		uint32 to;
		uint32 base;

		if (!set_container_next_run(&runs->container, &runs->at, &from, &to))
		{
			if (set_next(&runs->reader, &runs->container))
			{
				runs->at = 0;
				continue;
			}
			*first = runs->first;
			*last = runs->last;
			if (!runs->pending || runs->reader.problem != NULL)
				return false;
			runs->pending = false;
			return true;
		}
		base = runs->container.key << 16;
		if (runs->pending && base + from == runs->last + 1)
		{
			runs->last = base + to;
			continue;
		}
		*first = runs->first;
		*last = runs->last;
		runs->first = base + from;
		runs->last = base + to;
		if (runs->pending)
			return true;
		runs->pending = true;
	}
}
