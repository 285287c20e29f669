package run

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/dblock-dev/dblock/internal/say"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/signals"
)

const (
	patience  = 200 * time.Millisecond // before anything is said
	refresh   = time.Second            // of the line on a terminal
	reminding = time.Minute            // of the same holder, elsewhere
)

// wait tells what is being waited for, and listens for signals, until done.
func (c *Command) wait(sigs *signals.Listener, cancel context.CancelCauseFunc, done <-chan struct{}) {
	w := c.newWaiting()
	defer w.clear()
	for {
		select {
		case sig := <-sigs.C():
			switch {
			case signals.Stops(sig.Signal):
				w.clear()
				signals.Stop(sig.Signal)
			case signals.Ends(sig.Signal):
				cancel(&SignalError{sig.Signal})
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
	c     *Command
	db    string
	opts  lock.Options
	live  bool
	start time.Time
	timer *time.Timer
	shown bool // the line is on the screen
}

func (c *Command) newWaiting() *waiting {
	w := &waiting{c: c, db: c.DB, opts: c.Options(c.Foreign), start: time.Now()}
	if !c.Quiet {
		w.live = term.Live(os.Stderr)
		w.timer = time.NewTimer(patience)
	}
	return w
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
	r, err := lock.Inspect(w.db, w.opts)
	if err != nil {
		w.timer.Reset(refresh)
		return
	}
	line := fmt.Sprintf("dblock: waiting for %s, %s", term.Path(r.Notice), situation(r, os.Getpid()))
	if !w.live {
		if waited := time.Since(w.start); waited > reminding {
			line += fmt.Sprintf(" (waiting for %s)", term.Ago(waited))
		}
		fmt.Fprintln(say.Stderr, line)
		w.timer.Reset(reminding)
		return
	}
	// What changes comes first, so that a narrow terminal shows it too.
	line = fmt.Sprintf("dblock: waiting %s, %s: %s", term.Ago(time.Since(w.start).Truncate(refresh/10)), situation(r, os.Getpid()), term.Path(r.Notice))
	fmt.Fprintf(say.Stderr, "\r%s\x1b[K", term.Fit(line, term.Width(os.Stderr)-1))
	w.shown = true
	w.timer.Reset(refresh)
}

// clear takes the line off the screen, so that what follows starts on a clean one.
func (w *waiting) clear() {
	if w.shown {
		fmt.Fprint(say.Stderr, "\r\x1b[K")
		w.shown = false
	}
}
