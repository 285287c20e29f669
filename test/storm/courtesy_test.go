//go:build linux

package storm

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// peerScript behaves like the TypeScript lock, its weaknesses included.
var peerScript, _ = filepath.Abs("../peer/peer.mjs")

type peerResult struct{ Ops, Timeouts, Errors int }

func (p *peerResult) read(t testing.TB, out []byte, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("peer: %v: %s", err, out)
	}
	if err := json.Unmarshal(out, p); err != nil {
		t.Errorf("peer: %v: %q", err, out)
	}
}

// loops runs that many looping dblocks, each of which counts, until the time is over. Of
// those that say that they lost the lock nobody knows whether they have counted.
func loops(t testing.TB, db, counter string, workers int, d time.Duration) (ops, lost int64) {
	t.Helper()
	var n, unsure atomic.Int64
	var wg sync.WaitGroup
	deadline := time.Now().Add(d)
	for range workers {
		wg.Go(func() {
			for time.Now().Before(deadline) {
				out, err := exec.Command(dblock, "-w", "60", "-d", db, "--", "sh", "-c", increment, "sh", counter).CombinedOutput()
				var exit *exec.ExitError
				switch {
				case err == nil:
					n.Add(1)
				case errors.As(err, &exit) && codeOf(exit.ProcessState) == 69:
					t.Logf("%s", out)
					unsure.Add(1)
				default:
					t.Errorf("dblock: %v: %s", err, out)
					return
				}
			}
		})
	}
	wg.Wait()
	return n.Load(), unsure.Load()
}

// TestCourtesy lets a polling peer live beside six dblocks that hand the lock
// over to one another without a pause. The peer does something a few times in a
// second, or as often as it can.
func TestCourtesy(t *testing.T) {
	needTool(t, "node")
	d, pauses := 3*time.Second, []int{250}
	if *full {
		d, pauses = time.Minute, []int{0, 50, 250, 1000}
	}
	db := database(t)
	counter := newCounter(t, filepath.Dir(db))
	sum, lost := loops(t, db, counter, 6, d/4)
	if lost > 0 {
		t.Errorf("dblocks among themselves have lost the lock %d times", lost)
	}
	before := float64(sum) / (d / 4).Seconds()
	t.Logf("6 dblocks alone: %.0f operations/s", before)
	for _, pause := range pauses {
		var peer peerResult
		var wg sync.WaitGroup
		wg.Go(func() {
			out, err := exec.Command("node", peerScript, noticeOf(db), "--duration", strconv.FormatInt(d.Milliseconds(), 10),
				"--pause", strconv.Itoa(pause), "--counter", counter).Output()
			peer.read(t, out, err)
		})
		ops, taken := loops(t, db, counter, 6, d)
		wg.Wait()
		sum += ops + int64(peer.Ops)
		lost += taken
		// A peer that is kept from running between a look at the file and its removal can
		// remove the next one: on a machine with much else to do, once in a while.
		if taken > 1+ops/100 {
			t.Errorf("%d of %d lost the lock", taken, ops)
		}
		with := float64(ops) / d.Seconds()
		t.Logf("%v beside a peer that pauses for %d ms: %.0f operations/s (%.0f %%); the peer %d operations, %d timeouts",
			d, pause, with, 100*with/before, peer.Ops, peer.Timeouts)
		if peer.Timeouts > 0 || peer.Errors > 0 || peer.Ops == 0 {
			t.Errorf("the peer: %+v", peer)
		}
		// In the short form there is no telling what else the machine does.
		if *full && pause > 0 && with < before/2 {
			t.Errorf("dblock has kept %.0f %% of its throughput, want 50", 100*with/before)
		}
	}
	if n := int64(counted(t, counter)); n < sum || n > sum+lost {
		t.Errorf("counted %d, want %d, and at most %d more: updates were lost", n, sum, lost)
	}
	usable(t, db)
}

// TestPeers lets several peers and dblocks work at once. The peers' own protocol
// has windows among themselves; what happens there is shown and not judged.
func TestPeers(t *testing.T) {
	needTool(t, "node")
	if !*full {
		t.Skip("in the long form only: -full")
	}
	for _, peers := range []int{1, 3, 6} {
		t.Run(fmt.Sprint(peers), func(t *testing.T) {
			db := database(t)
			counter := newCounter(t, filepath.Dir(db))
			const d = 15 * time.Second
			results := make([]peerResult, peers)
			var wg sync.WaitGroup
			for i := range results {
				wg.Go(func() {
					out, err := exec.Command("node", peerScript, noticeOf(db), "--duration", strconv.FormatInt(d.Milliseconds(), 10),
						"--hold", "5", "--counter", counter).Output()
					results[i].read(t, out, err)
				})
			}
			var ops, lost atomic.Int64
			deadline := time.Now().Add(d)
			for range 2 {
				wg.Go(func() {
					for time.Now().Before(deadline) {
						err := exec.Command(dblock, "-q", "-w", "60", "-d", db, "--", "sh", "-c", increment+"; sleep 0.02", "sh", counter).Run()
						var exit *exec.ExitError
						if errors.As(err, &exit) && codeOf(exit.ProcessState) == 69 {
							lost.Add(1)
						} else if err != nil {
							t.Errorf("dblock: %v", err)
							return
						}
						ops.Add(1)
					}
				})
			}
			wg.Wait()
			sum, timeouts := int(ops.Load()), 0
			for _, r := range results {
				sum += r.Ops
				timeouts += r.Timeouts
			}
			n := counted(t, counter)
			t.Logf("%d peers, 2 dblocks, %v: %d operations, %d by dblock (%d noticed that the lock was lost), %d timeouts, %d updates lost",
				peers, d, sum, ops.Load(), lost.Load(), timeouts, sum-n)
			if peers == 1 && n != sum {
				t.Errorf("with one peer %d updates were lost", sum-n)
			}
		})
	}
}
