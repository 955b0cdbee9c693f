# A backfill beside everything that may come in between: it is watched,
# cancelled, killed, and meets the night; as an owner who is no superuser.
#
# Where it is to stop, somebody holds the row of daily_metrics of a day. Steps
# go from the latest day back, so what is later is committed by then.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "timezone = 'UTC'\nfsync = off\njit = off\nrestart_after_crash = on\n");
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN');
$node->safe_psql('postgres', 'CREATE ROLE stranger LOGIN');
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
	  or diag($node->safe_psql('live', "TABLE dashie.progress; SELECT pid, wait_event_type, query FROM pg_stat_activity WHERE datname = 'live'"));
}

# A session that works, or waits, while the test goes on.
sub in_background
{
	my ($name, @queries) = @_;
	my %run = (out => '', err => '', name => $name);
	$run{handle} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('live') . " application_name=$name", '-U', 'app', map { ('-c', $_) } @queries ],
		'<', \undef, '>', \$run{out}, '2>', \$run{err});
	return \%run;
}

sub pid_of
{
	my ($name) = @_;
	return "(SELECT pid FROM pg_stat_activity WHERE application_name = '$name')";
}

# Holds the row of the day so many days ago.
sub hold
{
	my ($name, $back) = @_;
	my $holder = in_background($name, 'BEGIN', "SELECT FROM public.daily_metrics WHERE date = current_date - $back FOR UPDATE",
		'SELECT pg_sleep(600)');
	$node->poll_query_until('live', "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = '$name' AND query LIKE '%pg_sleep%'")
	  or die "no session holds: $holder->{err}";
	return $holder;
}

sub let_go
{
	my ($holder) = @_;
	$node->safe_psql('live', 'SELECT pg_terminate_backend(' . pid_of($holder->{name}) . ', 60000)');
	IPC::Run::finish($holder->{handle});
}

sub waits_for
{
	my ($waiter, $holder) = @_;
	eventually('SELECT ' . pid_of($holder) . ' = ANY (pg_blocking_pids(' . pid_of($waiter) . '))', "$waiter has come to where $holder is");
}

# Every day is to be computed again.
sub forget
{
	sql('UPDATE dashie.day_page SET dirty = true');
}

# Days whose row is not what plain SQL makes of the sessions.
my $wrong = q{
	SELECT d::date FROM generate_series(current_date - 400, current_date - 1, interval '1 day') d
	LEFT JOIN public.daily_metrics m ON m.date = d
	WHERE (m.total_sessions, m.returning_users) IS DISTINCT FROM (
		(SELECT count(*) FROM public.user_sessions WHERE started_at >= d AND started_at < d + interval '1 day'),
		(SELECT count(DISTINCT user_id) FROM public.user_sessions WHERE started_at < d + interval '1 day' AND ended_at >= d))};
my $fill = "CALL dashie.backfill_metrics(current_date - 400, current_date - 1)";
my $last = "(SELECT p FROM dashie.progress AS p ORDER BY id DESC LIMIT 1)";

sql(q{
	CREATE EXTENSION dashie;
	SELECT dashie.create_auth_stub();
	SELECT dashie.enable('user_sessions');
	INSERT INTO auth.users (id, created_at) SELECT md5(i::text)::uuid, now() - interval '3 years' FROM generate_series(1, 20) i;
	INSERT INTO public.user_sessions (user_id, started_at, ended_at)
		SELECT md5((1 + i % 20)::text)::uuid, t, t + i % 30 * interval '1 hour'
		FROM (SELECT i, current_date - interval '400 days' + i * interval '5 hours' AS t FROM generate_series(1, 1918) i) x;
	SELECT dashie.enable('daily_metrics');
	INSERT INTO public.daily_metrics (date) SELECT current_date - b FROM unnest('{20,200,390}'::int[]) b});
is(sql('SELECT count(*) FROM dashie.day_page'), '0', 'enable() reads no history');

my ($ret, $out, $err) = $node->psql('live', $fill, extra_params => [ '-U', 'stranger' ]);
like($err, qr/permission denied/, 'a stranger may not');

# Cancelled in the middle.
my $a = hold('holder', 20);
my $run = in_background('backfill', $fill);
waits_for('backfill', 'holder');
is(sql("SELECT what, state, done BETWEEN 1 AND 19, total, rate > 0, time_left IS NOT NULL, pid = " . pid_of('backfill') . ' FROM dashie.progress'),
	'backfill_metrics|running|t|400|t|t|t', 'its progress is seen');
$node->safe_psql('live', 'SELECT pg_cancel_backend(' . pid_of('backfill') . ')');
IPC::Run::finish($run->{handle});
like($run->{err}, qr/canceling statement due to user request/, 'it can be cancelled');
is(sql("SELECT state, done BETWEEN 1 AND 19, finished_at IS NOT NULL FROM dashie.progress"), 'cancelled|t|t', 'and says so');
my $kept = sql('SELECT count(*), min(date) > current_date - 20, max(date) = current_date - 1 FROM public.daily_metrics WHERE created_at IS NOT NULL AND total_sessions > 0');
like($kept, qr/^[1-9]\d*\|t\|t$/, 'what was committed stays, the latest days first');
is(sql("SELECT count(*) = (SELECT done FROM dashie.progress) FROM public.daily_metrics WHERE total_sessions > 0"), 't', 'as many days as it said');

# It goes on where it stopped.
let_go($a);
sql('CREATE TABLE before AS SELECT date, created_at FROM public.daily_metrics WHERE total_sessions > 0');
sql($fill);
is(sql("SELECT state, done, total FROM dashie.progress WHERE id = ($last).id"), 'succeeded|400|400', 'called again, it ends');
is(sql('SELECT count(*) FROM before JOIN public.daily_metrics USING (date, created_at)') . '|t|t', $kept, 'and computes no day twice');
is(sql($wrong), '', 'every day is right');

# No snapshot lasts from step to step.
forget();
$a = hold('holder', 20);
my $b = hold('second', 200);
my $c = hold('third', 390);
$run = in_background('backfill', "CALL dashie.backfill_metrics(current_date - 400, current_date - 10)");
waits_for('backfill', 'holder');
my $xmin = $node->safe_psql('live', 'SELECT backend_xmin FROM pg_stat_activity WHERE pid = ' . pid_of('backfill'));
# the oldest transaction is the holder's, which ends; a snapshot from then would still show it
let_go($a);
waits_for('backfill', 'second');
cmp_ok($node->safe_psql('live', 'SELECT backend_xmin FROM pg_stat_activity WHERE pid = ' . pid_of('backfill')), '>', $xmin,
	'a later step has a later snapshot');

# The night comes in between: it waits for one step, and has yesterday first.
sql("INSERT INTO public.user_sessions (user_id, started_at, ended_at) SELECT md5('1')::uuid, current_date - interval '13 hours', current_date - interval '12 hours'");
my $yesterday = sql("SELECT total_sessions + 1 FROM public.daily_metrics WHERE date = current_date - 1");
my $night = in_background('night', "CALL dashie.run_job('refresh_daily_metrics')");
waits_for('night', 'backfill');
let_go($b);
eventually("SELECT total_sessions = $yesterday FROM public.daily_metrics WHERE date = current_date - 1", 'the night is not held up by a backfill');
is(sql("SELECT state FROM dashie.progress WHERE what = 'backfill_metrics' ORDER BY id DESC LIMIT 1"), 'running', 'which goes on');
eventually('SELECT ' . pid_of('third') . ' = ANY (pg_blocking_pids(' . pid_of('night') . ') || pg_blocking_pids(' . pid_of('backfill') . '))',
	'they share the rest');
let_go($c);
IPC::Run::finish($_->{handle}) for $run, $night;
is("$run->{err}$night->{err}", '', 'both end');
is(sql("SELECT status FROM dashie.job_run WHERE name = 'refresh_daily_metrics' ORDER BY id DESC LIMIT 1"), 'succeeded', 'the job');
is(sql("SELECT string_agg(DISTINCT state, ',') FROM dashie.progress WHERE state <> 'cancelled'"), 'succeeded', 'and the backfill');
is(sql($wrong), '', 'every day is right');
is(sql("SELECT count(*) FROM dashie.day_page WHERE dirty"), '0', 'and up to date');

# A job whose process ends goes on in the next run, and in the same row.
forget();
$a = hold('holder', 20);
$night = in_background('night', "CALL dashie.run_job('refresh_daily_metrics')");
waits_for('night', 'holder');
my $row = sql("SELECT ($last).id");
$node->safe_psql('live', 'SELECT pg_terminate_backend(' . pid_of('night') . ', 60000)');
IPC::Run::finish($night->{handle});
is(sql("SELECT what, state FROM dashie.progress WHERE id = $row"), 'refresh_daily_metrics|died', 'a run that died is known');
let_go($a);
sql("CALL dashie.run_job('refresh_daily_metrics')");
is(sql("SELECT ($last).id = $row, state, done = total FROM dashie.progress WHERE id = $row"), 't|succeeded|t', 'the next run goes on in its row');
is(sql($wrong), '', 'every day is right');

# A job that has used up its time leaves the rest, and says how much is left.
forget();
sql(q{
	SELECT dashie.configure('job_time_budget_s', '1');
	CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1.1); RETURN NEW; END $$;
	CREATE TRIGGER slow BEFORE UPDATE ON public.daily_metrics FOR EACH ROW WHEN (NEW.date = current_date - 3) EXECUTE FUNCTION public.slow();
	CALL dashie.run_job('refresh_daily_metrics')});
is(sql("SELECT state, done BETWEEN 2 AND 399, time_left IS NOT NULL, finished_at IS NULL FROM dashie.progress WHERE id = ($last).id"),
	'partial|t|t|t', 'a run that used up its time');
$row = sql("SELECT ($last).id");
# a backfill knows no such limit
sql(q{UPDATE dashie.day_page SET dirty = true WHERE day >= current_date - 3});
sql($fill);
is(sql("SELECT what, state, done FROM dashie.progress WHERE id = ($last).id"), 'backfill_metrics|succeeded|400', 'a backfill works to its end');
sql(q{DROP TRIGGER slow ON public.daily_metrics; SELECT dashie.configure('job_time_budget_s', NULL)});
sql("CALL dashie.run_job('refresh_daily_metrics')");
is(sql("SELECT state FROM dashie.progress WHERE id = $row"), 'succeeded', 'and the job finds nothing left');

# kill -9: the server comes back, and a call goes on.
forget();
$a = hold('holder', 20);
$run = in_background('backfill', $fill);
waits_for('backfill', 'holder');
my $checkpointer_pid = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'};
my $checkpointer = $node->safe_psql('live', $checkpointer_pid);
kill 'KILL', sql("SELECT pid FROM dashie.progress WHERE id = ($last).id");
eval { IPC::Run::finish($_->{handle}) } for $run, $a;
$node->poll_query_until('live', "SELECT ($checkpointer_pid) <> $checkpointer") or die 'the server did not come back';
is(sql("SELECT state, done BETWEEN 1 AND 19, pid IS NOT NULL FROM dashie.progress WHERE id = ($last).id"), 'died|t|t', 'one that was killed');
sql('CREATE TABLE killed AS SELECT date, created_at FROM public.daily_metrics WHERE date > current_date - 15');
sql($fill);
is(sql("SELECT state, done FROM dashie.progress WHERE id = ($last).id"), 'succeeded|400', 'called again, it ends');
is(sql('SELECT count(*) > 0 FROM killed JOIN public.daily_metrics USING (date, created_at)'), 't', 'with what was committed before');
is(sql($wrong), '', 'every day is right');

$node->stop;
done_testing();
