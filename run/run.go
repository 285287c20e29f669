package run

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/signals"
)

// Run runs the command under the lock. The error tells how dblock must end: nil
// is exit code 0.
func (c *Command) Run(k *kong.Context, sigs *signals.Listener) error {
	if err := c.misplaced(k); err != nil {
		return err
	}
	opts, err := c.options(k)
	if err != nil {
		return c.mistaken(k, err)
	}
	path, err := look(c.Argv[0])
	if err != nil {
		return c.mistaken(k, err)
	}
	l, err := c.Acquire(context.Background(), c.Voice, opts, c.named()+" was not run", sigs)
	if err != nil {
		return err
	}
	return c.under(l, path, sigs)
}

// under runs the command under a lock that was acquired, and ends the hold.
func (c *Command) under(l Holder, path string, sigs *signals.Listener) error {
	grants := l.Grants()
	result := c.supervise(l, path, environment(grants), sigs)
	c.noteOutcome(result)
	err := l.Release()
	c.tellOfSlow(grants)
	switch {
	case errors.Is(err, lock.ErrLost):
		switch {
		case c.mourned:
		case errors.Is(result, lock.ErrLost):
			c.lost(err, c.named()+" was not run")
		default:
			c.lost(err, "the command had ended")
		}
		return err
	case err != nil:
		c.Tell("the lock file was not removed: %v", err)
	}
	return result
}

// tellOfSlow says whom the command has waited for, if that was longer than --slow. Only now does
// the history tell.
func (c *Command) tellOfSlow(grants []lock.Grant) {
	if c.Slow <= 0 {
		return
	}
	for i := range grants {
		g := &grants[i]
		if g.Waited <= time.Duration(c.Slow) {
			continue
		}
		whom := ""
		if e := history.Find(g.Names.State, g.Holder.Token, os.Getpid()); e != nil {
			whom = cli.Blockers(": ", e)
		}
		c.Tell("waited %[2]s for %[1]s%[3]s", term.Path(g.Names.Shown()), term.Ago(g.Waited), whom)
	}
}

// noteOutcome keeps for the history how the command has ended. That it was late is noted where
// it is known.
func (c *Command) noteOutcome(result error) {
	var exit *cli.ExitError
	var start *StartError
	var sig *cli.SignalError
	switch {
	case errors.As(result, &exit):
		c.outcome.Code = exit.Code
	case errors.As(result, &start):
		c.outcome.Code = start.Code
	case errors.As(result, &sig):
		c.outcome.Signal = int(sig.Signal)
	}
}

// environment is the wrapper's own, the flags' variables as the user has set them,
// with the hold described in it. Of several it is that of the database that was named first;
// the others are among the outer ones.
func environment(grants []lock.Grant) []string {
	own := os.Environ()
	vars := lock.Variables(grants)
	env := make([]string, 0, len(own)+len(vars))
	for _, kv := range own {
		if !strings.HasPrefix(kv, lock.EnvHold) {
			env = append(env, kv)
		}
	}
	for _, v := range vars {
		env = append(env, v[0]+"="+v[1])
	}
	return env
}
