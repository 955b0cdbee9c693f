# The benchmark of the partitions' maintenance, with a few rows: it runs to its
# end, every way removed the same rows, no statement failed beside dashie, and
# nothing is left behind.  No time is looked at.

use strict;
use warnings;

use FindBin;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

# All that the script makes lies in this directory.
my $tmp = PostgreSQL::Test::Utils::tempdir_short();
local $ENV{TMPDIR} = $tmp;
local $ENV{PG_CONFIG} = $ENV{PG_CONFIG} // 'pg_config';
local $ENV{BENCH_SHARED_BUFFERS} = '64';
my @bench = ("$FindBin::Bin/../bench/maintenance", '--installed');

sub bench
{
	my ($out, $err);
	my $ok = IPC::Run::run([ @bench, @_ ], '<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(300));
	return ($ok, $out, $err);
}

{
	my ($ok, $out, $err) = bench('--quick');
	ok($ok, 'the benchmark succeeds') or diag(substr($out, -3000) . $err);
	like($out, qr/^\| dashie: the job maintain_partitions \| [0-9.]+ \| 1\.0 \| \d+ \| 1\.0 \|$/m, 'the day that dashie drops');
	like($out, qr/^\| DELETE, then VACUUM \| [0-9.]+ \| [0-9.]+ \| \d+ \| [0-9.]+ \|$/m, 'and what DELETE takes');
	foreach my $row ('two clients | no maintenance', map { ("two clients | $_", "beside a reader and a writer | $_") }
		'dashie: the job maintain_partitions', 'DELETE, then VACUUM')
	{
		like($out, qr/^\| \Q$row\E \| [0-9.]+ \| [0-9.]+ \| [0-9.]+ \| [0-9.]+ \| [1-9][0-9]* \| 0 \| 0 \|$/m, "the table has: $row");
	}
	like($out, qr/^\| beside a reader and a writer \| [0-9.]+, [0-9.]+ \|$/m, 'and what dashie recorded itself');
}

foreach my $bad ([ '--events', '0' ], [ '--runs', '-1' ], [ '--seconds', 'x' ], [ '--seconds', '1' ], ['--nothing'], ['--events'])
{
	my ($ok, $out, $err) = bench(@$bad);
	ok(!$ok, "refused: @$bad");
}

is(join(' ', glob("$tmp/*")), '', 'nothing is left');

done_testing();
