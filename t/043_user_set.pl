# Hostile bytes for dashie.user_set, and its life outside of one database.
#
# The code that reads bytes runs under the sanitizers first, without a server:
# fuzz/user_set.c compares it with CRoaring. Then bytes go through SQL: sets
# that this file writes, mutated, by a cast and by the binary protocol. What is
# a set and which, a decoder in Perl says, written from the format's
# specification and from nothing else.
#
#   DASHIE_SEED=17 DASHIE_FUZZ_INPUTS=1000000 prove ...   other inputs, and more
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{DASHIE_SEED} // 1;
my $inputs = $ENV{DASHIE_FUZZ_INPUTS} // 5000;
diag("seed $seed");
srand($seed);

#
# Without a server
#
{
	# not those of the make that runs this test
	local %ENV = %ENV;
	delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES)};
	my ($out, $err);
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $ok = IPC::Run::run([ 'make', '-s', 'fuzz', "FUZZ_DIR=$dir", "FUZZ_INPUTS=$inputs", "FUZZ_SEED=$seed" ],
		'>', \$out, '2>', \$err);
	ok($ok, 'the sanitizers and the library find nothing');
	diag("$out$err") if !$ok;
	my ($accepted, $rejected) = $out =~ /passed: (\d+) accepted .* (\d+) rejected/;
	is(($accepted // 0) + ($rejected // 0), $inputs, 'all inputs were tried');
	cmp_ok($accepted // 0, '>', $inputs / 50, 'enough of them are sets');
}

#
# The format in Perl
#

# Members that share their upper 16 bits, as one of the kinds that may hold them.
sub encode_container
{
	my ($runs_allowed, @values) = @_;
	if ($runs_allowed)
	{
		my @runs;
		foreach my $value (@values)
		{
			if (@runs && $runs[-1][0] + $runs[-1][1] + 1 == $value) { $runs[-1][1]++ }
			else { push @runs, [ $value, 0 ] }
		}
		return pack('v*', scalar(@runs), map { @$_ } @runs);
	}
	return pack('v*', @values) if @values <= 4096;
	my $bits = '0' x 65536;
	substr($bits, $_, 1) = '1' foreach @values;
	return pack('b*', $bits);
}

sub encode
{
	my %containers;
	push @{ $containers{ $_ >> 16 } }, $_ & 0xFFFF foreach sort { $a <=> $b } @_;
	my @keys = sort { $a <=> $b } keys %containers;
	my @runs = map { rand() < 0.4 ? 1 : 0 } @keys;
	my @bodies = map { encode_container($runs[$_], @{ $containers{ $keys[$_] } }) } 0 .. $#keys;
	my $with_runs = @keys && (rand() < 0.1 || grep { $_ } @runs);
	@bodies = map { encode_container(0, @{ $containers{ $keys[$_] } }) } 0 .. $#keys if !$with_runs;
	my $header = $with_runs ? pack('vv', 12347, $#keys) . pack('b*', join('', @runs)) : pack('VV', 12346, scalar(@keys));
	$header .= pack('v*', map { $_, scalar(@{ $containers{$_} }) - 1 } @keys);
	if (!$with_runs || @keys >= 4)
	{
		my $offset = length($header) + 4 * @keys;
		foreach my $body (@bodies)
		{
			$header .= pack('V', $offset);
			$offset += length($body);
		}
	}
	return join('', $header, @bodies);
}

# The members that bytes hold, or undef.
sub decode
{
	my ($bytes) = @_;
	my $size = length($bytes);
	my ($n, @runs, @offsets, @members);
	return if $size < 8;
	my $at;
	my ($cookie, $low) = (unpack('V', $bytes), unpack('v', $bytes));
	if ($cookie == 12346) { $n = unpack('V', substr($bytes, 4, 4)); $at = 8; @runs = (); }
	elsif ($low == 12347)
	{
		$n = ($cookie >> 16) + 1;
		$at = 4 + int(($n + 7) / 8);
		return if $size < $at;
		@runs = split //, unpack('b*', substr($bytes, 4, $at - 4));
	}
	else { return }
	return if $n > 32768 || $size < $at + 4 * $n;
	my @headers = unpack('v*', substr($bytes, $at, 4 * $n));
	$at += 4 * $n;
	if (!@runs || $n >= 4)
	{
		return if $size < $at + 4 * $n;
		@offsets = unpack('V*', substr($bytes, $at, 4 * $n));
		$at += 4 * $n;
	}
	my $previous = -1;
	foreach my $i (0 .. $n - 1)
	{
		my ($key, $cardinality) = ($headers[ 2 * $i ], $headers[ 2 * $i + 1 ] + 1);
		my @values;
		return if $key >= 32768 || $key <= $previous;
		$previous = $key;
		return if @offsets && $offsets[$i] != $at;
		if ($runs[$i])
		{
			return if $size < $at + 2;
			my $nruns = unpack('v', substr($bytes, $at, 2));
			return if $size < $at + 2 + 4 * $nruns;
			my @pairs = unpack('v*', substr($bytes, $at + 2, 4 * $nruns));
			my $end = -2;
			while (@pairs)
			{
				my ($first, $more) = splice(@pairs, 0, 2);
				return if $first <= $end + 1 || $first + $more > 65535;
				push @values, $first .. $first + $more;
				$end = $first + $more;
			}
			$at += 2 + 4 * $nruns;
		}
		elsif ($cardinality <= 4096)
		{
			return if $size < $at + 2 * $cardinality;
			@values = unpack('v*', substr($bytes, $at, 2 * $cardinality));
			foreach my $j (1 .. $#values) { return if $values[$j] <= $values[ $j - 1 ] }
			$at += 2 * $cardinality;
		}
		else
		{
			return if $size < $at + 8192;
			my $bits = unpack('b*', substr($bytes, $at, 8192));
			push @values, pos($bits) - 1 while $bits =~ /1/g;
			$at += 8192;
		}
		return if @values != $cardinality;
		push @members, map { $key * 65536 + $_ } @values;
	}
	return if $at != $size;
	return \@members;
}

sub text
{
	my @members = @_;
	my @parts;
	while (@members)
	{
		my $first = shift @members;
		my $last = $first;
		$last = shift @members while @members && $members[0] == $last + 1;
		push @parts, $last > $first + 1 ? "$first-$last" : $last > $first ? ($first, $last) : $first;
	}
	return '{' . join(',', @parts) . '}';
}

sub random_members
{
	my %members;
	foreach (1 .. int(rand(5)))
	{
		my $base = 65536 * (rand() < 0.2 ? int(rand(32768)) : int(rand(6)));
		my $kind = rand();
		my $start = int(rand(60000));
		if ($kind < 0.4) { $members{ $base + int(rand(65536)) } = 1 foreach 1 .. 1 + rand(30) }
		elsif ($kind < 0.7) { $members{ $base + $start + $_ } = 1 foreach 0 .. rand(40) }
		elsif ($kind < 0.9) { $members{ $base + $start + 3 * $_ } = 1 foreach 0 .. rand(300) }
		else { $members{ $base + 7 * $_ } = 1 foreach 0 .. 4090 + rand(12) }
	}
	return keys %members;
}

sub mutate
{
	my ($bytes) = @_;
	foreach (1 .. int(rand(4)))
	{
		my $span = rand() < 0.6 && length($bytes) > 48 ? 48 : length($bytes);
		my $at = int(rand($span));
		my $kind = int(rand(6));
		last if $span < 4;
		if ($kind == 0) { substr($bytes, $at, 1) ^= chr(1 << int(rand(8))) }
		elsif ($kind == 1) { substr($bytes, $at, 1) = chr(int(rand(256))) }
		elsif ($kind == 2) { $bytes = substr($bytes, 0, $at) }
		elsif ($kind == 3) { $bytes .= chr(int(rand(256))) x (1 + int(rand(4))) }
		elsif ($kind == 4) { substr($bytes, $at, 1 + int(rand(4))) = '' }
		elsif ($at + 2 <= length($bytes))
		{
			my $old = unpack('v', substr($bytes, $at, 2));
			substr($bytes, $at, 2) = pack('v', ($old + (rand() < 0.5 ? 1 : 65535)) % 65536);
		}
	}
	return $bytes;
}

my @cases = map {
	my $bytes = mutate(encode(random_members()));
	my $members = decode($bytes);
	{ bytes => $bytes, text => defined($members) ? text(@$members) : undef }
} 1 .. 2000;
my $sets = grep { defined $_->{text} } @cases;
note("$sets of " . scalar(@cases) . " inputs are sets");
cmp_ok($sets, '>', 400, 'the decoder finds sets');
cmp_ok(@cases - $sets, '>', 400, 'and bytes that are none');

#
# By a cast
#
my $node = PostgreSQL::Test::Cluster->new('user_set');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\nlog_min_messages = fatal\n");
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE DATABASE live OWNER app; CREATE DATABASE copy OWNER app');

sub sql
{
	my ($db, $query) = @_;
	return $node->safe_psql($db, "SET client_min_messages = warning; SET search_path = dashie;\n$query", extra_params => [ '-U', 'app' ]);
}

sql('live', q{
	CREATE EXTENSION dashie;
	CREATE SCHEMA app;
	CREATE TABLE app.fuzz (id int, bytes bytea, expected text);
	CREATE TABLE app.received (id int, users dashie.user_set);
	CREATE TABLE app.again (LIKE app.received);
	CREATE FUNCTION app.attempt(bytes bytea) RETURNS dashie.user_set LANGUAGE plpgsql AS $$
	BEGIN
		RETURN bytes::dashie.user_set;
	EXCEPTION WHEN invalid_binary_representation THEN
		RETURN NULL;
	END $$;
});
my $data = $node->basedir . '/fuzz.tsv';
open(my $file, '>', $data) or die;
foreach my $id (0 .. $#cases)
{
	print $file "$id\t\\\\x", unpack('H*', $cases[$id]{bytes}), "\t", $cases[$id]{text} // '\\N', "\n";
}
close($file);
$node->safe_psql('live', "COPY app.fuzz FROM '$data'");

is(sql('live', q{SELECT id FROM app.fuzz WHERE app.attempt(bytes)::text IS DISTINCT FROM expected ORDER BY id LIMIT 10}),
	'', 'a cast takes the sets that the decoder takes, with the same members');
is( sql('live', q{
	SELECT count(*) FROM (SELECT app.attempt(bytes) AS s, expected, bytes FROM app.fuzz) f
	WHERE s IS NOT NULL AND (s <> expected::dashie.user_set OR s::bytea <> expected::dashie.user_set::bytea
		OR dashie.user_set(dashie.to_array(s)) <> s OR s::bytea::dashie.user_set <> s
		OR (SELECT dashie.user_set_agg(m) FROM dashie.unnest(s) AS m) <> CASE WHEN s = '{}' THEN NULL ELSE s END)}),
	'0', 'equal sets are equal bytes, whatever they came from');
is( sql('live', q{
	WITH f AS (SELECT id, app.attempt(bytes) AS s FROM app.fuzz)
	SELECT count(*) FROM f AS a JOIN f AS b ON b.id = a.id + 1 WHERE a.s IS NOT NULL AND b.s IS NOT NULL
		AND dashie.cardinality(dashie.user_set_union(a.s, b.s)) + dashie.cardinality(dashie.user_set_intersect(a.s, b.s))
		<> dashie.cardinality(a.s) + dashie.cardinality(b.s)}),
	'0', 'and can be counted on');

#
# By the binary protocol: a file that COPY reads, for each input
#
my $script = '';
my @tried = grep { $_ % 4 == 0 } 0 .. $#cases;
foreach my $id (@tried)
{
	my $path = $node->basedir . "/$id.bin";
	my $bytes = $cases[$id]{bytes};
	open(my $copy, '>:raw', $path) or die;
	print $copy "PGCOPY\n\377\r\n\0", pack('NN', 0, 0), pack('nNNN', 2, 4, $id, length($bytes)), $bytes, pack('n', 65535);
	close($copy);
	$script .= "COPY app.received FROM '$path' (FORMAT binary);\n";
}
my ($out, $err);
is($node->psql('live', $script, stdout => \$out, stderr => \$err, on_error_stop => 0), 0, 'the server survives');
my @messages = grep { !/invalid bytes for type dashie\.user_set/ } $err =~ /ERROR:.*/g;
is("@messages", '', 'what is refused is refused for what it is');
is( sql('live', q{SELECT f.id FROM app.fuzz f LEFT JOIN app.received r USING (id) WHERE f.id % 4 = 0
	AND r.users::text IS DISTINCT FROM f.expected LIMIT 10}),
	'', 'the binary protocol takes the same sets');

#
# Out and in again, as pg_dump and another machine would
#
$node->safe_psql('live', "COPY app.received TO '$data' (FORMAT binary); COPY app.again FROM '$data' (FORMAT binary)");
is(sql('live', 'SELECT count(*) > 100 AND bool_and(a.users = r.users) FROM app.again a JOIN app.received r USING (id)'),
	't', 'binary out and in');
sql('live', q{CREATE INDEX received_users ON app.received USING hash (users); CREATE INDEX received_order ON app.received (id, (users::bytea IS NULL))});
my $dump = $node->basedir . '/live.dump';
$node->command_ok([ 'pg_dump', '-U', 'app', '-Fc', '-f', $dump, '-d', $node->connstr('live') ], 'a table with sets is dumped');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-U', 'app', '-d', $node->connstr('copy'), $dump ], 'and restored');
my $digest = q{SELECT count(*), md5(string_agg(id || users::text, '|' ORDER BY id)) FROM app.received};
is(sql('copy', $digest), sql('live', $digest), 'with the same sets');
is(sql('copy', q{SELECT count(*) FROM app.fuzz f JOIN app.received r ON r.users = f.expected::dashie.user_set WHERE r.id = f.id}),
	sql('live', 'SELECT count(*) FROM app.received'), 'which are found by their hash');

# a column of the type is the user's, and is not dropped behind their back
isnt($node->psql('live', 'DROP EXTENSION dashie', stderr => \$err), 0, 'DROP EXTENSION is refused');
like($err, qr/column users of table app\.received depends on type dashie\.user_set/, 'and says because of which column');

$node->stop;
done_testing();
