package run

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/signals"
)

// pass passes a signal on. One that the terminal sent has reached the command
// already, and what is left of it, too, as far as it is in our process group.
func (ch *child) pass(sig syscall.Signal, typed bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if signals.Ends(sig) {
		ch.ending, ch.typed = sig, typed
	}
	if !ch.reaped {
		if !typed {
			_ = unix.Kill(ch.pid, sig)
		}
		return
	}
	for _, p := range ch.rest() {
		if !typed || p.Group != unix.Getpgrp() {
			_ = unix.Kill(p.PID, sig)
		}
	}
}

// signal sends the command a signal, or what is left of it when it has ended.
func (ch *child) signal(sig syscall.Signal) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if !ch.reaped {
		_ = unix.Kill(ch.pid, sig)
		return
	}
	for _, p := range ch.rest() {
		_ = unix.Kill(p.PID, sig)
	}
}

// continues passes on what has arrived since a stop, and reports whether that was to be
// continued. Nobody sends a second SIGCONT: we would stay stopped, and keep the lock.
func (ch *child) continues(sigs *signals.Listener) (yes bool) {
	for _, sig := range sigs.Arrived() {
		if sig.Signal == unix.SIGCONT {
			yes = true
			ch.signal(unix.SIGCONT)
		} else {
			ch.pass(sig.Signal, sig.FromTerminal())
		}
	}
	return yes
}
