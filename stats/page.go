package stats

import (
	"fmt"
	"io"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/history/summary"
	"github.com/dblock-dev/dblock/internal/term"
)

// page is what people see.
type page struct {
	out   io.Writer
	width int
	bar   string
	bold  bool
}

func newPage(out io.Writer, f *os.File) *page {
	p := &page{out: out, width: 100, bar: "#"}
	if term.UTF8() {
		p.bar = "▇"
	}
	if term.Is(f) {
		p.width, p.bold = term.Width(f), term.Color(f)
	}
	return p
}

func (p *page) line(format string, args ...any) {
	fmt.Fprintln(p.out, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

func (p *page) title(text string) {
	if p.bold {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	p.line("\n%s", text)
}

// field is a line with its name, broken where the terminal ends.
func (p *page) field(name, text string) {
	_, _ = io.WriteString(p.out, term.Wrap(fmt.Sprintf("  %-9s ", name), text, strings.Repeat(" ", 12), p.width))
}

// most is how many rows a table shows.
const most = 12

func (p *page) show(names []string, c *Command, s *summary.Summary) {
	shown := make([]string, len(names))
	for i, n := range names {
		shown[i] = term.Path(n)
	}
	_, _ = io.WriteString(p.out, term.Wrap("", list(shown), "", p.width))
	if s.Events == 0 {
		p.line("Nothing has been recorded.")
		return
	}
	first, last := time.UnixMilli(s.First), time.UnixMilli(s.Last)
	end := last.Format(time.DateTime)
	if first.Format(time.DateOnly) == last.Format(time.DateOnly) {
		end = last.Format(time.TimeOnly)
	}
	_, _ = io.WriteString(p.out, term.Wrap("", fmt.Sprintf("%s to %s (%s)", first.Format(time.DateTime), end, short(last.Sub(first))), "", p.width))
	p.line("")
	t := &s.Total
	p.field("Acquired", acquired(t))
	if t.Waited > 0 {
		p.field("Wait", spread(&t.Wait)+", of those that waited")
	}
	if t.Acquired > 0 {
		p.field("Hold", spread(&t.Hold))
		p.field("In use", fmt.Sprintf("%.1f %% of the time", 100*s.Use))
	}
	if text := gaveUp(t); text != "" {
		p.field("Gave up", text)
	}
	if text := trouble(t); text != "" {
		p.field("Trouble", text)
	}
	if t.Waited > 0 {
		p.histogram("How long they waited", &t.Wait)
	}
	if t.Acquired > 0 {
		p.histogram("How long they held it", &t.Hold)
	}
	p.blame(s.Blame)
	p.groups(c.By, s.Groups)
}

func acquired(f *summary.Figures) string {
	text := plural(f.Acquired, "time")
	if f.Acquired > 0 {
		text += fmt.Sprintf("; %d had to wait (%.0f %%)", f.Waited, 100*float64(f.Waited)/float64(f.Acquired))
	}
	if f.Shared > 0 {
		text += fmt.Sprintf("; %d shared it", f.Shared)
	}
	return text
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func spread(s *summary.Spread) string {
	return fmt.Sprintf("p50 %s, p90 %s, p99 %s, max %s", short(s.Quantile(0.5)), short(s.Quantile(0.9)), short(s.Quantile(0.99)), short(s.Max))
}

func gaveUp(f *summary.Figures) string {
	var parts []string
	for _, r := range []struct {
		ended history.Ended
		words string
	}{{history.TimedOut, "in time"}, {history.Busy, "at once"}, {history.Interrupted, "interrupted"}, {history.Deadlocked, "in a deadlock"}} {
		if n := f.GaveUp[r.ended]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, r.words))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return fmt.Sprintf("%s (%s)", plural(f.GaveUps(), "time"), strings.Join(parts, ", "))
}

func trouble(f *summary.Figures) string {
	var parts []string
	for _, r := range []struct {
		n     int
		words string
	}{
		{f.Lost, "lost"}, {f.Killed, "killed"}, {f.Forced, "removed by force"}, {f.Late, "ended by a time limit"}, {f.Took, "taken over from other programs"},
		{f.Healed, "lock files put back"}, {f.Failed, "commands failed"},
	} {
		if r.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", r.n, r.words))
		}
	}
	return strings.Join(parts, ", ")
}

// steps are where the bars of a histogram end.
var steps = []time.Duration{
	time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond,
	time.Second, 3 * time.Second, 10 * time.Second, 30 * time.Second, 100 * time.Second, 5 * time.Minute, 15 * time.Minute, time.Hour, 4 * time.Hour,
}

func (p *page) histogram(title string, s *summary.Spread) {
	var counts []int
	before := 0
	for _, step := range steps {
		below := s.Below(step)
		counts = append(counts, below-before)
		before = below
	}
	counts = append(counts, s.Count-before)
	from := slices.IndexFunc(counts, func(n int) bool { return n > 0 })
	to := len(counts)
	for to > from+1 && counts[to-1] == 0 {
		to--
	}
	p.title(title)
	room := max(8, min(50, p.width-24))
	largest := slices.Max(counts)
	for i := from; i < to; i++ {
		label := "longer"
		if i < len(steps) {
			label = "to " + short(steps[i])
		}
		bar := strings.Repeat(p.bar, (counts[i]*room+largest-1)/largest)
		p.line("  %9s  %s %d", label, bar, counts[i])
	}
}

func (p *page) blame(blame []summary.Blamed) {
	if len(blame) == 0 {
		return
	}
	p.title("Who was waited for")
	rows := [][]string{{"holder", "waited for", "times", "worst", ""}}
	for _, b := range blame[:min(len(blame), most)] {
		at := time.UnixMilli(b.Worst.At).Format("2 Jan 15:04")
		rows = append(rows, []string{term.Clean(b.Holder), short(b.For), fmt.Sprint(b.Times), short(b.Worst.For), fmt.Sprintf("%s, %s (pid %d)", at, term.Clean(b.Worst.Waiter), b.Worst.PID)})
	}
	p.table(rows, 1, 4)
	p.more(len(blame))
}

func (p *page) more(n int) {
	if n > most {
		p.line("  and %d more", n-most)
	}
}

func (p *page) groups(key by, groups []summary.Group) {
	if key == "" || len(groups) == 0 {
		return
	}
	p.title("By " + string(key))
	rows := [][]string{{string(key), "acquired", "held", "hold p50", "max", "waited", "wait p50", "max", "gave up", "failed"}}
	for i := range groups[:min(len(groups), most)] {
		g := &groups[i]
		row := []string{term.Clean(g.Name), fmt.Sprint(g.Acquired), short(g.Busy), short(g.Hold.Quantile(0.5)), short(g.Hold.Max), fmt.Sprint(g.Waited), "", "", fmt.Sprint(g.GaveUps()), fmt.Sprint(g.Failed)}
		if g.Waited > 0 {
			row[6], row[7] = short(g.Wait.Quantile(0.5)), short(g.Wait.Max)
		}
		if g.Acquired == 0 {
			row[2], row[3], row[4] = "", "", ""
		}
		rows = append(rows, row)
	}
	p.table(rows, 1, len(rows[0]))
	p.more(len(groups))
}

// table aligns rows, the first of which are the names of the columns. Columns from the first
// to the last number are aligned to the right. What does not fit is left out from the last column on, and
// the first one is cut.
func (p *page) table(rows [][]string, numbers, texts int) {
	const gap, name = 2, 12
	columns := len(rows[0])
	widths := make([]int, columns)
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], term.Columns(cell))
		}
	}
	sum := func() (n int) {
		n = gap + widths[0]
		for _, w := range widths[1:columns] {
			n += gap + w
		}
		return n
	}
	for columns > 2 && sum()-max(0, widths[0]-name) > p.width {
		columns--
	}
	widths[0] = max(min(widths[0], name), widths[0]-max(0, sum()-p.width))
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row[:columns] {
			if i == 0 {
				cell = term.Shorten(cell, widths[0])
			}
			pad := strings.Repeat(" ", max(0, widths[i]-term.Columns(cell)))
			b.WriteString(strings.Repeat(" ", gap))
			if i >= numbers && i < texts {
				b.WriteString(pad + cell)
			} else {
				b.WriteString(cell + pad)
			}
		}
		p.line("%s", b.String())
	}
}

// short renders a length of time that can be one of microseconds.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(d.Microseconds())/1000), ".0") + "ms"
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	return term.Ago(d)
}

// userName is a user's name, of the number.
func userName(uid string) string {
	if uid == "-1" {
		return "unknown"
	}
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}
