/*
 * set_writer.c
 *		A set of integers as bytes: writing.
 *
 * The format lets the same members be written as values, bits or runs.  The
 * writer knows one way for each set, so that sets are equal if their bytes
 * are: runs where they take no more bytes than the other kind, which is values
 * up to 4,096 members and bits above.
 */
#include "postgres.h"

#include "port/pg_bitutils.h"

#include "metrics/set_format.h"

void
set_writer_init(SetWriter *writer)
{
	memset(writer, 0, sizeof(*writer));
	writer->maxentries = 8;
	writer->entries = palloc(writer->maxentries * sizeof(SetWriterEntry));
	writer->room = 512;
	writer->body = palloc(writer->room);
}

/* Room for one more container, whose bytes the caller fills in. */
static unsigned char *
add_entry(SetWriter *writer, uint32 key, uint32 cardinality, bool runs, uint32 size)
{
	SetWriterEntry *entry;
	unsigned char *data;

	if (writer->nentries == writer->maxentries)
	{
		writer->maxentries *= 2;
		writer->entries = repalloc(writer->entries, writer->maxentries * sizeof(SetWriterEntry));
	}
	if (writer->room - writer->used < size)
	{
		while (writer->room - writer->used < size)
			writer->room *= 2;
		writer->body = repalloc(writer->body, writer->room);
	}
	entry = &writer->entries[writer->nentries++];
	entry->key = key;
	entry->cardinality = cardinality;
	entry->size = size;
	entry->runs = runs;
	data = writer->body + writer->used;
	writer->used += size;
	return data;
}

static bool
runs_are_better(uint32 cardinality, uint32 nruns)
{
	return 2 + 4 * nruns <= (cardinality <= SET_VALUES_MAX ? 2 * cardinality : SET_BITS_BYTES);
}

/*
 * set_write_container copies a container of a set that this writer wrote.
 */
void
set_write_container(SetWriter *writer, const SetContainer *container)
{
	bool runs = container->kind == SET_RUNS;
	uint32 size = container->kind == SET_BITS ? SET_BITS_BYTES : container->cardinality * 2;

	if (runs)
		size = 2 + 4 * container->nruns;
	memcpy(add_entry(writer, container->key, container->cardinality, runs, size),
		   container->data - (runs ? 2 : 0), size);
}

/*
 * set_write_values writes the members of one key, at most twice SET_VALUES_MAX
 * of them, two bytes each; none is no container.
 */
void
set_write_values(SetWriter *writer, uint32 key, const unsigned char *values, uint32 n)
{
	uint32 nruns = n > 0 ? 1 : 0;
	unsigned char *data;

	if (n == 0)
		return;
	if (n > SET_VALUES_MAX)
	{
		unsigned char bits[SET_BITS_BYTES] = {0};
		SetContainer container = {.kind = SET_VALUES, .cardinality = n, .data = values};

		set_container_add_to_bits(&container, bits);
		set_write_bits(writer, key, bits);
		return;
	}

	for (uint32 i = 1; i < n; i++)
		nruns += set_get16(values + 2 * i) != set_get16(values + 2 * i - 2) + 1;
	if (!runs_are_better(n, nruns))
	{
		memcpy(add_entry(writer, key, n, false, n * 2), values, n * 2);
		return;
	}
	data = add_entry(writer, key, n, true, 2 + 4 * nruns);
	set_put16(data, nruns);
	data += 2;
	for (uint32 i = 0, start = 0; i < n; i++)
	{
		if (i + 1 < n && set_get16(values + 2 * i + 2) == set_get16(values + 2 * i) + 1)
			continue;
		set_put16(data, set_get16(values + 2 * start));
		set_put16(data + 2, i - start);
		data += 4;
		start = i + 1;
	}
}

static uint32
count_runs(const unsigned char *bits)
{
	uint64 starts[SET_BITS_WORDS];
	uint64 before = 0;

	/* a run starts at each bit whose predecessor is not set */
	for (int i = 0; i < SET_BITS_WORDS; i++)
	{
		uint64 word = set_get64(bits + 8 * i);

		starts[i] = word & ~(word << 1 | before >> 63);
		before = word;
	}
	return (uint32) pg_popcount((const char *) starts, SET_BITS_BYTES);
}

/*
 * set_write_bits writes the members of one key from a bit for each; none is no
 * container.
 */
void
set_write_bits(SetWriter *writer, uint32 key, const unsigned char *bits)
{
	uint32 cardinality = (uint32) pg_popcount((const char *) bits, SET_BITS_BYTES);
	uint32 nruns;
	bool runs;
	unsigned char *data;
	SetContainer container = {.kind = SET_BITS, .cardinality = cardinality, .data = bits};
	uint32 at = 0;
	uint32 first;
	uint32 last;

	if (cardinality == 0)
		return;
	nruns = count_runs(bits);
	runs = runs_are_better(cardinality, nruns);
	if (!runs && cardinality > SET_VALUES_MAX)
	{
		memcpy(add_entry(writer, key, cardinality, false, SET_BITS_BYTES), bits, SET_BITS_BYTES);
		return;
	}

	data = add_entry(writer, key, cardinality, runs, runs ? 2 + 4 * nruns : cardinality * 2);
	if (runs)
	{
		set_put16(data, nruns);
		data += 2;
	}
	while (set_container_next_run(&container, &at, &first, &last))
	{
		if (runs)
		{
			set_put16(data, first);
			set_put16(data + 2, last - first);
			data += 4;
			continue;
		}
		for (uint32 value = first; value <= last; value++, data += 2)
			set_put16(data, value);
	}
}

/*
 * set_write_runs writes the members of one key from runs, as in a container of
 * them: ascending and with gaps between them.
 */
void
set_write_runs(SetWriter *writer, uint32 key, const unsigned char *runs, uint32 nruns)
{
	SetContainer container = {.key = key, .kind = SET_RUNS, .nruns = nruns, .data = runs};
	uint32 cardinality = 0;
	unsigned char *data;

	for (uint32 i = 0; i < nruns; i++)
		cardinality += set_get16(runs + 4 * i + 2) + 1;
	if (cardinality == 0)
		return;
	if (runs_are_better(cardinality, nruns))
	{
		data = add_entry(writer, key, cardinality, true, 2 + 4 * nruns);
		set_put16(data, nruns);
		memcpy(data + 2, runs, 4 * nruns);
	}
	else if (cardinality <= SET_VALUES_MAX)
		set_container_to_values(&container,
								add_entry(writer, key, cardinality, false, cardinality * 2));
	else
	{
		data = add_entry(writer, key, cardinality, false, SET_BITS_BYTES);
		memset(data, 0, SET_BITS_BYTES);
		set_container_add_to_bits(&container, data);
	}
}

/*
 * set_writer_finish puts the set together and releases the writer's memory.
 */
bytea *
set_writer_finish(SetWriter *writer)
{
	uint32 n = writer->nentries;
	bool runs = false;
	size_t header;
	size_t size;
	bytea *result;
	unsigned char *p;

	for (uint32 i = 0; i < n && !runs; i++)
		runs = writer->entries[i].runs;
	header = (runs ? 4 + (n + 7) / 8 : 8) + (size_t) n * 4;
	if (!runs || n >= SET_MIN_FOR_OFFSETS)
		header += (size_t) n * 4;
	size = VARHDRSZ + header + writer->used;

	result = palloc(size);
	SET_VARSIZE(result, size);
	p = (unsigned char *) VARDATA(result);
	if (runs)
	{
		set_put32(p, SET_COOKIE_RUNS | (n - 1) << 16);
		p += 4;
		memset(p, 0, (n + 7) / 8);
		for (uint32 i = 0; i < n; i++)
			if (writer->entries[i].runs)
				p[i / 8] |= 1 << (i % 8);
		p += (n + 7) / 8;
	}
	else
	{
		set_put32(p, SET_COOKIE_PLAIN);
		set_put32(p + 4, n);
		p += 8;
	}
	for (uint32 i = 0; i < n; i++, p += 4)
	{
		set_put16(p, writer->entries[i].key);
		set_put16(p + 2, writer->entries[i].cardinality - 1);
	}
	if (!runs || n >= SET_MIN_FOR_OFFSETS)
	{
		size_t position = header;

		for (uint32 i = 0; i < n; i++, p += 4)
		{
			set_put32(p, (uint32) position);
			position += writer->entries[i].size;
		}
	}
	memcpy(p, writer->body, writer->used);
	pfree(writer->entries);
	pfree(writer->body);
	return result;
}

/*
 * set_rewrite returns the same set as the writer writes it, whoever wrote it
 * before.
 */
bytea *
set_rewrite(const unsigned char *bytes, size_t size)
{
	SetReader reader;
	SetContainer container;
	SetWriter writer;

	set_writer_init(&writer);
	set_read(&reader, bytes, size);
	while (set_next(&reader, &container))
	{
		switch (container.kind)
		{
			case SET_VALUES:
				set_write_values(&writer, container.key, container.data, container.cardinality);
				break;
			case SET_BITS:
				set_write_bits(&writer, container.key, container.data);
				break;
			case SET_RUNS:
				set_write_runs(&writer, container.key, container.data, container.nruns);
				break;
		}
	}
	return set_writer_finish(&writer);
}
