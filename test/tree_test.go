//go:build linux

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// A command is everything that it has started: these tests end it in every way, and look
// for what is left while the next one has the lock.

// worker writes a line again and again. When it is told to end it says so, goes on for a
// while, as if it had to finish something, and ends.
const worker = `trap 'echo told >>told' TERM HUP INT QUIT USR1
n=0
while [ $n -lt 10 ]; do
	echo old >>writes
	sleep 0.02
	[ ! -s told ] || n=$((n+1))
done`

// stubborn cannot be told anything.
const stubborn = `trap '' TERM HUP INT QUIT USR1
echo $$ >stubborn
while [ -e stubborn ] && [ ! -e go ]; do
	echo old >>writes
	sleep 0.02
done`

// family is a directory with these two, and a shell that dies of what it is told.
func family(t *testing.T) string {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "worker.sh"), []byte(worker), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "stubborn.sh"), []byte(stubborn), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"scripts":{"work":"sh worker.sh; true"}}`), 0o644))
	return dir
}

// inTree is a run of the program whose signals are as a terminal's user has them.
func inTree(t *testing.T, dir string, args ...string) *exec.Cmd {
	c := with(command(t, dir, append([]string{"-d", "app.db", "-q"}, args...)...), "SHELL=/bin/sh")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return c
}

func childrenOf(pid int) (children []string) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		b, _ := os.ReadFile(list)
		children = append(children, strings.Fields(string(b))...)
	}
	return children
}

func childOf(t *testing.T, pid int) int {
	t.Helper()
	var children []string
	await(t, "the command runs", func() bool {
		children = childrenOf(pid)
		return len(children) > 0
	})
	child, err := strconv.Atoi(children[0])
	require.NoError(t, err)
	return child
}

// dismiss tells what a command has left, where dblock does not know of it.
func dismiss(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "told"), []byte("by the test\n"), 0o644))
	letGo(t, dir)
}

// next runs the next command, and returns what the old ones have written since its start.
func next(t *testing.T, dir string) int {
	t.Helper()
	r := execute(t, dir, "-d", "app.db", "-q", "-w", "60", "--", "sh", "-c", "echo next >>writes; sleep 0.2")
	require.Zero(t, r.code(), r.stderr)
	b, err := os.ReadFile(filepath.Join(dir, "writes"))
	require.NoError(t, err)
	_, after, found := strings.Cut(string(b), "next\n")
	require.True(t, found)
	return strings.Count(after, "old")
}

func TestATreeIsEndedBeforeTheNextOneComesIn(t *testing.T) {
	t.Parallel()
	need(t, "python3", "node", "npm", "timeout")
	shapes := map[string][]string{
		"shell":            {"-c", "sh worker.sh; echo done"},
		"shells":           {"-c", "sh -c 'sh worker.sh; true'; true"},
		"background":       {"-c", "sh worker.sh & sleep 60"},
		"pipeline":         {"-c", "sh worker.sh | cat"},
		"no descriptor":    {"-o", "-c", "sh worker.sh; true"},
		"own group":        {"-c", "set -m; sh worker.sh & wait; true"},
		"python":           {"--", "python3", "-c", `import subprocess; subprocess.call(["sh", "worker.sh"])`},
		"node":             {"--", "node", "-e", `require("child_process").spawn("sh", ["worker.sh"], {stdio: "inherit"})`},
		"npm":              {"--", "npm", "run", "--silent", "work"},
		"timeout":          {"--", "timeout", "60", "sh", "-c", "sh worker.sh; true"},
		"its own session":  {"--", "setsid", "sh", "-c", "sh worker.sh; true"},
		"exit in the trap": {"-c", "trap 'exit 3' TERM HUP; sh worker.sh & wait"},
		"nested":           {"-c", binary + " -q -- sh -c 'sh worker.sh; true'; true"},
	}
	if portable.Half { // the sleep is not told, and the next command waits for a minute
		shapes["background"] = []string{"-c", "sh worker.sh & sleep 20"}
	}
	for name, args := range shapes {
		for _, how := range []string{"TERM", "HUP", "KILL"} {
			t.Run(name+" "+how, func(t *testing.T) {
				if slices.Contains([]string{"no descriptor", "python", "node", "npm"}, name) {
					portable.Needs(t, portable.Tree) // which do not pass the descriptor on
				}
				t.Parallel()
				dir := family(t)
				c := start(t, inTree(t, dir, args...))
				await(t, "the worker works", func() bool { return exists(dir, "writes") })
				if how == "KILL" {
					require.NoError(t, unix.Kill(childOf(t, c.Process.Pid), unix.SIGKILL))
				} else {
					require.NoError(t, c.Process.Signal(unix.SignalNum("SIG"+how)))
				}
				if portable.Half {
					require.Equal(t, 75, execute(t, dir, "-d", "app.db", "-n", "-q", "true").code(), "the worker keeps the lock")
					dismiss(t, dir)
				}
				require.Zero(t, next(t, dir), "what the old tree wrote beside the next command")
				_ = c.Wait()
				require.True(t, exists(dir, "told"), "the survivors are told")
				status := c.ProcessState.Sys().(syscall.WaitStatus)
				switch {
				case how == "KILL":
					require.Equal(t, unix.SIGKILL, status.Signal())
				case name == "exit in the trap":
					require.Equal(t, 3, status.ExitStatus())
				case name == "shell" || name == "shells":
					require.Equal(t, unix.SignalNum("SIG"+how), status.Signal(), "the death of the command itself")
				}
				require.Empty(t, litter(t, dir))
			})
		}
	}
}

// Who cannot be told keeps the lock, which beats on, status names it, and force ends it.
func TestAStubbornSurvivorKeepsTheLock(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"it ends", "force"} {
		t.Run(how, func(t *testing.T) {
			if how == "force" {
				portable.Needs(t, portable.Tree)
			}
			t.Parallel()
			dir := family(t)
			c := inTree(t, dir, "--stale-timeout", "1", "-c", "sh stubborn.sh; true")
			start(t, c)
			await(t, "it works", func() bool { return exists(dir, "writes") })
			require.NoError(t, c.Process.Signal(unix.SIGTERM))
			if portable.Half { // it keeps the lock alone
				_ = c.Wait()
				require.Equal(t, 75, execute(t, dir, "-d", "app.db", "-n", "-q", "true").code())
				letGo(t, dir)
				require.Zero(t, next(t, dir))
				return
			}
			await(t, "the command has ended", func() bool {
				survivor, _ := os.ReadFile(filepath.Join(dir, "stubborn"))
				return slices.Equal(childrenOf(c.Process.Pid), strings.Fields(string(survivor)))
			})
			require.Equal(t, 75, execute(t, dir, "-d", "app.db", "-n", "-q", "true").code())
			before := statusOf(t, dir, "app.db").Holder.Timestamp
			await(t, "it beats", func() bool { return statusOf(t, dir, "app.db").Holder.Timestamp > before })
			if how == "force" {
				r := execute(t, dir, "force", "--yes", "--kill-after", "0.2", "-d", "app.db")
				require.Zero(t, r.code(), r.stderr)
				pid, _ := os.ReadFile(filepath.Join(dir, "stubborn"))
				survivor, err := strconv.Atoi(strings.TrimSpace(string(pid)))
				require.NoError(t, err)
				require.Equal(t, unix.ESRCH, unix.Kill(survivor, 0), "force ends what the command has left")
			} else {
				letGo(t, dir)
			}
			require.Zero(t, next(t, dir))
		})
	}
}

// threads is a program whose first thread ends while another one works on: the kernel calls
// it a zombie.
const threads = `import ctypes, os, signal, threading, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def work():
	while not os.path.exists("go"):
		with open("writes", "a") as f:
			f.write("old\n")
		time.sleep(0.02)
threading.Thread(target=work).start()
open("pid", "w").write(str(os.getpid()) + "\n")
ctypes.CDLL(None).pthread_exit(None)`

func TestASurvivorWithoutItsFirstThread(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	dir := family(t)
	c := start(t, with(inTree(t, dir, "-c", `python3 -c "$THREADS"; true`), "THREADS="+threads))
	pid := 0
	await(t, "its first thread ends", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "pid"))
		_, err := fmt.Sscan(string(b), &pid)
		return err == nil && exists(dir, "writes") && stateOf(pid) == "Z"
	})
	require.NoError(t, c.Process.Signal(unix.SIGTERM))
	await(t, "the command has ended", func() bool {
		return slices.Equal(childrenOf(c.Process.Pid), []string{strconv.Itoa(pid)}) || stateOf(c.Process.Pid) == "Z"
	})
	require.Equal(t, 75, execute(t, dir, "-d", "app.db", "-n", "-q", "true").code())
	letGo(t, dir)
	require.Zero(t, next(t, dir))
}

// After a loss all of the tree is ended, by force if it must be.
func TestALossEndsTheTree(t *testing.T) {
	t.Parallel()
	for _, script := range []string{"worker.sh", "stubborn.sh"} {
		for _, onLost := range []string{"term", "kill"} {
			t.Run(script+" "+onLost, func(t *testing.T) {
				t.Parallel()
				dir := family(t)
				c := start(t, inTree(t, dir, "--on-lost", onLost, "--kill-after", "0.5", "-c", "sh "+script+"; true"))
				await(t, "it works", func() bool { return exists(dir, "writes") })
				require.NoError(t, os.WriteFile(filepath.Join(dir, "taken"), fmt.Appendf(nil, `{"pid":%d,"timestamp":%d,"host":%q,"process":"peer"}`,
					os.Getpid(), time.Now().UnixMilli(), thisHost(t)), 0o644))
				require.NoError(t, os.Rename(filepath.Join(dir, "taken"), filepath.Join(dir, ".app.lock")))
				_ = c.Wait()
				require.Equal(t, 69, c.ProcessState.ExitCode())
				if portable.Half { // what the command has started works on
					require.NoError(t, os.Remove(filepath.Join(dir, ".app.lock")))
					dismiss(t, dir)
					require.Zero(t, next(t, dir))
					return
				}
				written, err := os.ReadFile(filepath.Join(dir, "writes"))
				require.NoError(t, err)
				<-time.After(100 * time.Millisecond) // for what would go on to write
				now, err := os.ReadFile(filepath.Join(dir, "writes"))
				require.NoError(t, err)
				require.Equal(t, len(written), len(now), "nobody works on")
				require.Equal(t, script == "worker.sh" && onLost == "term", exists(dir, "told"))
			})
		}
	}
}

// A daemon is neither told nor waited for: what has left the session, whatever became of the
// command; what a command that ended by itself has left; and what was there before.
func TestDaemonsAreLeftAlone(t *testing.T) {
	t.Parallel()
	daemon := `trap 'echo told >>told' TERM HUP; touch up; while [ -e up ] && [ ! -e go ]; do sleep 0.01; done`
	alone := func(t *testing.T, dir string) {
		t.Helper()
		require.Zero(t, execute(t, dir, "-d", "app.db", "-n", "true").code())
		require.False(t, exists(dir, "told"))
		letGo(t, dir)
	}
	t.Run("of another session", func(t *testing.T) {
		portable.Needs(t, portable.Tree)
		t.Parallel()
		dir := t.TempDir()
		c := start(t, with(inTree(t, dir, "-c", `setsid sh -c "$DAEMON" & sleep 60`), "DAEMON="+daemon))
		await(t, "the daemon is up", func() bool { return exists(dir, "up") })
		require.NoError(t, c.Process.Signal(unix.SIGTERM))
		_ = c.Wait()
		require.Equal(t, unix.SIGTERM, c.ProcessState.Sys().(syscall.WaitStatus).Signal())
		alone(t, dir)
	})
	t.Run("of a command that ended by itself", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		c := with(inTree(t, dir, "-c", `sh -c "$DAEMON" >/dev/null 2>&1 & until [ -e up ]; do sleep 0.01; done; exit 3`), "DAEMON="+daemon)
		require.Equal(t, 3, finish(t, c).code())
		alone(t, dir)
	})
	t.Run("from before", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		script := `sh -c "$DAEMON" & until [ -e up ]; do sleep 0.01; done; exec dblock -d app.db -- sh -c "touch in; sleep 60; true"`
		if portable.Half {
			script = strings.ReplaceAll(script, "sleep 60; true", "exec sleep 60") // nothing is left
		}
		c := exec.Command("sh", "-c", script)
		c.Dir = dir
		start(t, with(c, "DAEMON="+daemon))
		await(t, "the command runs", func() bool { return exists(dir, "in") })
		require.NoError(t, c.Process.Signal(unix.SIGTERM))
		_ = c.Wait()
		alone(t, dir)
	})
}

// What others leave is dblock's to reap, or a machine is full of zombies after some days.
func TestNoZombies(t *testing.T) {
	portable.Needs(t, portable.Tree)
	t.Parallel()
	dir := t.TempDir()
	script := "i=0; while [ $i -lt 50 ]; do sh -c '(true; true) &' ; i=$((i+1)); done; touch done; while [ -e done ] && [ ! -e go ]; do sleep 0.01; done"
	c := start(t, inTree(t, dir, "-c", script))
	await(t, "all have been started", func() bool { return exists(dir, "done") })
	await(t, "all are reaped", func() bool {
		return len(childrenOf(c.Process.Pid)) == 1
	})
	letGo(t, dir)
	require.NoError(t, c.Wait())
}

// Somebody has ended the command, or what it waits for, without dblock. An exit code that names
// the signal tells of it: what is left is no daemon.
func TestAnExitCodeThatNamesASignal(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"a trap":    `trap 'exit 143' TERM; sh worker.sh & echo $$ >pid; wait`,
		"an exit":   `sh -c 'echo $$ >pid; sh worker.sh; true'; exit $?`,
		"set -e":    `set -e; sh -c 'echo $$ >pid; sh worker.sh; true'; true`,
		"the shell": `sh -c 'echo $$ >pid; sh worker.sh; true'`,
	} {
		for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGKILL} {
			if name == "a trap" && sig == unix.SIGKILL {
				continue
			}
			t.Run(name+" "+unix.SignalName(sig), func(t *testing.T) {
				t.Parallel()
				dir := family(t)
				c := start(t, inTree(t, dir, "-c", script))
				await(t, "the worker works", func() bool { return exists(dir, "writes") })
				await(t, "its pid is known", contains(filepath.Join(dir, "pid"), "\n"))
				b, err := os.ReadFile(filepath.Join(dir, "pid"))
				require.NoError(t, err)
				pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
				require.NoError(t, err)
				require.NoError(t, unix.Kill(pid, sig))
				if portable.Half {
					dismiss(t, dir)
				}
				require.Zero(t, next(t, dir))
				_ = c.Wait()
				require.True(t, exists(dir, "told"))
			})
		}
	}
}

// A command that was told something, and ended of its own accord after that.
func TestNewsAreNoEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := start(t, inTree(t, dir, "-c", `trap 'touch news' USR1; touch in; until [ -e news ]; do sleep 0.01; done; sh -c 'while [ -e in ] && [ ! -e go ]; do sleep 0.01; done' & exit 0`))
	await(t, "the command runs", func() bool { return exists(dir, "in") })
	require.NoError(t, c.Process.Signal(unix.SIGUSR1))
	require.NoError(t, c.Wait())
	require.Zero(t, execute(t, dir, "-d", "app.db", "-n", "true").code())
	letGo(t, dir)
}

// What runs under another dblock in the tree is told by that one, once.
func TestANestedCommandIsToldOnce(t *testing.T) {
	portable.Needs(t, portable.Tree)
	t.Parallel()
	dir := t.TempDir()
	inner := `trap 'echo told >>told' TERM; touch in; while [ -e in ] && [ ! -e go ]; do sleep 0.01; done`
	c := start(t, with(inTree(t, dir, "-c", `dblock -q -- sh -c "$INNER"; true`), "INNER="+inner))
	await(t, "the nested command runs", func() bool { return exists(dir, "in") })
	require.NoError(t, c.Process.Signal(unix.SIGTERM))
	await(t, "it is told", func() bool { return exists(dir, "told") })
	require.Equal(t, 75, execute(t, dir, "-d", "app.db", "-q", "-w", "0.3", "true").code())
	letGo(t, dir)
	_ = c.Wait()
	require.True(t, contains(filepath.Join(dir, "told"), "told\n")())
	told, err := os.ReadFile(filepath.Join(dir, "told"))
	require.NoError(t, err)
	require.Equal(t, "told\n", string(told))
}
