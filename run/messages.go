package run

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dblock-dev/dblock/internal/cli"
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

// reportRest says for what the lock is kept after the command has ended.
func (c *Command) reportRest(rest []tree.Process) {
	if c.Quiet > 0 {
		return
	}
	if len(rest) == 0 {
		c.Tell("the command has ended, but something that it started and that cannot be seen is still running; the lock is held until it ends")
		return
	}
	first := fmt.Sprintf("%s (pid %d)", term.Clean(rest[0].Name), rest[0].PID)
	if n := len(rest) - 1; n > 0 {
		c.Tell("the command has ended, but %s and %d more, which it started, are still running; the lock is held until they end", first, n)
		return
	}
	c.Tell("the command has ended, but %s, which it started, is still running; the lock is held until it ends", first)
}

// lost says that the lock was lost, and what becomes of the command for that.
func (c *Command) lost(err error, then string) {
	c.mourned = true
	c.Tell("%s; %s", Loss(err), then)
}

// Loss says that the lock was lost, and to whom.
func Loss(err error) string {
	var lost *lock.LostError
	if !errors.As(err, &lost) {
		return err.Error()
	}
	by := ""
	if lost.Holder != nil {
		by = " by " + cli.Who(lost.Holder)
	}
	return fmt.Sprintf("the lock %s was lost: %s%s", term.Path(lost.Path), lost.Reason, by)
}

// named is the command as a message names it: for -c the string and not the shell.
func (c *Command) named() string {
	if c.Command == "" {
		return term.Clean(c.Argv[0])
	}
	const most = 50
	return `"` + term.Shorten(term.Path(strings.TrimSpace(c.Command)), most) + `"`
}

// conflict is the message on giving up. It must make sense in a cron mail, where
// nobody has seen the command line.
func (w *waiting) conflict(err error) error {
	e := &cli.ConflictError{Code: int(w.asking.ConflictExitCode), Quiet: w.voice.Quiet, Err: err}
	var held *lock.HeldError
	var dead *lock.DeadlockError
	switch {
	case errors.As(err, &dead):
		e.Text, e.Hint = cli.Deadlock(dead)
	case errors.As(err, &held):
		e.Text, e.Hint = w.asking.heldBy(held)
	case errors.Is(err, lock.ErrOrphan):
		e.Text = "the dblock around this one was killed, and what it left running, this one included, still holds the lock"
		e.Hint = fmt.Sprintf("to end all of it, `dblock force %s`", w.asking.Selector())
	default:
		e.Text = "an exclusive lock cannot be acquired inside a shared one"
		e.Hint = "give the outer dblock an exclusive lock, or this one --shared"
	}
	e.Text += "; " + w.undone
	return e
}

// NotFree says who held the lock to the end of a wait until it is free, and what one can do.
func NotFree(d cli.Database, held *lock.HeldError) (text, hint string) {
	return (&Asking{Database: d, longer: "wait longer with --wait"}).heldBy(held)
}

// heldBy says who held the lock to the end of the wait, and what one can do.
func (a *Asking) heldBy(held *lock.HeldError) (text, hint string) {
	text = term.Path(held.Path) + " is locked"
	selector := a.Selector()
	if len(a.More) > 0 && held.Report != nil {
		selector = cli.Database{DB: held.Report.Names.DB}.Selector()
	}
	hint = fmt.Sprintf("%[1]s; see who it is with `dblock status %[2]s`; if it is stuck, `dblock force %[2]s`", a.longer, selector)
	if r := held.Report; r != nil {
		text = fmt.Sprintf("%s is %s", term.Path(held.Path), situationOf(r, os.Getpid()))
		switch {
		case r.State == lock.StateOrphaned:
			hint = fmt.Sprintf("it is released when all of that has ended; see what it is with `dblock status %[1]s`; to end it, `dblock force %[1]s`", selector)
		case r.State == lock.StateInvalid:
			hint = fmt.Sprintf("try again in some seconds; see what is the matter with `dblock status %s`", selector)
		case len(r.Stopped) > 0:
			pids := ""
			for _, p := range r.Stopped {
				pids += fmt.Sprintf(" %d", p.PID)
			}
			hint = fmt.Sprintf("to let what is stopped go on, `kill -CONT%s`; see who it is with `dblock status %[2]s`; to end it, `dblock force %[2]s`", pids, selector)
		}
	}
	if held.Waited > 100*time.Millisecond {
		text += fmt.Sprintf("; gave up after %s", term.Ago(held.Waited))
	}
	return text, hint
}
