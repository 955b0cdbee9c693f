/*
 * digest.h
 *		SHA-256 over values in a form that is the same on every machine.
 */
#ifndef DASHIE_DIGEST_H
#define DASHIE_DIGEST_H

#include "postgres.h"

#include "common/cryptohash.h"

#define DASHIE_DIGEST_LENGTH 32

/* One context serves any number of digests: begin, put, finish, begin ... */
extern pg_cryptohash_ctx *dashie_digest_create(void);
extern void dashie_digest_begin(pg_cryptohash_ctx *hash);
extern void dashie_digest_bytes(pg_cryptohash_ctx *hash, const void *bytes, size_t length);
/* eight bytes, the highest first */
extern void dashie_digest_number(pg_cryptohash_ctx *hash, int64 number);
/* text of the database's encoding, as UTF-8, after its length; NULL is not '' */
extern void dashie_digest_text(pg_cryptohash_ctx *hash, const char *string, int length);
extern void dashie_digest_finish(pg_cryptohash_ctx *hash, uint8 *digest);

#endif /* DASHIE_DIGEST_H */
