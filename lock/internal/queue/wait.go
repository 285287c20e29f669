package queue

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dblock-dev/dblock/lock/internal/inode"
)

// pending is one flock(2) that blocks its thread. Only the lock itself can end it: whoever
// does not want it any more can but leave it behind. A process that lives long and
// tries often would collect threads that way, so the next one who wants the same lock
// goes on with what was left, at the place in the queue that it has got to.
type pending struct {
	file  *File // its own: the one that waits may give up
	how   How
	ended chan error
	state state // guarded by left

	interrupt syscall.Signal // by which the call can be ended; 0: by none
	thread    atomic.Int64   // that blocks in it
	unwanted  atomic.Bool
}

type state int

const (
	attended state = iota // somebody waits for it
	behind                // it was left behind
	over                  // the call has returned while it was attended
)

// kind is what a wait is good for.
type kind struct {
	id  inode.ID
	how How
}

// kind is known once the wait has begun: its file was asked for its identity.
func (w *pending) kind() kind { return kind{w.file.id, w.how} }

// left are the waits that were left behind, the oldest of a kind first. They are the
// process's and not a Lock's: so are the threads.
var left = pile{waits: map[kind][]*pending{}}

type pile struct {
	mu    sync.Mutex
	waits map[kind][]*pending
}

// remove takes a wait off the pile, which is locked.
func (p *pile) remove(w *pending) {
	k := w.kind()
	p.waits[k] = slices.DeleteFunc(p.waits[k], func(other *pending) bool { return other == w })
	if len(p.waits[k]) == 0 {
		delete(p.waits, k)
	}
}

// Wait waits for the lock, in the kernel's queue. When ctx ends first it
// returns ctx.Err() at once, and the File is closed to the caller: the
// wait goes on without it, until it is granted, or somebody else takes it up.
func (f *File) Wait(ctx context.Context, how How) error {
	w := f.takeUp(how)
	if w == nil {
		w = f.begin(how)
	}
	select {
	case err := <-w.ended:
		return f.wrap(err)
	case <-ctx.Done():
	}
	if w.end(impatience) { // check: leave-the-queue
		f.fd = -1
		return ctx.Err()
	}
	if w.leave() {
		f.fd = -1
		return ctx.Err()
	}
	// Granted at the same moment: then it is ours to release.
	<-w.ended
	f.discard()
	return ctx.Err()
}

// begin starts a wait on the file.
func (f *File) begin(how How) *pending {
	own := *f
	w := &pending{file: &own, how: how, ended: make(chan error, 1), interrupt: f.interrupt}
	go func() {
		err := w.block()
		if w.returned() {
			w.ended <- err
			return
		}
		w.discard()
	}()
	return w
}

// takeUp goes on with a wait for the same lock that was left behind, if there is one:
// its open file takes the place of f's.
func (f *File) takeUp(how How) *pending {
	if _, err := f.ID(); err != nil {
		return nil
	}
	left.mu.Lock()
	defer left.mu.Unlock()
	waits := left.waits[kind{f.id, how}]
	if len(waits) == 0 {
		return nil
	}
	w := waits[0]
	left.remove(w)
	w.state = attended
	w.file.Show(Waiting)
	unix.Close(f.fd)
	f.fd = w.file.fd
	return w
}

// leave leaves the wait behind; false says that it has just ended.
func (w *pending) leave() bool {
	left.mu.Lock()
	defer left.mu.Unlock()
	if w.state == over {
		return false
	}
	w.state = behind
	w.file.Hide(Waiting) // nobody is to count on it
	left.waits[w.kind()] = append(left.waits[w.kind()], w)
	return true
}

// returned notes that the call has returned; false says that nobody waits for it.
func (w *pending) returned() bool {
	left.mu.Lock()
	defer left.mu.Unlock()
	if w.state == behind {
		left.remove(w)
		return false
	}
	w.state = over
	return true
}

// discard releases what a wait that was left behind has been granted.
func (w *pending) discard() {
	if w.file.Discarded != nil {
		w.file.Discarded(w.file) // check: left-discarded: w.file.Discarded(w.file) -> _ = w
	}
	w.file.discard() // check: abandoned-wait: w.file.discard() -> _ = w
}

// block blocks its thread in flock. A signal handled on that thread would
// make the kernel forget its place in the queue and put it at the end, so it
// takes none but the one that is to end it; stop signals cannot be blocked.
func (w *pending) block() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	restore := blockSignals(w.interrupt) // check: blocked-signals: blockSignals(w.interrupt) -> func() {}
	defer restore()
	w.thread.Store(int64(threadID()))
	for {
		err := unix.Flock(w.file.fd, int(w.how))
		if err != unix.EINTR || w.unwanted.Load() {
			return err
		}
	}
}

// impatience is how long a call may take to end that was interrupted.
const impatience = time.Second

// end leaves the kernel's queue, which only a signal to the thread that waits there can
// do. It may come before the call has begun, so it is sent until that returns. It reports
// whether the wait is over; what was granted at the same moment is released.
func (w *pending) end(atMost time.Duration) bool {
	if w.interrupt == 0 {
		return false
	}
	w.unwanted.Store(true)
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	for end := time.Now().Add(atMost); time.Now().Before(end); {
		wake(int(w.thread.Load()), w.interrupt)
		select {
		case err := <-w.ended:
			if err == nil {
				w.discard()
			} else {
				w.file.discard()
			}
			return true
		case <-tick.C:
		}
	}
	return false
}
