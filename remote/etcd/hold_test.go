package etcd_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/run/holdertest"
)

// acquired is a lock that is held on a machine of its own.
func acquired(t testing.TB, url string, opts lock.Options) *lock.Lock {
	t.Helper()
	machine(t)
	if opts.Grace == 0 {
		opts.Grace = time.Second
	}
	l := lock.New(url, opts)
	require.NoError(t, l.Acquire(context.Background()))
	t.Cleanup(func() { _ = l.Release() })
	return l
}

func TestConforms(t *testing.T) {
	s := serve(t)
	c := s.direct(t)
	for _, mode := range []lock.Mode{lock.Exclusive, lock.Shared} {
		t.Run(mode.String(), func(t *testing.T) {
			holdertest.Conforms(t, func(t *testing.T) holdertest.Hold {
				url := s.url(t.Name())
				l := acquired(t, url, lock.Options{Mode: mode})
				return holdertest.Hold{
					Holder: l,
					Lose: func(t *testing.T) {
						for _, k := range keys(t, c, t.Name()) {
							_, err := c.Delete(context.Background(), k)
							require.NoError(t, err)
						}
						// It is told at once; the hold tells what it was told.
						<-l.Lost()
					},
					Free: func(t *testing.T) bool {
						machine(t)
						other := lock.New(url, lock.Options{Wait: lock.NoWait})
						err := other.Acquire(context.Background())
						if err != nil {
							require.ErrorIs(t, err, lock.ErrHeld)
						}
						require.NoError(t, other.Release())
						return err == nil
					},
				}
			})
		})
	}
}
