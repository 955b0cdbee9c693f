# Events of every type that Stripe's API knows, made of Stripe's own examples
# (t/data/README.md), through the endpoint's call: signed, as service_role, to
# whom the owner granted that call and nothing else. Then the same with Vault.
use strict;
use warnings;

use Digest::SHA qw(hmac_sha256_hex);
use File::Basename;
use IO::Uncompress::Gunzip qw(gunzip);
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $data = dirname(__FILE__) . '/data';
gunzip("$data/stripe_fixtures.json.gz" => \my $fixtures) or die 'no fixtures';
my $resources = decode_json($fixtures)->{resources};
my @types = grep { $_ ne '' } split /\n/, slurp_file("$data/stripe_event_types.txt");

my $node = PostgreSQL::Test::Cluster->new('fixtures');
$node->init;
# what the server is told to log before it runs, no function can keep out of the log
$node->append_conf('postgresql.conf', "fsync = off\nlog_statement = none\n");
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE app LOGIN BYPASSRLS;
CREATE ROLE anon NOLOGIN;
CREATE ROLE authenticated NOLOGIN;
CREATE ROLE service_role LOGIN BYPASSRLS;
CREATE DATABASE app OWNER app;
SQL
$node->safe_psql('app', 'ALTER SCHEMA public OWNER TO app');

sub psql_as
{
	my ($role, $sql) = @_;
	my ($out, $err);
	$node->psql('app', $sql, stdout => \$out, stderr => \$err, extra_params => [ '-U', $role ]);
	return ($out, $err);
}

my $ada = '00000000-0000-0000-0000-00000000000a';
my ($out, $err) = psql_as('app', <<SQL);
SET client_min_messages = warning;
CREATE EXTENSION dashie;
SELECT dashie.create_auth_stub();
INSERT INTO auth.users (id) VALUES ('$ada');
CREATE TABLE user_profiles (auth_user_id uuid NOT NULL UNIQUE REFERENCES auth.users ON DELETE CASCADE, stripe_customer_id text UNIQUE,
	stripe_subscription_id text UNIQUE, tier text NOT NULL DEFAULT 'trial', tier_started_at timestamptz, tier_expires_at timestamptz,
	subscription_status text, max_dashboards int DEFAULT 1, max_calendars int DEFAULT 2);
ALTER TABLE user_profiles ENABLE ROW LEVEL SECURITY;
INSERT INTO user_profiles (auth_user_id, stripe_customer_id) VALUES ('$ada', 'cus_QXg1o8vcGmoR32');
SELECT dashie.enable('stripe_webhook_events'), dashie.enable('abuse_patterns');
SELECT dashie.set_stripe_secrets(ARRAY['whsec_live']);
SELECT dashie.map_stripe_price('price_1PgafmB7WZ01zgkW6dKueIc5', 'pro');
SQL
is($err, '', 'an owner who is not a superuser sets it up');

# Only who is granted it may call it; then no right on any table is needed.
(undef, $err) = psql_as('service_role', "SELECT * FROM dashie.stripe_ingest('{}'::jsonb)");
like($err, qr/permission denied/, 'service_role may not ingest by itself');
psql_as('app', 'GRANT USAGE ON SCHEMA dashie TO service_role; GRANT EXECUTE ON FUNCTION dashie.stripe_ingest(bytea, text) TO service_role;
	REVOKE ALL ON stripe_webhook_events FROM service_role');
(undef, $err) = psql_as('service_role', "SELECT * FROM dashie.stripe_ingest('{}'::jsonb)");
like($err, qr/permission denied/, 'nor, with the signed call granted, the unsigned one');
(undef, $err) = psql_as('service_role', 'SELECT * FROM dashie.stripe_secret');
like($err, qr/permission denied/, 'nor read the secrets');
(undef, $err) = psql_as('app', 'SELECT * FROM dashie.stripe_secret');
like($err, qr/permission denied/, 'nor may the owner');

# The resource that an event type is about: that of its longest prefix.
sub resource
{
	my ($type) = @_;
	my @words = split /\./, $type;
	while (@words)
	{
		my $name = join('.', @words);
		foreach my $candidate ($name, $words[-1])
		{
			return $resources->{$candidate} if $resources->{$candidate};
		}
		pop @words;
	}
	return { id => 'obj_1', object => 'unknown' };
}

my $json = JSON::PP->new->canonical->ascii;
my $number = 0;
my $sql = '';
foreach my $type (@types)
{
	my $object = $type =~ /^customer\.subscription\./ ? $resources->{subscription} : resource($type);
	my $body = $json->encode({ id => 'evt_' . ++$number, object => 'event', type => $type, created => 1700000000 + $number,
		livemode => JSON::PP::true, api_version => '2026-10-28.endive', pending_webhooks => 1, data => { object => $object } });
	my $time = time;
	my $signature = hmac_sha256_hex("$time.$body", 'whsec_live');
	$body =~ s/'/''/g;
	$sql .= "SELECT status FROM dashie.stripe_ingest(convert_to('$body', 'UTF8'), 't=$time,v1=$signature');\n";
}
($out, $err) = psql_as('service_role', $sql);
is($err, '', scalar(@types) . ' event types are ingested without an error');
is(scalar(split /\n/, $out), scalar(@types), 'each has an answer');
is($node->safe_psql('app', 'SELECT count(*), count(DISTINCT event_type) FROM stripe_webhook_events'), scalar(@types) . '|' . scalar(@types),
	'each is stored');
is($node->safe_psql('app', "SELECT string_agg(DISTINCT processing_status, ' ') FROM stripe_webhook_events
	WHERE event_type !~ '^(customer[.](subscription[.]|deleted)|invoice[.]|checkout[.]session[.]completed|charge[.]dispute[.]created|radar[.]early)'"),
	'skipped', 'what is not of payments is skipped');
is($node->safe_psql('app', "SELECT string_agg(event_type, ' ') FROM stripe_webhook_events WHERE processing_status IN ('failed', 'dead')"),
	'', 'nothing failed');
is($node->safe_psql('app', "SELECT event_type, old_tier, new_tier FROM stripe_webhook_events WHERE old_tier <> new_tier"),
	'customer.subscription.created|trial|pro', 'the subscription was applied');
is($node->safe_psql('app', 'SELECT tier, stripe_subscription_id, max_dashboards FROM user_profiles'), 'pro|sub_1Pgc6rB7WZ01zgkWNy0Cn5nw|3',
	'the profile shows it');
isnt($node->safe_psql('app', "SELECT count(*) FROM stripe_webhook_events WHERE jsonb_path_exists(event_data, '\$.**.fingerprint')"), 0,
	'card fingerprints are where the fraud functions find them');

# The statement of the endpoint in the README, as it stands there.
my ($call) = slurp_file(dirname(__FILE__) . '/../README.md') =~ /await sql`(SELECT [^`]*)`/ or die 'no call in the README';
is(($call =~ s/\$\{(body|signature)\}/$1 eq 'body' ? '$1' : '$2'/ge), 2, 'the call in the README has two parameters');
my $readme_body = '{"id": "evt_readme", "type": "ping", "created": 1}';
my $now = time;
my $readme_signature = hmac_sha256_hex("$now.$readme_body", 'whsec_live');
($out, $err) = psql_as('service_role',
	"PREPARE endpoint AS $call;\nEXECUTE endpoint('$readme_body', 't=$now,v1=$readme_signature')");
like("$out$err", qr/^[0-9a-f-]{36}\|skipped$/, 'it answers with id and status');

# A superuser who calls the definer's function does not run the owner's deferred triggers as a superuser.
psql_as('app', <<'SQL');
CREATE TABLE ran_as (who text);
CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$BEGIN INSERT INTO ran_as VALUES (current_user); RETURN NULL; END$$;
CREATE CONSTRAINT TRIGGER trap AFTER INSERT OR UPDATE ON stripe_webhook_events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION trap();
CREATE CONSTRAINT TRIGGER trap AFTER INSERT OR UPDATE ON user_profiles DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION trap();
SQL
my $event = $json->encode({ id => 'evt_trap', object => 'event', type => 'customer.subscription.updated', created => 1800000000 - 50000000,
	data => { object => { %{ $resources->{subscription} }, id => 'sub_trap', customer => 'cus_QXg1o8vcGmoR32', status => 'past_due' } } });
$event =~ s/'/''/g;
$node->safe_psql('app', "SELECT dashie.stripe_ingest(event => '$event')");
is($node->safe_psql('app', 'SELECT DISTINCT who FROM ran_as'), 'app', 'deferred triggers run with the rights of the owner');

# Vault, as far as dashie uses it; a superuser says that the extension is there.
$node->safe_psql('app', <<'SQL');
DROP TRIGGER trap ON stripe_webhook_events;
DROP TRIGGER trap ON user_profiles;
CREATE SCHEMA vault;
CREATE TABLE vault.secrets (id uuid DEFAULT gen_random_uuid(), name text, secret text);
CREATE VIEW vault.decrypted_secrets AS SELECT id, name, reverse(secret) AS decrypted_secret FROM vault.secrets;
CREATE FUNCTION vault.create_secret(text, text, text) RETURNS uuid LANGUAGE sql SECURITY DEFINER AS
	'INSERT INTO vault.secrets (secret, name) VALUES (reverse($1), $2) RETURNING id';
CREATE FUNCTION vault.update_secret(uuid, text) RETURNS void LANGUAGE sql SECURITY DEFINER AS
	'UPDATE vault.secrets SET secret = reverse($2) WHERE id = $1';
GRANT USAGE ON SCHEMA vault TO app;
GRANT SELECT ON ALL TABLES IN SCHEMA vault TO app;
SET allow_system_table_mods = on;
INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
	VALUES (999999, 'supabase_vault', 10, 'vault'::regnamespace, false, '0.3');
SQL
sub ping
{
	my ($secret) = @_;
	my $time = time;
	my $body = '{"id": "evt_ping", "type": "ping", "created": 1}';
	my $signature = hmac_sha256_hex("$time.$body", $secret);
	my ($out, $err) = psql_as('service_role', "SELECT status FROM dashie.stripe_ingest('$body', 't=$time,v1=$signature')");
	return $err =~ /ERROR:\s+(.*)/ ? $1 : $out;
}
is(ping('whsec_live'), 'skipped', 'without a secret in Vault the one before counts');
(undef, $err) = psql_as('app', "SELECT dashie.set_stripe_secrets(ARRAY['whsec_vault', 'whsec_second'])");
is($err, '', 'secrets are put into Vault');
is($node->safe_psql('app', 'SELECT count(*) FROM dashie.stripe_secret'), 0, 'and nowhere else');
is(ping('whsec_vault'), 'skipped', 'and found there');
is(ping('whsec_second'), 'skipped', 'both of them');
like(ping('whsec_live'), qr/signature does not match/, 'the old one no more');
psql_as('app', "SELECT dashie.set_stripe_secrets(ARRAY['whsec_third'])");
is(ping('whsec_third'), 'skipped', 'they are replaced');
like(ping('whsec_vault'), qr/signature does not match/, 'all of them');

# No message and no statement in the log shows a secret that was refused.
psql_as('app', "SELECT dashie.set_stripe_secrets(ARRAY['whsec_leak', ''])");
psql_as('app', "SELECT dashie.stripe_verify('', '', ARRAY['whsec_leak', ''])");
unlike(slurp_file($node->logfile), qr/whsec_leak/, 'the log holds no secret');

# A dump holds none either.
psql_as('app', 'SELECT 1');
$node->safe_psql('app', "DELETE FROM pg_extension WHERE extname = 'supabase_vault'");
psql_as('app', "SELECT dashie.set_stripe_secrets(ARRAY['whsec_dumped'])");
my $dump = $node->basedir . '/app.sql';
$node->command_ok([ 'pg_dump', '-U', 'app', '--exclude-schema=vault', '-f', $dump, '-d', $node->connstr('app') ], 'the owner dumps');
my $text = slurp_file($dump);
unlike($text, qr/whsec_/, 'without secrets');
like($text, qr/price_1PgafmB7WZ01zgkW6dKueIc5/, 'but with the prices');

$node->stop;
done_testing();
