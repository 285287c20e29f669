// Package signals passes the signals that a wrapper gets on to the command that
// it wraps, and lets the wrapper end the way the command ended.
//
// Three things are easy to get wrong here. A signal that was ignored when the
// wrapper was started (nohup, or a shell's empty trap) must stay ignored, and os/signal.Notify
// would take it over. A signal typed at the terminal reaches the command from the
// terminal, and must not be sent a second time: to many tools a second SIGINT
// means "abort at once". And a wrapper that exits with 128+n after its command
// was killed lies to its parent, which looks at WIFSIGNALED.
package signals

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// listened are the signals that are passed on: those that people and programs
// send on purpose. Not SIGURG, which the Go runtime sends to itself, nor SIGCHLD,
// SIGPIPE and SIGXFSZ, which are about the wrapper's own doings, nor those that
// tell of a crash. See also extra.
var listened = []syscall.Signal{
	unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT,
	unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGVTALRM, unix.SIGIO,
	unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGCONT, unix.SIGWINCH,
}

// Set is a set of signal numbers, bit n-1 for signal n.
type Set uint64

// Has reports whether the set contains the signal.
func (s Set) Has(sig syscall.Signal) bool { return sig > 0 && s>>(sig-1)&1 != 0 }

// Received is a signal as it came.
type Received struct {
	Signal syscall.Signal
	typed  bool
}

// FromTerminal reports whether the signal was sent by the terminal to our whole
// process group, the command included.
func (r Received) FromTerminal() bool { return r.typed }

// Listener receives the signals that are to be passed on.
type Listener struct {
	c      chan Received
	direct *wire // nil where os/signal listens
}

// Listen starts to listen. The set is that of the signals known to have been
// ignored at the start beyond what os/signal knows itself (HUP and INT); they stay
// ignored, here and in every child.
func Listen(ignored Set) *Listener {
	l := &Listener{c: make(chan Received, 64)}
	for n := syscall.Signal(1); n <= 64; n++ {
		// A parent that cannot wait would not learn how its command ended.
		if ignored.Has(n) && n != unix.SIGCHLD {
			signal.Ignore(n)
		}
	}
	var sigs []syscall.Signal
	for _, sig := range append(listened, extra...) {
		if !ignored.Has(sig) && !signal.Ignored(sig) {
			sigs = append(sigs, sig)
		}
	}
	w, err := handle(sigs)
	if err != nil {
		l.notify(sigs)
	}
	l.direct = w
	return l
}

// notify listens by os/signal, which does not tell who sent a signal: one that can
// be typed, and comes while our group is in the terminal's foreground, is taken
// for the terminal's.
func (l *Listener) notify(sigs []syscall.Signal) {
	c := make(chan os.Signal, 256)
	for _, sig := range sigs {
		signal.Notify(c, sig)
	}
	go func() {
		for s := range c {
			sig := s.(syscall.Signal)
			l.c <- Received{sig, canBeTyped(sig) && (Stops(sig) && sig != unix.SIGTSTP || foreground())}
		}
	}()
}

// canBeTyped reports whether the terminal sends such signals to process groups.
func canBeTyped(sig syscall.Signal) bool {
	switch sig {
	case unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP, unix.SIGWINCH, unix.SIGTTIN, unix.SIGTTOU:
		return true
	}
	return false
}

// foreground reports whether our process group is in the foreground of its
// controlling terminal.
func foreground() bool {
	tty, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(tty)
	group, err := unix.IoctlGetInt(tty, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// C delivers the signals, in the order in which they arrive.
func (l *Listener) C() <-chan Received {
	l.direct.deliver(l.c)
	return l.c
}

// Next returns a signal that has arrived already, if there is one.
func (l *Listener) Next() (Received, bool) {
	l.direct.collect(l.c)
	select {
	case r := <-l.c:
		return r, true
	default:
		return Received{}, false
	}
}

// Rest waits for at most d until a signal arrives, or news of a child, without the
// thread that C needs. It may return early, and does so at once where signals
// cannot be had that way.
func (l *Listener) Rest(d time.Duration) { l.direct.rest(d) }

// Ends reports whether a signal ends a process that does not care about it.
func Ends(sig syscall.Signal) bool {
	switch sig {
	case unix.SIGWINCH, unix.SIGCONT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return false
	}
	return true
}

// Stops reports whether a signal stops a process that does not care about it.
func Stops(sig syscall.Signal) bool {
	switch sig {
	case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return true
	}
	return false
}
