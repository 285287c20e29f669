package etcd

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dblock-dev/dblock/lock"
)

const (
	// answerTime is how long one who does not wait gives the servers to agree.
	answerTime = 5 * time.Second
	// leaveTime is how long it may take to take back what was asked for.
	leaveTime = 3 * time.Second
	// shortly is the same for servers that did not answer a moment ago.
	shortly = 500 * time.Millisecond
	// lookAgain is when a waiter looks whether a watch still tells.
	lookAgain = 30 * time.Second
	// watchPause is how long it takes to watch again after a watch has failed.
	watchPause = 200 * time.Millisecond
)

// Acquire gets the lock.
func (engine) Acquire(ctx context.Context, ask lock.EngineRequest) (lock.EngineHold, error) {
	p, err := parse(ask.URL)
	if err != nil {
		return nil, err
	}
	if _, err := p.length(ask); err != nil {
		return nil, err
	}
	c, err := connect(ctx, p)
	if err != nil {
		return nil, err
	}
	return c.hold(ctx, ask, nil)
}

// hold gets the lock by a connection, which is its own from then on. ready has a lease already, or is nil.
func (c *client) hold(ctx context.Context, ask lock.EngineRequest, ready *member) (lock.EngineHold, error) {
	ttl, err := c.place.length(ask)
	if err != nil {
		c.close()
		return nil, err
	}
	m, err := c.acquire(ctx, ask, ttl, ready)
	if err != nil {
		c.close()
		return nil, err
	}
	return m, nil
}

func (c *client) acquire(ctx context.Context, ask lock.EngineRequest, ttl time.Duration, ready *member) (*member, error) {
	limited := ctx
	if ask.NoWait {
		var stop context.CancelFunc
		limited, stop = context.WithTimeout(ctx, answerTime)
		defer stop()
		if busy, err := c.busy(limited, ask.Mode); busy || err != nil {
			return nil, c.noAnswer(ctx, err, lock.ErrHeld)
		}
	}
	for {
		m, err := ready, error(nil)
		if ready = nil; m == nil {
			m, err = c.join(limited, ttl, ask.Grace)
		}
		if err == nil {
			if err = m.queue(limited, ask); err == nil {
				return m, nil
			}
			if away := m.withdraw(); away != nil && errors.Is(err, context.DeadlineExceeded) {
				return nil, c.explain(context.DeadlineExceeded) // it is not known that anybody has it
			}
		}
		if err == errAnew {
			if err = idle(limited, jitter(firstPause)); err == nil {
				continue
			}
		}
		return nil, c.noAnswer(ctx, err, nil)
	}
}

// noAnswer is the error for one who does not wait: the time was over, but not that of ctx.
func (c *client) noAnswer(ctx context.Context, err, otherwise error) error {
	if err == nil {
		return otherwise
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == context.DeadlineExceeded && !c.reached() {
		return c.explain(err)
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		if t := c.trouble.Load(); t != nil {
			err = *t
		}
		return c.explain(err)
	}
	return err
}

// busy reports whether somebody is in the way, before anything is written.
func (c *client) busy(ctx context.Context, mode lock.Mode) (bool, error) {
	r, err := c.get(ctx, c.place.prefix(), clientv3.WithPrefix())
	if err != nil {
		return false, err
	}
	for _, kv := range r.Kvs {
		if e := read(kv); (mode == lock.Exclusive || !e.value.shared()) && !e.abandoned() {
			return true, nil
		}
	}
	return false, nil
}

// queue enters the queue, unless it is in there already, and waits in it.
func (m *member) queue(ctx context.Context, ask lock.EngineRequest) error {
	rev, err := m.line(ctx, ask)
	if err != nil {
		return err
	}
	return m.take(ctx, rev)
}

// line is queue without what makes a hold of it, of which it tells the revision.
func (m *member) line(ctx context.Context, ask lock.EngineRequest) (rev int64, err error) {
	if m.turn != nil {
		select {
		case t := <-m.turn:
			return t.rev, t.err
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	rev, first, err := m.enter(ctx, describe(ask))
	if err != nil {
		return 0, err
	}
	m.start()
	m.waited = !first
	if first {
		m.marked = true
		return rev, nil
	}
	return m.advance(ctx, ask.NoWait)
}

// advance waits until nobody is in the way, and tells the revision as of which.
func (m *member) advance(ctx context.Context, noWait bool) (rev int64, err error) {
	for {
		rival, only, rev, err := m.rival(ctx)
		switch {
		case err != nil:
			return 0, err
		case rival == nil && m.entry.value.shared():
			// Several readers may find that at the same revision: the number is that of a write.
			if rev, err = m.mark(ctx, 0); err != nil {
				return 0, err
			}
			m.marked = true
			return rev, nil
		case rival == nil:
			return rev, nil
		case m.turn == nil && rival.abandoned():
			// Whoever has this machine's lock knows that nothing works under it any more.
			if _, err := m.c.txn(ctx, []clientv3.Cmp{rival.unchanged()}, []clientv3.Op{clientv3.OpDelete(rival.key)}, nil); err != nil {
				return 0, err
			}
			continue
		case noWait:
			return 0, lock.ErrHeld
		}
		m.draw(only)
		gone, err := m.await(ctx, rival.key, only, rev)
		if err != nil || only && gone > 0 {
			return gone, err
		}
	}
}

// draw notes whether the turn comes next. Who is that renews its lease as a holder does, so as not to have to when it has come.
func (m *member) draw(next bool) {
	m.mu.Lock()
	changed := m.next != next
	m.next = next
	m.mu.Unlock()
	if changed {
		m.retime()
	}
}

// retime has keep look again when the lease is to be renewed.
func (m *member) retime() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// enter puts the own key into the queue. It is the first one, and holds the lock by that, if the queue is
// empty: etcd does both at once.
func (m *member) enter(ctx context.Context, v value) (rev int64, first bool, err error) {
	p, key := m.c.place, m.c.place.keyOf(m.lease)
	m.entry = entry{key: key, lease: m.lease, value: v}
	mine := clientv3.WithLease(m.lease)
	absent := clientv3.Compare(clientv3.CreateRevision(key), "=", 0) // it may be done twice
	r, err := m.c.txn(ctx,
		[]clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(p.prefix()).WithPrefix(), "=", 0)},
		[]clientv3.Op{clientv3.OpPut(key, v.holding(0).text(), mine)},
		[]clientv3.Op{
			clientv3.OpTxn([]clientv3.Cmp{absent}, []clientv3.Op{clientv3.OpPut(key, v.text(), mine)}, nil),
			clientv3.OpGet(key),
		}, rpctypes.ErrLeaseNotFound)
	switch {
	case err == rpctypes.ErrLeaseNotFound:
		return 0, false, errAnew
	case err != nil:
		return 0, false, err
	case r.Succeeded:
		m.entry.create, m.entry.mod = r.Header.Revision, r.Header.Revision
		m.confirm(r.Header.RaftTerm)
		return r.Header.Revision, true, nil
	}
	m.confirm(r.Header.RaftTerm)
	kvs := r.Responses[1].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return 0, false, errAnew
	}
	m.entry.create, m.entry.mod = kvs[0].CreateRevision, kvs[0].ModRevision
	return r.Header.Revision, false, nil
}

// rival finds who is to be waited for: the nearest one before the own key that does not go together with
// it. only tells that there is no other one before, so that nobody is when that one has gone. If there is
// nobody, and since none can come before, the lock is held, as of revision rev, which is greater than those at
// which all who were in the way have gone.
func (m *member) rival(ctx context.Context) (rival *entry, only bool, rev int64, err error) {
	own := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithMaxCreateRev(m.entry.create),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend)} // and those before
	shared := m.entry.value.shared()
	if !shared {
		own = append(own, clientv3.WithLimit(3))
	}
	r, err := m.c.get(ctx, m.c.place.prefix(), own...)
	if err != nil {
		return nil, false, 0, err
	}
	if len(r.Kvs) == 0 || r.Kvs[0].CreateRevision != m.entry.create || string(r.Kvs[0].Key) != m.entry.key {
		return nil, false, 0, errAnew
	}
	for _, kv := range r.Kvs[1:] {
		if e := read(kv); !shared || !e.value.shared() {
			return &e, !shared && len(r.Kvs) == 2, r.Header.Revision, nil
		}
	}
	return nil, false, r.Header.Revision, nil
}

// await waits until a key that was there at rev has gone, and tells when it did, or 0 if it is to be looked for again. If it is
// the only one before the own key, that is known to have been there then.
func (m *member) await(ctx context.Context, key string, only bool, rev int64) (gone int64, err error) {
	limited, stop := context.WithTimeout(ctx, jitter(lookAgain))
	defer stop()
	go func() {
		select {
		case <-m.gone:
			stop()
		case <-limited.Done():
		}
	}()
	if only {
		gone, err = m.c.turn(limited, key, m.entry.key, rev)
	} else {
		gone, err = m.c.deletion(limited, key, rev, nil)
	}
	if err == errAnew {
		return 0, err
	}
	if err == nil || limited.Err() != nil {
		return gone, ctx.Err()
	}
	return 0, idle(ctx, jitter(watchPause))
}

// mark writes that it holds the lock into the own key, unless somebody else has written there, and tells the
// revision of that.
func (m *member) mark(ctx context.Context, token int64) (rev int64, err error) {
	e := m.entry
	e.value.Standby = false
	text := e.value.holding(token).text()
	r, err := m.c.txn(ctx,
		[]clientv3.Cmp{
			clientv3.Compare(clientv3.CreateRevision(e.key), "=", e.create),
			clientv3.Compare(clientv3.ModRevision(e.key), "=", e.mod),
		},
		[]clientv3.Op{clientv3.OpPut(e.key, text, clientv3.WithLease(m.lease))},
		[]clientv3.Op{clientv3.OpGet(e.key)}, rpctypes.ErrLeaseNotFound)
	switch {
	case err == rpctypes.ErrLeaseNotFound:
		return 0, errAnew
	case err != nil:
		return 0, err
	case r.Succeeded:
		return r.Header.Revision, nil
	}
	// It may have been done by a request whose answer did not come.
	for _, kv := range r.Responses[0].GetResponseRange().Kvs {
		if kv.CreateRevision == e.create && string(kv.Value) == text {
			return kv.ModRevision, nil
		}
	}
	return 0, errAnew
}

// take makes a hold of it, as of revision rev, when the lease lasts for long enough.
func (m *member) take(ctx context.Context, rev int64) error {
	for {
		m.mu.Lock()
		enough := m.limit()-now() >= m.slack()/2
		m.mu.Unlock()
		if enough {
			break
		}
		if err := m.renew(ctx); err == errAnew {
			return err
		} else if err != nil {
			if err := idle(ctx, jitter(firstPause)); err != nil {
				return err
			}
		}
	}
	m.mu.Lock()
	if m.left() {
		m.mu.Unlock()
		return errAnew
	}
	m.token, m.held = rev, true
	m.arm()
	m.mu.Unlock()
	m.retime()
	m.guardFrom(rev)
	return nil
}

// withdraw takes back what was asked for. The key goes with the lease. An error says that it will when that runs out.
func (m *member) withdraw() error {
	m.end()
	m.quiet()
	limit := leaveTime
	if m.trouble != nil {
		limit = shortly
	}
	ctx, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	return m.revoke(ctx)
}

// revoke ends the lease, and with it the key. That it has ended already is as good.
func (m *member) revoke(ctx context.Context) error {
	err := m.c.do(ctx, func(ctx context.Context) error {
		_, err := m.c.etcd.Revoke(ctx, m.lease)
		return err
	}, rpctypes.ErrLeaseNotFound)
	if err == rpctypes.ErrLeaseNotFound {
		return nil
	}
	return err
}

// end stops all that goes on.
func (m *member) end() {
	m.halt()
	m.done.Wait()
}

// halt tells all that goes on to stop. Nothing is lost any more.
func (m *member) halt() {
	m.mu.Lock()
	m.ended = true
	if m.alarm != nil {
		m.alarm.Stop()
	}
	m.mu.Unlock()
	m.stop()
}
