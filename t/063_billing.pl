# Payments: whatever the order, the number and the luck of the deliveries, a
# profile ends where delivery in order, once, without a failure ends. And one
# event from twenty connections at once is one row and one change.
#
#   DASHIE_LIVES=500 DASHIE_SEED=17 prove ...   more lives, from a seed
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $lives = $ENV{DASHIE_LIVES} // 60;
my $first_seed = $ENV{DASHIE_SEED} // 1;

my $node = PostgreSQL::Test::Cluster->new('billing');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\nmax_connections = 60\nlog_min_messages = fatal\n");
$node->start;

$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION dashie;
SELECT dashie.create_auth_stub();
CREATE TABLE public.user_profiles (
	auth_user_id uuid NOT NULL UNIQUE REFERENCES auth.users ON DELETE CASCADE,
	stripe_customer_id text UNIQUE, stripe_subscription_id text UNIQUE,
	tier text NOT NULL DEFAULT 'trial', tier_started_at timestamptz, tier_expires_at timestamptz DEFAULT '2030-01-01',
	subscription_status text, max_dashboards int DEFAULT 1, max_calendars int DEFAULT 2);
SELECT dashie.enable('stripe_webhook_events');
SELECT dashie.map_stripe_price('price_basic', 'basic', 1, 4), dashie.map_stripe_price('price_pro', 'pro', 3, 9);
-- the database fails now and then
CREATE TABLE public.luck (bad boolean);
INSERT INTO public.luck VALUES (false);
CREATE FUNCTION public.bad_luck() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN IF (SELECT bad FROM public.luck) THEN RAISE EXCEPTION 'bad luck'; END IF; RETURN NEW; END$$;
CREATE TRIGGER bad_luck BEFORE UPDATE ON public.user_profiles FOR EACH ROW EXECUTE FUNCTION public.bad_luck();
SQL

sub pick { return $_[ int(rand(@_)) ]; }

# The events of one life in the order in which they happen; %%U, %%C and %%X stand
# for the user, a prefix of customers and subscriptions, and a prefix of events.
sub life
{
	my ($seed) = @_;
	my (@events, %expected);
	my $now = 1_700_000_000 + int(rand(1000));
	my $number = 0;

	my $emit = sub {
		my ($type, $object, $previous) = @_;
		$number++;
		my $data = qq({"object": $object) . ($previous ? qq(, "previous_attributes": $previous) : '') . '}';
		# ids do not tell the order
		my $id = sprintf('%%X_%04x_%d', int(rand(65536)), $number);
		push @events, qq({"id": "$id", "object": "event", "type": "$type", "created": $now, "livemode": true, "data": $data});
	};
	my $object = sub {
		my ($sub) = @_;
		return qq({"id": "$sub->{id}", "object": "subscription", "customer": "$sub->{customer}", "status": "$sub->{status}",
			"created": $sub->{created}, "items": {"data": [{"price": {"id": "$sub->{price}"}}]}});
	};

	my @subs;
	my $begin = sub {
		my $n = @subs + 1;
		my $customer = @subs && rand() < 0.3 ? "%C_c$n" : '%C_c1';
		my $sub = { id => "%C_s$n", customer => $customer, created => $now,
			status => pick(qw(active active trialing incomplete)), price => pick(qw(price_basic price_pro)) };
		push @subs, $sub;
		my $checkout = sub { $emit->('checkout.session.completed', qq({"id": "cs_$n", "object": "checkout.session",
			"mode": "subscription", "customer": "$customer", "subscription": "$sub->{id}", "client_reference_id": "%U"})) };
		my $first = rand() < 0.5;
		$checkout->() if $first;
		$emit->('customer.subscription.created', $object->($sub));
		$checkout->() if !$first;
		$sub->{tier} = $sub->{price} if $sub->{status} =~ /^(active|trialing)$/;
	};
	my $change = sub {
		my ($sub) = @_;
		my %next = (
			incomplete => [qw(active incomplete_expired)],
			trialing => [qw(active past_due paused canceled trialing)],
			active => [qw(active past_due canceled active)],
			past_due => [qw(active unpaid canceled)],
			unpaid => [qw(active canceled)],
			paused => [qw(active canceled)]);
		return if !$next{ $sub->{status} };
		my ($was, $price) = ($sub->{status}, $sub->{price});
		$sub->{status} = pick(@{ $next{$was} });
		$sub->{price} = pick(qw(price_basic price_pro)) if rand() < 0.4 && $sub->{status} ne 'canceled';
		my @previous;
		push @previous, qq("status": "$was") if $was ne $sub->{status};
		push @previous, qq("items": {"data": [{"price": {"id": "$price"}}]}) if $price ne $sub->{price};
		my $type = $sub->{status} eq 'canceled' ? 'deleted' : $sub->{status} eq 'paused' ? 'paused'
		  : $was eq 'paused' ? 'resumed' : 'updated';
		$emit->("customer.subscription.$type", $object->($sub), @previous ? '{' . join(', ', @previous) . '}' : undef);
		$sub->{tier} = $sub->{price} if $sub->{status} =~ /^(active|trialing)$/;
	};

	$begin->();
	my $steps = 2 + int(rand(8));
	for (1 .. $steps)
	{
		$now += pick(0, 0, 1, 1, 5, 3600);
		if (rand() < 0.15 && @subs < 3)
		{
			# within a second only previous_attributes tell the order, and they do not across subscriptions
			$now++;
			$begin->();
		}
		elsif (rand() < 0.02 && @subs == 1)
		{
			$now++;
			$emit->('customer.deleted', qq({"id": "%C_c1", "object": "customer"}));
			$subs[0]{status} = 'canceled' if $subs[0]{status} !~ /^(canceled|incomplete_expired)$/;
			last;
		}
		else { $change->(pick(@subs)); }
	}
	my $only = @subs == 1 ? $subs[0] : undef;
	return (\@events, $only);
}

sub deliver
{
	my ($event, $user, $prefix, $own) = @_;
	(my $text = $event) =~ s/%U/$user/g;
	$text =~ s/%C/$prefix/g;
	$text =~ s/%X/$own/g;
	$text =~ s/'/''/g;
	return "SELECT dashie.stripe_ingest(event => '$text');\n";
}

my $compare = <<'SQL';
WITH shown AS (
	SELECT right(p.auth_user_id::text, 1) AS side, substr(p.auth_user_id::text, 1, 8) AS life, regexp_replace(concat_ws('|',
		coalesce(p.stripe_customer_id, '-'), coalesce(p.stripe_subscription_id, '-'), p.tier, p.tier_started_at, p.tier_expires_at,
		coalesce(p.subscription_status, '-'), p.max_dashboards, p.max_calendars,
		(SELECT string_agg(concat_ws('/', s.subscription_id, s.customer_id, s.status, s.tier, s.price, s.watermark, s.watermark_event,
			s.tier_before, s.first_event), ' ' ORDER BY s.subscription_id)
		FROM dashie.stripe_subscription s WHERE s.user_id = p.auth_user_id)), '[ab]_', '_', 'g') AS state
	FROM public.user_profiles p)
SELECT format(E'life %s\n  in order: %s\n  shuffled: %s', a.life, a.state, b.state)
FROM shown a JOIN shown b ON b.life = a.life AND a.side = 'a' AND b.side = 'b' WHERE a.state IS DISTINCT FROM b.state;
SQL

my (@scripts, %single);
for my $seed ($first_seed .. $first_seed + $lives - 1)
{
	srand($seed);
	my ($events, $only) = life($seed);
	my $life = sprintf('%08x', $seed);
	my ($a, $b) = map { "$life-0000-4000-8000-00000000000$_" } qw(a b);
	my $sql = "SET dashie.now = '2024-01-01 00:00+00';\nINSERT INTO auth.users (id) VALUES ('$a'), ('$b');\n"
	  . "INSERT INTO user_profiles (auth_user_id) VALUES ('$a'), ('$b');\n";

	$sql .= deliver($_, $a, "$life.a_", "$life.a_") for @$events;
	# any order, some of them twice, some while the price is unknown or the profile cannot be written
	my @shuffled = map { rand() < 0.3 ? ($_, $_) : $_ } @$events;
	for (my $i = @shuffled - 1; $i > 0; $i--)
	{
		my $j = int(rand($i + 1));
		@shuffled[ $i, $j ] = @shuffled[ $j, $i ];
	}
	foreach my $event (@shuffled)
	{
		my $trouble = rand() < 0.3 ? pick(qw(price luck)) : '';
		$sql .= "SELECT dashie.map_stripe_price('price_pro', NULL), dashie.map_stripe_price('price_basic', NULL);\n" if $trouble eq 'price';
		$sql .= "UPDATE luck SET bad = true;\n" if $trouble eq 'luck';
		$sql .= deliver($event, $b, "$life.b_", "$life.b_");
		$sql .= "SELECT dashie.map_stripe_price('price_pro', 'pro', 3, 9), dashie.map_stripe_price('price_basic', 'basic', 1, 4);\n" if $trouble eq 'price';
		$sql .= "UPDATE luck SET bad = false;\n" if $trouble eq 'luck';
	}
	$sql .= "SET dashie.now = '2024-02-0$_ 00:00+00';\nSELECT dashie.stripe_process_pending(1000);\n" for 1 .. 3;
	push @scripts, $sql;
	$single{$life} = $only if $only;
}
$node->safe_psql('postgres', "SET client_min_messages = error;\n" . join('', @scripts));

is($node->safe_psql('postgres', $compare), '', "$lives lives: any order of delivery ends as delivery in order");
is( $node->safe_psql('postgres', "SELECT count(*) FROM stripe_webhook_events WHERE processing_status NOT IN ('processed', 'skipped')"),
	0, 'nothing waits');
is( $node->safe_psql('postgres', "SELECT count(*) FROM stripe_webhook_events WHERE processing_status = 'skipped' AND old_tier IS NOT NULL"),
	0, 'what was skipped names no tiers');

# What the events of a single subscription come to, computed here.
my %tiers = (price_basic => 'basic', price_pro => 'pro');
my $wrong = 0;
my %found = map { split /=/, $_, 2 } split /\n/, $node->safe_psql('postgres', <<'SQL');
SELECT substr(auth_user_id::text, 1, 8) || '=' || concat_ws('|', tier, subscription_status) FROM user_profiles WHERE auth_user_id::text LIKE '%b'
SQL
foreach my $life (sort keys %single)
{
	my $only = $single{$life};
	my $tier = $only->{tier} ? $tiers{ $only->{tier} } : 'trial';
	my $expected = $only->{status} eq 'incomplete' ? $tier : "$tier|$only->{status}";
	next if $found{$life} eq $expected;
	$wrong++;
	diag("life $life: expected $expected, found $found{$life}");
}
is($wrong, 0, scalar(keys %single) . ' lives of one subscription end with its status and the tier it granted last');

# The same event from twenty connections at once.
my $ada = 'aaaaaaaa-0000-4000-8000-000000000001';
$node->safe_psql('postgres', <<SQL);
INSERT INTO auth.users (id) VALUES ('$ada');
INSERT INTO user_profiles (auth_user_id, stripe_customer_id) VALUES ('$ada', 'cus_ada');
CREATE TABLE changes (at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS \$\$BEGIN INSERT INTO public.changes DEFAULT VALUES; RETURN NEW; END\$\$;
CREATE TRIGGER note_change AFTER UPDATE ON user_profiles FOR EACH ROW EXECUTE FUNCTION note_change();
SQL
my $event = '{"id": "evt_once", "object": "event", "type": "customer.subscription.created", "created": 1700000000, "data": {"object":'
  . '{"id": "sub_ada", "customer": "cus_ada", "status": "active", "items": {"data": [{"price": {"id": "price_pro"}}]}}}}';
my $script = $node->basedir . '/once.sql';
append_to_file($script, "SELECT pg_advisory_xact_lock_shared(4711);\nSELECT status FROM dashie.stripe_ingest(event => '$event');\n");
my ($in, $out, $err) = ('', '', '');
# the gate opens when all twenty stand before it
my $gate = IPC::Run::start(
	[ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-c', 'SELECT pg_advisory_lock(4711)', '-c', <<'SQL' ], '<', \$in, '>', \$out, '2>', \$err);
DO $$BEGIN
	FOR i IN 1 .. 600 LOOP
		EXIT WHEN (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted) = 20;
		PERFORM pg_sleep(0.05);
	END LOOP;
END$$
SQL
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND granted");
$node->command_ok([ 'pgbench', '-n', '-c', '20', '-j', '2', '-t', '1', '-f', $script, '-d', $node->connstr('postgres') ],
	'twenty connections ingest one event');
$gate->finish;
is($node->safe_psql('postgres', "SELECT count(*), min(processing_status) FROM stripe_webhook_events WHERE stripe_event_id = 'evt_once'"),
	'1|processed', 'one row');
is($node->safe_psql('postgres', 'SELECT count(*) FROM changes'), 1, 'one change of the profile');

# The events of a user all at once, while nobody knows yet whose they are: what
# the last of them to commit leaves is the whole state, without the job's help.
$node->safe_psql('postgres', <<'SQL');
TRUNCATE changes;
INSERT INTO auth.users (id) SELECT ('cccccccc-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid FROM generate_series(1, 200) AS i;
INSERT INTO user_profiles (auth_user_id) SELECT ('cccccccc-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid FROM generate_series(1, 200) AS i;
CREATE FUNCTION event(id text, type text, created int, object jsonb) RETURNS jsonb LANGUAGE sql AS
	$$SELECT jsonb_build_object('id', id, 'object', 'event', 'type', type, 'created', 1700000000 + created, 'data', jsonb_build_object('object', object))$$;
CREATE TABLE delivery AS
	SELECT row_number() OVER (ORDER BY i, md5(i || '.' || k)) AS n, event('evt_x' || i || '_' || k, type, k, '{"items": {"data": [{"price": {"id": "price_pro"}}]}}'
		|| jsonb_build_object('id', CASE WHEN type LIKE '%subscription%' THEN 'sub_x' || i ELSE 'x' END, 'customer', 'cus_x' || i, 'status', status)
		|| CASE k WHEN 1 THEN jsonb_build_object('mode', 'subscription', 'subscription', 'sub_x' || i,
			'client_reference_id', 'cccccccc-0000-4000-8000-' || lpad(i::text, 12, '0')) ELSE '{}' END) AS event
	FROM generate_series(1, 200) AS i, (VALUES (1, 'checkout.session.completed', NULL), (2, 'customer.subscription.created', 'trialing'),
		(3, 'invoice.paid', NULL), (4, 'customer.subscription.updated', 'past_due'), (5, 'customer.updated', NULL)) AS v (k, type, status);
CREATE SEQUENCE turn;
SQL
my $crowd = $node->basedir . '/crowd.sql';
append_to_file($crowd, "SELECT nextval('turn') AS n \\gset\nSELECT dashie.stripe_ingest(event => (SELECT event FROM delivery WHERE n = :n));\n");
my $crowded = "SELECT processing_status, count(*), count(user_id) FROM stripe_webhook_events WHERE stripe_event_id LIKE 'evt_x%' GROUP BY 1 ORDER BY 1";
my @crowd = ('pgbench', '-n', '-c', '10', '-j', '2', '-t', '50', '-f', $crowd, '-d', $node->connstr('postgres'));
$node->command_ok(\@crowd, 'ten connections ingest the events of 100 users');
is($node->safe_psql('postgres', $crowded), "processed|400|400\nskipped|100|100", 'none waits or failed, and all have their user');

# The same beside the job: what either leaves, because the other has it at hand, is
# the next pass's.
my $worker = $node->basedir . '/worker.sql';
append_to_file($worker, "UPDATE stripe_webhook_events SET next_attempt_at = NULL WHERE processing_status = 'pending';\nSELECT dashie.stripe_process_pending();\n");
my $beside = IPC::Run::start([ 'pgbench', '-n', '-c', '1', '-t', '40', '-f', $worker, '-d', $node->connstr('postgres') ], '<', \undef, '>', \my $o, '2>', \my $e);
$node->command_ok(\@crowd, 'and of 100 more');
$beside->finish;
$node->command_ok([ 'pgbench', '-n', '-c', '1', '-t', '1', '-f', $worker, '-d', $node->connstr('postgres') ], 'one more pass');
is($node->safe_psql('postgres', $crowded), "processed|800|800\nskipped|200|200", 'none waits or failed, and all have their user');
is($node->safe_psql('postgres', "SELECT tier, subscription_status, count(*) FROM user_profiles WHERE stripe_customer_id LIKE 'cus_x%' GROUP BY 1, 2"),
	'pro|past_due|200', 'each profile shows the last state');

# Several workers share the queue: each event is dealt with once, by one of them.
$node->safe_psql('postgres', <<'SQL');
TRUNCATE changes;
INSERT INTO auth.users (id) SELECT ('bbbbbbbb-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid FROM generate_series(1, 200) AS i;
INSERT INTO user_profiles (auth_user_id, stripe_customer_id)
	SELECT ('bbbbbbbb-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, 'cus_' || i FROM generate_series(1, 200) AS i;
INSERT INTO stripe_webhook_events (stripe_event_id, event_type, event_data)
	SELECT 'evt_q' || i, 'customer.subscription.created', jsonb_build_object('id', 'evt_q' || i, 'object', 'event',
		'type', 'customer.subscription.created', 'created', 1700000000 + i, 'data', jsonb_build_object('object',
		jsonb_build_object('id', 'sub_q' || i, 'customer', 'cus_' || i, 'status', 'active',
			'items', '{"data": [{"price": {"id": "price_basic"}}]}'::jsonb))) FROM generate_series(1, 200) AS i;
SQL
my $drain = $node->basedir . '/drain.sql';
append_to_file($drain, "SELECT dashie.stripe_process_pending(10);\n");
$node->command_ok([ 'pgbench', '-n', '-c', '4', '-j', '2', '-t', '12', '-f', $drain, '-d', $node->connstr('postgres') ],
	'four workers drain the queue');
is($node->safe_psql('postgres', "SELECT processing_status, count(*) FROM stripe_webhook_events WHERE stripe_event_id LIKE 'evt_q%' GROUP BY 1"),
	'processed|200', 'all of it');
is($node->safe_psql('postgres', 'SELECT count(*) FROM changes'), 200, 'each event changed its profile once');

# The job does the same, and commits in steps.
$node->safe_psql('postgres', "UPDATE stripe_webhook_events SET processing_status = 'pending' WHERE stripe_event_id LIKE 'evt_q%'");
$node->safe_psql('postgres', "CALL dashie.run_job('stripe_process_pending')");
is($node->safe_psql('postgres', "SELECT status, rows, steps > 1 FROM dashie.job_run WHERE name = 'stripe_process_pending' ORDER BY id DESC LIMIT 1"),
	'succeeded|200|t', 'the job works in steps');

$node->stop;
done_testing();
