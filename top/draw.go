package top

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
)

// sheet is what is drawn on.
type sheet struct {
	width, height int
	now           time.Time
	utf8          bool
	dots          string // ellipsis
}

func newSheet(width, height int, now time.Time, utf8 bool) *sheet {
	s := &sheet{width: width, height: height, now: now, utf8: utf8, dots: "..."}
	if utf8 {
		s.dots = "…"
	}
	return s
}

// draw is the whole screen: exactly as many lines as it has. The first and the last say where
// one is and which keys there are; they go first where there is no room.
func (s *sheet) draw(m *model) []line {
	head, body, foot := s.page(m)
	if m.notice != "" {
		foot = text(bold, m.notice)
	}
	room := s.height
	var all []line
	if s.height > 3 {
		all, room = append(all, head), room-1
	}
	if s.height > 1 {
		room--
	}
	m.scroll = min(m.scroll, max(0, len(body)-room))
	body = body[m.scroll:]
	all = append(all, body[:min(len(body), room)]...)
	for len(all) < s.height-min(1, s.height-1) {
		all = append(all, line{})
	}
	if s.height > 1 {
		all = append(all, foot)
	}
	for i, l := range all {
		all[i] = s.clip(l)
	}
	return all
}

// clip cuts a line.
func (s *sheet) clip(l line) line {
	room := s.width
	var out []span
	for _, sp := range l.spans {
		if sp.text = s.cut(sp.text, room); sp.text == "" {
			break
		}
		out = append(out, sp)
		room -= columnsOf(sp.text)
	}
	return line{out, l.chosen}
}

// page is the title of a page, what is on it, and its keys.
func (s *sheet) page(m *model) (head line, body []line, foot line) {
	v := m.one()
	if v == nil && m.page != pageHelp {
		why := "Looking for locks."
		if m.looked {
			why = "No lock was found. It appears here when the first dblock has used it."
		}
		return text(bold, "dblock top"), s.wrap(plain, "", why, ""), s.keys("? help", "q quit")
	}
	switch m.page {
	case pageOne:
		return s.title(v.name), s.details(v, false), s.keys("f force", "l log", "esc back", "? help", "q quit")
	case pageLog:
		return s.title("History of " + v.name), s.log(v), s.keys("esc back", "? help", "q quit")
	case pageHelp:
		return text(bold, "dblock top"), s.help(), s.keys("esc back", "q quit")
	case pageForce:
		return s.title("Force " + m.forcing.name), s.question(m.forcing), s.prompt(m.forcing)
	}
	return s.summary(m), s.list(m), s.keys("enter open", "l log", "f force", "s sort", "? help", "q quit")
}

func (s *sheet) title(name string) line {
	return text(bold, s.cut(name, s.width))
}

// keys lists as many as fit.
func (s *sheet) keys(keys ...string) line {
	l := line{}
	for i, k := range keys {
		between := ""
		if i > 0 {
			between = "  "
		}
		if next := l.and(dim, between, k); next.columns() <= s.width {
			l = next
		}
	}
	return l
}

// summary is the first line of the list.
func (s *sheet) summary(m *model) line {
	held, waiting := 0, 0
	for _, v := range m.views {
		if v.held() {
			held++
		}
		if v.report != nil {
			waiting += len(v.report.Waiters)
		}
	}
	l := text(bold, "dblock top").and(plain, fmt.Sprintf("  %d of %d held, %d waiting", held, len(m.views), waiting))
	right := "by " + string(m.order)
	if free := s.width - l.columns() - len(right); free >= 2 {
		l = l.and(dim, strings.Repeat(" ", free), right)
	}
	return l
}

// list is the table of locks, and below it as much of the chosen one as there is room for.
func (s *sheet) list(m *model) []line {
	room := s.height - 2
	if s.height <= 3 { // as draw has it
		room = max(1, s.height-1)
	}
	rows := min(len(m.views), max(1, room-1))
	if s.height >= 10 {
		rows = min(len(m.views), max(3, room/2-1)) // half of it is for the chosen one
	}
	first := min(max(0, m.at()-rows/2), len(m.views)-rows)
	c := s.widths(m)
	var all []line
	if room > 1 {
		all = append(all, s.header(c))
	}
	for _, v := range m.views[first : first+rows] {
		all = append(all, s.row(c, v, v == m.one()))
	}
	rest := room - len(all) - 1
	if rest < 2 {
		return all
	}
	all = append(all, text(dim, strings.Repeat(s.rule(), s.width)))
	details := s.details(m.one(), true)
	if len(details) > rest {
		details = append(details[:rest-1:rest-1], text(dim, "  "+s.dots))
	}
	return append(all, details...)
}

func (s *sheet) rule() string {
	if s.utf8 {
		return "─"
	}
	return "-"
}

// columns are how wide those of the table are; 0 is not there.
type columns struct{ name, state, age, waits, holder, spark int }

// widths gives room to what says most: a name at first, then the state, the age, who waits.
func (s *sheet) widths(m *model) (c columns) {
	name := 8
	for _, v := range m.views {
		name = max(name, columnsOf(v.name))
	}
	rest := s.width - 2
	give := func(to *int, columns int, from int) {
		if s.width >= from {
			*to, rest = columns, rest-1-columns
		}
	}
	give(&c.state, 8, 20)
	give(&c.age, 7, 28)
	if s.width < 60 {
		give(&c.waits, 4, 34)
		c.name = min(name, rest)
		return c
	}
	give(&c.waits, 9, 0)
	give(&c.spark, min(30, s.width/8), 0)
	c.name = min(name, rest/2)
	c.holder = rest - 1 - c.name
	return c
}

// cells joins what is in the columns that are there.
func (s *sheet) cells(c columns, name, state, age, waits, holder string, of look) line {
	l := text(plain, s.padPath(name, c.name))
	add := func(of look, columns int, t string) {
		if columns > 0 {
			l = l.and(of, " ", t)
		}
	}
	add(of, c.state, s.pad(state, c.state))
	add(plain, c.age, s.right(age, c.age))
	if c.waits > 5 {
		add(plain, c.waits, s.pad(" "+waits, c.waits))
	} else {
		add(plain, c.waits, s.right(waits, c.waits))
	}
	add(plain, c.holder, s.pad(holder, c.holder))
	return l
}

func (s *sheet) header(c columns) line {
	waits := "WAITING"
	if c.waits < len(waits) {
		waits = "WAIT"
	}
	l := text(dim, "  ", s.cells(c, "DATABASE", "STATE", "FOR", waits, "HOLDER", plain).String())
	if c.spark > 0 {
		l = l.and(dim, " ", s.pad("10 MIN", c.spark))
	}
	return l
}

func (s *sheet) row(c columns, v *view, chosen bool) line {
	mark := "  "
	if chosen {
		mark = "> "
	}
	state, of := v.state()
	age, waits := "", ""
	if v.report != nil {
		if v.report.Holder != nil || v.report.State == lock.StateInvalid {
			age = term.Ago(v.since(v.report.Age, s.now))
		}
		if n := len(v.report.Waiters); n > 0 {
			waits = strconv.Itoa(n)
			if c.waits > 5 {
				waits = s.right(waits, 2) + " " + term.Ago(v.since(oldest(v.report.Waiters), s.now))
			}
		}
	}
	cells := s.cells(c, v.name, state, age, waits, holderName(v), of)
	l := line{append([]span{{mark, plain}}, cells.spans...), chosen}
	if c.spark > 0 {
		m := v.past.minutes(v.report, v.at, s.now)
		l = l.and(dim, " ", s.spark(m.held[:], 1, c.spark))
	}
	return l
}

// padPath is pad for paths, whose beginnings say least.
func (s *sheet) padPath(path string, columns int) string {
	if columnsOf(path) > columns {
		path = term.ShortenPath(path, columns)
	}
	return s.pad(path, columns)
}

// state is the word for a lock's state, and how it is drawn.
func (v *view) state() (string, look) {
	switch r := v.report; {
	case r == nil:
		return "unknown", yellow
	case r.State == lock.StateFree && len(r.Waiters)+len(r.Stopped) > 0:
		return "blocked", yellow
	case r.State == lock.StateFree:
		return "free", green
	case r.State == lock.StateStale, r.State == lock.StateInvalid:
		return string(r.State), yellow
	default:
		return string(r.State), red
	}
}

// holderName is who has a lock, or why nobody knows.
func holderName(v *view) string {
	r := v.report
	switch {
	case r == nil:
		return why(v.err)
	case r.State == lock.StateOrphaned && len(r.Left) > 0:
		return cli.NamesOf(r.Left)
	case len(r.Owners) > 0:
		return cli.NamesOf(r.Owners)
	case r.State == lock.StateFree && len(r.Stopped) > 0:
		return "stopped: " + cli.NamesOf(r.Stopped)
	case r.Holder == nil:
		return term.Path(r.Evidence)
	case len(r.Readers) > 1:
		return fmt.Sprintf("%d readers", len(r.Readers))
	}
	return who(r.Holder)
}

// why words the error of a look.
func why(err error) string {
	_, what, ok := strings.Cut(err.Error(), ": ")
	if !ok {
		what = err.Error()
	}
	return term.Path(what)
}

// who names a holder, and where he is if that is elsewhere.
func who(h *lock.Holder) string {
	label := term.Clean(h.Process)
	if label == "" {
		label = "somebody"
	}
	at := ""
	if h.PID != 0 {
		at = " (pid " + strconv.Itoa(h.PID) + ")"
	}
	if host, _ := os.Hostname(); h.Host != host {
		at += " on " + term.Clean(h.Host)
	}
	return label + at
}

// details is all that there is to say about a lock; brief is below a list.
func (s *sheet) details(v *view, brief bool) (all []line) {
	state, of := v.state()
	r := v.report
	if r == nil {
		return append([]line{text(of, state)}, s.wrap(plain, "", term.Path(v.err.Error()), "")...)
	}
	first := text(of, state)
	if r.Holder != nil {
		first = first.and(plain, "  ", holderName(v)).and(bold, "  "+term.Ago(v.since(r.Age, s.now)))
	} else if name := holderName(v); name != "" {
		first = first.and(plain, "  ", name)
	}
	all = append(all, first)
	all = append(all, s.circumstances(v)...)
	if n := len(r.Readers); n > 1 {
		all = append(all, text(bold, "Readers: ", strconv.Itoa(n)))
		for _, p := range r.Readers {
			all = append(all, text(plain, "  ", s.right(term.Ago(v.since(p.Age, s.now)), 6), "  ", process(p, false)))
		}
	}
	all = append(all, s.waiters(v)...)
	m := v.past.minutes(r, v.at, s.now)
	most := s.height / 4
	if !brief { // as many as there is room for
		most = max(3, s.height-2-len(all)-5)
	}
	last := v.past.last(most, func(e *history.Event) bool { return e.Kind == history.Hold || e.Kind == history.Killed })
	if brief && r.State == lock.StateFree && len(last) > 0 {
		return append(all, append(s.holds(last), s.minutes(m)...)...)
	}
	return append(all, append(s.minutes(m), s.holds(last)...)...)
}

// circumstances is what the holder runs, and what is unusual.
func (s *sheet) circumstances(v *view) (all []line) {
	r := v.report
	field := func(name, format string, args ...any) {
		all = append(all, s.wrap(plain, "  "+name+": ", fmt.Sprintf(format, args...), "    ")...)
	}
	for _, w := range v.running {
		field("Runs", "%s", runs(w))
	}
	if len(v.running) == 0 && r.Holder != nil && r.Holder.Command != "" && r.State != lock.StateOrphaned {
		field("Runs", "%s", term.Clean(r.Holder.Command))
	}
	if h := r.Holder; h != nil && h.Info != "" {
		field("Info", "%s", term.Clean(h.Info))
	}
	switch r.State {
	case lock.StateStale, lock.StateOrphaned, lock.StateInvalid:
		if r.Evidence != "" && r.Holder != nil {
			field("Evidence", "%s", term.Path(r.Evidence))
		}
	}
	if len(r.Remaining) > 0 {
		field("Still running", "%s; the command has ended", cli.NamesOf(r.Remaining))
	}
	if len(r.Stopped) > 0 {
		field("Stopped", "%s. Others may wait in vain", cli.NamesOf(r.Stopped))
	}
	if r.Barred != nil {
		field("Closed to you", "%s", term.Path(r.Barred.Error()))
	}
	return all
}

// runs describes what works under the lock.
func runs(w lock.Running) string {
	t := term.Clean(w.Process.Command)
	if len(w.Args) > 0 {
		var words []string
		for _, arg := range w.Args {
			words = append(words, cli.Quote(arg))
		}
		t = term.Clean(strings.Join(words, " "))
	}
	t += " (pid " + strconv.Itoa(w.Process.PID) + ")"
	if w.Process.Stopped {
		t += ", stopped"
	}
	if w.Dir != "" {
		t += ", in " + term.Path(w.Dir)
	}
	return t
}

// waiters is the queue, in the order in which they will go.
func (s *sheet) waiters(v *view) (all []line) {
	r := v.report
	if !r.WaitersKnown && r.Barred == nil {
		return []line{text(plain, "This system does not tell who waits.")}
	}
	if len(r.Waiters) == 0 {
		return nil
	}
	all = append(all, text(bold, "Waiting: ", strconv.Itoa(len(r.Waiters))))
	ends := slices.ContainsFunc(r.Waiters, func(p lock.Process) bool { return p.Host == "" && !v.deadlines[p.PID].IsZero() })
	for i, p := range r.Waiters {
		l := text(plain, s.right(strconv.Itoa(i+1), 3), s.right(term.Ago(v.since(p.Age, s.now)), 7), "  ")
		if at := v.deadlines[p.PID]; p.Host == "" && !at.IsZero() {
			l = l.and(dim, s.right(term.Ago(max(0, at.Sub(s.now)))+" left", 11), "  ")
		} else if ends {
			l = l.and(dim, s.right("for ever", 11), "  ")
		}
		all = append(all, l.and(plain, process(p, true)))
	}
	return all
}

// process describes one that reads or waits.
func process(p lock.Process, waits bool) string {
	var parts []string
	if p.Process != "" {
		parts = append(parts, term.Clean(p.Process)+" ("+cli.PID(p)+")")
	} else {
		parts = append(parts, cli.Name(lock.Process{PID: p.PID, Host: p.Host, Command: p.Command}))
	}
	if p.Process != "" && p.Command != "" {
		parts = append(parts, term.Clean(p.Command))
	}
	if p.Stopped {
		parts = append(parts, "stopped")
	}
	if waits && p.Mode == lock.Shared {
		parts = append(parts, "shared")
	}
	if waits && p.Priority != lock.Normal {
		parts = append(parts, p.Priority.String()+" priority")
	}
	if p.Info != "" {
		parts = append(parts, `"`+term.Clean(p.Info)+`"`)
	}
	return strings.Join(parts, ", ")
}

// minutes draws the last minutes.
func (s *sheet) minutes(m minutes) []line {
	columns := 30
	switch {
	case s.width >= 100:
		columns = pieces
	case s.width < 60:
		columns = 12
	}
	row := func(name string, values []float64, most float64, says string) line {
		return text(plain, "  ", s.pad(name, 10), " ").and(dim, s.spark(values, most, columns)).and(plain, "  ", says)
	}
	worst, contended := "nobody waited", ""
	if m.worst > 0 {
		worst = "up to " + short(m.worst)
	}
	if m.came > 0 {
		contended = fmt.Sprintf("%d of %d", m.waited, m.came)
		if s.width >= 60 {
			contended += " had to wait"
		}
	}
	most := 0.0
	for _, v := range m.longest {
		most = max(most, v)
	}
	return []line{
		text(bold, "Last 10 minutes"),
		row("held", m.held[:], 1, percent(m.busy)),
		row("waits", m.longest[:], most, worst),
		row("contention", m.contended[:], 1, contended),
	}
}

func percent(share float64) string {
	if share > 0 && share < 0.01 {
		return "under 1 %"
	}
	return fmt.Sprintf("%.0f %%", 100*share)
}

func (s *sheet) holds(last []*history.Event) (all []line) {
	if len(last) == 0 {
		return nil
	}
	all = append(all, text(bold, "Last holds"))
	for _, e := range last {
		of, when := s.event(e)
		all = append(all, text(of, s.cut(when+tells(e), s.width)))
	}
	return all
}

// log is the history as far as it is known here, the last event first.
func (s *sheet) log(v *view) (all []line) {
	for _, e := range v.past.last(len(v.past.events), func(*history.Event) bool { return true }) {
		of, when := s.event(e)
		all = append(all, s.wrap(of, when, cli.Event(e), strings.Repeat(" ", len(when)))...)
	}
	if len(all) == 0 {
		return s.wrap(plain, "", "Nothing is known of what happened here.", "")
	}
	return all
}

// event is how an event is drawn, and what stands before its words.
func (s *sheet) event(e *history.Event) (of look, when string) {
	at := time.UnixMilli(e.At)
	when = at.Format(time.TimeOnly)
	if s.now.Sub(at) > 12*time.Hour {
		when = at.Format("02 Jan  ")
	}
	switch {
	case e.Kind == history.Lost, e.Kind == history.Forced, e.Kind == history.Killed, e.Ended == history.LostIt:
		of = red
	case e.Kind != history.Hold:
		of = yellow
	}
	return of, "  " + when + "  "
}

// tells words a hold in one line.
func tells(e *history.Event) string {
	t := party(&history.Party{PID: e.PID, Process: e.Process, Command: e.Command}) + " held it for " + short(e.Held)
	if e.Kind == history.Killed {
		return t + ", and was killed"
	}
	if e.Shared {
		t += ", shared"
	}
	if e.Waited > 0 {
		t += ", waited " + short(e.Waited)
		if len(e.Blockers) > 0 {
			b := &e.Blockers[0].Party
			t += " for " + cmp.Or(term.Clean(b.Process), party(b))
		}
	}
	switch {
	case e.Ended == history.LostIt:
		t += ", and lost it"
	case e.Ended == history.Late:
		t += ", and was ended: its time was up"
	case e.Ended == history.Signaled:
		t += ", and was ended by " + cmp.Or(unix.SignalName(unix.Signal(e.Signal)), "signal "+strconv.Itoa(e.Signal))
	case e.Ended == history.Exited && e.Code != 0:
		t += ", exit code " + strconv.Itoa(e.Code)
	}
	return t
}

// party is somebody by his label, or else his command.
func party(p *history.Party) string {
	name := cmp.Or(term.Clean(p.Process), term.Clean(p.Command))
	if name == "" {
		return "pid " + strconv.Itoa(p.PID)
	}
	return fmt.Sprintf("%s (pid %d)", name, p.PID)
}

// short is a length of time, however short.
func short(d time.Duration) string {
	if d < 100*time.Millisecond {
		return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
	}
	return term.Ago(d)
}

func (s *sheet) help() (all []line) {
	for _, k := range [][2]string{
		{"up, down, j, k", "choose another lock, or move the page"},
		{"enter", "open it"},
		{"esc", "go back"},
		{"s", "sort by name, age, waits"},
		{"l", "show what happened to it"},
		{"f", "remove it by force, after a question"},
		{"r", "look for new locks now"},
		{"ctrl-l", "draw the screen anew"},
		{"ctrl-z", "go to the background"},
		{"q, ctrl-c", "quit"},
	} {
		if s.width < 40 {
			all = append(all, text(bold, k[0]), text(plain, "  ", k[1]))
			continue
		}
		all = append(all, s.wrap(plain, s.pad(k[0], 16), k[1], strings.Repeat(" ", 16))...)
	}
	all = append(all, line{})
	return append(all, s.wrap(plain, "", "The picture of 10 minutes shows which part of the time the lock was held.", "")...)
}

// question is what is asked before a lock is forced, or how that goes on.
func (s *sheet) question(f *forcing) (all []line) {
	if f.question == "" && len(f.steps) == 0 {
		return []line{text(plain, "Looking who has it.")}
	}
	for l := range strings.Lines(f.question) {
		indent := ""
		if strings.HasPrefix(l, " ") {
			indent = "  "
		}
		all = append(all, s.wrap(plain, indent, l, indent+"  ")...)
	}
	for _, step := range f.steps {
		all = append(all, s.wrap(bold, "", step, "  ")...)
	}
	return all
}

func (s *sheet) prompt(f *forcing) line {
	switch {
	case f.over:
		return s.keys("esc back", "q quit")
	case f.answer != nil:
		return text(bold, "Go on? [y/N]")
	}
	return s.keys("esc back")
}
