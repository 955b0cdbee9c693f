# shellcheck shell=bash
# Shared by scripts/demo, scripts/test and bench/: finding PostgreSQL, installing what
# is missing, and a working directory whose processes never outlive the script.
#
# A script that sources this calls begin_work once.  From then on everything it
# makes lies under $WORK, which is removed at the end however the script ends.

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
WORK=
CHILD=
KEEP_WORK=
CLUSTER_CONF=/etc/postgresql-common/createcluster.conf

fail() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

have() {
	command -v "$1" >/dev/null 2>&1
}

# as_root COMMAND...: with the rights to install
as_root() {
	if [ "$(id -u)" != 0 ] && have sudo; then
		sudo "$@"
	else
		"$@"
	fi
}

# run COMMAND...: in a process group of its own, so that a signal to the script
# is acted upon at once and ends the whole command with it.
run() {
	setsid "$@" &
	CHILD=$!
	local status=0
	wait "$CHILD" || status=$?
	CHILD=
	return $status
}

# as_server COMMAND...: as the user PostgreSQL runs as.  It refuses root.
# From $WORK, since that user may not enter the directory the script stands in.
as_server() {
	if [ "$(id -u)" = 0 ]; then
		run env --chdir="$WORK" HOME="$WORK" TMPDIR="$WORK/tmp" \
			setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"
	else
		run env --chdir="$WORK" HOME="$WORK" TMPDIR="$WORK/tmp" "$@"
	fi
}

# find_postgres: PG_CONFIG from the environment, else the newest PostgreSQL
# there is, else what the distribution calls "postgresql".
find_postgres() {
	local newest='' tree
	if [ -z "${PG_CONFIG:-}" ]; then
		for tree in $(printf '%s\n' /usr/lib/postgresql/*/lib/pgxs | sort -V); do
			[ ! -d "$tree" ] || newest=$(cut -d/ -f5 <<<"$tree")
		done
		if [ -z "$newest" ]; then
			have apt-get || fail "no PostgreSQL found: set PG_CONFIG"
			as_root apt-get -qq update
			newest=$(apt-cache depends postgresql |
				sed -n 's/.*Depends: postgresql-\([0-9][0-9]*\)$/\1/p')
			[ -n "$newest" ] || fail "apt knows no PostgreSQL: set PG_CONFIG"
		fi
		PG_CONFIG=/usr/lib/postgresql/$newest/bin/pg_config
		PG_MAJOR=$newest
	else
		PG_CONFIG=$(command -v "$PG_CONFIG") || fail "PG_CONFIG is not a program"
		PG_MAJOR=$("$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
	fi
	export PG_CONFIG
}

# package_for PACKAGE TEST...: adds PACKAGE to $missing unless TEST succeeds
package_for() {
	local package=$1
	shift
	"$@" >/dev/null 2>&1 || missing+=("$package")
}

# install_missing: what building, the demo and the tests need, and no more.
install_missing() {
	local missing=() bindir=${PG_CONFIG%/*} libdir headers
	libdir=$("$PG_CONFIG" --pkglibdir 2>/dev/null) || libdir=/usr/lib/postgresql/$PG_MAJOR/lib
	headers=$("$PG_CONFIG" --includedir-server 2>/dev/null) || headers=/usr/include/postgresql/$PG_MAJOR/server

	package_for make have make
	package_for gcc have gcc
	package_for libc6-dev test -e /usr/include/stdio.h
	package_for libroaring-dev test -e /usr/include/roaring/roaring.h
	package_for libipc-run-perl perl -MIPC::Run -e 1
	package_for perl have prove
	package_for "postgresql-$PG_MAJOR" test -x "$bindir/initdb"
	# Debian has pg_config and pgxs.mk in the client's package, the headers elsewhere
	package_for "postgresql-server-dev-$PG_MAJOR" test -e "$headers/postgres.h"
	package_for "postgresql-$PG_MAJOR-cron" test -e "$libdir/pg_cron.so"
	[ -z "${CI:-}" ] || package_for clang-format have clang-format
	[ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

# install_packages PACKAGE...
install_packages() {
	local bindir=${PG_CONFIG%/*} status=0

	have apt-get || fail "missing, and no apt-get to install it with: $*"
	echo "installing $*"
	export DEBIAN_FRONTEND=noninteractive
	as_root apt-get -qq update

	# Debian starts a cluster when a server package is installed.  Nobody asked
	# for one.
	if [ ! -x "$bindir/initdb" ]; then
		as_root apt-get -qqy install --no-install-recommends postgresql-common >"$WORK/apt.log" 2>&1 ||
			status=$?
		cp "$CLUSTER_CONF" "$WORK/createcluster.conf"
		printf 'create_main_cluster = false\n' | as_root tee -a "$CLUSTER_CONF" >/dev/null
	fi
	[ $status != 0 ] || as_root apt-get -qqy install --no-install-recommends "$@" \
		>>"$WORK/apt.log" 2>&1 || status=$?
	restore_cluster_conf
	if [ $status != 0 ]; then
		tail -n 20 "$WORK/apt.log"
		fail "apt-get could not install $*"
	fi
}

restore_cluster_conf() {
	[ ! -e "$WORK/createcluster.conf" ] || as_root cp "$WORK/createcluster.conf" "$CLUSTER_CONF"
	rm -f "$WORK/createcluster.conf"
}

# begin_work NAME: makes $WORK, to be removed at the end
begin_work() {
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	trap end_work EXIT
	# Sockets lie in it, and their paths are limited to 107 bytes.
	WORK=$(mktemp -d "${TMPDIR:-/tmp}/dashie-$1.XXXXXX")
	[ ${#WORK} -lt 60 ] || { rmdir "$WORK"; WORK=$(mktemp -d "/tmp/dashie-$1.XXXXXX"); }
	mkdir "$WORK/tmp" "$WORK/socket"
}

# give_work: $WORK to the user PostgreSQL runs as, who exists by now
give_work() {
	[ "$(id -u)" != 0 ] || chown -R postgres:postgres "$WORK"
}

# Ends what still runs under $WORK: the command in progress, then every server
# whose data directory lies there.
end_work() {
	local status=$? pid file tries
	set +e # what cannot be ended any more must not end this
	trap '' HUP INT TERM
	[ -z "$WORK" ] || restore_cluster_conf
	if [ -n "$CHILD" ]; then
		kill -TERM -- "-$CHILD" 2>/dev/null
		for tries in $(seq 100); do
			kill -0 -- "-$CHILD" 2>/dev/null || break
			sleep 0.1
		done
		kill -KILL -- "-$CHILD" 2>/dev/null
	fi
	if [ -n "$WORK" ] && [ -z "$KEEP_WORK" ]; then
		find "$WORK" -name postmaster.pid 2>/dev/null | while read -r file; do
			pid=$(head -n 1 "$file" 2>/dev/null)
			# a stale file may name a process that is somebody else's by now
			case $(readlink "/proc/$pid/cwd" 2>/dev/null || echo "$WORK/unknown") in
				"$WORK"/*) ;;
				*) continue ;;
			esac
			kill -INT "$pid" 2>/dev/null
			for tries in $(seq 100); do
				kill -0 "$pid" 2>/dev/null || break
				[ "$tries" != 80 ] || kill -QUIT "$pid" 2>/dev/null
				sleep 0.1
			done
		done
		rm -rf "$WORK"
	fi
	exit $status
}

# build_and_install: from a copy of the sources, so that the clone stays as it
# is and the server's user can read the tests.
build_and_install() {
	local options=()
	mkdir "$WORK/dashie"
	tar -C "$PROJECT" --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' \
		--exclude=./tmp_check --exclude=./results --exclude=./output_iso -cf - . |
		tar -C "$WORK/dashie" --no-same-owner -xf -
	give_work
	# PGXS also builds bitcode for the JIT compiler, where there is a clang.
	[ -x "$(sed -n 's/^CLANG *= *//p' "$("$PG_CONFIG" --pgxs | sed 's,/makefiles/pgxs.mk$,,')/Makefile.global")" ] ||
		options+=(with_llvm=no)
	as_server make -C "$WORK/dashie" -j"$(nproc)" "${options[@]}" >"$WORK/build.log" 2>&1 || {
		grep -vE '^(gcc|/usr/bin/clang)' "$WORK/build.log" | tail -n 60
		fail "the build failed"
	}
	run_install make -C "$WORK/dashie" install "${options[@]}" >>"$WORK/build.log" 2>&1 || {
		tail -n 20 "$WORK/build.log"
		fail "make install failed"
	}
}

# run_install COMMAND...: as root only where the server's directories need it
run_install() {
	if [ -w "$("$PG_CONFIG" --pkglibdir)" ]; then
		"$@"
	else
		as_root "$@"
	fi
}

# free_port: a TCP port that nobody listens on; sockets are named after it
free_port() {
	perl -MIO::Socket::INET -e '
		my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1", Proto => "tcp") or die;
		print $s->sockport'
}

# start_cluster: a private one in $WORK/data; its postgresql.conf gets stdin
start_cluster() {
	local bindir
	bindir=$("$PG_CONFIG" --bindir)
	PGPORT=$(free_port)
	PGHOST=$WORK/socket
	PGUSER=postgres
	export PGPORT PGHOST PGUSER
	as_server "$bindir/initdb" -D "$WORK/data" -U postgres -A trust -E UTF8 --no-locale -N \
		>"$WORK/initdb.log" 2>&1 || {
		cat "$WORK/initdb.log"
		fail "initdb failed"
	}
	{
		printf "port = %s\n" "$PGPORT"
		printf "unix_socket_directories = '%s'\n" "$WORK/socket"
		printf "listen_addresses = ''\nfsync = off\n"
		cat
	} >>"$WORK/data/postgresql.conf"
	start_server
}

start_server() {
	as_server "$("$PG_CONFIG" --bindir)/pg_ctl" start -w -s -D "$WORK/data" -l "$WORK/server.log" || {
		tail -n 20 "$WORK/server.log"
		fail "the server did not start"
	}
}

stop_server() {
	as_server "$("$PG_CONFIG" --bindir)/pg_ctl" stop -w -s -m fast -D "$WORK/data"
}
