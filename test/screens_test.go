//go:build linux

package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// changing is what is different each time in what status shows.
var changing = []struct{ from, to string }{
	{`\d{4}-\d\d-\d\dT[\d:]+(Z|[+-][\d:]+)`, "DATE"},
	{`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`, "DATE"},
	{`started \d\d:\d\d:\d\d`, "started TIME"},
	{`(pid|PID:|process|-CONT|-KILL) \d+`, "$1 N"},
	{`(for|in|Age:) [\d.]+(s|m\d\ds)`, "$1 T"},
	{`ID: [0-9a-f-]+`, "ID: ID"},
	{`Token: \d+`, "Token: N"},
}

// steady is what status shows, without what is different each time.
func steady(t *testing.T, dir, text string) string {
	t.Helper()
	for _, c := range changing {
		text = regexp.MustCompile(c.from).ReplaceAllString(text, c.to)
	}
	real, err := filepath.EvalSymlinks(dir)
	require.NoError(t, err)
	return strings.NewReplacer(real, "DIR", "Host: "+thisHost(t)+"\n", "Host: HOST\n", "User: "+username()+"\n", "User: USER\n").Replace(text)
}

func username() string {
	out, err := exec.Command("id", "-un").Output()
	if err != nil {
		return strconv.Itoa(os.Getuid())
	}
	return strings.TrimSpace(string(out))
}

// sleeping starts a command that has the database open.
func sleeping(t *testing.T, dir string, flags int) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "x.db"), flags|os.O_CREATE, 0o644)
	require.NoError(t, err)
	defer f.Close()
	c := exec.Command("sleep", "1000")
	c.ExtraFiles = []*os.File{f}
	start(t, c)
}

// Every screen of status, as people see it.
func TestScreens(t *testing.T) {
	t.Parallel()
	// What the other half does not show, and what it shows in place of that.
	limits := map[string]string{
		"orphaned": portable.Queue, "orphaned, without a lock file": portable.Queue, "held by what says nothing": portable.Queue,
		"a stopped waiter": portable.Queue, "held, and a stopped waiter": portable.Queue, "a stopped command": portable.Processes,
		"a stopped holder": portable.Processes, "a stopped program of others": portable.Processes, "the command has ended": portable.Tree,
	}
	there := map[string][]string{
		"free, verbose": {"sleep (pid N), for writing", "this system does not tell"},
		"held":          {"  Waiting: 1\n", ""},
		"held, verbose": {
			"holds the kernel lock, started TIME", "refreshes it",
			"  Runs: pid N: sh -c 'touch in; until [ -e go ]; do sleep 0.01; done', in DIR\n", "",
			`  Waiting 1: pid N, true, "why", for T, gives up in T, exclusive, normal priority` + "\n", "  Waiting: this system does not tell who waits\n",
			"  Waiting 2: pid N, two, true, for T, exclusive, normal priority\n", "",
			"sleep (pid N)", "this system does not tell",
		},
		"shared":        {"2 readers", "readers", "  Reader 1: pid N, one, sh, for T\n  Reader 2: pid N, one, sh, for T\n", ""},
		"shared by one": {"a reader", "readers"},
		"stale": {
			"the dblock that held it (process N) has gone", "process N has gone, but its command may run on",
			"takes it over.", "takes it over as soon as its command does not run any more.",
		},
	}
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
		flags   string
		want    string
	}{
		{"free", func(*testing.T, string) {}, "", `✅ Database is not locked
Lock file: DIR/.x.lock
`},
		{"free, verbose", func(t *testing.T, dir string) { sleeping(t, dir, os.O_RDWR) }, "-v", `✅ Database is not locked

Lock Details:
  State: free
  Waiting: nobody
  Open without the lock: sleep (pid N), for writing
  Lock file: DIR/.x.lock
`},
		{"held", func(t *testing.T, dir string) {
			hold(t, dir, "-d", "x.db", "-p", "migration", "--info", "OPS-7")
			waits(t, dir, 1, "-w", "1000")
		}, "", `🔒 Database is locked

Lock Details:
  Process: migration
  PID: N
  Host: HOST
  Age: T
  Info: OPS-7
  Waiting: 1
  Lock file: DIR/.x.lock
`},
		{"held, verbose", func(t *testing.T, dir string) {
			sleeping(t, dir, os.O_RDONLY)
			hold(t, dir, "-d", "x.db", "-p", "migration", "--info", "OPS-7")
			waits(t, dir, 1, "-w", "50", "--info", "why")
			waits(t, dir, 2, "-w", "forever", "-p", "two")
		}, "-v", `🔒 Database is locked

Lock Details:
  Process: migration
  PID: N
  Host: HOST
  Age: T
  Info: OPS-7
  Evidence: process N is alive and holds the kernel lock, started TIME
  State: held
  ID: ID
  Command: sh
  User: USER
  Mode: exclusive
  Token: N
  Acquired: DATE
  Last beat: DATE
  Runs: pid N: sh -c 'touch in; until [ -e go ]; do sleep 0.01; done', in DIR
  Waiting 1: pid N, true, "why", for T, gives up in T, exclusive, normal priority
  Waiting 2: pid N, two, true, for T, exclusive, normal priority
  Open without the lock: sleep (pid N)
  Lock file: DIR/.x.lock
`},
		{"shared", func(t *testing.T, dir string) {
			hold(t, dir, "-s", "-d", "x.db", "-p", "one")
			hold(t, dir, "-s", "-d", "x.db", "-p", "one")
		}, "", `🔒 Database is locked by 2 readers

Lock Details:
  Process: one
  PID: N
  Host: HOST
  Age: T
  Reader 1: pid N, one, sh, for T
  Reader 2: pid N, one, sh, for T
  Lock file: DIR/.x.lock
`},
		{"shared by one", func(t *testing.T, dir string) { hold(t, dir, "-s", "-d", "x.db", "-p", "one") }, "", `🔒 Database is locked by a reader

Lock Details:
  Process: one
  PID: N
  Host: HOST
  Age: T
  Lock file: DIR/.x.lock
`},
		{"stale", func(t *testing.T, dir string) {
			execute(t, dir, "-d", "x.db", "-p", "dead", "--", "sh", "-c", "kill -9 $PPID; kill -9 $$")
		}, "", `✅ Database is not locked: its lock is stale

Lock Details:
  Process: dead
  PID: N
  Host: HOST
  Age: T
  Evidence: the dblock that held it (process N) has gone
  What to do: nothing. The next dblock takes it over.
  Lock file: DIR/.x.lock
`},
		{"orphaned", orphanOfOne, "", `🔒 Database is locked by an orphaned command

Lock Details:
  Process: gone
  PID: N
  Host: HOST
  Age: T
  Evidence: the dblock that held the lock (process N) was killed, but its command runs on and keeps the kernel lock
  Still running: sh (pid N)
  What to do: wait until it has ended, or end it:
    dblock force -d DIR/x.db
  Lock file: DIR/.x.lock
`},
		{"orphaned, without a lock file", func(t *testing.T, dir string) {
			orphanOfOne(t, dir)
			require.NoError(t, os.Remove(filepath.Join(dir, ".x.lock")))
		}, "", `🔒 Database is locked by an orphaned command

Lock Details:
  Evidence: the dblock that held the lock (process N) was killed, and its lock file was deleted, but its command runs on and keeps the kernel lock
  Still running: sh (pid N)
  What to do: wait until it has ended, or end it:
    dblock force -d DIR/x.db
  Lock file: DIR/.x.lock
`},
		{"held by what says nothing", func(t *testing.T, dir string) {
			need(t, "flock")
			require.Zero(t, execute(t, dir, "-d", "x.db", "--", "true").code())
			c := exec.Command("flock", "-o", ".x.lock.d/room", "sh", "-c", "touch in; while [ -e in ] && [ ! -e go ]; do sleep 0.01; done")
			c.Dir = dir
			start(t, c)
			await(t, "it is in", func() bool { return exists(dir, "in") })
		}, "", `🔒 Database is locked

Lock Details:
  Evidence: process N has the kernel lock, and there is no lock file
  Locked by: flock (pid N)
  What to do: wait until it has ended, or end it:
    dblock force -d DIR/x.db
  Lock file: DIR/.x.lock
`},
		{"foreign, here", func(t *testing.T, dir string) {
			foreign(t, dir, oldProcess(t).Process.Pid, thisHost(t), 0)
		}, "", `🔒 Database is locked

Lock Details:
  Process: mcp-server
  PID: N
  Host: HOST
  Age: T
  Lock file: DIR/.x.lock
`},
		{"foreign, on another host", func(t *testing.T, dir string) { foreign(t, dir, 1, "elsewhere", 0) }, "", `🔒 Database is locked

Lock Details:
  Process: mcp-server
  PID: N
  Host: elsewhere
  Age: T
  What to do: find out on elsewhere whether pid N still runs. If it does not:
    dblock force -d DIR/x.db
  Lock file: DIR/.x.lock
`},
		{"invalid", func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, ".x.lock"), nil, 0o644))
			old := time.Now().Add(-time.Minute)
			require.NoError(t, os.Chtimes(filepath.Join(dir, ".x.lock"), old, old))
		}, "", `⚠️  Database lock is invalid

Lock Details:
  Evidence: not a valid lock file
  What to do: nothing. The next dblock replaces it.
  Lock file: DIR/.x.lock
`},
		{"no lock file at all", func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, ".x.lock"), make([]byte, 5000), 0o644))
		}, "", `⚠️  Database lock is invalid

Lock Details:
  Evidence: it is not a lock file: it is larger than 4096 bytes
  What to do: move it away, or name another lock file with --lock-file. No dblock touches it.
  Lock file: DIR/.x.lock
`},
		{"a stopped waiter", func(t *testing.T, dir string) {
			h := hold(t, dir, "-d", "x.db")
			w := waits(t, dir, 1, "-w", "forever", "-p", "stuckw")
			require.NoError(t, w.Process.Signal(unix.SIGSTOP))
			await(t, "it is stopped", func() bool { return waiters(t, dir, "x.db") == 0 })
			letGo(t, dir)
			require.NoError(t, h.Wait())
		}, "", `⚠️  Database is not locked, but pid N, which is stopped, blocks the queue

Lock Details:
  Stopped: stuckw (pid N), which waits for the lock. Until it goes on, or is ended, others may wait in vain.
  What to do: let it go on (first command), or end it (second):
    kill -CONT N
    kill -KILL N
  Lock file: DIR/.x.lock
`},
		{"held, and a stopped waiter", func(t *testing.T, dir string) {
			hold(t, dir, "-d", "x.db", "-p", "migration")
			w := waits(t, dir, 1, "-w", "forever")
			require.NoError(t, w.Process.Signal(unix.SIGSTOP))
			await(t, "it is stopped", func() bool { return waiters(t, dir, "x.db") == 0 })
			waits(t, dir, 1, "-w", "forever")
		}, "", `🔒 Database is locked

Lock Details:
  Process: migration
  PID: N
  Host: HOST
  Age: T
  Stopped: dblock for true (pid N), which waits for the lock. Until it goes on, or is ended, others may wait in vain.
  What to do: let it go on (first command), or end it (second):
    kill -CONT N
    kill -KILL N
  Waiting: 1
  Lock file: DIR/.x.lock
`},
		{"a stopped command", func(t *testing.T, dir string) {
			child := commandOf(t, hold(t, dir, "-d", "x.db", "-p", "migration"))
			require.NoError(t, unix.Kill(child, unix.SIGSTOP))
			t.Cleanup(func() { _ = unix.Kill(child, unix.SIGCONT) })
			stopped(t, child)
		}, "", `🔒 Database is locked

Lock Details:
  Process: migration
  PID: N
  Host: HOST
  Age: T
  Stopped: sh (pid N), which works under the lock. Until it goes on, or is ended, others may wait in vain.
  What to do: let it go on (first command), or end it (second):
    kill -CONT N
    dblock force -d DIR/x.db
  Lock file: DIR/.x.lock
`},
		{"a stopped holder", func(t *testing.T, dir string) {
			h := hold(t, dir, "-d", "x.db", "-p", "migration")
			require.NoError(t, h.Process.Signal(unix.SIGSTOP))
			t.Cleanup(func() { _ = h.Process.Signal(unix.SIGCONT) })
			stopped(t, h.Process.Pid)
		}, "", `🔒 Database is locked

Lock Details:
  Process: migration
  PID: N
  Host: HOST
  Age: T
  Stopped: dblock for sh (pid N). Until it goes on, or is ended, others may wait in vain.
  What to do: let it go on (first command), or end it (second):
    kill -CONT N
    dblock force -d DIR/x.db
  Lock file: DIR/.x.lock
`},
		{"a stopped program of others", func(t *testing.T, dir string) {
			p := oldProcess(t)
			foreign(t, dir, p.Process.Pid, thisHost(t), 0)
			require.NoError(t, p.Process.Signal(unix.SIGSTOP))
			stopped(t, p.Process.Pid)
		}, "", `🔒 Database is locked

Lock Details:
  Process: mcp-server
  PID: N
  Host: HOST
  Age: T
  Stopped: sleep (pid N), which works under the lock. Until it goes on, or is ended, others may wait in vain.
  What to do: let it go on:
    kill -CONT N
  Lock file: DIR/.x.lock
`},
		{"the command has ended", func(t *testing.T, dir string) {
			need(t, "bash")
			h := start(t, command(t, dir, "--kill-after", "forever", "-d", "x.db", "-p", "ending", "--", "bash", "-c", "(trap '' TERM; touch in; exec sleep 20) & wait"))
			await(t, "it runs", func() bool { return exists(dir, "in") })
			require.NoError(t, h.Process.Signal(unix.SIGTERM))
			await(t, "the command has ended", func() bool {
				return strings.Contains(execute(t, dir, "status", "-d", "x.db").stdout, "the command has ended")
			})
		}, "", `🔒 Database is locked

Lock Details:
  Process: ending
  PID: N
  Host: HOST
  Age: T
  Still running: sleep (pid N); the command has ended
  Lock file: DIR/.x.lock
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if limit := limits[c.name]; limit != "" {
				portable.Needs(t, limit)
			}
			if portable.Half {
				c.want = strings.NewReplacer(there[c.name]...).Replace(c.want)
			}
			t.Parallel()
			dir := t.TempDir()
			t.Cleanup(func() { letGo(t, dir) })
			c.prepare(t, dir)
			args := []string{"status", "-d", "x.db"}
			if c.flags != "" {
				args = append(args, c.flags)
			}
			r := finish(t, with(command(t, dir, args...), "LC_ALL=C.UTF-8"))
			require.Zero(t, r.code(), r.stderr)
			got := steady(t, dir, r.stdout)
			got = regexp.MustCompile(`touch in-\d+`).ReplaceAllString(got, "touch in")
			require.Equal(t, c.want, got)
		})
	}
}

// orphanOfOne is a command of one process whose dblock was killed.
func orphanOfOne(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	c := start(t, command(t, dir, "--orphan", "keep", "-d", "x.db", "-p", "gone", "--", "sh", "-c", "touch in; read x < fifo"))
	await(t, "it runs", func() bool { return exists(dir, "in") })
	t.Cleanup(func() {
		f, err := os.OpenFile(filepath.Join(dir, "fifo"), os.O_RDWR, 0) // its end
		require.NoError(t, err)
		_, _ = f.WriteString("end\n")
		await(t, "it has ended", func() bool { return statusOf(t, dir, "x.db").State != "orphaned" })
		f.Close()
	})
	require.NoError(t, c.Process.Kill())
	_ = c.Wait()
}

// waits starts one that waits, as number n in the queue.
func waits(t *testing.T, dir string, n int, flags ...string) *exec.Cmd {
	t.Helper()
	w := start(t, command(t, dir, append(append([]string{"-q", "-d", "x.db"}, flags...), "--", "true")...))
	await(t, "it waits", func() bool { return waiters(t, dir, "x.db") == n })
	return w
}

// Programs get the same facts.
func TestFactsAsJSON(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sleeping(t, dir, os.O_RDWR)
	h := hold(t, dir, "-d", "x.db", "--info", "OPS-7")
	begin := time.Now()
	w := waits(t, dir, 1, "-w", "1000", "--info", "why")
	var got struct {
		Holder  struct{ Info string }
		Waiting []struct {
			PID      int
			Info     string
			Deadline int64
		}
		Running []struct {
			PID, Under int
			Args       []string
			Dir        string
			Dblock     bool
		}
		Inside  bool
		Openers []struct {
			PID             int
			Command         string
			UID             int
			Writing, Locked bool
		}
		OpenersKnown bool `json:"openers_known"`
		HoldersKnown bool `json:"holders_known"`
		KeptBy       *int `json:"kept_by"`
	}
	require.NoError(t, json.Unmarshal([]byte(execute(t, dir, "status", "--json", "-d", "x.db").stdout), &got))
	require.Equal(t, "OPS-7", got.Holder.Info)
	require.False(t, got.Inside)
	require.Nil(t, got.KeptBy)
	letGo(t, dir)
	require.NoError(t, h.Wait())

	portable.Needs(t, portable.Queue)
	require.Len(t, got.Waiting, 1)
	require.Equal(t, w.Process.Pid, got.Waiting[0].PID)
	require.Equal(t, "why", got.Waiting[0].Info)
	require.WithinRange(t, time.UnixMilli(got.Waiting[0].Deadline), begin.Add(999*time.Second), time.Now().Add(1000*time.Second))
	require.Len(t, got.Running, 1)
	require.Equal(t, h.Process.Pid, got.Running[0].Under)
	require.Equal(t, []string{"sh", "-c"}, got.Running[0].Args[:2])
	require.False(t, got.Running[0].Dblock)
	require.Len(t, got.Openers, 1)
	require.Equal(t, "sleep", got.Openers[0].Command)
	require.Equal(t, os.Getuid(), got.Openers[0].UID)
	require.True(t, got.Openers[0].Writing)
	require.False(t, got.Openers[0].Locked)
	require.True(t, got.HoldersKnown)
	require.Equal(t, os.Getuid() == 0, got.OpenersKnown)
}

// What is inside of the hold is told so.
func TestStatusFromWithin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	within := [][]string{{"dblock", "status"}, {"dblock", "status", "-v"}}
	for _, status := range within {
		r := execute(t, dir, append([]string{"-d", "x.db", "--"}, status...)...)
		require.Equal(t, 1, strings.Count(r.stdout, "  This is you: the command that has the lock has started this dblock status\n"))
	}
	hold(t, dir, "-d", "x.db")
	for _, status := range within {
		r := execute(t, dir, append(status[1:], "-d", "x.db")...)
		require.Zero(t, r.code(), r.stderr)
		require.NotContains(t, r.stdout, "This is you")
	}
	letGo(t, dir)
}

// stopped waits until a process does not run.
func stopped(t *testing.T, pid int) {
	t.Helper()
	await(t, "it is stopped", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err == nil && strings.Contains(string(b), ") T ")
	})
}

// commandOf is what a dblock runs.
func commandOf(t *testing.T, h *exec.Cmd) (child int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", h.Process.Pid))
	require.NoError(t, err)
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		for _, word := range strings.Fields(string(b)) {
			child, err = strconv.Atoi(word)
			require.NoError(t, err)
		}
	}
	require.NotZero(t, child)
	return child
}

// A stopped command is told from a stopped dblock.
func TestStatusOfAStoppedCommand(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	dir := t.TempDir()
	h := hold(t, dir, "-d", "x.db")
	child := commandOf(t, h)
	require.NoError(t, unix.Kill(child, unix.SIGSTOP))
	await(t, "it is shown", func() bool {
		out := execute(t, dir, "status", "-v", "-d", "x.db").stdout
		return strings.Contains(out, fmt.Sprintf("  Runs: pid %d, stopped: sh -c ", child))
	})
	require.NoError(t, unix.Kill(child, unix.SIGCONT))
	letGo(t, dir)
	require.NoError(t, h.Wait())
}

// On a terminal no line is broken inside of a word, and what can be copied is on a line of its own.
func TestScreensOnATerminal(t *testing.T) {
	portable.Needs(t, portable.Queue)
	t.Parallel()
	for _, columns := range []uint16{80, 40} {
		dir := t.TempDir()
		orphanOfOne(t, dir)
		tm := newTerminal(t, dir, columns, "NO_COLOR=1")
		tm.typed("dblock status -d x.db; echo code=$?\n")
		tm.expect(`code=0`)
		shown := tm.shown()
		require.Contains(t, shown, "\r\n    dblock force -d "+dir+"/x.db\r\n")
		for line := range strings.SplitSeq(shown, "\r\n") {
			if !strings.Contains(line, dir) && !strings.Contains(line, "Database is") {
				require.LessOrEqual(t, len([]rune(line)), int(columns), "%q", line)
			}
		}
		require.Contains(t, strings.Join(strings.Fields(shown), " "), "was killed, but its command runs on and keeps the kernel lock Still running: sh (pid ")
	}
}

// A holder in another pid namespace, a container say, is not taken for somebody without the lock.
func TestOpenersBesideAContainer(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	needRoot(t)
	need(t, "unshare")
	dir := t.TempDir()
	h := exec.Command("unshare", "--pid", "--fork", "--kill-child", binary, "-d", "x.db", "--", "sh", "-c", "exec 3>>x.db; touch in; while [ -e in ] && [ ! -e go ]; do sleep 0.01; done")
	h.Dir = dir
	if err := h.Start(); err != nil {
		t.Skip("no namespaces here: ", err)
	}
	t.Cleanup(func() { letGo(t, dir); _ = h.Process.Kill(); _ = h.Wait() })
	await(t, "it runs", func() bool { return exists(dir, "in") })
	sleeping(t, dir, os.O_RDONLY)
	r := execute(t, dir, "status", "-v", "-d", "x.db")
	require.Regexp(t, `\n  Open without the lock: sleep \(pid \d+\)\n  Lock file: `, r.stdout)
	letGo(t, dir)
	require.NoError(t, h.Wait())

	foreign(t, dir, 1, "elsewhere", 0)
	r = execute(t, dir, "status", "-v", "-d", "x.db")
	require.Regexp(t, `\n  Open without the lock: sleep \(pid \d+\); or this is the holder, which cannot be told\n`, r.stdout)
}

// What is advised can be copied into a shell, wherever one is and whatever the path.
func TestAdviceCanBePasted(t *testing.T) {
	portable.Needs(t, portable.Queue)
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "it's a $HOME")
	require.NoError(t, os.Mkdir(dir, 0o755))
	orphanOfOne(t, dir)
	advice := regexp.MustCompile(`(?m)^    (dblock force .*)$`).FindStringSubmatch(execute(t, dir, "status", "-d", "x.db").stdout)
	require.NotNil(t, advice)
	r := finish(t, exec.Command("sh", "-c", "cd /; "+advice[1]))
	require.Equal(t, 75, r.code(), "nobody can be asked here")
	hint := regexp.MustCompile(`(?m)^hint: to end it: (.*)$`).FindStringSubmatch(r.stderr)
	require.NotNil(t, hint, r.stderr)
	r = finish(t, exec.Command("sh", "-c", "cd /; "+hint[1]))
	require.Zero(t, r.code(), r.stderr)
	require.Equal(t, "free", statusOf(t, dir, "x.db").State)
}
