package lock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"syscall"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/judge"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// Mode is whether a hold is alone or together with other readers.
type Mode int

// The modes.
const (
	Exclusive Mode = iota // alone
	Shared                // readers together, no writer
)

// String is the mode as the lock file spells it.
func (m Mode) String() string {
	if m == Shared {
		return notice.Shared
	}
	return notice.Exclusive
}

// Priority decides who goes first among those who wait. Within a class it is
// first come, first served; a higher class meets at most one waiter of a lower.
type Priority int

// The priorities.
const (
	Low    Priority = -1
	Normal Priority = 0
	High   Priority = 1
)

// String is the priority's name.
func (p Priority) String() string {
	switch {
	case p < Normal:
		return "low"
	case p > Normal:
		return "high"
	}
	return "normal"
}

// Stale is when a foreign lock file counts as abandoned.
type Stale int

const (
	// StaleDead: when its process is provably gone, or, where nothing can be
	// proved, when it is older than the stale timeout.
	StaleDead Stale = iota
	// StaleAge: whenever it is older than the stale timeout, which is the
	// TypeScript peers' own rule. It can take a lock from a live holder.
	StaleAge
)

// Defaults of the protocol, and special values of Options.Wait.
const (
	DefaultRetries      = 50
	DefaultRetryDelay   = 100 * time.Millisecond
	DefaultWait         = DefaultRetries * DefaultRetryDelay
	DefaultStaleTimeout = judge.PeersTimeout

	// MaxUnattended is how long a hold may go without heartbeat and healing.
	MaxUnattended = 20 * time.Millisecond

	Forever time.Duration = math.MaxInt64 // wait until the context ends
	NoWait  time.Duration = -1            // do not wait
)

// Options say how to lock. The zero value is an exclusive lock with the
// protocol's defaults.
type Options struct {
	LockFile string // the lock file's path, where it does not follow from the database's

	Mode     Mode
	Priority Priority

	// Wait is how long Acquire waits: 0 is DefaultWait; see NoWait and Forever.
	Wait time.Duration
	// RetryDelay is the first interval at which a foreign lock file is looked at
	// where the system cannot tell of changes; it grows. 0 is DefaultRetryDelay.
	RetryDelay time.Duration
	// StaleTimeout is the age from which a foreign lock may count as abandoned;
	// our own is refreshed six times within it, but at most every millisecond. Less
	// than a second is for tests. 0 is DefaultStaleTimeout.
	StaleTimeout time.Duration
	Stale        Stale

	Process string // label in the lock file, "dblock" by default
	Command string // base name of the program that works under the lock

	// Unattended leaves it to the caller to call Attend once the lock is had, within
	// MaxUnattended unless it is released by then. A hold that is shorter than that
	// costs no timer, and the process perhaps no thread.
	Unattended bool

	// Interrupt is a signal that the process does not use otherwise, with a handler that
	// does not restart system calls (no SA_RESTART; those of os/signal do). With it a wait
	// leaves the kernel's queue at once when its context ends. Without, its place stays
	// taken until the lock is granted, and is given up then, or taken up by the next Acquire.
	Interrupt syscall.Signal

	// OnWait, if it is not nil, is called once, when Acquire finds that it has
	// to wait.
	OnWait func()

	// Now is the wall clock; nil is time.Now. All waiting is measured on the
	// monotonic clock whatever Now says.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if o.Wait == 0 {
		o.Wait = DefaultWait
	}
	if o.RetryDelay <= 0 {
		o.RetryDelay = DefaultRetryDelay
	}
	if o.StaleTimeout <= 0 {
		o.StaleTimeout = DefaultStaleTimeout
	}
	if o.Process == "" {
		o.Process = "dblock"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Lock is one database's lock. Its methods may be called by several goroutines.
type Lock struct {
	db   string
	opts Options

	mu    sync.Mutex // guards hold and names; not held while waiting
	busy  bool       // Acquire is under way
	names Names
	hold  *hold

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
// *HeldError when the wait was over first, ctx's own when ctx ended, ErrUpgrade,
// ErrOrphan, or a *fs.PathError that tells what could not be done with which file.
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

func (l *Lock) acquire(ctx context.Context) (*hold, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for start, told := time.Now(), false; ; told = true {
		names, err := Resolve(l.db, l.opts.LockFile)
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		l.names = names
		l.mu.Unlock()

		a := newAttempt(l, names)
		a.start, a.told = start, told
		if h, err := a.lean(); h != nil || err != nil {
			return h, err
		}
		h, err := a.run(ctx)
		if err != nil {
			return nil, a.explain(ctx, err)
		}
		// While we waited, a symbolic link on the way to the database may have been
		// switched: the lock that we have is then another database's.
		if a.wait == nil || !l.moved(names) { // check: resolve-again: !l.moved(names) -> true
			return h, nil
		}
		if err := h.release(); err != nil && !errors.Is(err, ErrLost) {
			return nil, err
		}
	}
}

// moved reports whether the database has other names by now.
func (l *Lock) moved(names Names) bool {
	now, err := Resolve(l.db, l.opts.LockFile)
	return err != nil || now != names
}

// explain is the error with which Acquire ends.
func (a *attempt) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, errBusy) || errors.Is(err, context.DeadlineExceeded) {
		report, _ := inspect(a.names, a.opts)
		return &HeldError{Path: a.names.Notice, Report: report, Waited: time.Since(a.start)}
	}
	return err
}

// Release lets go. It is idempotent: without a hold it does nothing. A lock file
// that is not ours is never removed. The error is the *LostError if the lock had
// been lost, or a *fs.PathError if our lock file could not be removed; the lock
// is let go in either case.
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

func (l *Lock) current() *hold {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hold
}

// Lost is closed when the lock is lost. It is nil while the lock is not held.
func (l *Lock) Lost() <-chan struct{} {
	if h := l.current(); h != nil {
		return h.lostc
	}
	return nil
}

// Err is the *LostError of a hold that was lost, else nil.
func (l *Lock) Err() error {
	if h := l.current(); h != nil {
		return h.lostErr()
	}
	return nil
}

// Grant describes a hold at the moment it was had.
type Grant struct {
	Names
	Holder
	Waited    time.Duration
	Leaned    bool  // an enclosing dblock holds the lock; nothing was taken
	LeanedPID int   // that dblock
	Degraded  error // why the kernel's queue could not be used; nil normally
}

// Grant describes the present hold; ok is false if there is none.
func (l *Lock) Grant() (g Grant, ok bool) {
	h := l.current()
	if h == nil {
		return Grant{}, false
	}
	return h.grant, true
}

// Descriptor is the open file of the room, between 32 and 63 where those
// numbers are free. A child that inherits it keeps other dblocks out after this
// process has died. It is -1 where there is none.
func (l *Lock) Descriptor() int {
	h := l.current()
	if h == nil {
		return -1
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.room == nil {
		return -1
	}
	return h.room.Fd()
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
		h.look()
		return h.lostErr()
	}
	return nil
}

// Ending lets others know, while the lock is held, that the command has ended and what
// it has started is still being waited for.
func (l *Lock) Ending() {
	if h := l.current(); h != nil && h.room != nil {
		h.room.Show(queue.Ending)
	}
}

// Bequeath lets Release leave the lock, as if this process had been killed, to what has
// inherited the Descriptor, if something that lives has.
func (l *Lock) Bequeath() {
	if h := l.current(); h != nil {
		h.bequeath()
	}
}

// UnmarshalText accepts the names that String gives.
func (p *Priority) UnmarshalText(text []byte) error {
	for _, q := range []Priority{Low, Normal, High} {
		if string(text) == q.String() {
			*p = q
			return nil
		}
	}
	return fmt.Errorf("%q is not a priority: give low, normal or high", text)
}
