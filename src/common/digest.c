/*
 * digest.c
 *		SHA-256 over values in a form that is the same on every machine.
 *
 * PostgreSQL's own implementation, which is OpenSSL's where it was built with
 * it.  The context belongs to the current memory context and resource owner.
 */
#include "postgres.h"

#include "common/sha2.h"
#include "mb/pg_wchar.h"

#include "common/digest.h"

StaticAssertDecl(DASHIE_DIGEST_LENGTH == PG_SHA256_DIGEST_LENGTH, "SHA-256 has 32 bytes");

static void
check(int result)
{
	if (result < 0)
		elog(ERROR, "could not compute SHA-256");
}

pg_cryptohash_ctx *
dashie_digest_create(void)
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);

	if (hash == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return hash;
}

void
dashie_digest_begin(pg_cryptohash_ctx *hash)
{
	check(pg_cryptohash_init(hash));
}

void
dashie_digest_bytes(pg_cryptohash_ctx *hash, const void *bytes, size_t length)
{
	check(pg_cryptohash_update(hash, bytes, length));
}

void
dashie_digest_number(pg_cryptohash_ctx *hash, int64 number)
{
	uint8 bytes[8];

	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8) ((uint64) number >> (8 * (7 - i)));
	dashie_digest_bytes(hash, bytes, sizeof(bytes));
}

void
dashie_digest_text(pg_cryptohash_ctx *hash, const char *string, int length)
{
	char *utf8;

	if (string == NULL)
	{
		dashie_digest_number(hash, -1);
		return;
	}
	utf8 = pg_server_to_any(string, length, PG_UTF8);
	if (utf8 != string)
		length = strlen(utf8);
	dashie_digest_number(hash, length);
	dashie_digest_bytes(hash, utf8, length);
	if (utf8 != string)
		pfree(utf8);
}

void
dashie_digest_finish(pg_cryptohash_ctx *hash, uint8 *digest)
{
	check(pg_cryptohash_final(hash, digest, DASHIE_DIGEST_LENGTH));
}
