package queue

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Class is a priority: among those who wait a higher one goes first, and meets at most
// one of each lower one on its way.
type Class int

// The classes.
const (
	Low Class = iota - 1
	Normal
	High
)

// String is the class's name.
func (c Class) String() string {
	switch {
	case c < Normal:
		return "low"
	case c > Normal:
		return "high"
	}
	return "normal"
}

// Turnstile is the name of the file at which a class waits.
func Turnstile(c Class) string { return "turnstile-" + c.String() }

// OpenLast lets those come who wait at the last turnstile. If a class above ours
// waits, those of ours and below must wait at theirs a little longer: the kernel
// wakes who is next but lets whoever is quicker have the lock, and they, woken at
// the same time, would slip in before those who have long waited. Readers pass at
// once, since others are to join them.
func (p *Place) OpenLast() {
	if len(p.turnstiles) == 0 || p.wants.How == Shared || !slices.ContainsFunc(p.turnstiles[1:], p.awaits) {
		p.closeTurnstiles()
		return
	}
	p.openOne()
}

// OpenLower lets those come who wait at the lower turnstiles, from the highest,
// at each when whoever waited at the one above has passed that.
func (p *Place) OpenLower() {
	for above := High; len(p.turnstiles) > 0; above-- {
		p.letPass(above)
		p.openOne()
	}
}

// letPass waits until whoever was waiting at the turnstile has it.
func (p *Place) letPass(c Class) {
	if !p.awaited {
		return
	}
	t, err := Existing(p.dir.At(Turnstile(c)))
	if err != nil {
		return
	}
	defer t.Close()
	for end := time.Now().Add(wakeUp); time.Now().Before(end); time.Sleep(wakeUp / 500) {
		if passed, _ := t.Shown(Having); passed {
			return
		}
		p.wants.Delay()
	}
}

// openOne opens our last turnstile.
func (p *Place) openOne() {
	last := len(p.turnstiles) - 1
	p.awaited = p.awaits(p.turnstiles[last])
	p.turnstiles[last].release()
	p.turnstiles = p.turnstiles[:last]
}

// awaits reports whether somebody waits at a turnstile of ours. Where we did not
// have to wait, nobody does.
func (p *Place) awaits(t *File) bool {
	if !p.wants.Patience.Waited() {
		return false
	}
	shown, _ := t.Shown(Waiting)
	return shown
}

func (p *Place) closeTurnstiles() {
	for _, t := range slices.Backward(p.turnstiles) {
		t.release()
	}
	p.turnstiles = nil
}

// release lets the next one come, and closes the file. A program that starts another one at this
// moment has a copy of it there until the other one is executed: closing alone would keep the
// turnstile locked for so long.
func (f *File) release() {
	_ = f.flock(unix.LOCK_UN) // check: open-turnstile: LOCK_UN -> LOCK_NB
	f.Close()
}
