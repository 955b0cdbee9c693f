# pg_cron as the driver: scheduled by an owner who is no superuser, it fills
# daily_metrics; beside the launcher each job still runs once.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
my $available = $node->config_data('--sharedir') . '/extension/pg_cron.control';
plan skip_all => 'pg_cron is not installed' unless -e $available;
$node->append_conf('postgresql.conf', q{
timezone = 'UTC'
fsync = off
shared_preload_libraries = 'pg_cron, dashie'
dashie.launcher = off
dashie.naptime = 1
cron.database_name = 'live'
cron.use_background_workers = on
max_worker_processes = 20
});
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN');
$node->safe_psql('postgres', 'CREATE DATABASE live OWNER app');
$node->safe_psql('live', 'ALTER SCHEMA public OWNER TO app');
$node->safe_psql('postgres', 'CREATE DATABASE other OWNER app');

sub sql
{
	my ($query) = @_;
	return $node->safe_psql('live', "SET client_min_messages = warning;\n$query", extra_params => [ '-U', 'app' ]);
}

sql(q{
	CREATE EXTENSION dashie;
	SELECT dashie.create_auth_stub();
	INSERT INTO auth.users (id, created_at)
		SELECT ('00000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, now() - interval '10 days' FROM generate_series(1, 5) AS i;
	SELECT dashie.enable('user_sessions');
	SELECT dashie.enable('daily_metrics');
	INSERT INTO public.user_sessions (user_id, started_at, ended_at)
		SELECT ('00000000-0000-4000-8000-' || lpad((i % 5 + 1)::text, 12, '0'))::uuid, s, s + interval '10 minutes'
		FROM generate_series(0, 29) AS i, LATERAL (SELECT now() - interval '8 days' + i * interval '6 hours') AS x(s)});

# where pg_cron is not
my ($ret, $out, $err) = $node->psql('live', 'SELECT dashie.schedule_with_cron()', extra_params => [ '-U', 'app' ]);
like($err, qr/ERROR:  pg_cron is not installed in this database/, 'before CREATE EXTENSION pg_cron');
$node->safe_psql('other', 'CREATE EXTENSION dashie');
($ret, $out, $err) = $node->psql('other', 'SELECT dashie.schedule_with_cron()');
like($err, qr/pg_cron lives in database "live".*cron\.schedule_in_database/s, 'in another database: what to do there');

$node->safe_psql('live', 'CREATE EXTENSION pg_cron; GRANT USAGE ON SCHEMA cron TO app');
my $job = sql('SELECT dashie.schedule_with_cron()');
like($job, qr/^\d+$/, 'schedule_with_cron() returns the job');
is(sql('SELECT dashie.schedule_with_cron()'), $job, 'and the same the second time');
is($node->safe_psql('live', "SELECT jobname, schedule, command, username FROM cron.job WHERE jobid = $job"),
	'dashie|* * * * *|CALL dashie.run_due_jobs()|app', 'as pg_cron shows it');

# pg_cron wakes at full minutes
ok($node->poll_query_until('live', q{SELECT count(*) > 0 FROM dashie.job_run WHERE driver = 'pg_cron' AND name = 'refresh_daily_metrics' AND status = 'succeeded'}),
	'pg_cron runs the jobs') or diag($node->safe_psql('live', 'TABLE cron.job_run_details; TABLE dashie.job_run'));
is(sql(q{SELECT sum(total_sessions), count(*) >= 8 FROM public.daily_metrics}),
	sql(q{SELECT count(*), true FROM public.user_sessions WHERE started_at < date_trunc('day', now())}), 'daily_metrics is filled');
is($node->safe_psql('live', "SELECT DISTINCT status FROM cron.job_run_details WHERE jobid = $job AND status NOT IN ('running', 'starting')"), 'succeeded', 'pg_cron is content');

# its own history is trimmed; that of others is not
$node->safe_psql('live', qq{
	INSERT INTO cron.job_run_details (jobid, database, username, command, status, start_time, end_time) VALUES
		($job, 'live', 'app', 'old', 'succeeded', now() - interval '8 days', now() - interval '8 days'),
		($job, 'live', 'app', 'new', 'succeeded', now() - interval '6 days', now() - interval '6 days'),
		(4711, 'live', 'postgres', 'alien', 'succeeded', now() - interval '8 days', now() - interval '8 days')});
sql(q{UPDATE dashie.job_state SET last_started = last_started - interval '1 day'; CALL dashie.run_due_jobs()});
is($node->safe_psql('live', q{SELECT string_agg(command, ',' ORDER BY command) FROM cron.job_run_details WHERE command IN ('old', 'new', 'alien')}), 'alien,new', 'trimmed');

# both drivers at once
$node->append_conf('postgresql.conf', 'dashie.launcher = on');
$node->restart;
sql(q{DELETE FROM dashie.job_run; SELECT dashie.set_job('close_stale_sessions', '* * * * *');
	SELECT dashie.set_job('apply_retention', '* * * * *'); SELECT dashie.set_job('refresh_daily_metrics', '* * * * *')});
ok($node->poll_query_until('live', q{SELECT count(DISTINCT date_trunc('minute', started_at)) >= 3 FROM dashie.job_run WHERE name = 'close_stale_sessions'}), 'with both drivers');
is(sql(q{SELECT count(*) FROM (SELECT FROM dashie.job_run WHERE started_at > (SELECT date_trunc('minute', min(started_at)) + interval '1 minute' FROM dashie.job_run)
	GROUP BY name, date_trunc('minute', started_at) HAVING count(*) > 1) AS twice}), '0', 'no job ran twice in a minute');
is(sql(q{SELECT count(*) FROM dashie.job_run WHERE status NOT IN ('succeeded', 'running')}), '0', 'and none failed');

is(sql('SELECT dashie.unschedule_from_cron()'), 't', 'unschedule_from_cron()');
is(sql('SELECT dashie.unschedule_from_cron()'), 'f', 'once');
is($node->safe_psql('live', 'SELECT count(*) FROM cron.job'), '0', 'and the job is gone');
$node->stop('fast');
done_testing();
