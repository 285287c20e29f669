package top

import (
	"context"
	"sync"
	"time"
)

// What looking may cost. The kernel takes some 10 ms to show its table of locks, in which nobody
// can lock any file: all looks together may take one part of the time in so many. When the
// dashboard appears there is nothing to see before each lock was looked at once.
const (
	parts      = 10
	firstParts = 2
	atOnce     = 16 // a filesystem that does not answer holds up only some
	maxTakes   = 100 * time.Millisecond
)

// pace says when one of many may look.
type pace struct {
	looking chan struct{}

	mu    sync.Mutex
	next  time.Time
	takes time.Duration // how long a look takes, lately
}

func newPace() *pace {
	return &pace{looking: make(chan struct{}, atOnce), takes: 10 * time.Millisecond}
}

// begin waits until it is this one's turn; end is to be called after the look. ok is false if
// the context ends.
func (p *pace) begin(ctx context.Context, first bool) (end func(), ok bool) {
	p.mu.Lock()
	turn, of := time.Now(), parts
	if first {
		of = firstParts
	}
	if p.next.After(turn) {
		turn = p.next
	}
	p.next = turn.Add(time.Duration(of) * p.takes)
	p.mu.Unlock()
	rest(ctx, nil, time.Until(turn))
	select {
	case p.looking <- struct{}{}:
	case <-ctx.Done():
		return nil, false
	}
	begin := time.Now()
	return func() {
		<-p.looking
		p.mu.Lock()
		defer p.mu.Unlock()
		p.takes = min((3*p.takes+time.Since(begin))/4, maxTakes)
	}, ctx.Err() == nil
}
