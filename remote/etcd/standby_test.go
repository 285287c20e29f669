package etcd_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/remote/etcd"
)

// childStandby is the next one of a machine until it is killed.
func childStandby(c config) int {
	etcd.Engine.Prepare(request(c.URL))
	select {}
}

// queued waits until a queue is that long.
func queued(t testing.TB, s *server, name string, long int) []string {
	t.Helper()
	c := s.direct(t)
	require.Eventually(t, func() bool { return len(keys(t, c, name)) == long }, patience, 5*time.Millisecond)
	return keys(t, c, name)
}

// The next one of the holder's machine is in the queue already.
func TestStandsBy(t *testing.T) {
	s := serve(t)
	url := s.url("standby")
	h := get(t, request(url))
	p := etcd.Engine.Prepare(request(url))
	queue := queued(t, s, "standby", 2)
	w := wait(t, s, "standby", request(url))
	r, err := etcd.Engine.Inspect(bounded(t), url)
	require.NoError(t, err)
	require.Len(t, r.Waiters, 2)
	require.NoError(t, h.Release())
	next, err := p.Acquire(bounded(t))
	require.NoError(t, err)
	next = tidied(t, next)
	require.NoError(t, next.Check())
	require.Greater(t, next.Token(), h.Token())
	require.Equal(t, queue[1], keys(t, s.direct(t), "standby")[0], "it is that key")
	w.waits(t, 50*time.Millisecond)
	renews(t, next, 2)
	keeps(t, next)
	require.NoError(t, next.Release())
	require.Greater(t, w.gets(t).Token(), next.Token())
}

// It may be its turn there before it is wanted, and the other way round.
func TestStandsByInEitherOrder(t *testing.T) {
	s := serve(t)
	url := s.url("order")
	for range 5 {
		h := get(t, request(url))
		p := etcd.Engine.Prepare(request(url))
		queued(t, s, "order", 2)
		got := make(chan lock.EngineHold, 1)
		go func() {
			next, _ := p.Acquire(bounded(t))
			got <- next
		}()
		require.NoError(t, h.Release())
		next := <-got
		require.NotNil(t, next)
		require.NoError(t, next.Check())
		require.NoError(t, tidied(t, next).Release())
	}
	require.Zero(t, leases(t, s))
}

// One who is not wanted on its machine leaves the queue to others, and does without.
func TestStandsByInVain(t *testing.T) {
	s := serve(t)
	url := s.url("vain")
	h := get(t, request(url))
	p := etcd.Engine.Prepare(request(url))
	queued(t, s, "vain", 2)
	w := wait(t, s, "vain", request(url))
	require.NoError(t, h.Release())
	wh := w.gets(t)
	got := make(chan lock.EngineHold, 1)
	go func() {
		next, _ := p.Acquire(bounded(t))
		got <- next
	}()
	queued(t, s, "vain", 2)
	require.NoError(t, wh.Release())
	next := <-got
	require.NotNil(t, next)
	require.Greater(t, next.Token(), wh.Token())
	require.NoError(t, tidied(t, next).Release())
}

// A place in the queue is given up before the process may end.
func TestStandsByNoMore(t *testing.T) {
	s := serve(t)
	url := s.url("dropped")
	get(t, request(url))
	p := etcd.Engine.Prepare(request(url))
	queued(t, s, "dropped", 2)
	p.Drop()
	require.Len(t, keys(t, s.direct(t), "dropped"), 1)
	require.Equal(t, 1, leases(t, s))
}

// Whoever was killed is not waited for by those of its machine.
func TestStandsByForOneWhoWasKilled(t *testing.T) {
	s := serve(t)
	r := request(s.url("killed"))
	r.TTL = time.Hour
	h := get(t, r)
	k := spawn(t, "standby", config{URL: r.URL, Machine: os.Getenv("XDG_STATE_HOME")})
	left := queued(t, s, "killed", 2)[1]
	k.kill()
	p := etcd.Engine.Prepare(r)
	require.Eventually(t, func() bool {
		queue := keys(t, s.direct(t), "killed")
		return len(queue) == 2 && queue[1] != left
	}, patience, 5*time.Millisecond)
	require.NoError(t, h.Release())
	next, err := p.Acquire(bounded(t))
	require.NoError(t, err)
	require.NoError(t, tidied(t, next).Release())
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
			h := get(t, holder)
			if name == "elsewhere" {
				machine(t)
			}
			before := leases(t, s)
			p := etcd.Engine.Prepare(next)
			defer p.Drop()
			require.Eventually(t, func() bool { return leases(t, s) > before }, patience, 5*time.Millisecond)
			require.Never(t, func() bool { return len(keys(t, s.direct(t), name)) > 1 }, 200*time.Millisecond, 20*time.Millisecond)
			require.NoError(t, h.Release())
		})
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
