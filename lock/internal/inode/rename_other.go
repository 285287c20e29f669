//go:build unix && !darwin && (!linux || portable)

package inode

import "golang.org/x/sys/unix"

// This system has neither form of rename: callers fall back to unlink and link.

func exchange(_, _ Name) error { return unix.ENOSYS }

func moveNew(_, _ Name) error { return unix.ENOSYS }
