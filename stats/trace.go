package stats

import (
	"bufio"
	"cmp"
	"encoding/json"
	"io"
	"slices"
	"strconv"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/internal/cli"
)

// The trace is in Chrome's trace event format. Each label and pid of a database is one of its
// processes, with a row for its waits and holds, or more where they overlap.

// actor is who has a row.
type actor struct {
	database int
	process  string
	pid      int
}

// stretch is a wait or a hold; times are in microseconds since the epoch.
type stretch struct {
	event    *history.Event
	of       actor
	wait     bool
	from, to int64
	lane     int
}

// tracer writes a trace.
type tracer struct {
	out       *bufio.Writer
	databases []string
	several   bool
	rows      map[actor]int
	base      int64 // what times are counted from: they are doubles there
	written   bool
}

func (c *Command) trace(sources []source) error {
	t := &tracer{rows: map[actor]int{}, several: len(sources) > 1}
	var events [][]history.Event
	for i := range sources {
		of, err := c.events(&sources[i])
		if err != nil {
			return err
		}
		t.databases, events = append(t.databases, sources[i].name), append(events, of)
	}
	return write(c.Trace, 0o666, func(w io.Writer) error { return t.write(w, events) })
}

func (t *tracer) write(to io.Writer, events [][]history.Event) error {
	t.out = bufio.NewWriter(to)
	var all []*stretch
	for db, of := range events {
		all = append(all, stretches(db, of)...)
	}
	slices.SortStableFunc(all, func(a, b *stretch) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	if len(all) > 0 {
		t.base = all[0].from
	}
	for _, of := range events {
		for i := range of {
			e := &of[i]
			if len(all) == 0 || e.At*1000 < t.base {
				t.base = e.At * 1000
			}
		}
	}
	lanes(all)

	_, _ = t.out.WriteString(`{"displayTimeUnit":"ms","otherData":{"begins":` + strconv.FormatInt(t.base/1000, 10) + "},\"traceEvents\":[\n")
	for _, s := range all {
		t.stretch(s)
	}
	for db, of := range events {
		for i := range of {
			t.mark(db, &of[i])
		}
	}
	t.arrows(all)
	_, _ = t.out.WriteString("\n]}\n")
	return t.out.Flush()
}

// stretches are the waits and holds of a database. Exclusive holds do not overlap: where they would, since
// times are whole milliseconds, or the clock was set back, the earlier one is cut.
func stretches(db int, events []history.Event) (all []*stretch) {
	var exclusive []*stretch
	for i := range events {
		e := &events[i]
		who := actorOf(db, e)
		switch e.Kind {
		case history.Hold, history.Killed:
			begin := cmp.Or(e.Acquired, e.Released, e.At)
			end := max(cmp.Or(e.Released, e.At)*1000, begin*1000+e.Held.Microseconds())
			h := &stretch{event: e, of: who, from: begin * 1000, to: end}
			if e.Waited > 0 {
				all = append(all, &stretch{event: e, of: who, wait: true, from: h.from - e.Waited.Microseconds(), to: h.from})
			}
			if all = append(all, h); !e.Shared {
				exclusive = append(exclusive, h)
			}
		case history.GaveUp:
			all = append(all, &stretch{event: e, of: who, wait: true, from: e.At*1000 - e.Waited.Microseconds(), to: e.At * 1000})
		}
	}
	slices.SortStableFunc(exclusive, func(a, b *stretch) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.event.Token, b.event.Token))
	})
	for i := 1; i < len(exclusive); i++ {
		before := exclusive[i-1]
		before.to = min(before.to, exclusive[i].from)
	}
	return all
}

func actorOf(db int, e *history.Event) actor { return actor{db, e.Process, e.PID} }

// lanes puts stretches of one actor that overlap on rows of their own; they are in order.
func lanes(all []*stretch) {
	ends := map[actor][]int64{}
	for _, s := range all {
		of := ends[s.of]
		s.lane = slices.IndexFunc(of, func(end int64) bool { return end <= s.from })
		if s.lane < 0 {
			s.lane = len(of)
			of = append(of, 0)
		}
		of[s.lane] = s.to
		ends[s.of] = of
	}
}

// record is an event of the trace.
type record struct {
	Name  string         `json:"name"`
	Cat   string         `json:"cat,omitempty"`
	Ph    string         `json:"ph"`
	Ts    int64          `json:"ts"`
	Dur   *int64         `json:"dur,omitempty"`
	PID   int            `json:"pid"`
	TID   int            `json:"tid"`
	ID    int            `json:"id,omitempty"`
	Scope string         `json:"s,omitempty"`
	Bind  string         `json:"bp,omitempty"`
	Color string         `json:"cname,omitempty"`
	Args  map[string]any `json:"args,omitempty"`
}

func (t *tracer) put(r record) {
	if t.written {
		_, _ = t.out.WriteString(",\n")
	}
	t.written = true
	b, _ := json.Marshal(r) // strings and numbers
	_, _ = t.out.Write(b)
}

// row is the number of an actor's process in the trace. Its own pid may be used again, and be in
// use for another database.
func (t *tracer) row(a actor) int {
	row, known := t.rows[a]
	if !known {
		row = len(t.rows) + 1
		t.rows[a] = row
		name := someone(a.process) + " (pid " + strconv.Itoa(a.pid) + ")"
		if t.several {
			name = t.databases[a.database] + ": " + name
		}
		t.put(record{Name: "process_name", Ph: "M", PID: row, Args: map[string]any{"name": name}})
		t.put(record{Name: "process_sort_index", Ph: "M", PID: row, Args: map[string]any{"sort_index": row}})
	}
	return row
}

// thread is the number of a lane in the trace; no two in it are the same.
func (t *tracer) thread(a actor, lane int) int { return t.row(a) + lane<<20 }

func (t *tracer) stretch(s *stretch) {
	e := s.event
	length := s.to - s.from
	r := record{Ph: "X", Ts: s.from - t.base, Dur: &length, PID: t.row(s.of), TID: t.thread(s.of, s.lane), Args: map[string]any{"database": t.databases[s.of.database]}}
	switch {
	case !s.wait:
		r.Name, r.Cat = "hold", "exclusive"
		if e.Shared {
			r.Name, r.Cat = "shared hold", "shared"
		}
		if e.Kind == history.Killed || e.Ended == history.LostIt {
			r.Color = "terrible"
		}
	case e.Kind == history.GaveUp:
		r.Name, r.Cat, r.Color = "wait, in vain", "wait", "bad"
	default:
		r.Name, r.Cat = "wait", "wait"
	}
	r.Args["what"] = cli.Event(e)
	if e.Info != "" {
		r.Args["info"] = e.Info
	}
	if e.Token != 0 {
		r.Args["token"] = strconv.FormatInt(e.Token, 10)
	}
	t.put(r)
}

// mark writes what happened at one moment.
func (t *tracer) mark(db int, e *history.Event) {
	switch e.Kind {
	case history.Hold, history.GaveUp:
		return
	}
	row := t.row(actorOf(db, e))
	t.put(record{Name: string(e.Kind), Cat: "mark", Ph: "i", Scope: "p", Ts: e.At*1000 - t.base, PID: row, TID: row, Args: map[string]any{"what": cli.Event(e), "database": t.databases[db]}})
}

// arrows lead from the holds that a hold has waited for to that hold.
func (t *tracer) arrows(all []*stretch) {
	type hold struct {
		database, pid int
		token         int64
	}
	holds := map[hold]*stretch{}
	for _, s := range all {
		if !s.wait && s.event.Token != 0 {
			holds[hold{s.of.database, s.of.pid, s.event.Token}] = s
		}
	}
	id := 0
	for _, s := range all {
		if !s.wait {
			continue
		}
		for _, b := range s.event.Blockers {
			from := holds[hold{s.of.database, b.PID, b.Token}]
			if b.Token == 0 || from == nil {
				continue
			}
			// Each end lies within its stretch, and time does not go back on the way.
			to := s.to
			leaves := max(from.from, min(from.to, to))
			if leaves > to {
				continue
			}
			id++
			arrow := record{Name: "blocked", Cat: "blocked", ID: id}
			begin, end := arrow, arrow
			begin.Ph, begin.Ts, begin.PID, begin.TID = "s", leaves-t.base, t.row(from.of), t.thread(from.of, from.lane)
			end.Ph, end.Bind, end.Ts, end.PID, end.TID = "f", "e", to-t.base, t.row(s.of), t.thread(s.of, s.lane)
			t.put(begin)
			t.put(end)
		}
	}
}
