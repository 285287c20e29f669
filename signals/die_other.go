//go:build unix && (!linux || portable)

package signals

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Die ends this process by the signal, without a core dump of its own, so that whoever
// waits for it sees what became of the command. The Go runtime dies of few signals: it answers
// the others with a stack trace, or not at all. Of those a shell dies in our place. Die
// returns only if the signal did not end the process.
func Die(sig syscall.Signal) {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	switch sig {
	case unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGKILL:
	default:
		signal.Notify(make(chan os.Signal, 1), sig) // what is handled is the default for the shell, also if it was ignored
		n := int(sig)
		_ = syscall.Exec("/bin/sh", []string{"sh", "-c", "kill -" + strconv.Itoa(n) + " $$; exit " + strconv.Itoa(128+n)}, nil)
		return
	}
	signal.Reset(sig)
	_ = unix.Kill(unix.Getpid(), sig)
	time.Sleep(time.Second) // the signal is on its way
}

// Stop stops this process, unless continued says that it was continued already, and
// returns when it is continued.
func Stop(_ syscall.Signal, continued func() bool) {
	time.Sleep(5 * time.Millisecond) // a SIGCONT right behind is still on its way through os/signal
	if continued() {
		return
	}
	// The signal may meet another thread first: this one goes on for a moment.
	const soon = 500 * time.Millisecond
	begin := time.Now()
	_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
	for !continued() && time.Since(begin) < soon {
		time.Sleep(time.Millisecond)
	}
}
