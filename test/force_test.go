//go:build linux

package test

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// writer is a worker that ignores TERM, and keeps none of the descriptors that it
// was started with, as those of Node and Python do.
const writer = `for fd in $(seq 3 63); do eval "exec $fd>&-"; done; trap '' TERM HUP; echo $BASHPID >> pids; while :; do echo >> log; sleep 0.01; done`

func pidsIn(t *testing.T, dir string) []int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "pids"))
	require.NoError(t, err)
	var pids []int
	for _, word := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(word)
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	return pids
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Size()
}

// When force returns, nothing of what the holder has started runs any more, whether
// or not it has kept the lock's descriptor, and the lock is free.
func TestForceEndsTheWholeTree(t *testing.T) {
	portable.Needs(t, portable.Tree)
	t.Parallel()
	need(t, "bash", "setsid")
	for name, c := range map[string]struct {
		args    []string
		command []string
		stop    bool
		orphan  bool
	}{
		"a worker of a shell":        {command: []string{"bash", "-c", writer + " & wait; :"}},
		"a stubborn shell":           {command: []string{"bash", "-c", "trap '' TERM; (" + writer + ") & while :; do sleep 0.01; done"}},
		"workers of workers":         {command: []string{"bash", "-c", "bash -c 'bash -c \"$1\" & wait' x \"$1\" & wait", "x", writer}},
		"a session of its own":       {command: []string{"setsid", "--wait", "bash", "-c", writer}},
		"of a reader":                {args: []string{"-s"}, command: []string{"bash", "-c", writer + " & wait; :"}},
		"of a stopped dblock":        {command: []string{"bash", "-c", writer + " & wait; :"}, stop: true},
		"without a descriptor":       {args: []string{"--close"}, command: []string{"bash", "-c", writer + " & wait; :"}},
		"what a killed one has left": {args: []string{"--orphan", "keep"}, command: []string{"bash", "-c", "(" + writer + ") & wait; :"}, orphan: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			h := start(t, command(t, dir, append(append(c.args, "-d", "x.db", "--"), c.command...)...))
			t.Cleanup(func() {
				for _, pid := range pidsIn(t, dir) {
					_ = unix.Kill(pid, unix.SIGKILL)
				}
			})
			await(t, "it works", func() bool { return exists(dir, "log") })
			if c.stop {
				require.NoError(t, h.Process.Signal(unix.SIGSTOP))
			}
			if c.orphan {
				require.NoError(t, h.Process.Kill())
				_ = h.Wait()
			}
			r := execute(t, dir, "force", "--yes", "--kill-after", "1.5", "-d", "x.db")
			written := size(t, filepath.Join(dir, "log"))
			require.Zero(t, r.code(), r.stderr)
			require.Contains(t, r.stdout, "forcibly removed")
			require.Contains(t, r.stderr, "dblock: waiting for ")
			for _, pid := range pidsIn(t, dir) {
				require.True(t, ended(pid), "%d still runs", pid)
			}
			require.Equal(t, written, size(t, filepath.Join(dir, "log")))
			_ = h.Wait()
			require.Zero(t, execute(t, dir, "-n", "-d", "x.db", "--", "true").code())
			require.Empty(t, litter(t, dir))
		})
	}
}

func ended(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	rest := b[strings.LastIndexByte(string(b), ')')+2:]
	return rest[0] == 'Z' || rest[0] == 'X'
}

// A daemon that has left the session is not part of the command.
func TestForceSparesADaemon(t *testing.T) {
	portable.Needs(t, portable.Tree) // there what an ended command has left keeps the lock
	t.Parallel()
	need(t, "bash", "setsid")
	dir := t.TempDir()
	h := start(t, command(t, dir, "-d", "x.db", "--", "bash", "-c", `setsid sh -c 'echo $$ > daemon; exec sleep 1000' & echo $$ >> pids; until [ -s daemon ]; do sleep 0.01; done; touch in; while :; do sleep 0.01; done`))
	await(t, "it works", func() bool { return exists(dir, "in") })
	b, err := os.ReadFile(filepath.Join(dir, "daemon"))
	require.NoError(t, err)
	daemon, err := strconv.Atoi(strings.TrimSpace(string(b)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Kill(daemon, unix.SIGKILL) })
	r := execute(t, dir, "force", "--yes", "-d", "x.db")
	require.Zero(t, r.code(), r.stderr)
	_ = h.Wait()
	require.False(t, ended(daemon))
	require.Zero(t, execute(t, dir, "-n", "-d", "x.db", "--", "true").code())
}

// A waiter that got SIGSTOP: status names it, and force ends it.
func TestForceEndsAStoppedWaiter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := hold(t, dir, "-d", "x.db")
	w := start(t, command(t, dir, "-q", "-w", "forever", "-d", "x.db", "--", "touch", "never"))
	await(t, "it waits", func() bool { return waiters(t, dir, "x.db") == 1 })
	require.NoError(t, w.Process.Signal(unix.SIGSTOP))
	await(t, "it is stopped", func() bool { return waiters(t, dir, "x.db") == 0 })
	letGo(t, dir)
	require.NoError(t, h.Wait())
	require.Equal(t, 75, execute(t, dir, "-n", "-d", "x.db", "--", "true").code())
	portable.Needs(t, portable.Queue)
	r := execute(t, dir, "status", "-d", "x.db")
	require.Contains(t, r.stdout, fmt.Sprintf("Database is not locked, but pid %d, which is stopped, blocks the queue\n", w.Process.Pid))
	r = execute(t, dir, "status", "--json", "-d", "x.db")
	require.Regexp(t, fmt.Sprintf(`"stopped": \[\s*\{\s*"pid": %d,`, w.Process.Pid), r.stdout)
	for _, wait := range []string{"0", "0.5"} {
		r = execute(t, dir, "-w", wait, "-d", "x.db", "--", "true")
		require.Equal(t, 75, r.code())
		require.Contains(t, r.stderr, fmt.Sprintf("(pid %d), which is stopped, blocks the queue", w.Process.Pid))
	}
	r = execute(t, dir, "force", "-d", "x.db")
	require.Equal(t, 75, r.code())
	require.Contains(t, r.stderr, fmt.Sprintf("(pid %d), which is stopped, keeps others waiting", w.Process.Pid))
	r = execute(t, dir, "force", "--yes", "-d", "x.db")
	require.Zero(t, r.code(), r.stderr)
	require.Contains(t, r.stdout, fmt.Sprintf("Ended: dblock for touch (pid %d)\n", w.Process.Pid))
	require.NotContains(t, r.stdout, "It was", "nobody had it")
	_ = w.Wait()
	require.Zero(t, execute(t, dir, "-n", "-d", "x.db", "--", "true").code())
	require.False(t, exists(dir, "never"))
	require.Empty(t, litter(t, dir))
}

// Root may end everybody's, and says whose it is.
func TestForceByRootSaysWhose(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "setpriv")
	dir, err := os.MkdirTemp("", "dblock")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o777))
	as := func(uid string, args ...string) *exec.Cmd {
		c := exec.Command("setpriv", append([]string{"--reuid", uid, "--regid", uid, "--clear-groups", binary}, args...)...)
		c.Dir = dir
		return c
	}
	nobody := "65534"
	if u, err := user.LookupId(nobody); err == nil {
		nobody = u.Username
	}
	h := start(t, as("65534", "-d", "x.db", "--", "sh", "-c", "touch in; while :; do sleep 0.01; done"))
	await(t, "it runs", func() bool { return exists(dir, "in") })
	r := finish(t, as("12345", "force", "--yes", "-d", "x.db"))
	require.Equal(t, 77, r.code(), r.stdout+r.stderr)
	victim := fmt.Sprintf(`dblock for sh \(pid %d\)`, h.Process.Pid)
	if portable.Half { // which knows no process's name
		victim = fmt.Sprintf(`pid %d`, h.Process.Pid)
	}
	require.Regexp(t, fmt.Sprintf(`^dblock: %s belongs to user \S+, and you may not end it: the lock stays\nhint: ask user \S+ to end it, or root: dblock force -d %s/x.db\n$`, victim, dir), r.stderr)
	require.True(t, exists(dir, ".x.lock"))
	require.NoError(t, os.Chmod(dir, 0o755))
	r = finish(t, as("12345", "force", "--yes", "-d", "x.db"))
	require.Equal(t, 77, r.code(), r.stdout+r.stderr)
	require.Regexp(t, `^dblock: `+victim+` belongs to user \S+, and you may neither end it nor remove the lock file: the lock stays\nhint: ask user \S+ to end it, or root: `, r.stderr)
	require.NoError(t, os.Chmod(dir, 0o777|os.ModeSticky))
	r = finish(t, as("12345", "force", "--yes", "-d", "x.db"))
	require.Equal(t, 77, r.code(), r.stdout+r.stderr)
	require.Contains(t, r.stderr, ", which belongs to user "+nobody+": you may neither end it nor remove the lock file\nhint: ask user "+nobody+", or root: dblock force -d "+dir+"/x.db\n")
	require.NoError(t, os.Chmod(dir, 0o777))
	portable.NeedsWord(t)
	r = execute(t, dir, "force", "--yes", "-d", "x.db")
	require.Zero(t, r.code(), r.stderr)
	require.Regexp(t, `dblock: ending dblock for sh \(pid \d+\) of user \S+\n`, r.stderr)
	_ = h.Wait()
}

// Who may not change the directory is told before anything is asked, and whom to ask.
func TestForceWhereItMayNot(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "setpriv")
	dir, err := os.MkdirTemp("", "dblock")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	const stranger = "setpriv --reuid 12345 --regid 12345 --clear-groups dblock force -d x.db"
	refused := func(want string) {
		t.Helper()
		want += "\nhint: ask %s: dblock force -d " + dir + "/x\\.db\n$"
		c := exec.Command("sh", "-c", "exec "+stranger+" --yes")
		c.Dir = dir
		r := finish(t, c)
		require.Equal(t, 77, r.code(), r.stdout+r.stderr)
		require.Regexp(t, fmt.Sprintf(want, `(user root to end it, or )?root`), r.stderr)
		tm := newTerminal(t, dir, 200)
		tm.typed(stranger + "; echo code=$?\n")
		tm.expect(`code=77`)
		require.NotContains(t, tm.shown(), "Go on?")
		c = exec.Command("sh", "-c", "exec "+stranger+" --id "+statusOf(t, dir, "x.db").ID)
		c.Dir = dir
		r = finish(t, c)
		require.Equal(t, 77, r.code(), r.stdout+r.stderr)
		require.Contains(t, r.stderr, "remove the lock file")
	}
	p := oldProcess(t)
	foreign(t, dir, p.Process.Pid, thisHost(t), 0)
	whose := ", which belongs to user root: you may neither end it nor"
	if portable.Half { // which knows no process's user
		whose = ": you may not"
	}
	refused(fmt.Sprintf(`^dblock: \S+/\.x\.lock is held by mcp-server \(pid %d on \S+\)%s remove the lock file`, p.Process.Pid, whose))
	foreign(t, dir, 4242, "otherbox", 0)
	refused(`^dblock: \S+/\.x\.lock is held by mcp-server \(pid 4242 on otherbox\): you may not remove the lock file`)
	require.NoError(t, os.Remove(filepath.Join(dir, ".x.lock")))
	h := hold(t, dir, "-d", "x.db")
	refused(fmt.Sprintf(`^dblock: \S+/\.x\.lock is held by dblock \(pid %d on \S+\), which belongs to user root: you may neither end it nor remove the lock file`, h.Process.Pid))
	letGo(t, dir)
	require.NoError(t, h.Wait())
}

// --lock-file may name the database itself by mistake.
func TestDatabaseAsLockFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := filepath.Join(dir, "app.db")
	content := "SQLite format 3\x00" + strings.Repeat("x", 1000)
	require.NoError(t, os.WriteFile(db, []byte(content), 0o644))
	for _, args := range [][]string{
		{"--lock-file", "app.db", "--", "touch", "ran"},
		{"-n", "-d", "app.db", "--lock-file", "app.db", "--", "touch", "ran"},
		{"force", "--yes", "--lock-file", "app.db"},
		{"force", "--if-stale", "--lock-file", "app.db"},
	} {
		r := execute(t, dir, args...)
		require.Equal(t, 73, r.code(), "%q: %s", args, r.stderr)
		require.Contains(t, r.stderr, "app.db: not a lock file: it does not begin with {\nhint: ")
		b, err := os.ReadFile(db)
		require.NoError(t, err)
		require.Equal(t, content, string(b))
	}
	require.False(t, exists(dir, "ran"))
}

// status only looks, wherever it may not do even that.
func TestStatusWhereItMayNotLook(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "setpriv")
	for _, c := range []struct {
		name  string
		lock  func(t *testing.T, dir string)
		mode  os.FileMode
		state os.FileMode // of the state directory
		code  int
		says  string
	}{
		{"nothing there", func(*testing.T, string) {}, 0o711, 0, 0, "Database is not locked\n"},
		{"no way in", func(*testing.T, string) {}, 0o700, 0, 77, "permission denied"},
		{"held", func(t *testing.T, dir string) { hold(t, dir, "-d", "x.db", "-p", "label") }, 0o711, 0o700, 0, "  Process: label\n"},
		{"held, no way in", func(t *testing.T, dir string) { hold(t, dir, "-d", "x.db") }, 0o700, 0o700, 77, "permission denied"},
		{"an unreadable notice", func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, ".x.lock"), []byte("{}"), 0))
		}, 0o755, 0, 77, "permission denied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("", "dblock")
			require.NoError(t, err)
			t.Cleanup(func() { letGo(t, dir); _ = os.RemoveAll(dir) })
			c.lock(t, dir)
			if c.state != 0 {
				require.NoError(t, os.Chmod(filepath.Join(dir, ".x.lock.d"), c.state))
			}
			require.NoError(t, os.Chmod(dir, c.mode))
			list := func() (names []string) {
				entries, err := os.ReadDir(dir)
				require.NoError(t, err)
				for _, e := range entries {
					names = append(names, e.Name())
				}
				return names
			}
			before := list()
			for _, flags := range [][]string{nil, {"-v"}, {"--json"}} {
				args := append([]string{"--reuid", "65534", "--regid", "65534", "--clear-groups", binary, "status", "-d", filepath.Join(dir, "x.db")}, flags...)
				r := finish(t, exec.Command("setpriv", args...))
				require.Equal(t, c.code, r.code(), r.stdout+r.stderr)
				if flags == nil {
					require.Contains(t, r.stdout+r.stderr, c.says)
				}
			}
			require.Equal(t, before, list())
		})
	}
}

// On a terminal force says who has the lock, since when, what it runs and how many will be
// ended, and asks.
func TestForceAsks(t *testing.T) {
	t.Parallel()
	runs := ` Runs: pid \d+: sh -c 'touch in-\d+; until .*', in DIR`
	condemned, ended := `[23] processes will be ended: dblock for sh \(pid P\), sh \(pid \d+\)(, (sleep|sh|touch) \(pid \d+\))?`, `dblock for sh \(pid P\), sh \(pid \d+\)(, (sleep|sh|touch) \(pid \d+\))?`
	switch { // there it knows no processes but the one that the lock file names
	case portable.Half && os.Geteuid() == 0:
		runs, condemned = "", `It cannot be ended from here\. Its lock file will be removed; it may put it back`
	case portable.Half:
		runs, condemned, ended = "", `1 process will be ended: pid P`, `pid P`
	}
	for _, columns := range []uint16{80, 40} {
		for answer, gone := range map[string]bool{"n\n": false, "\n": false, "\x04": false, "y\n": true} {
			dir := t.TempDir()
			h := hold(t, dir, "-d", "x.db", "-p", "victim", "--info", "OPS-7")
			tm := newTerminal(t, dir, columns)
			tm.typed("clear; dblock force -d x.db; echo code=$?\n")
			tm.expect(`Go on\? \[y/N\] $`)
			asked := strings.Join(strings.Fields(tm.shown()), " ")
			fill := strings.NewReplacer("pid P", fmt.Sprintf("pid %d", h.Process.Pid), "USER", regexp.QuoteMeta(username()), "DIR", regexp.QuoteMeta(dir)).Replace
			require.Regexp(t, fill(`victim \(pid P on .*\) holds the lock\. User: USER Since: \d{4}-\d\d-\d\d [\d:]+, for [\d.]+s`+
				runs+` Info: OPS-7 `+condemned+`\. Go on`), asked)
			tm.typed(answer)
			if gone && portable.Half && os.Geteuid() == 0 {
				tm.expect(`was put back at once by its holder[\s\S]*code=75`)
				letGo(t, dir)
				require.NoError(t, h.Wait())
			} else if gone {
				tm.expect(fill(`Database lock forcibly removed[^\r]*\r\nLock file: \S+\r\nIt was held by: victim \(pid P on \S+\), for [\d.]+s, "OPS-7"\r\n` +
					`Ended: ` + ended + `\r\ncode=0`))
				_ = h.Wait()
			} else {
				tm.expect(`Go on\? \[y/N\] \S*\r\nNothing was changed\.\r\ncode=75`)
				require.NotContains(t, tm.shown(), "hint")
				require.Equal(t, "held", statusOf(t, dir, "x.db").State)
				letGo(t, dir)
				require.NoError(t, h.Wait())
			}
			if gone && portable.Half {
				continue // an ended command may have left something: the next one clears away
			}
			require.Empty(t, litter(t, dir))
		}
	}
}

func TestForceAsksAboutReaders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 3 {
		hold(t, dir, "-s", "-d", "x.db", "-p", "reader")
	}
	r := execute(t, dir, "force", "-d", "x.db")
	require.Equal(t, 75, r.code())
	portable.Needs(t, portable.Queue)
	require.Regexp(t, `is held by 3 readers: (dblock for sh \(pid \d+\)(, )?){3}\nhint: to end all 3 nevertheless: dblock force --id [0-9a-f]{16} -d /`, r.stderr)
	tm := newTerminal(t, dir, 80)
	tm.typed("dblock force -d x.db; echo code=$?\n")
	tm.expect(`3 readers share the lock\.\r\n(  Reader \d: pid \d+, reader, sh, for [\d.]+s\r\n){3}[\s\S]*\r\n[6-9] processes will be ended: [\s\S]*Go on\? \[y/N\] $`)
	tm.typed("n\n")
	tm.expect(`code=75`)
	letGo(t, dir)
}

// In a sticky directory a stranger is told what he cannot do, and who can.
func TestStickyDirectory(t *testing.T) {
	t.Parallel()
	dir, as := sticky(t)
	require.Zero(t, execute(t, dir, "-d", "x.db", "--", "true").code())
	as("65534", "-d", "x.db", "--", "sh", "-c", "kill -9 $PPID; kill -9 $$")
	r := as("12345", "status", "-d", "x.db")
	require.Contains(t, r.stdout, "its lock is stale\n")
	require.Regexp(t, `What to do: ask user (\S+), or root\. You cannot have the lock: its lock file belongs to (\S+), .*Your own dblock ends with 77 until then\.`, r.stdout)
	require.Contains(t, r.stdout, "    dblock force --if-stale -d "+dir+"/x.db\n")
	require.Contains(t, as("12345", "status", "--json", "-d", "x.db").stdout, `"kept_by": 65534`)
	for _, args := range [][]string{{"-n", "-d", "x.db", "--", "true"}, {"force", "-d", "x.db"}} {
		r = as("12345", args...)
		require.Equal(t, 77, r.code())
		require.Regexp(t, `in a sticky directory .*only that user, root and the owner of the directory can remove it`, r.stderr)
	}
	r = as("65534", "status", "-d", "x.db")
	require.Contains(t, r.stdout, "  What to do: nothing. The next dblock takes it over")
	require.Zero(t, execute(t, dir, "force", "--if-stale", "-d", "x.db").code())

	// A stranger's state directory is closed to others.
	require.NoError(t, os.RemoveAll(filepath.Join(dir, ".x.lock.d")))
	as("65534", "-d", "x.db", "--", "true")
	r = as("12345", "status", "-d", "x.db")
	require.Regexp(t, `(?m)^  Closed to you: .*the directory above it is sticky.* Your own dblock ends with 77 here\.$`, r.stdout)
	require.Equal(t, 77, as("12345", "-n", "-d", "x.db", "--", "true").code())
}

// force waits until all have ended whom it ends, so that they can find out who it was.
func TestForceOutlivesItsVictim(t *testing.T) {
	portable.NeedsWord(t)
	t.Parallel()
	dir := t.TempDir()
	h := start(t, command(t, dir, "-d", "x.db", "--", "sh", "-c", `trap 'cat /proc/[0-9]*/cmdline | tr "\0" " " | grep -o "dblock [f]orce --yes -q" > seen; exit' TERM; touch in; while :; do sleep 0.01; done`))
	await(t, "it runs", func() bool { return exists(dir, "in") })
	r := finish(t, exec.Command("sh", "-c", "cd "+dir+" && dblock force --yes -q -d x.db"))
	require.Zero(t, r.code(), r.stderr)
	require.Empty(t, r.stdout+r.stderr)
	_ = h.Wait()
	require.True(t, contains(filepath.Join(dir, "seen"), "dblock force --yes -q")())
}

// An open file can be sent to any process that takes it, so having the lock open proves
// nothing against a process of root's: root is not to end it for a stranger.
func TestForceByRootSparesWhatWasSentTheLock(t *testing.T) {
	portable.Needs(t, portable.Queue)
	needRoot(t)
	need(t, "python3")
	for name, after := range map[string]string{
		"by one that has ended":                 "",
		"by one that has to be killed for that": `; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := open(t)
			daemon := exec.Command("python3", "-c", `
import os, socket
s = socket.socket(socket.AF_UNIX); s.bind("socket"); os.chmod("socket", 0o777); s.listen()
c, _ = s.accept(); fds = socket.recv_fds(c, 10, 5)
open("received", "w").close()
s.accept()`)
			daemon.Dir = dir
			start(t, daemon)
			await(t, "it listens", func() bool { return exists(dir, "socket") })
			require.Zero(t, execute(t, dir, "-d", "x.db", "--", "true").code())
			stranger := exec.Command("python3", "-c", `
import fcntl, os, signal, socket, time
os.setgroups([]); os.setgid(65534); os.setuid(65534)
fd = os.open(".x.lock.d/room", os.O_RDWR); fcntl.flock(fd, fcntl.LOCK_EX)
s = socket.socket(socket.AF_UNIX); s.connect("socket"); socket.send_fds(s, [b"x"], [fd])`+after)
			stranger.Dir = dir
			start(t, stranger)
			await(t, "the daemon has the lock", func() bool { return exists(dir, "received") })
			if after == "" {
				require.NoError(t, stranger.Wait())
			}
			r := execute(t, dir, "force", "--yes", "--kill-after", "0.1", "-d", "x.db")
			require.Equal(t, 77, r.code(), r.stderr)
			require.Regexp(t, `is root's and has the lock open.*not ended\nhint: .*kill `+strconv.Itoa(daemon.Process.Pid), r.stderr)
			require.NotEqual(t, "Z", stateOf(daemon.Process.Pid), "it lives")
		})
	}
}
