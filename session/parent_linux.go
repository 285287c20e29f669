package session

import (
	"time"

	"golang.org/x/sys/unix"
)

// program is the process that has started this one.
type program struct {
	pid int // 0: it is none that can be told
	fd  int // refers to it and no later process; -1 if it cannot be had
}

// findProgram finds it. Opened too late, it may be another process with the same number.
func findProgram() *program {
	p := &program{pid: unix.Getppid(), fd: -1}
	if p.pid <= 1 {
		return &program{fd: -1} // of another pid namespace, or one that adopts: its end tells nothing
	}
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return p
	}
	if unix.Getppid() != p.pid {
		unix.Close(fd)
		return p
	}
	p.fd = fd
	return p
}

// watch tells of the program's end. It is the process that is watched, and not, as
// PR_SET_PDEATHSIG would, the thread that has started us. The input need not end with it:
// whatever else it has started may have inherited the pipe.
func (p *program) watch() <-chan struct{} {
	gone := make(chan struct{})
	if !p.known() {
		return gone
	}
	go func() {
		defer close(gone)
		if p.fd < 0 {
			lookForParent(p.pid)
			return
		}
		for {
			poll := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
			if n, err := unix.Poll(poll, -1); n == 1 || err != nil && err != unix.EINTR {
				break
			}
		}
	}()
	return gone
}

// signal sends it a signal; one that is stopped goes on to hear it.
func (p *program) signal(sig unix.Signal) {
	for _, sig := range []unix.Signal{sig, unix.SIGCONT} {
		if p.fd >= 0 {
			_ = unix.PidfdSendSignal(p.fd, sig, nil, 0)
		} else if unix.Getppid() == p.pid {
			_ = unix.Kill(p.pid, sig)
		}
	}
}

// lookForParent returns when this process has another parent.
func lookForParent(parent int) {
	for unix.Getppid() == parent {
		time.Sleep(parentEvery)
	}
}
