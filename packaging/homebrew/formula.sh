#!/bin/sh
# usage: packaging/homebrew/formula.sh CHECKSUMS >dblock.rb
#
# Prints the formula of the release whose list of checksums this is.

set -eu

if [ $# -ne 1 ]; then
	sed -n 's/^# usage: /usage: /p' "$0" >&2
	exit 64
fi
version=$(sed -n 's/^[0-9a-f]*  dblock_\(.*\)_linux_amd64\.tar\.gz$/\1/p' "$1")
script="s/\"VERSION\"/\"$version\"/"
for system in darwin_arm64 darwin_amd64 linux_arm64 linux_amd64; do
	sum=$(sed -n "s/^\([0-9a-f]*\)  dblock_${version}_$system\.tar\.gz\$/\1/p" "$1")
	if [ "${#sum}" -ne 64 ]; then
		printf 'formula.sh: %s has no checksum for %s\n' "$1" "$system" >&2
		exit 1
	fi
	script="$script;s/SHA256 $system/$sum/"
done
sed -e "$script" -e '/^# The formula,/d' "$(dirname -- "$0")/dblock.rb"
