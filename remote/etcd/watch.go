package etcd

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// errWatch: the server tells no more, since what there was to tell has been compacted, say.
var errWatch = errors.New("the watch was ended by the server")

// deletion waits until a key is deleted that was there at revision rev. written, if it is not nil, is called for
// each time that it is written. With an error it is not known what has become of it: one has to look, and
// may watch again.
func (c *client) deletion(ctx context.Context, key string, rev int64, written func(entry)) error {
	ctx, stop := context.WithCancel(clientv3.WithRequireLeader(ctx)) // a member that was cut off ends it
	defer stop()
	s, err := etcdserverpb.NewWatchClient(c.etcd.ActiveConnection()).Watch(ctx)
	if err != nil {
		return err
	}
	what := &etcdserverpb.WatchCreateRequest{Key: []byte(key), StartRevision: rev + 1}
	if written == nil {
		what.Filters = []etcdserverpb.WatchCreateRequest_FilterType{etcdserverpb.WatchCreateRequest_NOPUT}
	}
	err = s.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: what}})
	for err == nil {
		var r *etcdserverpb.WatchResponse
		if r, err = s.Recv(); err != nil {
			break
		}
		for _, e := range r.Events {
			if e.Type == mvccpb.Event_DELETE {
				return nil
			}
			written(read(e.Kv))
		}
		if r.Canceled || r.CompactRevision != 0 {
			return errWatch
		}
	}
	return err
}
