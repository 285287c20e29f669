package stats

import (
	"encoding/json"
	"io"
	"time"

	"github.com/dblock-dev/dblock/history/summary"
)

// document is the JSON form; see docs/stats.md. Names are only added while its version is 1.
type document struct {
	Version int      `json:"version"`
	Of      []string `json:"of"`
	Since   int64    `json:"since"`
	Until   int64    `json:"until"`
	Events  int      `json:"events"`
	Use     float64  `json:"use"`
	Total   figures  `json:"total"`
	By      string   `json:"by,omitempty"`
	Groups  []group  `json:"groups"`
	Blame   []blamed `json:"blame"`
}

type figures struct {
	Acquired int            `json:"acquired"`
	Shared   int            `json:"shared"`
	Waited   int            `json:"waited"`
	Wait     spreadJSON     `json:"wait"`
	Hold     spreadJSON     `json:"hold"`
	GaveUp   map[string]int `json:"gave_up"`
	Lost     int            `json:"lost"`
	Killed   int            `json:"killed"`
	Late     int            `json:"late"`
	Failed   int            `json:"failed"`
	Forced   int            `json:"forced"`
	TookOver int            `json:"took_over"`
	Healed   int            `json:"healed"`
}

type spreadJSON struct {
	Count int     `json:"count"`
	SumMS float64 `json:"sum_ms"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

type group struct {
	Name   string  `json:"name"`
	HeldMS float64 `json:"held_ms"`
	figures
}

type blamed struct {
	Holder string    `json:"holder"`
	ForMS  float64   `json:"for_ms"`
	Times  int       `json:"times"`
	Worst  worstJSON `json:"worst"`
}

type worstJSON struct {
	ForMS  float64 `json:"for_ms"`
	At     int64   `json:"at"`
	Waiter string  `json:"waiter"`
	PID    int     `json:"pid"`
	Holder int     `json:"holder_pid"`
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func figuresOf(f *summary.Figures) figures {
	j := figures{
		Acquired: f.Acquired, Shared: f.Shared, Waited: f.Waited, Wait: spreadOf(&f.Wait), Hold: spreadOf(&f.Hold), GaveUp: map[string]int{},
		Lost: f.Lost, Killed: f.Killed, Late: f.Late, Failed: f.Failed, Forced: f.Forced, TookOver: f.Took, Healed: f.Healed,
	}
	for why, n := range f.GaveUp {
		j.GaveUp[string(why)] = n
	}
	return j
}

func spreadOf(s *summary.Spread) spreadJSON {
	return spreadJSON{s.Count, ms(s.Sum), ms(s.Quantile(0.5)), ms(s.Quantile(0.9)), ms(s.Quantile(0.99)), ms(s.Max)}
}

func writeJSON(w io.Writer, names []string, c *Command, s *summary.Summary) error {
	d := document{Version: 1, Of: names, Since: s.First, Until: s.Last, Events: s.Events, Use: s.Use, Total: figuresOf(&s.Total), By: string(c.By), Groups: []group{}, Blame: []blamed{}}
	for i := range s.Groups {
		g := &s.Groups[i]
		d.Groups = append(d.Groups, group{g.Name, ms(g.Busy), figuresOf(&g.Figures)})
	}
	for _, b := range s.Blame {
		d.Blame = append(d.Blame, blamed{b.Holder, ms(b.For), b.Times, worstJSON{ms(b.Worst.For), b.Worst.At, b.Worst.Waiter, b.Worst.PID, b.Worst.Holder}})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(d)
}
