/*
 * uuid_v7.h
 *		Time-ordered ids.
 */
#ifndef DASHIE_UUID_V7_H
#define DASHIE_UUID_V7_H

#include "postgres.h"

#include "utils/uuid.h"

/* A version 7 UUID, larger than every other that this process has made. */
extern void dashie_make_uuid_v7(pg_uuid_t *id);

#endif /* DASHIE_UUID_V7_H */
