# shellcheck shell=sh
# What the check.sh of a recipe can use. recipes/check.sh runs each of them in a fresh copy of its
# directory, with dblock in PATH, and sets RECIPES, WITHOUT and TOOLS.

set -eu

# Files of a check that are no part of the recipe.
scratch=$(mktemp -d)
servers='' places=$scratch
# shellcheck disable=SC2086
trap '[ -z "$servers" ] || { kill -CONT $servers; kill -INT $servers; wait $servers; } 2>/dev/null || :; rm -rf $places' EXIT

say() {
	printf '%s\n' "$*"
}

fail() {
	say "FAILED: $*"
	exit 1
}

# skip REASON ends the check. The last line that it writes is the reason.
skip() {
	say "$*"
	exit 77
}

# need COMMAND PACKAGE: without it the check is skipped, but not in CI, where everything is installed.
need() {
	command -v "$1" >/dev/null && return
	[ "${CI-}" != true ] || fail "$1 is not installed (Debian package $2)"
	skip "$1 is not installed (Debian package $2)"
}

# equal WHAT GOT WANT
equal() {
	[ "$2" = "$3" ] || fail "$1: got \"$2\", want \"$3\""
}

# until_true SECONDS COMMAND...: waits until the command succeeds.
until_true() {
	limit=$1
	shift
	tries=$((limit * 20))
	until "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || fail "after $limit s still not true: $*"
		sleep 0.05
	done
}

held() {
	! dblock status -q --exit-code "$@"
}

# waiting N DATABASE: so many wait for the lock.
waiting() {
	[ "$(dblock status --json -d "$2" | grep -c '"for_ms"')" -ge "$1" ]
}

# wait_all PID...: each of them must have succeeded.
wait_all() {
	for pid in "$@"; do
		wait "$pid" || fail "process $pid ended with $?"
	done
}

# without COMMAND...: the same with a dblock that only runs its command.
without() {
	PATH=$WITHOUT:$PATH "$@"
}

# breaks TRIES FUNCTION: without locks it goes wrong at least once. A promise that holds without dblock, too,
# would not be worth a recipe.
breaks() {
	tries=$1
	shift
	while [ "$tries" -gt 0 ]; do
		if ! (without "$@") >"$scratch/breaks" 2>&1; then
			say "without dblock, with $tries tries left: $(grep . "$scratch/breaks" | tail -n 1)"
			return
		fi
		tries=$((tries - 1))
	done
	fail "without dblock $* works as well"
}

# npm_install gets the packages of the recipe's package.json.
npm_install() {
	need node nodejs
	need npm npm
	npm install --prefer-offline --no-package-lock --no-audit --no-fund --loglevel=error >"$scratch/npm" 2>&1 || {
		cat "$scratch/npm"
		[ "${CI-}" != true ] || fail "npm install"
		skip "npm install failed"
	}
}

# go_tool NAME MODULE@VERSION [FLAG...]: puts a program that Go builds into PATH, and keeps it for the next time.
go_tool() {
	name=$1 module=$2
	shift 2
	directory=$TOOLS/$(printf %s "$module" | tr '/@' '__')
	if [ ! -x "$directory/$name" ]; then
		need go golang
		GOBIN=$directory go install "$@" "$module" >"$scratch/go" 2>&1 || {
			tail -n 5 "$scratch/go"
			[ "${CI-}" != true ] || fail "go install $module"
			skip "go install $module failed"
		}
	fi
	PATH=$directory:$PATH
}

# remote NAME puts dblock-remote or dblock-remote-etcd beside dblock, which goes on as that where a database is a URL.
remote() {
	beside=$(dirname "$(command -v dblock)")
	[ ! -x "$beside/$1" ] || return 0
	need go golang
	(cd "$RECIPES/../remote" && CGO_ENABLED=0 go build -buildvcs=false -o "$beside/$1.$$" "./cmd/$1") >"$scratch/go" 2>&1 || {
		tail -n 5 "$scratch/go"
		[ "${CI-}" != true ] || fail "go build $1"
		skip "go build $1 failed"
	}
	mv "$beside/$1.$$" "$beside/$1"
}

free_port() {
	need python3 python3
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# certificate DIRECTORY: server.crt, which is its own authority, and server.key, for localhost.
certificate() {
	need openssl openssl
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
		-keyout "$1/server.key" -out "$1/server.crt" >"$scratch/openssl" 2>&1 || fail "openssl: $(cat "$scratch/openssl")"
}

# postgres_server: a PostgreSQL that ends with the check, with TLS on $pg_port of localhost, where the user app has the
# password "secret", and a socket in $pg_place, where nobody needs one.
postgres_server() {
	for bin in /usr/lib/postgresql/*/bin /usr/local/pgsql/bin; do
		[ ! -x "$bin/postgres" ] || pg_bin=$bin
	done
	[ -n "${pg_bin-}" ] || need postgres postgresql-15
	pg_bin=${pg_bin:-$(dirname "$(command -v postgres)")} pg_place=$(mktemp -d) pg_port=$(free_port)
	places="$places $pg_place"
	certificate "$pg_place"
	echo secret >"$pg_place/password"
	# It refuses to be root.
	as=
	if [ "$(id -u)" = 0 ]; then
		chown -R nobody "$pg_place"
		as="setpriv --reuid nobody --regid nogroup --clear-groups"
	fi
	(
		cd "$pg_place"
		$as "$pg_bin/initdb" -D data -U app -N --auth-local=trust --auth-host=scram-sha-256 --pwfile=password >log 2>&1
	) || fail "initdb: $(cat "$pg_place/log")"
	(
		cd "$pg_place"
		exec $as "$pg_bin/postgres" -D data -p "$pg_port" -k "$pg_place" -c listen_addresses=127.0.0.1 -c fsync=off -c ssl=on \
			-c ssl_cert_file="$pg_place/server.crt" -c ssl_key_file="$pg_place/server.key" >>log 2>&1
	) &
	servers="$servers $!"
	until_true 30 psql -h "$pg_place" -p "$pg_port" -U app -d postgres -c 'SELECT 1'
}

# etcd_server [FLAG...]: an etcd that ends with the check, on $etcd_port of localhost.
etcd_server() {
	need etcd etcd-server
	need etcdctl etcd-client
	etcd_port=$(free_port) peer_port=$(free_port) etcd_place=$(mktemp -d)
	places="$places $etcd_place"
	scheme=http
	case " $* " in *" --cert-file "*) scheme=https ;; esac
	etcd --data-dir "$etcd_place/data" --listen-client-urls "$scheme://127.0.0.1:$etcd_port" --advertise-client-urls "$scheme://127.0.0.1:$etcd_port" \
		--listen-peer-urls "http://127.0.0.1:$peer_port" --initial-advertise-peer-urls "http://127.0.0.1:$peer_port" \
		--initial-cluster "default=http://127.0.0.1:$peer_port" "$@" >"$etcd_place/log" 2>&1 &
	servers="$servers $!"
}

# as_root: some checks need mounts of their own, in a namespace that nobody else sees. Where the user is another one,
# the check begins again under sudo, if that needs no password.
as_root() {
	[ "$(id -u)" != 0 ] || return 0
	if ! sudo -n true 2>/dev/null; then
		[ "${CI-}" != true ] || fail "it must run as root, or with sudo"
		skip "it must run as root, or with sudo"
	fi
	code=0
	sudo -n env "PATH=$PATH" "RECIPES=$RECIPES" "WITHOUT=$WITHOUT" "TOOLS=$TOOLS" "CI=${CI-}" sh ./check.sh || code=$?
	sudo -n chown -R "$(id -u)" .
	exit "$code"
}
