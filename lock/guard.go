package lock

import "context"

// Guard keeps a value whose every use must be under a database's lock: a store, a client, a
// connection of which there may be only one at a time.
//
// A use that is begun inside of another one, with its context, is a part of it, and not kept
// from others that are.
type Guard[T any] struct {
	db    string
	opts  Options
	value T
}

// NewGuard guards a value by the lock of the database at path db. Options.Mode does not count.
func NewGuard[T any](db string, opts Options, value T) *Guard[T] {
	return &Guard[T]{db, opts, value}
}

// guarded is the key of a context's use.
type guarded struct{ guard any }

// Use runs fn alone: no other process has the lock meanwhile. The context that fn gets ends when
// the lock is lost. The error is that of Lock.Acquire, fn's, or that of Lock.Release; inside of a Read it is
// ErrUpgrade.
func (g *Guard[T]) Use(ctx context.Context, fn func(context.Context, T) error) error {
	return g.with(ctx, Exclusive, fn)
}

// Read runs fn together with others that read.
func (g *Guard[T]) Read(ctx context.Context, fn func(context.Context, T) error) error {
	return g.with(ctx, Shared, fn)
}

func (g *Guard[T]) with(ctx context.Context, mode Mode, fn func(context.Context, T) error) error {
	key := guarded{g}
	if outer, inside := ctx.Value(key).(Mode); inside {
		if ctx.Err() != nil { // it is over, or its lock was lost
			return context.Cause(ctx)
		}
		if outer == Shared && mode == Exclusive {
			return ErrUpgrade
		}
		return fn(ctx, g.value)
	}
	opts := g.opts
	opts.Mode = mode
	return With(ctx, g.db, opts, func(ctx context.Context) error {
		return fn(context.WithValue(ctx, key, mode), g.value)
	})
}
