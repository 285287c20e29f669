package lock

import (
	"context"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/lock/internal/claim"
	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/ledger"
	"github.com/dblock-dev/dblock/lock/internal/notice"
)

// missing counts how often there is nothing at the path, until it is stopped.
func missing(path string) (stop func() int) {
	var over atomic.Bool
	n := make(chan int)
	go func() {
		count := 0
		for !over.Load() {
			if _, err := os.Lstat(path); os.IsNotExist(err) {
				count++
			}
		}
		n <- count
	}()
	return func() int { over.Store(true); return <-n }
}

func TestHandOverKeepsThePath(t *testing.T) {
	portable.Needs(t, portable.Signs)
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{})
	stop := missing(n.Notice)
	for range 50 {
		next := New(db, Options{Wait: Forever})
		got := background(t, next)
		waiting(t, n, 1)
		require.NoError(t, l.Release())
		require.NoError(t, result(t, got))
		seen, err := notice.Read(n.Notice)
		require.NoError(t, err)
		require.Equal(t, os.Getpid(), seen.Info.PID)
		require.False(t, claim.WasLeft(seen.Info))
		l = next
	}
	require.Zero(t, stop(), "the path was free in between")
	require.NoError(t, l.Release())
	require.NoFileExists(t, n.Notice)
	require.NoFileExists(t, n.spare())
}

func TestLeftNoticeTellsThatNobodyHoldsIt(t *testing.T) {
	portable.Needs(t, portable.Signs)
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{})
	next := New(db, Options{Wait: Forever})
	var left notice.Info
	at(next, "judged", func() {
		seen, err := notice.Read(n.Notice)
		require.NoError(t, err)
		left = seen.Info
	})
	got := background(t, next)
	waiting(t, n, 1)
	require.NoError(t, l.Release())
	require.NoError(t, result(t, got))
	require.True(t, claim.WasLeft(left), "%+v", left)
	age := notice.Since(ms(time.Now()), left.Timestamp)
	require.Less(t, age, DefaultStaleTimeout, "no peer may find it stale at once")
	require.Greater(t, age, DefaultStaleTimeout-10*time.Second, "nor only long after")
	require.NoError(t, next.Release())
}

// A successor that is killed when its sign was seen, before the room is free.
func TestSuccessorDiesInTheHandOver(t *testing.T) {
	portable.Needs(t, portable.Signs)
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{})
	next := start(t, "hold", config{DB: db, Wait: Forever})
	waiting(t, n, 1)
	left := false
	at(l, "leaving", func() {
		left = true
		require.NoError(t, next.Process.Kill())
		_ = next.Wait()
	})
	require.NoError(t, l.Release())
	require.True(t, left)
	require.NoFileExists(t, n.Notice, "nobody holds the lock, and peers must wait for it")
	require.NoError(t, attemptOnce(t, db, Options{}))
}

// A wait that was given up is in the kernel's queue still, and is granted the room.
func TestWaitGivenUpRemovesWhatWasLeft(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{})
	next := New(db, Options{Wait: Forever})
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() { got <- next.Acquire(ctx) }()
	waiting(t, n, 1)
	cancel()
	require.ErrorIs(t, result(t, got), context.Canceled)
	// As if the sign had been seen just before: the notice is left all the same.
	k := own(l).keeper
	k.mu.Lock()
	k.ended = true
	k.mu.Unlock()
	ours, err := notice.Adopt(inode.Path(n.Notice), look1(t, n.Notice))
	require.NoError(t, err)
	defer ours.Close()
	require.NoError(t, ours.SetPID(0))
	require.NoError(t, unix.Flock(l.Descriptors()[0], unix.LOCK_UN))
	require.True(t, eventually(func() bool { _, err := os.Lstat(n.Notice); return os.IsNotExist(err) }))
	require.NoError(t, l.Release())
}

// The successor has the room, and then cannot go on.
func TestSuccessorFailsAfterTheHandOver(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{})
	next := New(db, Options{Wait: Forever})
	at(next, "entered", func() {
		require.NoError(t, os.Remove(n.token()))
		require.NoError(t, os.Mkdir(n.token(), 0o755))
	})
	got := background(t, next)
	waiting(t, n, 1)
	require.NoError(t, l.Release())
	require.Error(t, result(t, got))
	require.NoFileExists(t, n.Notice)
}

// meetTwo tells the next hold that several peers are about.
func meetTwo(t *testing.T, db string, n Names) {
	t.Helper()
	require.NoError(t, acquire(t, db, Options{}).Release())
	require.NoError(t, ledger.Amend(stateFile(t, n.token()), func(led *ledger.Ledger) {
		led.Meet(4711, ms(time.Now()))
		led.Meet(4712, ms(time.Now()))
	}))
}

// One peer leaves the path free, another has tried just before: what it finds no longer
// it deletes, whosever is there by then.
func TestPathSettlesInACrowd(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	meetTwo(t, db, n)
	l := New(db, Options{})
	var entered, published time.Time
	at(l, "entered", func() { entered = time.Now() })
	at(l, "published", func() { published = time.Now() })
	require.NoError(t, l.Acquire(t.Context()))
	require.GreaterOrEqual(t, published.Sub(entered), 20*time.Millisecond)
	require.NoError(t, l.Release())
}

func TestHealedAtOnceInACrowd(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	meetTwo(t, db, n)
	l := acquire(t, db, Options{Unattended: true})
	require.Equal(t, crowdedLook, own(l).keeper.lookEvery)
	require.NoError(t, os.Remove(n.Notice))
	require.True(t, eventually(func() bool { return exists(n.Notice) }))
	require.NoError(t, l.Release())
}

func TestHandOverInAStickyDirectory(t *testing.T) {
	portable.Needs(t, portable.Signs)
	needRoot(t)
	t.Parallel()
	for _, mode := range []os.FileMode{0o777 | os.ModeSticky, 0o777} {
		db, n := public(t, mode)
		l := acquire(t, db, Options{})
		next := as(t, 12345, "hold", config{DB: db, Wait: Forever})
		waiting(t, n, 1)
		left := false
		at(l, "leaving", func() { left = true })
		require.NoError(t, l.Release())
		require.Equal(t, mode&os.ModeSticky == 0, left)
		require.Contains(t, next.line(t), "held")
		next.say(t, "release")
		require.NoError(t, next.Wait())
		require.NoFileExists(t, n.Notice)
	}
}
