package summary

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/history"
)

func TestSpread(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 10, 1000, 100000} {
		var s Spread
		var all []time.Duration
		var sum time.Duration
		for range n {
			d := time.Duration(1<<(r.IntN(38)+1)+r.IntN(1<<20)) * time.Microsecond
			s.Add(d)
			all, sum = append(all, d), sum+d
		}
		slices.Sort(all)
		require.Equal(t, []any{n, sum, all[n-1]}, []any{s.Count, s.Sum, s.Max})
		for _, q := range []float64{0, 0.5, 0.9, 0.99, 1} {
			want := all[max(0, int(q*float64(n)+0.9999999)-1)]
			require.InEpsilon(t, want, s.Quantile(q), 0.005, "%d %v", n, q)
		}
	}
	var s Spread
	require.Zero(t, s.Quantile(0.5))
	for us := range 300 {
		s.Add(time.Duration(us) * time.Microsecond)
	}
	require.Equal(t, 101, s.Below(100*time.Microsecond))
	require.Equal(t, 300, s.Below(time.Hour))
	require.Equal(t, 149*time.Microsecond, s.Quantile(0.5))
}

// What comes out is what a plain account of the same events has.
func TestSummaryAddsUp(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	since, until := time.UnixMilli(2_000_000), time.UnixMilli(8_000_000)
	c := New(Process, since, until)
	type plain struct{ acquired, shared, waited, killed, lost, gaveUp, failed int }
	want, of := plain{}, map[string]*plain{}
	busy := map[string]time.Duration{}
	blame := map[string]time.Duration{}
	used := map[string]map[int64]bool{"a": {}, "b": {}}
	first, last := int64(1<<62), int64(0)
	for range 3000 {
		at := r.Int64N(10_000_000)
		e := history.Event{
			Kind: []history.Kind{history.Hold, history.Hold, history.Hold, history.GaveUp, history.Killed, history.Healed, "later"}[r.IntN(7)],
			At:   at, Process: fmt.Sprint("p", r.IntN(5)), Shared: r.IntN(4) == 0, PID: r.IntN(100),
		}
		db := []string{"a", "b"}[r.IntN(2)]
		held := r.Int64N(300)
		in := at >= 2_000_000 && at < 8_000_000
		if e.Kind == history.Hold || e.Kind == history.Killed {
			e.Acquired, e.Released, e.Held = at-held, at, time.Duration(held)*time.Millisecond
			e.Requested = e.Acquired
		}
		if e.Kind == history.Hold {
			e.Ended, e.Code = history.Exited, r.IntN(2)
			if r.IntN(10) == 0 {
				e.Ended = history.LostIt
			}
		}
		if e.Kind == history.GaveUp {
			e.Ended = history.TimedOut
		}
		if (e.Kind == history.Hold || e.Kind == history.GaveUp) && r.IntN(2) == 0 {
			e.Waited = time.Duration(r.IntN(1000)+1) * time.Millisecond
			e.Requested = at - held - e.Waited.Milliseconds()
			e.Blockers = []history.Blocker{{Party: history.Party{Process: fmt.Sprint("h", r.IntN(3))}, For: e.Waited}}
		}
		c.Add(db, &e)
		if !in {
			continue
		}
		begin := at
		if e.Requested != 0 {
			begin = e.Requested
		}
		first, last = min(first, max(begin, 2_000_000)), max(last, at)
		p := of[e.Process]
		if p == nil {
			p = &plain{}
			of[e.Process] = p
		}
		for _, p := range []*plain{&want, p} {
			switch e.Kind {
			case history.Hold, history.Killed:
				p.acquired++
				if e.Shared {
					p.shared++
				}
				if e.Kind == history.Killed {
					p.killed++
				}
				if e.Waited > 0 {
					p.waited++
				}
				if e.Ended == history.LostIt {
					p.lost++
				} else if e.Code != 0 {
					p.failed++
				}
			case history.GaveUp:
				p.gaveUp++
			}
		}
		busy[e.Process] += e.Held
		for _, b := range e.Blockers {
			blame[b.Process] += b.For
		}
		for ms := max(e.Acquired, 2_000_000); e.Acquired != 0 && ms < e.Released; ms++ {
			used[db][ms] = true
		}
	}
	s := c.Summary()
	figures := func(f *Figures) plain {
		require.Equal(t, f.Acquired, f.Hold.Count)
		require.Equal(t, f.Waited, f.Wait.Count)
		return plain{f.Acquired, f.Shared, f.Waited, f.Killed, f.Lost, f.GaveUps(), f.Failed}
	}
	require.Equal(t, want, figures(&s.Total))
	require.Len(t, s.Groups, len(of))
	for i := range s.Groups {
		g := &s.Groups[i]
		require.Equal(t, *of[g.Name], figures(&g.Figures), g.Name)
		require.Equal(t, busy[g.Name], g.Busy)
		require.True(t, i == 0 || g.Busy <= s.Groups[i-1].Busy)
	}
	require.Len(t, s.Blame, len(blame))
	for _, b := range s.Blame {
		require.Equal(t, blame[b.Holder], b.For)
		require.LessOrEqual(t, b.Worst.For, b.For)
	}
	require.Equal(t, []int64{first, last}, []int64{s.First, s.Last})
	use := float64(len(used["a"])+len(used["b"])) / 2 / float64(last-first)
	require.InDelta(t, use, s.Use, 0.0001)
}

func TestSummaryOfNothing(t *testing.T) {
	t.Parallel()
	require.Equal(t, &Summary{}, New("", time.Time{}, time.Time{}).Summary())
}

// However many labels there are, they take no more room than so many.
func TestGroupsAreBounded(t *testing.T) {
	t.Parallel()
	c := New(Process, time.Time{}, time.Time{})
	for i := range 3 * MaxGroups {
		name := fmt.Sprint(i)
		c.Add("", &history.Event{Kind: history.Hold, At: 1, Process: name, Waited: 1, Blockers: []history.Blocker{{Party: history.Party{Process: name}, For: 1}}})
	}
	s := c.Summary()
	require.Len(t, s.Groups, MaxGroups+1)
	require.Len(t, s.Blame, MaxGroups+1)
	require.Equal(t, 3*MaxGroups, s.Total.Acquired)
	i := slices.IndexFunc(s.Groups, func(g Group) bool { return g.Name == Others })
	require.Equal(t, 2*MaxGroups, s.Groups[i].Acquired)
}

func BenchmarkAdd(b *testing.B) {
	e := history.Event{Kind: history.Hold, At: 1 << 40, Process: "etl", Acquired: 1<<40 - 5, Released: 1 << 40, Waited: 1234567, Held: 456789}
	c := New(Process, time.Time{}, time.Time{})
	for b.Loop() {
		e.At, e.Acquired, e.Released = e.At+7, e.Acquired+7, e.Released+7
		c.Add("", &e)
	}
}
