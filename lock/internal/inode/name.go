package inode

import (
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Name is a name in an open directory, or a path.
type Name struct {
	dir  *Dir // nil: name is a path
	name string
}

// Path is a name that is looked up anew each time, from the root or the working
// directory.
func Path(path string) Name { return Name{nil, path} }

// String is the name with the path that its directory had when it was opened.
func (n Name) String() string {
	if n.dir == nil {
		return n.name
	}
	return filepath.Join(n.dir.path, n.name)
}

// Dir is the open directory; nil if the name is a path.
func (n Name) Dir() *Dir { return n.dir }

// Beside is another name in the same directory.
func (n Name) Beside(suffix string) Name { return Name{n.dir, n.name + suffix} }

// at is the directory as the calls that end in "at" want it.
func (n Name) at() int {
	if n.dir == nil {
		return unix.AT_FDCWD
	}
	return n.dir.fd
}

// Open opens what has the name, itself and not what it may link to, without
// blocking. The error is the bare errno.
func (n Name) Open(flags int, mode uint32) (fd int, err error) {
	err = Retry(func() error {
		fd, err = unix.Openat(n.at(), n.name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, mode)
		return err
	})
	return fd, err
}

// Stat describes what has the name, itself and not what it may link to. The error is the bare errno.
func (n Name) Stat(st *unix.Stat_t) error {
	return Retry(func() error { return unix.Fstatat(n.at(), n.name, st, unix.AT_SYMLINK_NOFOLLOW) })
}

// Link gives the complete file from the name to, which must not exist: the
// atomic publication. Where the filesystem has no hard links the file is moved
// instead, and moved tells so: there is no spare name then.
func Link(from, to Name) (moved bool, err error) {
	err = Retry(func() error { return unix.Linkat(from.at(), from.name, to.at(), to.name, 0) })
	switch err {
	case nil:
		return false, nil
	case unix.EPERM, unix.EOPNOTSUPP, unix.ENOSYS, unix.EMLINK:
		if merr := moveNew(from, to); merr == nil || merr == unix.EEXIST {
			return merr == nil, to.Fail("rename", merr)
		}
	}
	return false, to.Fail("link", err)
}

// Move gives the file the name to, which must not exist, instead of the one that
// it has. Where it cannot be done in one step there are two names for a moment.
func Move(from, to Name) error {
	err := moveNew(from, to)
	if !lacking(err) {
		return to.Fail("rename", err)
	}
	if err = Retry(func() error { return unix.Linkat(from.at(), from.name, to.at(), to.name, 0) }); err != nil {
		return to.Fail("link", err)
	}
	return from.Remove()
}

// MoveDir gives a directory the name to, which must not exist. Where the system can do no more
// than look before, an empty directory that comes just then is replaced.
func MoveDir(from, to Name) error {
	err := moveNew(from, to)
	if lacking(err) {
		if err = to.Stat(&unix.Stat_t{}); err == nil {
			err = unix.EEXIST
		} else {
			err = Retry(func() error { return unix.Renameat(from.at(), from.name, to.at(), to.name) })
		}
	}
	if err == unix.ENOTEMPTY || err == unix.ENOTDIR {
		err = unix.EEXIST
	}
	return to.Fail("rename", err)
}

// lacking reports an error that may mean that the kernel, the filesystem or a
// sandbox does not know this form of rename.
func lacking(err error) bool {
	return err == unix.ENOSYS || err == unix.EINVAL || err == unix.EOPNOTSUPP || err == unix.ENOTSUP || err == unix.EPERM
}

// Swap exchanges the files of two names in one step, such that neither is
// ever missing. It fails with unix.ENOSYS or unix.EINVAL where the kernel or
// the filesystem cannot.
func Swap(a, b Name) error { return exchange(a, b) }

// Rename moves a file, replacing what has that name.
func Rename(from, to Name) error {
	return to.Fail("rename", Retry(func() error { return unix.Renameat(from.at(), from.name, to.at(), to.name) }))
}

// Remove unlinks path; that it is gone already is not an error.
func Remove(path string) error { return Path(path).Remove() }

// Remove unlinks the name; that it is gone already is not an error.
func (n Name) Remove() error {
	err := Retry(func() error { return unix.Unlinkat(n.at(), n.name, 0) })
	if err == unix.ENOENT {
		return nil
	}
	return n.Fail("remove", err)
}

// Fail is the error of something that was done with the name; nil if err is.
func (n Name) Fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: n.String(), Err: err}
}
