package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/say"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/signals"
)

const (
	patience  = 200 * time.Millisecond // before anything is said on a terminal
	reticence = 10 * time.Second       // before anything is said elsewhere: a log or a mail
	refresh   = time.Second            // of the line on a terminal
	reminding = time.Minute            // of the same holder, elsewhere
)

// stopError says that the queue was left to stop by a signal.
type stopError struct{ signal syscall.Signal }

func (e *stopError) Error() string { return "stopped by " + e.signal.String() }

// wait gets the lock, tells what is being waited for, and listens for signals meanwhile.
func (w *waiting) wait(ctx context.Context, opts lock.Options, sigs *signals.Listener) (Holder, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done, idle := make(chan struct{}), make(chan struct{})
	waited := false
	onWait := func(db string) {
		w.db.Store(&db)
		if waited {
			return // for another one of several before
		}
		waited = true
		go func() {
			defer close(idle)
			w.listen(sigs, cancel, done)
		}()
	}
	l, err := w.asking.describe(opts, onWait)
	if err != nil {
		return nil, err
	}
	err = l.Acquire(ctx)
	if waited {
		close(done)
		<-idle
	}
	// Even if the lock was acquired at that very moment the command must not run.
	if cause := context.Cause(ctx); cause != nil {
		_ = l.Release()
		return nil, cause
	}
	if errors.Is(err, lock.ErrHeld) || errors.Is(err, lock.ErrUpgrade) || errors.Is(err, lock.ErrOrphan) {
		return nil, w.conflict(err)
	}
	return l, err
}

// acquirer is what holds the lock, and before that gets it.
type acquirer interface {
	Holder
	Acquire(ctx context.Context) error
}

// describe is the lock of the database, or those of several. onWait is called with the one that
// has to be waited for.
func (a *Asking) describe(opts lock.Options, onWait func(db string)) (acquirer, error) {
	if len(a.More) > 0 {
		return lock.NewSet(append([]string{a.DB}, a.More...), opts, onWait)
	}
	opts.OnWait = func() { onWait(a.DB) }
	return lock.New(a.DB, opts), nil
}

// listen tells what is being waited for, and listens for signals, until done.
func (w *waiting) listen(sigs *signals.Listener, cancel context.CancelCauseFunc, done <-chan struct{}) {
	defer w.clear()
	w.begin()
	for {
		select {
		case sig := <-sigs.C():
			switch w.note(sig.Signal); {
			case signals.Stops(sig.Signal):
				cancel(&stopError{sig.Signal})
			case signals.Ends(sig.Signal):
				cancel(&cli.SignalError{Signal: sig.Signal})
				w.clear()
				tellOfForce(w.voice, sig)
			}
		case <-w.due():
			w.show()
		case <-done:
			return
		}
	}
}

// waiting tells a person, or a log, what is being waited for.
type waiting struct {
	asking *Asking
	voice  cli.Voice
	undone string // what is not done without the lock
	opts   lock.Options
	db     atomic.Pointer[string] // whose lock is waited for

	live  bool
	start time.Time
	timer *time.Timer
	shown bool // the line is on the screen

	continued bool           // since the last signal that stops
	ending    syscall.Signal // the first one that ends
}

// note remembers a signal for when the queue has been left.
func (w *waiting) note(sig syscall.Signal) {
	switch {
	case signals.Stops(sig):
		w.continued = false
	case sig == unix.SIGCONT:
		w.continued = true
	case signals.Ends(sig) && w.ending == 0:
		w.ending = sig
	}
}

// stop stops this process, unless it was told to go on, or to end, while it left the queue.
func (w *waiting) stop(by syscall.Signal, sigs *signals.Listener) error {
	signals.Stop(by, func() bool {
		for _, sig := range sigs.Arrived() {
			w.note(sig.Signal)
		}
		return w.continued || w.ending != 0
	})
	if w.ending != 0 {
		return &cli.SignalError{Signal: w.ending}
	}
	return nil
}

// begin starts to count the time until something is to be said.
func (w *waiting) begin() {
	if w.voice.Quiet == 0 {
		w.live = term.Live(os.Stderr)
		first := reticence
		if term.Is(os.Stderr) {
			first = patience
		}
		w.timer = time.NewTimer(first)
	}
}

// due tells when something is to be said next; never, if nothing is.
func (w *waiting) due() <-chan time.Time {
	if w.timer == nil {
		return nil
	}
	return w.timer.C
}

// show says what is being waited for.
func (w *waiting) show() {
	r, err := lock.Inspect(*w.db.Load(), w.opts)
	if err != nil {
		w.timer.Reset(refresh)
		return
	}
	s := situationOf(r, os.Getpid())
	if !w.live {
		line := fmt.Sprintf("dblock: waiting for %s, %s", term.Path(r.Names.Shown()), s)
		if waited := time.Since(w.start); waited > reminding {
			line += fmt.Sprintf(" (waiting for %s)", term.Ago(waited))
		}
		fmt.Fprintln(say.Stderr, line)
		w.timer.Reset(reminding)
		return
	}
	if !term.Ours(os.Stderr) {
		// The screen is somebody else's for now.
		w.timer.Reset(refresh)
		return
	}
	waited := term.Ago(time.Since(w.start).Truncate(refresh / 10))
	fmt.Fprintf(say.Stderr, "\r%s\x1b[K", s.line(waited, term.Path(r.Names.Shown()), term.Width(os.Stderr)-1))
	w.shown = true
	w.timer.Reset(refresh)
}

// clear takes the line off the screen, so that what follows starts on a clean one. The
// command may write at once, so the line has to be gone; unless nobody reads.
func (w *waiting) clear() {
	if w.shown {
		fmt.Fprint(say.Stderr, "\r\x1b[K")
		say.Stderr.Flush(brief)
		w.shown = false
	}
}

// Tell tells what is being waited for by one who waits for the lock to be free, and is not in the
// queue, until done is closed.
func Tell(db string, opts lock.Options, done <-chan struct{}) {
	w := &waiting{opts: opts, start: time.Now()}
	w.db.Store(&db)
	defer w.clear()
	w.begin()
	for {
		select {
		case <-w.due():
			w.show()
		case <-done:
			return
		}
	}
}
