package notice

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// Link gives the complete file at from the name to, which must not exist: the
// atomic publication. Where the filesystem has no hard links the file is moved
// instead, and moved tells so: there is no spare name then.
func Link(from, to string) (moved bool, err error) {
	err = retry(func() error { return unix.Link(from, to) })
	switch err {
	case nil:
		return false, nil
	case unix.EPERM, unix.EOPNOTSUPP, unix.ENOSYS, unix.EMLINK:
		if merr := moveNew(from, to); merr == nil || merr == unix.EEXIST {
			return merr == nil, pathError("rename", to, merr)
		}
	}
	return false, pathError("link", to, err)
}

// Swap exchanges the files at two paths in one step, such that neither path is
// ever missing. It fails with unix.ENOSYS or unix.EINVAL where the kernel or
// the filesystem cannot.
func Swap(a, b string) error { return exchange(a, b) }

// Rename moves a file, replacing what has that name.
func Rename(from, to string) error {
	return pathError("rename", to, retry(func() error { return unix.Rename(from, to) }))
}

// Remove unlinks path; that it is gone already is not an error.
func Remove(path string) error {
	err := retry(func() error { return unix.Unlink(path) })
	if err == unix.ENOENT {
		return nil
	}
	return pathError("remove", path, err)
}

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
