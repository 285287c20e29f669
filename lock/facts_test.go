//go:build linux

package lock

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
)

// opener has a file open, on a descriptor of cat's.
func opener(t testing.TB, path string, flags int) int {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0o644)
	require.NoError(t, err)
	defer f.Close()
	cat := exec.Command("cat")
	in, err := cat.StdinPipe()
	require.NoError(t, err)
	cat.ExtraFiles = []*os.File{f}
	require.NoError(t, cat.Start())
	t.Cleanup(func() { _ = in.Close(); _ = cat.Wait() })
	return cat.Process.Pid
}

func openers(t *testing.T, db string) map[int]Opener {
	t.Helper()
	f := inspected(t, db, Options{}).Facts()
	found := map[int]Opener{}
	for _, o := range f.Openers {
		found[o.Process.PID] = o
	}
	return found
}

// Who works on the database without the lock is found, by whatever file of it; who belongs to
// the holder, has another file of that name, or one that was replaced, is not.
func TestFactsOfThoseWithoutTheLock(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	db, _ := database(t)
	other := filepath.Join(t.TempDir(), "x.db")
	for _, path := range []string{db, db + "-wal", other} {
		require.NoError(t, os.WriteFile(path, []byte("data"), 0o644))
	}
	reader, writer := opener(t, db, os.O_RDONLY), opener(t, db+"-wal", os.O_RDWR)
	opener(t, other, os.O_RDWR)
	found := openers(t, db)
	require.Len(t, found, 2)
	require.False(t, found[reader].Writing)
	require.True(t, found[writer].Writing)
	require.Equal(t, "cat", found[writer].Process.Command)
	require.False(t, found[writer].Locked)

	// Another name of the same file.
	require.NoError(t, os.Link(db, other+"2"))
	third := opener(t, other+"2", os.O_RDONLY)
	require.Contains(t, openers(t, db), third)

	// The file is replaced: what they have open is not the database any more.
	require.NoError(t, os.WriteFile(db+".new", nil, 0o644))
	require.NoError(t, os.Rename(db+".new", db))
	require.NotContains(t, openers(t, db), reader)

	// A descriptor that only names it does not open it.
	path, err := unix.Open(db, unix.O_PATH|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	cat := exec.Command("cat")
	in, err := cat.StdinPipe()
	require.NoError(t, err)
	cat.ExtraFiles = []*os.File{os.NewFile(uintptr(path), db)}
	require.NoError(t, cat.Start())
	defer cat.Wait()
	defer in.Close()
	require.NotContains(t, openers(t, db), cat.Process.Pid)
}

func TestFactsOfALock(t *testing.T) {
	portable.Needs(t, portable.Queue)
	t.Parallel()
	db, _ := database(t)
	require.NoError(t, os.WriteFile(db, nil, 0o644))
	flock := exec.Command("flock", db, "sleep", "1000")
	require.NoError(t, flock.Start())
	t.Cleanup(func() {
		_ = unix.Kill(proc.FirstChild(flock.Process.Pid), unix.SIGKILL)
		_ = flock.Process.Kill()
		_ = flock.Wait()
	})
	require.True(t, eventually(func() bool { return openers(t, db)[flock.Process.Pid].Locked }))
}

func TestFactsOfADirectory(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	db := filepath.Join(t.TempDir(), "pg")
	require.NoError(t, os.MkdirAll(filepath.Join(db, "base", "1"), 0o755))
	deep := filepath.Join(db, "base", "1", "1259")
	require.NoError(t, os.WriteFile(deep, nil, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(db, "..", "pgx"), nil, 0o644))
	opener(t, filepath.Join(db, "..", "pgx"), os.O_RDWR)
	pid := opener(t, deep, os.O_RDWR)
	found := openers(t, db)
	require.Len(t, found, 1)
	require.True(t, found[pid].Writing)
}

// What the holder has started works with the lock.
func TestFactsOfTheHolder(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	db, _ := database(t)
	require.NoError(t, os.WriteFile(db, nil, 0o644))
	h := start(t, "wrap", config{DB: db, Run: "linger"})
	var pid int
	_, err := fmt.Sscanf(h.line(t), "running %d", &pid)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	f := inspected(t, db, Options{}).Facts()
	require.Len(t, f.Running, 1)
	require.Equal(t, pid, f.Running[0].Process.PID)
	require.Equal(t, h.Process.Pid, f.Running[0].Under)
	require.NotEmpty(t, f.Running[0].Args)
	wd, err := os.Getwd()
	require.NoError(t, err)
	require.Equal(t, wd, f.Running[0].Dir)
	require.False(t, f.Inside)
	require.Empty(t, f.Openers)
	require.NoError(t, unix.Kill(pid, unix.SIGSTOP))
	require.True(t, eventually(func() bool { return inspected(t, db, Options{}).Facts().Running[0].Process.Stopped }))
}

// Each waiter tells until when it waits, wherever in the queue it is; one that waits for
// ever tells nothing.
func TestFactsOfWaiters(t *testing.T) {
	portable.Needs(t, portable.Signs)
	t.Parallel()
	db, n := database(t)
	h := holding(t, config{DB: db})
	begin := time.Now()
	waits := map[int]time.Duration{}
	for i, wait := range []time.Duration{time.Hour, 2 * time.Hour, 3 * time.Hour, Forever} {
		w := start(t, "hold", config{DB: db, Wait: wait})
		waits[w.Process.Pid] = wait
		waiting(t, n, i+1)
	}
	begun := time.Now()
	var r *Report
	require.True(t, eventually(func() bool { r = inspected(t, db, Options{}); return len(r.Waiters) == 4 }))
	told := r.Facts().Deadlines
	require.Len(t, told, 3)
	for pid, at := range told {
		require.WithinRange(t, at, begin.Add(waits[pid]).Truncate(time.Millisecond), begun.Add(waits[pid]))
	}
	h.say(t, "release")
}

// Who waits for a peer has the room, and tells it there.
func TestFactsOfAWaiterForAPeer(t *testing.T) {
	portable.Needs(t, portable.Signs)
	t.Parallel()
	needsSight(t)
	db, n := database(t)
	put(t, n.Notice, peerNotice(live(t).Process.Pid, host(), ms(time.Now())))
	w := start(t, "hold", config{DB: db, Wait: time.Hour})
	require.True(t, eventually(func() bool {
		r, err := Inspect(db, Options{})
		return err == nil && len(r.Waiters) == 1 && !r.Facts().Deadlines[w.Process.Pid].IsZero()
	}))
}

// The words of the lock file are one reader's, and so is the pid that goes with them.
func TestReadersAreNotMixedUp(t *testing.T) {
	portable.Needs(t, portable.Queue)
	t.Parallel()
	db, n := database(t)
	first := holding(t, config{DB: db, Mode: Shared, Process: "first"})
	started := func(c *child) uint64 {
		st, ok := proc.Stat(c.Process.Pid)
		require.True(t, ok)
		return st.Started
	}
	second := holding(t, config{DB: db, Mode: Shared, Process: "second"})
	for started(second) == started(first) { // within one tick of the kernel's clock they cannot be told apart
		second.die(t)
		second = holding(t, config{DB: db, Mode: Shared, Process: "second"})
	}
	require.Equal(t, second.Process.Pid, look1(t, n.Notice).Info.PID, "who wrote last")
	r := inspected(t, db, Options{})
	require.Len(t, r.Readers, 2)
	require.Equal(t, "first", r.Holder.Process)
	require.Equal(t, first.Process.Pid, r.Holder.PID)
	first.die(t)
	require.True(t, eventually(func() bool { r = inspected(t, db, Options{}); return len(r.Readers) == 1 }))
	require.Equal(t, second.Process.Pid, r.Holder.PID)
	require.NotEqual(t, "first", r.Holder.Process)
}

func TestInfo(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	l := acquire(t, db, Options{Info: "ticket 42"})
	require.Equal(t, "ticket 42", inspected(t, db, Options{}).Holder.Info)
	g, _ := l.Grant()
	require.Equal(t, "ticket 42", g.Holder.Info)
	require.NoError(t, l.Release())
	acquire(t, db, Options{})
	require.NotContains(t, contents(t, n.Notice), `"info"`)
}

func TestInspectWithoutADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Inspect(filepath.Join(dir, "none", "x.db"), Options{})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Break(t.Context(), filepath.Join(dir, "none", "x.db"), BreakOptions{})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	_, err = Inspect(filepath.Join(dir, "file", "x.db"), Options{})
	require.ErrorIs(t, err, unix.ENOTDIR)
}

// What force would end is known before it is asked.
func TestCondemned(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	db, _ := database(t)
	h := start(t, "wrap", config{DB: db, Run: "linger"})
	var pid int
	_, err := fmt.Sscanf(h.line(t), "running %d", &pid)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	ps, err := inspected(t, db, Options{}).Condemned()
	require.NoError(t, err)
	require.Len(t, ps, 2)
	require.Equal(t, []int{h.Process.Pid, pid}, []int{ps[0].PID, ps[1].PID})
	put(t, inspected(t, db, Options{}).Names.Notice, dblockNotice(t, func(i *notice.Info) { i.Host, i.Dblock.Boot = "elsewhere", "another-boot" }))
	ps, err = inspected(t, db, Options{}).Condemned()
	require.NoError(t, err)
	require.Empty(t, ps, "it is not here")
}

// A child that has not become the command yet is none that runs.
func TestRunningIsWhatWasBecome(t *testing.T) {
	portable.Needs(t, portable.Processes)
	c := exec.Command("sh", "-c", "(read x; exec sleep 60); true")
	in, err := c.StdinPipe()
	require.NoError(t, err)
	c.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	require.NoError(t, c.Start())
	t.Cleanup(func() { _ = unix.Kill(-c.Process.Pid, unix.SIGKILL); _ = c.Wait() })
	pid := c.Process.Pid
	r := &Report{State: StateHeld, Holder: &Holder{PID: pid, Dblock: true}}
	require.Eventually(t, func() bool { return proc.FirstChild(pid) != 0 }, 10*time.Second, time.Millisecond)
	require.Empty(t, r.running(pid))
	_, err = in.Write([]byte("\n"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { w := r.running(pid); return len(w) == 1 && w[0].Process.Command == "sleep" }, 10*time.Second, time.Millisecond)
}
