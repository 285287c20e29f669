package postgres

import (
	"net"

	"golang.org/x/sys/unix"
)

// cork has the kernel keep what is written, until the connection is closed, or for 200 ms (tcp(7), TCP_CORK). It reports
// whether it does.
func cork(c net.Conn) bool {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return false
	}
	cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, 1) })
	return cerr == nil && err == nil
}
