package run

import "github.com/dblock-dev/dblock/lock"

// Holder is whatever holds the lock while a command lives: a local lock, be it its own or
// the one of an enclosing dblock that it leans on; be there a server behind it (lock.Engine) or not.
//
// All of it is about one hold that has been acquired. The methods may be called by several
// goroutines, and none of them blocks for longer than a look at the lock takes; what they
// promise is written at the methods of lock.Lock, and run/holdertest is the suite that each must pass.
type Holder interface {
	// Grants describes the hold: what the command finds in its environment, and others
	// in the lock file. There are several where several databases are held together, the
	// one that was named first before the others; and none when the hold is over.
	Grants() []lock.Grant
	// Descriptors are open files that keep the lock for a command that inherits them; empty
	// where there are none.
	Descriptors() []int
	// Check looks whether the lock is still held, right before the command starts.
	Check() error
	// Attend keeps the hold alive from now on, and looks after it.
	Attend()
	// Lost is closed when the lock is lost; Err says why.
	Lost() <-chan struct{}
	Err() error
	// Suspend keeps the hold while this process is stopped; Resume ends that.
	Suspend()
	Resume()
	// Ending lets others know that the command has ended, and that what it has started is waited for.
	Ending()
	// Bequeath leaves the lock to those who have inherited the Descriptors, if there are any.
	Bequeath()
	// Release ends the hold. The error is lock.ErrLost if it was lost before.
	Release() error
}

var (
	_ Holder = (*lock.Lock)(nil)
	_ Holder = (*lock.Set)(nil)
)
