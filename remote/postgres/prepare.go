package postgres

import (
	"context"
	"time"

	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/remote/internal/ready"
)

// tendEvery is how often it is looked whether a session that is kept for later is still there.
const tendEvery = 10 * time.Second

// prepared are the sessions of one who will ask soon; nil if the server is not to be reached.
type prepared struct {
	thing   *ready.Thing[*attempt]
	request lock.EngineRequest
}

// Prepare opens the sessions.
func (engine) Prepare(ask lock.EngineRequest) lock.Prepared {
	keep := func(ctx context.Context, wanted <-chan struct{}) *attempt { return keep(ctx, wanted, ask) }
	return &prepared{ready.Make(keep, (*attempt).end), ask}
}

// keep keeps them open until they are wanted.
func keep(ctx context.Context, wanted <-chan struct{}, ask lock.EngineRequest) *attempt {
	t, err := parse(ask.URL)
	if err != nil {
		return nil
	}
	a := &attempt{target: t, request: ask}
	a.expectSecond(ctx)
	for err = a.open(ctx); err == nil; err = a.alive(ctx) {
		select {
		case <-wanted:
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
	t, err := parse(p.request.URL)
	if err != nil {
		p.Drop()
		return nil, err
	}
	a, err := p.thing.Take(ctx)
	if err != nil {
		p.Drop()
		return nil, err
	}
	// Somebody of this machine had the lock, from that server.
	return t.acquire(ctx, p.request, a, true)
}

// Drop closes them.
func (p *prepared) Drop() { p.thing.Drop() }
