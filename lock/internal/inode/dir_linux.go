//go:build linux && !portable

package inode

import "golang.org/x/sys/unix"

// searchOnly opens a directory for the names in it, as a path does: without the
// right to list it.
const searchOnly = unix.O_PATH
