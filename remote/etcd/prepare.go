package etcd

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/remote/internal/ready"
)

const (
	// One who cannot stand by yet looks again after the first of these, and then less often until it is the last: the one of its
	// machine that asks may wait for long.
	firstLook, lastLook = 5 * time.Millisecond, time.Minute
)

const never = time.Duration(math.MaxInt64)

// unwanted is how long it may be one's turn here and not on this machine.
var unwanted = 250 * time.Millisecond

// prepared is a connection for one who will ask soon, and a lease; and if another one of this machine holds the lock, a place in the
// queue behind it.
type prepared struct {
	thing   *ready.Thing[readiness]
	request lock.EngineRequest
	queued  atomic.Bool // there may be a key
}

type readiness struct {
	c *client // nil if it could not be made
	m *member // nil if there is no lease
}

// Prepare connects, and gets a lease.
func (engine) Prepare(ask lock.EngineRequest) lock.Prepared {
	p := &prepared{request: ask}
	p.thing = ready.Make(p.keep, readiness.end)
	return p
}

// keep keeps all that until it is wanted.
func (p *prepared) keep(ctx context.Context, wanted <-chan struct{}) (r readiness) {
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
	var renew, look time.Duration // when the lease is to be renewed, and when to try to stand by
	again := firstLook
	if p.request.Mode == lock.Shared {
		look = never // readers come together, and may not be in each other's way
	}
	for {
		if r.m == nil || r.m.turn == nil && now() >= renew {
			if r.m != nil && !r.m.alive(ctx) {
				r.m = nil
			}
			if r.m == nil {
				if r.m, _ = r.c.join(ctx, ttl, p.request.Grace); r.m != nil {
					every = min(every, r.m.slack()/4)
				} else {
					look = max(look, now()+every)
				}
			}
			renew = now() + every
		}
		if r.m != nil && r.m.turn == nil && now() >= look {
			p.standBy(ctx, &r)
			look, again = now()+again, min(2*again, lastLook)
		}
		var mine chan turn
		var next <-chan time.Time
		if r.m != nil && r.m.turn != nil {
			mine = r.m.turn
		} else {
			next = time.After(max(firstLook, min(renew, look)-now()))
		}
		select {
		case <-wanted:
			return r
		case t := <-mine:
			if called(ctx, wanted, t) {
				mine <- t
				return r
			}
			// Those of other machines would wait for one who may have to wait for another one of this machine.
			_ = r.m.withdraw()
			r.m, look = nil, now()+every
		case <-next:
		case <-ctx.Done():
			r.end()
			return readiness{}
		}
	}
}

// standBy has it stand by, if that is possible now.
func (p *prepared) standBy(ctx context.Context, r *readiness) {
	p.queued.Store(true)
	entered, err := r.m.standBy(ctx, describe(p.request))
	if err != nil && ctx.Err() == nil {
		_ = r.m.withdraw() // it may be in the queue
		r.m = nil
	}
	p.queued.Store(entered || err != nil)
}

// called reports whether one whose turn it is, is wanted in time.
func called(ctx context.Context, wanted <-chan struct{}, t turn) bool {
	if t.err != nil {
		return false
	}
	late := time.NewTimer(unwanted)
	defer late.Stop()
	select {
	case <-wanted:
		return true
	case <-late.C:
	case <-ctx.Done():
	}
	return false
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
		_ = r.m.withdraw()
	}
	if r.c != nil {
		r.c.close()
	}
}

// Acquire gets the lock by them.
func (p *prepared) Acquire(ctx context.Context) (lock.EngineHold, error) {
	r, err := p.thing.Take(ctx)
	switch {
	case err != nil:
		p.Drop()
		return nil, err
	case r.c == nil:
		return engine{}.Acquire(ctx, p.request)
	}
	r.c.answered.Store(true) // somebody of this machine had the lock, from these servers
	if r.m != nil && r.m.turn == nil && r.m.age() > r.m.slack()/3 && !r.m.alive(ctx) {
		r.m = nil
	}
	return r.c.hold(ctx, p.request, r.m)
}

// Drop gives it up. Others wait for a key for as long as it is there: it is deleted when this returns, if the servers answer.
func (p *prepared) Drop() {
	ended := p.thing.Drop()
	if !p.queued.Load() {
		return
	}
	late := time.NewTimer(leaveTime)
	defer late.Stop()
	select {
	case <-ended:
	case <-late.C:
	}
}
