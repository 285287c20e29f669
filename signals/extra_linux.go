//go:build linux && !portable

package signals

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// extra are those that only Linux has: the real-time signals, by which service managers
// speak to what they have started. C libraries keep the first two or three for themselves,
// but others can send them, and they would end us and not the command.
var extra = []syscall.Signal{
	unix.SIGPWR,
	32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48,
	49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64,
}

// extraFaults are those that only Linux has.
var extraFaults = []syscall.Signal{unix.SIGSTKFLT}
