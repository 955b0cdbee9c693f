# Nobody queues behind maintenance.  Somebody reads widget_analytics, somebody
# else auth.users, a third changes users, each in a transaction without an end,
# while the job runs and tries again and again, and while events are stored and
# people log in, come and go.  A statement that had to wait for one of the long
# transactions behind maintenance would wait until its statement_timeout, fifty
# times maintenance_lock_timeout_ms, and fail: the load must not have
# one failure.  And the partition goes when it can: by DETACH CONCURRENTLY in the
# worker, FINALIZE, DROP; also when the worker is killed between any two of
# these; and what somebody detached by hand stays.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf',
	"timezone = 'UTC'\nfsync = off\ndashie.naptime = 1\nrestart_after_crash = on\nautovacuum = off\n");
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
	  or diag($node->safe_psql('live', 'SELECT * FROM dashie.job_run ORDER BY id DESC LIMIT 5; TABLE dashie.partition_removal'));
}

# A transaction that stays open after a query: in the middle of another one, with
# the snapshot of that, or idle.
sub hold_open
{
	my ($query, $idle) = @_;
	my %session = (in => "BEGIN;\n$query;\nSELECT 'pid', pg_backend_pid();\n" . ($idle ? '' : "SELECT pg_sleep(3600);\n"), out => '', err => '');
	$session{handle} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('live'), '-U', 'app' ],
		'<', \$session{in}, '>', \$session{out}, '2>', \$session{err}, IPC::Run::timeout(180));
	$session{handle}->pump until $session{out} =~ /pid\|(\d+)\n/;
	($session{pid}) = $session{out} =~ /pid\|(\d+)\n/;
	my $state = $idle ? 'idle in transaction' : 'active';
	$node->poll_query_until('live', "SELECT state = '$state' FROM pg_stat_activity WHERE pid = $session{pid}") or die 'no session holds';
	return \%session;
}

sub let_go
{
	my ($session) = @_;
	$node->safe_psql('live', "SELECT pg_terminate_backend($session->{pid}, 60000)");
	eval { $session->{handle}->finish };
}

# What the application does meanwhile.
my $tmp = PostgreSQL::Test::Utils::tempdir();
append_to_file("$tmp/event.sql", q{
INSERT INTO widget_analytics (user_id, widget_type, event_type) VALUES ('00000000-0000-4000-8000-000000000001', 'clock', 'view');
\sleep 2 ms
});
append_to_file("$tmp/login.sql", q{
\set n random(1, 1000000000)
INSERT INTO auth.users (id) VALUES (md5('user :n :client_id')::uuid) ON CONFLICT DO NOTHING;
INSERT INTO user_sessions (id, user_id, started_at) VALUES (gen_random_uuid(), md5('user :n :client_id')::uuid, now());
UPDATE auth.users SET created_at = now() WHERE id = md5('user :n :client_id')::uuid;
UPDATE user_sessions SET ended_at = now() WHERE user_id = md5('user :n :client_id')::uuid;
\sleep 2 ms
DELETE FROM auth.users WHERE id = md5('user :n :client_id')::uuid;
});
append_to_file("$tmp/read.sql", q{
SELECT count(*) FROM widget_analytics;
SELECT count(*) FROM auth.users;
\sleep 2 ms
});

sub load_begins
{
	my %load = (out => '', err => '');
	local $ENV{PGOPTIONS} = '-c statement_timeout=5s';
	$load{handle} = IPC::Run::start([ 'pgbench', '-n', '-c', '3', '-T', '3600', '-U', 'app', '-h', $node->host, '-p', $node->port,
			map({ ('-f', "$tmp/$_.sql") } qw(event login read)), 'live' ],
		'<', \undef, '>', \$load{out}, '2>', \$load{err}, IPC::Run::timeout(300));
	$load{events} = sql('SELECT count(*) FROM widget_analytics WHERE "timestamp" > now() - interval \'1 hour\'');
	return \%load;
}

# Still going, with new rows, and not one statement failed.
sub load_goes_on
{
	my ($load, $name) = @_;
	my $seen = sql('SELECT count(*) FROM widget_analytics WHERE "timestamp" > now() - interval \'1 hour\'');
	eventually("SELECT count(*) > $seen + 20 FROM widget_analytics WHERE \"timestamp\" > now() - interval '1 hour'", "$name: events are stored");
	$load->{handle}->pump_nb;
	is($load->{err} =~ /ERROR|aborted/ ? $load->{err} : '', '', "$name: and no statement failed");
}

sub load_ends
{
	my ($load) = @_;
	$load->{handle}->kill_kill(grace => 10);
}

sub job_is_due
{
	sql(q{UPDATE dashie.job_state SET last_started = NULL, failures = 0, retry_at = NULL WHERE name = 'maintain_partitions'});
}

# The worker runs the job once more.
sub next_run
{
	my $last = sql('SELECT coalesce(max(id), 0) FROM dashie.job_run');
	job_is_due();
	$node->poll_query_until('live', "SELECT count(*) > 0 FROM dashie.job_run WHERE name = 'maintain_partitions' AND id > $last AND finished_at IS NOT NULL")
	  or die 'the job did not run';
	return sql("SELECT status FROM dashie.job_run WHERE name = 'maintain_partitions' AND id > $last ORDER BY id LIMIT 1");
}

# Runs the job until that is true: a busy machine may need more than one run.
sub run_until
{
	my ($query, $name) = @_;
	for (1 .. 30)
	{
		next_run();
		last if sql($query) eq 't';
	}
	is(sql($query), 't', $name);
}

sub last_run
{
	my ($columns) = @_;
	return sql("SELECT $columns FROM dashie.job_run WHERE name = 'maintain_partitions' AND finished_at IS NOT NULL ORDER BY id DESC LIMIT 1");
}

# Kills the worker that runs the job, at once, and waits for the server, in which
# no worker goes on yet.  Sessions of before, one of which is given, are gone then.
sub kill_worker
{
	my ($session, $when) = @_;
	job_is_due();
	$node->poll_query_until('live', "SELECT count(*) = 1 FROM dashie.job_state WHERE name = 'maintain_partitions' AND lease_pid IS NOT NULL AND $when")
	  or die 'no worker runs the job';
	my $pid = sql(q{SELECT lease_pid FROM dashie.job_state WHERE name = 'maintain_partitions'});
	sql(q{SELECT dashie.set_job('maintain_partitions', enabled => false)});
	is(kill(9, $pid), 1, 'the worker is killed');
	# not with input to psql, which may find nobody to read it
	my $gone = "SELECT count(*) FROM pg_stat_activity WHERE pid IN ($pid, $session->{pid})";
	for (1 .. 1800)
	{
		my ($out, $err) = ('', '');
		IPC::Run::run([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', $gone ], '<', \undef, '>', \$out, '2>', \$err);
		return if $out eq "0\n";
		usleep(100_000);
	}
	die 'the server did not come back';
}

sub jobs_go_on
{
	sql(q{SELECT dashie.set_job('maintain_partitions', enabled => true)});
	job_is_due();
}

sub old_partition
{
	my ($days) = @_;
	return qq{
		CREATE TABLE old_$days PARTITION OF widget_analytics FOR VALUES FROM (date_trunc('day', now()) - interval '$days days')
			TO (date_trunc('day', now()) - interval '$days days' + interval '1 day');
		INSERT INTO widget_analytics (user_id, widget_type, event_type, "timestamp")
			SELECT '00000000-0000-4000-8000-000000000001', 'clock', 'view', date_trunc('day', now()) - interval '$days days' FROM generate_series(1, 100);
	} =~ s/FROM \((date_trunc.*?days')\)\s+TO \((.*?day')\);/FROM (:'lower_$days') TO (:'upper_$days');/sr
	  =~ s/^/SELECT date_trunc('day', now()) - interval '$days days' AS lower_$days, date_trunc('day', now()) - interval '$days days' + interval '1 day' AS upper_$days \\gset\n/r;
}
my $pending = q{SELECT count(*) = 1 FROM pg_inherits WHERE inhrelid = 'old_%s'::regclass AND inhdetachpending};

sql(q{
	CREATE EXTENSION dashie;
	SELECT dashie.create_auth_stub();
	SELECT dashie.configure('maintenance_lock_timeout_ms', '100');
	SELECT dashie.configure('lock_retries', '3');
	INSERT INTO auth.users (id) VALUES ('00000000-0000-4000-8000-000000000001'), ('00000000-0000-4000-8000-000000000002');
	SELECT dashie.enable('widget_analytics');
	DROP TABLE dashie.changed_events; -- nobody counts the events here, so that no partition waits for that
	SELECT dashie.set_job('apply_retention', enabled => false)} . ';' . old_partition(50) . old_partition(45));
# by hand, with its rows: nobody's but the application's
sql('ALTER TABLE widget_analytics DETACH PARTITION old_45');
# the last day is missing
my $last_day = sql(q{SELECT partition FROM dashie.partitions ORDER BY lower_bound DESC LIMIT 1});
sql("DROP TABLE $last_day");

#
# three long transactions, and all the traffic
#
my $reader = hold_open('SELECT count(*) FROM widget_analytics');
my $people = hold_open('SELECT count(*) FROM auth.users');
my $writer = hold_open(q{UPDATE auth.users SET created_at = now() WHERE id = '00000000-0000-4000-8000-000000000002'});
my $load = load_begins();

is(sql(qq{SELECT string_agg(concat_ws('|', action, partition), ',' ORDER BY action) FROM dashie.maintain_partitions(true)
		WHERE blocked_by ~ '^pid (?:$reader->{pid}|$writer->{pid}) '}),
	"create|$last_day,remove|old_50", 'the plan names who is in the way');
like(sql(q{SELECT locks FROM dashie.maintain_partitions(true) WHERE action = 'remove'}),
	qr/^ACCESS EXCLUSIVE on public.widget_analytics, public.old_50; a job empties it first, with SHARE UPDATE EXCLUSIVE on public.widget_analytics; ACCESS EXCLUSIVE on public.old_50$/,
	'and the locks of each step');

sql('SELECT dashie.start_worker()');
is(next_run(), 'blocked', 'beside a long writer of auth.users no partition is made');
like(last_run('blocked_by'), qr/pid $writer->{pid} \(RowExclusiveLock on auth\.users\): /, 'the run says who it was');
is(last_run('longest_stall_ms > 0 AND longest_stall_ms < 5000'), 't', 'and how long others may have waited');
load_goes_on($load, 'beside three long transactions');
is(sql("SELECT to_regclass('$last_day') IS NULL AND to_regclass('old_50') IS NOT NULL"), 't', 'nothing was forced');

let_go($writer);
run_until("SELECT to_regclass('$last_day') IS NOT NULL", 'without the writer the missing partition is made, beside long readers');
run_until(sprintf($pending, 50), 'the parent is never free: the worker marks the expired one as detached');
is(sql('SELECT partition, upper_bound - lower_bound FROM dashie.partition_removal'), 'old_50|1 day', 'and has written that down');
like(last_run('blocked_by'), qr/pid (?:$reader->{pid}|$people->{pid}) .*pg_sleep/, 'who is in the way now');
is(last_run('longest_stall_ms < 5000'), 't', 'nobody can have waited for long');
load_goes_on($load, 'beside the fallback');

let_go($reader);
run_until('SELECT count(*) = 0 FROM old_50', 'without its readers the partition is emptied');
is(next_run(), 'blocked', 'but FINALIZE waits for every query from before');
like(last_run('blocked_by'), qr/pid $people->{pid} \(an older snapshot\): SELECT pg_sleep/, 'and says whose');
is(sql(q{SELECT action, partition FROM dashie.maintain_partitions(true)}), 'finalize|old_50', 'so says the plan');
load_goes_on($load, 'beside an old snapshot');

# as before, but with a snapshot that knows of the mark
let_go($people);
$people = hold_open('SELECT count(*) FROM auth.users');
run_until(q{SELECT NOT relispartition FROM pg_class WHERE relname = 'old_50'}, 'then it is a table by itself');
is(next_run(), 'blocked', 'whose DROP waits for the reader of auth.users');
like(last_run('blocked_by'), qr/pid $people->{pid} \(AccessShareLock on auth\.users\): /, 'the run says so');
is(sql(q{SELECT action, partition, locks FROM dashie.maintain_partitions(true)}),
	'remove|old_50|ACCESS EXCLUSIVE on auth.users, public.user_sessions, public.old_50', 'and the plan');
load_goes_on($load, 'beside a reader of auth.users');
let_go($people);
run_until(q{SELECT to_regclass('old_50') IS NULL}, 'then the partition goes');
run_until('SELECT count(*) = 0 FROM dashie.partition_removal', 'and is forgotten');
is(last_run('longest_stall_ms < 5000'), 't', 'again nobody can have waited for long');
load_goes_on($load, 'at the end');
load_ends($load);
is(sql('SELECT count(*) FROM old_45'), '100', 'what was detached by hand is there');

#
# kill -9 of the worker
#
sql(q{SELECT dashie.configure('lock_retries', '20')});
sql(old_partition(49));
$reader = hold_open('SELECT count(*) FROM widget_analytics', 1);
kill_worker($reader, q{EXISTS (SELECT FROM pg_inherits WHERE inhrelid = 'old_49'::regclass AND inhdetachpending)});
is(sql('SELECT partition FROM dashie.partition_removal'), 'old_49', 'a crash after the mark leaves what was written with it');
jobs_go_on();
eventually(q{SELECT to_regclass('old_49') IS NULL AND count(*) = 0 FROM dashie.partition_removal}, 'and the next worker finishes');

# the same when only the DROP is missing
sql(old_partition(48));
$reader = hold_open('SELECT count(*) FROM widget_analytics', 1);
next_run();
eventually(sprintf($pending, 48), 'the mark again');
let_go($reader);
$people = hold_open('SELECT count(*) FROM auth.users', 1);
kill_worker($people, q{EXISTS (SELECT FROM pg_class WHERE relname = 'old_48' AND NOT relispartition)});
is(sql(q{SELECT relispartition, (SELECT count(*) FROM old_48) FROM pg_class WHERE relname = 'old_48'}), 'f|0', 'a crash before the DROP leaves an empty table');
jobs_go_on();
eventually(q{SELECT to_regclass('old_48') IS NULL AND count(*) = 0 FROM dashie.partition_removal}, 'and the next worker drops it');
is(sql('SELECT count(*) FROM old_45'), '100', 'not what was detached by hand');

#
# whose a detached table is
#

# begun by somebody else: finished, and left alone
sql(q{SELECT dashie.configure('lock_retries', '1')});
sql(old_partition(47));
$reader = hold_open('SELECT count(*) FROM widget_analytics', 1);
my ($ret, $out, $err) = $node->psql('live', "SET lock_timeout = '50ms'; \nALTER TABLE widget_analytics DETACH PARTITION old_47 CONCURRENTLY", extra_params => [ '-U', 'app' ]);
like($err, qr/lock timeout/, 'somebody begins to detach, and gives up');
let_go($reader);
is(next_run(), 'succeeded', 'the job finishes that');
is(sql(q{SELECT relispartition, (SELECT count(*) FROM old_47) FROM pg_class WHERE relname = 'old_47'}), 'f|100', 'and drops nothing');

# begun by us, and renamed: kept
sql(old_partition(46));
$reader = hold_open('SELECT count(*) FROM widget_analytics', 1);
next_run();
eventually(sprintf($pending, 46), 'the mark');
let_go($reader);
sql('ALTER TABLE old_46 RENAME TO keep_46');
is(next_run(), 'succeeded', 'the job detaches it');
is(sql(q{SELECT relispartition, (SELECT count(*) FROM keep_46), (SELECT count(*) FROM dashie.partition_removal) FROM pg_class WHERE relname = 'keep_46'}),
	'f|100|0', 'and leaves it to whoever renamed it');

# an event trigger whose function belongs to somebody who is no superuser must not
# run in a superuser's session without a security context
sql(old_partition(50));
sql('CREATE FUNCTION public.spy() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$');
$node->safe_psql('live', 'CREATE EVENT TRIGGER spy ON ddl_command_start EXECUTE FUNCTION public.spy()');
$reader = hold_open('SELECT count(*) FROM widget_analytics', 1);
is(next_run(), 'blocked', 'with the owner\'s event trigger');
is(sql('SELECT count(*) FROM pg_inherits WHERE inhdetachpending'), '0', 'nothing is detached');
let_go($reader);
is(next_run(), 'succeeded', 'without the reader it is dropped as ever');
is(sql(q{SELECT to_regclass('old_50') IS NULL}), 't', 'and gone');

# a CALL never detaches
$node->safe_psql('live', 'DROP EVENT TRIGGER spy');
sql('SELECT dashie.stop_worker()');
sql(old_partition(50));
$reader = hold_open('SELECT count(*) FROM widget_analytics', 1);
for my $call (q{CALL dashie.run_job('maintain_partitions')}, q{DO $$ BEGIN CALL dashie.run_job('maintain_partitions'); END $$},
	q{BEGIN; CALL dashie.run_job('maintain_partitions'); COMMIT})
{
	($ret, $out, $err) = $node->psql('live', $call, extra_params => [ '-U', 'app' ]);
	like($err, qr/was blocked: pid $reader->{pid} /, "blocked: $call");
}
is(sql('SELECT count(*) FROM pg_inherits WHERE inhdetachpending'), '0', 'and nothing detached');
let_go($reader);

$node->stop;
done_testing();
