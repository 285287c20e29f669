package queue

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock/internal/inode"
)

// The state directory and its files appear with their final mode and owner, in one
// step: a dblock that is killed while it makes them must not leave anything that
// others cannot use.

// passing is in the names of files that have another one in a moment.
const passing = ".new-"

// Passing is what to append to the name of a file that is not to be left behind by one
// who is killed: no two are the same, and Sweep knows it.
func Passing() string { return fmt.Sprintf("%s%x", passing, rand.Uint64()) }

// perm is who may use the state files: exactly those who may write in the
// directory of the lock, since whoever can open a file can flock it.
type perm struct{ above unix.Stat_t }

// permFor derives it for a state directory.
func permFor(state string) (p perm, err error) {
	above := filepath.Dir(state)
	if err := unix.Stat(above, &p.above); err != nil {
		return p, &fs.PathError{Op: "stat", Path: above, Err: err}
	}
	return p, nil
}

// MakeDir makes the state directory with the rights of its parent and reports
// whether it was missing. The error is a *fs.PathError.
func MakeDir(path string) (made bool, err error) {
	p, err := permFor(path)
	if err != nil {
		return false, err
	}
	// The name is the same each time, so that the next one goes on with what a killed
	// one has left. What another user has left there is removed, and not used: if he is
	// just at it, he begins anew, and must not meet ours under that name.
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(filepath.Base(path)))
	common := filepath.Join(filepath.Dir(path), fmt.Sprintf(".dblock-%x", sum.Sum64()))
	for _, making := range []string{common, fmt.Sprintf("%s-%d", common, os.Geteuid()), fmt.Sprintf("%s-%x", common, rand.Uint64())} {
		if err := unix.Mkdir(making, 0o700); err != nil && err != unix.EEXIST {
			return false, &fs.PathError{Op: "mkdir", Path: path, Err: err}
		}
		id, err := p.finish(making)
		if err == nil {
			return settleDir(making, path, id)
		}
		if err == unix.ENOENT {
			return false, nil // another of our own has just finished it
		}
		_ = unix.Rmdir(making)
		if err != unix.EEXIST {
			return false, &fs.PathError{Op: "mkdir", Path: path, Err: err}
		}
	}
	return false, &fs.PathError{Op: "mkdir", Path: path, Err: unix.EEXIST}
}

// finish sets owner and mode of the directory at path. Between our mkdir and our
// open somebody may have put one of ours there that he would like to have: what is
// given away must be new. unix.EEXIST says that it is not.
func (p perm) finish(path string) (id inode.ID, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOTDIR || err == unix.ELOOP || err == unix.EACCES {
		return id, unix.EEXIST
	}
	if err != nil {
		return id, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return id, err
	}
	names, err := inode.List(fd)
	if err != nil {
		return id, err
	}
	if int(st.Uid) != os.Geteuid() || len(names) > 0 { // check: give-away-new-only
		return id, unix.EEXIST
	}
	p.chown(fd)
	_ = unix.Fchmod(fd, uint32(p.above.Mode)&0o1777|0o700)
	return inode.IDOf(&st), nil
}

// settleDir gives the finished directory its name.
func settleDir(making, path string, id inode.ID) (bool, error) {
	if now, err := inode.Identify(making); err != nil || now != id {
		return false, nil // somebody else is at it
	}
	err := inode.MoveDir(inode.Path(making), inode.Path(path))
	if err == nil {
		return true, nil
	}
	_ = unix.Rmdir(making)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return false, err
}

// create makes an empty state file; that it exists already is no error.
func create(name inode.Name) error {
	p, err := permFor(name.Dir().Path())
	if err != nil {
		return err
	}
	making := name.Beside(Passing())
	fd, err := making.Open(unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return &fs.PathError{Op: "create", Path: name.String(), Err: err}
	}
	p.apply(fd)
	unix.Close(fd)
	if err = inode.Move(making, name); err != nil {
		_ = making.Remove()
	}
	// Who was killed in here has left this name missing, so whoever makes it cleans up.
	Sweep(name.Dir())
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Sweep removes files with passing names. To one who is just at it this means to
// begin anew.
func Sweep(dir *inode.Dir) {
	names, _ := dir.Names()
	for _, name := range names {
		if strings.Contains(name, passing) {
			_ = dir.At(name).Remove()
		}
	}
}

// apply sets owner and mode of a file that was just created. Failing at either
// only keeps others out; their own error says so.
func (p perm) apply(fd int) {
	p.chown(fd)
	mode := uint32(0o600)
	if p.above.Mode&0o020 != 0 {
		mode |= 0o060
	}
	if p.above.Mode&0o002 != 0 {
		mode |= 0o006
	}
	if mode != 0o600 {
		_ = unix.Fchmod(fd, mode)
	}
}

func (p perm) chown(fd int) {
	uid := -1
	if p.above.Uid != 0 && os.Geteuid() == 0 {
		uid = int(p.above.Uid)
	}
	gid := -1
	if os.Getegid() != int(p.above.Gid) {
		gid = int(p.above.Gid)
	}
	if uid != -1 || gid != -1 {
		_ = unix.Fchown(fd, uid, gid)
	}
}
