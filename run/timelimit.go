package run

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
)

// limit is how long the command may run; 0: as long as it takes.
func (c *Command) limit() time.Duration {
	if d := time.Duration(c.TimeLimit); d != lock.Forever {
		return d
	}
	return 0
}

// timeIsUp tells when the command has run for as long as it may; never, if that is as long as
// it takes.
func (ch *child) timeIsUp() <-chan time.Time {
	if ch.due.IsZero() {
		return nil
	}
	return time.After(time.Until(ch.due))
}

// endLate does what --on-time-limit says, and tells when to kill what does not end.
func (c *Command) endLate(ch *child) <-chan time.Time {
	took := term.Ago(c.limit())
	switch c.OnTimeLimit {
	case "warn":
		if !ch.gone() {
			c.Tell("%s has run for %s, as long as it may; it goes on", c.named(), took)
		}
	case "kill":
		if ch.end(unix.SIGKILL) {
			c.Tell("%s has run for %s, as long as it may; it is being killed", c.named(), took)
		}
	default:
		if ch.end(unix.SIGTERM) {
			c.Tell("%s has run for %s, as long as it may; it is being ended", c.named(), took)
			return c.patienceOver()
		}
	}
	return nil
}

// patienceOver is when what was told to end, and has not, is to be killed; never, if that
// is forever.
func (c *Command) patienceOver() <-chan time.Time {
	if time.Duration(c.KillAfter) == lock.Forever {
		return nil
	}
	return time.After(time.Duration(c.KillAfter))
}

// end ends the command, and all that it has started, for being late; false if it has ended.
func (ch *child) end(sig syscall.Signal) bool {
	ch.mu.Lock()
	ch.late = !ch.reaped
	late := ch.late
	ch.mu.Unlock()
	if late {
		ch.tell(sig)
	}
	return late
}

// wasLate reports whether the command was ended since its time was up.
func (ch *child) wasLate() bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.late
}
