package lock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/judge"
	"github.com/dblock-dev/dblock/lock/internal/ledger"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/proc"
	"github.com/dblock-dev/dblock/lock/internal/queue"
	"github.com/dblock-dev/dblock/lock/internal/watch"
)

var (
	errBusy  = errors.New("busy")        // it would have to wait, and may not
	errAgain = errors.New("start again") // the state directory was replaced meanwhile
)

// attempt is one Acquire on its way.
type attempt struct {
	*Lock
	names Names
	me    proc.Me
	start time.Time

	wait context.Context // ends when the wait must; nil until there is one
	stop context.CancelFunc
	told bool // OnWait was called by an earlier attempt of the same Acquire

	dir     *notice.Dir // the state directory, open
	created bool        // we made it

	turnstiles []*queue.File // those passed, from the lowest
	awaited    bool          // somebody waited at the one that was opened last
	room       *queue.File   // nil where flock does not work
	roomID     notice.ID     // what it is
	bequeathed *queue.File   // the room, open already, that the command has inherited
	heir       bool          // it was used
	degraded   error

	ledger  ledger.Ledger
	grantID string
	info    notice.Info  // what our notice says
	file    *notice.File // our notice, complete, under the spare name
	spare   string       // that name, in the state directory
	linked  bool         // it exists

	seen      *notice.Sighting // the foreign notice we wait for
	since     time.Time        // since when it has had these bytes, on the monotonic clock
	unsettled time.Time        // when a peer's empty or vanishing file was last seen
	passing   bool             // the path was free, and several peers are about
	met       bool             // a peer was met

	clockMoved bool // the wall clock was set since the last hold
	watch      *watch.Watcher
	poll       time.Duration
}

func newAttempt(l *Lock, n Names) *attempt {
	return &attempt{Lock: l, names: n, me: proc.Self(), start: time.Now(), spare: spareName, poll: l.opts.RetryDelay}
}

func (a *attempt) step(name string) {
	if a.seam != nil {
		a.seam(name)
	}
}

// run goes through the whole protocol. Whatever it has taken is given back on
// an error, and what it has created is removed.
func (a *attempt) run(ctx context.Context) (h *hold, err error) {
	defer func() {
		if a.stop != nil {
			a.stop()
		}
		if a.watch != nil {
			// Closing it waits for the kernel; nobody needs to wait with it.
			go a.watch.Close()
		}
		if err != nil {
			a.abandon()
		}
	}()
	for again := 0; ; again++ {
		err := a.enter(ctx)
		if err == nil {
			a.step("entered")
			// What is missing now was there when we came: the state directory was
			// removed with all that was in it.
			if err = a.announce(ctx); errors.Is(err, fs.ErrNotExist) && again < 100 { // check: state-gone
				err = errAgain
			}
		}
		if err == errAgain {
			a.abandon()
			if a.heir {
				return nil, errBusy // another room than the one that the command has
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		// Only now that the notice is there may the next one come near it.
		a.openLast()
		h := newHold(a)
		return h, nil
	}
}

// patience is ctx, limited by how long we may wait. A lock that is free is had
// without it: the first timer of a process costs the Go runtime system calls.
func (a *attempt) patience(ctx context.Context) context.Context {
	if a.wait != nil {
		return a.wait
	}
	if a.opts.OnWait != nil && !a.told {
		a.opts.OnWait()
	}
	a.wait, a.stop = ctx, func() {}
	if a.opts.Wait != Forever {
		a.wait, a.stop = context.WithDeadline(ctx, a.start.Add(a.opts.Wait))
	}
	return a.wait
}

// abandon undoes what was done so far, in the opposite order.
func (a *attempt) abandon() {
	if a.file != nil {
		a.dropNotice()
	}
	if a.room != nil {
		a.removeLeft(a.room)
	}
	if a.created && a.mayRemoveState() {
		// The state directory is ours and the lock never was: leave nothing of
		// it. Others who have the files open find out by the inode check. rmdir
		// fails, and should, if somebody else is about to use it.
		for _, name := range []string{turnstileName(Low), turnstileName(Normal), turnstileName(High), tokenName, roomName} {
			_ = a.dir.At(name).Remove()
		}
	}
	a.room.Close()
	a.room = nil
	a.closeTurnstiles()
	a.closeState()
	if a.created {
		_ = syscall.Rmdir(a.names.State)
		a.created = false
	}
}

// mayRemoveState reports whether nobody else is in: we have the room for
// ourselves, or could not even create it.
func (a *attempt) mayRemoveState() bool {
	if a.dir == nil {
		return false
	}
	if a.room == nil {
		_, err := a.dir.At(roomName).Identify()
		return notice.IsGone(err)
	}
	ok, err := a.room.Try(queue.Exclusive)
	return ok && err == nil && a.roomStands()
}

// openLast lets those come who wait at the last turnstile. If a class above ours
// waits, those of ours and below must wait at theirs a little longer: the kernel
// wakes who is next but lets whoever is quicker have the lock, and they, woken at
// the same time, would slip in before those who have long waited. Readers pass at
// once, since others are to join them.
func (a *attempt) openLast() {
	if len(a.turnstiles) == 0 || a.opts.Mode == Shared || !slices.ContainsFunc(a.turnstiles[1:], a.awaits) {
		a.closeTurnstiles()
		return
	}
	a.open()
}

// open closes our last turnstile.
func (a *attempt) open() {
	last := len(a.turnstiles) - 1
	a.awaited = a.awaits(a.turnstiles[last])
	a.turnstiles[last].Close()
	a.turnstiles = a.turnstiles[:last]
}

// awaits reports whether somebody waits at a turnstile of ours. Where we did not
// have to wait, nobody does.
func (a *attempt) awaits(t *queue.File) bool {
	if a.wait == nil {
		return false
	}
	shown, _ := t.Shown(queue.Waiting)
	return shown
}

func (a *attempt) closeTurnstiles() {
	for _, t := range slices.Backward(a.turnstiles) {
		t.Close()
	}
	a.turnstiles = nil
}

// dropNotice removes our notice from wherever it is.
func (a *attempt) dropNotice() {
	if id, err := notice.Identify(a.names.Notice); err == nil && id == a.file.ID() {
		_ = notice.Remove(a.names.Notice)
	}
	if id, err := a.spareFile().Identify(); err == nil && id == a.file.ID() {
		_ = a.spareFile().Remove()
	}
	a.file.Close()
	a.file = nil
}

// enter passes the turnstiles and locks the room.
func (a *attempt) enter(ctx context.Context) error {
	for p := a.opts.Priority; p <= High; p++ {
		next, err := a.lockFile(ctx, turnstileName(p), queue.Exclusive)
		if errors.Is(err, queue.ErrUnsupported) {
			a.degraded = err
			a.spare += queue.Passing() // nothing keeps others from using the common name
			return nil
		}
		if err != nil {
			return err
		}
		// All are kept until the room is had and the notice is there: so those of
		// a class that follow us wait here, and no two of them stand in the way
		// of a higher class at the turnstiles that only it must pass.
		a.turnstiles = append(a.turnstiles, next)
	}
	how := queue.Exclusive
	if a.opts.Mode == Shared {
		how = queue.Shared
	}
	room, err := a.lockFile(ctx, roomName, how)
	if err != nil {
		return err
	}
	a.room = room
	a.step("room")
	// Between open and flock the state directory may have been deleted and made
	// anew by somebody: then others lock another inode, and this one means nothing.
	if !a.roomStands() { // check: inode-recheck
		return errAgain
	}
	if how == queue.Shared {
		room.Hide(queue.Having)
		room.Show(queue.Reading)
	} else {
		room.Show(queue.Having)
	}
	return room.Raise()
}

// roomStands reports whether the room's path names the inode that we have locked.
func (a *attempt) roomStands() bool {
	open, err := a.room.ID()
	if err != nil {
		return false
	}
	a.roomID = open
	named, err := notice.Identify(a.names.room())
	return err == nil && named == open
}

// lockFile opens and locks one file of the state directory.
func (a *attempt) lockFile(ctx context.Context, name string, how queue.How) (*queue.File, error) {
	f, err := a.openFile(name)
	if err != nil {
		return nil, err
	}
	a.step("open " + name)
	ok, err := a.tryInTurn(f, how)
	switch {
	case ok:
		return f, nil
	case err != nil:
	case a.opts.Wait == NoWait:
		if err = a.tryFairly(f, how); err == nil {
			return f, nil
		}
	default:
		f.Show(queue.Waiting)
		f.Interruptible(a.opts.Interrupt)
		if name == roomName {
			f.Discarded = a.removeLeft
		}
		if err = f.Wait(a.patience(ctx), how); err == nil {
			f.Show(queue.Having)
			f.Hide(queue.Waiting)
			return f, nil
		}
		if ctx.Err() != nil || a.wait.Err() != nil {
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
func (a *attempt) tryInTurn(f *queue.File, how queue.How) (bool, error) {
	for begin := time.Now(); ; time.Sleep(wakeUp / 500) {
		ok, err := f.Try(how)
		if !ok || err != nil {
			return false, err
		}
		if waiting, _ := f.Shown(queue.Waiting); !waiting || time.Since(begin) > wakeUp { // check: give-way: !waiting || -> !waiting || true ||
			return true, nil
		}
		if err := f.Unlock(); err != nil {
			return false, err
		}
		a.step("giving way")
	}
}

// openFile opens a file of the state directory, and makes what is missing of the two.
func (a *attempt) openFile(name string) (*queue.File, error) {
	if a.bequeathed != nil && name == roomName {
		f := a.bequeathed
		a.bequeathed, a.heir = nil, true
		return f, nil
	}
	for tries := 0; ; tries++ {
		if err := a.openState(); err != nil {
			return nil, err
		}
		f, err := queue.Open(a.dir.At(name))
		// Others may delete the directory as often as we make it.
		if !errors.Is(err, fs.ErrNotExist) || tries > 100 {
			return f, err
		}
		a.closeState()
	}
}

// openState opens the state directory, once: from then on all its names are those of
// one directory, whatever somebody puts in its place.
func (a *attempt) openState() (err error) {
	for tries := 0; a.dir == nil; tries++ {
		if a.dir, err = notice.OpenDir(a.names.State); !errors.Is(err, fs.ErrNotExist) || tries > 100 {
			return err
		}
		made, err := queue.MakeDir(a.names.State)
		a.created = a.created || made
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *attempt) closeState() {
	a.dir.Close()
	a.dir = nil
}

// tryFairly locks without waiting for a holder or for others who wait, but does
// wait for those who are just passing: they are gone in microseconds.
func (a *attempt) tryFairly(f *queue.File, how queue.How) error {
	const (
		patience = 500 * time.Millisecond // at most, on a machine that is very busy
		blind    = 20 * time.Millisecond  // where the system does not tell who waits
	)
	for begin, pause := time.Now(), 100*time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		if ok, err := a.tryInTurn(f, how); ok || err != nil {
			return err
		}
		taken, known := a.taken()
		if waited := time.Since(begin); taken || waited > patience || !known && waited > blind {
			return errBusy
		}
		time.Sleep(pause)
	}
}

// taken reports whether somebody holds the room in a way that excludes us, or
// waits anywhere in the queue.
func (a *attempt) taken() (taken, known bool) {
	for _, name := range []string{roomName, turnstileName(Low), turnstileName(Normal), turnstileName(High)} {
		f, err := queue.Existing(a.dir.At(name))
		if err != nil {
			continue
		}
		waiting, ok := f.Shown(queue.Waiting)
		having, reading := false, false
		if name == roomName {
			having, _ = f.Shown(queue.Having)
			reading, _ = f.Shown(queue.Reading)
		}
		f.Close()
		if !ok {
			return false, false
		}
		if waiting || having || reading && a.opts.Mode == Exclusive {
			return true, true
		}
	}
	return false, true
}

// announce puts our notice at the path, or joins the one of the readers that
// are in, waiting for foreign holders and taking over from dead ones.
func (a *attempt) announce(ctx context.Context) error {
	if err := a.drawToken(); err != nil {
		return err
	}
	a.step("drawn")
	for {
		if a.room != nil && a.opts.Mode == Shared && a.join() {
			return nil
		}
		if err := a.publish(ctx); err != nil {
			return err
		}
		stands, err := a.settle(ctx)
		if err != nil {
			return err
		}
		if stands && a.clockMoved {
			// No notice that was dated by the old clock is left.
			return ledger.Amend(a.dir.At(tokenName), func(led *ledger.Ledger) { led.Booted, led.Boot = a.me.Booted(a.now()) })
		}
		if stands {
			return nil
		}
	}
}

// drawToken takes the next fencing number, under the room and the last turnstile.
func (a *attempt) drawToken() error {
	a.grantID = fmt.Sprintf("%016x", rand.Uint64())
	return ledger.Amend(a.dir.At(tokenName), func(led *ledger.Ledger) {
		now := a.now()
		led.Token = max(led.Token+1, now)
		if now-led.Release > gapFor.Milliseconds() || now < led.Release {
			led.Idle = now // nobody had it for a while: peers had their chance
		}
		booted, boot := a.me.Booted(now)
		a.clockMoved = led.ClockMoved(booted, boot) && a.inTheWay()
		if !a.clockMoved {
			led.Booted, led.Boot = booted, boot
		}
		a.ledger = *led
	})
}

// inTheWay reports whether there is a notice that may have been dated by another clock.
func (a *attempt) inTheWay() bool {
	_, err := notice.Identify(a.names.Notice)
	return !notice.IsGone(err)
}

func (a *attempt) now() int64 { return a.opts.Now().UnixMilli() }

// describe is the content of our notice.
func (a *attempt) describe() notice.Info {
	now := a.now()
	return notice.Info{
		PID: a.me.PID, Timestamp: now, Dated: true, Host: a.me.Host, Process: a.opts.Process,
		Dblock: &notice.Dblock{
			Version: notice.Version, Mode: a.opts.Mode.String(), Token: a.ledger.Token, ID: a.grantID,
			Acquired: now, Started: a.me.Started, Boot: a.me.Boot, PIDNS: a.me.PIDNS, Room: a.roomID.Ino,
			UID: a.me.UID, Command: a.opts.Command,
		},
	}
}

// noticeFile is the notice at its path.
func (a *attempt) noticeFile() notice.Name { return notice.Path(a.names.Notice) }

// spareFile is the other name of our notice.
func (a *attempt) spareFile() notice.Name { return a.dir.At(a.spare) }

// prepare writes our complete notice under the spare name.
func (a *attempt) prepare() error {
	if a.file != nil {
		a.dropNotice()
	}
	a.info = a.describe()
	file, err := a.createSpare()
	if errors.Is(err, fs.ErrPermission) && a.spare == spareName {
		// In a sticky directory what a killed dblock of another user left there
		// is not ours to remove. Any other name will do.
		a.spare += fmt.Sprintf("-%d", a.me.UID)
		file, err = a.createSpare()
	}
	if err != nil {
		return err
	}
	a.file, a.linked = file, true
	return nil
}

// createSpare writes our notice in the place of what a dblock that was killed has left.
func (a *attempt) createSpare() (*notice.File, error) {
	file, err := a.spareFile().Create(a.info)
	if !errors.Is(err, fs.ErrExist) {
		return file, err
	}
	a.restore() // check: restore: a.restore() -> _ = a
	if err := a.spareFile().Remove(); err != nil {
		return nil, err
	}
	return a.spareFile().Create(a.info)
}

// restore looks at what has the spare name. A dblock that was killed in the middle
// of a takeover, just before it would have given the path back, has left the notice
// of somebody who lives there, and its own at the path.
func (a *attempt) restore() {
	out, err := a.spareFile().Read()
	if errors.Is(err, fs.ErrNotExist) || err == nil && (out.Info.Dblock != nil || a.judge(out).Stale) {
		return
	}
	now, err := notice.Read(a.names.Notice)
	if err == nil && now.Info.Dblock != nil && a.judge(now).Stale {
		_ = notice.Swap(a.spareFile(), a.noticeFile())
	}
}

// publish returns when our notice was at the path, if only for an instant.
func (a *attempt) publish(ctx context.Context) error {
	for {
		if a.file == nil || !a.linked {
			if err := a.prepare(); err != nil {
				return err
			}
		}
		moved, err := notice.Link(a.spareFile(), a.noticeFile())
		a.linked = !moved
		if err == nil {
			if a.ledger.Crowded(a.now()) { // check: settle-in-a-crowd
				// Whoever left the path free, a peer that has tried before may find
				// nothing to read, and is about to unlink what is there by now.
				a.passing = true
			}
			return nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			// The spare name has gone, and the state directory most likely with it.
			return errAgain
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		done, err := a.confront(ctx)
		if done || err != nil {
			return err
		}
	}
}

// confront deals with the notice that is in our way: it waits a while for it,
// or takes over from it. done means that ours stands in its place.
func (a *attempt) confront(ctx context.Context) (done bool, err error) {
	seen, err := notice.Read(a.names.Notice)
	if errors.Is(err, fs.ErrNotExist) {
		a.unsettled = time.Now()
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if a.file != nil && seen.ID == a.file.ID() {
		return true, nil
	}
	if !seen.Same(a.seen) {
		a.seen, a.since = seen, time.Now()
	}
	if seen.Err != nil {
		a.unsettled = time.Now()
	}
	if seen.Info.Dblock == nil {
		a.met = true
		if seen.Info.PID > 0 {
			a.ledger.Meet(seen.Info.PID, a.now())
		}
	}
	v := a.judge(seen)
	if v.Alien {
		return false, judge.NotLockFile("lock", a.names.Notice, v.Why)
	}
	if seen.Info.Dblock == nil {
		a.ledger.Gap = a.now() // a peer has, or had, its turn
	}
	if !v.Stale {
		a.linked = false // it would tell of an earlier acquisition than the one to come
		return false, a.waitForeign(ctx, v.Again)
	}
	a.step("judged")
	done, err = a.takeOver(seen)
	if done && a.room != nil && seen.Info.Dblock != nil && !wasLeft(seen.Info) {
		queue.Sweep(a.dir) // it may have been killed at anything
	}
	if done && a.peersMayJudge(seen.Info) { // check: settle-after-takeover
		// A peer that judged the same notice may be about to unlink what is
		// at the path, not knowing that it is ours by now.
		a.unsettled = time.Now()
	}
	return done, err
}

// peersMayJudge reports whether a peer might call a stale notice stale as well: its
// own kind's for several reasons, a dblock's when it is old enough for that.
func (a *attempt) peersMayJudge(i notice.Info) bool {
	return i.Dblock == nil || notice.Since(a.now(), i.Timestamp) > DefaultStaleTimeout-time.Second
}

// takeOver puts our notice in the place of the one that was judged, by compare
// and swap: the path is never missing, and whoever came in between is put back.
func (a *attempt) takeOver(judged *notice.Sighting) (bool, error) {
	switch err := notice.Swap(a.spareFile(), a.noticeFile()); {
	case err == syscall.ENOENT:
		return false, nil // it has gone by itself
	case err == syscall.ENOSYS || err == syscall.EINVAL || err == syscall.EOPNOTSUPP || err == syscall.EPERM:
		// EPERM is also what sandboxes answer; if it is the directory's, unlink fails alike.
		return a.replaceInSteps(judged)
	case err != nil:
		return false, &fs.PathError{Op: "take over", Path: a.names.Notice, Err: err}
	}
	a.linked = false // the spare name is that of the old notice now
	a.step("swapped")
	out, err := a.spareFile().Read()
	if notice.IsGone(err) {
		return false, err
	}
	// What cannot be read is not what was judged, which could.
	if err != nil || !out.Same(judged) { // check: compare-and-swap
		return false, a.putBack()
	}
	if err := a.spareFile().Remove(); err != nil {
		return true, err
	}
	if moved, err := notice.Link(a.noticeFile(), a.spareFile()); err == nil && !moved {
		id, err := a.spareFile().Identify()
		a.linked = err == nil && id == a.file.ID()
		if !a.linked {
			_ = a.spareFile().Remove()
		}
	}
	return true, nil
}

// putBack gives the path back to a notice that came in between. What comes out must
// be ours; if it is another one that came in meanwhile, of somebody who lives, that
// one goes back.
func (a *attempt) putBack() error {
	for range 5 {
		a.step("putting back")
		err := notice.Swap(a.spareFile(), a.noticeFile())
		if err == syscall.ENOENT {
			// Ours was unlinked meanwhile, so there is nothing to swap with.
			_, err = notice.Link(a.spareFile(), a.noticeFile())
			_ = a.spareFile().Remove()
			if errors.Is(err, fs.ErrExist) {
				err = nil
			}
			return err
		}
		if err != nil {
			return err
		}
		if id, err := a.spareFile().Identify(); err == nil && id == a.file.ID() {
			a.linked = true
			return nil
		}
		// What cannot be read is somebody's all the same.
		if out, err := a.spareFile().Read(); errors.Is(err, fs.ErrNotExist) || err == nil && a.judge(out).Stale { // check: put-back-again
			return nil
		}
	}
	return nil
}

// replaceInSteps takes over where files cannot be exchanged. The path is missing
// for a moment; the room lock keeps at least other dblocks away.
func (a *attempt) replaceInSteps(judged *notice.Sighting) (bool, error) {
	now, err := notice.Read(a.names.Notice)
	if err != nil || !now.Same(judged) { // check: compare-before-unlink
		return false, nil
	}
	if err := notice.Remove(a.names.Notice); err != nil {
		return false, err
	}
	moved, err := notice.Link(a.spareFile(), a.noticeFile())
	a.linked = !moved
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

// settle makes sure, just before the command starts, that the notice at the path
// is ours. A peer that had found our predecessor's file empty, or gone, may be
// about to unlink the path: give it the time to do so now and not later.
func (a *attempt) settle(ctx context.Context) (bool, error) {
	seen := !a.unsettled.IsZero() && time.Since(a.unsettled) < 300*time.Millisecond
	if seen || a.passing { // check: settle
		ctx := ctx
		if a.opts.Wait != NoWait {
			ctx = a.patience(ctx)
		}
		pause := 25*time.Millisecond + rand.N(35*time.Millisecond)
		if !seen {
			pause = crowdedSettle
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false, ctx.Err()
		}
		a.unsettled, a.passing = time.Time{}, false
	}
	a.step("published")
	id, err := notice.Identify(a.names.Notice)
	if err == nil && id == a.file.ID() {
		return true, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	a.unsettled = time.Now()
	return false, nil // check: verify-before-start: false -> true
}

// waitForeign waits until the notice that is in the way changes, or until it is
// worth judging again.
func (a *attempt) waitForeign(ctx context.Context, again time.Duration) error {
	if a.opts.Wait == NoWait {
		return errBusy
	}
	ctx = a.patience(ctx)
	pause := min(again, a.poll)
	a.poll = min(a.poll*3/2, time.Second)
	pause = pause*3/4 + rand.N(pause/2+1)
	if a.watchForeign() {
		// The watch tells of the file's end. What it cannot tell is its holder's.
		id, err := notice.Identify(a.names.Notice)
		if err != nil || id != a.seen.ID {
			return nil
		}
		deadline := time.Now().Add(pause)
		if end, ok := ctx.Deadline(); ok {
			deadline = earlier(deadline, end)
		}
		stop := context.AfterFunc(ctx, a.watch.Close)
		what, err := a.watch.Wait(deadline)
		if what != 0 {
			// The kernel tells of an unlink a moment before the name is gone.
			a.poll = time.Millisecond
		}
		if !stop() {
			a.watch = nil // it is being closed
		} else if err != nil {
			go a.watch.Close()
			a.watch = nil
		}
		return ctx.Err()
	}
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watchForeign watches the file that is in the way, not the directory: a busy
// database beside it would wake us up all the time.
func (a *attempt) watchForeign() bool {
	if a.watch == nil {
		w, err := watch.New()
		if err != nil {
			return false
		}
		a.watch = w
	}
	return a.watch.Add(a.names.Notice, watch.Moved|watch.Written) == nil
}

// judge says what a notice means to us.
func (a *attempt) judge(seen *notice.Sighting) judge.Verdict {
	if a.ledger.ClockMoved(a.me.Booted(a.now())) { // check: clock-moved-while-waiting
		a.clockMoved = true
	}
	f := judge.Facts{
		Me: a.me, Processes: judge.Here{}, Now: a.now(), ClockMoved: a.clockMoved, Unchanged: time.Since(a.since), Timeout: a.opts.StaleTimeout,
		ByAge: a.opts.Stale == StaleAge, Named: a.names.named(), InRoom: a.room != nil, Room: a.roomID.Ino,
	}
	return f.Of(seen)
}
