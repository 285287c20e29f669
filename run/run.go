package run

import (
	"errors"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"

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
	prepare()
	l, err := c.acquire(opts, sigs)
	if err != nil {
		return err
	}
	grants := l.Grants()
	for _, g := range grants {
		if g.Degraded != nil {
			c.tell("warning: flock does not work in %s; other dblocks are kept out by the lock file alone", g.Names.State)
		}
		if c.Verbose {
			c.tell("acquired %s at %s, after %s (token %d)", g.Names.Notice, time.Now().Format("15:04:05"), g.Waited.Round(time.Microsecond), g.Holder.Token)
		}
	}
	result := c.supervise(l, path, environment(grants), sigs)
	// The attendant has told of a loss, unless there was nothing yet to attend to.
	told := l.Err() != nil && !errors.Is(result, lock.ErrLost)
	err = l.Release()
	switch {
	case errors.Is(err, lock.ErrLost):
		switch {
		case told:
		case errors.Is(result, lock.ErrLost):
			c.lost(err, c.named()+" was not run")
		default:
			c.lost(err, "the command had ended")
		}
		return err
	case err != nil:
		c.tell("the lock file was not removed: %v", err)
	}
	return result
}

// acquire gets the lock. A signal meanwhile ends the wait, and the process. One that
// stops a process has it leave the queue first, where it would be in everybody's way, and
// join again when it goes on.
func (c *Command) acquire(opts lock.Options, sigs *signals.Listener) (Holder, error) {
	opts.Unattended = true
	if sigs.Interrupts() {
		opts.Interrupt = signals.Interrupt
	}
	w := c.newWaiting()
	for {
		begin := time.Now()
		l, err := c.wait(opts, sigs, w)
		var stop *stopError
		if !errors.As(err, &stop) {
			return l, err
		}
		waited := time.Since(begin)
		if err := w.stop(stop.signal, sigs); err != nil {
			return nil, err
		}
		if opts.Wait > 0 && opts.Wait != lock.Forever {
			opts.Wait = max(opts.Wait-waited, time.Millisecond)
		}
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
