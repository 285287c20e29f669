package lock

import (
	"context"
	"iter"
	"path/filepath"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/claim"
	"github.com/dblock-dev/dblock/lock/internal/watch"
)

// How often Watch looks where nothing has told it of a change.
const (
	soonAgain  = 250 * time.Millisecond // after a change, which may be one of several
	usedAgain  = 2 * time.Second        // as long as somebody holds the lock or waits
	freeAgain  = 10 * time.Second       // while it is free
	blindAgain = 500 * time.Millisecond // where this system does not tell of changes

	// A look keeps others from locking any file while it reads the kernel's table: it may take one
	// part of the time in so many, and no two follow each other faster than that.
	looksShare  = 10
	looksApart  = 100 * time.Millisecond
	passingTime = time.Second
)

// Watch looks at a lock as Inspect does, and again whenever something happens to it. It yields
// what it finds at once, and from then on when it is in another state, has another holder, or
// another number of processes share it, wait for it, are waited for or are stopped; at most ten
// times a second. It ends with the context, or after an error, which is Inspect's.
//
// What happens to the lock file, or to the process that has it open, is found at once, where the
// system tells of changes to files. Who waits shows in the kernel's table of locks alone, which
// is read again from time to time: within a second after a change, and every two seconds then.
func Watch(ctx context.Context, db string, opts Options) iter.Seq2[*Report, error] {
	return func(yield func(*Report, error) bool) {
		s := newSentry()
		defer s.close()
		defer context.AfterFunc(ctx, s.interrupt)()
		var last *Report
		var passing time.Time // since when the lock is on its way from one to the next
		for again := soonAgain; ; {
			begin := time.Now()
			n, err := Resolve(db, opts.LockFile)
			if err == nil {
				s.watch(n) // before the look: what happens from now on is told
			}
			r, err := Inspect(db, opts)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				yield(nil, err)
				return
			case last != nil && r.passesOn() && (passing.IsZero() || time.Since(passing) < passingTime): // check: passes-on: r.passesOn() -> false
				if passing.IsZero() {
					passing = begin
				}
				again = looksApart
			case last == nil || r.differs(last):
				last, passing, again = r, time.Time{}, soonAgain
				if !yield(r, nil) {
					return
				}
			default:
				passing = time.Time{}
				again = min(2*again, s.longest(r))
			}
			if rest(ctx, max(looksApart, looksShare*time.Since(begin))); ctx.Err() != nil {
				return
			}
			if s.wait(again) {
				again = soonAgain
			}
		}
	}
}

// passesOn reports whether the holder has left the lock for one that waits, and that one has
// not come yet.
func (r *Report) passesOn() bool { return r.seen != nil && claim.WasLeft(r.seen.Info) }

// differs reports whether two reports tell of different things, apart from the time.
func (r *Report) differs(s *Report) bool {
	holder := func(r *Report) (pid int) {
		if r.Holder != nil {
			pid = r.Holder.PID
		}
		return pid
	}
	return r.State != s.State || r.Stale != s.Stale || r.ID != s.ID || holder(r) != holder(s) || r.KeptBy != s.KeptBy ||
		len(r.Readers) != len(s.Readers) || len(r.Waiters) != len(s.Waiters) || len(r.Remaining) != len(s.Remaining) ||
		len(r.Stopped) != len(s.Stopped) || len(r.Owners) != len(s.Owners) || len(r.Orphans) != len(s.Orphans)
}

// rest waits for a while, or until the context ends.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// sentry watches the lock file, or its place, as far as the system tells of changes.
type sentry struct {
	w     *watch.Watcher // nil where it does not
	awake chan struct{}  // in its place
	blind bool           // at this moment nothing is watched
}

func newSentry() *sentry {
	w, err := watch.New()
	if err != nil {
		w = nil
	}
	return &sentry{w: w, awake: make(chan struct{}, 1)}
}

// watch watches what is at the lock file's path now.
func (s *sentry) watch(n Names) {
	s.blind = true
	if s.w == nil {
		return
	}
	s.w.Forget()
	const what = watch.Moved | watch.Closed
	if s.w.Add(n.Notice, what) == nil {
		s.blind = false
		return
	}
	dir, name := filepath.Split(n.Notice)
	s.blind = s.w.AddName(dir, name) != nil
	_ = s.w.Add(n.Notice, what) // it may have come in between
}

// longest is how long one may be content with a report.
func (s *sentry) longest(r *Report) time.Duration {
	switch {
	case s.blind:
		return blindAgain
	case r.State == StateFree && len(r.Waiters) == 0 && len(r.Stopped) == 0:
		return freeAgain
	}
	return usedAgain
}

// wait waits until something has happened, and reports whether that is so.
func (s *sentry) wait(atMost time.Duration) bool {
	if s.w != nil {
		what, _ := s.w.Wait(time.Now().Add(atMost))
		return what != 0
	}
	t := time.NewTimer(atMost)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.awake:
	}
	return false
}

// interrupt ends a wait.
func (s *sentry) interrupt() {
	if s.w != nil {
		s.w.Interrupt()
		return
	}
	select {
	case s.awake <- struct{}{}:
	default:
	}
}

func (s *sentry) close() {
	if s.w != nil {
		s.w.Close()
	}
}
