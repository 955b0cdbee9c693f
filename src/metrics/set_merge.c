/*
 * set_merge.c
 *		Two sets as bytes into one, and what two sets have in common.
 *
 * A merge of the containers by key.  One that only one set has is copied as it
 * is.  Two of the same key are merged as sorted arrays where both have few
 * members, else as bits.
 */
#include "postgres.h"

#include "port/pg_bitutils.h"

#include "metrics/set_format.h"
#include "metrics/set_merge.h"

static bool
is_small(const SetContainer *container)
{
	return container->cardinality <= SET_VALUES_MAX;
}

/* The members as values: the container's own bytes, or in "buffer". */
static const unsigned char *
get_values(const SetContainer *container, unsigned char *buffer, uint32 *n)
{
	*n = container->cardinality;
	if (container->kind == SET_VALUES)
		return container->data;
	*n = set_container_to_values(container, buffer);
	return buffer;
}

/* The members as bits: the container's own bytes, or in "buffer". */
static const unsigned char *
get_bits(const SetContainer *container, unsigned char *buffer)
{
	if (container->kind == SET_BITS)
		return container->data;
	memset(buffer, 0, SET_BITS_BYTES);
	set_container_add_to_bits(container, buffer);
	return buffer;
}

static void
copy_bits(const SetContainer *container, unsigned char *bits)
{
	const unsigned char *source = get_bits(container, bits);

	if (source != bits)
		memcpy(bits, source, SET_BITS_BYTES);
}

uint32
set_merge_values(SetMergeKind kind, const unsigned char *a, uint32 na, const unsigned char *b,
				 uint32 nb, unsigned char *result)
{
	bool only_a = kind != SET_INTERSECTION;
	bool only_b = kind == SET_UNION;
	bool both = kind != SET_DIFFERENCE;
	uint32 i = 0;
	uint32 j = 0;
	uint32 n = 0;

	while (i < na && j < nb)
	{
		uint32 x = set_get16(a + 2 * i);
		uint32 y = set_get16(b + 2 * j);
		bool take = x < y ? only_a : x > y ? only_b : both;

		/* written always, kept if wanted: a branch less */
		set_put16(result + 2 * n, Min(x, y));
		n += take;
		i += x <= y;
		j += y <= x;
	}
	if (only_a && i < na)
	{
		memcpy(result + 2 * n, a + 2 * i, 2 * (na - i));
		n += na - i;
	}
	if (only_b && j < nb)
	{
		memcpy(result + 2 * n, b + 2 * j, 2 * (nb - j));
		n += nb - j;
	}
	return n;
}

/* Those of the values whose bit is set, or is not. */
static uint32
filter_values(const unsigned char *values, uint32 n, const unsigned char *bits, bool set,
			  unsigned char *result)
{
	uint32 kept = 0;

	for (uint32 i = 0; i < n; i++)
	{
		uint32 value = set_get16(values + 2 * i);

		set_put16(result + 2 * kept, value);
		kept += set_bit_is_set(bits, value) == set;
	}
	return kept;
}

static void
merge_bits(SetMergeKind kind, unsigned char *bits, const unsigned char *others)
{
	for (int i = 0; i < SET_BITS_BYTES; i += 8)
	{
		uint64 a;
		uint64 b;

		memcpy(&a, bits + i, 8);
		memcpy(&b, others + i, 8);
		a = kind == SET_UNION ? a | b : kind == SET_INTERSECTION ? a & b : a & ~b;
		memcpy(bits + i, &a, 8);
	}
}

/* Two containers of the same key. */
static void
merge_containers(SetWriter *writer, SetMergeKind kind, const SetContainer *a, const SetContainer *b)
{
	unsigned char result[4 * SET_VALUES_MAX]; /* two full arrays, or bits */
	unsigned char buffer[SET_BITS_BYTES];
	unsigned char more[2 * SET_VALUES_MAX];
	const unsigned char *values;
	const unsigned char *others;
	uint32 n;
	uint32 nothers;

	if (kind == SET_INTERSECTION && !is_small(a) && is_small(b))
	{
		const SetContainer *small = b;

		b = a;
		a = small;
	}

	if (is_small(a) && is_small(b))
	{
		values = get_values(a, buffer, &n);
		others = get_values(b, more, &nothers);
		n = set_merge_values(kind, values, n, others, nothers, result);
		set_write_values(writer, a->key, result, n);
	}
	else if (is_small(a) && kind != SET_UNION)
	{
		values = get_values(a, more, &n);
		n = filter_values(values, n, get_bits(b, buffer), kind == SET_INTERSECTION, result);
		set_write_values(writer, a->key, result, n);
	}
	else
	{
		copy_bits(a, result);
		if (kind == SET_UNION)
			set_container_add_to_bits(b, result);
		else
			merge_bits(kind, result, get_bits(b, buffer));
		set_write_bits(writer, a->key, result);
	}
}

bytea *
set_merge(SetMergeKind kind, SetBytes a, SetBytes b, const char **problem)
{
	SetReader left;
	SetReader right;
	SetContainer mine;
	SetContainer theirs;
	SetWriter writer;
	bool have_left;
	bool have_right;

	set_writer_init(&writer);
	set_read(&left, a.data, a.size);
	set_read(&right, b.data, b.size);
	have_left = set_next(&left, &mine);
	have_right = set_next(&right, &theirs);
	while ((have_left && (have_right || kind != SET_INTERSECTION)) ||
		   (have_right && kind == SET_UNION))
	{
		if (have_left && have_right && mine.key == theirs.key)
		{
			merge_containers(&writer, kind, &mine, &theirs);
			have_left = set_next(&left, &mine);
			have_right = set_next(&right, &theirs);
		}
		else if (!have_right || (have_left && mine.key < theirs.key))
		{
			if (kind != SET_INTERSECTION)
				set_write_container(&writer, &mine);
			have_left = set_next(&left, &mine);
		}
		else
		{
			if (kind == SET_UNION)
				set_write_container(&writer, &theirs);
			have_right = set_next(&right, &theirs);
		}
	}
	*problem = left.problem != NULL ? left.problem : right.problem;
	return set_writer_finish(&writer);
}

/* How many members two containers of the same key have in common. */
static uint32
count_common(const SetContainer *a, const SetContainer *b)
{
	unsigned char result[SET_BITS_BYTES];
	unsigned char buffer[SET_BITS_BYTES];
	unsigned char more[2 * SET_VALUES_MAX];
	const unsigned char *values;
	const unsigned char *others;
	uint32 n;
	uint32 nothers;

	if (!is_small(a) && is_small(b))
	{
		const SetContainer *small = b;

		b = a;
		a = small;
	}
	if (is_small(a) && is_small(b))
	{
		values = get_values(a, buffer, &n);
		others = get_values(b, more, &nothers);
		return set_merge_values(SET_INTERSECTION, values, n, others, nothers, result);
	}
	if (is_small(a))
	{
		values = get_values(a, more, &n);
		return filter_values(values, n, get_bits(b, buffer), true, result);
	}
	copy_bits(a, result);
	merge_bits(SET_INTERSECTION, result, get_bits(b, buffer));
	return (uint32) pg_popcount((const char *) result, SET_BITS_BYTES);
}

bool
set_is_subset(SetBytes part, SetBytes whole, const char **problem)
{
	SetReader left;
	SetReader right;
	SetContainer mine;
	SetContainer theirs;
	bool subset = true;

	set_read(&left, part.data, part.size);
	set_read(&right, whole.data, whole.size);
	while (subset && set_next(&left, &mine))
	{
		bool found;

		do
			found = set_next(&right, &theirs);
		while (found && theirs.key < mine.key);
		subset = found && theirs.key == mine.key && mine.cardinality <= theirs.cardinality &&
				 count_common(&mine, &theirs) == mine.cardinality;
	}
	*problem = left.problem != NULL ? left.problem : right.problem;
	return subset;
}

bool
set_overlaps(SetBytes a, SetBytes b, const char **problem)
{
	SetReader left;
	SetReader right;
	SetContainer mine;
	SetContainer theirs;
	bool have_left;
	bool have_right;
	bool overlap = false;

	set_read(&left, a.data, a.size);
	set_read(&right, b.data, b.size);
	have_left = set_next(&left, &mine);
	have_right = set_next(&right, &theirs);
	while (!overlap && have_left && have_right)
	{
		bool equal = mine.key == theirs.key;
		bool less = mine.key < theirs.key;

		overlap = equal && count_common(&mine, &theirs) > 0;
		if (equal || less)
			have_left = set_next(&left, &mine);
		if (equal || !less)
			have_right = set_next(&right, &theirs);
	}
	*problem = left.problem != NULL ? left.problem : right.problem;
	return overlap;
}
