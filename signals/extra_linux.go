//go:build linux && !portable

package signals

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// extra are those that only Linux has: the real-time signals, by which service managers
// speak to what they have started. C libraries keep the first two or three for themselves,
// but others can send them, and they would end us and not the command.
var extra = func() []syscall.Signal {
	sigs := []syscall.Signal{unix.SIGPWR}
	for n := syscall.Signal(32); n <= 64; n++ {
		sigs = append(sigs, n)
	}
	return sigs
}()

// extraFaults are those that only Linux has.
var extraFaults = []syscall.Signal{unix.SIGSTKFLT}
