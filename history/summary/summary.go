// Package summary makes figures of a history: how often a lock was acquired, how long that took,
// who was waited for.
package summary

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/dblock-dev/dblock/history"
)

// Key is what events are told apart by.
type Key string

// The keys.
const (
	Process  Key = "process"
	Command  Key = "command"
	User     Key = "user"
	Host     Key = "host"
	Database Key = "database"
)

// MaxGroups is how many groups, and how many holders that were waited for, are kept apart. All
// further ones are one, of the name Others.
const MaxGroups = 1000

// Others is the name of those that are not kept apart.
const Others = "(others)"

// Figures are of all events, or of a group of them.
type Figures struct {
	Acquired int // how often the lock was held, to the end or until the dblock was killed
	Shared   int // how many of those were readers
	Waited   int // how many of those had to wait

	Wait Spread // of those that had to wait and got it
	Hold Spread

	GaveUp map[history.Ended]int // how many did not get it, by the reason
	Lost   int                   // holds that were lost
	Killed int                   // dblocks that were killed in their hold
	Late   int                   // commands that were ended since their time was up
	Failed int                   // other commands that ended with another exit code than 0, or by a signal
	Forced int
	Took   int // stale locks of other programs that were taken over
	Healed int // lock files that were put back
}

// Group is what events have in common.
type Group struct {
	Name string
	Figures
	Busy time.Duration // how long its holds have lasted together
}

// Blamed is a holder that others waited for.
type Blamed struct {
	Holder string // its label
	For    time.Duration
	Times  int // how many waits
	Worst  Worst
}

// Worst is the longest wait for a holder.
type Worst struct {
	For     time.Duration
	At      int64 // its end, in milliseconds since the epoch
	Waiter  string
	PID     int // of the waiter
	Holder  int // pid
	Command string
}

// Summary is what a Collector has made of the events.
type Summary struct {
	First, Last int64 // when the first of it began, and the last one ended, in milliseconds since the epoch; both 0: nothing
	Total       Figures
	Use         float64 // the part of the time that the lock was held; of several the mean
	Groups      []Group // those that had it for longest first
	Blame       []Blamed
	Events      int
}

// Collector makes a Summary. It keeps figures, not events.
type Collector struct {
	by           Key
	since, until int64

	total       Figures
	groups      map[string]*Group
	blamed      map[string]*Blamed
	databases   map[string]*[]span
	first, last int64
	events      int
}

// span is when a lock was held, in milliseconds since the epoch.
type span struct{ from, to int64 }

// New begins with nothing. Events count that happened from since on and before until; a zero time
// is no limit. by is what groups are made of; empty for none.
func New(by Key, since, until time.Time) *Collector {
	c := &Collector{by: by, groups: map[string]*Group{}, blamed: map[string]*Blamed{}, databases: map[string]*[]span{}}
	if !since.IsZero() {
		c.since = since.UnixMilli()
	}
	if !until.IsZero() {
		c.until = until.UnixMilli()
	}
	return c
}

// Add adds an event of a database's lock.
func (c *Collector) Add(database string, e *history.Event) {
	if e.At < c.since || c.until != 0 && e.At >= c.until {
		return
	}
	c.events++
	spans := c.databases[database]
	if spans == nil {
		spans = new([]span)
		c.databases[database] = spans
	}
	begin := e.At
	if e.Requested != 0 {
		begin = min(begin, e.Requested)
	}
	if e.Acquired != 0 {
		begin = min(begin, e.Acquired)
	}
	if begin = max(begin, c.since); c.first == 0 || begin < c.first {
		c.first = begin
	}
	c.last = max(c.last, e.At)

	g := c.group(database, e)
	c.total.add(e)
	g.add(e)
	switch e.Kind {
	case history.Hold, history.Killed:
		g.Busy += e.Held
		if from := max(e.Acquired, c.since); e.Acquired != 0 && e.Released >= from {
			*spans = append(*spans, span{from, e.Released})
		}
	}
	if e.Kind == history.Hold || e.Kind == history.GaveUp {
		c.blame(e)
	}
}

func (c *Collector) group(database string, e *history.Event) *Group {
	name := ""
	switch c.by {
	case Process:
		name = e.Process
	case Command:
		name = e.Command
	case User:
		name = strconv.Itoa(e.UID)
	case Host:
		name = e.Host
	case Database:
		name = database
	}
	return bounded(c.groups, name, func(name string) *Group { return &Group{Name: name} })
}

// bounded is the value of a key of which there are not too many.
func bounded[T any](m map[string]*T, key string, make func(string) *T) *T {
	v := m[key]
	if v == nil && len(m) >= MaxGroups {
		key = Others
		v = m[key]
	}
	if v == nil {
		v = make(key)
		m[key] = v
	}
	return v
}

func (f *Figures) add(e *history.Event) {
	switch e.Kind {
	case history.Hold:
		f.Acquired++
		if e.Shared {
			f.Shared++
		}
		if e.Waited > 0 {
			f.Waited++
			f.Wait.Add(e.Waited)
		}
		f.Hold.Add(e.Held)
		f.Healed += e.Heals
		switch {
		case e.Ended == history.LostIt:
			f.Lost++
		case e.Ended == history.Late:
			f.Late++
		case e.Ended == history.Signaled, e.Ended == history.Exited && e.Code != 0:
			f.Failed++
		}
	case history.Killed:
		f.Acquired++
		f.Killed++
		if e.Shared {
			f.Shared++
		}
		f.Hold.Add(e.Held)
	case history.GaveUp:
		if f.GaveUp == nil {
			f.GaveUp = map[history.Ended]int{}
		}
		f.GaveUp[e.Ended]++
	case history.Forced:
		f.Forced++
	case history.TookOver:
		f.Took++
	}
}

// GaveUps is how many gave up in all.
func (f *Figures) GaveUps() (n int) {
	for _, of := range f.GaveUp {
		n += of
	}
	return n
}

func (c *Collector) blame(e *history.Event) {
	for i := range e.Blockers {
		b := &e.Blockers[i]
		if b.For <= 0 {
			continue
		}
		h := bounded(c.blamed, b.Process, func(name string) *Blamed { return &Blamed{Holder: name} })
		h.For += b.For
		h.Times++
		if b.For > h.Worst.For {
			h.Worst = Worst{For: b.For, At: e.At, Waiter: e.Process, PID: e.PID, Holder: b.PID, Command: b.Command}
		}
	}
}

// Summary is what there is so far.
func (c *Collector) Summary() *Summary {
	s := &Summary{First: c.first, Last: c.last, Total: c.total, Events: c.events}
	if c.last > c.first {
		for _, spans := range c.databases {
			s.Use += float64(union(*spans)) / float64(c.last-c.first)
		}
		s.Use /= float64(len(c.databases))
	}
	if c.by != "" {
		for _, g := range c.groups {
			s.Groups = append(s.Groups, *g)
		}
		slices.SortFunc(s.Groups, func(a, b Group) int {
			return cmp.Or(cmp.Compare(b.Busy, a.Busy), cmp.Compare(b.Acquired, a.Acquired), cmp.Compare(a.Name, b.Name))
		})
	}
	for _, b := range c.blamed {
		s.Blame = append(s.Blame, *b)
	}
	slices.SortFunc(s.Blame, func(a, b Blamed) int { return cmp.Or(cmp.Compare(b.For, a.For), cmp.Compare(a.Holder, b.Holder)) })
	return s
}

// union is how long at least one of them lasted, in milliseconds.
func union(spans []span) (ms int64) {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	end := int64(-1 << 62)
	for _, s := range spans {
		if s.to > end {
			ms += s.to - max(s.from, end)
			end = s.to
		}
	}
	return ms
}
