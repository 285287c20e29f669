package session

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/run"
)

// limit is how long a hold may take, and what happens then.
type limit struct {
	after time.Duration   // 0: as long as it takes
	then  run.OnTimeLimit // what is done with the program
	kill  time.Duration   // how long after SIGTERM
}

// limit reads how long a lock may be held.
func (s *session) limit(r *request) (l limit, p *problem) {
	after, kill := s.defaults.TimeLimit, s.defaults.KillAfter
	l.then = s.defaults.OnTimeLimit
	if p = r.as(fieldTimeLimit, &after); p != nil {
		return l, p
	}
	if r.has(fieldOnTimeLimit) {
		if p = r.as(fieldOnTimeLimit, &l.then); p != nil {
			return l, p
		}
	}
	if p = r.as(fieldKillAfter, &kill); p != nil {
		return l, p
	}
	if l.after = time.Duration(after); l.after == time.Duration(lock.Forever) {
		l.after = 0
	}
	l.kill = time.Duration(kill)
	if l.after > 0 && (l.then == "term" || l.then == "kill") && !s.program.known() {
		return l, &problem{codeUsage, `"on_time_limit": the program that has started this session cannot be told from here`, `give "warn", and have the program end itself`}
	}
	return l, nil
}

// known reports whether there is a process that can be told.
func (p *program) known() bool { return p != nil && p.pid != 0 }

// overdue tells the program that it has held a lock for as long as it may, and ends it if it
// has said so. The lock stays with it until it releases it, or has ended: it may be writing.
func (s *session) overdue(h *hold) {
	s.mu.Lock()
	held := s.held[h.number] == h && h.forfeited == nil
	s.mu.Unlock()
	if !held {
		return
	}
	o := event(nil, "overdue")
	o.int("hold", h.number)
	o.text("db", h.grant.Names.DB)
	o.text("lock_file", h.grant.Names.Notice)
	o.ms("held_ms", time.Since(h.since))
	o.text("action", string(h.limit.then))
	s.out.write(o.line())
	switch h.limit.then {
	case "term":
		s.program.signal(unix.SIGTERM)
		if h.limit.kill == lock.Forever {
			return
		}
		select {
		case <-time.After(h.limit.kill):
			s.program.signal(unix.SIGKILL)
		case <-h.over:
		}
	case "kill":
		s.program.signal(unix.SIGKILL)
	}
}
