package lock

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
)

// watched is what Watch yields, until the test ends.
func watched(t *testing.T, db string) <-chan *Report {
	t.Helper()
	reports := make(chan *Report, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for r, err := range Watch(ctx, db, Options{}) {
			if err != nil {
				t.Error(err)
			}
			reports <- r
		}
	}()
	t.Cleanup(func() {
		cancel()
		require.True(t, closed(done), "it ends with its context")
	})
	return reports
}

// until takes reports until one is as it is to be.
func until(t *testing.T, reports <-chan *Report, what string, is func(r *Report) bool) *Report {
	t.Helper()
	for end := time.After(patience); ; {
		select {
		case r := <-reports:
			if is(r) {
				return r
			}
		case <-end:
			require.FailNow(t, "never: "+what)
		}
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	needsSight(t)
	db, n := database(t)
	reports := watched(t, db)
	in := func(s State) func(*Report) bool { return func(r *Report) bool { return r.State == s } }
	until(t, reports, "it is free", in(StateFree))
	h := holding(t, config{DB: db, Process: "one"})
	r := until(t, reports, "it is held", in(StateHeld))
	require.Equal(t, "one", r.Holder.Process)
	next := New(db, Options{Process: "two", Wait: Forever})
	got := background(t, next)
	if !portable.Half {
		until(t, reports, "one waits", func(r *Report) bool { return r.State == StateHeld && len(r.Waiters) == 1 })
	}
	h.say(t, "release")
	require.NoError(t, result(t, got))
	until(t, reports, "the other one holds it", func(r *Report) bool { return r.State == StateHeld && r.Holder.PID == os.Getpid() })
	require.NoError(t, next.Release())
	until(t, reports, "it is free again", in(StateFree))
	holding(t, config{DB: db}).die(t)
	until(t, reports, "it is stale", in(StateStale))
	require.NoError(t, os.Remove(n.Notice))
	until(t, reports, "it was removed", in(StateFree))
	put(t, n.Notice, peerNotice(1, "elsewhere", ms(time.Now())))
	until(t, reports, "another program's", in(StateForeign))
	require.Empty(t, reports, "nothing else has changed")
}

// An error ends it: there is nothing to watch.
func TestWatchOfNothing(t *testing.T) {
	t.Parallel()
	count := 0
	for r, err := range Watch(t.Context(), filepath.Join(t.TempDir(), "none", "x.db"), Options{}) {
		count++
		require.Nil(t, r)
		require.ErrorIs(t, err, os.ErrNotExist)
	}
	require.Equal(t, 1, count)
}

// What happens to the lock file wakes the watch; nothing is left to the next look.
func TestWatchIsWoken(t *testing.T) {
	t.Parallel()
	if s := newSentry(); s.w == nil {
		t.Skip("this system does not tell of changes")
	} else {
		s.close()
	}
	for name, c := range map[string]struct {
		before, then func(t *testing.T, db string, n Names)
	}{
		"acquired": {nil, func(t *testing.T, db string, n Names) { acquire(t, db, Options{}) }},
		"a peer's": {nil, func(t *testing.T, db string, n Names) { put(t, n.Notice, peerNotice(1, "x", 1)) }},
		"removed": {
			func(t *testing.T, db string, n Names) { put(t, n.Notice, peerNotice(1, "x", 1)) },
			func(t *testing.T, db string, n Names) { require.NoError(t, os.Remove(n.Notice)) },
		},
		"replaced": {
			func(t *testing.T, db string, n Names) { put(t, n.Notice, peerNotice(1, "x", 1)) },
			func(t *testing.T, db string, n Names) {
				put(t, n.Notice+".new", peerNotice(2, "x", 1))
				require.NoError(t, os.Rename(n.Notice+".new", n.Notice))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, n := database(t)
			if c.before != nil {
				c.before(t, db, n)
			}
			s := newSentry()
			defer s.close()
			s.watch(n)
			require.False(t, s.blind)
			require.False(t, s.wait(time.Millisecond))
			c.then(t, db, n)
			require.True(t, s.wait(patience))
		})
	}
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		db, n := database(t)
		h := holding(t, config{DB: db})
		s := newSentry()
		defer s.close()
		s.watch(n)
		require.False(t, s.wait(time.Millisecond))
		h.die(t)
		require.True(t, s.wait(patience))
	})
}

// A lock that its holder has left for one who waits is not told of as one that nobody has, unless
// that one does not come.
func TestWatchOfAHandover(t *testing.T) {
	t.Parallel()
	needsSight(t)
	db, n := database(t)
	reports := watched(t, db)
	until(t, reports, "it is free", func(r *Report) bool { return r.State == StateFree })
	me := proc.Self()
	begin := time.Now()
	put(t, n.Notice, string(notice.Format(notice.Info{
		Timestamp: ms(begin), Dated: true, Host: host(), Process: "left",
		Dblock: &notice.Dblock{Version: 1, Mode: notice.Exclusive, ID: "0123456789abcdef", Boot: me.Boot, PIDNS: me.PIDNS},
	})))
	until(t, reports, "nobody comes", func(r *Report) bool { return r.State == StateStale })
	require.GreaterOrEqual(t, time.Since(begin), passingTime)
}
