package stats

import (
	"encoding/json"
	"io"
	"math"
	"time"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/history/summary"
)

// document is the JSON form; see docs/stats.md. Names are only added while its version is 1.
type document struct {
	Version   int        `json:"version"`
	Databases []database `json:"databases"`
}

type database struct {
	Database string `json:"database"`
	LockFile string `json:"lock_file,omitempty"`
	From     int64  `json:"from"` // milliseconds since the epoch
	To       int64  `json:"to"`
	Events   int64  `json:"events"`

	counts
	Use    use     `json:"use"`
	By     string  `json:"by,omitempty"`
	Groups []group `json:"groups,omitempty"`
	Blame  []blame `json:"blame"`
}

type counts struct {
	Acquisitions int64                   `json:"acquisitions"`
	Shared       int64                   `json:"shared"`
	Waited       int64                   `json:"waited"`
	WaitedShare  float64                 `json:"waited_share"`
	Wait         distribution            `json:"wait"`
	Hold         distribution            `json:"hold"`
	Ended        map[history.Ended]int64 `json:"ended"`
	Failed       int64                   `json:"failed"`
	GaveUp       map[history.Ended]int64 `json:"gave_up"`
	Killed       int64                   `json:"killed"`
	Lost         int64                   `json:"lost"`
	Forced       int64                   `json:"forced"`
	TookOver     int64                   `json:"took_over"`
	Heals        int64                   `json:"heals"`
}

type distribution struct {
	Count     int64  `json:"count"`
	Sum       millid `json:"sum_ms"`
	P50       millid `json:"p50_ms"`
	P90       millid `json:"p90_ms"`
	P99       millid `json:"p99_ms"`
	Max       millid `json:"max_ms"`
	Histogram []bin  `json:"histogram"`
}

// bin counts what is longer than the bin before, and not longer than this.
type bin struct {
	UpTo  *millid `json:"up_to_ms"` // null: all that is longer
	Count int64   `json:"count"`
}

type use struct {
	Exclusive   float64 `json:"exclusive"`
	Shared      float64 `json:"shared"`
	ExclusiveMS millid  `json:"exclusive_ms"`
	SharedMS    millid  `json:"shared_ms"`
}

type group struct {
	Name   string `json:"name"`
	Others bool   `json:"others,omitempty"`
	counts
}

type blame struct {
	Process string `json:"process"`
	Others  bool   `json:"others,omitempty"`
	Time    millid `json:"waited_ms"`
	Times   int64  `json:"times"`
	Worst   worst  `json:"worst"`
}

type worst struct {
	At     int64  `json:"at"`
	Waited millid `json:"waited_ms"`
	GaveUp bool   `json:"gave_up,omitempty"`
	Waiter party  `json:"waiter"`
	Holder party  `json:"holder"`
}

type party struct {
	PID     int    `json:"pid"`
	Process string `json:"process"`
	Command string `json:"command"`
	Token   int64  `json:"token,omitempty"`
}

// millid is a length of time, in milliseconds with three decimals.
type millid time.Duration

func (m millid) MarshalJSON() ([]byte, error) {
	return json.Marshal(float64(time.Duration(m).Microseconds()) / 1000)
}

func writeJSON(out io.Writer, all []summarised) error {
	doc := document{Version: 1}
	for _, s := range all {
		doc.Databases = append(doc.Databases, s.document())
	}
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	return e.Encode(doc)
}

func (s *summarised) document() database {
	d := database{Database: s.name, LockFile: s.names.Notice, Events: s.Events, counts: countsOf(&s.Counts), By: string(s.By), Blame: []blame{}}
	d.From, d.To = s.Span()
	d.Use.Exclusive, d.Use.Shared = s.Use()
	d.Use.Exclusive, d.Use.Shared = share(d.Use.Exclusive), share(d.Use.Shared)
	d.Use.ExclusiveMS, d.Use.SharedMS = millid(s.Exclusive()), millid(s.Shared())
	for _, g := range s.Groups() {
		d.Groups = append(d.Groups, group{s.called(g), g.Others, countsOf(&g.Counts)})
	}
	for _, b := range s.Blamed() {
		w := &b.Worst
		d.Blame = append(d.Blame, blame{
			Process: b.Process, Others: b.Others, Time: millid(b.Time), Times: b.Times,
			Worst: worst{w.At, millid(w.Waited), w.GaveUp, partyOf(&w.Waiter), partyOf(&w.Holder)},
		})
	}
	return d
}

// called is a group's name, as people know it.
func (s *summarised) called(g *summary.Group) string {
	switch {
	case g.Others || s.By != summary.User:
		return g.Name
	case g.Name == "-1":
		return ""
	}
	return userName(g.Name)
}

func countsOf(c *summary.Counts) counts {
	d := counts{
		Acquisitions: c.Acquisitions, Shared: c.Shared, Waited: c.Waited, Wait: distributionOf(&c.Wait), Hold: distributionOf(&c.Hold),
		Ended: c.Ended, Failed: c.Failed, GaveUp: c.GaveUp, Killed: c.Killed, Lost: c.Lost, Forced: c.Forced, TookOver: c.TookOver, Heals: c.Heals,
	}
	if known := c.Known(); known > 0 {
		d.WaitedShare = share(float64(c.Waited) / float64(known))
	}
	return d
}

// share is rounded: what is behind it is not known better.
func share(f float64) float64 { return math.Round(f*1e6) / 1e6 }

func distributionOf(d *summary.Distribution) distribution {
	out := distribution{
		Count: d.N, Sum: millid(d.Sum), Max: millid(d.Max),
		P50: millid(d.Quantile(.5)), P90: millid(d.Quantile(.9)), P99: millid(d.Quantile(.99)),
	}
	for i, n := range d.Counts {
		b := bin{Count: n}
		if i < len(summary.Bounds) {
			up := millid(summary.Bounds[i])
			b.UpTo = &up
		}
		out.Histogram = append(out.Histogram, b)
	}
	return out
}

func partyOf(p *history.Party) party { return party{p.PID, p.Process, p.Command, p.Token} }
