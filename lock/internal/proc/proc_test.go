//go:build linux

package proc

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
	"github.com/dblock-dev/dblock/lock/internal/inode"
)

// sleeper is a child that does nothing until it is killed.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func TestSelf(t *testing.T) {
	me := Self()
	require.Equal(t, os.Getpid(), me.PID)
	require.NotEmpty(t, me.Host)
	require.Equal(t, me, Self())
	portable.Needs(t, portable.Processes)
	require.Len(t, me.Boot, 36)
	require.NotZero(t, me.Started)
	require.NotZero(t, me.PIDNS)
}

func TestLook(t *testing.T) {
	t.Parallel()
	require.Equal(t, Alive, Look(os.Getpid()))
	require.Equal(t, Unknown, Look(0), "kill(0) would be our own group")
	require.Equal(t, Unknown, Look(-1), "kill(-1) would be everybody")
	require.Equal(t, Alive, Look(1), "it is there, whether or not we may signal it")
	c := sleeper(t)
	pid := c.Process.Pid
	require.Equal(t, Alive, Look(pid))
	require.NoError(t, c.Process.Kill())
	require.Eventually(t, func() bool { return Look(pid) == Gone }, 20*time.Second, time.Millisecond, "a zombie counts as gone")
	_ = c.Wait()
	require.Equal(t, Gone, Look(pid))
	_, ok := Stat(pid)
	require.False(t, ok)
}

func TestStatAndAge(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	before := time.Now()
	c := sleeper(t)
	st, ok := Stat(c.Process.Pid)
	require.True(t, ok)
	require.Equal(t, os.Getpid(), st.Parent)
	age, ok := Age(st.Started)
	require.True(t, ok)
	require.GreaterOrEqual(t, age, -10*time.Millisecond)
	require.LessOrEqual(t, age, time.Since(before)+20*time.Millisecond, "within the resolution of a tick")
	_, ok = Age(0)
	require.False(t, ok)
}

func TestStatOfAnAwkwardName(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	cat, err := exec.LookPath("cat")
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "a) Z 1 (b")
	require.NoError(t, os.Symlink(cat, name))
	cmd := exec.Command(name)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer cmd.Wait()
	defer in.Close()
	require.Eventually(t, func() bool { argv := Command(cmd.Process.Pid); return len(argv) == 1 && argv[0] == name }, 20*time.Second, time.Millisecond)
	st, ok := Stat(cmd.Process.Pid)
	require.True(t, ok)
	require.Equal(t, os.Getpid(), st.Parent)
	require.NotEqual(t, byte('Z'), st.State)
	require.Equal(t, Alive, Look(cmd.Process.Pid))
}

func TestLookWithoutTheFirstThread(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3 here")
	}
	c := exec.Command(python, "-c", "import ctypes, threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\nctypes.CDLL(None).pthread_exit(None)")
	require.NoError(t, c.Start())
	defer c.Wait()
	defer c.Process.Kill()
	require.Eventually(t, func() bool {
		st, _ := Stat(c.Process.Pid)
		return st.State == 'Z'
	}, 20*time.Second, time.Millisecond)
	require.Equal(t, Alive, Look(c.Process.Pid))
}

func TestDescends(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	yes, known := Descends(os.Getppid())
	require.True(t, yes && known)
	yes, known = Descends(os.Getpid())
	require.True(t, !yes && known, "not of itself")
	yes, known = Descends(sleeper(t).Process.Pid)
	require.True(t, !yes && known)
}

func TestUnder(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	c := sleeper(t).Process.Pid
	for _, other := range []int{c, os.Getpid(), os.Getppid()} {
		yes, known := Under(c, other)
		require.True(t, yes && known, "%d", other)
	}
	yes, known := Under(os.Getpid(), c)
	require.True(t, !yes && known)
	_, known = Under(1<<22+1, c)
	require.False(t, known, "there is no such process")
}

// One whose own parent has ended may still be under who has started that.
func TestUnderNobody(t *testing.T) {
	t.Parallel()
	yes, known := Under(1, os.Getpid())
	require.False(t, yes)
	require.Equal(t, Complete, known)
}

// A number that has been given to another process since says nothing.
func TestOlder(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	c := sleeper(t).Process.Pid
	st, ok := Stat(c)
	require.True(t, ok)
	require.Equal(t, c, older(c, st))
	st.Started--
	require.Zero(t, older(c, st))
	require.Zero(t, older(0, st))
}

func TestProgram(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "etl.sh")
	require.NoError(t, os.WriteFile(script, []byte("read x\n"), 0o644))
	for _, c := range []struct {
		argv []string
		want string
	}{
		{[]string{"cat"}, "cat"}, {[]string{"sh", script, "x"}, "etl.sh"}, {[]string{"sh", "-e", script}, "etl.sh"}, {[]string{"-sh", script}, "etl.sh"},
		{[]string{"sh", "-o", "errexit", "--", script}, "etl.sh"}, {[]string{"sh", "-ec", "read x", "name"}, "sh"}, {[]string{"sh", "-s", "x"}, "sh"}, {[]string{"-sh"}, "sh"},
	} {
		cmd := exec.Command("sh")
		if c.argv[0] == "cat" {
			cmd = exec.Command("cat")
		}
		cmd.Args = c.argv
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		// Its arguments are there to be seen a moment after it is executed.
		require.Eventually(t, func() bool { return Program(cmd.Process.Pid) != "" }, 20*time.Second, time.Millisecond, "%q", c.argv)
		require.Equal(t, c.want, Program(cmd.Process.Pid), "%q", c.argv)
		require.NoError(t, in.Close())
		_ = cmd.Wait()
	}
	require.Empty(t, Program(1<<22+1))
}

func TestBooted(t *testing.T) {
	portable.Needs(t, portable.Processes)
	now := time.Now().UnixMilli()
	ms, boot := Self().Booted(now)
	require.NotZero(t, boot)
	require.Less(t, ms, now)
	again, same := Self().Booted(now + 3600_000)
	require.Equal(t, boot, same)
	require.InDelta(t, ms+3600_000, again, 5000)
	ms, boot = Me{}.Booted(now)
	require.Zero(t, ms)
	require.Zero(t, boot)
}

// Not beside the others: a process that they start has copies of our files until it is executed,
// and so holds these locks with us.
func TestClaims(t *testing.T) {
	portable.Needs(t, portable.Queue)
	path := filepath.Join(t.TempDir(), "room")
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	a, b := open(), open()
	id, err := inode.Identify(path)
	require.NoError(t, err)
	claims, known := Claims(id)
	require.True(t, known)
	require.Empty(t, claims)
	require.NoError(t, unix.Flock(int(a.Fd()), unix.LOCK_SH))
	require.NoError(t, unix.Flock(int(b.Fd()), unix.LOCK_SH))
	// A long table that others change meanwhile can show a line twice.
	require.Eventually(t, func() bool { claims, _ = Claims(id); return len(claims) == 2 }, 20*time.Second, time.Millisecond)
	require.Equal(t, []Claim{{PID: os.Getpid(), Shared: true}, {PID: os.Getpid(), Shared: true}}, claims)
	me := os.Getpid()
	require.Equal(t, []Holder{{me, []int{me, me}}}, Holding(id))
	require.True(t, Holds(id))
	yes, known := Has(strconv.Itoa(os.Getppid()), id)
	require.True(t, known && !yes)
	require.NoError(t, unix.Flock(int(b.Fd()), unix.LOCK_UN))
	c := open()
	got := make(chan error, 1)
	go func() { got <- unix.Flock(int(c.Fd()), unix.LOCK_EX) }()
	require.Eventually(t, func() bool { claims, _ = Claims(id); return len(claims) == 2 }, 20*time.Second, time.Millisecond)
	require.Equal(t, []Claim{{PID: os.Getpid(), Shared: true}, {PID: os.Getpid(), Waiting: true}}, claims)
	require.NoError(t, unix.Flock(int(a.Fd()), unix.LOCK_UN))
	require.NoError(t, <-got)
	// The same inode number on another device is another file.
	claims, _ = Claims(inode.ID{Dev: id.Dev + 1<<20, Ino: id.Ino})
	require.Empty(t, claims)
}

func TestHandle(t *testing.T) {
	t.Parallel()
	c := sleeper(t)
	h, err := Hold(c.Process.Pid)
	require.NoError(t, err)
	defer h.Close()
	require.NoError(t, h.Signal(unix.SIGKILL))
	_ = c.Wait()
	require.ErrorIs(t, h.Signal(unix.SIGKILL), unix.ESRCH)
	_, err = Hold(c.Process.Pid)
	require.ErrorIs(t, err, unix.ESRCH)
}

// A process with a descriptor on a filesystem that does not answer must not keep
// those waiting who look for the holders of a lock.
func TestHoldingDoesNotAskOtherFilesystems(t *testing.T) {
	portable.Needs(t, portable.Processes)
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("no FUSE here: ", err)
	}
	mount := t.TempDir()
	if err := unix.Mount("silent", mount, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", dev)); err != nil {
		unix.Close(dev)
		t.Skip("no FUSE can be mounted: ", err)
	}
	t.Cleanup(func() {
		unix.Close(dev) // everybody who waits for it gets an error
		require.NoError(t, unix.Unmount(mount, unix.MNT_DETACH))
	})
	fd, err := unix.Open(mount, unix.O_PATH|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	silent := os.NewFile(uintptr(fd), mount)
	cmd.ExtraFiles = []*os.File{silent}
	require.NoError(t, cmd.Start())
	silent.Close()
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })

	path := filepath.Join(t.TempDir(), "room")
	room, err := os.Create(path)
	require.NoError(t, err)
	defer room.Close()
	require.NoError(t, unix.Flock(int(room.Fd()), unix.LOCK_EX))
	id, err := inode.Identify(path)
	require.NoError(t, err)
	done := make(chan bool, 1)
	go func() {
		yes, known := Has(strconv.Itoa(cmd.Process.Pid), id)
		opened, _ := Opening(path, true)
		done <- known && !yes && !Writes(cmd.Process.Pid, id, path) && len(Holding(id)) > 0 && len(opened) == 0
	}()
	select {
	case ok := <-done:
		require.True(t, ok)
	case <-time.After(20 * time.Second):
		t.Fatal("it waits for a filesystem that does not answer")
	}
}

func TestWrites(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	path := filepath.Join(t.TempDir(), "notice")
	require.NoError(t, os.WriteFile(path, nil, 0o644))
	id, err := inode.Identify(path)
	require.NoError(t, err)
	require.False(t, Writes(os.Getpid(), id, path))
	r, err := os.Open(path)
	require.NoError(t, err)
	defer r.Close()
	require.False(t, Writes(os.Getpid(), id, path), "it is only read")
	w, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer w.Close()
	require.True(t, Writes(os.Getpid(), id, "/nowhere", path))
	require.NoError(t, os.Link(path, path+"2"))
	require.NoError(t, os.Remove(path))
	require.True(t, Writes(os.Getpid(), id, path+"2"))
}

// A process in another mount namespace knows the file by another path; one of the same name and
// number on another filesystem is another file.
func TestOpeningInAnotherNamespace(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can mount")
	}
	dir, there := t.TempDir(), t.TempDir()
	db := filepath.Join(dir, "x.db")
	require.NoError(t, os.WriteFile(db, nil, 0o644))
	run := func(mount string) int {
		c := exec.Command("unshare", "-m", "sh", "-c", mount+` && exec 3>>"$2/x.db" && echo in && exec sleep 1000`, "sh", dir, there)
		out, err := c.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, c.Start())
		t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
		var word string
		if _, err := fmt.Fscan(out, &word); err != nil {
			t.Skip("mounts cannot be made here: ", err)
		}
		return c.Process.Pid
	}
	inside := run(`mount --bind "$1" "$2"`)
	run(`mount -t tmpfs none "$2" && mount -t tmpfs none "$1" && touch "$1/x.db" && exec 4>>"$1/x.db"`)
	found, complete := Opening(db, true)
	require.True(t, complete)
	require.Equal(t, []Opened{{PID: inside, Writing: true}}, found)
}

func TestSignsFrom(t *testing.T) {
	portable.Needs(t, portable.Signs)
	t.Parallel()
	path := filepath.Join(t.TempDir(), "room")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	id, err := inode.Identify(path)
	require.NoError(t, err)
	for _, at := range []int64{3, 2000, 5000} {
		require.NoError(t, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: at, Len: 1}))
	}
	require.True(t, Signs(os.Getpid(), id, 3))
	require.False(t, Signs(os.Getpid(), id, 4))
	require.EqualValues(t, 5000, SignsFrom(os.Getpid(), 1000, id))
	require.Zero(t, SignsFrom(os.Getpid(), 6000, id))
	require.Zero(t, SignsFrom(os.Getpid(), 1000, inode.ID{Dev: id.Dev, Ino: id.Ino + 1}))
	require.Zero(t, SignsFrom(os.Getppid(), 1000, id))
}

func TestFirstChild(t *testing.T) {
	portable.Needs(t, portable.Processes)
	c := sleeper(t)
	sh := exec.Command("sh", "-c", "sleep 1000 & echo $!; sleep 1001 & wait")
	sh.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := sh.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, sh.Start())
	var first int
	_, err = fmt.Fscan(out, &first)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = syscall.Kill(-sh.Process.Pid, syscall.SIGKILL)
		_ = sh.Wait()
	})
	require.Equal(t, first, FirstChild(sh.Process.Pid))
	require.Zero(t, FirstChild(c.Process.Pid))
}

func TestEnviron(t *testing.T) {
	portable.Needs(t, portable.Processes)
	t.Parallel()
	cmd := exec.Command("cat")
	cmd.Env = []string{"A=1", "B=x=y", "EMPTY="}
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer cmd.Wait()
	defer in.Close()
	require.Eventually(t, func() bool { return Environ(cmd.Process.Pid)["B"] == "x=y" }, 20*time.Second, time.Millisecond)
	require.Equal(t, "1", Environ(cmd.Process.Pid)["A"])
	require.Empty(t, Environ(0))
	require.Nil(t, Command(0))
}
