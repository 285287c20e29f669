package claim

import (
	"errors"
	"io/fs"

	"github.com/dblock-dev/dblock/lock/internal/inode"
	"github.com/dblock-dev/dblock/lock/internal/notice"
)

// Readers hold the room together and share one notice. It is published by the
// first and removed by the last; whoever beats writes its own pid into it, so
// that it never names a reader that left more than a beat ago.

// join makes the readers' notice ours as well. It runs under turnstile-high, so
// no two readers join or publish at once, and with the room locked, so the last
// reader to leave cannot be removing it. False: there is none to join.
func (c *Claim) join() bool {
	for _, name := range []inode.Name{c.noticeFile(), c.spareFile()} {
		seen, err := notice.ReadAt(name)
		if err != nil || !c.readersOwn(seen) {
			continue
		}
		c.id = seen.Info.Dblock.ID
		c.info = c.describe()
		file, err := notice.Adopt(name, seen)
		if errors.Is(err, fs.ErrPermission) && name == c.noticeFile() {
			return c.replaceReaders(seen)
		}
		if err != nil {
			continue
		}
		// It may be the notice of readers that are all dead: alive first, then in place.
		if file.Beat(c.now()) != nil || file.SetPID(c.opts.Me.PID) != nil {
			file.Close()
			continue
		}
		if name == c.spareFile() {
			if _, err := inode.Link(name, c.noticeFile()); err != nil {
				file.Close()
				continue
			}
		}
		if id, err := inode.Identify(c.opts.Path); err != nil || id != file.ID() {
			file.Close()
			continue
		}
		c.file = file
		id, err := c.spareFile().Identify()
		c.linked = err == nil && id == file.ID()
		return true
	}
	return false
}

// replaceReaders puts a notice that we can refresh in the place of one that
// belongs to another user. It has the same identity, and the other readers
// recognise it by that.
func (c *Claim) replaceReaders(seen *notice.Sighting) bool {
	if c.prepare() != nil {
		return false
	}
	done, err := c.takeOver(seen)
	return done && err == nil
}

// readersOwn reports whether a notice is one that readers of this kernel share.
func (c *Claim) readersOwn(seen *notice.Sighting) bool {
	d := seen.Info.Dblock
	return seen.Err == nil && d != nil && d.Mode == notice.Shared &&
		d.Boot == c.opts.Me.Boot && (d.Boot != "" || seen.Info.Host == c.opts.Me.Host)
}

// recognise adopts a notice that another reader of the same shared hold has put
// in the place of the one we knew.
func (c *Claim) recognise() bool {
	if !c.opts.Shared {
		return false
	}
	seen, err := notice.Read(c.opts.Path)
	if err != nil || seen.Info.Dblock == nil || seen.Info.Dblock.ID != c.id {
		return false
	}
	if file, err := notice.Adopt(c.noticeFile(), seen); err == nil {
		c.file.Close()
		c.file = file
	}
	return true
}
