package lock

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/dblock-dev/dblock/lock/internal/inode"
)

// walkDir is the real path of a directory, found component by component.
func walkDir(dir string) (string, error) {
	if !filepath.IsAbs(dir) {
		wd, err := syscall.Getwd()
		if err != nil {
			return "", &fs.PathError{Op: "getcwd", Path: ".", Err: err}
		}
		dir = wd + "/" + dir
	}
	real, err := filepath.EvalSymlinks(dir)
	var path *fs.PathError
	if err != nil && !errors.As(err, &path) && !inode.IsGone(err) {
		err = &fs.PathError{Op: "resolve", Path: dir, Err: syscall.ELOOP} // all that it says is "too many links"
	}
	return real, err
}
