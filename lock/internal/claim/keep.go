package claim

import (
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/notice"
	"github.com/dblock-dev/dblock/lock/internal/queue"
)

// Beat shows that we live. A failure is not a loss: the next beat tries again.
func (c *Claim) Beat() {
	_ = c.file.Beat(c.now())
	if c.opts.Shared {
		_ = c.file.SetPID(c.opts.Me.PID)
	}
}

// DateAhead dates our notice for as long as we are not going to beat.
func (c *Claim) DateAhead(lead time.Duration) { _ = c.file.Beat(c.now() + lead.Milliseconds()) }

// WasRead reports whether somebody who is no dblock has read our notice, as far as
// can be told. It tells of each read once, and of the next one only after a Beat.
func (c *Claim) WasRead() bool { return c.file.WasRead() }

// Standing is what has become of a claim.
type Standing int

// What can be found at the path.
const (
	Ours    Standing = iota
	Missing          // nothing
	Taken            // somebody else's notice
	Covered          // something that is no notice
	Unknown          // it cannot be looked at now, or changes at this moment: that says nothing
)

// Look finds out whether the notice at the path is still ours, and if it is somebody
// else's what it says.
func (c *Claim) Look() (Standing, notice.Info) {
	id, err := inode.Identify(c.opts.Path)
	switch {
	case err == nil && c.ours(id):
		return c.mended()
	case inode.IsGone(err):
		return Missing, notice.Info{}
	case err != nil:
		return Unknown, notice.Info{}
	}
	seen, err := notice.Read(c.opts.Path)
	switch {
	case inode.IsGone(err):
		return Unknown, notice.Info{}
	case err != nil || seen.Err != nil:
		return Covered, notice.Info{}
	}
	return Taken, seen.Info
}

// mended is what our file, which is at the path, says. Anybody who may write to it can have
// emptied it, or have written over it, in place: then it says again what it said, unless it
// is somebody else's notice by now. Our beats would go on in what is left, and what
// they make of that nobody could take for a notice once we have gone.
func (c *Claim) mended() (Standing, notice.Info) {
	if !c.file.Damaged() { // check: written-over: !c.file.Damaged() -> true
		return Ours, c.info
	}
	seen, err := notice.Read(c.opts.Path)
	switch {
	case err != nil || seen.ID != c.file.ID():
		return Unknown, notice.Info{}
	case seen.Err == nil && (seen.Info.Dblock == nil || seen.Info.Dblock.ID != c.id):
		return Taken, seen.Info
	case c.file.Restore(c.info) != nil:
		return Covered, notice.Info{}
	}
	return Ours, c.info
}

// ours reports whether the inode is that of our notice, or of one that another reader
// put in its place.
func (c *Claim) ours(id inode.ID) bool { return id == c.file.ID() || c.recognise() }

// Exposed reports whether somebody may come and go unseen while our notice is away.
// Where only one peer is about it is known who has removed it, and that it does not
// come back so soon. Among readers it is mostly another one who has put the notice back.
func (c *Claim) Exposed() bool { return !c.opts.Shared && !c.ledger.Single(c.now()) }

// Intruded finds out whether somebody may have come and gone while our notice was away:
// then a name in its directory was created or removed after ours was.
func (c *Claim) Intruded() bool {
	if !c.Exposed() {
		return false
	}
	unlinked, err := c.file.Unlinked()
	changed, derr := inode.DirChanged(filepath.Dir(c.opts.Path))
	return err == nil && derr == nil && changed > unlinked // check: intruder: changed > unlinked -> changed > unlinked && false
}

// Crowded reports whether several peers are about.
func (c *Claim) Crowded() bool { return c.ledger.Crowded(c.now()) }

// Meet notes that a peer is about.
func (c *Claim) Meet(pid int) { c.ledger.Meet(pid, c.now()) }

// Heal puts our notice back after somebody removed it. That somebody else's is there
// by now is no error: the next look sees it.
func (c *Claim) Heal() error {
	if c.linked {
		moved, err := inode.Link(c.spareFile(), c.noticeFile())
		c.linked = !moved
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// The spare name has gone too: write the notice anew, the same in everything
	// but the inode.
	fresh, file, err := c.createAnew()
	if err != nil {
		return err
	}
	moved, err := inode.Link(fresh, c.noticeFile())
	if err != nil {
		file.Close()
		_ = fresh.Remove()
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	c.file.Close()
	c.file = file
	c.linked = !moved && (fresh == c.spareFile() || inode.Rename(fresh, c.spareFile()) == nil)
	return nil
}

// createAnew writes our notice anew, under the spare name if that is ours alone:
// another reader may be doing just that, so not under the name that both know.
func (c *Claim) createAnew() (inode.Name, *notice.File, error) {
	info := c.info
	info.Timestamp = c.now()
	if !c.opts.Shared {
		if file, err := notice.Create(c.spareFile(), info); !errors.Is(err, fs.ErrExist) {
			return c.spareFile(), file, err
		}
	}
	fresh := c.spareFile().Beside(queue.Passing())
	file, err := notice.Create(fresh, info)
	return fresh, file, err
}
