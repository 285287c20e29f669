//go:build linux

package test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// dblock dies as its command did; the core dump is the command's business.
func TestDeathLeavesNoCoreOfTheWrapper(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, sig := range []syscall.Signal{unix.SIGQUIT, unix.SIGABRT, unix.SIGSEGV, unix.SIGILL, unix.SIGBUS, unix.SIGFPE, unix.SIGSYS, unix.SIGTRAP, unix.SIGXCPU} {
		c := sh(dir, fmt.Sprintf(`ulimit -c unlimited 2>/dev/null; exec dblock -d x.db -- sh -c 'ulimit -c 0; kill -%d $$'`, sig))
		r := finish(t, c)
		require.True(t, r.status.Signaled(), "%v: %v", sig, r.status)
		require.Equal(t, sig, r.status.Signal())
		require.False(t, r.status.CoreDump(), "%v", sig)
		require.Empty(t, r.stdout+r.stderr, "%v", sig)
		require.Empty(t, litter(t, dir), "%v", sig)
	}
}

// A signal that a shell sees: 128+n.
func TestShellSees128PlusN(t *testing.T) {
	t.Parallel()
	r := finish(t, sh(t.TempDir(), `dblock -d x.db -- sh -c 'kill -TERM $$'; echo $?; dblock -d x.db -- sh -c 'kill -USR2 $$'; echo $?`))
	require.Equal(t, fmt.Sprintf("%d\n%d\n", 128+unix.SIGTERM, 128+unix.SIGUSR2), r.stdout)
}

func TestNohup(t *testing.T) {
	need(t, "nohup")
	t.Parallel()
	dir := t.TempDir()
	c := exec.Command("nohup", "dblock", "-d", "x.db", "--", "sh", "-c", "echo $$ > pid; while [ -e pid ] && [ ! -e go ]; do sleep 0.01; done; echo done > end; exit 4")
	c.Dir = dir
	start(t, c)
	await(t, "the command runs", contains(filepath.Join(dir, "pid"), "\n"))
	var pid int
	b, err := os.ReadFile(filepath.Join(dir, "pid"))
	require.NoError(t, err)
	_, err = fmt.Sscan(string(b), &pid)
	require.NoError(t, err)
	for _, p := range []int{c.Process.Pid, pid} {
		require.Equal(t, "1", disposition(t, p, "SigIgn", unix.SIGHUP))
		require.NoError(t, unix.Kill(p, unix.SIGHUP))
	}
	require.Equal(t, "held", statusOf(t, dir, "x.db").State)
	letGo(t, dir)
	_ = c.Wait()
	require.Equal(t, 4, c.ProcessState.ExitCode())
	require.True(t, exists(dir, "end"))
}

// disposition is the signal's bit in one of the masks of /proc/PID/status.
func disposition(t *testing.T, pid int, mask string, sig syscall.Signal) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(b), mask+":")
	require.True(t, found)
	var bits uint64
	_, err = fmt.Sscanf(strings.TrimSpace(rest), "%x", &bits)
	require.NoError(t, err)
	return fmt.Sprint(bits >> (sig - 1) & 1)
}

// Signals that were ignored at the start do not reach the command by way of
// dblock, nor end a wait; one that was not ignored does.
func TestIgnoredSignalsAreNotPassedOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hold(t, dir, "-d", "x.db")
	c := sh(dir, `trap '' TERM INT HUP QUIT USR1 ALRM TSTP; exec dblock -w forever -d x.db -- bash -c 'trap "echo USR2; exit 8" USR2; echo ready; while :; do sleep 0.01; done'`)
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	start(t, c)
	await(t, "it waits", func() bool { return waiters(t, dir, "x.db") == 1 })
	all := []syscall.Signal{unix.SIGINT, unix.SIGHUP, unix.SIGTERM, unix.SIGQUIT, unix.SIGUSR1, unix.SIGALRM, unix.SIGTSTP}
	if portable.Half {
		all = all[:2] // os/signal knows of these
	}
	for _, sig := range all {
		require.Equal(t, "1", disposition(t, c.Process.Pid, "SigIgn", sig), "%v", sig)
		require.NoError(t, c.Process.Signal(sig))
	}
	require.Equal(t, 1, waiters(t, dir, "x.db"))
	letGo(t, dir)
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	for _, sig := range append(all, unix.SIGUSR2) {
		require.NoError(t, c.Process.Signal(sig))
	}
	line, err = r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "USR2\n", line)
	_ = c.Wait()
	require.Equal(t, 8, c.ProcessState.ExitCode())
}

// Many signals in a row: each arrives as often as it was sent, in that order.
func TestSignalsInARow(t *testing.T) {
	need(t, "python3")
	t.Parallel()
	c := command(t, t.TempDir(), "-d", "x.db", "--", "python3", "-uc", `
import signal
signals = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGHUP, signal.SIGTERM]
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print("ready")
while (s := signal.sigwait(signals)) != signal.SIGTERM: print(s.name)
`)
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	start(t, c)
	r := bufio.NewReader(out)
	next := func() string {
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		return strings.TrimSpace(line)
	}
	require.Equal(t, "ready", next())
	sigs := []syscall.Signal{unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGHUP}
	for i := range 100 {
		sig := sigs[(i*i+i/3)%len(sigs)]
		require.NoError(t, c.Process.Signal(sig))
		require.Equal(t, unix.SignalName(sig), next(), "the %d.", i)
	}
	require.NoError(t, c.Process.Signal(unix.SIGTERM))
	_, err = r.ReadString('\n')
	require.Error(t, err, "nothing was sent twice")
	require.NoError(t, c.Wait())
}

// What concerns dblock alone is not passed on.
func TestSignalsThatAreNotPassedOn(t *testing.T) {
	need(t, "python3")
	t.Parallel()
	c := command(t, t.TempDir(), "-d", "x.db", "--", "python3", "-uc", `
import signal
got = []
for s in (signal.SIGURG, signal.SIGCHLD, signal.SIGPIPE): signal.signal(s, lambda n, f: got.append(n))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("ready")
signal.sigwait([signal.SIGUSR1])
print(got)
`)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	start(t, c)
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	for _, sig := range []syscall.Signal{unix.SIGURG, unix.SIGCHLD, unix.SIGPIPE, unix.SIGUSR1} {
		require.NoError(t, c.Process.Signal(sig))
	}
	line, err = r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "[]\n", line)
	require.NoError(t, c.Wait())
}

// The command handles a signal and goes on; dblock keeps the lock until it ends.
func TestCleanUpIsUnderTheLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := command(t, dir, "-d", "x.db", "--", "bash", "-c",
		`trap 'echo cleaning > state; while [ -e state ] && [ ! -e go ]; do sleep 0.01; done; test -e .x.lock && echo locked > state; exit 2' TERM; echo up > state; while :; do sleep 0.01; done`)
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	start(t, c)
	await(t, "the command runs", contains(filepath.Join(dir, "state"), "up"))
	require.NoError(t, c.Process.Signal(unix.SIGTERM))
	await(t, "it cleans up", contains(filepath.Join(dir, "state"), "cleaning"))
	require.Equal(t, 75, execute(t, dir, "-n", "-d", "x.db", "--", "true").code())
	letGo(t, dir)
	_ = c.Wait()
	require.Equal(t, 2, c.ProcessState.ExitCode())
	require.True(t, contains(filepath.Join(dir, "state"), "locked")())
}

// A signal at any moment of a start and a run either ends dblock and its
// command, or comes too late; never is a command left running, or a notice.
func TestTermAtAnyMoment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	died, late := 0, 0
	for i := range max(40, rounds(0)*10) {
		c := command(t, dir, "-d", "x.db", "--", "sh", "-c", "echo $$ > pid; exec sleep 30")
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "pid")))
		start(t, c)
		// A busy loop, since the moments that count are shorter than any timer's.
		for range i * 4000 {
			_ = unix.Getpid()
		}
		require.NoError(t, c.Process.Signal(unix.SIGTERM))
		_ = c.Wait()
		status := c.ProcessState.Sys().(syscall.WaitStatus)
		require.True(t, status.Signaled(), "%v", status)
		require.Equal(t, unix.SIGTERM, status.Signal())
		if exists(dir, "pid") {
			late++
		} else {
			died++
		}
		require.Empty(t, litter(t, dir), "the %d.", i)
		require.Zero(t, execute(t, dir, "-n", "-d", "x.db", "--", "true").code())
	}
	t.Logf("%d before the command ran, %d after", died, late)
}

// Service managers send real-time signals. The first of them is the C library's SIGRTMIN, or
// one of those that it keeps for itself.
func TestRealTimeSignal(t *testing.T) {
	portable.Needs(t, portable.Linux)
	need(t, "bash")
	t.Parallel()
	for _, sig := range []int{34, 37, 64} {
		dir := t.TempDir()
		c := start(t, command(t, dir, "-d", "x.db", "--", "bash", "-c", fmt.Sprintf("trap 'exit %d' %d; touch in; while :; do sleep 0.01; done", sig, sig)))
		await(t, "the command runs", func() bool { return exists(dir, "in") })
		require.NoError(t, c.Process.Signal(syscall.Signal(sig)))
		_ = c.Wait()
		require.Equal(t, sig, c.ProcessState.ExitCode())
	}
}

// dblock starts with one goroutine at a time, which must not become the command's lot,
// nor its own for long; of processors it takes none away.
func TestProcessorsAreNotLimited(t *testing.T) {
	t.Parallel()
	allowed := func(status string) string {
		b, err := os.ReadFile(status)
		if err != nil {
			return "gone"
		}
		_, list, _ := strings.Cut(string(b), "Cpus_allowed_list:\t")
		list, _, _ = strings.Cut(list, "\n")
		return list
	}
	want := allowed("/proc/self/status")
	if want == "0" {
		t.Skip("there is only one")
	}
	dir := t.TempDir()
	r := execute(t, dir, "-d", "x.db", "--", "grep", "Cpus_allowed_list", "/proc/self/status")
	require.Equal(t, "Cpus_allowed_list:\t"+want+"\n", r.stdout)
	holder := hold(t, dir, "-d", "x.db")
	waiter := start(t, command(t, dir, "-q", "-w", "forever", "-d", "x.db", "--", "true"))
	await(t, "one waits", func() bool { return waiters(t, dir, "x.db") == 1 })
	for _, pid := range []int{holder.Process.Pid, waiter.Process.Pid} {
		await(t, "all threads may run anywhere", func() bool {
			threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
			return len(threads) > 0 && !slices.ContainsFunc(threads, func(s string) bool { return allowed(s) != want })
		})
	}
	letGo(t, dir)
	require.NoError(t, waiter.Wait())
}

// A signal that tells of a crash, sent to dblock, is the command's: no goroutines on
// standard error, no command that goes on alone.
func TestFaultsArePassedOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, sig := range []syscall.Signal{unix.SIGABRT, unix.SIGSEGV, unix.SIGSYS, unix.SIGTRAP, unix.SIGXCPU} {
		name := fmt.Sprintf("in%d", sig)
		c := sh(dir, fmt.Sprintf("ulimit -c 0; exec dblock -d x.db -- sh -c 'echo $$ > %s; exec sleep 60'", name))
		errs := &strings.Builder{}
		c.Stderr = errs
		start(t, c)
		await(t, "the command runs", contains(filepath.Join(dir, name), "\n"))
		require.NoError(t, c.Process.Signal(sig))
		_ = c.Wait()
		status := c.ProcessState.Sys().(syscall.WaitStatus)
		require.True(t, status.Signaled(), "%v: %v %s", sig, status, errs)
		require.Equal(t, sig, status.Signal())
		require.Empty(t, errs.String(), "%v", sig)
		var pid int
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		_, err = fmt.Sscan(string(b), &pid)
		require.NoError(t, err)
		require.ErrorIs(t, unix.Kill(pid, 0), unix.ESRCH, "%v: the command has ended", sig)
	}
}

// A signal that comes when there is a child but no command in it yet does to it what it
// would do without dblock, and is not told to dblock as one of its own.
func TestSignalBetweenForkAndExec(t *testing.T) {
	portable.Needs(t, portable.Linux)
	need(t, "strace")
	t.Parallel()
	dir := t.TempDir()
	for _, sig := range []syscall.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGCONT} {
		log := filepath.Join(dir, fmt.Sprintf("log%d", sig))
		// The child asks for its parent when it has the mask that the command gets.
		c := exec.Command("strace", "-f", "-o", log, "-e", "trace=getppid,execve,write",
			"-e", "inject=getppid:signal="+unix.SignalName(sig), "dblock", "-d", "x.db", "--", "true")
		c.Dir = dir
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // nothing stops in an orphaned group
		t.Cleanup(func() {
			if b, _ := os.ReadFile(log); t.Failed() {
				t.Logf("%s", b)
			}
		})
		start(t, c)
		if sig != unix.SIGCONT {
			stopped := regexp.MustCompile(`(?m)^(\d+) +--- stopped by ` + unix.SignalName(sig))
			var pid int
			await(t, "the child is stopped", func() bool {
				b, _ := os.ReadFile(log)
				m := stopped.FindSubmatch(b)
				if m != nil {
					_, _ = fmt.Sscan(string(m[1]), &pid)
				}
				return m != nil
			})
			require.NoError(t, unix.Kill(pid, unix.SIGCONT))
		}
		require.NoError(t, c.Wait())
		b, err := os.ReadFile(log)
		require.NoError(t, err)
		child := regexp.MustCompile(`(?m)^(\d+) +getppid`).FindSubmatch(b)
		require.NotNil(t, child, "%s", b)
		require.NotRegexp(t, `(?m)^`+string(child[1])+` +write\(`, string(b))
	}
}

// A Ctrl-C between the last look before the start and the fork reaches dblock alone,
// which must tell the command.
func TestTypedBeforeTheCommand(t *testing.T) {
	need(t, "strace")
	t.Parallel()
	// strace sends signals as the terminal does: in the kernel's name. The first pipe is
	// that of the signals, the second one that of the fork; but it counts by thread, and the
	// program may go on another one in between.
	pipe, threads := 2, "-q"
	if portable.Half {
		pipe, threads = 1, "-f" // there is none of the signals, and it may be another thread's
	}
	var status syscall.WaitStatus
	for sent, tries := false, 0; !sent && tries < 10; tries++ {
		log := filepath.Join(t.TempDir(), "log")
		c := exec.Command("strace", threads, "-o", log, "-e", "trace=pipe2", "-e", fmt.Sprintf("inject=pipe2:signal=SIGINT:when=%d", pipe),
			"dblock", "-d", "x.db", "--", "sleep", "2")
		c.Dir = t.TempDir()
		start(t, c)
		_ = c.Wait()
		status = c.ProcessState.Sys().(syscall.WaitStatus)
		sent = contains(log, "SIGINT")()
	}
	require.True(t, status.Signaled(), "%v", status)
	require.Equal(t, unix.SIGINT, status.Signal())
}

// A signal that stops, and comes when the lock has been acquired and nobody attends to the
// command yet, stops both: at a terminal nobody types Ctrl-Z twice.
func TestStoppedAtTheStart(t *testing.T) {
	need(t, "strace")
	t.Parallel()
	for how, c := range map[string]struct{ inject, script string }{
		"before there is a command": {"linkat:signal=SIGTSTP:when=1", ":"},
		"when it has just started":  {"clone:delay_exit=300000", "kill -TSTP $PPID"},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			log := filepath.Join(dir, "log")
			x := exec.Command("strace", "-f", "-b", "execve", "-o", log, "-e", "trace=clone,linkat", "-e", "inject="+c.inject,
				"dblock", "-d", "x.db", "--", "sh", "-c", c.script+"; until [ -e go ]; do sleep 0.01; done")
			x.Dir = dir
			x.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // nothing stops in an orphaned group
			t.Cleanup(func() {
				if b, _ := os.ReadFile(log); t.Failed() {
					t.Logf("%s", b)
				}
			})
			start(t, x)
			by := "SIGTSTP"
			if portable.Half {
				by = "SIGSTOP" // os/signal does not give the other one back
			}
			pid := 0
			await(t, "dblock is stopped", func() bool {
				b, _ := os.ReadFile(log)
				_, _ = fmt.Sscan(string(b), &pid)
				return pid != 0 && regexp.MustCompile(fmt.Sprintf(`(?m)^%d +--- stopped by %s`, pid, by)).Match(b)
			})
			letGo(t, dir)
			require.NoError(t, unix.Kill(pid, unix.SIGCONT))
			require.NoError(t, x.Wait())
		})
	}
}
