//go:build linux

package lock

import (
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func count(t testing.TB, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	return len(entries)
}

// A program that lives long tries a lock again and again, and gives up each time. What
// it leaves behind in the kernel must not add up. Not parallel: it counts what the
// process has.
func TestTimeOutsDoNotAddUp(t *testing.T) {
	for _, mode := range []Mode{Exclusive, Shared} {
		t.Run(mode.String(), func(t *testing.T) {
			db, n := database(t)
			holder := holding(t, config{DB: db})
			try := func() { mustHeld(t, New(db, Options{Mode: mode, Wait: time.Millisecond}).Acquire(t.Context())) }
			for range 5 {
				try()
			}
			threads, files, routines := count(t, "/proc/self/task"), count(t, "/proc/self/fd"), runtime.NumGoroutine()
			for range 60 {
				var wg sync.WaitGroup
				for range 5 {
					wg.Go(try)
				}
				wg.Wait()
			}
			// Five at the same time are five waits, and the runtime keeps a few threads.
			require.Less(t, count(t, "/proc/self/task"), threads+15)
			require.Less(t, count(t, "/proc/self/fd"), files+10)
			require.Less(t, runtime.NumGoroutine(), routines+10)

			// One who wants it goes on with what was left, and what nobody wants lets go.
			l := New(db, Options{Mode: mode, Wait: Forever})
			got := background(t, l)
			holder.say(t, "release")
			require.Equal(t, "released <nil>", holder.line(t))
			require.NoError(t, result(t, got))
			require.Equal(t, own(l).claim.Inode(), inodeOf(t, n.Notice))
			mustHeld(t, attemptOnce(t, db, Options{}))
			require.NoError(t, l.Release())
			require.True(t, eventually(func() bool { return runtime.NumGoroutine() <= routines }), "they are gone")
			next := holding(t, config{DB: db, Wait: NoWait})
			next.say(t, "release")
			require.Equal(t, "released <nil>", next.line(t))
		})
	}
}

// A wait that was left behind lets go as soon as it is granted, for those of other
// processes.
func TestWaitsLeftBehindLetGo(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	holder := holding(t, config{DB: db})
	for range 3 {
		mustHeld(t, New(db, Options{Wait: time.Millisecond}).Acquire(t.Context()))
	}
	waiting(t, n, 1)
	next := start(t, "hold", config{DB: db, Wait: patience})
	waiting(t, n, 2)
	holder.say(t, "release")
	require.Equal(t, "released <nil>", holder.line(t))
	require.Contains(t, next.line(t), "held ")
	waiting(t, n, 0)
	next.say(t, "release")
	require.Equal(t, "released <nil>", next.line(t))
}
