//go:build linux

package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// orphan leaves a command running whose dblock was killed; it ends when "go" is there.
func orphan(t *testing.T, dir string) {
	t.Helper()
	c := start(t, command(t, dir, "--orphan", "keep", "-d", "x.db", "-p", "gone", "--", "sh", "-c", `: > in; while [ -e in ] && ! [ -e go ]; do sleep 0.01; done`))
	await(t, "the command runs", func() bool { return exists(dir, "in") })
	require.NoError(t, c.Process.Kill())
	_ = c.Wait()
}

// Every state that a lock can be in, as text, as JSON and as an exit code; what
// force and the next dblock make of it.
func TestStates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
		state   string
		head    string
		locked  bool
		stale   bool
		next    int // exit code of dblock -n
		force   int // exit code of force
		ifStale int // exit code of force --if-stale, tried first
	}{
		{"free", func(*testing.T, string) {}, "free", "✅ Database is not locked\n", false, false, 0, 0, 0},
		{"held", func(t *testing.T, dir string) { hold(t, dir, "-d", "x.db", "-p", "cli") }, "held",
			"🔒 Database is locked\n\nLock Details:\n  Process: cli\n  PID: ", true, false, 75, 75, 75},
		{"shared", func(t *testing.T, dir string) {
			hold(t, dir, "-s", "-d", "x.db", "-p", "one")
			hold(t, dir, "-s", "-d", "x.db", "-p", "two")
		}, "shared", "🔒 Database is locked by " + map[bool]string{false: "2 ", true: ""}[portable.Half] + "readers\n", true, false, 75, 75, 75},
		{"orphaned", orphan, "orphaned", "🔒 Database is locked by an orphaned command\n", true, false, 75, 75, 75},
		{"stale dblock", func(t *testing.T, dir string) {
			r := execute(t, dir, "-d", "x.db", "-p", "dead", "--", "sh", "-c", "kill -9 $PPID; kill -9 $$")
			require.True(t, r.status.Signaled())
		}, "stale", "✅ Database is not locked: its lock is stale\n", false, true, 0, 0, 0},
		{"foreign, alive", func(t *testing.T, dir string) {
			foreign(t, dir, oldProcess(t).Process.Pid, thisHost(t), 0)
		}, "foreign", "🔒 Database is locked\n\nLock Details:\n  Process: mcp-server\n", true, false, 75, 75, 75},
		{"foreign, alive and old", func(t *testing.T, dir string) {
			foreign(t, dir, 1, thisHost(t), 5*time.Second)
		}, "foreign", "🔒 Database is locked\n", true, false, 75, 75, 75},
		{"foreign, dead", func(t *testing.T, dir string) { foreign(t, dir, deadPID(t), thisHost(t), 0) },
			"stale", "✅ Database is not locked: its lock is stale\n", false, true, 0, 0, 0},
		{"foreign, its pid is another's", func(t *testing.T, dir string) {
			require.Zero(t, execute(t, dir, "-d", "x.db", "--", "true").code()) // since then the clock is known
			foreign(t, dir, oldProcess(t).Process.Pid, thisHost(t), time.Hour)
		}, "stale", "✅ Database is not locked: its lock is stale\n", false, true, 0, 0, 0},
		{"remote, fresh", func(t *testing.T, dir string) { foreign(t, dir, 1, "elsewhere", 0) },
			"foreign", "🔒 Database is locked\n", true, false, 75, 0, 75},
		{"remote, old", func(t *testing.T, dir string) { foreign(t, dir, 1, "elsewhere", time.Minute) },
			"stale", "✅ Database is not locked: its lock is stale\n", false, true, 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			t.Cleanup(func() { letGo(t, dir) })
			c.prepare(t, dir)
			switch {
			case portable.Half && c.name == "orphaned":
				require.Contains(t, execute(t, dir, "status", "-v", "-d", "x.db").stdout, "but its command may run on\n")
				require.Equal(t, c.next, execute(t, dir, "-q", "-n", "-d", "x.db", "--", "true").code())
				portable.Needs(t, portable.Queue)
			case c.name == "foreign, its pid is another's":
				portable.Needs(t, portable.Processes)
			}
			before := tree(t, dir)
			text := finish(t, with(command(t, dir, "status", "-d", "x.db"), "LC_ALL=C.UTF-8"))
			require.Zero(t, text.code())
			require.True(t, strings.HasPrefix(text.stdout, c.head), "%s", text.stdout)
			require.Empty(t, text.stderr)
			s := statusOf(t, dir, "x.db")
			require.Equal(t, c.state, s.State)
			require.Equal(t, c.locked, s.Locked)
			require.Equal(t, c.stale, s.Stale)
			verbose := execute(t, dir, "status", "-v", "-d", "x.db")
			require.Contains(t, verbose.stdout, "  State: "+c.state+"\n")
			if c.state != "free" {
				require.Regexp(t, `(?m)^  Evidence: .+$`, verbose.stdout)
			}
			quiet := execute(t, dir, "status", "-q", "--exit-code", "-d", "x.db")
			require.Equal(t, map[bool]int{false: 0, true: 1}[c.locked], quiet.code())
			require.Empty(t, quiet.stdout+quiet.stderr)
			if c.state != "held" && c.state != "shared" { // their notices are alive
				require.Equal(t, before, tree(t, dir), "status changes nothing")
			}

			if c.name == "orphaned" {
				require.NotEmpty(t, s.Orphans)
			}
			r := execute(t, dir, "force", "--if-stale", "-d", "x.db")
			require.Equal(t, c.ifStale, r.code(), r.stderr)
			if c.stale {
				require.Contains(t, r.stdout, "forcibly removed")
				require.False(t, exists(dir, ".x.lock"))
				c.prepare(t, dir)
			}
			r = execute(t, dir, "force", "-d", "x.db")
			require.Equal(t, c.force, r.code(), r.stderr)
			require.Equal(t, c.force == 75, exists(dir, ".x.lock"))
			if c.force == 0 && c.state != "free" {
				require.Regexp(t, `forcibly removed\nLock file: `+regexp.QuoteMeta(filepath.Join(dir, ".x.lock"))+`\nIt was (left|held) by: \S+ \(pid \d+ on \S+\), (acquired \S+ ago|for \S+)\n$`, r.stdout)
				c.prepare(t, dir)
			}
			require.Equal(t, c.next, execute(t, dir, "-q", "-n", "-d", "x.db", "--", "true").code())
		})
	}
}

// tree is what there is in a directory, with sizes, dates and inodes.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			fmt.Fprintln(&b, path, info.Size(), info.Mode(), info.ModTime().UnixNano(), info.Sys().(*syscall.Stat_t).Ino)
		}
		return err
	}))
	return b.String()
}

// status -v lists who waits, in the order in which they will go.
func TestStatusListsWhoWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := hold(t, dir, "-d", "x.db")
	cs := queue(t, dir, 3, func(i int) []string {
		return []string{"-p", fmt.Sprintf("waiter%d", i), "--priority", []string{"normal", "normal", "high"}[i], "--", "sh", "-c", fmt.Sprintf("echo %d >> order", i)}
	})
	long := execute(t, dir, "status", "-v", "-d", "x.db")
	want := ""
	for n, i := range []int{0, 2, 1} {
		want += fmt.Sprintf(`  Waiting %d: pid %d, waiter%d, sh, for [^\n]*, exclusive, %s priority\n`, n+1, cs[i].Process.Pid, i, []string{"normal", "normal", "high"}[i])
	}
	short := execute(t, dir, "status", "-d", "x.db")
	went := order(t, dir, cs)
	require.NoError(t, h.Wait())
	if went != "0 2 1" { // quick commands of a lower class may go before one of a higher one there
		portable.Needs(t, portable.Signs)
	}
	require.Equal(t, "0 2 1", went)
	portable.Needs(t, portable.Queue)
	require.Regexp(t, want, long.stdout)
	require.Contains(t, short.stdout, "  Waiting: 3\n")
}

// Whichever readers are killed, all of them even, the lock is free at once when
// their commands have gone, and the next one out leaves nothing.
func TestReadersKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for round, killed := range []string{"first", "last", "all but the last", "all"} {
		pids := []int{}
		var readers []*exec.Cmd
		for i := range 4 {
			c := start(t, command(t, dir, "-s", "--stale-timeout", "3", "-d", "x.db", "-p", fmt.Sprintf("reader%d", i), "--", "sh", "-c",
				fmt.Sprintf("touch in%d-%d; until [ -e go%d ]; do sleep 0.01; done", round, i, round)))
			await(t, "it is in", func() bool { return exists(dir, fmt.Sprintf("in%d-%d", round, i)) })
			pids = append(pids, c.Process.Pid)
			readers = append(readers, c)
		}
		if !portable.Half { // which does not know the queue
			require.Len(t, statusOf(t, dir, "x.db").Readers, 4)
		}
		victims := map[string][]int{"first": {0}, "last": {3}, "all but the last": {0, 1, 2}, "all": {0, 1, 2, 3}}[killed]
		for _, i := range victims {
			require.NoError(t, unix.Kill(pids[i], unix.SIGKILL))
			_ = readers[i].Wait()
		}
		if killed != "all" {
			if !portable.Half {
				await(t, "the readers that live are listed", func() bool { return len(statusOf(t, dir, "x.db").Readers) == 4-len(victims) })
			}
			require.Equal(t, 75, execute(t, dir, "-n", "-d", "x.db", "--", "true").code())
			require.True(t, exists(dir, ".x.lock"), "peers are kept out as long as one reader is in")
			// The notice never names a process that is gone for longer than a beat.
			await(t, "the notice names one that lives", func() bool { return unix.Kill(noticePID(t, dir), 0) == nil })
			require.NoError(t, unix.Kill(statusOf(t, dir, "x.db").Holder.PID, 0))
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("go%d", round)), nil, 0o644))
		for i, r := range readers {
			if !slices.Contains(victims, i) {
				require.NoError(t, r.Wait())
			}
		}
		if killed != "all" && !portable.Half { // where the command of a killed one still shares the lock
			require.Empty(t, litter(t, dir), killed)
		}
		await(t, "the lock is free", func() bool { return execute(t, dir, "-n", "-d", "x.db", "--", "true").code() == 0 })
		require.Empty(t, litter(t, dir), killed)
	}
}

// A live holder that is ended by force with consent: its command is over before
// force returns, those who waited go on, and nobody's notice is left.
func TestForceLetsTheNextOneIn(t *testing.T) {
	portable.Needs(t, portable.Tree)
	t.Parallel()
	dir := t.TempDir()
	h := start(t, command(t, dir, "-d", "x.db", "--", "sh", "-c", "trap '' TERM; touch in; while :; do sleep 0.01; done"))
	await(t, "the command runs", func() bool { return exists(dir, "in") })
	next := start(t, command(t, dir, "-q", "-w", "forever", "-d", "x.db", "--", "touch", "next"))
	await(t, "one waits", func() bool { return waiters(t, dir, "x.db") == 1 })
	r := execute(t, dir, "force", "--yes", "--kill-after", "0.2", "-d", "x.db")
	require.Zero(t, r.code(), r.stderr)
	require.Contains(t, r.stdout, fmt.Sprintf("pid %d", h.Process.Pid))
	require.NoError(t, next.Wait())
	_ = h.Wait()
	require.True(t, exists(dir, "next"))
	require.Empty(t, litter(t, dir))
}

// A wrong id removes nothing; the right one is consent to end that one holder.
func TestForceByID(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := execute(t, dir, "force", "--id", "0123456789abcdef", "-d", "x.db")
	require.Zero(t, r.code(), "there is no lock: %s", r.stderr)
	h := hold(t, dir, "-d", "x.db")
	id := statusOf(t, dir, "x.db").ID
	require.Regexp(t, `^[0-9a-f]{16}$`, id)
	letGo(t, dir)
	require.NoError(t, h.Wait())
	require.NoError(t, os.Remove(filepath.Join(dir, "go")))
	h = hold(t, dir, "-d", "x.db")
	require.Equal(t, 75, execute(t, dir, "force", "--id", id, "--yes", "-d", "x.db").code(), "that one is over: this is another")
	require.Equal(t, "held", statusOf(t, dir, "x.db").State)
	portable.NeedsWord(t)
	require.Zero(t, execute(t, dir, "force", "--id", statusOf(t, dir, "x.db").ID, "-d", "x.db").code())
	_ = h.Wait()
	require.Equal(t, "free", statusOf(t, dir, "x.db").State)
}

// noticePID is the pid that the lock file names.
func noticePID(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, ".x.lock"))
	require.NoError(t, err)
	var n struct{ PID int }
	require.NoError(t, json.Unmarshal(b, &n))
	return n.PID
}
