//go:build unix && !linux

package signals

import (
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Die ends this process by the signal, as far as os/signal can: the signals that
// it answers with a stack trace are replaced by SIGKILL's kin, SIGTERM.
func Die(sig syscall.Signal) {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	switch sig {
	case unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGKILL, unix.SIGALRM, unix.SIGUSR1, unix.SIGUSR2:
	default:
		sig = unix.SIGTERM
	}
	signal.Reset(sig)
	_ = unix.Kill(unix.Getpid(), sig)
	time.Sleep(time.Second) // the signal is on its way
}

// Stop stops this process, unless continued says that it was continued already, and
// returns when it is continued.
func Stop(_ syscall.Signal, continued func() bool) {
	if continued() {
		return
	}
	_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
}
