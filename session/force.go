package session

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/status"
)

// status answers with what `dblock status --json` prints.
func (s *session) status(r *request) *problem {
	db, o, p := s.where(r)
	if p != nil {
		return p
	}
	report, err := lock.Inspect(db, o)
	if err != nil {
		return explain(err)
	}
	json, err := status.JSON(report, report.Facts())
	if err != nil {
		return explain(err)
	}
	s.done(r.id, func(o *object) { o.raw("status", string(json)) })
	return nil
}

// force removes a lock that is stuck.
func (s *session) force(r *request) *problem {
	db, o, p := s.where(r)
	if p != nil {
		return p
	}
	opts := lock.BreakOptions{Options: o}
	consent := false
	for f, to := range map[field]*bool{fieldYes: &consent, fieldIfStale: &opts.IfStale} {
		if *to, p = r.flag(f); p != nil {
			return p
		}
	}
	if opts.ID, p = r.text(fieldLockID); p != nil {
		return p
	}
	var after cli.Duration
	if p := r.as(fieldKillAfter, &after); p != nil {
		return p
	}
	opts.KillAfter = time.Duration(after)
	b, err := s.breakUp(db, opts, consent)
	if err != nil {
		s.failWith(r.id, explain(err), func(o *object) { details(o, err) })
		return nil
	}
	s.done(r.id, func(o *object) {
		o.bool("removed", b.Removed)
		o.name("ended")
		o.b = append(o.b, '[')
		for i, pid := range b.Ended {
			if i > 0 {
				o.b = append(o.b, ',')
			}
			o.integer(int64(pid))
		}
		o.b = append(o.b, ']')
		o.int("running", int64(b.Running))
	})
	return nil
}

// breakUp is lock.Break, except that this process does not end itself: what it holds, it
// gives up.
func (s *session) breakUp(db string, opts lock.BreakOptions, consent bool) (*lock.Broken, error) {
	forfeited := false
	for tries := 0; ; tries++ {
		report, err := lock.Inspect(db, opts.Options)
		if err != nil {
			return nil, err
		}
		if (consent || opts.ID != "" && opts.ID == report.ID) && !opts.IfStale && s.forfeit(report) {
			if forfeited = true; opts.ID != "" {
				return &lock.Broken{Report: report, Removed: true}, nil
			}
			continue
		}
		var denied error
		again := false
		opts.Consent = func(r *lock.Report) bool {
			var others *lock.OthersError
			if _, err := r.Condemned(); errors.As(err, &others) {
				denied = err
				return false
			}
			again = consent && s.holds(r)
			return consent && !again
		}
		b, err := lock.Break(context.Background(), db, opts)
		switch {
		case again && tries < 100: // another request has acquired it meanwhile
			continue
		case denied != nil:
			return nil, denied
		case err != nil:
			return nil, err
		}
		b.Removed = b.Removed || forfeited
		return b, nil
	}
}

// holds reports whether this process is one of those that have the lock.
func (s *session) holds(r *lock.Report) bool {
	mine := func(p lock.Process) bool { return p.PID == s.pid }
	return r.Holder != nil && r.Holder.PID == s.pid || slices.ContainsFunc(r.Readers, mine) || slices.ContainsFunc(r.Owners, mine)
}

// forfeit gives up the program's own holds of a lock, and reports whether there were any. To
// the program they are lost.
func (s *session) forfeit(r *lock.Report) bool {
	var own []*hold
	s.mu.Lock()
	for _, h := range s.held {
		if h.grant.Names.Notice == r.Names.Notice && !h.grant.Leaned && h.forfeited == nil {
			h.forfeited = &lock.LostError{Path: r.Names.Notice, Reason: "it was removed by force"}
			own = append(own, h)
		}
	}
	s.mu.Unlock()
	for _, h := range own {
		h.end()
		_ = h.lock.Release()
		s.lost(h, h.forfeited)
	}
	return len(own) > 0
}
