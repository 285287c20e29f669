package lock

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
)

func inspected(t *testing.T, db string, opts Options) *Report {
	t.Helper()
	r, err := Inspect(db, opts)
	require.NoError(t, err)
	return r
}

func TestInspectFree(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	r := inspected(t, db, Options{})
	require.Equal(t, StateFree, r.State)
	require.False(t, r.Locked())
	require.Nil(t, r.Holder)
	require.Empty(t, r.ID)
	require.NoDirExists(t, n.State, "it touches nothing")
	require.NoError(t, attemptOnce(t, db, Options{}))
	require.Equal(t, StateFree, inspected(t, db, Options{}).State)
	_, err := Inspect("", Options{})
	require.ErrorIs(t, err, ErrName)
}

func TestInspectHeld(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	h := holding(t, config{DB: db, Process: "importer"})
	r := inspected(t, db, Options{})
	require.Equal(t, StateHeld, r.State)
	require.True(t, r.Locked())
	require.False(t, r.Stale)
	require.Equal(t, !portable.Half, r.WaitersKnown)
	require.Empty(t, r.Waiters)
	require.Equal(t, h.Process.Pid, r.Holder.PID)
	require.Equal(t, "importer", r.Holder.Process)
	require.True(t, r.Holder.Dblock)
	require.Equal(t, os.Getuid(), r.Holder.UID)
	require.Equal(t, look1(t, n.Notice).Info.Dblock.ID, r.ID)
	require.Contains(t, r.Evidence, "alive")
	portable.Needs(t, portable.Queue)

	l := New(db, Options{Wait: Forever})
	got := background(t, l)
	waiting(t, n, 1)
	// On its way from one turnstile to the next it is nowhere for an instant.
	require.True(t, eventually(func() bool { r = inspected(t, db, Options{}); return len(r.Waiters) == 1 }))
	require.Equal(t, os.Getpid(), r.Waiters[0].PID)
	h.say(t, "release")
	require.NoError(t, result(t, got))
}

// Inspect never takes a lock: a probe that has it makes others fail.
func TestInspectDisturbsNobody(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	require.NoError(t, attemptOnce(t, db, Options{}))
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !isClosed(stop) {
			_, _ = Inspect(db, Options{})
		}
	}()
	for range 100 {
		require.NoError(t, attemptOnce(t, db, Options{}))
	}
	close(stop)
	<-done
}

func TestInspectForeign(t *testing.T) {
	t.Parallel()
	needsSight(t)
	db, n := database(t)
	peer := live(t)
	content := peerNotice(peer.Process.Pid, host(), ms(time.Now()))
	put(t, n.Notice, content)
	r := inspected(t, db, Options{})
	require.Equal(t, StateForeign, r.State)
	require.True(t, r.Locked())
	require.False(t, r.Holder.Dblock)
	require.Equal(t, "mcp-server", r.Holder.Process)
	id := r.ID
	require.NotEmpty(t, id)
	put(t, n.Notice, content+" ")
	require.NotEqual(t, id, inspected(t, db, Options{}).ID)
	peer.die(t)
	r = inspected(t, db, Options{})
	require.Equal(t, StateStale, r.State)
	require.True(t, r.Stale)
	require.False(t, r.Locked())
	require.FileExists(t, n.Notice)
}

func TestInspectInvalid(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	put(t, n.Notice, "")
	r := inspected(t, db, Options{})
	require.Equal(t, StateInvalid, r.State)
	require.True(t, r.Locked(), "it may be in the making")
	old := time.Now().Add(-time.Minute)
	require.NoError(t, os.Chtimes(n.Notice, old, old))
	r = inspected(t, db, Options{})
	require.Equal(t, StateInvalid, r.State)
	require.True(t, r.Stale)
	require.False(t, r.Locked())
	require.Nil(t, r.Holder)
}

func TestInspectStaleDblock(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	h := holding(t, config{DB: db})
	h.die(t)
	r := inspected(t, db, Options{})
	require.Equal(t, StateStale, r.State)
	require.True(t, r.Stale)
	require.Equal(t, h.Process.Pid, r.Holder.PID)

	put(t, n.Notice, dblockNotice(t, func(i *notice.Info) { i.Host, i.Dblock.Boot = "elsewhere", "another-boot" }))
	r = inspected(t, db, Options{})
	require.Equal(t, StateHeld, r.State)
	var clock clock
	clock.jump(time.Hour)
	r = inspected(t, db, Options{Now: clock.now})
	require.Equal(t, StateStale, r.State)
	require.False(t, r.Stale, "nobody takes it over before it has been silent for the timeout")

	portable.Needs(t, portable.Processes)
	put(t, n.Notice, dblockNotice(t, func(i *notice.Info) { i.Dblock.Boot = "another-boot" }))
	r = inspected(t, db, Options{})
	require.Equal(t, StateStale, r.State)
	require.True(t, r.Stale)
}

// orphan makes a lock whose holder is gone while what it ran is not, and returns
// the pid of what it ran.
func orphan(t *testing.T, db string) int {
	t.Helper()
	h := start(t, "wrap", config{DB: db, Run: "linger"})
	var pid int
	_, err := fmt.Sscanf(h.line(t), "running %d", &pid)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	require.NoError(t, h.Process.Kill())
	require.True(t, eventually(func() bool { return proc.Look(h.Process.Pid) == proc.Gone }))
	return pid
}

func TestOrphan(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	pid := orphan(t, db)
	r := inspected(t, db, Options{})
	if portable.Half { // it is not told, and keeps the lock all the same
		require.Equal(t, StateStale, r.State)
		require.Contains(t, r.Evidence, "may run on")
		mustHeld(t, attemptOnce(t, db, Options{}))
		b, err := Break(t.Context(), db, BreakOptions{})
		mustHeld(t, err)
		require.True(t, b.Kept, "it is not called a success")
		require.NoFileExists(t, n.Notice)
		require.NoError(t, unix.Kill(pid, unix.SIGKILL))
		require.True(t, eventually(func() bool { return attemptOnce(t, db, Options{}) == nil }))
		return
	}
	require.Equal(t, StateOrphaned, r.State)
	require.True(t, r.Locked())
	require.False(t, r.Stale)
	require.Equal(t, []int{pid}, r.Orphans)
	mustHeld(t, attemptOnce(t, db, Options{}))

	_, err := Break(t.Context(), db, BreakOptions{IfStale: true})
	mustHeld(t, err)
	b, err := Break(t.Context(), db, BreakOptions{KillAfter: patience, Consent: func(*Report) bool { return true }})
	require.NoError(t, err)
	require.Equal(t, []int{pid}, b.Ended)
	require.NoFileExists(t, n.Notice)
	require.NoError(t, attemptOnce(t, db, Options{}))
}

// An orphan keeps the lock though its lock file was deleted: it is named, and force ends it.
func TestOrphanWithoutNotice(t *testing.T) {
	portable.Needs(t, portable.Queue)
	t.Parallel()
	db, n := database(t)
	pid := orphan(t, db)
	require.NoError(t, os.Remove(n.Notice))
	r := inspected(t, db, Options{})
	require.Equal(t, StateOrphaned, r.State)
	require.True(t, r.Locked())
	require.Nil(t, r.Holder)
	require.Equal(t, []int{pid}, r.Orphans)
	require.Contains(t, r.Evidence, "its lock file was deleted")
	require.Equal(t, pid, r.Left[0].PID)
	require.Equal(t, []int{pid}, mustHeld(t, attemptOnce(t, db, Options{})).Report.Orphans)

	for _, o := range []BreakOptions{{}, {IfStale: true}, {ID: "0123456789abcdef"}} {
		_, err := Break(t.Context(), db, o)
		mustHeld(t, err)
	}
	require.Equal(t, proc.Alive, proc.Look(pid))
	b, err := Break(t.Context(), db, BreakOptions{KillAfter: patience, Consent: func(*Report) bool { return true }})
	require.NoError(t, err)
	require.True(t, b.Removed)
	require.Equal(t, []int{pid}, b.Ended)
	require.NoError(t, attemptOnce(t, db, Options{}))
}

func TestInspectAge(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	var clock clock
	acquire(t, db, Options{Now: clock.now})
	clock.jump(10 * time.Minute)
	require.GreaterOrEqual(t, inspected(t, db, Options{Now: clock.now}).Age, 10*time.Minute)
	clock.jump(-time.Hour)
	require.Zero(t, inspected(t, db, Options{Now: clock.now}).Age)
}

func TestInspectRoomReplaced(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	var i notice.Info
	dblockNotice(t, func(d *notice.Info) { i = *d })
	put(t, n.Notice, string(notice.Format(i)))
	require.NoError(t, os.Mkdir(n.State, 0o755))
	require.NoError(t, os.WriteFile(n.room(), nil, 0o600))
	r := inspected(t, db, Options{})
	require.Equal(t, StateHeld, r.State)
	require.Contains(t, r.Evidence, "alive and refreshes it")
}

func TestDescribeReadsArguments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want Process
	}{
		{[]string{"-d", "x.db", "--", "node", "m.js"}, Process{Command: "node"}},
		{[]string{"-d", "x.db", "-p", "label", "-s", "--priority", "high", "/usr/bin/node"}, Process{Command: "node", Process: "label", Mode: Shared, Priority: High}},
		{[]string{"run", "--process=label", "--priority=low", "-n", "-x", "sh"}, Process{Command: "sh", Process: "label", Priority: Low}},
		{[]string{"-d", "x.db", "-c", "echo secret"}, Process{Command: "sh -c"}},
		{[]string{"-d"}, Process{}},
		{[]string{"--"}, Process{}},
		{nil, Process{}},
	} {
		var p Process
		p.readArgs(c.args)
		require.Equal(t, c.want, p, "%q", c.args)
	}
}

// Break.

func TestBreakFree(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	b, err := Break(t.Context(), db, BreakOptions{Consent: func(*Report) bool { panic("there is nothing to ask") }})
	require.NoError(t, err)
	require.False(t, b.Removed)
	require.NoDirExists(t, n.State)
}

func TestBreakStale(t *testing.T) {
	t.Parallel()
	needsSight(t)
	for _, o := range []BreakOptions{{}, {IfStale: true}} {
		db, n := database(t)
		put(t, n.Notice, peerNotice(gone(t), host(), ms(time.Now())))
		b, err := Break(t.Context(), db, o)
		require.NoError(t, err)
		require.True(t, b.Removed)
		require.Empty(t, b.Ended)
		require.Zero(t, b.Running)
		require.NoFileExists(t, n.Notice)
		left, err := os.ReadDir(t.TempDir())
		require.NoError(t, err)
		require.Empty(t, left)
	}
}

func TestBreakRefused(t *testing.T) {
	t.Parallel()
	needsSight(t)
	db, n := database(t)
	peer := live(t)
	id := put(t, n.Notice, peerNotice(peer.Process.Pid, host(), ms(time.Now())))
	for _, o := range []BreakOptions{
		{}, {IfStale: true}, {ID: "another"},
		{IfStale: true, Consent: func(*Report) bool { return true }},
		{ID: "another", Consent: func(*Report) bool { return true }},
		{Consent: func(r *Report) bool { require.Equal(t, StateForeign, r.State); return false }},
	} {
		_, err := Break(t.Context(), db, o)
		mustHeld(t, err)
		require.Equal(t, id, inodeOf(t, n.Notice))
	}
	r := inspected(t, db, Options{})
	b, err := Break(t.Context(), db, BreakOptions{ID: r.ID})
	require.NoError(t, err)
	require.True(t, b.Removed)
	require.Equal(t, peer.Process.Pid, b.Running, "it goes on without its lock")
	require.NoFileExists(t, n.Notice)
	require.NoError(t, unix.Kill(peer.Process.Pid, 0))
}

func TestBreakInvalid(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	put(t, n.Notice, "garbage")
	_, err := Break(t.Context(), db, BreakOptions{IfStale: true})
	mustHeld(t, err)
	b, err := Break(t.Context(), db, BreakOptions{})
	require.NoError(t, err)
	require.True(t, b.Removed)
	require.NoFileExists(t, n.Notice)
}

func TestBreakLiveDblock(t *testing.T) {
	portable.NeedsWord(t)
	t.Parallel()
	db, n := database(t)
	h := holding(t, config{DB: db})
	_, err := Break(t.Context(), db, BreakOptions{})
	mustHeld(t, err)
	b, err := Break(t.Context(), db, BreakOptions{KillAfter: patience, Consent: func(r *Report) bool { return r.Holder.PID == h.Process.Pid }})
	require.NoError(t, err)
	require.True(t, b.Removed)
	require.Equal(t, []int{h.Process.Pid}, b.Ended)
	require.NoFileExists(t, n.Notice)
	require.NoError(t, attemptOnce(t, db, Options{}))
}

func TestBreakReaders(t *testing.T) {
	portable.NeedsWord(t)
	t.Parallel()
	db, n := database(t)
	a, c := holding(t, config{DB: db, Mode: Shared}), holding(t, config{DB: db, Mode: Shared})
	b, err := Break(t.Context(), db, BreakOptions{KillAfter: patience, Consent: func(r *Report) bool { return r.State == StateShared }})
	require.NoError(t, err)
	require.ElementsMatch(t, []int{a.Process.Pid, c.Process.Pid}, b.Ended)
	require.True(t, b.Removed)
	require.NoFileExists(t, n.Notice)
	require.NoError(t, attemptOnce(t, db, Options{}))
}

func TestBreakStubborn(t *testing.T) {
	portable.NeedsWord(t)
	// A stopped process does not even see SIGTERM.
	t.Parallel()
	db, n := database(t)
	h := holding(t, config{DB: db})
	require.NoError(t, h.Process.Signal(unix.SIGSTOP))
	b, err := Break(t.Context(), db, BreakOptions{KillAfter: 100 * time.Millisecond, Consent: func(*Report) bool { return true }})
	require.NoError(t, err)
	require.Equal(t, []int{h.Process.Pid}, b.Ended)
	require.NoFileExists(t, n.Notice)
	require.NoError(t, attemptOnce(t, db, Options{}))
}

func TestBreakElsewhere(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	put(t, n.Notice, dblockNotice(t, func(i *notice.Info) { i.Host, i.Dblock.Boot = "elsewhere", "another-boot" }))
	_, err := Break(t.Context(), db, BreakOptions{IfStale: true})
	mustHeld(t, err)
	_, err = Break(t.Context(), db, BreakOptions{})
	mustHeld(t, err) // it gives signs of life
	b, err := Break(t.Context(), db, BreakOptions{Consent: func(*Report) bool { return true }})
	require.NoError(t, err)
	require.True(t, b.Removed)
	require.NoFileExists(t, n.Notice)
}

// The kernel's table of locks can leave out a line.
func TestInspectATableThatLacksALine(t *testing.T) {
	portable.Needs(t, portable.Queue)
	t.Parallel()
	db, n := database(t)
	h := holding(t, config{DB: db})
	background(t, New(db, Options{Wait: Forever}))
	waiting(t, n, 1)
	for _, lacking := range []int{0, 1, tableReadings} {
		readings := 0
		r := &Report{Names: n, table: func() (proc.Locks, bool) {
			if readings++; readings <= lacking {
				return proc.Locks{}, true
			}
			return proc.AllLocks()
		}}
		// On its way from one turnstile to the next the waiter is nowhere for an instant.
		require.True(t, eventually(func() bool {
			readings = 0
			inRoom := r.lookAtQueue()
			return len(inRoom) == 1 && inRoom[0].PID == h.Process.Pid && len(r.Waiters) == 1
		}), "%d readings without it", lacking)
	}
	readings := 0
	r := &Report{Names: n, table: func() (proc.Locks, bool) { readings++; return proc.Locks{}, true }}
	require.Empty(t, r.lookAtQueue())
	require.Equal(t, 1+tableReadings, readings, "no more often")
}
