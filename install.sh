#!/bin/sh
# Builds dblock from this checkout and installs it. See --help.
#
# Everything is inside functions, and main runs on the last line: a script that
# arrives cut off does nothing.

set -eu

usage() {
	cat <<'END'
usage: ./install.sh [--uninstall | --build FILE]

Builds dblock with Go from the checkout that this script is in, and installs

    PREFIX/bin/dblock, and beside it its companions, dblock-*
    PREFIX/share/man/man1/dblock.1, and two more pages in man5 and man7

PREFIX is $HOME/.local unless the environment says otherwise. DESTDIR, if set,
is put before it (for packages). No other file is touched.

  --uninstall   remove these files
  --build FILE  only build dblock, to FILE
  --help        show this
END
}

say() {
	printf '%s\n' "$*"
}

# die MESSAGE [HINT]
die() {
	printf 'install.sh: %s\n' "$1" >&2
	if [ $# -gt 1 ]; then
		printf 'hint: %s\n' "$2" >&2
	fi
	exit 1
}

# set_places finds out where things come from and where they go.
set_places() {
	source=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
	if [ -n "${PREFIX:-}" ]; then
		prefix=$PREFIX
	elif [ -n "${HOME:-}" ]; then
		prefix=$HOME/.local
	else
		die 'HOME is not set, so there is no default place to install to' \
			'name one: PREFIX=/some/directory ./install.sh'
	fi
	case $prefix in
	/*) ;;
	*) prefix=$(pwd)/$prefix ;;
	esac
	prefix=${prefix%/}
	bin=$prefix/bin
	man=$prefix/share/man
	destdir=${DESTDIR:-}
}

# check_writable DIRECTORY: looks at the nearest directory that exists, so that
# a long build is not in vain.
check_writable() {
	dir=$1
	while [ -n "$dir" ] && [ ! -e "$dir" ]; do
		dir=${dir%/*}
	done
	dir=${dir:-/}
	if [ ! -d "$dir" ]; then
		die "cannot install to $1: $dir is not a directory" "$(prefix_hint)"
	fi
	if [ ! -w "$dir" ]; then
		die "cannot install to $1: $dir is not writable" "$(prefix_hint)"
	fi
}

prefix_hint() {
	say "choose another place: PREFIX=/some/directory ./install.sh"
}

# wanted_go prints the Go version that go.mod asks for, as MAJOR.MINOR.
wanted_go() {
	sed -n 's/^go \([0-9][0-9]*\.[0-9][0-9]*\).*/\1/p' "$source/go.mod"
}

check_go() {
	wanted=$(wanted_go)
	hint="install Go $wanted or newer (https://go.dev/dl/), see that its bin directory is in PATH, then run this again"
	if ! command -v go >/dev/null 2>&1; then
		die 'Go was not found, and dblock is built with it' "$hint"
	fi
	# In the checkout, because there Go may fetch the version it needs by itself.
	if ! found=$(cd -- "$source" && go env GOVERSION); then
		die 'Go cannot be used here; what it had to say about it is above' "$hint"
	fi
	number=$(say "$found" | sed -n 's/.*go\([0-9][0-9]*\.[0-9][0-9]*\).*/\1/p')
	if [ -z "$number" ] || [ -z "$wanted" ]; then
		return 0 # a development version: the build will tell
	fi
	if [ "${number%.*}" -lt "${wanted%.*}" ] ||
		{ [ "${number%.*}" -eq "${wanted%.*}" ] && [ "${number#*.}" -lt "${wanted#*.}" ]; }; then
		die "this Go is too old: $found, and dblock needs $wanted" "$hint"
	fi
}

# build_only FILE
build_only() {
	check_sources
	check_go
	case $1 in
	/*) target=$1 ;;
	*) target=$(pwd)/$1 ;;
	esac
	make_work
	build
	cp -- "$work/dblock" "$target" || die "cannot write $1"
}

build() {
	cd -- "$source"
	ldflags="-s -w"
	# Go's runtime interrupts whoever seems to run for 10 ms, by a signal. After a wait
	# dblock seems to, just when it hands the lock over. GODEBUG can still turn it on.
	ldflags="$ldflags -X runtime.godebugDefault=asyncpreemptoff=1"
	case $(go env GOOS)/$(go env GOARCH) in
	linux/amd64 | linux/arm64)
		# An entry point of our own: it notes which signals are ignored before
		# Go's runtime installs its handlers and this can no longer be seen, and
		# makes the start quicker. See internal/entry.
		ldflags="$ldflags -E github.com/dblock-dev/dblock/internal/entry.start"
		;;
	esac
	if [ -z "${HOME:-}" ]; then
		export GOCACHE="${GOCACHE:-$work/cache}" GOPATH="${GOPATH:-$work/go}"
		export GOFLAGS="${GOFLAGS:-} -modcacherw"
	fi
	# Without .git here Go, too, would look at a repository around the sources.
	vcs=false
	if [ -e .git ] && git status --porcelain >/dev/null 2>&1; then
		vcs=true
	fi
	compile "$ldflags" "$work/dblock" .
}

# compile FLAGS TARGET PACKAGE
compile() {
	CGO_ENABLED=0 GOWORK=off go build -trimpath -buildvcs="$vcs" -ldflags "$1" -o "$2" "$3" ||
		die 'the build failed; what Go had to say about it is above'
}

# companions prints the names of the programs that dblock comes with.
companions() {
	for dir in "$source"/cmd/*/; do
		basename "$dir"
	done
}

# build_companions builds them where build has built dblock.
build_companions() {
	for name in $(companions); do
		compile "-s -w" "$work/$name" "./cmd/$name"
	done
}

# manuals prints the names of the manual pages.
manuals() {
	for page in "$source"/docs/*.[157]; do
		basename "$page"
	done
}

# manual FILE prints a page with the version and the date of what was built in its head:
# the date of the commit, if it is known.
manual() {
	about=$("$work/dblock" --version)
	number=$(say "$about" | sed 's/^dblock //; s/ .*//')
	day=$(say "$about" | sed -n 's/.*[(, ]\([0-9]\{4\}-[0-9][0-9]-[0-9][0-9]\).*/\1/p')
	sed "/^\.TH /s/ [0-9-]* \"dblock 0\.0\.0\"/ ${day:-$(date -u +%Y-%m-%d)} \"dblock $number\"/" "$1"
}

# put FILE MODE DIRECTORY NAME: the new file replaces the old one in one step,
# also while the old one is running.
put() {
	if [ -d "$3/$4" ]; then
		die "cannot install $3/$4: a directory has this name" "$(prefix_hint)"
	fi
	temporary=$3/.$4.$$
	if ! { mkdir -p -- "$3" && cp -- "$1" "$temporary" && chmod "$2" "$temporary" && mv -f -- "$temporary" "$3/$4"; }; then
		die "cannot install $3/$4" "$(prefix_hint)"
	fi
	temporary=
	say "installed $3/$4"
}

clean() {
	if [ -n "$work" ]; then
		rm -rf -- "$work"
	fi
	if [ -n "$temporary" ]; then
		rm -f -- "$temporary"
	fi
}

# tell_path says what is still to be done to call dblock by its name.
tell_path() {
	case :${PATH:-}: in
	*":$bin:"*) ;;
	*)
		say ''
		say "$bin is not in your PATH. To call dblock by its name, add this to your shell's profile:"
		say "    export PATH=\"$bin:\$PATH\""
		return
		;;
	esac
	first=$(command -v dblock || :)
	if [ -n "$first" ] && [ "$first" != "$bin/dblock" ]; then
		say ''
		say "$first comes earlier in your PATH and will be used instead."
	fi
}

check_sources() {
	if [ ! -f "$source/go.mod" ] || [ ! -f "$source/docs/dblock.1" ]; then
		die "the sources of dblock are not in $source" 'clone the repository and run ./install.sh in it'
	fi
}

make_work() {
	work=$(mktemp -d "${TMPDIR:-/tmp}/dblock-install.XXXXXX") ||
		die 'cannot create a temporary directory' 'set TMPDIR to a directory that you may write in'
}

install() {
	check_sources
	check_writable "$destdir$bin"
	check_writable "$destdir$man"
	check_go
	make_work
	build
	build_companions
	put "$work/dblock" 755 "$destdir$bin" dblock
	for name in $(companions); do
		put "$work/$name" 755 "$destdir$bin" "$name"
	done
	for page in $(manuals); do
		manual "$source/docs/$page" >"$work/$page"
		put "$work/$page" 644 "$destdir$man/man${page##*.}" "$page"
	done
	if [ -z "$destdir" ]; then
		tell_path
	fi
}

uninstall() {
	found=
	for file in "$destdir$bin/dblock" "$destdir$bin"/dblock-* "$destdir$man"/man[157]/dblock*.[157]; do
		case $file in
		"$destdir$bin"/dblock-*) companions | grep -qxF "${file##*/}" || continue ;;
		"$destdir$man"/*) manuals | grep -qxF "${file##*/}" || continue ;;
		esac
		if [ -e "$file" ] || [ -L "$file" ]; then
			found=yes
			rm -f -- "$file" || die "cannot remove $file" 'run this as the user who installed it'
			say "removed $file"
		fi
	done
	if [ -z "$found" ]; then
		say "dblock is not installed under $destdir$prefix"
	fi
}

main() {
	action=install file=
	for arg in "$@"; do
		if [ "$action" = build_only ] && [ -z "$file" ]; then
			file=$arg
			continue
		fi
		case $arg in
		--uninstall) action=uninstall ;;
		--build) action=build_only ;;
		-h | --help)
			usage
			return
			;;
		*)
			printf 'install.sh: unknown argument: %s\n' "$arg" >&2
			usage >&2
			exit 64
			;;
		esac
	done
	work='' temporary=''
	trap clean EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	if [ "$action" = build_only ] && [ -z "$file" ]; then
		die '--build needs the name of a file'
	fi
	set_places
	"$action" ${file:+"$file"}
}

main "$@"
