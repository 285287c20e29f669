package run

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/say"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/internal/tree"
	"github.com/dblock-dev/dblock/lock"
)

// Rules for messages: one line for one problem, on stderr, beginning with
// "dblock: " and a small letter, without a full stop. It says what is the matter
// in the words of this documentation, then with which file or process. A second
// line, "hint: ", only where there is something that the reader can do. What
// comes from a file or a command line is cleaned before it is shown. Nothing goes
// to stdout: that is the command's. And nothing waits for its reader while the lock
// is held: one acts first, and tells then.

// tell says something about the lock.
func (c *Command) tell(format string, args ...any) {
	if c.Quiet < cli.Silent {
		fmt.Fprintf(say.Stderr, "dblock: "+format+"\n", args...)
	}
}

// reportRest says for what the lock is kept after the command has ended.
func (c *Command) reportRest(rest []tree.Process) {
	if c.Quiet > 0 {
		return
	}
	line := fmt.Sprintf("the command has ended; %s (pid %d) is still running", term.Clean(rest[0].Name), rest[0].PID)
	if n := len(rest) - 1; n > 0 {
		line = fmt.Sprintf("the command has ended; %s (pid %d) and %d more are still running", term.Clean(rest[0].Name), rest[0].PID, n)
	}
	c.tell("%s: the lock is kept until then", line)
}

func sentence(err error) string {
	var lost *lock.LostError
	if !errors.As(err, &lost) {
		return err.Error()
	}
	s := fmt.Sprintf("the lock %s was lost: %s", term.Path(lost.Path), lost.Reason)
	if h := lost.Holder; h != nil {
		s += " by " + cli.Who(h)
	}
	return s
}

// situation says who holds the lock, and since when, and who waits.
func situation(r *lock.Report, self int) string {
	s := "held"
	switch {
	case r.State == lock.StateFree && len(r.Stopped) > 0:
		s = fmt.Sprintf("not held, but %s, which is stopped, blocks the queue", cli.NamesOf(r.Stopped))
	case r.State == lock.StateFree:
		s = "just let go"
	case r.State == lock.StateInvalid:
		s = "held by an invalid lock file"
	case r.State == lock.StateOrphaned && len(r.Orphans) > 0:
		s = fmt.Sprintf("held by what a killed dblock left running (pid %d)", r.Orphans[0])
	case len(r.Owners) > 0:
		s = fmt.Sprintf("locked, without a lock file, by %s", cli.NamesOf(r.Owners))
	case r.Holder != nil:
		s = fmt.Sprintf("held by %s for %s", cli.Who(r.Holder), term.Ago(r.Age))
		if n := len(r.Readers); n > 1 {
			s += fmt.Sprintf(" and %d more readers", n-1)
		}
		if len(r.Remaining) > 0 {
			s += fmt.Sprintf("; its command has ended, but still running: %s", cli.NamesOf(r.Remaining))
		}
		if len(r.Stopped) > 0 {
			s += fmt.Sprintf("; stopped: %s", cli.NamesOf(r.Stopped))
		}
	}
	ahead := 0
	for _, w := range r.Waiters {
		if w.PID == self {
			break
		}
		ahead++
	}
	if ahead > 0 {
		s += fmt.Sprintf(", %d ahead of us", ahead)
	}
	return s
}

// conflict is the message on giving up. It must make sense in a cron mail, where
// nobody has seen the command line.
func (c *Command) conflict(err error) error {
	e := &cli.ConflictError{Code: int(c.ConflictExitCode), Quiet: c.Quiet, Err: err, Text: err.Error()}
	var held *lock.HeldError
	if errors.Is(err, lock.ErrOrphan) {
		e.Hint = fmt.Sprintf("end what it left running, for instance with `dblock force %s`", c.Selector())
		return e
	}
	if !errors.As(err, &held) {
		e.Hint = "give the outer dblock an exclusive lock, or this one --shared"
		return e
	}
	what := "is locked"
	if held.Report != nil {
		what = "is " + situation(held.Report, os.Getpid())
	}
	e.Text = fmt.Sprintf("%s %s", term.Path(held.Path), what)
	if held.Waited > 100*time.Millisecond {
		e.Text += fmt.Sprintf("; gave up after %s", term.Ago(held.Waited))
	}
	e.Text += fmt.Sprintf("; %s was not run", term.Clean(c.Argv[0]))
	e.Hint = fmt.Sprintf("wait longer with --wait; see who it is with `dblock status %[1]s`; if it is stuck, `dblock force %[1]s`", c.Selector())
	return e
}
