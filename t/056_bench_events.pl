# The benchmark of counting events, with few of them: every answer is compared
# with plain SQL, and nothing is left behind.  No time is looked at.
use strict;
use warnings;

use FindBin;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $tmp = PostgreSQL::Test::Utils::tempdir_short();
local $ENV{TMPDIR} = $tmp;
local $ENV{PG_CONFIG} = $ENV{PG_CONFIG} // 'pg_config';
my @bench = ("$FindBin::Bin/../bench/events", '--installed');
my ($out, $err);

my $ok = IPC::Run::run([ @bench, qw(--events 3000 --users 60 --days 9 --runs 1) ], '<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(180));
ok($ok, 'the benchmark succeeds') or diag(substr($out, -3000) . $err);
like($out, qr/\b12 comparisons, all equal$/m, 'every way agrees with dashie');
foreach my $what ('counting all 9 days, the first run', 'counting yesterday again', 'widget_popularity of 9 days', 'event_counts by week, 9 days',
	'event_counts by event type, 9 days', 'widget_compare, 2 x 4 days', 'widget_funnel, 3 steps within an hour, 9 days', 'verify_events of 9 days')
{
	like($out, qr/^\| \Q$what\E \| dashie \| [0-9.]+ \| [0-9.]+ to [0-9.]+ \| 1 \|/m, "the table has: $what");
}
like($out, qr/^\|  \| self-joins \| [0-9.]+ \| .* \| equal \|$/m, 'a peer has its ratio and result');
is_deeply([ glob("$tmp/*") ], [], 'nothing is left behind');

foreach my $bad ([ '--events', '10' ], [ '--days', '31' ], [ '--runs', 'x' ], ['--nothing'], ['--users'])
{
	ok(!IPC::Run::run([ @bench, @$bad ], '<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(60)), "refused: @$bad");
}

done_testing();
