#!/bin/sh
# usage: packaging/notices.sh >NOTICES
#
# Prints the licenses of what is linked into the programs: those of Go's own runtime and
# library, and of each module. TestNotices compares NOTICES with it.

set -eu
cd -- "$(dirname -- "$0")/.."

cat <<'END'
The programs dblock, dblock-stats, dblock-top, dblock-remote and dblock-remote-etcd contain parts of what follows, each
under its license. dblock itself is under the license in LICENSE.
END

# entry NAMES FILE
entry() {
	printf '\n%s\n%s\n\n' "$(printf '%80s' '' | tr ' ' '-')" "$1"
	tr -d '\r' <"$2" | sed 's/[[:space:]]*$//'
}

# The modules of one license text together, which is the same for all of Go's.
modules='{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}'
{
	go list -deps -f "$modules" . ./cmd/...
	(cd remote && go list -deps -f "$modules" ./cmd/...) | grep -v '^github.com/dblock-dev/dblock '
} | sort -u | {
	go_names=Go go_file=
	while read -r module dir; do
		for file in "$dir/LICENSE" "$dir/LICENSE.txt" "$dir/COPYING"; do
			[ -f "$file" ] && break
		done
		case $module in
		golang.org/x/*)
			case "$go_names," in
			*" $module,"*) ;; # in another version
			*) go_names="$go_names, $module" go_file=$file ;;
			esac
			;;
		*) entry "$module" "$file" ;;
		esac
	done
	entry "$go_names" "$go_file"
}
