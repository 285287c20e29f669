#!/bin/sh
# usage: packaging/share.sh DIRECTORY [VERSION DATE]
#
# Puts what goes beside the programs into DIRECTORY/share, laid out as under /usr: the
# manual pages with the version and the date (YYYY-MM-DD...) of the build in their heads,
# the completions and the documents. install.sh, the archives and all packages are made of
# it. Without VERSION and DATE, what the repository says, or that it was made now.

set -eu
umask 022

if [ $# -ne 1 ] && [ $# -ne 3 ]; then
	sed -n 's/^# usage: /usage: /p' "$0" >&2
	exit 64
fi
mkdir -p -- "$1/share"
share=$(CDPATH='' cd -- "$1/share" && pwd -P)
version=${2:-} date=${3:-}
cd -- "$(dirname -- "$0")/.."

# put FILE DIRECTORY NAME
put() {
	mkdir -p -- "$share/$2"
	cp -- "$1" "$share/$2/$3"
	chmod 644 "$share/$2/$3"
}

# As `dblock --version` says it: the tag, or the release that is to come.
if [ -z "$version" ]; then
	version=$(sed -n 's/^const Release = "\(.*\)"$/\1/p' internal/version/version.go)-dev
	# Without .git here git would describe a repository around the sources.
	if [ -e .git ] && git status --porcelain >/dev/null 2>&1; then
		if tag=$(git describe --tags --exact-match --match 'v[0-9]*' --dirty=+dirty 2>/dev/null); then
			version=${tag#v}
		fi
		date=$(TZ=UTC0 git log -1 --date=short-local --format=%cd)
	fi
fi
date=${date%%T*}
if [ -z "$date" ]; then
	date=$(date -u ${SOURCE_DATE_EPOCH:+-d "@$SOURCE_DATE_EPOCH"} +%Y-%m-%d)
fi

for page in docs/*.[1-8]; do
	section=${page##*.}
	put "$page" "man/man$section" "${page##*/}"
	target=$share/man/man$section/${page##*/}
	sed -e 's/^\(\.TH [^ ]* [^ ]* [^ ]* \)"[^"]*" /\1dblock /' \
		-e "s/^\(\.TH [^ ]* [^ ]* \)[^ ]* [^ ]* /\1$date \"dblock $version\" /" "$page" >"$target"
	grep -q "^\.TH .* \"dblock $version\" " "$target" || {
		printf 'share.sh: no version can be put into the .TH line of %s\n' "$page" >&2
		exit 1
	}
done

# Another name for each shell, where it looks by itself.
for completion in completion/dblock.bash:bash-completion/completions/dblock \
	completion/_dblock:zsh/site-functions/_dblock \
	completion/dblock.fish:fish/vendor_completions.d/dblock.fish; do
	target=${completion#*:}
	if [ -f "${completion%%:*}" ]; then
		put "${completion%%:*}" "${target%/*}" "${target##*/}"
	fi
done

put LICENSE doc/dblock copyright
put NOTICES doc/dblock NOTICES
put README.md doc/dblock README.md
put CHANGELOG.md doc/dblock CHANGELOG.md
for document in docs/*; do
	case $document in
	*.[1-8]) ;;
	*) [ ! -f "$document" ] || put "$document" doc/dblock/docs "${document##*/}" ;;
	esac
done
