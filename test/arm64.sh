#!/bin/sh
# Runs the tests of what is written in assembly for arm64 under qemu-user: the entry
# point and the signal handlers. Some tests do not fit: qemu says something itself when
# it dies of a signal, and strace sees qemu's system calls.
set -eu
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# emulate NAME: a program NAME that is NAME.arm64 under qemu, also when it starts itself.
emulate() {
	printf '#!/bin/sh\nexec qemu-aarch64 -0 %s %s "$@"\n' "$dir/$1" "$dir/$1.arm64" >"$dir/$1"
	chmod +x "$dir/$1"
}

GOARCH=arm64 sh install.sh --build "$dir/dblock.arm64"
emulate dblock
DBLOCK_TEST_BINARY=$dir/dblock go test ./test -count=1 -run 'TestVersionTells|TestScripts/run|TestProcessorsByTheEnvironment|TestLargeEnv|TestExitCodes|TestSignalsArrive|TestSignalsInARow|TestIgnored|TestNohup|TestRealTime|TestShellSees|TestTermAtAnyMoment|TestInterrupt|TestStopAndContinue'

GOARCH=arm64 CGO_ENABLED=0 go test -c -o "$dir/signals.arm64" ./signals
emulate signals
"$dir/signals" -test.count=1 -test.skip TestDieOfTheSignalItself
