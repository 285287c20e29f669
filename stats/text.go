package stats

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/history/summary"
	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/term"
)

// page is what people see.
type page struct {
	width int
	utf8  bool
	color bool
	out   *bufio.Writer
}

func newPage() *page {
	p := &page{width: 80, utf8: term.UTF8(), color: term.Color(os.Stdout)}
	if term.Live(os.Stdout) {
		p.width = max(30, term.Width(os.Stdout))
	}
	return p
}

func (p *page) write(out io.Writer, all []summarised) error {
	p.out = bufio.NewWriter(out)
	for i := range all {
		if i > 0 {
			p.say("\n")
		}
		p.summary(&all[i])
	}
	return p.out.Flush()
}

func (p *page) say(text string) { _, _ = p.out.WriteString(text) }

// head is the title of what follows.
func (p *page) head(text string) {
	if p.color {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	p.say("\n" + text + "\n")
}

func (p *page) field(name, text string) {
	p.say(term.Wrap(fmt.Sprintf("  %-9s", name), text, "           ", p.width))
}

func (p *page) summary(s *summarised) {
	from, to := s.Span()
	name := term.ShortenPath(term.Path(s.name), p.width)
	if p.color {
		name = "\x1b[1m" + name + "\x1b[0m"
	}
	p.say(name + "\n")
	if s.Events == 0 {
		p.say("  Nothing has been recorded of it" + within(s) + ".\n")
		return
	}
	p.field("From", fmt.Sprintf("%s to %s (%s)", clock(from), clock(to), term.Ago(time.Duration(to-from)*time.Millisecond)))
	p.field("Acquired", acquired(&s.Counts))
	p.field("In use", used(s))
	if s.GaveUps() > 0 {
		p.field("Gave up", gaveUp(&s.Counts))
	}
	if trouble := trouble(&s.Counts); trouble != "" {
		p.field("Trouble", trouble)
	}
	if s.Acquisitions > 0 {
		p.say("\n")
		p.times(&s.Counts)
		p.histogram("Waits", &s.Wait, s.Known()-s.Waited)
		p.histogram("Holds", &s.Hold, 0)
	}
	p.groups(s)
	p.blamed(s.Blamed())
}

// within is the window, where something was looked for in vain.
func within(s *summarised) string {
	switch {
	case s.Since > 0 && s.Until > 0:
		return " between " + clock(s.Since) + " and " + clock(s.Until)
	case s.Since > 0:
		return " since " + clock(s.Since)
	case s.Until > 0:
		return " until " + clock(s.Until)
	}
	return ""
}

func clock(ms int64) string { return time.UnixMilli(ms).Format("2006-01-02 15:04") }

func acquired(c *summary.Counts) string {
	text := times(c.Acquisitions)
	if known := c.Known(); known > 0 {
		text += fmt.Sprintf(", %d had to wait (%s)", c.Waited, percent(float64(c.Waited)/float64(known)))
	}
	return text
}

func used(s *summarised) string {
	exclusive, shared := s.Use()
	text := percent(exclusive) + " exclusive"
	if s.Shared() > 0 {
		text += ", " + percent(shared) + " shared"
	}
	return text
}

func gaveUp(c *summary.Counts) string {
	var why []string
	for _, one := range []struct {
		ended history.Ended
		text  string
	}{
		{history.TimedOut, "timed out"},
		{history.Busy, "would not wait"},
		{history.Interrupted, "interrupted"},
		{history.Deadlocked, "in a deadlock"},
	} {
		if n := c.GaveUp[one.ended]; n > 0 {
			why = append(why, fmt.Sprintf("%d %s", n, one.text))
		}
	}
	return times(c.GaveUps()) + ": " + strings.Join(why, ", ")
}

// trouble is what did not go well, or empty.
func trouble(c *summary.Counts) string {
	var what []string
	for _, one := range []struct {
		n    int64
		text string
	}{
		{c.Failed, "with an exit code other than 0"},
		{c.Ended[history.Signaled], "ended by a signal"},
		{c.Ended[history.Late], "ended at the time limit"},
		{c.Killed, "killed while holding the lock"},
		{c.Lost, "lost"},
		{c.Forced, "removed by force"},
		{c.TookOver, "left behind by another program"},
		{c.Heals, "restored after somebody removed the lock file"},
	} {
		if one.n > 0 {
			what = append(what, fmt.Sprintf("%d %s", one.n, one.text))
		}
	}
	return strings.Join(what, ", ")
}

func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// percent is a share; one that is not nothing never looks like that.
func percent(f float64) string {
	switch {
	case f == 0:
		return "0 %"
	case f < 0.001:
		return "< 0.1 %"
	case f < 0.1:
		return fmt.Sprintf("%.1f %%", f*100)
	}
	return fmt.Sprintf("%.0f %%", f*100)
}

// short is a length of time in at most six characters.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "0"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", float64(d.Microseconds())/1000)
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	return term.Ago(d)
}

func (p *page) times(c *summary.Counts) {
	t := table{head: []string{"", "half", "90 %", "99 %", "longest"}}
	for _, row := range []struct {
		name string
		of   *summary.Distribution
	}{{"Waited", &c.Wait}, {"Held", &c.Hold}} {
		t.add(row.name, short(row.of.Quantile(.5)), short(row.of.Quantile(.9)), short(row.of.Quantile(.99)), short(row.of.Max))
	}
	p.table(&t)
}

// rough are the rows of a histogram, of those bounds that it counts by.
var rough = []struct {
	upTo time.Duration
	name string
}{
	{time.Millisecond, "1ms"}, {10 * time.Millisecond, "10ms"}, {100 * time.Millisecond, "0.1s"}, {time.Second, "1s"}, {10 * time.Second, "10s"},
	{time.Minute, "1m"}, {10 * time.Minute, "10m"}, {time.Hour, "1h"},
}

// histogram draws a bar for each power of ten; at once are those that did not wait.
func (p *page) histogram(title string, d *summary.Distribution, atOnce int64) {
	type row struct {
		name string
		n    int64
	}
	var rows []row
	if atOnce > 0 {
		rows = append(rows, row{"not at all", atOnce})
	}
	at := 0
	for i, r := range rough {
		n := int64(0)
		for ; at < len(summary.Bounds) && summary.Bounds[at] <= r.upTo; at++ {
			n += d.Counts[at]
		}
		if i == 0 {
			n -= atOnce
		}
		rows = append(rows, row{"up to " + r.name, n})
	}
	rows = append(rows, row{"longer", d.Counts[len(summary.Bounds)]})
	first, last := len(rows), -1
	most := int64(0)
	for i, r := range rows {
		if r.n > 0 {
			first, last, most = min(first, i), i, max(most, r.n)
		}
	}
	if last < 0 {
		return
	}
	p.head(title)
	digits := len(strconv.FormatInt(most, 10))
	columns := min(50, p.width-16-digits)
	for _, r := range rows[first : last+1] {
		p.say(strings.TrimRight(fmt.Sprintf("  %-11s %*d %s", r.name, digits, r.n, p.bar(r.n, most, columns)), " ") + "\n")
	}
}

// bar is n as a part of most, which is that many columns long.
func (p *page) bar(n, most int64, columns int) string {
	if n == 0 || columns <= 0 {
		return ""
	}
	eighths := max(1, int(float64(n)/float64(most)*float64(columns)*8))
	if !p.utf8 {
		return strings.Repeat("#", max(1, eighths/8))
	}
	bar := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		bar += string(rune('█' + 8 - rest)) // the narrower ones follow it
	}
	return bar
}

func (p *page) groups(s *summarised) {
	all := s.Groups()
	if len(all) == 0 {
		return
	}
	p.head(map[summary.By]string{summary.Process: "By process", summary.Command: "By command", summary.User: "By user", summary.Host: "By host"}[s.By])
	t := table{head: []string{"", "holds", "held", "half", "longest", "waited", "gave up"}}
	for _, g := range all {
		name := someone(s.called(g))
		if g.Others {
			name = "all others"
		}
		t.add(name, strconv.FormatInt(g.Acquisitions, 10), short(g.Hold.Sum), short(g.Hold.Quantile(.5)), short(g.Hold.Max), short(g.Wait.Sum), strconv.FormatInt(g.GaveUps(), 10))
	}
	p.table(&t)
}

func (p *page) blamed(all []*summary.Blame) {
	if len(all) == 0 {
		return
	}
	p.head("For whom others waited")
	t := table{head: []string{"", "waited", "times", "longest"}}
	if p.width >= 60 {
		t.tail = "who, and until when"
	}
	for _, b := range all {
		name := someone(b.Process)
		if b.Others {
			name = "all others"
		}
		t.add(name, short(b.Time), strconv.FormatInt(b.Times, 10), short(b.Worst.Waited))
		if t.tail != "" {
			w := &b.Worst
			t.tails = append(t.tails, fmt.Sprintf("%s (pid %d) %s", someone(w.Waiter.Process), w.Waiter.PID, time.UnixMilli(w.At).Format("01-02 15:04:05")))
		}
	}
	p.table(&t)
}

func someone(label string) string {
	if label == "" {
		return "nobody knows"
	}
	return term.Clean(label)
}

func userName(uid string) string {
	n, err := strconv.Atoi(uid)
	if err != nil {
		return uid
	}
	return cli.UserName(n)
}

// table is aligned: names at the left, numbers at the right. What does not fit is left out: of
// the tail what is too much of it, then columns from the right, of names their ends.
type table struct {
	head  []string
	rows  [][]string
	tail  string
	tails []string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

const (
	gap        = 2
	leastLabel = 10
)

func (p *page) table(t *table) {
	widths := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], term.Columns(cell))
		}
	}
	label := widths[0]
	numbers := func(n int) (all int) {
		for _, w := range widths[1:n] {
			all += gap + w
		}
		return all
	}
	n := len(t.head)
	for n > 2 && gap+min(label, leastLabel)+numbers(n) > p.width {
		n--
	}
	label = max(min(label, p.width-gap-numbers(n)), min(label, leastLabel))
	if t.tail != "" {
		label = min(label, 2*leastLabel) // who waited is as good to know
	}
	room := p.width - gap - label - numbers(n) - gap
	line := func(row []string, tail string) {
		name := term.Shorten(row[0], label)
		out := "  " + name + strings.Repeat(" ", max(0, label-term.Columns(name)))
		for i, cell := range row[1:n] {
			out += strings.Repeat(" ", gap+max(0, widths[i+1]-utf8.RuneCountInString(cell))) + cell
		}
		if tail != "" && room >= leastLabel {
			out += "  " + term.Shorten(tail, room)
		}
		p.say(strings.TrimRight(out, " ") + "\n")
	}
	line(t.head, t.tail)
	for i, row := range t.rows {
		tail := ""
		if i < len(t.tails) {
			tail = t.tails[i]
		}
		line(row, tail)
	}
}
