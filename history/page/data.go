package page

import (
	"encoding/json"
	"os/user"
	"strconv"
	"time"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/internal/term"
)

// The codes of the kinds in the data; page.js has the same order.
var kinds = map[history.Kind]int64{history.Hold: 0, history.GaveUp: 1, history.Killed: 2, history.TookOver: 3, history.Healed: 4, history.Lost: 5, history.Forced: 6}

// encoder makes the events compact: texts are numbers of a table, which comes last, times are
// from the first one on, and zeros at the end of a row are left out.
type encoder struct {
	b     []byte
	texts []string
	known map[string]int64
	zeros int
	base  int64
	users map[int]bool
}

// encode is the data of the script: JSON in which nothing can end the element around it.
func encode(databases []Database) string {
	e := &encoder{known: map[string]int64{"": 0}, texts: []string{""}, users: map[int]bool{}}
	first := true
	for _, db := range databases {
		for i := range db.Events {
			if t := timesOf(&db.Events[i]).begin(); first || t < e.base {
				e.base, first = t, false
			}
		}
	}
	e.b = append(e.b, `{"base":`...)
	e.b = strconv.AppendInt(e.b, e.base, 10)
	e.b = append(e.b, `,"rows":[`...)
	rows := len(e.b)
	for n, db := range databases {
		for i := range db.Events {
			if kind, ok := kinds[db.Events[i].Kind]; ok {
				if len(e.b) > rows {
					e.b = append(e.b, ',', '\n')
				}
				e.row(int64(n), kind, &db.Events[i])
			}
		}
	}
	e.b = append(e.b, `],"texts":`...)
	e.json(e.texts)
	e.b = append(e.b, `,"databases":`...)
	e.json(append([]string{}, names(databases)...))
	e.b = append(e.b, `,"users":`...)
	e.json(e.names())
	return string(append(e.b, '}'))
}

// json appends a value with what could be markup escaped.
func (e *encoder) json(v any) {
	b, _ := json.Marshal(v) // texts always can
	e.b = append(e.b, b...)
}

func (e *encoder) row(db, kind int64, ev *history.Event) {
	t := timesOf(ev)
	var flags int64
	if ev.Shared {
		flags = 1
	}
	switch ev.Priority {
	case "low":
		flags |= 2
	case "high":
		flags |= 4
	}
	e.b, e.zeros = append(e.b, '['), 0
	for i, n := range [...]int64{
		kind, db, t.at - e.base, e.time(t.requested), e.time(t.acquired), e.time(t.released), flags,
		e.text(ev.Process), e.text(ev.Command), e.text(ev.Info), e.text(ev.Host), int64(ev.PID), e.user(ev.UID), ev.Token,
	} {
		e.number(n, i == 0)
	}
	e.millis(ev.Waited)
	e.millis(ev.Held)
	for _, n := range [...]int64{e.text(string(ev.Ended)), int64(ev.Code), int64(ev.Signal), int64(ev.Heals), int64(ev.Ahead)} {
		e.number(n, false)
	}
	if ev.By == nil {
		e.number(0, false)
	} else {
		e.party(ev.By)
		e.b = append(e.b, ']')
	}
	for i := range ev.Blockers {
		e.party(&ev.Blockers[i].Party)
		e.b = append(e.b, ',')
		e.b = strconv.AppendFloat(e.b, millis(ev.Blockers[i].For), 'f', -1, 64)
		e.b = append(e.b, ']')
	}
	e.b = append(e.b, ']')
}

// time is one in the data: from the base on, -1 if it is not known.
func (e *encoder) time(ms int64) int64 {
	if ms < 0 {
		return -1
	}
	return ms - e.base
}

// party begins an array, whose end is the caller's.
func (e *encoder) party(p *history.Party) {
	e.comma(true)
	e.b = append(e.b, '[')
	for i, n := range [...]int64{int64(p.PID), e.user(p.UID), e.text(p.Process), e.text(p.Command), p.Token} {
		if i > 0 {
			e.b = append(e.b, ',')
		}
		e.b = strconv.AppendInt(e.b, n, 10)
	}
}

// comma goes before a value, after the zeros that were left out so far.
func (e *encoder) comma(needed bool) {
	for ; e.zeros > 0; e.zeros-- {
		e.b = append(e.b, ',', '0')
	}
	if needed {
		e.b = append(e.b, ',')
	}
}

func (e *encoder) number(n int64, first bool) {
	if n == 0 && !first {
		e.zeros++
		return
	}
	e.comma(!first)
	e.b = strconv.AppendInt(e.b, n, 10)
}

func (e *encoder) millis(d time.Duration) {
	if d == 0 {
		e.zeros++
		return
	}
	e.comma(true)
	e.b = strconv.AppendFloat(e.b, millis(d), 'f', -1, 64)
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (e *encoder) text(s string) int64 {
	s = term.Clean(s)
	n, ok := e.known[s]
	if !ok {
		n = int64(len(e.texts))
		e.known[s] = n
		e.texts = append(e.texts, s)
	}
	return n
}

func (e *encoder) user(uid int) int64 {
	if uid >= 0 {
		e.users[uid] = true
	}
	return int64(uid)
}

// names are those of the users that have one here.
func (e *encoder) names() map[string]string {
	all := map[string]string{}
	for uid := range e.users {
		if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
			all[u.Uid] = u.Username
		}
	}
	return all
}
