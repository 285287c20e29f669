package etcd

import (
	"context"
	"time"

	"github.com/dblock-dev/dblock/lock"
)

// prepared is a connection for one who will ask soon, and a lease, to which no key is bound yet.
type prepared struct {
	request lock.EngineRequest
	stop    context.CancelFunc
	wanted  chan struct{}
	ready   chan readiness // what there is in the end
}

type readiness struct {
	c *client // nil if it could not be made
	m *member // nil if there is no lease
}

// Prepare connects, and gets a lease.
func (engine) Prepare(ask lock.EngineRequest) lock.Prepared {
	ctx, stop := context.WithCancel(context.Background())
	p := &prepared{request: ask, stop: stop, wanted: make(chan struct{}), ready: make(chan readiness, 1)}
	go func() { p.ready <- p.keep(ctx) }()
	return p
}

// keep keeps both until they are wanted.
func (p *prepared) keep(ctx context.Context) (r readiness) {
	at, err := parse(p.request.URL)
	if err != nil {
		return r
	}
	ttl, err := at.length(p.request)
	if err != nil {
		return r
	}
	if r.c, err = connect(ctx, at); err != nil {
		return readiness{}
	}
	every := ttl / 10
	for {
		if r.m != nil && !r.m.alive(ctx) {
			r.m = nil
		}
		if r.m == nil {
			if r.m, _ = r.c.join(ctx, ttl, p.request.Grace); r.m != nil {
				every = min(every, r.m.slack()/4)
			}
		}
		select {
		case <-p.wanted:
			return r
		case <-time.After(every):
			continue
		case <-ctx.Done():
		}
		r.end()
		return readiness{}
	}
}

// alive renews a lease to which no key is bound, and reports whether there still is one.
func (m *member) alive(ctx context.Context) bool {
	m.renewing.Lock()
	defer m.renewing.Unlock()
	b, err := m.beat(ctx, min(m.ttl/5, m.c.place.requestTime))
	if err != nil || b.ttl <= 0 {
		m.dropBeats()
		return false
	}
	m.asked = b
	return true
}

// age is how long ago the lease was renewed.
func (m *member) age() time.Duration { return now() + m.ttl - max(m.until, m.asked.sent+m.asked.ttl) }

// end gives both up. The lease ends by itself if the servers are away.
func (r readiness) end() {
	if r.m != nil {
		r.m.dropBeats()
		r.m.withdraw()
	}
	if r.c != nil {
		r.c.close()
	}
}

// Acquire gets the lock by them.
func (p *prepared) Acquire(ctx context.Context) (lock.EngineHold, error) {
	close(p.wanted)
	select {
	case r := <-p.ready:
		switch {
		case r.c == nil:
			return engine{}.Acquire(ctx, p.request)
		case r.m != nil && r.m.age() > r.m.slack()/3 && !r.m.alive(ctx):
			r.m = nil
		}
		return r.c.hold(ctx, p.request, r.m)
	case <-ctx.Done():
		p.Drop()
		return nil, ctx.Err()
	}
}

// Drop ends it.
func (p *prepared) Drop() {
	p.stop()
	go func() { (<-p.ready).end() }()
}
