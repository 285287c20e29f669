// Package queue is the kernel's half of the lock: flock(2) on small permanent
// files. The kernel queues those who wait, in order of arrival, and releases
// what a dead process held.
package queue

import (
	"errors"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock/internal/inode"
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

// ErrLinks says that a state file has another name, somewhere else: writing to it
// would be writing to whatever that is.
var ErrLinks = errors.New("it has another name")

// File is an open state file. Its methods may not be called at the same time.
type File struct {
	fd   int
	name inode.Name
	id   inode.ID // once it was asked for

	interrupt syscall.Signal // see Interruptible
	lent      bool           // what runs under the lock has it open, too

	// Discarded is called, if it is not nil, when a wait that was given up is granted,
	// before the lock is released.
	Discarded func(*File)
}

// Interruptible names a signal by which a wait for the file can be ended, so that nothing
// of it stays in the kernel's queue when its context ends. The process must have a handler
// for it, on a thread of any kind, that does not restart system calls.
func (f *File) Interruptible(sig syscall.Signal) { f.interrupt = sig }

// Open opens a state file, and makes it if it is not there, accessible to those who
// may write in the lock's directory.
func Open(name inode.Name) (*File, error) {
	for range 100 {
		f, err := Existing(name)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		if err := create(name); err != nil {
			return nil, err
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name.String(), Err: unix.ENOENT}
}

// Signs reports whether anybody shows that he has the lock of a state file, and whether
// anybody shows that he waits for it.
func Signs(name inode.Name) (taken, awaited bool) {
	f, err := Existing(name)
	if err != nil {
		return false, false
	}
	defer f.Close()
	having, _ := f.Shown(Having)
	reading, _ := f.Shown(Reading)
	awaited, _ = f.Shown(Waiting)
	return having || reading, awaited
}

// Appending has all writes go to the end of the file, and returns where that is, in bytes.
func (f *File) Appending() (size int64, err error) {
	if _, err := unix.FcntlInt(uintptr(f.fd), unix.F_SETFL, unix.O_APPEND); err != nil {
		return 0, f.wrap(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return 0, f.wrap(err)
	}
	return st.Size, nil
}

// Existing opens a state file that is there.
func Existing(name inode.Name) (*File, error) {
	fd, err := name.Open(unix.O_RDWR, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name.String(), Err: err}
	}
	f := &File{fd: fd, name: name}
	if name.Dir().Private() {
		return f, nil
	}
	if err := f.genuine(); err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: name.String(), Err: err}
	}
	return f, nil
}

// genuine refuses what others may have put in the file's place: something that is no
// file, or another name of a file that is somewhere else.
func (f *File) genuine() error {
	st, err := f.stat()
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		return notice.ErrNotRegular
	}
	if err == nil && st.Nlink != 1 {
		// Where it takes two steps to give a new file its name, both names are there
		// for a moment, or until somebody cleans up.
		Sweep(f.name.Dir())
		st, err = f.stat()
	}
	if err == nil && st.Nlink != 1 { // check: state-links
		return ErrLinks
	}
	return err
}

func (f *File) stat() (st unix.Stat_t, err error) {
	err = unix.Fstat(f.fd, &st)
	f.id = inode.IDOf(&st)
	return st, err
}

// Raise moves the descriptor to a number that the command will not stumble over, or
// where the limit is too low for that to the highest that can be had.
func (f *File) Raise() error {
	for lowest := minDescriptor; lowest > f.fd; lowest-- {
		fd, err := unix.FcntlInt(uintptr(f.fd), unix.F_DUPFD_CLOEXEC, lowest)
		if err == nil {
			unix.Close(f.fd)
			f.fd = fd
			return nil
		}
		// EINVAL: there are no such numbers; EMFILE: all of them are in use.
		if err != unix.EINVAL && err != unix.EMFILE {
			return &fs.PathError{Op: "dup", Path: f.name.String(), Err: err}
		}
	}
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

// Unlock releases the lock for every process that shares the open file.
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

// discard closes what is locked for nothing. Closing alone would keep it locked for as long as a program that is
// just being started has a copy of it. Of what is lent that is as it should be.
func (f *File) discard() {
	if f == nil {
		return
	}
	if !f.lent { // check: lent-stays-locked: !f.lent -> true
		_ = f.Unlock() // check: discard-unlocks: f.Unlock() -> error(nil)
	}
	f.Close()
}

// ID names the inode that is open.
func (f *File) ID() (inode.ID, error) {
	if f.id != (inode.ID{}) {
		return f.id, nil
	}
	if _, err := f.stat(); err != nil {
		return inode.ID{}, &fs.PathError{Op: "stat", Path: f.name.String(), Err: err}
	}
	return f.id, nil
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
		return &fs.PathError{Op: "flock", Path: f.name.String(), Err: errors.Join(ErrUnsupported, err)}
	}
	return &fs.PathError{Op: "flock", Path: f.name.String(), Err: err}
}
