package stats

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/history/summary"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
)

// other is the label of all that are not told apart: each label is a time series for ever.
const other = "other"

// measured is what metrics say of a database.
type measured struct {
	database string
	labels   []string // of processes, sorted
	counts   map[string]*summary.Counts
	report   *lock.Report // nil if only its history is known
}

func (c *Command) metrics(sources []source) error {
	all, err := c.summarise(sources, summary.Process)
	if err != nil {
		return err
	}
	var list []measured
	for i := range all {
		m, err := measure(&all[i])
		if err != nil {
			return err
		}
		list = append(list, m)
	}
	var text bytes.Buffer
	out := &exposition{Writer: bufio.NewWriter(&text)}
	out.write(list)
	if err := out.Flush(); err != nil {
		return err
	}
	return write(cmp.Or(c.Output, "-"), 0o644, func(w io.Writer) error {
		_, err := w.Write(text.Bytes())
		return err
	})
}

func measure(s *summarised) (m measured, err error) {
	m = measured{database: s.name, counts: map[string]*summary.Counts{}}
	if s.file == nil {
		if !lock.IsURL(s.name) {
			if m.database, err = filepath.Abs(s.name); err != nil {
				return m, err
			}
		}
		if m.report, err = lock.Inspect(s.database, lock.Options{LockFile: s.lockFile}); err != nil {
			return m, err
		}
	}
	for _, g := range s.Groups() {
		label := g.Name
		if g.Others {
			label = other
		}
		if have := m.counts[label]; have != nil { // somebody calls himself that
			have.Merge(&g.Counts)
			continue
		}
		m.counts[label] = &g.Counts
		m.labels = append(m.labels, label)
	}
	slices.Sort(m.labels)
	return m, nil
}

// exposition is the text format of Prometheus, in which all samples of one name stand together.
type exposition struct{ *bufio.Writer }

func (x *exposition) family(name, kind, help string) {
	_, _ = x.WriteString("# HELP " + name + " " + help + "\n# TYPE " + name + " " + kind + "\n")
}

// sample writes one; labels are names and values in turn.
func (x *exposition) sample(name string, value float64, labels ...string) {
	_, _ = x.WriteString(name)
	for i := 0; i < len(labels); i += 2 {
		_ = x.WriteByte("{,"[min(i, 1)])
		_, _ = x.WriteString(labels[i] + `="` + escapeLabel.Replace(visible(labels[i+1])) + `"`)
	}
	_, _ = x.WriteString("} " + strconv.FormatFloat(value, 'f', -1, 64) + "\n")
}

var escapeLabel = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// visible writes what cannot be shown as Go does, like \xff. Labels are anybody's text, and a
// byte that is no UTF-8 would make the whole file invalid.
func visible(label string) string {
	if term.Path(label) == label {
		return label
	}
	var b strings.Builder
	for i, r := range label {
		switch _, size := utf8.DecodeRuneInString(label[i:]); {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, label[i])
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

func (x *exposition) write(all []measured) {
	each := func(do func(c *summary.Counts, labels ...string)) {
		for _, m := range all {
			for _, label := range m.labels {
				do(m.counts[label], "database", m.database, "process", label)
			}
		}
	}
	x.family("dblock_acquisitions_total", "counter", "Holds that are over, by how they ended.")
	each(func(c *summary.Counts, labels ...string) {
		for _, one := range outcomes(c) {
			if one.n > 0 {
				x.sample("dblock_acquisitions_total", float64(one.n), append(labels, "outcome", one.name)...)
			}
		}
	})
	x.family("dblock_give_ups_total", "counter", "Waits that ended without the lock, by why.")
	each(func(c *summary.Counts, labels ...string) {
		for _, why := range []history.Ended{history.TimedOut, history.Busy, history.Interrupted, history.Deadlocked} {
			if n := c.GaveUp[why]; n > 0 {
				x.sample("dblock_give_ups_total", float64(n), append(labels, "reason", string(why))...)
			}
		}
	})
	x.family("dblock_lost_total", "counter", "Holds that somebody else took.")
	each(func(c *summary.Counts, labels ...string) { x.sample("dblock_lost_total", float64(c.Lost), labels...) })
	x.family("dblock_wait_seconds", "histogram", "How long holds had waited for the lock.")
	each(func(c *summary.Counts, labels ...string) { x.histogram("dblock_wait_seconds", &c.Wait, labels) })
	x.family("dblock_hold_seconds", "histogram", "How long holds lasted.")
	each(func(c *summary.Counts, labels ...string) { x.histogram("dblock_hold_seconds", &c.Hold, labels) })
	x.now(all)
}

// now is what is known of databases, and not of histories alone.
func (x *exposition) now(all []measured) {
	all = slices.DeleteFunc(slices.Clone(all), func(m measured) bool { return m.report == nil })
	if slices.ContainsFunc(all, func(m measured) bool { return m.report.WaitersKnown }) {
		x.family("dblock_waiters", "gauge", "Processes that wait for the lock.")
	}
	for _, m := range all {
		if m.report.WaitersKnown {
			x.sample("dblock_waiters", float64(len(m.report.Waiters)), "database", m.database)
		}
	}
	held := slices.DeleteFunc(all, func(m measured) bool {
		return !m.report.Locked() || m.report.Holder == nil || m.report.Holder.Acquired.IsZero()
	})
	if len(held) > 0 {
		x.family("dblock_held_since_timestamp_seconds", "gauge", "When the lock was acquired that is held now.")
	}
	for _, m := range held {
		label := m.report.Holder.Process
		if m.counts[label] == nil && len(m.labels) >= summary.Most {
			label = other
		}
		since := m.report.Holder.Acquired.UnixMilli()
		x.sample("dblock_held_since_timestamp_seconds", float64(since)/1000, "database", m.database, "process", label)
	}
}

type outcome struct {
	name string
	n    int64
}

// outcomes are how holds ended; each is one of them.
func outcomes(c *summary.Counts) []outcome {
	all := []outcome{
		{"ok", c.Ended[history.Exited] - c.Failed},
		{"failed", c.Failed},
		{string(history.Signaled), c.Ended[history.Signaled]},
		{string(history.Released), c.Ended[history.Released]},
		{string(history.Late), c.Ended[history.Late]},
		{string(history.LostIt), c.Ended[history.LostIt]},
		{string(history.Killed), c.Killed},
	}
	rest := c.Acquisitions
	for _, one := range all {
		rest -= one.n
	}
	return append(all, outcome{other, rest}) // ends that a later version has added
}

func (x *exposition) histogram(name string, d *summary.Distribution, labels []string) {
	seen := int64(0)
	for i, n := range d.Counts {
		seen += n
		le := "+Inf"
		if i < len(summary.Bounds) {
			le = strconv.FormatFloat(summary.Bounds[i].Seconds(), 'f', -1, 64)
		}
		x.sample(name+"_bucket", float64(seen), append(labels[:len(labels):len(labels)], "le", le)...)
	}
	x.sample(name+"_sum", float64(d.Sum/time.Microsecond)/1e6, labels...)
	x.sample(name+"_count", float64(seen), labels...)
}
