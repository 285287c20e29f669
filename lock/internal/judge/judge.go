// Package judge decides what a notice that is in the way is worth: whether its holder
// lives, has gone, or must be waited for. It decides by what it is given, and does
// nothing: docs/protocol.md has the table.
package judge

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
)

// PeersTimeout is the age at which peers call any notice stale, and the stale timeout
// unless another one was asked for.
const PeersTimeout = 30 * time.Second

// Grace is how long a file that is no notice may be one in the making: a peer creates
// it first and writes it then.
const Grace = 2 * time.Second

// ClockSlack covers the resolution of process start times, and a clock that is
// being adjusted gently.
const ClockSlack = time.Second

// Never is a time after which nobody need judge again: something else will happen first.
const Never = time.Duration(1<<63 - 1)

// ErrNotLockFile says that what is where the lock file should be is another file,
// perhaps the database itself. It is never removed.
var ErrNotLockFile = errors.New("not a lock file")

// NotLockFile is the error about a file that is none.
func NotLockFile(op, path, why string) error {
	return &fs.PathError{Op: op, Path: path, Err: fmt.Errorf("%w: %s", ErrNotLockFile, why)}
}

// Verdict is what a notice means to somebody who has the room in hand.
type Verdict struct {
	Stale bool          // it may be taken over now
	Alien bool          // it is no lock file: never touched
	Again time.Duration // else: judge again after this, even if nothing changes
	Why   string        // the evidence, for people
}

// Processes is what can be known of the processes of this host. What is unknown is not
// guessed: see package proc.
type Processes interface {
	Look(pid int) proc.Life
	Stat(pid int) (proc.Status, bool)
	Age(started uint64) (time.Duration, bool)
	// Seen reports whether the pids that programs of our host name write down mean the
	// same processes here.
	Seen() bool
}

// Facts are what is known when a notice is judged.
type Facts struct {
	Me         proc.Me
	Processes  Processes
	Now        int64         // wall clock, ms since the epoch
	ClockMoved bool          // it was set lately
	Unchanged  time.Duration // how long these bytes have been seen, monotonic
	Timeout    time.Duration // the stale timeout
	ByAge      bool          // a peer's notice that is older than that is stale, whoever lives
	Named      bool          // the file was named by the user, and may be anything
	InRoom     bool          // we hold the room: no dblock of this kernel is in
	Room       uint64        // its inode
}

// Of judges what was found at the path.
func (f *Facts) Of(seen *notice.Sighting) Verdict {
	if why := seen.Alien(f.Named); why != "" { // check: alien
		return Verdict{Alien: true, Again: f.Timeout, Why: why}
	}
	switch {
	case seen.Err != nil:
		if left := Grace - f.Unchanged; left > 0 { // check: empty-grace
			return Verdict{Again: left, Why: "not a valid lock file, perhaps one that is being written"}
		}
		return Verdict{Stale: true, Why: "not a valid lock file"}
	case seen.Info.Dblock != nil:
		return f.ofDblock(seen.Info)
	}
	return f.ofPeer(seen.Info)
}

// ofDblock judges a notice that a dblock wrote. The kernel lock is the proof that
// its owner has gone: we hold it, and every dblock of this kernel would.
func (f *Facts) ofDblock(i notice.Info) Verdict {
	d := i.Dblock
	thisBoot := d.Boot == f.Me.Boot && (d.Boot != "" || i.Host == f.Me.Host)
	switch {
	case thisBoot && f.Sees(d) && f.Owns(i) && (!f.InRoom || f.Fresh(i)):
		// Its room was deleted under it, or there is no kernel lock here. It will
		// find out and end; until then it is as alive as any holder.
		return Verdict{Again: f.Timeout, Why: fmt.Sprintf("process %d is alive and refreshes it", i.PID)}
	case thisBoot && f.InRoom && f.sameRoom(d):
		return Verdict{Stale: true, Why: "the dblock that held it has gone"}
	case thisBoot && f.Sees(d) && f.ended(i):
		return Verdict{Stale: true, Why: fmt.Sprintf("process %d has gone", i.PID)}
	case thisBoot && f.InRoom:
		return f.silent("its state directory was removed, and its process cannot be seen from here")
	case !thisBoot && i.Host == f.Me.Host && d.Boot != "" && f.Me.Boot != "":
		return Verdict{Stale: true, Why: "this machine was restarted since it was taken"}
	}
	return f.silent("its holder is on another host")
}

// Sees reports whether the dblock's pid means the same process here.
func (f *Facts) Sees(d *notice.Dblock) bool {
	return d.PIDNS == f.Me.PIDNS // check: pid-namespace: d.PIDNS == f.Me.PIDNS -> true
}

// Owns reports whether the notice's process is alive and really is the one that
// wrote it, and not a later one with the same number.
func (f *Facts) Owns(i notice.Info) bool {
	if f.Processes.Look(i.PID) != proc.Alive {
		return false
	}
	if i.Dblock.Mode == notice.Shared {
		return true
	}
	st, ok := f.Processes.Stat(i.PID)
	if !ok {
		// Its start is not known. But who had the room that we have has let go of it.
		return !f.InRoom || i.Dblock.Room == 0 || i.Dblock.Room != f.Room
	}
	return st.Started == i.Dblock.Started
}

// sameRoom reports whether the lock that we have would be the holder's. The state
// directory may have been made anew under him, who may not have noticed yet. Older
// versions do not name their room.
func (f *Facts) sameRoom(d *notice.Dblock) bool {
	return d.Room == 0 || d.Room == f.Room // check: same-room: d.Room == 0 -> true
}

// ended reports whether the notice's process has ended, its number having been given
// to another one or not.
func (f *Facts) ended(i notice.Info) bool {
	return f.Processes.Look(i.PID) == proc.Gone || i.PID > 0 && !f.Owns(i)
}

// Fresh reports whether the last sign of life is no older than the stale timeout.
func (f *Facts) Fresh(i notice.Info) bool {
	return f.Now-i.Timestamp <= f.Timeout.Milliseconds()
}

// ofPeer judges a notice of another implementation.
func (f *Facts) ofPeer(i notice.Info) Verdict {
	age := notice.Since(f.Now, i.Timestamp)
	if f.ByAge && i.Dated && age > f.Timeout {
		return Verdict{Stale: true, Why: "it is older than the stale timeout"}
	}
	if i.Host != f.Me.Host || i.PID == 0 || !f.Processes.Seen() {
		return f.old(i, "its process cannot be seen from here")
	}
	switch f.Processes.Look(i.PID) {
	case proc.Gone:
		return Verdict{Stale: true, Why: fmt.Sprintf("process %d has gone", i.PID)}
	case proc.Unknown:
		return f.old(i, "its process cannot be seen from here")
	}
	if st, ok := f.Processes.Stat(i.PID); ok && i.Dated && !f.ClockMoved { // check: clock-moved
		if lived, ok := f.Processes.Age(st.Started); ok && lived+ClockSlack < age { // check: reused-pid
			return Verdict{Stale: true, Why: fmt.Sprintf("process %d is another one, started after the lock was taken", i.PID)}
		}
	}
	again := Never
	if f.ByAge {
		again = f.Timeout - age
	}
	why := fmt.Sprintf("process %d was started before the lock was taken and is alive", i.PID)
	if f.ClockMoved {
		why = fmt.Sprintf("process %d is alive; whether it is a later one with the same number cannot be told, as the clock may have been set", i.PID)
	}
	return Verdict{Again: max(again, time.Millisecond), Why: why}
}

// old judges by age what cannot be proved. A date in the future proves nothing
// either way, and our own clock measures instead.
func (f *Facts) old(i notice.Info, why string) Verdict {
	age := notice.Since(f.Now, i.Timestamp)
	if !i.Dated || age < 0 {
		return f.silent(why)
	}
	if age > f.Timeout {
		return Verdict{Stale: true, Why: why + ", and it is older than the stale timeout"}
	}
	return Verdict{Again: f.Timeout - age + time.Millisecond, Why: why}
}

// silent judges by how long we have seen the notice unchanged.
func (f *Facts) silent(why string) Verdict {
	if left := f.Timeout - f.Unchanged; left > 0 {
		return Verdict{Again: left, Why: why}
	}
	return Verdict{Stale: true, Why: why + ", and it has not changed for the stale timeout"}
}
