# Random histories for the questions over days and for verify(), against plain
# SQL.
#
# Each history is a script made from a seed: about six weeks of users who sign
# up, come back, move, become permanent and leave, with corrections, missed
# nights and retention in between, in one time zone. What plain SQL needs is
# kept in oracle.*: every session ever, and of each person when they left. It
# shares nothing with the C code: no numbers, no pages, no sets. A few times
# each function is compared with its definition, row by row; verify() has to
# find nothing, and in the end what was tampered with.
#
#   DASHIE_HISTORIES=500 DASHIE_SEED=17 prove ...   more histories, from a seed
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $histories = $ENV{DASHIE_HISTORIES} // 30;
my $first_seed = $ENV{DASHIE_SEED} // 1;

my $node = PostgreSQL::Test::Cluster->new('questions');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\njit = off\nlog_min_messages = warning\n");
$node->start;

my $oracle = <<'SQL';
CREATE SCHEMA oracle;
CREATE TABLE oracle.person (id uuid PRIMARY KEY, created_at timestamptz, anonymous boolean, left_on date);
CREATE TABLE oracle.sessions (id uuid PRIMARY KEY, user_id uuid, started_at timestamptz, ended_at timestamptz,
	last_activity_at timestamptz, country_code text);
-- what a day is, for as far as the windows reach
CREATE TABLE oracle.days (d date PRIMARY KEY, b timestamptz, e timestamptz);
CREATE FUNCTION oracle.make_days(first date, last date, tz text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO oracle.days SELECT d::date, d::date::timestamp AT TIME ZONE tz, (d::date + 1)::timestamp AT TIME ZONE tz
	FROM generate_series(first, last, interval '1 day') d $$;
CREATE FUNCTION oracle.day_of(at timestamptz) RETURNS date LANGUAGE sql AS $$ SELECT max(d) FROM oracle.days WHERE b <= at $$;
CREATE FUNCTION oracle.today() RETURNS date LANGUAGE sql AS $$ SELECT oracle.day_of(current_setting('dashie.now')::timestamptz) $$;

-- Who was active when: made anew before each comparison.
CREATE TABLE oracle.activity (user_id uuid, day date, PRIMARY KEY (user_id, day));
CREATE TABLE oracle.country (user_id uuid PRIMARY KEY, c text);
CREATE FUNCTION oracle.prepare() RETURNS void LANGUAGE sql AS $$
	DELETE FROM oracle.activity;
	INSERT INTO oracle.activity SELECT DISTINCT s.user_id, d.d
	FROM oracle.sessions s JOIN oracle.person p ON p.id = s.user_id
		JOIN oracle.days d ON s.started_at < d.e AND coalesce(s.ended_at, s.last_activity_at, s.started_at) >= d.b
	WHERE NOT p.anonymous AND d.d <= oracle.today() AND (p.left_on IS NULL OR d.d < p.left_on);
	DELETE FROM oracle.country;
	INSERT INTO oracle.country SELECT p.id, coalesce((SELECT s.country_code FROM oracle.sessions s
		WHERE s.user_id = p.id AND s.country_code <> 'XX' ORDER BY s.started_at DESC, s.id DESC LIMIT 1), 'ZZ')
	FROM oracle.person p $$;

CREATE FUNCTION oracle.engagement(f date, t date) RETURNS TABLE (date date, country text, dau bigint, wau bigint, mau bigint, stickiness numeric)
LANGUAGE sql AS $$
	SELECT d, NULL, dau, wau, mau, round(dau::numeric / nullif(mau, 0), 4) FROM (
		SELECT d.d, (SELECT count(DISTINCT user_id) FROM oracle.activity WHERE day = d.d) AS dau,
			(SELECT count(DISTINCT user_id) FROM oracle.activity WHERE day BETWEEN d.d - 6 AND d.d) AS wau,
			(SELECT count(DISTINCT user_id) FROM oracle.activity WHERE day BETWEEN d.d - 29 AND d.d) AS mau
		FROM oracle.days d WHERE d.d BETWEEN f AND t) x $$;
CREATE FUNCTION oracle.engagement_by_country(f date, t date) RETURNS TABLE (date date, country text, dau bigint, wau bigint, mau bigint, stickiness numeric)
LANGUAGE sql AS $$
	SELECT d.d, k.c, count(DISTINCT a.user_id) FILTER (WHERE a.day = d.d), count(DISTINCT a.user_id) FILTER (WHERE a.day > d.d - 7),
		count(DISTINCT a.user_id),
		round(count(DISTINCT a.user_id) FILTER (WHERE a.day = d.d)::numeric / count(DISTINCT a.user_id), 4)
	FROM oracle.days d JOIN oracle.activity a ON a.day BETWEEN d.d - 29 AND d.d JOIN oracle.country k USING (user_id)
	WHERE d.d BETWEEN f AND t GROUP BY 1, 2 $$;
CREATE FUNCTION oracle.new_vs_returning(f date, t date)
RETURNS TABLE (date date, active bigint, new bigint, returning_users bigint, resurrected bigint) LANGUAGE sql AS $$
	SELECT d.d, count(a.user_id), count(a.user_id) FILTER (WHERE p.created_at < d.b IS NOT TRUE), count(a.user_id) FILTER (WHERE p.created_at < d.b),
		count(a.user_id) FILTER (WHERE p.created_at < (SELECT b FROM oracle.days q WHERE q.d = d.d - 30)
			AND NOT EXISTS (SELECT FROM oracle.activity x WHERE x.user_id = a.user_id AND x.day BETWEEN d.d - 30 AND d.d - 1))
	FROM oracle.days d LEFT JOIN oracle.activity a ON a.day = d.d LEFT JOIN oracle.person p ON p.id = a.user_id
	WHERE d.d BETWEEN f AND t GROUP BY 1 $$;
CREATE FUNCTION oracle.cohorts(f date, t date, period text)
RETURNS TABLE (cohort date, period_number int, users bigint, returned bigint, rate numeric) LANGUAGE sql AS $$
	WITH period AS (
		SELECT s::date AS start, (s + ('1 ' || period)::interval)::date AS next, row_number() OVER (ORDER BY s)::int AS n
		FROM generate_series(date_trunc(period, f::timestamp), oracle.today(), ('1 ' || period)::interval) s),
	finished AS (SELECT * FROM period WHERE next <= oracle.today()),
	person AS MATERIALIZED (SELECT id, left_on, oracle.day_of(created_at) AS day FROM oracle.person WHERE NOT anonymous),
	member AS MATERIALIZED (SELECT q.n, p.id FROM person p JOIN finished q ON p.day >= q.start AND p.day < q.next
		WHERE p.left_on IS NULL OR p.day < p.left_on),
	came AS MATERIALIZED (SELECT m.n AS c, q.n AS q, count(DISTINCT m.id) AS returned
		FROM member m JOIN oracle.activity a ON a.user_id = m.id JOIN finished q ON a.day >= q.start AND a.day < q.next GROUP BY 1, 2),
	counted AS (
		SELECT c.start, c.n AS c, q.n AS q, (SELECT count(*) FROM member m WHERE m.n = c.n) AS users,
			coalesce((SELECT returned FROM came WHERE came.c = c.n AND came.q = q.n), 0) AS returned
		FROM finished c JOIN finished q ON q.n >= c.n WHERE c.start <= t)
	SELECT start, q - c, users, returned, round(returned::numeric / nullif(users, 0), 4) FROM counted $$;

-- Each row that one side has and the other has not.
CREATE FUNCTION oracle.compare(f date, t date) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	pair text[];
BEGIN
	PERFORM oracle.prepare();
	FOREACH pair SLICE 1 IN ARRAY ARRAY[
		[format('dashie.engagement(%L, %L)', f, t), format('oracle.engagement(%L, %L)', f, t)],
		[format('dashie.engagement(%L, %L, true)', f, t), format('oracle.engagement_by_country(%L, %L)', f, t)],
		[format('dashie.new_vs_returning(%L, %L)', f, t), format('oracle.new_vs_returning(%L, %L)', f, t)],
		[format('dashie.retention_cohorts(%L, %L, ''day'')', f, t), format('oracle.cohorts(%L, %L, ''day'')', f, t)],
		[format('dashie.retention_cohorts(%L, %L, ''week'')', f, t), format('oracle.cohorts(%L, %L, ''week'')', f, t)],
		[format('dashie.retention_cohorts(%L, %L, ''month'')', f, t), format('oracle.cohorts(%L, %L, ''month'')', f, t)]]
	LOOP
		RETURN QUERY EXECUTE format('SELECT format(''DIFF at %%s %%s found %%s'', oracle.today(), %1$L, x) FROM (SELECT * FROM %1$s EXCEPT ALL SELECT * FROM %2$s) x'
			|| ' UNION ALL SELECT format(''DIFF at %%s %%s expected %%s'', oracle.today(), %1$L, x) FROM (SELECT * FROM %2$s EXCEPT ALL SELECT * FROM %1$s) x', pair[1], pair[2]);
	END LOOP;
END $$;

-- Tampers with one thing of one day, looks whether verify() shows that day and no other, and takes it back.
CREATE FUNCTION oracle.tamper(target date, change text, f date, t date) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	rows bigint;
	shown text;
BEGIN
	BEGIN
		EXECUTE change USING target;
		GET DIAGNOSTICS rows = ROW_COUNT;
		SELECT string_agg(day::text, ' ' ORDER BY day) INTO shown FROM dashie.verify(f, t) WHERE NOT ok;
		RAISE EXCEPTION USING ERRCODE = 'ZZ001';
	EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
		IF rows > 0 AND shown IS DISTINCT FROM target::text THEN
			RETURN NEXT format('DIFF tampered with %s (%s), shown %s', target, change, shown);
		END IF;
	END;
END $$;
SQL

my @zones = (
	[ 'UTC', '2026-02-20' ],
	[ 'Europe/Berlin', '2026-03-05' ],           # 23 hours on 29 March
	[ 'Europe/Berlin', '2025-10-01' ],           # 25 hours on 26 October
	[ 'America/New_York', '2026-02-20' ],
	[ 'Asia/Kathmandu', '2026-01-10' ],          # +05:45
	[ 'Australia/Lord_Howe', '2026-03-20' ],     # half an hour of summer time
	[ 'America/Sao_Paulo', '2018-10-15' ],       # no midnight on 4 November
	[ 'America/Havana', '2025-10-15' ],          # two midnights on 2 November
	[ 'Pacific/Apia', '2011-12-10' ],            # no 30 December
);

my @changes = (
	"UPDATE dashie.day_page SET sessions = sessions + 1 WHERE day = \$1",
	"UPDATE dashie.day_page SET ended_microseconds = ended_microseconds + 1 WHERE day = \$1",
	"UPDATE dashie.day_page SET returning_users = returning_users + 1 WHERE day = \$1",
	"UPDATE dashie.day_page SET active = active || '\\x00' WHERE day = \$1",
	"UPDATE dashie.day_page SET active = set_byte(active, length(active) - 1, 255 - get_byte(active, length(active) - 1)) WHERE day = \$1",
	"UPDATE dashie.day_page SET entries = set_byte(entries, length(entries) - 1, 255 - get_byte(entries, length(entries) - 1)) WHERE day = \$1",
	"UPDATE dashie.day_page SET dashboards = NULL WHERE day = \$1",
	"UPDATE dashie.day_page SET digest = set_byte(digest, 31, 255 - get_byte(digest, 31)) WHERE day = \$1",
	"UPDATE public.daily_metrics SET total_sessions = total_sessions + 1 WHERE date = \$1",
	"UPDATE public.daily_metrics SET returning_users = returning_users - 1 WHERE date = \$1",
	"UPDATE public.daily_metrics SET new_signups = new_signups + 1 WHERE date = \$1",
	"UPDATE public.daily_metrics SET avg_session_minutes = coalesce(avg_session_minutes, 0) + 0.01 WHERE date = \$1",
	"DELETE FROM public.daily_metrics WHERE date = \$1",
	"DELETE FROM dashie.day_page WHERE day = \$1");

sub pick { return $_[ int(rand(@_)) ]; }

sub history
{
	my ($seed) = @_;
	srand($seed);
	my ($zone, $first) = @{ pick(@zones) };
	my $days = 36 + int(rand(14));
	my $keep = rand() < 0.5 ? 5 : 90;
	my (@users, @sessions);
	my $count = 0;
	my $uuid = sub { return sprintf('%08x-0000-4000-8000-%012x', int(rand(2**32)), ++$count); };
	my $clock = sub {
		my ($day, $minute) = @_;
		return "((SELECT b FROM oracle.days WHERE d = date '$first' + $day) + interval '$minute minutes')";
	};
	my $set_now = sub {
		my ($day, $minute) = @_;
		return "SELECT set_config('dashie.now', " . $clock->($day, $minute) . "::text, false) \\g /dev/null\n";
	};
	my $sql = "SET client_min_messages = warning; SET timezone = '" . pick('UTC', 'Asia/Tokyo', 'America/Lima') . "';\n"
	  . "SELECT oracle.make_days(date '$first' - 100, date '$first' + $days + 10, '$zone') \\g /dev/null\n"
	  . "SELECT dashie.configure('timezone', '$zone') \\g /dev/null\n" . $set_now->(0, 1)
	  . "SELECT dashie.enable(t) FROM unnest(ARRAY['user_sessions', 'daily_metrics', 'geographic_stats']) t \\g /dev/null\n"
	  . "SELECT dashie.set_retention('user_sessions', '$keep days') \\g /dev/null\n";
	my $refresh = "CALL dashie.run_job('refresh_daily_metrics');\nSELECT dashie.refresh_geographic_stats() \\g /dev/null\n";

	# who comes back after exactly 29, 30 and 31 days, signed up then or before
	my @sleepers = map { { id => $uuid->(), first => 2 + int(rand(3)), gap => 29 + $_ % 3, before => int(rand(3)) } } 0 .. 5;

	for my $day (0 .. $days)
	{
		foreach my $sleeper (@sleepers)
		{
			my ($id, $visit) = ($sleeper->{id}, $clock->($day, 15));
			my $created = $clock->($sleeper->{first}, -1440 * $sleeper->{before});
			$sql .= $set_now->($day, 19);
			$sql .= "INSERT INTO auth.users (id, created_at) VALUES ('$id', $created);\n"
			  . "INSERT INTO oracle.person VALUES ('$id', $created, false);\n"
			  if $day == $sleeper->{first};
			next unless $day == $sleeper->{first} || $day == $sleeper->{first} + $sleeper->{gap};
			my $session = $uuid->();
			$sql .= "INSERT INTO $_ (id, user_id, started_at, ended_at) VALUES ('$session', '$id', $visit, $visit + interval '1 minute');\n"
			  for 'public.user_sessions', 'oracle.sessions';
		}
		foreach my $minute (sort { $a <=> $b } map { 20 + int(rand(1300)) } 1 .. 2 + int(rand(7)))
		{
			my $chance = rand();
			my @there = grep { !$_->{left} } @users;
			$sql .= $set_now->($day, $minute);
			if (@there < 4 || $chance < 0.16)
			{
				my $user = { id => $uuid->(), day => $day, anonymous => rand() < 0.2 };
				my $anonymous = $user->{anonymous} ? 'true' : 'false';
				my $created = rand() < 0.05 ? 'NULL' : $clock->($day, $minute - int(rand(2)) * int(rand(2000)));
				$sql .= "INSERT INTO auth.users (id, created_at, is_anonymous) VALUES ('$user->{id}', $created, $anonymous);\n"
				  . "INSERT INTO oracle.person VALUES ('$user->{id}', $created, $anonymous);\n";
				push @users, $user;
			}
			elsif ($chance < 0.75)
			{
				my $id = $uuid->();
				my $user = rand() < 0.5 ? pick(@there[-4 .. -1]) : pick(@there);
				my $start = $clock->($day, $minute - (rand() < 0.3 ? int(rand(2400)) : int(rand(100))));
				my $length = rand() < 0.12 ? int(rand(5000)) : int(rand(200));
				my $end = rand() < 0.7 ? "$start + interval '$length minutes'" : 'NULL';
				my $last = rand() < 0.3 ? "$start + interval '" . int($length / 2) . " minutes'" : 'NULL';
				my $country = pick("'DE'", "'FR'", "'US'", "'JP'", 'NULL', "'XX'");
				$sql .= "INSERT INTO $_ (id, user_id, started_at, ended_at, last_activity_at, country_code)"
				  . " VALUES ('$id', '$user->{id}', $start, $end, $last, $country);\n"
				  for 'public.user_sessions', 'oracle.sessions';
				push @sessions, { id => $id, user => $user, day => $day };
			}
			elsif ($chance < 0.84)
			{
				my $session = pick(grep { $_->{day} >= $day - 1 && !$_->{user}{left} } @sessions) or next;
				my $change = pick(
					"UPDATE %s SET ended_at = coalesce(ended_at, started_at) + interval '" . int(rand(3000)) . " minutes' WHERE id = '$session->{id}';\n",
					"UPDATE %s SET country_code = " . pick("'DE'", "'US'", 'NULL') . " WHERE id = '$session->{id}';\n",
					"DELETE FROM %s WHERE id = '$session->{id}';\n");
				$sql .= sprintf($change, $_) for 'public.user_sessions', 'oracle.sessions';
				@sessions = grep { $_ != $session } @sessions if $change =~ /^DELETE/;
			}
			elsif ($chance < 0.90)
			{
				my $user = pick(grep { $_->{anonymous} } @there) or next;
				$user->{anonymous} = 0;
				$sql .= "UPDATE auth.users SET is_anonymous = false WHERE id = '$user->{id}';\n"
				  . "UPDATE oracle.person SET anonymous = false WHERE id = '$user->{id}';\n";
			}
			else
			{
				my $user = pick(grep { $_->{day} < $day } @there) or next;
				$user->{left} = 1;
				# as last seen: what nobody had seen before would be gone with them
				$sql .= $refresh . "UPDATE oracle.person SET left_on = oracle.today() WHERE id = '$user->{id}';\n"
				  . (rand() < 0.7 ? "DELETE FROM auth.users WHERE id = '$user->{id}';\n"
					: "UPDATE auth.users SET deleted_at = " . $clock->($day, $minute) . " WHERE id = '$user->{id}';\n");
			}
		}
		if (rand() < 0.1)
		{
			# in the middle of the day, with changes that no refresh has seen
			$sql .= "SELECT oracle.compare(date '$first' - 3 + " . int(rand($day + 1)) . ", oracle.today());\n"
			  . "SELECT format('DIFF verify at noon: %s', v) FROM dashie.verify(date '$first', oracle.today()) v WHERE NOT ok;\n";
		}
		next if $day < $days && rand() < 0.2;    # a missed night

		$sql .= $set_now->($day + 1, 10) . "CALL dashie.run_job('refresh_daily_metrics');\n";
		if ($day == $days || rand() < 0.1)
		{
			my $from = "date '$first' - 3" . ($day == $days ? '' : ' + ' . int(rand($day + 1)));
			$sql .= "SELECT oracle.compare($from, oracle.today() - " . int(rand(3)) . ");\n"
			  . "SELECT format('DIFF verify: %s', v) FROM dashie.verify(date '$first', oracle.today() - 1) v WHERE ok IS NOT TRUE;\n"
			  . "SELECT format('DIFF daily_metrics: %s, %s', m, n) FROM dashie.new_vs_returning(date '$first', oracle.today() - 1) n"
			  . " FULL JOIN (SELECT date, returning_users AS r FROM public.daily_metrics WHERE date >= date '$first') m USING (date)"
			  . " WHERE n.returning_users IS DISTINCT FROM m.r;\n";
			for (1 .. 3)
			{
				my ($back, $window) = (int(rand($day + 2)), 1 + int(rand(45)));
				$sql .= "SELECT format('DIFF active_users back $back window $window: expected %s, found %s', e, f) FROM"
				  . " (SELECT (SELECT count(DISTINCT user_id) FROM oracle.activity WHERE day > oracle.today() - $back - $window"
				  . " AND day <= oracle.today() - $back) AS e, dashie.active_users(oracle.today() - $back, $window) AS f) x WHERE e <> f;\n";
			}
		}
		$sql .= "CALL dashie.run_job('apply_retention');\n" if rand() < 0.3;
	}
	for (1 .. 4)
	{
		$sql .= sprintf("SELECT oracle.tamper(date '%s' + %d, \$change\$%s\$change\$, '%s', oracle.today() - 1);\n",
			$first, 1 + int(rand($days - 2)), pick(@changes), $first);
	}
	return ("$zone, $days days" . ($keep < 90 ? ', retention' : ''), $sql);
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
