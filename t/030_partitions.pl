# The job maintain_partitions beside long readers, on real time, as an owner who
# is no superuser: a leaf that nobody reads is emptied even while the parent
# cannot be locked; what is in the way is recorded; the next run finishes.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "timezone = 'UTC'\nfsync = off\n");
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN');
$node->safe_psql('postgres', 'CREATE DATABASE live OWNER app');
$node->safe_psql('live', 'ALTER SCHEMA public OWNER TO app');

sub sql
{
	my ($query) = @_;
	return $node->safe_psql('live', "SET client_min_messages = warning;\n$query", extra_params => [ '-U', 'app' ]);
}

# A session that holds a transaction open after a query, until it is let go.
sub hold_open
{
	my ($query) = @_;
	my %session = (out => '', err => '');
	$session{handle} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('live'), '-U', 'app',
		'-c', 'BEGIN', '-c', $query, '-c', "SELECT 'held', pg_sleep(600)" ],
		'<', \undef, '>', \$session{out}, '2>', \$session{err});
	$node->poll_query_until('live', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%held%pg_sleep%' AND usename = 'app'")
	  or die "no session holds: $session{err}";
	$session{pid} = $node->safe_psql('live', "SELECT pid FROM pg_stat_activity WHERE query LIKE '%held%pg_sleep%' AND usename = 'app'");
	return \%session;
}

sub let_go
{
	my ($session) = @_;
	$node->safe_psql('live', "SELECT pg_terminate_backend($session->{pid}, 60000)");
	IPC::Run::finish($session->{handle});
}

# What the last run came to.
sub last_run
{
	return sql("SELECT status, rows FROM dashie.job_run WHERE name = 'maintain_partitions' ORDER BY id DESC LIMIT 1");
}

sub run_job
{
	my ($out, $err);
	$node->psql('live', "CALL dashie.run_job('maintain_partitions')", stdout => \$out, stderr => \$err,
		extra_params => [ '-U', 'app' ]);
	return $err;
}

# Two partitions with rows that have expired, one long and one just not, and today's.
sql(q{
	CREATE EXTENSION dashie;
	SELECT dashie.create_auth_stub();
	SELECT dashie.configure('maintenance_lock_timeout_ms', '20');
	SELECT dashie.configure('lock_retries', '1');
	INSERT INTO auth.users (id) VALUES ('00000000-0000-4000-8000-000000000001');
	SELECT dashie.enable('widget_analytics');
	SELECT format('CREATE TABLE %I PARTITION OF widget_analytics FOR VALUES FROM (%L) TO (%L)',
		'old_' || i, date_trunc('day', now()) - i * interval '1 day', date_trunc('day', now()) - (i - 1) * interval '1 day')
	FROM unnest('{50,40}'::int[]) i \gexec
	INSERT INTO widget_analytics (user_id, widget_type, event_type, "timestamp")
		SELECT '00000000-0000-4000-8000-000000000001', 'clock', 'view', date_trunc('day', now()) - d * interval '1 day'
		FROM unnest('{50,40,20,0}'::int[]) d, generate_series(1, 100);
	ANALYZE widget_analytics;
	CALL dashie.run_job('rollup_events')});
my $days = sql('SELECT count(*) FROM dashie.partitions');
is($days, '40', 'thirty days, today, a week, and two of old');

# Somebody reads everything: nothing is removed, and the run says who it was.
my $reader = hold_open('SELECT count(*) FROM widget_analytics');
like(run_job(), qr/blocked.*pid $reader->{pid} /s, 'the caller learns who blocks');
is(last_run(), 'blocked|0', 'the run is recorded as blocked');
like(sql("SELECT error_message FROM dashie.job_run ORDER BY id DESC LIMIT 1"), qr/pid $reader->{pid} .*pg_sleep/s,
	'with pid and query of the blocker');
is(sql("SELECT action, partition FROM dashie.maintain_partitions(true) WHERE blocked_by LIKE 'pid $reader->{pid} %'"),
	"remove|old_50\nremove|old_40", 'so does the plan');
is(sql('SELECT count(*) FROM widget_analytics'), '400', 'readers go on, and every row is there');
let_go($reader);

# Somebody reads one day: the old leaves are not in use and are emptied; the
# catalog entries wait for the parent.
my $today = sql(q{SELECT quote_literal(date_trunc('day', now()))});
$reader = hold_open("SELECT count(*) FROM widget_analytics WHERE \"timestamp\" >= $today AND \"timestamp\" < ${today}::timestamptz + interval '1 hour'");
# planning for a range of constants locks the parent and the leaves in that range
is($node->safe_psql('live', "SELECT count(*) FROM pg_locks WHERE pid = $reader->{pid} AND relation = 'old_50'::regclass"), '0',
	'the reader does not touch the old leaf');
like(run_job(), qr/blocked/, 'the parent is not free');
is(sql("SELECT pg_relation_size('old_50') + pg_relation_size('old_40')"), '0', 'the old leaves are empty');
is(last_run(), 'blocked|200', 'and their rows are counted');
let_go($reader);

# Nobody is in the way.
is(run_job(), '', 'the next run');
is(last_run(), 'succeeded|0', 'drops them');
is(sql('SELECT count(*), min(lower_bound) = date_trunc(\'day\', now() - interval \'30 days\') FROM dashie.partitions'),
	'38|t', 'what has not expired is there');
is(sql('SELECT count(*) FROM widget_analytics'), '200', 'with its rows');
is(run_job(), '', 'nothing left to do');

$node->stop;
done_testing();
