//go:build linux && !portable

package session

import "golang.org/x/sys/unix"

// hangUp is the event by which a socket tells that its other end will send nothing more.
const hangUp = unix.POLLRDHUP
