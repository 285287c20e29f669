package session

import (
	"sync"
	"time"

	"github.com/dblock-dev/dblock/lock"
)

const (
	// attendAfter is when a hold gets a heartbeat and a watch; most are over by then.
	attendAfter = lock.MaxUnattended * 2 / 5
	// How often it is looked whether somebody waits for a hold: at first, and at last.
	firstWanted, lastWanted = time.Millisecond, 50 * time.Millisecond
)

// steward looks after young holds, all of them with one timer, which is set only while there
// are some: a timer for each would wake a thread at each acquire.
type steward struct {
	s *session

	mu    sync.Mutex
	young []*hold
	timer *time.Timer
	due   time.Time // when it fires; zero: it is not set
}

// takeOver looks after a hold from now on.
func (st *steward) takeOver(h *hold) {
	st.mu.Lock()
	defer st.mu.Unlock()
	h.next = h.since.Add(attendAfter)
	if h.wanted {
		h.next = h.since.Add(firstWanted)
	}
	st.young = append(st.young, h)
	st.set(h.next)
}

// set has the timer fire at that time, or earlier. The mutex is locked.
func (st *steward) set(at time.Time) {
	if !st.due.IsZero() && !at.Before(st.due) {
		return
	}
	st.due = at
	if st.timer == nil {
		st.timer = time.AfterFunc(time.Until(at), st.look)
		return
	}
	st.timer.Reset(time.Until(at))
}

// look looks at the holds whose time has come.
func (st *steward) look() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.due = time.Time{}
	now := time.Now()
	still := st.young[:0]
	var next time.Time
	for _, h := range st.young {
		if !h.next.After(now) {
			st.attend(h, now)
		}
		if h.next.IsZero() {
			continue
		}
		still = append(still, h)
		if next.IsZero() || h.next.Before(next) {
			next = h.next
		}
	}
	clear(st.young[len(still):])
	st.young = still
	if !next.IsZero() {
		st.set(next)
	}
}

// attend does what is due for a hold and says when there is more to do; never, if that
// time is zero.
func (st *steward) attend(h *hold, now time.Time) {
	age := now.Sub(h.since)
	select {
	case <-h.over:
		h.next = time.Time{}
		return
	default:
	}
	if !h.attended && age >= attendAfter {
		h.attended = true
		h.lock.Attend()
		go st.s.mourn(h)
	}
	if h.wanted && h.lock.Wanted() {
		h.wanted = false
		st.s.tell(h)
	}
	switch {
	case h.wanted:
		h.next = now.Add(min(max(firstWanted, age/20), lastWanted))
		if attend := h.since.Add(attendAfter); !h.attended && attend.Before(h.next) {
			h.next = attend
		}
	case !h.attended:
		h.next = h.since.Add(attendAfter)
	default:
		h.next = time.Time{}
	}
}

// tell tells the program that somebody waits for a hold of its.
func (s *session) tell(h *hold) {
	o := event(nil, "wanted")
	o.int("hold", h.number)
	s.out.write(o.line())
}

// mourn tells the program when a hold was lost.
func (s *session) mourn(h *hold) {
	select {
	case <-h.over:
		return
	case <-h.lost:
	}
	err := h.lock.Err()
	if err == nil {
		return // released at the same moment: that tells
	}
	s.lost(h, err)
}

// lost tells the program that a hold was lost.
func (s *session) lost(h *hold, err error) {
	o := event(nil, "lost")
	o.int("hold", h.number)
	o.text("db", h.grant.Names.DB)
	o.text("lock_file", h.grant.Names.Notice)
	explain(err).write(&o, func(o *object) { details(o, err) })
	s.out.write(o.line())
}
