/*
 * parse.c
 *		A batch of events as JSON, read once: each event is accepted, or
 *		rejected with its index and the reason.
 *
 * Whatever a device sends, an event is at worst rejected: nothing here throws
 * an error because of what one event says.  Needs no relation.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/uuid_v7.h"
#include "ingest/ingest.h"

/* Longer ones would not fit into an index with certainty. */
#define MAX_WIDGET_TYPE 255
/* Of a bad value in a reason. */
#define SHOWN_BYTES 60

const char *const dashie_event_types[EVENT_TYPES] = {"view", "click", "configure", "focus",
													 "active"};

typedef struct EventIdSlot
{
	pg_uuid_t id;
	uint32 status;
} EventIdSlot;

#define SH_PREFIX event_ids
#define SH_ELEMENT_TYPE EventIdSlot
#define SH_KEY_TYPE pg_uuid_t
#define SH_KEY id
#define SH_HASH_KEY(tb, key) hash_bytes(key.data, UUID_LEN)
#define SH_EQUAL(tb, a, b) (memcmp(a.data, b.data, UUID_LEN) == 0)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* What the events of a batch share while they are read. */
typedef struct EventReader
{
	EventBatch *batch;
	const EventClock *clock;
	Datum type_texts[EVENT_TYPES];
	struct event_ids_hash *ids;
	JsonbValue last_widget; /* nearly always the next event's as well */
	Datum last_widget_text;
} EventReader;

static void
put_key(JsonbParseState **state, const char *key)
{
	JsonbValue value = {.type = jbvString};

	value.val.string.val = unconstify(char *, key);
	value.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &value);
}

/*
 * events_reject notes that an event is not stored.  With "retry" the sender
 * should send it again later, as it is.
 */
void
events_reject(EventBatch *batch, int index, bool retry, const char *format, ...)
{
	StringInfoData reason;
	JsonbValue value;
	va_list args;
	int needed;

	initStringInfo(&reason);
	for (;;)
	{
		va_start(args, format);
		needed = appendStringInfoVA(&reason, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&reason, needed);
	}

	if (batch->rejected == NULL)
		pushJsonbValue(&batch->rejected, WJB_BEGIN_ARRAY, NULL);
	pushJsonbValue(&batch->rejected, WJB_BEGIN_OBJECT, NULL);
	put_key(&batch->rejected, "index");
	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(index);
	pushJsonbValue(&batch->rejected, WJB_VALUE, &value);
	put_key(&batch->rejected, "reason");
	value.type = jbvString;
	value.val.string.val = reason.data;
	value.val.string.len = reason.len;
	pushJsonbValue(&batch->rejected, WJB_VALUE, &value);
	if (retry)
	{
		put_key(&batch->rejected, "retry");
		value.type = jbvBool;
		value.val.boolean = true;
		pushJsonbValue(&batch->rejected, WJB_VALUE, &value);
	}
	pushJsonbValue(&batch->rejected, WJB_END_OBJECT, NULL);
}

/* events_rejected closes the list and returns it. */
Datum
events_rejected(EventBatch *batch)
{
	if (batch->rejected == NULL)
		pushJsonbValue(&batch->rejected, WJB_BEGIN_ARRAY, NULL);
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&batch->rejected, WJB_END_ARRAY, NULL)));
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* parse_uuid reads the usual form of 36 characters; uuid_in() would throw. */
bool
parse_uuid(const char *text, int length, pg_uuid_t *id)
{
	int at = 0;

	if (length != 36)
		return false;
	for (int i = 0; i < UUID_LEN; i++)
	{
		int high;
		int low;

		if (i == 4 || i == 6 || i == 8 || i == 10)
			if (text[at++] != '-')
				return false;
		high = hex_value(text[at++]);
		low = hex_value(text[at++]);
		if (high < 0 || low < 0)
			return false;
		id->data[i] = (unsigned char) (high << 4 | low);
	}
	return true;
}

/*
 * parse_instant reads a date and time with its time zone.  Without one it
 * would mean another instant in each session.
 */
static bool
parse_instant(const char *text, int length, TimestampTz *at)
{
	char copy[MAXDATELEN + 1];
	char work[MAXDATELEN + MAXDATEFIELDS];
	char *fields[MAXDATEFIELDS];
	int types[MAXDATEFIELDS];
	int nfields;
	int type;
	struct pg_tm tm;
	fsec_t fsec;
	int zone;

	if (length < 11 || length > MAXDATELEN || text[0] < '0' || text[0] > '9')
		return false;
	memcpy(copy, text, length);
	copy[length] = '\0';
	if (strlen(copy) != length || strpbrk(copy + 10, "Zz+-") == NULL)
		return false;
	if (ParseDateTime(copy, work, sizeof(work), fields, types, MAXDATEFIELDS, &nfields) != 0 ||
		dashie_decode_datetime(fields, types, nfields, &type, &tm, &fsec, &zone) != 0 ||
		type != DTK_DATE)
		return false;
	return tm2timestamp(&tm, fsec, &zone, at) == 0;
}

/* The member of an event; false if it has none or it is null. */
static bool
member(JsonbContainer *event, const char *name, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(event, name, strlen(name), value) != NULL &&
		   value->type != jbvNull;
}

/* A value as it is shown in a reason. */
static char *
shown(const JsonbValue *value)
{
	if (value->type == jbvString)
	{
		int length = pg_mbcliplen(value->val.string.val, value->val.string.len, SHOWN_BYTES);

		return psprintf("\"%s%s\"", pnstrdup(value->val.string.val, length),
						length < value->val.string.len ? "..." : "");
	}
	if (value->type == jbvNumeric)
		return DatumGetCString(
			DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
	if (value->type == jbvBool)
		return value->val.boolean ? "true" : "false";
	return "an object or array";
}

/* A member that is a UUID or missing; else the event is rejected. */
static bool
uuid_member(EventReader *reader, JsonbContainer *object, int index, const char *name, pg_uuid_t *id,
			bool *present)
{
	JsonbValue value;

	*present = member(object, name, &value);
	if (!*present)
		return true;
	if (value.type == jbvString && parse_uuid(value.val.string.val, value.val.string.len, id))
		return true;
	events_reject(reader->batch, index, false, "%s is no UUID: %s", name, shown(&value));
	return false;
}

static bool
read_widget(EventReader *reader, JsonbContainer *object, int index, WidgetEvent *event)
{
	JsonbValue value;

	if (!member(object, "widget_type", &value))
	{
		events_reject(reader->batch, index, false, "widget_type is missing");
		return false;
	}
	if (value.type != jbvString || value.val.string.len == 0 ||
		value.val.string.len > MAX_WIDGET_TYPE)
	{
		events_reject(reader->batch, index, false, "widget_type is no text of 1 to %d bytes: %s",
					  MAX_WIDGET_TYPE, shown(&value));
		return false;
	}
	if (reader->last_widget_text == 0 ||
		reader->last_widget.val.string.len != value.val.string.len ||
		memcmp(reader->last_widget.val.string.val, value.val.string.val, value.val.string.len) != 0)
	{
		reader->last_widget = value;
		reader->last_widget_text =
			PointerGetDatum(cstring_to_text_with_len(value.val.string.val, value.val.string.len));
	}
	event->widget_type = reader->last_widget_text;
	return true;
}

static bool
read_type(EventReader *reader, JsonbContainer *object, int index, WidgetEvent *event)
{
	JsonbValue value;

	if (!member(object, "event_type", &value))
	{
		events_reject(reader->batch, index, false, "event_type is missing");
		return false;
	}
	if (value.type == jbvString)
		for (int i = 0; i < EVENT_TYPES; i++)
			if (value.val.string.len == strlen(dashie_event_types[i]) &&
				memcmp(value.val.string.val, dashie_event_types[i], value.val.string.len) == 0)
			{
				event->event_type = reader->type_texts[i];
				return true;
			}
	events_reject(reader->batch, index, false,
				  "event_type is none of view, click, configure, focus, active: %s", shown(&value));
	return false;
}

static bool
read_duration(EventReader *reader, JsonbContainer *object, int index, WidgetEvent *event)
{
	JsonbValue value;
	bool failed = false;

	event->has_duration = member(object, "duration_seconds", &value);
	if (!event->has_duration)
		return true;
	if (value.type == jbvNumeric)
		event->duration = numeric_int4_opt_error(value.val.numeric, &failed);
	if (value.type == jbvNumeric && !failed && event->duration >= 0)
		return true;
	events_reject(reader->batch, index, false, "duration_seconds is no number from 0 to %d: %s",
				  PG_INT32_MAX, shown(&value));
	return false;
}

static bool
read_instant(EventReader *reader, JsonbContainer *object, int index, WidgetEvent *event)
{
	const EventClock *clock = reader->clock;
	JsonbValue value;

	event->at = clock->now;
	if (!member(object, "timestamp", &value))
		return true;
	if (value.type != jbvString ||
		!parse_instant(value.val.string.val, value.val.string.len, &event->at))
	{
		events_reject(reader->batch, index, false,
					  "timestamp is no date and time with a time zone: %s", shown(&value));
		return false;
	}
	if (event->at > clock->latest)
		event->at = clock->now;
	if (event->at >= clock->oldest)
		return true;
	events_reject(reader->batch, index, false, "timestamp is older than the retention: %s",
				  shown(&value));
	return false;
}

/* Reads one event; false if it is rejected or a duplicate inside the batch. */
static bool
read_event(EventReader *reader, const JsonbValue *element, int index, WidgetEvent *event)
{
	JsonbContainer *object = element->val.binary.data;
	JsonbValue value;
	bool found;

	if (element->type != jbvBinary || !JsonContainerIsObject(object))
	{
		events_reject(reader->batch, index, false, "no object");
		return false;
	}
	event->index = index;
	event->stored = false;
	event->dropped = false;
	event->before = NULL;
	if (!uuid_member(reader, object, index, "id", &event->id, &event->own_id) ||
		!uuid_member(reader, object, index, "dashboard_id", &event->dashboard,
					 &event->has_dashboard) ||
		!read_widget(reader, object, index, event) || !read_type(reader, object, index, event) ||
		!read_duration(reader, object, index, event) || !read_instant(reader, object, index, event))
		return false;
	event->event_data = 0;
	if (member(object, "event_data", &value))
		event->event_data = JsonbPGetDatum(JsonbValueToJsonb(&value));

	if (!event->own_id)
	{
		dashie_make_uuid_v7(&event->id);
		return true;
	}
	(void) event_ids_insert(reader->ids, event->id, &found);
	if (found)
		reader->batch->duplicates++;
	return !found;
}

/* events_count checks that this is a batch, and how large it is. */
int
events_count(Jsonb *events)
{
	int count;

	if (!JB_ROOT_IS_ARRAY(events) || JB_ROOT_IS_SCALAR(events))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"events\" must be a JSON array, not %s",
							   JB_ROOT_IS_OBJECT(events) ? "an object" : "a scalar")));
	count = JB_ROOT_COUNT(events);
	if (count > MAX_BATCH_EVENTS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("too many events: %d", count),
				 errdetail("One call takes up to %d.", MAX_BATCH_EVENTS),
				 errhint("Send them in several calls.")));
	return count;
}

/*
 * events_parse fills the batch from an array.
 */
void
events_parse(EventBatch *batch, JsonbContainer *events, const EventClock *clock)
{
	EventReader reader = {.batch = batch, .clock = clock};
	int count = JsonContainerSize(events);
	JsonbIterator *iterator = JsonbIteratorInit(events);
	JsonbValue element;
	JsonbIteratorToken token;
	int index = 0;

	for (int i = 0; i < EVENT_TYPES; i++)
		reader.type_texts[i] = CStringGetTextDatum(dashie_event_types[i]);
	reader.ids = event_ids_create(CurrentMemoryContext, Max(count, 8), NULL);
	batch->events = palloc(Max(count, 1) * sizeof(WidgetEvent));
	batch->nevents = 0;

	while ((token = JsonbIteratorNext(&iterator, &element, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		CHECK_FOR_INTERRUPTS();
		if (read_event(&reader, &element, index++, &batch->events[batch->nevents]))
			batch->nevents++;
	}
	event_ids_destroy(reader.ids);
}
