package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// following is a dblock status --watch, and what it has printed.
type following struct {
	*exec.Cmd
	t *testing.T

	mu    sync.Mutex
	lines []string
}

func follow(t *testing.T, dir string, args ...string) *following {
	t.Helper()
	f := &following{Cmd: command(t, dir, append([]string{"status", "--watch", "-d", "x.db"}, args...)...), t: t}
	out, err := f.StdoutPipe()
	require.NoError(t, err)
	start(t, f.Cmd)
	go func() {
		for r := bufio.NewReader(out); ; {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			f.mu.Lock()
			f.lines = append(f.lines, line)
			f.mu.Unlock()
		}
	}()
	return f
}

// take waits for a line that has that, and drops those before it.
func (f *following) take(what string) (line string) {
	f.t.Helper()
	re := regexp.MustCompile(what)
	await(f.t, what, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for i, l := range f.lines {
			if re.MatchString(l) {
				line, f.lines = l, f.lines[i+1:]
				return true
			}
		}
		return false
	})
	return line
}

// A line for each change of the lock, the first at once.
func TestWatchTellsOfEachChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const at = `^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d `
	f := follow(t, dir)
	f.take(at + `free\n$`)
	h := hold(t, dir, "-d", "x.db", "-p", "one")
	f.take(at + fmt.Sprintf(`held by one \(pid %d on \S+\) for [0-9.]+s\n$`, h.Process.Pid))
	cs := queue(t, dir, 2, func(i int) []string {
		return []string{"-p", fmt.Sprintf("next%d", i), "--", "sh", "-c", fmt.Sprintf("until [ -e go%d ]; do sleep 0.01; done", i)}
	})
	if !portable.Half { // which does not know who waits
		f.take(at + `held by one .*, 2 waiting\n$`)
	}
	letGo(t, dir)
	require.NoError(t, h.Wait())
	for i, c := range cs {
		f.take(at + fmt.Sprintf(`held by next%d `, i))
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("go%d", i)), nil, 0o644))
		require.NoError(t, c.Wait())
	}
	f.take(at + `free\n$`)
	foreign(t, dir, 1, "elsewhere", 0)
	f.take(at + `foreign: held by mcp-server \(pid 1 on elsewhere\) for [0-9.]+s\n$`)
	require.NoError(t, os.Remove(filepath.Join(dir, ".x.lock")))
	f.take(at + `free\n$`)
	foreign(t, dir, deadPID(t), thisHost(t), 0)
	f.take(at + `stale: process \d+ has gone\n$`)
	require.NoError(t, f.Process.Signal(unix.SIGTERM))
	require.Error(t, f.Wait())
	require.True(t, strings.HasSuffix(f.ProcessState.String(), "signal: terminated"), f.ProcessState.String())
}

// A killed holder is noticed although its lock file stays.
func TestWatchTellsOfAKilledHolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := follow(t, dir)
	f.take(`free`)
	orphan(t, dir)
	if portable.Half { // which does not know what is left
		f.take(`stale: process \d+ has gone, but its command may run on\n`)
		letGo(t, dir)
		return
	}
	f.take(`orphaned: held by an orphaned command: .*sh \(pid \d+\)`)
	letGo(t, dir)
	f.take(`stale: the dblock that held it \(process \d+\) has gone\n`)
}

func TestWatchAsJSON(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := follow(t, dir, "--json")
	type doc struct {
		Version  int
		Time     int64
		State    string
		Database string
		Holder   *struct{ Process string }
	}
	take := func(what string) (d doc) {
		line := f.take(what)
		require.NoError(t, json.Unmarshal([]byte(line), &d), line)
		require.Equal(t, 1, d.Version)
		require.InDelta(t, time.Now().UnixMilli(), d.Time, 60_000)
		return d
	}
	require.Equal(t, "free", take(`"state":"free"`).State)
	hold(t, dir, "-d", "x.db", "-p", "one")
	d := take(`"state":"held"`)
	require.Equal(t, "one", d.Holder.Process)
	require.True(t, strings.HasSuffix(d.Database, "/x.db"))
	letGo(t, dir)
	take(`"state":"free"`)
	r := execute(t, dir, "status", "--json", "-d", "x.db")
	require.NotContains(t, r.stdout, `"time"`, "one that is alone is of now")
}

// Whose reader has gone ends, also while there is nothing to write.
func TestWatchEndsWithItsReader(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, ignored := range []string{"", "trap '' PIPE; "} {
		c := exec.Command("bash", "-c", ignored+`dblock status --watch -d x.db | head -n 1; echo "${PIPESTATUS[0]}"`)
		c.Dir = dir
		done := make(chan result, 1)
		go func() { done <- finish(t, c) }()
		select {
		case r := <-done:
			require.Regexp(t, `free\n141\n$`, r.stdout)
			require.Empty(t, r.stderr)
		case <-time.After(30 * time.Second):
			_ = c.Process.Kill()
			require.FailNow(t, "it goes on")
		}
	}
}

// Who waits until a lock is free is not in the queue, and lets all go first who are.
func TestUntilFree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := execute(t, dir, "status", "--until-free", "-d", "x.db")
	require.Zero(t, r.code(), r.stderr)
	require.Regexp(t, `^(✅ )?Database is not locked\nLock file: /.*/\.x\.lock\n$`, r.stdout)
	require.Empty(t, r.stderr)

	h := hold(t, dir, "-d", "x.db", "-p", "one")
	late := func(args ...string) result {
		return execute(t, dir, append([]string{"status", "--until-free", "-d", "x.db"}, args...)...)
	}
	r = late("-w", "0.3")
	require.Equal(t, 75, r.code())
	require.Empty(t, r.stdout)
	require.Regexp(t, `^dblock: /.*/\.x\.lock is held by one \(pid \d+ on \S+\) for [0-9.]+s; gave up after [0-9.]+s\nhint: wait longer with --wait; see who it is with `+"`dblock status -d /.*/x.db`", r.stderr)
	r = late("-w", "0", "-E", "7", "-q")
	require.Equal(t, 7, r.code())
	require.Empty(t, r.stdout+r.stderr)
	r = finish(t, with(command(t, dir, "status", "--until-free", "--json", "-d", "x.db"), "DBLOCK_WAIT=0", "DBLOCK_CONFLICT_EXIT_CODE=8"))
	require.Equal(t, 8, r.code())
	require.Contains(t, r.stdout, `"state": "held"`)
	r = late("-w", "0.2", "--watch")
	require.Equal(t, 75, r.code())
	require.Regexp(t, `^\S+ \S+ held by one .*\n$`, r.stdout)
	require.Contains(t, r.stderr, "gave up after")

	// It does not wait for itself.
	r = execute(t, dir, "-d", "y.db", "--", binary, "status", "--until-free", "-w", "60")
	require.Equal(t, 75, r.code())
	require.Contains(t, r.stderr, "would wait for its own end")

	// They go on until the last of those who wait has had the lock.
	var all []*exec.Cmd
	var outs []*strings.Builder
	for _, args := range [][]string{{"-w", "60"}, {"--json"}} {
		c := command(t, dir, append([]string{"status", "--until-free", "-d", "x.db"}, args...)...)
		out := &strings.Builder{}
		c.Stdout, c.Stderr = out, out
		all, outs = append(all, start(t, c)), append(outs, out)
	}
	const at = `^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d `
	f := follow(t, dir, "--until-free", "-w", "forever")
	f.take(at + `held by one `)
	queue(t, dir, 2, func(i int) []string { return []string{"--", "sh", "-c", fmt.Sprintf("sleep 0.3; echo %d >> ran", i)} })
	require.Equal(t, 2, waiters(t, dir, "x.db"), "who waits for a free lock is none of them")
	letGo(t, dir)
	require.NoError(t, h.Wait())
	for i, c := range all {
		require.NoError(t, c.Wait(), outs[i])
		ran, err := os.ReadFile(filepath.Join(dir, "ran"))
		require.NoError(t, err)
		require.Equal(t, "0\n1\n", string(ran))
	}
	require.Regexp(t, `^(✅ )?Database is not locked\nLock file: /.*/\.x\.lock\n$`, outs[0].String())
	require.Contains(t, outs[1].String(), `"state": "free"`)
	f.take(at + `free\n$`)
	require.NoError(t, f.Wait())
}

// On a terminal a line tells of the holder, as it does for those in the queue, and goes away.
func TestUntilFreeOnATerminal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hold(t, dir, "-d", "x.db", "-p", "one")
	tm := newTerminal(t, dir, 100)
	tm.typed("dblock status --until-free -d x.db\n")
	tm.expect(`\rdblock: waiting 1\.[0-9]s, held by one \(pid \d+ on \S+\) for [0-9.]+s`)
	tm.typed("\x03")
	tm.expect(`\^C\r\x1b\[K\r\n`)
	tm.typed("dblock status --until-free -d x.db; echo code=$?\n")
	tm.expect(`code=\$\?\r\n(\$ )?\rdblock: waiting 0.[^\r]*\x1b\[K\rdblock: waiting 1\.[0-9]s, held by one`)
	letGo(t, dir)
	tm.expect(`\r\x1b\[K✅ \x1b\[32mDatabase is not locked`)
	tm.expect(`code=0`)
}
