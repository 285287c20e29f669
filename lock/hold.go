package lock

import (
	"time"

	"github.com/dblock-dev/dblock/history"
	"github.com/dblock-dev/dblock/lock/internal/claim"
	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

const (
	// maxBeat is the longest time between two refreshes of the timestamp.
	maxBeat = 5 * time.Second
	// minBeat is the shortest, however soon we are to count as abandoned.
	minBeat = time.Millisecond
	// lead is how far ahead a stopped holder dates its notice.
	lead = 24 * time.Hour
)

// hold is a lock that is held, in one way or another: by a place and a claim of our own, or by
// leaning on an enclosing dblock. Lock has the methods by their public names.
type hold interface {
	granted() Grant
	descriptors() []int
	attend()
	check()
	suspend()
	resume()
	ending()
	bequeath()
	wanted() bool
	lost() <-chan struct{}
	err() error
	release() error
}

// held is a hold of our own: a place in the queue, a claim at the path, and a keeper who
// looks after both.
type held struct {
	grant  Grant
	opts   Options
	since  time.Time // when it was acquired
	place  *queue.Place
	claim  *claim.Claim
	keeper *keeper
	engine EngineHold // what keeps other machines out; nil for a lock of this machine alone

	// Guarded by the keeper's mutex:
	reads     int  // looks that found that somebody had read the notice
	intruded  bool // somebody may have come and gone while the notice was away
	suspended bool
	bequests  bool // others may have inherited the room, and keep it
	heals     int  // how often the notice was put back

	waited bool // it was not to be had at once
	// The peers that had the lock meanwhile.
	blockers []history.Blocker
	ahead    int
}

func newHeld(g Grant, opts Options, p *queue.Place, c *claim.Claim, engine EngineHold) *held {
	h := &held{grant: g, opts: opts, since: time.Now(), place: p, claim: c, engine: engine}
	every, crowded := lookEvery, c.Crowded()
	if crowded {
		every = crowdedLook
	}
	h.keeper = newKeeper(h, g.Names, every, max(minBeat, min(maxBeat, opts.StaleTimeout/6)))
	if !opts.Unattended || crowded {
		h.keeper.attend()
	}
	if engine != nil {
		go h.heedEngine()
	}
	return h
}

func (h *held) granted() Grant        { return h.grant }
func (h *held) attend()               { h.keeper.attend() }
func (h *held) lost() <-chan struct{} { return h.keeper.lostc }
func (h *held) err() error            { return h.keeper.err() }
func (h *held) check()                { h.keeper.look() }
func (h *held) ending()               { h.place.ShowEnding() }

func (h *held) descriptors() (fds []int) {
	h.keeper.mu.Lock()
	defer h.keeper.mu.Unlock()
	if fd := h.place.Descriptor(); fd >= 0 {
		fds = append(fds, fd)
	}
	if h.engine != nil && h.engine.Descriptor() >= 0 {
		fds = append(fds, h.engine.Descriptor())
	}
	return fds
}

// heedEngine waits for the loss of the engine's lock, or for the end of the hold.
func (h *held) heedEngine() {
	select {
	case <-h.engine.Lost():
		h.keeper.look()
	case <-h.keeper.stop:
	}
}

func (h *held) suspend() {
	h.keeper.mu.Lock()
	defer h.keeper.mu.Unlock()
	if h.keeper.ended {
		return
	}
	h.suspended = true
	h.claim.DateAhead(lead) // check: suspend-lead: (lead) -> (0)
}

func (h *held) resume() {
	// The truth first: whatever happened while we were stopped.
	h.keeper.look()
	h.keeper.mu.Lock()
	defer h.keeper.mu.Unlock()
	h.suspended = false
	h.beat()
}

func (h *held) bequeath() {
	h.keeper.mu.Lock()
	defer h.keeper.mu.Unlock()
	h.bequests = h.place.Locked()
}

func (h *held) wanted() bool {
	h.keeper.mu.Lock()
	defer h.keeper.mu.Unlock()
	return !h.keeper.idle() && (h.place.Awaited() || claim.Polls(h.reads))
}

// begin lets those come who wait at the turnstiles that are still closed behind us, and
// ends what taking the lock has left to do.
func (h *held) begin() {
	h.place.OpenLower()
	if !h.keeper.ended {
		_ = h.claim.Tidy()
	}
}

// mourn tells the history of a loss, of which it may be long until the hold ends.
func (h *held) mourn(lost *LostError) { h.recordDuring(history.Lost, lost.Holder) }

// beat shows that we live.
func (h *held) beat() {
	if !h.keeper.ended && !h.suspended {
		h.claim.Beat()
	}
}

func (h *held) inode() (inode.ID, bool) { return h.claim.Inode(), true }

func (h *held) room() string {
	if !h.place.Locked() {
		return ""
	}
	return h.grant.Names.room()
}

// look finds out whether the lock is still ours, and heals what can be healed.
func (h *held) look() {
	h.examine(h.heal)
	h.countReads()
}

// countReads counts the looks that find that the notice was read since the one before.
func (h *held) countReads() {
	if h.keeper.ended || h.suspended || claim.Polls(h.reads) || !h.claim.WasRead() {
		return
	}
	h.reads++
	h.beat() // or the next read would not show
}

// release ends the hold: no more beats, the notice if it is ours, the spare
// name, the courtesy gap, the room.
func (h *held) release() error {
	k := h.keeper
	leaves := h.leaves()
	awaited := false
	if h.engine != nil {
		defer func() { h.engine.Settle(awaited) }()
	}
	if h.engine != nil && !leaves {
		// All that has worked under the lock has gone.
		if err := h.engine.Release(); err != nil {
			k.loseTo(err)
		}
	}
	k.mu.Lock()
	awaited = h.engine != nil && h.place.Awaited()
	h.place.OpenLower()
	if k.lost == nil {
		// A lock that was lost just now was lost, too; healing it is not worth it.
		h.examine(h.missed) // check: last-look: h.examine(h.missed) -> _ = h
	}
	k.end()
	if k.lost == nil && h.intruded {
		k.lose("its lock file was removed for a moment, in which somebody else may have worked", nil)
	}
	lost := k.lost
	k.mu.Unlock()

	h.recordEnd(lost) // check: told-before-leaving: h.rec -> defer h.rec
	var err error
	left := false
	bequeathed := leaves && h.place.Bequeath()
	if leaves && !bequeathed && h.engine != nil {
		_ = h.engine.Release()
	}
	if bequeathed {
		h.claim.Close() // the notice stays, as that of one who was killed
	} else {
		left, err = h.claim.Leave(h.reads, lost != nil)
	}
	if uerr := h.place.Leave(left); err == nil {
		err = uerr
	}
	if lost != nil {
		return lost
	}
	return err
}

// leaves reports whether others are to keep the lock. An engine's they can only by its descriptor.
func (h *held) leaves() bool {
	h.keeper.mu.Lock()
	defer h.keeper.mu.Unlock()
	return h.bequests && !h.place.Gone() && (h.engine == nil || h.engine.Descriptor() >= 0)
}

// heal puts our notice back.
func (h *held) heal() error {
	h.beat()
	err := h.claim.Heal()
	if err == nil {
		if h.heals++; h.heals == 1 {
			h.recordDuring(history.Healed, nil)
		}
	}
	return err
}
