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

	"github.com/dblock-dev/dblock/internal/portable"
)

// statistics is the JSON of dblock stats, of one database.
type statistics struct {
	Events int
	Use    struct{ Exclusive, Shared float64 }
	tally
	Groups []struct {
		Name string
		tally
	}
	Blame []struct {
		Process string
		Times   int
		Waited  float64 `json:"waited_ms"`
	}
}

type tally struct {
	Acquisitions, Shared, Waited, Lost, Killed, Failed, Forced int
	GaveUp                                                     map[string]int `json:"gave_up"`
	Ended                                                      map[string]int
	Wait, Hold                                                 struct{ Count int }
}

// end is n holds that came to their end in this way.
func (c *tally) end(how string, n int) {
	c.Acquisitions += n
	c.Ended[how] += n
}

func statsOf(t *testing.T, dir string, args ...string) (s statistics) {
	t.Helper()
	r := execute(t, dir, append([]string{"stats", "--json"}, args...)...)
	require.Zero(t, r.code(), r.stderr)
	var document struct{ Databases []statistics }
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &document), r.stdout)
	require.Len(t, document.Databases, 1)
	return document.Databases[0]
}

// A night at a database, and an account of it that is kept beside: what was run, and how it ended.
func TestStatsAddUp(t *testing.T) {
	t.Parallel()
	need(t, "make")
	dir := t.TempDir()
	want := map[string]*tally{}
	of := func(label string) *tally {
		if want[label] == nil {
			want[label] = &tally{GaveUp: map[string]int{}, Ended: map[string]int{}}
		}
		return want[label]
	}

	// A recipe for each file, eight at a time.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "Makefile"), []byte("FILES = 1 2 3 4 5 6 7 8 9 10 11 12\nall: $(FILES)\n$(FILES):\n\t@dblock -d app.db -w 60 -q -p build -- sh -c 'sleep 0.01; echo $@ >>built'\n"), 0o644))
	recipes := exec.Command("make", "-j8")
	recipes.Dir = dir
	r := finish(t, recipes)
	require.Zero(t, r.code(), r.stderr)
	of("build").end("exited", 12)

	// A job that would rather not run than wait.
	var cron sync.WaitGroup
	var mu sync.Mutex
	cron.Go(func() {
		for range 15 {
			c := command(t, dir, "-n", "-q", "-d", "app.db", "-p", "cron", "--", "sleep", "0.005")
			_ = c.Run()
			mu.Lock()
			if c.ProcessState.ExitCode() == 0 {
				of("cron").end("exited", 1)
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
	of("import").end("exited", 10)
	of("import").Failed = 5

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
	of("backup").end("exited", 3)
	of("backup").Shared = 3
	require.NoError(t, os.Remove(filepath.Join(dir, "go")))

	// One that is killed, and is told of by the next; one that its time is up for; one that dies of
	// a signal; one that loses its lock; one that is forced.
	execute(t, dir, "-d", "app.db", "-p", "victim", "--", "sh", "-c", "kill -9 $PPID; sleep 0.1")
	execute(t, dir, "-d", "app.db", "-p", "slow", "--time-limit", "0.05", "--", "sleep", "60")
	execute(t, dir, "-d", "app.db", "-p", "crash", "--", "sh", "-c", "kill -SEGV $$")
	execute(t, dir, "-d", "app.db", "-p", "loser", "-qq", "--", "rm", ".app.lock")
	forces := !portable.Half || os.Geteuid() != 0 // there root ends nobody
	if forces {
		stuck := hold(t, dir, "-d", "app.db", "-p", "stuck")
		require.Zero(t, execute(t, dir, "force", "-y", "-q", "-d", "app.db").code())
		_ = stuck.Wait()
	}
	of("victim").Acquisitions, of("victim").Killed = 1, 1
	of("slow").end("time-limit", 1)
	of("crash").end("signaled", 1)
	of("loser").end("lost", 1)
	of("loser").Lost = 1
	if forces {
		of("stuck").end("signaled", 1)
		of("stuck").Forced = 1
	}

	// A program that has it again and again, and another that waits for it once and is interrupted.
	c := converse(t, dir)
	for range 5 {
		n := c.acquire("app.db", map[string]any{"process": "mcp"})
		c.release(n)
	}
	last := c.acquire("app.db", map[string]any{"process": "mcp"})
	shy := start(t, command(t, dir, "-d", "app.db", "-w", "60", "-q", "-p", "shy", "--", "true"))
	await(t, "it waits", func() bool { return waiters(t, dir, "app.db") == 1 })
	require.NoError(t, shy.Process.Signal(unix.SIGINT))
	_ = shy.Wait()
	c.release(last)
	c.end()
	of("mcp").end("released", 6)
	of("shy").GaveUp["interrupted"] = 1

	s := statsOf(t, dir, "-d", "app.db", "--by", "process")
	var sum tally
	waited := 0
	for _, g := range s.Groups {
		w := want[g.Name]
		require.NotNil(t, w, g.Name)
		require.Equal(t, g.Acquisitions, g.Hold.Count, g.Name)
		waited += g.Waited
		// Who had to wait nobody but dblock knows.
		g.Waited, g.Wait, g.Hold = 0, tally{}.Wait, tally{}.Hold
		require.Equal(t, *w, g.tally, g.Name)
		sum.Acquisitions += w.Acquisitions
		delete(want, g.Name)
	}
	require.Empty(t, want)
	require.Equal(t, sum.Acquisitions, s.Acquisitions)
	require.Equal(t, waited, s.Waited)
	require.Positive(t, waited)
	for _, b := range s.Blame {
		if b.Process == "build" {
			require.Positive(t, b.Waited)
			require.GreaterOrEqual(t, b.Times, 7)
		}
	}
	require.InDelta(t, 0.5, s.Use.Exclusive, 0.5)
}
