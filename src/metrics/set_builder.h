/*
 * set_builder.h
 *		A set that grows in memory: by integers, by whole sets, by builders.
 *
 * All memory is the context's that is current when the builder is made or
 * grows; there is nothing to free.  It takes 2 bytes a member, and at most 8 kB
 * for each 65,536 integers that it has one of: 256 MB.
 */
#ifndef DASHIE_SET_BUILDER_H
#define DASHIE_SET_BUILDER_H

#include "postgres.h"

#include "metrics/set_format.h"

typedef struct SetBuilder SetBuilder;

extern SetBuilder *set_builder_create(void);
extern void set_builder_add(SetBuilder *builder, uint32 member); /* at most SET_MEMBER_MAX */

/* Says what is wrong with the bytes; NULL: nothing. */
extern const char *
set_builder_add_set(SetBuilder *builder, const unsigned char *bytes, size_t size);
extern void set_builder_add_builder(SetBuilder *builder, const SetBuilder *other);

/* The set as bytes; the builder may go on growing. */
extern bytea *set_builder_write(const SetBuilder *builder);

#endif /* DASHIE_SET_BUILDER_H */
