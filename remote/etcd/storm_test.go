package etcd_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock"
)

var stormTime = flag.Duration("storm", 2*time.Second, "how long a storm lasts")

// childStorm goes in and out for a while. The oracle is a lock of the kernel, which it must get at once
// whenever it has the lock in etcd: readers a shared one, together.
func childStorm(c config) int {
	oracle, err := os.OpenFile(filepath.Join(c.Dir, "oracle"), os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	for end := time.Now().Add(c.For); time.Now().Before(end); {
		opts := c.options()
		how := unix.LOCK_EX
		if rand.N(4) == 0 {
			opts.Mode, how = lock.Shared, unix.LOCK_SH
		}
		l := lock.New(c.URL, opts)
		ctx, stop := context.WithDeadline(context.Background(), end)
		err := l.Acquire(ctx)
		stop()
		if err != nil {
			var e *lock.EngineError
			if errors.As(err, &e) {
				fmt.Println("away")
				time.Sleep(50 * time.Millisecond)
			}
			continue
		}
		l.Attend()
		if err := unix.Flock(int(oracle.Fd()), how|unix.LOCK_NB); err != nil {
			fmt.Println("overlap", err)
		}
		g, _ := l.Grant()
		was := counted(c.Dir, "count")
		if last := counted(c.Dir, "token"); how == unix.LOCK_EX && int(g.Holder.Token) <= last {
			fmt.Println("overlap", g.Holder.Token, "after", last)
		}
		stay := 3 * time.Millisecond
		if rand.N(10) == 0 {
			stay = 3 * time.Second // it may be lost meanwhile
		}
		select {
		case <-l.Lost():
			fmt.Println("lost")
		case <-time.After(rand.N(stay)):
			if how == unix.LOCK_EX {
				count(c.Dir, "token", int(g.Holder.Token))
				count(c.Dir, "count", was+1)
				fmt.Println("in")
			}
		}
		if err := unix.Flock(int(oracle.Fd()), unix.LOCK_UN); err != nil {
			panic(err)
		}
		_ = l.Release()
	}
	return 0
}

func counted(dir, name string) int {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		panic(err)
	}
	n, _ := strconv.Atoi(string(b))
	return n
}

// count writes a number at once or not at all, since whoever writes may be killed.
func count(dir, name string, n int) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d", n)
		_ = f.Close()
	}
	if err != nil {
		panic(err)
	}
}

// storm lets n processes go in and out, three on each machine, and kills one now and then, while disturb disturbs
// the servers.
func storm(t *testing.T, url string, n int, every time.Duration, disturb func(over <-chan struct{})) {
	dir := t.TempDir()
	for _, name := range []string{"oracle", "count", "token"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("0"), 0o600))
	}
	var in, away, lost, overlaps, kills atomic.Int64
	end := time.Now().Add(*stormTime)
	over := make(chan struct{})
	var all, rest sync.WaitGroup
	machines := make([]string, (n+2)/3)
	for i := range machines {
		machines[i] = t.TempDir()
	}
	start := func(i int) *child {
		machine := machines[i%len(machines)]
		k := spawn(t, "storm", config{URL: url, Dir: dir, Machine: machine, Wait: lock.Forever, TTL: ttl, Grace: grace, For: time.Until(end)})
		all.Go(func() {
			for line := range k.lines {
				switch line {
				case "in":
					in.Add(1)
				case "away":
					away.Add(1)
				case "lost":
					lost.Add(1)
				default:
					overlaps.Add(1)
					t.Error(line)
				}
			}
		})
		return k
	}
	children := make([]*child, n)
	for i := range children {
		children[i] = start(i)
	}
	rest.Go(func() { disturb(over) })
	for time.Now().Before(end) {
		time.Sleep(min(time.Until(end), every/2+rand.N(every)))
		if time.Until(end) < 100*time.Millisecond {
			break
		}
		i := rand.N(n)
		children[i].kill()
		kills.Add(1)
		children[i] = start(i)
	}
	time.Sleep(time.Until(end))
	close(over)
	rest.Wait()
	all.Wait()
	count := int64(counted(dir, "count"))
	t.Logf("%d times inside, %d killed, %d lost, %d times no server, %d overlaps", count, kills.Load(), lost.Load(), away.Load(), overlaps.Load())
	require.Zero(t, overlaps.Load())
	if *stormTime >= 20*time.Second {
		require.Positive(t, count)
	}
	require.LessOrEqual(t, in.Load(), count, "an increment was overwritten")
	require.GreaterOrEqual(t, in.Load()+kills.Load(), count)
}

func calm(over <-chan struct{}) { <-over }

// pause waits; it is false when the storm is over.
func pause(over <-chan struct{}, d time.Duration) bool {
	select {
	case <-over:
		return false
	case <-time.After(d):
		return true
	}
}

func TestStormOfKills(t *testing.T) {
	storm(t, serve(t).url("storm"), 16, time.Second, calm)
}

func TestStormOfRestarts(t *testing.T) {
	s := serve(t)
	storm(t, s.url("storm"), 8, 2*time.Second, func(over <-chan struct{}) {
		for pause(over, 500*time.Millisecond+rand.N(3*time.Second)) {
			if rand.N(2) == 0 {
				s.kill()
				pause(over, rand.N(5*time.Second))
				s.start(t)
			} else {
				s.signal(syscall.SIGSTOP)
				pause(over, rand.N(7*time.Second))
				s.signal(syscall.SIGCONT)
			}
		}
	})
}

// One of three members is away at any time.
func TestStormInACluster(t *testing.T) {
	all := cluster(t, 3)
	storm(t, clusterURL(all, "storm"), 8, 3*time.Second, func(over <-chan struct{}) {
		for goes := true; goes; {
			s := all[rand.N(3)]
			if rand.N(2) == 0 {
				s.kill()
				goes = pause(over, time.Second)
				s.start(t)
			} else {
				s.signal(syscall.SIGSTOP)
				goes = pause(over, time.Second)
				s.signal(syscall.SIGCONT)
			}
			goes = goes && pause(over, time.Second)
		}
	})
}
