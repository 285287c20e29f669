package etcd_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/remote/etcd"
)

func leases(t testing.TB, s *server) int {
	t.Helper()
	r, err := s.direct(t).Leases(context.Background())
	require.NoError(t, err)
	return len(r.Leases)
}

// Whoever came first goes first, and each has a greater number than the one before.
func TestOrder(t *testing.T) {
	s := serve(t)
	h := get(t, request(s.url("order")))
	require.False(t, h.Waited())
	var waiters []*waiter
	for range 10 {
		waiters = append(waiters, wait(t, s, "order", request(s.url("order"))))
	}
	for _, w := range waiters {
		w.waits(t, 0)
		require.NoError(t, h.Release())
		next := w.gets(t)
		require.Greater(t, next.Token(), h.Token())
		require.True(t, next.Waited())
		h = next
	}
	require.NoError(t, h.Release())
	require.Empty(t, keys(t, s.direct(t), "order"))
	require.Zero(t, leases(t, s))
}

// Readers are together, but none overtakes a writer who waits; all numbers are different, and grow.
func TestReadersAndWriters(t *testing.T) {
	s := serve(t)
	url := s.url("rw")
	a, b := get(t, shared(request(url))), get(t, shared(request(url)))
	require.Greater(t, b.Token(), a.Token())
	w := wait(t, s, "rw", request(url))
	c := wait(t, s, "rw", shared(request(url)))
	d := wait(t, s, "rw", shared(request(url)))
	_, err := etcd.Engine.Acquire(bounded(t), shared(noWait(url)))
	require.ErrorIs(t, err, lock.ErrHeld)
	require.NoError(t, a.Release())
	w.waits(t, 100*time.Millisecond)
	c.waits(t, 0)
	require.NoError(t, b.Release())
	wh := w.gets(t)
	require.Greater(t, wh.Token(), b.Token())
	c.waits(t, 100*time.Millisecond)
	d.waits(t, 0)
	require.NoError(t, wh.Release())
	ch, dh := c.gets(t), d.gets(t)
	require.Greater(t, ch.Token(), wh.Token())
	require.Greater(t, dh.Token(), wh.Token())
	require.NotEqual(t, ch.Token(), dh.Token())
	last := wait(t, s, "rw", request(url))
	require.NoError(t, ch.Release())
	last.waits(t, 100*time.Millisecond)
	require.NoError(t, dh.Release())
	require.Greater(t, last.gets(t).Token(), max(ch.Token(), dh.Token()))
}

func TestNoWaitLeavesNoTrace(t *testing.T) {
	s := serve(t)
	h := get(t, request(s.url("n")))
	for _, r := range []lock.EngineRequest{noWait(s.url("n")), shared(noWait(s.url("n")))} {
		_, err := etcd.Engine.Acquire(bounded(t), r)
		require.ErrorIs(t, err, lock.ErrHeld)
		require.Len(t, keys(t, s.direct(t), "n"), 1)
		require.Equal(t, 1, leases(t, s))
	}
	require.NoError(t, h.Release())
	require.NoError(t, get(t, noWait(s.url("n"))).Release())
}

func TestGivingUpLeavesNoTrace(t *testing.T) {
	s := serve(t)
	h := get(t, request(s.url("k")))
	w := wait(t, s, "k", request(s.url("k")))
	behind := wait(t, s, "k", request(s.url("k")))
	w.stop()
	require.ErrorIs(t, <-w.err, context.Canceled)
	require.Len(t, keys(t, s.direct(t), "k"), 2)
	require.Equal(t, 2, leases(t, s))
	behind.waits(t, 50*time.Millisecond)
	require.NoError(t, h.Release())
	behind.gets(t)

	ctx, stop := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer stop()
	_, err := etcd.Engine.Acquire(ctx, request(s.url("k")))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Len(t, keys(t, s.direct(t), "k"), 1)
}

// A lock's name may begin with another one's.
func TestNamesBelowNames(t *testing.T) {
	s := serve(t)
	for _, name := range []string{"a/b", "a", "a/b/c", "a/c", "ab"} {
		h, err := etcd.Engine.Acquire(bounded(t), noWait(s.url(name)))
		require.NoError(t, err, name)
		t.Cleanup(func() { _ = h.Release() })
	}
}

// A waiter whose key is deleted, as when its lease has run out, queues anew.
func TestWaiterQueuesAnew(t *testing.T) {
	s := serve(t)
	c := s.direct(t)
	h := get(t, request(s.url("anew")))
	first := wait(t, s, "anew", request(s.url("anew")))
	second := wait(t, s, "anew", request(s.url("anew")))
	_, err := c.Delete(context.Background(), keys(t, c, "anew")[1])
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(keys(t, c, "anew")) == 3 }, patience, 10*time.Millisecond)
	require.NoError(t, h.Release())
	sh := second.gets(t)
	first.waits(t, 50*time.Millisecond)
	require.NoError(t, sh.Release())
	require.Greater(t, first.gets(t).Token(), sh.Token())
}

// What was to be told about the one before may have been compacted when it is to be told.
func TestCompactionDuringAWait(t *testing.T) {
	s := serve(t)
	c := s.direct(t)
	h := get(t, request(s.url("old")))
	w := wait(t, s, "old", request(s.url("old")))
	compact := func() {
		r, err := c.Put(context.Background(), "other", "x")
		require.NoError(t, err)
		_, err = c.Compact(context.Background(), r.Header.Revision, clientv3.WithCompactPhysical())
		require.NoError(t, err)
	}
	compact()
	s.kill()
	s.start(t)
	s.await(t)
	compact()
	w.waits(t, 500*time.Millisecond)
	require.NoError(t, h.Release())
	compact()
	w.gets(t)
}

func TestInspect(t *testing.T) {
	s := serve(t)
	url := s.url("who")
	r, err := etcd.Engine.Inspect(bounded(t), url)
	require.NoError(t, err)
	require.Equal(t, lock.StateFree, r.State)
	require.Nil(t, r.Holder)

	h := get(t, request(url))
	other := shared(request(url))
	other.Holder.PID, other.Holder.Process = 4711, "reader"
	w := wait(t, s, "who", other)
	v := wait(t, s, "who", shared(request(url)))
	r, err = etcd.Engine.Inspect(bounded(t), url)
	require.NoError(t, err)
	require.Equal(t, lock.StateHeld, r.State)
	want := request(url).Holder
	want.Dblock, want.Token, want.Acquired = true, h.Token(), r.Holder.Acquired
	require.Equal(t, want, *r.Holder)
	require.WithinDuration(t, time.Now(), r.Holder.Acquired, patience)
	require.NotEmpty(t, r.ID)
	require.Contains(t, r.Evidence, "lease")
	require.Len(t, r.Waiters, 2)
	require.Equal(t, 4711, r.Waiters[0].PID)
	require.Equal(t, "reader", r.Waiters[0].Process)
	require.Equal(t, lock.Shared, r.Waiters[0].Mode)

	require.NoError(t, h.Release())
	wh, vh := w.gets(t), v.gets(t)
	wait(t, s, "who", request(url))
	r, err = etcd.Engine.Inspect(bounded(t), url)
	require.NoError(t, err)
	require.Equal(t, lock.StateShared, r.State)
	require.Equal(t, wh.Token(), r.Holder.Token)
	require.Len(t, r.Readers, 2)
	require.Len(t, r.Waiters, 1)
	require.NoError(t, vh.Release())

	// One who had to wait tells that he holds it a moment later.
	x := get(t, request(s.url("x")))
	y := wait(t, s, "x", request(s.url("x")))
	require.NoError(t, x.Release())
	yh := y.gets(t)
	require.Eventually(t, func() bool {
		r, err := etcd.Engine.Inspect(bounded(t), s.url("x"))
		return err == nil && r.Holder.Token == yh.Token() && !r.Holder.Acquired.IsZero()
	}, patience, 10*time.Millisecond)
}

// A lock that is broken passes on when what has worked under it has ended, and its holder has given it back.
func TestBreak(t *testing.T) {
	s := serve(t)
	url := s.url("b")
	for _, watched := range []bool{false, true} {
		h := get(t, request(url))
		w := wait(t, s, "b", request(url))
		if watched {
			s.watched(t, 2) // by the holder, and by who waits
		}
		r, err := etcd.Engine.Inspect(bounded(t), url)
		require.NoError(t, err)
		done := make(chan error)
		begun := time.Now()
		go func() { done <- etcd.Engine.Break(context.Background(), url, r.ID) }()
		why, at := loses(t, h)
		require.Less(t, at.Sub(begun), 500*time.Millisecond)
		require.Equal(t, "somebody took it away by force", why)
		w.waits(t, grace)
		require.ErrorContains(t, h.Release(), "by force")
		next := w.gets(t)
		require.NoError(t, <-done)
		require.Less(t, time.Since(begun), grace+time.Second)
		// It is somebody else's by now.
		require.NoError(t, etcd.Engine.Break(bounded(t), url, r.ID))
		renews(t, next, 1) // it would read that in its key
		keeps(t, next)
		require.NoError(t, next.Release())
	}
	var misuse *lock.EngineError
	require.ErrorAs(t, etcd.Engine.Break(bounded(t), url, "x"), &misuse)
}

// Readers are ended together.
func TestBreakOfReaders(t *testing.T) {
	s := serve(t)
	url := s.url("r")
	a, b := get(t, shared(request(url))), get(t, shared(request(url)))
	r, err := etcd.Engine.Inspect(bounded(t), url)
	require.NoError(t, err)
	done := make(chan error)
	go func() { done <- etcd.Engine.Break(bounded(t), url, r.ID) }()
	for _, h := range []lock.EngineHold{a, b} {
		loses(t, h)
		require.ErrorContains(t, h.Release(), "by force")
	}
	require.NoError(t, <-done)
}

// One who does not obey is not waited for.
func TestBreakOfADeafHolder(t *testing.T) {
	s := serve(t)
	url := s.url("b")
	for _, ctx := range []time.Duration{patience, 2 * time.Second} {
		h := get(t, request(url))
		w := wait(t, s, "b", request(url))
		r, err := etcd.Engine.Inspect(bounded(t), url)
		require.NoError(t, err)
		limited, stop := context.WithTimeout(context.Background(), ctx)
		begun := time.Now()
		require.NoError(t, etcd.Engine.Break(limited, url, r.ID))
		stop()
		require.InDelta(t, min(grace+2*time.Second, ctx-time.Second).Seconds(), time.Since(begun).Seconds(), 0.7)
		next := w.gets(t)
		require.Error(t, h.Release())
		keeps(t, next)
		require.NoError(t, next.Release())
	}
}

// The second of two who delete one key has deleted nothing of a successor's.
func TestReleaseTakesNothingOfASuccessor(t *testing.T) {
	s := serve(t)
	url := s.url("c")
	h := get(t, request(url))
	c := s.direct(t)
	_, err := c.Delete(context.Background(), keys(t, c, "c")[0])
	require.NoError(t, err)
	next := get(t, request(url))
	require.Error(t, h.Release())
	require.Error(t, h.Release(), "the same again")
	require.Len(t, keys(t, s.direct(t), "c"), 1)
	keeps(t, next)
	require.NoError(t, next.Release())
}

func TestNothingIsLeft(t *testing.T) {
	s := serve(t)
	require.NoError(t, get(t, request(s.url("first"))).Release())
	before := runtime.NumGoroutine()
	for i := range 5 {
		h := get(t, request(s.url(fmt.Sprint("x", i))))
		s.watched(t, 1)
		require.NoError(t, h.Release())
		ctx, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
		holder := get(t, request(s.url("held")))
		_, err := etcd.Engine.Acquire(ctx, request(s.url("held")))
		require.Error(t, err)
		require.NoError(t, holder.Release())
		stop()
	}
	// Not in a goroutine, which would be one more.
	for end := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		require.True(t, time.Now().Before(end), "goroutines are left")
	}
}

// What is prepared keeps nobody out.
func TestPrepared(t *testing.T) {
	s := serve(t)
	url := s.url("prepared")
	h := get(t, request(url))
	machine(t) // the holder is on another one
	p := etcd.Engine.Prepare(request(url))
	require.Eventually(t, func() bool { return leases(t, s) == 2 }, patience, 10*time.Millisecond)
	require.Len(t, keys(t, s.direct(t), "prepared"), 1)
	require.NoError(t, h.Release())
	require.NoError(t, get(t, request(url)).Release())
	next, err := p.Acquire(bounded(t))
	require.NoError(t, err)
	next = tidied(t, next)
	require.Equal(t, 1, leases(t, s), "it is that one")
	_, err = etcd.Engine.Acquire(bounded(t), noWait(url))
	require.ErrorIs(t, err, lock.ErrHeld)
	require.NoError(t, next.Release())

	before := runtime.NumGoroutine()
	etcd.Engine.Prepare(request(url)).Drop()
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, time.Minute, time.Millisecond) // and that of Eventually

	ctx, stop := context.WithCancel(context.Background())
	stop()
	_, err = etcd.Engine.Prepare(request("etcd://127.0.0.1:1/nobody")).Acquire(ctx)
	require.Equal(t, context.Canceled, err)
	var failed *lock.EngineError
	ctx, stop = context.WithTimeout(context.Background(), time.Second)
	defer stop()
	_, err = etcd.Engine.Prepare(request("etcd://127.0.0.1:1/nobody")).Acquire(ctx)
	require.ErrorAs(t, err, &failed)
	require.Zero(t, leases(t, s))

	// What was prepared is of no use any more.
	p = etcd.Engine.Prepare(request(url))
	require.Eventually(t, func() bool { return leases(t, s) == 1 }, patience, 10*time.Millisecond)
	all, err := s.direct(t).Leases(context.Background())
	require.NoError(t, err)
	_, err = s.direct(t).Revoke(context.Background(), all.Leases[0].ID)
	require.NoError(t, err)
	next, err = p.Acquire(bounded(t))
	require.NoError(t, err)
	require.NoError(t, next.Check())
	require.NoError(t, tidied(t, next).Release())
	require.Zero(t, leases(t, s))
}
