package session

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/lock"
)

// hold is a lock that the program has.
type hold struct {
	number int64
	lock   *lock.Lock
	grant  lock.Grant
	since  time.Time
	lost   <-chan struct{}
	over   chan struct{}         // closed when it is released
	turn   *atomic.Pointer[turn] // of the request that releases it

	forfeited error // it was given up by force; guarded by the session's mutex
	limit     limit
	late      *atomic.Bool // it has lasted for longer than it may, and the program was ended for that

	// The steward's:
	attended bool
	wanted   bool      // the program asks to be told, and was not yet
	next     time.Time // when it is looked at
}

// end lets go of what looks after the hold.
func (h *hold) end() { close(h.over) }

// wait is an acquire on its way.
type wait struct {
	cancel    context.CancelFunc
	cancelled bool
}

// asked is what an acquire asks for.
type asked struct {
	db             string
	opts           lock.Options
	events, wanted bool
	env            bool
	limit          limit
}

// judging reads how foreign locks are judged.
func (s *session) judging(r *request, o *lock.Options) *problem {
	var timeout cli.StaleTimeout
	var stale cli.Stale
	if p := r.as(fieldStaleTimeout, &timeout); p != nil {
		return p
	}
	if timeout != 0 {
		o.StaleTimeout = time.Duration(timeout)
	}
	if p := r.as(fieldStale, &stale); p != nil {
		return p
	}
	if stale != "" {
		o.Stale = lock.StaleDead
		if stale == "age" {
			o.Stale = lock.StaleAge
		}
	}
	return nil
}

func (s *session) understand(r *request) (a asked, p *problem) {
	if a.db, a.opts, p = s.where(r); p != nil {
		return a, p
	}
	o := &a.opts
	var mode string
	if mode, p = r.text(fieldMode); p != nil {
		return a, p
	}
	switch mode {
	case "", "exclusive":
	case "shared":
		o.Mode = lock.Shared
	default:
		return a, wrong(fieldMode, "exclusive or shared")
	}
	if r.has(fieldWait) {
		var d cli.Duration
		if p := r.as(fieldWait, &d); p != nil {
			return a, p
		}
		o.Wait = patience(d)
	}
	if r.has(fieldPriority) {
		var class cli.Priority
		if p := r.as(fieldPriority, &class); p != nil {
			return a, p
		}
		o.Priority = lock.Priority(class)
	}
	if lock.IsURL(a.db) && o.Priority != lock.Normal {
		return a, &problem{codeUsage, "a server knows no priorities among those who wait for its lock", `leave out "priority"`}
	}
	for f, to := range map[field]*string{fieldProcess: &o.Process, fieldInfo: &o.Info} {
		if r.has(f) {
			if *to, p = r.text(f); p != nil {
				return a, p
			}
		}
	}
	if a.limit, p = s.limitOf(r); p != nil {
		return a, p
	}
	a.env = true
	for f, to := range map[field]*bool{fieldEvents: &a.events, fieldWanted: &a.wanted, fieldEnv: &a.env} {
		if r.has(f) {
			if *to, p = r.flag(f); p != nil {
				return a, p
			}
		}
	}
	return a, nil
}

// acquire gets a lock. If it is not free another goroutine reads on meanwhile.
func (s *session) acquire(t *turn, r *request) *problem {
	a, p := s.understand(r)
	if p != nil {
		return p
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := &wait{cancel: cancel}
	s.mu.Lock()
	switch {
	case s.over:
		s.mu.Unlock()
		return explain(context.Canceled)
	case s.waits[r.id] != nil:
		s.mu.Unlock()
		return &problem{codeUsage, "another acquire with this id is still on its way", "give each request an id of its own"}
	}
	s.waits[r.id] = w
	s.working.Add(1)
	s.mu.Unlock()
	defer s.working.Done()

	begin := time.Now()
	var watching *watching
	a.opts.Unattended, a.opts.Interrupt = true, s.interrupt
	a.opts.OnWait = func() {
		t.give()
		if a.events {
			watching = s.watch(r.id, a, begin)
		}
	}
	releasing := &atomic.Pointer[turn]{}
	a.opts.OnDelay = func() {
		if t := releasing.Load(); t != nil {
			t.give()
		}
	}
	late := &atomic.Bool{}
	a.opts.Outcome = func() lock.Outcome { return lock.Outcome{Own: true, Late: late.Load()} }
	l := lock.New(a.db, a.opts)
	err := l.Acquire(ctx)
	watching.stop()

	s.mu.Lock()
	delete(s.waits, r.id)
	if err == nil && (w.cancelled || s.over) {
		s.mu.Unlock()
		_ = l.Release()
		s.fail(r.id, explain(context.Canceled)) // while the end of the session waits for us
		return nil
	}
	if err != nil {
		if w.cancelled {
			err = context.Canceled // as the answer to the cancel says
		}
		s.mu.Unlock()
		p := explain(err)
		s.failWith(r.id, p, func(o *object) { details(o, err) })
		return nil
	}
	h := &hold{lock: l, since: time.Now(), lost: l.Lost(), over: make(chan struct{}), turn: releasing, late: late, wanted: a.wanted, limit: a.limit}
	h.grant, _ = l.Grant()
	s.last++
	h.number = s.last
	s.held[h.number] = h
	s.mu.Unlock()

	// The answer first: the program must know the hold before it hears of it.
	s.done(r.id, func(o *object) { h.describe(o, time.Since(begin), a.env) })
	s.steward.takeOver(h)
	s.limit(h)
	return nil
}

// describe writes what the program is told of a hold.
func (h *hold) describe(o *object, waited time.Duration, env bool) {
	g := &h.grant
	o.int("hold", h.number)
	o.text("db", g.Names.DB)
	o.text("lock_file", g.Names.Notice)
	o.text("mode", g.Holder.Mode.String())
	o.int("token", g.Holder.Token)
	o.int("pid", int64(g.Holder.PID))
	o.text("host", g.Holder.Host)
	o.text("process", g.Holder.Process)
	o.int("timestamp", g.Holder.Timestamp.UnixMilli())
	o.ms("waited_ms", waited)
	o.bool("nested", g.Leaned)
	if env {
		o.object("env", func(o *object) {
			for _, v := range lock.Variables([]lock.Grant{*g}) {
				o.text(v[0], v[1])
			}
		})
	}
}

// details are what is known of an error beyond its words.
func details(o *object, err error) {
	var dead *lock.DeadlockError
	var held *lock.HeldError
	var lost *lock.LostError
	switch {
	case errors.As(err, &dead):
		o.ms("waited_ms", dead.Waited)
		o.bool("deadlock", true)
	case errors.As(err, &held):
		o.ms("waited_ms", held.Waited)
		if r := held.Report; r != nil {
			o.text("state", string(r.State))
			o.int("ahead", int64(len(r.Waiters)))
			if r.Locked() {
				holder(o, r.Holder, r.Age)
			}
		}
	case errors.As(err, &lost):
		o.text("lock_file", lost.Path)
		o.text("reason", lost.Reason)
		holder(o, lost.Holder, -1)
	}
}

// release ends a hold.
func (s *session) release(t *turn, r *request) *problem {
	n, p := r.whole(fieldHold)
	if p != nil {
		return p
	}
	s.mu.Lock()
	h := s.held[n]
	if h == nil {
		s.mu.Unlock()
		return noHold(n)
	}
	delete(s.held, n)
	s.working.Add(1)
	err := h.forfeited
	s.mu.Unlock()
	defer s.working.Done()
	if err == nil {
		h.end()
		h.turn.Store(t)
		err = h.lock.Release()
	}
	return s.report(r, err)
}

// report answers a request about a hold.
func (s *session) report(r *request, err error) *problem {
	if err != nil {
		s.failWith(r.id, explain(err), func(o *object) { details(o, err) })
		return nil
	}
	s.done(r.id, nil)
	return nil
}

func noHold(n int64) *problem {
	return &problem{codeNoHold, fmt.Sprintf("there is no hold %d", n), "it was released, or never acquired in this session"}
}

// cancel ends a wait.
func (s *session) cancel(r *request) *problem {
	if r.target == "" {
		return &problem{codeUsage, `"target" must be the id of an acquire`, ""}
	}
	s.mu.Lock()
	w := s.waits[r.target]
	found := w != nil && !w.cancelled
	if found {
		w.cancelled = true
	}
	s.mu.Unlock()
	if found {
		w.cancel()
	}
	s.done(r.id, func(o *object) { o.bool("cancelled", found) })
	return nil
}

// check looks at once whether a hold is still the program's.
func (s *session) check(r *request) *problem {
	n, p := r.whole(fieldHold)
	if p != nil {
		return p
	}
	s.mu.Lock()
	h := s.held[n]
	if h == nil {
		s.mu.Unlock()
		return noHold(n)
	}
	err := h.forfeited
	s.mu.Unlock()
	if err == nil {
		err = h.lock.Check()
	}
	return s.report(r, err)
}
