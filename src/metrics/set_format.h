/*
 * set_format.h
 *		A set of integers from 0 to 2,147,483,647 as bytes: reading, checking
 *		and writing.
 *
 * Nothing here needs a database or reads beyond what it is given, whatever the
 * bytes are.  Results are palloc'd.
 */
#ifndef DASHIE_SET_FORMAT_H
#define DASHIE_SET_FORMAT_H

#include "postgres.h"

#include "port/pg_bswap.h"

#include "common/compat.h"

#define SET_COOKIE_PLAIN 12346
#define SET_COOKIE_RUNS 12347
#define SET_MIN_FOR_OFFSETS 4 /* with runs, fewer containers have no offsets */

#define SET_MEMBER_MAX PG_INT32_MAX
#define SET_CONTAINER_RANGE 0x10000 /* a container covers this many integers */
#define SET_VALUES_MAX 4096			/* members of a container that is stored as values */
#define SET_BITS_BYTES 8192
#define SET_BITS_WORDS (SET_BITS_BYTES / 8)

typedef enum SetKind
{
	SET_VALUES, /* two bytes for each member, ascending */
	SET_BITS,	/* a bit for each integer of the range */
	SET_RUNS	/* first member and number of further ones, two bytes each, ascending */
} SetKind;

/* The members that share their upper 16 bits.  All numbers are little-endian. */
typedef struct SetContainer
{
	uint32 key; /* the upper 16 bits */
	SetKind kind;
	uint32 cardinality; /* as its set's header says; at most SET_VALUES_MAX for values */
	uint32 nruns;
	const unsigned char *data;
} SetContainer;

typedef struct SetReader
{
	const unsigned char *bytes;
	size_t size;
	uint32 ncontainers;
	const unsigned char *run_flags; /* a bit for each container; NULL: none has runs */
	const unsigned char *headers;	/* key and cardinality - 1 of each container */
	const unsigned char *offsets;	/* of each container; NULL: not stored */
	uint32 next;
	size_t position;
	const char *problem; /* what is wrong with the bytes read so far; NULL: nothing */
} SetReader;

/* Goes through a set from one run of consecutive members to the next. */
typedef struct SetRuns
{
	SetReader reader;
	SetContainer container;
	uint32 at;	  /* where in the container the search goes on */
	bool pending; /* first and last are found, but may go on in the next container */
	uint32 first;
	uint32 last;
} SetRuns;

typedef struct SetWriterEntry
{
	uint32 key;
	uint32 cardinality;
	uint32 size;
	bool runs;
} SetWriterEntry;

typedef struct SetWriter
{
	SetWriterEntry *entries;
	uint32 nentries;
	uint32 maxentries;
	unsigned char *body;
	size_t used;
	size_t room;
} SetWriter;

static inline uint32
set_get16(const unsigned char *p)
{
	return p[0] | ((uint32) p[1] << 8);
}

static inline uint32
set_get32(const unsigned char *p)
{
	return set_get16(p) | (set_get16(p + 2) << 16);
}

static inline uint64
set_get64(const unsigned char *p)
{
	uint64 word;

	memcpy(&word, p, sizeof(word));
#ifdef WORDS_BIGENDIAN
	word = pg_bswap64(word);
#endif
	return word;
}

static inline void
set_put16(unsigned char *p, uint32 value)
{
	p[0] = (unsigned char) value;
	p[1] = (unsigned char) (value >> 8);
}

static inline void
set_put32(unsigned char *p, uint32 value)
{
	set_put16(p, value);
	set_put16(p + 2, value >> 16);
}

static inline bool
set_bit_is_set(const unsigned char *bits, uint32 bit)
{
	return (bits[bit >> 3] >> (bit & 7)) & 1;
}

/*
 * Reading.  The structure is checked on the way, the contents of a container
 * are not: bytes from outside go through user_set_problem() first.
 */
extern void set_read(SetReader *reader, const unsigned char *bytes, size_t size);
extern bool set_next(SetReader *reader, SetContainer *container);
extern bool set_find(SetReader *reader, uint32 key, SetContainer *container);

extern bool set_container_has(const SetContainer *container, uint32 value);
extern void set_container_add_to_bits(const SetContainer *container, unsigned char *bits);
extern uint32 set_container_to_values(const SetContainer *container, unsigned char *values);
extern bool
set_container_next_run(const SetContainer *container, uint32 *at, uint32 *first, uint32 *last);

extern void set_runs_begin(SetRuns *runs, const unsigned char *bytes, size_t size);
extern bool set_runs_next(SetRuns *runs, uint32 *first, uint32 *last);

/* Says why the bytes are no valid set; NULL if they are one. */
extern const char *user_set_problem(const unsigned char *bytes, size_t size);

/*
 * Writing, by ascending key.  Each container gets the one kind that its members
 * call for, so that equal sets are equal bytes.
 */
extern void set_writer_init(SetWriter *writer);
extern void set_write_container(SetWriter *writer, const SetContainer *container);
extern void set_write_values(SetWriter *writer, uint32 key, const unsigned char *values, uint32 n);
extern void set_write_bits(SetWriter *writer, uint32 key, const unsigned char *bits);
extern void set_write_runs(SetWriter *writer, uint32 key, const unsigned char *runs, uint32 nruns);
extern bytea *set_writer_finish(SetWriter *writer);

/* The same set as the writer writes it; the bytes must be valid. */
extern bytea *set_rewrite(const unsigned char *bytes, size_t size);

#endif /* DASHIE_SET_FORMAT_H */
