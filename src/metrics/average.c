/*
 * average.c
 *		Mean minutes of exact durations, rounded once.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "metrics/engine.h"

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
	char text[32];

	snprintf(text, sizeof(text), "%s%lld.%02lld", negative && hundredths != 0 ? "-" : "",
			 (long long) (hundredths / 100), (long long) (hundredths % 100));
	return DirectFunctionCall3(numeric_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid),
							   Int32GetDatum(-1));
}
