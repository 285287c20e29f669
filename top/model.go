package top

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/dblock-dev/dblock/lock"
)

// order is how the locks are sorted.
type order string

const (
	byName  order = "name"
	byAge   order = "age"
	byWaits order = "waits"
)

var orders = []order{byName, byAge, byWaits}

// page is what the screen shows.
type page int

const (
	pageList page = iota
	pageOne       // one lock
	pageLog       // its history
	pageHelp
	pageForce // a question, or how it went
)

// model is what there is to show, and where the user is in it.
type model struct {
	views  []*view // sorted
	order  order
	chosen string // name
	moved  bool   // the user has chosen it; until then it is the first one
	page   page
	back   []page // where he came from
	scroll int

	forcing *forcing // while one is asked for
	notice  string   // what has just been done, until the next key
	looked  bool     // all directories were searched
}

// forcing is a lock that is to be forced.
type forcing struct {
	name     string
	question string      // empty while that is found out
	answer   chan<- bool // nil once it is given
	drawn    bool        // he can read the question
	steps    []string    // what is being done
	over     bool
	ended    func() // stops looking, or waiting
}

// take takes in a view.
func (m *model) take(v *view) {
	at := slices.IndexFunc(m.views, func(have *view) bool { return have.name == v.name })
	if at < 0 {
		m.views = append(m.views, v)
	} else {
		m.views[at] = v
	}
	m.sort()
}

// drop takes one out.
func (m *model) drop(name string) {
	at := m.at()
	m.views = slices.DeleteFunc(m.views, func(v *view) bool { return v.name == name })
	if m.chosen != name {
		return
	}
	if m.chosen = ""; len(m.views) > 0 {
		m.chosen = m.views[min(at, len(m.views)-1)].name
	}
	if m.page == pageOne || m.page == pageLog { // it was about that one
		m.page, m.back, m.scroll = pageList, nil, 0
	}
}

func (m *model) sort() {
	slices.SortStableFunc(m.views, func(a, b *view) int {
		c := 0
		switch m.order {
		case byAge:
			c = earlier(a.heldSince(), b.heldSince())
		case byWaits:
			c = earlier(a.waitedSince(), b.waitedSince())
		}
		return cmp.Or(c, strings.Compare(a.name, b.name))
	})
	if (m.chosen == "" || !m.moved && m.page == pageList) && len(m.views) > 0 {
		m.chosen = m.views[0].name
	}
}

// at is the place of the chosen one.
func (m *model) at() int {
	return max(0, slices.IndexFunc(m.views, func(v *view) bool { return v.name == m.chosen }))
}

// one is the chosen one, nil if there is none.
func (m *model) one() *view {
	if len(m.views) == 0 {
		return nil
	}
	return m.views[m.at()]
}

func (m *model) move(by int) {
	if len(m.views) > 0 {
		m.chosen, m.moved = m.views[min(max(m.at()+by, 0), len(m.views)-1)].name, true
	}
}

func (m *model) open(p page) {
	m.back = append(m.back, m.page)
	m.page, m.scroll = p, 0
}

// leave goes back to where the user came from, and reports whether there is such a place.
func (m *model) leave() bool {
	if len(m.back) == 0 {
		return false
	}
	m.page, m.back, m.scroll = m.back[len(m.back)-1], m.back[:len(m.back)-1], 0
	return true
}

// held reports whether somebody has the lock.
func (v *view) held() bool { return v.report != nil && v.report.Locked() }

// used reports whether there is anything whose age is shown.
func (v *view) used() bool {
	return v.report != nil && (v.report.State != lock.StateFree || len(v.report.Waiters) > 0)
}

// since is how long ago something was that was so long ago when it was seen.
func (v *view) since(age time.Duration, now time.Time) time.Duration { return age + now.Sub(v.at) }

// heldSince is when the lock was acquired, to sort by; zero if nobody has it.
func (v *view) heldSince() (t time.Time) {
	if v.held() {
		t = v.at.Add(-v.report.Age).Truncate(time.Second)
	}
	return t
}

// waitedSince is since when the one waits who waits longest, to sort by; zero if nobody does.
func (v *view) waitedSince() (t time.Time) {
	if v.report != nil && len(v.report.Waiters) > 0 {
		t = v.at.Add(-oldest(v.report.Waiters)).Truncate(time.Second)
	}
	return t
}

// earlier compares times; what has not begun comes last.
func earlier(a, b time.Time) int {
	if a.IsZero() || b.IsZero() {
		return -cmp.Compare(a.Unix(), b.Unix())
	}
	return a.Compare(b)
}

func oldest(ps []lock.Process) (d time.Duration) {
	for _, p := range ps {
		d = max(d, p.Age)
	}
	return d
}
