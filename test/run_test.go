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
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// sh is a shell script in a directory of its own; dblock is in its PATH.
func sh(dir, script string) *exec.Cmd {
	c := exec.Command("sh", "-c", script)
	c.Dir = dir
	return c
}

// foreign puts a peer's notice at the path of x.db's lock.
func foreign(t *testing.T, dir string, pid int, host string, age time.Duration) {
	t.Helper()
	text := fmt.Sprintf("{\n  \"pid\": %d,\n  \"timestamp\": %d,\n  \"host\": %q,\n  \"process\": \"mcp-server\"\n}",
		pid, time.Now().Add(-age).UnixMilli(), host)
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".x.lock"), []byte(text), 0o644))
}

func thisHost(t *testing.T) string {
	t.Helper()
	host, err := os.Hostname()
	require.NoError(t, err)
	return host
}

// deadPID is the pid of a process that has gone.
func deadPID(t *testing.T) int {
	t.Helper()
	c := exec.Command("true")
	require.NoError(t, c.Run())
	return c.Process.Pid
}

// oldProcess is a peer that was started before any notice of now: it lives until
// the end of the test.
func oldProcess(t *testing.T) *exec.Cmd {
	t.Helper()
	return start(t, exec.Command("sleep", "300"))
}

func TestExitCodesOfTheCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, code := range []int{0, 1, 2, 64, 69, 70, 73, 75, 77, 125, 126, 127, 128, 130, 143, 254, 255} {
		r := execute(t, dir, "-d", "x.db", "--", "sh", "-c", fmt.Sprintf("exit %d", code))
		require.False(t, r.status.Signaled(), "exit %d is no signal", code)
		require.Equal(t, code, r.code())
		require.Empty(t, r.stderr+r.stdout)
		require.Empty(t, litter(t, dir))
	}
}

func TestConflictExitCode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hold(t, dir, "-d", "x.db")
	for _, code := range []int{0, 1, 75, 128, 200, 255} {
		require.Equal(t, code, execute(t, dir, "-n", "-E", strconv.Itoa(code), "-d", "x.db", "--", "touch", "ran").code())
		require.Equal(t, code, finish(t, with(command(t, dir, "-n", "-d", "x.db", "--", "touch", "ran"), fmt.Sprintf("DBLOCK_CONFLICT_EXIT_CODE=%d", code))).code())
	}
	for _, bad := range []string{"256", "-1", "1000", "seven", "1.5", ""} {
		r := execute(t, dir, "-n", "--conflict-exit-code="+bad, "-d", "x.db", "--", "touch", "ran")
		require.Equal(t, 64, r.code(), "%q: %s", bad, r.stderr)
	}
	require.Equal(t, 9, finish(t, with(command(t, dir, "-n", "-E", "9", "-d", "x.db", "--", "true"), "DBLOCK_CONFLICT_EXIT_CODE=8")).code(), "the flag wins")
	// It is for the conflict alone.
	require.Equal(t, 127, execute(t, dir, "-n", "-E", "9", "-d", "free.db", "--", "no-such-command").code())
	require.Equal(t, 3, execute(t, dir, "-n", "-E", "9", "-d", "free.db", "--", "sh", "-c", "exit 3").code())
	require.False(t, exists(dir, "ran"))
}

// Whatever is wrong, it is told in one line and perhaps a hint; and neither a
// notice nor a command that ran is there afterwards.
func TestMessagesAreLines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "plain"), []byte("text\n"), 0o644))
	executable(t, filepath.Join(dir, "bad"), []byte("#!/no/such/interpreter\n"))
	executable(t, filepath.Join(dir, "binary"), []byte("\x7fELF\x00\x01garbage"))
	require.NoError(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, ".t.lock.d", "token"), 0o755))
	for _, c := range []struct {
		code int
		args []string
	}{
		{64, []string{}},
		{64, []string{"--"}},
		{64, []string{"-d", "x.db"}},
		{64, []string{"-d", "", "--", "touch", "ran"}},
		{64, []string{"--no-such-flag", "-d", "x.db", "--", "touch", "ran"}},
		{64, []string{"-d", "x.db", "-w", "tomorrow", "--", "touch", "ran"}},
		{64, []string{"-d", "x.db", "--priority", "line1\nline2", "--", "touch", "ran"}},
		{64, []string{"-d", "x.db", "-w", "\x1b[2J", "--", "touch", "ran"}},
		{73, []string{"-d", "no/such/x.db", "--", "touch", "ran"}},
		{73, []string{"-d", "new\nline/x.db", "--", "touch", "ran"}},
		{73, []string{"-d", "plain/x.db", "--", "touch", "ran"}},
		{73, []string{"-d", "loop", "--", "touch", "ran"}},
		{73, []string{"-d", strings.Repeat("n", 254), "--", "touch", "ran"}},
		{73, []string{"-d", "t.db", "--", "touch", "ran"}},
		{126, []string{"-d", "x.db", "--", "./plain"}},
		{126, []string{"-d", "x.db", "--", "/"}},
		{127, []string{"-d", "x.db", "--", "no-such-command"}},
		{127, []string{"-d", "x.db", "--", "\x1b]0;title\x07\nx"}},
		{127, []string{"-d", "x.db", "--", ""}},
		{127, []string{"-d", "x.db", "--", "./bad"}},
	} {
		r := execute(t, dir, c.args...)
		require.Equal(t, c.code, r.code(), "%q: %s", c.args, r.stderr)
		require.Regexp(t, `^dblock: [^\n]+\n(hint: [^\n]+\n)?$`, r.stderr, "%q", c.args)
		require.NotRegexp(t, `[\x00-\x08\x0b-\x1f\x7f]`, r.stderr, "%q", c.args)
		require.NotContains(t, r.stderr, "goroutine")
		require.Empty(t, r.stdout, "%q", c.args)
		require.False(t, exists(dir, "ran"), "%q", c.args)
		require.False(t, exists(dir, ".x.lock"), "%q", c.args)
	}
}

func TestWhatIsNoLockFileIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, put := range map[string]func(path string) error{
		"directory": func(path string) error { return os.Mkdir(path, 0o755) },
		"fifo":      func(path string) error { return unix.Mkfifo(path, 0o644) },
		"symlink": func(path string) error {
			if err := os.WriteFile(path+".target", []byte(`{"pid":1}`), 0o644); err != nil {
				return err
			}
			return os.Symlink(path+".target", path)
		},
		"dangling symlink": func(path string) error { return os.Symlink("nowhere", path) },
		"socket": func(path string) error {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Bind(fd, &unix.SockaddrUnix{Name: path})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("", "dblock") // a socket's path must be short
			require.NoError(t, err)
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			path := filepath.Join(dir, ".x.lock")
			require.NoError(t, put(path))
			before, err := os.Lstat(path)
			require.NoError(t, err)
			for _, args := range [][]string{
				{"-d", "x.db", "--", "touch", "ran"},
				{"-n", "-d", "x.db", "--", "touch", "ran"},
				{"-s", "-d", "x.db", "--", "touch", "ran"},
				{"force", "--yes", "-d", "x.db"},
			} {
				r := execute(t, dir, args...)
				require.Equal(t, 73, r.code(), "%q: %s", args, r.stderr)
				require.Contains(t, r.stderr, "not a regular file")
				after, err := os.Lstat(path)
				require.NoError(t, err)
				require.True(t, os.SameFile(before, after) && before.Mode() == after.Mode() && before.ModTime().Equal(after.ModTime()), "%q", args)
			}
			require.False(t, exists(dir, "ran"))
			if name == "symlink" {
				b, err := os.ReadFile(path + ".target")
				require.NoError(t, err)
				require.Equal(t, `{"pid":1}`, string(b))
			}
		})
	}
}

// A script without #! is run by sh, with its arguments and its name.
func TestScriptWithoutAnInterpreter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	executable(t, filepath.Join(dir, "bin", "plain-script"), []byte("echo \"$0|$1|$2\"; exit 6\n"))
	c := with(command(t, dir, "-d", "x.db", "--", "plain-script", "a b", "--c"), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	r := finish(t, c)
	require.Equal(t, 6, r.code(), r.stderr)
	require.Equal(t, filepath.Join(dir, "bin", "plain-script")+"|a b|--c\n", r.stdout)
	require.Empty(t, litter(t, dir))
}

// Each option's variable does what the flag does.
func TestEveryOptionHasItsVariable(t *testing.T) {
	t.Parallel()
	t.Run("wait", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		hold(t, dir, "-d", "x.db")
		try := func(env []string, args ...string) result {
			t.Helper()
			return finish(t, with(command(t, dir, append(args, "-d", "x.db", "--", "touch", "ran")...), env...))
		}
		gaveUp := func(env []string, args ...string) {
			t.Helper()
			r := try(env, args...)
			require.Equal(t, 75, r.code(), r.stderr)
			require.Regexp(t, `gave up after (0\.[2-9]|[1-3](\.\d)?)s`, r.stderr, "%v %v", env, args)
		}
		atOnce := func(env []string, args ...string) {
			t.Helper()
			r := try(env, args...)
			require.Equal(t, 75, r.code(), r.stderr)
			require.NotContains(t, r.stderr, "gave up", "%v %v", env, args)
			require.NotContains(t, r.stderr, "waiting", "%v %v", env, args)
		}
		gaveUp([]string{"DBLOCK_WAIT=0.3"})
		gaveUp([]string{"DBLOCK_MAX_RETRIES=3", "DBLOCK_RETRY_DELAY=0.1"})
		gaveUp([]string{"DBLOCK_MAX_RETRIES=1000", "DBLOCK_RETRY_DELAY=0.3"}, "--max-retries", "1")
		gaveUp([]string{"DBLOCK_WAIT=forever"}, "--max-retries", "3", "--retry-delay", "100ms")
		gaveUp([]string{"DBLOCK_NONBLOCK=1"}, "--wait", "0.3")
		gaveUp([]string{"DBLOCK_NONBLOCK=1"}, "-w0.3")
		gaveUp([]string{"DBLOCK_NONBLOCK=1", "DBLOCK_WAIT=forever"}, "-w", "300ms")
		gaveUp([]string{"DBLOCK_WAIT=forever"}, "-w", ".3")
		atOnce([]string{"DBLOCK_WAIT=0"})
		atOnce([]string{"DBLOCK_NONBLOCK=1"})
		atOnce([]string{"DBLOCK_NONBLOCK=true", "DBLOCK_WAIT=forever"})
		atOnce([]string{"DBLOCK_WAIT=forever"}, "-n")
		atOnce([]string{"DBLOCK_WAIT=forever"}, "-w", "0")
		atOnce(nil, "--max-retries", "0")
		atOnce(nil, "-n", "--max-retries", "3")
		require.Equal(t, 75, try([]string{"DBLOCK_QUIET=1", "DBLOCK_WAIT=0.3"}).code())
		require.Regexp(t, `^dblock: [^\n]*gave up after [^\n]*\n$`, try([]string{"DBLOCK_QUIET=1", "DBLOCK_WAIT=0.3"}).stderr)
		require.Empty(t, try([]string{"DBLOCK_QUIET=2", "DBLOCK_WAIT=0.3"}).stderr)
		require.Contains(t, try([]string{"DBLOCK_QUIET=1", "DBLOCK_WAIT=0.3"}, "-v").stderr, "gave up", "the flag wins over its opposite")
		require.False(t, exists(dir, "ran"))
		// forever
		c := start(t, with(command(t, dir, "-d", "x.db", "--", "touch", "ran"), "DBLOCK_WAIT=forever", "DBLOCK_PRIORITY=high", "DBLOCK_PROCESS=patient", "DBLOCK_SHARED=yes"))
		await(t, "it waits", func() bool { return waiters(t, dir, "x.db") == 1 })
		if !portable.Half {
			w := statusOf(t, dir, "x.db").Waiting[0]
			require.Equal(t, "high", w.Priority)
			require.Equal(t, "patient", w.Process)
			require.Equal(t, "shared", w.Mode)
		}
		letGo(t, dir)
		require.NoError(t, c.Wait())
		require.True(t, exists(dir, "ran"))
	})
	t.Run("stale", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		p := oldProcess(t)
		try := func(env []string, args ...string) int {
			t.Helper()
			return finish(t, with(command(t, dir, append(args, "-q", "-n", "-d", "x.db", "--", "true")...), env...)).code()
		}
		foreign(t, dir, p.Process.Pid, thisHost(t), 0)
		require.Equal(t, 75, try(nil))
		require.Equal(t, 75, try([]string{"DBLOCK_STALE=age"}))
		// It was written a minute ago, by a process that is older than that.
		foreign(t, dir, 1, thisHost(t), 5*time.Second)
		require.Equal(t, 75, try([]string{"DBLOCK_STALE=dead", "DBLOCK_STALE_TIMEOUT=2"}), "pid 1 lives, however old its notice is")
		require.Equal(t, 75, try([]string{"DBLOCK_STALE=age"}), "5 s are not 30")
		require.Equal(t, 75, try([]string{"DBLOCK_STALE=age", "DBLOCK_STALE_TIMEOUT=2"}, "--stale", "dead"))
		require.Equal(t, 0, try([]string{"DBLOCK_STALE=age", "DBLOCK_STALE_TIMEOUT=2"}))
		foreign(t, dir, 1, "elsewhere", 5*time.Second)
		require.Equal(t, 75, try(nil))
		require.Equal(t, 75, try([]string{"DBLOCK_STALE_TIMEOUT=2"}, "--stale-timeout", "60"), "the flag wins")
		require.Equal(t, 0, try([]string{"DBLOCK_STALE_TIMEOUT=2"}))
	})
	t.Run("lost", func(t *testing.T) {
		t.Parallel()
		for _, c := range []struct {
			name string
			env  []string
			args []string
			end  string // what the command has written
		}{
			{"DBLOCK_ON_LOST", []string{"DBLOCK_ON_LOST=warn"}, nil, "done"},
			{"DBLOCK_KILL_AFTER", []string{"DBLOCK_KILL_AFTER=0.1"}, nil, ""},
			{"flags", []string{"DBLOCK_ON_LOST=warn", "DBLOCK_KILL_AFTER=100"}, []string{"--on-lost", "kill"}, ""},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				w := with(command(t, dir, append(c.args, "-d", "x.db", "--", "sh", "-c",
					"trap '' TERM; touch in; while [ -e in ] && [ ! -e go ]; do sleep 0.01; done; echo done > end")...), c.env...)
				errs, err := os.Create(filepath.Join(dir, "errs"))
				require.NoError(t, err)
				defer errs.Close()
				w.Stderr = errs
				start(t, w)
				await(t, "the command runs", func() bool { return exists(dir, "in") })
				require.NoError(t, os.RemoveAll(filepath.Join(dir, ".x.lock.d")))
				if c.end != "" {
					await(t, "it is noticed", contains(errs.Name(), "was lost"))
					letGo(t, dir)
				}
				_ = w.Wait()
				require.Equal(t, 69, w.ProcessState.ExitCode())
				require.Equal(t, c.end != "", exists(dir, "end"))
			})
		}
	})
	t.Run("orphan", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		script := `trap 'echo TERM > end; exit' TERM; touch in; while [ -e in ] && [ ! -e go ]; do sleep 0.01; done; echo kept > end`
		c := start(t, with(command(t, dir, "-d", "x.db", "--", "bash", "-c", script), "DBLOCK_ORPHAN=keep"))
		await(t, "the command runs", func() bool { return exists(dir, "in") })
		require.NoError(t, c.Process.Kill())
		_ = c.Wait()
		letGo(t, dir)
		await(t, "the command ends", contains(filepath.Join(dir, "end"), "kept"))
	})
	t.Run("status and force", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		h := hold(t, dir, "-d", "x.db", "-p", "victim")
		r := finish(t, with(command(t, dir, "status"), "DBLOCK_DB=x.db", "DBLOCK_JSON=1"))
		require.Contains(t, r.stdout, `"process": "victim"`)
		r = finish(t, with(command(t, dir, "status"), "DBLOCK_LOCK_FILE=.x.lock", "DBLOCK_QUIET=1", "DBLOCK_EXIT_CODE=1"))
		require.Equal(t, 1, r.code())
		require.Empty(t, r.stdout)
		r = finish(t, with(command(t, dir, "status"), "DBLOCK_DB=x.db", "DBLOCK_VERBOSE=1"))
		require.Contains(t, r.stdout, "State: held")
		require.Equal(t, 75, finish(t, with(command(t, dir, "force"), "DBLOCK_DB=x.db", "DBLOCK_IF_STALE=1", "DBLOCK_YES=1")).code())
		require.Equal(t, 75, finish(t, with(command(t, dir, "force"), "DBLOCK_DB=x.db", "DBLOCK_ID=0123456789abcdef")).code())
		portable.NeedsWord(t)
		r = finish(t, with(command(t, dir, "force"), "DBLOCK_DB=x.db", "DBLOCK_YES=1", "DBLOCK_KILL_AFTER=20"))
		require.Zero(t, r.code(), r.stderr)
		_ = h.Wait()
		require.Equal(t, unix.SIGTERM, h.ProcessState.Sys().(syscall.WaitStatus).Signal())
	})
}

func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := finish(t, sh(dir, `ulimit -n 64; exec dblock -d x.db -- sh -c 'ulimit -Sn; ulimit -Hn'`))
	require.Equal(t, "64\n64\n", r.stdout, r.stderr)
	// Where the numbers that are meant for it are taken, another one does.
	need(t, "bash")
	c := exec.Command("bash", "-c", `for i in {32..63}; do eval "exec $i</dev/null"; done; exec dblock -d x.db -- readlink /proc/self/fd/32 /proc/self/fd/63 /proc/self/fd/64`)
	c.Dir = dir
	r = finish(t, c)
	require.Equal(t, "/dev/null\n/dev/null\n"+filepath.Join(dir, ".x.lock.d/room")+"\n", r.stdout, r.stderr)
	// None left at all: it says so, and nothing is there afterwards.
	c = exec.Command("bash", "-c", `ulimit -n 40; for i in {3..39}; do eval "exec $i</dev/null"; done; exec dblock -d y.db -- touch ran`)
	c.Dir = dir
	r = finish(t, c)
	require.Equal(t, 73, r.code(), r.stderr)
	require.Regexp(t, `^dblock: .*too many open files\n$`, r.stderr)
	require.Empty(t, litter(t, dir))
	require.False(t, exists(dir, "ran"))
}

// Descriptors that are closed stay out of the lock's way: no message ever lands
// in one of its files.
func TestClosedStandardStreams(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := finish(t, sh(dir, `dblock -v -d x.db -- sh -c 'cat .x.lock > seen; echo out; echo err >&2; true' <&- >&- 2>&-`))
	require.Zero(t, r.code())
	require.Empty(t, r.stdout+r.stderr)
	b, err := os.ReadFile(filepath.Join(dir, "seen"))
	require.NoError(t, err)
	require.Regexp(t, `^\{"pid": \d+ *,.*\}\s*$`, string(b))
	for _, name := range []string{"room", "turnstile-normal"} {
		info, err := os.Stat(filepath.Join(dir, ".x.lock.d", name))
		require.NoError(t, err)
		require.Zero(t, info.Size(), name)
	}
}

func TestDirectoryThatIsGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "gone"), 0o755))
	r := finish(t, sh(dir, `cd gone; rmdir ../gone; dblock -d "$OLDPWD/x.db" -- echo works; dblock -d y.db -- echo never`))
	require.Equal(t, 73, r.code(), r.stderr)
	require.Equal(t, "works\n", r.stdout)
	require.Regexp(t, `^dblock: [^\n]*no such file or directory\nhint: [^\n]*\n$`, r.stderr)
}
