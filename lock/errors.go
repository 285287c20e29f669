package lock

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/judge"
	"github.com/dblock-dev/dblock/lock/internal/notice"
)

// The sentinels that errors of this package unwrap to.
var (
	// ErrHeld: somebody else has the lock, and it did not become free in time.
	ErrHeld = errors.New("the lock is held")
	// ErrLost: the lock was taken away while it was held.
	ErrLost = errors.New("the lock was lost")
	// ErrUpgrade: an exclusive lock was asked for under a shared one of an
	// enclosing dblock. Waiting for it could only be a deadlock.
	ErrUpgrade = errors.New("an exclusive lock cannot be acquired inside a shared one")
	// ErrOrphan: the enclosing dblock was killed, and what it left running, this
	// process included, keeps its lock. Waiting for it would be waiting for itself.
	ErrOrphan = errors.New("the enclosing dblock was killed, and what it ran, this included, still has its lock")
	// ErrDeadlock: the lock is held by somebody who waits, perhaps by way of others, for a
	// lock that this process runs under.
	ErrDeadlock = errors.New("deadlock")
	// ErrNotRegular: something that is not a regular file is where the lock
	// file should be. It is neither read nor removed.
	ErrNotRegular = notice.ErrNotRegular
	// ErrNotLockFile: what is where the lock file should be is another file, perhaps
	// the database itself. It is never removed.
	ErrNotLockFile = judge.ErrNotLockFile
	// ErrAcquired: this Lock is held already.
	ErrAcquired = errors.New("this Lock is acquired already")
	// ErrName: the database has no name to derive a lock file from.
	ErrName = errors.New("no lock file name can be made of this name")
)

// HeldError says who has the lock. It unwraps to ErrHeld.
type HeldError struct {
	Path   string        // the lock file
	Report *Report       // what was found when the wait ended; may be nil
	Waited time.Duration // how long Acquire waited; 0 if it was not to wait
}

func (e *HeldError) Error() string {
	if e.Report == nil || e.Report.Holder == nil {
		return fmt.Sprintf("%s is locked", e.Path)
	}
	h := e.Report.Holder
	return fmt.Sprintf("%s is locked by %q (pid %d on %q)", e.Path, h.Process, h.PID, h.Host)
}

// Unwrap returns ErrHeld.
func (e *HeldError) Unwrap() error { return ErrHeld }

// DeadlockError says who waits for whom. It unwraps to ErrDeadlock and to ErrHeld.
type DeadlockError struct {
	Path   string // the lock file of the lock that was waited for
	Waited time.Duration
	// Cycle is who holds what the one before waits for, and the last one waits for what the
	// first one holds. The first one is this process, with the hold that it runs under.
	Cycle []Deadlocked
}

// Deadlocked is a hold of one database, under which another one is waited for. The databases
// are paths; where one cannot be known it is that of its lock file, or empty.
type Deadlocked struct {
	Holder Process // the process that has the lock, as in a Report
	Holds  string
	Waits  string
}

func (e *DeadlockError) Error() string {
	var b strings.Builder
	b.WriteString("deadlock")
	for i, d := range e.Cycle {
		sep, who := "; ", fmt.Sprintf("process %d", d.Holder.PID)
		if i == 0 {
			sep, who = ": ", "this process"
		}
		fmt.Fprintf(&b, "%s%s holds %s and waits for %s", sep, who, d.Holds, d.Waits)
	}
	return b.String()
}

// Unwrap returns ErrDeadlock and ErrHeld.
func (e *DeadlockError) Unwrap() []error { return []error{ErrDeadlock, ErrHeld} }

// LostError says what became of a lock that was held. It unwraps to ErrLost.
type LostError struct {
	Path   string  // the lock file
	Reason string  // what was seen
	Holder *Holder // the new owner, if there is one
}

func (e *LostError) Error() string {
	if e.Holder == nil {
		return fmt.Sprintf("the lock %s was lost: %s", e.Path, e.Reason)
	}
	return fmt.Sprintf("the lock %s was lost: %s by %q (pid %d on %q)", e.Path, e.Reason, e.Holder.Process, e.Holder.PID, e.Holder.Host)
}

// Unwrap returns ErrLost.
func (e *LostError) Unwrap() error { return ErrLost }
