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

// withoutPuts has a watch tell of deletions alone.
var withoutPuts = []etcdserverpb.WatchCreateRequest_FilterType{etcdserverpb.WatchCreateRequest_NOPUT}

// deletion waits until a key is deleted that was there at revision rev, and tells at which. written, if it is not nil, is
// called for each time that it is written. With an error it is not known what has become of it: one has to look,
// and may watch again.
func (c *client) deletion(ctx context.Context, key string, rev int64, written func(entry)) (at int64, err error) {
	what := &etcdserverpb.WatchCreateRequest{Key: []byte(key), StartRevision: rev + 1}
	if written == nil {
		what.Filters = withoutPuts
	}
	err = c.watch(ctx, what, func(events []*mvccpb.Event) bool {
		for _, e := range events {
			if e.Type == mvccpb.Event_DELETE {
				at = e.Kv.ModRevision
				return true
			}
			written(read(e.Kv))
		}
		return false
	})
	return at, err
}

// turn waits until the only one before the own key has gone from the queue, and tells at which revision. As a watch tells of all
// deletions in the queue in their order, the own key was there at that revision, or the error is errAnew: no
// other question is needed. Otherwise it is as deletion.
func (c *client) turn(ctx context.Context, before, own string, rev int64) (at int64, err error) {
	prefix := c.place.prefix()
	what := &etcdserverpb.WatchCreateRequest{
		Key: []byte(prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(prefix)), StartRevision: rev + 1, Filters: withoutPuts,
	}
	anew := false
	err = c.watch(ctx, what, func(events []*mvccpb.Event) bool {
		for _, e := range events {
			switch key := string(e.Kv.Key); {
			case at > 0 && e.Kv.ModRevision > at:
				return true
			case key == own:
				anew = true
				return true
			case key == before:
				at = e.Kv.ModRevision // what else was deleted by the same request is told at once
			}
		}
		return at > 0
	})
	if err == nil && anew {
		return 0, errAnew
	}
	return at, err
}

// watch watches until over, which is called with what is told, says so.
func (c *client) watch(ctx context.Context, what *etcdserverpb.WatchCreateRequest, over func([]*mvccpb.Event) bool) error {
	ctx, stop := context.WithCancel(clientv3.WithRequireLeader(ctx)) // a member that was cut off ends it
	defer stop()
	s, err := etcdserverpb.NewWatchClient(c.etcd.ActiveConnection()).Watch(ctx)
	if err != nil {
		return err
	}
	err = s.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: what}})
	for err == nil {
		var r *etcdserverpb.WatchResponse
		if r, err = s.Recv(); err != nil {
			break
		}
		if over(r.Events) {
			return nil
		}
		if r.Canceled || r.CompactRevision != 0 {
			return errWatch
		}
	}
	return err
}
