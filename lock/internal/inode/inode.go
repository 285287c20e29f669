// Package inode is files by what they are and not by what they are called: their identity,
// names in open directories, calls repeated after a signal, errors that tell what could not be
// done with which file.
package inode

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// ID names an inode.
type ID struct{ Dev, Ino uint64 }

// IDOf is the identity in what stat has told.
func IDOf(st *unix.Stat_t) ID {
	return ID{uint64(st.Dev), uint64(st.Ino)} //nolint:unconvert // the types differ between systems
}

// Identify returns the inode that path names now, without following a link.
func Identify(path string) (ID, error) { return Path(path).Identify() }

// Identify returns the inode that has the name now, without following a link.
func (n Name) Identify() (ID, error) {
	var st unix.Stat_t
	if err := n.Stat(&st); err != nil {
		return ID{}, n.Fail("stat", err)
	}
	return IDOf(&st), nil
}

// DirChanged is when a name in the directory was last created or removed, in nanoseconds.
func DirChanged(path string) (int64, error) {
	var st unix.Stat_t
	if err := Retry(func() error { return unix.Stat(path, &st) }); err != nil {
		return 0, err
	}
	return st.Mtim.Nano(), nil
}

// Sticky reports whether in the directory nobody may remove or exchange another user's
// files; also where that cannot be found out.
func Sticky(path string) bool {
	var st unix.Stat_t
	return Retry(func() error { return unix.Stat(path, &st) }) != nil || st.Mode&unix.S_ISVTX != 0
}

// WriteAll writes all of b to the file, from that offset on. The error is the bare errno.
func WriteAll(fd int, b []byte, at int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, at)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}

// Retry repeats a call that a signal interrupted; slow filesystems (FUSE, NFS)
// return EINTR even from calls that local ones never interrupt.
func Retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// IsGone reports an error that says that there is nothing at the path.
func IsGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}
