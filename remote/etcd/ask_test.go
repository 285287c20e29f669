package etcd_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/remote/etcd"
)

const grace = time.Second

// request asks for an exclusive lock, as another machine would. It may end within a second.
func request(url string) lock.EngineRequest {
	return lock.EngineRequest{URL: url, TTL: 5 * time.Second, Grace: grace, Holder: lock.Holder{
		PID: os.Getpid(), Host: "here", Process: "test", Command: "work", Info: "why", UID: 7,
	}}
}

func noWait(url string) lock.EngineRequest { r := request(url); r.NoWait = true; return r }

func shared(r lock.EngineRequest) lock.EngineRequest { r.Mode = lock.Shared; return r }

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), patience)
	t.Cleanup(stop)
	return ctx
}

// get acquires a lock in this process.
func get(t testing.TB, r lock.EngineRequest) lock.EngineHold {
	t.Helper()
	h, err := etcd.Engine.Acquire(bounded(t), r)
	require.NoError(t, err)
	return tidied(t, h)
}

// tidy is a hold that leaves nothing behind when it is released.
type tidy struct{ lock.EngineHold }

func (h tidy) Release() error {
	defer h.Settle(false)
	return h.EngineHold.Release()
}

func tidied(t testing.TB, h lock.EngineHold) lock.EngineHold {
	t.Helper()
	h = tidy{h}
	t.Cleanup(func() { _ = h.Release() })
	return h
}

// waiter is somebody who waits.
type waiter struct {
	stop context.CancelFunc
	got  chan lock.EngineHold
	err  chan error
}

// wait asks, and returns when the request is in the queue, behind those that were there.
func wait(t testing.TB, s *server, name string, r lock.EngineRequest) *waiter {
	t.Helper()
	c := s.direct(t)
	before := len(keys(t, c, name))
	ctx, stop := context.WithTimeout(context.Background(), 2*patience)
	w := &waiter{stop: stop, got: make(chan lock.EngineHold, 1), err: make(chan error, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h, err := etcd.Engine.Acquire(ctx, r)
		if err != nil {
			w.err <- err
			return
		}
		w.got <- h
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		select {
		case h := <-w.got:
			_ = tidy{h}.Release()
		default:
		}
	})
	require.Eventually(t, func() bool { return len(keys(t, c, name)) > before }, patience, time.Millisecond)
	return w
}

func (w *waiter) gets(t testing.TB) lock.EngineHold {
	t.Helper()
	select {
	case h := <-w.got:
		return tidied(t, h)
	case err := <-w.err:
		t.Fatal(err)
	case <-time.After(patience):
		t.Fatal("it does not get the lock")
	}
	return nil
}

// waits requires that it waits on for a moment.
func (w *waiter) waits(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-w.got:
		t.Fatal("it has the lock")
	case err := <-w.err:
		t.Fatal(err)
	case <-time.After(d):
	}
}

// loses requires that a hold is lost, and returns why and when.
func loses(t testing.TB, h lock.EngineHold) (string, time.Time) {
	t.Helper()
	select {
	case <-h.Lost():
	case <-time.After(patience):
		t.Fatal("the loss is not noticed")
	}
	at := time.Now()
	require.Error(t, h.Err())
	require.Equal(t, h.Err(), h.Check())
	return h.Err().Error(), at
}

// renews waits until the lease of a hold was renewed so often from now on.
func renews(t testing.TB, h lock.EngineHold, times int) {
	t.Helper()
	h = h.(tidy).EngineHold
	for range times {
		have := etcd.Until(h)
		require.Eventually(t, func() bool { return etcd.Until(h) > have }, patience, 5*time.Millisecond)
	}
}

func keeps(t testing.TB, h lock.EngineHold) {
	t.Helper()
	require.NoError(t, h.Check())
	require.NoError(t, h.Err())
	select {
	case <-h.Lost():
		t.Fatal("it says that it was lost")
	default:
	}
}
