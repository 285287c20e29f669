package lock

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dblock-dev/dblock/lock/internal/claim"
	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// Names are the files of one lock. All paths are absolute.
type Names struct {
	DB     string // the database, or a URL without what is secret in it; empty if only the lock file was named
	Notice string // the lock file
	State  string // the directory of the kernel's queue
}

// How the names of lock files that follow from a database's end, and those of all state directories.
const (
	noticeSuffix = ".lock"
	stateSuffix  = ".d"
)

// The files of the state directory.
const (
	roomName  = queue.Room
	spareName = claim.Spare
	tokenName = queue.Token
)

func turnstileName(p Priority) string { return queue.Turnstile(queue.Class(p)) }

func (n Names) room() string { return queue.RoomPath(n.State) }

// identifyRoom finds the room's inode in the state directory itself, not in one that
// somebody has linked in its place.
func (n Names) identifyRoom() (inode.ID, error) { return n.identify(roomName) }

// roomLocked reports whether somebody has the room for himself. It locks it for an instant.
func (n Names) roomLocked() bool {
	dir, err := inode.OpenDir(n.State)
	if err != nil {
		return false
	}
	defer dir.Close()
	room, err := queue.Existing(dir.At(roomName))
	if err != nil {
		return false
	}
	defer room.Close()
	free, err := room.Try(queue.Shared)
	return err == nil && !free
}

func (n Names) identify(name string) (inode.ID, error) {
	dir, err := inode.OpenDir(n.State)
	if err != nil {
		return inode.ID{}, err
	}
	defer dir.Close()
	return dir.At(name).Identify()
}

// Resolve finds the names for a database (a file or a directory, which need not
// exist) or, if lockFile is not empty, for that lock file. The path is resolved
// as the kernel does it: so all ways to spell a path, and all symbolic links to
// a database, share one lock. Hard links do not: nothing leads from one to
// another. The error is ErrName, or a *fs.PathError that tells which directory
// or link could not be followed.
//
// For a URL they are those of this machine's lock, which is before that of the engine; the error
// may be ErrNoEngine or an *EngineError then.
func Resolve(db, lockFile string) (Names, error) {
	if IsURL(db) {
		return resolveURL(db)
	}
	var n Names
	if db != "" {
		path, err := follow(db)
		if err != nil {
			return n, err
		}
		n.DB = path
	}
	if lockFile != "" {
		// What has the last name must be a regular file, so it is not followed.
		path, err := locate(lockFile)
		if err != nil {
			return n, err
		}
		n.Notice = path
	} else {
		s := stem(filepath.Base(n.DB))
		if db == "" || s == "" {
			return n, &fs.PathError{Op: "lock", Path: db, Err: ErrName}
		}
		n.Notice = filepath.Join(filepath.Dir(n.DB), "."+s+noticeSuffix)
	}
	n.State = n.Notice + stateSuffix
	return n, nil
}

// shared reports whether several machines share the lock.
func (n Names) shared() bool { return IsURL(n.DB) }

// Shown is what people call the lock: its lock file, or its URL.
func (n Names) Shown() string {
	if n.shared() {
		return n.DB
	}
	return n.Notice
}

// named reports whether the lock file was named by the user. Where its name was made
// of the database's nobody keeps a file of another kind.
func (n Names) named() bool {
	return n.DB == "" || n.DB == n.Notice || !n.shared() && n.Notice != filepath.Join(filepath.Dir(n.DB), "."+stem(filepath.Base(n.DB))+noticeSuffix)
}

// links is how many names the database has, if there are several.
func (n Names) links() int {
	info, err := os.Stat(n.DB)
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
		return int(st.Nlink)
	}
	return 0
}

// stem is the base name without leading dots and without its last extension.
func stem(base string) string {
	base = strings.TrimLeft(base, "./")
	if ext := filepath.Ext(base); ext != base {
		base = strings.TrimSuffix(base, ext)
	}
	return base
}

// follow finds what path names: the real path of its directory and its last
// name, and as long as that is a symbolic link, the same for its target. The last
// one need not exist.
func follow(path string) (string, error) {
	given := path
	for range 40 {
		here, err := locate(path)
		if err != nil {
			return "", err
		}
		target, err := os.Readlink(here)
		if errors.Is(err, syscall.EINVAL) || inode.IsGone(err) {
			return here, nil
		}
		if err != nil {
			return "", err
		}
		path = target
		if !filepath.IsAbs(target) {
			// Not joined, which would take a name and the .. behind it away: the
			// name can be a link.
			path = filepath.Dir(here) + "/" + target
		}
	}
	return "", &fs.PathError{Op: "resolve", Path: given, Err: syscall.ELOOP}
}

// locate is the real path of the directory in which path is, and the last name as
// it was given. Where there is no such directory it is path made absolute:
// nothing can be locked there, and whoever tries gets the error.
func locate(path string) (string, error) {
	dir, name := ".", strings.TrimRight(path, "/")
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		dir, name = name[:i+1], name[i+1:]
	}
	if name == "" || name == "." || name == ".." {
		dir, name = path, ""
	}
	real, err := realDir(dir)
	if inode.IsGone(err) {
		return filepath.Abs(path)
	}
	if err != nil {
		return "", err
	}
	return filepath.Join(real, name), nil
}
