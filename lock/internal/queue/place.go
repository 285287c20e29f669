package queue

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/notice"
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

// Files of the state directory. There are others, which the queue knows nothing of.
const (
	Room  = "room"  // who has it has the lock
	Token = "token" // see package ledger
)

// Turnstile is the name of the file at which a class waits.
func Turnstile(c Class) string { return "turnstile-" + c.String() }

// wakeUp is how long a process that was woken may need until it runs, on a
// machine that is very busy.
const wakeUp = 50 * time.Millisecond

var (
	// ErrBusy says that one would have to wait, and may not.
	ErrBusy = errors.New("busy")
	// ErrAgain says that the state directory was replaced meanwhile: one is to start again.
	ErrAgain = errors.New("start again")
)

// Request says who wants in, and how.
type Request struct {
	State     string // path of the state directory
	How       How
	Class     Class
	Patience  *Patience
	Interrupt syscall.Signal // see File.Interruptible; 0: none

	// Inherited is the room, open already, if what runs under the lock has inherited
	// it: then no other open file will do. It belongs to the place from then on.
	Inherited *File

	// Discard is called with the room when we have it and cannot use it, before it is
	// unlocked.
	Discard func(room *File)
	// Step is called between two steps.
	Step func(name string)
}

// Place is the place of one who has passed the queue: the room, if there is one, and the
// turnstiles that are to be opened behind him. Its methods may not be called at the
// same time.
type Place struct {
	wants Request
	dir   *notice.Dir // the state directory, open
	made  bool        // we made it

	turnstiles []*File // those passed, from the lowest
	awaited    bool    // somebody waited at the one that was opened last
	room       *File   // nil where flock does not work
	id         notice.ID
	degraded   error
}

// Enter passes the turnstiles and locks the room. The error is ErrBusy, ErrAgain, that of
// a context, or a *fs.PathError; then nothing is left. Where flock does not work there
// is a place without a room: see Degraded.
func Enter(ctx context.Context, r Request) (*Place, error) {
	p := &Place{wants: r}
	err := p.enter(ctx)
	if err != nil {
		p.Abandon()
	}
	if p.room != r.Inherited {
		r.Inherited.Close()
	}
	switch {
	case err == ErrAgain && r.Inherited != nil:
		return nil, ErrBusy // another room than the one that was inherited
	case err != nil:
		return nil, err
	}
	return p, nil
}

func (p *Place) enter(ctx context.Context) error {
	for c := p.wants.Class; c <= High; c++ {
		next, err := p.lockFile(ctx, Turnstile(c), Exclusive)
		if errors.Is(err, ErrUnsupported) {
			p.degraded = err
			return nil
		}
		if err != nil {
			return err
		}
		// All are kept until the room is had and the notice is there: so those of
		// a class that follow us wait here, and no two of them stand in the way
		// of a higher class at the turnstiles that only it must pass.
		p.turnstiles = append(p.turnstiles, next)
	}
	room, err := p.lockFile(ctx, Room, p.wants.How)
	if err != nil {
		return err
	}
	p.room = room
	p.wants.Step("room")
	// Between open and flock the state directory may have been deleted and made
	// anew by somebody: then others lock another inode, and this one means nothing.
	if !p.Stands() { // check: inode-recheck
		return ErrAgain
	}
	if p.wants.How == Shared {
		room.Hide(Having)
		room.Show(Reading)
	} else {
		room.Show(Having)
	}
	return room.Raise()
}

// lockFile opens and locks one file of the state directory.
func (p *Place) lockFile(ctx context.Context, name string, how How) (*File, error) {
	f, err := p.openFile(name)
	if err != nil {
		return nil, err
	}
	p.wants.Step("open " + name)
	ok, err := p.tryInTurn(f, how)
	switch {
	case ok:
		return f, nil
	case err != nil:
	case p.wants.Patience.None:
		if err = p.tryFairly(f, how); err == nil {
			return f, nil
		}
	default:
		f.Show(Waiting)
		f.Interruptible(p.wants.Interrupt)
		if name == Room {
			f.Discarded = p.wants.Discard
		}
		limited := p.wants.Patience.Limit(ctx)
		if err = f.Wait(limited, how); err == nil {
			f.Show(Having)
			f.Hide(Waiting)
			return f, nil
		}
		if ctx.Err() != nil || limited.Err() != nil {
			return nil, err // the wait was abandoned, and f with it
		}
	}
	f.Close()
	return nil, err
}

// tryInTurn locks a file that is free, unless somebody waits for it: then the kernel
// has just woken that one, which is not back on a processor yet, and would let us
// have the lock before. It gets a while for that; one that was stopped while it
// waited does not come.
func (p *Place) tryInTurn(f *File, how How) (bool, error) {
	for begin := time.Now(); ; time.Sleep(wakeUp / 500) {
		ok, err := f.Try(how)
		if !ok || err != nil {
			return false, err
		}
		if waiting, _ := f.Shown(Waiting); !waiting || time.Since(begin) > wakeUp { // check: give-way: !waiting || -> !waiting || true ||
			return true, nil
		}
		if err := f.Unlock(); err != nil {
			return false, err
		}
		p.wants.Step("giving way")
	}
}

// tryFairly locks without waiting for a holder or for others who wait, but does
// wait for those who are just passing: they are gone in microseconds.
func (p *Place) tryFairly(f *File, how How) error {
	const (
		patience = 500 * time.Millisecond // at most, on a machine that is very busy
		blind    = 20 * time.Millisecond  // where the system does not tell who waits
	)
	for begin, pause := time.Now(), 100*time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		if ok, err := p.tryInTurn(f, how); ok || err != nil {
			return err
		}
		taken, known := p.taken()
		if waited := time.Since(begin); taken || waited > patience || !known && waited > blind {
			return ErrBusy
		}
		time.Sleep(pause)
	}
}

// taken reports whether somebody holds the room in a way that excludes us, or
// waits anywhere in the queue.
func (p *Place) taken() (taken, known bool) {
	for _, name := range []string{Room, Turnstile(Low), Turnstile(Normal), Turnstile(High)} {
		f, err := Existing(p.dir.At(name))
		if err != nil {
			continue
		}
		waiting, ok := f.Shown(Waiting)
		having, reading := false, false
		if name == Room {
			having, _ = f.Shown(Having)
			reading, _ = f.Shown(Reading)
		}
		f.Close()
		if !ok {
			return false, false
		}
		if waiting || having || reading && p.wants.How == Exclusive {
			return true, true
		}
	}
	return false, true
}

// openFile opens a file of the state directory, and makes what is missing of the two.
func (p *Place) openFile(name string) (*File, error) {
	if name == Room && p.wants.Inherited != nil {
		return p.wants.Inherited, nil
	}
	for tries := 0; ; tries++ {
		if err := p.openState(); err != nil {
			return nil, err
		}
		f, err := Open(p.dir.At(name))
		// Others may delete the directory as often as we make it.
		if !errors.Is(err, fs.ErrNotExist) || tries > 100 {
			return f, err
		}
		p.closeState()
	}
}

// openState opens the state directory, once: from then on all its names are those of
// one directory, whatever somebody puts in its place.
func (p *Place) openState() (err error) {
	for tries := 0; p.dir == nil; tries++ {
		if p.dir, err = notice.OpenDir(p.wants.State); !errors.Is(err, fs.ErrNotExist) || tries > 100 {
			return err
		}
		made, err := MakeDir(p.wants.State)
		p.made = p.made || made
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *Place) closeState() {
	p.dir.Close()
	p.dir = nil
}

// Dir is the state directory.
func (p *Place) Dir() *notice.Dir { return p.dir }

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
	named, err := notice.Identify(RoomPath(p.wants.State))
	return err == nil && named == open
}

// Gone reports whether the room's path names another file by now, or none. A path that
// cannot be looked at says nothing.
func (p *Place) Gone() bool {
	if p.room == nil {
		return false
	}
	named, err := notice.Identify(RoomPath(p.wants.State))
	open, oerr := p.room.ID()
	return notice.IsGone(err) || err == nil && oerr == nil && named != open
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
	}
}

// openOne opens our last turnstile.
func (p *Place) openOne() {
	last := len(p.turnstiles) - 1
	p.awaited = p.awaits(p.turnstiles[last])
	p.turnstiles[last].Close()
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
		t.Close()
	}
	p.turnstiles = nil
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
	p.room.Close()
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
		return notice.IsGone(err)
	}
	ok, err := p.room.Try(Exclusive)
	return ok && err == nil && p.Stands()
}

// SuccessorWaits reports whether somebody waits for the room that only he can have
// after us: among readers nobody knows who will be the last.
func (p *Place) SuccessorWaits() bool {
	if p.wants.How == Shared || p.room == nil {
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

// lookBack waits until the successor has come. One that is killed or gives up in the
// moment of the hand-over takes its sign down, and one that was stopped has left the
// kernel's queue and does not come: then nobody would remove what was left for it.
func (p *Place) lookBack() {
	p.wants.Step("left")
	pause := 50 * time.Microsecond
	for begin := time.Now(); time.Since(begin) < wakeUp; pause = min(2*pause, time.Millisecond) {
		// In this order: the successor shows that it has the room, and then no longer
		// that it waits.
		waits, known := p.room.Shown(Waiting)
		if has, _ := p.room.Shown(Having); has || !known {
			return
		}
		if !waits {
			break
		}
		time.Sleep(pause)
	}
	// If the room cannot be had, whoever has it takes over what was left.
	if ok, err := p.room.Try(Exclusive); !ok || err != nil {
		return
	}
	p.wants.Discard(p.room)
	_ = p.room.Unlock()
}

// OpenRoom opens the room and locks nothing, for a command that runs under somebody
// else's hold: it inherits the file, and if the lock is taken by the very same open file
// later, it keeps that even when we are killed. It is nil where there is none.
func OpenRoom(state string) *File {
	dir, err := notice.OpenDir(state)
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
