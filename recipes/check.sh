#!/usr/bin/env bash
# Runs the recipes for real.
#
# usage: recipes/check.sh [-v] [NAME...]
#
# Each recipe is copied to a fresh directory and its check.sh run there. The blocks in its README must be
# in its files. One line per recipe; what a recipe said is shown when it failed, or with -v. Skipped is what is not installed,
# but with CI=true that is a failure.
#
# DBLOCK is the binary to use; it is built by default. RECIPES_TOOLS keeps what Go builds for them.
# JOBS, by default 2, run at a time.
set -euo pipefail

RECIPES=$(cd "$(dirname "$0")" && pwd -P)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export RECIPES WITHOUT=$work/without TOOLS=${RECIPES_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/dblock-recipes}
# Nothing of whoever calls this reaches the recipes.
for name in $(compgen -e DBLOCK_) $(compgen -e PG) $(compgen -e ETCDCTL_) MAKEFLAGS MAKELEVEL; do unset "$name"; done

mkdir -p "$work/bin" "$WITHOUT" "$TOOLS"
if [ -n "${DBLOCK-}" ]; then
	cp "$DBLOCK" "$work/bin/dblock"
	for remote in "$(dirname "$DBLOCK")"/dblock-remote*; do
		[ ! -x "$remote" ] || cp "$remote" "$work/bin/"
	done
else
	sh "$RECIPES/../install.sh" --build "$work/bin/dblock" >"$work/build" 2>&1 || { cat "$work/build"; exit 1; }
fi
export PATH=$work/bin:$PATH

cat >"$WITHOUT/dblock" <<'END'
#!/bin/sh
while [ $# -gt 0 ]; do
	case $1 in
	--) shift && exec "$@" ;;
	-c) exec sh -c "$2" ;;
	esac
	shift
done
END
chmod +x "$WITHOUT/dblock"

# blocks NAME: every block of the README names a file, and is a part of it.
blocks() {
	awk -v name="$1" '
		function whole(file,   text, line) {
			while ((getline line <file) > 0) text = text line "\n"
			close(file)
			return text
		}
		# A block of a list is indented.
		match($0, /^ *```/) && !inside {
			inside = 1; indent = RLENGTH - 3; file = $2; block = ""
			next
		}
		match($0, /^ *```$/) {
			inside = 0
			if (file == "") { print name "/README.md: a block without a file: " block; bad = 1 }
			else if (index("\n" whole(file), "\n" block) == 0) { print name "/README.md: not what is in " file ":\n" block; bad = 1 }
			next
		}
		inside { block = block substr($0, indent + 1) "\n" }
		END { exit bad }' README.md
}

check() {
	local name=$1 begin status=0
	begin=$(date +%s)
	cp -R "$RECIPES/$name" "$work/$name"
	rm -rf "$work/$name/node_modules"
	(
		# set -e has no force here: somebody looks at the status.
		cd "$work/$name" || exit
		blocks "$name" || exit
		grep -q "($name/)" "$RECIPES/README.md" || { echo "$name is not in recipes/README.md"; exit 1; }
		timeout -k 5 600 sh ./check.sh
	) >"$work/$name.log" 2>&1 || status=$?
	local took=$(($(date +%s) - begin))
	case $status in
	0) printf '%-16s ok       %4d s  %s\n' "$name" "$took" "$(tail -n 1 "$work/$name.log")" ;;
	77) printf '%-16s skipped  %4d s  %s\n' "$name" "$took" "$(tail -n 1 "$work/$name.log")" ;;
	*)
		printf '%-16s FAILED   %4d s  with %d\n' "$name" "$took" "$status"
		tail -n 60 "$work/$name.log" | cut -c1-300 | sed 's/^/    /'
		return 1
		;;
	esac
	[ -z "$verbose" ] || sed 's/^/    /' "$work/$name.log"
}

verbose=
[ "${1-}" != -v ] || { verbose=1; shift; }
names=("$@")
if [ ${#names[@]} = 0 ]; then
	# First those that take long: cron waits for the next minute, and Litestream may have to be built.
	names=(cron litestream)
	for file in "$RECIPES"/*/check.sh; do
		name=$(basename "$(dirname "$file")")
		case $name in cron | litestream) ;; *) names+=("$name") ;; esac
	done
fi
for name in "${names[@]}"; do
	[ -f "$RECIPES/$name/check.sh" ] || { printf 'recipes/check.sh: there is no recipe %s\n' "$name" >&2; exit 64; }
done

failed=0 running=0
for name in "${names[@]}"; do
	if [ "$running" -ge "${JOBS:-2}" ]; then
		wait -n || failed=$((failed + 1))
		running=$((running - 1))
	fi
	check "$name" &
	running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
	wait -n || failed=$((failed + 1))
	running=$((running - 1))
done
[ "$failed" = 0 ] || { printf '%d of %d recipes failed\n' "$failed" "${#names[@]}"; exit 1; }
