package lock

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGuard(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	var inside atomic.Int32
	g := NewGuard(db, Options{Wait: Forever}, &inside)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				_ = g.Use(t.Context(), func(_ context.Context, inside *atomic.Int32) error {
					if inside.Add(1) != 1 {
						t.Error("two at once")
					}
					inside.Add(-1)
					return nil
				})
			}
		})
	}
	all.Wait()
	require.NoFileExists(t, n.Notice)

	boom := errors.New("boom")
	var outside context.Context
	require.ErrorIs(t, g.Use(t.Context(), func(ctx context.Context, _ *atomic.Int32) error {
		outside = ctx
		require.FileExists(t, n.Notice)
		require.ErrorIs(t, attemptOnce(t, db, Options{}), ErrHeld)
		require.NoError(t, g.Use(ctx, func(context.Context, *atomic.Int32) error { return nil }))
		require.NoError(t, g.Read(ctx, func(context.Context, *atomic.Int32) error { return nil }))
		return boom
	}), boom)
	require.ErrorIs(t, g.Use(outside, func(context.Context, *atomic.Int32) error { return nil }), context.Canceled, "what was inside is over")
	require.NoError(t, g.Read(t.Context(), func(ctx context.Context, _ *atomic.Int32) error {
		require.NoError(t, attemptOnce(t, db, Options{Mode: Shared}))
		return errors.Join(
			g.Read(ctx, func(context.Context, *atomic.Int32) error { return nil }),
			expect(ErrUpgrade, g.Use(ctx, func(context.Context, *atomic.Int32) error { return nil })),
		)
	}))
}

func expect(want, got error) error {
	if errors.Is(got, want) {
		return nil
	}
	return errors.Join(errors.New("another error"), got)
}
