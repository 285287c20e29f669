package signals

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// extra are those that only Linux has: the real-time signals (32 to 34 belong to C
// libraries), by which service managers speak to what they have started.
var extra = func() []syscall.Signal {
	sigs := []syscall.Signal{unix.SIGPWR}
	for n := syscall.Signal(35); n <= 64; n++ {
		sigs = append(sigs, n)
	}
	return sigs
}()

// extraFaults are those that only Linux has.
var extraFaults = []syscall.Signal{unix.SIGSTKFLT}
