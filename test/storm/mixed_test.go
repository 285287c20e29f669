//go:build linux

package storm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock"
)

// A tongue is a language, and a way in which a program in it has the lock.
type tongue struct {
	name    string
	command []string
	linger  int // milliseconds
	// Who can be killed beside the program itself: "holder" is the process that the lock file
	// names, a session, a keeper or a dblock; "command" is what a dblock runs.
	victims []string
	apart   bool // the lock is kept by another process, and goes with that one
	rows    bool // it writes to the SQLite database, too
	asks    bool // it does one thing for each line that it is sent
}

func tongues(t *testing.T) (all []tongue) {
	data, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for n := range 4 {
		linger := n % 2 * 5
		all = append(all,
			tongue{name: "Node", command: []string{"node", data + "/mixed.mjs"}, linger: linger, victims: []string{"holder"}, apart: true},
			tongue{name: "Python", command: []string{"python3", data + "/mixed.py"}, linger: linger, victims: []string{"holder"}, apart: true, rows: true},
			tongue{name: "Go", command: []string{self}})
		shell := tongue{name: "hold", command: []string{"sh", data + "/mixed.sh", "hold"}, victims: []string{"holder"}, apart: true, rows: true, asks: true}
		if n%2 == 1 {
			shell = tongue{name: "run", command: []string{"sh", data + "/mixed.sh", "run"}, victims: []string{"holder", "command"}, rows: true, asks: true}
		}
		all = append(all, shell)
	}
	return all
}

// mixed is the program in Go.
func mixed() int {
	who := os.Getenv("MIXED_WHO")
	log, err := os.OpenFile(os.Getenv("MIXED_LOG"), os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return complain(98, "%v", err)
	}
	over := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(over)
	}()
	for n := 1; ; n++ {
		select {
		case <-over:
			return 0
		default:
		}
		l := lock.New(os.Getenv("MIXED_DB"), lock.Options{Wait: time.Minute})
		if err := l.Acquire(context.Background()); err != nil {
			return complain(98, "%v", err)
		}
		g, _ := l.Grant()
		what := fmt.Sprintf("%s.%d %d %d", who, n, g.Holder.Token, g.Holder.PID)
		fmt.Fprintf(log, "B %s\n", what)
		fmt.Fprintf(log, "E %s %d\n", what, lastCount(log)+1)
		if err := l.Release(); err != nil {
			return complain(98, "%v", err)
		}
		fmt.Printf("A %s.%d\n", who, n)
	}
}

// lastCount is the last number in the log.
func lastCount(log *os.File) int {
	info, err := log.Stat()
	if err != nil {
		return 0
	}
	tail := make([]byte, 4096)
	n, _ := log.ReadAt(tail, max(0, info.Size()-int64(len(tail))))
	lines := strings.Split(string(tail[:n]), "\n")
	for _, line := range slices.Backward(lines) {
		if f := strings.Fields(line); len(f) == 5 && f[0] == "E" {
			count, _ := strconv.Atoi(f[4])
			return count
		}
	}
	return 0
}

// fray is what is known of all programs of a mixed storm.
type fray struct {
	t            *testing.T
	dir, db, log string
	deadline     time.Time

	mu                      sync.Mutex
	holders                 map[int]bool    // every process that had the lock for another one
	shot                    map[int]string  // the holders that were killed, with their tongue
	orphans                 map[string]bool // programs that were killed, whose children may have worked on
	done                    []string        // what was acknowledged
	programs, killed, given int
}

// TestMixed has four programs of each language fight for one lock, a third of all processes
// killed, and asks the log that they write under the lock whether any two ever met. Each
// adds one to the last number in the log, and those who can a row to a database.
func TestMixed(t *testing.T) {
	needTool(t, "node", "python3", "sqlite3")
	client, err := filepath.Abs("../../clients/node/dist/index.mjs")
	if err != nil {
		t.Fatal(err)
	}
	_, err = os.Stat(client)
	need(t, err == nil, "the Node client was not built: npm run build in clients/node")
	python, err := filepath.Abs("../../clients/python/src")
	if err != nil {
		t.Fatal(err)
	}
	dir := scratch(t)
	f := &fray{
		t: t, dir: dir, db: filepath.Join(dir, "app.db"), log: filepath.Join(dir, "log"), deadline: time.Now().Add(*stormFor),
		holders: map[int]bool{}, shot: map[int]string{}, orphans: map[string]bool{},
	}
	if err := os.WriteFile(f.log, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f.sqlite("CREATE TABLE done (id TEXT PRIMARY KEY)")
	t.Setenv("MIXED_DB", f.db)
	t.Setenv("MIXED_LOG", f.log)
	t.Setenv("MIXED_CLIENT", client)
	t.Setenv("MIXED_DBLOCK", dblock)
	t.Setenv("DBLOCK_BINARY", dblock)
	t.Setenv("PYTHONPATH", python)
	t.Setenv("PYTHONDONTWRITEBYTECODE", "1")
	t.Setenv("STORM_ROLE", "mixed")

	var wg sync.WaitGroup
	for n, tongue := range tongues(t) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(n)))
			for g := 0; time.Now().Before(f.deadline) && !t.Failed(); g++ {
				f.program(r, tongue, fmt.Sprintf("%s%d-%d", tongue.name, n, g))
			}
		})
	}
	wg.Wait()
	for pid := range f.holders {
		eventually(t, 30*time.Second, fmt.Sprintf("process %d, which had a lock, has ended", pid), func() bool {
			s := state(pid)
			return s == 0 || s == 'Z' || !f.ours(pid)
		})
	}
	usable(t, f.db)
	f.judge()
}

// ours reports whether the process is one of this storm, and no later one with its pid.
func (f *fray) ours(pid int) bool {
	env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return strings.Contains(string(env), "MIXED_DB="+f.db)
}

func (f *fray) sqlite(statement string) []string {
	f.t.Helper()
	r := run(f.t, exec.Command("sqlite3", "-cmd", ".timeout 60000", f.db, statement))
	if r.code != 0 {
		f.t.Fatalf("sqlite3: %v", r)
	}
	return strings.Fields(r.stdout)
}

// program runs one of them for a while, and ends it or somebody who belongs to it.
func (f *fray) program(r *rand.Rand, to tongue, who string) {
	cmd := exec.Command(to.command[0], to.command[1:]...)
	cmd.Dir = f.dir
	cmd.Env = append(os.Environ(), "MIXED_WHO="+who, fmt.Sprintf("MIXED_LINGER=%d", to.linger))
	stderr := &safeBuffer{}
	cmd.Stderr = stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		f.t.Error(err)
		return
	}
	out, theirs, err := os.Pipe()
	if err != nil {
		f.t.Error(err)
		return
	}
	cmd.Stdout = theirs
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		out.Close()
		f.t.Error(err)
		return
	}

	var mu sync.Mutex
	var holder, command int
	gone := make(chan struct{})
	begun := make(chan struct{}, 1)
	go func() {
		defer close(gone)
		defer out.Close()
		for lines := bufio.NewScanner(out); lines.Scan(); {
			what, rest, _ := strings.Cut(lines.Text(), " ")
			pid, _ := strconv.Atoi(rest)
			mu.Lock()
			switch what {
			case "H":
				holder = pid
				f.mu.Lock()
				f.holders[pid] = true
				f.mu.Unlock()
				select {
				case begun <- struct{}{}:
				default:
				}
			case "C":
				command = pid
			case "A", "F":
				f.mu.Lock()
				if what == "A" {
					f.done = append(f.done, rest)
				} else {
					f.given++
				}
				f.mu.Unlock()
				if to.asks {
					_, _ = io.WriteString(in, "\n")
				}
			}
			mu.Unlock()
		}
	}()
	if to.asks {
		_, _ = io.WriteString(in, "\n")
	}
	if to.victims != nil {
		select {
		case <-begun: // there is somebody to be killed
		case <-time.After(90 * time.Second):
			f.t.Errorf("%s has never had the lock: %s", who, stderr)
		}
	}
	time.Sleep(time.Duration(r.IntN(1_000_000)) * time.Microsecond)

	self := false
	if r.IntN(3) == 0 {
		victims := append([]string{"program", "all"}, to.victims...)
		victim := pick(r, victims...)
		self = victim == "program" || victim == "all"
		mu.Lock()
		h, c := holder, command
		mu.Unlock()
		f.mu.Lock()
		f.killed++
		if self {
			f.orphans[who] = true
		}
		if (victim == "holder" || victim == "all") && h != 0 && to.apart {
			f.shot[h] = to.name
		}
		f.mu.Unlock()
		if (victim == "holder" || victim == "all") && h != 0 {
			_ = unix.Kill(h, unix.SIGKILL)
		}
		if (victim == "command" || victim == "all") && c != 0 {
			_ = unix.Kill(c, unix.SIGKILL)
		}
		if self {
			_ = cmd.Process.Kill()
		} else {
			// Its program lives, and goes on with another session, keeper or run.
			time.Sleep(time.Duration(r.IntN(300_000)) * time.Microsecond)
		}
	}
	f.mu.Lock()
	f.programs++
	f.mu.Unlock()
	in.Close()
	if !within(gone, 2*time.Minute) {
		_ = cmd.Process.Kill()
		f.t.Errorf("%s has not ended: %s", who, stderr)
		return
	}
	_ = cmd.Wait()
	if code := codeOf(cmd.ProcessState); code != 0 && !self {
		f.t.Errorf("%s has ended with %d: %s", who, code, stderr)
	}
}

// work is what one program did under the lock at one time.
type work struct {
	id    string
	token int64
	pid   int
	at    int // in the order of the beginnings
	ended bool
}

// judge reads the log. Who has begun and not ended must not write any more once the next
// one has begun, whoever was killed of those that kept its lock.
func (f *fray) judge() {
	t := f.t
	text, err := os.ReadFile(f.log)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*work{}
	var current *work
	var highest int64
	var count, ends int
	// intrudes: it wrote although another one had the lock.
	intrudes := func(w *work, line string) {
		t.Errorf("two at once: %q while %s had the lock (its keeper was killed: %t)", line, current.id, f.shot[w.pid] != "")
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		var what string
		var number int
		w := &work{at: len(all)}
		if n, _ := fmt.Sscan(line, &what, &w.id, &w.token, &w.pid, &number); n < 4 || what == "E" && n < 5 {
			t.Fatalf("damaged log line %q", line)
		}
		switch what {
		case "B":
			if all[w.id] != nil {
				t.Errorf("begun twice: %q", line)
			}
			all[w.id] = w
			if w.token < highest {
				intrudes(w, line)
				continue
			}
			if current != nil && w.token == highest && w.pid != current.pid {
				t.Errorf("the token of %s once more: %q", current.id, line)
			}
			current, highest = w, w.token
		case "E":
			w = all[w.id]
			if w == nil {
				t.Fatalf("ended and not begun: %q", line)
			}
			w.ended = true
			ends++
			if w != current {
				intrudes(w, line)
			}
			if number != count+1 {
				t.Errorf("a lost update: %q after %d", line, count)
			}
			count = number
		}
	}
	rows := f.sqlite("SELECT id FROM done ORDER BY rowid")
	f.rows(all, rows)
	for _, id := range f.done {
		if w := all[id]; w == nil || !w.ended {
			t.Errorf("acknowledged and not there: %s", id)
		}
	}
	shot := map[string]int{}
	for _, name := range f.shot {
		shot[name]++
	}
	t.Logf("%v: %d programs, %d of them or theirs killed; %d times the lock, %d to their end, %d acknowledged, %d failed; the count is %d, %d rows",
		*stormFor, f.programs, f.killed, len(all), ends, len(f.done), f.given, count, len(rows))
	t.Logf("sessions and keepers killed, by their program: %v", shot)
	if ends == 0 || f.killed == 0 || len(rows) == 0 {
		t.Error("nothing happened")
	}
	if ends != count {
		t.Errorf("%d updates, and the count is %d", ends, count)
	}
	if t.Failed() {
		t.Logf("the log ends with:\n%s", text[max(0, len(text)-2000):])
	}
}

// rows judges the database: each row is there whose writer came to its end, and they came in
// the order of the lock, unless their writer was killed, whose child may have written on.
func (f *fray) rows(all map[string]*work, rows []string) {
	there := map[string]bool{}
	last := -1
	for _, id := range rows {
		there[id] = true
		w := all[id]
		if w == nil {
			f.t.Errorf("a row of nobody: %s", id)
			continue
		}
		program, _, _ := strings.Cut(id, ".")
		if w.at < last && !f.orphans[program] {
			f.t.Errorf("the row of %s came after that of one who had the lock later", id)
			continue
		}
		last = max(last, w.at)
	}
	for id, w := range all {
		name := strings.TrimRight(id[:strings.Index(id, "-")], "0123456789")
		if w.ended && (name == "Python" || name == "hold" || name == "run") && !there[id] {
			f.t.Errorf("the row of %s is not there", id)
		}
	}
}
