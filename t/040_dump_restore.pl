# A dump and its restore, both by an owner who is not a superuser: every row,
# number and setting is there again, and dashie works on.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "timezone = 'UTC'\nfsync = off\n");
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role');

sub sql
{
	my ($db, $query) = @_;
	return $node->safe_psql($db, "SET client_min_messages = warning;\n$query", extra_params => [ '-U', 'app' ]);
}

sub make_database
{
	my ($db) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $db OWNER app");
	# only a superuser may set the clock
	$node->safe_psql('postgres', "LOAD 'dashie'; ALTER DATABASE $db SET dashie.now = '2026-03-10 12:00+00'");
	$node->safe_psql($db, 'ALTER SCHEMA public OWNER TO app');
}

make_database('live');
sql('live', q{
	CREATE EXTENSION dashie;
	SELECT dashie.create_auth_stub();
	INSERT INTO auth.users (id, email, created_at)
		SELECT ('00000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid, 'user' || i, timestamptz '2025-11-01' + i * interval '1 day'
		FROM generate_series(1, 30) AS i;
	SELECT dashie.configure('timezone', 'Europe/Berlin');
	SELECT dashie.configure('batch_rows', '500');
	CREATE SCHEMA "My Schema";
	SELECT dashie.enable('system_events', 'My Schema');
	SELECT dashie.enable();
	SELECT dashie.set_retention('system_events', '1 year');
	SELECT dashie.set_job('apply_retention', '7 4 * * *', false);
	INSERT INTO public.user_sessions (user_id, started_at, ended_at, country_code, client_key)
		SELECT ('00000000-0000-0000-0000-' || lpad((i % 30 + 1)::text, 12, '0'))::uuid, s, s + i * interval '7 seconds',
			(ARRAY['DE', 'FR', NULL])[i % 3 + 1], 'k' || i
		FROM generate_series(1, 600) AS i, LATERAL (SELECT timestamptz '2025-11-10' + i * interval '4 hours 47 minutes') AS x(s);
	INSERT INTO public.widget_analytics (user_id, widget_type, event_type, "timestamp")
		SELECT ('00000000-0000-0000-0000-' || lpad((i % 30 + 1)::text, 12, '0'))::uuid, 'clock', 'view', timestamptz '2026-03-10' - i * interval '3 hours'
		FROM generate_series(1, 100) AS i;
	INSERT INTO public.stripe_webhook_events (stripe_event_id, event_type, event_data, created_at)
		VALUES ('evt_1', 'invoice.paid', '{"amount": 5.00, "name": "Z\u00fcrich", "a": {}}', '2026-03-08 07:00+00');
	CALL dashie.run_job('seal_audit');
	SELECT dashie.legal_hold('tax audit', "from" => '2026-01-01');
	SELECT dashie.hold_partition('2026-02-28', 'tax audit', '2027-01-01');
	SELECT dashie.hold_partition('2026-02-26', 'lawsuit');
	CREATE FUNCTION public.archiver(regclass) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
	SELECT dashie.set_archiver('public.archiver');
	INSERT INTO "My Schema".system_events (event_type, severity, message) VALUES ('boot', 'info', 'up');
	SELECT dashie.refresh_daily_metrics('2025-11-01', '2026-03-09');
	SELECT dashie.refresh_geographic_stats();
	-- history that no row can give back: a user who left, sessions that retention removed
	DELETE FROM auth.users WHERE email = 'user30';
	SELECT dashie.apply_retention();
	SELECT dashie.refresh_daily_metrics('2026-03-01', '2026-03-09');
});
ok(sql('live', q{SELECT count(*) > 0 FROM dashie.retention_floor}) eq 't', 'retention has removed sessions');
sql('live', q{INSERT INTO dashie.partition_archive_failure VALUES ('widget_analytics_20260208', 3, now(), now() + interval '1 hour', 'no tape')});

my $dump = $node->basedir . '/live.dump';
$node->command_ok([ 'pg_dump', '-U', 'app', '-Fc', '-f', $dump, '-d', $node->connstr('live') ], 'the owner dumps');
make_database('copy');
# the schema is there already in a fresh database
$node->command_ok([ 'pg_restore', '--exit-on-error', '-U', 'app', '-d', $node->connstr('copy'), $dump ],
	'the owner restores, without one error');

# every table that is not made anew by CREATE EXTENSION, row by row
my $tables = q{
	SELECT c.oid::regclass FROM pg_class c
	WHERE c.relkind = 'r' AND c.relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')
	AND c.relname NOT IN ('job_run', 'job_state', 'table_ddl', 'stripe_secret')
	AND c.relnamespace::regnamespace::text !~ '^pg_' ORDER BY c.oid::regclass::text};
my $names = sql('live', $tables);
is(sql('copy', $tables), $names, 'the same tables');
like($names, qr/dashie\.user_number/, 'user numbers among them');
for my $table (split /\n/, $names)
{
	my $rows = "SELECT count(*), md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM $table AS t";
	is(sql('copy', $rows), sql('live', $rows), "$table: the same rows");
}

for my $what (
	[ 'settings', 'SELECT name, value FROM dashie.settings ORDER BY name' ],
	[ 'jobs', 'SELECT name, schedule, enabled FROM dashie.job ORDER BY name' ],
	[ 'roadmap', 'SELECT table_name, enabled, schema_name, retention FROM dashie.roadmap ORDER BY table_name' ],
	[ 'policies', 'SELECT schemaname, tablename, policyname, roles, cmd, qual, with_check FROM pg_policies ORDER BY 1, 2, 3' ],
	[ 'row level security', q{SELECT oid::regclass FROM pg_class WHERE relrowsecurity ORDER BY oid::regclass::text} ],
	[ 'triggers', q{SELECT tgrelid::regclass, tgname, tgenabled, tgfoid::regproc,
		EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_trigger'::regclass AND d.objid = t.oid AND d.deptype = 'x')
		FROM pg_trigger t WHERE NOT tgisinternal ORDER BY tgrelid::regclass::text, tgname} ],
	[ 'grants', q{SELECT oid::regclass, coalesce(relacl, acldefault('r', relowner)) FROM pg_class WHERE relkind IN ('r', 'p', 'v')
		AND relnamespace::regnamespace::text !~ '^pg_|information_schema' ORDER BY oid::regclass::text} ],
	[ 'indexes', q{SELECT indexrelid::regclass, pg_get_indexdef(indexrelid) FROM pg_index
		WHERE indexrelid::regclass::text !~ '^pg_' ORDER BY indexrelid::regclass::text} ])
{
	my ($title, $query) = @$what;
	is(sql('copy', $query), sql('live', $query), "the same $title");
}

# payment records are what they were, seals prove it, and the floor holds
is(sql('copy', 'SELECT day, status, row_count, digest FROM dashie.verify_audit()'),
	sql('live', 'SELECT day, status, row_count, digest FROM dashie.verify_audit()'), 'the same seals');
is(sql('copy', 'SELECT day, status, row_count FROM dashie.verify_audit()'), "2026-03-08|intact|1\n2026-03-09|intact|0", 'which are intact');
for my $attempt ('DELETE FROM public.stripe_webhook_events', 'DROP TABLE public.stripe_webhook_events', 'TRUNCATE dashie.audit_seal')
{
	my $err;
	$node->psql('copy', $attempt, stderr => \$err, extra_params => [ '-U', 'app' ]);
	like($err, qr/must be kept until|is guarded|cannot be changed/, "$attempt is refused in the copy");
}

# what is to be kept is kept, and nothing goes without the archiver
is($node->safe_psql('copy', q{
	BEGIN;
	SET LOCAL dashie.now = '2026-03-31 12:00+00';
	SET LOCAL client_min_messages = error;
	CALL dashie.run_job('rollup_events');
	CALL dashie.run_job('maintain_partitions');
	SELECT partition, regexp_replace(kept_by, ', next try at \S+ \S+:', ':') FROM dashie.partitions WHERE partition ~ '2026022[5-8]';
	ROLLBACK}), join("\n",
	'widget_analytics_20260225|not archived, failure 1: archiver public.archiver did not confirm',
	'widget_analytics_20260226|on hold: lawsuit',
	'widget_analytics_20260227|not archived, failure 1: archiver public.archiver did not confirm',
	'widget_analytics_20260228|on hold until 2027-01-01 00:00:00+00: tax audit'), 'holds and the archiver work in the copy');

# dashie goes on: the same numbers, and none given twice
my $metrics = q{
	SELECT date, new_signups, returning_users, active_dashboards, total_sessions, avg_session_minutes
	FROM public.daily_metrics ORDER BY date};
my $countries = q{
	SELECT country_code, total_users, active_users_30d, trial_users, paid_users, avg_session_duration_minutes
	FROM public.geographic_stats ORDER BY 1};
my $before = sql('live', $metrics);
my $work = q{
	INSERT INTO auth.users (id, created_at) VALUES ('00000000-0000-0000-0000-0000000000ff', '2026-03-08');
	INSERT INTO public.user_sessions (user_id, started_at, ended_at, country_code)
		VALUES ('00000000-0000-0000-0000-0000000000ff', '2026-03-09 10:00+00', '2026-03-09 10:30+00', 'IT');
	SELECT dashie.refresh_daily_metrics('2026-01-01', '2026-03-09');
	SELECT dashie.refresh_geographic_stats();
	SELECT dashie.maintain_partitions();
	SELECT dashie.apply_retention();};
my $highest = sql('live', 'SELECT max(number) FROM dashie.user_number');
sql($_, $work) for ('live', 'copy');
isnt(sql('live', $metrics), $before, 'the late session is counted');
is(sql('copy', $metrics), sql('live', $metrics), 'the same daily metrics after a refresh');
is(sql('copy', $countries), sql('live', $countries), 'the same geographic stats after a refresh');
for my $days (1, 30, 90)
{
	my $active = "SELECT dashie.active_users('2026-03-09', $days)";
	is(sql('copy', $active), sql('live', $active), "the same active users of $days days");
}
for my $query ("dashie.engagement('2026-01-01', '2026-03-09', true)", "dashie.new_vs_returning('2026-01-01', '2026-03-09')",
	"dashie.retention_cohorts('2026-01-01', '2026-03-09', 'week')", "dashie.verify('2026-01-01', '2026-03-09')")
{
	is(sql('copy', "SELECT * FROM $query"), sql('live', "SELECT * FROM $query"), "the same $query");
}
is(sql('copy', "SELECT count(*) FROM dashie.verify('2026-01-01', '2026-03-09') WHERE ok IS NOT TRUE"), '0', 'every day is proven');
my $number = q{SELECT number FROM dashie.user_number WHERE user_id = '00000000-0000-0000-0000-0000000000ff'};
is(sql('copy', $number), sql('live', $number), 'the new user has the same number');
cmp_ok(sql('copy', $number), '>', $highest, 'and nobody had it before');
is(sql('copy', q{SELECT enabled FROM dashie.job WHERE name = 'apply_retention'}), 'f', 'a job that was off is off');

$node->stop;
done_testing();
