// Package test tries the built program from outside: at the prompt, in terminals, beside
// peers, by signals. Its own folders are the peers (Node), the scripts and the storms.
package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/internal/heed"
	"github.com/dblock-dev/dblock/internal/portable"
)

// The tests run the real program, as install.sh builds it, or the one that
// DBLOCK_TEST_BINARY names. Its companions are beside it.
var binary string

func TestMain(m *testing.M) {
	if os.Getenv("DBLOCK_TEST_FILTERED") != "" {
		filtered()
	}
	heed.Signals()
	portable.Build()
	dir, err := os.MkdirTemp("", "dblock-test")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "dblock")
	build := exec.Command("sh", "../install.sh", "--build", binary)
	if other := os.Getenv("DBLOCK_TEST_BINARY"); other != "" {
		build = exec.Command("ln", "-s", other, binary)
	}
	for _, build := range []*exec.Cmd{build, exec.Command("go", "build", "-o", dir, "../cmd/...")} {
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
			os.Exit(1)
		}
	}
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "DBLOCK_") {
			os.Unsetenv(name)
		}
	}
	os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	// Most tests wait for a process: two for each processor keep it busy. (-parallel goes before.)
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("LC_ALL", "C.UTF-8")
			e.Setenv("SHELL", "/bin/sh")
			return nil
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "root":
				return os.Getuid() == 0, nil
			case "portable":
				return portable.Half, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"dblock": func(ts *testscript.TestScript, neg bool, args []string) {
				if err := ts.Exec("dblock", args...); (err != nil) != neg {
					ts.Fatalf("dblock %q: %v", args, err)
				}
			},
			"code":  scriptCode,
			"until": scriptUntil,
		},
	})
}

// scriptCode runs a command and checks its exit code: code 75 dblock ...
func scriptCode(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// scriptUntil repeats a command until it succeeds, for at most 20 seconds.
func scriptUntil(ts *testscript.TestScript, _ bool, args []string) {
	for end := time.Now().Add(20 * time.Second); ; {
		if ts.Exec(args[0], args[1:]...) == nil {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%q never succeeds", args)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// result is how a run of the program went.
type result struct {
	stdout, stderr string
	status         syscall.WaitStatus
}

func (r result) code() int {
	if r.status.Signaled() {
		return 128 + int(r.status.Signal())
	}
	return r.status.ExitStatus()
}

// command is the program in a directory of its own.
func command(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(binary, args...)
	c.Dir = dir
	return c
}

// with adds variables to a command's environment.
func with(c *exec.Cmd, env ...string) *exec.Cmd {
	c.Env = append(os.Environ(), env...)
	return c
}

func finish(t *testing.T, c *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	t.Cleanup(func() { portable.End(t, c.Dir) })
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return result{out.String(), errs.String(), c.ProcessState.Sys().(syscall.WaitStatus)}
}

func execute(t *testing.T, dir string, args ...string) result {
	t.Helper()
	return finish(t, command(t, dir, args...))
}

// start starts a command in the background; it is killed at the end of the test.
func start(t *testing.T, c *exec.Cmd) *exec.Cmd {
	t.Helper()
	require.NoError(t, c.Start())
	t.Cleanup(func() {
		if c.ProcessState == nil {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
		portable.End(t, c.Dir)
	})
	return c
}

// await waits until something is true, for at most 30 seconds.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-tick.C {
		if done() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

func exists(path ...string) bool {
	_, err := os.Lstat(filepath.Join(path...))
	return err == nil
}

func contains(path, text string) func() bool {
	return func() bool {
		b, _ := os.ReadFile(path)
		return bytes.Contains(b, []byte(text))
	}
}

// statusReport is the JSON of dblock status.
type statusReport struct {
	State   string
	Locked  bool
	Stale   bool
	ID      string
	Orphans []int
	Holder  *struct {
		PID       int
		Process   string
		Mode      string
		Token     int64
		Timestamp int64
	}
	Readers, Waiting []struct {
		PID                              int
		Process, Command, Mode, Priority string
	}
}

func statusOf(t *testing.T, dir, db string) statusReport {
	t.Helper()
	r := execute(t, dir, "status", "--json", "-d", db)
	require.Zero(t, r.code(), r.stderr)
	var rep statusReport
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &rep), r.stdout)
	return rep
}

// waiters is how many wait for a database. Where dblock cannot tell, the kernel does.
func waiters(t *testing.T, dir, db string) int {
	t.Helper()
	if !portable.Half {
		return len(statusOf(t, dir, db).Waiting)
	}
	n, known := portable.Waiting(filepath.Join(dir, "."+strings.TrimSuffix(db, filepath.Ext(db))+".lock.d"))
	require.True(t, known)
	return n
}

// hold starts a holder that runs until the file "go" appears, and waits until it has the lock.
func hold(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	name := fmt.Sprintf("in-%d", time.Now().UnixNano())
	args = append(args, "--", "sh", "-c", "touch "+name+"; until [ -e go ]; do sleep 0.01; done")
	c := start(t, command(t, dir, args...))
	await(t, "the holder has the lock", func() bool { return exists(dir, name) })
	return c
}

func letGo(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go"), nil, 0o644))
}

// executable makes a file that is to be executed. Another process writes it: what this one has open for writing
// is inherited for a moment by whatever another test starts, and then the file is busy.
func executable(t *testing.T, path string, content []byte) {
	t.Helper()
	c := exec.Command("sh", "-c", `cat >"$1" && chmod 755 "$1"`, "sh", path)
	c.Stdin = bytes.NewReader(content)
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// need skips a test whose tool is missing; in CI nothing may be missing.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is not installed", tool)
			}
			t.Skipf("%s is not installed", tool)
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can arrange this")
	}
}

// sticky is a directory as /tmp is one, and a dblock in it as another user.
func sticky(t *testing.T) (dir string, as func(uid string, args ...string) result) {
	t.Helper()
	needRoot(t)
	need(t, "setpriv")
	dir, err := os.MkdirTemp("", "dblock")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o777|os.ModeSticky))
	return dir, func(uid string, args ...string) result {
		c := exec.Command("setpriv", append([]string{"--reuid", uid, "--regid", uid, "--clear-groups", binary}, args...)...)
		c.Dir = dir
		return finish(t, c)
	}
}

// litter lists what is in a directory, the permanent files of locks left out.
func litter(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	permanent := regexp.MustCompile(`\.lock\.d(/(room|token|history(\.1)?\.jsonl|turnstile-(low|normal|high)))?$`)
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if strings.Contains(path, ".lock") && !permanent.MatchString(path) {
			found = append(found, path)
		}
		return err
	})
	require.NoError(t, err)
	return found
}

// The manual must know every flag that the help of a subcommand shows, which is made of
// kong's model, its letter, its variable, and every exit code.
func TestManualIsComplete(t *testing.T) {
	b, err := os.ReadFile("../docs/dblock.1")
	require.NoError(t, err)
	manual := strings.NewReplacer(`\-`, "-", `\fB`, "", `\fI`, "", `\fR`, "", `\fP`, "").Replace(string(b))
	seen := 0
	for _, name := range []string{"run", "status", "force", "hold", "release", "session", "ls", "doctor", "log", "completion", "stats", "top"} {
		r := execute(t, t.TempDir(), name, "--help")
		require.Zero(t, r.code(), r.stderr)
		for _, f := range regexp.MustCompile(`(?m)^ +(?:-(\w), )?--([a-z-]+)`).FindAllStringSubmatch(r.stdout, -1) {
			seen++
			letter, long := f[1], f[2]
			require.Contains(t, manual, "--"+long, "%s --%s", name, long)
			if letter != "" {
				require.Regexp(t, `(?m)(^|[\s,])-`+letter+`\b`, manual, "%s -%s", name, letter)
			}
			if long != "help" && long != "version" {
				require.Contains(t, manual, "DBLOCK_"+strings.ToUpper(strings.ReplaceAll(long, "-", "_")))
			}
		}
	}
	require.Greater(t, seen, 40)
	for _, spelling := range []string{"--nb", "--nonblocking", "--timeout", "-e"} {
		require.Contains(t, manual, spelling, "flock's")
	}
	for _, code := range []string{"64", "69", "70", "73", "75", "77", "126", "127"} {
		require.Regexp(t, `(?m)^(\.B |\.TP\n|\.BR )?\s*`+code+`\b`, manual, code)
	}
	for _, name := range []string{"DB", "LOCK_FILE", "PID", "HOST", "PROCESS", "TIMESTAMP", "MODE", "TOKEN", "WAITED_MS", "OUTER", "KEEPER", "BEFORE"} {
		require.Contains(t, manual, "DBLOCK_HOLD_"+name)
	}
}
