# The benchmark of the payments, with a few deliveries: it runs to its end, every
# way of taking events in comes to the same rows and to the right profiles, and
# nothing is left behind. No time is looked at.

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

sub bench
{
	my ($out, $err);
	my $ok = IPC::Run::run([ "$FindBin::Bin/../bench/billing", '--installed', @_ ],
		'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(180));
	return ($ok, $out, $err);
}

{
	my ($ok, $out, $err) = bench(qw(--users 10 --backlog 400 --runs 1));
	ok($ok, 'the benchmark succeeds') or diag(substr($out, -3000) . $err);
	# five ways in five sections, and three backlogs
	like($out, qr/\b28 comparisons, all equal$/m, 'every way ends in the same');
	foreach my $section ('1 connection', '8 connections', '8 connections, 0.5 ms away', '1 connection, fsync', '8 connections, fsync')
	{
		like($out, qr/^\| \Q$section\E \| dashie\.stripe_ingest[^|]* \| \d+ \| \d+ to \d+ \| 1\.00 \|/m, "the table has: $section");
		like($out, qr/^\| \Q$section\E \| $_[^|]* \| \d+ \| \d+ to \d+ \| [0-9.]+ \|/m, "and beside it: $_")
		  foreach ('PL/pgSQL, signature verified', 'PL/pgSQL, signature not', 'statements of the client', 'as few statements');
	}
	like($out, qr/^\| a backlog of 400 \| $_ workers? \| \d+ \|/m, "and a backlog with $_ at work") foreach (1, 2, 4);
}

foreach my $bad ([ '--users', '0' ], [ '--backlog', 'x' ], [ '--runs', '-1' ], ['--nothing'], ['--users'])
{
	my ($ok, $out, $err) = bench(@$bad);
	ok(!$ok, "refused: @$bad");
}

is(join(' ', glob("$tmp/*")), '', 'nothing is left');

done_testing();
