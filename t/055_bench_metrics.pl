# The benchmark of the metrics, with a few rows: it runs to its end, every exact
# way of computing the numbers agrees with dashie, and nothing is left behind.
# No time is looked at.

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
my @bench = ("$FindBin::Bin/../bench/metrics", '--installed');

sub bench
{
	my ($out, $err);
	my $ok = IPC::Run::run([ @bench, @_ ], '<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(180));
	return ($ok, $out, $err);
}

{
	my ($ok, $out, $err) = bench(qw(--sessions 6000 --users 300 --days 31 --runs 1 --scale 3000));
	ok($ok, 'the benchmark succeeds') or diag(substr($out, -3000) . $err);
	like($out, qr/\b1[0-9] comparisons, all equal$/m, 'every exact way agrees with dashie');
	foreach my $what ('backfill of 31 days into daily_metrics',
		'a night after 6,000 sessions',
		'active users of 30 days by country',
		'active users of 30 days',
		'a night in which 200 sessions of the last 10 days ended',
		'a night after 3,000 sessions, in turn')
	{
		like($out, qr/^\| \Q$what\E \| dashie[^|]* \| [0-9.]+ \| [0-9.]+ to [0-9.]+ \| 1 \|/m, "the table has: $what");
	}
	like($out, qr/^\| a night after 6,000 sessions, in turn \| dashie .*[0-9.] times that a night after 3,000 sessions, in turn \|$/m,
		'nights over different histories are beside each other');
	like($out, qr/^\|  \| best SQL, from the rows \| [0-9.]+ \| .* \| equal \|$/m, 'a peer has its ratio and result');
	like($out, qr/^\| dashie\.day_page \| [0-9.]+ \| [0-9.]+ \| \d+ \|$/m, 'bytes are told');
}

foreach my $bad ([ '--sessions', '0' ], [ '--days', '-1' ], [ '--runs', 'x' ], [ '--scale', '5,x' ], ['--nothing'], ['--users'])
{
	my ($ok, $out, $err) = bench(@$bad);
	ok(!$ok, "refused: @$bad");
}

is(join(' ', glob("$tmp/*")), '', 'nothing is left');

{
	my ($out, $err) = ('', '');
	my $run = IPC::Run::start([ @bench, qw(--sessions 100000 --users 300 --days 31) ],
		'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(120));
	$run->pump until $out =~ /: loading/;
	sleep 1; # into the loading
	$run->signal('TERM');
	$run->finish;
	isnt($run->full_result(0), 0, 'an interrupted benchmark does not succeed');
	is(join(' ', glob("$tmp/*")), '', 'and leaves nothing');
}

done_testing();
