//go:build linux && !portable

package say

import "golang.org/x/sys/unix"

// spareTheWriter blocks SIGTTOU on the calling thread: then a terminal with `stty
// tostop` takes what a process in the background writes, instead of stopping it, or of
// letting it spin if it has a handler. Threads that the runtime starts do not inherit it.
func spareTheWriter() {
	var set unix.Sigset_t
	set.Val[0] = 1 << (unix.SIGTTOU - 1)
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil)
}

func mayWrite(int) bool { return true }
