#!/bin/sh
# Installs dblock, built from this checkout or from a release. See --help.
#
# Everything is inside functions, and main runs on the last line: a script that
# arrives cut off does nothing.

set -eu

# Where releases are: BASE_URL/v0.1.0/dblock_0.1.0_linux_amd64.tar.gz, checksums.txt beside it.
base_url=${DBLOCK_BASE_URL:-https://github.com/dblock-dev/dblock/releases/download}

# All that is ever installed: in PREFIX/bin, and below PREFIX/share. What a build or a
# release does not have is left out.
programs='dblock dblock-stats dblock-top dblock-remote dblock-remote-etcd'
shared='man/man1/dblock.1
man/man5/dblock-protocol.5
man/man7/dblock-session.7
bash-completion/completions/dblock
zsh/site-functions/_dblock
fish/vendor_completions.d/dblock.fish'

usage() {
	cat <<'END'
usage: ./install.sh [--version VERSION | --uninstall | --build FILE]
       curl ... | sh -s -- [--version VERSION | --uninstall]

Installs dblock. In a checkout it is built with Go; with --version, or without a
checkout, it comes from a release. It goes to

    PREFIX/bin/dblock, and beside it its companions, dblock-*
    PREFIX/share/man, the manual pages
    PREFIX/share/{bash-completion,zsh,fish}, completions

PREFIX is $HOME/.local unless the environment says otherwise. DESTDIR, if set,
is put before it (for packages). No other file is touched.

  --version VERSION  install this release, or the latest. Its archive is compared
                     with the release's SHA-256 checksums. Where there is none for
                     this system, or no network, a checkout is built instead
  --uninstall        remove these files
  --build FILE       only build dblock, to FILE
  --help             show this

DBLOCK_BASE_URL names another place that releases come from.
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
	# Through a pipe there is no checkout, whatever directory this is.
	source=
	case ${0##*/} in
	install.sh) source=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P) ;;
	esac
	if [ -n "${PREFIX:-}" ]; then
		prefix=$PREFIX
	elif [ -n "${HOME:-}" ]; then
		prefix=$HOME/.local
	else
		die 'HOME is not set, so there is no default place to install to' "$(prefix_hint)"
	fi
	case $prefix in
	/*) ;;
	*) prefix=$(pwd)/$prefix ;;
	esac
	prefix=${prefix%/}
	bin=$prefix/bin
	destdir=${DESTDIR:-}
	case $destdir in
	/* | '') ;;
	*) destdir=$(pwd)/$destdir ;;
	esac
}

# in_checkout tells whether there are sources to build.
in_checkout() {
	[ -n "$source" ] && [ -f "$source/go.mod" ] && [ -f "$source/packaging/share.sh" ]
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
	say "name another place: PREFIX=/some/directory sh install.sh"
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
	case $(go env GOOS)/$(go env GOARCH)/$(go env GOFLAGS) in
	*/*/*portable*) ;; # the code of other systems, which have no such entry point
	linux/amd64/* | linux/arm64/*)
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

# build_stage makes what a release has, from the sources.
build_stage() {
	check_go
	make_work
	stage=$work/stage
	mkdir -- "$stage"
	build
	mv -- "$work/dblock" "$stage/dblock"
	for name in dblock-stats dblock-top; do
		compile "-s -w" "$stage/$name" "./cmd/$name"
	done
	# They are dblock with the engines for locks on servers, which are a module of their own.
	if [ -d remote ]; then
		for name in dblock-remote dblock-remote-etcd; do
			(cd remote && compile "$ldflags" "$stage/$name" "./cmd/$name")
		done
	fi
	sh packaging/share.sh "$stage"
}

# find_system sets system to the part of an archive's name that says where it runs, or to
# nothing if there is no archive for this system.
find_system() {
	system=$(uname -s) processor=$(uname -m)
	case $system in
	Linux) system=linux ;;
	Darwin) system=darwin ;;
	FreeBSD) system=freebsd ;;
	*) system= ;;
	esac
	case $processor in
	x86_64 | amd64) processor=amd64 ;;
	aarch64 | arm64) processor=arm64 ;;
	armv7* | armv8l) processor=armv7 ;; # armv8l: a 64-bit processor that runs as a 32-bit one
	riscv64) ;;
	*) system= ;;
	esac
	system=${system:+${system}_$processor}
}

# download URL FILE returns 0, 1 if the server has no such file, 2 if there is no network,
# or 3: it broke off, or nobody knows.
download() {
	code=0
	if command -v curl >/dev/null 2>&1; then
		set -- "$1" "$2" -fsSL --connect-timeout 20 --speed-limit 1 --speed-time 60
		case $1 in
		https:*) set -- "$@" --proto '=https' ;;
		esac
		url=$1 file=$2
		shift 2
		curl "$@" -o "$file" -- "$url" 2>"$work/said" || code=$?
		case $code in
		0) return 0 ;;
		22) return 1 ;;
		5 | 6 | 7 | 28 | 35) return 2 ;;
		esac
	elif command -v wget >/dev/null 2>&1; then
		url=$1 file=$2
		set --
		if wget --version 2>/dev/null | grep -q GNU; then
			set -- -T 60 -t 1 -nv # -nv: it says why it failed
		fi
		wget "$@" -O "$file" "$url" >"$work/said" 2>&1 || code=$?
		case $code in
		0) return 0 ;;
		8) return 1 ;;
		4) [ -s "$file" ] || return 2 ;;
		esac
	elif command -v fetch >/dev/null 2>&1; then # FreeBSD's
		fetch -q -T 60 -o "$2" "$1" 2>"$work/said" || return 3
		return 0
	else
		printf '%s\n' 'there is no curl and no wget to do it' >"$work/said"
		return 2
	fi
	return 3
}

# why prints what the last download said at the end.
why() {
	tail -n 1 -- "$work/said" | sed 's/^curl: //'
}

# checksum FILE sets sum to its SHA-256.
checksum() {
	if command -v sha256sum >/dev/null 2>&1; then
		sum=$(sha256sum <"$1")
	elif command -v shasum >/dev/null 2>&1; then
		sum=$(shasum -a 256 <"$1")
	elif command -v sha256 >/dev/null 2>&1; then # FreeBSD's
		sum=$(sha256 -q <"$1")
	elif command -v openssl >/dev/null 2>&1; then
		sum=$(openssl dgst -sha256 -r <"$1")
	else
		die 'nothing here can compute a SHA-256 checksum' 'install sha256sum, shasum or openssl; nothing was installed'
	fi
	sum=${sum%% *}
}

# find_archive FILE looks in a list of checksums for the archive of this system: sets archive,
# wanted (its checksum) and, if that is "latest", version. Returns 1 if it is not in there.
find_archive() {
	lines=0 archive=
	while read -r sum name rest; do
		case $sum in
		*[!0-9a-f]* | '') return 2 ;;
		esac
		name=${name#\*}
		if [ "${#sum}" -ne 64 ] || [ -z "$name" ] || [ -n "$rest" ]; then
			return 2
		fi
		lines=$((lines + 1))
		case $name in
		"dblock_${version}_$system.tar.gz") ;;
		dblock_*_"$system.tar.gz") [ "$version" = latest ] || continue ;;
		*) continue ;;
		esac
		if [ -n "$archive" ]; then
			return 2
		fi
		archive=$name wanted=$sum
	done <"$1"
	if [ "$lines" -eq 0 ]; then
		return 2
	fi
	if [ -z "$archive" ]; then
		return 1
	fi
	version=${archive#dblock_}
	version=${version%"_$system.tar.gz"}
	check_version "$version"
}

# check_version VERSION: it becomes a part of addresses and names.
check_version() {
	case $1 in
	latest) ;;
	*[!0-9A-Za-z.+-]* | '' | [!0-9]*) die "this is not a version of dblock: $1" 'versions are written as v0.1.0, or latest' ;;
	esac
}

# instead REASON builds the checkout in place of a release, or gives up.
instead() {
	if ! in_checkout; then
		die "$1" "$2"
	fi
	say "install.sh: $1"
	found=$(git -C "$source" describe --tags --always --dirty 2>/dev/null) || found=
	say "building this checkout${found:+, $found,} instead of release $version"
	build_stage
}

# release_stage fetches a release and checks it.
release_stage() {
	make_work
	find_system
	case $version in
	latest)
		case $base_url in
		*/download) from=${base_url%/download}/latest/download ;;
		*) from=$base_url/latest ;;
		esac
		;;
	*) from=$base_url/v$version ;;
	esac
	if [ -z "$system" ]; then
		instead "there are no releases for $(uname -s) on $(uname -m)" \
			'clone the repository and run ./install.sh in it: it builds dblock with Go'
		return
	fi
	list=$work/checksums.txt failure=0
	download "$from/checksums.txt" "$list" || failure=$?
	case $failure in
	0) ;;
	1) die "there is no release $version at $from ($(why))" "look at $(pages) for what there is" ;;
	2)
		instead "cannot reach $from: $(why)" 'see that there is a network, or name another place by DBLOCK_BASE_URL'
		return
		;;
	*) die "cannot download $from/checksums.txt: $(why)" 'run this again; nothing was installed' ;;
	esac
	failure=0
	find_archive "$list" || failure=$?
	case $failure in
	0) ;;
	1)
		instead "release $version has no archive for $system" \
			'clone the repository and run ./install.sh in it: it builds dblock with Go'
		return
		;;
	*) die "what $from/checksums.txt holds is not a list of checksums" 'see that no proxy answers in its place; nothing was installed' ;;
	esac
	from=$base_url/v$version
	download "$from/$archive" "$work/$archive" ||
		die "cannot download $from/$archive: $(why)" 'run this again; nothing was installed'
	checksum "$work/$archive"
	if [ "$sum" != "$wanted" ]; then
		die "$from/$archive is not what its checksum says" 'it was damaged or changed on the way: do not use it; nothing was installed'
	fi
	tar -xzf "$work/$archive" -C "$work" || die "cannot unpack $archive" 'see that there is space, and that tar and gzip are installed'
	stage=$work/${archive%.tar.gz}
	if [ ! -f "$stage/dblock" ]; then
		die "there is no dblock in $archive" 'choose another version; nothing was installed'
	fi
}

# pages is where people see releases.
pages() {
	say "${base_url%/download}"
}

# each COMMAND calls it with the directory and the name of each file that may be installed,
# and what is to be put there.
each() {
	for name in $programs; do
		"$1" "$destdir$bin" "$name" "$stage/$name" 755
	done
	for name in $shared; do
		"$1" "$destdir$prefix/share/${name%/*}" "${name##*/}" "$stage/share/$name" 644
	done
}

# The new files are copied beside the old ones first, then each replaces an old one in
# one step, also while that is running.
prepare() {
	[ -f "$3" ] || return 0
	if [ -d "$1/$2" ]; then
		die "cannot install $1/$2: a directory has this name" "$(prefix_hint)"
	fi
	if ! { mkdir -p -- "$1" && cp -- "$3" "$1/.$2.$$" && chmod "$4" "$1/.$2.$$"; }; then
		die "cannot install $1/$2" "$(prefix_hint)"
	fi
}

replace() {
	[ -f "$3" ] || return 0
	mv -f -- "$1/.$2.$$" "$1/$2" || die "cannot install $1/$2" "$(prefix_hint)"
	say "installed $1/$2"
}

forget() {
	rm -f -- "$1/.$2.$$"
}

check_place() {
	check_writable "$1"
}

clean() {
	if [ -n "$work" ]; then
		each forget
		rm -rf -- "$work"
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
	if ! in_checkout; then
		die "the sources of dblock are not in ${source:-a checkout here}" 'clone the repository and run ./install.sh in it'
	fi
}

make_work() {
	[ -z "$work" ] || return 0
	work=$(mktemp -d "${TMPDIR:-/tmp}/dblock-install.XXXXXX") ||
		die 'cannot create a temporary directory' 'set TMPDIR to a directory that you may write in'
}

install() {
	each check_place
	if [ -n "$version" ]; then
		release_stage
	else
		build_stage
	fi
	each prepare
	each replace
	if [ -z "$destdir" ]; then
		tell_path
	fi
}

uninstall() {
	found=
	each remove
	if [ -z "$found" ]; then
		say "dblock is not installed under $destdir$prefix"
	fi
}

remove() {
	if [ -e "$1/$2" ] || [ -L "$1/$2" ]; then
		found=yes
		rm -f -- "$1/$2" || die "cannot remove $1/$2" 'run this as the user who installed it'
		say "removed $1/$2"
	fi
}

# refuse MESSAGE: the command line is wrong.
refuse() {
	printf 'install.sh: %s\n' "$1" >&2
	usage >&2
	exit 64
}

main() {
	action=install file='' version=''
	while [ $# -gt 0 ]; do
		case $1 in
		--uninstall) action=uninstall ;;
		--build)
			[ $# -gt 1 ] || refuse '--build needs the name of a file'
			action=build_only file=$2
			shift
			;;
		--version)
			[ $# -gt 1 ] || refuse '--version needs a version, or latest'
			version=${2#v}
			check_version "$version"
			shift
			;;
		-h | --help)
			usage
			return
			;;
		*) refuse "unknown argument: $1" ;;
		esac
		shift
	done
	work='' stage=''
	trap clean EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	set_places
	if [ "$action" = install ] && [ -z "$version" ] && ! in_checkout; then
		version=latest
	fi
	"$action" ${file:+"$file"}
}

{ main "$@"; }
