package stats

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// write gives a file another content at once: who reads it meanwhile sees all of the old one.
// What a link leads to is replaced, and not the link; a device or a pipe is written to, and "-"
// is standard output. A new file gets mode, less what the umask takes away; an old one keeps its own.
func write(path string, mode os.FileMode, content func(io.Writer) error) error {
	if path == "-" {
		return content(os.Stdout)
	}
	path, err := follow(path)
	if err != nil {
		return err
	}
	old, err := os.Stat(path)
	if err == nil && !old.Mode().IsRegular() {
		return fill(path, 0, content)
	}
	name := fmt.Sprintf("%s/.%s.%d", filepath.Dir(path), filepath.Base(path), os.Getpid())
	_ = os.Remove(name) // of one who had this pid and was killed
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrPermission) && old != nil {
		return fill(path, os.O_TRUNC, content) // the file may be ours where the directory is not
	}
	if err != nil {
		return err
	}
	err = content(f)
	if err == nil && old != nil {
		err = f.Chmod(old.Mode().Perm())
	}
	err = cmp.Or(err, f.Close())
	if err == nil {
		err = os.Rename(name, path)
	}
	if err != nil {
		_ = os.Remove(name)
	}
	if errors.Is(err, unix.EBUSY) {
		return fill(path, os.O_TRUNC, content) // the file is mounted there
	}
	return err
}

// fill writes to what is there.
func fill(path string, flags int, content func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|flags, 0)
	if err != nil {
		return err
	}
	return cmp.Or(content(f), f.Close())
}

// follow finds what a path names, link by link, so that this can be replaced. Where everybody may
// make files, in a sticky directory, a stranger's link or pipe is refused: so does the kernel,
// for who opens or creates a file by such a path (fs.protected_symlinks, protected_fifos).
func follow(path string) (string, error) {
	given := path
	for range 40 {
		var at, dir unix.Stat_t
		if err := unix.Lstat(path, &at); err != nil || at.Mode&unix.S_IFMT == unix.S_IFREG {
			return path, nil
		}
		here := filepath.Dir(path)
		if err := unix.Stat(here, &dir); err != nil {
			return "", &fs.PathError{Op: "open", Path: here, Err: err}
		}
		const shared = unix.S_ISVTX | unix.S_IWOTH
		if dir.Mode&shared == shared && at.Uid != dir.Uid && int(at.Uid) != os.Geteuid() {
			return "", &fs.PathError{Op: "follow", Path: path, Err: unix.EACCES}
		}
		if at.Mode&unix.S_IFMT != unix.S_IFLNK {
			return path, nil
		}
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		path = target
		if !filepath.IsAbs(target) {
			path = here + "/" + target
		}
	}
	return "", &fs.PathError{Op: "open", Path: given, Err: unix.ELOOP}
}
