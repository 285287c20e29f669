package etcd

import (
	"context"
	"time"

	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/remote/internal/ready"
)

// prepared is a connection for one who will ask soon, and a lease, to which no key is bound yet.
type prepared struct {
	*ready.Thing[readiness]
	request lock.EngineRequest
}

type readiness struct {
	c *client // nil if it could not be made
	m *member // nil if there is no lease
}

// Prepare connects, and gets a lease.
func (engine) Prepare(ask lock.EngineRequest) lock.Prepared {
	keep := func(ctx context.Context, wanted <-chan struct{}) readiness { return keep(ctx, wanted, ask) }
	return &prepared{ready.Make(keep, readiness.end), ask}
}

// keep keeps both until they are wanted.
func keep(ctx context.Context, wanted <-chan struct{}, ask lock.EngineRequest) (r readiness) {
	at, err := parse(ask.URL)
	if err != nil {
		return r
	}
	ttl, err := at.length(ask)
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
			if r.m, _ = r.c.join(ctx, ttl, ask.Grace); r.m != nil {
				every = min(every, r.m.slack()/4)
			}
		}
		select {
		case <-wanted:
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
	r, err := p.Take(ctx)
	switch {
	case err != nil:
		return nil, err
	case r.c == nil:
		return engine{}.Acquire(ctx, p.request)
	case r.m != nil && r.m.age() > r.m.slack()/3 && !r.m.alive(ctx):
		r.m = nil
	}
	return r.c.hold(ctx, p.request, r.m)
}
