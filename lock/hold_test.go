package lock

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/ledger"
	"github.com/dblock-dev/dblock/lock/internal/notice"
)

func TestHold(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := New(db, Options{Process: "importer", Command: "node"})
	_, ok := l.Grant()
	require.False(t, ok)
	require.Nil(t, l.Lost())
	require.NoError(t, l.Err())
	require.Empty(t, l.Descriptors())
	require.NoError(t, l.Release(), "without a hold it does nothing")

	before := ms(time.Now())
	require.NoError(t, l.Acquire(t.Context()))
	g, ok := l.Grant()
	require.True(t, ok)
	require.Equal(t, n, g.Names)
	require.False(t, g.Leaned)
	require.NoError(t, g.Degraded)
	require.Equal(t, os.Getpid(), g.Holder.PID)
	require.Equal(t, Exclusive, g.Holder.Mode)
	require.GreaterOrEqual(t, g.Holder.Token, before)

	var peers struct {
		PID, Timestamp int64
		Host, Process  string
	}
	require.NoError(t, json.Unmarshal([]byte(contents(t, n.Notice)), &peers))
	require.Equal(t, int64(os.Getpid()), peers.PID)
	require.Equal(t, host(), peers.Host)
	require.Equal(t, "importer", peers.Process)
	require.GreaterOrEqual(t, peers.Timestamp, before)
	i := look1(t, n.Notice).Info
	require.Equal(t, "node", i.Dblock.Command)
	require.Equal(t, g.Holder.Token, i.Dblock.Token)
	require.Equal(t, notice.Exclusive, i.Dblock.Mode)

	require.ErrorIs(t, l.Acquire(t.Context()), ErrAcquired)
	require.NoError(t, l.Release())
	require.NoFileExists(t, n.Notice)
	require.NoFileExists(t, n.spare())
	require.NoError(t, l.Release(), "idempotent")
	require.NoError(t, l.Acquire(t.Context()), "and it can be used again")
	require.NoError(t, l.Release())
}

func TestErrAcquiredWhileAcquiring(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	holder := acquire(t, db, Options{})
	l := New(db, Options{Wait: Forever})
	got := background(t, l)
	waiting(t, n, 1)
	require.ErrorIs(t, l.Acquire(t.Context()), ErrAcquired)
	require.NoError(t, holder.Release())
	require.NoError(t, result(t, got))
}

func TestReleaseByMany(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { _ = l.Release(); _ = l.Err(); _, _ = l.Grant(); l.Suspend(); l.Resume() })
	}
	wg.Wait()
	require.NoFileExists(t, n.Notice)
	require.NoError(t, attemptOnce(t, db, Options{}))
}

func TestReleaseNeverTouchesTheNextHolder(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{})
	require.NoError(t, l.Release())
	next := acquire(t, db, Options{})
	require.NoError(t, l.Release())
	require.Equal(t, own(next).claim.Inode(), inodeOf(t, n.Notice))
	mustHeld(t, attemptOnce(t, db, Options{}))
}

func TestTokensIncrease(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	var clock clock
	var last int64
	draw := func() {
		t.Helper()
		l := New(db, Options{Now: clock.now})
		require.NoError(t, l.Acquire(t.Context()))
		g, _ := l.Grant()
		require.Greater(t, g.Holder.Token, last)
		require.Equal(t, g.Holder.Token, look1(t, n.Notice).Info.Dblock.Token)
		last = g.Holder.Token
		require.NoError(t, l.Release())
	}
	for range 20 {
		draw()
	}
	clock.jump(-time.Hour)
	draw()
	clock.jump(2 * time.Hour)
	draw()
	clock.jump(-time.Hour)
	draw()
	draw()
	require.NoError(t, os.WriteFile(n.token(), []byte("garbage"), 0o600))
	last = ms(time.Now()) - 1 // the file told of a clock an hour ahead
	draw()
	require.NoError(t, os.RemoveAll(n.State))
	clock.jump(time.Second)
	draw()
	clock.jump(time.Second)
	require.NoError(t, os.Truncate(n.token(), 10))
	draw()
}

func TestTokensIncreaseOverProcesses(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	var last int64
	for range 3 {
		h := holding(t, config{DB: db})
		token := look1(t, n.Notice).Info.Dblock.Token
		require.Greater(t, token, last)
		last = token
		h.die(t)
	}
}

func TestKilledHolder(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	h := holding(t, config{DB: db})
	held := mustHeld(t, attemptOnce(t, db, Options{}))
	require.Equal(t, h.Process.Pid, held.Report.Holder.PID)
	require.Equal(t, StateHeld, held.Report.State)
	l := New(db, Options{Wait: Forever})
	got := background(t, l)
	waiting(t, n, 1)
	h.die(t)
	require.NoError(t, result(t, got))
	require.Equal(t, os.Getpid(), look1(t, n.Notice).Info.PID)
	require.NoError(t, l.Release())
	require.NoFileExists(t, n.Notice)
	require.NoFileExists(t, n.spare())
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	acquire(t, db, Options{Process: "the one"})
	var waits int
	begin := time.Now()
	err := New(db, Options{Wait: 50 * time.Millisecond, OnWait: func() { waits++ }}).Acquire(t.Context())
	held := mustHeld(t, err)
	require.GreaterOrEqual(t, time.Since(begin), 50*time.Millisecond)
	require.GreaterOrEqual(t, held.Waited, 50*time.Millisecond)
	require.Equal(t, n.Notice, held.Path)
	require.Equal(t, "the one", held.Report.Holder.Process)
	require.Contains(t, held.Error(), "the one")
	require.Equal(t, 1, waits)
	require.FileExists(t, n.Notice)
}

func TestTimeoutOnAForeignNotice(t *testing.T) {
	t.Parallel()
	needsSight(t)
	db, n := database(t)
	peer := live(t)
	before := put(t, n.Notice, peerNotice(peer.Process.Pid, host(), ms(time.Now())))
	var waits int
	begin := time.Now()
	held := mustHeld(t, New(db, Options{Wait: 50 * time.Millisecond, OnWait: func() { waits++ }}).Acquire(t.Context()))
	require.GreaterOrEqual(t, time.Since(begin), 50*time.Millisecond)
	require.Equal(t, StateForeign, held.Report.State)
	require.Equal(t, peer.Process.Pid, held.Report.Holder.PID)
	require.Equal(t, 1, waits)
	require.Equal(t, before, inodeOf(t, n.Notice))
	require.NoDirExists(t, n.State)
}

func TestNoOnWaitForAFreeLock(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	require.NoError(t, attemptOnce(t, db, Options{}))
	acquire(t, db, Options{OnWait: func() { panic("it is free") }})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(nil)
	require.ErrorIs(t, New(db, Options{}).Acquire(ctx), context.Canceled)
	require.NoDirExists(t, n.State, "nothing was begun")

	for _, opts := range []Options{{Wait: Forever}, {Wait: time.Hour}, {Wait: Forever, Mode: Shared}, {Wait: Forever, Priority: Low}, {Wait: Forever, Priority: High}} {
		db, n := database(t)
		holder := acquire(t, db, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		l := New(db, opts)
		got := make(chan error, 1)
		go func() { got <- l.Acquire(ctx) }()
		waiting(t, n, 1)
		cancel()
		// At once: the lock is still held.
		require.ErrorIs(t, result(t, got), context.Canceled)
		_, ok := l.Grant()
		require.False(t, ok)
		// The thread that was left in the kernel is granted before whoever comes
		// later, and must let go.
		later := New(db, Options{Wait: Forever})
		got = make(chan error, 1)
		go func() { got <- later.Acquire(t.Context()) }()
		require.NoError(t, holder.Release())
		require.NoError(t, result(t, got))
		require.NoError(t, later.Release())
	}
}

func TestDeadlineOfTheContext(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	acquire(t, db, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, New(db, Options{Wait: Forever}).Acquire(ctx), context.DeadlineExceeded)
}

func TestCancelBeforeAForeignNotice(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	put(t, n.Notice, peerNotice(1, "elsewhere", ms(time.Now())))
	ctx, cancel := context.WithCancel(t.Context())
	l := New(db, Options{Wait: Forever})
	met := meeting(l)
	got := make(chan error, 1)
	go func() { got <- l.Acquire(ctx) }()
	require.True(t, closed(met))
	cancel()
	require.ErrorIs(t, result(t, got), context.Canceled)
	require.NoDirExists(t, n.State)
}

func TestNoWait(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	holder := acquire(t, db, Options{})
	mustHeld(t, attemptOnce(t, db, Options{}))
	mustHeld(t, attemptOnce(t, db, Options{Mode: Shared}))
	mustHeld(t, attemptOnce(t, db, Options{Priority: High}))

	// It is fair: others that wait go first, though the lock is free for readers.
	require.NoError(t, holder.Release())
	reader := acquire(t, db, Options{Mode: Shared})
	require.NoError(t, attemptOnce(t, db, Options{Mode: Shared}))
	writer := New(db, Options{Wait: Forever})
	got := background(t, writer)
	waiting(t, n, 1)
	mustHeld(t, attemptOnce(t, db, Options{Mode: Shared}))
	require.NoError(t, reader.Release())
	require.NoError(t, result(t, got))
}

func TestNoWaitAmongMany(t *testing.T) {
	t.Parallel()
	// Nobody is refused because somebody was passing through a turnstile, unless
	// somebody really has the lock: exactly one of these must.
	db, _ := database(t)
	require.NoError(t, attemptOnce(t, db, Options{}))
	for range 20 {
		locks := make([]*Lock, 4)
		errs := make([]error, len(locks))
		var wg sync.WaitGroup
		for i := range locks {
			locks[i] = New(db, Options{Wait: NoWait})
			wg.Go(func() { errs[i] = locks[i].Acquire(t.Context()) })
		}
		wg.Wait()
		holders := 0
		for i, err := range errs {
			if err == nil {
				holders++
				require.NoError(t, locks[i].Release())
				continue
			}
			mustHeld(t, err)
		}
		require.Equal(t, 1, holders)
	}
}

func TestMutualExclusion(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	var inside, total int // not atomic: the race detector is a witness
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for range 15 {
				err := With(t.Context(), db, Options{Wait: Forever}, func(context.Context) error {
					inside++
					if inside != 1 {
						return errors.New("two are in")
					}
					total++
					inside--
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, 90, total)
}

func TestDeadHolderManyContenders(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	dead := gone(t)
	total := 0
	for range 10 {
		put(t, n.Notice, dblockNotice(t, func(i *notice.Info) { i.PID = dead }))
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if err := With(t.Context(), db, Options{Wait: Forever}, func(context.Context) error { total++; return nil }); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	require.Equal(t, 60, total)
}

func TestWith(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	boom := errors.New("boom")
	require.ErrorIs(t, With(t.Context(), db, Options{}, func(context.Context) error {
		require.FileExists(t, n.Notice)
		return boom
	}), boom)
	require.NoFileExists(t, n.Notice)

	holder := acquire(t, db, Options{})
	mustHeld(t, With(t.Context(), db, Options{Wait: NoWait}, func(context.Context) error { panic("it is held") }))
	require.NoError(t, holder.Release())

	require.Panics(t, func() {
		_ = With(t.Context(), db, Options{}, func(context.Context) error { panic("released all the same") })
	})
	require.NoFileExists(t, n.Notice)
	require.NoError(t, attemptOnce(t, db, Options{}))
}

func TestWithCancelsWhenLost(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	err := With(t.Context(), db, Options{}, func(ctx context.Context) error {
		put(t, n.Notice, peerNotice(os.Getpid(), host(), ms(time.Now())))
		require.True(t, closed(ctx.Done()))
		require.ErrorIs(t, context.Cause(ctx), ErrLost)
		return nil
	})
	require.ErrorIs(t, err, ErrLost)
	require.FileExists(t, n.Notice)
}

func TestBeat(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{StaleTimeout: 300 * time.Millisecond})
	id, first := inodeOf(t, n.Notice), look1(t, n.Notice).Info.Timestamp
	for range 3 {
		require.True(t, eventually(func() bool { return look1(t, n.Notice).Info.Timestamp > first }))
		first = look1(t, n.Notice).Info.Timestamp
	}
	require.Equal(t, id, inodeOf(t, n.Notice), "in place")
	require.NoError(t, l.Err())
}

// A day and a third, beat by beat: the high digits of the timestamp change on the way.
func TestHeldForADay(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	var clock clock
	l := acquire(t, db, Options{Now: clock.now, Unattended: true})
	first := look1(t, n.Notice)
	last := first.Info.Timestamp
	for range 32 * time.Hour / maxBeat {
		clock.jump(maxBeat)
		own(l).beat()
		now := look1(t, n.Notice)
		require.NoError(t, now.Err)
		require.GreaterOrEqual(t, now.Info.Timestamp, last+maxBeat.Milliseconds())
		last = now.Info.Timestamp
	}
	require.Equal(t, len(first.Bytes), len(look1(t, n.Notice).Bytes))
	require.Equal(t, first.ID, inodeOf(t, n.Notice))
	require.NoError(t, l.Release())
	require.NoFileExists(t, n.Notice)
}

func TestReadersNeverSeeATornNotice(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{StaleTimeout: 6 * time.Millisecond}) // beats as fast as it may
	id := inodeOf(t, n.Notice)
	reader := start(t, "read", config{DB: db, Reads: 5_000})
	require.Equal(t, "reading", reader.line(t))
	require.Equal(t, "done", reader.line(t))
	require.Equal(t, id, inodeOf(t, n.Notice))
	require.NoError(t, l.Err())
}

// Healing: young and old holds have different means of noticing.

func holdOfEachAge(t *testing.T, f func(t *testing.T, db string, n Names, l *Lock)) {
	t.Run("young", func(t *testing.T) {
		t.Parallel()
		db, n := database(t)
		f(t, db, n, acquire(t, db, Options{}))
	})
	t.Run("watched", func(t *testing.T) {
		t.Parallel()
		db, n := database(t)
		l := acquire(t, db, Options{})
		begin := time.Now()
		require.True(t, eventually(func() bool {
			if portable.Half { // it goes on as before
				return time.Since(begin) > watchAfter
			}
			own(l).keeper.mu.Lock()
			defer own(l).keeper.mu.Unlock()
			return own(l).keeper.watcher != nil
		}))
		f(t, db, n, l)
	})
}

func TestHeal(t *testing.T) {
	t.Parallel()
	holdOfEachAge(t, func(t *testing.T, db string, n Names, l *Lock) {
		id := inodeOf(t, n.Notice)
		for range 3 {
			require.NoError(t, os.Remove(n.Notice))
			require.True(t, eventually(func() bool { _, err := os.Lstat(n.Notice); return err == nil }))
			require.Equal(t, id, inodeOf(t, n.Notice), "the spare name is linked back")
		}
		require.NoError(t, l.Err())
		mustHeld(t, attemptOnce(t, db, Options{}))
		require.NoError(t, l.Release())
		require.NoFileExists(t, n.Notice)
		require.NoFileExists(t, n.spare())
	})
}

func TestHealWithoutSpare(t *testing.T) {
	t.Parallel()
	holdOfEachAge(t, func(t *testing.T, db string, n Names, l *Lock) {
		before := look1(t, n.Notice).Info
		require.NoError(t, os.Remove(n.spare()))
		require.NoError(t, os.Remove(n.Notice))
		require.True(t, eventually(func() bool { _, err := os.Lstat(n.Notice); return err == nil }))
		after := look1(t, n.Notice).Info
		require.GreaterOrEqual(t, after.Timestamp, before.Timestamp)
		after.Timestamp = before.Timestamp
		require.Equal(t, before, after, "the same in everything but the inode")
		require.NoError(t, l.Err())
		// And once more, from the new spare.
		id := inodeOf(t, n.Notice)
		require.NoError(t, os.Remove(n.Notice))
		require.True(t, eventually(func() bool { _, err := os.Lstat(n.Notice); return err == nil }))
		require.Equal(t, id, inodeOf(t, n.Notice))
		require.NoError(t, l.Release())
		require.NoFileExists(t, n.Notice)
		require.NoFileExists(t, n.spare())
	})
}

func TestLost(t *testing.T) {
	t.Parallel()
	holdOfEachAge(t, func(t *testing.T, db string, n Names, l *Lock) {
		lost := l.Lost()
		require.NotNil(t, lost)
		theirs := peerNotice(4711, "elsewhere", ms(time.Now()))
		id := put(t, n.Notice, theirs)
		require.True(t, closed(lost))
		var e *LostError
		require.ErrorAs(t, l.Err(), &e)
		require.ErrorIs(t, l.Err(), ErrLost)
		require.Equal(t, n.Notice, e.Path)
		require.Equal(t, 4711, e.Holder.PID)
		require.Contains(t, e.Error(), "mcp-server")
		l.Suspend()
		l.Resume()
		require.ErrorIs(t, l.Release(), ErrLost)
		require.Equal(t, id, inodeOf(t, n.Notice), "the new owner's notice survives")
		require.Equal(t, theirs, contents(t, n.Notice))
		require.NoFileExists(t, n.spare())
		require.NoError(t, l.Release())
	})
}

func TestLostJustBeforeRelease(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{})
	own(l).keeper.first.Stop() // nobody has looked since
	theirs := put(t, n.Notice, peerNotice(4711, "elsewhere", ms(time.Now())))
	require.ErrorIs(t, l.Release(), ErrLost)
	require.Equal(t, theirs, inodeOf(t, n.Notice))
}

// comeAndGo is what a peer does that finds the path free because another has deleted
// the notice: it creates its own, works, and removes it.
func comeAndGo(t *testing.T, l *Lock, n Names) {
	t.Helper()
	own(l).keeper.mu.Lock() // between two looks
	defer own(l).keeper.mu.Unlock()
	ours, err := os.Open(n.Notice)
	require.NoError(t, err)
	defer ours.Close()
	require.NoError(t, os.Remove(n.Notice))
	require.True(t, eventually(func() bool {
		put(t, n.Notice, peerNotice(1, host(), ms(time.Now())))
		require.NoError(t, os.Remove(n.Notice))
		var gone unix.Stat_t
		require.NoError(t, unix.Fstat(int(ours.Fd()), &gone))
		changed, err := inode.DirChanged(filepath.Dir(n.Notice))
		require.NoError(t, err)
		return changed > gone.Ctim.Nano() // the clock of the filesystem has moved
	}))
}

func TestPeerComesAndGoesBetweenTwoLooks(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{})
	comeAndGo(t, l, n)
	require.True(t, eventually(func() bool { return exists(n.Notice) }), "it is put back all the same")
	require.ErrorIs(t, l.Release(), ErrLost)
	require.NoFileExists(t, n.Notice)

	l = acquire(t, db, Options{})
	comeAndGo(t, l, n)
	require.ErrorIs(t, l.Release(), ErrLost, "and if the hold ends at once")
}

// A single peer is known not to come back so soon after it has deleted something.
func TestSinglePeerDoesNotComeAndGo(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{})
	own(l).keeper.mu.Lock()
	own(l).claim.Meet(4711)
	own(l).keeper.mu.Unlock()
	comeAndGo(t, l, n)
	require.NoError(t, l.Release())
	require.True(t, ledger.Last(n.State).Single(ms(time.Now())))

	l = acquire(t, db, Options{})
	own(l).keeper.mu.Lock()
	own(l).claim.Meet(4712)
	require.True(t, own(l).claim.Crowded())
	own(l).keeper.mu.Unlock()
	comeAndGo(t, l, n)
	require.ErrorIs(t, l.Release(), ErrLost)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestLostToSomethingElse(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{})
	fifo := n.Notice + "-fifo"
	require.NoError(t, unix.Mkfifo(fifo, 0o644))
	require.NoError(t, os.Rename(fifo, n.Notice))
	require.True(t, closed(l.Lost()))
	require.Contains(t, l.Err().Error(), "something else")
	require.ErrorIs(t, l.Release(), ErrLost)
	info, err := os.Lstat(n.Notice)
	require.NoError(t, err)
	require.Equal(t, os.ModeNamedPipe, info.Mode().Type())
}

func TestRoomRemoved(t *testing.T) {
	t.Parallel()
	holdOfEachAge(t, func(t *testing.T, db string, n Names, l *Lock) {
		require.NoError(t, os.RemoveAll(n.State))
		require.True(t, closed(l.Lost()))
		require.Contains(t, l.Err().Error(), "state directory")
		require.ErrorIs(t, l.Release(), ErrLost)
		require.NoFileExists(t, n.Notice, "it was still ours")
		require.NoError(t, attemptOnce(t, db, Options{}))
	})
}

func TestRoomReplaced(t *testing.T) {
	t.Parallel()
	holdOfEachAge(t, func(t *testing.T, db string, n Names, l *Lock) {
		require.NoError(t, os.WriteFile(n.State+"/new", nil, 0o600))
		require.NoError(t, os.Rename(n.State+"/new", n.room()))
		// Until it notices, its notice keeps others out.
		if err := attemptOnce(t, db, Options{}); err != nil {
			mustHeld(t, err)
		}
		require.True(t, closed(l.Lost()))
		require.ErrorIs(t, l.Release(), ErrLost)
	})
}

func TestSuspend(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{StaleTimeout: 60 * time.Millisecond})
	l.Suspend()
	ahead := look1(t, n.Notice).Info.Timestamp
	require.InDelta(t, ms(time.Now().Add(lead)), ahead, 60_000)
	// No beat may bring the present back meanwhile.
	require.False(t, within(100*time.Millisecond, func() bool { return look1(t, n.Notice).Info.Timestamp != ahead }))
	require.NoError(t, os.Remove(n.Notice))
	require.True(t, eventually(func() bool { _, err := os.Lstat(n.Notice); return err == nil }))
	require.Equal(t, ahead, look1(t, n.Notice).Info.Timestamp)
	l.Resume()
	require.InDelta(t, ms(time.Now()), look1(t, n.Notice).Info.Timestamp, 60_000)
	require.NoError(t, l.Err())
	now := look1(t, n.Notice).Info.Timestamp
	require.True(t, eventually(func() bool { return look1(t, n.Notice).Info.Timestamp > now }), "it beats again")
}

func TestResumeTellsTheTruthAtOnce(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{})
	l.Suspend()
	put(t, n.Notice, peerNotice(1, "elsewhere", ms(time.Now())))
	l.Resume()
	require.ErrorIs(t, l.Err(), ErrLost)

	db, n = database(t)
	l = acquire(t, db, Options{})
	l.Suspend()
	require.NoError(t, os.Remove(n.Notice))
	l.Resume()
	require.NoError(t, l.Err())
	require.Equal(t, own(l).claim.Inode(), inodeOf(t, n.Notice))
}

func TestClockJumps(t *testing.T) {
	t.Parallel()
	for _, jump := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			t.Parallel()
			db, n := database(t)
			var clock clock
			opts := Options{Now: clock.now, StaleTimeout: 120 * time.Millisecond}
			l := acquire(t, db, opts)
			waiter := New(db, Options{Now: clock.now, StaleTimeout: opts.StaleTimeout, Wait: Forever})
			got := background(t, waiter)
			waiting(t, n, 1)
			clock.jump(jump)
			mustHeld(t, attemptOnce(t, db, opts))
			require.True(t, eventually(func() bool {
				d := ms(clock.now()) - look1(t, n.Notice).Info.Timestamp
				return d >= 0 && d < 60_000
			}), "the beats follow the clock")
			require.NoError(t, l.Err())
			require.Empty(t, got)
			require.NoError(t, l.Release())
			require.NoError(t, result(t, got))
		})
	}
}

func TestClockJumpDoesNotStealFromAPeer(t *testing.T) {
	t.Parallel()
	needsSight(t)
	for _, jump := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			t.Parallel()
			db, n := database(t)
			require.NoError(t, attemptOnce(t, db, Options{}), "the clock is known")
			peer := live(t)
			id := put(t, n.Notice, peerNotice(peer.Process.Pid, host(), ms(time.Now())))
			var clock clock
			judged := make(chan struct{})
			l := New(db, Options{Now: clock.now, Wait: Forever, RetryDelay: 5 * time.Millisecond})
			at(l, "judged", func() { close(judged) }) // only when it is about to take over
			met := meeting(l)
			got := background(t, l)
			require.True(t, closed(met))
			clock.jump(jump)
			require.False(t, within(1500*time.Millisecond, func() bool { return isClosed(judged) }), "the peer was alive before the jump, and is")
			require.Equal(t, id, inodeOf(t, n.Notice))
			require.NoError(t, os.Remove(n.Notice))
			require.NoError(t, result(t, got))
		})
	}
}

func TestClockSetSinceTheLastHold(t *testing.T) {
	t.Parallel()
	needsSight(t)
	for _, jump := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			t.Parallel()
			db, n := database(t)
			var clock clock
			opts := Options{Now: clock.now}
			require.NoError(t, attemptOnce(t, db, opts))
			peer := live(t)
			id := put(t, n.Notice, peerNotice(peer.Process.Pid, host(), ms(time.Now())))
			clock.jump(jump)
			for range 2 {
				mustHeld(t, attemptOnce(t, db, opts))
				require.Equal(t, id, inodeOf(t, n.Notice))
				r, err := Inspect(db, opts)
				require.NoError(t, err)
				require.False(t, r.Stale, r.Evidence)
			}
			require.NoError(t, os.Remove(n.Notice))
			require.NoError(t, attemptOnce(t, db, opts))
			if portable.Half {
				return // that number is the peer's for as long as there is such a process
			}
			// From now on the new time counts.
			put(t, n.Notice, peerNotice(peer.Process.Pid, host(), ms(clock.now().Add(-48*time.Hour))))
			require.NoError(t, attemptOnce(t, db, opts), "another process has that pid now")
		})
	}
}

// Files.

func TestModes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ dir, state, file fs.FileMode }{
		{0o700, 0o700, 0o600},
		{0o755, 0o755, 0o600},
		{0o775, 0o775, 0o660},
		{0o777 | fs.ModeSticky, 0o777 | fs.ModeSticky, 0o666},
	} {
		t.Run(c.dir.String(), func(t *testing.T) {
			t.Parallel()
			db, n := database(t)
			require.NoError(t, os.Chmod(filepath.Dir(db), c.dir))
			h := holding(t, config{DB: db, Umask: 0o077})
			mode := func(path string) fs.FileMode {
				st, err := os.Lstat(path)
				require.NoError(t, err)
				return st.Mode() &^ fs.ModeDir
			}
			require.Equal(t, c.state, mode(n.State))
			for _, p := range []string{n.room(), n.token(), n.turnstile(Normal), n.turnstile(High)} {
				require.Equal(t, c.file, mode(p), p)
			}
			require.Equal(t, fs.FileMode(0o644), mode(n.Notice), "whatever the umask")
			h.say(t, "release")
			require.Equal(t, "released <nil>", h.line(t))
		})
	}
}

func TestErrorsNameTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, db := range []string{filepath.Join(dir, "missing", "x.db"), filepath.Join(dir, "file", "x.db")} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
		err := New(db, Options{}).Acquire(t.Context())
		var pe *fs.PathError
		require.ErrorAs(t, err, &pe)
		require.True(t, strings.HasPrefix(pe.Path, dir), pe.Path)
	}
	require.ErrorIs(t, New("", Options{}).Acquire(t.Context()), ErrName)
}

func TestStateDirectoryInTheWay(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	require.NoError(t, os.WriteFile(n.State, []byte("mine"), 0o644))
	require.Error(t, New(db, Options{}).Acquire(t.Context()))
	require.Equal(t, "mine", contents(t, n.State))
	require.NoFileExists(t, n.Notice)
}

// Somebody empties the file, or writes over it, in place: with the inode that we know.
func TestWrittenOverInPlace(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"emptied": "", "no notice": "vm\n", "longer than ours": strings.Repeat("x", 1000)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, n := database(t)
			l := acquire(t, db, Options{StaleTimeout: time.Second})
			before := look1(t, n.Notice).Info
			require.NoError(t, os.WriteFile(n.Notice, []byte(text), 0o644))
			require.True(t, eventually(func() bool {
				seen, err := notice.Read(n.Notice)
				return err == nil && seen.Info.Dblock != nil && seen.Info.Dblock.ID == before.Dblock.ID && seen.Info.PID == before.PID
			}), "it says again what it said")
			mustHeld(t, attemptOnce(t, db, Options{}))
			require.NoError(t, l.Release())
			require.NoError(t, attemptOnce(t, db, Options{}))
		})
	}
	t.Run("a peer's", func(t *testing.T) {
		t.Parallel()
		db, n := database(t)
		l := acquire(t, db, Options{StaleTimeout: time.Second})
		require.NoError(t, os.WriteFile(n.Notice, []byte(peerNotice(os.Getppid(), host(), ms(time.Now()))), 0o644))
		require.True(t, closed(l.Lost()))
		require.ErrorIs(t, l.Release(), ErrLost)
	})
	t.Run("left by one that was killed", func(t *testing.T) {
		t.Parallel()
		db, n := database(t)
		require.NoError(t, os.WriteFile(n.Notice, append(make([]byte, 40), "12345678"...), 0o644))
		l := New(db, Options{Wait: 20 * time.Second})
		require.NoError(t, l.Acquire(t.Context()))
		require.NoError(t, l.Release())
	})
}
