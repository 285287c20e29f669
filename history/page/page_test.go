package page

import (
	"bytes"
	"encoding/json"
	"html"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/history/historytest"
	"github.com/dblock-dev/dblock/history/summary"
	"github.com/dblock-dev/dblock/internal/term"
)

func written(t *testing.T, databases ...Database) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, Write(&b, databases))
	return b.String()
}

// embedded is the data that the script finds.
type embedded struct {
	Base      int64
	Rows      [][]any
	Texts     []string
	Databases []string
	Users     map[string]string
}

func dataOf(t *testing.T, page string) (d embedded) {
	t.Helper()
	_, rest, ok := strings.Cut(page, `<script type="application/json" id="data">`)
	require.True(t, ok)
	text, _, ok := strings.Cut(rest, "</script>")
	require.True(t, ok)
	require.NoError(t, json.Unmarshal([]byte(text), &d), text)
	return d
}

var evil = []string{
	`</script><script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `'"&<!--`, "<!--<script>", "a\u2028b\u2029c", "back\\slash \"quote\"", "</STYLE><svg onload=alert(1)>", "${alert(1)}{{.}}", "\x00\x1b[31m", "höst 😀", "\u202egpj.exe\u2066",
}

// No text of a stranger becomes markup, wherever it stands, or turns those around it.
func TestTextsOfStrangers(t *testing.T) {
	t.Parallel()
	tags := func(page string) []string { return regexp.MustCompile(`<[a-zA-Z/!][^\s>]*`).FindAllString(page, -1) }
	pageOf := func(s string) string {
		p := history.Party{PID: 1, UID: -1, Process: s, Command: s}
		return written(t, Database{s, []history.Event{{
			Kind: history.Hold, At: 2000, Acquired: 1000, Released: 2000, Process: s, Info: s, Host: s, Command: s, Waited: time.Second, Held: time.Second, Ended: history.Ended(s), By: &p,
			Blockers: []history.Blocker{{Party: p, For: time.Second}}, Ahead: 1,
		}}})
	}
	for _, s := range evil {
		page := pageOf(s)
		require.Equal(t, tags(pageOf("harmless")), tags(page), "%q", s)
		d := dataOf(t, page)
		require.Contains(t, d.Texts, term.Clean(s))
		require.Equal(t, []string{term.Path(s)}, d.Databases)
		require.False(t, strings.ContainsFunc(page, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }), "%q", s)
		require.NotRegexp(t, `<[^>]*\bonerror`, strings.ReplaceAll(page, html.EscapeString(s), ""))
	}
}

func TestData(t *testing.T) {
	t.Parallel()
	p := history.Party{PID: 7, UID: -1, Process: "backup", Command: "sh", Token: 900}
	hold := history.Event{
		Kind: history.Hold, At: 5000, Token: 4000, Process: "etl", PID: 42, Host: "h", UID: -1, Shared: true, Priority: "high", Requested: 1000, Acquired: 4000, Released: 5000,
		Waited: 3000500 * time.Microsecond, Held: time.Second, Ended: history.Exited, Code: 3, Ahead: 1, Blockers: []history.Blocker{{Party: p, For: 2500 * time.Millisecond}},
	}
	d := dataOf(t, written(t, Database{"a.db", []history.Event{hold, {Kind: history.Forced, At: 6000, By: &p}, {Kind: "of a later version", At: 7000}}}, Database{Name: "b.db"}))
	require.Equal(t, int64(1000), d.Base)
	require.Equal(t, []string{"a.db", "b.db"}, d.Databases)
	texts := func(n any) string { return d.Texts[int(n.(float64))] }
	require.Len(t, d.Rows, 2, "unknown kinds are left out")
	r := d.Rows[0]
	require.Equal(t, []any{0., 0., 4000., 0., 3000., 4000., 5.}, r[:7])
	require.Equal(t, []string{"etl", "", "", "h"}, []string{texts(r[7]), texts(r[8]), texts(r[9]), texts(r[10])})
	require.Equal(t, []any{42., -1., 4000., 3000.5, 1000.}, r[11:16])
	require.Equal(t, "exited", texts(r[16]))
	require.Equal(t, []any{3., 0., 0., 1., 0.}, r[17:22])
	b := r[22].([]any)
	require.Equal(t, []any{7., -1.}, b[:2])
	require.Equal(t, "backup", texts(b[2]))
	require.Equal(t, []any{900., 2500.}, b[4:])
	forced := d.Rows[1]
	require.Equal(t, []any{6., 0., 5000., -1., -1., -1.}, forced[:6])
	require.Equal(t, "backup", texts(forced[21].([]any)[2]))
}

// What the page says without its script.
func TestFigures(t *testing.T) {
	t.Parallel()
	by := func(name string, d time.Duration) []history.Blocker {
		return []history.Blocker{{Party: history.Party{Process: name}, For: d}}
	}
	at := historytest.Begin.UnixMilli()
	var events []history.Event
	for i := range int64(10) {
		e := history.Event{Kind: history.Hold, Process: "loop", Acquired: at + 1000*i, Released: at + 1000*i + 500, At: at + 1000*i + 500, Held: time.Duration(i+1) * 50 * time.Millisecond}
		if i == 5 {
			e.Ended = history.LostIt
		}
		if i >= 8 {
			e.Waited, e.Blockers = time.Duration(i)*100*time.Millisecond, by("backup", time.Duration(i)*100*time.Millisecond)
		}
		events = append(events, e)
	}
	events = append(events, history.Event{Kind: history.GaveUp, Process: "late", At: at + 10000, Waited: 2 * time.Second, Blockers: by("loop", 2*time.Second)},
		history.Event{Kind: history.Lost, At: at + 5000}, history.Event{Kind: history.Forced, At: at + 10000}, history.Event{Kind: history.Killed, At: at + 10000, Acquired: at + 9900, Released: at + 10000, Held: 100 * time.Millisecond})
	f := figures([]Database{{"x", events}})
	require.Equal(t, []int{11, 2, 1, 1, 1, 1}, []int{f.Holds, f.Waits, f.GaveUp, f.Lost, f.Forced, f.Killed})
	require.Equal(t, []int64{at, at + 10000}, []int64{f.Begin, f.End})
	require.InDelta(t, 2./10, f.Share, 1e-9)
	require.Equal(t, Quantiles{"waited", 0, 800 * time.Millisecond, 900 * time.Millisecond, 900 * time.Millisecond, 1700 * time.Millisecond}, f.Times[0])
	require.Equal(t, Quantiles{"held", 250 * time.Millisecond, 450 * time.Millisecond, 500 * time.Millisecond, 500 * time.Millisecond, 2850 * time.Millisecond}, f.Times[1])
	require.Equal(t, []int{100, 85}, []int{bar(f.Blame[0], f.Blame), bar(f.Blame[1], f.Blame)})
	require.Equal(t, Blame{"backup", 2, 1700 * time.Millisecond, 900 * time.Millisecond, "loop", moment(at + 9500)}, f.Blame[1])
	page := written(t, Database{"/srv/x.db", events})
	static, _, _ := strings.Cut(page, `<script type="application/json"`)
	for _, s := range []string{"<h1>x.db</h1>", ">20 %<", ">51 %<", ">2.0 s<", ">900 ms<", "Thu 27 Nov 2025, 22:00:00 UTC", "<code>/srv/x.db</code>"} {
		require.Contains(t, static, s)
	}
}

// The page says what `dblock stats` says.
func TestFiguresAreThoseOfTheSummary(t *testing.T) {
	t.Parallel()
	for _, events := range [][]history.Event{historytest.Night(), historytest.Busy(3000)} {
		s := summary.New(summary.Options{})
		for i := range events {
			s.Add(&events[i])
		}
		f := figures([]Database{{"x", events}})
		require.Equal(t, []int64{s.Acquisitions, s.Waited, s.GaveUps(), s.Lost, s.Forced, s.Killed, s.Failed + s.Ended[history.Late] + s.Ended[history.Signaled]},
			[]int64{int64(f.Holds), int64(f.Waits), int64(f.GaveUp), int64(f.Lost), int64(f.Forced), int64(f.Killed), int64(f.Failed)})
		from, to := s.Span()
		require.Equal(t, []int64{from, to}, []int64{f.Begin, f.End})
		exclusive, shared := s.Use()
		require.InDelta(t, exclusive+shared, f.Busy, 0.001)
		require.InEpsilon(t, s.Hold.Quantile(0.9), f.Times[1].P90, 0.02)
		require.InEpsilon(t, s.Wait.Quantile(0.99), f.Times[0].P99, 0.02)
		blamed := s.Blamed()
		require.Len(t, f.Blame, len(blamed))
		for i, b := range blamed {
			require.Equal(t, []any{b.Process, int(b.Times), b.Time, b.Worst.Waited}, []any{f.Blame[i].Process, f.Blame[i].Times, f.Blame[i].Total, f.Blame[i].Worst})
		}
	}
}

// Clocks are set, and lines of later versions lack what this one has.
func TestTimesThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, e := range []history.Event{
		{Kind: history.Hold}, {Kind: history.Hold, At: 5000, Acquired: 9000, Released: 5000, Held: 2 * time.Second, Waited: time.Hour}, {Kind: history.Hold, At: 10, Held: time.Hour, Waited: -1},
		{Kind: history.GaveUp, At: 5, Requested: 900}, {Kind: history.Killed, At: 5000, Acquired: 4000}, {Kind: history.TookOver, At: 5000}, {Kind: history.Lost, At: -1},
		{Kind: history.Hold, At: math.MaxInt64, Released: math.MaxInt64, Held: math.MaxInt64, Waited: math.MaxInt64}, {Kind: history.Hold, At: 5000, Acquired: math.MaxInt64},
	} {
		times := timesOf(&e)
		require.GreaterOrEqual(t, times.begin(), int64(0))
		require.Less(t, times.at, int64(1e15), "a browser can show it")
		if times.requested >= 0 {
			require.LessOrEqual(t, times.requested, times.at)
		}
		if times.acquired >= 0 {
			require.LessOrEqual(t, times.requested, times.acquired)
			require.LessOrEqual(t, times.acquired, times.released)
		}
	}
	require.Contains(t, written(t, Database{"x", []history.Event{{Kind: history.Lost, At: math.MaxInt64}}}), "Fri 31 Dec 9999")
	require.Contains(t, written(t), "Nothing has happened yet.")
	require.Contains(t, written(t, Database{Name: "x.db"}), "Nothing has happened yet.")
}

func TestTooManyEvents(t *testing.T) {
	t.Parallel()
	many := make([]history.Event, MaxEvents+50)
	for i := range many {
		many[i] = history.Event{Kind: history.Healed, At: int64(i + 1)}
	}
	page := written(t, Database{"x", many})
	require.Contains(t, page, "50 earlier ones are left out")
	d := dataOf(t, page)
	require.Len(t, d.Rows, MaxEvents)
	require.Equal(t, int64(51), d.Base)
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0", 40 * time.Microsecond: "0.0 ms", 1234 * time.Microsecond: "1.2 ms", 42 * time.Millisecond: "42 ms", 999600 * time.Microsecond: "1.0 s", 9960 * time.Millisecond: "10 s",
		59700 * time.Millisecond: "1 min 0 s", 61 * time.Second: "1 min 1 s", 2*time.Hour + 5*time.Minute: "2 h 5 min",
	} {
		require.Equal(t, want, duration(d))
	}
}

// A page is sent by mail and opened on telephones.
func TestSizeOfScriptAndStyle(t *testing.T) {
	t.Parallel()
	require.Less(t, len(script)+len(style), 40<<10)
	var b bytes.Buffer
	require.NoError(t, Write(&b, []Database{{"x.db", historytest.Busy(20_000)}}))
	require.Less(t, b.Len(), 6<<20)
}
