//go:build linux && portable

package say

import "golang.org/x/sys/unix"

const getTermios = unix.TCGETS
