# Jobs by hand and by the worker that a database's owner starts, on a server
# that does not preload dashie: rights, single flight, leases, time budget,
# locks, cancellation, and the worker's end.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "timezone = 'UTC'\nfsync = off\ndashie.naptime = 1\nrestart_after_crash = on\n");
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN');
$node->safe_psql('postgres', 'CREATE DATABASE live OWNER app');
$node->safe_psql('live', 'ALTER SCHEMA public OWNER TO app');

sub sql
{
	my ($query) = @_;
	return $node->safe_psql('live', "SET client_min_messages = warning;\n$query", extra_params => [ '-U', 'app' ]);
}

sub eventually
{
	my ($query, $name) = @_;
	ok($node->poll_query_until('live', $query), $name)
	  or diag($node->safe_psql('live', 'SELECT * FROM dashie.job_run ORDER BY id DESC LIMIT 10'));
}

# A session that works while the test goes on.
sub in_background
{
	my ($query) = @_;
	my %run = (out => '', err => '');
	$run{handle} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('live'), '-U', 'app', '-c', $query ],
		'<', \undef, '>', \$run{out}, '2>', \$run{err});
	return \%run;
}

# Sessions that the job close_stale_sessions ends one a step, each in so many seconds.
sub slow_sessions
{
	my ($count, $seconds, $instead) = @_;
	$instead //= "PERFORM pg_sleep($seconds); RETURN NEW;";
	sql(qq{
		SELECT dashie.configure('batch_rows', '1');
		DELETE FROM public.user_sessions;
		INSERT INTO public.user_sessions (user_id, started_at)
			SELECT '00000000-0000-4000-8000-000000000001', now() - interval '1 day' FROM generate_series(1, $count);
		CREATE OR REPLACE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN $instead END \$\$;
		DROP TRIGGER IF EXISTS slow ON public.user_sessions;
		CREATE TRIGGER slow BEFORE UPDATE ON public.user_sessions FOR EACH ROW EXECUTE FUNCTION public.slow();
		DELETE FROM dashie.job_run;
		UPDATE dashie.job_state SET last_started = NULL, failures = 0, retry_at = NULL, more = false});
}

sub fast_sessions
{
	sql('DROP TRIGGER slow ON public.user_sessions; DELETE FROM public.user_sessions');
}

sql(q{
	CREATE EXTENSION dashie;
	SELECT dashie.create_auth_stub();
	INSERT INTO auth.users (id) VALUES ('00000000-0000-4000-8000-000000000001');
	SELECT dashie.enable('user_sessions')});

# who may
$node->safe_psql('postgres', 'CREATE ROLE stranger LOGIN');
for my $query ('CALL dashie.run_due_jobs()', 'SELECT dashie.start_worker()', 'TABLE dashie.job', 'TABLE dashie.job_run',
	q{SELECT dashie.set_job('apply_retention', enabled => false)})
{
	my ($ret, $out, $err) = $node->psql('live', $query, extra_params => [ '-U', 'stranger' ]);
	isnt($ret, 0, "a stranger may not: $query");
	like($err, qr/permission denied/, 'and is told so');
}

#
# by hand
#

# single flight: while one session runs the job, nobody else does
slow_sessions(3, 1);
my $runner = in_background(q{CALL dashie.run_job('close_stale_sessions')});
eventually(q{SELECT running FROM dashie.job WHERE name = 'close_stale_sessions'}, 'the job is shown as running');
my ($ret, $out, $err) = $node->psql('live', q{CALL dashie.run_job('close_stale_sessions')});
is($ret, 0, 'a second run is no error');
like($err, qr/NOTICE:  job "close_stale_sessions" is already running in process \d+/, 'but a notice');
sql('CALL dashie.run_due_jobs()');
$runner->{handle}->finish;
is($runner->{err}, '', 'the first run ends well');
is(sql(q{SELECT count(*), min(status), min(steps), min(rows) FROM dashie.job_run WHERE name = 'close_stale_sessions'}),
	'1|succeeded|4|3', 'and was the only one, in a step a session and one that found nothing');

# what a step did is committed, whatever becomes of the run
slow_sessions(1000, 0.2);
$runner = in_background(q{CALL dashie.run_job('close_stale_sessions')});
eventually('SELECT count(*) >= 2 FROM public.user_sessions WHERE ended_at IS NOT NULL', 'steps are committed as they are done');
my $pid = sql(q{SELECT lease_pid FROM dashie.job_state WHERE name = 'close_stale_sessions'});
$node->safe_psql('live', "SELECT pg_terminate_backend($pid)");
$runner->{handle}->finish;
like($runner->{err}, qr/terminating connection/, 'the runner is gone');
eventually(qq{SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid}, 'completely');
sql(q{DELETE FROM public.user_sessions WHERE id NOT IN (SELECT id FROM public.user_sessions WHERE ended_at IS NULL LIMIT 2)});
sql('CALL dashie.run_due_jobs()');
is(sql(q{SELECT string_agg(status || ':' || coalesce(error_message, '-'), ',' ORDER BY id) FROM dashie.job_run WHERE name = 'close_stale_sessions'}),
	'failed:runner died before the job was done,succeeded:-', 'its lease is taken over at once, and its run closed');

# cancelled by statement_timeout, as pg_cron on some platforms
slow_sessions(1000, 0.2);
($ret, $out, $err) = $node->psql('live', q{SET statement_timeout = '700ms'; CALL dashie.run_job('close_stale_sessions')}, extra_params => [ '-U', 'app' ]);
like($err, qr/canceling statement due to statement timeout/, 'a timeout ends the run');
is(sql(q{SELECT status, sqlstate, steps > 0 FROM dashie.job_run WHERE name = 'close_stale_sessions'}), 'failed|57014|t', 'and is recorded');
is(sql(q{SELECT failures, lease_pid IS NULL, retry_at > now() FROM dashie.job_state WHERE name = 'close_stale_sessions'}), '1|t|t', 'with back-off');

# the time budget, and going on where it stopped
slow_sessions(10, 0.3);
sql(q{SELECT dashie.configure('job_time_budget_s', '1')});
sql('CALL dashie.run_due_jobs()');
is(sql(q{SELECT status, steps BETWEEN 2 AND 5, rows = steps FROM dashie.job_run WHERE name = 'close_stale_sessions'}), 'partial|t|t', 'a run ends with its budget');
is(sql(q{SELECT more, next_run <= clock_timestamp() FROM dashie.job WHERE name = 'close_stale_sessions'}), 't|t', 'and is due again');
sql('CALL dashie.run_due_jobs()') for 1 .. 5;
is(sql(q{SELECT count(*), sum(rows) FROM public.user_sessions, (SELECT sum(rows) AS rows FROM dashie.job_run WHERE name = 'close_stale_sessions') AS r WHERE ended_at IS NULL}),
	'0|', 'the next calls finish it');
is(sql(q{SELECT last_status, more FROM dashie.job WHERE name = 'close_stale_sessions'}), 'succeeded|f', 'and then nothing is left');
sql(q{SELECT dashie.configure('job_time_budget_s', NULL)});

# two passes at once run a job once
fast_sessions();
for my $round (1 .. 5)
{
	sql('DELETE FROM dashie.job_run; UPDATE dashie.job_state SET last_started = NULL');
	my @runners = map { in_background('CALL dashie.run_due_jobs()') } 1 .. 4;
	$_->{handle}->finish for @runners;
	is(join('', map { $_->{err} } @runners), '', "four passes at once, round $round");
	is(sql('SELECT string_agg(name || status, $$,$$ ORDER BY name) FROM dashie.job_run'),
		'apply_retentionsucceeded,close_stale_sessionssucceeded', 'each job ran once');
}

# serializable sessions too
sql(q{SET default_transaction_isolation = 'serializable'; CALL dashie.run_job('close_stale_sessions')});
is(sql(q{SELECT last_status FROM dashie.job WHERE name = 'close_stale_sessions'}), 'succeeded', 'under another isolation level');

#
# the worker that an owner starts
#

my $launcher = sql('SELECT dashie.start_worker()');
like($launcher, qr/^[1-9]\d*$/, 'start_worker() returns a process');
is(sql('SELECT dashie.start_worker()'), $launcher, 'and the same when it runs already');
sql('DELETE FROM dashie.job_run; UPDATE dashie.job_state SET last_started = NULL');
eventually(q{SELECT count(DISTINCT name) = 2 FROM dashie.job_run WHERE status = 'succeeded' AND driver = 'worker'}, 'the worker runs what is due');
my $beat = q{SELECT state_change FROM pg_stat_activity WHERE backend_type LIKE 'dashie launcher for %'};
my $first = $node->safe_psql('live', $beat);
eventually("SELECT ($beat) > '$first'", 'the launcher shows its heartbeat');

# a job that fails backs off, and the others go on
slow_sessions(1, 0, q{RAISE 'not today';});
sql(q{SELECT dashie.set_job('apply_retention', '* * * * *'); UPDATE dashie.job_state SET last_started = '2000-01-01'});
eventually(q{SELECT count(*) = 1 FROM dashie.job_run WHERE name = 'close_stale_sessions' AND status = 'failed' AND error_message = 'not today'}, 'a failure is recorded');
sql(q{UPDATE dashie.job_state SET last_started = '2000-01-01' WHERE name = 'apply_retention'});
eventually(q{SELECT count(*) >= 2 FROM dashie.job_run WHERE name = 'apply_retention' AND status = 'succeeded'}, 'another job goes on');
is(sql(q{SELECT count(*) FROM dashie.job_run WHERE name = 'close_stale_sessions'}), '1', 'the failed one waits');
sql(q{SELECT dashie.set_job('apply_retention', 'default')});
fast_sessions();

# a deferred trigger of the table's owner runs with that owner's rights, and not
# with those that the commit finds: the superuser's
sql(q{
	CREATE TABLE public.seen (who name);
	CREATE FUNCTION public.spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER spy AFTER UPDATE ON public.user_sessions DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.spy()});
sub stale_session
{
	sql(q{DELETE FROM public.seen; INSERT INTO public.user_sessions (user_id, started_at) VALUES ('00000000-0000-4000-8000-000000000001', now() - interval '1 day');
		UPDATE dashie.job_state SET last_started = NULL, failures = 0, retry_at = NULL});
}
stale_session();
eventually('SELECT count(*) > 0 FROM public.seen', 'a deferred trigger fires in the worker');
is(sql('TABLE public.seen'), 'app', 'as the owner of the table');
is(sql('SELECT dashie.stop_worker()'), 't', 'the worker is stopped');
for my $call (q{CALL dashie.run_job('close_stale_sessions')}, q{BEGIN; CALL dashie.run_job('close_stale_sessions'); COMMIT})
{
	stale_session();
	$node->safe_psql('live', $call);
	is(sql('TABLE public.seen'), 'app', "the same when a superuser calls: $call");
}
eventually("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $launcher", 'the launcher is gone');
$launcher = sql('SELECT dashie.start_worker()');
sql('DROP TRIGGER spy ON public.user_sessions; DELETE FROM public.user_sessions');

# stop and start
is(sql('SELECT dashie.stop_worker()'), 't', 'stop_worker()');
eventually("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $launcher", 'ends it');
is(sql('SELECT dashie.stop_worker()'), 'f', 'once');
$launcher = sql('SELECT dashie.start_worker()');
like($launcher, qr/^[1-9]\d*$/, 'and it can be started again');

# a worker killed with -9 takes the server through recovery; then all goes on
slow_sessions(1000, 0.2);
eventually(q{SELECT running FROM dashie.job WHERE name = 'close_stale_sessions'}, 'a worker is at work');
$pid = sql(q{SELECT lease_pid FROM dashie.job_state WHERE name = 'close_stale_sessions'});
kill 9, $pid;
eventually(q{SELECT count(*) = 1 FROM dashie.job_run WHERE name = 'close_stale_sessions' AND error_message = 'runner died before the job was done'},
	'after kill -9 of the worker its run is closed');
eventually(qq{SELECT running AND lease_pid <> $pid FROM dashie.job JOIN dashie.job_state USING (name) WHERE name = 'close_stale_sessions'},
	'and the job runs again');

# DROP EXTENSION waits for a step, not for the pass; the launcher then leaves for good
my $start = time;
sql('DROP EXTENSION dashie');
cmp_ok(time - $start, '<', 30, 'DROP EXTENSION in the middle of a long pass');
eventually(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'dashie %'}, 'launcher and worker leave');
sql(q{DROP TRIGGER slow ON public.user_sessions; CREATE EXTENSION dashie; SELECT dashie.enable('user_sessions')});
is(sql('SELECT count(*) FROM dashie.job_run'), '0', 'nobody runs jobs until asked');
$launcher = sql('SELECT dashie.start_worker()');
eventually(q{SELECT count(DISTINCT name) = 2 FROM dashie.job_run WHERE status = 'succeeded'}, 'then jobs run on the kept table');

# DROP DATABASE in the middle of a long pass
slow_sessions(1000, 0.2);
eventually(q{SELECT running FROM dashie.job WHERE name = 'close_stale_sessions'}, 'a worker is at work again');
$start = time;
($ret, $out, $err) = $node->psql('postgres', 'DROP DATABASE live');
is($ret, 0, 'DROP DATABASE in the middle of a long pass') or diag($err);
note sprintf('it took %.1f s', time - $start);
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'dashie %'}), 'and nobody is left');

$node->stop('fast');
done_testing();
