/*
 * user_set.c
 *		Hostile bytes for the sets, without a server: make fuzz.
 *
 *		user_set [INPUTS [SEED]]
 *
 * Sets that CRoaring made are mutated and given to everything that reads
 * bytes, built with the address and undefined behaviour sanitizers.  Nothing
 * may read or write where it should not, whatever the bytes are.  What the
 * validator accepts must be a set to the library too, with the same members,
 * and every operation on it must give what the library's gives.
 *
 * Each input lies in a block of its own size, so that a read beyond its end is
 * seen.  The same seed makes the same inputs; a failure prints what it needs to
 * be replayed.
 */
#include "postgres.h"

#include <roaring/roaring.h>

#include "metrics/set_builder.h"
#include "metrics/set_format.h"
#include "metrics/set_merge.h"

/*
 * What is left at the end is the context's.  Said here, since the sanitizer
 * reads its environment from /proc, which a chroot may not have.
 */
const char *__asan_default_options(void);

const char *
__asan_default_options(void)
{
	return "detect_leaks=0";
}

/*
 * Memory as in a context that is reset after each input: blocks are malloc's
 * own, so that the sanitizer watches each.
 */
typedef struct Block
{
	struct Block *next;
	struct Block *previous;
} Block;

static Block blocks = {&blocks, &blocks};

static void *
link_block(Block *block)
{
	if (block == NULL)
		abort();
	block->next = blocks.next;
	block->previous = &blocks;
	block->next->previous = block;
	blocks.next = block;
	return block + 1;
}

static Block *
unlink_block(void *pointer)
{
	Block *block = (Block *) pointer - 1;

	block->previous->next = block->next;
	block->next->previous = block->previous;
	return block;
}

void *
palloc(Size size)
{
	return link_block(malloc(sizeof(Block) + size));
}

void *
palloc0(Size size)
{
	return memset(palloc(size), 0, size);
}

void *
repalloc(void *pointer, Size size)
{
	return link_block(realloc(unlink_block(pointer), sizeof(Block) + size));
}

void
pfree(void *pointer)
{
	free(unlink_block(pointer));
}

static void
reset_memory(void)
{
	while (blocks.next != &blocks)
		pfree(blocks.next + 1);
}

static uint64 seed;
static uint64 input;
static uint64 state;

static uint64
random64(void)
{
	uint64 z = (state += UINT64CONST(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

static uint32
below(uint32 limit)
{
	return (uint32) (random64() % limit);
}

static void
fail(const char *what, const unsigned char *bytes, size_t size)
{
	printf("FAILED at input " UINT64_FORMAT " of seed " UINT64_FORMAT ": %s\n", input, seed, what);
	for (size_t i = 0; i < size && i < 4096; i++)
		printf("%02x", bytes[i]);
	printf("%s\n", size > 4096 ? "..." : "");
	fflush(stdout);
	abort();
}

#define CHECK(condition)                              \
	do                                                \
	{                                                 \
		if (!(condition))                             \
			fail(#condition, bytes.data, bytes.size); \
	} while (0)

/* Members of one container: of every kind, and around the limits between the kinds. */
static void
add_container(roaring_bitmap_t *set, uint32 key)
{
	static const uint32 limits[] = {1, 2, 3, 4095, 4096, 4097, 8191, 65535, 65536};
	uint32 base = key << 16;
	uint32 n;

	switch (below(8))
	{
		case 0:
			for (n = 1 + below(20); n > 0; n--)
				roaring_bitmap_add(set, base + below(65536));
			break;
		case 1:
			for (n = below(3000); n > 0; n--)
				roaring_bitmap_add(set, base + below(below(2) ? 4096 : 65536));
			break;
		case 2:
			for (n = 4000 + below(4000); n > 0; n--)
				roaring_bitmap_add(set, base + below(65536));
			break;
		case 3:
			n = limits[below(lengthof(limits))];
			roaring_bitmap_add_range_closed(set, base, base + n - 1);
			break;
		case 4:
			/* pairs: runs and values take the same number of bytes, or nearly */
			for (n = 1 + below(2100); n > 0; n--)
				roaring_bitmap_add_range_closed(set, base + 5 * n, base + 5 * n + 1);
			if (below(2))
				roaring_bitmap_add(set, base);
			break;
		case 5:
			for (n = 1 + below(10); n > 0; n--)
			{
				uint32 first = below(65536);

				roaring_bitmap_add_range_closed(set, base + first,
												base + first + below(65536 - first));
			}
			break;
		case 6:
			n = 4090 + below(12);
			for (uint32 i = 0; i < n; i++)
				roaring_bitmap_add(set, base + 3 * i);
			break;
		case 7:
			/* up to the last integer of the range, and over its end */
			n = 1 + below(below(2) ? 20 : 5000);
			roaring_bitmap_add_range_closed(set, base + 65536 - n,
											base + 65535 + (key < 0x7FFF ? below(3) : 0));
			break;
	}
}

/* The same set without runs; the library's own function for that overruns its memory (0.2.66). */
static roaring_bitmap_t *
without_runs(roaring_bitmap_t *set)
{
	uint64 n = roaring_bitmap_get_cardinality(set);
	uint32 *members = malloc((n + 1) * sizeof(uint32));
	roaring_bitmap_t *result;

	roaring_bitmap_to_uint32_array(set, members);
	result = roaring_bitmap_of_ptr(n, members);
	free(members);
	roaring_bitmap_free(set);
	return result;
}

static roaring_bitmap_t *
make_set(void)
{
	roaring_bitmap_t *set = roaring_bitmap_create();
	uint32 n = below(16) == 0 ? below(30) : below(4);
	uint32 key = below(4) == 0 ? below(0x8000 - 200) : 0;

	for (uint32 i = 0; i < n; i++)
	{
		add_container(set, key);
		key += below(4) == 0 ? 1 + below(4) : 1;
	}
	if (below(20) == 0)
		roaring_bitmap_add(set, PG_INT32_MAX);
	switch (below(3))
	{
		case 0:
			roaring_bitmap_run_optimize(set);
			break;
		case 1:
			set = without_runs(set);
			break;
	}
	return set;
}

static SetBytes
library_bytes(const roaring_bitmap_t *set)
{
	SetBytes bytes;
	unsigned char *data;

	bytes.size = roaring_bitmap_portable_size_in_bytes(set);
	data = malloc(bytes.size);
	roaring_bitmap_portable_serialize(set, (char *) data);
	bytes.data = data;
	return bytes;
}

static roaring_bitmap_t *
library_set(SetBytes bytes)
{
	return roaring_bitmap_portable_deserialize_safe((const char *) bytes.data, bytes.size);
}

static SetBytes
bytes_of(const bytea *value)
{
	SetBytes bytes;

	bytes.data = (const unsigned char *) VARDATA_ANY(value);
	bytes.size = VARSIZE_ANY_EXHDR(value);
	return bytes;
}

static bool
same_bytes(SetBytes a, SetBytes b)
{
	return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

static SetBytes
mutate(SetBytes original)
{
	static const uint32 interesting[] = {0,		 1,		 2,		 4095,	4096,  0x7FFF,
										 0x8000, 0xFFFE, 0xFFFF, 12346, 12347, 0x303B};
	size_t room = original.size + 64;
	unsigned char *data = malloc(room);
	size_t size = original.size;
	unsigned char *exact;
	SetBytes bytes;

	memcpy(data, original.data, size);
	for (uint32 n = below(40) == 0 ? 0 : 1 + below(3); n > 0; n--)
	{
		/* half of them in the header, which decides where everything is */
		size_t span = below(2) ? Min(size, 64) : size;
		size_t at = span > 0 ? below((uint32) span) : 0;
		size_t length;

		switch (below(9))
		{
			case 0:
				if (size > 0)
					data[at] ^= 1 << below(8);
				break;
			case 1:
				if (size > 0)
					data[at] = (unsigned char) random64();
				break;
			case 2:
				size = at;
				break;
			case 3:
				for (length = 1 + below(8); length > 0 && size < room; length--)
					data[size++] = (unsigned char) (below(2) ? 0 : random64());
				break;
			case 4:
				if (at + 2 <= size)
					set_put16(data + at, interesting[below(lengthof(interesting))]);
				break;
			case 5:
				length = 1 + below(4);
				if (at + length <= size)
				{
					memmove(data + at, data + at + length, size - at - length);
					size -= length;
				}
				break;
			case 6:
				length = 1 + below(4);
				if (size + length <= room && at <= size)
				{
					memmove(data + at + length, data + at, size - at);
					memset(data + at, below(2) ? 0 : 0xFF, length);
					size += length;
				}
				break;
			case 7:
				/* one more, one less: what a counter or a neighbour would be */
				if (at + 2 <= size)
					set_put16(data + at, set_get16(data + at) + (below(2) ? 1 : -1));
				break;
			case 8:
				/* leaves as many bits as there were, so bits stay a set */
				length = size > 0 ? below((uint32) size) : 0;
				if (length > 64 && at > 64 && at < size)
				{
					unsigned char byte = data[at];

					data[at] = data[length];
					data[length] = byte;
				}
				break;
		}
	}
	exact = malloc(size);
	memcpy(exact, data, size);
	free(data);
	bytes.data = exact;
	bytes.size = size;
	return bytes;
}

/* All that reads bytes, where the bytes may be anything. */
static void
read_all(SetBytes bytes, SetBytes other)
{
	SetRuns runs;
	SetReader reader;
	SetContainer container;
	SetBuilder *builder = set_builder_create();
	const char *problem;
	uint32 first;
	uint32 last;

	set_runs_begin(&runs, bytes.data, bytes.size);
	while (set_runs_next(&runs, &first, &last))
		;
	for (int i = 0; i < 4; i++)
	{
		set_read(&reader, bytes.data, bytes.size);
		if (set_find(&reader, i < 3 ? i : below(0x8000), &container))
			set_container_has(&container, below(65536));
	}
	for (SetMergeKind kind = SET_UNION; kind <= SET_DIFFERENCE; kind++)
	{
		set_merge(kind, bytes, other, &problem);
		set_merge(kind, other, bytes, &problem);
	}
	set_merge(SET_UNION, bytes, bytes, &problem);
	set_is_subset(bytes, other, &problem);
	set_is_subset(other, bytes, &problem);
	set_overlaps(bytes, other, &problem);
	set_builder_add_set(builder, bytes.data, bytes.size);
	set_builder_add_set(builder, other.data, other.size);
	set_builder_add_set(builder, bytes.data, bytes.size);
	set_builder_add(builder, below(PG_INT32_MAX));
	set_builder_write(builder);
}

static void
check_members(SetBytes bytes, const roaring_bitmap_t *set)
{
	uint64 n = roaring_bitmap_get_cardinality(set);
	uint32 *members = malloc((n + 1) * sizeof(uint32));
	uint64 seen = 0;
	SetReader reader;
	SetContainer container;
	uint64 cardinality = 0;
	SetRuns runs;
	uint32 first;
	uint32 last;
	int64 before = -2;

	roaring_bitmap_to_uint32_array(set, members);
	set_runs_begin(&runs, bytes.data, bytes.size);
	while (set_runs_next(&runs, &first, &last))
	{
		CHECK(first > before + 1 && last >= first);
		before = last;
		for (uint64 member = first; member <= last; member++, seen++)
			CHECK(seen < n && members[seen] == member);
	}
	CHECK(seen == n && runs.reader.problem == NULL);

	set_read(&reader, bytes.data, bytes.size);
	while (set_next(&reader, &container))
		cardinality += container.cardinality;
	CHECK(cardinality == n);

	for (int i = 0; i < 20; i++)
	{
		uint32 value = n > 0 && below(2) ? members[random64() % n] + below(3) - 1
										 : (uint32) random64() & PG_INT32_MAX;
		bool found;

		value &= PG_INT32_MAX;
		set_read(&reader, bytes.data, bytes.size);
		found = set_find(&reader, value >> 16, &container) &&
				set_container_has(&container, value & 0xFFFF);
		CHECK(found == roaring_bitmap_contains(set, value));
	}
	free(members);
}

/* The result of an operation is the library's, and written as every set is. */
static void
check_result(SetBytes bytes, const bytea *result, roaring_bitmap_t *expected)
{
	SetBytes written = bytes_of(result);
	roaring_bitmap_t *set;

	CHECK(user_set_problem(written.data, written.size) == NULL);
	CHECK(same_bytes(bytes_of(set_rewrite(written.data, written.size)), written));
	set = library_set(written);
	CHECK(set != NULL && roaring_bitmap_equals(set, expected));
	roaring_bitmap_free(set);
	roaring_bitmap_free(expected);
}

static void
check_operations(SetBytes bytes, const roaring_bitmap_t *set, SetBytes other,
				 const roaring_bitmap_t *other_set)
{
	SetBytes mine = bytes_of(set_rewrite(bytes.data, bytes.size));
	SetBuilder *builder = set_builder_create();
	SetBuilder *second = set_builder_create();
	const char *problem;
	roaring_bitmap_t *in_place;
	bytea *united = set_merge(SET_UNION, mine, other, &problem);

	CHECK(problem == NULL);
	check_result(bytes, united, roaring_bitmap_or(set, other_set));
	check_result(bytes, set_merge(SET_INTERSECTION, mine, other, &problem),
				 roaring_bitmap_and(set, other_set));
	check_result(bytes, set_merge(SET_DIFFERENCE, mine, other, &problem),
				 roaring_bitmap_andnot(set, other_set));
	check_result(bytes, set_merge(SET_DIFFERENCE, other, mine, &problem),
				 roaring_bitmap_andnot(other_set, set));
	/* as the pages do it: in place */
	in_place = roaring_bitmap_copy(set);
	roaring_bitmap_or_inplace(in_place, other_set);
	check_result(bytes, united, in_place);
	in_place = roaring_bitmap_copy(set);
	roaring_bitmap_andnot_inplace(in_place, other_set);
	check_result(bytes, set_merge(SET_DIFFERENCE, mine, other, &problem), in_place);
	CHECK(roaring_bitmap_and_cardinality(set, other_set) +
			  roaring_bitmap_or_cardinality(set, other_set) ==
		  roaring_bitmap_get_cardinality(set) + roaring_bitmap_get_cardinality(other_set));
	CHECK(set_is_subset(mine, other, &problem) == roaring_bitmap_is_subset(set, other_set));
	CHECK(set_is_subset(mine, bytes_of(united), &problem));
	CHECK(set_overlaps(mine, other, &problem) == roaring_bitmap_intersect(set, other_set));

	/* the builders, from any valid bytes */
	CHECK(set_builder_add_set(builder, bytes.data, bytes.size) == NULL);
	CHECK(set_builder_add_set(second, other.data, other.size) == NULL);
	set_builder_add_builder(builder, second);
	CHECK(same_bytes(bytes_of(set_builder_write(builder)), bytes_of(united)));
}

static void
check_builder(SetBytes bytes, const roaring_bitmap_t *set)
{
	uint64 n = roaring_bitmap_get_cardinality(set);
	SetBuilder *builder = set_builder_create();
	uint32 *members;

	if (n > 20000)
		return;
	members = malloc((n + 1) * sizeof(uint32));
	roaring_bitmap_to_uint32_array(set, members);
	for (uint64 i = 0; i < n; i++)
	{
		uint64 j = i + random64() % (n - i);
		uint32 member = members[j];

		members[j] = members[i];
		members[i] = member;
		set_builder_add(builder, member);
		if (below(4) == 0)
			set_builder_add(builder, members[random64() % (i + 1)]);
	}
	CHECK(same_bytes(bytes_of(set_builder_write(builder)),
					 bytes_of(set_rewrite(bytes.data, bytes.size))));
	free(members);
}

/* What the pages do with a library's set that came from bytes: members come and go. */
static void
check_changes(SetBytes bytes, const roaring_bitmap_t *original)
{
	roaring_bitmap_t *set = roaring_bitmap_copy(original);
	SetBuilder *added = set_builder_create();
	SetBuilder *removed = set_builder_create();
	SetBytes mine = bytes_of(set_rewrite(bytes.data, bytes.size));
	const char *problem;
	bytea *result;

	for (int i = 0; i < 30; i++)
	{
		uint32 member;

		/* near the ends of a run, where it is split or shortened */
		if (!roaring_bitmap_select(
				original, below((uint32) roaring_bitmap_get_cardinality(original) + 1), &member))
			member = 65535;
		member = (member + below(3) - 1) & PG_INT32_MAX;
		if (below(2))
			member |= 0xFFFF;
		if (i < 15)
		{
			roaring_bitmap_remove(set, member);
			set_builder_add(removed, member);
		}
		else
		{
			roaring_bitmap_add(set, member);
			set_builder_add(added, member);
		}
	}
	result = set_merge(SET_DIFFERENCE, mine, bytes_of(set_builder_write(removed)), &problem);
	result = set_merge(SET_UNION, bytes_of(result), bytes_of(set_builder_write(added)), &problem);
	check_result(bytes, result, set);
}

static void
check_accepted(SetBytes bytes, SetBytes other, const roaring_bitmap_t *other_set)
{
	roaring_bitmap_t *set = library_set(bytes);
	SetBytes written = bytes_of(set_rewrite(bytes.data, bytes.size));
	SetBytes again;

	CHECK(set != NULL);
	CHECK(roaring_bitmap_portable_deserialize_size((const char *) bytes.data, bytes.size) ==
		  bytes.size);
	check_members(bytes, set);
	check_members(written, set);
	/* a set without runs has a longer header, by the offsets of up to 3 containers */
	CHECK(written.size <= bytes.size + 16);
	check_operations(bytes, set, other, other_set);
	check_changes(bytes, set);
	if (below(8) == 0)
		check_builder(bytes, set);

	/* however the library would write it, it is written the same */
	set = without_runs(set);
	again = library_bytes(set);
	CHECK(same_bytes(bytes_of(set_rewrite(again.data, again.size)), written));
	free(unconstify(unsigned char *, again.data));
	roaring_bitmap_run_optimize(set);
	again = library_bytes(set);
	CHECK(written.size <= again.size);
	CHECK(same_bytes(bytes_of(set_rewrite(again.data, again.size)), written));
	free(unconstify(unsigned char *, again.data));
	roaring_bitmap_free(set);
}

int
main(int argc, char **argv)
{
	uint64 ninputs = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
	uint64 accepted = 0;
	uint64 unchanged = 0;
	roaring_bitmap_t *set = NULL;
	roaring_bitmap_t *other_set = NULL;
	SetBytes original = {NULL, 0};
	SetBytes other = {NULL, 0};

	seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	state = seed;
	printf("seed " UINT64_FORMAT ", " UINT64_FORMAT " inputs\n", seed, ninputs);
	for (input = 0; input < ninputs; input++)
	{
		SetBytes bytes;
		bool same;

		if (input % 20 == 0)
		{
			if (set != NULL)
			{
				roaring_bitmap_free(set);
				roaring_bitmap_free(other_set);
				free(unconstify(unsigned char *, original.data));
				free(unconstify(unsigned char *, other.data));
			}
			set = make_set();
			other_set = below(4) == 0 ? roaring_bitmap_copy(set) : make_set();
			original = library_bytes(set);
			/* as the writer writes it, in a block of its own */
			other = library_bytes(other_set);
			{
				SetBytes written = bytes_of(set_rewrite(other.data, other.size));
				unsigned char *exact = malloc(written.size);

				memcpy(exact, written.data, written.size);
				free(unconstify(unsigned char *, other.data));
				other.data = exact;
				other.size = written.size;
			}
		}
		bytes = mutate(original);
		same = same_bytes(bytes, original);
		unchanged += same;
		read_all(bytes, other);
		if (user_set_problem(bytes.data, bytes.size) == NULL)
		{
			accepted++;
			check_accepted(bytes, other, other_set);
		}
		else
			CHECK(!same);
		free(unconstify(unsigned char *, bytes.data));
		reset_memory();
	}
	if (set != NULL)
	{
		roaring_bitmap_free(set);
		roaring_bitmap_free(other_set);
		free(unconstify(unsigned char *, original.data));
		free(unconstify(unsigned char *, other.data));
	}
	printf("passed: " UINT64_FORMAT " accepted (" UINT64_FORMAT
		   " of them not mutated), " UINT64_FORMAT " rejected\n",
		   accepted, unchanged, ninputs - accepted);
	return 0;
}
