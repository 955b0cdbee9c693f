# As on Supabase: an owner who is not a superuser, API roles, default
# privileges that give everything away, and users that Auth deletes.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('supabase');
$node->init;
$node->start;

my $ada = '00000000-0000-0000-0000-00000000000a';
my $bob = '00000000-0000-0000-0000-00000000000b';

$node->safe_psql('postgres', <<'SQL');
CREATE ROLE app LOGIN CREATEROLE BYPASSRLS;
CREATE ROLE anon NOLOGIN NOINHERIT;
CREATE ROLE authenticated NOLOGIN NOINHERIT;
CREATE ROLE service_role NOLOGIN NOINHERIT BYPASSRLS;
CREATE ROLE authenticator LOGIN NOINHERIT;
GRANT anon, authenticated, service_role TO authenticator;
CREATE ROLE supabase_auth_admin LOGIN NOINHERIT CREATEROLE;
CREATE DATABASE app OWNER app;
SQL
$node->safe_psql('app', <<SQL);
ALTER SCHEMA public OWNER TO app;
GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
CREATE SCHEMA auth AUTHORIZATION supabase_auth_admin;
SET ROLE supabase_auth_admin;
CREATE TABLE auth.users (instance_id uuid, id uuid PRIMARY KEY, email varchar(255), created_at timestamptz DEFAULT now(),
	is_anonymous boolean NOT NULL DEFAULT false, deleted_at timestamptz);
ALTER TABLE auth.users ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE
	AS \$\$ SELECT nullif(current_setting('request.jwt.claim.sub', true), '')::uuid \$\$;
GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role, app;
GRANT SELECT, REFERENCES ON auth.users TO app;
INSERT INTO auth.users (id) VALUES ('$ada'), ('$bob');
RESET ROLE;
ALTER ROLE supabase_auth_admin SET search_path = 'auth';
ALTER DEFAULT PRIVILEGES FOR ROLE app GRANT ALL ON TABLES TO anon, authenticated, service_role, PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role;
SQL

sub psql_as
{
	my ($role, $sql) = @_;
	my ($out, $err);
	$node->psql('app', $sql, stdout => \$out, stderr => \$err, extra_params => [ '-U', $role ]);
	return ($out, $err);
}

# As the API does it: a login role that becomes the role of the request.
sub api
{
	my ($role, $user, $sql) = @_;
	my ($out, $err) = psql_as('authenticator',
		"BEGIN; SET LOCAL ROLE $role; SET LOCAL request.jwt.claim.sub = '$user'; $sql; COMMIT;");
	return $err =~ /ERROR:\s+(.*)/ ? "ERROR: $1" : $out;
}

my ($out, $err) = psql_as('app', 'CREATE EXTENSION dashie');
is($err, '', 'an owner who is not a superuser installs');
($out, $err) = psql_as('app', 'SELECT count(*) FROM dashie.enable()');
is($out, 10, 'and enables all ten tables');
is($err, '', 'with nothing to remark: roles and auth.uid() are there');
is((psql_as('app', "SELECT count(*) FROM dashie.enable() WHERE action <> 'unchanged'"))[0], 0, 'again: nothing to do');

my @own = qw(stripe_webhook_events system_events user_sessions widget_analytics dashboards feature_usage);
my @internal = qw(daily_metrics geographic_stats account_clusters abuse_patterns);

# Grants, on tables and partitions, whatever the default privileges say.
is( $node->safe_psql('app', <<'SQL'), '', 'anon and PUBLIC hold nothing');
SELECT c.oid::regclass, a.grantee::regrole, a.privilege_type
FROM pg_class c, aclexplode(c.relacl) a
WHERE c.relnamespace IN ('public'::regnamespace, 'dashie'::regnamespace) AND c.relkind IN ('r', 'p', 'v')
	AND a.grantee IN (0, 'anon'::regrole)
SQL
is( $node->safe_psql('app', <<'SQL'), 'DELETE,INSERT,SELECT,UPDATE', 'service_role holds the four rights, on every table');
SELECT DISTINCT string_agg(a.privilege_type, ',' ORDER BY a.privilege_type)
FROM pg_class c LEFT JOIN LATERAL aclexplode(c.relacl) a ON a.grantee = 'service_role'::regrole
WHERE c.relname IN (SELECT table_name FROM dashie.roadmap) AND c.relnamespace = 'public'::regnamespace GROUP BY c.oid
SQL
is( $node->safe_psql('app', <<'SQL'), join("\n", sort @own), 'authenticated may read the tables with rows of users');
SELECT c.relname FROM pg_class c, aclexplode(c.relacl) a
WHERE a.grantee = 'authenticated'::regrole AND c.relnamespace = 'public'::regnamespace AND NOT c.relispartition
GROUP BY c.relname HAVING string_agg(a.privilege_type, ',') = 'SELECT' ORDER BY c.relname COLLATE "C"
SQL
is( $node->safe_psql('app', <<'SQL'), '', 'row level security is on everywhere, partitions included');
SELECT c.oid::regclass FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity
SQL

# Rows of two users in each table.
($out, $err) = psql_as('app', <<SQL);
INSERT INTO stripe_webhook_events (stripe_event_id, event_type, user_id, event_data) SELECT 'evt_' || id, 'x', id, '{}' FROM auth.users;
INSERT INTO system_events (user_id, event_type, severity, message) SELECT id, 'x', 'info', 'x' FROM auth.users;
INSERT INTO user_sessions (id, user_id, started_at) SELECT id, id, now() FROM auth.users;
INSERT INTO widget_analytics (user_id, session_id, widget_type, event_type) SELECT id, id, 'clock', 'view' FROM auth.users;
INSERT INTO dashboards (user_id, device_name) SELECT id, 'TV' FROM auth.users;
INSERT INTO feature_usage (user_id, feature_name, period_start, reset_date) SELECT id, 'x', '2026-01-01', '2026-02-01' FROM auth.users;
INSERT INTO daily_metrics (date) VALUES ('2026-01-01'), ('2026-01-02');
INSERT INTO geographic_stats (country_code) VALUES ('DE'), ('FR');
INSERT INTO account_clusters (cluster_type, identifier_hash, user_ids) SELECT 'ip_hash', id::text, ARRAY[id] FROM auth.users;
INSERT INTO abuse_patterns (pattern_type, user_id, confidence_score) SELECT 'api_abuse', id, 0.5 FROM auth.users;
SQL
is($err, '', 'the owner writes into every table');

foreach my $table (@own)
{
	is(api('authenticated', $ada, "SELECT count(*), bool_and(user_id = '$ada') FROM $table"), '1|t',
		"$table: a signed-in user reads their own row");
	is(api('authenticated', '', "SELECT count(*) FROM $table"), '0', "$table: without a user there is none");
	like(api('authenticated', $ada, "DELETE FROM $table"), qr/permission denied/, "$table: and changes nothing");
}
foreach my $table (@internal)
{
	like(api('authenticated', $ada, "SELECT count(*) FROM $table"), qr/permission denied/,
		"$table: not for signed-in users");
}
foreach my $table (@own, @internal)
{
	is(api('service_role', '', "SELECT count(*) FROM $table"), '2', "$table: service_role reads all rows");
	like(api('anon', '', "SELECT count(*) FROM $table"), qr/permission denied/, "$table: not for anon");
	like(api($_, $ada, "TRUNCATE $table CASCADE"), qr/permission denied/, "$table: no TRUNCATE for $_")
	  foreach qw(anon authenticated service_role);
}
$node->safe_psql('postgres', 'ALTER ROLE service_role NOBYPASSRLS');
is(api('service_role', '', 'SELECT count(*) FROM user_sessions'), '2',
	'service_role reads all rows also where it does not bypass row level security');
$node->safe_psql('postgres', 'ALTER ROLE service_role BYPASSRLS');

# A partition named directly is no way round.
my $partition = $node->safe_psql('app',
	"SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'public.widget_analytics'::regclass LIMIT 1");
SKIP:
{
	skip 'no partitions', 2 if $partition eq '';
	like(api('anon', '', "SELECT count(*) FROM $partition"), qr/permission denied/, 'a partition is not for anon');
	unlike(api('authenticated', $bob, "SELECT count(*) FROM $partition WHERE user_id = '$ada'"), qr/^[1-9]/,
		'and shows nobody the rows of others');
}

# Functions of dashie are for the owner.
like(api('authenticated', $ada, "SELECT * FROM dashie.enable('dashboards')"), qr/permission denied/,
	'authenticated may not enable');
like(api('service_role', '', "SELECT dashie.disable('dashboards')"), qr/permission denied/,
	'service_role may not disable');

# Auth deletes a user: a role with no rights on anything of ours, and a search_path of its own.
is( $node->safe_psql('app', <<'SQL'), '0', 'Auth holds no rights on our tables');
SELECT count(*) FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
	AND has_table_privilege('supabase_auth_admin', c.oid, 'DELETE')
SQL
($out, $err) = psql_as('supabase_auth_admin', "DELETE FROM users WHERE id = '$ada'");
is($err, '', 'Auth deletes a user');
is( $node->safe_psql('app', <<SQL), '1|1|1|1|1|1', 'and their rows are gone');
SELECT (SELECT count(*) FROM user_sessions), (SELECT count(*) FROM widget_analytics), (SELECT count(*) FROM dashboards),
	(SELECT count(*) FROM feature_usage), (SELECT count(*) FROM abuse_patterns),
	(SELECT count(*) FROM user_sessions WHERE user_id = '$bob')
SQL
is( $node->safe_psql('app', <<'SQL'), '1|1', "but what must be kept, without the user's name");
SELECT (SELECT count(*) FROM stripe_webhook_events WHERE user_id IS NULL), (SELECT count(*) FROM system_events WHERE user_id IS NULL)
SQL

# An adopted table: hand-made policies and grants stay, what nobody may have goes.
($out, $err) = psql_as('app', <<'SQL');
SELECT dashie.disable('dashboards');
CREATE POLICY by_hand ON dashboards FOR UPDATE TO authenticated USING (user_id = auth.uid());
GRANT ALL ON dashboards TO authenticated, anon, PUBLIC;
ALTER TABLE dashboards DISABLE ROW LEVEL SECURITY;
SELECT action FROM dashie.enable('dashboards');
SQL
is($err, '', 'a table is adopted');
is( $node->safe_psql('app', <<'SQL'), 'DELETE,INSERT,SELECT,UPDATE', 'it loses what row level security does not cover');
SELECT string_agg(a.privilege_type, ',' ORDER BY a.privilege_type) FROM pg_class c, aclexplode(c.relacl) a
WHERE c.oid = 'public.dashboards'::regclass AND a.grantee IN (0, 'anon'::regrole, 'authenticated'::regrole)
SQL
is( $node->safe_psql('app', "SELECT string_agg(polname, ' ' ORDER BY polname) FROM pg_policy WHERE polrelid = 'public.dashboards'::regclass"),
	'by_hand dashie_own_rows dashie_service_role', 'and keeps the policy made by hand');
is($node->safe_psql('app', "SELECT relrowsecurity FROM pg_class WHERE oid = 'public.dashboards'::regclass"), 't',
	'with row level security on');

# What another role passed on to anon, the owner cannot take back.
$node->safe_psql('postgres', 'CREATE ROLE analyst LOGIN');
psql_as('app', "SELECT dashie.disable('dashboards'); GRANT SELECT ON dashboards TO analyst WITH GRANT OPTION");
psql_as('analyst', 'GRANT SELECT ON dashboards TO anon');
($out, $err) = psql_as('app', "SELECT dashie.enable('dashboards')");
like($err, qr/role "analyst" has granted rights on it to anon/, 'a grant of somebody else to anon is a difference');
psql_as('analyst', 'REVOKE SELECT ON dashboards FROM anon');
($out, $err) = psql_as('app', "SELECT action FROM dashie.enable('dashboards')");
is($out, 'adopted', 'once it is gone, the table is adopted');

# The guard of payment records outlives disable(), and enable() finds it again.
($out, $err) = psql_as('app', "SELECT dashie.disable('stripe_webhook_events')");
is($err, '', 'stripe_webhook_events is let go of');
(undef, $err) = psql_as('app', 'DELETE FROM stripe_webhook_events');
isnt($err, '', 'its rows are guarded all the same');
($out, $err) = psql_as('app', "SELECT action FROM dashie.enable('stripe_webhook_events')");
is("$out$err", 'adopted', 'and it is taken up again');

# A view in its place can be let go of.
psql_as('app', 'ALTER TABLE feature_usage RENAME TO away; CREATE VIEW feature_usage AS SELECT 1 AS one');
(undef, $err) = psql_as('app', "SELECT dashie.disable('feature_usage')");
is($err, '', 'what is no table any more can be disabled');
psql_as('app', "DROP VIEW feature_usage; ALTER TABLE away RENAME TO feature_usage; SELECT dashie.enable('feature_usage')");

# Grants that the owner makes afterwards stay.
psql_as('app', 'GRANT SELECT ON daily_metrics TO authenticated; SELECT count(*) FROM dashie.enable()');
is($node->safe_psql('app', "SELECT has_table_privilege('authenticated', 'public.daily_metrics', 'SELECT')"), 't',
	'enabling again does not take away what the owner granted since');

# Without the roles and auth.uid(): row level security, no grants, one notice; later they are added.
$node->safe_psql('postgres', 'CREATE DATABASE plain OWNER app');
$node->safe_psql('plain', <<'SQL');
ALTER SCHEMA public OWNER TO app;
CREATE SCHEMA auth AUTHORIZATION supabase_auth_admin;
CREATE TABLE auth.users (id uuid PRIMARY KEY);
GRANT USAGE ON SCHEMA auth TO app;
GRANT SELECT, REFERENCES ON auth.users TO app;
SQL
sub plain
{
	my ($sql) = @_;
	my ($out, $err);
	$node->psql('plain', $sql, stdout => \$out, stderr => \$err, extra_params => [ '-U', 'app' ]);
	return ($out, $err);
}
($out, $err) = plain('CREATE EXTENSION dashie; SELECT count(*) FROM dashie.enable()');
is($out, 10, 'without auth.uid() all tables are made');
my @notices = $err =~ /NOTICE/g;
is(scalar @notices, 1, 'with one notice');
like($err, qr/function auth\.uid\(\)/, 'that says what is missing');
is($node->safe_psql('plain', "SELECT count(*) FROM pg_policy WHERE polname = 'dashie_own_rows'"), 0, 'and no policy that needs it');
$node->safe_psql('plain', "CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS 'SELECT NULL::uuid'");
($out, $err) = plain("SELECT count(*) FROM dashie.enable() WHERE action = 'adopted'");
is($err, '', 'once it is there, enable() has nothing to remark');
is($out, scalar @own, 'and adds the policies');

$node->stop;
done_testing();
