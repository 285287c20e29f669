// Package summary adds up the history of one lock: how often it was acquired and for how long,
// who waited, and for whom. It takes events in the order in which they are read, one at a time,
// and needs the same memory for ten and for ten million.
package summary

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/dblock-dev/dblock/history"
)

// By is what events are grouped by.
type By string

// The groupings. Nothing is grouped by "".
const (
	Process By = "process"
	Command By = "command"
	User    By = "user" // by number
	Host    By = "host"
)

// Most is how many groups, and how many who are blamed, are told apart.
const Most = 50

// keep is how many are told apart meanwhile: who is busy is known at the end only.
const keep = 8 * Most

// Options say what is added up.
type Options struct {
	// Since and Until are the window, in milliseconds since the epoch; 0 is no bound. An event
	// counts if it happened not before Since and before Until: a hold where it was released.
	Since, Until int64
	// Now is when the history was read, to which its time reaches if Until is not given; 0 is the last event.
	Now int64
	By  By
}

// Counts are what there is to say of a lock, or of a group.
type Counts struct {
	// Acquisitions are the holds that are over, and those whose dblock was killed.
	Acquisitions int64
	// Shared are those of them that shared the lock, or could have.
	Shared int64
	// Waited are those that did not get the lock at once. It is not known of the killed.
	Waited int64
	// Wait is how long holds had waited before, 0 too; Hold how long they lasted, of who was killed
	// up to its last sign of life.
	Wait, Hold Distribution
	// Ended says how holds came to their end, and GaveUp how waits did.
	Ended, GaveUp map[history.Ended]int64
	// Failed exited by themselves, with another code than 0.
	Failed int64
	// Killed are dblocks that were killed while they held the lock; Lost the holds that somebody took.
	Killed, Lost int64
	// Forced are the removals by an operator, TookOver those of other programs' stale locks, Heals
	// the lock files that were put back.
	Forced, TookOver, Heals int64
}

// GaveUps is the number of all that gave up.
func (c *Counts) GaveUps() (n int64) {
	for _, one := range c.GaveUp {
		n += one
	}
	return n
}

// Known is the number of acquisitions of which it is known whether they waited.
func (c *Counts) Known() int64 { return c.Wait.N }

// Group is what those have in common whose name is the same.
type Group struct {
	Name   string
	Others bool // all that are not among the busiest
	Counts
}

// Case is one wait for one holder.
type Case struct {
	At             int64 // when the wait was over
	Waited         time.Duration
	Waiter, Holder history.Party
	GaveUp         bool
}

// Blame is how long others have waited for the holds of one label.
type Blame struct {
	Process string
	Others  bool
	Time    time.Duration // of all who waited, added up
	Times   int64
	Worst   Case
}

// Summary is a history, added up. It is not safe for concurrent use.
type Summary struct {
	Options
	Counts
	Events int64 // in the window

	first, last int64
	exclusive   time.Duration
	shared      union
	groups      map[string]*Group
	others      *Group
	blame       map[string]*Blame
	blameOthers *Blame
}

// New returns an empty summary.
func New(o Options) *Summary {
	s := &Summary{Options: o, groups: map[string]*Group{}, blame: map[string]*Blame{}}
	s.Counts.init()
	return s
}

func (c *Counts) init() { c.Ended, c.GaveUp = map[history.Ended]int64{}, map[history.Ended]int64{} }

// Add adds an event, which may be reused afterwards.
func (s *Summary) Add(e *history.Event) {
	s.reach(e)
	s.use(e)
	if e.At < s.Since || s.Until > 0 && e.At >= s.Until {
		return
	}
	s.Events++
	s.Counts.add(e)
	if s.By != "" {
		s.group(e).add(e)
	}
	for i := range e.Blockers {
		if b := &e.Blockers[i]; b.For > 0 {
			s.accuse(e, b)
		}
	}
}

func (c *Counts) add(e *history.Event) {
	if e.Shared && (e.Kind == history.Hold || e.Kind == history.Killed) {
		c.Shared++
	}
	switch e.Kind {
	case history.Hold:
		c.Acquisitions++
		c.Ended[e.Ended]++
		c.Wait.Add(e.Waited)
		c.Hold.Add(e.Held)
		c.Heals += int64(e.Heals)
		if e.Waited > 0 {
			c.Waited++
		}
		if e.Ended == history.Exited && e.Code != 0 {
			c.Failed++
		}
		if e.Ended == history.LostIt {
			c.Lost++
		}
	case history.Killed:
		c.Acquisitions++
		c.Killed++
		c.Hold.Add(e.Held)
	case history.GaveUp:
		c.GaveUp[e.Ended]++
	case history.Forced:
		c.Forced++
	case history.TookOver:
		c.TookOver++
	}
}

// Merge adds those of others.
func (c *Counts) Merge(other *Counts) {
	c.Acquisitions += other.Acquisitions
	c.Shared += other.Shared
	c.Waited += other.Waited
	c.Wait.Merge(&other.Wait)
	c.Hold.Merge(&other.Hold)
	for k, n := range other.Ended {
		c.Ended[k] += n
	}
	for k, n := range other.GaveUp {
		c.GaveUp[k] += n
	}
	c.Failed += other.Failed
	c.Killed += other.Killed
	c.Lost += other.Lost
	c.Forced += other.Forced
	c.TookOver += other.TookOver
	c.Heals += other.Heals
}

// reach notes how far the history reaches. Its first event is the end of something.
func (s *Summary) reach(e *history.Event) {
	if e.At <= 0 {
		return
	}
	from := e.At
	for _, t := range []int64{e.Requested, e.Acquired} {
		if t > 0 {
			from = min(from, t)
		}
	}
	if s.first == 0 || from < s.first {
		s.first = from
	}
	s.last = max(s.last, e.At)
}

// use counts what a hold lasted within the window, whether it was over in it or not.
func (s *Summary) use(e *history.Event) {
	if e.Kind != history.Hold && e.Kind != history.Killed {
		return
	}
	// By the clock that nobody sets, back from its end: the beginning may be of another time.
	end := e.Released
	if end == 0 {
		end = e.At
	}
	to := end * 1000
	from := max(to-e.Held.Microseconds(), s.Since*1000)
	if s.Until > 0 {
		to = min(to, s.Until*1000)
	}
	switch {
	case from >= to:
	case e.Shared:
		s.shared.add(from, to)
	default:
		s.exclusive += time.Duration(to-from) * time.Microsecond
	}
}

// Span is the time that the summary is of, in milliseconds since the epoch: the window, as far as the
// history reaches. Both are 0 if it is empty.
func (s *Summary) Span() (from, to int64) {
	if s.first == 0 {
		return 0, 0
	}
	from, to = max(s.first, s.Since), max(s.last, s.Now)
	if s.Until > 0 {
		to = s.Until
		if s.Now > 0 {
			to = min(to, max(s.last, s.Now))
		}
	}
	return from, max(from, to)
}

// Use is which share of the span, between 0 and 1, somebody had the lock for himself, and which
// one or more shared it.
func (s *Summary) Use() (exclusive, shared float64) {
	from, to := s.Span()
	if to == from {
		return 0, 0
	}
	whole := float64(to-from) * 1000
	return min(1, float64(s.exclusive.Microseconds())/whole), min(1, float64(s.shared.length())/whole)
}

// Exclusive and Shared are the times behind Use.
func (s *Summary) Exclusive() time.Duration { return s.exclusive }

// Shared is the time in which one or more shared the lock.
func (s *Summary) Shared() time.Duration {
	return time.Duration(s.shared.length()) * time.Microsecond
}

func (s *Summary) name(e *history.Event) string {
	switch s.By {
	case Command:
		return e.Command
	case User:
		return strconv.Itoa(e.UID)
	case Host:
		return e.Host
	}
	return e.Process
}

func (s *Summary) group(e *history.Event) *Counts {
	name := s.name(e)
	g := s.groups[name]
	if g == nil {
		if len(s.groups) >= keep {
			s.foldGroups(keep / 2)
		}
		g = &Group{Name: name}
		g.init()
		s.groups[name] = g
	}
	return &g.Counts
}

// busier sorts groups, those first that had the lock longest.
func busier(a, b *Group) int {
	return cmp.Or(cmp.Compare(b.Hold.Sum, a.Hold.Sum), cmp.Compare(b.Acquisitions, a.Acquisitions), cmp.Compare(a.Name, b.Name))
}

// foldGroups leaves the busiest of the groups, and adds the rest to the others.
func (s *Summary) foldGroups(most int) {
	if len(s.groups) <= most {
		return
	}
	if s.others == nil {
		s.others = &Group{Others: true}
		s.others.init()
	}
	for _, g := range sorted(s.groups, busier)[most:] {
		s.others.Merge(&g.Counts)
		delete(s.groups, g.Name)
	}
}

// Groups are at most [Most], those first that had the lock longest, and last the others if
// there are any.
func (s *Summary) Groups() []*Group {
	s.foldGroups(Most)
	all := sorted(s.groups, busier)
	if s.others != nil {
		all = append(all, s.others)
	}
	return all
}

func (s *Summary) accuse(e *history.Event, b *history.Blocker) {
	blame := s.blame[b.Process]
	if blame == nil {
		if len(s.blame) >= keep {
			s.foldBlame(keep / 2)
		}
		blame = &Blame{Process: b.Process}
		s.blame[b.Process] = blame
	}
	blame.add(b.For, 1, Case{
		At: e.At, Waited: b.For, Holder: b.Party, GaveUp: e.Kind == history.GaveUp,
		Waiter: history.Party{PID: e.PID, UID: e.UID, Process: e.Process, Command: e.Command, Token: e.Token},
	})
}

func (b *Blame) add(waited time.Duration, times int64, worst Case) {
	if b.Times == 0 || worst.Waited > b.Worst.Waited {
		b.Worst = worst
	}
	b.Time += waited
	b.Times += times
}

func worse(a, b *Blame) int {
	return cmp.Or(cmp.Compare(b.Time, a.Time), cmp.Compare(b.Times, a.Times), cmp.Compare(a.Process, b.Process))
}

func (s *Summary) foldBlame(most int) {
	if len(s.blame) <= most {
		return
	}
	if s.blameOthers == nil {
		s.blameOthers = &Blame{Others: true}
	}
	for _, b := range sorted(s.blame, worse)[most:] {
		s.blameOthers.add(b.Time, b.Times, b.Worst)
		delete(s.blame, b.Process)
	}
}

// Blamed are at most [Most], those first for whom others waited longest, and last the others if
// there are any.
func (s *Summary) Blamed() []*Blame {
	s.foldBlame(Most)
	all := sorted(s.blame, worse)
	if s.blameOthers != nil {
		all = append(all, s.blameOthers)
	}
	return all
}

func sorted[T any](all map[string]*T, order func(a, b *T) int) []*T {
	list := make([]*T, 0, len(all))
	for _, one := range all {
		list = append(list, one)
	}
	slices.SortFunc(list, order)
	return list
}
