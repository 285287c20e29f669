package etcd_test

import (
	"context"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/remote/etcd"
)

const ttl = 5 * time.Second // of request

// A killed holder's lock passes on when its lease has run out, and not before.
func TestKilledHolder(t *testing.T) {
	s := serve(t)
	url := s.url("killed")
	k := spawn(t, "hold", config{URL: url, TTL: ttl, Grace: grace})
	token, err := strconv.ParseInt(k.says(t, "held"), 10, 64)
	require.NoError(t, err)
	w := wait(t, s, "killed", request(url))
	w.waits(t, ttl+time.Second) // it was renewed
	killed := time.Now()
	k.kill()
	w.waits(t, ttl-2*time.Second)
	h := w.gets(t)
	require.Less(t, time.Since(killed), ttl+3*time.Second)
	require.Greater(t, h.Token(), token)
}

// A hold lasts for as long as it is wanted: longer than a lease.
func TestRenewal(t *testing.T) {
	s := serve(t)
	h := get(t, request(s.url("r")))
	w := wait(t, s, "r", request(s.url("r")))
	w.waits(t, 2*ttl)
	keeps(t, h)
	require.NoError(t, h.Release())
	w.gets(t)
}

func TestRevokedLease(t *testing.T) {
	s := serve(t)
	c := s.direct(t)
	for _, watched := range []bool{false, true} {
		h := get(t, request(s.url("v")))
		if watched {
			s.watched(t, 1)
		}
		r, err := c.Get(context.Background(), "/dblock/v//", clientv3.WithPrefix())
		require.NoError(t, err)
		begun := time.Now()
		_, err = c.Revoke(context.Background(), clientv3.LeaseID(r.Kvs[0].Lease))
		require.NoError(t, err)
		why, at := loses(t, h)
		require.Less(t, at.Sub(begun), 500*time.Millisecond)
		require.Contains(t, why, "revoked")
		require.ErrorContains(t, h.Release(), "revoked")
	}
}

// whenLost requires that a hold is lost in time for its command to end, with the server silent
// from now on, but not long before it has to be.
func whenLost(t *testing.T, h lock.EngineHold, says string) {
	t.Helper()
	begun := time.Now()
	why, at := loses(t, h)
	after := at.Sub(begun)
	require.Less(t, after, ttl-grace, "somebody else may have it before the command has ended")
	require.Greater(t, after, (ttl-grace)/2, "too early")
	require.Contains(t, why, says)
	begun = time.Now()
	require.Error(t, h.Release())
	require.Less(t, time.Since(begun), 6*time.Second)
}

func TestStoppedServer(t *testing.T) {
	s := serve(t)
	h := get(t, request(s.url("z")))
	renews(t, h, 1)
	s.signal(syscall.SIGSTOP)
	whenLost(t, h, "does not answer")
}

func TestDeadServer(t *testing.T) {
	s := serve(t)
	h := get(t, request(s.url("z")))
	renews(t, h, 1)
	s.kill()
	whenLost(t, h, "connection refused")
}

func TestSwallowedPackets(t *testing.T) {
	s := serve(t)
	p := passOn(t, s.client)
	h := get(t, request(p.url("z")))
	w := wait(t, s, "z", request(s.url("z")))
	renews(t, h, 1)
	p.swallows.Store(true)
	// The other one gets it when the command had the time to end, not before.
	why, at := loses(t, h)
	require.Contains(t, why, "does not answer")
	w.waits(t, grace-100*time.Millisecond)
	w.gets(t)
	require.Greater(t, time.Since(at), grace)
}

// A server that is back soon has cost nobody anything.
func TestRestartedServer(t *testing.T) {
	s := serve(t)
	h := get(t, request(s.url("again")))
	w := wait(t, s, "again", request(s.url("again")))
	v := wait(t, s, "again", request(s.url("again")))
	for range 2 {
		s.kill()
		s.start(t)
		s.await(t)
		renews(t, h, 3)
		keeps(t, h)
	}
	w.waits(t, 0)
	require.NoError(t, h.Release())
	wh := w.gets(t)
	v.waits(t, 0)
	require.NoError(t, wh.Release())
	v.gets(t)
}

// A wait goes on when the server was away for longer than a lease lasts.
func TestServerAwayDuringAWait(t *testing.T) {
	s := serve(t)
	h := get(t, request(s.url("away")))
	w := wait(t, s, "away", request(s.url("away")))
	s.kill()
	_, _ = loses(t, h)
	w.waits(t, ttl)
	s.start(t)
	s.await(t)
	// The server lets all leases begin anew, and who has lost the lock keeps it while his command ends.
	w.waits(t, ttl)
	require.Error(t, h.Release())
	w.gets(t)
}

// The first thing that one finds who was stopped for longer than the lease is that it is lost.
func TestStoppedHolder(t *testing.T) {
	s := serve(t)
	url := s.url("stopped")
	k := spawn(t, "hold", config{URL: url, TTL: ttl, Grace: grace})
	k.says(t, "held")
	require.NoError(t, k.cmd.Process.Signal(syscall.SIGSTOP))
	h := get(t, request(url))
	require.NoError(t, k.cmd.Process.Signal(syscall.SIGCONT))
	begun := time.Now()
	k.says(t, "lost")
	require.Less(t, time.Since(begun), time.Second)
	require.NoError(t, k.in.Close())
	require.True(t, strings.Contains(k.says(t, "released"), "lost"))
	keeps(t, h)
}

// Check finds that without any help: nothing else of the process has run yet.
func TestCheckAfterAStop(t *testing.T) {
	s := serve(t)
	url := s.url("stopped")
	k := spawn(t, "check", config{URL: url, TTL: ttl, Grace: grace})
	k.says(t, "held")
	require.NoError(t, k.cmd.Process.Signal(syscall.SIGSTOP))
	get(t, request(url))
	require.NoError(t, k.cmd.Process.Signal(syscall.SIGCONT))
	require.Contains(t, k.says(t, "check"), "stopped")
}

func TestGraceAndLease(t *testing.T) {
	for _, c := range []struct {
		ttl, grace time.Duration
		ok         bool
	}{
		{0, 0, true}, {0, 10 * time.Second, true}, {0, time.Minute, true}, {15 * time.Second, 11 * time.Second, true}, {0, -1, true},
		{15 * time.Second, 12 * time.Second, false}, {3 * time.Second, 0, false}, {0, lock.Forever, false}, {time.Hour, lock.Forever, false},
	} {
		r := noWait("etcd://127.0.0.1:1/x")
		r.TTL, r.Grace = c.ttl, c.grace
		_, err := etcd.Engine.Acquire(bounded(t), r)
		var e *lock.EngineError
		require.ErrorAs(t, err, &e)
		require.Equal(t, !c.ok, e.Misuse, "%v: %v", c, err)
	}
}

// A key that was deleted before anybody watched it is missed when the lock is given back.
func TestDeletedUnseen(t *testing.T) {
	s := serve(t)
	c := s.direct(t)
	h := get(t, request(s.url("u")))
	_, err := c.Delete(context.Background(), "/dblock/u//", clientv3.WithPrefix())
	require.NoError(t, err)
	require.ErrorContains(t, h.Release(), "its key in etcd has gone")
}

// A wait that ends while no server answers tells that, and soon.
func TestWaitEndsWithoutAServer(t *testing.T) {
	s := serve(t)
	h := get(t, request(s.url("away")))
	w := wait(t, s, "away", request(s.url("away")))
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
	defer stop()
	asked := make(chan error, 1)
	go func() {
		_, err := etcd.Engine.Acquire(ctx, request(s.url("away")))
		asked <- err
	}()
	queued(t, s, "away", 3)
	s.signal(syscall.SIGSTOP)
	<-ctx.Done()
	ended := time.Now()
	var failed *lock.EngineError
	require.ErrorAs(t, <-asked, &failed)
	require.Less(t, time.Since(ended), 5*time.Second)
	s.signal(syscall.SIGCONT)
	w.stop()
	_ = h.Release()
}
