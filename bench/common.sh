# shellcheck shell=bash
# Shared by the benchmarks; sourced after scripts/common.sh.

say() {
	printf '%4d s  %s\n' $((SECONDS - START)) "$*"
}

# number NAME VALUE LEAST MOST
number() {
	[[ $2 =~ ^[0-9]{1,10}$ ]] && [ "$2" -ge "$3" ] && [ "$2" -le "$4" ] || fail "$1 must be $3 to $4: $2"
}

# commas NUMBER: with a comma before each three digits
commas() {
	sed ':a; s/\B[0-9]\{3\}\>/,&/; ta' <<<"$1"
}

# turn RUN WORD...: the words, beginning with another one in each run
turn() {
	local first=$1
	shift
	first=$((first % $#))
	echo "${@:first+1}" "${@:1:first}"
}

# begin_bench: the working directory, and which PostgreSQL it is
begin_bench() {
	START=$SECONDS
	begin_work bench
	[ "$(id -u)" = 0 ] || have sudo || [ -n "${PG_CONFIG:-}" ] ||
		fail "run as root or with sudo, or set PG_CONFIG to a server of your own"
	find_postgres
	# shellcheck disable=SC2034
	BINDIR=$("$PG_CONFIG" --bindir 2>/dev/null) || BINDIR=${PG_CONFIG%/*}
}

# build_bench: installs what is missing, and dashie
build_bench() {
	install_missing
	say "building and installing dashie for $("$PG_CONFIG" --version)"
	build_and_install
}

# cpu: milliseconds of processor time that the backends which have ended took,
# parallel workers included; the kernel keeps them with the postmaster
cpu() {
	local stat fields
	# without /proc nothing is known of it
	[ -e "/proc/$postmaster/stat" ] || { echo 0 && return; }
	stat=$(<"/proc/$postmaster/stat")
	read -ra fields <<<"${stat##*) }"
	echo $(((fields[13] + fields[14]) * 1000 / $(getconf CLK_TCK)))
}

# children: how many processes the postmaster has
children() {
	{ cat /proc/[0-9]*/stat 2>/dev/null || true; } | sed 's/.*) //' | awk -v p="$postmaster" '$2 == p { n++ } END { print n + 0 }'
}

# started: the server has; it has no backends yet
started() {
	postmaster=$(head -n 1 "$WORK/data/postmaster.pid")
	sleep 0.2
	idle=$(children)
}

# settled: every backend has ended, and its processor time is known
settled() {
	while [ "$(children)" -gt "$idle" ]; do
		sleep 0.02
	done
}

# durable ON-OR-OFF: whether a commit waits for the disk
durable() {
	as_server "$BINDIR/psql" -Xqd postgres -c "ALTER SYSTEM SET fsync = $1" -c 'SELECT pg_reload_conf()' >/dev/null
	until [ "$(as_server "$BINDIR/psql" -XqAtd postgres -c 'SHOW fsync')" = "$1" ]; do
		sleep 0.05
	done
}

# What follows is for benchmarks of the application app_owner's database $database,
# whose times and notes bench/report.sql makes a table of; $run counts the runs.

# sql ROLE PSQL-OPTION...: in the database of the history that is measured
sql() {
	local role=$1
	shift
	as_server "$BINDIR/psql" -XqU "$role" -d "$database" -v ON_ERROR_STOP=1 "$@"
}

# value QUERY: of one value
value() {
	sql app_owner -Atc "SET timezone = 'UTC'" -c "$1"
}

# note SECTION PEER TEXT: what the table says about a peer's result
note() {
	printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$WORK/notes.tsv"
}

# milliseconds: the sum of what psql says that each statement took
milliseconds() {
	awk '/^Time: / { sum += $2 } END { printf "%.3f", sum }'
}

# timed SECTION PEER FILE PSQL-OPTION...: a script of bench/ in a session of its own
timed() {
	local section=$1 peer=$2 file=$3 ms before
	shift 3
	settled
	before=$(cpu)
	sql app_owner "$@" -c "SET timezone = 'UTC'" -c '\timing on' -f "$WORK/bench/$file" >"$WORK/timed.out"
	ms=$(milliseconds <"$WORK/timed.out")
	settled
	before=$(($(cpu) - before))
	printf '%s\t%s\t%d\t%s\t%s\n' "$section" "$peer" "$run" "$ms" "$before" >>"$WORK/times.tsv"
	say "$section: $peer: ${ms%.*} ms, $before ms of CPU"
}

# asked SECTION PEER TIMES QUERY: the middle one of some times in one session,
# the first of which is left out if there are more
asked() {
	local section=$1 peer=$2 times=$3 query=$4 ms
	{
		printf "SET timezone = 'UTC';\nSET work_mem = '256MB';\n\\\\timing on\n"
		for _ in $(seq "$times"); do
			printf '%s \\g /dev/null\n' "$query"
		done
	} >"$WORK/asked.sql"
	sql app_owner -f "$WORK/asked.sql" >"$WORK/asked.out"
	ms=$(awk '/^Time: / { print $2 }' "$WORK/asked.out" | tail -n +$((times > 1 ? 2 : 1)) | sort -n |
		awk '{ t[NR] = $1 } END { print t[int((NR + 1) / 2)] }')
	printf '%s\t%s\t%d\t%s\t\\N\n' "$section" "$peer" "$run" "$ms" >>"$WORK/times.tsv"
	say "$section: $peer: $ms ms"
}

# equal_answers SECTION QUERY PEER QUERY...: the run fails where the answers differ
equal_answers() {
	local section=$1 expected answer
	expected=$(value "$2")
	shift 2
	while [ $# -gt 0 ]; do
		answer=$(value "$2")
		[ "$answer" = "$expected" ] && [ -n "$answer" ] || fail "$section: the answer of \"$1\" differs from dashie's"
		note "$section" "$1" equal
		compared=$((compared + 1))
		shift 2
	done
}
