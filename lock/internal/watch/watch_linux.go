// Package watch tells when something happens to single files: removed,
// replaced, written. It watches inodes, not directories, so that a
// busy database beside the lock file wakes nobody up.
package watch

import (
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Watcher tells one who waits what happens to his files. All watchers of a process share one
// inotify instance, of which a user has 128 as a rule.
//
// Closing the last one waits for a grace period of the kernel, 8 ms, also when a process
// exits: open one only for waits that are longer than that.
type Watcher struct {
	instance *instance
	news     chan struct{} // has room for one
	closed   chan struct{}

	// Guarded by the package's mutex:
	what  What
	files map[int32]What // what is to be told of each, by its watch descriptor
	over  bool
}

// What happened.
type What uint32

// Moved covers every change of the file's names: removal, renaming, replacement.
const (
	Moved   What = unix.IN_ATTRIB | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	Written What = unix.IN_MODIFY
)

// always is told whatever was asked for: the kernel has lost events, or watches no more.
const always What = unix.IN_Q_OVERFLOW | unix.IN_IGNORED | unix.IN_UNMOUNT

// instance is an inotify instance. Its watchers are guarded by the mutex.
type instance struct {
	file     *os.File
	watchers map[*Watcher]struct{}
}

var (
	mu     sync.Mutex
	common *instance // nil while nobody watches
)

// New opens a watcher. It fails when the system's limit is reached and no other watcher of this
// process is open.
func New() (*Watcher, error) {
	mu.Lock()
	defer mu.Unlock()
	if common == nil {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			return nil, os.NewSyscallError("inotify_init1", err)
		}
		common = &instance{os.NewFile(uintptr(fd), "inotify"), map[*Watcher]struct{}{}}
		go common.read()
	}
	w := &Watcher{instance: common, news: make(chan struct{}, 1), closed: make(chan struct{}), files: map[int32]What{}}
	common.watchers[w] = struct{}{}
	return w, nil
}

// read tells the watchers what happens, until the instance is closed.
func (i *instance) read() {
	var buf [4096]byte
	for {
		n, err := i.file.Read(buf[:])
		if err != nil {
			i.fail()
			return
		}
		for at := 0; at+unix.SizeofInotifyEvent <= n; {
			ev := (*unix.InotifyEvent)(unsafe.Pointer(&buf[at]))
			i.tell(ev.Wd, What(ev.Mask))
			at += unix.SizeofInotifyEvent + int(ev.Len)
		}
	}
}

// tell tells those who watch a file; what the kernel has lost may concern everybody. The mutex keeps
// an event from coming before Add has noted whose it is.
func (i *instance) tell(wd int32, what What) {
	mu.Lock()
	defer mu.Unlock()
	for w := range i.watchers {
		asked, watches := w.files[wd]
		if what&unix.IN_IGNORED != 0 {
			delete(w.files, wd)
		}
		if what&unix.IN_Q_OVERFLOW != 0 || watches && what&(asked|always) != 0 {
			w.what |= what
			w.wake()
		}
	}
}

// fail ends all waits: nothing will be told any more. The next watcher has another instance.
func (i *instance) fail() {
	mu.Lock()
	defer mu.Unlock()
	if common == i {
		common = nil
		_ = i.file.Close()
	}
	for w := range i.watchers {
		w.end()
	}
}

func (w *Watcher) wake() {
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// end ends a wait for good. The mutex is locked.
func (w *Watcher) end() {
	if !w.over {
		w.over = true
		close(w.closed)
	}
}

// Add watches the file that path names now, and replaces what was watched
// before of the same file.
func (w *Watcher) Add(path string, what What) error {
	mu.Lock()
	defer mu.Unlock()
	if w.over {
		return os.ErrClosed
	}
	var wd int
	var err error
	conn, cerr := w.instance.file.SyscallConn()
	if cerr != nil {
		return cerr
	}
	// Others may watch the same file for something else.
	cerr = conn.Control(func(fd uintptr) {
		wd, err = unix.InotifyAddWatch(int(fd), path, uint32(what)|unix.IN_DONT_FOLLOW|unix.IN_MASK_ADD)
	})
	if cerr != nil {
		return cerr
	}
	if err != nil {
		return os.NewSyscallError("inotify_add_watch", err)
	}
	w.files[int32(wd)] = what
	return nil
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
	case <-w.closed:
		return 0, os.ErrClosed
	case <-w.news:
	case <-late:
	}
	mu.Lock()
	defer mu.Unlock()
	what := w.what
	w.what = 0
	return what, nil
}

// Interrupt ends a Wait that is under way.
func (w *Watcher) Interrupt() { w.wake() }

// Close frees the watcher and ends a Wait that is under way.
func (w *Watcher) Close() {
	if file := w.leave(); file != nil {
		_ = file.Close()
	}
}

// leave takes the watcher from its instance, which is to be closed if it was the last.
func (w *Watcher) leave() *os.File {
	mu.Lock()
	defer mu.Unlock()
	i := w.instance
	w.end()
	if _, there := i.watchers[w]; !there {
		return nil
	}
	delete(i.watchers, w)
	if common != i {
		return nil // it has failed
	}
	if len(i.watchers) == 0 {
		common = nil
		return i.file
	}
	conn, err := i.file.SyscallConn()
	if err != nil {
		return nil
	}
	_ = conn.Control(func(fd uintptr) {
		for wd := range w.files {
			if !i.watches(wd) {
				_, _ = unix.InotifyRmWatch(int(fd), uint32(wd))
			}
		}
	})
	return nil
}

// watches reports whether anybody watches a file.
func (i *instance) watches(wd int32) bool {
	for w := range i.watchers {
		if _, yes := w.files[wd]; yes {
			return true
		}
	}
	return false
}
