# Marks are never lost: whatever happens to the transactions that leave them or
# rely on others', a refresh brings every number to what plain SQL says. Commits
# that hang, two-phase commit, crashes, and random sessions beside refreshes.
#
#   DASHIE_ROUNDS=20 DASHIE_SEED=17 prove ...    more random rounds, from a seed
#
# A round's sessions do the same from the same seed; how they interleave is the
# machine's choice.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $rounds = $ENV{DASHIE_ROUNDS} // 6;
my $first_seed = $ENV{DASHIE_SEED} // 1;
my $writers = 6;
my $users = 40;

my $node = PostgreSQL::Test::Cluster->new('marks');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
timezone = 'UTC'
dashie.now = '2026-03-10 12:00+00'
log_min_messages = warning
max_prepared_transactions = 30
wal_level = replica
max_wal_senders = 2
restart_after_crash = on
deadlock_timeout = 100ms
lock_timeout = 5s
END
$node->start;

my $window = "'2026-03-01', '2026-03-09'";
my $refresh = "SELECT dashie.refresh_daily_metrics($window)";

sub sql { return $node->safe_psql('postgres', "SET client_min_messages = warning;\n$_[0]"); }

# Each day's row, and the users of each window that ends with the 9th: what dashie says and what it is.
my $compare = <<'SQL';
WITH day AS (SELECT d::date AS d, d::date::timestamptz AS b, (d::date + 1)::timestamptz AS e FROM generate_series(date '2026-03-01', date '2026-03-09', interval '1 day') d),
expected AS (
	SELECT d,
		(SELECT count(*) FROM public.user_sessions s WHERE s.started_at >= b AND s.started_at < e)::int AS sessions,
		(SELECT count(DISTINCT user_id) FROM public.user_sessions s
			WHERE s.started_at < e AND coalesce(s.ended_at, s.last_activity_at, s.started_at) >= b)::int AS users,
		(SELECT count(DISTINCT dashboard_id) FROM public.user_sessions s
			WHERE s.started_at < e AND coalesce(s.ended_at, s.last_activity_at, s.started_at) >= b)::int AS dashboards,
		(SELECT round(avg(extract(epoch FROM ended_at - started_at) / 60), 2) FROM public.user_sessions s
			WHERE s.started_at >= b AND s.started_at < e AND ended_at IS NOT NULL) AS average
	FROM day)
SELECT format('%s: expected %s, found %s', d, x, m) FROM expected x
	LEFT JOIN public.daily_metrics m ON m.date = x.d
	WHERE (x.sessions, x.users, x.dashboards, x.average)
		IS DISTINCT FROM (m.total_sessions, m.returning_users, m.active_dashboards, m.avg_session_minutes)
SQL

sub is_right
{
	my ($name) = @_;
	sql($refresh);
	is(sql($compare), '', "$name: every number is that of plain SQL");
}

sub marks { return sql('SELECT count(*) FROM dashie.changed_range'); }

sub user { return sprintf('00000000-0000-4000-8000-%012x', $_[0]); }

# A session of one minute, with an own user.
my $next = 1000;
sub insert
{
	my ($day) = @_;
	my $user = user($next++ % $users);
	return "INSERT INTO public.user_sessions (user_id, dashboard_id, started_at, ended_at)"
	  . " VALUES ('$user', '$user', '2026-03-0$day 10:00+00', '2026-03-0$day 10:01+00');";
}

# psql in the background, with a script
my $scripts = PostgreSQL::Test::Utils::tempdir();
my $script_count = 0;
sub background
{
	my ($script) = @_;
	my $file = "$scripts/" . ++$script_count . '.sql';
	my %run = (out => '', err => '');
	append_to_file($file, $script);
	$run{handle} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', $file ],
		'<', \undef, '>', \$run{out}, '2>', \$run{err});
	return \%run;
}

sub finish
{
	my ($run) = @_;
	IPC::Run::finish($run->{handle});
	return $run;
}

sub await_up
{
	for (1 .. 600)
	{
		my ($rc) = $node->psql('postgres', 'SELECT 1');
		return if $rc == 0;
		usleep(100_000);
	}
	die "the server did not come up again";
}

sql(qq{
	CREATE EXTENSION dashie;
	SELECT dashie.create_auth_stub();
	INSERT INTO auth.users (id, created_at)
		SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, '2026-01-01' FROM generate_series(0, $users - 1) n;
	SELECT dashie.enable('user_sessions');
	SELECT dashie.enable('daily_metrics');
	SELECT dashie.configure('job_time_budget_s', '5');
	SELECT dashie.configure('maintenance_lock_timeout_ms', '50');
});
sql($refresh);
is(marks(), 0, 'the first refresh takes the mark over all time');

# --- a commit that hangs, for want of a standby, has relied on a mark
sql(insert(5));
is(marks(), 1, 'a mark');
$node->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'\n");
$node->reload;
$node->poll_query_until('postgres', "SELECT current_setting('synchronous_standby_names') = 'nobody'");
{
	my $hanging = background("SET synchronous_commit = on; " . insert(5));
	my $local = "SET synchronous_commit = local;";
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
	is(sql("$local SELECT count(*) FROM dashie.changed_range"), 1, 'the hanging commit relied on it');
	sql("$local $refresh");
	is(sql("$local SELECT total_sessions FROM public.daily_metrics WHERE date = '2026-03-05'"), 1, 'what hangs is not seen');
	is(sql("$local SELECT count(*) FROM dashie.changed_range"), 1, 'so the refresh put the mark back');
	$node->append_conf('postgresql.conf', "synchronous_standby_names = ''\n");
	$node->reload;
	finish($hanging);
	is_right('after a commit that hung');
	is(marks(), 0, 'and then nobody needs the mark any more');
}

# --- two-phase commit
sql(insert(4));
sql("BEGIN; " . insert(4) . insert(3) . " PREPARE TRANSACTION 'committed'");
sql("BEGIN; " . insert(4) . insert(2) . " PREPARE TRANSACTION 'rolled back'");
sql("BEGIN; SAVEPOINT s; " . insert(4) . " ROLLBACK TO s; " . insert(1) . " PREPARE TRANSACTION 'savepoint'");
is(marks(), 1, 'what is prepared is marked, and the marks are not seen');
is_right('beside prepared transactions');
is(marks(), 0, 'the refresh does not wait for them, and puts no mark back');
$node->stop('immediate');
$node->start;
is_right('after a crash beside prepared transactions');
sql("COMMIT PREPARED 'committed'");
sql("ROLLBACK PREPARED 'rolled back'");
is(marks(), 2, 'marks come with the rows');
is_right('after COMMIT PREPARED');
sql("COMMIT PREPARED 'savepoint'");
is_right('after COMMIT PREPARED with a savepoint');
sql(insert(6));
sql("BEGIN; " . insert(6) . " PREPARE TRANSACTION 'alone'");
sql($refresh);
sql("COMMIT PREPARED 'alone'");
is_right('prepared while the day was marked');

# --- crashes
sql(insert(7));
sql("SET synchronous_commit = off; " . insert(7)) for 1 .. 5;
$node->stop('immediate');
$node->start;
is_right('after a crash of commits that relied on a mark');
{
	sql(insert(7));
	my $open = background("BEGIN; $refresh; " . insert(7) . " SELECT pg_sleep(600);");
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
	sql(insert(7));
	my $pid = sql("SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
	kill 'KILL', $pid;
	finish($open);
	await_up();
	is(marks(), 2, 'a refresh that a crash ended left the mark, beside that of who could not rely on it');
	is_right('after kill -9 in the middle of a refresh');
}

# --- whoever deletes a user has no rights on anything of dashie, and another search_path
sql(q{
	CREATE ROLE auth_admin LOGIN;
	GRANT USAGE ON SCHEMA auth TO auth_admin;
	ALTER TABLE auth.users OWNER TO auth_admin;
	ALTER ROLE auth_admin SET search_path = auth;
	GRANT SELECT, REFERENCES ON auth.users TO postgres;
});
my $leaver = user(0xffff);
sql("INSERT INTO auth.users (id, created_at) VALUES ('$leaver', '2026-01-01')");
sql("INSERT INTO public.user_sessions (user_id, started_at) VALUES ('$leaver', '2026-03-08 10:00+00')");
for my $again (0, 1)
{
	# once the day is marked already, once it is not
	sql($refresh) unless $again;
	is($node->psql('postgres', "BEGIN; DELETE FROM users WHERE id = '$leaver'; " . ($again ? 'COMMIT' : 'ROLLBACK'),
		extra_params => [ '-U', 'auth_admin', '-v', 'ON_ERROR_STOP=1' ]), 0, 'a user is deleted by a role without rights');
	sql(insert(8)) unless $again;
}
is(marks(), 1, 'on the strength of the mark that was there');
# what a user leaves behind stays in the finished day; plain SQL does not know it
sql($refresh);
is(sql("SELECT m.total_sessions - count(*) FROM public.daily_metrics m, public.user_sessions s"
	. " WHERE m.date = '2026-03-08' AND s.started_at >= '2026-03-08' AND s.started_at < '2026-03-09' GROUP BY m.total_sessions"),
	1, 'the finished day keeps what the user did');

# --- random sessions beside refreshes
sub pick { return $_[ int(rand(@_)) ]; }

sub at
{
	my ($minutes) = @_;
	return sprintf("'2026-03-%02d %02d:%02d+00'", 1 + int($minutes / 1440), int($minutes / 60) % 24, $minutes % 60);
}

# One statement of writer w; mostly about its own sessions, so that few deadlock.
sub statement
{
	my ($w, $count) = @_;
	my $chance = rand();
	my $id = sub {
		my ($writer, $n) = @_;
		return sprintf('%08x-0000-4000-8000-%012x', $writer, $n);
	};
	my $old = $id->(rand() < 0.9 ? $w : int(rand($writers)), 1 + int(rand($$count + 1)));
	my $end = sub { return rand() < 0.1 ? int(rand(4000)) : int(rand(200)); };
	if ($chance < 0.6)
	{
		my @rows;
		for (1 .. (rand() < 0.2 ? 20 : 1))
		{
			my $start = int(rand(9 * 1440));
			my $upto = at($start + $end->());
			push @rows, sprintf("('%s', '%s', %s, %s, %s, %s)", $id->($w, ++$$count), user(int(rand($users))),
				rand() < 0.3 ? 'NULL' : "'" . user(int(rand($users))) . "'", at($start),
				rand() < 0.7 ? $upto : 'NULL', rand() < 0.3 ? $upto : 'NULL');
		}
		return "INSERT INTO public.user_sessions (id, user_id, dashboard_id, started_at, ended_at, last_activity_at) VALUES "
		  . join(', ', @rows) . ";\n";
	}
	return "UPDATE public.user_sessions SET last_activity_at = started_at + interval '" . $end->() . " minutes' WHERE id = '$old';\n"
	  if $chance < 0.72;
	return "UPDATE public.user_sessions SET ended_at = started_at + interval '" . $end->() . " minutes' WHERE id = '$old';\n"
	  if $chance < 0.82;
	return "UPDATE public.user_sessions SET user_id = '" . user(int(rand($users))) . "', started_at = started_at - interval '10 minutes' WHERE id = '$old';\n"
	  if $chance < 0.87;
	return "UPDATE public.user_sessions SET error_count = error_count + 1 WHERE id = '$old';\n" if $chance < 0.9;
	return "SET LOCAL lock_timeout = '20ms'; TRUNCATE public.user_sessions;\n" if $chance < 0.901;
	return "DELETE FROM public.user_sessions WHERE id = '$old';\n";
}

sub writer
{
	my ($w, $seed) = @_;
	my $count = 0;
	my $sql = "SET client_min_messages = error;\nSET dashie.now = '2026-03-10 12:00+00';\n";
	for my $transaction (1 .. 120)
	{
		my $chance = rand();
		my $some = sub { return join('', map { statement($w, \$count) } 1 .. 1 + int(rand(3))); };
		if ($chance < 0.4) { $sql .= statement($w, \$count); next; }
		$sql .= "BEGIN;\n" . (rand() < 0.2 ? "SET LOCAL synchronous_commit = off;\n" : '') . $some->();
		$sql .= "SAVEPOINT s;\n" . $some->() . pick("ROLLBACK TO s;\n", "RELEASE s;\n") . $some->() if rand() < 0.3;
		$sql .= pick("SELECT dashie.active_users('2026-03-09', 5);\n", "$refresh;\n") . $some->() if rand() < 0.05;
		$sql .= "SELECT pg_sleep(0.02);\n" if rand() < 0.1;
		if (rand() < 0.1)
		{
			my $name = "$seed $w $transaction";
			$sql .= "PREPARE TRANSACTION '$name';\n" . $some->() . pick("COMMIT", "COMMIT", "ROLLBACK") . " PREPARED '$name';\n";
		}
		else { $sql .= rand() < 0.85 ? "COMMIT;\n" : "ROLLBACK;\n"; }
		$sql .= "\\c\n" if rand() < 0.05;
	}
	return $sql;
}

sub refresher
{
	my $sql = "SET client_min_messages = error;\n";
	for (1 .. 60)
	{
		my $chance = rand();
		$sql .= $chance < 0.5 ? "$refresh;\n"
		  : $chance < 0.65 ? "BEGIN; $refresh; ROLLBACK;\n"
		  : $chance < 0.75 ? "BEGIN; SAVEPOINT s; $refresh; ROLLBACK TO s; SELECT pg_sleep(0.01); $refresh; COMMIT;\n"
		  : $chance < 0.85 ? "BEGIN; $refresh; SELECT pg_sleep(0.03); COMMIT;\n"
		  : "CALL dashie.run_job('refresh_daily_metrics');\n";
		$sql .= "SELECT pg_sleep(" . rand(0.03) . ");\n";
	}
	return $sql;
}

# At any time, in one snapshot: the users of a window, by pages and marks, and by the rows.
sub asker
{
	my $sql = "SET client_min_messages = error;\n";
	for (1 .. 120)
	{
		my $days = 1 + int(rand(9));
		my $from = sprintf("'2026-03-%02d'", 10 - $days);
		# a snapshot does not see what a later TRUNCATE removed: it is not to happen in between
		$sql .= "BEGIN ISOLATION LEVEL REPEATABLE READ;\nLOCK TABLE public.user_sessions IN ACCESS SHARE MODE;\n"
		  . "SELECT format('DIFF of $days days: expected %s, found %s', e, f) FROM (SELECT"
		  . " dashie.active_users('2026-03-09', $days) AS f, (SELECT count(DISTINCT user_id) FROM public.user_sessions"
		  . " WHERE started_at < '2026-03-10' AND coalesce(ended_at, last_activity_at, started_at) >= $from) AS e) x WHERE e <> f;\nCOMMIT;\n"
		  . "SELECT pg_sleep(" . rand(0.02) . ");\n";
	}
	return $sql;
}

# what the deleted user left behind would stay in the numbers
sql("DELETE FROM public.user_sessions; DELETE FROM dashie.day_page");
sql($refresh);
for my $seed ($first_seed .. $first_seed + $rounds - 1)
{
	srand($seed);
	my @scripts = map { writer($_, $seed) } 0 .. $writers - 1;
	my $crash = $seed % 3 == 0;
	my @runs = map { background($_) } @scripts, refresher(), refresher(), asker();
	if ($crash)
	{
		usleep(200_000 + rand(600_000));
		my $pid = sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY pid LIMIT 1");
		kill 'KILL', $pid if $pid;
	}
	my $asked = $runs[-1];
	finish($_) foreach @runs;
	await_up();
	foreach my $name (split /\n/, sql('SELECT gid FROM pg_prepared_xacts'))
	{
		sql(pick('COMMIT', 'ROLLBACK') . " PREPARED '$name'");
	}
	is($asked->{out} =~ s/^(?!DIFF).*\n//gmr, '', "seed $seed: in any snapshot, active_users() is what the rows say");
	is_right("seed $seed" . ($crash ? ', with a crash' : ''));
	is(sql($refresh), 0, "seed $seed: and nothing is left to do");
	is(marks(), 0, "seed $seed: no mark is left");
	my %errors;
	foreach my $run (@runs)
	{
		$errors{$1}++ while $run->{err} =~ /ERROR:\s+(.*)/g;
	}
	note("seed $seed: $errors{$_} x $_") foreach sort keys %errors;
	sql("DELETE FROM public.user_sessions");
	sql($refresh);
}

$node->stop;
done_testing();
