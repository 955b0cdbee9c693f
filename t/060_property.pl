# Random histories against the definitions in plain SQL.
#
# Each history is a script made from a seed: some days or weeks of product life
# in one time zone, with nights, missed nights, killed nights, backfills and
# retention in between, and tables that are enabled at the start, late, or never.
# The same changes are made to the real tables and to oracle.*, where plain SQL
# (060_property/oracle.sql) computes every day anew from all rows whenever dashie
# has been asked to. After every night each number is compared.
#
#   DASHIE_HISTORIES=5000 DASHIE_SEED=17 prove ...   more histories, from a seed
#
# A history that fails prints its seed, and the log has its script; DASHIE_SEED
# with DASHIE_HISTORIES=1 plays it again. DASHIE_WORKERS servers work at once.
use strict;
use warnings;

use File::Basename qw(dirname);
use List::Util qw(shuffle);
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $histories = $ENV{DASHIE_HISTORIES} // 200;
my $first_seed = $ENV{DASHIE_SEED} // 1;
my $workers = $ENV{DASHIE_WORKERS} // 2;
$workers = $histories if $workers > $histories;

my @zones = (
	[ 'UTC', '2026-03-01' ],
	[ 'Europe/Berlin', '2026-03-24' ],           # 23 hours on 29 March
	[ 'Europe/Berlin', '2025-10-21' ],           # 25 hours on 26 October
	[ 'America/New_York', '2026-03-03' ],
	[ 'Asia/Kathmandu', '2026-01-10' ],          # +05:45
	[ 'America/St_Johns', '2026-03-04' ],        # -03:30, and 23 hours on 8 March
	[ 'America/St_Johns', '2010-11-02' ],        # 00:01 of 7 November becomes 23:01 of the 6th
	[ 'Asia/Tehran', '2021-03-17' ],             # +03:30, no midnight on 22 March
	[ 'Australia/Lord_Howe', '2026-04-01' ],     # half an hour of summer time
	[ 'Antarctica/Troll', '2026-03-25' ],        # 22 hours on 29 March
	[ 'America/Sao_Paulo', '2018-10-30' ],       # no midnight on 4 November
	[ 'America/Havana', '2025-10-29' ],          # two midnights on 2 November
	[ 'Pacific/Apia', '2011-12-25', 5 ],         # no 30 December
);
my @tables = qw(user_sessions dashboards stripe_webhook_events daily_metrics geographic_stats);

sub pick { return $_[ int(rand(@_)) ]; }
sub chance { return rand() < $_[0]; }

# A history as a list of scripts, each for a session of its own: one that ends
# in a killed job is followed by another.
sub history
{
	my ($seed) = @_;
	srand($seed);
	my ($zone, $first, $left_out) = @{ pick(@zones) };
	# weeks with little traffic, so that a job takes several steps, or busy days
	my $weeks = chance(0.15);
	my $days = $weeks ? 16 + int(rand(25)) : 6 + int(rand(8));
	my $keep = chance(0.4) ? 5 : 90;
	my $profiles = chance(0.6);
	my %start = map { $_ => chance(0.7) ? 0 : chance(0.6) ? 1 + int(rand($days - 1)) : undef } @tables;
	$start{pick('daily_metrics', 'geographic_stats')} //= 0;
	my %on = map { $_ => 0 } @tables;
	my (@scripts, $sql, @users, @sessions, @dashboards);
	my ($clock_day, $clock_minute) = (0, 1);
	my $count = 0;
	my $inc = 0;
	my $uuid = sub { return sprintf('%08x-0000-4000-8000-%012x', int(rand(2**32)), ++$count); };
	my $settings = "SET client_min_messages = warning;\nSET timezone = '" . pick('UTC', 'Asia/Tokyo', 'America/Lima') . "';\n";
	# parallel workers read also small tables
	$settings .= "SET min_parallel_table_scan_size = 0;\n" if $seed % 3 == 0;

	my $at = sub {
		my ($day, $minute) = @_;
		$day++ if defined $left_out && $day >= $left_out;
		return "(oracle.start_of(date '$first' + $day, '$zone') + interval '$minute minutes')";
	};
	# the date that the zone's calendar shows, which skips days where the zone did
	my $today = "oracle.today('$zone')";
	my $bool = sub { return $on{ $_[0] } ? 'true' : 'false'; };
	my $metrics = sub { return $on{daily_metrics} || $on{geographic_stats}; };
	my $quietly = sub { $sql .= "$_[0] \\g /dev/null\n"; };
	my $set_now = sub {
		($clock_day, $clock_minute) = @_;
		$quietly->("SELECT set_config('dashie.now', " . $at->(@_) . "::text, false)");
	};
	my $new_script = sub {
		my ($fate) = @_;
		push @scripts, [ $sql, $fate ] if defined $sql;
		$sql = $settings;
		$set_now->($clock_day, $clock_minute);
	};

	# What the oracle does when dashie has brought up to date the days [from, to].
	my $compute = sub {
		my ($from, $to) = @_;
		$from //= "date '$first' - 5";
		$to = defined $to ? "least($to, $today - 1)" : "$today - 1";
		$quietly->("SELECT oracle.compute($from, $to, '$zone', " . $bool->('user_sessions') . ', ' . $bool->('dashboards') . ')');
		$quietly->("SELECT oracle.compute_users(date '$first' - 5, $today, '$zone', " . $bool->('stripe_webhook_events') . ')');
	};
	my $job = sub { return "CALL dashie.run_job('refresh_" . ($on{daily_metrics} ? 'daily_metrics' : 'geographic_stats') . "');\n"; };
	my $backfill = sub {
		# days of which retention had nothing to tell are refused once it has been there
		my $before = $keep > 30 ? 5 : 0;
		my ($from, $to) = map { "least(date '$first' - $before + $_, $today)" } sort { $a <=> $b } map { int(rand($days + 6)) } 1 .. 2;
		return ("SELECT format('CALL dashie.backfill_metrics(%L, %L)', $from, $to) \\gexec\n", $from, $to);
	};
	my $run = sub {
		return unless $metrics->();
		$sql .= $job->();
		$compute->();
	};
	# A job that does not get to its end, and is asked again.
	my $killed = sub {
		my $fate = chance(0.08) ? 'kill' : pick('cancel', 'terminate', 'terminate');
		my ($call, $from, $to) = chance(0.3) ? $backfill->() : ($job->());

		$sql .= "CREATE TRIGGER fate BEFORE INSERT OR UPDATE ON public.$_ FOR EACH ROW EXECUTE FUNCTION oracle.meet_fate();\n"
		  for grep { $on{$_} } qw(daily_metrics geographic_stats);
		$new_script->();
		$sql .= "SET oracle.fate = '$fate " . (1 + int(rand(chance(0.5) ? 3 : 20))) . "';\n$call";
		$new_script->($fate);
		$sql .= "DROP TRIGGER fate ON public.$_;\n" for grep { $on{$_} } qw(daily_metrics geographic_stats);
		$sql .= $call;
		$compute->($from, $to);
	};
	my $enable = sub {
		my @now = shuffle grep { !$on{$_} && defined $start{$_} && $start{$_} == $_[0] } @tables;
		my $unwatched = !($on{dashboards} && $metrics->());
		return unless @now;
		$quietly->("SELECT dashie.enable(t) FROM unnest('{" . join(',', @now) . "}'::text[]) t");
		$on{$_} = 1 for @now;
		# of the heartbeats that nobody watched, each dashboard has kept its last
		$sql .= "DELETE FROM oracle.heartbeat h WHERE at < (SELECT max(at) FROM oracle.heartbeat o WHERE o.dashboard_id = h.dashboard_id);\n"
		  if $unwatched && $on{dashboards} && $metrics->();
		$run->();
	};
	my $sign_up = sub {
		my ($day, $minute, $user) = @_;
		my $created = chance(0.05) ? 'NULL' : $at->($day, $minute - int(rand(2)) * int(rand(1500)));
		my $anonymous = chance(0.15) ? 'true' : 'false';

		# who comes back under the same id is somebody new: their row says so
		$user->{returned} = defined $user->{id};
		$created = $at->($day, $minute) if $user->{returned};
		$user->{id} //= $uuid->();
		$user->{inc} = ++$inc;
		$user->{dated} = $created ne 'NULL';
		$sql .= "INSERT INTO auth.users (id, email, created_at, is_anonymous, inc) VALUES ('$user->{id}', '$user->{email}', $created, $anonymous, $inc);\n"
		  . "INSERT INTO oracle.person VALUES ($inc, $anonymous);\n";
		push @users, $user;
	};
	my $profile = sub {
		my ($day, $minute, $user) = @_;
		my ($tier, $status) = (pick(qw(trial trial trial basic pro beta)), pick('NULL', "'active'", "'past_due'", "'canceled'", "'trialing'"));
		my $started = chance(0.8) ? $at->($day, $minute - int(rand(30000))) : 'NULL';
		my $expires = chance(0.3) ? $at->($day, $minute + int(rand(20000)) - 10000) : 'NULL';
		$sql .= "INSERT INTO public.user_profiles SELECT id, '$tier', $started, $expires, $status FROM auth.users WHERE inc = $user->{inc}"
		  . " ON CONFLICT (auth_user_id) DO UPDATE SET tier = excluded.tier, tier_started_at = excluded.tier_started_at,"
		  . " tier_expires_at = excluded.tier_expires_at, subscription_status = excluded.subscription_status;\n";
	};
	my $start_session = sub {
		my ($day, $minute) = @_;
		my ($id, $user) = ($uuid->(), pick(@users));
		# most are short and recent; some late, some of days, some of a clock that is ahead
		my $began = $minute - (chance(0.25) ? int(rand(2880)) : int(rand(200)));
		$began = $minute + int(rand(2000)) if chance(0.03);
		my $start = $at->($day, $began);
		my $length = chance(0.15) ? int(rand(5000)) : int(rand(300));
		my $seconds = int(rand(60)) . '.' . int(rand(1000000));
		my $end = chance(0.7) ? "$start + interval '$length minutes $seconds seconds'" : 'NULL';
		# some end at midnight sharp
		$end = 'greatest(' . $at->($day, 0) . ", $start)" if chance(0.04);
		my $last = chance(0.3) ? "$start + interval '" . int($length / 2) . " minutes'" : 'NULL';
		my $country = pick("'DE'", "'FR'", "'US'", 'NULL', "'XX'");
		my $dashboard = @dashboards && chance(0.5) ? "'" . pick(@dashboards)->{id} . "'" : 'NULL';
		my $insert = join '', map {
			my ($table, $key) = @$_;
			"INSERT INTO $table (id, $key, dashboard_id, started_at, ended_at, last_activity_at, country_code)"
			  . " SELECT '$id', " . ($key eq 'inc' ? 'inc' : 'id') . ", $dashboard, $start, $end, $last, $country"
			  . " FROM auth.users WHERE inc = $user->{inc};\n"
		} [ 'public.user_sessions', 'user_id' ], [ 'oracle.sessions', 'inc' ];
		my $fate = rand();
		$sql .= $fate < 0.1 ? "BEGIN;\n${insert}ROLLBACK;\n"
		  : $fate < 0.2 ? "BEGIN;\nSAVEPOINT s;\n${insert}ROLLBACK TO s;\n${insert}COMMIT;\n"
		  : "BEGIN;\n${insert}COMMIT;\n";
		push @sessions, { id => $id, day => $day } if $fate >= 0.1;
	};
	my $change_session = sub {
		my ($session) = @_;
		my $earlier = $session->{moved}++ ? 0 : int(rand(1000));
		my $user = pick(@users);
		my $change = pick(
			"ended_at = greatest(started_at, coalesce(ended_at, started_at) + interval '" . int(rand(3000) - 400) . " minutes')",
			"last_activity_at = greatest(started_at, coalesce(last_activity_at, started_at) + interval '" . int(rand(900)) . " minutes')",
			'country_code = ' . pick("'DE'", "'US'", 'NULL', "'JP'"),
			'ended_at = NULL',
			"started_at = started_at - interval '$earlier minutes'",
			'dashboard_id = NULL',
			'USER');
		my $where = "id = '$session->{id}' AND EXISTS (SELECT FROM public.user_sessions r WHERE r.id = '$session->{id}')";
		$where .= " AND EXISTS (SELECT FROM auth.users WHERE inc = $user->{inc})" if $change eq 'USER';
		# the oracle first: what it asks for is there before the real row moves
		for my $table ('oracle.sessions', 'public.user_sessions')
		{
			my $set = $change ne 'USER' ? $change
			  : $table =~ /oracle/ ? "inc = $user->{inc}" : "user_id = (SELECT id FROM auth.users WHERE inc = $user->{inc})";
			$sql .= "UPDATE $table SET $set WHERE $where;\n";
		}
	};
	my $leave = sub {
		my ($day, $minute) = @_;
		my $user = pick(@users);
		$sql .= "DELETE FROM auth.users WHERE inc = $user->{inc};\n";
		@users = grep { $_ != $user } @users;
		# and comes back at once: with the address, or under the id as well
		$sign_up->($day, $minute, { email => $user->{email}, id => chance(0.5) && $user->{dated} ? $user->{id} : undef })
		  if chance(0.5) || !@users;
	};
	my $correct = sub {
		# a permanent user, an earlier sign-up (of who came back under an id it is what
		# tells the two apart), an account that is there again, where its rows are
		my $user = pick(@users);
		my $change = pick(('is_anonymous = NOT is_anonymous') x 2,
			$user->{returned} ? () : "created_at = created_at - interval '" . int(rand(3000)) . " minutes'",
			$keep > 30 ? ('deleted_at = NULL') x 2 : ());
		my $where = $change =~ /deleted/ ? 'deleted_at IS NOT NULL' : "inc = $user->{inc}";
		$sql .= "UPDATE auth.users SET $change WHERE $where;\n";
	};
	my $convert = sub {
		my ($day, $minute) = @_;
		my ($id, $user) = ($uuid->(), pick(@users));
		my $when = $at->($day, $minute - int(rand(3000)));
		my $tier = pick('basic', 'pro', 'trial');
		my $status = pick('processed', 'processed', 'failed');
		$sql .= "WITH e AS (INSERT INTO public.stripe_webhook_events (stripe_event_id, event_type, user_id, old_tier, new_tier,"
		  . " event_data, processing_status) SELECT 'evt_$id', 'customer.subscription.updated', id, 'trial', '$tier',"
		  . " jsonb_build_object('created', extract(epoch FROM date_trunc('second', $when))::bigint), '$status'"
		  . " FROM auth.users WHERE inc = $user->{inc} RETURNING *)"
		  . " INSERT INTO oracle.conversion SELECT $user->{inc}, date_trunc('second', $when) FROM e"
		  . " WHERE new_tier <> 'trial' AND processing_status = 'processed';\n";
	};
	my $event = sub {
		my ($day, $minute) = @_;
		# corrections reach no day that retention has closed
		my @recent = grep { $keep > 30 || $_->{day} >= $day - 1 } @sessions;
		my ($have_sessions, $have_dashboards) = map { defined $start{$_} } qw(user_sessions dashboards);
		my $chance = rand();

		if (@users < 2 || $chance < 0.13) { $sign_up->($day, $minute, { email => "u$inc\@example.com" }); }
		elsif ($chance < 0.50) { $start_session->($day, $minute) if $have_sessions; }
		elsif ($chance < 0.67) { $change_session->(pick(@recent)) if @recent; }
		elsif ($chance < 0.73 && @recent)
		{
			my $id = pick(@recent)->{id};
			$sql .= "DELETE FROM oracle.sessions WHERE id = '$id' AND EXISTS (SELECT FROM public.user_sessions s WHERE s.id = '$id');\n"
			  . "DELETE FROM public.user_sessions WHERE id = '$id';\n";
		}
		elsif ($chance < 0.78) { $leave->($day, $minute); }
		elsif ($chance < 0.80) { $sql .= 'UPDATE auth.users SET deleted_at = ' . $at->($day, $minute) . ' WHERE inc = ' . pick(@users)->{inc} . ";\n"; }
		elsif ($chance < 0.83) { $correct->(); }
		elsif ($chance < 0.87)
		{
			my $dashboard = { id => $uuid->() };
			$sql .= "INSERT INTO public.dashboards (id, user_id, device_name) SELECT '$dashboard->{id}', id, 'tv' FROM auth.users"
			  . ' WHERE inc = ' . pick(@users)->{inc} . ";\n" if $have_dashboards;
			push @dashboards, $dashboard;
		}
		elsif ($chance < 0.92 && @dashboards && $have_dashboards)
		{
			my $id = pick(@dashboards)->{id};
			my $when = $at->($day, $minute);
			$sql .= "WITH beat AS (UPDATE public.dashboards SET last_heartbeat_at = greatest($when, last_heartbeat_at)"
			  . " WHERE id = '$id' RETURNING user_id) INSERT INTO oracle.heartbeat"
			  . " SELECT '$id', u.inc, $when FROM beat JOIN auth.users u ON u.id = beat.user_id;\n";
		}
		elsif ($chance < 0.96) { $convert->($day, $minute) if defined $start{stripe_webhook_events}; }
		elsif ($chance < 0.965 && $have_sessions && $keep > 30)
		{
			$sql .= "BEGIN;\nTRUNCATE public.user_sessions;\nTRUNCATE oracle.sessions;\nCOMMIT;\n";
			@sessions = ();
		}
		elsif ($profiles) { $profile->($day, $minute, pick(@users)); }
	};

	# Tables that are enabled late are there before, with nobody watching them.
	$new_script->();
	$quietly->("SELECT dashie.configure('timezone', '$zone')");
	$sql .= "CREATE TABLE public.user_profiles (auth_user_id uuid UNIQUE REFERENCES auth.users ON DELETE CASCADE, tier text,"
	  . " tier_started_at timestamptz, tier_expires_at timestamptz, subscription_status text);\n" if $profiles;
	for my $table (grep { defined $start{$_} } @tables[ 0 .. 2 ])
	{
		$quietly->("SELECT dashie.enable('$table')");
		$quietly->("SELECT dashie.disable('$table')") if $start{$table} > 0;
		$on{$table} = 1 if $start{$table} == 0;
	}
	$quietly->("SELECT dashie.set_retention('user_sessions', '$keep days')") if defined $start{user_sessions};
	# so that the first day is one that something is known of
	$sql .= "INSERT INTO auth.users (id, created_at, inc) VALUES ('00000000-0000-4000-8000-000000000000', " . $at->(0, 0) . ", 0);\n"
	  . "INSERT INTO oracle.person VALUES (0, false);\n";

	for my $day (0 .. $days)
	{
		# after the night, which runs at 0:10: time does not go back
		my @minutes = sort { $a <=> $b } map { 11 + int(rand(1290)) } 1 .. ($weeks ? int(rand(4)) : 2 + int(rand(16)));
		$enable->($day) if $day == 0;
		foreach my $minute (@minutes)
		{
			$set_now->($day, $minute);
			$event->($day, $minute);
			# a refresh in the middle of the day
			if ($on{geographic_stats} && chance(0.03))
			{
				$quietly->('SELECT dashie.refresh_geographic_stats()');
				$compute->();
			}
			if ($on{daily_metrics} && chance(0.02))
			{
				my ($from, $to) = map { "$today - $_" } sort { $b <=> $a } map { int(rand(4)) } 1 .. 2;
				$quietly->("SELECT dashie.refresh_daily_metrics($from, $to)");
				$compute->($from, $to);
			}
		}
		$enable->($day) if $day > 0;
		next if $day < $days && chance($weeks ? 0.7 : 0.25);    # a missed night

		$set_now->($day + 1, 10);
		next if !$metrics->();
		$killed->() if chance(0.12);
		if (chance(0.2))
		{
			my ($call, $from, $to) = $backfill->();
			$sql .= $call;
			$compute->($from, $to);
		}
		$run->();
		my $compare = "SELECT oracle.compare_daily(date '$first', $today, '$zone', "
		  . join(', ', map { $bool->($_) } @tables[ 0 .. 2 ]) . ");\n";
		$sql .= $compare if $on{daily_metrics};
		if ($on{geographic_stats} && chance(0.6))
		{
			$quietly->('SELECT dashie.refresh_geographic_stats()');
			$sql .= "SELECT oracle.compare_geographic($today, '$zone', " . $bool->('user_sessions') . ', ' . ($profiles ? 'true' : 'false') . ");\n";
		}
		for (1 .. 2)
		{
			my ($back, $window) = (int(rand($day + 2)), 1 + int(rand($weeks ? 40 : 9)));
			$sql .= "SELECT oracle.compare_active($today - $back, $window, $today, '$zone', " . $bool->('user_sessions') . ");\n";
		}
		if ($on{user_sessions} && chance(0.5))
		{
			$sql .= "CALL dashie.run_job('apply_retention');\n";
			$run->();
			$sql .= $compare if $on{daily_metrics};
		}
	}
	push @scripts, [ $sql, undef ];
	return ("$zone, $days days, " . join(' ', map { (my $n = $_) =~ s/_.*//; $n . '=' . ($start{$_} // 'never') } @tables), \@scripts);
}

my $checkpointer_pid = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'};

# What went wrong in a history, in words; nothing if all was as it should be.
sub play
{
	my ($node, $scripts) = @_;
	my $problems = '';

	$node->safe_psql('postgres', 'CREATE DATABASE history TEMPLATE template_history');
	foreach my $script (@$scripts)
	{
		my ($sql, $fate) = @$script;
		my ($out, $err) = ('', '');
		my $checkpointer = $fate && $fate eq 'kill' ? $node->safe_psql('postgres', $checkpointer_pid) : '';
		my $rc = $node->psql('history', $sql, stdout => \$out, stderr => \$err, on_error_stop => 1, timeout => 300);

		if ($fate)
		{
			# the trigger may have found too few rows to strike
			my $struck = $rc == ($fate eq 'cancel' ? 3 : 2);
			$err = '' if $struck;
			$rc = 0 if $err eq '';
			# what tells that the server has been down and is back
			return 'the server did not come back'
			  if $struck && $fate eq 'kill' && !$node->poll_query_until('postgres', "SELECT ($checkpointer_pid) <> $checkpointer");
		}
		$problems .= "psql returned $rc\n" if $rc != 0;
		$problems .= "$out$err";
		last if $problems ne '';
	}
	$node->safe_psql('postgres', 'DROP DATABASE history');
	return $problems;
}

my $oracle = slurp_file(dirname(__FILE__) . '/060_property/oracle.sql');
my @nodes;
for my $i (1 .. $workers)
{
	my $node = PostgreSQL::Test::Cluster->new("property$i");
	$node->init;
	$node->append_conf('postgresql.conf', "fsync = off\njit = off\nlog_min_messages = fatal\nrestart_after_crash = on\n");
	$node->start;
	$node->safe_psql('postgres', 'CREATE DATABASE template_history');
	$node->safe_psql('template_history', "CREATE EXTENSION dashie; SELECT dashie.create_auth_stub();\n$oracle");
	push @nodes, $node;
}

# Each worker tells its results through a file, one line a history.
my (@pids, @files);
for my $i (0 .. $workers - 1)
{
	my $file = "$PostgreSQL::Test::Utils::tmp_check/property_$i";
	push @files, $file;
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		open my $results, '>', $file or POSIX::_exit(1);
		for (my $seed = $first_seed + $i; $seed < $first_seed + $histories; $seed += $workers)
		{
			my ($title, $scripts) = history($seed);
			my $problems = eval { play($nodes[$i], $scripts) } // "died: $@";
			if ($problems ne '')
			{
				append_to_file("$file.$seed.sql", join("\\c history\n", map { $_->[0] } @$scripts));
				$problems .= "\nits script is $file.$seed.sql";
			}
			$problems =~ s/\n/\t/g;
			print $results "$seed: $title\t$problems\n";
			$results->flush;
			# a history that did not end its database has left it for whoever looks
			last if $problems =~ /^died/;
		}
		close $results;
		POSIX::_exit(0);
	}
	push @pids, $pid;
}
waitpid($_, 0) for @pids;

my $told = 0;
foreach my $line (map { split /\n/, slurp_file($_) } @files)
{
	my ($title, @problems) = split /\t/, $line;
	(my $seed = $title) =~ s/:.*//;
	$told++;
	ok(!@problems, "seed $title")
	  or diag(join("\n", @problems, "play it again with DASHIE_SEED=$seed DASHIE_HISTORIES=1"));
}
is($told, $histories, 'every history was played');

$_->stop for @nodes;
done_testing();
