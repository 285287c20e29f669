package claim

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/judge"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// confront deals with the notice that is in our way: it waits a while for it,
// or takes over from it. done means that ours stands in its place.
func (c *Claim) confront(ctx context.Context) (done bool, err error) {
	seen, err := notice.Read(c.opts.Path)
	if errors.Is(err, fs.ErrNotExist) {
		c.unsettled = time.Now()
		c.passed(nil)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if c.file != nil && seen.ID == c.file.ID() {
		return true, nil
	}
	if !seen.Same(c.seen) {
		c.seen, c.since = seen, time.Now()
	}
	if seen.Err != nil {
		c.unsettled = time.Now()
	}
	if seen.Info.Dblock == nil {
		c.met = true
		if seen.Info.PID > 0 {
			c.Meet(seen.Info.PID)
		}
	}
	v := c.judge(seen)
	if v.Alien {
		return false, judge.NotLockFile("lock", c.opts.Path, v.Why)
	}
	if seen.Info.Dblock == nil {
		c.ledger.Gap = c.now() // a peer has, or had, its turn
	}
	if !v.Stale {
		c.passed(seen)
		c.linked = false // it would tell of an earlier acquisition than the one to come
		return false, c.waitForeign(ctx, v.Again)
	}
	c.passed(nil)
	c.opts.Step("judged")
	killed := c.place.Locked() && seen.Info.Dblock != nil && !WasLeft(seen.Info)
	if killed && seen.Err == nil {
		// If we are killed on the way, the next one does not see this notice any more.
		c.opts.Replaced(c.place.Dir(), seen.Info) // check: told-before-takeover: c.opts.Rep -> defer c.opts.Rep
	}
	done, err = c.takeOver(seen)
	if done && killed {
		queue.Sweep(c.place.Dir()) // it may have been killed at anything
	}
	if done && !killed && !WasLeft(seen.Info) && seen.Err == nil {
		c.opts.Replaced(c.place.Dir(), seen.Info)
	}
	if done && c.peersMayJudge(seen.Info) { // check: settle-after-takeover
		// A peer that judged the same notice may be about to unlink what is
		// at the path, not knowing that it is ours by now.
		c.unsettled = time.Now()
	}
	return done, err
}

// passed keeps account of the peers that have the lock while we wait: now is what is in the
// way, or nil.
func (c *Claim) passed(now *notice.Sighting) {
	if c.guest != nil && !c.guest.Same(now) {
		c.opts.Passed(c.guest.Info, time.Since(c.guestSince))
		c.guest = nil
	}
	if c.guest == nil && now != nil && now.Err == nil && now.Info.Dblock == nil {
		c.guest, c.guestSince = now, time.Now()
	}
}

// peersMayJudge reports whether a peer might call a stale notice stale as well: its
// own kind's for several reasons, a dblock's when it is old enough for that.
func (c *Claim) peersMayJudge(i notice.Info) bool {
	return i.Dblock == nil || notice.Since(c.now(), i.Timestamp) > judge.PeersTimeout-time.Second
}

// takeOver puts our notice in the place of the one that was judged, by compare
// and swap: the path is never missing, and whoever came in between is put back.
func (c *Claim) takeOver(judged *notice.Sighting) (bool, error) {
	switch err := inode.Swap(c.spareFile(), c.noticeFile()); {
	case err == syscall.ENOENT:
		return false, nil // it has gone by itself
	case err == syscall.ENOSYS || err == syscall.EINVAL || err == syscall.EOPNOTSUPP || err == syscall.EPERM:
		// EPERM is also what sandboxes answer; if it is the directory's, unlink fails alike.
		return c.replaceInSteps(judged)
	case err != nil:
		return false, &fs.PathError{Op: "take over", Path: c.opts.Path, Err: err}
	}
	c.linked = false // the spare name is that of the old notice now
	c.opts.Step("swapped")
	out, err := notice.ReadAt(c.spareFile())
	if inode.IsGone(err) {
		return false, err
	}
	// What cannot be read is not what was judged, which could.
	if err != nil || !out.Same(judged) { // check: compare-and-swap
		return false, c.putBack()
	}
	c.replaced = out.ID
	if c.opts.Shared || !WasLeft(out.Info) {
		return true, c.Tidy()
	}
	// That was the hand-over. The rest can wait until the command has been started.
	return true, nil
}

// Tidy gives the spare name to our notice, where a takeover has left it to the one that was
// replaced. In between a notice that somebody unlinks is healed by a new file.
func (c *Claim) Tidy() error {
	if c.replaced == (inode.ID{}) {
		return nil
	}
	if err := c.dropReplaced(); err != nil {
		return err
	}
	if moved, err := inode.Link(c.noticeFile(), c.spareFile()); err == nil && !moved {
		id, err := c.spareFile().Identify()
		c.linked = err == nil && id == c.file.ID()
		if !c.linked {
			_ = c.spareFile().Remove()
		}
	}
	return nil
}

// dropReplaced removes the notice that was replaced, if it is still there.
func (c *Claim) dropReplaced() error {
	replaced := c.replaced
	c.replaced = inode.ID{}
	if replaced == (inode.ID{}) {
		return nil
	}
	if id, err := c.spareFile().Identify(); err != nil || id != replaced {
		return nil
	}
	return c.spareFile().Remove()
}

// putBack gives the path back to a notice that came in between. What comes out must
// be ours; if it is another one that came in meanwhile, of somebody who lives, that
// one goes back.
func (c *Claim) putBack() error {
	for range 5 {
		c.opts.Step("putting back")
		err := inode.Swap(c.spareFile(), c.noticeFile())
		if err == syscall.ENOENT {
			// Ours was unlinked meanwhile, so there is nothing to swap with.
			_, err = inode.Link(c.spareFile(), c.noticeFile())
			_ = c.spareFile().Remove()
			if errors.Is(err, fs.ErrExist) {
				err = nil
			}
			return err
		}
		if err != nil {
			return err
		}
		if id, err := c.spareFile().Identify(); err == nil && id == c.file.ID() {
			c.linked = true
			return nil
		}
		// What cannot be read is somebody's all the same.
		if out, err := notice.ReadAt(c.spareFile()); errors.Is(err, fs.ErrNotExist) || err == nil && c.judge(out).Stale { // check: put-back-again
			return nil
		}
	}
	return nil
}

// replaceInSteps takes over where files cannot be exchanged. The path is missing
// for a moment; the room lock keeps at least other dblocks away. The notice is moved away and not
// unlinked: what came in after the look before that is seen now, and put back.
func (c *Claim) replaceInSteps(judged *notice.Sighting) (bool, error) {
	now, err := notice.Read(c.opts.Path)
	if err != nil || !now.Same(judged) { // check: compare-before-unlink
		return false, nil
	}
	c.opts.Step("compared")
	if err := inode.Rename(c.noticeFile(), c.movedFile()); err != nil {
		if inode.IsGone(err) {
			return false, nil
		}
		var named *fs.PathError
		if errors.As(err, &named) {
			err = named.Err
		}
		return false, &fs.PathError{Op: "take over", Path: c.opts.Path, Err: err}
	}
	c.opts.Step("swapped")
	if out, err := notice.ReadAt(c.movedFile()); err != nil || !out.Same(judged) { // check: compare-what-was-moved
		return false, c.bringBack()
	}
	moved, err := inode.Link(c.spareFile(), c.noticeFile())
	c.linked = !moved
	_ = c.movedFile().Remove()
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

// movedFile is where a notice is moved that is replaced in steps.
func (c *Claim) movedFile() inode.Name { return c.spareFile().Beside(".old") }

// bringBack gives the path back to the notice that was moved away, unless somebody has it by now.
func (c *Claim) bringBack() error {
	_, err := inode.Link(c.movedFile(), c.noticeFile())
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	_ = c.movedFile().Remove()
	return err
}
