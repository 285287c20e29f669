//go:build linux && (amd64 || arm64)

package test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// filtered is what the test binary does as a child: it becomes the program under a
// seccomp filter that ends whoever makes one of those system calls, as that of a
// service with SystemCallFilter=~@resources does.
func filtered() {
	runtime.LockOSThread()
	resources := []uint32{unix.SYS_SCHED_SETAFFINITY, unix.SYS_SCHED_SETPARAM, unix.SYS_SCHED_SETSCHEDULER, unix.SYS_SCHED_SETATTR,
		unix.SYS_SETPRIORITY, unix.SYS_IOPRIO_SET, unix.SYS_MBIND, unix.SYS_SET_MEMPOLICY, unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES,
		unix.SYS_SETRLIMIT}
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}} // the call's number
	for _, nr := range resources {
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: nr},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_KILL_PROCESS})
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	must := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	must(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	must(unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0))
	must(unix.Exec(os.Args[1], os.Args[1:], os.Environ()))
}

// A service manager may forbid what has to do with scheduling.
func TestUnderASystemCallFilter(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	run := func(args ...string) *exec.Cmd {
		c := exec.Command(self, append([]string{binary}, args...)...)
		c.Dir = dir
		c.Env = append(os.Environ(), "DBLOCK_TEST_FILTERED=1")
		return c
	}
	r := finish(t, run("-d", "x.db", "--", "echo", "hello"))
	require.Equal(t, "hello\n", r.stdout, "%v %s", r.status, r.stderr)
	// Also when it waits, and when the command takes long.
	hold(t, dir, "-d", "x.db")
	c := start(t, run("-q", "-w", "forever", "-d", "x.db", "--", "sleep", "0.2"))
	await(t, "it waits", func() bool { return waiters(t, dir, "x.db") == 1 })
	letGo(t, dir)
	require.NoError(t, c.Wait())
}

// The processors that dblock may run on are not its own to decide, also when that was
// changed while it waited.
func TestProcessorsAreThoseOfNow(t *testing.T) {
	need(t, "taskset")
	t.Parallel()
	if runtime.NumCPU() < 2 {
		t.Skip("there is only one")
	}
	dir := t.TempDir()
	hold(t, dir, "-d", "x.db")
	c := command(t, dir, "-q", "-w", "forever", "-d", "x.db", "--", "grep", "Cpus_allowed_list", "/proc/self/status")
	out := &strings.Builder{}
	c.Stdout = out
	start(t, c)
	await(t, "it waits", func() bool { return waiters(t, dir, "x.db") == 1 })
	require.NoError(t, exec.Command("taskset", "-a", "-p", "-c", "0", fmt.Sprint(c.Process.Pid)).Run())
	letGo(t, dir)
	require.NoError(t, c.Wait())
	require.Equal(t, "Cpus_allowed_list:\t0\n", out.String())
}

// The command's timers are as exact, and it may open as many files, as if dblock were not there, whatever
// dblock has set for itself and whichever of its threads starts it.
func TestCommandInheritsWhatItWould(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := func() *exec.Cmd {
		c := command(t, dir, "-q", "-w", "forever", "-d", "x.db", "--", "sh", "-c", "ulimit -Sn; ulimit -Hn; cat /proc/self/timerslack_ns")
		c.Args = append([]string{"sh", "-c", `ulimit -Sn 100 && ulimit -Hn 200 && exec "$@"`, "sh"}, c.Args...)
		c.Path = "/bin/sh"
		return c
	}
	slack, err := os.ReadFile("/proc/self/timerslack_ns")
	require.NoError(t, err)
	want := "100\n200\n" + string(slack)
	r := finish(t, run())
	require.Equal(t, want, r.stdout, r.stderr)
	for range 20 {
		hold(t, dir, "-d", "x.db")
		out := &strings.Builder{}
		c := run()
		c.Stdout = out
		start(t, c)
		await(t, "it waits", func() bool { return waiters(t, dir, "x.db") == 1 })
		letGo(t, dir)
		require.NoError(t, c.Wait())
		require.Equal(t, want, out.String())
		require.NoError(t, os.Remove(filepath.Join(dir, "go")))
	}
}

const showSignals = "grep -E 'Sig(Ign|Blk)' /proc/self/status"

// A command, and a companion, ignores and blocks what dblock was told to: also those signals that the
// Go runtime takes for itself, and the one by which dblock interrupts itself.
func TestSignalsAreTheCommands(t *testing.T) {
	t.Parallel()
	if portable.Half {
		t.Skip("nothing is known of them there")
	}
	need(t, "python3")
	dir, elsewhere := t.TempDir(), t.TempDir()
	executable(t, filepath.Join(elsewhere, "dblock-report"), []byte("#!/bin/sh\n"+showSignals+"\n"))
	as := func(ignored, blocked string, args ...string) *exec.Cmd {
		c := with(exec.Command("python3", append([]string{"-c", `import os, signal, sys
for s in sys.argv[1].split(): signal.signal(int(s), signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, map(int, sys.argv[2].split()))
os.execvp(sys.argv[3], sys.argv[3:])`, ignored, blocked}, args...)...), "PATH="+elsewhere+":"+os.Getenv("PATH"))
		c.Dir = dir
		return c
	}
	for _, each := range [][2]string{
		{"", ""}, {"", "15"}, {"", "1 2 3 10 15 34 35 63 64"}, {"64", ""}, {"3 10 15 34 63 64", "1 2 12"}, {"15 64", "15 64"},
	} {
		ignored, blocked := each[0], each[1]
		want := finish(t, as(ignored, blocked, "sh", "-c", showSignals)).stdout
		require.Regexp(t, "SigBlk.*\nSigIgn", want)
		require.Equal(t, want, finish(t, as(ignored, blocked, binary, "-d", "x.db", "--", "sh", "-c", showSignals)).stdout, "free: %q", each)
		require.Equal(t, want, finish(t, as(ignored, blocked, binary, "report")).stdout, "companion: %q", each)

		hold(t, dir, "-d", "x.db")
		require.Equal(t, 75, finish(t, as(ignored, blocked, binary, "-q", "-w", "100ms", "-d", "x.db", "--", "true")).code(), "gives up: %q", each)
		out := &strings.Builder{}
		c := as(ignored, blocked, binary, "-q", "-w", "forever", "-d", "x.db", "--", "sh", "-c", showSignals)
		c.Stdout = out
		start(t, c)
		await(t, "it waits", func() bool { return waiters(t, dir, "x.db") == 1 })
		letGo(t, dir)
		require.NoError(t, c.Wait())
		require.Equal(t, want, out.String(), "after a wait: %q", each)
		require.NoError(t, os.Remove(filepath.Join(dir, "go")))
	}
}

// A signal that dblock passes on is the command's business: one that it was started with blocked
// waits there.
func TestPassesOnWhatIsBlocked(t *testing.T) {
	t.Parallel()
	if portable.Half {
		t.Skip("nothing is known of them there")
	}
	need(t, "python3")
	dir := t.TempDir()
	c := with(exec.Command("python3", "-c", `import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGHUP])
os.execvp("dblock", ["dblock", "-d", "x.db", "--", "python3", "-c", """import signal
print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), flush=True)
print(signal.sigwait([signal.SIGTERM]).name, flush=True)"""])`))
	c.Dir = dir
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	start(t, c)
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	require.Contains(t, lines.Text(), "SIGTERM")
	require.NoError(t, c.Process.Signal(unix.SIGTERM))
	require.True(t, lines.Scan())
	require.Equal(t, "SIGTERM", lines.Text())
	require.NoError(t, c.Wait())
}

// What the entry point tells the runtime by the environment is not told to anybody
// else, and does not stand in the way of what the user says.
func TestProcessorsByTheEnvironment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, user := range []string{"", "GOMAXPROCS=1", "GOMAXPROCS=3", "GOMAXPROCS=", "GOMAXPROCSX=2", "GOMAXPROC=2", "G="} {
		c := command(t, dir, "-d", "x.db", "--", "cat", "/proc/self/environ")
		c.Env = []string{"PATH=" + os.Getenv("PATH"), "PWD=" + dir}
		if user != "" {
			c.Env = append(c.Env, user, "B=2")
		}
		want := slices.Clone(c.Env)
		r := finish(t, c)
		require.Zero(t, r.code(), r.stderr)
		got := slices.DeleteFunc(strings.Split(strings.TrimSuffix(r.stdout, "\x00"), "\x00"), func(kv string) bool { return strings.HasPrefix(kv, "DBLOCK_") })
		require.ElementsMatch(t, want, got)
	}
}

// However much there is of arguments and environment, the command gets them as they are.
func TestLargeEnvironmentAndArguments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, size := range []struct{ variables, arguments, each int }{
		{0, 0, 0}, {1, 1, 100}, {9000, 0, 100}, {0, 9000, 100}, {6, 6, 120_000}, {20_000, 20_000, 10},
	} {
		c := command(t, dir, "-d", "x.db", "--", "/bin/sh", "-c", "cat /proc/$$/cmdline /proc/$$/environ; :", "sh")
		c.Env = []string{"PATH=" + os.Getenv("PATH"), "PWD=" + dir}
		for i := range size.arguments {
			c.Args = append(c.Args, fmt.Sprintf("%d%s", i, strings.Repeat("a", size.each)))
		}
		for i := range size.variables {
			c.Env = append(c.Env, fmt.Sprintf("V%d=%s", i, strings.Repeat("v", size.each)))
		}
		want := append(slices.Clone(c.Args[4:]), c.Env...)
		r := finish(t, c)
		require.Zero(t, r.code(), "%+v %s", size, r.stderr)
		got := slices.DeleteFunc(strings.Split(strings.TrimSuffix(r.stdout, "\x00"), "\x00"), func(s string) bool { return strings.HasPrefix(s, "DBLOCK_") })
		arguments := len(want) - len(c.Env)
		require.GreaterOrEqual(t, len(got), arguments)
		require.True(t, slices.Equal(want[:arguments], got[:arguments]), "%+v", size)
		slices.Sort(want[arguments:])
		slices.Sort(got[arguments:])
		require.True(t, slices.Equal(want, got), "%+v", size)
	}
}

// The installed program tells that it was linked as it should be.
func TestVersionTellsOfTheEntryPoint(t *testing.T) {
	t.Parallel()
	r := execute(t, t.TempDir(), "--version")
	point := "yes"
	if portable.Half {
		point = "no"
	}
	require.Regexp(t, `^dblock \d+\.\d+\.\d+\S* \((.+, )?entry point `+point+`, go1\..+\)\n$`, r.stdout)
}
