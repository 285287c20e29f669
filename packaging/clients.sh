#!/bin/sh
# usage: packaging/clients.sh [BINARIES]
#
# Makes the npm packages and the wheel for this system, installs them from the files into empty
# directories, without a network, and uses them there. BINARIES is what packaging/binaries.sh makes; it is
# called if there are none. The client for Node is built first: npm ci && npm run build in clients/node.

set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
work=$(mktemp -d "${TMPDIR:-/tmp}/dblock-clients.XXXXXX")
work=$(CDPATH='' cd -- "$work" && pwd -P)
background=
trap 'test -z "$background" || kill "$background" 2>/dev/null || :; rm -rf -- "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# What would help or disturb from outside.
unset DBLOCK_BINARY PYTHONPATH NODE_OPTIONS NODE_PATH
export npm_config_cache="$work/cache" npm_config_update_notifier=false npm_config_offline=true
export npm_config_audit=false npm_config_fund=false
export PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

step() {
	printf '%s\n' "$*"
}

fail() {
	printf 'clients.sh: %s\n' "$*" >&2
	exit 1
}

# is WHAT EXPECTED GOT
is() {
	[ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"
}

# code COMMAND... prints its exit code.
code() {
	"$@" >/dev/null 2>&1 && printf 0 || printf '%s' $?
}

# soon COMMAND... waits until it succeeds, for a minute at most.
soon() {
	tries=0
	until "$@" 2>/dev/null; do
		tries=$((tries + 1))
		[ $tries -lt 600 ] || fail "in vain: $*"
		sleep 0.1
	done
}

# ends WHAT CODE PID: a process of ours ends with the code.
ends() {
	status=0
	wait "$3" 2>/dev/null || status=$?
	is "$1" "$2" "$status"
}

gone() {
	! kill -0 "$1" 2>/dev/null
}

# runs_itself DBLOCK PROGRAM: what is called as DBLOCK is PROGRAM, in the process that was started.
runs_itself() {
	# shellcheck disable=SC2016 # the inner shell's
	"$1" -d x.db -- sh -c 'readlink /proc/$PPID/exe || ps -o comm= -p $PPID; echo $PPID' >itself 2>/dev/null &
	pid=$!
	wait $pid
	is "the program behind $1" "$2 $pid" "$(tr '\n' ' ' <itself | sed 's/ $//')"
}

# main_job DBLOCK: what people use it for, in an empty directory.
main_job() {
	is "$1, exit code" 7 "$(code "$1" -d x.db -- sh -c 'exit 7')"
	is "$1, death by signal" 143 "$(code "$1" -d x.db -- sh -c 'kill $$')"
	"$1" -d x.db -- sleep 1000 &
	background=$!
	soon test -e .x.lock
	is "$1, held" 75 "$(code "$1" -d x.db -w 0 -- true)"
	kill $background
	ends "$1, TERM" 143 $background
	background=
	is "$1, free again" 0 "$(code "$1" -d x.db -w 0 -- true)"
	is "$1, a companion" 0 "$(code "$1" stats -d x.db)"
	is "${1}-top" 0 "$(code "${1}-top" --help)"
	for server in postgres://app@127.0.0.1:1/x etcd://127.0.0.1:1/x; do
		is "$1, $server" 69 "$(code "$1" -n -d "$server" -- true)"
		"$1" -n -d "$server" -- true 2>&1 | grep -q 'connection refused' || fail "$1 knows no $server"
	done
	"$1" --version | grep -q '^dblock [0-9]' || fail "$1 --version"
}

goos=$(node -p process.platform) cpu=$(node -p process.arch)
case $cpu in
x64) goarch=amd64 ;;
*) goarch=$cpu ;;
esac
if [ $# -gt 0 ]; then
	binaries=$1
else
	step "programs for $goos/$goarch"
	binaries=$work/binaries
	"$root/packaging/binaries.sh" "$binaries" "$goos/$goarch" >/dev/null
fi

step "npm packages and wheel, twice the same"
for out in one two; do
	node "$root/packaging/npm/build.mjs" "$binaries" "$work/$out" >/dev/null
	python3 "$root/clients/python/wheel_builder.py" --binary "$binaries/${goos}_$goarch" "$work/$out" >/dev/null
done
for file in "$work"/one/*; do
	cmp -- "$file" "$work/two/${file##*/}" || fail "${file##*/} differs from one time to the next"
done
main=$(echo "$work"/one/dblock-[0-9]*.tgz)
system=$(echo "$work/one/dblock-$goos-$cpu-"[0-9]*.tgz)
wheel=$(echo "$work"/one/*.whl)
python3 -m zipfile -t "$wheel" >/dev/null

step "npm install"
mkdir "$work/npm"
cd "$work/npm"
echo '{"private":true}' >package.json
npm install --loglevel=warn "$main" "$system" >../npm.log 2>&1 || fail "$(cat ../npm.log)"
if grep -i warn ../npm.log; then
	fail 'npm install warns'
fi
bin=$PWD/node_modules/.bin
program=$PWD/node_modules/@dblock/$goos-$cpu/bin/dblock
main_job "$bin/dblock"
runs_itself "$bin/dblock" "$program"
# Nothing is run, nor needed, but this.
mkdir tools
for tool in sh uname readlink sleep; do
	ln -s "$(command -v $tool)" tools/
done
is 'without Node' 0 "$(PATH=$PWD/tools code "$bin/dblock" -d x.db -- sleep 0)"

step "npx"
is 'npx, exit code' 7 "$(code npx --no-install dblock -d x.db -- sh -c 'exit 7')"
is 'npx, usage' 64 "$(code npx --no-install dblock --nonsense)"
is 'npx, death by signal' 143 "$(code npx --no-install dblock -d x.db -- sh -c 'kill $$')"
is 'npx, a companion' 0 "$(code npx --no-install dblock stats -d x.db)"
# npm runs everything by a shell, which is all that a signal to npx ends. The lock is the command's still.
# shellcheck disable=SC2016 # the inner shell's
npx --no-install dblock -d x.db -- sh -c 'echo $PPID >pid; exec sleep 1000' >/dev/null 2>&1 &
npx=$!
soon test -s pid
background=$(cat pid)
kill $npx
ends 'npx, TERM' 143 $npx
if ! gone "$background"; then
	is 'after TERM to npx' 75 "$(code "$bin/dblock" -d x.db -w 0 -- true)"
	kill "$background"
fi
soon gone "$background"
background=
is 'after its end' 0 "$(code "$bin/dblock" -d x.db -w 5 -- true)"
# As npm's documentation has it for what shall get signals.
npm pkg set 'scripts.hold=exec dblock -d x.db -- sleep 1000'
npm run hold >/dev/null 2>&1 &
npm=$!
soon test -e .x.lock
kill $npm
ends 'npm run with exec, TERM' 143 $npm
soon test ! -e .x.lock

step "the client for Node"
cat >cjs.cjs <<'JS'
const { acquire } = require('dblock');
acquire('x.db').then((hold) => hold.release()).then(() => console.log('had'));
JS
cat >esm.mjs <<'JS'
import { withDatabaseLock } from 'dblock';
await withDatabaseLock('x.db', { processType: 'test' }, async () => console.log('had'));
JS
for file in cjs.cjs esm.mjs; do
	is "$file" had "$(PATH=$PWD/tools "$(command -v node)" $file)"
done
printf '%s\n' "import { acquire } from 'dblock';" "void acquire('x.db').then((hold) => hold.token.toFixed());" >types.mts
if [ -e "$root/clients/node/node_modules/typescript/bin/tsc" ]; then
	node "$root/clients/node/node_modules/typescript/bin/tsc" --noEmit --strict --skipLibCheck --lib es2022,esnext.disposable \
		--module node16 --moduleResolution node16 --typeRoots "$root/clients/node/node_modules/@types" --types node types.mts
fi

step "npm uninstall"
npm uninstall dblock "@dblock/$goos-$cpu" --loglevel=error >/dev/null
is 'what npm uninstall leaves' '' "$(find node_modules ! -type d -path '*dblock*')"

step "npm install --global"
npm install --global --prefix "$work/global" --loglevel=error "$main" "$system" >/dev/null
mkdir "$work/elsewhere"
cd "$work/elsewhere"
main_job "$work/global/bin/dblock"

step "pip install, into a fresh environment"
python3 -m venv "$work/venv"
cd "$work/venv"
find . -type f ! -name '*.pyc' | sort >"$work/before"
bin/python -m pip -q install "$wheel"
mkdir "$work/used"
cd "$work/used"
main_job "$work/venv/bin/dblock"
runs_itself "$work/venv/bin/dblock" "$work/venv/bin/dblock"
lock='import dblock
with dblock.lock("x.db"): print("had")'
is 'the client for Python' had "$(PATH=/nowhere "$work/venv/bin/python" -I -c "$lock")"
cd "$work/venv"
bin/python -m pip -q uninstall -y dblock
find . -type f ! -name '*.pyc' | sort >"$work/after"
cmp "$work/before" "$work/after" || fail 'pip uninstall leaves something'

step "pip install --target"
"$work/venv/bin/python" -m pip -q install --target "$work/target" "$wheel"
cd "$work/used"
main_job "$work/target/bin/dblock"
is 'the client for Python' had "$(PATH=/nowhere PYTHONPATH=$work/target "$(python3 -c 'import sys; print(sys.executable)')" -c "$lock")"

step "the npm packages and the wheel: all well"
