package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// margin is how much earlier than its end a lease is given up: for clocks of different speed, and for
// the way of the signal to the command.
const margin = 500 * time.Millisecond

// member is one that holds or waits: a lease, and a key of the queue that is bound to it.
type member struct {
	c     *client
	lease clientv3.LeaseID
	ttl   time.Duration // of the lease, as etcd has granted it
	grace time.Duration
	entry entry

	changed chan struct{} // wakes keep: the lease is needed for more by now
	gone    chan struct{} // closed when the key is known to have gone
	keeping func() context.Context
	stop    context.CancelFunc
	done    sync.WaitGroup

	turn chan turn // of one that was put into the queue before it was its turn on this machine; else nil

	renewing sync.Mutex // guards beats
	beats    *beats
	asked    beat // the last renewal before there was a key

	mu      sync.Mutex    // guards what follows
	until   time.Duration // the lease lasts that long for certain, by now()
	trouble error         // why the last renewal failed; nil if it did not
	alarm   *time.Timer   // of a hold
	next    bool          // it has the lock when the one before it has gone
	held    bool          // it has the lock
	ended   bool          // it is over
	lost    error         // why it has the lock no more
	lostc   chan struct{}

	token  int64
	waited bool // somebody was in the way
	marked bool // the key tells that it holds

	releasing sync.Once
	released  error // what that has found
	removed   bool  // the key has gone by that
	others    bool  // there are others in the queue
	settling  sync.Once
}

// errBroken: somebody has asked for the holder to end.
var errBroken = errors.New("somebody took it away by force")

// errGone: somebody else has deleted the key.
var errGone = errors.New("its key in etcd has gone: somebody took the lock away by force, or revoked its lease")

// join gets a lease. It starts nothing yet.
func (c *client) join(ctx context.Context, ttl, grace time.Duration) (*member, error) {
	var sent time.Duration
	var r *clientv3.LeaseGrantResponse
	err := c.do(ctx, func(ctx context.Context) (err error) {
		sent = now()
		r, err = c.etcd.Grant(ctx, int64(ttl/time.Second))
		return err
	})
	if err != nil {
		return nil, err
	}
	m := &member{
		c: c, lease: r.ID, ttl: time.Duration(r.TTL) * time.Second, grace: max(0, grace),
		changed: make(chan struct{}, 1), gone: make(chan struct{}), lostc: make(chan struct{}), stop: func() {},
	}
	// All members agree on a grant, and whoever leads counts the lease's time from then, or, having become the
	// leader later, from then.
	m.until = sent + m.ttl
	return m, nil
}

// start keeps the lease from now on.
func (m *member) start() {
	ctx, stop := context.WithCancel(context.Background())
	m.keeping, m.stop = func() context.Context { return ctx }, stop
	m.run(ctx, m.keep)
}

func (m *member) run(ctx context.Context, f func(context.Context)) {
	m.done.Add(1)
	go func() {
		defer m.done.Done()
		f(ctx)
	}()
}

// slack is how long renewals may fail before a hold is given up.
func (m *member) slack() time.Duration { return m.ttl - m.grace - margin }

// every is how often the lease is renewed. The mutex is locked.
func (m *member) every() time.Duration {
	if m.held || m.next {
		return min(m.ttl/5, m.slack()/4)
	}
	return m.ttl / 5
}

// limit is when a hold is given up. The mutex is locked.
func (m *member) limit() time.Duration { return m.until - m.grace - margin }

// keep renews the lease until the end; also while the command ends after a loss.
func (m *member) keep(ctx context.Context) {
	defer m.quiet()
	for {
		m.mu.Lock()
		every := m.every()
		pause := every - jitter(every/5)
		if m.trouble != nil {
			pause = jitter(firstPause)
		}
		m.mu.Unlock()
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-m.changed:
			t.Stop()
			continue
		case <-t.C:
		}
		_ = m.check() // the first thing after a stop
		switch err := m.renew(ctx); {
		case err == errAnew:
			m.leave()
			return
		case err == nil:
			m.sweep(ctx)
		}
	}
}

// arm has the hold given up when its time is over. The mutex is locked.
func (m *member) arm() {
	m.alarm = time.AfterFunc(m.limit()-now(), func() {
		if m.check() != nil {
			return
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if !m.ended {
			m.arm()
		}
	})
}

// leave notes that the key has gone.
func (m *member) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loseLocked(errGone.Error())
	if !m.left() {
		close(m.gone)
	}
}

// left reports whether the key is known to have gone. The mutex is locked.
func (m *member) left() bool {
	select {
	case <-m.gone:
		return true
	default:
		return false
	}
}

// lose notes that the lock is lost, if it was held.
func (m *member) lose(why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loseLocked(why)
}

func (m *member) loseLocked(why string) {
	if m.held && m.lost == nil && !m.ended {
		m.lost = errors.New(why)
		close(m.lostc)
	}
}

// check says why the lock is not held any more, as far as is known here. A lease that is not renewed
// counts as over so early that what works under it can end.
func (m *member) check() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if left := m.until - now(); m.held && left < m.grace+margin {
		why := "this machine or this process was stopped"
		if m.trouble != nil {
			why = m.trouble.Error()
		}
		if left > 0 {
			m.loseLocked(fmt.Sprintf("the lease in etcd was not renewed, and runs out in %.1f s: %s", left.Seconds(), why))
		} else {
			m.loseLocked(fmt.Sprintf("the lease in etcd was not renewed, and may have run out: %s", why))
		}
	}
	return m.lost
}

// confirm counts the renewal before there was a key, if the servers have agreed on something after it in that term: see renew.
func (m *member) confirm(term uint64) {
	if m.asked.ttl > 0 && m.asked.term == term {
		m.until = max(m.until, m.asked.sent+m.asked.ttl)
	}
}

// renew renews the lease once. The error is errAnew if the key has gone for certain, otherwise it may
// be tried again.
//
// That the leader says so is not enough: a server that has led and was cut off, or did not run, answers as
// if it still led, while another one lets the lease run out. So the queue is read afterwards, which needs
// the consent of most. If that is still in the term in which the answer was given, nobody else led.
func (m *member) renew(ctx context.Context) error {
	m.renewing.Lock()
	defer m.renewing.Unlock()
	m.mu.Lock()
	try := max(firstPause*6, min(m.every(), m.c.place.requestTime))
	m.mu.Unlock()
	b, err := m.beat(ctx, try)
	var r *clientv3.GetResponse
	if err == nil {
		limited, stop := context.WithTimeout(ctx, try)
		r, err = m.c.etcd.Get(limited, m.entry.key)
		stop()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err != nil:
		if ctx.Err() == nil {
			m.trouble = m.troubled(err)
		}
		return err
	case len(r.Kvs) == 0 || r.Kvs[0].CreateRevision != m.entry.create:
		return errAnew
	case read(r.Kvs[0]).value.Broken != 0:
		m.loseLocked(errBroken.Error())
	}
	switch {
	case b.ttl <= 0:
		// It may come from one that has just become the leader and does not know all yet.
		m.trouble = errors.New("a server does not know the lease")
		return m.trouble
	case b.term != r.Header.RaftTerm:
		m.trouble = errors.New("the servers are electing a leader")
		return m.trouble
	}
	m.until, m.trouble = max(m.until, b.sent+b.ttl), nil
	return nil
}

// troubled says why a renewal failed. One that was cancelled took too long.
func (m *member) troubled(err error) error {
	if timedOut(err) || status.Code(err) == codes.Canceled {
		return errors.New("the connection to the server was lost: it does not answer")
	}
	if answers(err) {
		return fmt.Errorf("etcd says: %w", rpctypes.Error(err))
	}
	return errors.New("the connection to the server was lost: " + cause(err))
}

// beats is a stream of requests to renew a lease. Of one that was answered it is known when it was sent.
type beats struct {
	etcdserverpb.Lease_LeaseKeepAliveClient
	stop context.CancelFunc
}

type beat struct {
	sent, ttl time.Duration
	term      uint64 // of the server that was asked, before it asked the leader
}

// beat asks for the lease to be renewed. A stream on which an answer is late is given up, so that no
// answer is taken for that to another request, and the next one is with another server.
func (m *member) beat(ctx context.Context, limit time.Duration) (b beat, err error) {
	s := m.beats
	if s == nil {
		s = &beats{}
		ctx, s.stop = context.WithCancel(ctx)
	}
	timer := time.AfterFunc(limit, s.stop)
	defer func() {
		if !timer.Stop() && err == nil {
			err = context.DeadlineExceeded
		}
		if m.beats = s; err != nil {
			m.dropBeats()
		}
	}()
	if s.Lease_LeaseKeepAliveClient == nil {
		api := etcdserverpb.NewLeaseClient(m.c.etcd.ActiveConnection())
		if s.Lease_LeaseKeepAliveClient, err = api.LeaseKeepAlive(clientv3.WithRequireLeader(ctx)); err != nil {
			return b, err
		}
	}
	b.sent = now()
	if err = s.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(m.lease)}); err != nil {
		// The reason is what Recv says.
		if _, rerr := s.Recv(); rerr != nil {
			err = rerr
		}
		return b, err
	}
	r, err := s.Recv()
	if err != nil {
		return b, err
	}
	b.ttl, b.term = time.Duration(r.TTL)*time.Second, r.Header.GetRaftTerm()
	return b, nil
}

// dropBeats ends the stream. The mutex of the beats is locked.
func (m *member) dropBeats() {
	if m.beats != nil {
		m.beats.stop()
		m.beats = nil
	}
}

// quiet ends the stream, too, when nobody renews any more.
func (m *member) quiet() {
	m.renewing.Lock()
	defer m.renewing.Unlock()
	m.dropBeats()
}
