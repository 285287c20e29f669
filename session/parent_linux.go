//go:build linux && !portable

package session

import (
	"time"

	"golang.org/x/sys/unix"
)

// ofThisSystem is what a session can do beyond what it can elsewhere.
const ofThisSystem = `,"wanted","witness"`

// watchParent tells of the end of the process that has started this one. It is the process
// that is watched, and not, as PR_SET_PDEATHSIG would, the thread that has started us. The
// input need not end with it: whatever else it has started may have inherited the pipe.
func watchParent() <-chan struct{} {
	gone := make(chan struct{})
	parent := unix.Getppid()
	if parent <= 1 {
		return gone // of another pid namespace, or one that adopts: its end tells nothing
	}
	fd, err := unix.PidfdOpen(parent, 0)
	go func() {
		defer close(gone)
		// Opened too late, it may be another process with the same number.
		if err != nil || unix.Getppid() != parent {
			lookForParent(parent)
			return
		}
		for {
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if n, err := unix.Poll(p, -1); n == 1 || err != nil && err != unix.EINTR {
				break
			}
		}
		unix.Close(fd)
	}()
	return gone
}

// lookForParent returns when this process has another parent.
func lookForParent(parent int) {
	for unix.Getppid() == parent {
		time.Sleep(parentEvery)
	}
}
