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
