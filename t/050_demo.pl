# The demonstration: every number equal, and nothing left behind, neither at
# its end nor when it is interrupted.

use strict;
use warnings;

use FindBin;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
my ($libdir) = run_command([ $pg_config, '--pkglibdir' ]);
plan skip_all => 'pg_cron is not installed' unless -e "$libdir/pg_cron.so";

# All that the script makes lies in this directory.
my $tmp = PostgreSQL::Test::Utils::tempdir_short();
my @demo = ("$FindBin::Bin/../scripts/demo", '--installed');
local $ENV{TMPDIR} = $tmp;
local $ENV{PG_CONFIG} = $pg_config;

# leftovers: processes at work in $tmp, and files there
sub leftovers
{
	my @found = glob("$tmp/*");
	foreach my $proc (glob('/proc/[0-9]*'))
	{
		my $cwd = readlink("$proc/cwd") // next;
		push @found, "$proc in $cwd" if index($cwd, "$tmp/") == 0;
	}
	return join("\n", @found);
}

{
	my ($out, $err);
	my $ok = IPC::Run::run(\@demo, '<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(420));
	ok($ok, 'the demonstration succeeds') or diag(substr($out, -3000) . $err);
	like($out, qr/^all (\d{3,}) equal$/m, 'every number is equal to what plain SQL computes');
	unlike($out, qr/DIFFER/, 'none differs');
	like($out, qr/\| worker .*\| pg_cron .*\| call /s, 'jobs ran through the worker, pg_cron and by hand');
	is(leftovers(), '', 'nothing is left');
}

{
	my ($out, $err) = ('', '');
	my $run = IPC::Run::start(\@demo, '<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(120));
	$run->pump until $out =~ /the log is loaded/;
	$run->signal('TERM');
	$run->finish;
	isnt($run->full_result(0), 0, 'an interrupted demonstration does not succeed');
	is(leftovers(), '', 'and leaves nothing');
}

done_testing();
