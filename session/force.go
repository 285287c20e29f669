package session

import (
	"context"
	"errors"
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
	var denied error
	opts.Consent = func(report *lock.Report) bool {
		_, err := report.Condemned()
		var others *lock.OthersError
		if errors.As(err, &others) {
			denied = err
			return false
		}
		return consent
	}
	b, err := lock.Break(context.Background(), db, opts)
	if denied != nil {
		err = denied
	}
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
