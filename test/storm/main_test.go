//go:build linux

// Package storm attacks dblock at the level of real processes: it kills them at
// random and at every system call, takes their disk, their /proc and their lock
// file away, and lets them guard real databases. Nothing here looks into dblock:
// what is checked is what the commands under the lock saw.
//
//	go test ./test/storm                        everything in its short form
//	go test ./test/storm -run Storm -storm=10m  a long kill storm
//	go test ./test/storm -full                  all system calls, 60 s of courtesy, 5 x 20 rows
//
// What a machine lacks (strace, node, root) is skipped with a message; with CI=true
// in the environment it is a failure.
package storm

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/heed"
	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/lock"
)

var (
	stormFor = flag.Duration("storm", 2*time.Second, "how long the kill storm lasts")
	full     = flag.Bool("full", false, "long forms: every system call, a minute of courtesy, all rows")
)

// dblock is the binary under test; self is the test binary, which is also the
// command that runs under the lock.
var dblock, self string

func TestMain(m *testing.M) {
	switch os.Getenv("STORM_ROLE") {
	case "oracle":
		os.Exit(oracle())
	case "hold":
		hold()
	case "turn":
		turn()
	case "mixed":
		os.Exit(mixed())
	}
	heed.Signals()
	portable.Build()
	os.Exit(build(m))
}

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "dblock-storm-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// Other users must be able to run it.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dblock = filepath.Join(dir, "dblock")
	cmd := exec.Command("sh", "../../install.sh", "--build", dblock)
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building dblock: %v\n%s", err, out)
		return 1
	}
	if self, err = command(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for _, kv := range os.Environ() {
		if k, _, _ := strings.Cut(kv, "="); strings.HasPrefix(k, "DBLOCK_") {
			os.Unsetenv(k)
		}
	}
	return m.Run()
}

// command is the test binary, or one without the race detector, which takes ten
// times as long to start.
func command(dir string) (string, error) {
	info, _ := debug.ReadBuildInfo()
	if info == nil || !slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" }) {
		return os.Executable()
	}
	path := filepath.Join(dir, "command")
	if out, err := exec.Command("go", "test", "-c", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the command: %w\n%s", err, out)
	}
	return path, nil
}

// hold is a command that says when it runs, and which signal ended it.
func hold() {
	got := make(chan os.Signal, 8)
	signal.Notify(got, syscall.SIGTERM)
	fmt.Printf("held %d\n", os.Getpid())
	gone := make(chan struct{})
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(gone)
	}()
	select {
	case <-got:
		fmt.Println("terminated")
		os.Exit(33)
	case <-gone:
		fmt.Println("done")
		os.Exit(0)
	}
}

// need skips the test if the machine lacks something, and fails where nothing may
// be lacking.
func need(t testing.TB, ok bool, format string, args ...any) {
	t.Helper()
	if ok {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("not to be skipped in CI: "+format, args...)
	}
	t.Skipf(format, args...)
}

func needTool(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := exec.LookPath(name)
		need(t, err == nil, "there is no %s here", name)
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	need(t, os.Geteuid() == 0, "needs root")
}

// eventually waits for a condition, with a bound.
func eventually(t testing.TB, limit time.Duration, what string, cond func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for !cond() {
		if time.Since(start) > limit {
			t.Fatalf("after %v still not: %s", limit, what)
		}
		<-tick.C
	}
	return time.Since(start)
}

// database makes a directory for one database. Its path is short and open to all users.
func database(t testing.TB) string {
	t.Helper()
	return filepath.Join(scratch(t), "app.db")
}

func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "storm-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func noticeOf(db string) string {
	return filepath.Join(filepath.Dir(db), "."+strings.TrimSuffix(filepath.Base(db), ".db")+".lock")
}

var permanent = []string{"history.1.jsonl", "history.jsonl", "room", "token", "turnstile-high", "turnstile-low", "turnstile-normal"}

// litter lists what dblock has left beside the database and in the state
// directory, but for that directory's permanent files.
func litter(t testing.TB, db string) []string {
	t.Helper()
	var found []string
	if _, err := os.Lstat(noticeOf(db)); err == nil {
		found = append(found, filepath.Base(noticeOf(db)))
	}
	half, _ := filepath.Glob(filepath.Join(filepath.Dir(db), ".dblock-*"))
	found = append(found, half...)
	entries, err := os.ReadDir(noticeOf(db) + ".d")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(permanent, e.Name()) {
			found = append(found, e.Name())
		}
	}
	return found
}

// usable checks that the lock can be had at once, and that nothing is left of it then.
func usable(t testing.TB, db string) {
	t.Helper()
	r := run(t, exec.Command(dblock, "-n", "-d", db, "--", "true"))
	if r.code != 0 {
		t.Errorf("the lock is not usable afterwards: %v", r)
	}
	if l := litter(t, db); len(l) > 0 {
		t.Errorf("left behind: %v", l)
	}
}

// result is how a process ended.
type result struct {
	code   int // 128+n if signal n ended it
	stdout string
	stderr string
	took   time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d after %v, stdout %q, stderr %q", r.code, r.took.Round(time.Millisecond), r.stdout, r.stderr)
}

func run(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait()
	return result{codeOf(cmd.ProcessState), out.String(), errs.String(), time.Since(start)}
}

func codeOf(st *os.ProcessState) int {
	if ws := st.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return st.ExitCode()
}

// holder is a dblock whose command runs until it is told to end.
type holder struct {
	t      testing.TB
	db     string
	cmd    *exec.Cmd
	stdin  *os.File
	stdout *safeBuffer
	stderr *safeBuffer
	child  int // pid of the command
	done   chan struct{}
}

// startHolder starts one and returns when the command runs.
func startHolder(t testing.TB, db string, flags ...string) *holder {
	t.Helper()
	args := slices.Concat([]string{"-d", db}, flags, []string{"--", self})
	return holding(t, db, exec.Command(dblock, args...))
}

func holding(t testing.TB, db string, cmd *exec.Cmd) *holder {
	t.Helper()
	cmd.Env = append(cmd.Environ(), "STORM_ROLE=hold")
	if cmd.SysProcAttr == nil {
		// In a group that nobody could continue the kernel stops nobody.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	h := &holder{t: t, db: db, cmd: cmd, stdin: w, stdout: &safeBuffer{}, stderr: &safeBuffer{}, done: make(chan struct{})}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r, h.stdout, h.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	go func() {
		_ = cmd.Wait()
		close(h.done)
	}()
	t.Cleanup(func() {
		w.Close()
		select {
		case <-h.done:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-h.done
		}
	})
	eventually(t, 20*time.Second, "the command runs ("+h.stderr.String()+")", func() bool {
		_, err := fmt.Sscanf(h.stdout.String(), "held %d\n", &h.child)
		return err == nil || h.over()
	})
	if h.child == 0 {
		t.Fatalf("the command never ran: %s", h.stderr)
	}
	return h
}

func (h *holder) over() bool {
	select {
	case <-h.done:
		return true
	default:
		return false
	}
}

// end lets the command end by itself.
func (h *holder) end() int { h.stdin.Close(); return h.wait() }

func (h *holder) wait() int {
	h.t.Helper()
	select {
	case <-h.done:
	case <-time.After(20 * time.Second):
		h.t.Fatalf("dblock has not ended; stderr: %s", h.stderr)
	}
	return codeOf(h.cmd.ProcessState)
}

func (h *holder) signal(sig os.Signal) {
	h.t.Helper()
	if err := h.cmd.Process.Signal(sig); err != nil {
		h.t.Fatal(err)
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// inode identifies what is at the path; 0 if there is nothing.
func inode(path string) uint64 {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return 0
	}
	return st.Ino
}

// watched waits until dblock looks after its lock file as it does for good, for which it takes
// two seconds: by inotify, or, where there is none, from time to time.
func watched(t testing.TB, h *holder) {
	t.Helper()
	if portable.Half {
		eventually(t, 30*time.Second, "it has been held for two seconds", func() bool {
			r, err := lock.Inspect(h.db, lock.Options{})
			return err == nil && r.Holder != nil && r.Age > 2100*time.Millisecond
		})
		return
	}
	eventually(t, 5*time.Second, "the watch is up", func() bool { return watching(h.cmd.Process.Pid) })
}

// watching tells whether the process has its inotify watch up.
func watching(pid int) bool {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	for _, fd := range fds {
		b, err := os.ReadFile(fd)
		if err == nil && strings.Count(string(b), "inotify wd:") >= 2 {
			return true
		}
	}
	return false
}

func state(pid int) byte {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	return b[bytes.LastIndexByte(b, ')')+2]
}

func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2]
}
