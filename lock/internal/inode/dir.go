package inode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrLinked says that the state directory is a symbolic link. Whoever may write
// beside the lock could lead it anywhere, and have files made there.
var ErrLinked = errors.New("it is a symbolic link")

// Dir is an open state directory. Whatever becomes of its path meanwhile, the
// names in it are those of this directory.
type Dir struct {
	fd      int
	path    string
	private bool
}

// OpenDir opens the directory at path. The error is a *fs.PathError:
// fs.ErrNotExist, ErrLinked, or fs.ErrPermission also where the directory is of
// somebody who has no business there.
func OpenDir(path string) (*Dir, error) {
	n := Path(path)
	fd, err := n.Open(unix.O_DIRECTORY|searchOnly, 0)
	if err != nil {
		// Which error a link gives differs between systems.
		var st unix.Stat_t
		if n.Stat(&st) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK { // check: state-link
			err = ErrLinked
		}
		return nil, n.Fail("open", err)
	}
	d := &Dir{fd: fd, path: path}
	if err := d.judgeOwner(); err != nil {
		d.Close()
		return nil, n.Fail("open", err)
	}
	return d, nil
}

// judgeOwner finds out whose directory it is. In a sticky directory users do not
// trust each other: there it must be ours, root's, or of the owner of the directory
// above, or its owner could exchange the files between any two of our calls. Where
// there is no sticky bit whoever may write can do that anyhow.
func (d *Dir) judgeOwner() error {
	var st, above unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return err
	}
	if st.Uid == 0 || int(st.Uid) == os.Geteuid() {
		d.private = st.Mode&0o022 == 0
		return nil
	}
	// By path and not by "..", which is another one as soon as the owner moves it.
	if err := unix.Stat(filepath.Dir(d.path), &above); err != nil {
		return err
	}
	if above.Mode&unix.S_ISVTX != 0 && above.Uid != st.Uid { // check: state-owner
		return fmt.Errorf("it belongs to user %d, and the directory above it is sticky: %w", st.Uid, fs.ErrPermission)
	}
	return nil
}

// Private reports whether only this user and root can put anything into it.
func (d *Dir) Private() bool { return d.private }

// Path is the path that it was opened by.
func (d *Dir) Path() string { return d.path }

// At is a name in the directory. In one that is not open there is nothing.
func (d *Dir) At(name string) Name {
	if d == nil {
		d = &Dir{fd: -1}
	}
	return Name{d, name}
}

// Names lists the directory.
func (d *Dir) Names() ([]string, error) {
	fd, err := d.At(".").Open(unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: d.path, Err: err}
	}
	defer unix.Close(fd)
	names, err := List(fd)
	return names, d.At(".").Fail("list", err)
}

// List lists the names in an open directory. It is not left to package os, which sets
// up its poller for that.
func List(fd int) (names []string, err error) {
	buf := make([]byte, 8192)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return names, err
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// Close closes the descriptor. Nothing may be done with names in it any more.
func (d *Dir) Close() {
	if d != nil && d.fd >= 0 {
		unix.Close(d.fd)
		d.fd = -1
	}
}
