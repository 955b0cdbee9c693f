/*
 * set_type.h
 *		The SQL type dashie.user_set, for the files that define it.
 *
 * A value is a varlena that holds a set as the writer writes it (set_format.h),
 * since everything that makes one goes through the writer.  A data file may be
 * damaged all the same; then functions give XX001 or a wrong answer.
 */
#ifndef DASHIE_SET_TYPE_H
#define DASHIE_SET_TYPE_H

#include "postgres.h"

#include "fmgr.h"

#include "metrics/set_merge.h"

#define SET_TYPE_NAME "dashie.user_set"

static inline SetBytes
set_bytes_of(const struct varlena *value)
{
	SetBytes bytes;

	bytes.data = (const unsigned char *) VARDATA_ANY(value);
	bytes.size = VARSIZE_ANY_EXHDR(value);
	return bytes;
}

#define PG_GETARG_SET(n) set_bytes_of(PG_GETARG_VARLENA_PP(n))

/* XX001 if there is a problem */
extern void set_accept(const char *problem);

/* 22023 unless an integer may be in a set */
extern uint32 set_member(int32 value);

#endif /* DASHIE_SET_TYPE_H */
