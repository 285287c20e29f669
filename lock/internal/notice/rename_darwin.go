package notice

import "golang.org/x/sys/unix"

func exchange(a, b string) error {
	return retry(func() error { return unix.RenameatxNp(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_SWAP) })
}

// moveNew renames without replacing.
func moveNew(from, to string) error {
	return retry(func() error { return unix.RenameatxNp(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCL) })
}
