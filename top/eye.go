package top

import (
	"context"
	"fmt"
	"time"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/lock"
)

// How often a lock is looked at. Who waits shows in the kernel's table of locks alone.
const (
	apart      = 100 * time.Millisecond // at the least
	usedAgain  = time.Second            // as long as somebody has it or waits
	blindAgain = time.Second            // where this system does not tell of changes
	freeAgain  = 30 * time.Second       // by one of a hundred locks; by more, less often
	looksShare = 20                     // looking takes one part of the time in so many
)

// view is what is known of one lock. Whoever gets one does not change it.
type view struct {
	cli.Database
	name string // as it is shown

	report    *lock.Report // nil if err is not
	running   []lock.Running
	deadlines map[int]time.Time
	past      *past
	err       error
	at        time.Time // of the look
}

// eye looks at one lock.
type eye struct {
	view
	options lock.Options
	of      int // how many there are in all
	looking chan struct{}

	watcher *watcher
	watches watches
	wake    chan struct{}
	reader  *history.Reader
	shown   string
}

// run looks, and hands out what is new, until the context ends.
func (e *eye) run(ctx context.Context, out chan<- *view) {
	defer e.watcher.forget(&e.watches)
	for {
		begin := time.Now()
		// A filesystem that does not answer keeps only some of all from looking.
		select {
		case e.looking <- struct{}{}:
		case <-ctx.Done():
			return
		}
		again, changed := e.look()
		<-e.looking
		if changed {
			one := e.view
			select {
			case out <- &one:
			case <-ctx.Done():
				return
			}
		}
		rest(ctx, nil, max(apart, looksShare*time.Since(begin)))
		rest(ctx, e.wake, again-time.Since(begin))
		if ctx.Err() != nil {
			if e.reader != nil {
				e.reader.Close()
			}
			return
		}
	}
}

// rest waits for a while, or until something happens.
func rest(ctx context.Context, wake <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
	}
}

// look looks, and says how soon to look again and whether anything has changed but the time.
func (e *eye) look() (again time.Duration, changed bool) {
	watched := false
	n, err := lock.Resolve(e.DB, e.options.LockFile)
	if err == nil {
		// Before the look: what happens from now on is told.
		watched = e.watcher.add(n.Notice, n.State, &e.watches, e.wake)
	}
	e.report, e.err = lock.Inspect(e.DB, e.options)
	e.at, e.running = time.Now(), nil
	if e.err == nil {
		e.running = e.report.Running()
		e.waiters()
		e.remember()
	}
	shown := e.appearance()
	changed, e.shown = shown != e.shown, shown
	switch {
	case e.err == nil && (e.report.State != lock.StateFree || len(e.report.Waiters)+len(e.report.Stopped) > 0):
		// On the full second, when all ages are drawn anew.
		return time.Until(e.at.Truncate(usedAgain).Add(usedAgain)), changed
	case !watched:
		return blindAgain * time.Duration(max(1, e.of/100)), changed
	}
	return freeAgain * time.Duration(max(1, e.of/100)), changed
}

// waiters finds out until when those wait who have come since the last look.
func (e *eye) waiters() {
	all := true
	for _, w := range e.report.Waiters {
		_, known := e.deadlines[w.PID]
		all = all && known
	}
	if all {
		return
	}
	// Without the database: who else has that open takes a look at all processes.
	r := *e.report
	r.Names.DB = ""
	have := r.Facts().Deadlines
	e.deadlines = map[int]time.Time{}
	for _, w := range r.Waiters {
		e.deadlines[w.PID] = have[w.PID] // zero if it waits for ever
	}
}

// remember reads what has come to the history.
func (e *eye) remember() {
	if e.reader == nil {
		e.reader = history.Open(e.report.Names.State)
	}
	fresh := false
	_ = e.reader.Next(func(ev *history.Event) {
		if !fresh {
			one := *e.past
			e.past, fresh = &one, true
		}
		e.past.add(ev, e.at)
	})
}

// appearance is all that is shown of a lock but lengths of time.
func (e *eye) appearance() string {
	if e.err != nil {
		return e.err.Error()
	}
	r := e.report
	s := fmt.Sprintf("%p %s %v %s", e.past, r.State, r.Stale, r.ID)
	for _, ps := range [][]lock.Process{r.Readers, r.Left, r.Owners, r.Waiters, r.Remaining, r.Stopped} {
		s += "|"
		for _, p := range ps {
			s += fmt.Sprintf(" %d %s %v %d", p.PID, p.Command, p.Stopped, e.deadlines[p.PID].Unix())
		}
	}
	for _, w := range e.running {
		s += fmt.Sprintf(" %d %q", w.Process.PID, w.Args)
	}
	return s
}
