//go:build linux

package queue

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/lock/internal/inode"
)

const (
	patience = 20 * time.Second
	// probably is how long something that must not happen is watched for.
	probably = 20 * time.Millisecond
)

func open(t testing.TB, path string) *File {
	t.Helper()
	f, err := Open(named(t, path))
	require.NoError(t, err)
	return f
}

// named is a name in its directory, which is open until the test ends.
func named(t testing.TB, path string) inode.Name {
	t.Helper()
	dir, err := inode.OpenDir(filepath.Dir(path))
	require.NoError(t, err)
	t.Cleanup(dir.Close)
	return dir.At(filepath.Base(path))
}

func file(t testing.TB) string { return filepath.Join(t.TempDir(), "room") }

func try(t testing.TB, f *File, how How) bool {
	t.Helper()
	ok, err := f.Try(how)
	require.NoError(t, err)
	return ok
}

func mustLock(t testing.TB, f *File, how How) {
	t.Helper()
	require.True(t, try(t, f, how))
}

// wait starts to wait and returns when the kernel has the wait in its queue.
func wait(t testing.TB, ctx context.Context, f *File, how How) <-chan error {
	t.Helper()
	before := claims(t, f, true)
	got := make(chan error, 1)
	go func() { got <- f.Wait(ctx, how) }()
	require.Eventually(t, func() bool { return claims(t, f, true) > before }, patience, time.Millisecond)
	return got
}

// mustBlock requires that a wait is still going on.
func mustBlock(t testing.TB, got <-chan error) {
	t.Helper()
	select {
	case err := <-got:
		require.FailNow(t, "it does not block", "%v", err)
	case <-time.After(probably):
	}
}

func mustGrant(t testing.TB, got <-chan error) {
	t.Helper()
	select {
	case err := <-got:
		require.NoError(t, err)
	case <-time.After(patience):
		require.FailNow(t, "it blocks")
	}
}

// claims counts who waits for, or holds, the file. The table is read in several
// calls if it is long, and can show a line twice when others change it meanwhile,
// so one look proves nothing.
func claims(t testing.TB, f *File, waiting bool) int {
	n := claimsNow(t, f, waiting)
	for agreed := 0; agreed < 3; agreed++ {
		if now := claimsNow(t, f, waiting); now != n {
			n, agreed = now, -1
		}
	}
	return n
}

func claimsNow(t testing.TB, f *File, waiting bool) int {
	id, err := f.ID()
	if err != nil {
		return -1
	}
	having, waits, known := portable.Flocks(id.Ino)
	if !known {
		t.Skip("no /proc/locks")
	}
	if waiting {
		return waits
	}
	return having
}

func TestExclusive(t *testing.T) {
	t.Parallel()
	path := file(t)
	a, b := open(t, path), open(t, path)
	defer b.Close()
	mustLock(t, a, Exclusive)
	require.False(t, try(t, b, Exclusive))
	require.False(t, try(t, b, Shared))
	got := wait(t, t.Context(), b, Exclusive)
	mustBlock(t, got)
	require.NoError(t, a.Unlock())
	mustGrant(t, got)
	require.False(t, try(t, a, Exclusive))
	a.Close()
	a.Close()
	var none *File
	none.Close()
}

func TestCloseUnlocks(t *testing.T) {
	t.Parallel()
	path := file(t)
	a, b := open(t, path), open(t, path)
	defer b.Close()
	mustLock(t, a, Exclusive)
	got := wait(t, t.Context(), b, Shared)
	mustBlock(t, got)
	a.Close()
	mustGrant(t, got)
}

func TestShared(t *testing.T) {
	t.Parallel()
	path := file(t)
	a, b, c := open(t, path), open(t, path), open(t, path)
	defer a.Close()
	defer b.Close()
	defer c.Close()
	mustLock(t, a, Shared)
	mustLock(t, b, Shared)
	got := wait(t, t.Context(), c, Exclusive)
	require.NoError(t, a.Unlock())
	mustBlock(t, got)
	require.NoError(t, b.Unlock())
	mustGrant(t, got)
}

func TestConvert(t *testing.T) {
	t.Parallel()
	path := file(t)
	a, b := open(t, path), open(t, path)
	defer a.Close()
	defer b.Close()
	mustLock(t, a, Shared)
	mustLock(t, b, Shared)
	alone, err := a.Convert()
	require.NoError(t, err)
	require.False(t, alone)
	require.Equal(t, 1, claims(t, b, false), "the one that failed has let go")
	alone, err = b.Convert()
	require.NoError(t, err)
	require.True(t, alone)
	require.False(t, try(t, a, Shared))
}

func TestOrder(t *testing.T) {
	t.Parallel()
	path := file(t)
	holder := open(t, path)
	mustLock(t, holder, Exclusive)
	var mu sync.Mutex
	var order []int
	var wg sync.WaitGroup
	for i := range 7 {
		f := open(t, path)
		got := wait(t, t.Context(), f, Exclusive)
		wg.Go(func() {
			if err := <-got; err != nil {
				t.Error(err)
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			f.Close()
		})
	}
	holder.Close()
	wg.Wait()
	require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6}, order)
}

func TestAbandonedWaitCloses(t *testing.T) {
	t.Parallel()
	path := file(t)
	holder, next := open(t, path), open(t, path)
	defer next.Close()
	mustLock(t, holder, Exclusive)
	ctx, cancel := context.WithCancel(t.Context())
	left := open(t, path)
	got := wait(t, ctx, left, Exclusive)
	cancel()
	select {
	case err := <-got:
		require.ErrorIs(t, err, context.Canceled, "at once: the lock is still held")
	case <-time.After(patience):
		require.FailNow(t, "it goes on waiting")
	}
	require.Equal(t, 1, claims(t, holder, true), "the thread is still in the kernel")
	got = wait(t, t.Context(), next, Shared) // not what was left behind
	mustBlock(t, got)
	holder.Close()
	mustGrant(t, got)
	require.Equal(t, 1, claims(t, next, false))
	require.Zero(t, claims(t, next, true))
}

// A wait that was given up and is granted then leaves the lock free at once, whoever has a copy of
// the file just then.
func TestAbandonedWaitUnlocksWhoeverHasACopy(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), ".x.lock.d")
	p, err := Enter(t.Context(), request(state))
	require.NoError(t, err)
	p.OpenLast()
	room, err := Existing(p.Dir().At(Room))
	require.NoError(t, err)
	fd, err := unix.Dup(room.fd)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	ctx, giveUp := context.WithCancel(t.Context())
	got := wait(t, ctx, room, Exclusive)
	giveUp()
	require.ErrorIs(t, <-got, context.Canceled)
	require.NoError(t, p.Leave(false))
	r := request(state)
	r.Patience = &Patience{End: time.Now().Add(patience)}
	p, err = Enter(t.Context(), r)
	require.NoError(t, err)
	r.Patience.Stop()
	p.OpenLast()
	require.NoError(t, p.Leave(false))
}

// Who wants the same goes on with what was left behind, before those who came since.
func TestAbandonedWaitIsTakenUp(t *testing.T) {
	t.Parallel()
	path := file(t)
	holder := open(t, path)
	mustLock(t, holder, Exclusive)
	var threads int
	for i := range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		f := open(t, path)
		got := make(chan error, 1)
		go func() { got <- f.Wait(ctx, Exclusive) }()
		require.Eventually(t, func() bool { return claims(t, holder, true) == 1 }, patience, time.Millisecond)
		cancel()
		require.ErrorIs(t, <-got, context.Canceled)
		f.Close() // it is nobody's any more
		if i == 0 {
			threads = len(inFlock(t))
		}
	}
	require.LessOrEqual(t, len(inFlock(t)), threads+8, "other tests wait as well")
	require.Equal(t, 1, claims(t, holder, true))
	later := open(t, path)
	defer later.Close()
	laterGot := wait(t, t.Context(), later, Shared)
	next := open(t, path)
	id, err := next.ID()
	require.NoError(t, err)
	got := make(chan error, 1)
	go func() { got <- next.Wait(t.Context(), Exclusive) }()
	require.Eventually(t, func() bool { return !isLeft(kind{id, Exclusive}) }, patience, time.Millisecond)
	require.Equal(t, 2, claims(t, holder, true))
	holder.Close()
	mustGrant(t, got)
	mustBlock(t, laterGot)
	now, err := next.ID()
	require.NoError(t, err)
	require.Equal(t, id, now)
	next.Close()
	mustGrant(t, laterGot)
}

func isLeft(k kind) bool {
	left.mu.Lock()
	defer left.mu.Unlock()
	return len(left.waits[k]) > 0
}

// Waits are left behind and taken up while the lock is handed over all the time.
func TestTakenUpAtTheMomentOfTheGrant(t *testing.T) {
	t.Parallel()
	path := file(t)
	var wg sync.WaitGroup
	var mu sync.Mutex // what the lock is to do
	for i := range 8 {
		wg.Go(func() {
			for n := range 100 {
				f := open(t, path)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*n%7)*50*time.Microsecond)
				if f.Wait(ctx, Exclusive) == nil {
					if mu.TryLock() {
						runtime.Gosched()
						mu.Unlock()
					} else {
						t.Error("two have the lock")
					}
					f.Close()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	f := open(t, path)
	id, err := f.ID()
	require.NoError(t, err)
	require.Eventually(t, func() bool { return try(t, f, Exclusive) }, patience, time.Millisecond)
	f.Close()
	require.Eventually(t, func() bool { return !isLeft(kind{id, Exclusive}) }, patience, time.Millisecond)
}

func TestAbandonedAtTheMomentOfTheGrant(t *testing.T) {
	t.Parallel()
	// Whichever comes first, the file is either granted or closed.
	for range 50 {
		// A file of its own: the table does not show a thread that has been woken
		// up and has not come back for the lock, so nothing tells when it is over.
		path := file(t)
		holder := open(t, path)
		mustLock(t, holder, Exclusive)
		ctx, cancel := context.WithCancel(t.Context())
		f := open(t, path)
		got := wait(t, ctx, f, Exclusive)
		var wg sync.WaitGroup
		wg.Go(cancel)
		wg.Go(holder.Close)
		err := <-got
		wg.Wait()
		probe := open(t, path)
		if err == nil {
			require.False(t, try(t, probe, Exclusive))
			f.Close()
		} else {
			require.ErrorIs(t, err, context.Canceled)
		}
		require.Eventually(t, func() bool { return try(t, probe, Exclusive) }, patience, time.Millisecond)
		probe.Close()
	}
}

// A signal that is handled on a thread that waits makes the kernel forget its
// place in the queue.
func TestSignalsDoNotCostThePlace(t *testing.T) {
	portable.Needs(t, portable.Threads)
	path := file(t)
	holder := open(t, path)
	mustLock(t, holder, Exclusive)
	first, second := open(t, path), open(t, path)
	got1 := wait(t, t.Context(), first, Exclusive)
	threads := inFlock(t)
	require.NotEmpty(t, threads)
	// Whether an interrupted wait loses its place depends on who of two threads
	// is quicker, so the order alone proves little.
	for _, tid := range threads {
		require.True(t, blocked(t, tid, unix.SIGURG), "the runtime's own signal")
		require.True(t, blocked(t, tid, unix.SIGTERM))
		require.True(t, blocked(t, tid, unix.SIGCHLD))
	}
	got2 := wait(t, t.Context(), second, Exclusive)
	for range 50 {
		for _, tid := range threads {
			require.NoError(t, unix.Tgkill(os.Getpid(), tid, unix.SIGURG))
		}
		require.Equal(t, 2, claims(t, holder, true))
	}
	holder.Close()
	mustGrant(t, got1)
	mustBlock(t, got2)
	first.Close()
	mustGrant(t, got2)
	second.Close()
}

// blocked reports whether a thread of this process has a signal blocked.
func blocked(t *testing.T, tid int, sig unix.Signal) bool {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/status", tid))
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(b), "SigBlk:\t")
	require.True(t, ok)
	mask, err := strconv.ParseUint(rest[:16], 16, 64)
	require.NoError(t, err)
	return mask>>(sig-1)&1 == 1
}

// inFlock lists the threads of this process that are in flock(2).
func inFlock(t *testing.T) (tids []int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/self/task/*/syscall")
	require.NoError(t, err)
	for _, dir := range dirs {
		b, err := os.ReadFile(dir)
		if err != nil {
			continue
		}
		var tid, call int
		_, _ = fmt.Sscan(string(b), &call)
		_, _ = fmt.Sscanf(dir, "/proc/self/task/%d/syscall", &tid)
		if call == unix.SYS_FLOCK {
			tids = append(tids, tid)
		}
	}
	if tids == nil {
		t.Skip("the kernel does not tell which calls the threads are in")
	}
	return tids
}

func TestSigns(t *testing.T) {
	portable.Needs(t, portable.Signs)
	t.Parallel()
	path := file(t)
	_, err := Existing(named(t, path))
	require.ErrorIs(t, err, fs.ErrNotExist)
	a, b := open(t, path), open(t, path)
	defer b.Close()
	look, err := Existing(named(t, path))
	require.NoError(t, err)
	defer look.Close()
	shown := func(f *File, s Sign) bool {
		yes, known := f.Shown(s)
		require.True(t, known)
		return yes
	}
	require.False(t, shown(look, Waiting))
	mustLock(t, a, Exclusive)
	a.Show(Having)
	b.Show(Waiting)
	require.True(t, shown(look, Having))
	require.True(t, shown(look, Waiting))
	require.False(t, shown(look, Reading))
	require.False(t, shown(a, Having), "one's own does not count")
	require.True(t, shown(a, Waiting))
	c := open(t, path)
	c.Show(Waiting)
	b.Hide(Waiting)
	require.True(t, shown(look, Waiting), "the other one still waits")
	c.Close()
	require.False(t, shown(look, Waiting), "what closes the file takes its signs down")
	require.NoError(t, a.Raise())
	require.True(t, shown(look, Having), "another number, the same open file")
	require.NoError(t, a.Unlock())
	require.False(t, shown(look, Having))
	a.Close()
}

func TestOpenMakesTheFileOnce(t *testing.T) {
	t.Parallel()
	path := file(t)
	var wg sync.WaitGroup
	name := named(t, path)
	for range 8 {
		wg.Go(func() {
			f, err := Open(name)
			if err != nil {
				t.Error(err)
				return
			}
			f.Close()
		})
	}
	wg.Wait()
	require.FileExists(t, path)
}

func TestOpenRefusesLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "target"), nil, 0o600))
	require.NoError(t, os.Symlink("target", filepath.Join(dir, "room")))
	_, err := Open(named(t, filepath.Join(dir, "room")))
	var pe *fs.PathError
	require.ErrorAs(t, err, &pe)
	_, err = MakeDir(filepath.Join(dir, "no", "state"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	made, err := MakeDir(filepath.Join(dir, "state"))
	require.NoError(t, err)
	require.True(t, made)
	gone := named(t, filepath.Join(dir, "state", "room"))
	require.NoError(t, os.Remove(gone.Dir().Path()))
	_, err = Open(gone)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestRaise(t *testing.T) {
	t.Parallel()
	path := file(t)
	f := open(t, path)
	defer f.Close()
	id, err := f.ID()
	require.NoError(t, err)
	mustLock(t, f, Exclusive)
	require.NoError(t, f.Raise())
	require.GreaterOrEqual(t, f.Fd(), minDescriptor)
	flags, err := unix.FcntlInt(uintptr(f.Fd()), unix.F_GETFD, 0)
	require.NoError(t, err)
	require.NotZero(t, flags&unix.FD_CLOEXEC)
	now, err := f.ID()
	require.NoError(t, err)
	require.Equal(t, id, now)
	other := open(t, path)
	defer other.Close()
	require.False(t, try(t, other, Exclusive), "still locked")
}

func TestPerm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ dir, state, file fs.FileMode }{
		{0o700, 0o700, 0o600},
		{0o755, 0o755, 0o600},
		{0o770, 0o770, 0o660},
		{0o775, 0o775, 0o660},
		{0o777, 0o777, 0o666},
		{0o777 | fs.ModeSticky, 0o777 | fs.ModeSticky, 0o666},
		{0o500, 0o700, 0o600},
	} {
		dir := t.TempDir()
		require.NoError(t, os.Chmod(dir, c.dir))
		if c.dir&0o200 == 0 && os.Geteuid() != 0 {
			continue
		}
		state := filepath.Join(dir, "state")
		made, err := MakeDir(state)
		require.NoError(t, err)
		require.True(t, made)
		made, err = MakeDir(state)
		require.NoError(t, err)
		require.False(t, made)
		f, err := Open(named(t, filepath.Join(state, "room")))
		require.NoError(t, err)
		f.Close()
		for path, want := range map[string]fs.FileMode{state: c.state, state + "/room": c.file} {
			st, err := os.Stat(path)
			require.NoError(t, err)
			require.Equal(t, want, st.Mode()&^fs.ModeDir, "%s in %s", path, c.dir)
		}
	}
}

func TestPermGivesAwayWhatRootMakes(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("for root only")
	}
	dir := t.TempDir()
	require.NoError(t, os.Chown(dir, 65534, 65533))
	state := filepath.Join(dir, "state")
	_, err := MakeDir(state)
	require.NoError(t, err)
	f, err := Open(named(t, filepath.Join(state, "room")))
	require.NoError(t, err)
	f.Close()
	for _, path := range []string{state, state + "/room"} {
		var st unix.Stat_t
		require.NoError(t, unix.Stat(path, &st))
		require.Equal(t, []uint32{65534, 65533}, []uint32{st.Uid, st.Gid}, path)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	f := open(t, file(t))
	for _, errno := range []error{unix.ENOLCK, unix.EOPNOTSUPP, unix.ENOSYS, unix.EINVAL} {
		err := f.wrap(errno)
		require.ErrorIs(t, err, ErrUnsupported)
		require.ErrorIs(t, err, errno)
	}
	require.NotErrorIs(t, f.wrap(unix.EIO), ErrUnsupported)
	require.NoError(t, f.wrap(nil))
	f.Close()
	_, err := f.Try(Exclusive)
	require.ErrorIs(t, err, unix.EBADF)
	_, err = f.ID()
	require.Error(t, err)
	require.Error(t, f.Raise())
}
