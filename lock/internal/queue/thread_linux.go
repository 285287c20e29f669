//go:build linux && !portable

package queue

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// blockSignals keeps all signals, except one, from the calling thread until the returned
// function is called.
func blockSignals(except syscall.Signal) func() {
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if except > 0 {
		bits := len(all.Val) * 64
		if n := int(except) - 1; n < bits {
			per := bits / len(all.Val)
			all.Val[n/per] &^= 1 << (n % per)
		}
	}
	if unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old) != nil {
		return func() {}
	}
	return func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }
}

func threadID() int { return unix.Gettid() }

// wake sends a signal to one thread of this process.
func wake(thread int, sig syscall.Signal) {
	if thread != 0 {
		_ = unix.Tgkill(unix.Getpid(), thread, sig)
	}
}

// nap gives the processor up for d, or less, without what the runtime does before that.
func nap(d time.Duration) {
	t := unix.NsecToTimespec(d.Nanoseconds())
	_ = unix.Nanosleep(&t, nil)
}
