package lock

import (
	"fmt"
	"math"
	"syscall"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/judge"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
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
func (p Priority) String() string { return queue.Class(p).String() }

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
	DefaultStaleTimeout = judge.PeersTimeout // 30 s

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
	Command string // base name of the program that works under the lock; of For's, by default
	Info    string // for people, in the lock file: a reason, a ticket, an address; at most 160 bytes

	// For is the pid of the process that works under the lock, where that is neither this
	// one nor started by this one; 0 if it is. A hold that encloses that process is used, as
	// if it had asked for the lock itself.
	For int

	// Unattended leaves it to the caller to call Attend once the lock is acquired, within
	// MaxUnattended unless it is released by then. A hold that is shorter than that
	// costs no timer, and the process perhaps no thread.
	Unattended bool

	// Grace is how long what works under the lock may go on after its loss was told. An engine that
	// knows in time tells that much earlier. 0 is DefaultKillAfter, less is nothing.
	Grace time.Duration
	// TTL is how long an engine with leases keeps a lock whose holder does not answer. 0 is the
	// engine's default.
	TTL time.Duration

	// Interrupt is a signal that the process does not use otherwise, with a handler that
	// does not restart system calls (no SA_RESTART; those of os/signal do). With it a wait
	// leaves the kernel's queue at once when its context ends. Without, its place stays
	// taken until the lock is granted, and is given up then, or taken up by the next Acquire.
	Interrupt syscall.Signal

	// OnWait, if it is not nil, is called once, when Acquire finds that it has
	// to wait.
	OnWait func()

	// OnDelay, if it is not nil, is called when Release has to wait before it is over: for a
	// successor that is slow to come, or while the path is left free for peers. It may be
	// called more than once.
	OnDelay func()

	// Outcome, if it is not nil, tells Release how the work under the lock has ended, for the
	// history.
	Outcome func() Outcome
	// NoHistory keeps this lock's events out of the history in its state directory; see
	// package history. A line is written at Release, which takes some 25 microseconds.
	NoHistory bool

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
	if o.Grace == 0 {
		o.Grace = DefaultKillAfter
	}
	if o.Process == "" {
		o.Process = "dblock"
	}
	if o.OnDelay == nil {
		o.OnDelay = func() {}
	}
	if o.For != 0 && o.Command == "" {
		o.Command = proc.Program(o.For)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}
