// Package queue is the kernel's half of the lock: flock(2) on small permanent
// files. The kernel queues those who wait, in order of arrival, and lets go of
// what a dead process held.
package queue

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock/internal/notice"
)

// How a file is locked.
type How int

// The two ways, as flock(2) names them.
const (
	Shared    How = unix.LOCK_SH
	Exclusive How = unix.LOCK_EX
)

// Sign is what those who have the file open can let others know.
type Sign int

// The signs.
const (
	Waiting Sign = iota // for the lock
	Having              // the lock, after having waited or for longer
	Reading             // the same, with other readers
	Ending              // having it until the rest of an ended command has gone
	signs
)

// ErrUnsupported says that flock does not work where the file is: some network
// and shared-folder filesystems.
var ErrUnsupported = errors.New("flock is not supported here")

// minDescriptor is the lowest number that the descriptor of a File gets when it
// is raised: scripts and runtimes use the low ones (exec 3>; Node keeps 20).
// From 64 on the kernel must enlarge the descriptor table, which waits 8 to 12 ms
// in a process with threads.
const minDescriptor = 32

// File is an open state file. Its methods may not be called at the same time.
type File struct {
	fd   int
	path string
}

// Open opens the file at path, and creates it if it is not there, accessible
// to those who may write in its directory, as perm says.
func Open(path string, perm Perm) (*File, error) {
	for tries := 0; ; tries++ {
		fd, err := openRetry(path, unix.O_RDWR)
		if err == nil {
			return &File{fd, path}, nil
		}
		// Between another user's creation of the file, or of its directory, and
		// the setting of its mode only that user may open it.
		if err == unix.EACCES && tries < 50 && young(path) {
			time.Sleep(time.Millisecond)
			continue
		}
		if err != unix.ENOENT {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		// Without O_EXCL a kernel with fs.protected_regular refuses to open
		// somebody else's file in a sticky directory.
		fd, err = openRetry(path, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
		if err == unix.EEXIST {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "create", Path: path, Err: err}
		}
		perm.apply(fd)
		return &File{fd, path}, nil
	}
}

// Existing opens the file at path to look at its signs.
func Existing(path string) (*File, error) {
	fd, err := openRetry(path, unix.O_RDWR)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return &File{fd, path}, nil
}

// young reports whether the file or its directory was made or changed in the
// last second.
func young(path string) bool {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil && unix.Stat(filepath.Dir(path), &st) != nil {
		return false
	}
	return time.Since(time.Unix(st.Ctim.Unix())) < time.Second
}

func openRetry(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// Raise moves the descriptor to a number that the command will not stumble over.
func (f *File) Raise() error {
	fd, err := unix.FcntlInt(uintptr(f.fd), unix.F_DUPFD_CLOEXEC, minDescriptor)
	if err != nil {
		return &fs.PathError{Op: "dup", Path: f.path, Err: err}
	}
	unix.Close(f.fd)
	f.fd = fd
	return nil
}

// Fd is the descriptor; it belongs to the File.
func (f *File) Fd() int { return f.fd }

// Try locks the file if that is possible at once.
func (f *File) Try(how How) (bool, error) {
	err := f.flock(int(how) | unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return false, nil
	}
	return err == nil, f.wrap(err)
}

// Wait waits for the lock, in the kernel's queue. When ctx ends first it
// returns ctx.Err() at once, and the File is no longer the caller's: the
// abandoned wait closes it as soon as it is granted.
func (f *File) Wait(ctx context.Context, how How) error {
	granted := make(chan error, 1)
	var settled atomic.Bool // whether the call ended or was abandoned: the first one decides
	go func() {
		err := f.lockBlocking(how)
		if settled.CompareAndSwap(false, true) {
			granted <- err
			return
		}
		f.Close() // check: abandoned-wait: f.Close() -> _ = f
	}()
	select {
	case err := <-granted:
		return f.wrap(err)
	case <-ctx.Done():
	}
	if !settled.CompareAndSwap(false, true) {
		// Granted at the same moment: then it is ours to let go.
		<-granted
		f.Close()
	}
	return ctx.Err()
}

// lockBlocking blocks its thread in flock. A signal handled on that thread would
// make the kernel forget its place in the queue and put it at the end, so it
// takes none; stop signals cannot be blocked, and a stopped process should not
// keep its place anyhow.
func (f *File) lockBlocking(how How) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	restore := blockSignals() // check: blocked-signals: blockSignals() -> func() {}
	defer restore()
	return f.flock(int(how))
}

// Unlock lets go for every process that shares the open file.
func (f *File) Unlock() error {
	f.hideAll()
	return f.wrap(f.flock(unix.LOCK_UN))
}

// Convert makes a shared lock exclusive if nobody else holds the file. The
// kernel drops the shared lock first, so after false the file is not locked.
func (f *File) Convert() (bool, error) { return f.Try(Exclusive) }

// Close closes the descriptor, and so unlocks unless a child inherited it.
func (f *File) Close() {
	if f != nil && f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
	}
}

// ID names the inode that is open.
func (f *File) ID() (notice.ID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return notice.ID{}, &fs.PathError{Op: "stat", Path: f.path, Err: err}
	}
	return notice.ID{Dev: uint64(st.Dev), Ino: uint64(st.Ino)}, nil
}

func (f *File) flock(how int) error {
	for {
		if err := unix.Flock(f.fd, how); err != unix.EINTR {
			return err
		}
	}
}

func (f *File) wrap(err error) error {
	switch err {
	case nil:
		return nil
	case unix.ENOLCK, unix.EOPNOTSUPP, unix.ENOSYS, unix.EINVAL:
		return &fs.PathError{Op: "flock", Path: f.path, Err: errors.Join(ErrUnsupported, err)}
	}
	return &fs.PathError{Op: "flock", Path: f.path, Err: err}
}

// Perm is who may use the state files: exactly those who may write in the
// directory of the lock, since whoever can open a file can flock it.
type Perm struct {
	dir      unix.Stat_t
	uid, gid int
}

// PermOf derives it from the lock's directory.
func PermOf(dir string) (Perm, error) {
	var p Perm
	if err := unix.Stat(dir, &p.dir); err != nil {
		return p, &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	p.uid, p.gid = os.Geteuid(), os.Getegid()
	return p, nil
}

// Mkdir makes the state directory with the rights of its parent and reports
// whether it was missing.
func (p Perm) Mkdir(path string) (bool, error) {
	err := unix.Mkdir(path, 0o700)
	if err == unix.EEXIST {
		return false, nil
	}
	if err != nil {
		return false, &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return true, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	p.chown(fd)
	_ = unix.Fchmod(fd, uint32(p.dir.Mode)&0o1777|0o700)
	return true, nil
}

// apply sets owner and mode of a file that was just created. Failing at either
// only keeps others out; their own error says so.
func (p Perm) apply(fd int) {
	p.chown(fd)
	mode := uint32(0o600)
	if p.dir.Mode&0o020 != 0 {
		mode |= 0o060
	}
	if p.dir.Mode&0o002 != 0 {
		mode |= 0o006
	}
	if mode != 0o600 {
		_ = unix.Fchmod(fd, mode)
	}
}

func (p Perm) chown(fd int) {
	uid := -1
	if p.uid == 0 && p.dir.Uid != 0 {
		uid = int(p.dir.Uid)
	}
	gid := -1
	if p.gid != int(p.dir.Gid) {
		gid = int(p.dir.Gid)
	}
	if uid != -1 || gid != -1 {
		_ = unix.Fchown(fd, uid, gid)
	}
}
