package etcd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/remote/etcd"
)

// childStandby is the next one of a machine until it is killed.
func childStandby(c config) int {
	r := request(c.URL)
	r.TTL = time.Hour
	etcd.Engine.Prepare(r)
	select {}
}

// queued waits until a queue is that long.
func queued(t testing.TB, s *server, name string, long int) []string {
	t.Helper()
	c := s.direct(t)
	require.Eventually(t, func() bool { return len(keys(t, c, name)) == long }, patience, 5*time.Millisecond)
	return keys(t, c, name)
}

// standby waits until what was prepared is the second one in the queue behind the first.
func standby(t testing.TB, s *server, name string) lock.Prepared {
	t.Helper()
	p := etcd.Engine.Prepare(request(s.url(name)))
	queued(t, s, name, 2)
	return p
}

// called asks for what was prepared.
func called(t testing.TB, p lock.Prepared) *waiter {
	t.Helper()
	w := &waiter{got: make(chan lock.EngineHold, 1), err: make(chan error, 1)}
	ctx := bounded(t)
	go func() {
		h, err := p.Acquire(ctx)
		if err != nil {
			w.err <- err
			return
		}
		w.got <- h
	}()
	return w
}

// The next one of the holder's machine is in the queue already.
func TestStandsBy(t *testing.T) {
	s := serve(t)
	url := s.url("standby")
	h := get(t, request(url))
	p := standby(t, s, "standby")
	key := keys(t, s.direct(t), "standby")[1]
	w := wait(t, s, "standby", request(url))
	r, err := etcd.Engine.Inspect(bounded(t), url)
	require.NoError(t, err)
	require.Len(t, r.Waiters, 2)
	c := called(t, p)
	c.waits(t, 50*time.Millisecond)
	require.NoError(t, h.Release())
	next := c.gets(t)
	require.NoError(t, next.Check())
	require.Greater(t, next.Token(), h.Token())
	require.Equal(t, key, keys(t, s.direct(t), "standby")[0], "it is that key")
	w.waits(t, 50*time.Millisecond)
	renews(t, next, 2)
	keeps(t, next)
	require.Nil(t, inQueue(t, s, "standby")[0]["standby"], "it tells that it holds the lock")
	require.NoError(t, next.Release())
	require.Greater(t, w.gets(t).Token(), next.Token())
}

// inQueue is what the keys of a queue tell.
func inQueue(t testing.TB, s *server, name string) (all []map[string]any) {
	t.Helper()
	c := s.direct(t)
	for _, key := range keys(t, c, name) {
		r, err := c.Get(bounded(t), key)
		require.NoError(t, err)
		require.Len(t, r.Kvs, 1)
		v := map[string]any{}
		require.NoError(t, json.Unmarshal(r.Kvs[0].Value, &v))
		all = append(all, v)
	}
	return all
}

// It may be its turn there before it is on its machine, or after.
func TestStandsByInEitherOrder(t *testing.T) {
	s := serve(t)
	etcd.Unwanted(t, time.Minute)
	for _, first := range []bool{true, false} {
		h := get(t, request(s.url("order")))
		p := standby(t, s, "order")
		var c *waiter
		if first {
			c = called(t, p)
			c.waits(t, 50*time.Millisecond)
		}
		require.NoError(t, h.Release())
		if !first {
			_, err := etcd.Engine.Acquire(bounded(t), noWait(s.url("order")))
			require.ErrorIs(t, err, lock.ErrHeld)
			c = called(t, p)
		}
		next := c.gets(t)
		require.NoError(t, next.Check())
		require.NoError(t, next.Release())
	}
	require.Zero(t, leases(t, s))
}

// One who is not wanted on its machine leaves the queue to others, and does without.
func TestStandsByInVain(t *testing.T) {
	s := serve(t)
	h := get(t, request(s.url("vain")))
	p := standby(t, s, "vain")
	w := wait(t, s, "vain", request(s.url("vain")))
	require.NoError(t, h.Release())
	wh := w.gets(t)
	c := called(t, p)
	queued(t, s, "vain", 2)
	require.NoError(t, wh.Release())
	require.Greater(t, c.gets(t).Token(), wh.Token())
}

// A place in the queue is given up before the process may end, also by one who was called.
func TestStandsByNoMore(t *testing.T) {
	s := serve(t)
	get(t, request(s.url("dropped")))
	p := standby(t, s, "dropped")
	p.Drop()
	require.Len(t, keys(t, s.direct(t), "dropped"), 1)
	require.Equal(t, 1, leases(t, s))

	p = standby(t, s, "dropped")
	ctx, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer stop()
	_, err := p.Acquire(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Len(t, keys(t, s.direct(t), "dropped"), 1)
	require.Equal(t, 1, leases(t, s))
}

// Who has stood by and was killed is waited for by nobody.
func TestStandsByAndIsKilled(t *testing.T) {
	s := serve(t)
	// long is a lease that is not renewed in this test.
	killed := func(t *testing.T, name string, ttl time.Duration) (h lock.EngineHold, key string, r lock.EngineRequest) {
		r = request(s.url(name))
		r.TTL = ttl
		h = get(t, r)
		k := spawn(t, "standby", config{URL: r.URL, Machine: os.Getenv("XDG_STATE_HOME")})
		key = queued(t, s, name, 2)[1]
		require.NoError(t, k.cmd.Process.Kill()) // it is not waited for, and so is a zombie
		t.Cleanup(k.kill)
		require.Eventually(t, func() bool {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", k.cmd.Process.Pid))
			return err != nil || strings.Contains(string(text), ") Z ")
		}, patience, time.Millisecond)
		return h, key, r
	}
	t.Run("the next one takes its place", func(t *testing.T) {
		h, left, r := killed(t, "next", time.Hour)
		p := etcd.Engine.Prepare(r)
		require.Eventually(t, func() bool {
			queue := keys(t, s.direct(t), "next")
			return len(queue) == 2 && queue[1] != left
		}, patience, 5*time.Millisecond)
		c := called(t, p)
		require.NoError(t, h.Release())
		c.gets(t)
	})
	t.Run("the holder notices", func(t *testing.T) {
		killed(t, "holder", 5*time.Second)
		queued(t, s, "holder", 1)
	})
	t.Run("the one after it does", func(t *testing.T) {
		h, _, r := killed(t, "after", time.Hour)
		require.NoError(t, h.Release())
		require.Len(t, keys(t, s.direct(t), "after"), 1)
		require.NoError(t, get(t, r).Release())
		h, _, r = killed(t, "after", time.Hour)
		require.NoError(t, h.Release())
		r.NoWait = true
		get(t, r)
	})
	t.Run("a holder is another matter", func(t *testing.T) {
		k := spawn(t, "hold", config{URL: s.url("holds"), Machine: os.Getenv("XDG_STATE_HOME"), TTL: time.Hour, Grace: grace})
		k.says(t, "held")
		k.kill()
		_, err := etcd.Engine.Acquire(bounded(t), noWait(s.url("holds")))
		require.ErrorIs(t, err, lock.ErrHeld, "what worked under it may go on")
	})
	t.Run("on another machine it is unknown", func(t *testing.T) {
		h, _, r := killed(t, "elsewhere", time.Hour)
		require.NoError(t, h.Release())
		machine(t)
		r.NoWait = true
		_, err := etcd.Engine.Acquire(bounded(t), r)
		require.ErrorIs(t, err, lock.ErrHeld)
	})
}

// Whoever has another one before it on its machine than the first one of the queue would be in that one's way.
func TestDoesNotStandBy(t *testing.T) {
	s := serve(t)
	for name, c := range map[string]struct{ holder, next lock.Mode }{
		"elsewhere": {lock.Exclusive, lock.Exclusive}, "reader": {lock.Exclusive, lock.Shared}, "readers": {lock.Shared, lock.Exclusive},
	} {
		holder, next := request(s.url(name)), request(s.url(name))
		holder.Mode, next.Mode = c.holder, c.next
		t.Run(name, func(t *testing.T) {
			require.Eventually(t, func() bool { return leases(t, s) == 0 }, patience, 5*time.Millisecond)
			h := get(t, holder)
			if name == "elsewhere" {
				machine(t)
			}
			p := etcd.Engine.Prepare(next)
			defer p.Drop()
			require.Eventually(t, func() bool { return leases(t, s) == 2 }, patience, 5*time.Millisecond)
			require.Never(t, func() bool { return len(keys(t, s.direct(t), name)) > 1 }, 200*time.Millisecond, 20*time.Millisecond)
			require.NoError(t, h.Release())
		})
	}
}

// Nobody stands behind one who has gone: others may have come meanwhile.
func TestStandsBehindTheFirst(t *testing.T) {
	s := serve(t)
	h := get(t, request(s.url("behind")))
	r, err := s.direct(t).Get(bounded(t), keys(t, s.direct(t), "behind")[0])
	require.NoError(t, err)
	key, create := string(r.Kvs[0].Key), r.Kvs[0].CreateRevision
	for _, there := range []bool{true, false} {
		entered, err := etcd.EnterBehind(bounded(t), request(s.url("behind")), key, create)
		require.NoError(t, err)
		require.Equal(t, there, entered)
		require.NoError(t, h.Release())
	}
}

// Whoever hears that the one before it has gone has the lock only if its own key was there then.
func TestTurnWithoutAKey(t *testing.T) {
	s := serve(t)
	c := s.direct(t)
	get(t, request(s.url("turn")))
	w := wait(t, s, "turn", request(s.url("turn")))
	s.watched(t, 2)
	var both []clientv3.Op
	for _, key := range keys(t, c, "turn") {
		both = append(both, clientv3.OpDelete(key))
	}
	r, err := c.Txn(context.Background()).Then(both...).Commit()
	require.NoError(t, err)
	h := w.gets(t)
	require.Len(t, keys(t, c, "turn"), 1, "it has queued anew")
	require.Greater(t, h.Token(), r.Header.Revision)
	keeps(t, h)
}
