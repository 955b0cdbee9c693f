# DROP EXTENSION, without CASCADE, leaves every table with its rows and working;
# CREATE EXTENSION and enable() take them up again.
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
$node->safe_psql('postgres', 'CREATE DATABASE live OWNER app');
$node->safe_psql('postgres', q{LOAD 'dashie'; ALTER DATABASE live SET dashie.now = '2026-03-10 12:00+00'});
$node->safe_psql('live', 'ALTER SCHEMA public OWNER TO app');

sub sql
{
	my ($query) = @_;
	return $node->safe_psql('live', "SET client_min_messages = warning;\n$query", extra_params => [ '-U', 'app' ]);
}

sql(q{
	CREATE EXTENSION dashie;
	SELECT dashie.create_auth_stub();
	INSERT INTO auth.users (id, created_at)
		SELECT ('00000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid, timestamptz '2026-01-01' + i * interval '1 day'
		FROM generate_series(1, 20) AS i;
	SELECT dashie.enable();
	INSERT INTO public.user_sessions (user_id, started_at, ended_at, country_code)
		SELECT ('00000000-0000-0000-0000-' || lpad((i % 20 + 1)::text, 12, '0'))::uuid, s, s + i * interval '11 seconds',
			(ARRAY['DE', 'FR', NULL])[i % 3 + 1]
		FROM generate_series(1, 300) AS i, LATERAL (SELECT timestamptz '2026-01-10' + i * interval '4 hours 3 minutes') AS x(s);
	INSERT INTO public.widget_analytics (user_id, widget_type, event_type, "timestamp")
		SELECT ('00000000-0000-0000-0000-' || lpad((i % 20 + 1)::text, 12, '0'))::uuid, 'clock', 'view', timestamptz '2026-03-10' - i * interval '3 hours'
		FROM generate_series(1, 100) AS i;
	INSERT INTO public.stripe_webhook_events (stripe_event_id, event_type, event_data) VALUES ('evt_1', 'invoice.paid', '{}');
	SELECT dashie.hold_partition('2026-03-01', 'lawsuit');
	SELECT dashie.set_archiver('dashie.archive_to_table');
	SELECT dashie.refresh_daily_metrics('2026-01-01', '2026-03-09');
	SELECT dashie.refresh_geographic_stats();
	DELETE FROM auth.users WHERE id = '00000000-0000-0000-0000-000000000020';
});

my $tables = q{
	SELECT c.oid::regclass FROM pg_class c
	WHERE c.relkind IN ('r', 'p') AND c.relnamespace::regnamespace::text IN ('public', 'auth', 'dashie')
	AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
	ORDER BY c.oid::regclass::text};

sub contents
{
	my %contents;
	$contents{$_} = sql("SELECT count(*), md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM $_ AS t")
	  for split /\n/, sql($tables);
	return \%contents;
}

my $metrics = q{
	SELECT date, new_signups, returning_users, active_dashboards, total_sessions, avg_session_minutes
	FROM public.daily_metrics ORDER BY date};
my $before = contents();
my $numbers = sql($metrics);

my ($ret, $out, $err) = $node->psql('live', 'DROP EXTENSION dashie', extra_params => [ '-U', 'app' ]);
is($ret, 0, 'DROP EXTENSION needs no CASCADE') or diag($err);
is_deeply(contents(), $before, 'every table is there, with every row');
is(sql(q{SELECT count(*) FROM pg_proc WHERE pronamespace = 'dashie'::regnamespace}), '0', 'and no function of ours');

# the application goes on without us
sql(q{
	INSERT INTO public.user_sessions (user_id, started_at, ended_at)
		VALUES ('00000000-0000-0000-0000-000000000001', '2026-03-05 10:00+00', '2026-03-05 10:10+00');
	UPDATE public.user_sessions SET error_count = 1 WHERE started_at = '2026-03-05 10:00+00';
	INSERT INTO public.widget_analytics (user_id, widget_type, event_type, "timestamp")
		VALUES ('00000000-0000-0000-0000-000000000001', 'clock', 'view', '2026-03-10 01:00+00');
	INSERT INTO public.dashboards (user_id, device_name, last_heartbeat_at)
		VALUES ('00000000-0000-0000-0000-000000000001', 'Kitchen', '2026-03-05');
	UPDATE public.dashboards SET last_heartbeat_at = '2026-03-06';
	INSERT INTO public.stripe_webhook_events (stripe_event_id, event_type, event_data) VALUES ('evt_2', 'invoice.paid', '{}');
	UPDATE public.stripe_webhook_events SET processing_status = 'processed';
	DELETE FROM auth.users WHERE id = '00000000-0000-0000-0000-000000000019';
});
pass('rows come, change and go without the extension');

my $highest = sql('SELECT max(number) FROM dashie.user_number');
sql(q{CREATE EXTENSION dashie; SELECT dashie.enable();});
pass('CREATE EXTENSION and enable() over the kept tables');
is(sql('SELECT count(*) FROM dashie.roadmap WHERE enabled'), '10', 'all ten tables are enabled');

# what happened meanwhile is not known, so everything may have changed; what cannot
# be computed again stays as it was
sql(q{SELECT dashie.refresh_daily_metrics('2026-01-01', '2026-03-09')});
my $expected = join "\n",
  map { my @f = split /\|/; $f[0] eq '2026-03-05' ? () : $_ } split /\n/, $numbers;
my $after = join "\n", grep { !/^2026-03-0[56]\|/ } split /\n/, sql($metrics);
$expected = join "\n", grep { !/^2026-03-0[56]\|/ } split /\n/, $expected;
is($after, $expected, 'finished days are what they were, those of deleted users too');
is(sql(q{SELECT total_sessions FROM public.daily_metrics WHERE date = '2026-03-05'})
	  - (map { (split /\|/)[4] } grep { /^2026-03-05/ } split /\n/, $numbers)[0],
	1, 'the session that came meanwhile is counted');

sql(q{INSERT INTO auth.users (id, created_at) VALUES ('00000000-0000-0000-0000-0000000000ff', '2026-03-08');
	SELECT dashie.refresh_daily_metrics('2026-03-01', '2026-03-09')});
cmp_ok(sql(q{SELECT number FROM dashie.user_number WHERE user_id = '00000000-0000-0000-0000-0000000000ff'}),
	'>', $highest, 'a number is never given twice');

# nothing is dropped that was to be kept, or not without its copy
my $events = sql(q{SELECT count(*) FROM public.widget_analytics_20260302});
$node->safe_psql('live', q{SET dashie.now = '2026-04-02 12:00+00'; CALL dashie.run_job('rollup_events'); CALL dashie.run_job('maintain_partitions')});
is(sql(q{SELECT string_agg(partition || ' ' || kept_by, ', ') FROM dashie.partitions WHERE upper_bound <= '2026-03-03 12:00+00'}),
	'widget_analytics_20260301 on hold: lawsuit', 'a hold and the archiver outlive the extension');
is(sql(q{SELECT count(*) = (SELECT count(*) FROM public.widget_analytics_20260301) FROM public.widget_analytics WHERE "timestamp" < '2026-03-03'}), 't',
	'the others have gone');
is(sql(q{SELECT count(*) FROM dashie_archive.widget_analytics_20260302}), $events, 'with a copy');
$node->safe_psql('live', q{DROP SCHEMA dashie_archive CASCADE});

# the triggers are back
my $stripe = $node->psql('live', 'DELETE FROM public.stripe_webhook_events', extra_params => [ '-U', 'app' ], stderr => \$err);
isnt($stripe, 0, 'payment records are guarded again');
like($err, qr/must be kept until/, 'and the error says until when');
sql(q{INSERT INTO public.user_sessions (user_id, started_at, ended_at)
	VALUES ('00000000-0000-0000-0000-000000000002', '2026-03-07 10:00+00', '2026-03-07 10:10+00')});
cmp_ok(sql('SELECT count(*) FROM dashie.changed_range'), '>', 0, 'changed days are marked again');

# a second time
($ret, $out, $err) = $node->psql('live', 'DROP EXTENSION dashie', extra_params => [ '-U', 'app' ]);
is($ret, 0, 'DROP EXTENSION works again') or diag($err);
sql(q{CREATE EXTENSION dashie; SELECT dashie.enable();});
is(sql('SELECT count(*) FROM dashie.roadmap WHERE enabled'), '10', 'and so does CREATE EXTENSION');

# the owner of the extension, whose jobs run as that role, cannot vanish under them
($ret, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nDROP ROLE app");
like($err, qr/2BP01/, 'the owner cannot be dropped while the extension is there');
$node->safe_psql('live', 'DROP OWNED BY app CASCADE');
is($node->safe_psql('live', q{SELECT count(*) FROM pg_extension WHERE extname = 'dashie'}), '0',
	'DROP OWNED takes the extension along');
$node->safe_psql('live', 'DROP SCHEMA IF EXISTS dashie CASCADE; CREATE EXTENSION dashie');
is($node->safe_psql('live', 'SELECT count(*) FROM dashie.roadmap WHERE enabled'), '0', 'and somebody else can install it');

$node->stop;
done_testing();
