//go:build linux && !portable

package crew

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/internal/tree"
)

// Process is a process, and no later one with its number.
type Process struct {
	PID     int
	fd      int    // a pidfd; -1 if the kernel has none, before 5.3
	started uint64 // clock ticks since boot
}

// Open gets hold of a process.
func Open(pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ENOSYS || err == unix.EPERM {
		fd, err = -1, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	p, _ := tree.Look(pid)
	return &Process{PID: pid, fd: fd, started: p.Started}, nil
}

// Inherited is the process of which an open pidfd was inherited; fd is -1 if there is none.
func Inherited(pid, fd int) *Process {
	if fd >= 0 {
		unix.CloseOnExec(fd)
	}
	p, _ := tree.Look(pid)
	return &Process{PID: pid, fd: fd, started: p.Started}
}

// Gone reports whether the process has ended.
func (p *Process) Gone() bool {
	if p.fd >= 0 {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 0)
		return n > 0
	}
	now, ok := tree.Look(p.PID)
	return !ok || now.Started != p.started
}

// Await waits until the process has ended, or the descriptor, which may be -1, has something
// to read or has lost its other end.
func (p *Process) Await(fd int) {
	for {
		ms := -1
		if p.fd < 0 {
			ms = int(LookEvery / time.Millisecond)
		}
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}, {Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, ms)
		if err == nil && n > 0 || p.Gone() {
			return
		}
	}
}

// Send sends the process a signal.
func (p *Process) Send(sig unix.Signal) {
	if p.fd < 0 {
		if !p.Gone() {
			_ = unix.Kill(p.PID, sig)
		}
		return
	}
	_ = unix.PidfdSendSignal(p.fd, sig, nil, 0)
}

// Descriptor is an open file by which a keeper knows the process; -1 if there is none.
func (p *Process) Descriptor() int { return p.fd }

func (p *Process) Close() {
	if p.fd >= 0 {
		unix.Close(p.fd)
	}
}
