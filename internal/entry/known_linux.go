//go:build linux && !portable && (amd64 || arm64)

// Package entry is what happens before the Go runtime does, in a program that is
// linked with -E github.com/dblock-dev/dblock/internal/entry.start, as install.sh
// does. Without that the program works as well, only that it starts more slowly
// and does not know which signals were ignored.
package entry

import (
	"os"
)

// start is where the program starts. It does what the runtime, which it jumps to, would
// otherwise make impossible or slow.
//
// It asks which signals are ignored, and which of the first three descriptors are closed:
// the runtime installs its handlers over the ones (HUP and INT excepted), opens /dev/null
// in place of the others, and tells nobody.
//
// And it makes the runtime find GOMAXPROCS=1 in the environment, unless the user has
// set that: with one goroutine at a time it starts fewer threads, which wake each
// other up less, also while a command waits or runs: what there is to do is done by one
// of them at a time. The strings of the environment stay where they are, and
// the list of them is moved by two words, however long it is.
//
//lint:ignore U1000 the linker refers to it
func start()

// setting is what start adds to the environment.
//
//lint:ignore U1000 start uses it
var setting = [...]byte{'G', 'O', 'M', 'A', 'X', 'P', 'R', 'O', 'C', 'S', '=', '1', 0}

// What start has to tell: that it was there; the ignored signals, bit n-1 for signal
// n; the closed descriptors, bit n for descriptor n; and that the setting is its own.
var (
	ran      bool
	ignored  uint64
	closed   uint8
	narrowed bool
)

// The setting is the runtime's alone: no process that is started may see it.
func init() {
	if narrowed {
		_ = os.Unsetenv("GOMAXPROCS")
	}
}

// Exists says that there is an entry point for this system.
const Exists = true

// Ran reports whether the program was linked so that start is its entry point.
func Ran() bool { return ran }

// Ignored is the set of signals that were ignored at the start, bit n-1 for signal
// n; empty if that is not known.
func Ignored() uint64 { return ignored }

// Closed reports whether descriptor 0, 1 or 2 was closed at the start, if that is known.
func Closed(fd int) bool { return closed>>fd&1 != 0 }
