package run

import (
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is the running command, and all that it has started.
type child struct {
	pid    int
	before []int     // children that we had already
	due    time.Time // when its time is up; zero: never
	asked  bool      // a signal that stops came before it was attended to

	mu     sync.Mutex
	late   bool            // it was ended since its time was up
	reaped bool            // its pid may be another process's from now on
	ending syscall.Signal  // the last signal that ends and that reached the command; 0: none
	typed  bool            // the terminal sent it to our whole process group
	word   syscall.Signal  // what the rest of an ended command is told; 0: nothing
	told   map[member]bool // who has been told
}

// member is a process and no later one with the same number.
type member struct {
	pid     int
	started uint64
}

// gone reports whether the command itself has ended.
func (ch *child) gone() bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.reaped
}

// hasEnded reaps the command if it has ended.
func (ch *child) hasEnded() (status syscall.WaitStatus, ended bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	pid, err := syscall.Wait4(ch.pid, &status, syscall.WNOHANG, nil)
	ch.reaped = err == nil && pid == ch.pid
	return status, ch.reaped
}

// wasEnded tells by which signal a command was ended that did not end of its own
// accord: it died of one, or one was passed on to it that asks to end. Others that end
// who does not care (SIGUSR1) were news to a command that went on after them, unless its
// exit code names them. A code that names one that asks to end, or kills, says that somebody
// sent it without us, to the command or to what that has waited for; but a shell that
// was told to exit may have been interrupted long ago.
func (ch *child) wasEnded(status syscall.WaitStatus) (by syscall.Signal, was bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if status.Signaled() {
		return status.Signal(), true
	}
	named := syscall.Signal(status.ExitStatus() - 128)
	switch ch.ending {
	case 0:
	case unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT:
		return ch.ending, true
	case named:
		return named, true
	}
	switch named {
	case unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGKILL:
		return unix.SIGTERM, true
	}
	return 0, false
}
