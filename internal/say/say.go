// Package say writes for people without depending on them: to a terminal that was
// halted with Ctrl-S, a pipe that nobody reads, a descriptor whose reader has gone.
// A process that attends to something must be neither held up nor ended by that.
package say

import (
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// most is how many messages wait for their reader; what comes then is dropped.
const most = 256

// Writer is an io.Writer that returns at once and never fails: a goroutine writes,
// started by the first message.
type Writer struct {
	fd int

	mu    sync.Mutex
	queue chan item // nil before the first message
}

// item is a message, or a mark that tells when it has come to the front.
type item struct {
	text    []byte
	reached chan<- struct{}
}

// To returns a Writer to the descriptor. It costs nothing until it is used.
func To(fd int) *Writer { return &Writer{fd: fd} }

// Write queues a message, which is written as a whole if the file's kind allows
// that. If too many wait already it is dropped. The error is always nil.
func (w *Writer) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queue == nil {
		w.queue = make(chan item, most)
		go write(w.fd, w.queue)
	}
	select {
	case w.queue <- item{text: append([]byte(nil), text...)}:
	default:
	}
	return len(text), nil
}

// Flush waits until what was queued before has been written or given up, but for at
// most that long. It reports whether that is so.
func (w *Writer) Flush(atMost time.Duration) bool {
	w.mu.Lock()
	queue := w.queue
	w.mu.Unlock()
	if queue == nil {
		return true
	}
	// Without a timer: the first one opens a descriptor, and there may be none.
	reached := make(chan struct{})
	mark := queue
	for end := time.Now().Add(atMost); ; rest() {
		select {
		case mark <- item{reached: reached}:
			mark = nil
		case <-reached:
			return true
		default:
			if time.Now().After(end) {
				return false
			}
		}
	}
}

// rest lets the writer have the processor, or a moment.
func rest() {
	runtime.Gosched()
	_, _ = unix.Poll(nil, 1)
}

// write writes on a thread of its own, which no signal of the terminal's stops. It
// never returns: with its thread the kernel would think that the parent of what the
// thread started has gone.
func write(fd int, queue <-chan item) {
	runtime.LockOSThread()
	spareTheWriter()
	for i := range queue {
		if i.reached != nil {
			close(i.reached)
			continue
		}
		writeAll(fd, i.text)
	}
}

// writeAll uses the system call: os.File would end the process by SIGPIPE where it is
// standard error that nobody reads any more, and puts a descriptor that others share
// into its poller. What cannot be written is given up.
func writeAll(fd int, text []byte) {
	for len(text) > 0 && mayWrite(fd) {
		n, err := unix.Write(fd, text)
		switch {
		case err == nil:
			text = text[n:]
		case err == unix.EAGAIN:
			// Whoever started us shares a descriptor that does not block.
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1)
		case err != unix.EINTR:
			return
		}
	}
}
