package lock

import (
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/ledger"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/queue"
	"github.com/dblock-dev/dblock/lock/internal/watch"
)

const (
	// maxBeat is the longest time between two refreshes of the timestamp.
	maxBeat = 5 * time.Second
	// minBeat is the shortest, however soon we are to count as abandoned.
	minBeat = time.Millisecond
	// lookEvery is how often the path is looked at before the watch is up, and
	// where there is none. A heal must be quicker than the peers' 100 ms.
	lookEvery = MaxUnattended
	// wakeUp is how long a process that was woken may need until it runs, on a
	// machine that is very busy.
	wakeUp = 50 * time.Millisecond
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
	// outerEvery is how often an enclosing hold is checked for the death of its
	// process, which no watch tells.
	outerEvery = 250 * time.Millisecond
	// lead is how far ahead a stopped holder dates its notice.
	lead = 24 * time.Hour
)

// Courtesy towards peers that poll every 100 ms: dblocks hand the lock over in
// microseconds, and such a peer would never find the path free.
const (
	gapFor   = 120 * time.Millisecond // how long the path is left free for them
	gapEvery = 500 * time.Millisecond // how often, while they have been met lately
	gapSoon  = 250 * time.Millisecond // how often, while one is polling right now

	crowdedSettle = 20 * time.Millisecond // how long a peer may need from one step to the next
	pollsWithin   = 3 * time.Second       // two reads of the notice within this time are a poll
)

// hold is a lock that is held.
type hold struct {
	*attempt
	grant Grant

	mu        sync.Mutex // guards what follows, and the notice against release
	ended     bool
	reads     int  // looks that found that somebody had read the notice
	polled    bool // by a peer, while it is held
	crowded   bool // several peers are about
	intruded  bool // somebody may have come and gone while the notice was away
	suspended bool
	bequests  bool // others may have inherited the room, and keep it
	left      bool // the notice was left in its place for who comes next
	lost      *LostError
	watcher   *watch.Watcher
	watched   notice.ID // the notice's inode that it watches

	outer     *outer // the hold of an enclosing dblock that we lean on
	successor *hold  // our own, taken when that one ended

	lostc chan struct{}
	stop  chan struct{}
	due   time.Time   // when the first look is
	first *time.Timer // starts the keeper then; nil while that is left to the caller
}

func newHold(a *attempt) *hold {
	h := &hold{attempt: a, lostc: make(chan struct{}), stop: make(chan struct{})}
	h.grant = Grant{Names: a.names, Holder: holderOf(a.info), Waited: time.Since(a.start), Degraded: a.degraded}
	h.grant.Token = a.ledger.Token
	h.crowded = a.ledger.Crowded(a.now())
	h.attendLater()
	return h
}

// attendLater starts the keeper when the first look is due, or leaves that to the
// caller: a hold that is over by then costs no goroutine, or not even a timer.
func (h *hold) attendLater() {
	h.due = time.Now().Add(h.lookEvery())
	if !h.opts.Unattended || h.crowded {
		h.attend()
	}
}

func (h *hold) attend() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.first == nil && !h.ended {
		h.first = time.AfterFunc(time.Until(h.due), h.keep)
	}
}

// openLower lets those come who wait at the lower turnstiles, from the highest,
// at each when whoever waited at the one above has passed that.
func (h *hold) openLower() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for above := High; len(h.turnstiles) > 0; above-- {
		h.letPass(above)
		h.open()
	}
}

// letPass waits until whoever was waiting at the turnstile has it.
func (h *hold) letPass(p Priority) {
	if !h.awaited {
		return
	}
	t, err := queue.Existing(h.dir.At(turnstileName(p)))
	if err != nil {
		return
	}
	defer t.Close()
	for end := time.Now().Add(wakeUp); time.Now().Before(end); time.Sleep(wakeUp / 500) {
		if passed, _ := t.Shown(queue.Having); passed {
			return
		}
	}
}

func (h *hold) lookEvery() time.Duration {
	if h.crowded {
		return crowdedLook
	}
	return lookEvery
}

func (h *hold) beatEvery() time.Duration {
	if h.outer != nil {
		return outerEvery
	}
	return max(minBeat, min(maxBeat, h.opts.StaleTimeout/6))
}

// keep refreshes the notice and watches over it until the hold ends.
func (h *hold) keep() {
	beat := time.Now().Add(h.beatEvery() - h.lookEvery())
	h.openLower()
	for until := time.Now().Add(watchAfter - h.lookEvery()); time.Now().Before(until); {
		h.look()
		beat = h.beatIfDue(beat)
		if !h.pause(h.lookEvery()) {
			return
		}
	}
	w := h.startWatch()
	for again := time.Duration(0); w != nil; {
		until := beat
		if again > 0 {
			until = earlier(beat, time.Now().Add(again))
		}
		what, err := w.Wait(until)
		if h.over() {
			return
		}
		if err != nil {
			break
		}
		h.look()
		h.follow(w)
		beat = h.beatIfDue(beat)
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
	for h.pause(lookEvery) {
		h.look()
		beat = h.beatIfDue(beat)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// pause waits; false says that the hold is over.
func (h *hold) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-h.stop:
		return false
	}
}

func (h *hold) over() bool {
	select {
	case <-h.stop:
		return true
	default:
		return false
	}
}

func (h *hold) beatIfDue(due time.Time) time.Time {
	if time.Now().Before(due) {
		return due
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.beat()
	return time.Now().Add(h.beatEvery())
}

// beat shows that we live. A failure is not a loss: the next beat tries again.
func (h *hold) beat() {
	if h.ended || h.suspended || h.file == nil {
		return
	}
	_ = h.file.Beat(h.now())
	if h.opts.Mode == Shared {
		_ = h.file.SetPID(h.me.PID)
	}
}

// startWatch watches the inode of the notice and that of the room: that their
// names change is what matters.
func (h *hold) startWatch() *watch.Watcher {
	w, err := watch.New()
	if err != nil {
		return nil
	}
	h.mu.Lock()
	ended := h.ended
	h.watcher = w
	if h.file != nil {
		h.watched = h.file.ID()
	}
	h.mu.Unlock()
	if ended {
		w.Close()
		return nil
	}
	if h.outer == nil && h.room != nil && w.Add(h.names.room(), watch.Moved) != nil {
		h.look()
	}
	if w.Add(h.names.Notice, watch.Moved) != nil {
		h.look() // it is gone at this moment
		if w.Add(h.names.Notice, watch.Moved) != nil {
			return h.dropWatch(w)
		}
	}
	h.look() // what happened before the watch was there
	h.follow(w)
	return w
}

// follow watches the new inode after a heal, or another reader, has put one in the
// place of the one that was watched.
func (h *hold) follow(w *watch.Watcher) {
	for range 10 {
		h.mu.Lock()
		done := h.file == nil || h.file.ID() == h.watched
		if !done && w.Add(h.names.Notice, watch.Moved) == nil {
			h.watched = h.file.ID()
		}
		h.mu.Unlock()
		if done {
			return
		}
		h.look() // what happened before it was watched
	}
}

func (h *hold) dropWatch(w *watch.Watcher) *watch.Watcher {
	h.mu.Lock()
	h.watcher = nil
	h.mu.Unlock()
	w.Close()
	return nil
}

// look finds out whether the lock is still ours, and heals what can be healed.
// Only what is seen counts: a path that cannot be looked at now (EIO, ESTALE)
// says nothing.
func (h *hold) look() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.outer != nil {
		h.lookOuter()
		return
	}
	h.examine(h.heal)
	h.countReads()
}

// countReads counts the looks that find that the notice was read since the one before.
// A single one is a person or a script that wants to know who has the lock; a peer that
// polls reads again and again.
func (h *hold) countReads() {
	if h.ended || h.suspended || h.file == nil || h.polled || !h.file.WasRead() {
		return
	}
	h.reads++
	h.polled = h.reads > 1
	h.beat() // or the next read would not show
}

// examine is look's work for a hold of our own. A notice that cannot be put back leaves
// the path to the peers: then the lock is lost, not only when one of them has come. It
// is tried more than once, since there may be room on the disk in the next moment.
func (h *hold) examine(heal func() error) {
	var failed error
	for range 3 {
		if h.ended || h.lost != nil {
			return
		}
		if h.room != nil {
			id, err := notice.Identify(h.names.room())
			open, oerr := h.room.ID()
			if notice.IsGone(err) || err == nil && oerr == nil && id != open { // check: room-gone
				h.lose("its state directory was removed", nil)
				return
			}
		}
		id, err := notice.Identify(h.names.Notice)
		switch {
		case err == nil && id == h.file.ID():
			return
		case err == nil && h.recognise():
			return
		case err == nil:
			h.loseTo()
			return
		case !notice.IsGone(err):
			return
		}
		h.suspect()
		failed = heal() // check: heal: failed = heal() -> return
	}
	if failed != nil {
		h.lose("its lock file was removed and cannot be restored, "+reason(failed), nil)
	}
}

// suspect finds out whether somebody may have come and gone while our notice was away:
// then a name in its directory was created or removed after ours was. Where only one
// peer is about it is known who has removed it, and that it does not come back so soon.
// Among readers it is mostly another one who has put the notice back.
func (h *hold) suspect() {
	if h.opts.Mode == Shared || h.ledger.Single(h.now()) {
		return
	}
	unlinked, err := h.file.Unlinked()
	changed, derr := notice.DirChanged(filepath.Dir(h.names.Notice))
	h.intruded = h.intruded || err == nil && derr == nil && changed > unlinked // check: intruder: changed > unlinked -> changed > unlinked && false
}

// missed is for a notice that is missing when the hold ends. It is not put back, and so
// whoever removed it may be at work by now, unless that can only have been the one peer
// that is about.
func (h *hold) missed() error {
	h.intruded = h.intruded || h.opts.Mode == Exclusive && !h.ledger.Single(h.now())
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

// heal puts our notice back after somebody removed it. That somebody else's is there
// by now is no error: the next look sees it.
func (h *hold) heal() error {
	h.beat()
	if h.linked {
		moved, err := notice.Link(h.spareFile(), h.noticeFile())
		h.linked = !moved
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// The spare name has gone too: write the notice anew, the same in everything
	// but the inode.
	fresh, file, err := h.createAnew()
	if err != nil {
		return err
	}
	moved, err := notice.Link(fresh, h.noticeFile())
	if err != nil {
		file.Close()
		_ = fresh.Remove()
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	h.file.Close()
	h.file = file
	h.linked = !moved && (fresh == h.spareFile() || notice.Rename(fresh, h.spareFile()) == nil)
	return nil
}

// createAnew writes our notice anew, under the spare name if that is ours alone:
// another reader may be doing just that, so not under the name that both know.
func (h *hold) createAnew() (notice.Name, *notice.File, error) {
	info := h.info
	info.Timestamp = h.now()
	if h.opts.Mode == Exclusive {
		if file, err := h.spareFile().Create(info); !errors.Is(err, fs.ErrExist) {
			return h.spareFile(), file, err
		}
	}
	fresh := h.spareFile().Beside(queue.Passing())
	file, err := fresh.Create(info)
	return fresh, file, err
}

// recognise adopts a notice that another reader of the same shared hold has put
// in the place of the one we knew.
func (h *hold) recognise() bool {
	if h.opts.Mode != Shared {
		return false
	}
	seen, err := notice.Read(h.names.Notice)
	if err != nil || seen.Info.Dblock == nil || seen.Info.Dblock.ID != h.grantID {
		return false
	}
	if file, err := h.noticeFile().Adopt(seen); err == nil {
		h.file.Close()
		h.file = file
	}
	return true
}

// loseTo declares the lock lost to whoever's notice is there now.
func (h *hold) loseTo() {
	seen, err := notice.Read(h.names.Notice)
	switch {
	case notice.IsGone(err):
		// It was there a moment ago: look again.
	case err != nil || seen.Err != nil:
		h.lose("something else is in its place", nil)
	default:
		holder := holderOf(seen.Info)
		h.lose("it was taken", &holder)
	}
}

func (h *hold) lose(reason string, by *Holder) {
	h.lost = &LostError{Path: h.names.Notice, Reason: reason, Holder: by}
	close(h.lostc)
}

func (h *hold) lostErr() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lost == nil {
		return nil
	}
	return h.lost
}

func (h *hold) suspend() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended || h.file == nil {
		return
	}
	h.suspended = true
	_ = h.file.Beat(h.now() + lead.Milliseconds()) // check: suspend-lead: lead.Milliseconds() -> 0
}

func (h *hold) resume() {
	// The truth first: whatever happened while we were stopped.
	h.look()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.suspended = false
	h.beat()
}

// release ends the hold: no more beats, the notice if it is ours, the spare
// name, the courtesy gap, the room.
func (h *hold) release() error {
	h.openLower()
	h.mu.Lock()
	if h.outer == nil && h.lost == nil {
		// A lock that was lost just now was lost, too; healing it is not worth it.
		h.examine(h.missed) // check: last-look: h.examine(h.missed) -> _ = h
	}
	h.ended = true
	if h.first != nil {
		h.first.Stop()
	}
	close(h.stop)
	if w := h.watcher; w != nil {
		w.Interrupt()
		time.AfterFunc(closeAfter, w.Close)
	}
	if h.lost == nil && h.intruded {
		h.lose("its lock file was removed for a moment, in which somebody else may have worked", nil)
	}
	lost := h.lost
	own := h.successor
	h.mu.Unlock()
	if own != nil {
		return own.release()
	}

	var err error
	if h.bequests && h.inherited() {
		h.file.Close()
		h.file, h.room = nil, nil
	}
	if h.file != nil {
		if h.lastOut() {
			h.countPoll()
			err = h.depart()
		}
		h.file.Close()
	}
	if h.room != nil {
		// Unlocking, not only closing: a daemon that the command left behind has
		// inherited the open file and would keep the lock.
		if uerr := h.room.Unlock(); err == nil { // check: explicit-unlock: h.room.Unlock() -> error(nil)
			err = uerr
		}
		if h.left { // check: look-back
			h.lookBack()
		}
		h.room.Close()
	}
	h.dir.Close()
	if lost != nil {
		return lost
	}
	return err
}

func (h *hold) bequeath() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bequests = h.room != nil
}

// inherited closes the room without unlocking it, and reports whether it is locked all
// the same. If it is not, we have it again.
func (h *hold) inherited() bool {
	h.room.Close()
	room, err := queue.Open(h.dir.At(roomName))
	if err != nil {
		return true
	}
	h.room = room
	if ok, err := room.Try(queue.Exclusive); ok && err == nil {
		return false
	}
	room.Close()
	return true
}

// lastOut reports whether the notice is ours to remove: always, but among
// readers only for the one that can have the room for itself. The conversion
// gives up the shared lock first; when it fails, another reader or a writer has
// the room and the notice is theirs. When it succeeds on a room whose path names
// another one by now, other readers may have joined the notice from there.
func (h *hold) lastOut() bool {
	if h.opts.Mode != Shared || h.room == nil {
		return true
	}
	alone, err := h.room.Convert()
	return alone && err == nil && // check: last-out: alone && err == nil -> alone || err == nil
		h.roomStands() // check: last-room: h.roomStands() -> true
}

// countPoll finds out whether a peer polls: one that reads the notice in every hold,
// or more than once in this one.
func (h *hold) countPoll() {
	if !h.polled && h.file.WasRead() {
		h.reads++
	}
	again := notice.Since(h.now(), h.ledger.Read).Abs() < pollsWithin
	h.polled = h.polled || h.reads > 1 || h.reads == 1 && again // check: courtesy: h.polled || h.reads > 1 -> false && again
	h.met = h.met || h.polled
}

// depart leaves the path free, or the notice in its place.
func (h *hold) depart() error {
	gap := h.owesGap()
	if !gap && h.atTheDoor() {
		h.leaveNotice()
		h.account(false)
		return nil
	}
	err := h.removeNotice()
	if gap {
		time.Sleep(gapFor)
	}
	h.account(gap)
	return err
}

// removeNotice unlinks the notice while the room is still locked: unlocked
// first, the next dblock would find the notice of a hold that is over.
func (h *hold) removeNotice() error {
	h.step("releasing")
	var err error
	if id, ierr := notice.Identify(h.names.Notice); ierr == nil && h.ours(id) { // check: ownership-before-unlink: h.ours(id) -> id.Ino != 0
		err = notice.Remove(h.names.Notice)
	}
	if id, ierr := h.spareFile().Identify(); ierr == nil && id == h.file.ID() {
		_ = h.spareFile().Remove()
	}
	return err
}

// ours reports whether the inode is that of our notice. The last reader out also
// removes one that another reader put in its place.
func (h *hold) ours(id notice.ID) bool {
	return id == h.file.ID() || h.recognise()
}

// owesGap reports whether the path is to be left free for a while, for peers that poll
// for it, before the next dblock in the queue has it in a few microseconds.
func (h *hold) owesGap() bool {
	now, led, every := h.now(), h.ledger, gapEvery
	if h.met {
		led.Peer = now
	}
	if h.polled {
		// It began to poll after the lock was taken: that the path was free
		// before that has done nothing for it.
		led.Idle, every = 0, gapSoon
	}
	return h.room != nil && led.OwesGap(now, every)
}

// account tells the next hold of the peers, as long as there are any.
func (h *hold) account(gap bool) {
	now := h.now()
	if h.room == nil || h.reads == 0 && !h.met && !h.ledger.PeersLately(now) {
		return
	}
	_ = ledger.Amend(h.dir.At(tokenName), func(led *ledger.Ledger) {
		led.Peer = max(led.Peer, h.ledger.Peer)
		if h.met {
			led.Peer = now
		}
		led.Who, led.Several = h.ledger.Who, max(led.Several, h.ledger.Several)
		if h.reads > 0 {
			led.Read = now
		}
		led.Gap, led.Release = max(led.Gap, h.ledger.Gap), now
		if gap {
			led.Gap = led.Release
		}
	})
}
