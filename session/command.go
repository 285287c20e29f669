// Package session serves a program in any language: a co-process that is asked for locks by
// JSON lines at its standard input, and answers at its standard output. docs/session.md is
// its specification.
package session

import (
	"os"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/entry"
	"github.com/dblock-dev/dblock/internal/witness"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/run"
	"github.com/dblock-dev/dblock/signals"
)

// Command is the grammar of `dblock session`: what holds for a request that does not say it.
type Command struct {
	cli.Database

	Wait        cli.Duration    `short:"w" default:"5s" placeholder:"D" help:"How long to wait for a lock: seconds (2.5), 90s, 5m, 0 (do not wait), forever (${default})."`
	Priority    cli.Priority    `default:"normal" placeholder:"CLASS" help:"Who goes first of those who wait: low, normal or high (${default})."`
	Process     string          `short:"p" default:"dblock" placeholder:"LABEL" help:"The label that others see (${default})."`
	Info        string          `placeholder:"TEXT" help:"What others are to know, in the lock file: a reason, a ticket, an address."`
	NoHistory   bool            `help:"Do not add to the history of the locks."`
	TimeLimit   cli.Duration    `placeholder:"D" help:"How long a lock may be held: 90s, 5m. Then the program is ended with all that it has started. 0 or nothing: as long as it takes."`
	OnTimeLimit run.OnTimeLimit `default:"term" placeholder:"ACTION" help:"What to do with the program, and what it has started, when that time is up: term, kill or warn (${default})."`
	KillAfter   cli.Duration    `default:"10s" placeholder:"D" help:"How long after SIGTERM to send SIGKILL (${default})."`
	cli.Foreign

	version string
}

// Called names the version that the first line tells.
func (c *Command) Called(version string) { c.version = version }

// Unescape gives the arguments their bytes back.
func (c *Command) Unescape() {
	c.Database.Unescape()
	c.Process, c.Info = cli.Unescape(c.Process), cli.Unescape(c.Info)
}

// Run serves until the input ends, the parent has gone, or a signal ends it.
func (c *Command) Run(k *kong.Context, sigs *signals.Listener) error {
	for fd, name := range []string{"input", "output"} {
		if entry.Closed(fd) {
			return cli.Usage("standard "+name+" is closed", "a program starts `dblock session` with pipes at both; see docs/session.md")
		}
	}
	if len(c.More) > 0 {
		return cli.Usage("more than one database is named", "each request can name one; the flag is for those that do not")
	}
	// Without a database a request has to name one; under a hold the enclosing one is meant.
	_ = c.Check(cli.Given(k))

	s := newSession(c, os.Getpid())
	if sigs.Interrupts() {
		s.interrupt = signals.Interrupt
	}
	s.out = newWriter(1)
	s.in = newReader(0, s.out)
	w := witness.Attest(os.Getppid(), true)
	defer w.Dismiss()
	return s.serve(watchParent(), sigs)
}

// serve answers requests until there is a reason to end.
func (s *session) serve(orphaned <-chan struct{}, sigs *signals.Listener) error {
	s.greet()
	go s.lead()
	for {
		select {
		case <-s.ended:
			// Whoever has only closed our input may read on.
			s.outlast()
			s.finish()
			s.out.flush(lastWords)
			return nil
		case <-orphaned:
			s.outlast()
			s.finish()
			return nil
		case sig := <-sigs.C():
			switch sig.Signal {
			case unix.SIGINT, unix.SIGQUIT, unix.SIGHUP:
				// Meant for the program, which may need its locks to clean up.
			case unix.SIGCONT:
				s.resume()
			default:
				if signals.Ends(sig.Signal) {
					s.finish()
					return &cli.SignalError{Signal: sig.Signal}
				}
			}
		}
	}
}

const (
	// lastWords is how long the last answers wait for their reader.
	lastWords = 2 * time.Second
	// farewell is how long the end waits for waits to be given up, and for holds to be released.
	farewell = 2 * time.Second
)

// options are the lock's options for what the flags say.
func (c *Command) options() lock.Options {
	o := c.Options(c.Foreign)
	o.Process, o.Info, o.Priority, o.NoHistory = c.Process, c.Info, lock.Priority(c.Priority), c.NoHistory
	o.Wait = patience(c.Wait)
	return o
}

// patience is a length of time as lock.Options.Wait has it.
func patience(d cli.Duration) time.Duration {
	if d == 0 {
		return lock.NoWait
	}
	return time.Duration(d)
}
