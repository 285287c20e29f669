package status

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/run"
)

// errLate says that the lock was not free in time.
var errLate = errors.New("the time to wait is over")

// follow shows each change of the lock, or waits until it is free, or both.
func (c *Command) follow() error {
	what := "--watch"
	if c.UntilFree {
		what = "--until-free"
	}
	switch {
	case len(c.More) > 0:
		return cli.Usage(what+" is about one database, and several are named", "name one at a time")
	case c.Force:
		return cli.Usage("--force and "+what+" exclude each other", "give one of them")
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	hush := func() {}
	if c.Watch {
		go func() {
			awaitHangUp(os.Stdout)
			cancel(&cli.SignalError{Signal: unix.SIGPIPE})
		}()
	} else if !c.Quiet {
		hush = c.tell(cancel)
	}
	start := time.Now()
	last, err := c.until(ctx, cancel)
	hush()
	switch {
	case errors.Is(err, errLate) && isFree(last):
		err = nil
	case errors.Is(err, errLate):
		err = c.conflict(run.NotFree(c.Database, &lock.HeldError{Path: last.Names.Shown(), Report: last, Waited: time.Since(start)}))
	case err != nil:
		return err
	}
	if shown := c.end(last); shown != nil {
		return shown
	}
	return err
}

// conflict is the error of a wait that was in vain.
func (c *Command) conflict(text, hint string) error {
	e := &cli.ConflictError{Code: int(c.ConflictExitCode), Text: text, Hint: hint, Err: lock.ErrHeld}
	if c.Quiet {
		e.Quiet = cli.Silent
	}
	return e
}

// tell tells what is being waited for until hush is called. A signal that ends the wait takes
// the line off a terminal first.
func (c *Command) tell(cancel context.CancelCauseFunc) (hush func()) {
	for _, sig := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		if !signal.Ignored(sig) {
			arrived := make(chan os.Signal, 1)
			signal.Notify(arrived, sig)
			go func() { cancel(&cli.SignalError{Signal: (<-arrived).(syscall.Signal)}) }()
		}
	}
	done, told := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(told)
		run.Tell(c.DB, c.Options(c.Foreign), done)
	}()
	return func() {
		close(done)
		<-told
	}
}

// until follows the lock as long as the context lasts, until it is free if that is all, or until
// the time to wait is over: errLate. It returns what there was at the end.
func (c *Command) until(ctx context.Context, cancel context.CancelCauseFunc) (last *lock.Report, err error) {
	for r, err := range lock.Watch(ctx, c.DB, c.Options(c.Foreign)) {
		if err != nil {
			return nil, cli.Nowhere(err, c.Database.DB, c.Database.LockFile)
		}
		// The wait begins when it is known that there is something to wait for.
		if last == nil && c.UntilFree && time.Duration(c.Wait) != lock.Forever && !isFree(r) {
			late := time.AfterFunc(time.Duration(c.Wait), func() { cancel(errLate) })
			defer late.Stop()
		}
		if c.UntilFree && r.Inside() {
			return nil, c.conflict("the command that has the lock has started this dblock status, which would wait for its own end", "leave out --until-free")
		}
		last = r
		if c.Watch {
			if err := c.line(r); err != nil {
				return nil, err
			}
		}
		if c.UntilFree && isFree(r) {
			return r, nil
		}
	}
	err = context.Cause(ctx)
	if r, why := lock.Inspect(c.DB, c.Options(c.Foreign)); errors.Is(err, errLate) && why == nil {
		if last = r; c.Watch && isFree(r) { // it has just become so
			return r, c.line(r)
		}
	}
	return last, err
}

// isFree reports whether one who comes now would have the lock at once.
func isFree(r *lock.Report) bool {
	return !r.Locked() && len(r.Waiters) == 0 && len(r.Stopped) == 0
}

// end shows what there is at the end of a wait. A text is for the good end only, of the other one
// a message tells.
func (c *Command) end(r *lock.Report) error {
	switch {
	case c.Quiet || c.Watch:
		return nil
	case c.JSON:
		return writeJSON(os.Stdout, r, r.Facts())
	case !isFree(r):
		return nil
	}
	p := page{Database: c.Database, style: newStyle(os.Stdout), report: r}
	_, err := io.WriteString(os.Stdout, p.text())
	return err
}

// line shows the lock on one line.
func (c *Command) line(r *lock.Report) error {
	now := time.Now()
	switch {
	case c.Quiet:
		return nil
	case c.JSON:
		text, err := jsonAt(now, r, r.Facts())
		if err == nil {
			_, err = os.Stdout.Write(append(text, '\n'))
		}
		return brokenPipe(err)
	}
	_, err := fmt.Printf("%s %s\n", now.Format(time.DateTime), state(r))
	return brokenPipe(err)
}

// state is a lock's state on one line: the word for it, who is concerned, and how many wait.
func state(r *lock.Report) string {
	word, why := string(r.State), run.Situation(r)
	if r.State == lock.StateStale || r.State == lock.StateFree && len(r.Stopped) == 0 {
		why = term.Path(r.Evidence)
		if n := len(r.Waiters); n > 0 {
			why += fmt.Sprintf(", %d waiting", n)
		}
	}
	switch {
	case strings.HasPrefix(why, word):
		return why
	case why == "" || why[0] == ',':
		return word + why
	}
	return word + ": " + why
}

// brokenPipe makes the error of a pipe that nobody reads any more a death by SIGPIPE, as it is
// for other programs, also where SIGPIPE was ignored when dblock was started.
func brokenPipe(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return &cli.SignalError{Signal: unix.SIGPIPE}
	}
	return err
}

// awaitHangUp waits until nobody can read any more what is written to the file: without that the
// writer at the head of a pipeline would notice only with the next change, whenever that is.
func awaitHangUp(f *os.File) {
	for {
		fds := []unix.PollFd{{Fd: int32(f.Fd())}}
		if n, err := unix.Poll(fds, -1); err != unix.EINTR && (n > 0 || err != nil) {
			return
		}
	}
}
