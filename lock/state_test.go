package lock

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/ledger"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// What others may do to the state directory where they may write beside the lock.

// as runs the test binary in a role as another user.
func as(t testing.TB, uid uint32, role string, c config) *child {
	t.Helper()
	ch := prepare(t, role, c)
	ch.Path, ch.Args[0] = "/proc/self/exe", "/proc/self/exe" // the binary's directory is not theirs to enter
	ch.Dir = "/"
	ch.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	ch.run(t)
	return ch
}

// once has the user take the lock and release it, and returns what it says first.
func once(t testing.TB, uid uint32, db string) string {
	t.Helper()
	h := as(t, uid, "hold", config{DB: db, Wait: NoWait, Umask: 0o077})
	line := h.line(t)
	if strings.HasPrefix(line, "held ") {
		h.say(t, "release")
		require.Equal(t, "released <nil>", h.line(t))
	}
	_ = h.Wait()
	return line
}

// public is a database in a directory of that mode, which all users can get to.
func public(t testing.TB, mode fs.FileMode) (db string, n Names) {
	t.Helper()
	db, n = database(t)
	require.NoError(t, os.Chmod(filepath.Dir(filepath.Dir(db)), 0o755))
	require.NoError(t, os.Chmod(filepath.Dir(db), mode))
	return db, n
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("for root only")
	}
}

// victim is a directory that dblock has no business in, with files that have the
// names of its own.
func victim(t testing.TB) (path string, unchanged func()) {
	t.Helper()
	path = t.TempDir()
	for _, name := range []string{tokenName, spareName} {
		require.NoError(t, os.WriteFile(filepath.Join(path, name), []byte("precious\n"), 0o644))
	}
	return path, func() {
		t.Helper()
		entries, err := os.ReadDir(path)
		require.NoError(t, err)
		require.Len(t, entries, 2)
		for _, name := range []string{tokenName, spareName} {
			require.Equal(t, "precious\n", contents(t, filepath.Join(path, name)))
		}
		var st unix.Stat_t
		require.NoError(t, unix.Stat(path, &st))
		require.Equal(t, os.Geteuid(), int(st.Uid))
	}
}

func TestStateDirectoryLedElsewhere(t *testing.T) {
	t.Parallel()
	for _, mode := range []fs.FileMode{0o755, 0o777, 0o777 | fs.ModeSticky} {
		db, n := public(t, mode)
		dir, unchanged := victim(t)
		require.NoError(t, os.Symlink(dir, n.State))
		require.ErrorIs(t, attemptOnce(t, db, Options{}), inode.ErrLinked)
		require.ErrorIs(t, attemptOnce(t, db, Options{Mode: Shared}), inode.ErrLinked)
		r, err := Inspect(db, Options{})
		require.NoError(t, err)
		require.Equal(t, StateFree, r.State)
		_, err = Break(t.Context(), db, BreakOptions{})
		require.NoError(t, err)
		unchanged()
		require.NoFileExists(t, n.Notice)

		// A directory that is not there yet is not made where the link leads to.
		require.NoError(t, os.Remove(n.State))
		require.NoError(t, os.Symlink(filepath.Join(dir, "new"), n.State))
		require.ErrorIs(t, attemptOnce(t, db, Options{}), inode.ErrLinked)
		unchanged()
	}
}

// Once it is open, whatever takes the state directory's place is left alone.
func TestStateDirectoryLedElsewhereMeanwhile(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"open turnstile-normal", "open room", "room", "published", "releasing"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			db, n := database(t)
			dir, unchanged := victim(t)
			l := at(New(db, Options{Wait: NoWait, Unattended: true}), step, func() {
				require.NoError(t, os.Rename(n.State, n.State+".old"))
				require.NoError(t, os.Symlink(dir, n.State))
			})
			err := l.Acquire(t.Context())
			if step == "published" || step == "releasing" {
				require.NoError(t, err) // its notice is there, and it will find out
				err = l.Release()
			}
			if step != "releasing" {
				require.Error(t, err)
			}
			unchanged()
			require.NoFileExists(t, n.Notice)
		})
	}
}

func TestStateDirectoryOfAnotherUser(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, c := range []struct {
		above   fs.FileMode
		refused bool
	}{{0o777 | fs.ModeSticky, true}, {0o777, false}} {
		db, n := public(t, c.above)
		require.Contains(t, once(t, 12345, db), "held ")
		if !c.refused {
			require.Contains(t, once(t, 65534, db), "held ")
			require.NoError(t, attemptOnce(t, db, Options{}))
			continue
		}
		require.ErrorIs(t, attemptOnce(t, db, Options{}), fs.ErrPermission)
		require.Contains(t, once(t, 65534, db), "it belongs to user 12345")
		require.Contains(t, once(t, 12345, db), "held ")
		require.NoFileExists(t, n.Notice)

		// One that root has made is for all.
		require.NoError(t, os.RemoveAll(n.State))
		require.NoError(t, attemptOnce(t, db, Options{}))
		require.Contains(t, once(t, 12345, db), "held ")
		require.Contains(t, once(t, 65534, db), "held ")
	}
}

// shared is a state directory that others may put things into.
func shared(t *testing.T) (db string, n Names) {
	t.Helper()
	db, n = public(t, 0o777)
	require.NoError(t, attemptOnce(t, db, Options{}))
	return db, n
}

func TestStateFileThatIsAnothersToo(t *testing.T) {
	t.Parallel()
	for _, name := range []string{tokenName, roomName, turnstileName(Normal)} {
		db, n := shared(t)
		path := filepath.Join(n.State, name)
		other := filepath.Join(filepath.Dir(db), "other")
		require.NoError(t, os.WriteFile(other, []byte("1 1 1 1 1 1\n"), 0o644))
		require.NoError(t, os.Remove(path))
		require.NoError(t, os.Link(other, path))
		err := attemptOnce(t, db, Options{})
		require.ErrorContains(t, err, path+": it has another name")
		require.Equal(t, "1 1 1 1 1 1\n", contents(t, other))
		require.NoFileExists(t, n.Notice)

		require.NoError(t, os.Remove(path))
		require.NoError(t, unix.Mkfifo(path, 0o666))
		require.ErrorIs(t, attemptOnce(t, db, Options{}), ErrNotRegular)
	}
}

// A copy of a directory by hard links, as backups make, is nobody's attack.
func TestStateFilesInALinkedBackup(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	require.NoError(t, attemptOnce(t, db, Options{}))
	require.NoError(t, exec.Command("cp", "-al", n.State, n.State+".bak").Run())
	require.NoError(t, attemptOnce(t, db, Options{}))
}

func TestTokenIsNotWrittenOverOtherThings(t *testing.T) {
	t.Parallel()
	db, n := shared(t)
	require.NoError(t, os.WriteFile(n.token(), []byte("root:x:0:0::/root:/bin/sh\n"), 0o644))
	require.ErrorIs(t, attemptOnce(t, db, Options{}), ledger.ErrNoLedger)
	require.Equal(t, "root:x:0:0::/root:/bin/sh\n", contents(t, n.token()))
	require.NoFileExists(t, n.Notice)
	require.NoError(t, os.WriteFile(n.token(), []byte("17\n"), 0o644))
	require.NoError(t, attemptOnce(t, db, Options{}))
}

// Whatever is made beside the lock has a name that fits where the lock's own does; and
// where that does not fit there is one error, at once.
func TestLongNames(t *testing.T) {
	t.Parallel()
	const most = 255 - len(".") - len(".lock.d")
	dir := t.TempDir()
	for _, length := range []int{230, 236, 237, most} {
		db := filepath.Join(dir, strings.Repeat("n", length))
		n, err := Resolve(db, "")
		require.NoError(t, err)
		require.NoError(t, attemptOnce(t, db, Options{}))
		put := func(pid int) {
			require.NoError(t, os.WriteFile(n.Notice, []byte(peerNotice(pid, host(), 1)), 0o644))
		}
		put(gone(t))
		require.NoError(t, attemptOnce(t, db, Options{}), "taken over")
		put(gone(t))
		b, err := Break(t.Context(), db, BreakOptions{})
		require.NoError(t, err, length)
		require.True(t, b.Removed)
		require.NoFileExists(t, n.Notice)
		require.NoError(t, os.RemoveAll(n.State))
	}
	for length := most + 1; length < 260; length++ {
		err := New(filepath.Join(dir, strings.Repeat("n", length)), Options{Wait: Forever}).Acquire(t.Context())
		require.ErrorIs(t, err, syscall.ENAMETOOLONG)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// In a sticky directory what others were killed at cannot be removed, but one's own.
func TestSpareNamesLeftBehind(t *testing.T) {
	t.Parallel()
	needRoot(t)
	db, n := public(t, 0o777|fs.ModeSticky)
	require.NoError(t, attemptOnce(t, db, Options{}))
	require.NoError(t, os.WriteFile(n.spare(), nil, 0o644))
	own := n.spare() + "-12345"
	require.NoError(t, os.WriteFile(own, nil, 0o644))
	require.NoError(t, os.Chown(own, 12345, 12345))
	require.Contains(t, once(t, 12345, db), "held ")
	require.NoFileExists(t, own)
	require.FileExists(t, n.spare())
	require.NoError(t, attemptOnce(t, db, Options{}))
	require.NoFileExists(t, n.spare())
}

// A reader that is killed while it restores the notice leaves a file with a name that
// no other one uses. Who takes over cleans up.
func TestTakeOverCleansUp(t *testing.T) {
	t.Parallel()
	db, n := database(t)
	h := holding(t, config{DB: db, Mode: Shared})
	left := filepath.Join(n.State, spareName+queue.Passing())
	require.NoError(t, os.WriteFile(left, nil, 0o644))
	h.die(t)
	require.NoError(t, attemptOnce(t, db, Options{}))
	require.NoFileExists(t, left)
}
