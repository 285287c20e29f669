package lock

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
)

// sighting is what Read makes of a file with these bytes.
func sighting(b []byte) *notice.Sighting {
	s := &notice.Sighting{Bytes: b[:min(len(b), notice.MaxSize)], Clipped: len(b) > notice.MaxSize}
	s.Info, s.Err = notice.Parse(s.Bytes)
	return s
}

// dblockNotice is a dblock's notice, made by this process now, as change has it.
func dblockNotice(t testing.TB, change func(*notice.Info)) string {
	t.Helper()
	a := newAttempt(New("x.db", Options{}), Names{})
	i := a.describe()
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

// TestJudging is PROTOCOL's table, row by row.
func TestJudging(t *testing.T) {
	t.Parallel()
	needsSight(t)
	me := proc.Self()
	now := time.Now()
	peer := live(t)
	alive, dead := peer.Process.Pid, gone(t)
	const (
		timeout  = 30 * time.Second
		thisRoom = 4711
	)
	ago := func(d time.Duration) int64 { return ms(now.Add(-d)) }
	dblock := func(change func(*notice.Info)) string { return dblockNotice(t, change) }
	elsewhere := func(i *notice.Info) { i.Host, i.Dblock.Boot = "elsewhere", "another-boot" }

	for _, c := range []struct {
		name      string
		notice    string
		unchanged time.Duration
		byAge     bool
		noRoom    bool
		stale     bool
		again     time.Duration // 0: whatever it is
	}{
		{name: "dblock, this boot, gone", notice: dblock(func(i *notice.Info) { i.PID = dead }), stale: true},
		{name: "dblock, this boot, gone, judged without the room", notice: dblock(func(i *notice.Info) { i.PID = dead }), noRoom: true, stale: true},
		{name: "dblock, this boot, its pid is another process now", notice: dblock(func(i *notice.Info) { i.PID, i.Dblock.Started = alive, 1 }), stale: true},
		{name: "dblock, this boot, alive and fresh, but the room is ours", notice: dblock(nil), again: timeout},
		{name: "dblock, this boot, alive, silent for long", notice: dblock(func(i *notice.Info) { i.Timestamp = ago(timeout + time.Second) }), stale: true},
		{name: "dblock, this boot, alive, silent for long, no room", notice: dblock(func(i *notice.Info) { i.Timestamp = ago(time.Hour) }), noRoom: true, again: timeout},
		{name: "dblock, this boot, stopped by Ctrl-Z", notice: dblock(func(i *notice.Info) { i.Timestamp = ago(-24 * time.Hour) }), again: timeout},
		{name: "dblock, this boot, other pid namespace", notice: dblock(func(i *notice.Info) { i.Dblock.PIDNS++; i.PID = dead }), stale: true},
		{name: "dblock, this boot, other pid namespace, no room", notice: dblock(func(i *notice.Info) { i.Dblock.PIDNS++; i.PID = dead }), noRoom: true, again: timeout},
		{name: "dblock, this boot, other pid namespace, this room", notice: dblock(func(i *notice.Info) { i.Dblock.PIDNS++; i.Dblock.Room = thisRoom }), stale: true},
		{name: "dblock, this boot, other pid namespace, other room", notice: dblock(func(i *notice.Info) { i.Dblock.PIDNS++; i.Dblock.Room = thisRoom + 1 }), again: timeout},
		{name: "dblock, this boot, other pid namespace, other room, silent", notice: dblock(func(i *notice.Info) { i.Dblock.PIDNS++; i.Dblock.Room = thisRoom + 1 }), unchanged: timeout, stale: true},
		{name: "dblock, this boot, gone, other room", notice: dblock(func(i *notice.Info) { i.PID = dead; i.Dblock.Room = thisRoom + 1 }), stale: true},
		{name: "dblock, this boot, its pid is another process now, other room", notice: dblock(func(i *notice.Info) { i.PID, i.Dblock.Started, i.Dblock.Room = alive, 1, thisRoom+1 }), stale: true},
		{name: "dblock, this boot, alive, other room, dated long ago", notice: dblock(func(i *notice.Info) { i.Timestamp, i.Dblock.Room = ago(time.Hour), thisRoom+1 }), again: timeout},
		{name: "dblock, older boot", notice: dblock(func(i *notice.Info) { i.Dblock.Boot = "another-boot"; i.PID = alive }), stale: true},
		{name: "dblock, other host, young", notice: dblock(elsewhere), again: timeout},
		{name: "dblock, other host, old but just seen", notice: dblock(func(i *notice.Info) { elsewhere(i); i.Timestamp = ago(time.Hour) }), again: timeout},
		{name: "dblock, other host, unchanged for a while", notice: dblock(elsewhere), unchanged: 20 * time.Second, again: 10 * time.Second},
		{name: "dblock, other host, unchanged for the timeout", notice: dblock(elsewhere), unchanged: timeout, stale: true},
		{name: "dblock, other host, never for its age", notice: dblock(func(i *notice.Info) { elsewhere(i); i.Timestamp = ago(time.Hour) }), byAge: true, again: timeout},

		{name: "peer, gone", notice: peerNotice(dead, me.Host, ms(now)), stale: true},
		{name: "peer, gone, dated ahead", notice: peerNotice(dead, me.Host, ago(-time.Hour)), stale: true},
		{name: "peer, pid reused", notice: peerNotice(alive, me.Host, ago(48*time.Hour)), stale: true},
		{name: "peer, alive, young", notice: peerNotice(alive, me.Host, ms(now))},
		{name: "peer, alive, ahead", notice: peerNotice(alive, me.Host, ago(-time.Hour))},
		{name: "peer, alive since before, old", notice: peerNotice(1, me.Host, ago(31*time.Second))},
		{name: "peer, alive since before, old, by age", notice: peerNotice(1, me.Host, ago(31*time.Second)), byAge: true, stale: true},
		{name: "peer, alive, young, by age", notice: peerNotice(alive, me.Host, ms(now)), byAge: true, again: timeout},
		{name: "peer, alive, undated", notice: fmt.Sprintf(`{"pid":%d,"host":%q}`, alive, me.Host)},
		{name: "peer, alive, dated in words", notice: fmt.Sprintf(`{"pid":%d,"host":%q,"timestamp":"0"}`, alive, me.Host)},

		{name: "peer, other host, young", notice: peerNotice(dead, "elsewhere", ago(10*time.Second)), again: 20*time.Second + time.Millisecond},
		{name: "peer, other host, exactly the timeout", notice: peerNotice(dead, "elsewhere", ago(timeout)), again: time.Millisecond},
		{name: "peer, other host, old", notice: peerNotice(dead, "elsewhere", ago(timeout+time.Millisecond)), stale: true},
		{name: "peer, other host, ahead", notice: peerNotice(dead, "elsewhere", ago(-time.Hour)), again: timeout},
		{name: "peer, other host, ahead, unchanged for the timeout", notice: peerNotice(dead, "elsewhere", ago(-time.Hour)), unchanged: timeout, stale: true},
		{name: "peer, other host, in microseconds", notice: peerNotice(dead, "elsewhere", now.UnixMicro()), again: timeout},
		{name: "peer, other host, in nanoseconds", notice: peerNotice(dead, "elsewhere", now.UnixNano()), again: timeout},
		{name: "peer, other host, far ahead", notice: `{"pid":7,"host":"elsewhere","timestamp":1e300}`, again: timeout},
		{name: "peer, other host, long before the epoch", notice: `{"pid":7,"host":"elsewhere","timestamp":-1e300}`, stale: true},
		{name: "peer, alive, in microseconds", notice: peerNotice(alive, me.Host, now.UnixMicro())},
		{name: "peer, alive, far ahead", notice: fmt.Sprintf(`{"pid":%d,"host":%q,"timestamp":1e300}`, alive, me.Host)},
		{name: "peer, alive, ahead, by age", notice: peerNotice(alive, me.Host, now.UnixMicro()), byAge: true},
		{name: "peer, other host, undated", notice: `{"pid":7,"host":"elsewhere"}`, again: timeout},
		{name: "peer, other host, undated, unchanged for the timeout", notice: `{"pid":7,"host":"elsewhere"}`, unchanged: timeout, stale: true},
		{name: "peer without pid, young", notice: fmt.Sprintf(`{"timestamp":%d,"host":%q}`, ms(now), me.Host), again: timeout + time.Millisecond},
		{name: "peer with an impossible pid, old", notice: peerNotice(-1, me.Host, ago(time.Hour)), stale: true},
		{name: "an object without anything", notice: `{}`, again: timeout},

		{name: "empty", notice: "", again: emptyGrace},
		{name: "empty for a while", notice: "", unchanged: 1500 * time.Millisecond, again: 500 * time.Millisecond},
		{name: "empty for too long", notice: "", unchanged: emptyGrace, stale: true},
		{name: "empty, by age", notice: "", byAge: true, again: emptyGrace},
		{name: "half written", notice: `{"pid":1,"timest`, again: emptyGrace},
		{name: "not an object", notice: `[]`, again: emptyGrace},
		{name: "invalid for too long", notice: "locked", unchanged: emptyGrace, stale: true},
		{name: "too large", notice: `{"process":"` + strings.Repeat("x", 5000) + `"}`, unchanged: emptyGrace, again: timeout},
		{name: "too large for too long", notice: `{"process":"` + strings.Repeat("x", 5000) + `"}`, unchanged: timeout, again: timeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := judgement{me: me, now: ms(now), unchanged: c.unchanged, timeout: timeout, byAge: c.byAge, room: !c.noRoom, inRoom: thisRoom}.of(sighting([]byte(c.notice)))
			require.Equal(t, c.stale, v.stale, v.why)
			require.NotEmpty(t, v.why)
			if c.stale {
				return
			}
			require.Positive(t, v.again)
			if c.again != 0 {
				require.Equal(t, c.again, v.again)
			}
		})
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
	}{
		{name: "dblock gone", notice: dblockNotice(t, func(i *notice.Info) { i.PID = dead }), taken: true},
		{name: "dblock of an older boot", notice: dblockNotice(t, func(i *notice.Info) { i.Dblock.Boot = "another-boot" }), taken: true},
		{name: "dblock elsewhere", notice: dblockNotice(t, func(i *notice.Info) { i.Host, i.Dblock.Boot = "elsewhere", "another-boot" })},
		{name: "peer gone", notice: peerNotice(dead, host(), now), taken: true},
		{name: "peer's pid reused", notice: peerNotice(peer.Process.Pid, host(), now-48*3600_000), taken: true, used: true},
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
				require.Equal(t, before, inode(t, n.Notice))
				require.Equal(t, c.notice, contents(t, n.Notice))
				require.NoDirExists(t, n.State, "what was made for nothing goes")
				return
			}
			require.NoError(t, err)
			require.NotEqual(t, before, inode(t, n.Notice))
			require.Equal(t, l.hold.file.ID(), inode(t, n.Notice))
			require.Equal(t, os.Getpid(), look1(t, n.Notice).Info.PID)
			require.NoError(t, l.Release())
			require.NoFileExists(t, n.Notice)
			require.NoFileExists(t, n.spare())
		})
	}
}

// A path that is missing for an instant is a path that a peer can create.
func TestTakeOverLeavesNoGap(t *testing.T) {
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
	f, err := notice.Path(n.Notice).Create(i)
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
	require.GreaterOrEqual(t, time.Since(begin), emptyGrace)
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
	require.False(t, within(emptyGrace+500*time.Millisecond, func() bool { return len(got) > 0 }))
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
			before := inode(t, n.Notice)
			for _, o := range []Options{{}, {Wait: NoWait}, {Stale: StaleAge}, {Mode: Shared}} {
				require.ErrorIs(t, New(db, o).Acquire(t.Context()), ErrNotRegular)
			}
			require.Equal(t, before, inode(t, n.Notice))
			r, err := Inspect(db, Options{})
			require.NoError(t, err)
			require.Equal(t, StateInvalid, r.State)
			require.False(t, r.Stale)
			require.Equal(t, before, inode(t, n.Notice))
			_, err = Break(t.Context(), db, BreakOptions{Consent: func(*Report) bool { return true }})
			require.ErrorIs(t, err, ErrNotRegular)
			require.Equal(t, before, inode(t, n.Notice))
			require.NoDirExists(t, n.State)
		})
	}
}

// freshForPeers is the TypeScript peers' rule, on numbers as JavaScript has them.
func freshForPeers(i notice.Info, now int64) bool {
	return !i.Dated || !(float64(now)-float64(i.Timestamp) > 30000)
}

func FuzzJudge(f *testing.F) {
	now := time.Now()
	me := proc.Self()
	f.Add([]byte(peerNotice(os.Getpid(), me.Host, ms(now))))
	f.Add([]byte(peerNotice(os.Getpid(), "elsewhere", ms(now))))
	f.Add([]byte(peerNotice(0, me.Host, ms(now))))
	f.Add([]byte(dblockNotice(f, nil)))
	for _, ts := range []string{"null", `"1"`, "1e300", "-1", "-1e300", "9007199254740993", "1.5", "1e13", "1763876543210000", fmt.Sprint(now.UnixNano()), fmt.Sprint(int64(math.MaxInt64))} {
		f.Add([]byte(`{"pid":7,"timestamp":` + ts + `,"host":"elsewhere"}`))
		f.Add([]byte(fmt.Sprintf(`{"pid":%d,"timestamp":%s,"host":%q}`, os.Getpid(), ts, me.Host)))
	}
	started, _ := proc.Stat(os.Getpid())
	lived, _ := proc.Age(started.Started)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := sighting(b)
		j := judgement{me: me, now: ms(now), timeout: DefaultStaleTimeout, room: true}
		v := j.of(s)
		require.NotEmpty(t, v.why)
		if !v.stale {
			require.Positive(t, v.again)
		}
		if s.Err != nil {
			require.False(t, v.stale, "it may be in the making")
			return
		}
		if s.Info.Dblock != nil || !freshForPeers(s.Info, j.now) {
			return
		}
		// Whoever wrote it lives, and did so before it was written.
		if s.Info.Dated && s.Info.Timestamp < j.now-lived.Milliseconds() {
			return
		}
		s.Info.PID, s.Info.Host = os.Getpid(), me.Host
		require.False(t, j.of(s).stale, "a live holder's, fresh by the peers' rule: %q", b)
		j.byAge = true
		require.False(t, j.of(s).stale, "a live holder's, fresh by the peers' rule: %q", b)
		s.Info.Host = "elsewhere"
		require.False(t, j.of(s).stale, "perhaps a live holder's, fresh by the peers' rule: %q", b)
	})
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
