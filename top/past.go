package top

import (
	"time"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/lock"
)

// The last minutes are shown in slices.
const (
	slice  = 10 * time.Second
	pieces = 60
	window = pieces * slice
)

// past is what the history tells of the last minutes, and its last events. What was given away
// is not changed any more: who adds to it makes a copy.
type past struct {
	slices [pieces]share // each at its number modulo their number
	events []history.Event
	keep   int // at most so many events
}

// share is one slice of the time.
type share struct {
	number  int64
	held    time.Duration // by readers each; so it may be longer than the slice
	longest time.Duration // of the waits that ended in it
	came    int           // who got the lock, or gave up
	waited  int           // who of them had to wait for it
}

func numberOf(at time.Time) int64 { return at.UnixMilli() / slice.Milliseconds() }

// at is the slice with that number, or nil if that is not one of the last ones. A clock that was
// set leaves some behind that lie in the future.
func (p *past) at(number, now int64) *share {
	if number < 0 || number > now || number <= now-pieces {
		return nil
	}
	s := &p.slices[number%pieces]
	if s.number != number {
		*s = share{number: number}
	}
	return s
}

// add takes in an event.
func (p *past) add(e *history.Event, at time.Time) {
	one := *e
	if p.events = append(p.events, one); len(p.events) >= 2*p.keep {
		p.events = append(make([]history.Event, 0, 2*p.keep), p.events[len(p.events)-p.keep:]...)
	}
	now := numberOf(at)
	ended := e.At
	switch e.Kind {
	case history.Hold, history.Killed:
		p.hold(time.UnixMilli(e.Released).Add(-e.Held), time.UnixMilli(e.Released), at)
		ended = e.Acquired
	case history.GaveUp:
	default:
		return
	}
	if e.Kind == history.Killed {
		return // how long it had waited died with it
	}
	if s := p.at(numberOf(time.UnixMilli(ended)), now); s != nil {
		s.came++
		s.longest = max(s.longest, e.Waited)
		if e.Kind == history.GaveUp || e.Waited > 0 {
			s.waited++
		}
	}
}

// hold notes that the lock was held for a time.
func (p *past) hold(from, to, at time.Time) {
	if oldest := at.Add(-window); from.Before(oldest) {
		from = oldest
	}
	if to.After(at) {
		to = at
	}
	for now := numberOf(at); from.Before(to); {
		number := numberOf(from)
		next := time.UnixMilli((number + 1) * slice.Milliseconds())
		if next.After(to) {
			next = to
		}
		if s := p.at(number, now); s != nil {
			s.held += next.Sub(from)
		}
		from = next
	}
}

// last are the last events, of which there are at most that many, the last one first.
func (p *past) last(most int, of func(*history.Event) bool) (all []*history.Event) {
	for i := len(p.events) - 1; i >= 0 && len(all) < most; i-- {
		if e := &p.events[i]; of(e) {
			all = append(all, e)
		}
	}
	return all
}

// minutes are the last minutes as they are drawn, the oldest slice first.
type minutes struct {
	held      [pieces]float64 // share of the time, at most 1
	longest   [pieces]float64 // seconds
	contended [pieces]float64 // share of those who came
	busy      float64         // share of the whole time
	worst     time.Duration
	came      int
	waited    int
}

// minutes adds to the history what has not ended yet: who has the lock now, and who waits.
func (p *past) minutes(r *lock.Report, seen, now time.Time) (m minutes) {
	c := *p
	ago := now.Sub(seen)
	if r != nil && r.Locked() && (r.Holder != nil || r.State == lock.StateInvalid) {
		c.hold(now.Add(-r.Age-ago), now, now)
	}
	n := numberOf(now)
	if s := c.at(n, n); s != nil && r != nil {
		for _, w := range r.Waiters {
			s.longest = max(s.longest, w.Age+ago)
			s.came, s.waited = s.came+1, s.waited+1
		}
	}
	for i := range m.held {
		s := c.slices[(n+1+int64(i))%pieces]
		if s.number != n+1-pieces+int64(i) {
			continue
		}
		m.held[i] = min(1, float64(s.held)/float64(slice))
		m.busy += m.held[i] / pieces
		m.longest[i] = s.longest.Seconds()
		m.worst = max(m.worst, s.longest)
		if m.came, m.waited = m.came+s.came, m.waited+s.waited; s.came > 0 {
			m.contended[i] = float64(s.waited) / float64(s.came)
		}
	}
	return m
}
