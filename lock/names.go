package lock

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Names are the files of one lock. All paths are absolute.
type Names struct {
	DB     string // the database; empty if only the lock file was named
	Notice string // the lock file
	State  string // the directory of the kernel's queue
}

func (n Names) room() string  { return filepath.Join(n.State, "room") }
func (n Names) spare() string { return filepath.Join(n.State, "notice") }
func (n Names) token() string { return filepath.Join(n.State, "token") }

func (n Names) turnstile(p Priority) string {
	return filepath.Join(n.State, "turnstile-"+p.String())
}

// Resolve finds the names for a database (a file or a directory, which need not
// exist) or, if lockFile is not empty, for that lock file. A database that is a
// symbolic link is locked under the name of what it points to, so that all its
// names share one lock.
func Resolve(db, lockFile string) (Names, error) {
	var n Names
	if db != "" {
		path, err := follow(db)
		if err != nil {
			return n, err
		}
		n.DB = path
	}
	if lockFile != "" {
		path, err := filepath.Abs(lockFile)
		if err != nil {
			return n, err
		}
		n.Notice = path
	} else {
		s := stem(filepath.Base(n.DB))
		if db == "" || s == "" {
			return n, &fs.PathError{Op: "lock", Path: db, Err: ErrName}
		}
		n.Notice = filepath.Join(filepath.Dir(n.DB), "."+s+".lock")
	}
	n.State = n.Notice + ".d"
	return n, nil
}

// stem is the base name without leading dots and without its last extension.
func stem(base string) string {
	base = strings.TrimLeft(base, "./")
	if ext := filepath.Ext(base); ext != base {
		base = strings.TrimSuffix(base, ext)
	}
	return base
}

// follow makes path absolute and resolves its last component as long as that is
// a symbolic link, even if it points to nothing.
func follow(path string) (string, error) {
	given := path
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	for range 40 {
		target, err := os.Readlink(path)
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return path, nil
		}
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = filepath.Clean(target)
	}
	return "", &fs.PathError{Op: "resolve", Path: given, Err: syscall.ELOOP}
}
