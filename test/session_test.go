package test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// beats returns the lock file's timestamp.
func timestamp(t *testing.T, path string) int64 {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	var n struct{ Timestamp int64 }
	require.NoError(t, json.Unmarshal(b, &n), string(b))
	return n.Timestamp
}

// awaitBeats waits for some heartbeats.
func awaitBeats(t *testing.T, dir string) {
	t.Helper()
	last, beats := int64(0), 0
	await(t, "heartbeats", func() bool {
		if now := timestamp(t, filepath.Join(dir, ".app.lock")); now != last {
			last = now
			beats++
		}
		return beats > 4
	})
}

// quickBeats makes a holder beat about every 170 ms.
var quickBeats = object{"stale_timeout": 1}

// The program can be stopped, or too busy to run its event loop, for as long as it likes.
func TestSessionBeatsWhileTheProgramIsStopped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := exec.Command("sh", "-c", `exec 3<&0; "$0" session <&3 & wait`, binary)
	program.Dir = dir
	c := converseBy(t, program)
	c.acquire("app.db", quickBeats)
	require.NoError(t, program.Process.Signal(unix.SIGSTOP))
	awaitBeats(t, dir)
	require.Equal(t, "held", statusOf(t, dir, "app.db").State)
	other := converse(t, dir)
	require.Equal(t, "held", code(other.ask(object{"id": 1, "op": "acquire", "db": "app.db", "wait": 0, "stale_timeout": 1, "stale": "age"})))
	require.NoError(t, program.Process.Signal(unix.SIGCONT))
	require.Zero(t, c.end())
}

// Whatever else the program has started may have inherited the pipes: then its death does
// not end them.
func TestSessionEndsWithItsParent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := exec.Command("sh", "-c", `exec 3<&0; "$0" session <&3 & wait`, binary)
	program.Dir = dir
	c := converseBy(t, program)
	hold := c.acquire("app.db")
	require.EqualValues(t, 1, hold)
	waiter := converse(t, dir)
	waiter.send(object{"id": 1, "op": "acquire", "db": "app.db"})
	await(t, "one waits", func() bool { return waiters(t, dir, "app.db") == 1 })
	require.NoError(t, program.Process.Kill())
	// This test still has the other ends of both pipes.
	require.Equal(t, true, waiter.answer(1)["ok"])
	c.mu.Lock()
	for !c.over {
		c.came.Wait()
	}
	c.mu.Unlock()
}

// The thread that has started a session may end: what is watched is the process.
func TestSessionOutlivesTheThreadThatStartedIt(t *testing.T) {
	t.Parallel()
	need(t, "python3")
	dir := t.TempDir()
	script := `
import subprocess, sys, threading
made = []
def make(): made.append(subprocess.Popen([sys.argv[1], "session"], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
t = threading.Thread(target=make); t.start(); t.join()
p = made[0]
p.stdout.readline()
for n in range(3):
    p.stdin.write(b'{"id":1,"op":"acquire","db":"app.db"}\n{"id":2,"op":"release","hold":%d}\n' % (n + 1)); p.stdin.flush()
    assert b'"ok":true' in p.stdout.readline() and b'"ok":true' in p.stdout.readline()
p.stdin.close()
sys.exit(p.wait())
`
	cmd := exec.Command("python3", "-c", script, binary)
	cmd.Dir = dir
	r := finish(t, cmd)
	require.Zero(t, r.code(), r.stderr)
}

func TestSessionKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := converse(t, dir)
	c.acquire("app.db")
	c.acquire("two.db")
	require.NoError(t, c.cmd.Process.Kill())
	c.exit()
	// Its witness ends a moment after the program has closed the session's input.
	r := execute(t, dir, "-w", "60", "-d", "app.db", "--", "true")
	require.Zero(t, r.code(), r.stderr)
	r = execute(t, dir, "-w", "60", "-d", "two.db", "--", "true")
	require.Zero(t, r.code(), r.stderr)
	require.Empty(t, litter(t, dir))
}

// The signals of the terminal are for the program. It may need its locks to clean up.
func TestSessionLeavesTheTerminalsSignalsToTheProgram(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := converse(t, dir)
	c.acquire("app.db")
	for _, sig := range []syscall.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGWINCH, unix.SIGCONT, unix.SIGPIPE} {
		require.NoError(t, c.cmd.Process.Signal(sig))
		require.Equal(t, true, c.ask(object{"id": 1, "op": "check", "hold": 1})["ok"], sig)
	}
	require.NoError(t, c.cmd.Process.Signal(unix.SIGTERM))
	require.Equal(t, 128+int(unix.SIGTERM), c.exit())
	require.True(t, c.cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled())
	require.Empty(t, litter(t, dir))
}

// piped starts a session with the given files at its standard input and output.
func piped(t *testing.T, dir string, in, out *os.File) *exec.Cmd {
	t.Helper()
	cmd := command(t, dir, "session")
	cmd.Stdin, cmd.Stdout = in, out
	start(t, cmd)
	in.Close()
	out.Close()
	return cmd
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// Answers that nobody reads hold up nothing but answers.
func TestSessionWithoutAReader(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in, requests := pipe(t)
	_, out := pipe(t)
	cmd := piped(t, dir, in, out)
	_, err := requests.WriteString(`{"id":1,"op":"acquire","db":"app.db","stale_timeout":1}` + "\n")
	require.NoError(t, err)
	await(t, "it is held", func() bool { return exists(dir, ".app.lock") })
	// More requests than there is room for answers, and for requests that are not read.
	require.NoError(t, requests.SetWriteDeadline(time.Now().Add(3*time.Second)))
	pings := strings.Repeat(`{"id":"`+strings.Repeat("x", 200)+`","op":"ping"}`+"\n", 100)
	for err == nil {
		_, err = requests.WriteString(pings)
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	awaitBeats(t, dir)
	rss := resident(t, cmd.Process.Pid)
	require.Less(t, rss, 64<<20)
	requests.Close()
	await(t, "it is released", func() bool { return !exists(dir, ".app.lock") })
	require.NoError(t, cmd.Wait())
}

// resident is how many bytes a process has in memory.
func resident(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	require.NoError(t, err)
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	require.NoError(t, err)
	return pages * os.Getpagesize()
}

// A program that has closed the output keeps its locks until it has closed the input, too.
func TestSessionWhoseOutputIsClosed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in, requests := pipe(t)
	answers, out := pipe(t)
	cmd := piped(t, dir, in, out)
	_, err := bufio.NewReader(answers).ReadString('\n')
	require.NoError(t, err)
	answers.Close()
	for n := range 3 {
		_, err = fmt.Fprintf(requests, `{"id":%d,"op":"acquire","db":"app%d.db"}`+"\n", n, n)
		require.NoError(t, err)
		await(t, "it is held", func() bool { return exists(dir, fmt.Sprintf(".app%d.lock", n)) })
	}
	requests.Close()
	require.NoError(t, cmd.Wait())
	require.Empty(t, litter(t, dir))
}

func TestSessionWithoutInputOrOutput(t *testing.T) {
	portable.Needs(t, portable.Streams)
	t.Parallel()
	dir := t.TempDir()
	for _, redirection := range []string{"<&-", ">&-"} {
		c := exec.Command("sh", "-c", `"$0" session `+redirection, binary)
		c.Dir = dir
		c.Stdin = strings.NewReader("")
		r := finish(t, c)
		require.Equal(t, 64, r.code())
		require.Contains(t, r.stderr, "is closed\nhint: ")
	}
}

// Programs have their pipes in many ways: Node makes sockets of them, which do not block.
func TestSessionOverSockets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, blocking := range []bool{true, false} {
		pairs := [2][2]*os.File{}
		for i := range pairs {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			require.NoError(t, err)
			for j, fd := range fds {
				unix.CloseOnExec(fd)
				require.NoError(t, unix.SetNonblock(fd, !blocking))
				pairs[i][j] = os.NewFile(uintptr(fd), "socket")
			}
		}
		requests, answers := pairs[0][1], pairs[1][1]
		cmd := command(t, dir, "session")
		cmd.Stdin, cmd.Stdout = pairs[0][0], pairs[1][0]
		if !blocking {
			// Fd, which exec uses, makes it block again, for all who have it open.
			cmd = exec.Command("python3", "-c", "import os,sys; os.set_blocking(0, False); os.set_blocking(1, False); os.execv(sys.argv[1], [sys.argv[1], 'session'])", binary)
			need(t, "python3")
			cmd.Dir, cmd.Stdin, cmd.Stdout = dir, pairs[0][0], pairs[1][0]
		}
		start(t, cmd)
		pairs[0][0].Close()
		pairs[1][0].Close()
		lines := bufio.NewReader(answers)
		_, err := lines.ReadString('\n')
		require.NoError(t, err)
		for n := range 100 {
			_, err := fmt.Fprintf(requests, `{"id":1,"op":"acquire","db":"app.db"}`+"\n")
			require.NoError(t, err)
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			require.Contains(t, line, fmt.Sprintf(`"hold":%d,`, n+1))
			_, err = fmt.Fprintf(requests, `{"id":2,"op":"release","hold":%d}`+"\n", n+1)
			require.NoError(t, err)
			line, err = lines.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, `{"id":2,"ok":true}`+"\n", line)
		}
		requests.Close()
		rest, err := io.ReadAll(lines)
		require.NoError(t, err)
		require.Empty(t, rest)
		require.NoError(t, cmd.Wait())
		answers.Close()
	}
}

// A session that was started under a hold uses that, as a command would.
func TestSessionUnderAHold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := converseBy(t, command(t, dir, "-d", "app.db", "--", binary, "session"))
	a := c.ask(object{"id": 1, "op": "acquire", "wait": 0})
	require.Equal(t, true, a["nested"], "%v", a)
	require.Equal(t, "app.db", filepath.Base(a["db"].(string)), "where nothing is named the enclosing lock is meant")
	require.Equal(t, false, c.ask(object{"id": 2, "op": "acquire", "db": "two.db"})["nested"])
	require.Equal(t, true, c.ask(object{"id": 3, "op": "release", "hold": a["hold"]})["ok"])
	require.True(t, exists(dir, ".app.lock"))
	require.Zero(t, c.end())
}

// What an answer gives as environment is what a command under dblock finds in its own.
func TestSessionTellsTheEnvironment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := converse(t, dir, "-d", "app.db", "-p", "me")
	a := c.ask(object{"id": 1, "op": "acquire"})
	env, _ := a["env"].(object)
	c.release(a["hold"].(float64))
	r := execute(t, dir, "-d", "app.db", "-p", "me", "--", "env")
	for line := range strings.Lines(r.stdout) {
		if name, _, _ := strings.Cut(line, "="); strings.HasPrefix(name, "DBLOCK_HOLD_") {
			require.Contains(t, env, name)
			delete(env, name)
		}
	}
	require.Empty(t, env)
	require.Nil(t, c.ask(object{"id": 2, "op": "acquire", "env": false})["env"])
}

// What the program starts under a hold leans on it, although the session is none of its
// ancestors; what somebody else starts with the same variables does not.
func TestWhatAProgramStartsUnderItsSessionsHold(t *testing.T) {
	t.Parallel()
	need(t, "ps")
	if runtime.GOOS != "linux" {
		t.Skip("whom a session serves is seen in /proc alone")
	}
	for _, mode := range []string{"exclusive", "shared"} {
		dir := t.TempDir()
		c := converse(t, dir)
		a := c.ask(object{"id": 1, "op": "acquire", "db": "app.db", "mode": mode})
		require.Equal(t, true, a["ok"], "%v", a)
		var env []string
		for name, value := range a["env"].(object) {
			env = append(env, name+"="+value.(string))
		}
		inner := []string{"-n", "-d", "app.db"}
		if mode == "shared" {
			inner = append(inner, "-s")
		}
		inner = append(inner, "--", "true")
		r := finish(t, with(command(t, dir, inner...), env...))
		require.Zero(t, r.code(), r.stderr)
		require.True(t, exists(dir, ".app.lock"))

		// A process whose parent is not this test.
		orphan := exec.Command("sh", "-c", `(until [ $(ps -o ppid= -p $(exec sh -c 'echo $PPID')) != $$ ]; do sleep 0.01; done; "$0" -n -d app.db -- true; echo $? > code.new; mv code.new code) & `, binary)
		orphan.Dir = dir
		r = finish(t, with(orphan, env...))
		require.Zero(t, r.code(), r.stderr)
		await(t, "the stranger has tried", func() bool { return exists(dir, "code") })
		got, err := os.ReadFile(filepath.Join(dir, "code"))
		require.NoError(t, err)
		if !portable.Half { // where it is not known who has started whom, it believes the variables
			require.Equal(t, "75\n", string(got))
		}

		c.release(a["hold"].(float64))
		r = finish(t, with(command(t, dir, "-n", "-d", "app.db", "--", "true"), env...))
		require.Zero(t, r.code(), "the hold is over, the variables lie: %s", r.stderr)
		require.Zero(t, c.end())
	}
}

// A writer among readers is wanted, too; and whoever has not asked is not told.
func TestSessionTellsThatAReaderIsWanted(t *testing.T) {
	portable.Needs(t, portable.Signs)
	t.Parallel()
	dir := t.TempDir()
	c := converse(t, dir)
	hold := c.acquire("app.db", object{"mode": "shared", "wanted": true})
	quiet := c.acquire("app.db", object{"mode": "shared"})
	writer := converse(t, dir)
	writer.send(object{"id": 1, "op": "acquire", "db": "app.db"})
	require.Equal(t, hold, c.event("wanted")["hold"])
	c.release(hold)
	c.release(quiet)
	require.Equal(t, true, writer.answer(1)["ok"])
	require.False(t, c.has(func(o object) bool { return o["event"] == "wanted" }))
}

// One that has long had the lock is told all the same.
func TestSessionTellsWhoHasHeldForLong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := converse(t, dir)
	hold := c.acquire("app.db", object{"wanted": true, "stale_timeout": 1})
	awaitBeats(t, dir)
	r := start(t, command(t, dir, "-d", "app.db", "--", "true"))
	require.Equal(t, hold, c.event("wanted")["hold"])
	c.release(hold)
	require.NoError(t, r.Wait())
}

// longCycles is how often a lock is acquired in the long form of the test. It is read before
// the tests begin, which take all such variables away.
var longCycles = os.Getenv("DBLOCK_TEST_CYCLES")

// Two hundred holds at once, taken and released over and over: neither memory nor
// descriptors grow.
func TestSessionDoesNotGrow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cycles, many := 4_000, 200
	if longCycles != "" {
		var err error
		cycles, err = strconv.Atoi(longCycles)
		require.NoError(t, err)
	}
	in, requests := pipe(t)
	answers, out := pipe(t)
	cmd := piped(t, dir, in, out)
	lines := bufio.NewReader(answers)
	next := func() (o object) {
		line, err := lines.ReadBytes('\n')
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(line, &o))
		return o
	}
	next()
	round := func() {
		var b strings.Builder
		for n := range many {
			fmt.Fprintf(&b, `{"id":%d,"op":"acquire","db":"%d.db","env":false,"wanted":true}`+"\n", n, n)
		}
		_, err := requests.WriteString(b.String())
		require.NoError(t, err)
		b.Reset()
		for range many {
			o := next()
			require.Equal(t, true, o["ok"], "%v", o)
			fmt.Fprintf(&b, `{"id":"r","op":"release","hold":%.0f}`+"\n", o["hold"])
		}
		_, err = requests.WriteString(b.String())
		require.NoError(t, err)
		for range many {
			o := next()
			require.Equal(t, true, o["ok"], "%v", o)
		}
	}
	descriptors := func() int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", cmd.Process.Pid))
		if errors.Is(err, os.ErrNotExist) {
			return 0
		}
		require.NoError(t, err)
		return len(entries)
	}
	for range 10 {
		round()
	}
	fds, rss := descriptors(), resident(t, cmd.Process.Pid)
	for range cycles / many {
		round()
	}
	t.Logf("%d cycles: %d descriptors before, %d after; %d KiB before, %d after", cycles, fds, descriptors(), rss>>10, resident(t, cmd.Process.Pid)>>10)
	require.LessOrEqual(t, descriptors(), fds+5)
	require.Less(t, resident(t, cmd.Process.Pid), rss+4<<20)
	requests.Close()
	require.NoError(t, cmd.Wait())
	require.Empty(t, litter(t, dir))
}

// A program that has a lock for longer than it may is ended with what it has started, and the
// lock is kept until all of that has ended.
func TestSessionEndsAProgramThatIsLate(t *testing.T) {
	t.Parallel()
	const stubborn = `sh -c 'trap "touch told; until [ -e go ]; do sleep 0.02; done; exit" TERM; touch ready; while :; do sleep 0.02; done' & `
	for _, how := range []string{"term", "kill", "term, then kill"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			program := exec.Command("sh", "-c", stubborn+`until [ -e ready ]; do sleep 0.02; done; exec 3<&0; "$0" session <&3 & wait`, binary)
			program.Dir = dir
			c := converseBy(t, program)
			limit := object{"time_limit": 0.2, "on_time_limit": strings.Split(how, ",")[0]}
			if how == "term, then kill" {
				limit["kill_after"] = 0.1
			}
			c.acquire("app.db", limit)
			err := program.Wait()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			want := unix.SIGTERM
			if how == "kill" {
				want = unix.SIGKILL
			}
			require.Equal(t, want, exit.Sys().(syscall.WaitStatus).Signal())
			if how == "term" && !portable.Half {
				await(t, "what it has started is told", func() bool { return exists(dir, "told") })
				require.Equal(t, "held", statusOf(t, dir, "app.db").State)
				letGo(t, dir)
			}
			await(t, "the lock is free", func() bool { return statusOf(t, dir, "app.db").State == "free" })
			require.Empty(t, litter(t, dir))
		})
	}
}
