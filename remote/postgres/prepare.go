package postgres

import (
	"context"
	"time"

	"github.com/dblock-dev/dblock/lock"
)

// tendEvery is how often it is looked whether a session that is kept for later is still there.
const tendEvery = 10 * time.Second

// prepared are the sessions of one who will ask soon.
type prepared struct {
	request lock.EngineRequest
	stop    context.CancelFunc
	wanted  chan struct{}
	ready   chan *attempt // what there is in the end; nil if the server is not to be reached
}

// Prepare opens the sessions.
func (engine) Prepare(ask lock.EngineRequest) lock.Prepared {
	ctx, stop := context.WithCancel(context.Background())
	p := &prepared{request: ask, stop: stop, wanted: make(chan struct{}), ready: make(chan *attempt, 1)}
	go func() { p.ready <- p.keep(ctx) }()
	return p
}

// keep keeps them open until they are wanted.
func (p *prepared) keep(ctx context.Context) *attempt {
	t, err := parse(p.request.URL)
	if err != nil {
		return nil
	}
	a := &attempt{target: t, request: p.request}
	for err = a.open(ctx); err == nil; err = a.alive(ctx) {
		select {
		case <-p.wanted:
			return a
		case <-ctx.Done():
			a.end()
			return nil
		case <-time.After(tendEvery):
		}
	}
	a.end()
	return nil
}

// alive asks on both sessions for an answer. The second one is opened again if there is none.
func (a *attempt) alive(ctx context.Context) error {
	if a.coming != nil {
		<-a.coming
		a.coming = nil
	}
	if a.second != nil {
		if _, err := a.second.ask(ctx, "SELECT"); err != nil {
			a.dropSecond()
		}
	}
	if a.second == nil {
		a.expectSecond(ctx)
	}
	_, err := a.first.ask(ctx, "SELECT")
	return err
}

// Acquire gets the lock on them. What was prepared may be of no use by now.
func (p *prepared) Acquire(ctx context.Context) (lock.EngineHold, error) {
	close(p.wanted)
	select {
	case a := <-p.ready:
		if a == nil {
			return engine{}.Acquire(ctx, p.request)
		}
		return a.target.acquire(ctx, p.request, a)
	case <-ctx.Done():
		p.Drop()
		return nil, ctx.Err()
	}
}

// Drop ends them.
func (p *prepared) Drop() {
	p.stop()
	go func() {
		if a := <-p.ready; a != nil {
			a.end()
		}
	}()
}
