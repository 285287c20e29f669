//go:build linux && (amd64 || arm64)

// Package entry is what happens before the Go runtime does, in a program that is
// linked with -E github.com/dblock-dev/dblock/internal/entry.start, as install.sh
// does. Without that the program works as well, only that it starts more slowly
// and does not know which signals were ignored.
package entry

import (
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// start is where the program starts. It does two things that the runtime, which it
// jumps to, would otherwise make impossible or slow.
//
// It asks which signals are ignored: the runtime installs its handlers over those
// (HUP and INT excepted) and tells nobody.
//
// And it stays on the processor that it is on, by its own choice: a runtime that
// sees one processor starts with fewer threads, which do not wake each other up on
// others, and takes a sixth less time. See Spread.
//
//lint:ignore U1000 the linker refers to it
func start()

// What start finds: bit n-1 for signal n; and the processors that the process may
// run on, one bit each, all zero if they were not limited.
var (
	ignored  uint64
	affinity [16]uint64
)

// Ignored is the set of signals that were ignored at the start, bit n-1 for signal
// n; empty if that is not known.
func Ignored() uint64 { return ignored }

// SpreadThis lets the calling thread, and what it starts, run on all processors.
func SpreadThis() { spread(0) }

// Spread lets all threads run on all processors. It is for processes that last.
func Spread() {
	if affinity == [16]uint64{} {
		return
	}
	done := map[string]bool{}
	// Threads that others have started meanwhile are seen in another pass.
	for found := true; found; {
		found = false
		threads, _ := os.ReadDir("/proc/self/task")
		for _, t := range threads {
			if tid, err := strconv.Atoi(t.Name()); err == nil && !done[t.Name()] {
				spread(tid)
				done[t.Name()], found = true, true
			}
		}
	}
}

func spread(tid int) {
	if affinity != [16]uint64{} {
		_, _, _ = unix.RawSyscall(unix.SYS_SCHED_SETAFFINITY, uintptr(tid), unsafe.Sizeof(affinity), uintptr(unsafe.Pointer(&affinity)))
	}
}
