package lock

import (
	"context"
	"sync"
	"time"
)

// Lock is one database's lock. Its methods may be called by several goroutines.
type Lock struct {
	db   string
	opts Options

	mu   sync.Mutex // guards hold and busy; not held while waiting
	busy bool       // Acquire is under way
	hold hold

	// seam is called at named steps so that tests can do what a foreign process
	// may do at that very moment.
	seam func(step string)
}

// New describes a lock on the database at path db. It does no input or output:
// whatever is wrong with the path is Acquire's to tell.
func New(db string, opts Options) *Lock {
	return &Lock{db: db, opts: opts.withDefaults()}
}

// Acquire gets the lock, waiting as Options.Wait and ctx allow. The error is a
// *HeldError when the wait was over first, ctx's own when ctx ended, a *DeadlockError,
// ErrUpgrade, ErrOrphan, or a *fs.PathError that tells what could not be done with which file.
//
// Under an enclosing dblock that holds the same lock (see docs/protocol.md,
// nested holds) nothing is taken: the enclosing lock is used.
func (l *Lock) Acquire(ctx context.Context) error {
	l.mu.Lock()
	if l.hold != nil || l.busy {
		l.mu.Unlock()
		return ErrAcquired
	}
	l.busy = true
	l.mu.Unlock()

	h, err := l.acquire(ctx)

	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = false
	if err != nil {
		return err
	}
	l.hold = h
	return nil
}

// Release ends the hold. It is idempotent: without a hold it does nothing. A lock file
// that is not ours is never removed. The error is the *LostError if the lock had
// been lost, or a *fs.PathError if our lock file could not be removed; the lock
// is released in either case.
func (l *Lock) Release() error {
	l.mu.Lock()
	h := l.hold
	l.hold = nil
	l.mu.Unlock()
	if h == nil {
		return nil
	}
	return h.release()
}

// With runs fn under the lock. The context of fn is cancelled, with a *LostError
// as its cause, when the lock is lost. The error is Acquire's, fn's, or Release's.
func With(ctx context.Context, db string, opts Options, fn func(ctx context.Context) error) (err error) {
	l := New(db, opts)
	if err := l.Acquire(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		select {
		case <-l.Lost():
			cancel(l.Err())
		case <-done:
		}
	}()
	defer func() {
		close(done)
		cancel(nil)
		if rerr := l.Release(); err == nil {
			err = rerr
		}
	}()
	return fn(ctx)
}

func (l *Lock) current() hold {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hold
}

// Lost is closed when the lock is lost. It is nil while the lock is not held.
func (l *Lock) Lost() <-chan struct{} {
	if h := l.current(); h != nil {
		return h.lost()
	}
	return nil
}

// Err is the *LostError of a hold that was lost, else nil.
func (l *Lock) Err() error {
	if h := l.current(); h != nil {
		return h.err()
	}
	return nil
}

// Grant describes a hold at the moment when it was acquired.
type Grant struct {
	Names     Names
	Holder    Holder
	Waited    time.Duration
	Leaned    bool  // an enclosing dblock holds the lock; nothing was taken
	LeanedPID int   // that dblock
	Degraded  error // why the kernel's queue could not be used; nil normally
}

// Grants is the Grant of the present hold, or empty: a Lock is like a Set of one.
func (l *Lock) Grants() []Grant {
	if g, ok := l.Grant(); ok {
		return []Grant{g}
	}
	return nil
}

// Grant describes the present hold; ok is false if there is none.
func (l *Lock) Grant() (g Grant, ok bool) {
	h := l.current()
	if h == nil {
		return Grant{}, false
	}
	return h.granted(), true
}

// Descriptors is the open file of the room, between 32 and 63 where those
// numbers are free, and an engine's connection. A child that inherits them keeps other dblocks
// out after this process has died. It is empty where there is none.
func (l *Lock) Descriptors() []int {
	if h := l.current(); h != nil {
		return h.descriptors()
	}
	return nil
}

// Attend starts the heartbeat and the watch over a hold that was acquired with
// Options.Unattended.
func (l *Lock) Attend() {
	if h := l.current(); h != nil {
		h.attend()
	}
}

// Suspend prepares for a stop of this process: it dates the lock file a day
// ahead, so that no peer takes it for stale meanwhile.
func (l *Lock) Suspend() {
	if h := l.current(); h != nil {
		h.suspend()
	}
}

// Resume is to be called after a stop, or whenever the truth is wanted at once:
// it checks that the lock is still ours and refreshes it.
func (l *Lock) Resume() {
	if h := l.current(); h != nil {
		h.resume()
	}
}

// Check looks at once whether the lock is still ours, and heals what can be healed. The
// error is the *LostError of a hold that was lost.
func (l *Lock) Check() error {
	if h := l.current(); h != nil {
		h.check()
		return h.err()
	}
	return nil
}

// Wanted reports whether somebody else waits for the lock: another dblock, where the system
// tells (Linux), or a peer that was seen to poll for it. It costs a microsecond. Under an
// enclosing dblock's hold, which is not ours to hand over, it is false.
func (l *Lock) Wanted() bool {
	h := l.current()
	return h != nil && h.wanted()
}

// Ending lets others know, while the lock is held, that the command has ended and what
// it has started is still being waited for.
func (l *Lock) Ending() {
	if h := l.current(); h != nil {
		h.ending()
	}
}

// Bequeath lets Release leave the lock, as if this process had been killed, to what has
// inherited a descriptor, if something that lives has.
func (l *Lock) Bequeath() {
	if h := l.current(); h != nil {
		h.bequeath()
	}
}
