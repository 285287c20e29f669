//go:build unix && (!linux || portable)

package say

import "golang.org/x/sys/unix"

func spareTheWriter() {}

// mayWrite reports whether the terminal would not stop us for writing: a thread
// cannot block a signal here.
func mayWrite(fd int) bool {
	group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	if err != nil || group == unix.Getpgrp() {
		return true
	}
	modes, err := unix.IoctlGetTermios(fd, getTermios)
	return err != nil || modes.Lflag&unix.TOSTOP == 0
}
