package session

import (
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/crew"
	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/run"
)

// limit is for how long a hold may be kept, and what happens then to the program.
type limit struct {
	after     time.Duration // 0: for as long as it takes
	then      run.OnTimeLimit
	killAfter time.Duration
}

// limitOf is the limit that a request asks for.
func (s *session) limitOf(r *request) (l limit, p *problem) {
	after, killAfter := s.defaults.TimeLimit, s.defaults.KillAfter
	l.then = s.defaults.OnTimeLimit
	if p := r.as(fieldTimeLimit, &after); p != nil {
		return l, p
	}
	if p := r.as(fieldKillAfter, &killAfter); p != nil {
		return l, p
	}
	if p := r.as(fieldOnTimeLimit, &l.then); p != nil {
		return l, p
	}
	if l.after = time.Duration(after); l.after == lock.Forever {
		l.after = 0
	}
	l.killAfter = time.Duration(killAfter)
	return l, nil
}

// limit sees to it that the program is told, or ended, when it has had a hold for as long as it
// may.
func (s *session) limit(h *hold) {
	if h.limit.after == 0 {
		return
	}
	go func() {
		if h.lasts(h.limit.after) {
			s.overdue(h)
		}
	}()
}

// lasts waits for that long, and reports whether the hold is not over by then.
func (h *hold) lasts(d time.Duration) bool {
	if d == lock.Forever {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-h.over:
		return false
	}
}

// overdue tells the program that its time is up, and ends it if that was asked for. The lock is
// kept until it has ended, or releases it.
func (s *session) overdue(h *hold) {
	o := event(nil, "overdue")
	o.int("hold", h.number)
	o.text("db", h.grant.Names.DB)
	o.text("lock_file", h.grant.Names.Notice)
	o.ms("time_limit_ms", h.limit.after)
	s.out.write(o.line())
	if h.limit.then == "warn" {
		return
	}
	h.late.Store(true)
	program, err := crew.Open(os.Getppid())
	if err != nil || program.PID <= 1 {
		return
	}
	s.end(&crew.Crew{Leader: program}, h)
}

// end ends the program and what it has started. The end of the input, which comes with the program's,
// must find who is to be outlasted.
func (s *session) end(c *crew.Crew, h *hold) {
	s.ending.mu.Lock()
	s.ending.crews = append(s.ending.crews, c)
	s.ending.mu.Unlock()
	tell := func(sig unix.Signal) {
		s.ending.mu.Lock()
		defer s.ending.mu.Unlock()
		c.Tell(sig)
	}
	if h.limit.then == "term" {
		tell(unix.SIGTERM)
		if h.limit.killAfter == lock.Forever {
			return
		}
		// The hold's end is not what is waited for: that comes with the program's own end.
		for until := time.Now().Add(h.limit.killAfter); time.Now().Before(until); time.Sleep(crew.LookEvery) {
			if c.Leader.Gone() && !s.outlasts() {
				return
			}
		}
	}
	tell(unix.SIGKILL)
}

// ending is whom the session has told to end.
type ending struct {
	mu    sync.Mutex
	crews []*crew.Crew
}

// outlasts reports whether any of those who were told to end, and work with the program, has
// not ended.
func (s *session) outlasts() bool {
	s.ending.mu.Lock()
	defer s.ending.mu.Unlock()
	return slices.ContainsFunc(s.ending.crews, (*crew.Crew).Lives)
}

// outlast keeps the locks until all of those have ended.
func (s *session) outlast() {
	for pause := crew.FirstPause; s.outlasts(); pause = min(2*pause, crew.LookEvery) {
		time.Sleep(pause)
	}
}
