// Package ready has what an engine prepares for somebody who will ask it soon.
package ready

import "context"

// Thing is made in the background and kept until it is wanted. Once, either Take or Drop is called.
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

// Take waits for it. The error is that of ctx.
func (t *Thing[T]) Take(ctx context.Context) (made T, err error) {
	close(t.wanted)
	select {
	case made = <-t.made:
		return made, nil
	case <-ctx.Done():
		t.Drop()
		return made, ctx.Err()
	}
}

// Drop ends it, in the background.
func (t *Thing[T]) Drop() {
	t.stop()
	go func() { t.end(<-t.made) }()
}
