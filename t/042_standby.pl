# A standby answers what only reads, refuses what writes, and works on when it
# is promoted.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', "timezone = 'UTC'\n");
$primary->start;
$primary->safe_psql('postgres', q{LOAD 'dashie'; ALTER DATABASE postgres SET dashie.now = '2026-03-10 12:00+00'});
$primary->safe_psql('postgres', q{
	SET client_min_messages = warning;
	CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role;
	CREATE EXTENSION dashie;
	SELECT dashie.create_auth_stub();
	INSERT INTO auth.users (id, created_at)
		SELECT ('00000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid, timestamptz '2025-11-01' + i * interval '1 day'
		FROM generate_series(1, 20) AS i;
	SELECT dashie.enable();
	INSERT INTO public.user_sessions (user_id, started_at, ended_at, country_code)
		SELECT ('00000000-0000-0000-0000-' || lpad((i % 20 + 1)::text, 12, '0'))::uuid, s, s + i * interval '11 seconds', 'DE'
		FROM generate_series(1, 300) AS i, LATERAL (SELECT timestamptz '2025-11-20' + i * interval '8 hours 3 minutes') AS x(s);
	INSERT INTO public.system_events (event_type, severity, message, created_at) VALUES ('boot', 'info', 'old', '2025-01-01');
	SELECT dashie.refresh_daily_metrics('2025-11-01', '2026-03-09');
	SELECT dashie.refresh_geographic_stats();
});

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));

# what only reads gives the same answer
for my $query (
	'SELECT name, value FROM dashie.settings ORDER BY name',
	'SELECT table_name, enabled, schema_name, retention, evidence FROM dashie.roadmap ORDER BY table_name',
	'SELECT * FROM dashie.partitions ORDER BY 1, 2',
	'SELECT name, schedule, enabled FROM dashie.job ORDER BY name',
	'SELECT * FROM dashie.job_run',
	'SELECT what, state, done FROM dashie.progress',
	q{SELECT dashie.active_users('2026-03-09', 30)},
	q{SELECT * FROM dashie.engagement('2026-02-01', '2026-03-09', by_country => true)},
	q{SELECT * FROM dashie.new_vs_returning('2026-02-01', '2026-03-10')},
	q{SELECT * FROM dashie.retention_cohorts('2026-01-01', '2026-03-09', 'month')},
	q{SELECT * FROM dashie.verify('2026-02-01', '2026-03-09')},
	'SELECT * FROM dashie.apply_retention(dry_run => true)',
	'SELECT * FROM dashie.maintain_partitions(dry_run => true)')
{
	my ($ret, $out, $err) = $standby->psql('postgres', $query);
	is($ret, 0, "on the standby: $query") or diag($err);
	is($out, $primary->safe_psql('postgres', $query), 'the same as on the primary');
}
like($standby->safe_psql('postgres', 'SELECT table_name, action, rows FROM dashie.apply_retention(true)'),
	qr/^system_events\|delete\|1$/m, 'the standby knows what retention would do');

# what writes says why it cannot
for my $query (
	'SELECT * FROM dashie.apply_retention()',
	q{SELECT dashie.set_retention('system_events', '1 year')},
	q{SELECT dashie.configure('batch_rows', '5')},
	q{SELECT dashie.enable('system_events')},
	q{SELECT dashie.refresh_daily_metrics('2026-03-01', '2026-03-09')},
	q{CALL dashie.backfill_metrics('2026-03-01', '2026-03-09')},
	'SELECT dashie.close_stale_sessions()',
	q{CALL dashie.run_job('apply_retention')},
	'CALL dashie.run_due_jobs()')
{
	my ($ret, $out, $err) = $standby->psql('postgres', "\\set VERBOSITY verbose\n$query");
	isnt($ret, 0, "refused on the standby: $query") or diag($out);
	like($err, qr/ERROR:  (25006|55000)/, 'with a SQLSTATE that says so');
}

# promotion
$standby->promote;
$standby->safe_psql('postgres', q{CALL dashie.run_job('apply_retention')});
is($standby->safe_psql('postgres', 'SELECT count(*) FROM public.system_events'), '0', 'after the promotion the job works');
$standby->safe_psql('postgres', q{
	INSERT INTO public.user_sessions (user_id, started_at, ended_at)
		VALUES ('00000000-0000-0000-0000-000000000001', '2026-03-09 10:00+00', '2026-03-09 10:10+00')});
my $before = $standby->safe_psql('postgres', q{SELECT total_sessions FROM public.daily_metrics WHERE date = '2026-03-09'});
$standby->safe_psql('postgres', q{SELECT dashie.refresh_daily_metrics('2026-03-09', '2026-03-09')});
is($standby->safe_psql('postgres', q{SELECT total_sessions FROM public.daily_metrics WHERE date = '2026-03-09'}),
	$before + 1, 'and a refresh counts what came since');

$standby->stop;
$primary->stop;
done_testing();
