//go:build linux && portable

package end

import "golang.org/x/sys/unix"

// Of stands in for a kqueue. It opens a descriptor that can be read from when the process has
// ended. The error ESRCH says that there is none; with any other one it cannot be told that way.
func Of(pid int) (fd int, err error) { return unix.PidfdOpen(pid, 0) }
