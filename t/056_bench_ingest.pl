# The benchmark of storing events, with few of them: every way stores all of them,
# each table has numbers, and nothing is left behind.  No time is looked at.
use strict;
use warnings;

use FindBin;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $tmp = PostgreSQL::Test::Utils::tempdir_short();
local $ENV{TMPDIR} = $tmp;
local $ENV{PG_CONFIG} = $ENV{PG_CONFIG} // 'pg_config';
my @bench = ("$FindBin::Bin/../bench/ingest", '--installed');
my ($out, $err);

my $ok = IPC::Run::run([ @bench, qw(--batches 2 --events 50 --runs 1 --history 50) ], '<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(180));
ok($ok, 'the benchmark succeeds') or diag(substr($out, -3000) . $err);
foreach my $way ('dashie.track()', 'dashie.track(), duplicate_window_hours = 48', 'INSERT ... SELECT FROM jsonb_to_recordset()', 'INSERT of many VALUES',
	'one INSERT an event', 'one INSERT an event, a transaction each', 'dashie.track(), each commit waits for the disk',
	'INSERT ... SELECT FROM jsonb_to_recordset(), the same', 'one INSERT an event, a transaction each, the same', 'COPY into a heap without key or index', '+ foreign keys', 'COPY', "COPY into the roadmap's DDL, made valid",
	'COPY into a heap with the primary key and the foreign keys alone', 'COPY of events without ids')
{
	like($out, qr/^\| \Q$way\E \| [0-9.]+ \| [0-9.]+ \| [0-9.]+ \| [0-9.]* \| [1-9][0-9]* \| [1-9][0-9]* \|$/m, "the table has: $way");
}
is_deeply([ glob("$tmp/*") ], [], 'nothing is left behind');

foreach my $bad ([ '--ids', 'v4' ], [ '--batches', '0' ], [ '--runs', 'x' ], [ '--history', '-1' ], ['--nothing'])
{
	ok(!IPC::Run::run([ @bench, @$bad ], '<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(60)), "refused: @$bad");
}

done_testing();
