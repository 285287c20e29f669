package postgres

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock"
	"github.com/dblock-dev/dblock/run/holdertest"
)

func TestConforms(t *testing.T) {
	s := shared(t)
	for _, mode := range []lock.Mode{lock.Exclusive, lock.Shared} {
		t.Run(mode.String(), func(t *testing.T) {
			n := 0
			holdertest.Conforms(t, func(t *testing.T) holdertest.Hold {
				n++
				url := s.url(fmt.Sprintf("conforms-%v-%d", mode, n))
				l := lock.New(url, lock.Options{Mode: mode, Wait: 20 * time.Second, Grace: grace, Unattended: true})
				require.NoError(t, l.Acquire(within(t, limit)))
				return holdertest.Hold{
					Holder: l,
					Lose: func(t *testing.T) {
						r, err := engine{}.Inspect(within(t, limit), url)
						require.NoError(t, err)
						require.NoError(t, engine{}.Break(within(t, limit), url, r.ID))
						// Its server has told it by then, but it need not have listened.
						require.Eventually(t, func() bool { return l.Check() != nil || l.Err() != nil }, limit, time.Millisecond)
					},
					Free: func(t *testing.T) bool { return free(t, url) },
				}
			})
		})
	}
}

func TestOneAtATime(t *testing.T) {
	s := shared(t)
	url := s.url("one")
	h := get(t, asking(url))
	require.NoError(t, h.Check())
	held(t, url)
	require.True(t, free(t, s.url("another")), "another name is another lock")
	next := s.waiting(t, within(t, limit), asking(url))
	require.NoError(t, h.Release())
	<-next.done
	require.NoError(t, next.err)
	require.Greater(t, next.h.Token(), h.Token())
	require.Equal(t, []bool{false, true}, []bool{h.Waited(), next.h.Waited()})
	held(t, url)
	require.NoError(t, next.h.Release())
	require.NoError(t, next.h.Release())
	require.True(t, free(t, url))
}

func TestReaders(t *testing.T) {
	s := shared(t)
	url := s.url("readers")
	reader := asking(url)
	reader.Mode = lock.Shared
	a, b := get(t, reader), get(t, reader)
	held(t, url)
	writer := s.waiting(t, within(t, limit), asking(url))
	require.NoError(t, a.Release())
	held(t, url)
	require.NoError(t, b.Release())
	<-writer.done
	require.NoError(t, writer.err)
	reader.NoWait = true
	_, err := engine{}.Acquire(within(t, limit), reader)
	require.ErrorIs(t, err, lock.ErrHeld)
}

func TestWaitEnds(t *testing.T) {
	s := shared(t)
	url := s.url("ends")
	get(t, asking(url))
	_, err := engine{}.Acquire(within(t, 300*time.Millisecond), asking(url))
	require.Equal(t, context.DeadlineExceeded, err)
	ctx, stop := context.WithCancel(context.Background())
	p := s.waiting(t, ctx, asking(url))
	stop()
	<-p.done
	require.Equal(t, context.Canceled, p.err)
	require.Eventually(t, func() bool { return s.waiters(t, url) == 0 }, limit, 10*time.Millisecond)
}

// A holder that was killed tells nobody.
func TestKilledHolder(t *testing.T) {
	s := shared(t)
	url := s.url("killed")
	o := elsewhere(t, url)
	o.says(t, "held")
	next := s.waiting(t, within(t, limit), asking(url))
	require.NoError(t, o.Process.Kill())
	<-next.done
	require.NoError(t, next.err)
}

// The command of a killed one keeps the lock by the socket it has inherited.
func TestTreeOutlivesHolder(t *testing.T) {
	s := shared(t)
	url := s.url("tree")
	o := elsewhere(t, url, role+"_TREE=exec sleep 60")
	var tree int
	_, err := fmt.Sscan(o.says(t, "tree"), &tree)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Kill(tree, unix.SIGKILL) })
	o.says(t, "held")
	next := s.waiting(t, within(t, limit), asking(url))
	require.NoError(t, o.Process.Kill())
	_, _ = o.Process.Wait()
	// The key is free at once, and somebody gets it, but not the lock.
	target, _ := parse(url)
	require.Eventually(t, func() bool {
		return s.sql(t, "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE application_name LIKE 'dblock waits%' AND "+inLocks(target.key)) == "1"
	}, limit, 10*time.Millisecond)
	select {
	case <-next.done:
		t.Fatal("the tree is still there")
	case <-time.After(500 * time.Millisecond):
	}
	r, err := engine{}.Inspect(within(t, limit), url)
	require.NoError(t, err)
	require.Equal(t, lock.StateHeld, r.State)
	require.Equal(t, o.Process.Pid, r.Holder.PID)
	require.Contains(t, r.Evidence, "may still be ending")
	require.NoError(t, unix.Kill(tree, unix.SIGKILL))
	<-next.done
	require.NoError(t, next.err)
}

func TestDescriptor(t *testing.T) {
	h := get(t, asking(shared(t).url("descriptor")))
	require.GreaterOrEqual(t, h.Descriptor(), 32)
	require.Less(t, h.Descriptor(), 64)
	flags, err := unix.FcntlInt(uintptr(h.Descriptor()), unix.F_GETFD, 0)
	require.NoError(t, err)
	require.NotZero(t, flags&unix.FD_CLOEXEC)
	require.NoError(t, h.Release())
	_, err = unix.FcntlInt(uintptr(h.Descriptor()), unix.F_GETFD, 0)
	require.ErrorIs(t, err, unix.EBADF)
}

// A lock leaves neither a goroutine nor an open file.
func TestNothingIsLeft(t *testing.T) {
	s := shared(t)
	url := s.url("left")
	count := func() (int, int) {
		files, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return runtime.NumGoroutine(), len(files)
	}
	require.True(t, free(t, url))
	routines, files := count()
	for range 5 {
		h := get(t, asking(url))
		held(t, url)
		require.NoError(t, h.Release())
		h.Settle(false)
	}
	for end := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
		r, f := count()
		if r <= routines && f <= files {
			return
		}
		require.True(t, time.Now().Before(end), "%d goroutines instead of %d, %d files instead of %d", r, routines, f, files)
	}
}

// The server is told that a session ends, by a process that goes on and by one that ends with it.
func TestSessionsAreEnded(t *testing.T) {
	s := newServer(t)
	url := s.url("ended")
	require.True(t, free(t, url))
	p := elsewhere(t, url)
	p.says(t, "held")
	require.NoError(t, p.in.Close())
	require.NoError(t, p.Wait())
	require.Eventually(t, func() bool {
		return s.sql(t, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'dblock%'") == "0"
	}, limit, 5*time.Millisecond)
	require.Equal(t, "t 0", s.sql(t, "SELECT concat_ws(' ', sessions >= 4, sessions_abandoned) FROM pg_stat_database WHERE datname = current_database()"))
}

// While somebody waits, a statement that waits for all snapshots to go ends.
func TestWaiterHasNoSnapshot(t *testing.T) {
	s := shared(t)
	url := s.url("index")
	get(t, asking(url))
	for range 3 {
		s.waiting(t, within(t, limit), asking(url))
	}
	s.sql(t, "CREATE TABLE IF NOT EXISTS indexed (a int)")
	s.sql(t, "CREATE INDEX CONCURRENTLY ON indexed (a)")
	require.Equal(t, "0", s.sql(t, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'dblock%' AND state = 'idle in transaction'"))
}

func TestTokensGrow(t *testing.T) {
	s := shared(t)
	var last int64
	for i := range 5 {
		h := get(t, asking(s.url(fmt.Sprint("token", i%2))))
		require.Greater(t, h.Token(), last)
		require.EqualValues(t, 1, h.Token()>>xidBits, "the timeline")
		require.Less(t, h.Token(), int64(1)<<53)
		last = h.Token()
		require.NoError(t, h.Release())
	}
}

// A database, or a role, may have settings that would end the sessions of one who just holds.
func TestSettings(t *testing.T) {
	s := newServer(t, "idle_session_timeout=1s", "statement_timeout=200ms", "default_transaction_read_only=on", "idle_in_transaction_session_timeout=1s")
	url := s.url("settings")
	h := get(t, asking(url))
	p := s.waiting(t, within(t, 2*time.Second), asking(url))
	<-p.done
	require.Equal(t, context.DeadlineExceeded, p.err)
	require.NoError(t, h.Check())
	require.NoError(t, h.Release())
}

func TestForeignKey(t *testing.T) {
	s := shared(t)
	target, err := parse(s.url("foreign"))
	require.NoError(t, err)
	c, err := target.dial(within(t, limit), "psql", time.Minute, nil)
	require.NoError(t, err)
	defer c.close()
	_, err = c.row(within(t, limit), "SELECT pg_advisory_lock(('x' || left(encode(sha256('dblock/foreign'), 'hex'), 16))::bit(64)::bigint)")
	require.NoError(t, err)
	held(t, s.url("foreign"))
	r, err := engine{}.Inspect(within(t, limit), s.url("foreign"))
	require.NoError(t, err)
	require.Equal(t, lock.StateHeld, r.State)
	require.False(t, r.Holder.Dblock)
	require.Equal(t, "psql", r.Holder.Process)
}

func TestInspect(t *testing.T) {
	s := shared(t)
	url := s.url("inspect")
	look := func() *lock.Report {
		r, err := engine{}.Inspect(within(t, limit), url)
		require.NoError(t, err)
		return r
	}
	require.Equal(t, lock.StateFree, look().State)
	ask := asking(url)
	h := get(t, ask)
	require.Equal(t, lock.StateHeld, look().State, "at once")
	r := shown(t, url, h.Token())
	require.Equal(t, lock.StateHeld, r.State)
	require.NotNil(t, r.Holder)
	want := ask.Holder
	want.Token, want.Acquired, want.Timestamp = h.Token(), r.Holder.Acquired, r.Holder.Timestamp
	require.Equal(t, want, *r.Holder)
	require.WithinDuration(t, time.Now(), r.Holder.Acquired, limit)
	require.WithinDuration(t, time.Now(), r.Holder.Timestamp, limit)
	require.Less(t, r.Age, limit)
	require.Len(t, r.ID, idSize)
	require.Empty(t, r.Waiters)

	s.waiting(t, within(t, limit), asking(url))
	s.waiting(t, within(t, limit), asking(url))
	r = look()
	require.Len(t, r.Waiters, 2)
	require.Equal(t, os.Getpid(), r.Waiters[0].PID)
	require.Equal(t, "tester", r.Waiters[0].Process)
	require.Equal(t, "work", r.Waiters[0].Command)

	// Another role sees who it is, not more.
	r, err := engine{}.Inspect(within(t, limit), strings.Replace(url, "postgres@", "other@", 1))
	require.NoError(t, err)
	require.Equal(t, lock.StateHeld, r.State)
	require.Equal(t, os.Getpid(), r.Holder.PID)
	require.Equal(t, "tester", r.Holder.Process)
	require.Equal(t, ask.Holder.Host, r.Holder.Host)
	require.Empty(t, r.Holder.Info)
	var failed *lock.EngineError
	require.ErrorAs(t, engine{}.Break(within(t, limit), strings.Replace(url, "postgres@", "other@", 1), r.ID), &failed)
	require.True(t, failed.Denied)

	reader := asking(s.url("inspect-readers"))
	reader.Mode = lock.Shared
	get(t, reader)
	get(t, reader)
	r, err = engine{}.Inspect(within(t, limit), reader.URL)
	require.NoError(t, err)
	require.Equal(t, lock.StateShared, r.State)
	require.Len(t, r.Readers, 2)
	require.Len(t, r.ID, 2*idSize)
}

// What people write about a holder is cut, not dropped, and never longer than what the server shows.
func TestLongInfo(t *testing.T) {
	s := shared(t)
	ask := asking(s.url("long"))
	ask.Holder.Info = strings.Repeat("😀*/", 100)
	ask.Holder.Command = strings.Repeat("c", 300)
	h := get(t, ask)
	r := shown(t, ask.URL, h.Token())
	require.True(t, strings.HasPrefix(ask.Holder.Info, r.Holder.Info) && r.Holder.Info != "")
}

// Break tells the holder, and the next one waits until that one has ended what it does.
func TestBreak(t *testing.T) {
	s := shared(t)
	url := s.url("break")
	h := get(t, asking(url))
	r := shown(t, url, h.Token())
	next := s.waiting(t, within(t, limit), asking(url))
	require.NoError(t, engine{}.Break(within(t, limit), url, r.ID))
	require.ErrorContains(t, lostIn(t, h, time.Second), "the connection to the server was lost: terminating connection due to administrator command")
	select {
	case <-next.done:
		t.Fatal("what worked under the lock has not ended")
	case <-time.After(500 * time.Millisecond):
	}
	require.Error(t, h.Release())
	<-next.done
	require.NoError(t, next.err)
	require.NoError(t, engine{}.Break(within(t, limit), url, r.ID), "that hold is over")
	require.NoError(t, next.h.Check())
	held(t, url)
	var failed *lock.EngineError
	require.ErrorAs(t, engine{}.Break(within(t, limit), url, "nonsense"), &failed)
	require.True(t, failed.Misuse)
}

// The second session's end is a loss as well.
func TestSecondTerminated(t *testing.T) {
	s := shared(t)
	h := get(t, asking(s.url("second")))
	s.sql(t, fmt.Sprintf("SELECT pg_terminate_backend(%d)", h.second.pg.PID()))
	lostIn(t, h, time.Second)
	require.Error(t, h.Release())
}

// The lock is gone, though the session is not.
func TestUnlockedBehindOurBack(t *testing.T) {
	s := shared(t)
	h := get(t, asking(s.url("unlocked")))
	h.stop()
	<-h.first.done
	_, err := h.first.row(within(t, limit), "SELECT pg_advisory_unlock_all()")
	require.NoError(t, err)
	require.False(t, h.question(h.first))
	require.ErrorContains(t, h.Err(), "the server does not have the lock any more")
}

func BenchmarkFree(b *testing.B) {
	s := shared(b)
	for _, where := range []string{s.url("bench"), strings.Replace(s.url("bench"), "sslmode=disable", "sslmode=prefer", 1)} {
		b.Run(where[strings.Index(where, "sslmode"):strings.Index(where, "&")], func(b *testing.B) {
			for b.Loop() {
				require.NoError(b, get(b, noWait(where)).Release())
			}
		})
	}
}

// BenchmarkHandover is the time from the beginning of a release to the end of the next one's wait.
func BenchmarkHandover(b *testing.B) {
	s := shared(b)
	url := s.url("handover")
	var all []time.Duration
	h := lock.EngineHold(get(b, asking(url)))
	for b.Loop() {
		b.StopTimer()
		p := s.waiting(b, within(b, limit), asking(url))
		b.StartTimer()
		from := time.Now()
		require.NoError(b, h.Release())
		<-p.done
		require.NoError(b, p.err)
		all = append(all, p.at.Sub(from))
		h = p.h
	}
	_ = h.Release()
	b.ReportMetric(float64(median(all).Microseconds())/1000, "median-ms")
}

// shown is what there is to see of a hold, once all is.
func shown(t testing.TB, url string, token int64) *lock.Report {
	t.Helper()
	for end := time.Now().Add(limit); ; {
		r, err := engine{}.Inspect(within(t, limit), url)
		require.NoError(t, err)
		if r.Holder != nil && r.Holder.Token == token {
			return r
		}
		require.True(t, time.Now().Before(end))
	}
}

// Of those who wait one is the heir, and another one when it has got the lock, or has gone.
func TestHeir(t *testing.T) {
	s := shared(t)
	url := s.url("heir")
	target, err := parse(url)
	require.NoError(t, err)
	heir := func() string {
		return s.sql(t, "SELECT coalesce(max(pid), 0) FROM pg_locks WHERE "+inLocks(target.next))
	}
	sessions := func() string {
		return s.sql(t, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'dblock %' AND "+
			"(application_name LIKE '%"+target.hex()+"%' OR application_name NOT LIKE 'dblock waits%') AND application_name NOT LIKE 'dblock looks%'")
	}
	h := get(t, asking(url))
	require.Equal(t, "0", heir())
	ctx, stop := context.WithCancel(within(t, limit))
	first := s.waiting(t, ctx, asking(url))
	chosen := heir()
	require.NotEqual(t, "0", chosen)
	second := s.waiting(t, within(t, limit), asking(url))
	require.Equal(t, chosen, heir())
	require.Eventually(t, func() bool { return sessions() == "5" }, limit, 5*time.Millisecond, "two of the holder, two of the heir, one of the other")
	stop()
	<-first.done
	require.Eventually(t, func() bool { return heir() != "0" && heir() != chosen }, limit, 5*time.Millisecond)
	require.Eventually(t, func() bool { return sessions() == "4" }, limit, 5*time.Millisecond)
	require.NoError(t, h.Release())
	<-second.done
	require.NoError(t, second.err)
	require.Eventually(t, func() bool { return heir() == "0" }, limit, 5*time.Millisecond)
	require.NoError(t, second.h.Check())
}

// An heir that does not run is passed.
func TestStoppedHeir(t *testing.T) {
	s := shared(t)
	url := s.url("stopped-heir")
	h := get(t, asking(url))
	before := s.waiters(t, url)
	o := elsewhere(t, url)
	require.Eventually(t, func() bool { return s.waiters(t, url) > before }, limit, 5*time.Millisecond)
	require.NoError(t, o.Process.Signal(unix.SIGSTOP))
	next := s.waiting(t, within(t, limit), asking(url))
	require.NoError(t, h.Release())
	<-next.done
	require.NoError(t, next.err)
	require.NoError(t, o.Process.Signal(unix.SIGCONT))
	require.NoError(t, next.h.Release())
	o.says(t, "held")
}

func TestPrepared(t *testing.T) {
	s := shared(t)
	url := s.url("prepared")
	count := func() string {
		return s.sql(t, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'dblock waits "+keyHex(t, url)+"%'")
	}
	h := get(t, asking(url))
	p := engine{}.Prepare(asking(url))
	require.Eventually(t, func() bool { return count() == "1" }, limit, 5*time.Millisecond)
	require.NoError(t, h.Release())
	require.True(t, free(t, url), "it keeps nobody out")
	next, err := p.Acquire(within(t, limit))
	require.NoError(t, err)
	held(t, url)
	require.NoError(t, next.Release())

	p = engine{}.Prepare(asking(url))
	require.Eventually(t, func() bool { return count() == "1" }, limit, 5*time.Millisecond)
	p.Drop()
	require.Eventually(t, func() bool { return count() == "0" }, limit, 5*time.Millisecond)

	// What was prepared is of no use any more.
	p = engine{}.Prepare(asking(url))
	require.Eventually(t, func() bool { return count() == "1" }, limit, 5*time.Millisecond)
	s.sql(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'dblock waits "+keyHex(t, url)+"%'")
	next, err = p.Acquire(within(t, limit))
	require.NoError(t, err)
	require.NoError(t, next.Release())

	p = engine{}.Prepare(asking(strings.Replace(url, "@", "@nowhere.invalid:1,", 1)))
	ctx, stop := context.WithCancel(context.Background())
	stop()
	_, err = p.Acquire(ctx)
	require.Equal(t, context.Canceled, err)
}

func keyHex(t testing.TB, url string) string {
	t.Helper()
	target, err := parse(url)
	require.NoError(t, err)
	return target.hex()
}
