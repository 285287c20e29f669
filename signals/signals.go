// Package signals receives the signals that a wrapper is to pass on to the command that it
// wraps (what does that is package run), and lets the wrapper end the way the command ended.
//
// Three things are easy to get wrong here. A signal that was ignored when the
// wrapper was started (nohup, or a shell's empty trap) must stay ignored, and os/signal.Notify
// would take it over. A signal typed at the terminal reaches the command from the
// terminal, and must not be sent a second time: to many tools a second SIGINT
// means "abort at once". And a wrapper that exits with 128+n after its command
// was killed lies to its parent, which looks at WIFSIGNALED.
//
// What it does to the program that uses it, on Linux: Listen puts a handler of its own in
// the place of the Go runtime's for the signals that it listens to and for SIGCHLD, for the
// rest of the process's life, so that os/signal does not hear of them any more. A program
// has one Listener. Faults of the program itself go on to the runtime's handler.
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
// SIGPIPE and SIGXFSZ, which are about the wrapper's own doings. See also extra.
var listened = []syscall.Signal{
	unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT,
	unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGVTALRM, unix.SIGIO,
	unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGCONT, unix.SIGWINCH,
}

// faults are those by which the kernel tells of a crash or a limit. They are passed on
// if a process has sent them, as service managers send SIGABRT to what seems to hang:
// the runtime would print all its goroutines and end, and the command would go on. See also
// extraFaults.
var faults = []syscall.Signal{
	unix.SIGABRT, unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, unix.SIGSYS,
	unix.SIGXCPU, unix.SIGPROF,
}

// Set is a set of signal numbers, bit n-1 for signal n.
type Set uint64

// Has reports whether the set contains the signal.
func (s Set) Has(sig syscall.Signal) bool { return sig > 0 && s>>(sig-1)&1 != 0 }

// all goes through the signals of the set.
func (s Set) all(yield func(syscall.Signal) bool) {
	for n := syscall.Signal(1); n <= 64; n++ {
		if s.Has(n) && !yield(n) {
			return
		}
	}
}

// Received is a signal as it came.
type Received struct {
	Signal syscall.Signal
	typed  bool
	pid    int
	uid    int
}

// Sender is the process that sent the signal and its user, where a Listener has a handler of
// its own. pid is 0 if no process of this pid namespace did, or it is not known.
func (r Received) Sender() (pid, uid int) { return r.pid, r.uid }

// FromTerminal reports whether the signal was sent by the terminal to our whole
// process group, the command included.
func (r Received) FromTerminal() bool { return r.typed }

// Listener receives the signals that are to be passed on.
type Listener struct {
	c      chan Received // made when it is needed
	direct *wire         // nil where os/signal listens
}

// Listen starts to listen. The set is that of the signals known to have been
// ignored at the start beyond what os/signal knows itself (HUP and INT); they stay
// ignored, here and in every child.
func Listen(ignored Set) *Listener {
	l := &Listener{}
	Ignore(ignored)
	wanted := func(lists ...[]syscall.Signal) (sigs Set) {
		for _, list := range lists {
			for _, sig := range list {
				if !ignored.Has(sig) && !signal.Ignored(sig) {
					sigs |= 1 << (sig - 1)
				}
			}
		}
		return sigs
	}
	sigs, faults := wanted(listened, extra), wanted(faults, extraFaults)
	w, err := handle(sigs, faults)
	if err != nil {
		l.notify(sigs | faults)
	}
	l.direct = w
	return l
}

// Ignore has this process ignore the signals, and what it starts or becomes: of those that were
// ignored at its start the Go runtime leaves only HUP and INT so. SIGCHLD is left out.
func Ignore(set Set) {
	for n := range set.all {
		// A parent that cannot wait would not learn how its command ended.
		if n != unix.SIGCHLD {
			signal.Ignore(n)
		}
	}
}

// notify listens by os/signal, which does not tell who sent a signal: one that can
// be typed, and comes while our group is in the terminal's foreground, is taken
// for the terminal's.
func (l *Listener) notify(sigs Set) {
	c := make(chan os.Signal, 256)
	l.c = make(chan Received, 64)
	for sig := range sigs.all {
		signal.Notify(c, sig)
	}
	go func() {
		for s := range c {
			sig := s.(syscall.Signal)
			l.c <- Received{Signal: sig, typed: canBeTyped(sig) && (Stops(sig) && sig != unix.SIGTSTP || foreground())}
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

// Terminal reports whether there is a controlling terminal, and so perhaps a shell that wants
// to know when its job stops.
func Terminal() bool {
	tty, err := openTerminal()
	if err != nil {
		return false
	}
	unix.Close(tty)
	return true
}

func openTerminal() (int, error) {
	return unix.Open("/dev/tty", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
}

// foreground reports whether our process group is in the foreground of its
// controlling terminal.
func foreground() bool {
	tty, err := openTerminal()
	if err != nil {
		return false
	}
	defer unix.Close(tty)
	group, err := unix.IoctlGetInt(tty, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// C delivers the signals, in the order in which they arrive.
func (l *Listener) C() <-chan Received {
	if l.c == nil {
		l.c = make(chan Received, 64)
		l.direct.deliver(l.c)
	}
	return l.c
}

// Next returns a signal that has arrived already, if there is one.
func (l *Listener) Next() (Received, bool) {
	if l.c == nil {
		return l.direct.next()
	}
	select {
	case r := <-l.c:
		return r, true
	default:
		return Received{}, false
	}
}

// Started passes on, by send, what came while the command was being started. To be called
// at once after fork and exec: what was typed at the terminal before the fork has reached
// us alone.
//
// What was typed after it has reached the command, too, and is sent again here. That makes
// no difference: a command that is so young has no handler, so it has died of the first
// one, or was stopped, or blocks the signal and gets it once.
func (l *Listener) Started(send func(syscall.Signal)) {
	pass := func(r Received) {
		// Not what the terminal has against us in the background.
		if !r.typed || r.Signal != unix.SIGTTIN && r.Signal != unix.SIGTTOU {
			send(r.Signal)
		}
	}
	// The kernel has let no signal wait any longer when the fork's thread unblocked them,
	// at the end of the fork; so all are on the wire.
	for _, r := range l.Arrived() {
		pass(r)
	}
}

// Arrived returns what has arrived by now, in order.
func (l *Listener) Arrived() (all []Received) {
	if l.direct.flows() {
		return l.direct.take(l.c)
	}
	for r, ok := l.Next(); ok; r, ok = l.Next() {
		all = append(all, r)
	}
	return all
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
