/*
 * user_set.h
 *		Sets of small integers in CRoaring's portable format.
 *
 * Bytes from a table are checked by our own validator before the library sees
 * them (older releases of it crash on inconsistent input); a bitmap is freed
 * by a callback of the memory context that it was made in.
 */
#ifndef DASHIE_USER_SET_H
#define DASHIE_USER_SET_H

#include "postgres.h"

#include <roaring/roaring.h>

#include "metrics/set_format.h"

typedef roaring_bitmap_t UserSet;

extern UserSet *user_set_create(void);
extern UserSet *
user_set_adopt(UserSet *set); /* result of a library call: freed with the current context */
extern UserSet *user_set_of_sorted(const uint32 *members, uint32 n); /* ascending, each once */
extern UserSet *user_set_from_bytes(const bytea *bytes);			 /* XX001 unless valid */
extern bytea *user_set_to_bytes(UserSet *set);

/* XX001 if a member is above "max". */
extern void user_set_require_max(const UserSet *set, int32 max);

/* The members, ascending, palloc'd; XX001 if one is above "max". */
extern int32 *user_set_members(const UserSet *set, int32 max, int64 *count);

#endif /* DASHIE_USER_SET_H */
