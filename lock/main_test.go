package lock

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// patience is how long a condition may take to come true before the test fails.
// It is never waited out by a test that passes.
const patience = 20 * time.Second

// The test binary is its own helper: with envRole set it is another process that
// holds a lock, or merely lives, until its standard input ends.
const (
	envRole   = "DBLOCK_TEST_ROLE"
	envConfig = "DBLOCK_TEST_CONFIG"
)

type config struct {
	DB    string
	Opts  Options `json:"-"`
	Umask int

	Mode         Mode
	Wait         time.Duration
	StaleTimeout time.Duration
	Process      string
	Reads        int
	Run          string // the role of the command that "wrap" runs
	Deaf         bool   // it ignores SIGTERM
	Ending       bool   // it shows that its command has ended
}

func TestMain(m *testing.M) {
	switch os.Getenv(envRole) {
	case "":
	case "live":
		fmt.Println("alive")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	case "linger":
		fmt.Println("alive")
		time.Sleep(3 * patience) // until it is killed, and not for ever if nobody does
		os.Exit(0)
	case "daemon":
		os.Exit(childDaemon())
	case "hold":
		os.Exit(childHold())
	case "wrap":
		os.Exit(childWrap())
	case "read":
		os.Exit(childRead())
	default:
		os.Exit(64)
	}
	// The tests may themselves run under a dblock.
	for _, name := range []string{EnvToken, EnvPID, EnvLockFile, EnvMode, EnvOuter} {
		_ = os.Unsetenv(name)
	}
	// Most tests wait for a clock or a process. (-parallel goes before.)
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func childConfig() (c config) {
	if err := json.Unmarshal([]byte(os.Getenv(envConfig)), &c); err != nil {
		panic(err)
	}
	return c
}

// childHold holds the lock until it is told "release" or its input ends; told
// "look" it waits for its loss first. Told "forget" it has no command line any more, like a process that is ending.
func childHold() int {
	c := childConfig()
	unix.Umask(c.Umask)
	c.deafen()
	l := New(c.DB, Options{Mode: c.Mode, Wait: c.Wait, StaleTimeout: c.StaleTimeout, Process: c.Process})
	if err := l.Acquire(context.Background()); err != nil {
		fmt.Println("error", err)
		return 1
	}
	g, _ := l.Grant()
	fmt.Println("held", g.Holder.Token, g.Leaned, g.Degraded != nil)
	in := bufio.NewScanner(os.Stdin)
	in.Scan()
	if in.Text() == "forget" {
		// The strings are the very memory that /proc shows.
		for _, arg := range os.Args[1:] {
			clear(unsafe.Slice(unsafe.StringData(arg), len(arg)))
		}
		fmt.Println("forgotten")
		in.Scan()
	}
	if in.Text() == "look" {
		select {
		case <-l.Lost():
		case <-time.After(patience):
		}
	}
	fmt.Println("released", l.Release())
	return 0
}

func (c config) deafen() {
	if c.Deaf {
		signal.Ignore(unix.SIGTERM)
	}
}

// childDaemon leaves a process in a session of its own, with the room that it has
// inherited.
func childDaemon() int {
	self, _ := os.Executable()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), envRole+"=linger")
	cmd.ExtraFiles = []*os.File{os.NewFile(3, "room")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if cmd.Start() != nil {
		return 1
	}
	fmt.Println("alive", cmd.Process.Pid)
	return 0
}

// childWrap runs a command that inherits the room, as the dblock program does.
func childWrap() int {
	c := childConfig()
	c.deafen()
	l := New(c.DB, Options{Wait: c.Wait, Mode: c.Mode})
	if err := l.Acquire(context.Background()); err != nil {
		return 1
	}
	if c.Ending {
		l.Ending()
	}
	fd, err := dup(l.Descriptors()[0])
	if err != nil {
		return 1
	}
	self, _ := os.Executable()
	cmd := exec.Command(self)
	g, _ := l.Grant()
	cmd.Env = append(os.Environ(), envRole+"="+c.Run, EnvToken+"="+strconv.FormatInt(g.Holder.Token, 10), EnvPID+"="+strconv.Itoa(os.Getpid()), EnvLockFile+"="+g.Names.Notice)
	cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(fd), "room")}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 1
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return 1
	}
	if cmd.Start() != nil {
		return 1
	}
	first := bufio.NewReader(out)
	if _, err := first.ReadString('\n'); err != nil {
		return 1
	}
	_ = cmd.ExtraFiles[0].Close()
	fmt.Println("running", cmd.Process.Pid)
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = in.Close()
	_ = cmd.Wait()
	return 0
}

// childRead reads a notice in a tight loop, as a peer does, and reports the
// first thing that no peer may ever see.
func childRead() int {
	c := childConfig()
	names, err := Resolve(c.DB, "")
	if err != nil {
		return 64
	}
	fmt.Println("reading")
	var last int64
	for range c.Reads {
		b, err := os.ReadFile(names.Notice)
		if err != nil {
			fmt.Println("unreadable:", err)
			return 1
		}
		var n struct{ PID, Timestamp int64 }
		if err := json.Unmarshal(b, &n); err != nil {
			fmt.Printf("invalid: %v: %q\n", err, b)
			return 1
		}
		if n.Timestamp < last {
			fmt.Println("backwards:", last, n.Timestamp)
			return 1
		}
		last = n.Timestamp
	}
	fmt.Println("done")
	return 0
}

// child is a helper process.
type child struct {
	*exec.Cmd
	in    io.WriteCloser
	lines chan string
}

// start runs the test binary in a role. wrap, if any, is a command to run it under.
func start(t testing.TB, role string, c config, wrap ...string) *child {
	t.Helper()
	ch := prepare(t, role, c, wrap...)
	ch.run(t)
	return ch
}

func prepare(t testing.TB, role string, c config, wrap ...string) *child {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	argv := append(wrap, self)
	conf, err := json.Marshal(c)
	require.NoError(t, err)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), envRole+"="+role, envConfig+"="+string(conf))
	cmd.Stderr = os.Stderr
	return &child{Cmd: cmd, lines: make(chan string, 16)}
}

func (c *child) run(t testing.TB) {
	t.Helper()
	in, err := c.StdinPipe()
	require.NoError(t, err)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	c.in = in
	go func() {
		defer close(c.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			c.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = c.in.Close()
		_ = c.Process.Kill()
		_ = c.Wait()
	})
}

// line is the next line that the child prints.
func (c *child) line(t testing.TB) string {
	t.Helper()
	select {
	case s, ok := <-c.lines:
		require.True(t, ok, "the child ended")
		return s
	case <-time.After(patience):
		require.FailNow(t, "the child is silent")
	}
	return ""
}

// silent requires that the child has not printed anything.
func (c *child) silent(t testing.TB) {
	t.Helper()
	select {
	case s := <-c.lines:
		require.FailNow(t, "unexpected: "+s)
	default:
	}
}

func (c *child) say(t testing.TB, s string) {
	t.Helper()
	_, err := io.WriteString(c.in, s+"\n")
	require.NoError(t, err)
}

// die kills the child as a power cut would, and waits until it is gone.
func (c *child) die(t testing.TB) {
	t.Helper()
	require.NoError(t, c.Process.Kill())
	_ = c.Wait()
}

// live starts a process that merely lives.
func live(t testing.TB) *child {
	c := start(t, "live", config{})
	require.Equal(t, "alive", c.line(t))
	return c
}

// gone is the pid of a process that is no more.
func gone(t testing.TB) int {
	t.Helper()
	cmd := exec.Command("true")
	require.NoError(t, cmd.Run())
	return cmd.Process.Pid
}

// holding starts a process that holds the lock.
func holding(t testing.TB, c config) *child {
	t.Helper()
	h := start(t, "hold", c)
	require.True(t, strings.HasPrefix(h.line(t), "held "))
	return h
}

// clock is a wall clock that can be set.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time           { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) jump(d time.Duration)     { c.offset.Add(int64(d)) }
func ms(t time.Time) int64                { return t.UnixMilli() }
func eventually(c func() bool) bool       { return within(patience, c) }
func closed[T any](c <-chan T) bool       { return eventually(func() bool { return isClosed(c) }) }
func namesOf(t testing.TB, l *Lock) Names { g, ok := l.Grant(); require.True(t, ok); return g.Names }

func isClosed[T any](c <-chan T) bool {
	select {
	case _, ok := <-c:
		return !ok
	default:
		return false
	}
}

// within looks again and again whether a condition has come true.
func within(d time.Duration, cond func() bool) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		if cond() {
			return true
		}
	}
	return cond()
}

// database is the path of a database in a directory of its own.
func database(t testing.TB) (db string, n Names) {
	t.Helper()
	db = filepath.Join(t.TempDir(), "x.db")
	n, err := Resolve(db, "")
	require.NoError(t, err)
	return db, n
}

// own is the lock's hold, which leans on nobody.
func own(l *Lock) *held { return l.hold.(*held) }

// acquire gets the lock, and lets go of it when the test ends.
func acquire(t testing.TB, db string, opts Options) *Lock {
	t.Helper()
	l := New(db, opts)
	require.NoError(t, l.Acquire(t.Context()))
	t.Cleanup(func() { _ = l.Release() })
	return l
}

// attemptOnce tries to get the lock without waiting, and lets go of it at once.
func attemptOnce(t testing.TB, db string, opts Options) error {
	t.Helper()
	opts.Wait = NoWait
	l := New(db, opts)
	if err := l.Acquire(t.Context()); err != nil {
		return err
	}
	require.NoError(t, l.Release())
	return nil
}

// background acquires in a goroutine of its own.
func background(t testing.TB, l *Lock) <-chan error {
	got := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { got <- l.Acquire(t.Context()) })
	t.Cleanup(func() { wg.Wait(); _ = l.Release() })
	return got
}

// meeting is closed when the lock has met something that it must wait for.
func meeting(l *Lock) <-chan struct{} {
	met := make(chan struct{})
	l.opts.OnWait = func() { close(met) }
	return met
}

// result is what a background acquisition came to.
func result(t testing.TB, got <-chan error) error {
	t.Helper()
	select {
	case err := <-got:
		return err
	case <-time.After(patience):
		require.FailNow(t, "it blocks")
	}
	return nil
}

// waiting waits until n claims on the lock's state files are waiting.
func waiting(t testing.TB, names Names, n int) {
	t.Helper()
	if _, known := portable.Waiting(names.State); !known {
		portable.Needs(t, portable.Queue)
	}
	var found, agreed int
	// The table is read in several calls and can show a line twice or not at all
	// when it changes meanwhile: one look proves nothing.
	ok := eventually(func() bool {
		if found == n {
			agreed++
		} else {
			agreed = max(0, agreed-1)
		}
		var known bool
		found, known = portable.Waiting(names.State)
		return known && found == n && agreed >= 2
	})
	if !ok {
		t.Errorf("%d wait, not %d", found, n) // it may be called outside the test's goroutine
	}
}

// peerNotice is what the TypeScript peer writes.
func peerNotice(pid int, host string, timestamp int64) string {
	return fmt.Sprintf(`{"pid":%d,"timestamp":%d,"host":%q,"process":"mcp-server"}`, pid, timestamp, host)
}

func host() string { return proc.Self().Host }

// put writes a file at path by rename, as something that was there completely at
// one stroke, and returns its inode.
func put(t testing.TB, path, content string) inode.ID {
	t.Helper()
	tmp := path + ".tmp"
	require.NoError(t, os.WriteFile(tmp, []byte(content), 0o644))
	require.NoError(t, os.Rename(tmp, path))
	return inodeOf(t, path)
}

func inodeOf(t testing.TB, path string) inode.ID {
	t.Helper()
	id, err := inode.Identify(path)
	require.NoError(t, err)
	return id
}

func contents(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

func look1(t testing.TB, path string) *notice.Sighting {
	t.Helper()
	s, err := notice.Read(path)
	require.NoError(t, err)
	return s
}

// at sets the lock's seam to run f once, the first time the step is reached.
func at(l *Lock, step string, f func()) *Lock {
	var once sync.Once
	before := l.seam
	l.seam = func(s string) {
		if before != nil {
			before(s)
		}
		if s == step {
			once.Do(f)
		}
	}
	return l
}

func (n Names) spare() string               { return filepath.Join(n.State, spareName) }
func (n Names) token() string               { return filepath.Join(n.State, tokenName) }
func (n Names) turnstile(p Priority) string { return filepath.Join(n.State, turnstileName(p)) }

// stateFile is the name of a state file in its directory, which is open until the
// test ends.
func stateFile(t testing.TB, path string) inode.Name {
	t.Helper()
	dir, err := inode.OpenDir(filepath.Dir(path))
	require.NoError(t, err)
	t.Cleanup(dir.Close)
	return dir.At(filepath.Base(path))
}

// flock locks a state file as a bare dblock that has not come any further.
func flock(t testing.TB, path string, how queue.How) *queue.File {
	t.Helper()
	f, err := queue.Open(stateFile(t, path))
	require.NoError(t, err)
	ok, err := f.Try(how)
	require.NoError(t, err)
	require.True(t, ok)
	t.Cleanup(f.Close)
	return f
}

func mustHeld(t testing.TB, err error) *HeldError {
	t.Helper()
	var held *HeldError
	require.ErrorAs(t, err, &held)
	require.ErrorIs(t, err, ErrHeld)
	return held
}

func dup(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 100) }

func statOf(pid int) (uint64, bool) {
	st, ok := proc.Stat(pid)
	return st.Started, ok
}
