//go:build linux

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// Whoever is tired of waiting types Ctrl-C: the line goes, the command never
// runs, the next one gets through.
func TestInterruptWhileWaiting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hold(t, dir, "-d", "x.db", "-p", "holder")
	tm := newTerminal(t, dir, 80)
	tm.typed("dblock -w forever -d x.db -- touch ran\n")
	tm.expect(`\rdblock: waiting \d[^\n]*held by holder`)
	next := start(t, command(t, dir, "-q", "-w", "forever", "-d", "x.db", "--", "true"))
	await(t, "two wait", func() bool { return waiters(t, dir, "x.db") == 2 })
	tm.typed("\x03")
	await(t, "one waits", func() bool { return waiters(t, dir, "x.db") == 1 })
	tm.typed("echo code=$?\n")
	tm.expect(`code=130`)
	tm.expect(`\r\x1b\[K`)
	letGo(t, dir)
	require.NoError(t, next.Wait())
	require.False(t, exists(dir, "ran"))
	require.Empty(t, litter(t, dir))
}

// Ctrl-Z while it waits: the shell gets its terminal back; fg waits on.
func TestStopWhileWaiting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hold(t, dir, "-d", "x.db", "-p", "holder")
	tm := newTerminal(t, dir, 80)
	tm.typed("dblock -w forever -d x.db -- sh -c 'echo out-of-the-command'\n")
	tm.expect(`\rdblock: waiting \d`)
	tm.typed("\x1a")
	tm.expect(`\r\x1b\[K[\s\S]*Stopped`)
	tm.typed("fg\n")
	tm.expect(`fg\r\n[\s\S]*\rdblock: waiting \d`)
	letGo(t, dir)
	tm.expect(`\r\x1b\[Kout-of-the-command\r\n`)
	await(t, "it ends", func() bool { return statusOf(t, dir, "x.db").State == "free" })
}

// On giving up the waiting line is replaced by the message.
func TestGivingUpOnATerminal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hold(t, dir, "-d", "x.db", "-p", "holder")
	tm := newTerminal(t, dir, 60)
	tm.typed("dblock -w 2.5 -d x.db -- touch ran; echo code=$?\n")
	tm.expect(`code=75\r\n`)
	require.Regexp(t, `\rdblock: waiting \d[^\r\n]*\x1b\[K(\rdblock: waiting [^\r\n]*\x1b\[K)*\r\x1b\[Kdblock: [^\r\n]* is held by holder [^\r\n]*gave up after [^\r\n]*\r\nhint: [^\r\n]*\r\ncode=75`, tm.shown())
	require.False(t, exists(dir, "ran"))
}

// logger writes the signals that it gets into the file "got", until "go" is there.
const logger = `
import os, signal
fd = os.open("got", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def log(text): os.write(fd, (text + "\n").encode())
for s in (signal.SIGQUIT, signal.SIGWINCH, signal.SIGINT, signal.SIGUSR1):
    signal.signal(s, lambda n, f: log(signal.Signals(n).name))
log("ready")
while not os.path.exists("go"): signal.sigtimedwait([], 0.01)
`

// What is typed, or told by the terminal, arrives once; and so does what somebody
// sends to dblock.
func TestSignalsOfATerminalArriveOnce(t *testing.T) {
	need(t, "python3")
	t.Parallel()
	for _, where := range []string{"foreground", "foreground, sent", "background, sent"} {
		if portable.Half && where == "foreground, sent" {
			continue // os/signal does not tell that from what is typed
		}
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "log.py"), []byte(logger), 0o644))
		tm := newTerminal(t, dir, 80)
		background := ""
		if where == "background, sent" {
			background = " &"
		}
		tm.typed("dblock -d x.db -- python3 log.py" + background + "\n")
		got := filepath.Join(dir, "got")
		await(t, "the command runs", contains(got, "ready\n"))
		wrapper := statusOf(t, dir, "x.db").Holder.PID
		want := "ready\n"
		for _, sig := range []unix.Signal{unix.SIGQUIT, unix.SIGINT, unix.SIGWINCH} {
			switch {
			case where != "foreground":
				require.NoError(t, unix.Kill(wrapper, sig))
			case sig == unix.SIGQUIT:
				tm.typed("\x1c")
			case sig == unix.SIGINT:
				tm.typed("\x03")
			case sig == unix.SIGWINCH:
				require.NoError(t, unix.IoctlSetWinsize(int(tm.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 30, Col: 100}))
			}
			want += unix.SignalName(sig) + "\n"
			await(t, "it arrives", contains(got, want))
			// Signals are passed on in order: a second copy would be there before this one.
			require.NoError(t, unix.Kill(wrapper, unix.SIGUSR1))
			want += "SIGUSR1\n"
			await(t, "it arrives", contains(got, want))
		}
		letGo(t, dir)
		await(t, "it ends", func() bool { return statusOf(t, dir, "x.db").State == "free" })
		b, err := os.ReadFile(got)
		require.NoError(t, err)
		require.Equal(t, want, string(b), where)
	}
}

// A shell's job in the background that reads from the terminal is stopped, and dblock
// with it; brought to the foreground it goes on, with what was typed.
func TestBackgroundJobThatReads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tm := newTerminal(t, dir, 80)
	tm.typed("dblock -d x.db -- sh -c 'echo $$ > pid; read line; echo got-$line' &\n")
	await(t, "the command runs", contains(filepath.Join(dir, "pid"), "\n"))
	var pid int
	b, err := os.ReadFile(filepath.Join(dir, "pid"))
	require.NoError(t, err)
	_, err = fmt.Sscan(string(b), &pid)
	require.NoError(t, err)
	wrapper := statusOf(t, dir, "x.db").Holder.PID
	for _, p := range []int{pid, wrapper} {
		await(t, "it is stopped", func() bool {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
			_, rest, _ := strings.Cut(string(b), ") ")
			return strings.HasPrefix(rest, "T")
		})
	}
	require.Equal(t, "held", statusOf(t, dir, "x.db").State)
	// A shell continues a job only if it has been told that it is stopped.
	for asked := 1; !strings.Contains(tm.shown(), "Stopped"); asked++ {
		tm.typed("jobs\n")
		tm.expect(fmt.Sprintf(`([\s\S]*\[1\]\+ +(Running|Stopped)){%d}`, asked))
	}
	tm.typed("fg\n")
	tm.expect(`fg\r\n`)
	tm.typed("hello\n")
	tm.expect(`got-hello`)
	await(t, "it ends", func() bool { return statusOf(t, dir, "x.db").State == "free" })
}

// In a pipeline on a terminal all parts are interrupted, each once.
func TestPipelineOnATerminal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tm := newTerminal(t, dir, 80)
	tm.typed("dblock -d x.db -- sh -c 'touch in; exec sleep 100' | cat; echo code=${PIPESTATUS[0]}-${PIPESTATUS[1]}-\n")
	await(t, "the command runs", func() bool { return exists(dir, "in") })
	tm.typed("\x03")
	await(t, "it ends", func() bool { return statusOf(t, dir, "x.db").State == "free" })
	require.Empty(t, litter(t, dir))
	tm.typed("dblock -d x.db -- sh -c 'echo through; exit 3' | cat; echo code=${PIPESTATUS[0]}-${PIPESTATUS[1]}-\n")
	tm.expect(`through\r\ncode=3-0-`)
}

// A command that is stopped and continued by its own pid, where no shell at a terminal wants
// to know of it: whoever does that does not know of dblock, which would stay stopped.
func TestOnlyTheCommandIsStopped(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU} {
		dir := t.TempDir()
		script, _, pid := withoutTerminal(t, dir)
		require.NoError(t, unix.Kill(pid, sig))
		await(t, "the command is stopped", func() bool { return stateOf(pid) == "T" })
		require.NoError(t, unix.Kill(pid, unix.SIGCONT))
		letGo(t, dir)
		await(t, "the lock is free", func() bool { return statusOf(t, dir, "x.db").State == "free" })
		require.NoError(t, script.Wait())
	}
}

// Who stops dblock as well means both, in whatever order.
func TestTheCommandIsStoppedFirst(t *testing.T) {
	t.Parallel()
	for range 5 {
		dir := t.TempDir()
		script, wrapper, pid := withoutTerminal(t, dir)
		require.NoError(t, unix.Kill(pid, unix.SIGTSTP))
		await(t, "the command is stopped", func() bool { return stateOf(pid) == "T" })
		require.NoError(t, unix.Kill(wrapper, unix.SIGTSTP))
		await(t, "dblock is stopped", func() bool { return stateOf(wrapper) == "T" })
		require.NoError(t, unix.Kill(wrapper, unix.SIGCONT))
		letGo(t, dir)
		await(t, "the lock is free", func() bool { return statusOf(t, dir, "x.db").State == "free" })
		require.NoError(t, script.Wait())
	}
}

// withoutTerminal is a program that runs dblock in a group of its own: no terminal, but a
// parent outside of the group who could continue it. pid is the command's.
func withoutTerminal(t *testing.T, dir string) (script *exec.Cmd, wrapper, pid int) {
	t.Helper()
	need(t, "python3")
	c := command(t, dir, "-d", "x.db", "--", "sh", "-c", "echo $$ >pid; while [ -e pid ] && [ ! -e go ]; do sleep 0.01; done")
	script = exec.Command("python3", "-c", "import os, subprocess, sys; sys.exit(subprocess.Popen(sys.argv[1:], preexec_fn=os.setpgrp).wait())")
	script.Args = append(script.Args, c.Args...)
	script.Dir, script.SysProcAttr = dir, &syscall.SysProcAttr{Setsid: true}
	start(t, script)
	await(t, "the command runs", contains(filepath.Join(dir, "pid"), "\n"))
	pid, err := strconv.Atoi(strings.TrimSpace(read(t, dir, "pid")))
	require.NoError(t, err)
	return script, statusOf(t, dir, "x.db").Holder.PID, pid
}
