package lock

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Set is the locks of several databases, which are acquired together and released together.
// Everybody acquires them in one order, whatever order they are named in, so that two of
// whom each has what the other waits for do not come about.
type Set struct {
	locks []*Lock // in the order in which they are acquired
	first *Lock   // of the database that was named first

	mu       sync.Mutex
	lost     chan struct{} // closed when one of them is lost; nil while they are not held
	released chan struct{} // closed when they are released
}

// NewSet describes the locks of these databases, of which there must be one at least. Two
// names of one database are one lock. Options.LockFile must be empty; Wait is for all of them
// together, and OnWait is called with the database whose lock has to be waited for. The error
// is Resolve's.
func NewSet(dbs []string, opts Options, onWait func(db string)) (*Set, error) {
	type named struct {
		notice string
		lock   *Lock
	}
	var all []named
	for _, db := range dbs {
		n, err := Resolve(db, "")
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(o named) bool { return o.notice == n.Notice }) {
			continue
		}
		all = append(all, named{n.Notice, New(db, opts)})
	}
	s := &Set{first: all[0].lock}
	slices.SortFunc(all, func(a, b named) int { return cmp.Compare(a.notice, b.notice) })
	for i, l := range all {
		s.locks = append(s.locks, l.lock)
		l.lock.opts.OnWait = func() {
			// It may take long: those that are held already need their heartbeats.
			for _, held := range s.locks[:i] {
				held.Attend()
			}
			if onWait != nil {
				onWait(l.lock.db)
			}
		}
	}
	return s, nil
}

// Acquire gets all the locks, or none. The error is that of the Lock that was not acquired.
func (s *Set) Acquire(ctx context.Context) error {
	begin := time.Now()
	for i, l := range s.locks {
		opts := l.opts
		if opts.Wait > 0 && opts.Wait != Forever && i > 0 {
			if l.opts.Wait = opts.Wait - time.Since(begin); l.opts.Wait <= 0 {
				l.opts.Wait = NoWait
			}
		}
		err := l.Acquire(ctx)
		l.opts = opts
		if err == nil {
			continue
		}
		var held *HeldError
		if errors.As(err, &held) && opts.Wait != NoWait {
			held.Waited = time.Since(begin)
		}
		for _, acquired := range s.locks[:i] {
			_ = acquired.Release()
		}
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost, s.released = make(chan struct{}), make(chan struct{})
	for _, l := range s.locks {
		go s.tellOfLoss(l.Lost(), s.lost, s.released)
	}
	return nil
}

// tellOfLoss closes lost when one of the locks is lost, until the Set is released.
func (s *Set) tellOfLoss(one <-chan struct{}, lost chan struct{}, released <-chan struct{}) {
	select {
	case <-one:
	case <-released:
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-lost:
	default:
		close(lost)
	}
}

// Grants describes the holds, that of the database that was named first before the others; it
// is empty if there are none.
func (s *Set) Grants() (grants []Grant) {
	for _, l := range s.named() {
		if g, ok := l.Grant(); ok {
			grants = append(grants, g)
		}
	}
	return grants
}

// named are the locks, that of the first database before the others.
func (s *Set) named() []*Lock {
	others := slices.DeleteFunc(slices.Clone(s.locks), func(l *Lock) bool { return l == s.first })
	return append([]*Lock{s.first}, others...)
}

// Descriptors are the open files of the rooms; see Lock.Descriptors.
func (s *Set) Descriptors() (fds []int) {
	for _, l := range s.locks {
		fds = append(fds, l.Descriptors()...)
	}
	return fds
}

// Lost is closed when one of the locks is lost. It is nil while they are not held.
func (s *Set) Lost() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// Err is the *LostError of the first that was lost, else nil.
func (s *Set) Err() error { return s.firstError((*Lock).Err) }

// Check looks at once whether all locks are still ours; see Lock.Check.
func (s *Set) Check() error { return s.firstError((*Lock).Check) }

func (s *Set) firstError(of func(*Lock) error) error {
	for _, l := range s.locks {
		if err := of(l); err != nil {
			return err
		}
	}
	return nil
}

// Attend, Suspend, Resume, Ending and Bequeath do for each lock what they do for a Lock.
func (s *Set) Attend() { s.each((*Lock).Attend) }

// Suspend: see Lock.
func (s *Set) Suspend() { s.each((*Lock).Suspend) }

// Resume: see Lock.
func (s *Set) Resume() { s.each((*Lock).Resume) }

// Ending: see Lock.
func (s *Set) Ending() { s.each((*Lock).Ending) }

// Bequeath: see Lock.
func (s *Set) Bequeath() { s.each((*Lock).Bequeath) }

func (s *Set) each(do func(*Lock)) {
	for _, l := range s.locks {
		do(l)
	}
}

// Release ends all holds, the last acquired first. The error is the *LostError of the one that
// was lost, or the first other one.
func (s *Set) Release() error {
	s.mu.Lock()
	if s.released != nil {
		close(s.released)
	}
	s.lost, s.released = nil, nil
	s.mu.Unlock()
	var first error
	for _, l := range slices.Backward(s.locks) {
		if err := l.Release(); err != nil && first == nil || errors.Is(err, ErrLost) && !errors.Is(first, ErrLost) {
			first = err
		}
	}
	return first
}
