# Random histories against the definitions in plain SQL.
#
# Each history is a script made from a seed: some days of product life in one
# time zone, with nights (and missed nights) in between. The same changes are
# made to the real tables and to oracle.*, where a plain SQL function computes
# every day anew each night from all rows. It shares nothing with the C code:
# no marks, no numbers, no pages. After every night each number is compared.
#
#   DASHIE_HISTORIES=500 DASHIE_SEED=17 prove ...   more histories, from a seed
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $histories = $ENV{DASHIE_HISTORIES} // 40;
my $first_seed = $ENV{DASHIE_SEED} // 1;

my $node = PostgreSQL::Test::Cluster->new('property');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\nlog_min_messages = warning\n");
$node->start;

my $oracle = <<'SQL';
SET check_function_bodies = off;
CREATE SCHEMA oracle;
CREATE TABLE oracle.sessions (id uuid PRIMARY KEY, user_id uuid, dashboard_id uuid, started_at timestamptz,
	ended_at timestamptz, last_activity_at timestamptz, country_code text);
CREATE TABLE oracle.heartbeat (dashboard_id uuid, user_id uuid, at timestamptz);
CREATE TABLE oracle.conversion (user_id uuid, at timestamptz);
-- what the finished days hold
CREATE TABLE oracle.entry (day date, user_id uuid, country text, sessions bigint, ended bigint, minutes numeric);
CREATE TABLE oracle.active (day date, user_id uuid, signed_up_at timestamptz);
CREATE TABLE oracle.dashboard (day date, user_id uuid, dashboard_id uuid);
CREATE TABLE oracle.signup (day date, user_id uuid);
CREATE TABLE oracle.converted (day date, user_id uuid);

CREATE FUNCTION oracle.start_of(d date, tz text) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
$$ SELECT d::timestamp AT TIME ZONE tz $$;
CREATE FUNCTION oracle.covered(s oracle.sessions) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
$$ SELECT coalesce(s.ended_at, s.last_activity_at, s.started_at) $$;

-- All finished days anew: what users who are there did is replaced, what those who are not did stays.
CREATE FUNCTION oracle.night(first date, today date, tz text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE d date; b timestamptz; e timestamptz;
BEGIN
	FOR d IN SELECT generate_series(first, today - 1, interval '1 day')::date LOOP
		b := oracle.start_of(d, tz); e := oracle.start_of(d + 1, tz);
		DELETE FROM oracle.entry t WHERE t.day = d AND EXISTS (SELECT FROM auth.users u WHERE u.id = t.user_id);
		INSERT INTO oracle.entry SELECT d, s.user_id, coalesce(nullif(s.country_code, 'XX'), 'ZZ'), count(*), count(s.ended_at),
				coalesce(sum(extract(epoch FROM s.ended_at - s.started_at) / 60), 0)
			FROM oracle.sessions s JOIN auth.users u ON u.id = s.user_id
			WHERE s.started_at >= b AND s.started_at < e GROUP BY 2, 3;
		DELETE FROM oracle.active t WHERE t.day = d AND EXISTS (SELECT FROM auth.users u WHERE u.id = t.user_id AND u.deleted_at IS NULL);
		INSERT INTO oracle.active SELECT DISTINCT d, s.user_id, u.created_at
			FROM oracle.sessions s JOIN auth.users u ON u.id = s.user_id
			WHERE s.started_at < e AND oracle.covered(s) >= b AND u.deleted_at IS NULL;
		DELETE FROM oracle.dashboard t WHERE t.day = d AND EXISTS (SELECT FROM auth.users u WHERE u.id = t.user_id);
		INSERT INTO oracle.dashboard SELECT d, s.user_id, s.dashboard_id
			FROM oracle.sessions s JOIN auth.users u ON u.id = s.user_id
			WHERE s.started_at < e AND oracle.covered(s) >= b AND s.dashboard_id IS NOT NULL
			UNION SELECT d, h.user_id, h.dashboard_id FROM oracle.heartbeat h JOIN auth.users u ON u.id = h.user_id
			WHERE h.at >= b AND h.at < e;
		DELETE FROM oracle.signup t WHERE t.day = d AND EXISTS (SELECT FROM auth.users u WHERE u.id = t.user_id AND u.deleted_at IS NULL);
		INSERT INTO oracle.signup SELECT d, u.id FROM auth.users u
			WHERE u.created_at >= b AND u.created_at < e AND u.is_anonymous IS NOT TRUE AND u.deleted_at IS NULL;
		DELETE FROM oracle.converted t WHERE t.day = d AND EXISTS (SELECT FROM auth.users u WHERE u.id = t.user_id AND u.deleted_at IS NULL);
		INSERT INTO oracle.converted SELECT d, c.user_id
			FROM (SELECT user_id, min(at) AS at FROM oracle.conversion GROUP BY 1) c JOIN auth.users u ON u.id = c.user_id
			WHERE c.at >= b AND c.at < e AND u.is_anonymous IS NOT TRUE AND u.deleted_at IS NULL;
	END LOOP;
END $$;

CREATE TABLE oracle.everybody (id uuid PRIMARY KEY, is_anonymous boolean);

CREATE FUNCTION oracle.compare_daily(first date, today date, tz text) RETURNS SETOF text LANGUAGE sql AS $$
	WITH expected AS (
		SELECT d::date AS date,
			(SELECT count(*) FROM oracle.signup s WHERE s.day = d)::int AS new_signups,
			(SELECT count(*) FROM oracle.active a JOIN oracle.everybody u ON u.id = a.user_id
				WHERE a.day = d AND NOT u.is_anonymous AND a.signed_up_at < oracle.start_of(d::date, tz))::int AS returning_users,
			(SELECT count(DISTINCT dashboard_id) FROM oracle.dashboard b WHERE b.day = d)::int AS active_dashboards,
			(SELECT coalesce(sum(sessions), 0) FROM oracle.entry e WHERE e.day = d)::int AS total_sessions,
			(SELECT round(sum(minutes) / nullif(sum(ended), 0), 2) FROM oracle.entry e WHERE e.day = d) AS avg_session_minutes,
			(SELECT count(*) FROM oracle.converted c WHERE c.day = d)::int AS conversions
		FROM generate_series(first, today - 1, interval '1 day') d)
	SELECT format('DIFF %s: expected %s, found %s', coalesce(x.date, m.date), x, m)
	FROM expected x FULL JOIN (SELECT date, new_signups, returning_users, active_dashboards, total_sessions,
		avg_session_minutes, trial_to_paid_conversions FROM public.daily_metrics WHERE date >= first AND date < today) m ON m.date = x.date
	WHERE (x.date, x.new_signups, x.returning_users, x.active_dashboards, x.total_sessions, x.avg_session_minutes, x.conversions)
		IS DISTINCT FROM (m.date, m.new_signups, m.returning_users, m.active_dashboards, m.total_sessions, m.avg_session_minutes,
		m.trial_to_paid_conversions) $$;

-- Users active in a window: finished days from above, today from the rows.
CREATE FUNCTION oracle.active_in(upto date, days int, today date, tz text) RETURNS TABLE (user_id uuid) LANGUAGE sql AS $$
	SELECT a.user_id FROM oracle.active a JOIN oracle.everybody u ON u.id = a.user_id
		WHERE a.day BETWEEN upto - days + 1 AND upto AND NOT u.is_anonymous
	UNION SELECT s.user_id FROM oracle.sessions s JOIN auth.users u ON u.id = s.user_id
		WHERE upto >= today AND s.started_at < oracle.start_of(today + 1, tz) AND oracle.covered(s) >= oracle.start_of(today, tz)
		AND u.is_anonymous IS NOT TRUE AND u.deleted_at IS NULL $$;

CREATE FUNCTION oracle.compare_geographic(today date, tz text) RETURNS SETOF text LANGUAGE sql AS $$
	WITH country AS (
		SELECT u.id, coalesce((SELECT s.country_code FROM oracle.sessions s WHERE s.user_id = u.id
			AND nullif(s.country_code, 'XX') IS NOT NULL ORDER BY s.started_at DESC, s.id DESC LIMIT 1), 'ZZ') AS c
		FROM auth.users u WHERE u.is_anonymous IS NOT TRUE AND u.deleted_at IS NULL),
	durations AS (
		SELECT country AS c, sum(minutes) AS minutes, sum(ended) AS ended FROM (
			SELECT country, minutes, ended FROM oracle.entry WHERE day BETWEEN today - 29 AND today - 1
			UNION ALL SELECT coalesce(nullif(s.country_code, 'XX'), 'ZZ'),
				extract(epoch FROM s.ended_at - s.started_at) / 60, 1
			FROM oracle.sessions s JOIN auth.users u ON u.id = s.user_id WHERE s.ended_at IS NOT NULL
				AND s.started_at >= oracle.start_of(today, tz) AND s.started_at < oracle.start_of(today + 1, tz)) x GROUP BY 1),
	expected AS (
		SELECT k.c, count(*)::int AS total_users,
			(count(*) FILTER (WHERE k.id IN (SELECT user_id FROM oracle.active_in(today, 30, today, tz))))::int AS active,
			(SELECT round(d.minutes / nullif(d.ended, 0), 2) FROM durations d WHERE d.c = k.c) AS average
		FROM country k GROUP BY k.c)
	SELECT format('DIFF country %s: expected %s, found %s', coalesce(x.c, g.country_code), x, g)
	FROM expected x FULL JOIN public.geographic_stats g ON g.country_code = x.c
	WHERE (x.c, x.total_users, x.active, x.average)
		IS DISTINCT FROM (g.country_code, g.total_users, g.active_users_30d, g.avg_session_duration_minutes) $$;
SQL

my @zones = (
	[ 'UTC', '2026-03-01' ],
	[ 'Europe/Berlin', '2026-03-24' ],           # 23 hours on 29 March
	[ 'Europe/Berlin', '2025-10-21' ],           # 25 hours on 26 October
	[ 'America/New_York', '2026-03-03' ],
	[ 'Asia/Kathmandu', '2026-01-10' ],          # +05:45
	[ 'Australia/Lord_Howe', '2026-04-01' ],     # half an hour of summer time
	[ 'America/Sao_Paulo', '2018-10-30' ],       # no midnight on 4 November
	[ 'America/Havana', '2025-10-29' ],          # two midnights on 2 November
	[ 'Pacific/Apia', '2011-12-25' ],            # no 30 December
);

sub pick { return $_[ int(rand(@_)) ]; }

sub history
{
	my ($seed) = @_;
	srand($seed);
	my ($zone, $first) = @{ pick(@zones) };
	my $days = 6 + int(rand(8));
	my $keep = rand() < 0.4 ? 5 : 90;
	my (@users, @sessions, @dashboards);
	my $count = 0;
	my $uuid = sub { return sprintf('%08x-0000-4000-8000-%012x', int(rand(2**32)), ++$count); };
	my $sql = "SET client_min_messages = warning; SET timezone = '" . pick('UTC', 'Asia/Tokyo', 'America/Lima') . "';\n";

	my $clock = sub {
		my ($day, $minute) = @_;
		return "(oracle.start_of(date '$first' + $day, '$zone') + interval '$minute minutes')";
	};
	# the date that the zone's calendar shows, which skips days where the zone did
	my $today = "(current_setting('dashie.now')::timestamptz AT TIME ZONE '$zone')::date";
	my $set_now = sub {
		my ($day, $minute) = @_;
		return "SELECT set_config('dashie.now', " . $clock->($day, $minute) . "::text, false) \\g /dev/null\n";
	};
	my $both = sub {
		my ($statement) = @_;
		(my $copy = $statement) =~ s/public\.user_sessions/oracle.sessions/g;
		return "$statement;\n$copy;\n";
	};

	$sql .= "SELECT dashie.configure('timezone', '$zone') \\g /dev/null\n" . $set_now->(0, 1);
	$sql .= "SELECT dashie.enable(t) FROM unnest(ARRAY["
	  . join(', ', map { "'$_'" } sort { rand() <=> 0.5 }
		  qw(user_sessions daily_metrics geographic_stats dashboards stripe_webhook_events))
	  . "]) t \\g /dev/null\n";
	$sql .= "SELECT dashie.set_retention('user_sessions', '$keep days') \\g /dev/null\n";
	$sql .= "INSERT INTO auth.users (id, created_at) VALUES ('00000000-0000-4000-8000-000000000000', " . $clock->(0, 0) . ");\n"
	  . "INSERT INTO oracle.everybody VALUES ('00000000-0000-4000-8000-000000000000', false);\n";

	for my $day (0 .. $days)
	{
		# corrections reach no day that retention has closed
		my $recent = sub { return pick(grep { $keep > 30 || $_->{day} >= $day - 1 } @sessions); };
		my @minutes = sort { $a <=> $b } map { int(rand(1300)) } 1 .. 2 + int(rand(16));
		foreach my $minute (@minutes)
		{
			my $chance = rand();
			$sql .= $set_now->($day, $minute);
			if (@users < 2 || $chance < 0.15)
			{
				my $id = $uuid->();
				my $anonymous = rand() < 0.15 ? 'true' : 'false';
				my $created = rand() < 0.05 ? 'NULL' : $clock->($day, $minute - int(rand(2)) * int(rand(1500)));
				$sql .= "INSERT INTO auth.users (id, created_at, is_anonymous) VALUES ('$id', $created, $anonymous);\n"
				  . "INSERT INTO oracle.everybody VALUES ('$id', $anonymous);\n";
				push @users, $id;
			}
			elsif ($chance < 0.55 || !@sessions)
			{
				my $id = $uuid->();
				my $user = pick(@users);
				# most are short and recent; some late, some of days
				my $start = $clock->($day, $minute - (rand() < 0.25 ? int(rand(2880)) : int(rand(200))));
				my $length = rand() < 0.15 ? int(rand(5000)) : int(rand(300));
				my $seconds = int(rand(60)) . '.' . int(rand(1000000));
				my $end = rand() < 0.7 ? "$start + interval '$length minutes $seconds seconds'" : 'NULL';
				# some end at midnight sharp
				$end = "greatest(" . $clock->($day, 0) . ", $start)" if rand() < 0.04;
				my $last = rand() < 0.3 ? "$start + interval '" . int($length / 2) . " minutes'" : 'NULL';
				my $country = pick("'DE'", "'FR'", "'US'", 'NULL', "'XX'");
				my $dashboard = @dashboards && rand() < 0.5 ? "'" . pick(@dashboards)->[0] . "'" : 'NULL';
				my $insert = $both->(
					"INSERT INTO public.user_sessions (id, user_id, dashboard_id, started_at, ended_at, last_activity_at, country_code)"
					  . " SELECT '$id', '$user', $dashboard, $start, $end, $last, $country"
					  . " WHERE EXISTS (SELECT FROM auth.users WHERE id = '$user')");
				my $fate = rand();
				if ($fate < 0.1) { $sql .= "BEGIN;\n${insert}ROLLBACK;\n"; }
				elsif ($fate < 0.2)
				{
					$sql .= "BEGIN;\nSAVEPOINT s;\n${insert}ROLLBACK TO s;\n${insert}COMMIT;\n";
					push @sessions, { id => $id, day => $day };
				}
				else { $sql .= "BEGIN;\n${insert}COMMIT;\n"; push @sessions, { id => $id, day => $day }; }
			}
			elsif ($chance < 0.72)
			{
				my $session = $recent->() or next;
				my $id = $session->{id};
				my $earlier = $session->{moved}++ ? 0 : int(rand(1000));
				my $change = pick(
					"ended_at = greatest(started_at, coalesce(ended_at, started_at) + interval '" . int(rand(3000) - 400) . " minutes')",
					"last_activity_at = greatest(started_at, coalesce(last_activity_at, started_at) + interval '" . int(rand(900)) . " minutes')",
					"country_code = " . pick("'DE'", "'US'", 'NULL', "'JP'"),
					"ended_at = NULL",
					"started_at = started_at - interval '$earlier minutes'",
					"dashboard_id = NULL");
				$sql .= $both->("UPDATE public.user_sessions SET $change WHERE id = '$id' AND EXISTS"
					  . " (SELECT FROM public. user_sessions real WHERE real.id = '$id')");
			}
			elsif ($chance < 0.77)
			{
				my $session = $recent->() or next;
				my $id = $session->{id};
				$sql .= "DELETE FROM oracle.sessions WHERE id = '$id' AND EXISTS (SELECT FROM public.user_sessions s WHERE s.id = '$id');\n"
				  . "DELETE FROM public.user_sessions WHERE id = '$id';\n";
			}
			elsif ($chance < 0.81)
			{
				$sql .= "DELETE FROM auth.users WHERE id = '" . pick(@users) . "';\n";
			}
			elsif ($chance < 0.84)
			{
				$sql .= "UPDATE auth.users SET deleted_at = " . $clock->($day, $minute) . " WHERE id = '" . pick(@users) . "';\n";
			}
			elsif ($chance < 0.88)
			{
				my ($id, $user) = ($uuid->(), pick(@users));
				$sql .= "INSERT INTO public.dashboards (id, user_id, device_name) SELECT '$id', id, 'tv' FROM auth.users WHERE id = '$user';\n";
				push @dashboards, [ $id, $user ];
			}
			elsif ($chance < 0.95 && @dashboards)
			{
				my ($id, $user) = @{ pick(@dashboards) };
				my $at = $clock->($day, $minute);
				$sql .= "WITH beat AS (UPDATE public.dashboards SET last_heartbeat_at = greatest($at, last_heartbeat_at)"
				  . " WHERE id = '$id' RETURNING user_id) INSERT INTO oracle.heartbeat SELECT '$id', user_id, $at FROM beat;\n";
			}
			else
			{
				my ($id, $user) = ($uuid->(), pick(@users));
				my $at = $clock->($day, $minute - int(rand(3000)));
				my $tier = pick('basic', 'pro', 'trial');
				my $status = pick('processed', 'processed', 'failed');
				$sql .= "WITH e AS (INSERT INTO public.stripe_webhook_events (stripe_event_id, event_type, user_id, old_tier, new_tier,"
				  . " event_data, processing_status) SELECT 'evt_$id', 'customer.subscription.updated', id, 'trial', '$tier',"
				  . " jsonb_build_object('created', extract(epoch FROM date_trunc('second', $at))::bigint), '$status'"
				  . " FROM auth.users WHERE id = '$user' RETURNING *)"
				  . " INSERT INTO oracle.conversion SELECT user_id, date_trunc('second', $at) FROM e"
				  . " WHERE new_tier <> 'trial' AND processing_status = 'processed';\n";
			}
			# a refresh in the middle of the day
			$sql .= "SELECT dashie.refresh_geographic_stats() \\g /dev/null\n"
			  . "SELECT oracle.night(date '$first' - 5, $today, '$zone') \\g /dev/null\n"
			  if rand() < 0.04;
		}
		next if $day < $days && rand() < 0.25;    # a missed night

				$sql .= $set_now->($day + 1, 10);
		$sql .= "CALL dashie.run_job('refresh_daily_metrics');\nSELECT oracle.night(date '$first' - 5, $today, '$zone') \\g /dev/null\n";
		$sql .= "SELECT oracle.compare_daily(date '$first', $today, '$zone');\n";
		if (rand() < 0.6)
		{
			$sql .= "SELECT dashie.refresh_geographic_stats() \\g /dev/null\n";
			$sql .= "SELECT oracle.compare_geographic($today, '$zone');\n";
		}
		for (1 .. 2)
		{
			my ($back, $window) = (int(rand($day + 2)), 1 + int(rand(9)));
			$sql .= "SELECT format('DIFF active_users back $back window $window: expected %s, found %s', e, f) FROM"
			  . " (SELECT (SELECT count(*) FROM oracle.active_in($today - $back, $window, $today, '$zone')) AS e,"
			  . " dashie.active_users($today - $back, $window) AS f) x WHERE e <> f;\n";
		}
		if (rand() < 0.5)
		{
			$sql .= "CALL dashie.run_job('apply_retention');\n";
			$sql .= "CALL dashie.run_job('refresh_daily_metrics');\nSELECT oracle.compare_daily(date '$first', $today, '$zone');\n";
		}
	}
	return ("$zone, $days days", $sql);
}

$node->safe_psql('postgres', 'CREATE DATABASE template_history');
$node->safe_psql('template_history', "CREATE EXTENSION dashie; SELECT dashie.create_auth_stub();\n$oracle");

for my $seed ($first_seed .. $first_seed + $histories - 1)
{
	my ($title, $sql) = history($seed);
	$node->safe_psql('postgres', 'CREATE DATABASE history TEMPLATE template_history');
	my ($out, $err) = ('', '');
	my $rc = $node->psql('history', $sql, stdout => \$out, stderr => \$err, on_error_stop => 1);
	my $ok = is("$rc$out$err", '0', "seed $seed: $title");
	if (!$ok)
	{
		diag("replay with DASHIE_SEED=$seed DASHIE_HISTORIES=1; the log has the script");
		note($sql);
	}
	$node->safe_psql('postgres', 'DROP DATABASE history');
}

$node->stop;
done_testing();
