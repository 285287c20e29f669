package lock

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/lock/internal/notice"
)

func set(t *testing.T, opts Options, dbs ...string) *Set {
	t.Helper()
	s, err := NewSet(dbs, opts, nil)
	require.NoError(t, err)
	return s
}

// Whatever order they are named in, the locks are acquired in one, and are held all or not
// at all.
func TestSetTakesAllOrNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b, c := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db"), filepath.Join(dir, "c.db")
	free := func(db string) bool {
		l := New(db, Options{Wait: NoWait})
		err := l.Acquire(context.Background())
		_ = l.Release()
		return err == nil
	}
	s := set(t, Options{}, c, a, filepath.Join(dir, ".", "b.db"), a)
	require.Empty(t, s.Grants())
	require.Nil(t, s.Lost())
	require.NoError(t, s.Acquire(context.Background()))
	var names []string
	for _, g := range s.Grants() {
		names = append(names, filepath.Base(g.Names.DB))
	}
	require.Equal(t, []string{"c.db", "a.db", "b.db"}, names, "the first that was named is the first")
	require.Len(t, s.Descriptors(), 3)
	for _, db := range []string{a, b, c} {
		require.False(t, free(db), db)
	}
	require.NoError(t, s.Release())
	require.NoError(t, s.Release())

	middle := acquire(t, b, Options{})
	begin := time.Now()
	s = set(t, Options{Wait: 100 * time.Millisecond}, c, b, a)
	var held *HeldError
	require.ErrorAs(t, s.Acquire(context.Background()), &held)
	require.Equal(t, ".b.lock", filepath.Base(held.Path), "the one that is in the way")
	require.GreaterOrEqual(t, time.Since(begin), 100*time.Millisecond)
	require.GreaterOrEqual(t, held.Waited, 100*time.Millisecond)
	require.True(t, free(a), "it was given back")
	require.True(t, free(c), "it was never acquired")
	require.NoError(t, middle.Release())
	require.NoError(t, s.Acquire(context.Background()), "another try")
	require.NoError(t, s.Release())
}

// The wait is for all of them together.
func TestSetWaitsOnceForAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
	first, second := acquire(t, a, Options{}), acquire(t, b, Options{})
	waits := make(chan string, 2)
	s, err := NewSet([]string{b, a}, Options{Wait: 3 * time.Second}, func(db string) { waits <- db })
	require.NoError(t, err)
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- s.Acquire(context.Background()) }()
	require.Equal(t, a, <-waits)
	<-time.After(2 * time.Second)
	require.NoError(t, first.Release())
	require.Equal(t, b, <-waits)
	require.ErrorIs(t, <-done, ErrHeld)
	require.Less(t, time.Since(began), 4500*time.Millisecond, "not three seconds for each")
	require.NoError(t, second.Release())
}

// A lock that is held already while another one is waited for shows that it lives.
func TestSetBeatsWhileItWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
	n, err := Resolve(a, "")
	require.NoError(t, err)
	second := acquire(t, b, Options{})
	s := set(t, Options{StaleTimeout: 60 * time.Millisecond, Wait: Forever, Unattended: true}, a, b)
	done := make(chan error, 1)
	go func() { done <- s.Acquire(context.Background()) }()
	require.True(t, eventually(func() bool { _, err := notice.Read(n.Notice); return err == nil }))
	before := look1(t, n.Notice).Info.Timestamp
	require.True(t, eventually(func() bool { return look1(t, n.Notice).Info.Timestamp > before }))
	require.NoError(t, second.Release())
	require.NoError(t, <-done)
	require.NoError(t, s.Release())
}
