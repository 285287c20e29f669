//go:build unix && !linux

package crew

import (
	"os"

	"golang.org/x/sys/unix"
)

// Process is a process.
type Process struct {
	PID   int
	queue int // a kqueue that tells of its end; -1 if there is none
}

// Open gets hold of a process.
func Open(pid int) (*Process, error) {
	p := &Process{PID: pid, queue: -1}
	queue, err := unix.Kqueue()
	if err != nil {
		return p, nil
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
		return p, nil
	}
	p.queue = queue
	return p, nil
}

// Inherited is the process that who has started this one has found.
func Inherited(pid, _ int) *Process {
	p, err := Open(pid)
	if err != nil {
		return &Process{PID: pid, queue: -1}
	}
	return p
}

// Gone reports whether the process has ended.
func (p *Process) Gone() bool { return unix.Kill(p.PID, 0) == unix.ESRCH }

// Await waits until the process has ended, or the descriptor, which may be -1, has something
// to read or has lost its other end.
func (p *Process) Await(fd int) {
	for !p.Gone() {
		fds := []unix.PollFd{{Fd: int32(p.queue), Events: unix.POLLIN}, {Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, int(LookEvery.Milliseconds())); err == nil && n > 0 {
			return
		}
	}
}

// Send sends the process a signal.
func (p *Process) Send(sig unix.Signal) { _ = unix.Kill(p.PID, sig) }

// Descriptor is not to be had here: a queue is not inherited.
func (p *Process) Descriptor() int { return -1 }

func (p *Process) Close() {
	if p.queue >= 0 {
		unix.Close(p.queue)
	}
}
