package lock

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dblock-dev/dblock/lock/internal/notice"
)

// Names are the files of one lock. All paths are absolute.
type Names struct {
	DB     string // the database; empty if only the lock file was named
	Notice string // the lock file
	State  string // the directory of the kernel's queue
}

// The files of the state directory.
const (
	roomName  = "room"
	spareName = "notice"
	tokenName = "token"
)

func turnstileName(p Priority) string { return "turnstile-" + p.String() }

func (n Names) room() string { return filepath.Join(n.State, roomName) }

// identifyRoom finds the room's inode in the state directory itself, not in one that
// somebody has linked in its place.
func (n Names) identifyRoom() (notice.ID, error) { return n.identify(roomName) }

func (n Names) identify(name string) (notice.ID, error) {
	dir, err := notice.OpenDir(n.State)
	if err != nil {
		return notice.ID{}, err
	}
	defer dir.Close()
	return dir.At(name).Identify()
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
