//go:build linux && !portable && (amd64 || arm64)

// Package entry is what happens before the Go runtime does, in a program that is
// linked with -E github.com/dblock-dev/dblock/internal/entry.start, as install.sh
// does. Without that the program works as well, only that it starts more slowly
// and does not know which signals were ignored.
package entry

// Nothing else may be imported: this package has to be initialised before those that open
// files, or ask how many may be open. See init.
import "runtime"

// start is where the program starts. It does what the runtime, which it jumps to, would
// otherwise make impossible or slow.
//
// It asks which signals are ignored or blocked, and which of the first three descriptors are
// closed: the runtime installs its handlers over those that are ignored (HUP and INT excepted),
// unblocks those that end a process, opens /dev/null in place of the descriptors, and tells nobody.
//
// It makes the runtime find GOMAXPROCS=1 in the environment, unless the user has
// set that: with one goroutine at a time it starts fewer threads, which wake each
// other up less, also while a command waits or runs: what there is to do is done by one
// of them at a time. The strings of the environment stay where they are, and
// the list of them is moved by two words, however long it is.
//
// And until init, it spares the runtime what this program has no use for, an eighth of
// what a short run costs:
//
//   - The search among the control groups for a limit of processors, which GOMAXPROCS makes
//     void, but which takes place all the same (in Go 1.25 and later): no further file can
//     be opened, so that it ends at once.
//   - The profile of memory: the linker switches it off, for nobody reads it, but not before
//     one allocation has been looked into.
//   - The thread that watches over all others (sysmon) looks after them every 20 microseconds
//     at first. A thread's timers may be late by as much as those of the one which starts it,
//     so it gets half a millisecond for that instead of the usual 50 microseconds.
//
//lint:ignore U1000 the linker refers to it
func start()

// unlimit takes back the limit of open files.
func unlimit()

// punctual makes the timers of the calling thread as exact as they were when the program was
// started, which those of all but the first one are not.
func punctual()

// reblock blocks the signals in the calling thread that were blocked when the program was started.
func reblock()

// Restore gives the calling thread what a process inherits from the one which starts it, as it
// was when the program was started: how late its timers may be, and which signals are blocked. So
// whoever starts one calls this right before. (To lock a goroutine to its thread makes the runtime
// start another one, which takes 50 microseconds. One that changes its thread in between starts a
// process whose timers may be half a millisecond late, and that has fewer signals blocked.)
func Restore() {
	punctual()
	reblock()
}

// setting is what start adds to the environment.
//
//lint:ignore U1000 start uses it
var setting = [...]byte{'G', 'O', 'M', 'A', 'X', 'P', 'R', 'O', 'C', 'S', '=', '1', 0}

// profiling is what start sets to 0.
//
//lint:ignore U1000 start uses it
var profiling = &runtime.MemProfileRate

// What start has to tell: that it was there; the ignored and the blocked signals, bit n-1 for
// signal n; the closed descriptors, bit n for descriptor n; and that the setting is its own.
var (
	ran     bool
	ignored uint64
	//lint:ignore U1000 start and reblock use it
	blocked  uint64
	closed   uint8
	narrowed bool
)

// What is restored: how late the timers were allowed to be, in nanoseconds (or an error, below
// 0); whether the number of open files has been limited to none, and what the limit was,
// the soft one and the hard one.
var (
	//lint:ignore U1000 start and punctual use it
	slack int64
	//lint:ignore U1000 start and unlimit use it
	limited bool
	//lint:ignore U1000 start and unlimit use it
	files [2]uint64
	//lint:ignore U1000 start uses it
	none [2]uint64
)

// The packages that a program is made of are initialised in the order of their paths, if they
// do not import each other (so the language has it since Go 1.21). All that could miss
// a descriptor import syscall, which comes after this one.
func init() {
	unlimit()
	punctual()
	deepen(0)
}

// deepen makes the stack as deep as a run needs it, at once, where only three functions are on it:
// it would else grow in four steps, and all that stand on it are looked up each time.
//
//go:noinline
func deepen(used int) byte {
	if used == 0 {
		return 0
	}
	var room [20 << 10]byte
	room[used] = 1
	return room[used/2]
}

// Exists says that there is an entry point for this system.
const Exists = true

// Ran reports whether the program was linked so that start is its entry point.
func Ran() bool { return ran }

// Narrowed reports whether start has added GOMAXPROCS to the environment. It is for the runtime
// alone: no process that is started may see it.
func Narrowed() bool { return narrowed }

// Ignored is the set of signals that were ignored at the start, bit n-1 for signal
// n; empty if that is not known.
func Ignored() uint64 { return ignored }

// Closed reports whether descriptor 0, 1 or 2 was closed at the start, if that is known.
func Closed(fd int) bool { return closed>>fd&1 != 0 }
