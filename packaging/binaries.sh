#!/bin/sh
# usage: packaging/binaries.sh DIRECTORY [GOOS/GOARCH...]
#
# Builds dblock and its companions for each system, or for all that packages are made for, into
# DIRECTORY/GOOS_GOARCH, as the builders of the npm packages and of the wheels want them.

set -eu

if [ $# -lt 1 ]; then
	sed -n 's/^# usage: /usage: /p' "$0" >&2
	exit 64
fi
mkdir -p -- "$1"
out=$(CDPATH='' cd -- "$1" && pwd -P)
shift
if [ $# -eq 0 ]; then
	set -- linux/amd64 linux/arm64 linux/arm linux/riscv64 darwin/amd64 darwin/arm64 freebsd/amd64
fi
cd -- "$(dirname -- "$0")/.."

# Set for all: without a C compiler for the system, and for ARM processors with floating point (v7).
export CGO_ENABLED=0 GOARM=7
for system in "$@"; do
	export GOOS="${system%/*}" GOARCH="${system#*/}"
	target=$out/${GOOS}_$GOARCH
	mkdir -p -- "$target"
	sh install.sh --build "$target/dblock"
	for companion in cmd/*/; do
		name=$(basename "$companion")
		GOWORK=off go build -trimpath -ldflags '-s -w' -o "$target/$name" "./cmd/$name"
	done
	flags='-s -w -X runtime.godebugDefault=asyncpreemptoff=1'
	case $system in
	linux/amd64 | linux/arm64) flags="$flags -E github.com/dblock-dev/dblock/internal/entry.start" ;;
	esac
	for companion in remote/cmd/*/; do
		name=$(basename "$companion")
		(cd remote && GOWORK=off go build -trimpath -ldflags "$flags" -o "$target/$name" "./cmd/$name")
	done
	printf '%s\n' "$target"
done
