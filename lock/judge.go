package lock

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
)

// emptyGrace is how long a file that is no notice may be one in the making: a
// peer creates it first and writes it then.
const emptyGrace = 2 * time.Second

// clockSlack covers the resolution of process start times, and a clock that is
// being adjusted gently.
const clockSlack = time.Second

// verdict is what a foreign notice means to somebody who has the room in hand.
type verdict struct {
	stale bool          // it may be taken over now
	alien bool          // it is no lock file: never touched
	again time.Duration // else: judge again after this, even if nothing changes
	why   string        // the evidence, for people
}

// judgement is what is known when a notice is judged.
type judgement struct {
	me        proc.Me
	now       int64         // wall clock, ms since the epoch
	unchanged time.Duration // how long these bytes have been seen, monotonic
	timeout   time.Duration // the stale timeout
	byAge     bool          // Options.Stale is StaleAge
	moved     bool          // the wall clock was set lately
	named     bool          // the file was named by the user, and may be anything
	room      bool          // we hold the room: no dblock of this kernel is in
	inRoom    uint64        // its inode
}

func (a *attempt) judge(seen *notice.Sighting) verdict {
	if a.ledger.clockMoved(a.me.Booted(a.now())) { // check: clock-moved-while-waiting
		a.clockMoved = true
	}
	return judgement{
		me: a.me, now: a.now(), unchanged: time.Since(a.since), timeout: a.opts.StaleTimeout,
		byAge: a.opts.Stale == StaleAge, moved: a.clockMoved, named: a.names.named(), room: a.room != nil, inRoom: a.roomID.Ino,
	}.of(seen)
}

func (j judgement) of(seen *notice.Sighting) verdict {
	if why := seen.Alien(j.named); why != "" { // check: alien
		return verdict{alien: true, again: j.timeout, why: why}
	}
	switch {
	case seen.Err != nil:
		if left := emptyGrace - j.unchanged; left > 0 { // check: empty-grace
			return verdict{again: left, why: "not a valid lock file, perhaps one that is being written"}
		}
		return verdict{stale: true, why: "not a valid lock file"}
	case seen.Info.Dblock != nil:
		return j.ofDblock(seen.Info)
	}
	return j.ofPeer(seen.Info)
}

// notLockFile is the error about a file that is none.
func notLockFile(op, path, why string) error {
	return &fs.PathError{Op: op, Path: path, Err: fmt.Errorf("%w: %s", ErrNotLockFile, why)}
}

// named reports whether the lock file was named by the user. Where its name was made
// of the database's nobody keeps a file of another kind.
func (n Names) named() bool {
	return n.DB == "" || n.DB == n.Notice || n.Notice != filepath.Join(filepath.Dir(n.DB), "."+stem(filepath.Base(n.DB))+".lock")
}

// ofDblock judges a notice that a dblock wrote. The kernel lock is the proof that
// its owner has gone: we hold it, and every dblock of this kernel would.
func (j judgement) ofDblock(i notice.Info) verdict {
	d := i.Dblock
	thisBoot := d.Boot == j.me.Boot && (d.Boot != "" || i.Host == j.me.Host)
	switch {
	case thisBoot && j.sees(d) && j.owns(i) && (!j.room || j.fresh(i)):
		// Its room was deleted under it, or there is no kernel lock here. It will
		// find out and end; until then it is as alive as any holder.
		return verdict{again: j.timeout, why: fmt.Sprintf("process %d is alive and refreshes it", i.PID)}
	case thisBoot && j.room && j.sameRoom(d):
		return verdict{stale: true, why: "its dblock has gone"}
	case thisBoot && j.sees(d) && j.ended(i):
		return verdict{stale: true, why: fmt.Sprintf("process %d has gone", i.PID)}
	case thisBoot && j.room:
		return j.silent("its state directory was removed, and its process cannot be seen from here")
	case !thisBoot && i.Host == j.me.Host && d.Boot != "" && j.me.Boot != "":
		return verdict{stale: true, why: "this machine has been started anew since"}
	}
	return j.silent("its holder is on another host")
}

// since is how long ago a timestamp is. It is anybody's number: centuries, as of
// one in microseconds, would overflow a Duration and make the future look old.
func since(now, timestamp int64) time.Duration {
	const most = int64(100 * 365 * 24 * time.Hour / time.Millisecond)
	return time.Duration(min(max(now-timestamp, -most), most)) * time.Millisecond
}

// sees reports whether the dblock's pid means the same process here.
func (j judgement) sees(d *notice.Dblock) bool {
	return d.PIDNS == j.me.PIDNS // check: pid-namespace: d.PIDNS == j.me.PIDNS -> true
}

// owns reports whether the notice's process is alive and really is the one that
// wrote it, and not a later one with the same number.
func (j judgement) owns(i notice.Info) bool {
	if proc.Look(i.PID) != proc.Alive {
		return false
	}
	st, ok := proc.Stat(i.PID)
	return !ok || i.Dblock.Mode == notice.Shared || st.Started == i.Dblock.Started
}

// sameRoom reports whether the lock that we have would be the holder's. The state
// directory may have been made anew under him, who may not have noticed yet. Older
// versions do not name their room.
func (j judgement) sameRoom(d *notice.Dblock) bool {
	return d.Room == 0 || d.Room == j.inRoom // check: same-room: d.Room == 0 -> true
}

// ended reports whether the notice's process has ended, its number having been given
// to another one or not.
func (j judgement) ended(i notice.Info) bool {
	return proc.Look(i.PID) == proc.Gone || i.PID > 0 && !j.owns(i)
}

func (j judgement) fresh(i notice.Info) bool {
	return j.now-i.Timestamp <= j.timeout.Milliseconds()
}

// ofPeer judges a notice of another implementation.
func (j judgement) ofPeer(i notice.Info) verdict {
	age := since(j.now, i.Timestamp)
	if j.byAge && i.Dated && age > j.timeout {
		return verdict{stale: true, why: "it is older than the stale timeout"}
	}
	if i.Host != j.me.Host || i.PID == 0 || !proc.Seen() {
		return j.old(i, "its process cannot be seen from here")
	}
	switch proc.Look(i.PID) {
	case proc.Gone:
		return verdict{stale: true, why: fmt.Sprintf("process %d has gone", i.PID)}
	case proc.Unknown:
		return j.old(i, "its process cannot be seen from here")
	}
	if st, ok := proc.Stat(i.PID); ok && i.Dated && !j.moved { // check: clock-moved
		if lived, ok := proc.Age(st.Started); ok && lived+clockSlack < age { // check: reused-pid
			return verdict{stale: true, why: fmt.Sprintf("process %d is another one, started after the lock was taken", i.PID)}
		}
	}
	again := maxPoll
	if j.byAge {
		again = j.timeout - age
	}
	why := fmt.Sprintf("process %d was started before the lock was taken and is alive", i.PID)
	if j.moved {
		why = fmt.Sprintf("process %d is alive; that it is another one by now cannot be told, as the clock may have been set", i.PID)
	}
	return verdict{again: max(again, time.Millisecond), why: why}
}

// old judges by age what cannot be proved. A date in the future proves nothing
// either way, and our own clock measures instead.
func (j judgement) old(i notice.Info, why string) verdict {
	age := since(j.now, i.Timestamp)
	if !i.Dated || age < 0 {
		return j.silent(why)
	}
	if age > j.timeout {
		return verdict{stale: true, why: why + ", and it is older than the stale timeout"}
	}
	return verdict{again: j.timeout - age + time.Millisecond, why: why}
}

// silent judges by how long we have seen the notice unchanged.
func (j judgement) silent(why string) verdict {
	if left := j.timeout - j.unchanged; left > 0 {
		return verdict{again: left, why: why}
	}
	return verdict{stale: true, why: why + ", and it has not changed for the stale timeout"}
}
