# Random histories of widget events against plain SQL: every way in, late events,
# corrections, users who leave, are marked as deleted and come back, nights that
# are missed or killed, retention in between. After every night, and often before
# it, each number is compared with what t/062_events/oracle.sql makes of the rows.
#
#   DASHIE_HISTORIES=500 DASHIE_SEED=17 prove ...   more histories, from a seed
#
# A history that fails prints its seed and leaves its script in tmp_check.
use strict;
use warnings;

use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $histories = $ENV{DASHIE_HISTORIES} // 20;
my $first_seed = $ENV{DASHIE_SEED} // 1;

my @zones = (
	[ 'UTC', '2026-03-01' ],
	[ 'Europe/Berlin', '2026-03-24' ],       # 23 hours on 29 March
	[ 'America/New_York', '2025-10-28' ],    # 25 hours on 2 November
	[ 'Asia/Kathmandu', '2026-01-10' ],      # +05:45
	[ 'America/St_Johns', '2026-03-04' ],    # -03:30, and 23 hours on 8 March
);
my @widgets = ('clock', 'photos', 'agenda', 'ai-response', 'Straße');
my @types = qw(view click configure focus active);

sub pick { return $_[ int(rand(@_)) ]; }
sub chance { return rand() < $_[0]; }

# A history as a list of scripts, each for a session of its own, and how each ends.
sub history
{
	my ($seed) = @_;
	srand($seed);
	my ($zone, $first) = @{ pick(@zones) };
	my $days = 6 + int(rand(7));
	my $keep = chance(0.6) ? 4 : 30;
	my ($day, $minute) = (0, 1);
	my (@scripts, @users, @sent, $count);
	my $stale = 0;    # users changed in a way that only a run takes notice of
	my $sql;

	my $at = sub { return "(oracle.start_of(date '$first' + $_[0], '$zone') + interval '$_[1] minutes')"; };
	my $today = "oracle.today('$zone')";
	my $quietly = sub { $sql .= "$_[0] \\g /dev/null\n"; };
	my $set_now = sub {
		($day, $minute) = @_;
		$quietly->("SELECT set_config('dashie.now', " . $at->(@_) . "::text, false)");
	};
	my $new_script = sub {
		push @scripts, [ $sql, $_[0] ] if defined $sql;
		$sql = "SET client_min_messages = warning;\nSET timezone = '" . pick('UTC', 'Asia/Tokyo') . "';\nSET datestyle = 'ISO';\n";
		$set_now->($day, $minute);
	};
	my $compute = sub { $quietly->("SELECT oracle.compute(date '$first' - 3, $today - 1, '$zone')"); };
	my $compare = sub {
		my ($a, $z) = sort { $a <=> $b } map { int(rand($day + 2)) } 1 .. 2;
		$sql .= "SELECT oracle.popularity(date '$first' - 3, $today - 1);\nSELECT oracle.days(date '$first' - 3, $today - 1);\n"
		  . "SELECT oracle.types($today - 1 - $z, $today - 1 - $a);\nSELECT oracle.popularity($today - 1 - $z, $today - 1 - $a);\n"
		  . "SELECT oracle.compared('" . pick(@widgets) . "', date '$first' - 3, $today - 2 - $a, $today - 1 - $a, $today - 1);\n";
		# stored once within the retention; and the pages are what plain SQL says
		$sql .= "SELECT 'twice: ' || id FROM public.widget_analytics WHERE \"timestamp\" > " . $at->($day - $keep, $minute) . " + interval '2 hours' GROUP BY id HAVING count(*) > 1;\n"
		  . "SELECT 'not proven: ' || v::text FROM dashie.verify_events(date '$first' - 3, $today - 1) v WHERE NOT ok;\n";
		my @steps = map { pick(@widgets) . (chance(0.5) ? '' : ':' . pick(@types)) } 1 .. 3;
		my $within = pick('1 hour', '1 day', '2 days', '40 minutes');
		$sql .= "SELECT oracle.funnel('{" . join(',', @steps) . "}', '$within', greatest($today - $z, oracle.first_kept('$zone')), greatest($today - $a, oracle.first_kept('$zone')), '$zone');\n";
	};
	my $event_time = sub {
		# most are of the last hours, some of two days, some older, a few of a clock that is ahead
		my $back = chance(0.6) ? int(rand(300)) : chance(0.8) ? int(rand(2880)) : chance(0.8) ? int(rand(6000)) : -int(rand(3000));
		# some at midnight sharp, some at the same instant as others
		return chance(0.05) ? $at->($day, 0) : $at->($day, $minute - (chance(0.3) ? 10 * int($back / 10) : $back));
	};
	my $sign_up = sub {
		my $id = sprintf('%08x-0000-4000-8000-%012x', int(rand(2**32)), ++$count);
		my $anonymous = chance(0.15) ? 'true' : 'false';
		$sql .= "INSERT INTO auth.users (id, created_at, is_anonymous) VALUES ('$id', " . $at->($day, $minute) . ", $anonymous);\n"
		  . "INSERT INTO oracle.person VALUES ('$id', $anonymous);\n";
		push @users, $id;
	};
	# some events have an id, which comes again with whatever time: random, or of version 7
	my $id = sub {
		return '' if chance(0.6);
		push @sent, sprintf('%s-%04x-%04x-8000-%012x', chance(0.5) ? sprintf('dd%06x', int(rand(2**24))) : 'dd000000', int(rand(2**16)),
			chance(0.5) ? 0x4000 : 0x7000, int(rand(2**47))) if !@sent || chance(0.6);
		return "'id', '" . pick(@sent) . "', ";
	};
	my $track = sub {
		my $user = pick(@users);
		my $events = join ', ', map {
			"jsonb_build_object(" . $id->() . "'widget_type', '" . pick(@widgets) . "', 'event_type', '" . pick(@types) . "', 'timestamp', " . $event_time->()
			  . ", 'duration_seconds', " . (chance(0.5) ? 'NULL' : int(rand(500))) . ')'
		} 1 .. 1 + int(rand(12));
		my $call = "SELECT dashie.track(id, NULL, jsonb_build_array($events)) FROM auth.users WHERE id = '$user' \\g /dev/null\n";
		$sql .= chance(0.1) ? "BEGIN;\n${call}ROLLBACK;\n" : chance(0.1) ? "BEGIN;\nSAVEPOINT s;\n${call}ROLLBACK TO s;\n${call}COMMIT;\n" : $call;
	};
	my $insert = sub {
		my $user = pick(@users);
		# where there is a partition
		$sql .= 'INSERT INTO public.widget_analytics (user_id, widget_type, event_type, duration_seconds, "timestamp")'
		  . " SELECT u.id, '" . pick(@widgets) . "', '" . pick(@types) . "', " . (chance(0.5) ? 'NULL' : int(rand(500))) . ', t'
		  . ' FROM auth.users u, unnest(ARRAY[' . join(', ', map { $event_time->() } 1 .. 1 + int(rand(6))) . ']) t'
		  . " WHERE u.id = '$user' AND EXISTS (SELECT FROM dashie.partitions WHERE t >= lower_bound AND t < upper_bound);\n";
	};
	my $some = sub { return "ctid IN (SELECT ctid FROM public.widget_analytics WHERE tableoid = w.tableoid AND hashtext(id::text) % $_[0] = 0)"; };
	my $correct = sub {
		my $few = 5 + int(rand(40));
		my $what = pick(
			'UPDATE public.widget_analytics w SET duration_seconds = coalesce(duration_seconds, 0) + 1 WHERE hashtext(w.id::text) % ' . $few . ' = 0',
			"UPDATE public.widget_analytics w SET widget_type = '" . pick(@widgets) . "' WHERE hashtext(w.id::text) % $few = 0",
			"UPDATE public.widget_analytics w SET event_data = '{}' WHERE hashtext(w.id::text) % $few = 0",
			"UPDATE public.widget_analytics w SET \"timestamp\" = \"timestamp\" + interval '7 hours' WHERE hashtext(w.id::text) % $few = 0 AND id::text NOT LIKE 'dd%' AND \"timestamp\" < " . $at->($day, 0),
			"DELETE FROM public.widget_analytics w WHERE hashtext(w.id::text) % $few = 0",
			"UPDATE public.widget_analytics w SET user_id = '" . pick(@users) . "' WHERE hashtext(w.id::text) % $few = 0 AND EXISTS (SELECT FROM auth.users WHERE id = '" . pick(@users) . "')");
		$what =~ s/user_id = '([^']+)'(.*)id = '[^']+'\)/user_id = '$1'$2id = '$1')/;
		$sql .= "$what;\n";
	};
	my $leave = sub {
		my $user = pick(@users);
		my $fate = rand();
		if ($fate < 0.4) { $sql .= "DELETE FROM auth.users WHERE id = '$user';\n"; }
		elsif ($fate < 0.6) { $sql .= "UPDATE auth.users SET deleted_at = " . $at->($day, $minute) . " WHERE id = '$user';\n"; $stale = 1; }
		elsif ($fate < 0.8) { $sql .= "UPDATE auth.users SET deleted_at = NULL WHERE id = '$user';\n"; $stale = 1; }
		else
		{
			$sql .= "UPDATE auth.users SET is_anonymous = false WHERE id = '$user';\n";
			$stale = 1;
		}
	};
	# A run that does not get to its end, and is asked again.
	my $killed = sub {
		my $fate = chance(0.15) ? 'kill' : pick('cancel', 'terminate');
		$sql .= "CREATE TRIGGER fate BEFORE INSERT OR UPDATE ON dashie.event_page FOR EACH ROW EXECUTE FUNCTION oracle.meet_fate();\n";
		$new_script->();
		$sql .= "SET oracle.fate = '$fate " . (1 + int(rand(4))) . "';\nCALL dashie.run_job('rollup_events');\n";
		$new_script->($fate);
		$sql .= "DROP TRIGGER fate ON dashie.event_page;\n";
	};

	$new_script->();
	$quietly->("SELECT dashie.configure('timezone', '$zone')");
	$quietly->("SELECT dashie.enable('widget_analytics')");
	$quietly->("SELECT dashie.set_retention('widget_analytics', '$keep days')");
	$sign_up->() for 1 .. 6;
	for my $d (0 .. $days)
	{
		for (1 .. 6 + int(rand(14)))
		{
			$set_now->($d, $minute + 1 + int(rand(90))) if $minute < 1300;
			my $what = rand();
			if ($what < 0.45) { $track->(); }
			elsif ($what < 0.75) { $insert->(); }
			elsif ($what < 0.85) { $sign_up->(); }
			elsif ($what < 0.94) { $correct->(); }
			elsif ($what < 0.99) { $leave->(); }
			else { $sql .= "TRUNCATE public.widget_analytics;\n" if chance(0.3); }
		}
		$set_now->($d + 1, 5 + int(rand(60)));
		$quietly->('SELECT dashie.maintain_partitions()') if chance(0.5);
		next if chance(0.15);    # nobody is there in this night
		if (!$stale && chance(0.5))
		{
			# a question needs no run: it sees what one would see
			$sql .= "BEGIN;\n";
			$compute->();
			$compare->();
			$sql .= "ROLLBACK;\n";
		}
		$killed->() if chance(0.25);
		$sql .= "CALL dashie.run_job('rollup_events');\n";
		$compute->();
		$stale = 0;
		$compare->();
		if (chance(0.6))
		{
			$sql .= "CALL dashie.run_job('" . pick('maintain_partitions', 'apply_retention') . "');\n";
			$compare->();
		}
	}
	push @scripts, [ $sql, undef ];
	return ("$zone, $days days, kept $keep", \@scripts);
}

my $node = PostgreSQL::Test::Cluster->new('events');
$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf('postgresql.conf', "fsync = off\njit = off\nlog_min_messages = fatal\nrestart_after_crash = on\n");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE template_history');
$node->safe_psql('template_history',
	"CREATE EXTENSION dashie; SELECT dashie.create_auth_stub();\n" . slurp_file(dirname(__FILE__) . '/062_events/oracle.sql'));

my $script_file = "$PostgreSQL::Test::Utils::tmp_check/script.sql";
my $checkpointer_pid = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'};

# What went wrong in a history, in words; nothing if all was as it should be.
sub play
{
	my ($scripts) = @_;
	my $problems = '';

	$node->safe_psql('postgres', 'CREATE DATABASE history TEMPLATE template_history');
	foreach my $script (@$scripts)
	{
		my ($sql, $fate) = @$script;
		my ($out, $err) = ('', '');
		my $checkpointer = $fate && $fate eq 'kill' ? $node->safe_psql('postgres', $checkpointer_pid) : '';
		# from a file: psql that stops at an error reads no further
		open my $handle, '>', $script_file or die "$script_file: $!";
		print $handle $sql;
		close $handle;
		my $rc = $node->psql('history', "\\i $script_file\n", stdout => \$out, stderr => \$err, on_error_stop => 1, timeout => 300);

		if ($fate)
		{
			# the trigger may have found too few rows to strike
			my $struck = $rc == ($fate eq 'cancel' ? 3 : 2);
			$err = '' if $struck;
			$rc = 0 if $err eq '';
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

for my $seed ($first_seed .. $first_seed + $histories - 1)
{
	my ($title, $scripts) = history($seed);
	my $problems = play($scripts);
	if ($problems ne '')
	{
		my $file = "$PostgreSQL::Test::Utils::tmp_check/events_$seed.sql";
		append_to_file($file, join("\\c history\n", map { $_->[0] } @$scripts));
		$problems .= "its script is $file";
	}
	is($problems, '', "seed $seed: $title");
}

$node->stop;
done_testing();
