/*
 * verify.c
 *		Stripe's signatures: dashie.stripe_verify().
 *
 * Pure.  The header is "t=SECONDS,v1=HEX[,v1=HEX]...", the signature the hex
 * HMAC-SHA256 of "SECONDS.BODY" under the whole text of the secret.  Every v1
 * is compared with every secret, in a time that depends on their numbers only.
 * A header that is not as it should be matches nothing and is no error: it is
 * the caller of the endpoint who wrote it.
 *
 * Secrets never get into a message, and errors here keep the statement, which
 * may hold them, out of the log.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hmac.h"
#include "common/int.h"
#include "common/sha2.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "billing/stripe.h"
#include "common/compat.h"
#include "common/rows.h"

PG_FUNCTION_INFO_V1(dashie_stripe_verify);

#define HEX_LENGTH (2 * PG_SHA256_DIGEST_LENGTH)
#define MAX_TIME_DIGITS 12

typedef struct Header
{
	const char *time; /* as it stands there: that text was signed */
	int time_length;
	int64 seconds;
	int nsignatures;
	const char **signatures; /* HEX_LENGTH each, not terminated */
} Header;

static bool
parse_time(const char *text, int length, int64 *seconds)
{
	*seconds = 0;
	if (length < 1 || length > MAX_TIME_DIGITS)
		return false;
	for (int i = 0; i < length; i++)
	{
		if (text[i] < '0' || text[i] > '9')
			return false;
		*seconds = *seconds * 10 + (text[i] - '0');
	}
	return true;
}

/* parse_header takes the header apart; false if it is malformed or signs nothing. */
static bool
parse_header(const char *text, Header *header)
{
	const char *item = text;
	int nitems = 1;

	memset(header, 0, sizeof(*header));
	for (const char *p = text; *p != '\0'; p++)
		nitems += *p == ',';
	header->signatures = palloc(nitems * sizeof(char *));

	for (;;)
	{
		int length = strcspn(item, ",");
		const char *value = memchr(item, '=', length);
		int name_length;
		int value_length;

		if (value == NULL)
			return false;
		name_length = value - item;
		value++;
		value_length = length - name_length - 1;

		if (name_length == 1 && item[0] == 't')
		{
			if (header->time != NULL || !parse_time(value, value_length, &header->seconds))
				return false;
			header->time = value;
			header->time_length = value_length;
		}
		/* other schemes, v0 among them, prove nothing */
		else if (name_length == 2 && memcmp(item, "v1", 2) == 0 && value_length == HEX_LENGTH)
			header->signatures[header->nsignatures++] = value;

		if (item[length] == '\0')
			break;
		item += length + 1;
	}
	return header->time != NULL && header->nsignatures > 0;
}

static void
sign(const char *secret, const Header *header, const char *payload, size_t payload_len, char *hex)
{
	pg_hmac_ctx *context = pg_hmac_create(PG_SHA256);
	uint8 digest[PG_SHA256_DIGEST_LENGTH];

	if (context == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	if (pg_hmac_init(context, (const uint8 *) secret, strlen(secret)) < 0 ||
		pg_hmac_update(context, (const uint8 *) header->time, header->time_length) < 0 ||
		pg_hmac_update(context, (const uint8 *) ".", 1) < 0 ||
		pg_hmac_update(context, (const uint8 *) payload, payload_len) < 0 ||
		pg_hmac_final(context, digest, sizeof(digest)) < 0)
	{
		pg_hmac_free(context);
		elog(ERROR, "could not compute an HMAC");
	}
	pg_hmac_free(context);
	(void) hex_encode((const char *) digest, sizeof(digest), hex);
}

/* Looks at every byte, whatever the first ones say. */
static bool
equal_in_constant_time(const char *a, const char *b, size_t length)
{
	volatile unsigned char difference = 0;

	for (size_t i = 0; i < length; i++)
		difference |= (unsigned char) a[i] ^ (unsigned char) b[i];
	return difference == 0;
}

/*
 * stripe_signature_matches tells whether the header signs the payload under
 * one of the secrets, at a time no further from "at" than the tolerance.
 */
bool
stripe_signature_matches(const char *payload, size_t payload_len, const char *header_text,
						 const char *const *secrets, int nsecrets, int64 tolerance_us,
						 TimestampTz at)
{
	Header header;
	int64 skew;
	bool matches = false;

	if (!parse_header(header_text, &header))
		return false;
	if (pg_sub_s64_overflow(at, STRIPE_TIMESTAMP(header.seconds), &skew))
		return false;
	if (skew > tolerance_us || skew < -tolerance_us)
		return false;

	for (int i = 0; i < nsecrets; i++)
	{
		char expected[HEX_LENGTH];

		sign(secrets[i], &header, payload, payload_len, expected);
		for (int j = 0; j < header.nsignatures; j++)
			matches |= equal_in_constant_time(expected, header.signatures[j], HEX_LENGTH);
	}
	return matches;
}

/* An interval in microseconds, its months of 30 days; what does not fit is for ever. */
static int64
interval_us(const Interval *interval)
{
	int64 days = (int64) interval->month * DAYS_PER_MONTH + interval->day;
	int64 result;

	if (pg_mul_s64_overflow(days, USECS_PER_DAY, &result) ||
		pg_add_s64_overflow(result, interval->time, &result))
		return days < 0 ? PG_INT64_MIN : PG_INT64_MAX;
	return result;
}

static void
reject_null(FunctionCallInfo fcinfo, int argno, const char *name)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
						errmsg("argument \"%s\" must not be NULL", name)));
}

Datum
dashie_stripe_verify(PG_FUNCTION_ARGS)
{
	bytea *payload;
	char *header;
	Datum *elements;
	bool *nulls;
	int nsecrets;
	char **secrets;
	int64 tolerance;
	TimestampTz at;

	reject_null(fcinfo, 0, "payload");
	reject_null(fcinfo, 1, "signature_header");
	reject_null(fcinfo, 2, "secrets");
	reject_null(fcinfo, 3, "tolerance");
	reject_null(fcinfo, 4, "at");

	payload = PG_GETARG_BYTEA_PP(0);
	header = text_to_cstring(PG_GETARG_TEXT_PP(1));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls,
					  &nsecrets);
	secrets = palloc(Max(nsecrets, 1) * sizeof(char *));
	for (int i = 0; i < nsecrets; i++)
	{
		secrets[i] = nulls[i] ? "" : TextDatumGetCString(elements[i]);
		if (secrets[i][0] == '\0')
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
							errmsg("secret %d is empty", i + 1)));
	}
	if (nsecrets == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
						errmsg("argument \"secrets\" must not be empty")));
	tolerance = interval_us(PG_GETARG_INTERVAL_P(3));
	if (tolerance <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
				 errmsg("argument \"tolerance\" must be positive: %s",
						DatumGetCString(DirectFunctionCall1(interval_out, PG_GETARG_DATUM(3))))));
	at = PG_GETARG_TIMESTAMPTZ(4);
	if (TIMESTAMP_NOT_FINITE(at))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
						errmsg("argument \"at\" must be finite: %s", timestamptz_to_str(at))));

	PG_RETURN_BOOL(stripe_signature_matches(VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload),
											header, (const char *const *) secrets, nsecrets,
											tolerance, at));
}
