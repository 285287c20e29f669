//go:build linux && !portable

package lock

import (
	"io/fs"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// realDir is the path of a directory as the kernel knows it, without symbolic
// links. The kernel is asked, however deep the directory is, in three calls, or
// in one for the working directory.
func realDir(dir string) (string, error) {
	if dir == "." {
		if wd, err := syscall.Getwd(); err == nil {
			return wd, nil
		}
		return walkDir(dir)
	}
	fd, err := openDir(dir)
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), buf)
	if err != nil || n == 0 || n == len(buf) || buf[0] != '/' {
		return walkDir(dir) // no /proc
	}
	return string(buf[:n]), nil
}

func openDir(dir string) (int, error) {
	for {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}
