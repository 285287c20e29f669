package run

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/signals"
)

// brief is how long a command may be without being attended to: see lock.Options.
const brief = lock.MaxUnattended

// supervise starts the command and passes signals on until it, and what it has
// started if it was ended, has gone.
func (c *Command) supervise(l Holder, path string, env []string, sigs *signals.Listener) error {
	// A signal that came after the lock was acquired and before there is a command is
	// still one that ends the wait. One that stops is for the command.
	stops := false
	for _, sig := range sigs.Arrived() {
		if signals.Ends(sig.Signal) {
			return &cli.SignalError{Signal: sig.Signal}
		}
		stops = sig.Signal == unix.SIGTSTP || stops && sig.Signal != unix.SIGCONT
	}
	ch, err := c.start(l, path, env)
	if err != nil {
		return err
	}
	rest := brief
	if limit := c.limit(); limit > 0 {
		ch.due, rest = time.Now().Add(limit), min(brief, limit)
	}
	pass := func(sig syscall.Signal) {
		ch.asked = ch.asked || signals.Stops(sig)
		ch.pass(sig, false)
	}
	if stops {
		pass(unix.SIGTSTP)
	}
	sigs.Started(pass)
	// Who looks at what has arrived has seen the news of a quick command's end, too.
	status, ended := ch.hasEnded()
	if !ended {
		sigs.Rest(rest)
		status, ended = ch.hasEnded()
	}
	if !ended || ch.leaves(status) {
		status = c.attendTo(ch, l, sigs, status)
	}
	if ch.wasLate() {
		c.outcome.Late = true
		return &cli.ExitError{Code: cli.ExitTimeLimit}
	}
	if status.Signaled() {
		return &cli.SignalError{Signal: status.Signal()}
	}
	if code := status.ExitStatus(); code != 0 {
		return &cli.ExitError{Code: code}
	}
	return nil
}

// attendTo does what there is to do until the command has ended, and what it has left
// if it was ended. One that ends while dblock rests does not need it: neither the
// threads nor the heartbeat.
func (c *Command) attendTo(ch *child, l Holder, sigs *signals.Listener, status syscall.WaitStatus) syscall.WaitStatus {
	l.Attend()
	ended := make(chan struct{})
	idle := make(chan struct{})
	stopped := make(chan syscall.Signal, 1)
	go func() {
		defer close(idle)
		c.attend(ch, l, sigs, stopped, ended)
	}()
	if !ch.gone() {
		status = ch.wait(stopped)
	}
	if by, was := ch.wasEnded(status); (was || c.punishes(l) || ch.wasLate()) && !childless() {
		c.outlast(ch, l, by)
	}
	close(ended)
	<-idle
	return status
}

// attend passes on signals, deals with the loss of the lock, and stops with the
// command, until it has ended.
func (c *Command) attend(ch *child, l Holder, sigs *signals.Listener, stopped <-chan syscall.Signal, ended <-chan struct{}) {
	lost, late := l.Lost(), ch.timeIsUp()
	var kill <-chan time.Time
	paused := false
	asked := ch.asked             // somebody has sent us a signal that stops, since we went on
	var unfollowed syscall.Signal // by which the command has stopped without us
	for {
		select {
		case sig := <-sigs.C():
			switch {
			case sig.Signal == unix.SIGCONT:
				// A shell continues the whole process group: then the command runs
				// already. Somebody who continued only us means the command.
				if !paused || ch.isStopped() {
					ch.signal(unix.SIGCONT)
				}
				paused, asked, unfollowed = false, false, 0
				l.Resume()
			case signals.Stops(sig.Signal) && ch.gone():
				// Nobody is left whose stop we would follow.
				ch.pass(sig.Signal, sig.FromTerminal())
				c.pause(ch, l, sigs, sig.Signal)
			default:
				ch.pass(sig.Signal, sig.FromTerminal())
				tellOfForce(c.Voice, sig)
				asked = asked || signals.Stops(sig.Signal)
				if asked && unfollowed != 0 && ch.isStopped() {
					paused, asked, unfollowed = c.pause(ch, l, sigs, unfollowed), false, 0
				}
			}
		case sig := <-stopped:
			// We stop when the command does, and only then: it may have its own
			// mind about a SIGTSTP, and it may stop by itself (less, vi), when the
			// shell must get its terminal back. Not for a SIGSTOP, nor where no shell waits
			// for that: whoever sent it to the command alone will continue the command alone.
			switch {
			case !signals.Stops(sig) || !ch.isStopped():
			case asked || signals.Terminal():
				paused, asked, unfollowed = c.pause(ch, l, sigs, sig), false, 0
			default:
				unfollowed = sig
			}
		case <-lost:
			lost = nil
			if then := c.punish(ch, l); kill == nil {
				kill = then
			}
		case <-late:
			late = nil
			if then := c.endLate(ch); kill == nil {
				kill = then
			}
		case <-kill:
			ch.tell(unix.SIGKILL)
		case <-ended:
			return
		}
	}
}

// pause stops dblock itself, with a notice that outlives the stop, unless it is to go on
// already. That is so as well when the command runs again: on a busy machine the SIGCONT that
// continued both may not have been told of yet, and nobody sends a second one.
func (c *Command) pause(ch *child, l Holder, sigs *signals.Listener, sig syscall.Signal) (paused bool) {
	l.Suspend()
	defer l.Resume()
	signals.Stop(sig, func() bool {
		paused = !ch.continues(sigs)
		return !paused || !ch.gone() && !ch.isStopped()
	})
	return paused
}

// punish does what --on-lost says.
func (c *Command) punish(ch *child, l Holder) <-chan time.Time {
	switch c.OnLost {
	case "kill":
		ch.tell(unix.SIGKILL)
		c.lost(l.Err(), "the command is being killed")
	case "term":
		ch.tell(unix.SIGTERM)
		c.lost(l.Err(), "the command is being ended")
		return c.patienceOver()
	default:
		c.lost(l.Err(), "the command goes on")
	}
	return nil
}

// punishes reports whether the lock was lost, and the command is ended for that.
func (c *Command) punishes(l Holder) bool { return l.Err() != nil && c.OnLost != "warn" }
