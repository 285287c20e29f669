//go:build linux && !portable

package top

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pause is between two readings of what has happened: a database that is busy changes much more
// often than anybody can see.
const pause = 50 * time.Millisecond

// What is told of: names that come and go, and beside that, in the state directory, files that
// are written to. Who begins to wait, or gives up, opens or closes one; but so does who looks at
// the lock.
const watched = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW
const (
	replaced = unix.IN_MOVE_SELF | unix.IN_DELETE_SELF // the directory itself
	written  = unix.IN_MODIFY
	opened   = unix.IN_OPEN | unix.IN_CLOSE_WRITE
)

// beaten is the file in a state directory that a holder writes to every few seconds, to show that
// it lives: nothing is new then.
const beaten = "notice"

// watcher tells of changes to the directories of many locks.
type watcher struct {
	file *os.File
	fd   int

	mu   sync.Mutex
	subs map[int32][]sub
}

// sub is who is to be told of one directory.
type sub struct {
	names []string // only of these files; nil is of all
	of    *watches
	bell  bell
}

// newWatcher returns nil if this system lets nobody watch, which a nil watcher says as well.
func newWatcher() *watcher {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil
	}
	w := &watcher{file: os.NewFile(uintptr(fd), "inotify"), fd: fd, subs: map[int32][]sub{}}
	go w.read()
	return w
}

// watches is which directories of one lock are watched. It is the watcher's.
type watches struct {
	beside, state bool
	dev, ino      uint64 // of the one beside: another may come to be at its path
}

// add watches the directory of a lock and its state directory as far as they are not watched yet,
// and reports whether all that there is, is. The bell is rung, without waiting for anybody.
func (w *watcher) add(notice, state string, of *watches, b bell) bool {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var st unix.Stat_t
	if err := unix.Stat(filepath.Dir(notice), &st); err != nil || of.dev != uint64(st.Dev) || of.ino != st.Ino {
		w.drop(of)
		*of = watches{dev: uint64(st.Dev), ino: st.Ino}
	}
	if !of.beside {
		of.beside = w.watch(filepath.Dir(notice), watched|replaced|unix.IN_MASK_ADD, sub{[]string{filepath.Base(notice), filepath.Base(state)}, of, b}) == nil
	}
	if of.state {
		return of.beside
	}
	err := w.watch(state, watched|written, sub{nil, of, b})
	of.state = err == nil
	return of.beside && (err == nil || err == unix.ENOENT)
}

// hints says whether to tell of files that are opened: not of those that we open ourselves.
func (w *watcher) hints(state string, of *watches, b bell, yes bool) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	what := uint32(watched | written)
	if yes {
		what |= opened
	}
	if of.state {
		of.state = w.watch(state, what, sub{nil, of, b}) == nil
	}
}

func (w *watcher) watch(dir string, what uint32, s sub) error {
	wd, err := unix.InotifyAddWatch(w.fd, dir, what)
	if err != nil {
		return err
	}
	for _, have := range w.subs[int32(wd)] {
		if have.of == s.of && (have.names == nil) == (s.names == nil) {
			return nil
		}
	}
	w.subs[int32(wd)] = append(w.subs[int32(wd)], s)
	return nil
}

// forget ends what add has begun.
func (w *watcher) forget(of *watches) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drop(of)
}

func (w *watcher) drop(of *watches) {
	for wd, subs := range w.subs {
		var rest []sub
		for _, s := range subs {
			if s.of != of {
				rest = append(rest, s)
			}
		}
		if w.subs[wd] = rest; len(rest) == 0 {
			delete(w.subs, wd)
			_, _ = unix.InotifyRmWatch(w.fd, uint32(wd))
		}
	}
}

func (w *watcher) read() {
	var buf [16 << 10]byte
	for {
		n, err := w.file.Read(buf[:])
		if err != nil {
			return
		}
		w.mu.Lock()
		for at := 0; at+unix.SizeofInotifyEvent <= n; {
			ev := (*unix.InotifyEvent)(unsafe.Pointer(&buf[at]))
			name := buf[at+unix.SizeofInotifyEvent:][:ev.Len]
			if end := bytes.IndexByte(name, 0); end >= 0 {
				name = name[:end]
			}
			w.tell(ev, string(name))
			at += unix.SizeofInotifyEvent + int(ev.Len)
		}
		w.mu.Unlock()
		time.Sleep(pause)
	}
}

// tell wakes those whom an event concerns.
func (w *watcher) tell(ev *unix.InotifyEvent, name string) {
	if ev.Mask&unix.IN_Q_OVERFLOW != 0 { // nobody knows what else has happened
		for _, subs := range w.subs {
			for _, s := range subs {
				s.bell.ring(true)
			}
		}
		return
	}
	ended := ev.Mask&unix.IN_IGNORED != 0
	for _, s := range w.subs[ev.Wd] {
		switch {
		case ended && s.names == nil:
			s.of.state = false
		case ended:
			s.of.beside = false
		case s.names != nil && ev.Mask&replaced != 0: // the next look finds what is at the path now
		case !s.about(name), s.names == nil && name == beaten && ev.Mask&^unix.IN_MODIFY == 0:
			continue
		case s.names != nil && name == s.names[1]: // another state directory
			s.of.state = false
		}
		s.bell.ring(ev.Mask&opened == 0)
	}
	if ended {
		delete(w.subs, ev.Wd)
	}
}

func (s sub) about(name string) bool { return s.names == nil || slices.Contains(s.names, name) }
