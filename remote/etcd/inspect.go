package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dblock-dev/dblock/lock"
)

// Inspect reads the queue.
func (engine) Inspect(ctx context.Context, url string) (*lock.Report, error) {
	c, err := open(ctx, url)
	if err != nil {
		return nil, err
	}
	defer c.close()
	r, err := c.get(ctx, c.place.prefix(), clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	if err != nil {
		return nil, c.noAnswer(context.Background(), err, nil)
	}
	queue := make([]entry, len(r.Kvs))
	for i, kv := range r.Kvs {
		queue[i] = read(kv)
	}
	report := reportOf(queue)
	report.Evidence = fmt.Sprintf("no key is below %s in etcd", c.place.prefix())
	if len(queue) > 0 {
		report.Evidence = fmt.Sprintf("the first key in its queue in etcd is %s", queue[0].key)
		if t, err := c.etcd.TimeToLive(ctx, queue[0].lease); err == nil && t.TTL >= 0 {
			report.Evidence += fmt.Sprintf(", whose lease runs out in %d s unless it is renewed", t.TTL)
		}
		if queue[0].value.Broken != 0 {
			report.Evidence += "; its holder was told to end"
		}
	}
	return report, nil
}

func open(ctx context.Context, url string) (*client, error) {
	p, err := parse(url)
	if err != nil {
		return nil, err
	}
	return connect(ctx, p)
}

// between stands between the identities of readers who hold the lock together.
const between = "+"

// reportOf tells who holds and who waits in a queue. The first one holds the lock, or is just about to.
func reportOf(queue []entry) *lock.Report {
	r := &lock.Report{State: lock.StateFree, KeptBy: -1, WaitersKnown: true}
	if len(queue) == 0 {
		return r
	}
	first := queue[0]
	r.State, r.Holder, r.ID = lock.StateHeld, first.holder(), first.id()
	if !r.Holder.Acquired.IsZero() {
		r.Age = max(0, time.Since(r.Holder.Acquired))
	}
	waiting := 1
	if first.value.shared() {
		r.State = lock.StateShared
		r.ID = ""
		for waiting = 0; waiting < len(queue) && queue[waiting].value.shared(); waiting++ {
			if waiting > 0 {
				r.ID += between
			}
			r.ID += queue[waiting].id()
			r.Readers = append(r.Readers, queue[waiting].process(queue[waiting].value.Acquired))
		}
	}
	for _, e := range queue[waiting:] {
		r.Waiters = append(r.Waiters, e.process(e.value.Asked))
	}
	return r
}

// beyondGrace is how much longer than its command may take to end a holder has to obey.
const beyondGrace = 2 * time.Second

// Break has the holds ended, readers together, if they are still those. A holder is told by its key, and deletes that when its
// command has ended, so that nobody else works at the same time. If he does not do so in time, or ctx is about to end, the
// key is deleted here.
func (engine) Break(ctx context.Context, url, id string) error {
	c, err := open(ctx, url)
	if err != nil {
		return err
	}
	defer c.close()
	ids := strings.Split(id, between)
	told := make([]*entry, len(ids))
	revs := make([]int64, len(ids))
	for i, one := range ids {
		create, lease, ok := named(one)
		if !ok {
			return &lock.EngineError{Name: c.place.shown(), Err: errors.New("this is no identity of a hold: " + id), Misuse: true}
		}
		if told[i], revs[i], err = c.tellToEnd(ctx, c.place.keyOf(lease), create); err != nil {
			return c.noAnswer(context.Background(), err, nil)
		}
	}
	begun := time.Now()
	for i, e := range told {
		if e != nil {
			err = errors.Join(err, c.end(ctx, e, revs[i], begun))
		}
	}
	return err
}

// end waits until one who was told to end, at revision rev, has done so, and deletes its key when its time is over.
func (c *client) end(ctx context.Context, e *entry, rev int64, begun time.Time) error {
	patience := time.Until(begun.Add(time.Duration(e.value.Grace)*time.Millisecond + beyondGrace))
	if end, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(end)-time.Second)
	}
	limited, stop := context.WithTimeout(ctx, patience)
	defer stop()
	for {
		if _, err := c.deletion(limited, e.key, rev, nil); err == nil || idle(limited, jitter(watchPause)) != nil {
			break
		}
	}
	_, err := c.txn(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(e.key), "=", e.create)}, []clientv3.Op{clientv3.OpDelete(e.key)}, nil)
	return c.noAnswer(context.Background(), err, nil)
}

// tellToEnd writes into a key that its holder is to end. There is none if the key was created at another
// revision.
func (c *client) tellToEnd(ctx context.Context, key string, create int64) (*entry, int64, error) {
	for {
		r, err := c.get(ctx, key)
		if err != nil || len(r.Kvs) == 0 || r.Kvs[0].CreateRevision != create {
			return nil, 0, err
		}
		e := read(r.Kvs[0])
		e.value.Broken = time.Now().UnixMilli()
		t, err := c.txn(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", e.mod)},
			[]clientv3.Op{clientv3.OpPut(key, e.value.text(), clientv3.WithIgnoreLease())}, nil)
		if err != nil {
			return nil, 0, err
		}
		if t.Succeeded {
			return &e, t.Header.Revision, nil
		}
	}
}
