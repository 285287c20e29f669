package etcd

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// guardAfter is when a hold is watched, and told to those who look. Shorter ones do not pay for it.
	guardAfter = 20 * time.Millisecond
	// releaseTime is how long it may take to give the lock back.
	releaseTime = 5 * time.Second
	// notInTheWay is how long one who has released the lock leaves servers and processors to the next one.
	notInTheWay = 4 * time.Millisecond
)

// Token is the fencing number: the revision of etcd at which the lock was held first. Whoever had it before
// has gone, or has written that he holds it together with this one, at a smaller revision.
func (m *member) Token() int64 { return m.token }

// Waited reports whether it was not to be had at once.
func (m *member) Waited() bool { return m.waited }

// Descriptor is none: a lease outlives its holder whatever happens, but not for long.
func (m *member) Descriptor() int { return -1 }

// Check tells whether the lock is still held.
func (m *member) Check() error { return m.check() }

// Lost is closed when the lock is lost.
func (m *member) Lost() <-chan struct{} { return m.lostc }

// Err says why.
func (m *member) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lost
}

// guardFrom watches the own key from revision rev on, so that a hold that is ended at the server is known to be
// at once, even if the lease is still there.
func (m *member) guardFrom(rev int64) {
	ctx, stop := context.WithCancel(context.Background())
	stopKeep := m.stop
	m.stop = func() { stop(); stopKeep() }
	m.run(ctx, func(ctx context.Context) {
		if idle(ctx, guardAfter) == nil && m.guard(ctx, rev) == errAnew {
			m.leave()
		}
	})
}

func (m *member) guard(ctx context.Context, rev int64) error {
	if !m.marked {
		if _, err := m.mark(ctx, m.token); err != nil && err != errAnew {
			return err
		}
		// That it has gone, or what somebody else has written, is what the watch tells.
	}
	for {
		if _, err := m.c.deletion(ctx, m.entry.key, rev, m.heed); err == nil {
			return errAnew
		}
		if err := idle(ctx, jitter(watchPause)); err != nil {
			return err
		}
		r, err := m.c.get(ctx, m.entry.key)
		if err != nil {
			return err
		}
		if len(r.Kvs) == 0 || r.Kvs[0].CreateRevision != m.entry.create {
			return errAnew
		}
		m.heed(read(r.Kvs[0]))
		rev = r.Header.Revision
	}
}

// heed ends the hold if the key says so. The lease is kept until the command has ended.
func (m *member) heed(e entry) {
	if e.value.Broken != 0 {
		m.lose(errBroken.Error())
	}
}

// Release gives the lock back: it takes the own key out of the queue, if that is still the one that was put there, and
// so learns whether it was held until now. The lease is ended after that.
func (m *member) Release() error {
	m.releasing.Do(func() { m.released = m.release() })
	return m.released
}

func (m *member) release() error {
	lost := m.check()
	m.halt()
	ctx, stop := context.WithTimeout(context.Background(), releaseTime)
	defer stop()
	there, err := m.remove(ctx)
	m.done.Wait()
	m.removed = err == nil
	switch {
	case lost != nil:
		return lost
	case err != nil:
		m.mu.Lock()
		left := m.until - now()
		m.mu.Unlock()
		return fmt.Errorf("it could not be given back, and is free in %.0f s at the latest: %w", max(0, left.Seconds()), m.c.noAnswer(context.Background(), err, nil))
	case !there:
		return errGone
	}
	return nil
}

// remove deletes the own key, and reports whether it was there.
func (m *member) remove(ctx context.Context) (there bool, err error) {
	tries := 0
	err = m.c.do(ctx, func(ctx context.Context) error {
		tries++
		r, err := m.c.etcd.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(m.entry.key), "=", m.entry.create)).
			Then(clientv3.OpDelete(m.entry.key), clientv3.OpGet(m.c.place.prefix(), clientv3.WithPrefix(), clientv3.WithCountOnly())).Commit()
		if there = err == nil && r.Succeeded; there {
			m.others = r.Responses[1].GetResponseRange().Count > 0
		}
		return err
	})
	// A request whose answer did not come may have done it.
	return there || tries > 1, err
}

// Settle ends the lease. Nothing is bound to it any more.
func (m *member) Settle(awaited bool) {
	m.settling.Do(func() {
		if awaited || m.others {
			time.Sleep(notInTheWay)
		}
		if m.removed {
			ctx, stop := context.WithTimeout(context.Background(), leaveTime)
			defer stop()
			_ = m.revoke(ctx)
		}
		m.c.close()
	})
}
