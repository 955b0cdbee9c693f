# No code that an owner of tables planted ever runs as a superuser: not when a
# superuser calls dashie, and not when one of dashie's functions or jobs looks
# at what was planted.  A trap writes to the server's log who runs it, which a
# rollback does not undo.
use strict;
use warnings;

use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('rights');
$node->init;
$node->append_conf('postgresql.conf', "log_min_messages = log\nautovacuum = off\n");
$node->start;

my $later = POSIX::strftime('%Y-%m-%d', gmtime(time + 60 * 86400));
my $uuid = '00000000-0000-0000-0000-000000000001';

# Everything that a superuser may call; a function that is not installed, or
# that finds a view where a table should be, may fail.
my @calls = (
	"SELECT * FROM dashie.enable()",
	"TABLE dashie.roadmap",
	"TABLE dashie.settings",
	"TABLE dashie.partitions",
	"TABLE dashie.job",
	"SELECT * FROM dashie.maintain_partitions(true)",
	"SELECT * FROM dashie.maintain_partitions()",
	"SELECT * FROM dashie.apply_retention(true)",
	"SELECT * FROM dashie.apply_retention()",
	"SELECT dashie.close_stale_sessions('1 minute')",
	"SELECT dashie.refresh_daily_metrics(current_date - 3, current_date)",
	"CALL dashie.backfill_metrics(current_date - 20, current_date)",
	"TABLE dashie.progress",
	"SELECT dashie.refresh_geographic_stats()",
	"SELECT dashie.active_users(current_date, 30)",
	"SELECT * FROM dashie.engagement(current_date - 30, current_date)",
	"SELECT * FROM dashie.engagement(current_date - 30, current_date, by_country => true)",
	"SELECT * FROM dashie.new_vs_returning(current_date - 30, current_date)",
	"SELECT * FROM dashie.retention_cohorts(current_date - 30, current_date, 'week')",
	"SELECT * FROM dashie.verify(current_date - 30, current_date)",
	"SELECT dashie.configure('verify_nightly', 'on')",
	"SELECT dashie.configure('timezone', 'Europe/Berlin')",
	"SELECT dashie.configure('timezone', NULL)",
	"CALL dashie.run_job('maintain_partitions')",
	"CALL dashie.run_job('refresh_daily_metrics')",
	"CALL dashie.run_job('refresh_geographic_stats')",
	"CALL dashie.run_job('apply_retention')",
	"CALL dashie.run_job('close_stale_sessions')",
	"CALL dashie.run_job('seal_audit')",
	"SELECT * FROM dashie.widget_popularity(current_date - 20, current_date)",
	"SELECT * FROM dashie.verify_events(current_date - 20, current_date)",
	"SELECT * FROM dashie.event_counts(current_date - 20, current_date, 'event_type')",
	"SELECT * FROM dashie.widget_compare('clock', current_date - 9, current_date - 5, current_date - 4, current_date)",
	"SELECT * FROM dashie.widget_funnel('{clock,photos}', '1 day', current_date - 5, current_date)",
	"SELECT dashie.refresh_event_rollups(current_date - 20, current_date, force => true)",
	"CALL dashie.run_job('rollup_events')",
	"SELECT * FROM dashie.stripe_reconcile(jsonb_build_array(jsonb_build_object('id', 'sub_1', 'object', 'subscription', 'customer', 'cus_1', 'status', 'active',"
	  . " 'items', jsonb_build_object('data', jsonb_build_array(jsonb_build_object('price', jsonb_build_object('id', 'price_1', 'metadata', jsonb_build_object('tier', 'pro'))))))), true)",
	"TABLE dashie.billing_health",
	"SELECT * FROM dashie.trial_expirations('1 year')",
	"SELECT dashie.legal_hold('trap', user_id => '$uuid')",
	"SELECT dashie.legal_hold('trap', \"from\" => '2020-01-01')",
	"SELECT dashie.release_legal_hold(1)",
	"SET dashie.now = '$later'; CALL dashie.run_job('seal_audit'); SELECT * FROM dashie.verify_audit()",
	"CALL dashie.run_due_jobs()",
	"SELECT dashie.hold_partition(current_date, 'trap')",
	"TABLE dashie.partitions",
	"SELECT dashie.release_partition(current_date)",
	"SELECT dashie.archive_to_table(('public.' || partition)::regclass) FROM dashie.partitions",
	"SELECT dashie.set_archiver('evil.archiver')",
	# two months on, everything has expired
	"SET dashie.now = '$later'; CALL dashie.run_job('rollup_events')",
	"SET dashie.now = '$later'; SELECT * FROM dashie.maintain_partitions(); SELECT * FROM dashie.apply_retention()",
	"SET dashie.now = '$later'; CALL dashie.run_job('maintain_partitions'); CALL dashie.run_job('apply_retention')",
	"SELECT dashie.disable('widget_analytics')",
	"SELECT dashie.disable('user_sessions')",
	"SELECT * FROM dashie.enable('widget_analytics')",
	"DELETE FROM dashie.enabled_table",
	"SELECT * FROM dashie.enable()");

sub run_as
{
	my ($db, $role, $sql) = @_;
	my ($out, $err);
	$node->psql($db, $sql, stdout => \$out, stderr => \$err,
		extra_params => [ '-U', $role, '-v', 'ON_ERROR_STOP=1' ]);
	diag("$role: $err") if $err =~ /ERROR/;
	return $out;
}

# What a superuser calls, and what of the traps ran as whom.
sub spring
{
	my ($db, $what, @those) = @_;
	my $offset = -s $node->logfile;

	foreach my $call (@those ? @those : @calls)
	{
		my ($out, $err);
		my $result = $node->psql($db, $call, stdout => \$out, stderr => \$err);
		note("$call: $err") if $err =~ /ERROR/;
		is($result == 2, '', "$what: server survives $call") if $result == 2;
	}
	my $log = slurp_file($node->logfile, $offset);
	my @super = $log =~ /TRAP (\w+) run by superuser \w+/g;
	my @plain = $log =~ /TRAP (\w+) run by plain (\w+)/g;
	is(join(' ', @super), '', "$what: no trap ran as a superuser");
	note("$what: " . scalar(@plain) / 2 . " traps ran as their owner");
	return $log;
}

# Traps of every kind, in schema evil of the role that plants them.
sub plant_functions
{
	my ($db, $role) = @_;
	run_as($db, $role, <<'SQL');
CREATE SCHEMA evil;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE FUNCTION evil.trap(name text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
	RAISE LOG 'TRAP % run by % %', name,
		(SELECT CASE WHEN rolsuper THEN 'superuser' ELSE 'plain' END FROM pg_catalog.pg_roles WHERE rolname = current_user),
		current_user;
	RETURN true;
END $$;
CREATE FUNCTION evil.any_trap(anyelement) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	RETURN evil.trap('index');
END $$;
CREATE FUNCTION evil.row_trap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evil.trap('trigger');
	IF TG_LEVEL = 'STATEMENT' THEN RETURN NULL; END IF;
	IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
	RETURN NEW;
END $$;
CREATE FUNCTION evil.uuid_eq(a uuid, b uuid) RETURNS boolean LANGUAGE sql IMMUTABLE
	AS $$ SELECT evil.trap('operator') AND pg_catalog.uuid_eq(a, b) $$;
CREATE OPERATOR evil.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = evil.uuid_eq);
CREATE FUNCTION evil.text_eq(a text, b text) RETURNS boolean LANGUAGE sql IMMUTABLE
	AS $$ SELECT evil.trap('operator') AND pg_catalog.texteq(a, b) $$;
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.text_eq);
CREATE FUNCTION evil.tstz_lt(a timestamptz, b timestamptz) RETURNS boolean LANGUAGE sql IMMUTABLE
	AS $$ SELECT evil.trap('operator') AND pg_catalog.timestamptz_lt(a, b) $$;
CREATE OPERATOR evil.< (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = evil.tstz_lt);
CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql
	AS $$ SELECT CASE WHEN evil.trap('now') THEN pg_catalog.now() END $$;
CREATE FUNCTION evil.count(anyelement) RETURNS bigint LANGUAGE sql
	AS $$ SELECT CASE WHEN evil.trap('count') THEN 1::bigint END $$;
CREATE FUNCTION evil.gen_random_uuid() RETURNS uuid LANGUAGE sql
	AS $$ SELECT CASE WHEN evil.trap('uuid') THEN pg_catalog.gen_random_uuid() END $$;
CREATE FUNCTION evil.coalesce(timestamptz, timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE
	AS $$ SELECT CASE WHEN evil.trap('coalesce') THEN $1 END $$;
CREATE FUNCTION evil.archiver(regclass) RETURNS boolean LANGUAGE sql AS $$ SELECT evil.trap('archiver') $$;
CREATE FUNCTION evil.view_trap() RETURNS boolean LANGUAGE sql AS $$ SELECT evil.trap('view') $$;
SQL
}

# What a table can carry.
sub plant_on_table
{
	my ($db, $role, $table, $column) = @_;
	my $statistics = 'evil.on_' . $table =~ s/\./_/r;
	# would rewrite the table, which the guard of payment records refuses
	my $generated = $table =~ /stripe_webhook_events/ ? ''
	  : "ALTER TABLE $table ADD COLUMN made boolean GENERATED ALWAYS AS (evil.trap('generated')) STORED;";
	run_as($db, $role, <<SQL);
CREATE INDEX ON $table ((evil.trap('index'))) WHERE evil.trap('predicate');
CREATE INDEX ON $table ($column, (evil.any_trap($column)));
CREATE TRIGGER a_trap BEFORE INSERT OR UPDATE OR DELETE ON $table FOR EACH ROW EXECUTE FUNCTION evil.row_trap();
CREATE TRIGGER c_trap BEFORE TRUNCATE ON $table FOR EACH STATEMENT EXECUTE FUNCTION evil.row_trap();
CREATE STATISTICS $statistics ON (evil.any_trap($column)) FROM $table;
$generated
CREATE TRIGGER b_trap AFTER INSERT OR UPDATE OR DELETE ON $table FOR EACH STATEMENT EXECUTE FUNCTION evil.row_trap();
ALTER TABLE $table ADD CONSTRAINT trap CHECK (evil.trap('check'));
ALTER TABLE $table ENABLE ROW LEVEL SECURITY;
CREATE POLICY trap ON $table USING (evil.trap('policy')) WITH CHECK (evil.trap('policy'));
SQL
}

my $sessions = <<'SQL';
CREATE TABLE public.user_sessions (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid NOT NULL, dashboard_id uuid,
	started_at timestamptz NOT NULL, ended_at timestamptz, duration_minutes integer,
	ip_address_hash text, user_agent text, country_code text, auth_method text,
	widgets_interacted text[], settings_changed boolean, error_count integer);
INSERT INTO public.user_sessions (user_id, started_at, ended_at)
SELECT u.id, now() - i * interval '1 hour', now() - i * interval '1 hour' + interval '10 minutes'
FROM auth.users u, generate_series(1, 200) i;
SQL

$node->safe_psql('postgres', <<'SQL');
CREATE ROLE owner LOGIN;
CREATE ROLE stranger LOGIN;
SQL

# The trap works: a superuser who walks into it is seen.
$node->safe_psql('postgres', 'CREATE DATABASE control OWNER owner');
plant_functions('control', 'owner');
{
	my $offset = -s $node->logfile;
	$node->safe_psql('control', "SELECT evil.trap('control')");
	like(slurp_file($node->logfile, $offset), qr/TRAP control run by superuser/, 'a trap tells on a superuser');
}

# 1. The extension belongs to a plain role, and so does everything else.
foreach my $kind ('tables', 'views')
{
	my $db = "plain_$kind";
	$node->safe_psql('postgres', "CREATE DATABASE $db OWNER owner");
	$node->safe_psql($db, 'ALTER SCHEMA public OWNER TO owner');
	run_as($db, 'owner', 'CREATE EXTENSION dashie; SELECT dashie.create_auth_stub();'
		  . "INSERT INTO auth.users (id) VALUES ('$uuid');");
	is($node->safe_psql($db, "SELECT extowner::regrole FROM pg_extension WHERE extname = 'dashie'"),
		'owner', "$kind: the extension is the plain role's");
	plant_functions($db, 'owner');
	run_as($db, 'owner', "ALTER DATABASE $db SET search_path = evil, pg_catalog, public");

	if ($kind eq 'tables')
	{
		run_as($db, 'owner', $sessions);
		plant_on_table($db, 'owner', 'public.user_sessions', 'started_at');
		plant_on_table($db, 'owner', 'auth.users', 'id');
		run_as($db, 'owner', <<'SQL');
CREATE TABLE public.access_control_config (key text PRIMARY KEY, value text NOT NULL DEFAULT evil.trap('default')::text);
INSERT INTO public.access_control_config VALUES ('beta_mode_enabled', 'true');
SQL
		plant_on_table($db, 'owner', 'public.access_control_config', 'key');
		run_as($db, 'owner', <<SQL);
CREATE TABLE public.user_profiles (auth_user_id uuid PRIMARY KEY, stripe_customer_id text, stripe_subscription_id text,
	tier text DEFAULT 'trial', tier_started_at timestamptz, tier_expires_at timestamptz, subscription_status text);
INSERT INTO public.user_profiles VALUES ('$uuid', 'cus_1');
SQL
		plant_on_table($db, 'owner', 'public.user_profiles', 'auth_user_id');
		spring($db, 'traps on tables');
		is( run_as($db, 'owner', "SELECT string_agg(DISTINCT tableowner, ' ') FROM pg_tables WHERE schemaname = 'public'"),
			'owner', 'what a superuser enables belongs to the owner of the extension');

		run_as($db, 'owner', "INSERT INTO public.widget_analytics (user_id, widget_type, event_type) VALUES ('$uuid', 'clock', 'view')");

		# and on the tables that dashie made
		foreach my $table ('widget_analytics', 'daily_metrics', 'geographic_stats', 'stripe_webhook_events',
			'dashboards')
		{
			my $column = $node->safe_psql($db,
				"SELECT attname FROM pg_attribute WHERE attrelid = 'public.$table'::regclass AND attnum = 1");
			plant_on_table($db, 'owner', "public.$table", $column);
		}
		my @leaves = split /\n/, $node->safe_psql($db, <<'SQL');
SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'public.widget_analytics'::regclass ORDER BY inhrelid LIMIT 2
SQL
		foreach my $leaf (@leaves)
		{
			run_as($db, 'owner', "CREATE INDEX ON $leaf ((evil.trap('index'))) WHERE evil.trap('predicate');"
				  . "CREATE TRIGGER leaf_trap BEFORE TRUNCATE ON $leaf FOR EACH STATEMENT EXECUTE FUNCTION evil.row_trap();");
		}
		my $log = spring($db, 'traps on enabled tables');
		like($log, qr/TRAP archiver run by plain owner/, 'the archiver ran as the owner of the table');
	}
	else
	{
		run_as($db, 'owner', 'SELECT * FROM dashie.enable()');
		# stripe_webhook_events cannot be renamed: t/012_guard.pl
		foreach my $table ('public.user_sessions', 'public.widget_analytics', 'public.daily_metrics',
			'public.geographic_stats', 'public.dashboards', 'public.feature_usage', 'auth.users')
		{
			my $away = $table =~ s/.*\.//r . '_away';
			my ($schema) = split /\./, $table;
			run_as($db, 'owner', <<SQL);
ALTER TABLE $table RENAME TO $away;
CREATE VIEW $table AS SELECT * FROM $schema.$away WHERE evil.view_trap();
SQL
		}
		run_as($db, 'owner', <<'SQL');
CREATE VIEW public.access_control_config AS SELECT 'beta_mode_enabled'::text AS key, evil.view_trap()::text AS value;
CREATE VIEW public.user_profiles AS SELECT NULL::uuid AS auth_user_id, evil.view_trap()::text AS tier;
CREATE VIEW public.dashboard_heartbeats AS SELECT NULL::uuid AS auth_user_id, evil.now() AS last_heartbeat_at;
SQL
		spring($db, 'views in the place of tables');

		# what dashie keeps in its own schema but belongs to the owner, too (but for seals, which cannot be renamed)
		my @own = split /\n/, $node->safe_psql($db, <<'SQL');
SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'dashie'::regnamespace AND c.relkind = 'r'
	AND c.relowner = 'owner'::regrole AND c.relname <> 'audit_seal'
SQL
		foreach my $table (@own)
		{
			run_as($db, 'owner', <<SQL);
ALTER TABLE dashie.$table RENAME TO ${table}_away;
CREATE VIEW dashie.$table AS SELECT * FROM dashie.${table}_away WHERE evil.view_trap();
SQL
		}
		foreach my $table ('user_sessions', 'widget_analytics', 'daily_metrics', 'geographic_stats',
			'dashboards', 'feature_usage')
		{
			run_as($db, 'owner', "DROP VIEW public.$table; ALTER TABLE public.${table}_away RENAME TO $table");
		}
		run_as($db, 'owner', 'DROP VIEW auth.users; ALTER TABLE auth.users_away RENAME TO users');
		spring($db, "views in dashie's schema");
	}
}

# 2. The extension belongs to a superuser, the tables to somebody else.  Without
# widget_analytics: attaching a partition of a superuser's table makes
# PostgreSQL itself plan a query over what its foreign keys name (README).
$node->safe_psql('postgres', 'CREATE DATABASE mixed OWNER owner');
$node->safe_psql('mixed', 'ALTER SCHEMA public OWNER TO owner; CREATE EXTENSION dashie');
run_as('mixed', 'owner', 'CREATE SCHEMA auth; CREATE TABLE auth.users (id uuid PRIMARY KEY, email text,'
	  . ' created_at timestamptz DEFAULT now(), is_anonymous boolean, deleted_at timestamptz);'
	  . "INSERT INTO auth.users (id) VALUES ('$uuid');");
plant_functions('mixed', 'owner');
run_as('mixed', 'owner', 'ALTER DATABASE mixed SET search_path = evil, pg_catalog, public');
run_as('mixed', 'owner', $sessions);
plant_on_table('mixed', 'owner', 'public.user_sessions', 'started_at');
plant_on_table('mixed', 'owner', 'auth.users', 'id');
run_as('mixed', 'owner', <<SQL);
CREATE TABLE public.user_profiles (auth_user_id uuid PRIMARY KEY, stripe_customer_id text, stripe_subscription_id text,
	tier text DEFAULT 'trial', tier_started_at timestamptz, tier_expires_at timestamptz, subscription_status text);
INSERT INTO public.user_profiles VALUES ('$uuid', 'cus_1');
SQL
plant_on_table('mixed', 'owner', 'public.user_profiles', 'auth_user_id');
run_as('mixed', 'owner', <<SQL);
CREATE TABLE public.stripe_webhook_events (
	id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(), stripe_event_id text UNIQUE NOT NULL, event_type text NOT NULL,
	user_id uuid, old_tier text, new_tier text, processed_at timestamptz, event_data jsonb NOT NULL, processing_status text DEFAULT 'pending',
	error_message text, retry_count integer DEFAULT 0, created_at timestamptz DEFAULT pg_catalog.now());
INSERT INTO public.stripe_webhook_events (stripe_event_id, event_type, event_data, created_at)
	VALUES ('evt_1', 'invoice.paid', '{"id": "evt_1", "type": "invoice.paid", "created": 1700000000}', '2026-11-01');
SQL
plant_on_table('mixed', 'owner', 'public.stripe_webhook_events', 'id');
spring('mixed', 'extension of a superuser',
	(map { "SELECT * FROM dashie.enable($_)" } 5, 7, 8, 10, 11, "'geographic_stats'"),
	grep { !/enable|widget_analytics/ } @calls);
is($node->safe_psql('mixed', "SELECT tableowner FROM pg_tables WHERE tablename = 'user_sessions'"),
	'owner', 'an adopted table keeps its owner');

# 3. Rights: who may not, gets 42501.
sub fails_with
{
	my ($db, $role, $sql, $pattern, $name) = @_;
	my ($out, $err);
	$node->psql($db, "\\set VERBOSITY verbose\n$sql", stdout => \$out, stderr => \$err, extra_params => [ '-U', $role ]);
	like($err, $pattern, $name);
}
$node->safe_psql('postgres', 'CREATE DATABASE rights OWNER owner');
$node->safe_psql('rights', 'ALTER SCHEMA public OWNER TO owner');
run_as('rights', 'owner', 'CREATE EXTENSION dashie; SELECT dashie.create_auth_stub();');
fails_with('rights', 'stranger', 'SELECT * FROM dashie.enable()', qr/42501/, 'a stranger may not enable');
fails_with('rights', 'stranger', 'TABLE dashie.roadmap', qr/42501/, 'nor see the roadmap');
$node->safe_psql('rights', 'CREATE TABLE public.dashboards (id uuid); ALTER TABLE public.dashboards OWNER TO stranger');
fails_with('rights', 'owner', "SELECT * FROM dashie.enable('dashboards')", qr/42501.*must be owner of table/s,
	"a stranger's table is not adopted");
fails_with('rights', 'postgres', "SELECT * FROM dashie.enable('dashboards')", qr/42501/,
	"nor by a superuser, who acts as the extension's owner");
$node->safe_psql('rights', 'CREATE SCHEMA theirs AUTHORIZATION stranger');
fails_with('rights', 'owner', "SELECT * FROM dashie.enable('feature_usage', 'theirs')", qr/42501/,
	"nor a table made in a stranger's schema");
$node->safe_psql('rights', 'ALTER TABLE auth.users OWNER TO stranger; ALTER SCHEMA auth OWNER TO stranger;'
	  . 'GRANT USAGE ON SCHEMA auth TO owner; REVOKE ALL ON auth.users FROM owner;');
fails_with('rights', 'owner', "SELECT * FROM dashie.enable('feature_usage')", qr/42501.*needs REFERENCES on auth\.users/s,
	'auth.users needs REFERENCES');
$node->safe_psql('rights', 'GRANT REFERENCES ON auth.users TO owner');
fails_with('rights', 'owner', "SELECT * FROM dashie.enable('feature_usage')", qr/42501.*needs SELECT on auth\.users/s,
	'and SELECT');
$node->safe_psql('rights', 'GRANT SELECT ON auth.users TO owner');
run_as('rights', 'owner', "SELECT * FROM dashie.enable('feature_usage')");
is($node->safe_psql('rights', "SELECT tableowner FROM pg_tables WHERE tablename = 'feature_usage'"), 'owner',
	'and nothing else');

# Tables of another role, adopted by one that has its rights: metrics and
# retention run as that role, and may use what enable() made for them.
$node->safe_psql('postgres', 'CREATE ROLE keeper LOGIN; CREATE DATABASE adopted OWNER owner; GRANT keeper TO owner');
$node->safe_psql('adopted', 'ALTER SCHEMA public OWNER TO owner; GRANT CREATE ON SCHEMA public TO keeper');
run_as('adopted', 'owner', 'CREATE EXTENSION dashie; SELECT dashie.create_auth_stub();'
	  . 'ALTER TABLE auth.users DISABLE ROW LEVEL SECURITY; GRANT USAGE ON SCHEMA auth TO keeper; GRANT SELECT, REFERENCES ON auth.users TO keeper;'
	  . "INSERT INTO auth.users (id, created_at) VALUES ('$uuid', '2026-01-01');"
	  . "SELECT * FROM dashie.enable('user_sessions'); SELECT dashie.disable('user_sessions');"
	  . 'ALTER TABLE public.user_sessions OWNER TO keeper; DROP TABLE dashie.retention_floor;');
run_as('adopted', 'owner', "SELECT * FROM dashie.enable('user_sessions'); SELECT * FROM dashie.enable('daily_metrics');"
	  . 'ALTER TABLE public.daily_metrics OWNER TO keeper; SELECT * FROM dashie.enable(\'daily_metrics\');'
	  . "INSERT INTO public.user_sessions (user_id, started_at, ended_at) VALUES ('$uuid', '2026-01-02', '2026-01-02');");
foreach my $role ('owner', 'postgres')
{
	run_as('adopted', $role, "CALL dashie.run_job('refresh_daily_metrics'); CALL dashie.run_job('apply_retention');");
}
is($node->safe_psql('adopted', "SELECT total_sessions FROM public.daily_metrics WHERE date = '2026-01-02'"), '1',
	"an adopted table's metrics run as its owner");
is($node->safe_psql('adopted', 'SELECT count(*) FROM public.user_sessions'), '0', 'and so does its retention');

$node->stop;
done_testing();
