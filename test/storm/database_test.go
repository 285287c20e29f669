//go:build linux

package storm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var pgliteScript, _ = filepath.Abs("../peer/pglite-writer.mjs")

func needPGlite(t testing.TB) {
	t.Helper()
	needTool(t, "node")
	_, err := os.Stat(filepath.Join(filepath.Dir(pgliteScript), "node_modules"))
	need(t, err == nil, "PGlite is not installed: run npm ci in test/peer")
}

// all runs the commands at the same time and returns how many failed, and what they said.
func all(cmds ...*exec.Cmd) (failed int, said string) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, cmd := range cmds {
		wg.Go(func() {
			out, err := cmd.CombinedOutput()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
				said += fmt.Sprintf("%v: %.600s\n", err, out)
			}
		})
	}
	wg.Wait()
	return failed, said
}

func rows(t testing.TB, dir string) (int, error) {
	t.Helper()
	r := run(t, exec.Command("node", pgliteScript, dir, "--count"))
	n, err := strconv.Atoi(strings.TrimSpace(r.stdout))
	if r.code != 0 || err != nil {
		return 0, fmt.Errorf("the database does not open: exit code %d: %.300s", r.code, r.stderr)
	}
	return n, nil
}

// TestPGlite has several processes write to one PGlite data directory, which is
// made for one process at a time.
func TestPGlite(t *testing.T) {
	if !*full {
		t.Skip("half a minute long: -full")
	}
	needPGlite(t)
	workers, each := 3, 5
	if *full {
		workers, each = 5, 20
	}
	writer := func(dir string, n int, wrap ...string) *exec.Cmd {
		args := append(wrap, "node", pgliteScript, dir, strconv.Itoa(n), strconv.Itoa(each))
		return exec.Command(args[0], args[1:]...)
	}
	t.Run("dblock", func(t *testing.T) {
		if !*full {
			t.Skip("in the long form only: -full")
		}
		dir := filepath.Join(scratch(t), "pgdata")
		var cmds []*exec.Cmd
		for n := range workers {
			cmds = append(cmds, writer(dir, n, dblock, "-q", "-w", "120", "-d", dir, "--"))
		}
		if failed, said := all(cmds...); failed > 0 {
			t.Errorf("%d failed: %s", failed, said)
		}
		n, err := rows(t, dir)
		if err != nil || n != workers*each {
			t.Errorf("%d rows, want %d: %v", n, workers*each, err)
		}
		t.Logf("%d processes x %d rows: %d rows", workers, each, n)
		usable(t, dir)
	})
	t.Run("without", func(t *testing.T) {
		if !*full {
			t.Skip("in the long form only: -full")
		}
		dir := filepath.Join(scratch(t), "pgdata")
		var cmds []*exec.Cmd
		for n := range workers {
			cmds = append(cmds, writer(dir, n))
		}
		failed, _ := all(cmds...)
		n, err := rows(t, dir)
		t.Logf("without dblock, %d processes x %d rows: %d processes failed, %d rows left of %d; %v", workers, each, failed, n, workers*each, err)
	})
	t.Run("with a server", func(t *testing.T) {
		// The peer holds the lock as the MCP server does, opens the database for
		// each turn, writes, and lets go; dblock-wrapped commands come in between.
		dir := filepath.Join(scratch(t), "pgdata")
		turns := 1
		if *full {
			turns = 8
		}
		script, err := filepath.Abs("testdata/server.mjs")
		if err != nil {
			t.Fatal(err)
		}
		cmds := []*exec.Cmd{exec.Command("node", script, dir, noticeOf(dir), strconv.Itoa(turns), strconv.Itoa(each))}
		for n := range workers - 1 {
			cmds = append(cmds, writer(dir, n, dblock, "-q", "-w", "120", "-d", dir, "--"))
		}
		if failed, said := all(cmds...); failed > 0 {
			t.Errorf("%d failed: %s", failed, said)
		}
		n, err := rows(t, dir)
		if want := (turns + workers - 1) * each; err != nil || n != want {
			t.Errorf("%d rows, want %d: %v", n, want, err)
		}
		t.Logf("a server with %d turns and %d commands, %d rows each: %d rows", turns, workers-1, each, n)
		usable(t, dir)
	})
}

// TestPGliteEnded ends a writer of a PGlite data directory that is the child of a shell,
// while two others wait. Every row of which somebody said that it is there must be there:
// had the writer gone on beside the next ones, one of them would have lost the other's.
func TestPGliteEnded(t *testing.T) {
	if !*full {
		t.Skip("a quarter of a minute long: -full")
	}
	needPGlite(t)
	needTool(t, "flock")
	slow, err := filepath.Abs("testdata/slow.mjs")
	if err != nil {
		t.Fatal(err)
	}
	wrappers := map[string]func(dir string) []string{
		"dblock": func(dir string) []string { return []string{dblock, "-q", "-w", "120", "-d", dir, "--"} },
		"flock":  func(dir string) []string { return []string{"flock", dir + ".flock"} },
	}
	for name, wrap := range wrappers {
		for try := range 3 {
			t.Run(fmt.Sprintf("%s %d", name, try), func(t *testing.T) {
				dir := filepath.Join(scratch(t), "pgdata")
				var said safeBuffer
				writer := func(n int) *exec.Cmd {
					args := append(wrap(dir), "sh", "-c", `node "$@"; echo after`, "sh", slow, dir, strconv.Itoa(n), "40")
					cmd := exec.Command(args[0], args[1:]...)
					cmd.Stdout = &said
					if err := cmd.Start(); err != nil {
						t.Fatal(err)
					}
					return cmd
				}
				first := writer(0)
				eventually(t, time.Minute, "a row is there", func() bool { return strings.Contains(said.String(), "row 0 0") })
				others := []*exec.Cmd{writer(1), writer(2)}
				if err := first.Process.Signal(unix.SIGTERM); err != nil {
					t.Fatal(err)
				}
				_ = first.Wait() // for flock, until its orphans have closed the output, too
				for _, cmd := range others {
					if err := cmd.Wait(); err != nil {
						t.Error(err)
					}
				}
				acknowledged := strings.Count(said.String(), "row ")
				n, err := rows(t, dir)
				if err != nil || n != acknowledged {
					t.Errorf("%d rows are there of %d acknowledged: %v", n, acknowledged, err)
				}
				t.Logf("%d rows of %d acknowledged", n, acknowledged)
			})
		}
	}
}

// TestSQLite has scripts read a number in one run of sqlite3 and write it back,
// plus one, in another: SQLite's own locks cannot help there.
func TestSQLite(t *testing.T) {
	needTool(t, "sqlite3")
	count := func(t *testing.T, wrap func(db string) []string) (got, want int, failed int) {
		db := database(t)
		if r := run(t, exec.Command("sqlite3", db, "create table t (n int); insert into t values (0)")); r.code != 0 {
			t.Fatal(r)
		}
		const script = `i=0; while [ $i -lt 15 ]; do "$@" || exit; i=$((i + 1)); done`
		var cmds []*exec.Cmd
		for range 4 {
			args := append([]string{"-c", script, "sh"}, wrap(db)...)
			cmds = append(cmds, exec.Command("sh", append(args, "sh", "-c", `n=$(sqlite3 "$1" "select n from t") && sqlite3 "$1" "update t set n = $n + 1"`, "sh", db)...))
		}
		failed, said := all(cmds...)
		if failed > 0 {
			t.Log(said)
		}
		r := run(t, exec.Command("sqlite3", db, "select n from t"))
		got, _ = strconv.Atoi(strings.TrimSpace(r.stdout))
		return got, 60, failed
	}
	if got, want, failed := count(t, func(db string) []string { return []string{dblock, "-q", "-w", "60", "-d", db, "--"} }); got != want || failed > 0 {
		t.Errorf("%d of %d updates, %d processes failed", got, want, failed)
	}
	if *full {
		got, want, failed := count(t, func(string) []string { return nil })
		t.Logf("without dblock: %d of %d updates, %d processes failed", got, want, failed)
	}
}

// TestFile has scripts read a whole file, change it and write it back, as
// programs with an embedded database of one file do.
func TestFile(t *testing.T) {
	db := database(t)
	counter := newCounter(t, filepath.Dir(db))
	const script = `i=0; while [ $i -lt 25 ]; do "$1" -q -w 60 -d "$2" -- sh -c 'n=$(cat "$1"); printf "%s\n" $((n + 1)) > "$1.new" && mv "$1.new" "$1"' sh "$3" || exit; i=$((i + 1)); done`
	var cmds []*exec.Cmd
	for range 6 {
		cmds = append(cmds, exec.Command("sh", "-c", script, "sh", dblock, db, counter))
	}
	if failed, said := all(cmds...); failed > 0 {
		t.Errorf("%d failed: %s", failed, said)
	}
	if n := counted(t, counter); n != 150 {
		t.Errorf("counted %d, want 150", n)
	}
	usable(t, db)
}
