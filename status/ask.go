package status

import (
	"errors"

	"github.com/dblock-dev/dblock/internal/cli"
	"github.com/dblock-dev/dblock/internal/term"
	"github.com/dblock-dev/dblock/lock"
)

// Ask words the question whether a lock is to be removed by force, for a program that puts it
// to its user in its own way. The error says that this user cannot do that at all, and why: it
// is a *cli.ConflictError.
func Ask(d cli.Database, r *lock.Report) (text string, err error) {
	if r.Alien() {
		return "", &cli.ConflictError{
			Code: cli.ExitCannotCreate, Err: lock.ErrNotLockFile,
			Text: term.Path(r.Names.Shown()) + " is no lock: " + r.Evidence,
			Hint: "move it away, or name another lock file with --lock-file",
		}
	}
	f := &Force{Database: d}
	condemned, denied := f.condemned(r)
	switch {
	case denied:
		return "", Refused(d, r.ID, &lock.Broken{Report: r}, f.denied)
	case r.State == lock.StateInvalid:
		return "The lock file is damaged. It will be removed.\n", nil
	case r.State == lock.StateStale && len(r.Stopped) == 0 && len(condemned) == 0 && r.Holder != nil:
		return "Nobody has the lock. " + whose(r) + ".\nIts lock file will be removed.\n", nil
	}
	return question(r, r.Facts(), condemned, style{}), nil
}

// Refused words what lock.Break has refused to do, or could not do.
func Refused(d cli.Database, id string, b *lock.Broken, err error) error {
	f := &Force{Database: d, ID: id}
	return f.refused(b, err)
}

// condemned lists whom Break would end. If this user may not have that done, denied is true and
// f.denied says why.
func (f *Force) condemned(r *lock.Report) (condemned []lock.Process, denied bool) {
	condemned, err := r.Condemned()
	var others *lock.OthersError
	if errors.As(err, &others) {
		f.denied, f.fixed = err, !r.Removable()
		return nil, true
	}
	if len(condemned) == 0 && r.Holder != nil && !r.Removable() {
		f.denied = f.outOfReach(r)
		return nil, true
	}
	return condemned, false
}
