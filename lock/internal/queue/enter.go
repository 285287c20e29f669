package queue

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/inode"
)

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
	// Next is called when only those are before us who have the room, and we wait for them.
	Next func()
	// Step is called between two steps.
	Step func(name string)
	// Delay is called before leaving the place takes longer than a moment.
	Delay func()
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
		// All are kept until we have the room and the notice is there: so those of
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
			if p.wants.Next != nil {
				p.wants.Next()
			}
		}
		p.showDeadline(ctx, f)
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
		p.wants.Inherited.lent = true
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
		if p.dir, err = inode.OpenDir(p.wants.State); !errors.Is(err, fs.ErrNotExist) || tries > 100 {
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
