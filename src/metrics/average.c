/*
 * average.c
 *		Means and shares of exact numbers, rounded once.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "metrics/engine.h"

static Datum
decimal(char *text)
{
	return DirectFunctionCall3(numeric_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid),
							   Int32GetDatum(-1));
}

/*
 * average_minutes is round(microseconds / count / 60000000, 2), halves away
 * from zero, as a numeric.  count is positive.
 */
Datum
average_minutes(int64 microseconds, int64 count)
{
	bool negative = microseconds < 0;
	int128 scaled = (int128) microseconds * (negative ? -100 : 100);
	int128 divisor = (int128) count * 60 * 1000 * 1000;
	int64 hundredths = (int64) ((scaled + divisor / 2) / divisor);

	return decimal(psprintf("%s%lld.%02lld", negative && hundredths != 0 ? "-" : "",
							(long long) (hundredths / 100), (long long) (hundredths % 100)));
}

/*
 * share is round(part / whole, 4), halves up, as a numeric.  part is not
 * negative, whole is positive.
 */
Datum
share(int64 part, int64 whole)
{
	int64 scaled = (int64) (((int128) part * 20000 + whole) / ((int128) whole * 2));

	return decimal(
		psprintf("%lld.%04lld", (long long) (scaled / 10000), (long long) (scaled % 10000)));
}
