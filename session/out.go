package session

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// atOnce is how much a pipe takes without blocking when it says that it can be written
	// to (PIPE_BUF on Linux; a socket takes more).
	atOnce = 4096
	// most is how many bytes of answers may wait for their reader before no more requests
	// are read.
	most = 1 << 20
)

// writer writes lines to the program without depending on it: what it does not read at once
// waits, and is written by a goroutine. What cannot be written is dropped, since then
// nobody listens.
type writer struct {
	fd int

	mu      sync.Mutex
	waiting []byte // what is to be written next
	busy    bool   // the goroutine is at work
	dead    bool   // nobody will ever read
	idle    *sync.Cond
}

func newWriter(fd int) *writer {
	w := &writer{fd: fd}
	w.idle = sync.NewCond(&w.mu)
	return w
}

// write writes a line: with one system call and one look at the descriptor where its reader
// keeps up.
func (w *writer) write(line []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.dead:
		return
	case !w.busy && len(line) <= atOnce && w.ready(0):
		n, err := unix.Write(w.fd, line)
		if err == nil && n == len(line) {
			return
		}
		if err != nil && err != unix.EAGAIN && err != unix.EINTR {
			w.dead = true
			return
		}
		line = line[max(n, 0):]
	}
	w.waiting = append(w.waiting, line...)
	if !w.busy {
		w.busy = true
		go w.drain()
	}
}

// ready reports whether something can be written without blocking, within that many
// milliseconds; -1: for ever.
func (w *writer) ready(ms int) bool {
	p := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLOUT}}
	n, _ := unix.Poll(p, ms)
	return n == 1
}

// drain writes what waits.
func (w *writer) drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.waiting) > 0 && !w.dead {
		b := w.waiting
		w.waiting = nil
		w.mu.Unlock()
		ok := w.writeAll(b)
		w.mu.Lock()
		w.dead = w.dead || !ok
	}
	w.waiting, w.busy = nil, false
	w.idle.Broadcast()
}

func (w *writer) writeAll(b []byte) bool {
	for len(b) > 0 {
		n, err := unix.Write(w.fd, b)
		switch {
		case err == nil:
			b = b[n:]
		case err == unix.EAGAIN:
			w.ready(-1)
		case err != unix.EINTR:
			return false
		}
	}
	return true
}

// behind reports whether too much waits for its reader.
func (w *writer) behind() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting) > most
}

// flush waits until all is written, but for at most that long.
func (w *writer) flush(atMost time.Duration) {
	late := false
	timer := time.AfterFunc(atMost, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		late = true
		w.idle.Broadcast()
	})
	defer timer.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.busy && !late {
		w.idle.Wait()
	}
}
