#!/bin/sh
':' /* To Node, which Yarn runs every bin with, all of this is a comment, up to the last line: hence the brackets below.

# Goes on as the program of this name in the package for this system, @dblock/SYSTEM: the shell is
# replaced, so that nobody is between the program and its terminal, signals and descriptors.

self=$0
case $self in
*[/]*) ;;
*) self=./$self ;;
esac
# node_modules/.bin has links. Mostly it is this one, and to start readlink takes as long as dblock does.
direct=${self%/*}/../dblock/bin/${self##*[/]}
# shellcheck disable=SC3013 # where test has no -ef, it is the loop that finds it
if [ "$self" -ef "$direct" ] 2>/dev/null; then
	self=$direct
fi
while [ -L "$self" ]; do
	target=$(readlink "$self") || break
	case $target in
	/*) self=$target ;;
	*) self=${self%/*}/$target ;;
	esac
done
package=${self%/*}/..
name=${self##*[/]}

# A system may have both: 32-bit programs under a 64-bit kernel, and those of the processor before.
if read -r machine </proc/sys/kernel/arch; then # Linux 6.1
	machine="Linux $machine"
else
	machine=$(uname -sm)
fi 2>/dev/null
case $machine in
'Linux x86_64') systems=linux-x64 ;;
'Linux aarch64') systems='linux-arm64 linux-arm' ;;
'Linux armv'[78]*) systems=linux-arm ;;
'Linux riscv64') systems=linux-riscv64 ;;
'Darwin arm64') systems='darwin-arm64 darwin-x64' ;;
'Darwin x86_64') systems=darwin-x64 ;;
'FreeBSD amd64') systems=freebsd-x64 ;;
*) systems= ;;
esac
for system in $systems; do
	for modules in "$package/node_modules" "$package/.."; do # global installations have the first
		program=$modules/@dblock/$system/bin/$name
		if [ -f "$program" ] && [ -x "$program" ]; then
			exec "$program" "$@"
		fi
	done
done

# It may be where only Node finds it; if not, Node says so.
exec node "$self" "$@"

# */; require('../dist/launch.js').launch(__filename);
