//go:build linux

package storm

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The shapes in which the command is run, and what may be killed in them. A
// command whose own process is killed leaves its children without a lock: dblock
// lets go when its command has ended. So only what is one process is shot at.
type shape struct {
	name    string
	args    func(mode string) []string
	command bool // the command may be signalled by itself
	term    bool // SIGTERM to the wrapper ends all of it
}

var shapes = []shape{
	{"direct", func(mode string) []string { return []string{"--", self} }, true, true},
	{"shell", func(mode string) []string { return []string{"-c", "exec " + self} }, true, true},
	{"grandchild", func(mode string) []string { return []string{"--", "sh", "-c", self + "; exit $?"} }, false, false},
	{"nested", func(mode string) []string { return []string{"--", dblock, mode, "--", self} }, false, true},
}

type tally struct {
	turns, conflicts, odd atomic.Int64
	actions               sync.Map // name -> *atomic.Int64
}

func (c *tally) action(name string) {
	n, _ := c.actions.LoadOrStore(name, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
}

// TestStorm lets 16 workers fight for one lock while wrappers and commands are
// killed, stopped and terminated at random, and then asks the commands' own log
// whether any two of them ever met.
func TestStorm(t *testing.T) {
	dir := scratch(t)
	w := &world{
		t: t, db: filepath.Join(dir, "app.db"), log: filepath.Join(dir, "log"), oracle: filepath.Join(dir, "oracle"),
		deadline: time.Now().Add(*stormFor),
	}
	for _, p := range []string{w.log, w.oracle} {
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if w.stderr, err = os.Create(filepath.Join(dir, "stderr")); err != nil {
		t.Fatal(err)
	}
	defer w.stderr.Close()

	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() { w.worker(rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(n)))) })
	}
	wg.Go(w.onlooker)
	wg.Wait()

	usable(t, w.db)
	starts, ends := checkLog(t, w.log)
	var actions []string
	w.c.actions.Range(func(k, v any) bool {
		actions = append(actions, fmt.Sprintf("%s %d", k, v.(*atomic.Int64).Load()))
		return true
	})
	t.Logf("%v: %d turns, %d given up in time, %d commands begun, %d ended by themselves; %s",
		*stormFor, w.c.turns.Load(), w.c.conflicts.Load(), starts, ends, strings.Join(actions, ", "))
	if starts == 0 || ends == 0 {
		t.Error("nothing happened")
	}
	if t.Failed() {
		b, _ := os.ReadFile(w.stderr.Name())
		t.Logf("stderr ends with:\n%s", b[max(0, len(b)-4000):])
	}
}

type world struct {
	t               *testing.T
	db, log, oracle string
	stderr          *os.File
	deadline        time.Time
	c               tally
}

func (w *world) worker(r *rand.Rand) {
	for time.Now().Before(w.deadline) && w.c.odd.Load() < 20 {
		w.turn(r)
	}
}

// onlooker asks for the status all the time; that must never disturb anybody.
func (w *world) onlooker() {
	for time.Now().Before(w.deadline) && w.c.odd.Load() < 20 {
		out, err := exec.Command(dblock, "status", "-d", w.db, "--json").CombinedOutput()
		if err != nil {
			w.t.Errorf("status: %v: %s", err, out)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// turn starts one dblock, does something to it, and judges how it ended.
func (w *world) turn(r *rand.Rand) {
	w.c.turns.Add(1)
	sh := shapes[pick(r, 0, 0, 0, 1, 2, 3)]
	args := []string{"-q", "-d", w.db, "--priority", pick(r, "low", "normal", "high"), "--orphan", pick(r, "term", "term", "keep")}
	mode := pick(r, "--exclusive", "--exclusive", "--exclusive", "--shared")
	args = append(args, mode)
	patience := pick(r, "forever", "forever", "forever", "5", "0.02", "0")
	args = append(args, "--wait", patience)
	cmd := exec.Command(dblock, append(args, sh.args(mode)...)...)
	in, out, err := os.Pipe()
	if err != nil {
		w.t.Error(err)
		return
	}
	defer in.Close()
	cmd.ExtraFiles = []*os.File{out}
	cmd.Stderr = w.stderr
	cmd.Env = append(os.Environ(), "STORM_ROLE=oracle", "STORM_LOG="+w.log, "STORM_ORACLE="+w.oracle, "STORM_FD=3",
		fmt.Sprintf("STORM_HOLD_US=%d", pick(r, 0, 200, 1000, r.IntN(3000), r.IntN(15000))))
	if r.IntN(6) == 0 {
		cmd.Env = append(cmd.Env, "STORM_STUBBORN=1")
	}
	if err := cmd.Start(); err != nil {
		out.Close()
		w.t.Error(err)
		return
	}
	out.Close()

	command := make(chan int, 1) // its pid, when it runs
	gone := make(chan struct{})  // when nothing is left of wrapper and command
	go func() {
		defer close(gone)
		for lines := bufio.NewScanner(in); lines.Scan(); {
			var pid int
			_, _ = fmt.Sscan(lines.Text(), &pid)
			command <- pid
		}
	}()
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()

	did := w.interfere(r, sh, cmd, command, ended)

	if !within(ended, 2*time.Minute) {
		w.t.Errorf("dblock has not ended: %s, %s", cmd, did)
		_ = cmd.Process.Kill()
		return
	}
	if !within(gone, time.Minute) {
		w.t.Errorf("a command has not ended: %s, %s", cmd, did)
		return
	}
	code := codeOf(cmd.ProcessState)
	switch {
	case code == 0:
	case code == 75 && patience != "forever":
		w.c.conflicts.Add(1)
	case code == 128+9 && (strings.Contains(did, "KILL")):
	case code == 128+15 && (strings.Contains(did, "TERM") || sh.name == "nested" && strings.Contains(did, "KILL")):
	default:
		w.c.odd.Add(1)
		w.t.Errorf("exit code %d of %s after %q", code, cmd, did)
	}
}

func within(c <-chan struct{}, d time.Duration) bool {
	select {
	case <-c:
		return true
	case <-time.After(d):
		return false
	}
}

// interfere does one of the things that happen to processes, either at any time
// after the start or once the command runs.
func (w *world) interfere(r *rand.Rand, sh shape, cmd *exec.Cmd, command <-chan int, ended <-chan struct{}) string {
	wrapper := cmd.Process.Pid
	pid := 0
	if r.IntN(3) == 0 {
		if within(ended, time.Duration(r.IntN(20000))*time.Microsecond) {
			return ""
		}
	} else {
		select {
		case pid = <-command:
		case <-ended:
			return ""
		}
		time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond)
	}
	choices := []string{"", "", "KILL wrapper", "KILL wrapper", "STOP wrapper"}
	if sh.term {
		choices = append(choices, "TERM wrapper", "STOP and KILL wrapper")
	}
	if sh.command && pid != 0 {
		choices = append(choices, "KILL command", "TERM command", "KILL both", "STOP command", "KILL command and wrapper")
	}
	did := pick(r, choices...)
	// The wrapper is our child and not reaped while ended is open: its pid is its
	// own or a zombie's. The command's can have been reaped, but pids are given
	// out in order, so it is nobody else's for long after.
	to := func(pid int, sigs ...syscall.Signal) {
		for _, s := range sigs {
			if pid == wrapper {
				_ = cmd.Process.Signal(s)
			} else {
				_ = syscall.Kill(pid, s)
			}
		}
	}
	pause := func() { time.Sleep(time.Duration(r.IntN(15000)) * time.Microsecond) }
	switch did {
	case "KILL wrapper":
		to(wrapper, syscall.SIGKILL)
	case "TERM wrapper":
		to(wrapper, syscall.SIGTERM)
	case "STOP wrapper":
		to(wrapper, syscall.SIGSTOP)
		pause()
		to(wrapper, syscall.SIGCONT)
	case "STOP and KILL wrapper":
		to(wrapper, syscall.SIGSTOP)
		pause()
		to(wrapper, syscall.SIGKILL)
	case "KILL command":
		to(pid, syscall.SIGKILL)
	case "TERM command":
		to(pid, syscall.SIGTERM)
	case "KILL both":
		to(wrapper, syscall.SIGKILL)
		to(pid, syscall.SIGKILL)
	case "KILL command and wrapper":
		to(pid, syscall.SIGKILL)
		to(wrapper, syscall.SIGKILL)
	case "STOP command":
		to(pid, syscall.SIGSTOP)
		pause()
		to(pid, syscall.SIGCONT)
	}
	if did != "" {
		w.c.action(did)
	}
	return did
}

// checkLog reads what the commands wrote. The log is appended to under the
// oracle's lock, so the order of its lines is the order of events.
func checkLog(t testing.TB, path string) (starts, ends int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	type running struct {
		mode  string
		token int64
	}
	open := map[int64]running{} // by token; those killed stay for good
	dead := map[int64]bool{}    // open when a later exclusive began: killed, by the oracle's lock
	var lastExclusive, last int64
	var lastStart int64
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var what, mode string
		var token, pid, at int64
		if n, _ := fmt.Sscan(lines.Text(), &what, &mode, &token, &pid, &at); n != 5 {
			t.Fatalf("damaged log line %q", lines.Text())
		}
		switch what {
		case "OVERLAP":
			t.Errorf("two commands at once: %s", lines.Text())
		case "S":
			starts++
			if _, used := open[token]; used || dead[token] {
				t.Errorf("token %d was used for two commands", token)
			}
			if mode == "exclusive" {
				if token <= last {
					t.Errorf("exclusive token %d after %d", token, last)
				}
				if at <= lastStart {
					t.Errorf("the log is out of order at token %d", token)
				}
				for other := range open {
					// Had it been alive its lock would have kept us out; it may not
					// say "E" any more.
					dead[other] = true
					delete(open, other)
				}
				lastExclusive, lastStart = token, at
			} else {
				if token <= lastExclusive {
					t.Errorf("shared token %d after the exclusive %d", token, lastExclusive)
				}
				for other, r := range open {
					if r.mode == "exclusive" {
						dead[other] = true
						delete(open, other)
					}
				}
			}
			last = max(last, token)
			open[token] = running{mode, token}
		case "E":
			ends++
			if dead[token] {
				t.Errorf("overlap: the command of token %d ended after a later one had begun", token)
			}
			delete(open, token)
			dead[token] = true
		}
	}
	return starts, ends
}
