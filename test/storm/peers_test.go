//go:build linux

package storm

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	besideBinary = flag.String("beside.dblock", "", "measure this dblock and not the one that is built from the tree")
	besideRuns   = flag.Int("beside.runs", 5, "in the long form: how often each pairing is measured")
)

// turn is a command that adds one to a number without any care of its own, and tells
// the referee from when to when it was at it. It does not let itself be stopped in the
// middle: what is counted is complete.
func turn() {
	signal.Ignore(syscall.SIGTERM)
	counter, log, id := os.Args[1], os.Args[2], os.Args[3]
	ms, _ := strconv.Atoi(os.Args[4])
	start := monotonic()
	text, _ := os.ReadFile(counter)
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	time.Sleep(time.Duration(ms) * time.Millisecond)
	// Without truncating: who reads it meanwhile misses one update, not all.
	put(counter, os.O_WRONLY, fmt.Sprintf("%d\n", n+1))
	put(log, os.O_WRONLY|os.O_APPEND, fmt.Sprintf("dblock %s %d %d\n", id, start, monotonic()))
	os.Exit(0)
}

func put(path string, how int, text string) {
	f, err := os.OpenFile(path, how, 0)
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err != nil {
		os.Exit(complain(98, "%v", err))
	}
}

// did is one operation, as the referee has it.
type did struct {
	peer       bool
	id         string
	start, end int64 // CLOCK_MONOTONIC, ns
}

// beside is what a run of dblocks and peers on one counter has shown.
type beside struct {
	peers, dblocks                   int // operations
	mixed, silent, amongPeers, among int // overlaps; silent: a mixed one, and dblock ended with 0
	lost                             int // updates
	codes                            map[int]int
	timeouts                         int // of peers
	peersTook, dblocksTook           time.Duration
}

func (b beside) String() string {
	return fmt.Sprintf("operations: dblocks %d in %.1f s, peers %d in %.1f s; overlaps: dblock/peer %d (%d silent), peer/peer %d, dblock/dblock %d; lost updates %d; exit 69: %d, other %v; peers' timeouts %d",
		b.dblocks, b.dblocksTook.Seconds(), b.peers, b.peersTook.Seconds(), b.mixed, b.silent, b.amongPeers, b.among, b.lost, b.codes[69], others(b.codes), b.timeouts)
}

func others(codes map[int]int) map[int]int {
	o := map[int]int{}
	for code, n := range codes {
		if code != 0 && code != 69 {
			o[code] = n
		}
	}
	return o
}

// sideBySide lets so many peers and loops of dblocks do so many operations each.
func sideBySide(t *testing.T, peers, dblocks, ops int, hold time.Duration) beside {
	t.Helper()
	db := database(t)
	dir := filepath.Dir(db)
	counter, log := newCounter(t, dir), filepath.Join(dir, "referee")
	if err := os.WriteFile(log, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	binary := dblock
	if *besideBinary != "" {
		binary = *besideBinary
	}
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		b     = beside{codes: map[int]int{}}
		codes = map[string]int{}
		begin = time.Now()
		ms    = strconv.FormatInt(hold.Milliseconds(), 10)
	)
	for range peers {
		wg.Go(func() {
			var r peerResult
			out, err := exec.Command("node", peerScript, noticeOf(db), "--ops", strconv.Itoa(ops),
				"--hold", ms, "--counter", counter, "--referee", log).Output()
			mu.Lock()
			defer mu.Unlock()
			r.read(t, out, err)
			b.timeouts += r.Timeouts
			b.peersTook = time.Since(begin)
		})
	}
	for worker := range dblocks {
		wg.Go(func() {
			for i := range ops {
				id := fmt.Sprintf("%d.%d", worker, i)
				cmd := exec.Command(binary, "-q", "-w", "60", "-d", db, "--", self, counter, log, id, ms)
				cmd.Env = append(os.Environ(), "STORM_ROLE=turn")
				_ = cmd.Run()
				mu.Lock()
				codes[id] = codeOf(cmd.ProcessState)
				b.codes[codes[id]]++
				mu.Unlock()
			}
			mu.Lock()
			b.dblocksTook = time.Since(begin)
			mu.Unlock()
		})
	}
	wg.Wait()
	b.judge(t, log, codes)
	b.lost = b.peers + b.dblocks - counted(t, counter)
	return b
}

// judge reads the referee's log.
func (b *beside) judge(t *testing.T, log string, codes map[string]int) {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var all []did
	for line := range strings.Lines(string(text)) {
		var who string
		var d did
		if _, err := fmt.Sscan(line, &who, &d.id, &d.start, &d.end); err != nil {
			t.Fatalf("the referee's log: %q: %v", line, err)
		}
		d.peer = who == "peer"
		all = append(all, d)
		if d.peer {
			b.peers++
		} else {
			b.dblocks++
		}
	}
	slices.SortFunc(all, func(x, y did) int { return int(x.start - y.start) })
	for i, x := range all {
		for _, y := range all[i+1:] {
			if y.start >= x.end {
				break
			}
			switch {
			case x.peer && y.peer:
				b.amongPeers++
			case !x.peer && !y.peer:
				b.among++
			default:
				b.mixed++
				ours := x
				if x.peer {
					ours = y
				}
				if codes[ours.id] == 0 {
					b.silent++
				}
			}
		}
	}
}

// TestBeside lets peers and dblocks count side by side. What peers do to one another
// no dblock can help: it is shown, and not judged.
func TestBeside(t *testing.T) {
	needTool(t, "node")
	runs, ops := 1, 8
	if *full {
		runs, ops = *besideRuns, 100
	}
	for _, n := range []struct{ peers, dblocks, ops int }{{8, 8, ops}, {4, 4, 5 * ops}, {1, 8, 5 * ops}} {
		t.Run(fmt.Sprintf("%dand%d", n.peers, n.dblocks), func(t *testing.T) {
			for range runs {
				b := sideBySide(t, n.peers, n.dblocks, n.ops, 2*time.Millisecond)
				t.Log(b)
				if b.among > 0 {
					t.Errorf("%d overlaps among dblocks", b.among)
				}
				if len(others(b.codes)) > 0 {
					t.Errorf("unexpected exit codes: %v", b.codes)
				}
				if n.peers == 1 && (b.mixed > 0 || b.lost > 0 || b.codes[69] > 0 || b.timeouts > 0) {
					t.Errorf("beside one peer: %v", b)
				}
			}
		})
	}
}

// monotonic is the clock that the peers' process.hrtime shows, in nanoseconds.
func monotonic() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}
