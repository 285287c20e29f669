package queue

import (
	"context"
	"time"
)

// Patience is how long one who wants the lock waits in all: in the queue, and after that
// for whoever else has it.
type Patience struct {
	None  bool      // he does not wait at all
	End   time.Time // when he gives up; zero: when his context ends
	Begin func()    // called once, when he begins to wait; may be nil

	ctx  context.Context // ends when the wait must; nil until there is one
	stop context.CancelFunc
}

// Limit is ctx, limited by how long he may wait. A lock that is free is acquired
// without it: the first timer of a process costs the Go runtime system calls.
func (p *Patience) Limit(ctx context.Context) context.Context {
	if p.ctx != nil {
		return p.ctx
	}
	if p.Begin != nil {
		p.Begin()
	}
	p.ctx, p.stop = ctx, func() {}
	if !p.End.IsZero() {
		p.ctx, p.stop = context.WithDeadline(ctx, p.End)
	}
	return p.ctx
}

// Waited reports whether he had to wait.
func (p *Patience) Waited() bool { return p.ctx != nil }

// Stop frees the timer. Nobody waits any more.
func (p *Patience) Stop() {
	if p.stop != nil {
		p.stop()
	}
}
