//go:build unix && (!linux || portable)

package crew

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/end"
)

// Process is a process.
type Process struct {
	PID   int
	ended int // a descriptor that tells of its end; -1 if there is none
}

// Open gets hold of a process.
func Open(pid int) (*Process, error) {
	ended, err := end.Of(pid)
	if err == unix.ESRCH {
		return nil, os.NewSyscallError("kevent", err)
	}
	return &Process{PID: pid, ended: ended}, nil
}

// Inherited is the process that who has started this one has found.
func Inherited(pid, _ int) *Process {
	p, err := Open(pid)
	if err != nil {
		return &Process{PID: pid, ended: -1}
	}
	return p
}

// Gone reports whether the process has ended.
func (p *Process) Gone() bool {
	return p.ended >= 0 && end.Come(p.ended) || unix.Kill(p.PID, 0) == unix.ESRCH
}

// Await waits until the process has ended, or the descriptor, which may be -1, has something
// to read or has lost its other end.
func (p *Process) Await(fd int) {
	for !p.Gone() {
		fds := []unix.PollFd{{Fd: int32(p.ended), Events: unix.POLLIN}, {Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, int(LookEvery.Milliseconds())); err == nil && n > 0 {
			return
		}
	}
}

// Send sends the process a signal.
func (p *Process) Send(sig unix.Signal) {
	if !p.Gone() {
		_ = unix.Kill(p.PID, sig)
	}
}

// Descriptor is not to be had here: what tells of the end is not inherited.
func (p *Process) Descriptor() int { return -1 }

func (p *Process) Close() {
	if p.ended >= 0 {
		unix.Close(p.ended)
	}
}
