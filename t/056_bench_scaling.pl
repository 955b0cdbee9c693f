# The benchmark of events and partitions, with few of both: it runs to its end,
# prints every table with numbers in it, and leaves nothing behind.  No time is
# looked at.
use strict;
use warnings;

use FindBin;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $tmp = PostgreSQL::Test::Utils::tempdir_short();
local $ENV{TMPDIR} = $tmp;
local $ENV{PG_CONFIG} = $ENV{PG_CONFIG} // 'pg_config';
my @bench = ("$FindBin::Bin/../bench/scaling", '--installed');
my ($out, $err);

my $ok = IPC::Run::run([ @bench, qw(--events 20000 --partitions 4,12 --runs 1) ], '<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(180));
ok($ok, 'the benchmark succeeds') or diag(substr($out, -3000) . $err);
for my $kind ('random', 'version 7')
{
	like($out, qr/^\| $kind( \| [1-9][0-9]*){7} \|$/m, "bytes of ids $kind");
	like($out, qr/^\| $kind( \| [1-9][0-9]*){5} \|$/m, "WAL of ids $kind");
}
like($out, qr/^\| 1000 \| [1-9][0-9]* \| [1-9][0-9]* \|$/m, 'rates');
like($out, qr/^\| $_( \| [0-9.]+){7} \|$/m, "$_ partitions") for 4, 12;
like($out, qr/^\| 10000000 \| 30000000000 \| 11574 \/ 46296 \|( [^|]*[1-9][^|]* \|){6}$/m, 'what is computed from them');
is_deeply([ glob("$tmp/*") ], [], 'nothing is left behind');

$ok = IPC::Run::run([ @bench, '--events', '100' ], '<', \undef, '>', \$out, '2>', \$err);
ok(!$ok, 'too few events');
like($err, qr/20000 or more/, 'are refused');

done_testing();
