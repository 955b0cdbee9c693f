# The archiver in the job, on real time, as an owner who is no superuser: called
# by the worker, tried again after a failure, killed in its middle, cancelled; and
# the two archivers that README shows.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "timezone = 'UTC'\nfsync = off\ndashie.naptime = 1\nrestart_after_crash = on\n");
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN');
$node->safe_psql('postgres', 'CREATE DATABASE live OWNER app');
$node->safe_psql('live', 'ALTER SCHEMA public OWNER TO app');

sub sql
{
	my ($query) = @_;
	return $node->safe_psql('live', "SET client_min_messages = warning;\n$query", extra_params => [ '-U', 'app' ]);
}

sub eventually
{
	my ($query, $name) = @_;
	ok($node->poll_query_until('live', $query), $name)
	  or diag($node->safe_psql('live', 'SELECT * FROM dashie.job_run ORDER BY id DESC LIMIT 10'));
}

# A partition of so many days ago with 100 rows.
sub old_partition
{
	my ($days) = @_;
	sql(qq{
		SELECT format('CREATE TABLE %I PARTITION OF widget_analytics FOR VALUES FROM (%L) TO (%L)', 'old_$days',
			date_trunc('day', now()) - interval '$days days', date_trunc('day', now()) - interval '$days days' + interval '1 day') \\gexec
		INSERT INTO widget_analytics (user_id, widget_type, event_type, "timestamp")
			SELECT '00000000-0000-4000-8000-000000000001', 'clock', 'view', date_trunc('day', now()) - interval '$days days' + i * interval '1 minute'
			FROM generate_series(1, 100) i;
		ANALYZE old_$days});
}

# The job is due now.
sub due
{
	sql(q{UPDATE dashie.job_state SET last_started = NULL, failures = 0, retry_at = NULL, more = false WHERE name = 'maintain_partitions'});
}

sub last_run
{
	return sql("SELECT status, rows, error_message FROM dashie.job_run WHERE name = 'maintain_partitions' ORDER BY id DESC LIMIT 1");
}

sql(q{
	CREATE EXTENSION dashie;
	SELECT dashie.create_auth_stub();
	INSERT INTO auth.users (id) VALUES ('00000000-0000-4000-8000-000000000001');
	SELECT dashie.enable('widget_analytics');
	DROP TABLE dashie.changed_events; -- nobody counts the events here, so that no partition waits for that
	SELECT dashie.set_job('apply_retention', enabled => false);
	CREATE TABLE public.calls (who name, what regclass, pid int);
	CREATE TABLE public.weather (fine boolean);
	INSERT INTO public.weather VALUES (false);
	CREATE FUNCTION public.archiver(partition regclass) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM dashie.archive_to_table(partition);
		IF NOT (SELECT fine FROM public.weather) THEN
			RAISE 'it rains';
		END IF;
		INSERT INTO public.calls VALUES (current_user, partition, pg_backend_pid());
		RETURN true;
	END $$;
	SELECT dashie.set_archiver('public.archiver')});
old_partition(50);
old_partition(40);

#
# The worker: a failure is recorded, keeps the partition, and is tried again
#
sql('SELECT dashie.start_worker()');
eventually(q{SELECT count(*) = 2 FROM dashie.partition_archive_failure}, 'the worker calls the archiver, which fails');
eventually(q{SELECT last_status = 'failed' FROM dashie.job WHERE name = 'maintain_partitions'}, 'and so does the run');
is(last_run(), 'failed|0|partition "old_50" was not archived: it rains', 'which says why');
is(sql('SELECT partition, failures, next_try > now(), message FROM dashie.partition_archive_failure ORDER BY 1'),
	"old_40|1|t|it rains\nold_50|1|t|it rains", 'each is to be tried again later');
is(sql('SELECT count(*) FROM widget_analytics'), '200', 'every row is there');
is(sql(q{SELECT to_regclass('dashie_archive.old_50')}), '', 'and nothing of the failed attempt');
is(sql(q{SELECT next_run >= (SELECT max(next_try) FROM dashie.partition_archive_failure) FROM dashie.job WHERE name = 'maintain_partitions'}), 't',
	'the job comes again when they are due');

# the time has come, and it fails again
sql(q{UPDATE dashie.partition_archive_failure SET next_try = now() WHERE partition = 'old_50'});
due();
eventually(q{SELECT failures = 2 FROM dashie.partition_archive_failure WHERE partition = 'old_50'}, 'it fails a second time');
is(sql(q{SELECT partition, failures, next_try - failed_at FROM dashie.partition_archive_failure ORDER BY 1}),
	"old_40|1|00:01:00\nold_50|2|00:02:00", 'and waits longer; the other one was not tried');

# better weather
sql(q{UPDATE public.weather SET fine = true; UPDATE dashie.partition_archive_failure SET next_try = now()});
due();
eventually(q{SELECT to_regclass('old_50') IS NULL AND to_regclass('old_40') IS NULL}, 'then both are archived and dropped');
is(sql('SELECT DISTINCT who FROM public.calls'), 'app', 'by the worker, as the owner of the table');
is(sql('SELECT (SELECT count(*) FROM dashie_archive.old_50), (SELECT count(*) FROM dashie_archive.old_40)'), '100|100', 'with every row');
is(sql('SELECT count(*) FROM dashie.partition_archive_failure'), '0', 'and the failures are forgotten');
sql('SELECT dashie.stop_worker()');
eventually(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'dashie %'}, 'the worker is gone');

#
# In the middle of its work: terminated, cancelled, killed
#
sql(q{
	CREATE OR REPLACE FUNCTION public.archiver(partition regclass) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM dashie.archive_to_table(partition);
		IF NOT (SELECT fine FROM public.weather) THEN
			PERFORM pg_sleep(600);
		END IF;
		RETURN true;
	END $$;
	UPDATE public.weather SET fine = false});
old_partition(45);

sub run_in_background
{
	my %run = (out => '', err => '');
	$run{handle} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('live'), '-U', 'app', '-c', q{CALL dashie.run_job('maintain_partitions')} ],
		'<', \undef, '>', \$run{out}, '2>', \$run{err});
	eventually(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'}, 'the archiver is at work');
	$run{pid} = $node->safe_psql('live', q{SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
	return \%run;
}

my $run = run_in_background();
is(sql(q{INSERT INTO widget_analytics (user_id, widget_type, event_type, "timestamp")
	SELECT '00000000-0000-4000-8000-000000000001', 'clock', 'view', lower_bound FROM dashie.partitions WHERE partition = 'old_45' RETURNING 1}), '1',
	'a late event does not wait for it');
is(sql(q{SELECT pg_cancel_backend(} . $run->{pid} . ')'), 't', 'cancelled');
IPC::Run::finish($run->{handle});
like($run->{err}, qr/canceling statement due to user request/, 'the caller learns that');
like(last_run(), qr/^failed\|0\|canceling statement/, 'and the run is recorded');
is(sql('SELECT count(*) FROM dashie.partition_archive_failure'), '0', 'but no failure of the archiver');
is(sql(q{SELECT count(*), to_regclass('dashie_archive.old_45') FROM old_45}), '101|', 'the partition is as it was');

$run = run_in_background();
$node->safe_psql('postgres', "SELECT pg_terminate_backend($run->{pid}, 60000)");
IPC::Run::finish($run->{handle});
is(sql(q{SELECT count(*), to_regclass('dashie_archive.old_45') FROM old_45}), '101|', 'terminated: the same');

$run = run_in_background();
kill 9, $run->{pid};
IPC::Run::finish($run->{handle});
ok($node->poll_query_until('postgres', 'SELECT true'), 'killed with -9: the server recovers');
is(sql(q{SELECT count(*), to_regclass('dashie_archive.old_45') FROM old_45}), '101|', 'and the partition is as it was');

sql(q{UPDATE public.weather SET fine = true});
due();
sql(q{CALL dashie.run_job('maintain_partitions')});
is(sql(q{SELECT to_regclass('old_45'), (SELECT count(*) FROM dashie_archive.old_45)}), '|101', 'the next run archives all of it');
like(last_run(), qr/^succeeded\|10[01]\|/, 'and succeeds');

#
# A reader is in the way when the archiver is done: it is not called in vain beside
# one who was there before, and the locks are tried more than once for one who came later
#
sql(q{
	SELECT dashie.configure('maintenance_lock_timeout_ms', '50');
	SELECT dashie.configure('lock_retries', '100');
	TRUNCATE public.calls;
	CREATE OR REPLACE FUNCTION public.archiver(partition regclass) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.calls VALUES (current_user, partition, pg_backend_pid());
		PERFORM pg_sleep(1);
		RETURN true;
	END $$});
old_partition(44);
my %reader = (out => '', err => '');
sub read_for
{
	my ($seconds) = @_;
	$reader{handle} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('live'), '-U', 'app', '-c', 'BEGIN', '-c', 'SELECT count(*) FROM widget_analytics',
		'-c', "SELECT 'reads', pg_sleep($seconds)" ], '<', \undef, '>', \$reader{out}, '2>', \$reader{err});
	$node->poll_query_until('live', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%reads%pg_sleep%' AND usename = 'app'})
	  or die "no reader: $reader{err}";
}
sql(q{SELECT dashie.configure('lock_retries', '0')});
read_for(600);
my $err;
$node->psql('live', q{CALL dashie.run_job('maintain_partitions')}, stderr => \$err, extra_params => [ '-U', 'app' ]);
like($err, qr/was blocked/, 'a reader is there before');
is(sql('SELECT count(*) FROM old_44'), '100', 'nothing is emptied');
is($node->safe_psql('live', q{SELECT count(*) FROM dashie.job_run WHERE status = 'blocked'}), '1', 'the run is blocked');
$node->safe_psql('live', q{SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE query LIKE '%reads%pg_sleep%' AND usename = 'app'});
IPC::Run::finish($reader{handle});
sql(q{SELECT dashie.configure('lock_retries', '100')});
$run = run_in_background();
read_for(3);
IPC::Run::finish($run->{handle});
IPC::Run::finish($reader{handle});
is($run->{err}, '', 'a reader came while the archiver worked');
is(sql('SELECT count(*) FROM public.calls'), '1', 'which was called once');
is(sql(q{SELECT to_regclass('old_44')}), '', 'and the partition has gone');

#
# README: to a file, as a role that may run programs; by a job outside
#
my $archive = $node->basedir . '/archive';
mkdir $archive or die;
$node->safe_psql('live', 'GRANT pg_execute_server_program TO app');
sql(qq{
	CREATE SCHEMA ops;
	CREATE FUNCTION ops.to_file(partition regclass) RETURNS boolean LANGUAGE plpgsql AS \$\$
	DECLARE
		expected bigint;
		written bigint;
	BEGIN
		EXECUTE format('SELECT count(*) FROM %s', partition) INTO expected;
		EXECUTE format('COPY %s TO PROGRAM %L WITH (FORMAT csv, HEADER)', partition,
			format('gzip > $archive/%s.csv.gz', replace(partition::text, '"', '')));
		GET DIAGNOSTICS written = ROW_COUNT;
		RETURN written = expected;
	END \$\$;
	SELECT dashie.set_archiver('ops.to_file')});
old_partition(43);
sql(q{CALL dashie.run_job('maintain_partitions')});
is(sql(q{SELECT to_regclass('old_43')}), '', 'archived to a file and gone');
my ($rows) = run_command([ 'sh', '-c', "zcat $archive/public.old_43.csv.gz | wc -l" ]);
is($rows + 0, 101, 'which has a header and every row');

sql(q{
	CREATE TABLE ops.archived (partition text PRIMARY KEY, rows bigint NOT NULL);
	CREATE FUNCTION ops.is_archived(partition regclass) RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE
		there bigint;
	BEGIN
		EXECUTE format('SELECT count(*) FROM %s', partition) INTO there;
		RETURN EXISTS (SELECT FROM ops.archived a WHERE a.partition = is_archived.partition::text AND a.rows = there);
	END $$;
	SELECT dashie.set_archiver('ops.is_archived')});
old_partition(42);
$node->psql('live', q{CALL dashie.run_job('maintain_partitions')}, stderr => \$err, extra_params => [ '-U', 'app' ]);
like($err, qr/archiver ops.is_archived did not confirm/, 'the job outside has not been there');
is(sql(q{SELECT partition, kept_by ~ 'did not confirm' FROM dashie.partitions WHERE drop_at < now()}), 'old_42|t', 'it finds what is to be archived');
sql(q{INSERT INTO ops.archived VALUES ('public.old_42', 99); UPDATE dashie.partition_archive_failure SET next_try = now()});
$node->psql('live', q{CALL dashie.run_job('maintain_partitions')}, stderr => \$err, extra_params => [ '-U', 'app' ]);
like($err, qr/did not confirm/, 'a row is missing');
sql(q{UPDATE ops.archived SET rows = 100; UPDATE dashie.partition_archive_failure SET next_try = now()});
sql(q{CALL dashie.run_job('maintain_partitions')});
is(sql(q{SELECT to_regclass('old_42')}), '', 'and when all are there it goes');

$node->stop;
done_testing();
