// Package signals passes the signals that a wrapper gets on to the command that
// it wraps, and lets the wrapper end the way the command ended.
//
// Three things are easy to get wrong here. A signal that was ignored when the
// wrapper was started (nohup, trap ” INT) must stay ignored, and os/signal.Notify
// would take it over. A signal typed at the terminal reaches the command from the
// terminal, and must not be sent a second time: to many tools a second SIGINT
// means "abort at once". And a wrapper that exits with 128+n after its command
// was killed lies to its parent, which looks at WIFSIGNALED.
package signals

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// The signals that are passed on: those that people and programs send on purpose.
// Not SIGURG, which the Go runtime sends to itself, nor SIGCHLD and SIGPIPE, which
// are about the wrapper's own doings. It is a list because listening to everything
// brings floods, and because os/signal needs some 80 microseconds for each.
var (
	// early are those that must be listened to before there is a command: the
	// wrapper would be gone or stopped, and the command not know.
	early = []os.Signal{
		unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM,
		unix.SIGTSTP, unix.SIGCONT, unix.SIGWINCH,
	}
	// late are those that only come when a command in the background touches the
	// terminal. They may follow while it is being started.
	late = []os.Signal{unix.SIGTTIN, unix.SIGTTOU}
)

// Set is a set of signal numbers, bit n-1 for signal n.
type Set uint64

// Has reports whether the set contains the signal.
func (s Set) Has(sig os.Signal) bool {
	n, ok := sig.(syscall.Signal)
	return ok && n > 0 && s>>(n-1)&1 != 0
}

// Listener receives the signals that are to be passed on.
type Listener struct {
	c     chan os.Signal
	ready chan struct{}
}

// Listen starts to listen. It returns before that is done: see Ready. The set is that of the signals known
// to have been ignored at the start beyond what os/signal knows itself (HUP and
// INT); they stay ignored, here and in every child.
func Listen(ignored Set) *Listener {
	l := &Listener{c: make(chan os.Signal, 256), ready: make(chan struct{})}
	go func() {
		for n := syscall.Signal(1); n <= 31; n++ {
			// A parent that cannot wait would not learn how its command ended.
			if ignored.Has(n) && n != unix.SIGCHLD {
				signal.Ignore(n)
			}
		}
		l.listen(early, ignored)
		close(l.ready)
		l.listen(late, ignored)
	}()
	return l
}

func (l *Listener) listen(sigs []os.Signal, ignored Set) {
	for _, sig := range sigs {
		// Before listening: Notify makes an ignored signal arrive.
		if !ignored.Has(sig) && !signal.Ignored(sig) {
			signal.Notify(l.c, sig)
		}
	}
}

// Ready waits until the signals are listened to that a command must not miss.
func (l *Listener) Ready() { <-l.ready }

// C delivers the signals, in the order in which they arrive.
func (l *Listener) C() <-chan os.Signal { return l.c }

// Ends reports whether a signal ends a process that does not care about it.
func Ends(sig os.Signal) bool {
	switch sig {
	case unix.SIGWINCH, unix.SIGCONT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return false
	}
	return true
}

// Stops reports whether a signal stops a process that does not care about it.
func Stops(sig os.Signal) bool {
	switch sig {
	case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return true
	}
	return false
}

// FromTerminal reports whether a signal of this kind that we got was sent by the
// terminal to our whole process group, the command included: it is one that can
// be typed, and our group is the one in the terminal's foreground. Go does not
// tell who sent a signal, so one that a process sent to us alone at that time is
// taken for the terminal's too.
func FromTerminal(sig os.Signal) bool {
	switch sig {
	case unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP, unix.SIGWINCH:
		return Foreground()
	case unix.SIGTTIN, unix.SIGTTOU:
		return true // always to the whole group of the process that touched the terminal
	}
	return false
}

// Foreground reports whether our process group is in the foreground of its
// controlling terminal.
func Foreground() bool {
	tty, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(tty)
	group, err := unix.IoctlGetInt(tty, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
