package hold

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/tree"
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

// shell is the process that a lock is held for, and no later one with its number.
type shell struct {
	pid     int
	fd      int    // a pidfd; -1 if the kernel has none, before 5.3
	started uint64 // clock ticks since boot
}

// open gets hold of a process.
func open(pid int) (*shell, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ENOSYS || err == unix.EPERM {
		fd, err = -1, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	p, _ := tree.Look(pid)
	return &shell{pid: pid, fd: fd, started: p.Started}, nil
}

// inherited is the process that the front has got hold of.
func inherited(pid, fd int) *shell {
	if fd >= 0 {
		unix.CloseOnExec(fd)
	}
	p, _ := tree.Look(pid)
	return &shell{pid: pid, fd: fd, started: p.Started}
}

// gone reports whether the process has ended.
func (s *shell) gone() bool {
	if s.fd >= 0 {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, 0)
		return n > 0
	}
	p, ok := tree.Look(s.pid)
	return !ok || p.Started != s.started
}

// await waits until the process has ended, or the descriptor, which may be -1, has something
// to read or has lost its other end.
func (s *shell) await(fd int) {
	for {
		ms := -1
		if s.fd < 0 {
			ms = int(lookEvery / time.Millisecond)
		}
		fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}, {Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, ms)
		if err == nil && n > 0 || s.gone() {
			return
		}
	}
}

// send sends the process a signal.
func (s *shell) send(sig unix.Signal) {
	if s.fd < 0 {
		if !s.gone() {
			_ = unix.Kill(s.pid, sig)
		}
		return
	}
	_ = unix.PidfdSendSignal(s.fd, sig, nil, 0)
}

// descriptor is an open file by which a keeper knows the process; -1 if there is none.
func (s *shell) descriptor() int { return s.fd }

func (s *shell) close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
	}
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
