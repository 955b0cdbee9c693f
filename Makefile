# dashie: built with PGXS for any PG_CONFIG.
EXTENSION = dashie
MODULE_big = dashie
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" dashie.control)

OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))
OUR_HEADERS = $(wildcard src/*.h src/*/*.h)

# The install script is put together from the fragments beside the C that they
# declare, in this order: what a fragment uses stands before it.
SQL_FRAGMENTS = \
	src/dashie.sql \
	src/common/setting.sql \
	src/common/uuid_v7.sql \
	src/common/progress.sql \
	src/roadmap/roadmap.sql \
	src/partition/partition.sql \
	src/partition/archive.sql \
	src/ingest/ingest.sql \
	src/metrics/set.sql \
	src/metrics/metrics.sql \
	src/metrics/questions.sql \
	src/metrics/verify.sql \
	src/events/events.sql \
	src/retention/retention.sql \
	src/sessions/sessions.sql \
	src/billing/billing.sql \
	src/billing/guard_ddl.sql \
	src/billing/audit.sql \
	src/billing/health.sql \
	src/billing/reconcile.sql \
	src/jobs/jobs.sql

# The DDL that enable() runs: one file a table.
TABLE_DDL = $(sort $(wildcard src/roadmap/tables/*.sql src/metrics/ddl/*.sql src/events/ddl/*.sql src/billing/ddl/*.sql src/partition/ddl/*.sql))

DATA_built = dashie--$(EXTVERSION).sql

REGRESS = install settings uuid_v7 user_set roadmap enable adopt partition partition_hold partition_archive track event_rollups metrics metrics_parallel metrics_damage marks retention sessions billing jobs late_sources backfill questions verify event_verify billing_health reconcile stripe_verify stripe_ingest audit bad_input
REGRESS_OPTS = --inputdir=. --load-extension=plpgsql
ISOLATION = enable_enable maintain_maintain ingest_refresh marks_shared verify_ingest retention_ingest seal_ingest track_track track_noted track_retention track_rollup archive_ingest billing_same_event billing_crossing billing_checkout billing_queue billing_replay billing_user_gone
ISOLATION_OPTS = --inputdir=.
TAP_TESTS = 1

PG_CPPFLAGS = -I$(srcdir)/src
PG_CFLAGS = -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
SHLIB_LINK = -lroaring

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

$(OBJS): $(OUR_HEADERS)

dashie--$(EXTVERSION).sql: $(SQL_FRAGMENTS) $(TABLE_DDL) scripts/install-script dashie.control
	scripts/install-script "$(EXTVERSION)" "$(SQL_FRAGMENTS)" "$(TABLE_DDL)" > $@.tmp && mv $@.tmp $@

# What reads bytes that may be hostile, without a server and under the sanitizers.
# Not for leaks: their detection needs rights that containers often lack.
FUZZ_INPUTS ?= 1000000
FUZZ_SEED ?= 1
FUZZ_DIR ?= fuzz
FUZZED = src/metrics/set_format.c src/metrics/set_writer.c src/metrics/set_merge.c src/metrics/set_builder.c

$(FUZZ_DIR)/user_set: fuzz/user_set.c $(FUZZED) $(OUR_HEADERS)
	$(CC) -g -O2 -fno-omit-frame-pointer -fno-strict-aliasing -fwrapv -fsanitize=address,undefined \
		-fno-sanitize-recover=all $(PG_CFLAGS) -I$(srcdir)/src -I$(includedir_server) -D_GNU_SOURCE \
		-o $@ fuzz/user_set.c $(FUZZED) -L$(pkglibdir) -L$(libdir) -lpgport -lroaring

fuzz: $(FUZZ_DIR)/user_set
	$(FUZZ_DIR)/user_set $(FUZZ_INPUTS) $(FUZZ_SEED)

# Formatting is a command; CI runs it with --dry-run.
FORMATTED = $(wildcard src/*.c src/*.h src/*/*.c src/*/*.h fuzz/*.c)
indent:
	clang-format -i $(FORMATTED)
indent-check:
	clang-format --dry-run --Werror $(FORMATTED)

.PHONY: fuzz indent indent-check
