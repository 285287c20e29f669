//go:build unix && (!linux || portable)

// Package end tells of the end of processes where there is no /proc. By signals alone one that
// has ended, and whose parent has not asked for that yet, cannot be told from one that lives.
package end

import "golang.org/x/sys/unix"

// Come reports whether the process has ended that a descriptor of Of is about.
func Come(fd int) bool {
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return n > 0
}

// Gone reports whether there is no process with this number, or it has ended. Of one that
// cannot be looked at it says that it lives.
func Gone(pid int) bool {
	if unix.Kill(pid, 0) == unix.ESRCH {
		return true
	}
	fd, err := Of(pid)
	if err != nil {
		return err == unix.ESRCH
	}
	defer unix.Close(fd)
	return Come(fd)
}
