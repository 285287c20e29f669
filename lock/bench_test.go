package lock

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The goal is less than 60 µs.
func BenchmarkAcquireRelease(b *testing.B) {
	for name, opts := range map[string]Options{"exclusive": {}, "shared": {Mode: Shared}} {
		b.Run(name, func(b *testing.B) {
			l := New(filepath.Join(b.TempDir(), "x.db"), opts)
			for b.Loop() {
				if err := l.Acquire(b.Context()); err != nil {
					b.Fatal(err)
				}
				if err := l.Release(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkInspect(b *testing.B) {
	db := filepath.Join(b.TempDir(), "x.db")
	l := New(db, Options{})
	require.NoError(b, l.Acquire(b.Context()))
	for b.Loop() {
		if _, err := Inspect(db, Options{}); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, l.Release())
}

// A day is 17,280 of these, when nothing else happens.
func BenchmarkBeat(b *testing.B) {
	l := New(filepath.Join(b.TempDir(), "x.db"), Options{Unattended: true})
	require.NoError(b, l.Acquire(b.Context()))
	for b.Loop() {
		own(l).keeper.look()
		own(l).keeper.mu.Lock()
		own(l).beat()
		own(l).keeper.mu.Unlock()
	}
	require.NoError(b, l.Release())
}
