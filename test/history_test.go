package test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// told is a line of `dblock log --json`.
type told struct {
	Event, Process, Ended, Command string
	Token                          int64
	PID, Code, Signal, Ahead       int
	Waited                         float64 `json:"waited_ms"`
	Held                           float64 `json:"held_ms"`
	By                             *told
	Blockers                       []struct {
		Process string
		PID     int
		MS      float64
	}
}

func logOf(t *testing.T, dir, db string) (all []told) {
	t.Helper()
	r := execute(t, dir, "log", "--json", "-n", "0", "-d", db)
	require.Zero(t, r.code(), r.stderr)
	for line := range strings.Lines(r.stdout) {
		var e told
		require.NoError(t, json.Unmarshal([]byte(line), &e), line)
		all = append(all, e)
	}
	return all
}

// brief is what happened to whom.
func brief(all []told) (s []string) {
	for _, e := range all {
		s = append(s, strings.TrimSpace(e.Process+" "+e.Event+" "+e.Ended))
	}
	return s
}

func TestLogOfEndings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := func(label string, args ...string) {
		execute(t, dir, append([]string{"-d", "x.db", "-p", label}, args...)...)
	}
	run("ok", "--", "true")
	run("code", "--", "sh", "-c", "exit 7")
	run("signal", "--", "sh", "-c", "kill -9 $$")
	run("late", "--time-limit", "0.05", "--", "sleep", "60")
	run("lost", "--", "rm", ".x.lock")
	run("killed", "--", "sh", "-c", "kill -9 $PPID; sleep 0.1")
	run("last", "--", "true")
	all := logOf(t, dir, "x.db")
	require.Equal(t, []string{
		"ok hold exited", "code hold exited", "signal hold signaled", "late hold time-limit", "lost lost", "lost hold lost", "killed killed", "last hold exited",
	}, brief(all))
	require.Equal(t, 7, all[1].Code)
	require.Equal(t, 9, all[2].Signal)
	require.GreaterOrEqual(t, all[3].Held, 50.0)
	require.Equal(t, []any{"last", "sh"}, []any{all[6].By.Process, all[6].Command})
	for i, e := range all[1:] {
		require.GreaterOrEqual(t, e.Token, all[i].Token)
	}
	// A database that is named twice, by two names, is one.
	require.NoError(t, os.Symlink("x.db", filepath.Join(dir, "link.db")))
	r := execute(t, dir, "log", "--json", "-d", "x.db", "-d", "link.db")
	require.Equal(t, len(all), strings.Count(r.stdout, "\n"))
}

// What a shell or a program holds is told of, too.
func TestLogOfHoldAndSession(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sh := exec.Command("bash", "-c", `eval "$(dblock hold -d x.db -p script)"; eval "$(dblock release)"; eval "$(dblock hold -d x.db -p late --time-limit 0.05 -q)"; sleep 60`)
	sh.Dir = dir
	_ = finish(t, sh)
	c := converse(t, dir)
	c.acquire("x.db", map[string]any{"process": "server"})
	c.end()
	require.Equal(t, []string{"script hold released", "late hold time-limit", "server hold released"}, brief(logOf(t, dir, "x.db")))
}

// Somebody who looks on sees each event at once, also when the file begins anew.
func TestLogFollows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := command(t, dir, "log", "-f", "-d", "x.db")
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	start(t, c)
	lines := bufio.NewReader(out)
	state := filepath.Join(dir, ".x.lock.d")
	for i := range 3 {
		require.Zero(t, execute(t, dir, "-d", "x.db", "-p", "job"+strconv.Itoa(i), "--", "true").code())
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		require.Contains(t, line, "  job"+strconv.Itoa(i)+" (true, pid ")
		require.NoError(t, os.Rename(filepath.Join(state, "history.jsonl"), filepath.Join(state, "history.1.jsonl")))
	}
	require.NoError(t, c.Process.Signal(unix.SIGTERM))
	_ = c.Wait()
	require.True(t, c.ProcessState.Sys().(interface{ Signaled() bool }).Signaled())

	// Where nobody reads any more it ends, and not only with the next event.
	c = command(t, dir, "log", "-f", "-d", "x.db")
	out, err = c.StdoutPipe()
	require.NoError(t, err)
	start(t, c)
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, out.Close())
	require.NoError(t, c.Wait())
}

// In a sticky directory only its owner can begin a new file. Others give up what is in it once it is
// four times as large, so that it does not grow for ever.
func TestHistoryThatIsAnothers(t *testing.T) {
	t.Parallel()
	dir, as := sticky(t)
	require.Zero(t, execute(t, dir, "-d", "x.db", "--", "true").code())
	file := filepath.Join(dir, ".x.lock.d", "history.jsonl")
	size := func() int64 {
		info, err := os.Stat(file)
		require.NoError(t, err)
		return info.Size()
	}
	other := func() {
		r := as("12345", "-d", "x.db", "--", "true")
		require.Zero(t, r.code(), r.stderr)
	}
	require.NoError(t, os.Truncate(file, 3<<20))
	other()
	require.Greater(t, size(), int64(3<<20))
	require.NoError(t, os.Truncate(file, 4<<20))
	other()
	require.Zero(t, size())
	other()
	require.NotZero(t, size())
	require.Zero(t, execute(t, dir, "-d", "x.db", "--", "true").code())
}

// Who had to wait for long says afterwards for whom.
func TestSlow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, command(t, dir, "-d", "x.db", "-p", "backup", "--", "sh", "-c", "touch in; sleep 0.3"))
	await(t, "it runs", func() bool { return exists(dir, "in") })
	r := finish(t, with(command(t, dir, "-d", "x.db", "-q", "--", "true"), "DBLOCK_SLOW=0.05"))
	require.NoError(t, first.Wait())
	require.Regexp(t, `^dblock: waited 0\.\ds for /.*/\.x\.lock: backup \(sh, pid \d+\)\n$`, r.stderr)
	r = execute(t, dir, "-d", "x.db", "--slow", "0.05", "--", "true")
	require.Empty(t, r.stderr)
}

// status ends with what explains how things are.
func TestStatusTellsTheLastEvent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.Zero(t, execute(t, dir, "-d", "x.db", "--", "true").code())
	require.NotContains(t, execute(t, dir, "status", "-d", "x.db").stdout, "Last event")
	portable.NeedsWord(t)
	h := hold(t, dir, "-d", "x.db", "-p", "stuck")
	require.Zero(t, execute(t, dir, "force", "--yes", "-d", "x.db").code())
	_ = h.Wait()
	require.Regexp(t, `\nLast event: 0(\.\d)?s ago, stuck \(sh, pid \d+\) had its lock removed by force, by dblock \(pid \d+\), user \w+\n$`, execute(t, dir, "status", "-d", "x.db").stdout)
	require.Equal(t, []string{"dblock hold exited", "stuck hold signaled", "stuck forced"}, brief(logOf(t, dir, "x.db")))
}

// helpWords may stand before a subcommand.
var helpWords = []string{"help", "--help", "-h"}

// A companion is found beside dblock and in PATH, never by way of the current directory, and
// does not hide a program whose name follows "--".
func TestCompanions(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	script := func(path, says string) {
		executable(t, path, []byte("#!/bin/sh\necho "+says+" \"$@\" ${GOMAXPROCS-none}; exit 5\n"))
	}
	script(filepath.Join(dir, "dblock-here"), "here")
	script(filepath.Join(elsewhere, "dblock-there"), "there")
	script(filepath.Join(elsewhere, "there"), "program")
	path := "PATH=:.:" + elsewhere + ":" + os.Getenv("PATH")
	r := finish(t, with(command(t, dir, "there", "-d", "x y", "--", "z"), path))
	require.Equal(t, []any{5, "there -d x y -- z none\n"}, []any{r.code(), r.stdout})
	r = finish(t, with(command(t, dir, "here"), path))
	require.Equal(t, 64, r.code())
	r = finish(t, with(command(t, dir, "-d", "x.db", "--", "there"), path))
	require.Equal(t, "program none\n", r.stdout)

	beside := filepath.Join(elsewhere, "dblock")
	b, err := os.ReadFile(binary)
	require.NoError(t, err)
	executable(t, beside, b)
	c := exec.Command(beside, "there")
	c.Env = []string{"PATH=/nowhere"}
	require.Equal(t, "there none\n", finish(t, c).stdout)
	for _, ask := range helpWords {
		require.Equal(t, "there --help none\n", finish(t, with(command(t, dir, ask, "there"), path)).stdout)
	}

	// One that is missing, or cannot be executed, is told of.
	alone := func(args ...string) result {
		c := exec.Command(beside, args...)
		c.Env = []string{"PATH=/nowhere"}
		return finish(t, c)
	}
	for _, args := range [][]string{{"stats", "-d", "x.db"}, {"help", "stats"}} {
		r = alone(args...)
		require.Equal(t, 64, r.code())
		require.Contains(t, r.stderr, "dblock-stats is not installed\nhint: ")
	}
	executable(t, filepath.Join(elsewhere, "dblock-stats"), nil)
	r = alone("stats", "-d", "x.db")
	require.Equal(t, 126, r.code())
	require.Contains(t, r.stderr, "dblock-stats: exec format error")

	r = finish(t, with(command(t, dir, "sttas", "-d", "x.db"), "DBLOCK_DB="))
	require.Equal(t, 64, r.code())
	require.Contains(t, r.stderr, "did you mean `dblock stats -d x.db`?")
}

// The history costs a run little even where it cannot be written.
func TestHistoryOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.Zero(t, execute(t, dir, "-d", "x.db", "--", "true").code())
	name := filepath.Join(dir, ".x.lock.d", "history.jsonl")
	require.NoError(t, os.Remove(name))
	require.NoError(t, os.Symlink("/dev/full", name))
	begin := time.Now()
	r := execute(t, dir, "-d", "x.db", "--", "true")
	require.Zero(t, r.code())
	require.Empty(t, r.stderr)
	require.Less(t, time.Since(begin), 10*time.Second)

	// Nor where files may not be longer than it is.
	require.NoError(t, os.Remove(name))
	for range 5 {
		require.Zero(t, execute(t, dir, "-d", "x.db", "--", "true").code())
	}
	limited := exec.Command("sh", "-c", "ulimit -f 1; dblock -d x.db -- true")
	limited.Dir = dir
	r = finish(t, limited)
	require.Zero(t, r.code(), r.stderr)
	require.Empty(t, r.stderr)
	require.Len(t, logOf(t, dir, "x.db"), 5)
}
