# shellcheck shell=sh
# What the check.sh of a recipe can use. recipes/check.sh runs each of them in a fresh copy of its
# directory, with dblock in PATH, and sets RECIPES, WITHOUT and TOOLS.

set -eu

# Files of a check that are no part of the recipe.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

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
