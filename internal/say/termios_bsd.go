//go:build unix && !linux

package say

import "golang.org/x/sys/unix"

const getTermios = unix.TIOCGETA
