//go:build linux && !portable

// Package watch tells when something happens to single files: removed,
// replaced, written. It watches inodes, so that a busy database beside the lock
// file wakes nobody up; and directories only for a file that is not there yet.
package watch

import (
	"bytes"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What happened.
type What uint32

// Moved covers every change of the file's names: removal, renaming, replacement. Closed is
// told when one who could write to it has closed it, which the end of a process does for it.
const (
	Moved   What = unix.IN_ATTRIB | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	Written What = unix.IN_MODIFY
	Closed  What = unix.IN_CLOSE_WRITE
	created What = unix.IN_CREATE | unix.IN_MOVED_TO
)

// Watcher watches some files.
//
// The first of a process opens its inotify instance, and the last closes it. That waits for
// a grace period of the kernel, 8 ms, also when a process exits: open one only for waits
// that are longer than that.
type Watcher struct {
	on     *instance
	events chan struct{} // has an element when there is something in happened, or stopped is set

	// Guarded by all.mu:
	happened What
	files    map[int]What   // by watch descriptor
	awaited  map[int]string // the name that is to appear in a directory
	closed   bool
}

// instance is an inotify instance, with a goroutine that reads it. A user may have no more
// than 128 of them, and a program may hold several hundred locks: so all watchers of a process
// share one. Of a file that several of them watch it has one watch.
type instance struct {
	fd    int // of file, while there is a watcher
	file  *os.File
	users map[int][]*Watcher // by watch descriptor
	all   map[*Watcher]bool
}

// all is the process's instance; nil if nobody watches.
var all struct {
	mu sync.Mutex
	on *instance
}

// New opens a watcher. It fails when the system's limit is reached.
func New() (*Watcher, error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.on == nil {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			return nil, os.NewSyscallError("inotify_init1", err)
		}
		all.on = &instance{fd, os.NewFile(uintptr(fd), "inotify"), map[int][]*Watcher{}, map[*Watcher]bool{}}
		go all.on.read()
	}
	w := &Watcher{on: all.on, events: make(chan struct{}, 1), files: map[int]What{}, awaited: map[int]string{}}
	w.on.all[w] = true
	return w, nil
}

// Add watches the file that path names now, and replaces what was watched
// before of the same file.
func (w *Watcher) Add(path string, what What) error {
	return w.add(path, what, unix.IN_DONT_FOLLOW, "")
}

// AddName watches a directory until a file of that name appears there. What else appears
// wakes nobody up but the one that reads the events of this process.
func (w *Watcher) AddName(dir, name string) error {
	return w.add(dir, created, unix.IN_ONLYDIR, name)
}

func (w *Watcher) add(path string, what What, how uint32, name string) error {
	all.mu.Lock()
	defer all.mu.Unlock()
	if w.closed {
		return os.ErrClosed
	}
	// An event that is read before this is done waits for the mutex.
	wd, err := unix.InotifyAddWatch(w.on.fd, path, uint32(what)|how|unix.IN_MASK_ADD)
	if err != nil {
		return os.NewSyscallError("inotify_add_watch", err)
	}
	if _, known := w.files[wd]; !known {
		w.on.users[wd] = append(w.on.users[wd], w)
	}
	w.files[wd] = what
	if name != "" {
		w.awaited[wd] = name
	}
	return nil
}

// Forget ends what was added. What has happened until now is still told.
func (w *Watcher) Forget() {
	all.mu.Lock()
	defer all.mu.Unlock()
	w.forget()
}

// forget does that. The mutex is locked.
func (w *Watcher) forget() {
	for wd := range w.files {
		w.on.leave(wd, w)
	}
	clear(w.files)
	clear(w.awaited)
}

// Wait returns what happened since the last call, or 0 when the deadline came
// first. Close ends it with an error.
func (w *Watcher) Wait(deadline time.Time) (What, error) {
	var late <-chan time.Time
	if !deadline.IsZero() {
		t := time.NewTimer(time.Until(deadline))
		defer t.Stop()
		late = t.C
	}
	select {
	case <-w.events:
	case <-late:
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	if w.closed {
		return 0, os.ErrClosed
	}
	what := w.happened
	w.happened = 0
	return what, nil
}

// wake ends a Wait. The mutex is locked.
func (w *Watcher) wake() {
	select {
	case w.events <- struct{}{}:
	default:
	}
}

// Interrupt ends a Wait that is under way.
func (w *Watcher) Interrupt() { w.wake() }

// Close frees the watcher and ends a Wait that is under way.
func (w *Watcher) Close() {
	if w.leaveAll() {
		_ = w.on.file.Close()
	}
}

// leaveAll ends all of a watcher's parts, and reports whether it was the last.
func (w *Watcher) leaveAll() bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	if w.closed {
		return false
	}
	w.closed = true
	w.wake()
	w.forget()
	delete(w.on.all, w)
	if len(w.on.all) > 0 {
		return false
	}
	all.on = nil
	return true
}

// leave ends a watcher's part in a watch.
func (on *instance) leave(wd int, w *Watcher) {
	for i, other := range on.users[wd] {
		if other == w {
			on.users[wd] = append(on.users[wd][:i:i], on.users[wd][i+1:]...)
			break
		}
	}
	if len(on.users[wd]) == 0 {
		delete(on.users, wd)
		_, _ = unix.InotifyRmWatch(on.fd, uint32(wd))
	}
}

// read hands out what happens, until the instance is closed.
func (on *instance) read() {
	var buf [4096]byte
	for {
		n, err := on.file.Read(buf[:])
		if err != nil {
			return
		}
		all.mu.Lock()
		for at := 0; at+unix.SizeofInotifyEvent <= n; {
			ev := (*unix.InotifyEvent)(unsafe.Pointer(&buf[at]))
			name := buf[at+unix.SizeofInotifyEvent:][:ev.Len]
			on.tell(int(ev.Wd), What(ev.Mask), string(bytes.TrimRight(name, "\x00")))
			at += unix.SizeofInotifyEvent + int(ev.Len)
		}
		all.mu.Unlock()
	}
}

// tell hands out one event; name is that of the file in a directory.
func (on *instance) tell(wd int, what What, name string) {
	if what&unix.IN_Q_OVERFLOW != 0 { // nobody knows what has happened to which file
		for w := range on.all {
			w.happened |= what
			w.wake()
		}
		return
	}
	for _, w := range on.users[wd] {
		// Others may watch more of the same file. That a watch has ended concerns all.
		mine := what & (w.files[wd] | unix.IN_IGNORED)
		if awaited := w.awaited[wd]; awaited != "" && awaited != name {
			mine &^= created
		}
		if mine != 0 {
			w.happened |= mine
			w.wake()
		}
		if what&unix.IN_IGNORED != 0 {
			delete(w.files, wd)
			delete(w.awaited, wd)
		}
	}
	if what&unix.IN_IGNORED != 0 {
		delete(on.users, wd)
	}
}
