package lock

import (
	"errors"
	"io/fs"

	"github.com/dblock-dev/dblock/lock/internal/claim"
)

// examine finds out whether the lock is still ours, and has a notice that is missing dealt
// with. Only what is seen counts: a path that cannot be looked at now (EIO, ESTALE)
// says nothing. A notice that cannot be put back leaves the path to the peers: then the
// lock is lost, not only when one of them has come. It is tried more than once, since
// there may be room on the disk in the next moment.
func (h *held) examine(missing func() error) {
	var failed error
	for range 3 {
		if h.keeper.idle() {
			return
		}
		err := h.engineLost()
		if err != nil { // check: engine-lost
			h.keeper.lose(err.Error(), nil)
			return
		}
		if h.place.Gone() { // check: room-gone
			h.keeper.lose("its state directory was removed", nil)
			return
		}
		switch standing, theirs := h.claim.Look(); standing {
		case claim.Taken:
			by := holderOf(theirs)
			h.keeper.lose("it was taken", &by)
			return
		case claim.Covered:
			h.keeper.lose("something else is in its place", nil)
			return
		case claim.Ours, claim.Unknown:
			return
		}
		h.intruded = h.intruded || h.claim.Intruded()
		failed = missing() // check: heal: failed = missing() -> return
	}
	if failed != nil {
		h.keeper.lose("its lock file was removed and cannot be restored, "+reason(failed), nil)
	}
}

// engineLost says why the engine's lock is ours no more; nil if it is.
func (h *held) engineLost() error {
	if h.engine == nil {
		return nil
	}
	return h.engine.Check()
}

// missed is for a notice that is missing when the hold ends. It is not put back, and so
// whoever removed it may be at work by now, unless that can only have been the one peer
// that is about.
func (h *held) missed() error {
	h.intruded = h.intruded || h.claim.Exposed()
	return nil
}

// reason is an error without what was done with which file.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return err.Error()
}
