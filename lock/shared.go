package lock

import (
	"errors"
	"io/fs"

	"github.com/dblock-dev/dblock/lock/internal/notice"
)

// Readers hold the room together and share one notice. It is published by the
// first and removed by the last; whoever beats writes its own pid into it, so
// that it never names a reader that left more than a beat ago.

// join makes the readers' notice ours as well. It runs under turnstile-high, so
// no two readers join or publish at once, and with the room locked, so the last
// reader to leave cannot be removing it. False: there is none to join.
func (a *attempt) join() bool {
	for _, name := range []notice.Name{a.noticeFile(), a.spareFile()} {
		seen, err := name.Read()
		if err != nil || !a.readersOwn(seen) {
			continue
		}
		a.grantID = seen.Info.Dblock.ID
		a.info = a.describe()
		file, err := name.Adopt(seen)
		if errors.Is(err, fs.ErrPermission) && name == a.noticeFile() {
			return a.replaceReaders(seen)
		}
		if err != nil {
			continue
		}
		// It may be the notice of readers that are all dead: alive first, then in place.
		if file.Beat(a.now()) != nil || file.SetPID(a.me.PID) != nil {
			file.Close()
			continue
		}
		if name == a.spareFile() {
			if _, err := notice.Link(name, a.noticeFile()); err != nil {
				file.Close()
				continue
			}
		}
		if id, err := notice.Identify(a.names.Notice); err != nil || id != file.ID() {
			file.Close()
			continue
		}
		a.file = file
		id, err := a.spareFile().Identify()
		a.linked = err == nil && id == file.ID()
		return true
	}
	return false
}

// replaceReaders puts a notice that we can refresh in the place of one that
// belongs to another user. It has the same identity, and the other readers
// recognise it by that.
func (a *attempt) replaceReaders(seen *notice.Sighting) bool {
	if a.prepare() != nil {
		return false
	}
	done, err := a.takeOver(seen)
	return done && err == nil
}

// readersOwn reports whether a notice is one that readers of this kernel share.
func (a *attempt) readersOwn(seen *notice.Sighting) bool {
	d := seen.Info.Dblock
	return seen.Err == nil && d != nil && d.Mode == notice.Shared &&
		d.Boot == a.me.Boot && (d.Boot != "" || seen.Info.Host == a.me.Host)
}
