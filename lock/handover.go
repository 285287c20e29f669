package lock

import (
	"path/filepath"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// Whoever leaves while another dblock waits leaves the notice in its place for that one
// to exchange. So the path is not free between two dblocks: peers that look in that very
// moment find nothing to read, and delete what is there next. What was left says that
// nobody holds it any more, by the pid 0, and it is dated back, so that peers soon find
// it stale should nobody come.

// leftFor is for how long peers respect a notice that was left, if nobody comes.
const leftFor = 5 * time.Second

// sweepAfter is when who left a notice for somebody takes it away. On a busy machine a
// process that was woken may need as long until it runs.
const sweepAfter = 5 * wakeUp

// wasLeft reports whether the notice is one that a dblock has left for its successor.
func wasLeft(i notice.Info) bool { return i.Dblock != nil && i.PID == 0 }

// atTheDoor reports whether another dblock waits for the room, and can exchange what is
// left for it.
func (h *hold) atTheDoor() bool {
	if h.opts.Mode == Shared || h.room == nil || h.lost != nil {
		return false
	}
	if waits, _ := h.room.Shown(queue.Waiting); !waits {
		return false
	}
	return h.dir.Private() || !notice.Sticky(filepath.Dir(h.names.Notice)) // check: left-sticky: h.dir.Private() -> true
}

// leaveNotice leaves the notice in its place.
func (h *hold) leaveNotice() {
	h.step("leaving")
	h.left = true
	_ = h.file.SetPID(0) // check: left-pid: SetPID(0) -> SetPID(h.me.PID)
	_ = h.file.Beat(h.now() - (DefaultStaleTimeout - leftFor).Milliseconds())
	if h.linked {
		_ = h.spareFile().Remove()
	}
}

// lookBack waits until the successor has come. One that is killed or gives up in the
// moment of the hand-over takes its sign down, and one that was stopped has left the
// kernel's queue and does not come: then nobody would remove what was left for it.
func (h *hold) lookBack() {
	h.step("left")
	pause := 50 * time.Microsecond
	for begin := time.Now(); time.Since(begin) < sweepAfter; pause = min(2*pause, time.Millisecond) {
		// In this order: the successor shows that it has the room, and then no longer
		// that it waits.
		waits, known := h.room.Shown(queue.Waiting)
		if has, _ := h.room.Shown(queue.Having); has || !known {
			return
		}
		if !waits {
			break
		}
		time.Sleep(pause)
	}
	h.sweep(h.room)
}

// sweep removes a notice that was left for somebody who does not come. If the room
// cannot be had, whoever has it takes the notice over.
func (a *attempt) sweep(room *queue.File) {
	if ok, err := room.Try(queue.Exclusive); !ok || err != nil {
		return
	}
	a.removeLeft(room)
	_ = room.Unlock()
}

// removeLeft is for those who have the room.
func (a *attempt) removeLeft(room *queue.File) {
	id, err := room.ID()
	if err != nil {
		return
	}
	seen, err := notice.Read(a.names.Notice)
	if err == nil && wasLeft(seen.Info) && seen.Info.Dblock.Room == id.Ino { // check: left-sweep
		_ = notice.Remove(a.names.Notice)
	}
}
