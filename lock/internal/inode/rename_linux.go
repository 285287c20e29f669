//go:build linux && !portable

package inode

import "golang.org/x/sys/unix"

func exchange(a, b Name) error {
	return Retry(func() error { return unix.Renameat2(a.at(), a.name, b.at(), b.name, unix.RENAME_EXCHANGE) })
}

// moveNew renames without replacing.
func moveNew(from, to Name) error {
	return Retry(func() error { return unix.Renameat2(from.at(), from.name, to.at(), to.name, unix.RENAME_NOREPLACE) })
}
