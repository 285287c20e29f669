//go:build bench

// Command bench measures what a run under dblock costs, beside other tools, in
// one run on one machine, and prints the tables of docs/dev/benchmarks.md.
//
//	go run -tags bench ./run/bench [-quick] [-svg FILE] DBLOCK
//	go run -tags bench ./run/bench -operations [-quick] DBLOCK
//
// The second form is about programs that have the lock again and again, in several languages.
//
// Machines are noisy, so the tools take turns, in random order in every round,
// and what counts is the ratio to flock(1) in the same round. Tools that are not
// installed are left out.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock"
)

// tool is a way to run a command under the lock named key.
type tool struct {
	name string
	argv func(key string, command ...string) []string
}

type bench struct {
	dblock string
	peer   string
	dir    string
	self   string
	rounds int
	tools  []tool
	// command is what is run: by its path, or a shell would not start it.
	command string
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "stamp" {
		stamp(os.Args[2])
		return
	}
	quick := flag.Bool("quick", false, "a short run, for CI: shows that it works, not how fast")
	svg := flag.String("svg", "", "write a plot to this file")
	operations := flag.Bool("operations", false, "only the table of operations per second, with the clients for Node and Python")
	peer := flag.String("peer", "test/peer/peer.mjs", "the Node peer")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: bench [-quick] [-operations] [-svg FILE] DBLOCK")
		os.Exit(64)
	}
	if err := run(flag.Arg(0), *peer, *svg, *quick, *operations); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(dblock, peer, svg string, quick, operations bool) error {
	dir, err := os.MkdirTemp("", "dblock-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, rounds: 200}
	if quick {
		b.rounds = 10
	}
	if b.command, err = exec.LookPath("true"); err != nil {
		return err
	}
	if b.dblock, err = filepath.Abs(dblock); err != nil {
		return err
	}
	if b.peer, err = filepath.Abs(peer); err != nil {
		return err
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if operations {
		return b.operations(quick)
	}
	b.findTools()
	if len(b.tools) == 0 || b.tools[0].name != "flock" {
		return errors.New("flock is not installed")
	}
	alone := b.uncontended("A free lock", b.rounds/2, 5)
	b.contended(quick)
	b.handOver()
	b.foreignWake()
	b.waiters(quick)
	b.holding(quick)
	b.inProcess()
	if err := b.session(); err != nil {
		return err
	}
	b.directory(quick)
	stop := b.slowTools()
	defer stop()
	alone = append(alone, b.uncontended("A free lock, slow tools", max(5, b.rounds/5), 1)[1:]...)
	if svg != "" {
		return os.WriteFile(svg, plot(alone), 0o644)
	}
	return nil
}

// add adds a tool if it is installed.
func (b *bench) add(program, name string, argv func(key string, command ...string) []string) {
	if _, err := exec.LookPath(program); err == nil {
		b.tools = append(b.tools, tool{name, argv})
	}
}

// prefix is a tool that is put before the command; KEY stands for the lock's path.
func (b *bench) prefix(words ...string) func(string, ...string) []string {
	return func(key string, command ...string) []string {
		var argv []string
		for _, w := range words {
			argv = append(argv, strings.ReplaceAll(w, "KEY", filepath.Join(b.dir, key)))
		}
		return append(argv, command...)
	}
}

// findTools lists what is installed, flock first.
func (b *bench) findTools() {
	dotlockfile := func(key string, command ...string) []string {
		script := `dotlockfile -r 100 -l KEY.dot && "$@"; dotlockfile -u KEY.dot`
		return append([]string{"sh", "-c", strings.ReplaceAll(script, "KEY", filepath.Join(b.dir, key)), "sh"}, command...)
	}
	b.add("flock", "flock", b.prefix("flock", "KEY"))
	b.add(b.dblock, "dblock", b.prefix(b.dblock, "-d", "KEY.db", "--"))
	b.add("flock", "flock -F", b.prefix("flock", "-F", "KEY-F"))
	b.add("setlock", "setlock", b.prefix("setlock", "KEY"))
	b.add("chpst", "chpst -l", b.prefix("chpst", "-l", "KEY"))
	b.add("lckdo", "lckdo", b.prefix("lckdo", "-w", "-W", "60", "KEY"))
	b.add("with-lock-ex", "with-lock-ex", b.prefix("with-lock-ex", "-w", "KEY"))
	b.add("dotlockfile", "dotlockfile", dotlockfile)
}

// slowTools takes what needs a server, an interpreter or a runtime into the turns.
// Whatever runs after such a tool finds the processor's caches cold, and the more so
// the larger it is; so the others are measured without them. It starts an etcd.
func (b *bench) slowTools() (stop func()) {
	stop = func() {}
	b.tools = b.tools[:1]
	b.add("sem", "sem", b.prefix("sem", "--fg", "--id", "dblock-bench", "--"))
	if _, err := os.Stat(b.peer); err == nil {
		b.add("node", "Node peer", func(key string, _ ...string) []string {
			return []string{"node", b.peer, filepath.Join(b.dir, key+".peer"), "--ops", "1", "--hold", "0"}
		})
	}
	if _, err := exec.LookPath("etcd"); err == nil {
		etcd := exec.Command("etcd", "--data-dir", filepath.Join(b.dir, "etcd"), "--listen-client-urls", "http://127.0.0.1:23790",
			"--advertise-client-urls", "http://127.0.0.1:23790", "--listen-peer-urls", "http://127.0.0.1:23800", "--log-level", "error")
		if etcd.Start() == nil {
			stop = func() { _ = etcd.Process.Kill(); _ = etcd.Wait() }
			ctl := []string{"etcdctl", "--endpoints", "127.0.0.1:23790", "lock", "bench"}
			for range 50 {
				check := exec.Command(ctl[0], append(ctl[1:], "true")...)
				check.Env = append(os.Environ(), "ETCDCTL_API=3")
				if check.Run() == nil {
					b.add("etcdctl", "etcdctl lock", b.prefix(append([]string{"env", "ETCDCTL_API=3"}, ctl...)...))
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
	}
	return stop
}

// timed runs a command and returns how long that took.
func timed(argv []string) (time.Duration, error) {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return 0, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}}
	begin := time.Now()
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return 0, err
	}
	var status syscall.WaitStatus
	for {
		if _, err = syscall.Wait4(pid, &status, 0, nil); err != syscall.EINTR {
			break
		}
	}
	took := time.Since(begin)
	if err == nil && status != 0 {
		err = fmt.Errorf("%s: status %d", argv[0], status)
	}
	return took, err
}

// result is a measured quantity of one tool.
type result struct {
	name  string
	ms    float64
	ratio float64 // to flock, the median of the rounds'
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// turns lets the tools take turns and returns medians. What the slow ones cost
// does not need as many rounds.
func (b *bench) turns(title string, rounds int, measure func(tool) (time.Duration, error)) []result {
	times := map[string][]float64{}
	ratios := map[string][]float64{}
	failed := map[string]error{}
	for round := range rounds {
		took := map[string]float64{}
		for _, i := range rand.Perm(len(b.tools)) {
			t := b.tools[i]
			if failed[t.name] != nil || len(times[t.name]) > 5 && median(times[t.name]) > 50 && round%10 != 0 {
				continue
			}
			d, err := measure(t)
			if err != nil {
				failed[t.name] = err
				continue
			}
			took[t.name] = float64(d.Microseconds()) / 1000
		}
		for name, ms := range took {
			times[name] = append(times[name], ms)
			if f := took["flock"]; f > 0 {
				ratios[name] = append(ratios[name], ms/f)
			}
		}
	}
	var results []result
	fmt.Printf("\n### %s\n\n| tool | median ms | to flock |\n|---|---:|---:|\n", title)
	for _, t := range b.tools {
		if err := failed[t.name]; err != nil {
			fmt.Printf("| %s | failed: %v | |\n", t.name, err)
			continue
		}
		r := result{t.name, median(times[t.name]), median(ratios[t.name])}
		results = append(results, r)
		fmt.Printf("| %s | %.2f | %.2f |\n", r.name, r.ms, r.ratio)
	}
	return results
}

// uncontended runs each tool some times in a row, as a script or Makefile does, and
// takes the median.
func (b *bench) uncontended(title string, rounds, inARow int) []result {
	return b.turns(title, rounds, func(t tool) (time.Duration, error) {
		var took []float64
		for range inARow {
			d, err := timed(t.argv("free", b.command))
			if err != nil {
				return 0, err
			}
			took = append(took, float64(d))
		}
		return time.Duration(median(took)), nil
	})
}

// contended runs eight loops of 40 short commands, and divides by their number.
func (b *bench) contended(quick bool) {
	const loops = 8
	each, rounds := 40, 9
	if quick {
		each, rounds = 5, 1
	}
	fast := *b
	fast.tools = slices.DeleteFunc(slices.Clone(b.tools), func(t tool) bool {
		return !slices.Contains([]string{"flock", "dblock", "setlock", "chpst -l", "lckdo", "with-lock-ex"}, t.name)
	})
	fast.turns(fmt.Sprintf("Eight loops of %d commands, per command", each), rounds, func(t tool) (time.Duration, error) {
		errs := make(chan error, loops)
		begin := time.Now()
		for range loops {
			go func() {
				for range each {
					if _, err := timed(t.argv("busy", b.command)); err != nil {
						errs <- err
						return
					}
				}
				errs <- nil
			}()
		}
		for range loops {
			if err := <-errs; err != nil {
				return 0, err
			}
		}
		return time.Since(begin) / time.Duration(loops*each), nil
	})
}

// stamp is the command of the hand-over: it notes when it began, waits until its
// FIFO is closed, and notes when it ends.
func stamp(base string) {
	begin := monotonic()
	_ = os.WriteFile(base+".began", []byte(strconv.FormatInt(begin, 10)), 0o644)
	if f, err := os.Open(base + ".go"); err == nil {
		_, _ = f.Read(make([]byte, 1))
	}
	_ = os.WriteFile(base+".ended", []byte(strconv.FormatInt(monotonic(), 10)), 0o644)
}

func monotonic() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}

// number waits for a file with a number.
func number(path string) (int64, error) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if text, err := os.ReadFile(path); err == nil && len(text) > 0 {
			return strconv.ParseInt(string(text), 10, 64)
		}
	}
	return 0, fmt.Errorf("%s does not appear", path)
}

// handOver measures from the end of one command to the start of the next.
func (b *bench) handOver() {
	fast := *b
	fast.tools = slices.DeleteFunc(slices.Clone(b.tools), func(t tool) bool {
		return !slices.Contains([]string{"flock", "dblock", "setlock", "lckdo", "with-lock-ex"}, t.name)
	})
	n := 0
	fast.turns("From the end of one command to the start of the next", max(5, b.rounds/4), func(t tool) (time.Duration, error) {
		n++
		var bases [2]string
		done := make(chan error, 2)
		for i := range bases {
			bases[i] = filepath.Join(b.dir, fmt.Sprintf("stamp%d-%d", n, i))
			if err := unix.Mkfifo(bases[i]+".go", 0o600); err != nil {
				return 0, err
			}
			argv := t.argv("over", b.self, "stamp", bases[i])
			go func() { _, err := timed(argv); done <- err }()
			if i == 0 {
				if _, err := number(bases[0] + ".began"); err != nil {
					return 0, err
				}
			}
		}
		time.Sleep(30 * time.Millisecond) // the second one is waiting by now
		for i := range bases {
			f, err := os.OpenFile(bases[i]+".go", os.O_WRONLY, 0)
			if err != nil {
				return 0, err
			}
			f.Close()
		}
		for range bases {
			if err := <-done; err != nil {
				return 0, err
			}
		}
		ended, err := number(bases[0] + ".ended")
		if err != nil {
			return 0, err
		}
		began, err := number(bases[1] + ".began")
		return time.Duration(began - ended), err
	})
}

// foreignWake measures from a peer's unlink to the start of the waiting command.
func (b *bench) foreignWake() {
	host, _ := os.Hostname()
	var ms []float64
	for i := range max(5, b.rounds/10) {
		base := filepath.Join(b.dir, fmt.Sprintf("wake%d", i))
		notice := filepath.Join(b.dir, ".foreign.lock")
		text, _ := json.Marshal(map[string]any{"pid": os.Getpid(), "timestamp": time.Now().UnixMilli(), "host": host, "process": "peer"})
		if os.WriteFile(notice, text, 0o644) != nil {
			return
		}
		done := make(chan struct{})
		go func() {
			_, _ = timed([]string{b.dblock, "-q", "-w", "forever", "-d", filepath.Join(b.dir, "foreign.db"), "--", b.self, "stamp", base})
			close(done)
		}()
		time.Sleep(150 * time.Millisecond) // it is waiting by now
		begin := monotonic()
		_ = os.Remove(notice)
		<-done
		if began, err := number(base + ".began"); err == nil {
			ms = append(ms, float64(began-begin)/1e6)
		}
	}
	fmt.Printf("\n### A foreign holder lets go\n\nFrom its unlink to the start of the waiting command: median %.2f ms.\n", median(ms))
}

// waiters measures what waiting costs, and whether hand-overs grow slower.
func (b *bench) waiters(quick bool) {
	counts := []int{1, 10, 40, 100, 200}
	span := 3 * time.Second
	if quick {
		counts, span = []int{1, 10}, 300*time.Millisecond
	}
	fmt.Printf("\n### Waiters\n\n| waiters | CPU ms per waiter and second | resident KiB each | ms per hand-over |\n|---:|---:|---:|---:|\n")
	for _, n := range counts {
		db := filepath.Join(b.dir, fmt.Sprintf("crowd%d.db", n))
		holder := exec.Command(b.dblock, "-d", db, "--", "cat")
		in, err := holder.StdinPipe()
		if err != nil || holder.Start() != nil {
			return
		}
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if r, err := lock.Inspect(db, lock.Options{}); err == nil && r.State == lock.StateHeld {
				break
			}
		}
		var crowd []*exec.Cmd
		for range n {
			c := exec.Command(b.dblock, "-q", "-w", "forever", "-d", db, "--", "true")
			if c.Start() == nil {
				crowd = append(crowd, c)
			}
		}
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if r, err := lock.Inspect(db, lock.Options{}); err == nil && len(r.Waiters) == n {
				break
			}
		}
		time.Sleep(300 * time.Millisecond) // what they say after 200 ms is over
		before, rss := usage(crowd)
		time.Sleep(span)
		after, _ := usage(crowd)
		begin := time.Now()
		in.Close()
		for _, c := range crowd {
			_ = c.Wait()
		}
		drained := time.Since(begin)
		_ = holder.Wait()
		fmt.Printf("| %d | %.3f | %d | %.2f |\n", n, (after-before)/float64(n)/span.Seconds(), rss/n, drained.Seconds()*1000/float64(n))
	}
}

// usage sums CPU milliseconds and resident KiB.
func usage(cs []*exec.Cmd) (ms float64, kib int) {
	for _, c := range cs {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", c.Process.Pid))
		for _, t := range tasks {
			var ns float64
			text, _ := os.ReadFile(t)
			_, _ = fmt.Sscan(string(text), &ns)
			ms += ns / 1e6
		}
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", c.Process.Pid))
		var size, resident int
		_, _ = fmt.Sscan(string(text), &size, &resident)
		kib += resident * os.Getpagesize() / 1024
	}
	return ms, kib
}

// holding measures what it costs to hold the lock.
func (b *bench) holding(quick bool) {
	// In its first two seconds it looks after the lock itself; then it is told.
	begin, span := 3*time.Second, 12*time.Second
	if quick {
		begin, span = 500*time.Millisecond, time.Second
	}
	c := exec.Command(b.dblock, "-d", filepath.Join(b.dir, "held.db"), "--", "cat")
	in, err := c.StdinPipe()
	if err != nil || c.Start() != nil {
		return
	}
	time.Sleep(begin)
	before, rss := usage([]*exec.Cmd{c})
	time.Sleep(span)
	after, _ := usage([]*exec.Cmd{c})
	in.Close()
	_ = c.Wait()
	fmt.Printf("\n### Holding\n\n%.2f ms of CPU a minute, %d KiB resident.\n", (after-before)*60/span.Seconds(), rss)
}

// inProcess measures the library.
func (b *bench) inProcess() {
	l := lock.New(filepath.Join(b.dir, "library.db"), lock.Options{})
	var us []float64
	for range b.rounds * 10 {
		begin := time.Now()
		if l.Acquire(context.Background()) != nil || l.Release() != nil {
			return
		}
		us = append(us, float64(time.Since(begin).Nanoseconds())/1000)
	}
	fmt.Printf("\n### In a Go program\n\nAcquire and Release of a free lock: median %.0f microseconds.\n", median(us))
}

// directory measures many locks side by side.
func (b *bench) directory(quick bool) {
	counts := []int{1, 100, 10_000}
	if quick {
		counts = []int{1, 100}
	}
	fmt.Printf("\n### Locks in one directory\n\n| locks | microseconds to acquire and release one |\n|---:|---:|\n")
	dir, made := filepath.Join(b.dir, "many"), 0
	if os.Mkdir(dir, 0o755) != nil {
		return
	}
	for _, n := range counts {
		for ; made < n; made++ {
			l := lock.New(filepath.Join(dir, fmt.Sprintf("db%d", made)), lock.Options{})
			if l.Acquire(context.Background()) != nil || l.Release() != nil {
				return
			}
		}
		var us []float64
		for range 500 {
			l := lock.New(filepath.Join(dir, fmt.Sprintf("db%d", rand.IntN(n))), lock.Options{})
			begin := time.Now()
			if l.Acquire(context.Background()) != nil || l.Release() != nil {
				return
			}
			us = append(us, float64(time.Since(begin).Nanoseconds())/1000)
		}
		fmt.Printf("| %d | %.0f |\n", n, median(us))
	}
}

// plot draws the ratios to flock as bars on a logarithmic scale.
func plot(results []result) []byte {
	const row, left, width = 26, 120, 620
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="13">`+"\n", left+width+20, row*len(results)+50)
	fmt.Fprintf(&s, `<rect width="100%%" height="100%%" fill="white"/>`+"\n"+`<text x="10" y="20">A run on a free lock, as a multiple of flock's (logarithmic)</text>`+"\n")
	for i, r := range results {
		y := 40 + i*row
		bar := max(2.0, float64(width-80)*logScale(r.ratio))
		color := "#8fa3b8"
		if r.name == "dblock" {
			color = "#2f6f4f"
		}
		fmt.Fprintf(&s, `<text x="%d" y="%d" text-anchor="end">%s</text><rect x="%d" y="%d" width="%.0f" height="%d" fill="%s"/><text x="%.0f" y="%d">%.2f</text>`+"\n",
			left-8, y+14, r.name, left, y, bar, row-8, color, left+bar+6, y+14, r.ratio)
	}
	s.WriteString("</svg>\n")
	return []byte(s.String())
}

// logScale maps 0.5 to 500 to 0 to 1.
func logScale(ratio float64) float64 {
	steps := 0.0
	for x := ratio / 0.5; x > 1; x /= 1.0472 {
		steps++
	}
	return min(1, steps/150)
}
