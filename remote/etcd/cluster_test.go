package etcd_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/remote/etcd"
)

func clusterURL(all []*server, name string) string { return "etcd://" + hosts(all) + "/" + name }

// leader is the index of the one that leads.
func leader(t testing.TB, all []*server) int {
	t.Helper()
	found := -1
	require.Eventually(t, func() bool {
		for i, s := range all {
			ctx, stop := context.WithTimeout(context.Background(), time.Second)
			r, err := s.direct(t).Status(ctx, s.client)
			stop()
			if err == nil && r.Leader != 0 && r.Header.MemberId == r.Leader {
				found = i
				return true
			}
		}
		return false
	}, patience, 100*time.Millisecond)
	return found
}

// Any one of three may be away, however it went, and the others go on at once.
func TestOneOfThreeIsAway(t *testing.T) {
	all := cluster(t, 3)
	h := get(t, request(clusterURL(all, "kept")))
	for i, s := range all {
		for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
			s.signal(sig)
			begun := time.Now()
			for range 3 {
				require.NoError(t, get(t, request(clusterURL(all, "other"))).Release())
			}
			t.Log(i, sig, time.Since(begun)) // an election takes two seconds
			require.Less(t, time.Since(begun), 12*time.Second)
			if sig == syscall.SIGKILL {
				<-s.ended
				s.start(t)
				s.await(t)
			}
			s.signal(syscall.SIGCONT)
			leader(t, all)
			renews(t, h, 2)
			keeps(t, h)
		}
	}
	require.NoError(t, h.Release())
}

// A server that was the leader and did not run answers at first as if it still were. That is not believed.
func TestAnswerOfAFormerLeader(t *testing.T) {
	all := cluster(t, 3)
	old := leader(t, all)
	h := get(t, request(all[old].url("former"))) // it knows no other
	renews(t, h, 1)
	all[old].signal(syscall.SIGSTOP)
	_, _ = loses(t, h)
	others := append(append([]*server(nil), all[:old]...), all[old+1:]...)
	next := get(t, request(clusterURL(others, "former")))
	all[old].signal(syscall.SIGCONT)
	renews(t, next, 2) // as often h has asked by then
	keeps(t, next)
	require.Error(t, h.Check())
	require.Error(t, h.Release())
	require.NoError(t, next.Check())
}

func TestNoQuorum(t *testing.T) {
	all := cluster(t, 3)
	url := clusterURL(all, "q")
	h := get(t, request(url))
	all[1].kill()
	all[2].kill()
	_, _ = loses(t, h)
	begun := time.Now()
	_, err := etcd.Engine.Acquire(bounded(t), noWait(url))
	require.Less(t, time.Since(begun), 11*time.Second)
	var e *lock.EngineError
	require.ErrorAs(t, err, &e)
	require.ErrorContains(t, e, "most of its members may be away")
	begun = time.Now()
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	_, err = etcd.Engine.Inspect(ctx, url)
	require.Less(t, time.Since(begun), 6*time.Second)
	require.ErrorAs(t, err, &e)
	t.Log(e)
	all[1].start(t)
	require.Error(t, h.Release())
	require.NoError(t, get(t, request(url)).Release())
}

// A member is replaced by another one, while the lock is held and waited for.
func TestMemberIsReplaced(t *testing.T) {
	all := cluster(t, 3)
	url := clusterURL(all, "m")
	h := get(t, request(url))
	w := wait(t, all[0], "m", request(url))
	gone := all[2]
	c := all[0].direct(t)
	r, err := c.MemberList(bounded(t))
	require.NoError(t, err)
	// A change that was proposed to a leader who has just gone is lost, and its answer never comes: each try has its own time.
	once := func() context.Context {
		ctx, stop := context.WithTimeout(context.Background(), patience/10)
		t.Cleanup(stop)
		return ctx
	}
	for _, m := range r.Members {
		if m.Name == gone.name {
			require.Eventually(t, func() bool { // not before all have been well for a while
				_, err := c.MemberRemove(once(), m.ID)
				return err == nil || errors.Is(err, rpctypes.ErrMemberNotFound)
			}, patience, 100*time.Millisecond)
		}
	}
	gone.kill()
	require.Eventually(t, func() bool {
		if _, err := c.MemberAdd(once(), []string{"http://" + gone.peer}); err == nil {
			return true
		}
		// It may be there all the same: the answer has not come.
		r, err := c.MemberList(once())
		return err == nil && slices.ContainsFunc(r.Members, func(m *etcdserverpb.Member) bool {
			return slices.Contains(m.PeerURLs, "http://"+gone.peer)
		})
	}, patience, 100*time.Millisecond)
	for i, a := range gone.args {
		switch gone.args[max(0, i-1)] {
		case "--data-dir":
			require.NoError(t, os.RemoveAll(a))
		case "--initial-cluster-state":
			gone.args[i] = "existing"
		case "--name":
			gone.args[i] = "new"
		case "--initial-cluster":
			gone.args[i] = strings.Replace(a, gone.name+"=", "new=", 1)
		}
	}
	gone.start(t)
	gone.await(t)
	renews(t, h, 3)
	keeps(t, h)
	w.waits(t, 0)
	// The new one takes part.
	all[1].kill()
	require.NoError(t, h.Release())
	w.gets(t)
}
