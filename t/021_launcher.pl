# The launcher of shared_preload_libraries: a worker for each database that has
# the extension, through kill -9, DROP and CREATE EXTENSION, DROP DATABASE,
# fast shutdown, and promotion of a standby.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
timezone = 'UTC'
shared_preload_libraries = 'dashie'
dashie.naptime = 1
restart_after_crash = on
max_worker_processes = 10
});
$node->start;

sub install
{
	my ($database) = @_;
	$node->safe_psql($database, q{
		SET client_min_messages = warning;
		CREATE EXTENSION dashie;
		SELECT dashie.create_auth_stub() WHERE to_regclass('auth.users') IS NULL;
		INSERT INTO auth.users (id) VALUES ('00000000-0000-4000-8000-000000000001') ON CONFLICT DO NOTHING;
		SELECT dashie.enable('user_sessions')});
}

# A pass of the job close_stale_sessions over this many sessions, a step each of a fifth of a second.
sub make_busy
{
	my ($database, $count) = @_;
	$node->safe_psql($database, qq{
		SET client_min_messages = warning;
		SELECT dashie.configure('batch_rows', '1');
		INSERT INTO public.user_sessions (user_id, started_at)
			SELECT '00000000-0000-4000-8000-000000000001', now() - interval '1 day' FROM generate_series(1, $count);
		CREATE OR REPLACE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN PERFORM pg_sleep(0.2); RETURN NEW; END \$\$;
		DROP TRIGGER IF EXISTS slow ON public.user_sessions;
		CREATE TRIGGER slow BEFORE UPDATE ON public.user_sessions FOR EACH ROW EXECUTE FUNCTION public.slow();
		UPDATE dashie.job_state SET last_started = NULL, failures = 0, retry_at = NULL});
	ok($node->poll_query_until($database, q{SELECT running FROM dashie.job WHERE name = 'close_stale_sessions'}), "$database is busy");
}

my $nobody = q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'dashie worker' AND datname = '%s'};
my $ran = q{SELECT count(DISTINCT name) = 2 FROM dashie.job_run WHERE status = 'succeeded' AND driver = 'worker'};
my $find = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dashie launcher'};

# every database with the extension, and no other
$node->safe_psql('postgres', "CREATE DATABASE $_") for ('one', 'two', 'three', '"My four"');
install($_) for ('one', 'two', 'My four');
ok($node->poll_query_until($_, $ran), "jobs run in database $_") for ('one', 'two', 'My four');
my $launcher = $node->safe_psql('postgres', $find);
my $beat = q{SELECT state_change FROM pg_stat_activity WHERE backend_type = 'dashie launcher'};
my $first = $node->safe_psql('postgres', $beat);
ok($node->poll_query_until('postgres', "SELECT ($beat) > '$first'"), 'the launcher shows its heartbeat');
install('three');
ok($node->poll_query_until('three', $ran), 'a database that gets the extension later is found');

my ($ret, $out, $err) = $node->psql('one', 'SELECT dashie.start_worker()');
is($out, $launcher, 'start_worker() names the launcher');
like($err, qr/NOTICE:  the launcher of shared_preload_libraries runs already/, 'and says which');
is($node->safe_psql('one', 'SELECT dashie.stop_worker()'), 'f', 'stop_worker() leaves it alone');

# many databases share two workers
is($node->safe_psql('postgres', 'SHOW dashie.max_workers'), '2', 'two workers');
make_busy($_, 20) for ('one', 'two', 'three');
ok($node->poll_query_until($_, 'SELECT count(*) = 0 FROM public.user_sessions WHERE ended_at IS NULL'), "$_ gets its turn") for ('one', 'two', 'three');

# terminated, the launcher comes back
$node->safe_psql('postgres', "SELECT pg_terminate_backend($launcher)");
ok($node->poll_query_until('postgres', "SELECT pid <> $launcher FROM pg_stat_activity WHERE backend_type = 'dashie launcher'"), 'the launcher comes back after pg_terminate_backend()');

# killed with -9 too, after recovery
$launcher = $node->safe_psql('postgres', $find);
make_busy('one', 20);
kill 9, $launcher;
ok($node->poll_query_until('one', "SELECT pid <> $launcher FROM pg_stat_activity WHERE backend_type = 'dashie launcher'"), 'the launcher comes back after kill -9');
ok($node->poll_query_until('one', q{SELECT count(*) = 1 FROM dashie.job_run WHERE error_message = 'runner died before the job was done'}), 'the run that it took down is closed');
ok($node->poll_query_until('one', 'SELECT count(*) = 0 FROM public.user_sessions WHERE ended_at IS NULL'), 'and its work done by the next');

# DROP EXTENSION and CREATE EXTENSION
make_busy('one', 1000);
my $start = time;
($ret, $out, $err) = $node->psql('one', 'DROP EXTENSION dashie');
is($ret, 0, 'DROP EXTENSION in the middle of a long pass') or diag($err);
note sprintf('it took %.1f s', time - $start);
ok($node->poll_query_until('postgres', sprintf($nobody, 'one')), 'the worker leaves');
$node->safe_psql('one', 'DROP TRIGGER slow ON public.user_sessions; DELETE FROM public.user_sessions');
install('one');
ok($node->poll_query_until('one', $ran), 'after CREATE EXTENSION jobs run again');

# DROP DATABASE, RENAME and a copy, which all need it empty
make_busy('two', 1000);
for my $command ('CREATE DATABASE copy TEMPLATE two', 'ALTER DATABASE two RENAME TO second', 'DROP DATABASE second')
{
	$start = time;
	($ret, $out, $err) = $node->psql('postgres', $command);
	is($ret, 0, "$command in the middle of a long pass") or diag($err);
	note sprintf('it took %.1f s', time - $start);
}
ok($node->poll_query_until('copy', q{SELECT running FROM dashie.job WHERE name = 'close_stale_sessions'}), 'the copy goes on with the pass');
is($node->safe_psql('postgres', 'DROP DATABASE copy; SELECT 1'), '1', 'and can be dropped as well');

# fast shutdown
make_busy('three', 1000);
$start = time;
$node->stop('fast');
cmp_ok(time - $start, '<', 20, 'a fast shutdown does not wait for the pass');
$node->start;
ok($node->poll_query_until('three', q{SELECT count(*) = 1 FROM dashie.job_run WHERE error_message = 'runner died before the job was done'}), 'the run that it ended is closed');
ok($node->poll_query_until('three', q{SELECT running FROM dashie.job WHERE name = 'close_stale_sessions'}), 'and the pass goes on');
$node->safe_psql('three', 'DROP TRIGGER slow ON public.user_sessions');
ok($node->poll_query_until('three', 'SELECT count(*) = 0 FROM public.user_sessions WHERE ended_at IS NULL'), 'to its end');

# a standby runs nothing until it is promoted, in the middle of a job
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
make_busy('three', 50);
$node->wait_for_catchup($standby, 'replay', $node->lsn('write'));
ok($standby->poll_query_until('three', q{SELECT count(*) = 1 FROM dashie.job_state WHERE name = 'close_stale_sessions' AND lease_pid IS NOT NULL}), 'as the standby has heard');
is($standby->safe_psql('three', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dashie %'}), '0', 'on the standby nothing runs');
is($standby->safe_psql('three', q{SELECT running FROM dashie.job WHERE name = 'close_stale_sessions'}), 'f', 'nor does it look as if it did');
($ret, $out, $err) = $standby->psql('three', 'SELECT dashie.start_worker()');
like($err, qr/jobs do not run on a standby/, 'nor can a worker be started');
$node->stop('immediate');
$standby->promote;
ok($standby->poll_query_until('three', 'SELECT count(*) = 0 FROM public.user_sessions WHERE ended_at IS NULL'), 'promoted, it does the job to its end');
is($standby->safe_psql('three', q{SELECT count(*) FROM dashie.job_run WHERE status = 'running' AND name = 'close_stale_sessions' AND id < (SELECT max(id) FROM dashie.job_run WHERE name = 'close_stale_sessions')}),
	'0', 'and closes the run of the lost primary');
$standby->stop('fast');

# the launcher can be turned off
$node->append_conf('postgresql.conf', 'dashie.launcher = off');
$node->start;
is($node->safe_psql('three', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dashie %'}), '0', 'dashie.launcher = off');
like($node->safe_psql('three', 'SELECT dashie.start_worker()'), qr/^[1-9]\d*$/, 'and then start_worker() starts one');
$node->stop('fast');
done_testing();
