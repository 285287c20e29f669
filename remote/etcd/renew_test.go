package etcd

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
)

// member of a cluster that says whatever it is to say about a lease and a key.
type liar struct {
	etcdserverpb.UnimplementedKVServer
	etcdserverpb.UnimplementedLeaseServer

	ttl    int64
	late   time.Duration // how long it takes to renew
	leader uint64        // the term in which it renews
	term   uint64        // the term in which it reads
	create int64         // of the key; 0 if there is none
}

func (l *liar) LeaseKeepAlive(s grpc.BidiStreamingServer[etcdserverpb.LeaseKeepAliveRequest, etcdserverpb.LeaseKeepAliveResponse]) error {
	for {
		r, err := s.Recv()
		if err != nil {
			return err
		}
		time.Sleep(l.late)
		if err := s.Send(&etcdserverpb.LeaseKeepAliveResponse{ID: r.ID, TTL: l.ttl, Header: &etcdserverpb.ResponseHeader{RaftTerm: l.leader}}); err != nil {
			return err
		}
	}
}

func (l *liar) Range(_ context.Context, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	if r.Serializable {
		panic("that is not what all agree on")
	}
	a := &etcdserverpb.RangeResponse{Header: &etcdserverpb.ResponseHeader{RaftTerm: l.term}}
	if l.create > 0 {
		a.Kvs = append(a.Kvs, &mvccpb.KeyValue{Key: r.Key, CreateRevision: l.create})
	}
	return a, nil
}

// Only what a leader of now has said makes a lease longer, counted from when it was asked.
func TestWhatRenews(t *testing.T) {
	const late = 200 * time.Millisecond
	for name, c := range map[string]struct {
		liar   liar
		renews bool
		gone   bool
	}{
		"the leader":               {liar{ttl: 20, leader: 3, term: 3, create: 7}, true, false},
		"one who is late":          {liar{ttl: 20, leader: 3, term: 3, create: 7, late: late}, true, false},
		"a former leader":          {liar{ttl: 20, leader: 3, term: 4, create: 7}, false, false},
		"one who does not know it": {liar{ttl: 0, leader: 3, term: 3, create: 7}, false, false},
		"the key has gone":         {liar{ttl: 20, leader: 3, term: 3}, false, true},
		"it is another key":        {liar{ttl: 20, leader: 3, term: 3, create: 8}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			s := grpc.NewServer()
			etcdserverpb.RegisterKVServer(s, &c.liar)
			etcdserverpb.RegisterLeaseServer(s, &c.liar)
			go func() { _ = s.Serve(l) }()
			defer s.Stop()
			p, err := parse("etcd://" + l.Addr().String() + "/x")
			require.NoError(t, err)
			cl, err := connect(t.Context(), p)
			require.NoError(t, err)
			defer cl.close()
			before := now() + 5*time.Second
			m := &member{c: cl, lease: 1, ttl: 20 * time.Second, until: before, entry: entry{key: "k", create: 7}}
			begun := now()
			err = m.renew(t.Context())
			m.dropBeats()
			if !c.renews {
				require.Error(t, err)
				require.Equal(t, c.gone, err == errAnew)
				require.Equal(t, before, m.until)
				return
			}
			require.NoError(t, err)
			require.GreaterOrEqual(t, m.until, begun+20*time.Second)
			require.LessOrEqual(t, m.until, now()+20*time.Second-c.liar.late)
		})
	}
}

// Whoever has lost its key since its turn has come does not take the lock.
func TestTurnIsOver(t *testing.T) {
	m := &member{ttl: time.Hour, until: now() + time.Hour, gone: make(chan struct{}), lostc: make(chan struct{})}
	m.leave()
	m.leave()
	require.Equal(t, errAnew, m.take(t.Context(), 1))
	require.NoError(t, m.lost, "it was no hold yet")
}
