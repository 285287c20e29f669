//go:build linux

package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// mux is a shell in a terminal of tmux's, which shows what is on its screen.
type mux struct {
	t      *testing.T
	socket string
}

func newMux(t *testing.T, dir string, columns, rows int) *mux {
	t.Helper()
	need(t, "tmux", "bash")
	short, err := os.MkdirTemp("", "mux") // the name of a socket is short
	require.NoError(t, err)
	m := &mux{t, filepath.Join(short, "s")}
	c := m.command("-f", "/dev/null", "new-session", "-d", "-x", strconv.Itoa(columns), "-y", strconv.Itoa(rows), "exec env 'PS1=$ ' bash --norc --noprofile --noediting")
	c.Dir = dir
	c.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "HISTFILE=", "NO_COLOR=")
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Cleanup(func() {
		_ = m.command("kill-server").Run()
		os.RemoveAll(short)
	})
	m.await("the prompt", `\$$`)
	return m
}

func (m *mux) command(args ...string) *exec.Cmd {
	return exec.Command("tmux", append([]string{"-S", m.socket}, args...)...)
}

func (m *mux) do(args ...string) string {
	m.t.Helper()
	out, err := m.command(args...).CombinedOutput()
	require.NoError(m.t, err, "%s", out)
	return string(out)
}

// keys presses keys, by tmux's names for them.
func (m *mux) keys(keys ...string) { m.t.Helper(); m.do(append([]string{"send-keys"}, keys...)...) }

// run types a command line.
func (m *mux) run(line string) { m.t.Helper(); m.do("send-keys", "-l", line+"\n") }

// await waits until the screen is like that, and returns it.
func (m *mux) await(what, like string) (screen string) {
	m.t.Helper()
	re := regexp.MustCompile(like)
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		screen = m.do("capture-pane", "-p")
		if screen = strings.TrimRight(screen, "\n"); re.MatchString(screen) {
			return screen
		}
		time.Sleep(20 * time.Millisecond)
	}
	m.t.Fatalf("never: %s (%s) on\n%s", what, like, screen)
	return ""
}

// alternate reports whether a program has the other screen.
func (m *mux) alternate() bool {
	m.t.Helper()
	return strings.TrimSpace(m.do("display-message", "-p", "#{alternate_on}")) == "1"
}

// inTop is the pid of the dashboard.
func (m *mux) inTop() int {
	m.t.Helper()
	shell := strings.TrimSpace(m.do("display-message", "-p", "#{pane_pid}"))
	pid := 0
	await(m.t, "the shell has started it", func() bool {
		b, _ := os.ReadFile("/proc/" + shell + "/task/" + shell + "/children")
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		comm, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		return string(comm) == "dblock-top\n"
	})
	return pid
}

// settings are those of the terminal.
func (m *mux) settings() string {
	m.t.Helper()
	out, err := exec.Command("stty", "-g", "-F", strings.TrimSpace(m.do("display-message", "-p", "#{pane_tty}"))).Output()
	require.NoError(m.t, err)
	return string(out)
}

func TestTopShowsWhatHappens(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := newMux(t, dir, 80, 24)
	before := m.settings()
	m.run("dblock top -d x.db")
	m.await("it is free", `^x\.db\nfree\n`)
	require.True(t, m.alternate())
	h := hold(t, dir, "-d", "x.db", "-p", "migr\x1bation", "--info", "OPS-7")
	runs := `  Runs: sh -c .*`
	if portable.Half {
		runs = `.*`
	}
	m.await("the holder", `(?s)\nheld  migr\?ation \(pid `+strconv.Itoa(h.Process.Pid)+`\)  [\d.]+s\n`+runs+`Info: OPS-7\n`)
	start(t, command(t, dir, "-d", "x.db", "-w", "1000", "-p", "one", "--", "true"))
	if !portable.Half { // which does not know who waits
		m.await("one who waits", `Waiting: 1\n  1 +[\d.]+s +\d+m\d\ds left  one \(pid \d+\), true\n`)
	}
	await(t, "one waits", func() bool { return waiters(t, dir, "x.db") == 1 })
	start(t, command(t, dir, "-d", "x.db", "-w", "forever", "--priority", "low", "-s", "--", "cat", "x.db"))
	if !portable.Half {
		m.await("the other one", `Waiting: 2\n.*\n  2 +[\d.]+s +for ever  cat \(pid \d+\), shared, low priority\n`)
	}
	await(t, "both wait", func() bool { return waiters(t, dir, "x.db") == 2 })
	letGo(t, dir)
	m.await("what happened", `(?s)\nfree\n.*Last 10 minutes\n  held .*  \d+ of 3 had to wait\nLast holds\n.*migr\?ation \(pid \d+\) held it for .*`)
	m.keys("l")
	m.await("the log", `History of x\.db\n`)
	m.keys("?")
	m.await("help", `ctrl-z +go to the background`)
	m.keys("q")
	m.await("the prompt", `^\$ dblock top -d x\.db\n\$$`)
	require.False(t, m.alternate())
	require.Equal(t, before, m.settings())
}

func TestTopShowsSeveralAndForcesOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
	hold(t, dir, "-d", "a.db", "-p", "first")
	h := hold(t, dir, "-d", "sub/b.db", "-p", "second")
	require.Zero(t, execute(t, dir, "-d", "c.db", "--", "true").code())
	m := newMux(t, dir, 80, 24)
	m.run("dblock top --sort age .")
	m.await("all of them", `dblock top  2 of 3 held, 0 waiting +by age\n.*\n> \.a\.lock +held +\S+ +first.*\n  sub/\.b\.lock +held +\S+ +second.*\n  \.c\.lock +free`)
	require.Zero(t, execute(t, dir, "-d", "d.db", "--", "true").code())
	m.keys("r")
	m.await("a new one", `dblock top  2 of 4 held`)
	m.keys("j", "f")
	condemned, ended := `\d processes will be ended`, `dblock for sh \(pid \d+\)`
	switch {
	case portable.Half && os.Geteuid() == 0:
		condemned = `It cannot be ended from here`
	case portable.Half:
		condemned, ended = `1 process will be ended`, `pid \d+`
	}
	m.await("the question", `(?s)^Force sub/\.b\.lock\nsecond \(pid \d+ on .*\) holds the lock.*`+condemned+`.*\nGo on\? \[y/N\]`)
	m.keys("Enter")
	m.await("nothing was done", `(?s)^dblock top  2 of 4 held.*Nothing was changed\.`)
	portable.NeedsWord(t)
	m.keys("f")
	m.await("the question again", `Go on\? \[y/N\]`)
	m.keys("y")
	m.await("it is done", `The lock was removed\. Ended: `+ended)
	require.Error(t, h.Wait())
	m.keys("Escape")
	m.await("it is free", `dblock top  1 of 4 held`)
	require.True(t, statusOf(t, dir, "a.db").Locked)
	m.keys("C-c")
	m.await("the prompt", `\n\$$`)
}

// A yes is to what was shown: who has the lock by then was not asked about.
func TestTopForcesNobodyElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, command(t, dir, "-d", "x.db", "-p", "first", "--", "sh", "-c", "until [ -e next ]; do sleep 0.01; done"))
	await(t, "it has the lock", func() bool { return statusOf(t, dir, "x.db").Locked })
	m := newMux(t, dir, 80, 24)
	m.run("dblock top -d x.db")
	m.await("the holder", `held  first`)
	m.keys("f")
	m.await("the question", `(?s)first .*Go on\?`)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "next"), nil, 0o644))
	require.NoError(t, first.Wait())
	second := hold(t, dir, "-d", "x.db", "-p", "second")
	m.keys("y")
	m.await("the refusal", `(?s)is another lock by\s+now`)
	require.NoError(t, unix.Kill(second.Process.Pid, 0))
	require.Equal(t, "second", statusOf(t, dir, "x.db").Holder.Process)
}

func TestTopInSmallTerminals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hold(t, dir, "-d", "x.db", "-p", "first")
	require.Zero(t, execute(t, dir, "-d", "y.db", "--", "true").code())
	m := newMux(t, dir, 80, 24)
	m.run("dblock top -d x.db -d y.db")
	m.await("both", `1 of 2 held`)
	m.do("resize-window", "-x", "40", "-y", "12")
	m.await("a narrow table", `^dblock top  1 of 2 held, 0 waiting\n  DATABASE STATE        FOR WAIT\n> x\.db     held +\S+\n  y\.db     free\n────`)
	m.do("resize-window", "-x", "12", "-y", "2")
	m.await("what fits", `^> x\.db`)
	m.do("resize-window", "-x", "100", "-y", "30")
	m.await("a wide table", `HOLDER`)
	m.keys("q")
	m.await("the prompt", `\n\$$`)
}

func TestTopInTheBackground(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hold(t, dir, "-d", "x.db", "-p", "first")
	m := newMux(t, dir, 80, 24)
	before := m.settings()
	m.run("dblock top -d x.db")
	m.await("the holder", `held  first`)
	for _, stop := range []func(){
		func() { m.keys("C-z") },
		func() { require.NoError(t, unix.Kill(m.inTop(), unix.SIGTSTP)) },
	} {
		stop()
		m.await("the prompt", `Stopped .*\n\$$`)
		require.False(t, m.alternate())
		require.Equal(t, before, m.settings())
		m.run("clear; fg")
		m.await("the holder again", `(?s)^x\.db\nheld  first.*q quit`)
		require.True(t, m.alternate())
	}
	// Who stops it in the way that nobody can refuse leaves the screen as it is.
	require.NoError(t, unix.Kill(m.inTop(), unix.SIGSTOP))
	m.await("the shell", `Stopped`)
	m.run("clear")
	m.await("nothing of it", `^\$$`)
	m.run("fg")
	m.await("the holder again", `(?s)^x\.db\nheld  first.*q quit`)
	m.keys("q")
	await(t, "the shell is back", func() bool { return !m.alternate() && m.settings() == before })
}

// One that was started, or goes on, where it may not use the terminal can be ended.
func TestTopEndedInTheBackground(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := newMux(t, dir, 80, 24)
	before := m.settings()
	m.run("dblock top -d x.db & wait %1; clear; fg")
	m.await("the dashboard", `q quit`)
	m.keys("C-z")
	m.await("the prompt", `Stopped .*\n\$$`)
	m.run("clear; bg; wait %1; clear; kill %1; while kill -0 %1; do sleep 0.1; done; echo it has ended | tr a-z A-Z")
	m.await("its end", `IT HAS ENDED`)
	require.Equal(t, before, m.settings())
	m.run("clear; dblock top -d x.db & wait %1; clear; kill %1; while kill -0 %1; do sleep 0.1; done; echo it has ended | tr a-z A-Z")
	m.await("its end", `IT HAS ENDED`)
	require.Equal(t, before, m.settings())
}

func TestTopEndsBySignals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := newMux(t, dir, 80, 24)
	before := m.settings()
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT} {
		m.run("clear; dblock top -d x.db; echo ended $?")
		m.await("it is there", `^x\.db\nfree`)
		require.NoError(t, unix.Kill(m.inTop(), sig))
		m.await("the end", `\nended `+strconv.Itoa(128+int(sig))+`\n`)
		require.False(t, m.alternate())
		require.Equal(t, before, m.settings())
	}
}

// Whose terminal has gone has nobody to show anything to, told of it or not.
func TestTopEndsWithItsTerminal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, before := range []string{"", "trap '' HUP; "} {
		m := newMux(t, dir, 80, 24)
		m.run("clear; " + before + "dblock top -d x.db")
		m.await("it is there", `^x\.db\nfree`)
		pid := m.inTop()
		m.do("kill-pane")
		await(t, "it has ended", func() bool { return unix.Kill(pid, 0) == unix.ESRCH })
	}
}

// A terminal that takes nothing more holds up who writes to it, but not for ever.
func TestTopEndsThoughItsTerminalIsStuck(t *testing.T) {
	t.Parallel()
	need(t, "bash")
	dir := t.TempDir()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	defer master.Close()
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}))
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	defer slave.Close()
	c := command(t, dir, "top", "-d", "x.db")
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	c.Env = append(os.Environ(), "TERM=xterm")
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	start(t, c)
	// Each Ctrl-L draws everything; nobody reads it. Once there is no room, no more comes.
	last, same := 0, 0
	await(t, "the terminal is full", func() bool {
		_, _ = master.WriteString("\x0c")
		waiting, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCINQ)
		require.NoError(t, err)
		if same++; waiting != last || waiting < 2000 {
			last, same = waiting, 0
		}
		return same > 200
	})
	require.NoError(t, c.Process.Signal(unix.SIGTERM))
	_ = c.Wait()
	require.Equal(t, unix.SIGTERM, c.ProcessState.Sys().(syscall.WaitStatus).Signal())
}

func TestTopOffTheTerminal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	top := func(args ...string) result { return execute(t, dir, append([]string{"top"}, args...)...) }
	r := top("-d", "x.db")
	require.Equal(t, 64, r.code())
	require.Equal(t, "dblock: dblock top needs a terminal\nhint: for pipes and files: `dblock status --watch`\n", r.stderr)
	r = top()
	require.Equal(t, 64, r.code())
	require.Contains(t, r.stderr, "no database is named")
	r = top("nowhere")
	require.Equal(t, 73, r.code())
	require.Contains(t, r.stderr, "there is no directory")
	r = top("-d", "nowhere/x.db")
	require.Equal(t, 73, r.code())
	require.Contains(t, r.stderr, "there is no directory")
	r = top("--sort", "size", ".")
	require.Equal(t, 64, r.code())
	require.Contains(t, r.stderr, "give name, age or waits")
	r = top(".", "sub", "-d")
	require.Equal(t, 64, r.code())
	require.Contains(t, r.stderr, "--db needs a value")
	r = top("--help")
	require.Zero(t, r.code())
	require.Regexp(t, `^Usage: dblock top `, r.stdout)
	require.False(t, exists(dir, ".x.lock.d"), "it only looks")
}

// Who runs dblock does not pay for the dashboard.
func TestTopIsNoPartOfDblock(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "..").Output()
	require.NoError(t, err)
	require.NotContains(t, string(out), "tcell")
}

func TestTopWithoutColours(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := newMux(t, dir, 80, 24)
	colour := regexp.MustCompile(`\x1b\[(3[0-7]|38;[\d;]*)m`)
	m.run("dblock top -d x.db")
	m.await("it is free", `^x\.db\nfree`)
	require.Regexp(t, colour, m.do("capture-pane", "-p", "-e"))
	m.keys("q")
	m.await("the prompt", `\n\$$`)
	m.run("clear; NO_COLOR=1 dblock top -d x.db")
	m.await("it is free", `^x\.db\nfree`)
	require.NotRegexp(t, colour, m.do("capture-pane", "-p", "-e"))
}
