package lock

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/lock/internal/notice"
)

// told is what the history of a lock tells.
func told(t testing.TB, n Names) (all []history.Event) {
	t.Helper()
	require.NoError(t, history.Read(n.State, func(e *history.Event) { all = append(all, *e) }))
	return all
}

func TestHistoryOfAHold(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	out := Outcome{Code: 3}
	l := New(db, Options{Process: "etl", Command: "make", Info: "JIRA-1", Priority: High, Outcome: func() Outcome { return out }})
	before := time.Now().UnixMilli()
	require.NoError(t, l.Acquire(t.Context()))
	g, _ := l.Grant()
	require.Empty(t, told(t, n), "nothing between the grant and the work")
	require.NoError(t, l.Release())
	all := told(t, n)
	require.Len(t, all, 1)
	e := all[0]
	require.Equal(t, history.Event{
		Version: 1, Kind: history.Hold, At: e.At, Token: g.Holder.Token, Process: "etl", Info: "JIRA-1", PID: os.Getpid(), Host: host(), UID: os.Geteuid(), Command: "make",
		Priority: "high", Requested: e.Requested, Acquired: ms(g.Holder.Acquired), Released: e.At, Waited: e.Waited, Held: e.Held, Ended: history.Exited, Code: 3,
	}, e)
	require.GreaterOrEqual(t, e.Acquired, before)
	require.LessOrEqual(t, e.Requested, e.Acquired)
	require.Positive(t, e.Held)

	for _, c := range []struct {
		out    *Outcome
		ended  history.Ended
		signal int
	}{{&Outcome{Signal: 9}, history.Signaled, 9}, {&Outcome{Late: true, Signal: 15}, history.Late, 15}, {nil, history.Released, 0}} {
		l.opts.Outcome = nil
		if c.out != nil {
			l.opts.Outcome = func() Outcome { return *c.out }
		}
		require.NoError(t, l.Acquire(t.Context()))
		require.NoError(t, l.Release())
		all = told(t, n)
		e := all[len(all)-1]
		require.Equal(t, []any{c.ended, c.signal}, []any{e.Ended, e.Signal})
	}
	l.opts.NoHistory = true
	require.NoError(t, l.Acquire(t.Context()))
	require.NoError(t, l.Release())
	require.Len(t, told(t, n), 4)
}

// Whoever is killed after its notice has gone is told of by nobody else.
func TestHoldIsToldOfBeforeItsNoticeGoes(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := New(db, Options{})
	var then []history.Event
	at(l, "releasing", func() { then = told(t, n) })
	require.NoError(t, l.Acquire(t.Context()))
	require.NoError(t, l.Release())
	require.Len(t, then, 1)
	require.Len(t, told(t, n), 1)
}

func TestHistoryOfOneThatWasKilled(t *testing.T) {
	t.Parallel()
	needsSight(t)
	db, n := database(t)
	h := holding(t, config{DB: db, Process: "victim"})
	h.die(t)
	l := New(db, Options{Process: "next"})
	var then []history.Event
	at(l, "swapped", func() { then = told(t, n) })
	require.NoError(t, l.Acquire(t.Context()))
	require.NoError(t, l.Release())
	require.Len(t, then, 1, "told before the only sign of it has gone")
	all := told(t, n)
	require.Len(t, all, 2)
	e := all[0]
	require.Equal(t, []any{history.Killed, "victim", h.Process.Pid, "next", os.Getpid()}, []any{e.Kind, e.Process, e.PID, e.By.Process, e.By.PID})
	require.Less(t, e.Token, all[1].Token)
	require.LessOrEqual(t, e.Acquired, e.Released)
	require.LessOrEqual(t, e.Released, all[1].Acquired)

	// One that has told of itself is not told of again.
	portable.Needs(t, portable.Processes)
	f, err := os.ReadFile(n.State + "/" + history.Name)
	require.NoError(t, err)
	put(t, n.Notice, dblockNotice(t, func(i *notice.Info) {
		i.PID, i.Dblock.Token = os.Getpid(), all[1].Token
		i.Dblock.Started = 1 // another process had the number
	}))
	require.NoError(t, attemptOnce(t, db, Options{}))
	g, err := os.ReadFile(n.State + "/" + history.Name)
	require.NoError(t, err)
	require.Greater(t, len(g), len(f))
	all = told(t, n)
	require.Len(t, all, 3)
	require.Equal(t, history.Hold, all[2].Kind)
}

func TestHistoryOfAWait(t *testing.T) {
	t.Parallel()
	needsSight(t)
	db, n := database(t)
	h := holding(t, config{DB: db, Process: "backup"})

	mustHeld(t, New(db, Options{Wait: NoWait, Process: "cron"}).Acquire(t.Context()))
	mustHeld(t, New(db, Options{Wait: 20 * time.Millisecond, Process: "etl"}).Acquire(t.Context()))
	ctx, stop := context.WithCancel(t.Context())
	l := New(db, Options{Process: "shy"})
	l.opts.OnWait = stop
	require.ErrorIs(t, l.Acquire(ctx), context.Canceled)
	all := told(t, n)
	require.Len(t, all, 3)
	for i, want := range []history.Event{{Process: "cron", Ended: history.Busy}, {Process: "etl", Ended: history.TimedOut}, {Process: "shy", Ended: history.Interrupted}} {
		e := all[i]
		require.Equal(t, []any{history.GaveUp, want.Process, want.Ended, int64(0), 1}, []any{e.Kind, e.Process, e.Ended, e.Token, e.Ahead})
		require.Len(t, e.Blockers, 1)
		require.Equal(t, []any{"backup", h.Process.Pid, "1"}, []any{e.Blockers[0].Process, e.Blockers[0].PID, "1"})
		require.LessOrEqual(t, e.Blockers[0].For, e.Waited)
		require.Positive(t, e.Blockers[0].Token)
	}
	require.GreaterOrEqual(t, all[1].Waited, 20*time.Millisecond)

	// Who gets it in the end knows for whom it has waited.
	l = New(db, Options{Wait: patience})
	met := meeting(l)
	got := background(t, l)
	require.True(t, closed(met))
	time.AfterFunc(10*time.Millisecond, func() { h.say(t, "") })
	require.NoError(t, result(t, got))
	require.NoError(t, l.Release())
	all = told(t, n)
	e := all[len(all)-1]
	require.Equal(t, history.Hold, e.Kind)
	require.Len(t, e.Blockers, 1)
	require.Equal(t, "backup", e.Blockers[0].Process)
	require.Positive(t, e.Blockers[0].For)
	require.Equal(t, 1, e.Ahead)
}

// A peer writes no history: who waits for it does.
func TestHistoryOfAWaitForPeers(t *testing.T) {
	t.Parallel()
	needsSight(t)
	db, n := database(t)
	peer := live(t)
	put(t, n.Notice, peerNotice(peer.Process.Pid, host(), ms(time.Now())))
	l := New(db, Options{Wait: patience})
	met := meeting(l)
	got := background(t, l)
	require.True(t, closed(met))
	require.NoError(t, os.Remove(n.Notice))
	require.NoError(t, result(t, got))
	require.NoError(t, l.Release())
	mustHeld(t, func() error {
		put(t, n.Notice, peerNotice(peer.Process.Pid, host(), ms(time.Now())))
		defer os.Remove(n.Notice)
		return New(db, Options{Wait: 20 * time.Millisecond}).Acquire(t.Context())
	}())
	all := told(t, n)
	require.Len(t, all, 2)
	for _, e := range all {
		require.Len(t, e.Blockers, 1)
		require.Equal(t, 1, e.Ahead)
		require.Equal(t, peer.Process.Pid, e.Blockers[0].PID)
		require.Positive(t, e.Blockers[0].For)
	}

	// A stale one is taken over.
	put(t, n.Notice, peerNotice(gone(t), host(), ms(time.Now())))
	require.NoError(t, attemptOnce(t, db, Options{Process: "next"}))
	all = told(t, n)
	require.Len(t, all, 4)
	require.Equal(t, []any{history.TookOver, "next", -1}, []any{all[2].Kind, all[2].By.Process, all[2].UID})
}

func TestHistoryOfForce(t *testing.T) {
	portable.NeedsWord(t)
	t.Parallel()
	needsSight(t)
	for _, deaf := range []bool{false, true} {
		db, n := database(t)
		h := holding(t, config{DB: db, Process: "stuck", Deaf: deaf})
		_, err := Break(t.Context(), db, BreakOptions{Options: Options{Process: "operator"}, Consent: func(*Report) bool { return true }, KillAfter: 50 * time.Millisecond})
		require.NoError(t, err)
		_ = h.Wait()
		all := told(t, n)
		require.Len(t, all, 2, "the holder here is a program that dies of TERM and tells nothing")
		for i, kind := range []history.Kind{history.Killed, history.Forced} {
			e := all[i]
			require.Equal(t, []any{kind, "stuck", h.Process.Pid, "operator", os.Getpid(), os.Geteuid()}, []any{e.Kind, e.Process, e.PID, e.By.Process, e.By.PID, e.By.UID})
		}
	}
}

func TestHistoryOfALoss(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{Process: "loser"})
	peer := live(t)
	put(t, n.Notice+"-new", peerNotice(peer.Process.Pid, host(), ms(time.Now())))
	require.NoError(t, os.Rename(n.Notice+"-new", n.Notice))
	require.True(t, closed(l.Lost()))
	require.True(t, eventually(func() bool { return len(told(t, n)) == 1 }))
	require.ErrorIs(t, l.Release(), ErrLost)
	all := told(t, n)
	require.Len(t, all, 2)
	for i, want := range []history.Event{{Kind: history.Lost}, {Kind: history.Hold, Ended: history.LostIt}} {
		require.Equal(t, []any{want.Kind, want.Ended, peer.Process.Pid, "loser"}, []any{all[i].Kind, all[i].Ended, all[i].By.PID, all[i].Process})
	}
}

func TestHistoryOfHealing(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{})
	for range 2 {
		require.NoError(t, os.Remove(n.Notice))
		require.True(t, eventually(func() bool { _, err := os.Stat(n.Notice); return err == nil }))
	}
	require.NoError(t, l.Release())
	all := told(t, n)
	require.Len(t, all, 2)
	require.Equal(t, []any{history.Healed, history.Hold, 2}, []any{all[0].Kind, all[1].Kind, all[1].Heals})
}

// What stands in the way of the history stands in nobody else's.
func TestHistoryThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(path string) error{
		"a directory":     func(path string) error { return os.Mkdir(path, 0o700) },
		"a link":          func(path string) error { return os.Symlink("/etc/passwd", path) },
		"a pipe":          func(path string) error { return unix.Mkfifo(path, 0o600) },
		"nobody may read": func(path string) error { return os.WriteFile(path, nil, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			db, n := database(t)
			require.NoError(t, attemptOnce(t, db, Options{NoHistory: true}))
			require.NoError(t, spoil(n.State+"/"+history.Name))
			require.NoError(t, attemptOnce(t, db, Options{}))
			mustHeld(t, func() error {
				defer acquire(t, db, Options{}).Release()
				return attemptOnce(t, db, Options{})
			}())
		})
	}
}
