package etcd

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dblock-dev/dblock/lock"
)

// tendEvery is how often a connection is used that is kept for later, so that nobody forgets it.
const tendEvery = time.Minute

// prepared is a connection for one who will ask soon. There is no lease yet, and no key.
type prepared struct {
	request lock.EngineRequest
	stop    context.CancelFunc
	wanted  chan struct{}
	ready   chan *client // what there is in the end; nil if no server is to be reached
}

// Prepare connects.
func (engine) Prepare(ask lock.EngineRequest) lock.Prepared {
	ctx, stop := context.WithCancel(context.Background())
	p := &prepared{request: ask, stop: stop, wanted: make(chan struct{}), ready: make(chan *client, 1)}
	go func() { p.ready <- p.keep(ctx) }()
	return p
}

// keep keeps the connection until it is wanted.
func (p *prepared) keep(ctx context.Context) *client {
	at, err := parse(p.request.URL)
	if err != nil {
		return nil
	}
	c, err := connect(ctx, at)
	if err != nil {
		return nil
	}
	for {
		limited, stop := context.WithTimeout(ctx, at.dialTime)
		_, _ = c.etcd.Get(limited, at.prefix(), clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly(), clientv3.WithSerializable())
		stop()
		select {
		case <-p.wanted:
			return c
		case <-time.After(tendEvery):
			continue
		case <-ctx.Done():
		}
		c.close()
		return nil
	}
}

// Acquire gets the lock by it.
func (p *prepared) Acquire(ctx context.Context) (lock.EngineHold, error) {
	close(p.wanted)
	select {
	case c := <-p.ready:
		if c == nil {
			return engine{}.Acquire(ctx, p.request)
		}
		return c.hold(ctx, p.request)
	case <-ctx.Done():
		p.Drop()
		return nil, ctx.Err()
	}
}

// Drop ends it.
func (p *prepared) Drop() {
	p.stop()
	go func() {
		if c := <-p.ready; c != nil {
			c.close()
		}
	}()
}
