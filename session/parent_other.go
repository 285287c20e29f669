//go:build unix && (!linux || portable)

package session

import (
	"time"

	"golang.org/x/sys/unix"
)

// ofThisSystem is what a session can do beyond that: those who wait do not show it here, and a
// lock ends with its session.
const ofThisSystem = ""

// watchParent tells of the end of the process that has started this one.
func watchParent() <-chan struct{} {
	gone := make(chan struct{})
	parent := unix.Getppid()
	if parent <= 1 {
		return gone
	}
	go func() {
		defer close(gone)
		for unix.Getppid() == parent {
			time.Sleep(parentEvery)
		}
	}()
	return gone
}
