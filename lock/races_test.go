package lock

import (
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/lock/internal/claim"
	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/ledger"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// Each of these does, at the very moment between two steps, what another process
// may do then. See docs/dev/checks.md; test/mutate.sh proves that each fails
// without the check that it is about.

func TestRoomReplacedBetweenOpenAndLock(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(n Names) error{
		// Somebody runs "git clean".
		"directory removed": func(n Names) error { return os.RemoveAll(n.State) },
		// What we have open is as it was then, only not at its path.
		"directory moved": func(n Names) error { return os.Rename(n.State, n.State+".old") },
		"room removed":    func(n Names) error { return os.Remove(n.room()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, n := database(t)
			require.NoError(t, attemptOnce(t, db, Options{}))
			l := at(New(db, Options{Wait: NoWait}), "open room", func() {
				// Another dblock makes everything anew and is in the room, just before
				// it publishes.
				require.NoError(t, away(n))
				require.NoError(t, os.MkdirAll(n.State, 0o755))
				flock(t, n.room(), queue.Exclusive)
			})
			err := l.Acquire(t.Context())
			t.Cleanup(func() { _ = l.Release() })
			mustHeld(t, err)
			require.NoFileExists(t, n.Notice)
		})
	}
}

func TestRoomRemovedBetweenOpenAndLock(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"open room", "room"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			db, n := database(t)
			l := at(New(db, Options{}), step, func() { require.NoError(t, os.RemoveAll(n.State)) })
			require.NoError(t, l.Acquire(t.Context()))
			require.NoError(t, l.Err())
			require.True(t, own(l).place.Stands())
			mustHeld(t, attemptOnce(t, db, Options{}))
			require.NoError(t, l.Release())
		})
	}
}

func TestStaleNoticeReplacedBeforeTakeOver(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	peer := live(t)
	put(t, n.Notice, peerNotice(gone(t), host(), ms(time.Now())))
	fresh := peerNotice(peer.Process.Pid, host(), ms(time.Now()))
	var theirs inode.ID
	l := at(New(db, Options{Wait: NoWait}), "judged", func() { theirs = put(t, n.Notice, fresh) })
	mustHeld(t, l.Acquire(t.Context()))
	require.Equal(t, theirs, inodeOf(t, n.Notice), "the notice that came in between must be put back")
	require.Equal(t, fresh, contents(t, n.Notice))
}

func TestStaleNoticeRewrittenBeforeTakeOver(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	peer := live(t)
	put(t, n.Notice, "")
	fresh := peerNotice(peer.Process.Pid, host(), ms(time.Now()))
	// The same inode: the peer was merely slow to fill the file that it created.
	l := at(New(db, Options{Wait: 10 * time.Second}), "judged", func() {
		require.NoError(t, os.WriteFile(n.Notice, []byte(fresh), 0o644))
	})
	l = at(l, "swapped", func() { l.opts.Wait = NoWait })
	mustHeld(t, l.Acquire(t.Context()))
	require.Equal(t, fresh, contents(t, n.Notice))
}

func TestPutBackWhenOursWasUnlinked(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	peer := live(t)
	put(t, n.Notice, peerNotice(gone(t), host(), ms(time.Now())))
	fresh := peerNotice(peer.Process.Pid, host(), ms(time.Now()))
	var theirs inode.ID
	l := at(New(db, Options{Wait: NoWait}), "judged", func() { theirs = put(t, n.Notice, fresh) })
	l = at(l, "swapped", func() { require.NoError(t, os.Remove(n.Notice)) })
	mustHeld(t, l.Acquire(t.Context()))
	require.Equal(t, theirs, inodeOf(t, n.Notice))
	require.Equal(t, fresh, contents(t, n.Notice))
}

func TestPutBackWhenYetAnotherCameIn(t *testing.T) {
	portable.Needs(t, portable.Exchange)
	t.Parallel()
	db, n := database(t)
	first, second := live(t), live(t)
	put(t, n.Notice, peerNotice(gone(t), host(), ms(time.Now())))
	l := at(New(db, Options{Wait: NoWait}), "judged", func() {
		put(t, n.Notice, peerNotice(first.Process.Pid, host(), ms(time.Now())))
	})
	var theirs inode.ID
	l = at(l, "swapped", func() {
		// What came out is no good any more, and another one is there in our place.
		require.NoError(t, first.Process.Kill())
		_, _ = first.Process.Wait()
		theirs = put(t, n.Notice, peerNotice(second.Process.Pid, host(), ms(time.Now())))
	})
	mustHeld(t, l.Acquire(t.Context()))
	require.Equal(t, theirs, inodeOf(t, n.Notice))
}

// A dblock was killed when it had exchanged its notice with that of a living peer,
// which had come in between, and was about to put that back.
func TestTakeOverCutShort(t *testing.T) {
	portable.Needs(t, portable.Exchange)
	t.Parallel()
	needsSight(t)
	db, n := database(t)
	require.NoError(t, attemptOnce(t, db, Options{}))
	put(t, n.Notice, dblockNotice(t, func(i *notice.Info) { i.PID = gone(t) }))
	peer := live(t)
	theirs := put(t, n.spare(), peerNotice(peer.Process.Pid, host(), ms(time.Now())))
	mustHeld(t, attemptOnce(t, db, Options{}))
	require.Equal(t, theirs, inodeOf(t, n.Notice), "it has its place again")

	// One that is over stays away, and so does anything while the path is somebody's.
	put(t, n.Notice, dblockNotice(t, func(i *notice.Info) { i.PID = gone(t) }))
	put(t, n.spare(), peerNotice(gone(t), host(), ms(time.Now())))
	require.NoError(t, attemptOnce(t, db, Options{}))
	put(t, n.spare(), peerNotice(peer.Process.Pid, host(), ms(time.Now())))
	require.NoError(t, attemptOnce(t, db, Options{}))
	require.NoFileExists(t, n.Notice)
	require.NoFileExists(t, n.spare())
}

// A dblock's notice that has not been refreshed for 30 s is stale to peers, too.
func TestPathSettlesAfterAnAbandonedDblock(t *testing.T) {
	t.Parallel()
	for age, settles := range map[time.Duration]bool{0: false, time.Minute: true} {
		db, n := database(t)
		put(t, n.Notice, dblockNotice(t, func(i *notice.Info) {
			i.PID = gone(t)
			i.Timestamp = ms(time.Now().Add(-age))
		}))
		l := New(db, Options{Wait: NoWait})
		var swapped, published time.Time
		at(l, "swapped", func() { swapped = time.Now() })
		at(l, "published", func() { published = time.Now() })
		require.NoError(t, l.Acquire(t.Context()))
		require.False(t, swapped.IsZero())
		if settles {
			require.GreaterOrEqual(t, published.Sub(swapped), 25*time.Millisecond)
		}
		require.NoError(t, l.Release())
	}
}

func TestStaleNoticeVanishesBeforeTakeOver(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	put(t, n.Notice, peerNotice(gone(t), host(), ms(time.Now())))
	l := at(New(db, Options{Wait: NoWait}), "judged", func() { require.NoError(t, os.Remove(n.Notice)) })
	require.NoError(t, l.Acquire(t.Context()))
	require.Equal(t, own(l).claim.Inode(), inodeOf(t, n.Notice))
	require.NoError(t, l.Release())
	require.NoFileExists(t, n.Notice)
}

func TestPeerUnlinksAndCreatesBeforeStart(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	peer := live(t)
	var theirs inode.ID
	l := at(New(db, Options{Wait: NoWait}), "published", func() {
		// It had found an empty file here before us, and unlinks what it finds now.
		require.NoError(t, os.Remove(n.Notice))
		theirs = put(t, n.Notice, peerNotice(peer.Process.Pid, host(), ms(time.Now())))
	})
	err := l.Acquire(t.Context())
	t.Cleanup(func() { _ = l.Release() })
	mustHeld(t, err)
	require.Equal(t, theirs, inodeOf(t, n.Notice))
}

func TestPeerUnlinksBeforeStart(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	var looks int
	l := New(db, Options{Wait: NoWait})
	l.seam = func(step string) {
		if step != "published" {
			return
		}
		if looks++; looks == 1 {
			require.NoError(t, os.Remove(n.Notice))
		}
	}
	require.NoError(t, l.Acquire(t.Context()))
	require.Equal(t, 2, looks, "it looks again after it has published again")
	require.Equal(t, own(l).claim.Inode(), inodeOf(t, n.Notice))
	require.NoError(t, l.Release())
}

func TestStateDirectoryRemovedWhileInIt(t *testing.T) {
	t.Parallel()
	// Between the token and the notice; the spare name is gone with it.
	db, n := database(t)
	put(t, n.Notice, peerNotice(gone(t), host(), ms(time.Now())))
	l := at(New(db, Options{Wait: NoWait}), "judged", func() { require.NoError(t, os.RemoveAll(n.State)) })
	require.NoError(t, l.Acquire(t.Context()))
	require.True(t, own(l).place.Stands())
	require.NoError(t, l.Release())
}

// The same before anything of ours is at the path: with the room and all else gone we
// come again. It was an error that named a file of the directory.
func TestStateDirectoryRemovedBetweenRoomAndNotice(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"entered", "drawn"} {
		for _, mode := range []Mode{Exclusive, Shared} {
			t.Run(step+" "+mode.String(), func(t *testing.T) {
				t.Parallel()
				db, n := database(t)
				require.NoError(t, attemptOnce(t, db, Options{}))
				l := at(New(db, Options{Mode: mode}), step, func() { require.NoError(t, os.RemoveAll(n.State)) })
				require.NoError(t, l.Acquire(t.Context()))
				require.True(t, own(l).place.Stands())
				require.NoError(t, l.Err())
				require.NoError(t, l.Release())
				require.NoFileExists(t, n.Notice)
			})
		}
	}
}

func TestForeignNoticeAtRelease(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	theirs := peerNotice(os.Getpid(), host(), ms(time.Now()))
	l := at(New(db, Options{}), "releasing", func() { put(t, n.Notice, theirs) })
	require.NoError(t, l.Acquire(t.Context()))
	require.NoError(t, l.Release())
	require.Equal(t, theirs, contents(t, n.Notice), "a notice that is not ours is never removed")
}

func TestDaemonLeftBehindDoesNotKeepTheLock(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	l := acquire(t, db, Options{})
	require.Less(t, l.Descriptors()[0], 64)
	require.GreaterOrEqual(t, l.Descriptors()[0], 32)
	fd, err := dup(l.Descriptors()[0])
	require.NoError(t, err)
	room := os.NewFile(uintptr(fd), "room")
	daemon := prepare(t, "live", config{})
	daemon.ExtraFiles = []*os.File{room}
	daemon.run(t)
	require.NoError(t, room.Close())
	require.Equal(t, "alive", daemon.line(t))
	require.NoError(t, l.Release())
	require.NoError(t, attemptOnce(t, db, Options{}))
	daemon.silent(t)
}

func TestInheritedRoomOutlivesTheHolder(t *testing.T) {
	t.Parallel()
	// The other side of it: whoever is killed keeps others out by what it ran.
	db, n := database(t)
	require.NoError(t, attemptOnce(t, db, Options{}))
	room := flock(t, n.room(), queue.Exclusive)
	fd, err := dup(room.Fd())
	require.NoError(t, err)
	f := os.NewFile(uintptr(fd), "room")
	command := prepare(t, "live", config{})
	command.ExtraFiles = []*os.File{f}
	command.run(t)
	require.NoError(t, f.Close())
	require.Equal(t, "alive", command.line(t))
	room.Close()
	mustHeld(t, attemptOnce(t, db, Options{}))
	command.die(t)
	require.NoError(t, attemptOnce(t, db, Options{}))
}

func TestEnvironmentIsCheckedNotBelieved(t *testing.T) {
	// An earlier hold of the same enclosing dblock: all is as it says but the token.
	db, n := database(t)
	i := ownNotice()
	i.PID = os.Getppid()
	i.Dblock.ID, i.Dblock.Token = "0123456789abcdef", 1002
	st, ok := statOf(i.PID)
	require.NotEqual(t, portable.Half, ok)
	i.Dblock.Started = st
	put(t, n.Notice, string(notice.Format(i)))
	t.Setenv(EnvPID, strconv.Itoa(i.PID))
	t.Setenv(EnvLockFile, n.Notice)

	t.Setenv(EnvToken, "1001")
	l := New(db, Options{Wait: NoWait})
	err := l.Acquire(t.Context())
	t.Cleanup(func() { _ = l.Release() })
	mustHeld(t, err)

	t.Setenv(EnvToken, "1002")
	require.NoError(t, l.Acquire(t.Context()))
	g, ok := l.Grant()
	require.True(t, ok)
	require.True(t, g.Leaned)
	require.Equal(t, i.PID, g.LeanedPID)
	require.Equal(t, int64(1002), g.Holder.Token)
	require.NoError(t, l.Release())
	require.FileExists(t, n.Notice, "who leans releases nothing")
}

func TestBreakNeverRemovesANewerLock(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	peer := live(t)
	put(t, n.Notice, peerNotice(peer.Process.Pid, host(), ms(time.Now())))
	newer := peerNotice(peer.Process.Pid, host(), ms(time.Now())+1)
	b, err := Break(t.Context(), db, BreakOptions{Consent: func(*Report) bool {
		// While the user makes up his mind the lock goes to somebody else, who
		// happens to write it into the same inode.
		require.NoError(t, os.WriteFile(n.Notice, []byte(newer), 0o644))
		return true
	}})
	require.NoError(t, err)
	require.False(t, b.Removed)
	require.Equal(t, newer, contents(t, n.Notice))

	b, err = Break(t.Context(), db, BreakOptions{Consent: func(*Report) bool {
		put(t, n.Notice, newer+" ")
		return true
	}})
	require.NoError(t, err)
	require.False(t, b.Removed)
	require.Equal(t, newer+" ", contents(t, n.Notice))
}

// Courtesy: peers poll, and dblocks hand over in microseconds.

// timeToNext measures from the moment at which l begins to release until the next
// dblock in the queue has published its notice.
func timeToNext(t *testing.T, db string, l *Lock) time.Duration {
	t.Helper()
	n := namesOf(t, l)
	next := New(db, Options{Wait: Forever})
	var begin, end time.Time
	at(next, "published", func() { end = time.Now() })
	at(l, "releasing", func() { begin = time.Now() })
	at(l, "leaving", func() { begin = time.Now() })
	got := background(t, next)
	waiting(t, n, 1)
	require.NoError(t, l.Release())
	require.NoError(t, result(t, got))
	require.NoError(t, next.Release())
	return end.Sub(begin)
}

func TestCourtesyToAReaderOfTheNotice(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{})
	// A peer that polls reads the notice again and again.
	if !readUntil(t, n, func() bool { return claim.Polls(own(l).reads) }, l) {
		t.Skip("this filesystem keeps no times of access")
	}
	require.GreaterOrEqual(t, timeToNext(t, db, l), claim.GapFor)
}

// The path is free and so is the lock, though the room is not: who does not wait is not refused.
func TestCourtesyIsNoHold(t *testing.T) {
	portable.Needs(t, portable.Signs)
	t.Parallel()
	for _, mode := range []Mode{Exclusive, Shared} {
		db, n := database(t)
		gone := make(chan struct{})
		l := acquire(t, db, Options{Mode: mode, OnDelay: sync.OnceFunc(func() { close(gone) })})
		if !readUntil(t, n, func() bool { return claim.Polls(own(l).reads) }, l) {
			t.Skip("this filesystem keeps no times of access")
		}
		released := make(chan error, 1)
		go func() { released <- l.Release() }()
		require.True(t, closed(gone))
		require.NoError(t, attemptOnce(t, db, Options{}))
		require.NoError(t, result(t, released))
	}
}

// readUntil reads the notice until the hold knows as much as it should.
func readUntil(t *testing.T, n Names, enough func() bool, l *Lock) bool {
	return within(2*time.Second, func() bool {
		own(l).keeper.mu.Lock()
		defer own(l).keeper.mu.Unlock()
		if enough() {
			return true
		}
		_ = contents(t, n.Notice)
		return false
	})
}

// Holds that are shorter than the peers' pause are read once each.
func TestCourtesyToAReaderOfSeveralNotices(t *testing.T) {
	portable.Needs(t, portable.Signs)
	t.Parallel()
	db, n := database(t)
	for _, polled := range []bool{false, true} {
		l := acquire(t, db, Options{})
		if !readUntil(t, n, func() bool { return own(l).reads == 1 }, l) {
			t.Skip("this filesystem keeps no times of access")
		}
		next := New(db, Options{Wait: Forever})
		left := false
		at(l, "leaving", func() { left = true })
		got := background(t, next)
		waiting(t, n, 1)
		require.NoError(t, l.Release())
		require.NoError(t, result(t, got))
		require.Equal(t, !polled, left, "a single read is no poll, two holds in a row that were read are one")
		require.NoError(t, next.Release())
	}
}

func TestCourtesyToAPeerThatWasMet(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	peer := live(t)
	put(t, n.Notice, peerNotice(peer.Process.Pid, host(), ms(time.Now())))
	var later atomic.Int64
	l := New(db, Options{Wait: Forever, Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) }})
	met := meeting(l)
	got := background(t, l)
	require.True(t, closed(met))
	require.NoError(t, os.Remove(n.Notice))
	require.NoError(t, result(t, got))
	// The peer has just had its turn; it is owed the next one when it has not
	// found the path free for a while.
	later.Store(int64(501 * time.Millisecond))
	require.GreaterOrEqual(t, timeToNext(t, db, l), claim.GapFor)
}

func TestNoCourtesyWithoutPeers(t *testing.T) {
	portable.Needs(t, portable.Traces)
	t.Parallel()
	// The other dblocks' looks leave no trace. Timing proves nothing on a busy
	// machine, so the ledger does.
	db, n := database(t)
	l := acquire(t, db, Options{})
	mustHeld(t, attemptOnce(t, db, Options{}))
	_, err := Inspect(db, Options{})
	require.NoError(t, err)
	require.False(t, own(l).claim.WasRead())
	timeToNext(t, db, l)
	var led ledger.Ledger
	require.NoError(t, ledger.Amend(stateFile(t, n.token()), func(l *ledger.Ledger) { led = *l }))
	require.Zero(t, led.Peer)
	require.Positive(t, led.Token)
}

// Two readers, and the state directory is deleted between the one and the other:
// they share the notice, but not the room.
func TestLastReaderOfARoomThatIsGone(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	// Unattended, so that neither heals or notices anything.
	first := New(db, Options{Mode: Shared, Unattended: true})
	require.NoError(t, first.Acquire(t.Context()))
	require.NoError(t, os.RemoveAll(n.State))
	second := New(db, Options{Mode: Shared, Unattended: true})
	require.NoError(t, second.Acquire(t.Context()))
	theirs := inodeOf(t, n.Notice)
	require.ErrorIs(t, first.Release(), ErrLost)
	require.Equal(t, theirs, inodeOf(t, n.Notice), "the second one needs it")
	require.NoError(t, second.Release())
	require.NoFileExists(t, n.Notice)
}
