//go:build linux

package storm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/portable"
)

// checkMessage checks what dblock said: nothing of a Go runtime, and on a failure
// one line that says what is wrong, perhaps with a hint below it.
func checkMessage(t testing.TB, r result, want string) {
	t.Helper()
	if strings.Contains(r.stderr, "goroutine") || strings.Contains(r.stderr, "panic") || strings.Contains(r.stderr, "SIG") {
		t.Errorf("a stack trace: %v", r)
	}
	problems := 0
	for line := range strings.Lines(r.stderr) {
		switch {
		case strings.HasPrefix(line, "dblock: "):
			problems++
		case !strings.HasPrefix(line, "hint: "):
			t.Errorf("a line that is neither problem nor hint: %q", line)
		}
	}
	if want == "" && problems > 0 || want != "" && problems != 1 {
		t.Errorf("%d problems told: %v", problems, r)
	}
	if !regexp.MustCompile(want).MatchString(r.stderr) {
		t.Errorf("the message does not match %q: %v", want, r)
	}
}

// A fault is one system call that fails. DB and STATE in its path stand for the
// directory of the database and the state directory.
type fault struct {
	call   string // may carry :when=N
	path   string // only calls on this path
	errors string
	code   int
	says   string
	ran    bool // whether the command ran
	fresh  bool // in a directory that has no state directory yet
	stale  bool // with a dead peer's notice in the way
	half   half
}

// half is the half of the program that a fault is about.
type half int

const (
	both half = iota
	linux
	other // in which nothing is moved to a name that must be free, nor exchanged
)

var faults = []fault{
	{call: "mkdirat", errors: "ENOSPC EDQUOT EIO EROFS EMLINK", code: 73, says: "mkdir .*: ", fresh: true},
	{call: "mkdirat", errors: "EACCES EPERM", code: 77, says: "mkdir .*: ", fresh: true},
	{call: "openat", path: "STATE/turnstile-normal", errors: "ENOSPC EDQUOT EIO EROFS EMFILE ENFILE", code: 73, says: "turnstile-normal: "},
	{call: "openat", path: "STATE/room", errors: "ENOSPC EIO EMFILE", code: 73, says: "room: ", fresh: true},
	{call: "openat", path: "STATE/room", errors: "EPERM", code: 77, says: "room: "},
	{call: "openat", path: "STATE/token", errors: "ENOSPC EIO EMFILE", code: 73, says: "token: "},
	{call: "openat", path: "STATE/notice", errors: "ENOSPC EDQUOT EIO EROFS EMFILE", code: 73, says: "create .*notice: ", fresh: true},
	{call: "openat", path: "STATE/notice", errors: "EACCES EPERM", ran: true}, // another name will do
	{call: "openat:when=1", path: "STATE/notice", errors: "EINTR", ran: true},
	{call: "openat:when=1", path: "STATE/room", errors: "EINTR", ran: true},
	{call: "flock", errors: "EIO", code: 73, says: "flock .*: ", fresh: true},
	{call: "flock", errors: "ENOLCK EOPNOTSUPP ENOSYS", ran: true, says: "warning: flock does not work"},
	{call: "flock:when=1", errors: "EINTR", ran: true},
	{call: "flock:when=3", errors: "EINTR", ran: true},
	{call: "fcntl", path: "STATE/room", errors: "EIO", code: 73, says: "room: "},
	{call: "fcntl:when=3", path: "STATE/room", errors: "EMFILE", ran: true}, // it keeps a lower number
	{call: "pwrite64", path: "STATE/token", errors: "ENOSPC EDQUOT EIO", code: 73, says: "write .*token: "},
	{call: "pwrite64", path: "STATE/notice", errors: "ENOSPC EDQUOT EIO", code: 73, says: "write .*notice: ", fresh: true},
	{call: "pwrite64:when=1", path: "STATE/notice", errors: "EINTR", ran: true},
	{call: "pwrite64:when=1", path: "STATE/token", errors: "EINTR", ran: true},
	{call: "pread64", path: "STATE/token", errors: "EIO", code: 73, says: "read .*token: "},
	{call: "linkat", errors: "ENOSPC EDQUOT EIO EROFS", code: 73, says: "link .*: "},
	{call: "linkat", errors: "EACCES", code: 77, says: "link .*: "},
	{call: "linkat", errors: "EPERM EOPNOTSUPP ENOSYS EMLINK", ran: true, half: linux},
	{call: "linkat", errors: "EOPNOTSUPP ENOSYS EMLINK", code: 73, says: "link .*: ", half: other},
	{call: "linkat", errors: "EPERM", code: 77, says: "link .*: ", half: other},
	{call: "linkat:when=1", errors: "EINTR", ran: true},
	{call: "renameat2", errors: "ENOSYS EINVAL EOPNOTSUPP EPERM", ran: true, stale: true, half: linux},
	{call: "renameat2", errors: "EIO ENOSPC EROFS", code: 73, says: "take over .*: ", stale: true, half: linux},
	{call: "renameat2", errors: "EACCES", code: 77, says: "take over .*: ", stale: true, half: linux},
	{call: "renameat2:when=1", errors: "EINTR", ran: true, stale: true, half: linux},
	{call: "renameat", errors: "EIO ENOSPC EROFS", code: 73, says: "take over .*: ", stale: true, half: other},
	{call: "renameat", errors: "EACCES EPERM", code: 77, says: "take over .*: ", stale: true, half: other},
	{call: "renameat:when=1", errors: "EINTR", ran: true, stale: true, half: other},
	{call: "unlinkat:when=1", errors: "EINTR", ran: true},
	{call: "unlinkat", path: "DB/.app.lock", errors: "EIO EROFS", ran: true, says: "the lock file was not removed: "},
}

// TestFaults lets one system call fail in each subtest.
func TestFaults(t *testing.T) {
	needTool(t, "strace")
	need(t, run(t, exec.Command("strace", "-o", os.DevNull, "true")).code == 0, "strace does not work here")
	for _, f := range faults {
		if f.half == linux && portable.Half || f.half == other && !portable.Half {
			continue
		}
		for _, errno := range strings.Fields(f.errors) {
			t.Run(fmt.Sprintf("%s %s %s", f.call, f.path, errno), func(t *testing.T) {
				t.Parallel()
				f.test(t, errno)
			})
		}
	}
}

func (f fault) test(t *testing.T, errno string) {
	db := database(t)
	ran := filepath.Join(filepath.Dir(db), "ran")
	if !f.fresh {
		usable(t, db)
	}
	if f.stale {
		leavePeer(t, db, deadPID(t), time.Now().Add(-time.Minute))
	}
	name, when, _ := strings.Cut(f.call, ":")
	inject := name + ":error=" + errno
	if when != "" {
		inject += ":" + when
	}
	out := filepath.Join(scratch(t), "trace")
	args := []string{"-f", "-o", out, "-e", "signal=none", "-e", "trace=" + name, "-e", "inject=" + inject}
	if f.path != "" {
		p := strings.NewReplacer("DB/", filepath.Dir(db)+"/", "STATE/", noticeOf(db)+".d/").Replace(f.path)
		args = append(args, "-P", p)
		if strings.HasPrefix(f.path, "STATE/") {
			args = append(args, "-P", filepath.Base(p)) // as a name in the open directory
		}
	}
	var r result
	for tries := 1; ; tries++ {
		_ = os.Remove(ran)
		r = run(t, exec.Command("strace", append(args, "--", dblock, "-d", db, "--", "touch", ran)...))
		if b, _ := os.ReadFile(out); strings.Contains(string(b), "INJECTED") {
			break
		}
		// strace counts the calls of each thread by itself, and the program went on
		// another one in the middle.
		if when == "" || f.stale || f.fresh || tries == 10 {
			t.Fatalf("the call was never made: %v", r)
		}
	}
	if r.code != f.code {
		t.Errorf("want exit code %d: %v", f.code, r)
	}
	if (inode(ran) != 0) != f.ran {
		t.Errorf("the command ran: %v", !f.ran)
	}
	checkMessage(t, r, f.says)
	if !f.ran && !f.stale {
		if l := litter(t, db); len(l) > 0 {
			t.Errorf("left behind: %v", l)
		}
		if f.fresh && inode(noticeOf(db)+".d") != 0 {
			t.Errorf("the state directory was left behind")
		}
	}
	usable(t, db)
}

// mounted mounts a filesystem on a new directory.
func mounted(t *testing.T, source, kind string, flags uintptr, data string) string {
	t.Helper()
	needRoot(t)
	dir := filepath.Join(scratch(t), "fs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	err := unix.Mount(source, dir, kind, flags, data)
	need(t, err == nil, "cannot mount %s: %v", kind, err)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill writes to the filesystem until nothing fits any more.
func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if n, err := f.Write(make([]byte, size)); err != nil && n == 0 {
			size /= 2
		}
	}
	// What is one file's last block is another's first inode: those too.
	var more []string
	for i := 0; ; i++ {
		p := filepath.Join(dir, fmt.Sprint("more", i))
		if os.WriteFile(p, []byte("x"), 0o644) != nil {
			more = append(more, p)
			break
		}
		more = append(more, p)
	}
	return func() {
		for _, p := range append(more, path) {
			os.Remove(p)
		}
	}
}

// fails runs dblock where it must not work, and checks the message, and that the
// command did not run and nothing is left.
func fails(t *testing.T, db string, code int, says string) {
	t.Helper()
	r := run(t, exec.Command(dblock, "-d", db, "--", "echo", "ran"))
	if r.code != code || r.stdout != "" {
		t.Errorf("want exit code %d and no command: %v", code, r)
	}
	checkMessage(t, r, says)
	if l := litter(t, db); len(l) > 0 {
		t.Errorf("left behind: %v", l)
	}
}

// TestFilesystems has real filesystems that are full, read-only or peculiar.
func TestFilesystems(t *testing.T) {
	full := func(t *testing.T, dir string, warm bool) {
		db := filepath.Join(dir, "app.db")
		if warm {
			usable(t, db)
		}
		empty := fill(t, dir)
		r := run(t, exec.Command(dblock, "-d", db, "--", "echo", "ran"))
		switch r.code {
		case 0: // there was room enough for a notice after all
			checkMessage(t, r, "")
		case 73:
			checkMessage(t, r, "(no space left|disk quota)")
			if r.stdout != "" {
				t.Errorf("the command ran: %v", r)
			}
		default:
			t.Errorf("want exit code 73: %v", r)
		}
		if !warm && r.code != 73 {
			t.Errorf("nothing can be created here, and yet: %v", r)
		}
		if l := litter(t, db); len(l) > 0 {
			t.Errorf("left behind: %v", l)
		}
		if !warm && inode(noticeOf(db)+".d") != 0 {
			t.Errorf("the state directory was left behind")
		}
		t.Logf("%v", r)
		empty()
		usable(t, db)
	}
	t.Run("tmpfs, full", func(t *testing.T) {
		full(t, mounted(t, "tmpfs", "tmpfs", 0, "size=64k"), true)
	})
	t.Run("tmpfs, full from the start", func(t *testing.T) {
		dir := mounted(t, "tmpfs", "tmpfs", 0, "size=64k")
		db := filepath.Join(dir, "app.db")
		empty := fill(t, dir)
		// Empty files cost nothing here; it is the token that does not fit.
		fails(t, db, 73, "no space left")
		if inode(noticeOf(db)+".d") != 0 {
			t.Error("the state directory was left behind")
		}
		empty()
		usable(t, db)
	})
	t.Run("tmpfs, full, when the lock file is to be restored", func(t *testing.T) {
		db := filepath.Join(mounted(t, "tmpfs", "tmpfs", 0, "size=64k"), "app.db")
		usable(t, db)
		h := startHolder(t, db)
		empty := fill(t, filepath.Dir(db))
		for _, path := range []string{noticeOf(db) + ".d/notice", noticeOf(db)} {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, 5*time.Second, "the command is ended", h.over)
		if code := h.wait(); code != 69 || !strings.Contains(h.stderr.String(), "cannot be restored, no space left on device") {
			t.Errorf("exit code %d, stderr %q", code, h.stderr)
		}
		empty()
		usable(t, db)
	})
	t.Run("tmpfs, no inodes", func(t *testing.T) {
		for free := range 7 {
			dir := mounted(t, "tmpfs", "tmpfs", 0, fmt.Sprintf("nr_inodes=%d", free+1))
			db := filepath.Join(dir, "app.db")
			// State directory, two turnstiles, room, token, notice, and its link, which
			// tmpfs counts as an inode as well.
			if free < 6 {
				fails(t, db, 73, "no space left")
				if inode(noticeOf(db)+".d") != 0 {
					t.Errorf("with %d inodes the state directory was left behind", free)
				}
			}
		}
	})
	t.Run("tmpfs, read-only", func(t *testing.T) {
		dir := mounted(t, "tmpfs", "tmpfs", 0, "")
		db := filepath.Join(dir, "app.db")
		for _, warm := range []bool{false, true} {
			if warm {
				usable(t, db)
			}
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
			fails(t, db, 73, "read-only file system")
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT, ""); err != nil {
				t.Fatal(err)
			}
		}
		usable(t, db)
	})
	t.Run("ext4, full", func(t *testing.T) {
		full(t, ext4(t), true)
	})
	t.Run("ext4, full from the start", func(t *testing.T) {
		full(t, ext4(t), false)
	})
	t.Run("overlayfs", func(t *testing.T) {
		base := mounted(t, "tmpfs", "tmpfs", 0, "")
		for _, d := range []string{"lower", "upper", "work"} {
			if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		// An image that was built with the state directory in it, and with the
		// notice of a dblock that is long dead: all of it comes from below.
		usable(t, filepath.Join(base, "lower", "app.db"))
		leavePeer(t, filepath.Join(base, "lower", "app.db"), deadPID(t), time.Now().Add(-time.Hour))
		dir := mounted(t, "overlay", "overlay", 0, fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", base))
		behaves(t, filepath.Join(dir, "app.db"))
		behaves(t, filepath.Join(dir, "other.db"))
	})
	t.Run("tmpfs", func(t *testing.T) { behaves(t, filepath.Join(mounted(t, "tmpfs", "tmpfs", 0, ""), "app.db")) })
}

// ext4 makes a small one on a loop device, without blocks reserved for root.
func ext4(t *testing.T) string {
	t.Helper()
	needRoot(t)
	needTool(t, "mkfs.ext4", "losetup")
	image := filepath.Join(scratch(t), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 2<<20); err != nil {
		t.Fatal(err)
	}
	if r := run(t, exec.Command("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", image)); r.code != 0 {
		t.Fatal(r)
	}
	r := run(t, exec.Command("losetup", "-f", "--show", image))
	need(t, r.code == 0, "no loop device: %v", r)
	device := strings.TrimSpace(r.stdout)
	t.Cleanup(func() { run(t, exec.Command("losetup", "-d", device)) })
	return mounted(t, device, "ext4", 0, "")
}

// behaves checks the whole protocol on one filesystem: exclusion, takeover,
// healing, release.
func behaves(t *testing.T, db string) {
	t.Helper()
	usable(t, db)
	h := startHolder(t, db)
	if r := run(t, exec.Command(dblock, "-n", "-d", db, "--", "true")); r.code != 75 {
		t.Errorf("not kept out: %v", r)
	}
	watched(t, h)
	if err := os.Remove(noticeOf(db)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the notice is back", func() bool { return inode(noticeOf(db)) != 0 })
	if code := h.end(); code != 0 {
		t.Errorf("exit code %d, stderr %s", code, h.stderr)
	}
	leaveDead(t, db)
	usable(t, db)
	leavePeer(t, db, deadPID(t), time.Now())
	usable(t, db)
}

// TestMachine has faults of the machine, not of the disk.
func TestMachine(t *testing.T) {
	t.Run("no inotify", func(t *testing.T) {
		needTool(t, "strace")
		db := database(t)
		h := holding(t, db, exec.Command("strace", "-f", "-o", os.DevNull, "-e", "signal=none", "-e", "trace=inotify_init1",
			"-e", "inject=inotify_init1:error=EMFILE", "--", dblock, "-d", db, "--", self))
		// Long enough for it to want a watch, and then to do without.
		for range 3 {
			if err := os.Remove(noticeOf(db)); err != nil {
				t.Fatal(err)
			}
			took := eventually(t, 5*time.Second, "the notice is back", func() bool { return inode(noticeOf(db)) != 0 })
			t.Logf("back after %v", took)
		}
		if code := h.end(); code != 0 || h.stderr.String() != "" {
			t.Errorf("exit code %d, stderr %q", code, h.stderr)
		}
		usable(t, db)
	})
	t.Run("inotify queue overflow", func(t *testing.T) {
		portable.Needs(t, portable.Events)
		db := database(t)
		h := startHolder(t, db)
		watched(t, h)
		h.signal(syscall.SIGSTOP)
		eventually(t, 5*time.Second, "it is stopped", func() bool { return state(h.cmd.Process.Pid) == 'T' })
		// Alternating, or the kernel would merge them into one event.
		room := filepath.Join(noticeOf(db)+".d", "room")
		for range 20000 {
			if os.Chmod(noticeOf(db), 0o644) != nil || os.Chmod(room, 0o600) != nil {
				t.Fatal("cannot change modes")
			}
		}
		if err := os.Remove(noticeOf(db)); err != nil {
			t.Fatal(err)
		}
		h.signal(syscall.SIGCONT)
		eventually(t, 5*time.Second, "the notice is back", func() bool { return inode(noticeOf(db)) != 0 })
		if err := os.Remove(noticeOf(db)); err != nil {
			t.Fatal(err)
		}
		eventually(t, 5*time.Second, "the notice is back again", func() bool { return inode(noticeOf(db)) != 0 })
		if code := h.end(); code != 0 {
			t.Errorf("exit code %d, stderr %q", code, h.stderr)
		}
		usable(t, db)
	})
	t.Run("no descriptors", func(t *testing.T) {
		db := database(t)
		usable(t, db)
		had := map[int]int{}
		for n := 3; n < 48; n++ {
			r := run(t, exec.Command("sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$@"`, n), "sh", dblock, "-d", db, "--", "sh", "-c", ":"))
			had[r.code]++
			switch r.code {
			case 0:
				checkMessage(t, r, "")
			case 73:
				checkMessage(t, r, "(too many open files|invalid argument)")
			default:
				t.Errorf("with %d descriptors: %v", n, r)
			}
			usable(t, db)
		}
		t.Logf("exit codes with 3 to 47 descriptors: %v", had)
		// What is open anyhow counts, and all that is needed besides are some ten.
		if had[0] < 48-24 {
			t.Error("it needs too many")
		}
	})
	t.Run("no /proc", func(t *testing.T) {
		needRoot(t)
		needTool(t, "unshare")
		db := database(t)
		blind := func(flags ...string) *exec.Cmd {
			return exec.Command("unshare", append([]string{"-m", "sh", "-c", `mount -t tmpfs none /proc && exec "$@"`, "sh", dblock, "-d", db}, flags...)...)
		}
		r := run(t, blind("--", "true"))
		if r.code != 0 || r.stderr != "" {
			t.Errorf("%v", r)
		}
		usable(t, db)
		// A dead one's notice, by one that saw as little.
		run(t, blind("--", "sh", "-c", "kill -9 $PPID; kill -9 $$"))
		if inode(noticeOf(db)) == 0 {
			t.Fatal("the killed dblock has left no notice")
		}
		if r := run(t, blind("-w", "2", "--", "true")); r.code != 0 || r.stderr != "" {
			t.Errorf("takeover: %v", r)
		}
		// Exclusion, seeing and blind.
		h := holding(t, db, blind("--", self))
		for _, cmd := range []*exec.Cmd{exec.Command(dblock, "-n", "-d", db, "--", "true"), blind("-n", "--", "true")} {
			if r := run(t, cmd); r.code != 75 {
				t.Errorf("not kept out: %v", r)
			}
		}
		if code := h.end(); code != 0 {
			t.Errorf("exit code %d, stderr %q", code, h.stderr)
		}
		usable(t, db)
	})
	t.Run("umask 077", func(t *testing.T) {
		needRoot(t)
		dir := scratch(t)
		db := filepath.Join(dir, "app.db")
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		h := holding(t, db, exec.Command("sh", "-c", `umask 077; exec "$@"`, "sh", dblock, "-d", db, "--", self))
		if st, err := os.Stat(noticeOf(db)); err != nil || st.Mode().Perm() != 0o644 {
			t.Errorf("notice: %v %v", st.Mode(), err)
		}
		// Whoever may write in the directory can queue; the notice can be read.
		if r := run(t, as(4711, dblock, "-n", "-d", db, "--", "true")); r.code != 75 {
			t.Errorf("another user is not kept out, or not by the lock: %v", r)
		}
		if code := h.end(); code != 0 {
			t.Error(code)
		}
		if r := run(t, as(4711, dblock, "-n", "-d", db, "--", "true")); r.code != 0 {
			t.Errorf("another user cannot have the free lock: %v", r)
		}
		usable(t, db)
	})
	t.Run("sticky directory", func(t *testing.T) {
		needRoot(t)
		dir := scratch(t)
		db := filepath.Join(dir, "app.db")
		if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
		// The state directory is whoever's comes first; of all that can come, the others
		// trust root alone here.
		if r := run(t, as(4711, dblock, "-n", "-d", db, "--", "true")); r.code != 0 {
			t.Fatal(r)
		}
		for _, uid := range []uint32{4712, 0} {
			r := run(t, as(uid, dblock, "-n", "-d", db, "--", "echo", "ran"))
			if r.code != 77 || r.stdout != "" {
				t.Errorf("user %d trusts user 4711's state directory: %v", uid, r)
			}
			checkMessage(t, r, "it belongs to user 4711")
		}
		if err := os.RemoveAll(noticeOf(db) + ".d"); err != nil {
			t.Fatal(err)
		}
		// One user after another, as long as nobody dies.
		for _, uid := range []uint32{0, 4711, 4712, 0} {
			if r := run(t, as(uid, dblock, "-n", "-d", db, "--", "true")); r.code != 0 || r.stderr != "" {
				t.Fatalf("user %d: %v", uid, r)
			}
		}
		// One is killed: its notice is not another user's to remove.
		run(t, as(4711, dblock, "-d", db, "--", "sh", "-c", "kill -9 $PPID; kill -9 $$"))
		before := inode(noticeOf(db))
		if before == 0 {
			t.Fatal("the killed dblock has left no notice")
		}
		r := run(t, as(4712, dblock, "-n", "-d", db, "--", "echo", "ran"))
		if r.code != 77 || r.stdout != "" {
			t.Errorf("want exit code 77: %v", r)
		}
		checkMessage(t, r, "(not permitted|permission denied)")
		if inode(noticeOf(db)) != before {
			t.Error("the other user's notice was touched")
		}
		t.Logf("%v", r)
		if r := run(t, as(4711, dblock, "-n", "-d", db, "--", "true")); r.code != 0 {
			t.Errorf("its own user: %v", r)
		}
		// The same with a peer's notice.
		if err := os.WriteFile(noticeOf(db), []byte(`{"pid":4194304,"timestamp":1,"host":"elsewhere","process":"cli"}`), 0o644); err != nil {
			t.Fatal(err)
		}
		r = run(t, as(4712, dblock, "-n", "-d", db, "--", "echo", "ran"))
		if r.code != 77 || r.stdout != "" {
			t.Errorf("want exit code 77: %v", r)
		}
		checkMessage(t, r, "(not permitted|permission denied)")
		usable(t, db) // by root
		if r := run(t, as(4712, dblock, "-n", "-d", db, "--", "true")); r.code != 0 {
			t.Errorf("afterwards: %v", r)
		}
	})
	t.Run("sticky directory, killed before it had the lock", func(t *testing.T) {
		needRoot(t)
		needTool(t, "strace")
		dir := scratch(t)
		db := filepath.Join(dir, "app.db")
		if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
		usable(t, db) // root's state directory is trusted by all
		out := filepath.Join(dir, "trace")
		run(t, as(4711, "strace", "-f", "-o", out, "-e", "signal=none", "-e", "trace=linkat", "-e", "inject=linkat:signal=KILL:when=1",
			"--", dblock, "-d", db, "--", "true"))
		if inode(noticeOf(db)) != 0 {
			t.Fatal("it had published its notice")
		}
		// Nothing is held and nothing is announced; only a spare file is there.
		if r := run(t, as(4712, dblock, "-n", "-d", db, "--", "true")); r.code != 0 {
			t.Errorf("another user cannot have the free lock: %v", r)
		}
		usable(t, db)
	})
	t.Run("a directory of others", func(t *testing.T) {
		needRoot(t)
		db := database(t)
		r := run(t, as(4711, dblock, "-n", "-d", db, "--", "echo", "ran"))
		if r.code != 77 || r.stdout != "" {
			t.Errorf("want exit code 77: %v", r)
		}
		checkMessage(t, r, "permission denied")
		if inode(noticeOf(db)+".d") != 0 {
			t.Error("the state directory was left behind")
		}
		usable(t, db)
	})
}

// as runs a command as another user.
func as(uid uint32, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	if uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	return cmd
}

// TestStartFails has commands that cannot be started although they were found:
// the lock was had by then.
func TestStartFails(t *testing.T) {
	script := func(t *testing.T, text string) string {
		path := filepath.Join(scratch(t), "command")
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	check := func(t *testing.T, r result, db string, code int) {
		t.Helper()
		if r.code != code {
			t.Errorf("want exit code %d: %v", code, r)
		}
		checkMessage(t, r, "dblock: ")
		if l := litter(t, db); len(l) > 0 {
			t.Errorf("left behind: %v", l)
		}
		usable(t, db)
	}
	t.Run("missing interpreter", func(t *testing.T) {
		db := database(t)
		check(t, run(t, exec.Command(dblock, "-d", db, "--", script(t, "#!/nonexistent/interpreter\n"))), db, 127)
	})
	t.Run("interpreter is a directory", func(t *testing.T) {
		db := database(t)
		check(t, run(t, exec.Command(dblock, "-d", db, "--", script(t, "#!/\n"))), db, 126)
	})
	t.Run("too many arguments", func(t *testing.T) {
		db := database(t)
		// What dblock adds to the environment is what makes it too much: a stack of
		// 256 KiB leaves 64 KiB for arguments, no less than 128 KiB.
		cmd := exec.Command("sh", "-c", `ulimit -s 256; exec "$@"`, "sh", dblock, "-d", db, "--", "true")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		for size := 128 << 10; size > 100<<10; size -= 64 {
			c := exec.Command(cmd.Args[0], cmd.Args[1:]...)
			c.Env = append(c.Env, cmd.Env[0], "X="+strings.Repeat("x", size/2), "Y="+strings.Repeat("y", size/2))
			if r := run(t, c); r.code == 126 && strings.HasPrefix(r.stderr, "dblock:") {
				check(t, r, db, 126)
				return
			} else if r.code == 0 {
				t.Fatalf("never just too much: %v", r)
			}
		}
		t.Error("never little enough")
	})
	for _, errno := range []string{"ENOMEM", "EACCES", "ENOENT", "ETXTBSY", "EIO"} {
		t.Run("execve "+errno, func(t *testing.T) {
			needTool(t, "strace")
			db, code := database(t), 126
			if errno == "ENOENT" {
				code = 127
			}
			command := script(t, "#!/bin/sh\nexit 0\n")
			check(t, run(t, exec.Command("strace", "-f", "-o", os.DevNull, "-e", "signal=none", "-e", "trace=execve", "-P", command,
				"-e", "inject=execve:error="+errno, "--", dblock, "-d", db, "--", command)), db, code)
		})
	}
	t.Run("no more processes", func(t *testing.T) {
		needRoot(t)
		needTool(t, "prlimit")
		dir := scratch(t)
		db := filepath.Join(dir, "app.db")
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		// The threads of dblock count too: with fewer than it needs it cannot even
		// start, with enough it runs, and in between it is the fork that fails.
		codes := map[int]int{}
		for n := 1; n < 24; n++ {
			r := run(t, as(4713, "prlimit", fmt.Sprintf("--nproc=%d", n), dblock, "-d", db, "--", "sh", "-c", ":"))
			codes[r.code]++
			if r.code == 126 {
				checkMessage(t, r, "resource temporarily unavailable")
			}
			if r := run(t, as(4713, dblock, "-n", "-d", db, "--", "true")); r.code != 0 {
				t.Fatalf("not usable afterwards: %v", r)
			}
			if l := litter(t, db); len(l) > 0 {
				t.Fatalf("left behind: %v", l)
			}
		}
		t.Logf("exit codes with 1 to 23 processes and threads allowed: %v", codes)
	})
}
