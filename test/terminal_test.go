//go:build linux

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// terminal is a real pseudo-terminal with an interactive shell on it.
type terminal struct {
	t      *testing.T
	master *os.File
	mu     sync.Mutex
	screen strings.Builder
}

// newTerminal starts a shell with job control in dir, on a terminal that wide.
func newTerminal(t *testing.T, dir string, columns uint16, env ...string) *terminal {
	t.Helper()
	need(t, "bash")
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}))
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	defer slave.Close()
	c := exec.Command("bash", "--norc", "--noprofile", "--noediting", "-i")
	c.Dir, c.Stdin, c.Stdout, c.Stderr = dir, slave, slave, slave
	c.Env = append(os.Environ(), append([]string{"PS1=$ ", "TERM=xterm", "LC_ALL=C.UTF-8", "HISTFILE="}, env...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, c.Start())
	tm := &terminal{t: t, master: master}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			tm.mu.Lock()
			tm.screen.Write(b[:n])
			tm.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		_ = master.Close()
		<-drained
	})
	return tm
}

func (tm *terminal) typed(text string) {
	_, err := tm.master.WriteString(text)
	require.NoError(tm.t, err)
}

// shown is everything that was ever written to the terminal.
func (tm *terminal) shown() string {
	tm.mu.Lock()
	defer tm.mu.Unlock()
	return tm.screen.String()
}

func (tm *terminal) expect(what string) {
	tm.t.Helper()
	re := regexp.MustCompile(what)
	for end := time.Now().Add(30 * time.Second); !re.MatchString(tm.shown()); {
		if time.Now().After(end) {
			tm.t.Fatalf("%q never appears in\n%q", what, tm.shown())
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestInterruptFromTheTerminalArrivesOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tm := newTerminal(t, dir, 80)
	// The command cleans up; dblock outlives that and keeps the lock meanwhile.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cmd"), []byte(
		`trap 'echo INT >> got; test -e .x.lock && echo locked >> got' INT; touch in; while [ -e in ] && [ ! -e go ]; do sleep 0.01; done; wc -l < got > count; exit 5`), 0o644))
	tm.typed("dblock -d x.db -- bash cmd; echo code=$?\n")
	await(t, "the command runs", func() bool { return exists(dir, "in") })
	tm.typed("\x03")
	await(t, "the command is interrupted", contains(filepath.Join(dir, "got"), "locked"))
	letGo(t, dir)
	tm.expect(`code=5`)
	b, err := os.ReadFile(filepath.Join(dir, "got"))
	require.NoError(t, err)
	require.Equal(t, "INT\nlocked\n", string(b))
	require.Empty(t, litter(t, dir))
}

func TestInterruptEndsBoth(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tm := newTerminal(t, dir, 80)
	tm.typed("dblock -d x.db -- sh -c 'touch in; exec sleep 100'\n")
	await(t, "the command runs", func() bool { return exists(dir, "in") })
	tm.typed("\x03")
	tm.expect(`\^C[\r\n]+\$ `)
	tm.typed("echo code=$?\n")
	tm.expect(`code=130`)
	require.Empty(t, litter(t, dir))
}

func TestStopAndContinue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tm := newTerminal(t, dir, 80)
	stamp := func() int64 {
		b, err := os.ReadFile(filepath.Join(dir, ".x.lock"))
		require.NoError(t, err)
		m := regexp.MustCompile(`"timestamp": *(\d+)`).FindSubmatch(b)
		require.NotNil(t, m, "%q", b)
		ms, err := strconv.ParseInt(string(m[1]), 10, 64)
		require.NoError(t, err)
		return ms - time.Now().UnixMilli()
	}
	const hour = int64(time.Hour / time.Millisecond)
	// Not sh: where that is dash, its child may be stopped between vfork and exec, and
	// dash itself cannot be stopped then, nor whoever waits for it.
	tm.typed("dblock -d x.db -- bash -c 'touch in; while [ -e in ] && [ ! -e go ]; do sleep 0.01; done'; echo code=$?\n")
	await(t, "the command runs", func() bool { return exists(dir, "in") })
	require.Less(t, stamp(), hour)
	tm.typed("\x1a")
	tm.expect(`Stopped`)
	await(t, "the notice is dated ahead", func() bool { return stamp() > 23*hour })
	require.Equal(t, "held", statusOf(t, dir, "x.db").State)
	tm.typed("fg\n")
	await(t, "the notice is of now", func() bool { return stamp() < hour })
	letGo(t, dir)
	code := 128 + int(unix.SIGTSTP)
	if portable.Half { // which stops itself in the way that nobody can refuse
		code = 128 + int(unix.SIGSTOP)
	}
	tm.expect(fmt.Sprintf(`code=%d\b[\s\S]*\$ `, code))
	await(t, "it ends", func() bool { return statusOf(t, dir, "x.db").State == "free" })
	require.Empty(t, litter(t, dir))
}

// A command that stops by itself gives the terminal back to the shell.
func TestCommandThatStopsItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tm := newTerminal(t, dir, 80)
	tm.typed("dblock -d x.db -- sh -c 'kill -TSTP $$; echo continued > on'; echo code=$?\n")
	tm.expect(`Stopped`)
	tm.typed("fg\n")
	await(t, "the command goes on", contains(filepath.Join(dir, "on"), "continued"))
	await(t, "it ends", func() bool { return statusOf(t, dir, "x.db").State == "free" })
}

func TestWaitingLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		columns uint16
		env     []string
	}{{80, nil}, {40, nil}, {40, []string{"LC_ALL=C", "NO_COLOR=1"}}} {
		dir := t.TempDir()
		h := hold(t, dir, "-d", "x.db", "-p", "größe-with-a-label-that-is-far-too-long-for-forty-columns")
		tm := newTerminal(t, dir, c.columns, c.env...)
		tm.typed("dblock -d x.db -- echo out-of-the-command\n")
		tm.expect(`\r(dblock: )?waiting \d`)
		tm.expect(`\r(dblock: )?waiting [1-9]`) // it is live
		letGo(t, dir)
		tm.expect(`\r\x1b\[Kout-of-the-command\r\n`)
		for _, line := range regexp.MustCompile(`\r(dblock: )?waiting[^\r\n]*`).FindAllString(tm.shown(), -1) {
			text := strings.TrimSuffix(strings.TrimPrefix(line, "\r"), "\x1b[K")
			require.Less(t, len([]rune(text)), int(c.columns), "%q wraps", text)
			require.NotContains(t, text, "\x1b")
			require.Contains(t, text, "(pid "+strconv.Itoa(h.Process.Pid), "who it is has room everywhere")
		}
	}
}
