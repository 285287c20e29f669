package top

import (
	"context"
	"fmt"
	"time"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/lock"
)

// How often a lock is looked at, beside when something happens to its files. Who waits shows in
// the kernel's table of locks alone, but he opens one of the files first, and one who is killed
// closes it.
const (
	usedAgain  = 15 * time.Second // as long as somebody has it or waits
	soonAgain  = time.Second      // after a change, or a hint of one
	blindAgain = time.Second      // where this system does not tell of changes
	freeAgain  = 30 * time.Second // by one of a hundred locks; by more, less often
	runsAgain  = time.Minute      // what works under it, of which a command may become another
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
	pace    *pace

	watcher *watcher
	watches watches
	bell    bell
	reader  *history.Reader
	shown   string
	ran     time.Time // when it was found out what works under it
	under   string    // and under whom
	hinted  bool
}

// run looks, and hands out what is new, until the context ends.
func (e *eye) run(ctx context.Context, out chan<- *view) {
	defer e.watcher.forget(&e.watches)
	if e.report != nil { // the search has looked
		if e.err == nil {
			e.remember()
		}
		e.hand(ctx, out)
	}
	for first := true; ; first = false {
		end, ok := e.pace.begin(ctx, first)
		if !ok {
			break
		}
		again, changed := e.look()
		end()
		if e.hinted { // what it told of may not have come to pass yet
			again, e.hinted = e.at.Add(soonAgain), false
		}
		if changed {
			e.hand(ctx, out)
		}
		e.rest(ctx, again)
	}
	if e.reader != nil {
		e.reader.Close()
	}
}

// hand hands out what is known.
func (e *eye) hand(ctx context.Context, out chan<- *view) {
	one := e.view
	if one.err != nil {
		one.report = nil
	}
	select {
	case out <- &one:
	case <-ctx.Done():
	}
}

// rest waits until it is time to look again, or there is a reason to.
func (e *eye) rest(ctx context.Context, again time.Time) {
	t := time.NewTimer(time.Until(again))
	defer t.Stop()
	select {
	case <-t.C:
	case <-e.bell.changed:
	case <-e.bell.hint:
		e.hinted = true
		rest(ctx, e.bell.changed, time.Until(e.at.Add(soonAgain)))
	case <-ctx.Done():
	}
}

// bell is how an eye is told of changes.
type bell struct{ changed, hint chan struct{} }

func newBell() bell { return bell{make(chan struct{}, 1), make(chan struct{}, 1)} }

// ring says that something has changed, or may have.
func (b bell) ring(sure bool) {
	to := b.hint
	if sure {
		to = b.changed
	}
	select {
	case to <- struct{}{}:
	default:
	}
}

// rest waits for a while, or until something happens.
func rest(ctx context.Context, changed <-chan struct{}, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-changed:
	case <-ctx.Done():
	}
}

// look looks, and says when to look again and whether anything has changed but the time.
func (e *eye) look() (again time.Time, changed bool) {
	watched := false
	n, err := lock.Resolve(e.DB, e.options.LockFile)
	if err == nil {
		// Before the look: what happens from now on is told.
		watched = e.watcher.add(n.Notice, n.State, &e.watches, e.bell)
		e.watcher.hints(n.State, &e.watches, e.bell, false)
		defer e.watcher.hints(n.State, &e.watches, e.bell, true)
	}
	e.report, e.err = lock.Inspect(e.DB, e.options)
	e.at = time.Now()
	if e.err == nil {
		e.works()
		e.waiters()
		e.remember()
	}
	shown := e.appearance()
	changed, e.shown = shown != e.shown, shown
	switch {
	case e.err == nil && (e.report.State != lock.StateFree || len(e.report.Waiters)+len(e.report.Stopped) > 0):
		// On the full second, when all ages are drawn anew.
		every := usedAgain
		if changed || !watched {
			every = soonAgain
		}
		return e.at.Add(time.Second / 2).Truncate(time.Second).Add(every), changed
	case !watched:
		return e.at.Add(blindAgain), changed
	}
	return e.at.Add(freeAgain * time.Duration(max(1, e.of/100))), changed
}

// works finds out what works under the lock, if that may have changed.
func (e *eye) works() {
	under := fmt.Sprint(e.report.State, e.report.ID, len(e.report.Readers), len(e.report.Left), len(e.report.Owners))
	if under == e.under && len(e.running) > 0 && e.at.Sub(e.ran) < runsAgain {
		return
	}
	e.running, e.ran, e.under = e.report.Running(), e.at, under
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
