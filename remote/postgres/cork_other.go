//go:build !linux

package postgres

import "net"

// cork: the kernel keeps nothing here.
func cork(net.Conn) bool { return false }
