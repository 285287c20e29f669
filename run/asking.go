package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/signals"
)

// Asking is how a lock is asked for: the flags that run and hold have in common.
type Asking struct {
	cli.Database

	Wait             cli.Duration `short:"w" placeholder:"D" help:"How long to wait for the lock: seconds (2.5), 90s, 5m, 0 (do not wait), forever. By default retries times delay, 5s."`
	Nonblock         bool         `short:"n" help:"Do not wait."`
	MaxRetries       Count        `default:"50" placeholder:"N" help:"The longest wait, as a number of retries (${default})."`
	RetryDelay       Delay        `default:"100ms" placeholder:"D" help:"The time between two retries (${default})."`
	ConflictExitCode ExitCode     `short:"E" default:"75" placeholder:"N" help:"The exit code when the lock was not acquired (${default})."`
	Shared           bool         `short:"s" help:"Share the lock with other readers."`
	Exclusive        bool         `short:"x" help:"Hold the lock alone (the default)."`
	Priority         cli.Priority `default:"normal" placeholder:"CLASS" help:"Who goes first of those who wait: low, normal or high (${default})."`
	Process          string       `short:"p" default:"dblock" placeholder:"LABEL" help:"The label that others see (${default})."`
	Info             string       `placeholder:"TEXT" help:"What others are to know, in the lock file: a reason, a ticket, an address."`
	TTL              cli.Duration `name:"ttl" placeholder:"D" help:"How long etcd keeps the lock of a machine that does not answer (15s)."`
	NoHistory        bool         `help:"Do not add to the history of the lock."`
	cli.Foreign

	longer string // how one waits longer than this, for who gives up
}

// Unescape gives the arguments their bytes back.
func (a *Asking) Unescape() {
	a.Database.Unescape()
	a.Process, a.Info = cli.Unescape(a.Process), cli.Unescape(a.Info)
}

// Request checks the flags against each other and makes the lock's options of
// them. A flag wins over an environment variable, also over that of its opposite.
func (a *Asking) Request(v *cli.Voice, given func(string) bool) (lock.Options, error) {
	for _, pair := range [][2]string{{"nonblock", "wait"}, {"shared", "exclusive"}, {"quiet", "verbose"}} {
		if given(pair[0]) && given(pair[1]) {
			return lock.Options{}, cli.Usage(fmt.Sprintf("--%s and --%s exclude each other", pair[0], pair[1]), "give one of them")
		}
	}
	if v.Quiet > 0 && v.Verbose {
		if given("verbose") {
			v.Quiet = 0
		} else {
			v.Verbose = false
		}
	}
	o := a.Options(a.Foreign)
	o.Process, o.Info, o.NoHistory = a.Process, a.Info, a.NoHistory
	o.Priority = lock.Priority(a.Priority)
	if err := a.fits(); err != nil {
		return o, err
	}
	o.TTL = time.Duration(a.TTL)
	o.RetryDelay = time.Duration(a.RetryDelay)
	if a.Shared && !given("exclusive") {
		o.Mode = lock.Shared
	}
	o.Wait = a.patience(given)
	switch {
	case o.Wait != lock.NoWait:
		a.longer = "wait longer with --wait"
	case given("nonblock"):
		a.longer = "wait for it with -w 60 in place of -n"
	default:
		a.longer = "wait for it with -w 60"
	}
	return o, nil
}

// fits refuses what the place of a lock cannot do.
func (a *Asking) fits() error {
	leased := false
	for _, db := range append([]string{a.DB}, a.More...) {
		if lock.IsURL(db) && lock.Priority(a.Priority) != lock.Normal {
			return cli.Usage("a server knows no priorities among those who wait for its lock", "leave out --priority")
		}
		leased = leased || lock.IsURL(db) && strings.HasPrefix(db, "etcd")
	}
	if a.TTL != 0 && !leased {
		return cli.Usage("--ttl is for locks in etcd", "elsewhere a lock ends with whoever holds it")
	}
	return nil
}

func (a *Asking) patience(given func(string) bool) time.Duration {
	set := os.Getenv("DBLOCK_WAIT") != ""
	var d time.Duration
	switch {
	case given("wait"):
		d = time.Duration(a.Wait)
	case given("nonblock") && a.Nonblock:
		return lock.NoWait
	case given("max-retries") || given("retry-delay"):
		d = retries(int(a.MaxRetries), time.Duration(a.RetryDelay))
	case a.Nonblock:
		return lock.NoWait
	case set:
		d = time.Duration(a.Wait)
	default:
		d = retries(int(a.MaxRetries), time.Duration(a.RetryDelay))
	}
	if d == 0 {
		return lock.NoWait
	}
	return d
}

func retries(n int, delay time.Duration) time.Duration {
	if n > 0 && delay > lock.Forever/time.Duration(n) {
		return lock.Forever
	}
	return time.Duration(n) * delay
}

// Acquire gets the lock. A signal meanwhile ends the wait, and the process. One that
// stops a process has it leave the queue first, where it would be in everybody's way, and
// join again when it goes on. The end of ctx ends the wait, too. Whoever gives up says what
// was not done for that.
func (a *Asking) Acquire(ctx context.Context, v cli.Voice, opts lock.Options, undone string, sigs *signals.Listener) (Holder, error) {
	prepare()
	opts.Unattended = true
	if sigs.Interrupts() {
		opts.Interrupt = signals.Interrupt
	}
	w := &waiting{asking: a, voice: v, undone: undone, opts: a.Options(a.Foreign), start: time.Now()}
	for {
		begin := time.Now()
		l, err := w.wait(ctx, opts, sigs)
		var stop *stopError
		if !errors.As(err, &stop) {
			if err == nil {
				announce(v, l)
			}
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

// announce says how the lock was acquired, if there is something to say.
func announce(v cli.Voice, l Holder) {
	for _, g := range l.Grants() {
		if g.Degraded != nil {
			v.Tell("warning: flock does not work in %s; other dblocks are kept out by the lock file alone", g.Names.State)
		}
		if v.Verbose {
			v.Tell("acquired %s at %s, after %s (token %d)", g.Names.Shown(), time.Now().Format("15:04:05"), g.Waited.Round(time.Microsecond), g.Holder.Token)
		}
	}
}
