package page

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/dblock-dev/dblock/history"
)

// most is how many rows the blame table has.
const most = 20

// Figures are what the page says without its script, of everything. They mean what those of
// package summary mean, and are exact: the script must come to the same.
type Figures struct {
	Begin, End                           int64 // milliseconds since the epoch
	Holds, Waits                         int
	GaveUp, Lost, Forced, Killed, Failed int
	Share, Busy                          float64     // of the holds, of the time
	Times                                []Quantiles // of the waits, of the holds
	Blame                                []Blame
	Others                               int // rows that are not shown
}

// Quantiles of durations, each one of those that were.
type Quantiles struct {
	Name                      string
	P50, P90, P99, Max, Total time.Duration
}

// Blame is the time for which others waited for holders of that label.
type Blame struct {
	Process string
	Times   int
	Total   time.Duration
	Worst   time.Duration
	Who     string // waited longest for it
	When    Moment
}

// bar is the time as a share of the most that any label has, in percent.
func bar(b Blame, all []Blame) int { return int(100 * b.Total / max(all[0].Total, 1)) }

func figures(databases []Database) (f Figures) {
	var waits, holds []time.Duration
	var busy int64
	blame := map[string]*Blame{}
	f.Begin = math.MaxInt64
	for _, db := range databases {
		var spans [][2]int64
		for i := range db.Events {
			e := &db.Events[i]
			t := timesOf(e)
			f.Begin, f.End = min(f.Begin, t.begin()), max(f.End, t.at)
			switch e.Kind {
			case history.Hold:
				f.Holds++
				waits, holds = append(waits, e.Waited), append(holds, e.Held)
				if e.Waited > 0 {
					f.Waits++
				}
				if e.Ended == history.LostIt {
					f.Lost++
				}
				if e.Ended == history.Exited && e.Code != 0 || e.Ended == history.Late || e.Ended == history.Signaled {
					f.Failed++
				}
			case history.GaveUp:
				f.GaveUp++
			case history.Forced:
				f.Forced++
			case history.Killed:
				f.Holds++
				f.Killed++
				holds = append(holds, e.Held)
			}
			if e.Kind == history.Hold || e.Kind == history.Killed {
				spans = append(spans, [2]int64{t.acquired, t.released})
			}
			for _, b := range e.Blockers {
				if b.For <= 0 {
					continue
				}
				of := blame[b.Process]
				if of == nil {
					of = &Blame{Process: b.Process}
					blame[b.Process] = of
				}
				of.Times++
				of.Total += b.For
				if b.For > of.Worst || of.Times == 1 {
					of.Worst, of.Who, of.When = b.For, e.Process, moment(t.at)
				}
			}
		}
		busy += union(spans)
	}
	if f.End == 0 {
		f.Begin = 0
	}
	f.Times = []Quantiles{quantiles("waited", waits), quantiles("held", holds)}
	f.Share = float64(f.Waits) / float64(max(len(waits), 1))
	if span := (f.End - f.Begin) * int64(len(databases)); span > 0 {
		f.Busy = float64(busy) / float64(span)
	}
	for _, b := range blame {
		f.Blame = append(f.Blame, *b)
	}
	slices.SortFunc(f.Blame, func(a, b Blame) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Process, b.Process))
	})
	if len(f.Blame) > most {
		f.Others = len(f.Blame) - most
		f.Blame = f.Blame[:most]
	}
	return f
}

// union is how long at least one of the spans lasted.
func union(spans [][2]int64) (sum int64) {
	slices.SortFunc(spans, func(a, b [2]int64) int { return cmp.Compare(a[0], b[0]) })
	end := int64(math.MinInt64)
	for _, s := range spans {
		if from := max(s[0], end); s[1] > from {
			sum += s[1] - from
			end = s[1]
		}
	}
	return sum
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
