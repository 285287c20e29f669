// Package ready has what an engine prepares for somebody who will ask it soon.
package ready

import "context"

// Thing is made in the background and kept until it is wanted. Once, either Take is called, or Drop, or Drop after
// a Take that failed.
type Thing[T any] struct {
	stop   context.CancelFunc
	wanted chan struct{}
	made   chan T
	end    func(T)
}

// Make begins to make it. keep returns it when wanted is closed, or nothing when ctx has ended; end ends what
// keep has returned.
func Make[T any](keep func(ctx context.Context, wanted <-chan struct{}) T, end func(T)) *Thing[T] {
	ctx, stop := context.WithCancel(context.Background())
	t := &Thing[T]{stop: stop, wanted: make(chan struct{}), made: make(chan T, 1), end: end}
	go func() { t.made <- keep(ctx, t.wanted) }()
	return t
}

// Take waits for it. The error is that of ctx; what was made then is to be dropped.
func (t *Thing[T]) Take(ctx context.Context) (made T, err error) {
	close(t.wanted)
	select {
	case made = <-t.made:
		return made, nil
	case <-ctx.Done():
		return made, ctx.Err()
	}
}

// Drop ends it, in the background: ended is closed when that is done.
func (t *Thing[T]) Drop() (ended <-chan struct{}) {
	t.stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.end(<-t.made)
	}()
	return done
}
