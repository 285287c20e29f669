package stats

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/internal/companion"
	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
)

const asProgram = "DBLOCK_TEST_STATS"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(companion.Code(Run(os.Args[1:])))
	}
	os.Exit(m.Run())
}

// result is what the program printed, and its exit code.
type result struct {
	out, err string
	code     int
}

// program runs `dblock stats` with that on its standard input.
func program(t *testing.T, stdin []byte, env []string, args ...string) result {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	// The race detector waits for a second at the end.
	cmd.Env = append([]string{asProgram + "=1", "PATH=" + os.Getenv("PATH"), "TZ=UTC", "GORACE=atexit_sleep_ms=0"}, env...)
	cmd.Stdin = bytes.NewReader(stdin)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

const epoch = 1_700_000_000_000

// queue is a history of holds of which each waits for those before it.
func queue(n int) []history.Event {
	r := rand.New(rand.NewPCG(3, 4))
	var all []history.Event
	asked, free := int64(epoch*1000), int64(epoch*1000) // in microseconds
	for i := range n {
		asked += int64(r.ExpFloat64() * 300_000)
		e := history.Event{
			Version: 1, Kind: history.Hold, Process: []string{"api", "cron", `back"up\` + "\n", "nächtlich"}[r.IntN(4)], Command: "node", Host: "h", UID: 0,
			PID: 1000 + i, Token: int64(i + 1), Ended: history.Exited, Code: max(0, r.IntN(10)-8),
		}
		acquired := max(asked, free)
		e.Waited = time.Duration(acquired-asked) * time.Microsecond
		if e.Waited > 3*time.Second {
			e.Kind, e.Ended, e.Code, e.Waited, e.Token = history.GaveUp, history.TimedOut, 0, 3*time.Second, 0
			e.At = asked/1000 + 3000
		} else {
			e.Held = time.Duration(r.ExpFloat64()*290_000) * time.Microsecond
			free = acquired + e.Held.Microseconds()
			e.Acquired, e.Released, e.At = acquired/1000, free/1000, free/1000
			switch r.IntN(50) {
			case 0:
				e.Kind, e.Ended = history.Killed, ""
			case 1:
				e.Ended = history.LostIt
				lost := e
				lost.Kind, lost.Ended, lost.Held, lost.Released = history.Lost, "", 0, 0
				all = append(all, lost)
			}
		}
		e.Requested = asked / 1000
		if e.Waited > 0 && len(all) > 0 {
			before := all[len(all)-1]
			e.Ahead = 1
			e.Blockers = []history.Blocker{{Party: history.Party{PID: before.PID, Process: before.Process, Command: "node", Token: before.Token}, For: e.Waited}}
		}
		all = append(all, e)
	}
	return all
}

func lines(events []history.Event) (b []byte) {
	for i := range events {
		b = history.Append(b, &events[i])
	}
	return b
}

// recorded makes a database with that history.
func recorded(t *testing.T, events []history.Event) string {
	t.Helper()
	return recordedOf(t, "app.db", events)
}

func recordedOf(t *testing.T, name string, events []history.Event) string {
	t.Helper()
	db := filepath.Join(t.TempDir(), name)
	names, err := lock.Resolve(db, "")
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(names.State, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(names.State, history.Name), lines(events), 0o644))
	return db
}

func count(events []history.Event, is func(*history.Event) bool) (n int64) {
	for i := range events {
		if is(&events[i]) {
			n++
		}
	}
	return n
}

func read(t *testing.T, r result) document {
	t.Helper()
	require.Zero(t, r.code, r.err)
	require.Empty(t, r.err)
	var d document
	require.NoError(t, json.Unmarshal([]byte(r.out), &d))
	require.Equal(t, 1, d.Version)
	return d
}

// UnmarshalJSON is for these tests.
func (m *millid) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(string(b), 64)
	*m = millid(f * 1e6)
	return err
}

func TestJSON(t *testing.T) {
	events := queue(3000)
	is := func(k history.Kind) int64 {
		return count(events, func(e *history.Event) bool { return e.Kind == k })
	}
	torn := append(lines(events), `{"v":1,"event":"hold","at":17000`...)
	torn = append([]byte("tail of a torn line\"}\n\n[]\n{\"v\":2,\"event\":\"hold\",\"at\":1}\n"), torn...)
	file := filepath.Join(t.TempDir(), "lines")
	require.NoError(t, os.WriteFile(file, torn, 0o644))

	from := read(t, program(t, nil, nil, "--from", file, "--json", "--by", "process"))
	stdin := read(t, program(t, torn, nil, "--from", "-", "--json", "--by", "process"))
	ofDatabase := read(t, program(t, nil, nil, "-d", recorded(t, events), "--json", "--by", "process"))
	for _, d := range []document{from, stdin, ofDatabase} {
		require.Len(t, d.Databases, 1)
		one := d.Databases[0]
		require.EqualValues(t, len(events), one.Events)
		require.Equal(t, is(history.Hold)+is(history.Killed), one.Acquisitions)
		require.Equal(t, is(history.Killed), one.Killed)
		require.Equal(t, is(history.GaveUp), one.GaveUp[history.TimedOut])
		require.Equal(t, count(events, func(e *history.Event) bool { return e.Kind == history.Hold && e.Waited > 0 }), one.Waited)
		require.Equal(t, count(events, func(e *history.Event) bool { return e.Kind == history.Hold && e.Code != 0 && e.Ended == history.Exited }), one.Failed)
		require.Equal(t, is(history.Lost), one.Lost)
		require.Len(t, one.Groups, 4)
		total := int64(0)
		for _, g := range one.Groups {
			total += g.Acquisitions
			require.Equal(t, count(events, func(e *history.Event) bool {
				return e.Process == g.Name && (e.Kind == history.Hold || e.Kind == history.Killed)
			}), g.Acquisitions)
		}
		require.Equal(t, one.Acquisitions, total)
		blamed := int64(0)
		for _, b := range one.Blame {
			blamed += b.Times
		}
		require.Equal(t, count(events, func(e *history.Event) bool { return len(e.Blockers) > 0 }), blamed)
	}
}

// What a killed dblock had written itself is not counted again.
func TestToldTwice(t *testing.T) {
	e := queue(1)[0]
	e.Kind, e.Ended = history.Hold, history.Exited
	again := e
	again.Kind, again.Ended = history.Killed, ""
	d := read(t, program(t, lines([]history.Event{e, again}), nil, "--from", "-", "--json"))
	require.EqualValues(t, 1, d.Databases[0].Acquisitions)
	require.Zero(t, d.Databases[0].Killed)
}

func TestWindow(t *testing.T) {
	events := queue(500)
	at := func(i int) string { return time.UnixMilli(events[i].At).UTC().Format(time.RFC3339Nano) }
	d := read(t, program(t, lines(events), nil, "--from", "-", "--json", "--since", at(100), "--until", at(300)))
	want := count(events, func(e *history.Event) bool { return e.At >= events[100].At && e.At < events[300].At })
	require.Equal(t, want, d.Databases[0].Events)
	require.Equal(t, events[100].At, d.Databases[0].From)
	require.Equal(t, events[300].At, d.Databases[0].To)

	r := program(t, lines(events), nil, "--from", "-", "--since", "1h")
	require.Contains(t, r.out, "Nothing has been recorded of it since 20")
	require.Zero(t, r.code)
}

func TestSeveralDatabases(t *testing.T) {
	a, b := recorded(t, queue(10)), recorded(t, queue(20))
	d := read(t, program(t, nil, nil, "-d", a, "-d", b, "-d", a, "--json"))
	require.Len(t, d.Databases, 2)
	require.Equal(t, a, d.Databases[0].Database)
	require.Equal(t, b, d.Databases[1].Database)
	d = read(t, program(t, nil, []string{"DBLOCK_DB=" + b}, "--json"))
	require.Len(t, d.Databases, 1)
	require.Equal(t, b, d.Databases[0].Database)
}

func TestText(t *testing.T) {
	events := queue(2000)
	for _, env := range []string{"LC_ALL=C", "LC_ALL=C.UTF-8"} {
		out := program(t, lines(events), []string{env}, "--from", "-", "--by", "process").out
		require.Contains(t, out, fmt.Sprintf("Acquired %d times", count(events, func(e *history.Event) bool {
			return e.Kind == history.Hold || e.Kind == history.Killed
		})))
		for _, head := range []string{"Waits\n", "Holds\n", "By process\n", "For whom others waited\n"} {
			require.Contains(t, out, head)
		}
		require.NotContains(t, out, "back\"up\\\n") // a newline is part of that label
		bar := "█"
		if env == "LC_ALL=C" {
			bar = "###"
			require.NotContains(t, out, "█")
		}
		require.Contains(t, out, bar)
	}
}

// Whatever the width, no line is longer, and the first columns are there.
func TestWidths(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lines")
	events := queue(2000)
	for i := range events {
		if i%7 == 0 {
			events[i].Process = "a-label-that-is-much-too-long-for-a-column-of-any-table"
		}
	}
	require.NoError(t, os.WriteFile(file, lines(events), 0o644))
	for _, width := range []int{30, 40, 60, 80, 132} {
		for _, utf8 := range []bool{false, true} {
			var text bytes.Buffer
			all, err := (&Command{}).summarise([]source{{name: file, file: bytes.NewReader(lines(events))}}, "process")
			require.NoError(t, err)
			require.NoError(t, (&page{width: width, utf8: utf8}).write(&text, all))
			for line := range strings.Lines(text.String()) {
				columns := term.Columns(strings.NewReplacer("█", "#", "▏", "#", "▎", "#", "▍", "#", "▌", "#", "▋", "#", "▊", "#", "▉", "#", "\n", "").Replace(line))
				require.LessOrEqual(t, columns, width, line)
			}
			require.Contains(t, text.String(), "a-label")
		}
	}
}

func TestNothingRecorded(t *testing.T) {
	db := filepath.Join(t.TempDir(), "app.db")
	r := program(t, nil, nil, "-d", db)
	require.Equal(t, result{out: db + "\n  Nothing has been recorded of it.\n"}, r)
	d := read(t, program(t, nil, nil, "--from", "-", "--json"))
	require.Zero(t, d.Databases[0].Events)
}

func TestUsage(t *testing.T) {
	for _, c := range []struct{ args, text string }{
		{"", "no database is named"},
		{"--from - -d x", "--from is in place of a database"},
		{"--json --openmetrics --from -", "different answers"},
		{"-o x --from -", "-o says where metrics go"},
		{"--by colour --from -", `"colour" is not accepted`},
		{"--since yesterdayish --from -", "is no time"},
		{"--since 1h --until 2h --from -", "nothing has happened between them"},
		{"--by user --trace - --from -", "--by is for the text"},
		{"--html= --from -", "--html names no file"},
		{"--openmetrics --output= --from -", "--output names no file"},
		{"--openmetrics -o=x --from -", `-o=x: no "=" comes between`},
		{"--jsn", "unknown flag --jsn"},
		{"app.db", "takes flags only"},
	} {
		r := program(t, nil, nil, strings.Fields(c.args)...)
		require.Equal(t, 64, r.code, c.args)
		require.Contains(t, r.err, c.text)
		require.Contains(t, r.err, "hint: ", c.args)
		require.Empty(t, r.out)
	}
	r := program(t, nil, nil, "--from", "/no/such/file")
	require.Equal(t, 73, r.code)
	require.Contains(t, r.err, "hint: --from reads lines of history")
	r = program(t, nil, nil, "-d", "/no/such/directory/app.db")
	require.Equal(t, 73, r.code)
	require.Contains(t, r.err, "there is no directory")
	r = program(t, nil, nil, "--help")
	require.Zero(t, r.code)
	require.True(t, strings.HasPrefix(r.out, "Usage: dblock stats "), r.out)
}

func TestMetrics(t *testing.T) {
	events := queue(2000)
	db := recorded(t, events)
	r := program(t, nil, nil, "-d", db, "--openmetrics")
	require.Zero(t, r.code, r.err)
	total := func(pattern string) (sum float64) {
		for _, m := range regexp.MustCompile(`(?m)^`+pattern+` (\S+)$`).FindAllStringSubmatch(r.out, -1) {
			n, err := strconv.ParseFloat(m[1], 64)
			require.NoError(t, err)
			sum += n
		}
		return sum
	}
	is := func(f func(e *history.Event) bool) float64 { return float64(count(events, f)) }
	hold := func(e *history.Event) bool { return e.Kind == history.Hold }
	killed := func(e *history.Event) bool { return e.Kind == history.Killed }
	require.Equal(t, is(hold)+is(killed), total(`dblock_acquisitions_total\{.*\}`))
	require.Equal(t, is(killed), total(`dblock_acquisitions_total\{.*outcome="killed"\}`))
	require.Equal(t, is(func(e *history.Event) bool { return hold(e) && e.Code > 0 && e.Ended == history.Exited }), total(`dblock_acquisitions_total\{.*outcome="failed"\}`))
	require.Equal(t, is(func(e *history.Event) bool { return e.Kind == history.GaveUp }), total(`dblock_give_ups_total\{.*\}`))
	require.Equal(t, is(func(e *history.Event) bool { return e.Ended == history.LostIt }), total(`dblock_lost_total\{.*\}`))
	require.Equal(t, is(hold), total(`dblock_wait_seconds_count\{.*\}`))
	require.Equal(t, is(hold), total(`dblock_wait_seconds_bucket\{.*le="\+Inf"\}`))
	require.Equal(t, is(func(e *history.Event) bool { return hold(e) && e.Waited <= time.Second }), total(`dblock_wait_seconds_bucket\{.*le="1"\}`))
	require.Equal(t, is(hold)+is(killed), total(`dblock_hold_seconds_count\{.*\}`))
	require.Contains(t, r.out, `process="back\"up\\\n"`)
	require.Equal(t, !portable.Half, strings.Contains(r.out, `dblock_waiters{database="`+db+`"} 0`), "who waits may not be known")
	require.NotContains(t, r.out, "dblock_held_since")
}

// Who holds the lock now is there, too.
func TestMetricsOfAHold(t *testing.T) {
	db := filepath.Join(t.TempDir(), "app.db")
	l := lock.New(db, lock.Options{Process: "holder"})
	require.NoError(t, l.Acquire(t.Context()))
	g, ok := l.Grant()
	require.True(t, ok)
	r := program(t, nil, nil, "-d", db, "--openmetrics")
	require.NoError(t, l.Release())
	since := float64(g.Holder.Acquired.UnixMilli()) / 1000
	promtool(t, r.out)
	d := read(t, program(t, nil, nil, "-d", db, "--json"))
	require.EqualValues(t, 1, d.Databases[0].Acquisitions, "it is over now")
	require.Contains(t, r.out, fmt.Sprintf(`dblock_held_since_timestamp_seconds{database=%q,process="holder"} %s`, db, strconv.FormatFloat(since, 'f', -1, 64)))
}

// Labels are bounded, and one who is called like the others is one of them.
func TestMetricsLabels(t *testing.T) {
	events := queue(3000)
	for i := range events {
		events[i].Process = "p" + strconv.Itoa(i%300)
		if i%300 == 0 {
			events[i].Process, events[i].Held = "other", time.Hour
		}
	}
	r := program(t, lines(events), nil, "--from", "-", "--openmetrics")
	labels := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^dblock_wait_seconds_count\{.*process="(.*?)"`).FindAllStringSubmatch(r.out, -1) {
		labels[m[1]]++
	}
	require.Len(t, labels, 50)
	require.Equal(t, 1, labels["other"])
	total := int64(0)
	for _, m := range regexp.MustCompile(`(?m)^dblock_acquisitions_total\{.* (\d+)$`).FindAllStringSubmatch(r.out, -1) {
		n, err := strconv.ParseInt(m[1], 10, 64)
		require.NoError(t, err)
		total += n
	}
	require.Equal(t, count(events, func(e *history.Event) bool { return e.Kind == history.Hold || e.Kind == history.Killed }), total)
	promtool(t, r.out)
}

func TestMetricsFile(t *testing.T) {
	db := recorded(t, queue(100))
	dir := t.TempDir()
	file := filepath.Join(dir, "dblock.prom")
	require.NoError(t, os.WriteFile(file, []byte("old"), 0o600))
	r := program(t, nil, nil, "-d", db, "--openmetrics", "-o", file)
	require.Equal(t, result{}, r)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, program(t, nil, nil, "-d", db, "--openmetrics").out, string(text))
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode(), "an old file keeps its mode")
	require.NoError(t, os.Remove(file))
	require.Equal(t, result{}, program(t, nil, nil, "-d", db, "--openmetrics", "-o", file))
	info, err = os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o644), info.Mode(), "a collector is another user")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file is left")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "directory"), 0o755))
	require.Equal(t, 73, program(t, nil, nil, "-d", db, "--openmetrics", "-o", filepath.Join(dir, "directory")).code)
	entries, err = os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "nor where that fails")
	r = program(t, nil, nil, "-d", db, "--openmetrics", "-o", filepath.Join(dir, "no", "such"))
	require.Equal(t, 73, r.code)

	// A link leads to the file, and what is no file is written to, and stays what it is.
	link, pipe := filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	require.NoError(t, os.WriteFile(file, []byte("old"), 0o600))
	require.NoError(t, os.Symlink(file, link))
	require.Equal(t, result{}, program(t, nil, nil, "-d", db, "--openmetrics", "-o", link))
	info, err = os.Lstat(link)
	require.NoError(t, err)
	require.Equal(t, os.ModeSymlink, info.Mode().Type())
	replaced, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(text), string(replaced))
	require.NoError(t, unix.Mkfifo(pipe, 0o600))
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0) // so that nobody waits for a reader
	require.NoError(t, err)
	defer reader.Close()
	require.Equal(t, result{}, program(t, nil, nil, "-d", db, "--openmetrics", "-o", pipe))
	info, err = os.Lstat(pipe)
	require.NoError(t, err)
	require.Equal(t, os.ModeNamedPipe, info.Mode().Type())
}

// Where everybody may make files, nobody leads root to write elsewhere, by no form of output.
func TestOutputInASharedDirectory(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make another user's link")
	}
	db, dir, mine := recorded(t, queue(10)), t.TempDir(), filepath.Join(t.TempDir(), "mine")
	require.NoError(t, os.Chmod(dir, 0o777|os.ModeSticky))
	require.NoError(t, os.WriteFile(mine, []byte("mine"), 0o600))
	link, pipe := filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	require.NoError(t, os.Symlink(mine, link))
	require.NoError(t, unix.Mkfifo(pipe, 0o666))
	require.Equal(t, 0, program(t, nil, nil, "-d", db, "--html", link).code, "one's own link")
	require.NoError(t, os.WriteFile(mine, []byte("mine"), 0o600))
	require.NoError(t, os.Lchown(link, 65534, 65534))
	require.NoError(t, os.Chown(pipe, 65534, 65534))
	for _, form := range [][]string{{"--openmetrics", "-o"}, {"--html"}, {"--trace"}} {
		for _, path := range []string{link, pipe} {
			r := program(t, nil, nil, append(append([]string{"-d", db}, form...), path)...)
			require.Equal(t, 77, r.code, "%s %s", form, r.err)
		}
	}
	text, err := os.ReadFile(mine)
	require.NoError(t, err)
	require.Equal(t, "mine", string(text))
}

// What is in labels and names does not make metrics invalid, nor does a terminal obey it.
func TestMetricsOfHostileNames(t *testing.T) {
	events := queue(4)
	for i, name := range []string{"a\x1b]0;x\a", "a\x1b]0;y\a", "back\\slash \"quoted\"", "two\nlines"} {
		events[i].Process = name
	}
	db := recordedOf(t, "w\xff.db", events)
	r := program(t, nil, nil, "-d", db, "--openmetrics")
	require.NotContains(t, r.out, "\x1b")
	require.Contains(t, r.out, `w\\xff.db",process="a\\x1b]0;x\\a"`)
	promtool(t, r.out)
}

func TestPromtool(t *testing.T) {
	r := program(t, nil, nil, "-d", recorded(t, queue(2000)), "--openmetrics")
	promtool(t, r.out)
	promtool(t, program(t, nil, nil, "--from", "-", "--openmetrics").out)
}

// promtool is what Prometheus itself thinks of metrics.
func promtool(t *testing.T, metrics string) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("not to be skipped in CI: there is no promtool here")
		}
		t.Skip("promtool is not installed")
	}
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(metrics)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Empty(t, string(out))
}

type traced struct {
	TraceEvents []struct {
		record
		Args map[string]any `json:"args"`
	} `json:"traceEvents"`
}

func TestTrace(t *testing.T) {
	events := queue(2000)
	// The clock is set back in the middle, and some share.
	for i := range events {
		if e := &events[i]; i > 1000 {
			e.At -= 60_000
			e.Requested -= 60_000
			if e.Acquired > 0 {
				e.Acquired, e.Released = e.Acquired-60_000, e.Released-60_000
			}
		}
		events[i].Shared = i%10 == 0
		if i%3 == 0 {
			events[i].PID = 77 // one process with several holds
		}
	}
	file := filepath.Join(t.TempDir(), "trace.json")
	require.Equal(t, result{}, program(t, lines(events), nil, "--from", "-", "--trace", file))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(text), program(t, lines(events), nil, "--from", "-", "--trace", "-").out)
	var trace traced
	require.NoError(t, json.Unmarshal(text, &trace))

	type span struct{ from, to int64 }
	var exclusive []span
	rows, names := map[[2]int][]span{}, map[int]string{}
	phases := map[string]int64{}
	starts := map[int]int64{}
	for _, e := range trace.TraceEvents {
		phases[e.Ph+" "+e.Name]++
		require.GreaterOrEqual(t, e.Ts, int64(0))
		switch e.Ph {
		case "X":
			s := span{e.Ts, e.Ts + *e.Dur}
			require.GreaterOrEqual(t, *e.Dur, int64(0))
			if e.Cat == "exclusive" {
				exclusive = append(exclusive, s)
			}
			rows[[2]int{e.PID, e.TID}] = append(rows[[2]int{e.PID, e.TID}], s)
			require.NotEmpty(t, names[e.PID], "a process is named first")
		case "M":
			if e.Name == "process_name" {
				names[e.PID] = e.Args["name"].(string)
			}
		case "s":
			starts[e.ID] = e.Ts
		case "f":
			begin, known := starts[e.ID]
			require.True(t, known)
			require.LessOrEqual(t, begin, e.Ts)
		}
	}
	disjoint := func(spans []span) {
		t.Helper()
		slices.SortFunc(spans, func(a, b span) int { return int(min(1, max(-1, (a.from-b.from)*10+min(9, max(-9, a.to-b.to))))) })
		for i := 1; i < len(spans); i++ {
			require.LessOrEqual(t, spans[i-1].to, spans[i].from)
		}
	}
	disjoint(exclusive)
	for _, spans := range rows {
		disjoint(spans)
	}
	is := func(f func(e *history.Event) bool) int64 { return count(events, f) }
	taken := func(e *history.Event) bool { return e.Kind == history.Hold || e.Kind == history.Killed }
	require.Equal(t, is(func(e *history.Event) bool { return taken(e) && !e.Shared }), phases["X hold"])
	require.Equal(t, is(func(e *history.Event) bool { return taken(e) && e.Shared }), phases["X shared hold"])
	require.Equal(t, is(func(e *history.Event) bool { return taken(e) && e.Waited > 0 }), phases["X wait"])
	require.Equal(t, is(func(e *history.Event) bool { return e.Kind == history.GaveUp }), phases["X wait, in vain"])
	require.Equal(t, is(func(e *history.Event) bool { return e.Kind == history.Lost }), phases["i lost"])
	require.Equal(t, is(func(e *history.Event) bool { return e.Kind == history.Killed }), phases["i killed"])
	require.NotZero(t, phases["s blocked"])
	require.Equal(t, phases["s blocked"], phases["f blocked"])
	actors := map[string]bool{}
	for _, e := range events {
		actors[e.Process+"/"+strconv.Itoa(e.PID)] = true
	}
	require.Len(t, names, len(actors))
}

func BenchmarkRead(b *testing.B) {
	text := lines(queue(20000))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		all, err := (&Command{}).summarise([]source{{file: bytes.NewReader(text)}}, "process")
		if err != nil || all[0].Events == 0 {
			b.Fatal(err)
		}
	}
}
