package lock

import (
	"os"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// outerEvery is how often an enclosing hold is checked for the death of its
// process, which no watch tells.
const outerEvery = 250 * time.Millisecond

// surroundings is where we look for the holds that are around us.
type surroundings struct {
	names Names
	me    proc.Me
	opts  Options
}

// find finds an enclosing dblock that holds this lock now, and how. What the
// environment says is not believed but checked; what does not hold makes us an ordinary
// stranger.
func (s *surroundings) find() (*outer, Mode, error) {
	for _, o := range outers() {
		if !o.about(s.names) {
			continue
		}
		mode, live := s.live(&o)
		if !live {
			if s.orphaned(&o) { // check: own-descriptor
				return nil, 0, ErrOrphan
			}
			continue
		}
		if mode == Shared && s.opts.Mode == Exclusive {
			return nil, 0, ErrUpgrade
		}
		return &o, mode, nil
	}
	return nil, 0, nil
}

// live reports whether the hold is still there and is around us: its process is an
// ancestor of ours or serves one, and either the notice or the kernel says that it holds. The
// notice alone may be missing for the moment between a peer's unlink and our side's
// heal. Where its process cannot be seen, what we have inherited must prove it.
func (s *surroundings) live(o *outer) (Mode, bool) {
	seen, err := notice.Read(s.names.Notice)
	var d *notice.Dblock
	if err == nil && seen.Info.Dblock != nil && seen.Info.Dblock.Boot == s.me.Boot {
		d = seen.Info.Dblock
		if o.ours(seen) {
			o.hidden = d.PIDNS != s.me.PIDNS // its number is that of another process here
		}
	}
	if o.hidden || !o.around { // check: still-around: !o.around -> true
		around, known := enclosed(s.worker(), o.pid)
		if o.hidden || !known && proc.Complete {
			return s.inherited(o, seen, d)
		}
		if known && !around || !known && proc.Look(o.pid) != proc.Alive {
			return 0, false
		}
		st, _ := proc.Stat(o.pid)
		o.around, o.started = known, st.Started
	} else if !o.lives() {
		return 0, false
	}
	if !proc.Complete {
		return s.told(o, seen, d)
	}
	if d != nil {
		if d.Mode == notice.Exclusive && o.ours(seen) {
			return Exclusive, true
		}
		if d.Mode == notice.Exclusive && proc.Look(seen.Info.PID) == proc.Alive {
			return 0, false
		}
	}
	room, err := s.names.identifyRoom()
	if err != nil {
		return 0, false
	}
	claims, _ := proc.Claims(room)
	for _, c := range claims {
		if c.PID == o.pid && !c.Waiting {
			if c.Shared {
				return Shared, true
			}
			return Exclusive, true
		}
	}
	return 0, false
}

// unhealed is how long a notice may be missing whose hold goes on, until its holder has put it back.
const unhealed = time.Second

// told is live where the system does not tell who has started whom, nor who has the room: of a
// process that lives the notice has to do. Of readers each has a token, and the notice has the
// first one's, which is the smallest.
func (s *surroundings) told(o *outer, seen *notice.Sighting, d *notice.Dblock) (Mode, bool) {
	switch {
	case d == nil:
		return o.mode, seen == nil && o.seen && time.Since(o.at) < unhealed
	case d.Mode == notice.Shared && d.Token <= o.token:
		o.mode = Shared
	case d.Mode == notice.Exclusive && o.ours(seen):
		o.mode = Exclusive
	default:
		return 0, false
	}
	o.seen, o.at = true, time.Now()
	return o.mode, true
}

// orphaned reports whether what has inherited the room of a hold, as we have, still has its lock
// after its dblock was killed. Where the system does not tell what a descriptor has locked, the
// notice does: who lets go of a lock leaves none.
func (s *surroundings) orphaned(o *outer) bool {
	room, err := s.names.identifyRoom()
	if err != nil || !proc.Holds(room) {
		return false
	}
	if proc.Complete {
		return true
	}
	seen, err := notice.Read(s.names.Notice)
	return err == nil && seen.Info.Dblock != nil && o.ours(seen)
}

// lives reports whether the process that was seen around us has not ended. One that is about to
// end has no command line any more, which told whom it serves, and for a moment still its locks.
func (o *outer) lives() bool {
	if proc.Look(o.pid) != proc.Alive {
		return false
	}
	st, ok := proc.Stat(o.pid)
	return ok && st.Started == o.started || !proc.Complete
}

// worker is the process that works, or starts what works, under the lock.
func (s *surroundings) worker() int {
	if s.opts.For != 0 {
		return s.opts.For
	}
	return os.Getppid()
}

// ours reports whether a notice is that of the hold.
func (o *outer) ours(seen *notice.Sighting) bool {
	return seen.Info.Dblock.Token == o.token && seen.Info.PID == o.pid // check: live-token: seen.Info.Dblock.Token == o.token -> true
}

// inherited is live for a process that is hidden from us, in another pid namespace
// or by the way /proc is mounted. Anybody can read a notice and set variables after
// it; but only what runs under a hold has its locked room among its descriptors. The
// notice's beats tell whether the hold's process lives.
func (s *surroundings) inherited(o *outer, seen *notice.Sighting, d *notice.Dblock) (Mode, bool) {
	room, err := s.names.identifyRoom()
	if err != nil || !proc.Holds(room) && !queue.Signed(s.names.State, room) { // check: hidden-holder
		return 0, false
	}
	switch {
	case d == nil:
		// It is gone for the moment; whom it belonged to was seen before.
		return o.mode, o.seen && seen == nil
	case notice.Since(s.opts.Now().UnixMilli(), seen.Info.Timestamp) > s.opts.StaleTimeout:
		return 0, false
	case d.Mode == notice.Shared:
		o.mode, o.seen = Shared, true
	case o.ours(seen):
		o.mode, o.seen = Exclusive, true
	default:
		return 0, false
	}
	return o.mode, true
}

// leaned is a hold that leans on that of an enclosing dblock: it has taken nothing and
// has nothing to release. When the other one is over while our command goes on, the
// lock is taken by ourselves if that is possible at once, and else it counts as lost.
type leaned struct {
	grant   Grant
	around  surroundings
	succeed func(room *queue.File) (hold, error) // takes the lock
	keeper  *keeper

	// Guarded by the keeper's mutex:
	outer outer
	file  *queue.File // the room, open but not locked; nil where there is none, or when it was taken
	own   hold        // ours, taken when the other one was over
}

func newLeaned(g Grant, s surroundings, o outer, succeed func(*queue.File) (hold, error), attended bool) *leaned {
	h := &leaned{grant: g, around: s, outer: o, succeed: succeed, file: queue.OpenRoom(g.Names.State)}
	h.keeper = newKeeper(h, g.Names, lookEvery, outerEvery)
	if attended {
		h.keeper.attend()
	}
	return h
}

func (h *leaned) granted() Grant        { return h.grant }
func (h *leaned) attend()               { h.keeper.attend() }
func (h *leaned) lost() <-chan struct{} { return h.keeper.lostc }

// current is our own hold if it was taken, else nil, and the open room that was not.
func (h *leaned) current() (own hold, room *queue.File) {
	h.keeper.mu.Lock()
	defer h.keeper.mu.Unlock()
	return h.own, h.file
}

func (h *leaned) descriptors() []int {
	switch own, room := h.current(); {
	case own != nil:
		return own.descriptors()
	case room != nil:
		return []int{room.Fd()}
	}
	return nil
}

// suspend leaves the notice as it is unless it is ours.
func (h *leaned) suspend() {
	if own, _ := h.current(); own != nil {
		own.suspend()
	}
}

func (h *leaned) resume() {
	h.keeper.look()
	if own, _ := h.current(); own != nil {
		own.resume()
	}
}

func (h *leaned) check() {
	h.keeper.look()
	if own, _ := h.current(); own != nil {
		own.check()
	}
}

func (h *leaned) err() error {
	if own, _ := h.current(); own != nil {
		return own.err()
	}
	return h.keeper.err()
}

func (h *leaned) ending() {
	switch own, room := h.current(); {
	case own != nil:
		own.ending()
	case room != nil:
		room.Show(queue.Ending)
	}
}

// wanted is whether somebody waits for a lock that is ours by now.
func (h *leaned) wanted() bool {
	own, _ := h.current()
	return own != nil && own.wanted()
}

// bequeath leaves nothing unless the lock is ours to leave.
func (h *leaned) bequeath() {
	if own, _ := h.current(); own != nil {
		own.bequeath()
	}
}

func (h *leaned) begin() {}

// mourn does nothing: there was no lock of ours.
func (h *leaned) mourn(*LostError) {}

// beat does nothing: the enclosing dblock beats.
func (h *leaned) beat() {}

func (h *leaned) room() string { return "" }

func (h *leaned) inode() (inode.ID, bool) { return inode.ID{}, false }

// look checks that the hold we lean on is still there.
func (h *leaned) look() {
	if h.keeper.idle() || h.own != nil {
		return
	}
	if _, live := h.around.live(&h.outer); live {
		return
	}
	room := h.file
	h.file = nil
	own, err := h.succeed(room)
	if err != nil {
		h.keeper.lose("the enclosing dblock has ended, and the lock could not be taken", nil)
		return
	}
	h.own = own
	go func() {
		select {
		case <-own.lost():
			h.keeper.mu.Lock()
			defer h.keeper.mu.Unlock()
			h.keeper.loseAs(own.err())
		case <-h.keeper.stop:
		}
	}()
}

func (h *leaned) release() error {
	k := h.keeper
	k.mu.Lock()
	k.end()
	lost, own := k.lost, h.own
	k.mu.Unlock()
	if own != nil {
		return own.release()
	}
	var err error
	if h.file != nil {
		err = h.file.Unlock()
		h.file.Close()
	}
	if lost != nil {
		return lost
	}
	return err
}
