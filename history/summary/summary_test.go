package summary

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/history"
)

const epoch = 1_700_000_000_000

// made is a history as it might have been: labels of very different business, all kinds, all ends.
func made(n, labels int) []history.Event {
	r := rand.New(rand.NewPCG(7, uint64(n)))
	ends := []history.Ended{history.Exited, history.Exited, history.Exited, history.Signaled, history.Released, history.Late, history.LostIt}
	reasons := []history.Ended{history.TimedOut, history.Busy, history.Interrupted, history.Deadlocked}
	kinds := []history.Kind{history.TookOver, history.Healed, history.Lost, history.Forced, "of-tomorrow"}
	now := int64(epoch)
	var all []history.Event
	for i := range n {
		label := int(float64(labels) * math.Pow(r.Float64(), 3))
		e := history.Event{
			Version: 1, Process: "p" + strconv.Itoa(label), Command: "c" + strconv.Itoa(label%5), Host: "h" + strconv.Itoa(label%3), UID: 1000 + label%4,
			PID: 100 + i, Token: int64(i + 1),
		}
		lasts := time.Duration(r.ExpFloat64() * float64(300*time.Millisecond)).Truncate(time.Microsecond)
		switch r.IntN(10) {
		case 0:
			e.Kind, e.Ended, e.Token = history.GaveUp, reasons[r.IntN(len(reasons))], 0
			e.Waited = lasts
			e.At = now
		case 1:
			e.Kind, e.At = kinds[r.IntN(len(kinds))], now
		default:
			e.Kind, e.Ended, e.Held = history.Hold, ends[r.IntN(len(ends))], lasts
			e.Shared = label%4 == 1
			if r.IntN(30) == 0 {
				e.Kind, e.Ended = history.Killed, ""
			} else if r.IntN(3) == 0 {
				e.Waited = time.Duration(r.ExpFloat64() * float64(2*time.Second)).Truncate(time.Microsecond)
			}
			if e.Ended == history.Exited {
				e.Code = max(0, r.IntN(6)-4)
			}
			e.Heals = max(0, r.IntN(40)-38)
			e.Acquired = now
			now += lasts.Milliseconds() + 1
			e.Released, e.At = now, now
			e.Requested = e.Acquired - e.Waited.Milliseconds()
		}
		for range r.IntN(4) * int(min(e.Waited, 1)) {
			b := history.Blocker{Party: history.Party{PID: r.IntN(1000), Process: "p" + strconv.Itoa(r.IntN(labels)), Command: "b"}, For: time.Duration(max(0, r.IntN(1_000_000)-100_000)) * time.Microsecond}
			e.Blockers = append(e.Blockers, b)
		}
		all = append(all, e)
	}
	return all
}

func summarised(o Options, events []history.Event) *Summary {
	s := New(o)
	for i := range events {
		s.Add(&events[i])
	}
	return s
}

// pick is the naive account: the events that something is true of.
func pick(events []history.Event, is func(history.Event) bool) []history.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e history.Event) bool { return !is(e) })
}

func sum(events []history.Event, of func(history.Event) time.Duration) (all time.Duration) {
	for _, e := range events {
		all += of(e)
	}
	return all
}

func held(e history.Event) time.Duration   { return e.Held }
func waited(e history.Event) time.Duration { return e.Waited }

// agree compares counts with a naive account of those events.
func agree(t *testing.T, events []history.Event, c *Counts) {
	t.Helper()
	count := func(is func(history.Event) bool) int64 { return int64(len(pick(events, is))) }
	kind := func(k history.Kind) int64 { return count(func(e history.Event) bool { return e.Kind == k }) }
	holds := pick(events, func(e history.Event) bool { return e.Kind == history.Hold })
	taken := pick(events, func(e history.Event) bool { return e.Kind == history.Hold || e.Kind == history.Killed })

	require.EqualValues(t, len(taken), c.Acquisitions)
	require.EqualValues(t, len(pick(taken, func(e history.Event) bool { return e.Shared })), c.Shared)
	require.EqualValues(t, len(holds), c.Known())
	require.EqualValues(t, len(pick(holds, func(e history.Event) bool { return e.Waited > 0 })), c.Waited)
	require.EqualValues(t, len(pick(holds, func(e history.Event) bool { return e.Ended == history.Exited && e.Code != 0 })), c.Failed)
	require.EqualValues(t, len(pick(holds, func(e history.Event) bool { return e.Ended == history.LostIt })), c.Lost)
	require.Equal(t, kind(history.Killed), c.Killed)
	require.Equal(t, kind(history.Forced), c.Forced)
	require.Equal(t, kind(history.TookOver), c.TookOver)
	require.Equal(t, kind(history.GaveUp), c.GaveUps())
	for _, end := range []history.Ended{history.Exited, history.Signaled, history.Released, history.Late, history.LostIt} {
		require.EqualValues(t, len(pick(holds, func(e history.Event) bool { return e.Ended == end })), c.Ended[end], end)
	}
	for _, why := range []history.Ended{history.TimedOut, history.Busy, history.Interrupted, history.Deadlocked} {
		require.Equal(t, count(func(e history.Event) bool { return e.Kind == history.GaveUp && e.Ended == why }), c.GaveUp[why], why)
	}
	require.Equal(t, sum(holds, func(e history.Event) time.Duration { return time.Duration(e.Heals) }), time.Duration(c.Heals))
	distributed(t, holds, waited, &c.Wait)
	distributed(t, taken, held, &c.Hold)
}

func distributed(t *testing.T, events []history.Event, of func(history.Event) time.Duration, d *Distribution) {
	t.Helper()
	require.EqualValues(t, len(events), d.N)
	require.Equal(t, sum(events, of), d.Sum)
	var all []time.Duration
	for _, e := range events {
		all = append(all, of(e))
	}
	slices.Sort(all)
	if len(all) == 0 {
		require.Zero(t, d.Quantile(0.5))
		return
	}
	require.Equal(t, all[len(all)-1], d.Max)
	for _, q := range []int{50, 90, 99, 100} {
		exact := all[(q*len(all)+99)/100-1]
		require.InDelta(t, float64(exact), float64(d.Quantile(float64(q)/100)), float64(exact)/100, "p%d", q)
	}
	var counted int64
	for i, n := range d.Counts {
		counted += n
		if i < len(Bounds) {
			up, _ := slices.BinarySearch(all, Bounds[i]+1)
			require.EqualValues(t, up, counted, Bounds[i])
		}
	}
	require.EqualValues(t, len(all), counted)
}

func TestCountsAddUp(t *testing.T) {
	events := made(5000, 40)
	s := summarised(Options{By: Process}, events)
	agree(t, events, &s.Counts)
	require.EqualValues(t, len(events), s.Events)
	groups := s.Groups()
	require.Len(t, groups, 40)
	for i, g := range groups {
		agree(t, pick(events, func(e history.Event) bool { return e.Process == g.Name }), &g.Counts)
		if i > 0 {
			require.LessOrEqual(t, g.Hold.Sum, groups[i-1].Hold.Sum)
		}
	}
}

func TestGroupings(t *testing.T) {
	events := made(500, 12)
	for by, name := range map[By]func(history.Event) string{
		Command: func(e history.Event) string { return e.Command },
		User:    func(e history.Event) string { return strconv.Itoa(e.UID) },
		Host:    func(e history.Event) string { return e.Host },
	} {
		for _, g := range summarised(Options{By: by}, events).Groups() {
			agree(t, pick(events, func(e history.Event) bool { return name(e) == g.Name }), &g.Counts)
		}
	}
	require.Empty(t, summarised(Options{}, events).Groups())
}

// However many labels there are, few are kept, the busiest among them, and nothing is left out.
func TestManyGroups(t *testing.T) {
	events := made(20000, 5000)
	s := summarised(Options{By: Process}, events)
	require.LessOrEqual(t, len(s.groups), keep)
	require.LessOrEqual(t, len(s.blame), keep)
	groups := s.Groups()
	require.Len(t, groups, Most+1)
	require.True(t, groups[Most].Others)
	all := Counts{}
	all.init()
	for _, g := range groups {
		all.Merge(&g.Counts)
	}
	agree(t, events, &all)
	require.Equal(t, "p0", groups[0].Name)

	var blamed, blame time.Duration
	for _, e := range events {
		for _, b := range e.Blockers {
			blame += b.For
		}
	}
	require.Len(t, s.Blamed(), Most+1)
	for _, b := range s.Blamed() {
		blamed += b.Time
	}
	require.Equal(t, blame, blamed)
}

func TestBlame(t *testing.T) {
	events := made(3000, 20)
	s := summarised(Options{}, events)
	require.Len(t, s.Blamed(), 20)
	for _, b := range s.Blamed() {
		var want Blame
		for _, e := range events {
			for _, by := range e.Blockers {
				if by.Process != b.Process || by.For == 0 {
					continue
				}
				want.Time += by.For
				want.Times++
				if want.Times == 1 || by.For > want.Worst.Waited {
					want.Worst = Case{At: e.At, Waited: by.For, Holder: by.Party, GaveUp: e.Kind == history.GaveUp,
						Waiter: history.Party{PID: e.PID, UID: e.UID, Process: e.Process, Command: e.Command, Token: e.Token}}
				}
			}
		}
		want.Process = b.Process
		require.Equal(t, want, *b)
	}
}

func hold(from, to int64, shared bool) history.Event {
	return history.Event{Version: 1, Kind: history.Hold, Ended: history.Exited, At: epoch + to, Acquired: epoch + from, Requested: epoch + from, Released: epoch + to, Shared: shared,
		Held: time.Duration(to-from) * time.Millisecond, Token: from + 1, Process: "p"}
}

func TestUse(t *testing.T) {
	events := []history.Event{
		hold(0, 1000, false),
		hold(2000, 3000, true), hold(2500, 4000, true), hold(1500, 4500, true), // 3 seconds in all
		hold(5000, 10000, false),
	}
	s := summarised(Options{}, events)
	exclusive, shared := s.Use()
	require.InDelta(t, 0.6, exclusive, 1e-9)
	require.InDelta(t, 0.3, shared, 1e-9)

	// The window cuts holds, and counts those that are released in it.
	s = summarised(Options{Since: epoch + 2500, Until: epoch + 6500}, events)
	require.EqualValues(t, 3, s.Acquisitions)
	exclusive, shared = s.Use()
	require.InDelta(t, 1500.0/4000, exclusive, 1e-9)
	require.InDelta(t, 2000.0/4000, shared, 1e-9)
}

func TestWindowEdges(t *testing.T) {
	events := []history.Event{hold(0, 1000, false), hold(1000, 2000, false)}
	require.EqualValues(t, 2, summarised(Options{Since: epoch + 1000}, events).Acquisitions)
	require.EqualValues(t, 1, summarised(Options{Since: epoch + 1001}, events).Acquisitions)
	require.EqualValues(t, 1, summarised(Options{Until: epoch + 2000}, events).Acquisitions)
	require.EqualValues(t, 2, summarised(Options{Until: epoch + 2001}, events).Acquisitions)
	s := summarised(Options{Since: epoch + 500, Now: epoch + 4500}, events)
	from, to := s.Span()
	require.Equal(t, []int64{epoch + 500, epoch + 4500}, []int64{from, to})
	exclusive, _ := s.Use()
	require.InDelta(t, 1500.0/4000, exclusive, 1e-9)
}

func TestNothing(t *testing.T) {
	s := summarised(Options{By: Process}, nil)
	from, to := s.Span()
	exclusive, shared := s.Use()
	require.Zero(t, from+to)
	require.Zero(t, exclusive+shared)
	require.Empty(t, s.Groups())
	require.Empty(t, s.Blamed())
	agree(t, nil, &s.Counts)
}

func TestOneEvent(t *testing.T) {
	e := hold(0, 250, false)
	s := summarised(Options{}, []history.Event{e})
	exclusive, _ := s.Use()
	require.Equal(t, 1.0, exclusive)
	require.Equal(t, 250*time.Millisecond, s.Hold.Quantile(0.5))
	require.Equal(t, 250*time.Millisecond, s.Hold.Max)
}

// A clock that is set back makes no time negative, and no share larger than the whole.
func TestClockSetBack(t *testing.T) {
	before := hold(10_000, 20_000, false)
	across := hold(20_000, 15_000, false)
	across.Held = 5 * time.Second
	after := hold(15_000, 16_000, true)
	s := summarised(Options{}, []history.Event{before, across, after})
	from, to := s.Span()
	require.Equal(t, []int64{epoch + 10_000, epoch + 20_000}, []int64{from, to})
	exclusive, shared := s.Use()
	require.Equal(t, 1.0, exclusive)
	require.InDelta(t, 0.1, shared, 1e-9)
	require.Equal(t, 16*time.Second, s.Hold.Sum)
}

// union against seconds that are ticked off.
func TestUnion(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		var u union
		var ticked [300]bool
		for range 1 + r.IntN(40) {
			from := r.IntN(250)
			to := from + 1 + r.IntN(40)
			u.add(int64(from), int64(to))
			for i := from; i < to; i++ {
				ticked[i] = true
			}
		}
		var want int64
		for _, t := range ticked {
			if t {
				want++
			}
		}
		require.Equal(t, want, u.length())
	}
}

func TestUnionIsBounded(t *testing.T) {
	var u union
	for i := range int64(3 * remembered) {
		u.add(10*i, 10*i+3)
	}
	require.LessOrEqual(t, len(u.spans), remembered)
	require.EqualValues(t, 9*remembered, u.length())
}

func TestQuantileError(t *testing.T) {
	for us := uint64(0); us < 1<<53; us = us + us/97 + 1 {
		exact, got := float64(us), float64(value(bucket(us))/time.Microsecond)
		require.LessOrEqual(t, math.Abs(exact-got), exact/256+0.5, fmt.Sprint(us))
	}
}

func BenchmarkSummary(b *testing.B) {
	var lines []byte
	events := made(20000, 60)
	for i := range events {
		lines = history.Append(lines, &events[i])
	}
	b.SetBytes(int64(len(lines)))
	b.ReportAllocs()
	for b.Loop() {
		s := New(Options{By: Process})
		for line := range bytes.Lines(lines) {
			if e, err := history.Parse(line); err == nil {
				s.Add(&e)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(events)), "ns/event")
}
