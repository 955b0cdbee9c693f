/*
 * set_builder.c
 *		A set that grows in memory: by integers, by whole sets, by builders.
 *
 * A sorted array of containers, each sorted values or bits, as in the format:
 * small for a group of few users, and one bit to set for each integer where
 * there are many.
 */
#include "postgres.h"

#include "metrics/set_builder.h"
#include "metrics/set_merge.h"

#define MIN_VALUES 8

typedef struct BuilderContainer
{
	SetContainer container; /* its data is ours to change; bits have no cardinality */
	uint32 room;			/* how many values there is room for */
} BuilderContainer;

struct SetBuilder
{
	BuilderContainer *containers; /* by ascending key */
	uint32 ncontainers;
	uint32 maxcontainers;
	uint32 last; /* which one was used last */
};

SetBuilder *
set_builder_create(void)
{
	SetBuilder *builder = palloc0(sizeof(SetBuilder));

	builder->maxcontainers = 1;
	builder->containers = palloc(sizeof(BuilderContainer));
	return builder;
}

static unsigned char *
data_of(BuilderContainer *c)
{
	return unconstify(unsigned char *, c->container.data);
}

/* The container of a key; "found" says whether it was there. A new one has no data yet. */
static BuilderContainer *
get_container(SetBuilder *builder, uint32 key, bool *found)
{
	uint32 low = 0;
	uint32 high = builder->ncontainers;

	/* keys mostly come in order, when sets or sorted integers are added */
	if (high > 0 && builder->containers[high - 1].container.key < key)
		low = high;
	while (low < high)
	{
		uint32 middle = (low + high) / 2;

		if (builder->containers[middle].container.key < key)
			low = middle + 1;
		else
			high = middle;
	}
	builder->last = low;
	*found = low < builder->ncontainers && builder->containers[low].container.key == key;
	if (*found)
		return &builder->containers[low];

	if (builder->ncontainers == builder->maxcontainers)
	{
		builder->maxcontainers *= 2;
		builder->containers =
			repalloc(builder->containers, builder->maxcontainers * sizeof(BuilderContainer));
	}
	memmove(&builder->containers[low + 1], &builder->containers[low],
			(builder->ncontainers - low) * sizeof(BuilderContainer));
	memset(&builder->containers[low], 0, sizeof(BuilderContainer));
	builder->containers[low].container.key = key;
	builder->ncontainers++;
	return &builder->containers[low];
}

static void
make_bits(BuilderContainer *c)
{
	unsigned char *bits = palloc0(SET_BITS_BYTES);

	set_container_add_to_bits(&c->container, bits);
	if (c->container.data != NULL)
		pfree(data_of(c));
	c->container.kind = SET_BITS;
	c->container.data = bits;
}

/* Values that are these and no others. */
static void
set_values(BuilderContainer *c, const unsigned char *values, uint32 n)
{
	if (c->room < n)
	{
		if (c->container.data != NULL)
			pfree(data_of(c));
		c->room = n;
		c->container.data = palloc(2 * n);
	}
	c->container.kind = SET_VALUES;
	c->container.cardinality = n;
	memcpy(data_of(c), values, 2 * n);
}

static void
add_value(BuilderContainer *c, uint32 value)
{
	unsigned char *data = data_of(c);
	uint32 n = c->container.cardinality;
	uint32 low = 0;
	uint32 high = n;

	if (n > 0 && set_get16(data + 2 * n - 2) < value)
		low = n;
	while (low < high)
	{
		uint32 middle = (low + high) / 2;

		if (set_get16(data + 2 * middle) < value)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < n && set_get16(data + 2 * low) == value)
		return;
	if (n == SET_VALUES_MAX)
	{
		make_bits(c);
		data_of(c)[value >> 3] |= 1 << (value & 7);
		return;
	}
	if (n == c->room)
	{
		c->room = Max(Min(2 * n, SET_VALUES_MAX), MIN_VALUES);
		data = data == NULL ? palloc(2 * c->room) : repalloc(data, 2 * c->room);
		c->container.data = data;
	}
	memmove(data + 2 * low + 2, data + 2 * low, 2 * (n - low));
	set_put16(data + 2 * low, value);
	c->container.cardinality++;
}

void
set_builder_add(SetBuilder *builder, uint32 member)
{
	uint32 key = member >> 16;
	uint32 value = member & 0xFFFF;
	BuilderContainer *c;
	bool found;

	if (builder->last < builder->ncontainers &&
		builder->containers[builder->last].container.key == key)
		c = &builder->containers[builder->last];
	else
		c = get_container(builder, key, &found);
	if (c->container.kind == SET_BITS)
		data_of(c)[value >> 3] |= 1 << (value & 7);
	else
		add_value(c, value);
}

static void
add_container(SetBuilder *builder, const SetContainer *theirs)
{
	bool found;
	BuilderContainer *c = get_container(builder, theirs->key, &found);
	bool small = theirs->kind != SET_BITS && theirs->cardinality <= SET_VALUES_MAX;

	if (small && c->container.kind == SET_VALUES)
	{
		unsigned char buffer[2 * SET_VALUES_MAX];
		unsigned char result[4 * SET_VALUES_MAX];
		const unsigned char *values = theirs->data;
		uint32 n = theirs->cardinality;

		if (theirs->kind == SET_RUNS)
		{
			n = set_container_to_values(theirs, buffer);
			values = buffer;
		}
		if (!found)
		{
			set_values(c, values, n);
			return;
		}
		n = set_merge_values(SET_UNION, c->container.data, c->container.cardinality, values, n,
							 result);
		if (n <= SET_VALUES_MAX)
		{
			set_values(c, result, n);
			return;
		}
	}
	if (c->container.kind != SET_BITS)
		make_bits(c);
	set_container_add_to_bits(theirs, data_of(c));
}

const char *
set_builder_add_set(SetBuilder *builder, const unsigned char *bytes, size_t size)
{
	SetReader reader;
	SetContainer container;

	set_read(&reader, bytes, size);
	while (set_next(&reader, &container))
		add_container(builder, &container);
	return reader.problem;
}

void
set_builder_add_builder(SetBuilder *builder, const SetBuilder *other)
{
	for (uint32 i = 0; i < other->ncontainers; i++)
		add_container(builder, &other->containers[i].container);
}

bytea *
set_builder_write(const SetBuilder *builder)
{
	SetWriter writer;

	set_writer_init(&writer);
	for (uint32 i = 0; i < builder->ncontainers; i++)
	{
		const SetContainer *c = &builder->containers[i].container;

		if (c->kind == SET_BITS)
			set_write_bits(&writer, c->key, c->data);
		else
			set_write_values(&writer, c->key, c->data, c->cardinality);
	}
	return set_writer_finish(&writer);
}
