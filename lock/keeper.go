package lock

import (
	"errors"
	"sync"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/watch"
)

const (
	// lookEvery is how often the path is looked at before the watch is up, and
	// where there is none. A heal must be quicker than the peers' 100 ms.
	lookEvery = MaxUnattended
	// crowdedLook is the same while several peers are about: in the time that a
	// deleted notice is away any of them may come.
	crowdedLook = time.Millisecond
	// watchAfter is when the watch is set up; commands that end sooner do not
	// pay for it, and looking costs next to nothing for that long.
	watchAfter = 2 * time.Second
	// closeAfter is when the watch is closed after the end of a hold. That takes the
	// kernel 8 ms, and as long again at the end of the process: most have ended by then.
	closeAfter = time.Second
	// After an event there are some more looks, at growing intervals from the
	// first of these to the last.
	firstAgain, lastAgain = 200 * time.Microsecond, 200 * time.Millisecond
)

// charge is a hold that a keeper looks after. The keeper's mutex is locked while a
// method is called.
type charge interface {
	begin()                  // what there is to do first, once the hold is no short one
	look()                   // finds out whether the lock is still ours, and heals what can be healed
	beat()                   // shows that we live
	room() string            // the path of the room, if it is to be watched, else empty
	mourn(*LostError)        // is told that the lock was lost
	inode() (inode.ID, bool) // that of the notice, if it can be another one than it was
}

// keeper looks after a hold until it ends: it beats, looks, and tells of a loss.
type keeper struct {
	charge    charge
	path      string // the lock file
	name      string // the lock, for people
	lookEvery time.Duration
	beatEvery time.Duration

	mu      sync.Mutex // guards what follows, and all that the charge can change
	ended   bool
	lost    *LostError
	watcher *watch.Watcher
	watched inode.ID    // the notice's inode that it watches
	first   *time.Timer // starts keep when the first look is due; nil while that is left to the caller

	lostc chan struct{}
	stop  chan struct{}
	due   time.Time // when the first look is
}

// newKeeper is a keeper that looks for the first time when lookEvery has passed, if it
// is told to attend before that: a hold that is over by then costs no goroutine, or not
// even a timer.
func newKeeper(c charge, n Names, lookEvery, beatEvery time.Duration) *keeper {
	return &keeper{
		charge: c, path: n.Notice, name: n.Shown(), lookEvery: lookEvery, beatEvery: beatEvery,
		lostc: make(chan struct{}), stop: make(chan struct{}), due: time.Now().Add(lookEvery),
	}
}

func (k *keeper) attend() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.first == nil && !k.ended {
		k.first = time.AfterFunc(time.Until(k.due), k.keep)
	}
}

// keep looks after the hold until it ends.
func (k *keeper) keep() {
	beat := time.Now().Add(k.beatEvery - k.lookEvery)
	k.begin()
	for until := time.Now().Add(watchAfter - k.lookEvery); time.Now().Before(until); {
		k.look()
		beat = k.beatIfDue(beat)
		if !k.pause(k.lookEvery) {
			return
		}
	}
	w := k.startWatch()
	for again := time.Duration(0); w != nil; {
		until := beat
		if again > 0 {
			until = earlier(beat, time.Now().Add(again))
		}
		what, err := w.Wait(until)
		if k.over() {
			return
		}
		if err != nil {
			break
		}
		k.look()
		k.follow(w)
		beat = k.beatIfDue(beat)
		// The kernel tells of an unlink a moment before the name is gone: a look
		// that is too quick sees nothing, and there is no second event.
		switch {
		case what != 0:
			again = firstAgain
		case again < lastAgain:
			again *= 4
		default:
			again = 0
		}
	}
	for k.pause(lookEvery) {
		k.look()
		beat = k.beatIfDue(beat)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// pause waits; false says that the hold is over.
func (k *keeper) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-k.stop:
		return false
	}
}

func (k *keeper) over() bool {
	select {
	case <-k.stop:
		return true
	default:
		return false
	}
}

func (k *keeper) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.charge.begin()
}

func (k *keeper) look() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.charge.look()
}

func (k *keeper) beatIfDue(due time.Time) time.Time {
	if time.Now().Before(due) {
		return due
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.charge.beat()
	return time.Now().Add(k.beatEvery)
}

// startWatch watches the inode of the notice and that of the room: that their
// names change is what matters.
func (k *keeper) startWatch() *watch.Watcher {
	w, err := watch.New()
	if err != nil {
		return nil
	}
	k.mu.Lock()
	ended := k.ended
	k.watcher = w
	if id, ok := k.charge.inode(); ok {
		k.watched = id
	}
	room := k.charge.room()
	k.mu.Unlock()
	if ended {
		w.Close()
		return nil
	}
	if room != "" && w.Add(room, watch.Moved) != nil {
		k.look()
	}
	if w.Add(k.path, watch.Moved) != nil {
		k.look() // it is gone at this moment
		if w.Add(k.path, watch.Moved) != nil {
			return k.dropWatch(w)
		}
	}
	k.look() // what happened before the watch was there
	k.follow(w)
	return w
}

// follow watches the new inode after a heal, or another reader, has put one in the
// place of the one that was watched.
func (k *keeper) follow(w *watch.Watcher) {
	for range 10 {
		k.mu.Lock()
		id, ok := k.charge.inode()
		done := !ok || id == k.watched
		if !done && w.Add(k.path, watch.Moved) == nil {
			k.watched = id
		}
		k.mu.Unlock()
		if done {
			return
		}
		k.look() // what happened before it was watched
	}
}

func (k *keeper) dropWatch(w *watch.Watcher) *watch.Watcher {
	k.mu.Lock()
	k.watcher = nil
	k.mu.Unlock()
	w.Close()
	return nil
}

// idle reports whether there is nothing to look after any more: the hold has ended, or
// the lock was lost. The mutex is locked.
func (k *keeper) idle() bool { return k.ended || k.lost != nil }

// lose notes that the lock was lost, and to whom if that is known. The mutex is locked.
func (k *keeper) lose(reason string, by *Holder) {
	k.lost = &LostError{Path: k.name, Reason: reason, Holder: by}
	close(k.lostc)
	k.charge.mourn(k.lost)
}

// loseTo notes that the lock was lost, as an engine says, unless it is known.
func (k *keeper) loseTo(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.idle() {
		k.lose(err.Error(), nil)
	}
}

// loseAs notes that the lock was lost as another hold has lost it. The mutex is locked.
func (k *keeper) loseAs(err error) {
	if errors.As(err, &k.lost) {
		close(k.lostc)
	}
}

func (k *keeper) err() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lost == nil {
		return nil
	}
	return k.lost
}

// end ends the keeping. The mutex is locked.
func (k *keeper) end() {
	k.ended = true
	if k.first != nil {
		k.first.Stop()
	}
	close(k.stop)
	if w := k.watcher; w != nil {
		w.Interrupt()
		time.AfterFunc(closeAfter, w.Close)
	}
}
