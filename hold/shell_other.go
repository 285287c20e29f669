//go:build unix && !linux

package hold

import (
	"os"

	"golang.org/x/sys/unix"
)

// reads knows nothing here, and is not asked: the ancestors are not known either.
func reads(int) (bool, error) { return false, nil }

// shell is the process that a lock is held for.
type shell struct {
	pid   int
	queue int // a kqueue that tells of its end; -1 if there is none
}

// open gets hold of a process.
func open(pid int) (*shell, error) {
	s := &shell{pid: pid, queue: -1}
	queue, err := unix.Kqueue()
	if err != nil {
		return s, nil
	}
	unix.CloseOnExec(queue)
	var exit unix.Kevent_t
	unix.SetKevent(&exit, pid, unix.EVFILT_PROC, unix.EV_ADD)
	exit.Fflags = unix.NOTE_EXIT
	if _, err := unix.Kevent(queue, []unix.Kevent_t{exit}, nil, nil); err != nil {
		unix.Close(queue)
		if err == unix.ESRCH {
			return nil, os.NewSyscallError("kevent", err)
		}
		return s, nil
	}
	s.queue = queue
	return s, nil
}

// inherited is the process that the front has found.
func inherited(pid, _ int) *shell {
	s, err := open(pid)
	if err != nil {
		return &shell{pid: pid, queue: -1}
	}
	return s
}

// gone reports whether the process has ended.
func (s *shell) gone() bool { return unix.Kill(s.pid, 0) == unix.ESRCH }

// await waits until the process has ended, or the descriptor, which may be -1, has something
// to read or has lost its other end.
func (s *shell) await(fd int) {
	for !s.gone() {
		fds := []unix.PollFd{{Fd: int32(s.queue), Events: unix.POLLIN}, {Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, int(lookEvery.Milliseconds())); err == nil && n > 0 {
			return
		}
	}
}

// send sends the process a signal.
func (s *shell) send(sig unix.Signal) { _ = unix.Kill(s.pid, sig) }

// descriptor is not to be had here: a queue is not inherited.
func (s *shell) descriptor() int { return -1 }

func (s *shell) close() {
	if s.queue >= 0 {
		unix.Close(s.queue)
	}
}

func inheritNothing() { inheritNone() }

// complain is not to be had here.
func complain(int) (fd int) { return -1 }
