package queue

import (
	"path/filepath"

	"github.com/dblock-dev/dblock/lock/internal/inode"
)

// Files of the state directory. There are others, which the queue knows nothing of.
const (
	Room  = "room"  // who has it has the lock
	Token = "token" // see package ledger
)

// Place is the place of one who has passed the queue: the room, if there is one, and the
// turnstiles that are to be opened behind him. Its methods may not be called at the
// same time.
type Place struct {
	wants Request
	dir   *inode.Dir // the state directory, open
	made  bool       // we made it

	turnstiles []*File // those passed, from the lowest
	awaited    bool    // somebody waited at the one that was opened last
	room       *File   // nil where flock does not work
	id         inode.ID
	degraded   error
}

// Dir is the state directory.
func (p *Place) Dir() *inode.Dir { return p.dir }

// Degraded is why there is no room: flock does not work here. Else it is nil.
func (p *Place) Degraded() error { return p.degraded }

// Locked reports whether we have the room.
func (p *Place) Locked() bool { return p.room != nil }

// Inode is that of the room; 0 without one.
func (p *Place) Inode() uint64 { return p.id.Ino }

// Stands reports whether the room's path names the inode that we have locked.
func (p *Place) Stands() bool {
	open, err := p.room.ID()
	if err != nil {
		return false
	}
	p.id = open
	named, err := inode.Identify(RoomPath(p.wants.State))
	return err == nil && named == open
}

// Gone reports whether the room's path names another file by now, or none. A path that
// cannot be looked at says nothing.
func (p *Place) Gone() bool {
	if p.room == nil {
		return false
	}
	named, err := inode.Identify(RoomPath(p.wants.State))
	open, oerr := p.room.ID()
	return inode.IsGone(err) || err == nil && oerr == nil && named != open
}

// ShowPassing lets others know that the room is locked for a moment yet, and nobody has the
// lock any more: one who would not wait for a holder has it then.
func (p *Place) ShowPassing() {
	if p.room != nil {
		p.room.hideAll() // check: gap-is-no-hold: p.room.hideAll() -> _ = p
	}
}

// RoomPath is the path of the room in the state directory at that path.
func RoomPath(state string) string { return filepath.Join(state, Room) }

// Descriptor is that of the room; -1 without one.
func (p *Place) Descriptor() int {
	if p.room == nil {
		return -1
	}
	return p.room.Fd()
}

// ShowEnding lets others know that the lock is kept for the rest of an ended command.
func (p *Place) ShowEnding() {
	if p.room != nil {
		p.room.Show(Ending)
	}
}

// OpenRoom opens the room and locks nothing, for a command that runs under somebody
// else's hold: it inherits the file, and if the lock is taken by the very same open file
// later, it keeps that even when we are killed. It is nil where there is none.
func OpenRoom(state string) *File {
	dir, err := inode.OpenDir(state)
	if err != nil {
		return nil
	}
	defer dir.Close()
	f, err := Existing(dir.At(Room))
	if err != nil {
		return nil // where flock does not work there is none
	}
	if f.Raise() != nil {
		f.Close()
		return nil
	}
	return f
}
