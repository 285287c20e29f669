package test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// work is done under the lock. The referee is a kernel lock on this machine, which must be free: no
// waiting for it. One in a few takes its time, and does not end when it is told to.
const work = `trap "" TERM
exec 9>>referee
flock -n 9 || { echo "$DBLOCK_HOLD_TOKEN $(date +%T.%N) beside $(cat in)" >>overlaps; exit 9; }
echo "$DBLOCK_HOLD_TOKEN $(date +%T.%N)" >in
n=$(cat count)
[ $(($n % 7)) = 0 ] && sleep 0.3
echo $((n + 1)) >count.$$ && mv count.$$ count
echo "$DBLOCK_HOLD_TOKEN" >>tokens`

// TestStorm has machines count under the lock while holders and waiters are killed and stopped, their
// sessions and leases ended, and the server killed and started again.
func TestStorm(t *testing.T) {
	each(t, storming)
}

func storming(t *testing.T, s *server) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/count", []byte("0\n"), 0o644))
	args := []string{"-q", "-q", "-d", s.url, "-w", "60", "--kill-after", "0.5"}
	if s.name == "etcd" {
		args = append(args, "--ttl", "5")
	}
	args = append(args, "--", "sh", "-c", work)
	end := time.Now().Add(*storm)
	var done, failed, unsure atomic.Int64
	var running sync.Map // pids
	codes := map[int]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	var machines []*machine
	for range 4 {
		machines = append(machines, newMachine(t))
	}
	for i := range 10 {
		m := machines[i%len(machines)]
		all.Add(1)
		go func() {
			defer all.Done()
			for time.Now().Before(end) {
				c := m.command(args...)
				c.Dir = dir
				if err := c.Start(); err != nil {
					t.Error(err)
					return
				}
				running.Store(c.Process.Pid, true)
				_ = c.Wait()
				running.Delete(c.Process.Pid)
				status := c.ProcessState.Sys().(syscall.WaitStatus)
				code := status.ExitStatus()
				if status.Signaled() {
					code = 128 + int(status.Signal())
				}
				mu.Lock()
				codes[code]++
				mu.Unlock()
				switch code {
				case 0:
					done.Add(1)
				case 75: // it gave up before its turn
					failed.Add(1)
				default:
					unsure.Add(1)
				}
			}
		}()
	}
	pause := 50 * time.Millisecond
	if s.name == "etcd" {
		pause *= 10 // a killed one keeps the others waiting until its lease runs out
	}
	quiet := time.Now()
	for time.Now().Before(end) {
		time.Sleep(pause + rand.N(3*pause))
		var pids []int
		running.Range(func(pid, _ any) bool { pids = append(pids, pid.(int)); return true })
		if len(pids) == 0 {
			continue
		}
		pid := pids[rand.IntN(len(pids))]
		switch rand.IntN(6) {
		case 0, 1:
			_ = syscall.Kill(pid, syscall.SIGKILL)
		case 2:
			_ = syscall.Kill(pid, syscall.SIGTERM)
		case 3:
			_ = syscall.Kill(pid, syscall.SIGSTOP)
			time.AfterFunc(time.Duration(rand.IntN(2000))*time.Millisecond, func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
		case 4:
			if s.name == "postgres" {
				s.cut()
			}
		case 5:
			if time.Since(quiet) > 10*time.Second {
				quiet = time.Now()
				s.kill()
				s.start()
			}
		}
	}
	all.Wait()
	count := number(t, dir+"/count")
	t.Logf("%s: %v: %d done, %d gave up, %d were killed or lost it; the count is %d; exit codes %v", s.name, *storm, done.Load(), failed.Load(), unsure.Load(), count, codes)
	overlaps, _ := os.ReadFile(dir + "/overlaps")
	require.Empty(t, string(overlaps), "two were in at once")
	require.Positive(t, done.Load())
	require.GreaterOrEqual(t, count, done.Load(), "nothing is lost")
	require.LessOrEqual(t, count, done.Load()+unsure.Load())
	tokens, err := os.ReadFile(filepath.Join(dir, "tokens"))
	require.NoError(t, err)
	last := int64(0)
	for _, token := range strings.Fields(string(tokens)) {
		n, err := strconv.ParseInt(token, 10, 64)
		require.NoError(t, err)
		require.Greater(t, n, last, "the token of a later hold is greater")
		last = n
	}
}

// cut ends the session that has the lock, as an operator does. The one that has the key of the aftermath is
// left alone: where its dblock was killed, nobody else would keep others away from what is left of its tree.
func (s *server) cut() {
	_ = psql(s, `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
		AND (classid::bigint << 32 | objid::bigint) = ('x' || left(encode(sha256('dblock/dblock'), 'hex'), 16))::bit(64)::bigint`).Run()
}

func number(t *testing.T, path string) int64 {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	require.NoError(t, err, fmt.Sprintf("%q", b))
	return n
}
