package page

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/history/summary"
)

// most is how many rows the blame table has.
const most = 20

// Figures are what the page says without its script, of everything. They are those of
// [summary.Summary], but for the quantiles, which are exact here.
type Figures struct {
	*summary.Summary
	Failed int         // and those whose time was up
	Times  []Quantiles // of the waits, of the holds
	Others int         // holders who are not shown
}

// Share is the part of the holds that had to wait.
func (f *Figures) Share() float64 { return float64(f.Total.Waited) / float64(max(f.Total.Acquired, 1)) }

// Bar is the time that others waited for one, as a share of the most, in percent.
func (f *Figures) Bar(b summary.Blamed) int { return int(100 * b.For / max(f.Blame[0].For, 1)) }

// Quantiles of durations, each one of those that were.
type Quantiles struct {
	Name                      string
	P50, P90, P99, Max, Total time.Duration
}

func figures(databases []Database) *Figures {
	c := summary.New("", time.Time{}, time.Time{})
	var waits, holds []time.Duration
	for _, db := range databases {
		for i := range db.Events {
			e := &db.Events[i]
			c.Add(db.Name, e)
			if e.Kind == history.Hold && e.Waited > 0 {
				waits = append(waits, e.Waited)
			}
			if e.Kind == history.Hold || e.Kind == history.Killed {
				holds = append(holds, e.Held)
			}
		}
	}
	f := &Figures{Summary: c.Summary(), Times: []Quantiles{quantiles("waited", waits), quantiles("held", holds)}}
	f.Failed = f.Total.Failed + f.Total.Late
	if len(f.Blame) > most {
		f.Others = len(f.Blame) - most
		f.Blame = f.Blame[:most]
	}
	return f
}

// quantiles are by rank; it sorts the durations.
func quantiles(name string, all []time.Duration) Quantiles {
	q := Quantiles{Name: name}
	if len(all) == 0 {
		return q
	}
	slices.Sort(all)
	at := func(p float64) time.Duration { return all[int(math.Ceil(p*float64(len(all))))-1] }
	for _, d := range all {
		q.Total += d
	}
	q.P50, q.P90, q.P99, q.Max = at(0.5), at(0.9), at(0.99), all[len(all)-1]
	return q
}

// times are an event's own, in milliseconds since the epoch, made consistent: clocks are set,
// and not all lines have all of them. What it has not is -1.
type times struct{ at, requested, acquired, released int64 }

func (t times) begin() int64 {
	switch {
	case t.requested >= 0:
		return t.requested
	case t.acquired >= 0:
		return t.acquired
	}
	return t.at
}

// latestTime is the last millisecond of the year 9999, which browsers can show.
const latestTime = 253402300799999

func timesOf(e *history.Event) times {
	t := times{e.At, -1, -1, -1}
	if t.at <= 0 {
		t.at = max(e.Released, e.Acquired, 0)
	}
	t.at = min(t.at, latestTime)
	begin := t.at
	switch e.Kind {
	case history.Hold, history.Killed, history.TookOver:
		t.released = t.at
		if e.Released > 0 {
			t.released = min(e.Released, t.at)
		}
		t.acquired = max(0, t.released-max(0, e.Held.Milliseconds()))
		if e.Acquired > 0 && e.Acquired <= t.released {
			t.acquired = e.Acquired
		}
		begin = t.acquired
	case history.GaveUp:
	default:
		return t
	}
	t.requested = max(0, begin-max(0, e.Waited.Milliseconds()))
	return t
}

// duration is one for people. page.js has the same.
func duration(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	s := int64(math.Round(ms / 1000))
	switch {
	case ms == 0:
		return "0"
	case ms < 9.95:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 999.5:
		return fmt.Sprintf("%.0f ms", ms)
	case ms < 9950:
		return fmt.Sprintf("%.1f s", ms/1000)
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	}
	return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
}

// count is a number with its thousands apart.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func percent(f float64) string {
	if f > 0 && f < 0.0995 {
		return fmt.Sprintf("%.1f %%", 100*f)
	}
	return fmt.Sprintf("%.0f %%", 100*f)
}
