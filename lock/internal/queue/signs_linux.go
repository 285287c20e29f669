//go:build linux && !portable

package queue

import "golang.org/x/sys/unix"

// A sign is a lock of one byte of the file, by the open file and not the process:
// like the lock itself it is there for as long as the file is open, in us or in
// what has inherited it, and whoever asks for it disturbs nobody. The kernel's own
// table, /proc/locks, says more, but to read it takes 8 to 15 ms, in which no
// process on the machine can lock anything.

// Show puts the sign up.
func (f *File) Show(s Sign) { f.sign(unix.F_RDLCK, int64(s), 1) }

// Hide takes the sign down.
func (f *File) Hide(s Sign) { f.sign(unix.F_UNLCK, int64(s), 1) }

func (f *File) hideAll() { f.sign(unix.F_UNLCK, 0, int64(signs)) }

// sign is for the good of others, so it does not matter to us if it fails.
func (f *File) sign(kind int16, from, length int64) {
	_ = unix.FcntlFlock(uintptr(f.fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: from, Len: length})
}

// Shown reports whether anybody else who has the file open shows the sign. known
// is false where the system cannot tell.
func (f *File) Shown(s Sign) (shown, known bool) {
	q := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(s), Len: 1}
	if err := unix.FcntlFlock(uintptr(f.fd), unix.F_OFD_GETLK, &q); err != nil {
		return false, false
	}
	return q.Type != unix.F_UNLCK, true
}
