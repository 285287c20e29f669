// Package watch tells when something happens to single files: removed,
// replaced, written. It watches inodes, not directories, so that a
// busy database beside the lock file wakes nobody up.
package watch

import (
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Watcher is an inotify instance.
//
// Closing one waits for a grace period of the kernel, 8 ms, also when a process
// exits: open one only for waits that are longer than that.
type Watcher struct{ file *os.File }

// What happened.
type What uint32

// Moved covers every change of the file's names: removal, renaming, replacement.
const (
	Moved   What = unix.IN_ATTRIB | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	Written What = unix.IN_MODIFY
)

// New opens a watcher. It fails when the system's limit is reached.
func New() (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	return &Watcher{os.NewFile(uintptr(fd), "inotify")}, nil
}

// Add watches the file that path names now, and replaces what was watched
// before of the same file.
func (w *Watcher) Add(path string, what What) error {
	// Not on the bare number: Close may come in between, and the number be
	// somebody else's by then.
	conn, err := w.file.SyscallConn()
	if err != nil {
		return err
	}
	cerr := conn.Control(func(fd uintptr) {
		_, err = unix.InotifyAddWatch(int(fd), path, uint32(what)|unix.IN_DONT_FOLLOW)
	})
	if cerr != nil {
		return cerr
	}
	return os.NewSyscallError("inotify_add_watch", err)
}

// Wait returns what happened since the last call, or 0 when the deadline came
// first. Close ends it with an error.
func (w *Watcher) Wait(deadline time.Time) (What, error) {
	if err := w.file.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	var buf [4096]byte
	n, err := w.file.Read(buf[:])
	if os.IsTimeout(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var what What
	for at := 0; at+unix.SizeofInotifyEvent <= n; {
		ev := (*unix.InotifyEvent)(unsafe.Pointer(&buf[at]))
		what |= What(ev.Mask)
		at += unix.SizeofInotifyEvent + int(ev.Len)
	}
	return what, nil
}

// Interrupt ends a Wait that is under way.
func (w *Watcher) Interrupt() { _ = w.file.SetReadDeadline(time.Unix(1, 0)) }

// Close frees the watcher and ends a Wait that is under way.
func (w *Watcher) Close() { _ = w.file.Close() }
