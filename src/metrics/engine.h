/*
 * engine.h
 *		What the files of the metrics share: one run over users, marks and pages.
 *
 * A run (Metrics) sees one snapshot, from the absorption of the marks on.  Its
 * steps, in order:
 *		engine.c	locks, opens the tables
 *		absorb.c	turns the marks into dirty pages
 *		number*.c	looks at every user once: numbers, departures, conversions
 *		collect*.c	read the sessions of a stretch of days into pages
 *		page.c		a page in memory, as bytes, in its table
 *		country*.c	the latest country of each user
 * backfill.c divides a long stretch into runs; daily.c, geographic.c or active.c
 * then answer from what is there.
 * Everything is allocated in the run's memory context.
 */
#ifndef DASHIE_ENGINE_H
#define DASHIE_ENGINE_H

#include "postgres.h"

#include "common/day.h"
#include "common/owner.h"
#include "common/relation.h"
#include "jobs/job.h"
#include "metrics/dashboard_map.h"
#include "metrics/id_index.h"
#include "metrics/marks.h"
#include "metrics/user_set.h"
#include "nodes/bitmapset.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

/* Country codes are two capital letters in one integer; 0 is none. */
#define NO_COUNTRY 0
#define COUNTRY_NOT_COUNTED 0xFFFF
typedef uint16 CountryCode;

/* Countries as an index; no country counts as ZZ, the last. */
#define COUNTRIES (26 * 26)

static inline int
country_index(CountryCode country)
{
	if (country == NO_COUNTRY)
		return COUNTRIES - 1;
	return ((country >> 8) - 'A') * 26 + ((country & 0xFF) - 'A');
}

/* One line of the processor's cache: a run goes to every user several times. */
typedef struct UserEntry
{
	pg_uuid_t id; /* meaningless for a departed user */
	int32 number; /* 0: there is no such user */
	CountryCode country;
	bool departed : 1; /* no row in auth.users any more */
	bool deleted : 1;  /* a row marked as deleted */
	bool anonymous : 1;
	bool signup_counts : 1;
	bool has_signup : 1;
	bool converted : 1;
	bool seen : 1;	   /* in this run's pass over auth.users */
	bool is_new : 1;   /* to be inserted */
	bool changed : 1;  /* to be updated */
	bool rederive : 1; /* country must be looked up anew */
	bool recount : 1;  /* known before, and counts differently now */
	bool restored : 1; /* was marked as deleted when last seen */
	TimestampTz signed_up_at;
	TimestampTz converted_at;
	TimestampTz country_at;	   /* start of the session that the country is from */
	pg_uuid_t country_session; /* its id; 0 where an earlier run read it */
} UserEntry;

typedef struct PageEntry
{
	int32 user;
	CountryCode country;
	bool latest; /* country of the user's latest session of the day that has one */
	int64 sessions;
	int64 ended;
	int64 duration; /* microseconds, of the ended ones */
} PageEntry;

/* Of the ended sessions in one country. */
typedef struct CountrySum
{
	int64 ended;
	int64 duration;
} CountrySum;

/* The parts of a page as they are stored: active, entries, dashboards, heartbeats, countries. */
#define PAGE_PARTS 5
typedef struct PageBytes
{
	bytea *parts[PAGE_PARTS];
	bytea *digest;
} PageBytes;

typedef struct DayPage
{
	DateADT day;
	bool stored; /* has a row */
	bool dirty;
	bool final;
	bool has_sessions;	 /* computed with user_sessions enabled */
	bool has_dashboards; /* computed with a source of dashboards */
	int64 sessions;
	int64 ended;
	int64 duration;
	int32 returning;
	int32 ndashboards;
	const PageBytes *bytes; /* its contents, if a worker has written them; else NULL */
	UserSet *active;		/* NULL until loaded or computed */
	UserSet *dashboards;
	UserSet *heartbeats;
	PageEntry *entries;
	int nentries;
} DayPage;

/* An event that took a user from trial to paid. */
typedef struct Conversion
{
	pg_uuid_t user;
	TimestampTz at;
} Conversion;

/* The countries of some thousands of users as they are stored; NULL where they are not. */
typedef struct CountryBlock
{
	unsigned char *codes;
	unsigned char *latest;
} CountryBlock;

typedef struct Collector Collector;

typedef struct Metrics
{
	DashieGuard *guard;
	MemoryContext context;
	bool readonly;		  /* a question: nothing is written, no lock is taken */
	bool writes_all_rows; /* of daily_metrics: none is older than what this run sees */
	pg_tz *zone;
	TimestampTz now;
	DateADT today;
	Snapshot snapshot;

	/* tables, InvalidOid where not enabled */
	Oid page_rel;
	Oid sessions_rel;
	Oid dashboards_rel; /* dashboards, or the application's dashboard_heartbeats */
	bool own_dashboards;
	Oid stripe_rel;

	/* days that start before this have lost rows to retention */
	TimestampTz removed_before;
	DateADT first_open_day;		  /* first day that has lost none */
	DateADT first_open_event_day; /* the same of events */

	Collector *ahead; /* what was read before it was asked for; NULL for nothing */

	/* number.c */
	bool bounds_loaded;
	bool prepared; /* numbers_prepare() was called */
	bool users_loaded;
	bool dashboards_loaded;
	bool dashboards_shared; /* one of them has several users */
	bool has_signups;		/* auth.users has created_at */
	TimestampTz last_pass;
	bool has_last_pass;
	TimestampTz geographic_at; /* DT_NOBEGIN: never */
	int32 next_user;
	int32 next_dashboard;
	int32 inserted_below; /* new users with lower numbers have their row */
	int32 max_user;		  /* what is above was not given by us */
	int32 max_dashboard;
	IdIndex users;		  /* user id -> number */
	UserEntry *by_number; /* also departed users */
	void *by_number_memory;
	int32 by_number_size;
	UserSet *gone;	  /* numbers below next_user whose user has departed, or was never known */
	UserSet *there;	  /* numbers_there(); NULL until asked for */
	UserSet *deleted; /* the users who are marked as deleted; NULL for none */
	Conversion *conversions;
	uint64 nconversions;
	CountryBlock *country_blocks;
	int32 country_nblocks;
	DashboardMap dashboards;
	Bitmapset *dashboard_blocks; /* that are stored */
	int32 first_new_dashboard;	 /* from here on numbers have no row yet */
	int32 unsettled_dashboard;	 /* from here on it is not known whose other numbers they are */
} Metrics;

/* engine.c */
extern Metrics *metrics_open(DashieGuard *guard, Oid owner_rel, bool readonly);
extern void metrics_close(Metrics *metrics);
extern Oid metrics_table(const char *name); /* dashie.<name>, 55000 if missing */
extern void metrics_load_retention_floor(Metrics *metrics);
extern void metrics_absorb_marks(Metrics *metrics);
extern void
metrics_absorb_marks_for(Metrics *metrics, DateADT from, DateADT to, bool force, int most);
extern DateADT metrics_first_day(Metrics *metrics);
extern DateADT metrics_first_page_day(DateADT otherwise);
extern void metrics_reject_future(const Metrics *metrics, const char *argument, DateADT day);
extern bool metrics_day_needed(const Metrics *metrics, const DayPage *page, bool force);
extern int metrics_bring_up(Metrics *metrics, DateADT from, DateADT to, bool force, bool one_pass,
							bool *more, bool *computed);

/* absorb.c */
extern void absorb_ranges(Metrics *metrics, MarkKind kind);
extern bool metrics_marked(Metrics *metrics, MarkKind kind, DateADT from, DateADT to, bool *days);

/* number_load.c, number_store.c */
extern int32 numbers_expected(Metrics *metrics);
extern void numbers_prepare(Metrics *metrics);
extern void numbers_load(Metrics *metrics);
extern void numbers_bounds(Metrics *metrics); /* the counters and max_user, max_dashboard alone */
/* question.c */
extern uint64 metrics_query(const Metrics *metrics, const char *sql, int nargs, const Oid *types,
							const Datum *values);

extern void numbers_store(Metrics *metrics);
extern bool numbers_may_insert(void);
extern bool numbers_have_changed(const Metrics *metrics);
extern bool numbers_insert(Metrics *metrics);

/* number.c */
extern UserEntry *numbers_user(Metrics *metrics, const pg_uuid_t *id); /* NULL if unknown */
extern const UserSet *numbers_there(Metrics *metrics);

/* number_dashboards.c */
extern void numbers_load_dashboards(Metrics *metrics);
extern int32 numbers_dashboard(Metrics *metrics, const pg_uuid_t *id, int32 user_number);
extern const DashboardEntry *numbers_dashboard_by_number(Metrics *metrics, int32 number);
extern void numbers_settle_dashboards(Metrics *metrics);

/* Has a row that is not marked as deleted. */
static inline bool
user_is_there(const UserEntry *user)
{
	return !user->departed && !user->deleted;
}

/* NULL if unknown.  Entries stay where they are once all users were looked at. */
static inline UserEntry *
numbers_by_number(const Metrics *metrics, int32 number)
{
	if (number >= metrics->by_number_size || metrics->by_number[number].number == 0)
		return NULL;
	return &metrics->by_number[number];
}

/* Departed or never known. */
static inline bool
numbers_gone(const Metrics *metrics, int32 number)
{
	UserEntry *user = numbers_by_number(metrics, number);

	return user == NULL || user->departed;
}

/* conversion.c */
extern void conversions_read(Metrics *metrics);
extern void conversions_apply(Metrics *metrics);

/* recount.c */
extern void users_recount(Metrics *metrics);
extern int32 page_count_returning(Metrics *metrics, UserSet *active, TimestampTz before);

/* page.c */
extern DayPage *pages_load(Metrics *metrics, DateADT from, DateADT to, bool with_contents);
extern void page_encode(const DayPage *page, PageBytes *bytes);
extern void page_store(Metrics *metrics, DayPage *page);
extern bool page_may_insert(Metrics *metrics);
extern void page_insert(Metrics *metrics, DayPage *page);
extern char *page_snapshot_text(Snapshot snapshot); /* xmin:xmax:xip,... */
extern bytea *page_digest(DateADT day, bytea *const *parts, int nparts);
extern bytea *page_entries_to_bytes(const PageEntry *entries, int nentries);
extern PageEntry *page_entries_from_bytes(const bytea *bytes, int *nentries);
extern bytea *country_sums_to_bytes(const PageEntry *entries, int nentries);
extern void country_sums_from_bytes(const bytea *bytes, CountrySum *sums);
extern void country_sum_add(CountrySum *sum, int64 ended, int64 duration);

/* collect.c */
typedef void (*PageDone)(Metrics *metrics, DayPage *page, void *arg);
extern int collect_stretch(Metrics *metrics, const DayPage *heads, int ndays, bool *wanted,
						   PageDone done, PageDone insert, void *arg);
extern void collect_ahead(Metrics *metrics, DateADT first_day, int ndays, const bool *wanted);
extern void collect_ahead_read(Metrics *metrics);
extern void collect_ahead_end(Metrics *metrics);
extern void collect_days(Metrics *metrics, DayPage *pages, int npages, const bool *wanted);
extern CountryCode country_code(Datum value, bool isnull);

/* country.c */

/* A user whose country came from a session that is read again, and when that started. */
typedef struct CountryDoubt
{
	TimestampTz at;
	int32 number;
} CountryDoubt;

typedef struct CountryDoubts
{
	CountryDoubt *doubts;
	int n;
	int size;
	const TimestampTz *starts;
	const bool *wanted;
	int ndays;
} CountryDoubts;

extern void countries_begin(Metrics *metrics, CountryDoubts *doubts, const TimestampTz *starts,
							int ndays, const bool *wanted);
extern const pg_uuid_t lowest_session_id;
extern void
countries_candidate(UserEntry *user, CountryCode country, TimestampTz at, const pg_uuid_t *session);
extern void countries_finish(Metrics *metrics, CountryDoubts *doubts);
extern void countries_future(Metrics *metrics);

/* country_store.c */
extern void countries_load(Metrics *metrics);
extern void countries_store(Metrics *metrics);
extern CountryCode *countries_codes(Metrics *metrics, int32 *size);
/* backfill.c */
extern void metrics_absorb_marks_of_night(Metrics *metrics, const JobStep *step, DateADT to);
extern bool
metrics_catch_up(Metrics *metrics, DateADT from, DateADT to, JobStep *step, bool *computed);

/* daily.c */
extern int64
daily_write_rows(Metrics *metrics, Oid daily, DateADT from, DateADT to, const bool *computed);

/* geographic.c */
extern Oid geographic_beside(Oid daily);
extern int64 geographic_write_beside(Metrics *metrics, Oid geographic);

/* average.c */
extern Datum average_minutes(int64 microseconds, int64 count); /* numeric, two decimals */
extern Datum share(int64 part, int64 whole);				   /* numeric, four decimals */

#endif /* DASHIE_ENGINE_H */
