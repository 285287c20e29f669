package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// companions builds what dblock comes with, beside the program under test, once.
var companions = sync.OnceValue(func() error {
	out, err := exec.Command("go", "build", "-o", filepath.Dir(binary), "../cmd/...").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
})

// statistics is the JSON of dblock stats.
type statistics struct {
	Events int
	Use    float64
	Total  tally
	Groups []struct {
		Name string
		tally
	}
	Blame []struct {
		Holder string
		Times  int
		For    float64 `json:"for_ms"`
	}
}

type tally struct {
	Acquired, Shared, Waited, Lost, Killed, Late, Failed, Forced int
	TookOver                                                     int            `json:"took_over"`
	GaveUp                                                       map[string]int `json:"gave_up"`
	Wait, Hold                                                   struct {
		Count int
		Max   float64 `json:"max_ms"`
	}
}

func statsOf(t *testing.T, dir string, args ...string) (s statistics) {
	t.Helper()
	require.NoError(t, companions())
	r := execute(t, dir, append([]string{"stats", "--json"}, args...)...)
	require.Zero(t, r.code(), r.stderr)
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &s), r.stdout)
	return s
}

// A night at a database, and an account of it that is kept beside: what was run, and how it ended.
func TestStatsAddUp(t *testing.T) {
	t.Parallel()
	need(t, "make")
	dir := t.TempDir()
	want := map[string]*tally{}
	of := func(label string) *tally {
		if want[label] == nil {
			want[label] = &tally{GaveUp: map[string]int{}}
		}
		return want[label]
	}

	// A recipe for each file, eight at a time.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "Makefile"), []byte("FILES = 1 2 3 4 5 6 7 8 9 10 11 12\nall: $(FILES)\n$(FILES):\n\t@dblock -d app.db -w 60 -q -p build -- sh -c 'sleep 0.01; echo $@ >>built'\n"), 0o644))
	recipes := exec.Command("make", "-j8")
	recipes.Dir = dir
	r := finish(t, recipes)
	require.Zero(t, r.code(), r.stderr)
	of("build").Acquired = 12

	// A job that would rather not run than wait.
	var cron sync.WaitGroup
	var mu sync.Mutex
	cron.Go(func() {
		for range 15 {
			c := command(t, dir, "-n", "-q", "-d", "app.db", "-p", "cron", "--", "sleep", "0.005")
			_ = c.Run()
			mu.Lock()
			if c.ProcessState.ExitCode() == 0 {
				of("cron").Acquired++
			} else {
				of("cron").GaveUp["busy"]++
			}
			mu.Unlock()
		}
	})
	for i := range 10 {
		code := i % 2
		r := execute(t, dir, "-d", "app.db", "-w", "60", "-q", "-p", "import", "--", "sh", "-c", fmt.Sprint("sleep 0.01; exit ", code))
		require.Equal(t, code, r.code())
	}
	cron.Wait()
	of("import").Acquired, of("import").Failed = 10, 5

	// Three who read together.
	for range 3 {
		c := hold(t, dir, "-s", "-d", "app.db", "-p", "backup")
		defer func() { _ = c.Wait() }()
	}
	r = execute(t, dir, "-d", "app.db", "-w", "0.05", "-q", "-p", "late", "--", "true")
	require.Equal(t, 75, r.code())
	of("late").GaveUp["timed-out"] = 1
	letGo(t, dir)
	await(t, "the readers have left", func() bool { return statusOf(t, dir, "app.db").State == "free" })
	of("backup").Acquired, of("backup").Shared = 3, 3
	require.NoError(t, os.Remove(filepath.Join(dir, "go")))

	// One that is killed, and is told of by the next; one that its time is up for; one that dies of
	// a signal; one that loses its lock; one that is forced.
	execute(t, dir, "-d", "app.db", "-p", "victim", "--", "sh", "-c", "kill -9 $PPID; sleep 0.1")
	execute(t, dir, "-d", "app.db", "-p", "slow", "--time-limit", "0.05", "--", "sleep", "60")
	execute(t, dir, "-d", "app.db", "-p", "crash", "--", "sh", "-c", "kill -SEGV $$")
	execute(t, dir, "-d", "app.db", "-p", "loser", "-qq", "--", "rm", ".app.lock")
	stuck := hold(t, dir, "-d", "app.db", "-p", "stuck")
	require.Zero(t, execute(t, dir, "force", "-y", "-q", "-d", "app.db").code())
	_ = stuck.Wait()
	*of("victim") = tally{Acquired: 1, Killed: 1}
	*of("slow") = tally{Acquired: 1, Late: 1}
	*of("crash") = tally{Acquired: 1, Failed: 1}
	*of("loser") = tally{Acquired: 1, Lost: 1}
	*of("stuck") = tally{Acquired: 1, Failed: 1, Forced: 1}

	// A program that has it again and again, and another that waits for it once and is interrupted.
	c := converse(t, dir)
	for range 5 {
		n := c.acquire("app.db", map[string]any{"process": "mcp"})
		c.release(n)
	}
	last := c.acquire("app.db", map[string]any{"process": "mcp"})
	shy := start(t, command(t, dir, "-d", "app.db", "-w", "60", "-q", "-p", "shy", "--", "true"))
	await(t, "it waits", func() bool { return len(statusOf(t, dir, "app.db").Waiting) == 1 })
	require.NoError(t, shy.Process.Signal(unix.SIGINT))
	_ = shy.Wait()
	c.release(last)
	c.end()
	of("mcp").Acquired = 6
	of("shy").GaveUp["interrupted"] = 1

	s := statsOf(t, dir, "-d", "app.db", "--by", "process")
	var sum tally
	waited := 0
	for _, g := range s.Groups {
		w := want[g.Name]
		require.NotNil(t, w, g.Name)
		if w.GaveUp == nil {
			w.GaveUp = map[string]int{}
		}
		require.Equal(t, g.Acquired, g.Hold.Count, g.Name)
		require.Equal(t, g.Waited, g.Wait.Count, g.Name)
		waited += g.Waited
		// Who had to wait nobody but dblock knows.
		g.Waited, g.Wait, g.Hold = 0, tally{}.Wait, tally{}.Hold
		require.Equal(t, *w, g.tally, g.Name)
		sum.Acquired += w.Acquired
		delete(want, g.Name)
	}
	require.Empty(t, want)
	require.Equal(t, sum.Acquired, s.Total.Acquired)
	require.Equal(t, waited, s.Total.Waited)
	require.Positive(t, waited)
	for _, b := range s.Blame {
		if b.Holder == "build" {
			require.Positive(t, b.For)
			require.GreaterOrEqual(t, b.Times, 7)
		}
	}
	require.InDelta(t, 0.5, s.Use, 0.5)
}

// What people see fits where they look.
func TestStatsForPeople(t *testing.T) {
	t.Parallel()
	require.NoError(t, companions())
	dir := t.TempDir()
	r := execute(t, dir, "stats", "-d", "x.db")
	require.Regexp(t, `^/.*/x\.db\nNothing has been recorded\.\n$`, r.stdout)
	h := hold(t, dir, "-d", "x.db", "-p", "backup")
	require.Equal(t, 75, execute(t, dir, "-w", "0.05", "-qq", "-d", "x.db", "-p", "etl", "--", "true").code())
	letGo(t, dir)
	require.NoError(t, h.Wait())
	r = execute(t, dir, "stats", "-d", "x.db", "--by", "command")
	require.Contains(t, r.stdout, "\n  Acquired  1 time; 0 had to wait (0 %)\n")
	require.Contains(t, r.stdout, "\n  Gave up   1 time (1 in time)\n")
	require.Regexp(t, `\nWho was waited for\n  holder  waited for  times  worst\n  backup +[\d.]+m?s +1 +[\d.]+m?s  \d+ \w+ \d\d:\d\d, etl \(pid \d+\)\n`, r.stdout)
	require.Contains(t, r.stdout, "\nBy command\n")

	r = execute(t, dir, "stats", "-d", "x.db", "--until", "1h")
	require.Contains(t, r.stdout, "Nothing has been recorded.")
	for want, args := range map[string][]string{
		"no database is named":         {},
		`--by: "x" is not accepted`:    {"--by", "x", "-d", "x.db"},
		"--until is not after --since": {"--since", "1h", "--until", "2h", "-d", "x.db"},
	} {
		r = execute(t, dir, append([]string{"stats"}, args...)...)
		require.Equal(t, 64, r.code())
		require.Contains(t, r.stderr, want)
	}
	r = execute(t, dir, "stats", "--from", "missing")
	require.Equal(t, 73, r.code(), r.stderr)
	lines := execute(t, dir, "log", "--json", "-d", "x.db").stdout
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lines"), []byte(lines+"torn{\n"), 0o644))
	require.Equal(t, 2, statsOf(t, dir, "--from", "lines").Events)
}
