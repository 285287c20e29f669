package queue

import (
	"syscall"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/inode"
)

// SuccessorWaits reports whether somebody waits for the room that only he can have
// after us: among readers nobody knows who will be the last.
func (p *Place) SuccessorWaits() bool {
	return p.wants.How != Shared && p.Awaited()
}

// Awaited reports whether somebody waits for the room, whoever will have it next. The first
// of those who wait at the turnstiles waits for the room, too.
func (p *Place) Awaited() bool {
	if p.room == nil {
		return false
	}
	waits, _ := p.room.Shown(Waiting)
	return waits
}

// LastOut reports whether nobody stays in the room after us: always, but among
// readers only for the one that can have the room for itself. The conversion
// gives up the shared lock first; when it fails, another reader or a writer has
// the room and the notice is theirs. When it succeeds on a room whose path names
// another one by now, other readers may have joined the notice from there.
func (p *Place) LastOut() bool {
	if p.wants.How != Shared || p.room == nil {
		return true
	}
	alone, err := p.room.Convert()
	return alone && err == nil && // check: last-out: alone && err == nil -> alone || err == nil
		p.Stands() // check: last-room: p.Stands() -> true
}

// Bequeath closes the room without unlocking it, and reports whether it is locked all
// the same, by what has inherited it. If it is not, we have it again.
func (p *Place) Bequeath() bool {
	p.room.Close()
	room, err := Open(p.dir.At(Room))
	if err == nil {
		p.room = room
		if ok, err := room.Try(Exclusive); ok && err == nil {
			return false
		}
		room.Close()
	}
	p.room = nil
	return true
}

// Leave unlocks the room. expected says that something was left for a successor who
// waited, which must not stay if he does not come.
func (p *Place) Leave(expected bool) (err error) {
	if p.room != nil {
		// Unlocking, not only closing: a daemon that the command left behind has
		// inherited the open file and would keep the lock.
		err = p.room.Unlock() // check: explicit-unlock: p.room.Unlock() -> error(nil)
		if expected {         // check: look-back
			p.lookBack()
		}
		p.room.Close()
	}
	p.dir.Close()
	return err
}

// sweepAfter is when who left something for a successor takes it away. On a busy machine a
// process that was woken may need as long until it runs.
const sweepAfter = 5 * wakeUp

// lookBack waits until the successor has come. One that is killed or gives up in the
// moment of the hand-over takes its sign down, and one that was stopped has left the
// kernel's queue and does not come: then nobody would remove what was left for it.
func (p *Place) lookBack() {
	p.wants.Step("left")
	const pause = 50 * time.Microsecond
	begin := time.Now()
	// He may have been woken on this very processor: it is his before anything else.
	nap(pause)
	for pause := pause; time.Since(begin) < sweepAfter; pause = min(2*pause, time.Millisecond) {
		// In this order: the successor shows that it has the room, and then no longer
		// that it waits.
		waits, known := p.room.Shown(Waiting)
		if has, _ := p.room.Shown(Having); has || !known {
			return
		}
		if !waits {
			break
		}
		p.wants.Delay()
		time.Sleep(pause)
	}
	// If we cannot have the room, whoever has it takes over what was left.
	if ok, err := p.room.Try(Exclusive); !ok || err != nil {
		return
	}
	p.wants.Discard(p.room)
	_ = p.room.Unlock()
}

// Abandon undoes what was done so far, in the opposite order, for one who cannot use
// the place.
func (p *Place) Abandon() {
	if p.room != nil {
		p.wants.Discard(p.room)
	}
	if p.made && p.mayRemoveState() {
		// The state directory is ours and the lock never was: leave nothing of
		// it. Others who have the files open find out by the inode check. rmdir
		// fails, and should, if somebody else is about to use it.
		for _, name := range []string{Turnstile(Low), Turnstile(Normal), Turnstile(High), Token, Room} {
			_ = p.dir.At(name).Remove()
		}
	}
	p.room.discard()
	p.room = nil
	p.closeTurnstiles()
	p.closeState()
	if p.made {
		_ = syscall.Rmdir(p.wants.State)
		p.made = false
	}
}

// mayRemoveState reports whether nobody else is in: we have the room for
// ourselves, or could not even create it.
func (p *Place) mayRemoveState() bool {
	if p.dir == nil {
		return false
	}
	if p.room == nil {
		_, err := p.dir.At(Room).Identify()
		return inode.IsGone(err)
	}
	ok, err := p.room.Try(Exclusive)
	return ok && err == nil && p.Stands()
}
