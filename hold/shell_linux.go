//go:build linux && !portable

package hold

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// reads reports whether a process has the other end of the pipe that is our standard
// output. The error says that its descriptors cannot be seen.
func reads(pid int) (bool, error) {
	name, err := os.Readlink("/proc/self/fd/1")
	if err != nil {
		return false, err
	}
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // it has ended
	}
	for _, e := range entries {
		link := dir + "/" + e.Name()
		its, err := os.Readlink(link)
		if err != nil || its != name {
			continue
		}
		// The mode of the link tells for what the descriptor is open.
		if info, err := os.Lstat(link); err == nil && info.Mode()&0o400 != 0 {
			return true, nil
		}
	}
	return false, err
}

// inheritNothing keeps what this process has inherited, except the first three descriptors, from
// those that it starts.
func inheritNothing() {
	if unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) != nil {
		inheritNone()
	}
}

// complain opens what a process has as its standard error, for a message; -1 if that cannot
// be. It waits for nobody.
func complain(pid int) (fd int) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/fd/2", unix.O_WRONLY|unix.O_APPEND|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}
