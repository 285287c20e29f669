//go:build linux

package storm

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dblock-dev/dblock/internal/portable"
)

// A scene is one acquire-hold-release that is killed at every system call.
type scene struct {
	name    string
	flags   []string
	command []string
	prepare func(t testing.TB, db string)
	lines   string // what a session is asked for, instead of a command
}

var scenes = []scene{
	{"existing", nil, []string{"true"}, func(t testing.TB, db string) { run(t, exec.Command(dblock, "-d", db, "--", "true")) }, ""},
	{"fresh", nil, []string{"true"}, func(testing.TB, string) {}, ""},
	{"takeover from a dblock", nil, []string{"true"}, leaveDead, ""},
	{"takeover from a peer", nil, []string{"true"}, func(t testing.TB, db string) { leavePeer(t, db, deadPID(t), time.Now()) }, ""},
	{"shared", []string{"--shared"}, []string{"true"}, func(testing.TB, string) {}, ""},
	// Long enough for the watch; its command heals nothing and loses nothing.
	{"watched", nil, []string{"sleep", "0.13"}, func(testing.TB, string) {}, ""},
}

// asked is a session that acquires, waits for itself, gives that up, shares, is forced, and at
// the end of its input has something left to release.
var asked = scene{"session", nil, nil, func(testing.TB, string) {}, `{"id":1,"op":"acquire"}
{"id":2,"op":"acquire","wait":"forever"}
{"id":3,"op":"check","hold":1}
{"id":4,"op":"cancel","target":2}
{"id":5,"op":"release","hold":1}
{"id":6,"op":"acquire","mode":"shared","wanted":true}
{"id":7,"op":"force","yes":true}
{"id":8,"op":"acquire"}
`}

// leaveDead leaves what a dblock leaves that was killed with its command.
func leaveDead(t testing.TB, db string) {
	t.Helper()
	cmd := exec.Command(dblock, "-d", db, "--", "sh", "-c", "kill -9 $PPID; kill -9 $$")
	_, _ = cmd.CombinedOutput() // until the shell has gone, too, which has inherited the lock
	if inode(noticeOf(db)) == 0 {
		t.Fatal("the killed dblock has left no notice")
	}
}

// leavePeer writes a notice as the TypeScript peers do.
func leavePeer(t testing.TB, db string, pid int, at time.Time) {
	t.Helper()
	host, _ := os.Hostname()
	text := fmt.Sprintf("{\n  \"pid\": %d,\n  \"timestamp\": %d,\n  \"host\": %q,\n  \"process\": \"mcp-server\"\n}", pid, at.UnixMilli(), host)
	if err := os.WriteFile(noticeOf(db), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// deadPID is the pid of a process that has gone.
func deadPID(t testing.TB) int {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// protocol are the system calls through which the protocol acts. Killing the
// process between two others changes nothing that outlives it.
var protocol = []string{
	"flock", "linkat", "unlinkat", "pwrite64", "renameat2", "mkdirat", "fchmod", "fchown", "openat", "getdents64",
	"newfstatat", "fstat", "fcntl", "close", "pread64", "read", "clone", "waitid", "wait4",
	"inotify_init1", "inotify_add_watch",
	"renameat", // where there is no renameat2
}

var tracedCall = regexp.MustCompile(`^(\d+) +([a-z]\w+)\(`)

// trace is what strace saw: the calls of dblock's own threads in order, and
// which thread was the first one to be shot.
type trace struct {
	calls  []call
	killed bool
}

type call struct{ thread, name string }

func readTrace(t testing.TB, path string) trace {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var tr trace
	first, command := "", map[string]bool{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if m := tracedCall.FindStringSubmatch(lines.Text()); m != nil {
			if first == "" {
				first = m[1]
			}
			if m[2] == "execve" && m[1] != first {
				command[m[1]] = true
			}
			tr.calls = append(tr.calls, call{m[1], m[2]})
		}
	}
	tr.calls = slices.DeleteFunc(tr.calls, func(c call) bool { return command[c.thread] })
	return tr
}

// counts is how often each call of the protocol was made.
func (tr trace) counts() map[string]int {
	n := map[string]int{}
	for _, c := range tr.calls {
		n[c.name]++
	}
	return n
}

// point names the call before which the process was shot: the n-th of that name
// in any of its threads, since strace counts by thread.
func (tr trace) point(name string, n int) string {
	if !tr.killed {
		return ""
	}
	total, by := 0, map[string]int{}
	for _, c := range tr.calls {
		if c.name != name {
			continue
		}
		total++
		if by[c.thread]++; by[c.thread] == n {
			return fmt.Sprintf("%s#%d", name, total)
		}
	}
	return ""
}

// TestKilledAnywhere does the same without a list of calls: whatever the runtime
// does, too, in whichever thread makes its n-th call first.
func TestKilledAnywhere(t *testing.T) {
	needTool(t, "strace")
	need(t, run(t, exec.Command("strace", "-o", os.DevNull, "true")).code == 0, "strace does not work here")
	if !*full {
		t.Skip("in the long form only: -full")
	}
	runs, unhurt := 0, 0
	for n := 1; unhurt < 30; n++ { // far beyond the longest thread's last call
		db := database(t)
		r := run(t, exec.Command("strace", "-f", "-o", os.DevNull, "-e", "signal=none",
			"-e", fmt.Sprintf("inject=all:signal=KILL:when=%d", n), "--", dblock, "-d", db, "--", "true"))
		if runs++; r.code != 128+9 {
			unhurt++
		}
		usable(t, db)
		os.RemoveAll(filepath.Dir(db))
		if t.Failed() {
			t.Fatalf("after dying at the %d. call of a thread", n)
		}
	}
	t.Logf("%d runs, %d of them died", runs, runs-unhurt)
}

func straced(out string, inject string, args ...string) *exec.Cmd {
	calls := "trace=execve," + strings.Join(protocol, ",")
	head := []string{"-f", "-o", out, "-e", calls, "-e", "signal=none"}
	if inject != "" {
		head = append(head, "-e", inject)
	}
	return exec.Command("strace", append(append(head, "--"), args...)...)
}

// TestKilledAtEveryCall kills dblock before each of its system calls, one run
// each. Whatever it had done by then, the lock must be usable at once, and after
// that use nothing may be left.
func TestKilledAtEveryCall(t *testing.T) {
	needTool(t, "strace")
	out := filepath.Join(scratch(t), "trace")
	if r := run(t, straced(out, "", "true")); r.code != 0 {
		need(t, false, "strace does not work here: %v", r)
	}
	short := 2
	if portable.Half {
		short = 4 // takeovers have steps there
	}
	for i, sc := range scenes {
		t.Run(sc.name, func(t *testing.T) {
			if !*full && i >= short {
				t.Skip("in the long form only: -full")
			}
			t.Parallel()
			killEverywhere(t, sc)
		})
	}
}

// TestSessionKilledAtEveryCall does the same to a session.
func TestSessionKilledAtEveryCall(t *testing.T) {
	needTool(t, "strace")
	need(t, run(t, exec.Command("strace", "-o", os.DevNull, "true")).code == 0, "strace does not work here")
	killEverywhere(t, asked)
}

func killEverywhere(t *testing.T, sc scene) {
	out := filepath.Join(scratch(t), "trace")
	shoot := func(name string, n int) (point string, tr trace) {
		db := database(t)
		sc.prepare(t, db)
		args := slices.Concat([]string{dblock, "-d", db}, sc.flags, []string{"--"}, sc.command)
		if sc.lines != "" {
			args = []string{dblock, "session", "-d", db}
		}
		inject := ""
		if name != "" {
			inject = fmt.Sprintf("inject=%s:signal=KILL:when=%d", name, n)
		}
		cmd := straced(out, inject, args...)
		cmd.Stdin = strings.NewReader(sc.lines)
		r := run(t, cmd)
		tr = readTrace(t, out)
		tr.killed = r.code == 128+9 // strace dies as dblock did
		usable(t, db)
		os.RemoveAll(filepath.Dir(db))
		if t.Failed() {
			t.Fatalf("after dying at %s, the %d. time", name, n)
		}
		return tr.point(name, n), tr
	}
	_, clean := shoot("", 0)
	want := clean.counts()
	hit := map[string]bool{}
	runs, missed := 0, []string{}
	for _, name := range protocol {
		most := want[name]
		if !*full {
			// A sample: all that changes the disk, a few of the rest.
			switch name {
			case "flock", "linkat", "unlinkat", "pwrite64", "mkdirat", "fchmod", "renameat2", "renameat":
			case "openat", "newfstatat", "close":
				most = min(most, 4)
			default:
				most = min(most, 1)
			}
		}
		// Threads share the work in another way each time, and strace counts each
		// by itself, so one round need not come by all of them.
		for round, todo := 0, true; todo && round < 8; round++ {
			todo = false
			for n := 1; n <= most; n++ {
				p, _ := shoot(name, n)
				runs++
				if p != "" {
					hit[p] = true
				}
			}
			for n := 1; n <= most && *full; n++ {
				todo = todo || !hit[fmt.Sprintf("%s#%d", name, n)]
			}
		}
		for n := 1; n <= most; n++ {
			if p := fmt.Sprintf("%s#%d", name, n); !hit[p] {
				missed = append(missed, p)
			}
		}
	}
	t.Logf("%d runs, died at %d different calls; of this run's own calls not met: %v", runs, len(hit), missed)
	if len(hit) == 0 {
		t.Error("dblock was never killed")
	}
}
