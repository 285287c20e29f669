package lock

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/judge"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
)

// ownNotice is what a notice of this process says, but for its token and identity.
func ownNotice() notice.Info {
	o := newAttempt(Names{}, Options{}.withDefaults(), nil).claims(nil)
	return o.Describe()
}

// dblockNotice is a dblock's notice, made by this process now, as change has it.
func dblockNotice(t testing.TB, change func(*notice.Info)) string {
	t.Helper()
	i := ownNotice()
	i.Dblock.ID, i.Dblock.Token = "0123456789abcdef", 1
	if change != nil {
		change(&i)
	}
	return string(notice.Format(i))
}

func needsSight(t testing.TB) {
	t.Helper()
	if !proc.Seen() {
		t.Skip("pids that other programs of this host name wrote cannot be judged in this container")
	}
}

// The same with real files, as far as it needs no long waits: NoWait gets what
// may be taken over now and nothing else.
func TestTakeOverNow(t *testing.T) {
	t.Parallel()
	needsSight(t)
	peer := live(t)
	dead := gone(t)
	now := ms(time.Now())
	for _, c := range []struct {
		name, notice string
		opts         Options
		taken        bool
		used         bool // the lock has been used before
		starts       bool // it takes to know when something was started
	}{
		{name: "dblock gone", notice: dblockNotice(t, func(i *notice.Info) { i.PID = dead }), taken: true},
		{name: "dblock of an older boot", notice: dblockNotice(t, func(i *notice.Info) { i.Dblock.Boot = "another-boot" }), taken: true, starts: true},
		{name: "dblock elsewhere", notice: dblockNotice(t, func(i *notice.Info) { i.Host, i.Dblock.Boot = "elsewhere", "another-boot" })},
		{name: "peer gone", notice: peerNotice(dead, host(), now), taken: true},
		{name: "peer's pid reused", notice: peerNotice(peer.Process.Pid, host(), now-48*3600_000), taken: true, used: true, starts: true},
		{name: "peer's pid reused, or the clock was set", notice: peerNotice(peer.Process.Pid, host(), now-48*3600_000)},
		{name: "peer alive", notice: peerNotice(peer.Process.Pid, host(), now)},
		{name: "peer alive, old", notice: peerNotice(1, host(), now-31_000)},
		{name: "peer alive, old, by age", notice: peerNotice(1, host(), now-31_000), opts: Options{Stale: StaleAge}, taken: true},
		{name: "peer elsewhere, old", notice: peerNotice(1, "elsewhere", now-31_000), taken: true},
		{name: "peer elsewhere, young", notice: peerNotice(1, "elsewhere", now)},
		{name: "peer elsewhere, shorter timeout", notice: peerNotice(1, "elsewhere", now-2000), opts: Options{StaleTimeout: time.Second}, taken: true},
		{name: "peer elsewhere, ahead", notice: peerNotice(1, "elsewhere", now+3600_000)},
		{name: "empty", notice: ""},
		{name: "invalid", notice: "locked by me"},
	} {
		t.Run(c.name, func(t *testing.T) { // not in parallel: what is young must not grow old in the queue
			if c.starts {
				portable.Needs(t, portable.Processes)
			}
			db, n := database(t)
			if c.used {
				require.NoError(t, attemptOnce(t, db, Options{}))
			}
			before := put(t, n.Notice, c.notice)
			c.opts.Wait = NoWait
			l := New(db, c.opts)
			err := l.Acquire(t.Context())
			if !c.taken {
				held := mustHeld(t, err)
				require.Equal(t, n.Notice, held.Path)
				require.Equal(t, before, inodeOf(t, n.Notice))
				require.Equal(t, c.notice, contents(t, n.Notice))
				require.NoDirExists(t, n.State, "what was made for nothing goes")
				return
			}
			require.NoError(t, err)
			require.NotEqual(t, before, inodeOf(t, n.Notice))
			require.Equal(t, own(l).claim.Inode(), inodeOf(t, n.Notice))
			require.Equal(t, os.Getpid(), look1(t, n.Notice).Info.PID)
			require.NoError(t, l.Release())
			require.NoFileExists(t, n.Notice)
			require.NoFileExists(t, n.spare())
		})
	}
}

// A path that is missing for an instant is a path that a peer can create.
func TestTakeOverLeavesNoGap(t *testing.T) {
	portable.Needs(t, portable.Exchange)
	t.Parallel()
	needsSight(t)
	db, n := database(t)
	dead := peerNotice(gone(t), host(), ms(time.Now()))
	put(t, n.Notice, dead)
	l := New(db, Options{Wait: NoWait})
	check := func() { require.FileExists(t, n.Notice) }
	at(l, "judged", check)
	at(l, "swapped", check)
	var swapped, published time.Time
	at(l, "swapped", func() { swapped = time.Now() })
	at(l, "published", func() { published = time.Now(); check() })
	require.NoError(t, l.Acquire(t.Context()))
	require.NoError(t, l.Release())
	// A peer that judged the same notice may unlink ours: wait before the last look.
	require.GreaterOrEqual(t, published.Sub(swapped), 25*time.Millisecond)
}

func TestAfterAnEmptyFileThePathSettles(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	put(t, n.Notice, "")
	l := New(db, Options{Wait: Forever})
	var removed, published time.Time
	at(l, "published", func() { published = time.Now() })
	met := meeting(l)
	got := background(t, l)
	require.True(t, closed(met))
	removed = time.Now()
	require.NoError(t, os.Remove(n.Notice))
	require.NoError(t, result(t, got))
	require.GreaterOrEqual(t, published.Sub(removed), 25*time.Millisecond)
	require.NoError(t, l.Release())
}

func TestWaitsForAnotherHostsSilence(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	put(t, n.Notice, dblockNotice(t, func(i *notice.Info) { i.Host, i.Dblock.Boot = "elsewhere", "another-boot" }))
	const timeout = 300 * time.Millisecond
	l := New(db, Options{Wait: Forever, StaleTimeout: timeout, RetryDelay: 10 * time.Millisecond})
	begin := time.Now()
	require.NoError(t, l.Acquire(t.Context()))
	require.GreaterOrEqual(t, time.Since(begin), timeout)
	require.NoError(t, l.Release())
}

func TestOtherHostsBeatIsASignOfLife(t *testing.T) {
	t.Parallel()
	// Its clock is years behind, and it beats: only our own clock counts.
	db, n := database(t)
	var i notice.Info
	dblockNotice(t, func(d *notice.Info) { i = *d })
	i.Host, i.Dblock.Boot, i.Timestamp = "elsewhere", "another-boot", 1_500_000_000_000
	f, err := notice.Create(inode.Path(n.Notice), i)
	require.NoError(t, err)
	defer f.Close()
	var clock clock
	l := New(db, Options{Wait: Forever, StaleTimeout: 2 * time.Second, RetryDelay: 5 * time.Millisecond, Now: clock.now})
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() { got <- l.Acquire(ctx) }()
	end := time.Now().Add(3 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ; time.Now().Before(end); <-tick.C {
		i.Timestamp++
		require.NoError(t, f.Beat(i.Timestamp))
		select {
		case err := <-got:
			require.FailNow(t, "it was taken", "%v", err)
		default:
		}
	}
	cancel()
	require.ErrorIs(t, result(t, got), context.Canceled)
}

func TestEmptyFileIsTakenInTheEnd(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	put(t, n.Notice, "")
	begin := time.Now()
	l := acquire(t, db, Options{Wait: Forever, RetryDelay: 10 * time.Millisecond})
	require.GreaterOrEqual(t, time.Since(begin), judge.Grace)
	require.NoError(t, l.Release())
	require.NoFileExists(t, n.Notice)
}

func TestSlowPeerFillsItsFile(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	put(t, n.Notice, "")
	l := New(db, Options{Wait: Forever})
	met := meeting(l)
	got := background(t, l)
	require.True(t, closed(met))
	peer := live(t)
	require.NoError(t, os.WriteFile(n.Notice, []byte(peerNotice(peer.Process.Pid, host(), ms(time.Now()))), 0o644))
	require.False(t, within(judge.Grace+500*time.Millisecond, func() bool { return len(got) > 0 }))
	require.NoError(t, os.Remove(n.Notice))
	require.NoError(t, result(t, got))
}

func TestDeathOfAPeerIsNoticed(t *testing.T) {
	t.Parallel()
	needsSight(t)
	db, n := database(t)
	peer := live(t)
	put(t, n.Notice, peerNotice(peer.Process.Pid, host(), ms(time.Now())))
	l := New(db, Options{Wait: Forever, RetryDelay: 10 * time.Millisecond})
	met := meeting(l)
	got := background(t, l)
	require.True(t, closed(met))
	peer.die(t)
	require.NoError(t, result(t, got))
}

func TestNotRegular(t *testing.T) {
	t.Parallel()
	for name, mk := range map[string]func(t *testing.T, path string){
		"directory": func(t *testing.T, path string) {
			require.NoError(t, os.Mkdir(path, 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(path, "precious"), nil, 0o644))
		},
		"FIFO": func(t *testing.T, path string) { require.NoError(t, unix.Mkfifo(path, 0o644)) },
		"socket": func(t *testing.T, path string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
			require.NoError(t, err)
			t.Cleanup(func() { l.Close() })
		},
		"symbolic link": func(t *testing.T, path string) {
			target := filepath.Join(filepath.Dir(path), "target")
			require.NoError(t, os.WriteFile(target, nil, 0o644))
			require.NoError(t, os.Symlink(target, path))
		},
		"dangling link": func(t *testing.T, path string) { require.NoError(t, os.Symlink("nowhere", path)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Socket addresses are short; the name of a test's directory is not.
			dir, err := os.MkdirTemp("", "d")
			require.NoError(t, err)
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			db := filepath.Join(dir, "x.db")
			n, err := Resolve(db, "")
			require.NoError(t, err)
			mk(t, n.Notice)
			before := inodeOf(t, n.Notice)
			for _, o := range []Options{{}, {Wait: NoWait}, {Stale: StaleAge}, {Mode: Shared}} {
				require.ErrorIs(t, New(db, o).Acquire(t.Context()), ErrNotRegular)
			}
			require.Equal(t, before, inodeOf(t, n.Notice))
			r, err := Inspect(db, Options{})
			require.NoError(t, err)
			require.Equal(t, StateInvalid, r.State)
			require.False(t, r.Stale)
			require.Equal(t, before, inodeOf(t, n.Notice))
			_, err = Break(t.Context(), db, BreakOptions{Consent: func(*Report) bool { return true }})
			require.ErrorIs(t, err, ErrNotRegular)
			require.Equal(t, before, inodeOf(t, n.Notice))
			require.NoDirExists(t, n.State)
		})
	}
}

func TestSightingIsBounded(t *testing.T) {
	t.Parallel()
	_, n := database(t)
	put(t, n.Notice, `{"process":"`+string(bytes.Repeat([]byte("x"), 10<<20))+`"}`)
	s := look1(t, n.Notice)
	require.Len(t, s.Bytes, notice.MaxSize)
	require.True(t, s.Clipped)
	require.Error(t, s.Err)
}
